"""What a wire gains over what it is compared with, from answers that other parts and runs left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.asked_runs import soft_prompt

from ripstop.config import ConfigError
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answer_gaps import AnswerGapsConfig
from ripstop.evaluation.answered import Answered, write_answers
from ripstop.evaluation.base import Subject
from ripstop.records import Measurement, Record, write_records
from ripstop.runs import Run
from ripstop.wire.quantize import n_bytes

N = 6
CUT = str(n_bytes(soft_prompt("mean_pool", False).wire_format("int4")))
TEXT_RUN, CONSTANT_RUN = "compressor-text_seed-0", "compressor-constant_seed-0"
OVER = ["wrong", "zero", "closed", "cut_tokens", "cut_bytes", "text", "constant", "alone", "formats", "beside"]


def rows(nats: float, prompt: str, reader: str = "first", format_: str = "none", n: int = N) -> list[Answered]:
    """Question i lies inside where it is even; its loss is `nats` and i more, over i + 1 tokens."""
    return [
        Answered(f"q{i}", f"d{i}", "cloze", place, reader, prompt, format_, "g", nats + i, i + 1, True, True)
        for i, place in zip(range(n), ["inside", "outside"] * n, strict=False)
    ]  # fmt: skip


def left(folder: Path, run: str, part: str, found: list[Answered], model: str = "") -> None:
    write_answers_to = folder / "runs" / run / "parts" / part
    write_answers_to.mkdir(parents=True, exist_ok=True)
    write_answers(write_answers_to, found)
    values = {
        "study": "latent_compression", "run": run, "scale": "cpu", "seed": 0, "part": part, "factors": {}, "slice": {},
        "metric": "m", "unit": "count", "value": 1, "n": 1, "code": "c", "config": "k", "data": "d", "model": model,
        "device": "cpu",
    }  # fmt: skip
    write_records(write_answers_to / "records.jsonl", [Record.parse(values, "test")])


def part(**changes: Any) -> AnswerGapsConfig:
    values: dict[str, Any] = {
        "over": OVER,
        "gaps": ["text", "ceiling"],
        "own": ["answers", "controls"],
        "text": "compressor-text_seed-0",
        "text_parts": ["text", "ceiling"],
        "runs": {
            "constant": "compressor-constant_seed-{seed}", "alone": "compressor-{compressor}_readers-{reader}_seed-{seed}"
        },
        "n_bootstrap": 200,
    }  # fmt: skip
    return AnswerGapsConfig.parse(values | changes, "part")


def run_of(gaps: AnswerGapsConfig, compressor: str = "mean_pool", two: bool = False) -> Run:
    data = QuestionsConfig(max_words=40)
    return Run(
        study="latent_compression", scale="cpu", name=f"compressor-{compressor}_seed-0", seed=0,
        factors={"compressor": compressor}, data=data, model=soft_prompt(compressor, two), training=None,
        evaluation={"gaps": gaps},
    )  # fmt: skip


def laid_out(folder: Path) -> None:
    own = "compressor-mean_pool_seed-0"
    left(folder, own, "answers", [*rows(2.0, "own"), *rows(2.25, "own", format_="int4")])
    left(folder, own, "controls", [*rows(3.0, "wrong"), *rows(5.0, "zero"), *rows(1.5, "beside")])
    text = [*rows(4.0, "closed"), *rows(1.75, "cut_tokens"), *rows(1.0, "text"), *rows(1.2, "cut_bytes", format_=CUT)]
    left(folder, TEXT_RUN, "text", [*text, *rows(0.0, "text", "second")])
    left(folder, TEXT_RUN, "ceiling", rows(-1.0, "ceiling", n=2))
    left(folder, CONSTANT_RUN, "answers", [*rows(3.5, "own"), *rows(9.0, "wrong")])
    left(folder, "compressor-mean_pool_readers-first_seed-0", "answers", rows(1.9, "own"))


def measured(folder: Path, gaps: AnswerGapsConfig, two: bool = False) -> list[Measurement]:
    run = run_of(gaps, two=two)
    run.check()
    return list(gaps.measure(Subject(run, folder / "runs" / run.name, folder, folder, torch.device("cpu"))))


def test_every_difference_and_part_of_a_gap(tmp_path: Path) -> None:
    laid_out(tmp_path)
    made = measured(tmp_path, part())
    tokens = sum(range(1, N + 1))
    gains = {
        (m.slice["over"], m.slice["prompt"], m.slice["format"]): m.value * tokens / N
        for m in made
        if m.metric == "loss_gain" and m.slice["end"] == "value" and m.slice["questions"] == "all"
    }
    expected = {
        "wrong": 1.0, "zero": 3.0, "closed": 2.0, "cut_tokens": -0.25, "text": -1.0, "constant": 1.5, "alone": -0.1,
        "int4": 0.25,
    }  # fmt: skip
    assert gains == pytest.approx(
        {(over, "own", "none"): nats for over, nats in expected.items()}
        | {("cut_bytes", "own", "int4"): 1.2 - 2.25, ("text", "beside", "none"): 1.0 - 1.5}
    )
    outside = [m for m in made if m.slice.get("over") == "wrong" and m.slice["questions"] == "outside"]
    assert [(m.slice["end"], m.n) for m in outside] == [("value", 3), ("low", 3), ("high", 3)]
    assert outside[0].value == pytest.approx(3 * 1.0 / (2 + 4 + 6))
    assert outside[1].value <= outside[0].value <= outside[2].value and outside[1].value < outside[2].value
    parts = {m.slice["to"]: (m.value, m.n) for m in made if m.metric == "gap_closed" and m.slice["end"] == "value"}
    assert parts["text"] == (pytest.approx((3.5 - 2.0) / (3.5 - 1.0)), N)  # the constant wire is the best floor
    assert parts["ceiling"] == (pytest.approx((3.5 - 2.0) / (3.5 + 1.0)), 2)  # of the two questions that have one


def test_where_a_run_did_not_ask_a_model_it_is_not_compared(tmp_path: Path) -> None:
    laid_out(tmp_path)
    own = [*rows(2.0, "own"), *rows(2.5, "own", "second"), *rows(3.0, "wrong", "second"), *rows(3.0, "wrong")]
    left(tmp_path, "compressor-mean_pool_seed-0", "answers", own)
    left(tmp_path, "compressor-mean_pool_readers-second_seed-0", "answers", rows(2.4, "own", "second"))
    made = measured(tmp_path, part(over=["wrong", "constant", "alone"], gaps=[], own=["answers"]), two=True)
    found = {(m.slice["reader"], m.slice["over"]) for m in made}
    assert found == {("first", "wrong"), ("first", "constant"), ("first", "alone"), ("second", "wrong"), ("second", "alone")}


def test_what_it_reads() -> None:
    gaps = part()
    assert gaps.reads(run_of(gaps)) == [
        "compressor-mean_pool_seed-0/parts/answers",
        "compressor-mean_pool_seed-0/parts/controls",
        "compressor-text_seed-0/parts/text",
        "compressor-text_seed-0/parts/ceiling",
        "compressor-constant_seed-0/parts/answers",
        "compressor-mean_pool_readers-first_seed-0/parts/answers",
    ]
    # nothing is compared with itself
    assert "compressor-constant_seed-0/parts/text" not in gaps.reads(run_of(gaps, "constant"))
    itself = part(over=["constant"], gaps=[], text=None, own=["answers"], runs={"constant": "compressor-constant_seed-0"})
    assert itself.reads(run_of(itself, "constant")) == ["compressor-constant_seed-0/parts/answers"]


def test_questions_that_only_one_side_was_asked_are_an_error(tmp_path: Path) -> None:
    laid_out(tmp_path)
    left(tmp_path, TEXT_RUN, "text", rows(4.0, "closed", n=5))
    with pytest.raises(ConfigError, match="question q5 was asked with own, and not with what that is compared with"):
        measured(tmp_path, part(over=["closed"], gaps=[]))
    left(tmp_path, TEXT_RUN, "text", rows(1.0, "text"), model="another")
    with pytest.raises(ConfigError, match="was measured on another model"):
        measured(tmp_path, part(over=["text"], gaps=[]))


def test_a_text_of_other_sizes_is_not_compared_with_a_packed_wire(tmp_path: Path) -> None:
    laid_out(tmp_path)
    text = [*rows(1.0, "text"), *rows(0.1, "cut_bytes", format_="7")]
    left(tmp_path, TEXT_RUN, "text", [*text, *rows(1.2, "cut_bytes", format_=CUT)])
    made = measured(tmp_path, part(over=["cut_bytes"], gaps=[]))
    found = [m.value for m in made if m.slice["questions"] == "all" and m.slice["end"] == "value"]
    assert found == pytest.approx([(1.2 - 2.25) * N / sum(range(1, N + 1))])
    left(tmp_path, TEXT_RUN, "text", text)
    with pytest.raises(ConfigError, match=f"over: the text was cut to none of {CUT} bytes; add these to `sizes`"):
        measured(tmp_path, part(over=["cut_bytes"], gaps=[]))


def test_a_random_wire_is_a_floor_too(tmp_path: Path) -> None:
    laid_out(tmp_path)
    found = [*rows(3.0, "wrong"), *rows(5.0, "zero"), *rows(3.25, "random"), *rows(1.5, "beside")]
    left(tmp_path, "compressor-mean_pool_seed-0", "controls", found)
    made = measured(tmp_path, part(over=["text"], gaps=["text"]))
    (share,) = (m.value for m in made if m.metric == "gap_closed" and m.slice["end"] == "value")
    assert share == pytest.approx((3.25 - 2.0) / (3.25 - 1.0))


def test_without_a_floor_there_is_no_gap(tmp_path: Path) -> None:
    laid_out(tmp_path)
    with pytest.raises(ConfigError, match="gaps: there is no floor, none of zero, random, constant was asked of first"):
        measured(tmp_path, part(over=["text"], own=["answers"], runs={}))
