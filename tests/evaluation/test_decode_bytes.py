"""Bytes of a step and of a prompt: by hand, by formula, and on a run whose count is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models.architectures import ALL, build

from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.data.vocabulary import VocabularyConfig
from ripstop.evaluation import PARTS
from ripstop.evaluation.base import Subject
from ripstop.evaluation.decode_bytes import DecodeBytesConfig, prompt_peak, step_bytes
from ripstop.evaluation.prompts import Prompts
from ripstop.mixers import sliding_window
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement
from ripstop.runs import Run

HYBRID = DecoderOnlyConfig.parse(
    {
        "d_model": 16,
        "pattern": "WAM",
        "mixers": {
            "W": {"kind": "sliding_window", "n_heads": 2, "window_size": 5, "sink_size": 2},
            "A": {"kind": "attention", "n_heads": 2, "n_kv_heads": 1},
            "M": {"kind": "mamba2", "d_state": 3, "head_dim": 8},
        },
    },
    "t",
)


def values(measured: list[Measurement]) -> dict[Any, float]:
    """metric, and branch where there is one -> value."""
    assert len({(m.metric, *m.slice.values()) for m in measured}) == len(measured)
    return {(m.metric, m.slice["branch"]) if "branch" in m.slice else m.metric: m.value for m in measured}


def test_a_step_by_hand() -> None:
    """float32. A key and its value: 2 x 16 numbers in the window, 2 x 8 in attention, which has one of two heads. Mamba-2:
    inner width 32 times 3, and 3 past inputs of 32 + 6 channels."""
    with torch.inference_mode():
        found = values(list(step_bytes(HYBRID.build(Vocabulary(11)).eval(), HYBRID, 20)))
    window, attention, state, conv = 7 * 2 * 16 * 4, 20 * 2 * 8 * 4, 32 * 3 * 4, 3 * 38 * 4
    assert found["bytes_read"] == found["bytes_read_formula"] == window + attention + state + conv
    assert found["state_bytes"] == found["state_bytes_filled"] == found["state_bytes_formula"] == found["bytes_read"]
    assert found["bytes_written"] == 2 * 16 * 4 + 2 * 8 * 4 + state + conv
    assert found["tokens_read"] == 7 + 20
    branches = {key[1]: value for key, value in found.items() if key[0] == "branch_bytes_read"}
    assert branches == {"window": window, "attention": attention, "ssd": state, "convolution": conv}
    assert found["branch_tokens_read", "window"] == 7 and found["branch_tokens_read", "ssd"] == 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("context", [2, 5, 30])
def test_counts_and_formulas_agree_for_every_architecture(name: str, context: int) -> None:
    with torch.inference_mode():
        found = values(list(step_bytes(build(ALL[name]), ALL[name], context)))
    assert found["bytes_read"] == found["bytes_read_formula"] > 0
    assert found["state_bytes_filled"] == found["state_bytes_formula"] <= found["state_bytes"]


def test_a_step_that_reads_what_it_should_not_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    true = sliding_window.attention.attention
    monkeypatch.setattr(
        sliding_window.attention,
        "attention",
        lambda b, q, k, v, causal: true(b, q, torch.cat([k, k], 1), torch.cat([v, v], 1), causal),
    )
    with torch.inference_mode():
        found = values(list(step_bytes(HYBRID.build(Vocabulary(11)).eval(), HYBRID, 20)))
    assert found["bytes_read"] - found["bytes_read_formula"] == 7 * 2 * 16 * 4 + 20 * 2 * 8 * 4


def test_the_memory_of_a_prompt_is_that_of_its_tensors() -> None:
    """It grows with the prompt and not with its square, holds the state and no weights, and is the same again."""
    config = ALL["decoder_only-attention"]
    model = config.build(Vocabulary(11)).eval()
    with torch.inference_mode():
        prompt_peak(model, config, 16)
        peaks = {n: prompt_peak(model, config, n) for n in (16, 64, 1024)}
        assert prompt_peak(model, config, 64) == peaks[64]
    weights = sum(p.numel() * 4 for p in model.parameters())
    assert peaks[16] < weights
    for n, peak in peaks.items():
        state, widest = config.state_bytes(n, torch.float32), n * 24 * 4
        assert state + widest < peak < state + 40 * widest
    assert 12 < peaks[1024] / peaks[64] < 40  # a square would be 256; some room is taken by blocks of fixed size


def subject(tmp_path: Path, part: DecodeBytesConfig, model: Any = HYBRID) -> Subject:
    data = VocabularyConfig(n_ids=11)
    data.prepare(tmp_path)
    run = Run(
        study="s",
        scale="cpu",
        name="r",
        seed=0,
        factors={},
        data=data,
        model=model,
        training=None,
        evaluation={"counted": part},
    )
    run.check()
    return Subject(run, tmp_path, tmp_path, tmp_path, torch.device("cpu"))


def test_the_part_measures_every_context_and_the_affordable_prompts(tmp_path: Path) -> None:
    part = DecodeBytesConfig(contexts=[4, 20], dtype="bfloat16", prompts=Prompts(contexts=[8, 9, 4096], most_flops=1e6))
    assert PARTS.parse(part.model_dump(mode="json")) == part
    with torch.inference_mode():
        found = list(part.measure(subject(tmp_path, part)))
    by = {
        metric: {m.slice.get("context"): m.value for m in found if m.metric == metric} for metric in {m.metric for m in found}
    }
    assert list(by["bytes_read"]) == [4, 20] and by["bytes_read"] == by["bytes_read_formula"]
    # of two bytes a number, but for the recurrent state, which is float32 at least
    assert by["bytes_read"][20] == (7 * 2 * 16 + 20 * 2 * 8 + 3 * 38) * 2 + 32 * 3 * 4
    assert list(by["prompt_flops"]) == [8, 9, 4096] and list(by["prompt_peak_bytes"]) == [8, 9]
    parameters = sum(p.numel() for n, p in HYBRID.build(Vocabulary(11)).named_parameters() if not n.startswith("embedding"))
    assert by["weight_bytes"] == {None: 2 * parameters}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contexts": [8, 8]}, r"contexts \[8, 8\] do not rise"),
        ({"contexts": []}, "contexts"),
        ({"dtype": "float64"}, "dtype: input should be 'float32' or 'bfloat16'"),
    ],
)
def test_mistakes_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    whole = {"kind": "decode_bytes", "contexts": [4], "prompts": {"contexts": [4], "most_flops": 1.0}}
    with pytest.raises(ConfigError, match=message):
        DecodeBytesConfig.parse(whole | changes, "t")
