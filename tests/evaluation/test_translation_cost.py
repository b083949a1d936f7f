"""The cost of whole translations: which are made, where their time is split, what they take, and that they are translations."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from models.architectures import ALL, VOCAB, build, encoder_decoder
from torch import Tensor, nn

from ripstop.config import ConfigError
from ripstop.data.tokenizer import BOS
from ripstop.data.vocabulary import VocabularyConfig
from ripstop.evaluation import translation_cost
from ripstop.evaluation.base import Subject
from ripstop.evaluation.tensor_memory import allocated_at_most
from ripstop.evaluation.translation_cost import Point, TranslationCostConfig, Translations, peak_bytes
from ripstop.models.base import Model
from ripstop.models.generate import GenerationConfig, generate
from ripstop.runs import Run

SMALL = {"sources": [3, 6], "targets": [4, 2], "batches": [1, 2]}


def test_each_length_varies_alone() -> None:
    settings = TranslationCostConfig(sources=[4, 8], targets=[2, 6], batches=[1, 3])
    assert settings.points() == [(4, 2, 1), (4, 6, 1), (8, 2, 1), (4, 2, 3)]


class Slow(Model):
    """A model for which time passes: 5 to read a source, 2 for a prompt, 1 and a bit more for each step."""

    def __init__(self, clock: list[float], name: str = "", calls: list[str] | None = None):
        super().__init__()
        self.clock, self.name, self.calls = clock, name, [] if calls is None else calls
        self.scale = nn.Parameter(torch.ones(()))

    def init_state(self, batch_size: int, max_len: int, source_BS: Any = None, source_segments_BS: Any = None) -> int:
        assert source_BS.shape[0] == batch_size and not gc.isenabled()
        self.calls.append(self.name)
        self.clock[0] += 5
        return 0

    def prefill(self, tokens_BT: Tensor, state: int) -> tuple[Tensor, int]:
        assert tokens_BT.tolist() == [[BOS]] * len(tokens_BT)
        self.clock[0] += 2
        return torch.zeros(len(tokens_BT), 5), state

    def step(self, tokens_B: Tensor, state: int) -> tuple[Tensor, int]:
        self.clock[0] += 1 + state / 10
        return torch.zeros(len(tokens_B), 5), state + 1


def test_time_is_split_at_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """7 until the first; then steps of 1.0, 1.1 and 1.2. Two translations of four tokens in 10.3."""
    clock, calls = [0.0], []
    monkeypatch.setattr(translation_cost.time, "perf_counter", lambda: clock[0])
    point = Point(3, 4, 2)
    both = {"": Translations(Slow(clock, "a", calls), point), "reference_": Translations(Slow(clock, "b", calls), point)}
    found = list(translation_cost._turns(both, 2, {"source": 3}))
    assert "".join(calls) == "ab" + "ba" + "ab"
    assert gc.isenabled()
    assert [m.slice for m in found] == [{"source": 3, "turn": turn} for turn in (1, 2) for _ in range(6)]
    values = {m.metric: (m.value, m.unit, m.n) for m in found}
    for prefix in ("", "reference_"):
        assert values[f"{prefix}first_token_seconds"] == (pytest.approx(7), "seconds", 2)
        assert values[f"{prefix}inter_token_seconds"] == (pytest.approx(1.1), "seconds", 3)
        assert values[f"{prefix}translation_tokens_per_second"] == (pytest.approx(8 / 10.3), "tokens/s", 8)


def test_garbage_is_collected_again_after_an_error() -> None:
    with pytest.raises(NotImplementedError):
        list(translation_cost._turns({"": Translations(Broken(), Point(2, 2, 1))}, 1, {}))
    assert gc.isenabled()


class Broken(Model):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("name", ["hybrid", "first"])
def test_what_is_timed_is_a_translation(name: str) -> None:
    """The tokens of greedy generation from the same sources, none ended early."""
    model = build(encoder_decoder(name)).eval()
    translations = Translations(model, Point(5, 6, 3))
    whole = generate(model, [[BOS]] * 3, GenerationConfig(max_new_tokens=6), sources=[[0] * 5] * 3)
    with torch.inference_mode():
        tokens_B, state = translations.start()
        assert tokens_B.tolist() == [text[0] for text in whole]
        assert translations.go_on(tokens_B, state, 5).tolist() == [text[5] for text in whole]


def test_most_bytes_at_once() -> None:
    """Two tensors at once, of 4000 and 800 bytes, and then a smaller one."""

    def call() -> None:
        first = torch.ones(1000)
        second = first[:200] * 2
        del first
        torch.ones(300).sum()
        del second

    assert 4800 <= allocated_at_most(call, torch.device("cpu")) < 5800


def test_memory_grows_with_what_is_held() -> None:
    model = build(encoder_decoder("hybrid")).eval()
    with torch.inference_mode():
        one, two, longer = (peak_bytes(model, Point(64, n, batch)) for n, batch in ((8, 1), (8, 2), (4096, 1)))
    assert one < two < 2.5 * one
    held = 4096 * 2 * 12 * 8  # keys and values of the one attention layer: two heads of six numbers, of 8 bytes each
    assert held < longer < held + one


def subject(folder: Path, config: Any, settings: TranslationCostConfig) -> Subject:
    data = VocabularyConfig(n_ids=VOCAB, source=config.takes_source)
    data.prepare(folder)
    run = Run.parse(
        {"study": "s", "scale": "cpu", "name": "r", "seed": 0, "factors": {}, "data": data, "model": config, "training": None,
         "evaluation": {"cost": settings}}, "r"
    )  # fmt: skip
    run.check()
    return Subject(run, folder, folder, folder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def check_part(tmp_path: Path, dtype: str) -> None:
    settings = TranslationCostConfig.parse(
        SMALL | {"n_turns": 2, "dtype": dtype, "reference": ALL["encoder_decoder-first"]}, "c"
    )
    with torch.inference_mode():
        found = list(settings.measure(subject(tmp_path, encoder_decoder("hybrid"), settings)))
    places = [(m.metric, *m.slice.items()) for m in found]
    assert len(set(places)) == len(places)
    points = {(m.slice["source"], m.slice["target"], m.slice["batch"]) for m in found}
    assert points == {(3, 4, 1), (6, 4, 1), (3, 2, 1), (3, 4, 2)}
    assert sum(m.metric == "translation_peak_bytes" for m in found) == 4
    assert all(m.value > 0 for m in found) and len(found) == 4 * (1 + 2 * 6)


def test_the_part(tmp_path: Path) -> None:
    check_part(tmp_path, "float32")


@pytest.mark.gpu
def test_the_part_on_a_gpu(tmp_path: Path) -> None:
    check_part(tmp_path, "bfloat16")


def test_without_a_reference_the_model_is_alone(tmp_path: Path) -> None:
    settings = TranslationCostConfig(sources=[3], targets=[2], batches=[1], n_turns=1)
    with torch.inference_mode():
        found = list(settings.measure(subject(tmp_path, encoder_decoder("first"), settings)))
    assert [m.metric for m in found] == [
        "translation_peak_bytes", "first_token_seconds", "inter_token_seconds", "translation_tokens_per_second"
    ]  # fmt: skip


def test_what_is_no_translator(tmp_path: Path) -> None:
    settings = TranslationCostConfig()
    with pytest.raises(ConfigError, match="model: a model of kind decoder_only reads no source, and is no translator"):
        subject(tmp_path, ALL["decoder_only-hybrid"], settings)
    with pytest.raises(ConfigError, match="reference: a model of kind encoder_decoder reads no source"):
        subject(tmp_path, encoder_decoder("first"), settings.replace(reference=encoder_decoder("blind")))
    with pytest.raises(ConfigError, match="names one twice"):
        TranslationCostConfig.parse({"batches": [1, 1]}, "c")
    assert settings.exclusive
