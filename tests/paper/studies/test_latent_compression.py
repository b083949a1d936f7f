"""latent_compression: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from paper.made_up import asked, close, made_up, spots

from ripstop.config import ConfigError
from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.latent_compression import NUMBERS, figures, numbers, tables
from ripstop.paper.wires import FORMATS, HEADLINE, LABELS, TEXTS
from ripstop.records import Record

LOSS = {"pointer": 2.0, "mean_pool": 3.0, "feature_resampler": 3.2, "byte_resampler": 3.4, "constant": 3.6}
LOSS["pointer_narrow"] = 2.6
PROMPT = {"own": 0.0, "wrong": 0.5, "shuffled": 0.6, "zero": 0.7, "random": 0.8, "swapped": 0.9, "beside": -0.9}
TEXT = {"closed": 5.0, "cut_tokens": 1.8, "text": 1.2, "swapped": 2.6, "ceiling": 0.1}
QUESTIONS = {"all": 0.0, "inside": -0.01, "outside": 0.01, "group:trivia": 0.02}
READERS = {"first": 0.0, "second": 0.3}
SIZES = {"fp16": 4096, "int8": 2176, "int6": 1664, "int4": 1152}
OVER = {
    "wrong": 0.5,
    "zero": 0.7,
    "random": 0.8,
    "closed": 1.5,
    "cut_tokens": -0.6,
    "text": -1.1,
    "constant": 1.6,
    "mean_pool": 1.0,
    "pointer": -0.3,
}
MEASURED = (*HEADLINE, "pointer_narrow")


def made() -> list[Record]:
    """A loss is that of its arm, and so much more for its prompt, reader, questions and seed."""
    records: list[Record] = []
    arms = [(name, "first", seed) for name in LOSS for seed in ((1, 0) if name in HEADLINE else (0,))]
    arms += [("pointer", "second", 0), ("pointer", "both", 0), ("text", "both", 0)]
    for compressor, readers, seed in arms:
        factors: dict[str, Any] = {"source": "main", "compressor": compressor, "n_vectors": 8, "readers": readers}

        def add(metric: str, value: float, factors: dict[str, Any] = factors, seed: int = seed, **slice_: Any) -> None:
            records.append(made_up("latent_compression", factors | {"size": "headline"}, seed, metric, value, **slice_))

        def scored(loss: float, seed: int = seed, add: Any = add, **way: Any) -> None:
            for name, more in QUESTIONS.items():
                at = {"format": "none", **way, "questions": name}
                add("answer_nll", loss + more + seed / 100, **at)
                for number, metric in enumerate(("first_accuracy", "forced_match", "exact_match", "f1")):
                    add(metric, min(1.0, loss / 10 + number / 100 + seed / 1000), **at)

        def interval(metric: str, value: float, seed: int = seed, add: Any = add, **way: Any) -> None:
            for end, more in (("value", 0.0), ("low", -0.1 - seed / 10), ("high", 0.2 + seed / 10)):
                add(metric, value + more + seed / 100, **way, end=end)

        shared = readers == "both"
        for reader in READERS if shared else (readers,):
            base = READERS[reader]
            own = {"reader": reader, "prompt": "own", "format": "none", "questions": "all"}
            if compressor == "text":
                for prompt, loss in TEXT.items():
                    scored(base + loss, reader=reader, prompt=prompt)
                    add("answer_seconds", base + loss, reader=reader, prompt=prompt)
                for number, size in enumerate((390, 389, 64)):
                    scored(base + 1.3 + number / 10, reader=reader, prompt="cut_bytes", format=str(size))
                    where = {"reader": reader, "prompt": "cut_bytes", "format": str(size), "coding": "utf8"}
                    add("context_bytes", 100 * size, **where)
                for prompt, size in (("cut_tokens", 40), ("text", 400)):
                    add(
                        "context_bytes",
                        100 * size + (reader == "second"),
                        reader=reader,
                        prompt=prompt,
                        format="none",
                        coding="utf8",
                    )
                for number, coding in enumerate(("utf8", "gzip", "zstd", "arithmetic")):
                    add("coded_bytes", 100 * (500 - 100 * number), reader=reader, coding=coding)
                interval("loss_gain", 3.8 + base, **own | {"prompt": "text", "over": "closed"})
                interval("loss_gain", 1.1 + base, **own | {"prompt": "ceiling", "over": "text"})
                interval("swap_followed", 0.7, reader=reader)
                add("alignment_gap", base / 1000, reader=reader)
                continue
            loss = base + LOSS[compressor] + 0.4 * shared
            for prompt, more in PROMPT.items() if compressor != "constant" else [("own", 0.0)]:
                scored(loss + more, reader=reader, prompt=prompt)
            add("answer_seconds", 0.1 + seed, reader=reader, prompt="own")
            if compressor == "constant":
                continue
            for over, value in OVER.items():
                if over != compressor and (reader == "first" or over not in ("constant", "mean_pool", "pointer")):
                    interval("loss_gain", value - LOSS[compressor] / 100 + base, **own | {"over": over})
            interval("loss_gain", 0.33, **own | {"over": "cut_tokens", "questions": "outside"})
            for to, value in (("text", 0.4), ("ceiling", 0.25)):
                interval("gap_closed", value, reader=reader, to=to)
            if shared:
                interval("loss_gain", -0.4 - base, **own | {"over": "alone"})
            if compressor in MEASURED and readers == "first" and seed == 0:
                for number, bits in enumerate(FORMATS):
                    scored(loss + (number + 1) / 100, reader=reader, prompt="own", format=bits)
                    add("context_bytes", 100 * SIZES[bits] // (4 if compressor == "pointer_narrow" else 1), coding=bits)
                    interval("loss_gain", (number + 1) / 100, **own | {"over": bits})
                    interval("loss_gain", -0.5 - number / 10, **own | {"over": "cut_bytes", "format": bits})
                interval("loss_gain", -0.07, **own | {"prompt": "beside", "over": "text"})
                interval("swap_followed", 0.6, reader=reader)
                add("probe_auc", 0.8, wire="own")
                add("probe_auc", 0.5, wire="wrong")
                add("wire_directions", 17, explained=0.9)
                add("wire_directions", 3, explained=0.5)
        if compressor == "text":
            for metric, value in (("exact_match", 0.61), ("f1", 0.71)):
                for number, reader in enumerate(("joint", "first", "second")):
                    add(metric, value + number / 10, reader=reader, prompt="text", format="none", questions="joint")
        else:
            add("trained_parameters", 1000 * len(compressor))
            add("compress_seconds", 0.02 + seed / 100)
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("latent_compression", made())


def gained(found: Any, value: float) -> bool:
    """Of two seeds: their mean, and from the lowest of the low ends to the highest of the high ones, both seed 1's."""
    return close(found, value + 0.005, value - 0.2 + 0.01, value + 0.3 + 0.01)


def alone(found: Any, value: float) -> bool:
    """Of one seed: its own interval over documents."""
    return (found.value, found.low, found.high, found.n) == (
        pytest.approx(value), pytest.approx(value - 0.1), pytest.approx(value + 0.2), 1
    )  # fmt: skip


def test_every_number(records: StudyRecords) -> None:
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    for name in HEADLINE:
        assert close(found[f"nll_{name}"], LOSS[name] + 0.005, LOSS[name], LOSS[name] + 0.01), name
        assert found[f"em_{name}"].value == pytest.approx(LOSS[name] / 10 + 0.0205), name
        assert found[f"forced_{name}"].value == pytest.approx(LOSS[name] / 10 + 0.0105), name
        less = LOSS[name] / 100
        for what, over in (
            ("zero", "zero"),
            ("random", "random"),
            ("closed", "closed"),
            ("cut", "cut_tokens"),
            ("text", "text"),
        ):
            assert gained(found[f"{name}_over_{what}"], OVER[over] - less), (name, what)
        assert gained(found[f"wire_use_{name}"], 0.5 - less) and gained(found[f"{name}_over_constant"], 1.6 - less)
        assert gained(found[f"{name}_over_cut_outside"], 0.33)
        assert gained(found[f"{name}_closes_to_text"], 0.4) and gained(found[f"{name}_closes_to_ceiling"], 0.25)
        assert alone(found[f"{name}_over_equal_bytes"], -0.8) and alone(found[f"{name}_int4_costs"], 0.04)
        assert alone(found[f"{name}_beside_gains"], -0.07) and alone(found[f"{name}_swap_followed"], 0.6)
        assert (found[f"probe_auc_{name}"].value, found[f"wire_directions_{name}"].value) == (0.8, 17)
        assert found[f"parameters_{name}"].value == 1000 * len(name)
    narrow = {what: found[f"narrow_{what}"] for what in ("nll", "bytes", "wire_use", "over_cut", "costs")}
    assert (narrow["nll"].value, narrow["bytes"].value) == (pytest.approx(2.6), 288)
    assert alone(narrow["wire_use"], 0.5 - 0.026) and alone(narrow["over_cut"], -0.6 - 0.026)
    assert alone(found["narrow_over_equal_bytes"], -0.8) and alone(found["narrow_int4_costs"], 0.04)
    costs = narrow["costs"]
    assert (costs.value, costs.low, costs.high) == pytest.approx((0.3 + 0.026, 0.1 + 0.026, 0.4 + 0.026))
    assert gained(found["pointer_over_mean_pool"], 1.0 - 0.02)
    assert alone(found["feature_resampler_over_mean_pool"], 1.0 - 0.032)
    assert alone(found["wire_use_byte_resampler"], 0.5 - 0.034) and found["nll_constant"].value == pytest.approx(3.6)
    for reader, base in READERS.items():
        for prompt in TEXTS:
            assert found[f"nll_{prompt}_{reader}"].value == pytest.approx(TEXT[prompt] + base), (prompt, reader)
        assert found[f"f1_closed_{reader}"].value == pytest.approx((5.0 + base) / 10 + 0.03)
        assert alone(found[f"text_over_closed_{reader}"], 3.8 + base)
        gap = found[f"alignment_gap_{reader}"]  # a bound: a claim on it is decided by one run
        assert (gap.value, gap.low, gap.high) == pytest.approx((base / 1000,) * 3)
        costs = found[f"shared_costs_{reader}"]
        assert (costs.value, costs.low, costs.high) == pytest.approx((0.4 + base, 0.2 + base, 0.5 + base))
        assert alone(found[f"shared_use_{reader}"], 0.5 - 0.02 + base)
    assert alone(found["text_swap_followed"], 0.7) and alone(found["ceiling_over_text"], 1.1)
    assert found["nll_ceiling"].value == pytest.approx(0.1)
    joint = [found[f"{what}_{label}_text"].value for what in ("em", "f1") for label in ("joint", "alone_first", "alone_second")]
    assert joint == pytest.approx([0.61, 0.71, 0.81, 0.71, 0.81, 0.91])
    assert [found[f"wire_bytes_{bits}"].value for bits in FORMATS] == [4096, 2176, 1664, 1152]
    assert found["text_bytes"].value == 400 and found["coded_bytes_arithmetic"].value == 200
    assert found["seconds_compress"].value == pytest.approx(0.025) and found["seconds_wire"].value == pytest.approx(0.6)
    assert found["seconds_text"].value == pytest.approx(1.2)
    assert (found["n_vectors"].value, found["n_questions"].value, found["n_runs"].value) == (8, 100, 11)


def test_where_there_was_no_way_its_part_is_unknown() -> None:
    kept = [r for r in made() if not (r.metric == "gap_closed" and r.slice["to"] == "ceiling" and r.seed == 1)]
    found = numbers(asked("latent_compression", kept))["pointer_closes_to_ceiling"]
    assert math.isnan(found.value) and (found.low, found.high, found.n) == (-math.inf, math.inf, 2)


def test_a_gain_that_was_not_measured_is_an_error() -> None:
    kept = [r for r in made() if r.slice.get("over") != "wrong"]
    with pytest.raises(ConfigError, match="names over 'wrong', which no record has"):
        numbers(asked("latent_compression", kept))


def test_every_table(records: StudyRecords) -> None:
    made_ = tables(records)
    rows = {row[0]: row[1:] for row in made_["latent_compression"].rows}
    assert list(rows) == [*LABELS.values(), "pointer narrow", *TEXTS.values()]
    assert gained(rows["pointer"][-1], 0.48) and rows["learned constant"][-1] == rows["full text"][-1] == "-"
    assert rows["closed book"][0].value == pytest.approx(5.0)  # type: ignore[union-attr]
    gains = {row[0]: row[1:] for row in made_["latent_compression_gains"].rows}
    assert gained(gains["another document's wire"][0], 0.48) and gained(gains["closed book"][1], 1.5 - 0.03)
    assert alone(gains["the full text (with it beside the wire)"][0], -0.07)
    sizes = {row[0]: row[1:] for row in made_["latent_compression_bytes"].rows}
    assert (sizes["wire, int4"][0], sizes["full text, arithmetic"][0]) == (1152, 200)
    assert sizes["wire, int4"][1].value == pytest.approx(2.04)  # type: ignore[union-attr]
    assert sizes["narrow wire, fp16"][0] == 1024 and sizes["narrow wire, int4"][0] == 288
    assert sizes["narrow wire, int4"][1].value == pytest.approx(2.64)  # type: ignore[union-attr]
    readers = made_["latent_compression_readers"].rows
    losses = {(row[0], row[1]): row[2].value for row in readers}  # type: ignore[union-attr]
    assert losses["second", "a wire of its own"] == pytest.approx(2.3)
    assert losses["second", "a wire for both"] == pytest.approx(2.7)
    assert losses["first", "full text"] == pytest.approx(1.2)
    sources = made_["latent_compression_sources"].rows
    assert [row[0] for row in sources[::4]] == ["main, all", "main, inside", "main, outside", "main, trivia"]
    assert sources[14][1] == "pointer" and sources[14][2].value == pytest.approx(2.025)  # type: ignore[union-attr]


def test_every_figure(records: StudyRecords) -> None:
    with style.style():
        drawn = figures(records)
    points = spots(drawn["latent_compression"].axes[0])
    wires = [(x, y) for label, x, y in points if label == "pointer, M = 8"]
    assert [x for x, _ in wires] == [SIZES[bits] for bits in FORMATS]
    assert [y for _, y in wires] == pytest.approx([2.01, 2.02, 2.03, 2.04])
    cut = [(x, y) for label, x, y in points if label == "text, cut"]
    assert cut == [pytest.approx(at) for at in [(40, 1.8), (64, 1.5), (389, 1.4), (390, 1.3)]]
    narrow = [(x, y) for label, x, y in points if label == "narrow pointer, M = 8"]
    assert narrow == [pytest.approx(at) for at in [(1024, 2.61), (544, 2.62), (416, 2.63), (288, 2.64)]]
    coded = [x for label, x, _ in points if label == "full text, coded"]
    assert coded == pytest.approx([400, 320, 240, 160])  # what the coded documents shrink to, of the mean of all
    left, right = drawn["latent_compression_controls"].axes
    assert {label: x for label, x, _ in spots(left)} == pytest.approx(
        {"own wire": 2.005, "another document's wire": 2.505, "wires shuffled in the batch": 2.605, "wire of zeros": 2.705,
         "random wire of equal norm": 2.805, "closed book": 5.0, "first M tokens of the text": 1.8, "full text": 1.2,
         "learned constant wire": 3.6}
    )  # fmt: skip
    assert dict((label, x) for label, x, _ in spots(right))["own wire"] == pytest.approx(3.005)
