"""The part `dropped_sinks`: the same weights under a narrower mask, and nothing moved where the window holds everything."""

from __future__ import annotations

import json

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.bits_per_byte import BitsPerByteConfig
from ripstop.evaluation.dropped_sinks import DroppedSinksConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.runs import Run

WINDOW = {"kind": "sliding_window", "n_heads": 2, "window_size": 8, "sink_size": 3}
LATENT = {
    "kind": "mla", "n_heads": 2, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 8,
}  # fmt: skip


def model(window: dict[str, object] = WINDOW, pattern: str = "SSL") -> DecoderOnlyConfig:
    mixers = {"S": window, "L": LATENT}
    return DecoderOnlyConfig.parse({"d_model": 16, "pattern": pattern, "mixers": mixers, "embedding_std": 0.7}, "model")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("text")
    texts = [f"{n} says that " + "words go on " * (1 + n % 5) for n in range(60)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    values = {"source": {"path": str(folder / "text.jsonl")}, "tokenizer": {"kind": "bytes"}, "block_size": 64}
    data = TextConfig.parse({**values, "held_out_share": 0.2}, "data")
    run = Run(study="s", scale="cpu", name="r", seed=0, factors={}, data=data, model=model(), training=None)
    data.prepare(folder)
    return Subject(run, folder, folder, folder, torch.device("cpu"))


def measured(part: BitsPerByteConfig | DroppedSinksConfig, subject: Subject) -> dict[tuple[str, object], float]:
    torch.manual_seed(0)  # what stands for trained weights
    with torch.inference_mode():
        return {(one.metric, one.slice.get("position")): one.value for one in part.measure(subject)}


def test_it_is_the_model_without_sinks_with_the_same_weights(subject: Subject) -> None:
    dropped = measured(DroppedSinksConfig(positions=[0, 8, 16], past=16), subject)
    without = Subject(
        subject.run.replace(model=model({**WINDOW, "sink_size": 0})), subject.folder, subject.data, subject.out, subject.device
    )
    wanted = measured(BitsPerByteConfig(positions=[0, 8, 16], past=16), without)
    kept = measured(BitsPerByteConfig(positions=[0, 8, 16], past=16), subject)
    for what in ("at", "past"):
        for position in (0, 8, 16) if what == "at" else (16,):
            value = dropped.pop((f"bits_per_byte_without_sinks_{what}", position))
            assert value == pytest.approx(wanted[f"bits_per_byte_{what}", position], rel=1e-6)
            if position:
                assert abs(value - kept[f"bits_per_byte_{what}", position]) > 1e-3
            else:
                assert value == pytest.approx(kept[f"bits_per_byte_{what}", position], rel=1e-6)
    assert not dropped


def test_sinks_have_no_parameters() -> None:
    with_, without = model(), model({**WINDOW, "sink_size": 0})
    assert with_.num_params(100) == without.num_params(100)
    shapes = [
        {name: tensor.shape for name, tensor in DecoderOnlyConfig.build(config, _Info()).state_dict().items()}  # type: ignore[arg-type]
        for config in (with_, without)
    ]
    assert shapes[0] == shapes[1]


class _Info:
    vocab_size = 100


def test_a_model_without_sinks_has_nothing_to_drop(subject: Subject) -> None:
    DroppedSinksConfig().check(subject.run)
    for other in (model({**WINDOW, "sink_size": 0}), model(pattern="L")):
        with pytest.raises(ConfigError, match="no layer of the model is a sliding_window with sink_size above 0; remove this"):
            DroppedSinksConfig().check(subject.run.replace(model=other))
    with pytest.raises(ConfigError, match="tokens_per_batch: 63 does not hold a row"):
        DroppedSinksConfig(tokens_per_batch=63).check(subject.run)
