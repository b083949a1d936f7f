"""Times by turns: who is timed when, what is left out, and what cannot be timed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models.architectures import ALL, VOCAB, build

from ripstop.config import ConfigError
from ripstop.data.vocabulary import VocabularyConfig
from ripstop.evaluation import PARTS, decode_time
from ripstop.evaluation.base import Subject
from ripstop.evaluation.decode_time import DecodeTimeConfig, Steps, turns
from ripstop.evaluation.prompts import Prompts
from ripstop.mixers.base import filled_bytes
from ripstop.runs import Run

CPU = torch.device("cpu")
REFERENCE = ALL["decoder_only-recurrent"]
NO_PROMPTS = Prompts(contexts=[], most_flops=1.0)


class Clock:
    """Time that passes only where a call says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now, self.calls = 0.0, ""
        monkeypatch.setattr(decode_time.time, "perf_counter", lambda: self.now)

    def taking(self, name: str, seconds: Callable[[int], float]) -> Callable[[], None]:
        """A call of that name, which takes so long as the `n`-th of its kind."""

        def call() -> None:
            assert not gc.isenabled()
            self.now += seconds(self.calls.count(name))
            self.calls += name

        return call


def test_turns_alternate_and_leave_out_what_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn is for warming up; in each, the first call is not timed and the mean of two others is."""
    clock = Clock(monkeypatch)
    both = [clock.taking("a", lambda n: 10**6 if n < 3 or n % 3 == 0 else n), clock.taking("b", lambda n: 1000 + n)]
    found = list(turns("step_seconds", 64, both, 3, 2, CPU))
    assert clock.calls == "bbbaaa" + "aaabbb" + "bbbaaa" + "aaabbb"
    own = {m.slice["turn"]: m.value for m in found if m.metric == "step_seconds"}
    reference = {m.slice["turn"]: m.value for m in found if m.metric == "reference_step_seconds"}
    assert own == {1: 4.5, 2: 7.5, 3: 10.5} and reference == {1: 1004.5, 2: 1007.5, 3: 1010.5}
    assert {(m.unit, m.n, m.slice["context"]) for m in found} == {("seconds", 2, 64)} and len(found) == 6
    assert gc.isenabled()


def test_a_single_call_a_turn_is_timed_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    both = [clock.taking("a", lambda n: n), clock.taking("b", lambda n: 10 * n)]
    found = list(turns("prompt_seconds", 8, both, 2, 1, CPU))
    assert clock.calls == "ba" + "ab" + "ba"
    assert [(m.metric, m.value) for m in found] == [
        ("prompt_seconds", 1), ("reference_prompt_seconds", 10), ("reference_prompt_seconds", 20), ("prompt_seconds", 2)
    ]  # fmt: skip


def test_garbage_is_collected_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        list(turns("step_seconds", 8, [lambda: 1 // 0] * 2, 1, 1, CPU))
    assert gc.isenabled()


@pytest.mark.parametrize("name", ["decoder_only-attention", "encoder_decoder-hybrid"])
def test_steps_begin_with_that_of_the_context_s_last_token(name: str) -> None:
    """After the first, the state is that of the context; room for every step of every turn is there, and no more."""
    config, model = ALL[name], build(ALL[name])
    settings = DecodeTimeConfig(contexts=[10], prompts=NO_PROMPTS, reference=REFERENCE, n_turns=2, steps_per_turn=3)
    with torch.inference_mode():
        steps = Steps(model, config, 10, settings)
        steps()
        own, source = (5, 5) if config.reads_source else (10, None)
        assert filled_bytes(steps.state) == config.state_bytes(own, torch.float64, source)
        for _ in range(3 * 4 - 1):
            steps()
        with pytest.raises(ValueError, match="raise max_len"):
            steps()


def run_of(part: DecodeTimeConfig, name: str = "decoder_only-hybrid") -> Run:
    model = ALL[name]
    data = VocabularyConfig(n_ids=VOCAB, source=model.reads_source)
    return Run(
        study="s", scale="cpu", name="r", seed=3, factors={}, data=data, model=model, training=None, evaluation={"timed": part}
    )


@pytest.mark.parametrize("name", ["decoder_only-hybrid", "encoder_decoder-first"])
def test_the_part_times_steps_and_affordable_prompts(name: str, tmp_path: Path) -> None:
    part = DecodeTimeConfig(
        contexts=[4, 9], prompts=Prompts(contexts=[6, 4096], most_flops=1e7), reference=REFERENCE, n_turns=3, prompt_turns=2
    )
    assert PARTS.parse(part.model_dump(mode="json")) == part and part.exclusive
    run = run_of(part, name)
    run.check()
    run.data.prepare(tmp_path)
    with torch.inference_mode():
        found = list(part.measure(Subject(run, tmp_path, tmp_path, tmp_path, CPU)))
    assert all(m.value > 0 and m.unit == "seconds" for m in found)
    places = [(m.metric, m.slice["context"], m.slice["turn"]) for m in found]
    wanted = [(f"{r}step_seconds", c, t) for c in (4, 9) for t in (1, 2, 3) for r in ("", "reference_")]
    wanted += [(f"{r}prompt_seconds", 6, t) for t in (1, 2) for r in ("", "reference_")]
    assert sorted(places) == sorted(wanted)


def test_the_model_is_timed_as_the_model_and_the_reference_as_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Told apart by the ids that their logits are over."""
    seen = []

    def watched(metric: str, context: int, both: Any, *settings: Any) -> list:
        seen.extend((metric, [(one() or one.model.step(one.tokens_B, one.state))[0].shape[-1] for one in both]) for _ in "1")
        return []

    monkeypatch.setattr(decode_time, "turns", watched)
    part = DecodeTimeConfig(
        contexts=[4], prompts=Prompts(contexts=[6], most_flops=1e9), reference=REFERENCE, reference_ids=VOCAB + 3
    )
    run = run_of(part)
    run.data.prepare(tmp_path)
    with torch.inference_mode():
        assert list(part.measure(Subject(run, tmp_path, tmp_path, tmp_path, CPU))) == []
    assert seen == [("step_seconds", [VOCAB, VOCAB + 3]), ("prompt_seconds", [VOCAB, VOCAB + 3])]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": None}, "evaluation.timed: reference: there is none to take turns with; give it a model"),
        ({"reference": ALL["encoder_decoder-first"]}, "reference: a model of kind encoder_decoder reads a source"),
        ({"contexts": [9, 4]}, r"contexts \[9, 4\] do not rise"),
        ({"n_turns": 0}, "n_turns"),
    ],
)
def test_mistakes_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    part = DecodeTimeConfig(contexts=[4], prompts=NO_PROMPTS, reference=REFERENCE)
    with pytest.raises(ConfigError, match=message):
        run_of(part.replace(**changes)).check()
