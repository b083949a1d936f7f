"""decode_cost: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from paper.made_up import asked, made_up, spots

from ripstop.config import ConfigError
from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.decode_cost import LABELS, NUMBERS, figures, numbers, tables
from ripstop.records import Record
from ripstop.statistics import Estimate

CONTEXTS = (512, 1024, 8192, 16384, 32768, 65536)
TURNS = range(1, 7)
"""Six turns, whose interval is their range."""
READS = {
    "attention": dict.fromkeys(CONTEXTS, 0) | {n: 100 * n for n in CONTEXTS},
    "attention_grouped": {n: 50 * n for n in CONTEXTS},
    "sliding_window": {n: 100 * min(n, 516) for n in CONTEXTS},
    "mamba2": dict.fromkeys(CONTEXTS, 60_000),
    "mamba2_attention": {n: 50 * n + 30_000 for n in CONTEXTS},
    "nsa": {512: 90_000, 1024: 160_000, 8192: 204_600, 16384: 256_000, 32768: 358_600, 65536: 563_100},
}
"""Arm -> context -> bytes that a step of its two layers reads. NSA reads more than attention at 512 and 1024."""
KEYS = {"nsa": {8192: 2047, 16384: 2560, 32768: 3585, 65536: 5631.5}}
"""Arm -> context -> keys of a layer; of others context, in the published table 2048, 2560, 3584 and 5632."""
STEP = {"attention": {n: n * 1e-6 for n in CONTEXTS}, "mamba2": dict.fromkeys(CONTEXTS, 2e-3)}
"""Arm -> context -> seconds of a step in the middle of its turns; of others 3e-3. The reference takes 2e-3."""
PROMPTS = {"attention": (1024,), "nsa": (1024, 8192)}
"""Arm -> the prompts that it reads, at a microsecond a token and byte; of others none."""
NAMED = ("recall", "recall_from_source", "translator")


def made(dropped: Mapping[str, tuple[str, ...]] | None = None) -> list[Record]:
    """dropped: factor -> arms."""
    records = []
    arms = [("architecture", name) for name in READS] + [("preset", name) for name in NAMED]
    for column, name in arms:
        if name in (dropped or {}).get(column, ()):
            continue
        factors = {column: name} | ({"n_layers": 2} if name in READS else {})

        def add(metric: str, value: float, factors: dict = factors, **slice_: object) -> None:
            records.append(made_up("decode_cost", factors, 0, metric, value, **slice_))

        add("weight_bytes", 7000)
        for context in CONTEXTS:
            read = READS.get(name, READS["mamba2"])[context]
            held = 2 * read if name == "nsa" else read
            for metric, value in (("bytes_read", read), ("state_bytes", held)):
                add(metric, value, context=context)
                add(f"{metric}_formula", value, context=context)
            add("tokens_read", 2 * KEYS.get(name, {}).get(context, context), context=context)
            add("bytes_written", 300, context=context)
            for turn in TURNS:
                spread = (turn - 3.5) * 1e-5  # the reference's goes along, half as far in ratio
                slow = 1.5 if name == "translator" else 1.0
                add("step_seconds", STEP.get(name, {}).get(context, 3e-3) + spread, context=context, turn=turn)
                add("reference_step_seconds", 2e-3 * slow, context=context, turn=turn)
        for context in PROMPTS.get(name, ()):
            add("prompt_peak_bytes", 9 * context, context=context)
            for turn in TURNS:
                add("prompt_seconds", context * 1e-6 * (turn + 6.5), context=context, turn=turn)
                add("reference_prompt_seconds", context * 1e-6 * 4, context=context, turn=turn)
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("decode_cost", made())


def exact(found: Estimate, value: float) -> bool:
    return found.value == found.low == found.high == pytest.approx(value, rel=1e-12)


def within(found: Estimate, value: float, low: float, high: float) -> bool:
    return (found.value, found.low, found.high) == pytest.approx((value, low, high), rel=1e-9)


def test_every_number_of_bytes(records):
    found = numbers(records)
    assert list(found) == list(NUMBERS)
    wanted = {
        "context_short": 1024, "context_long": 65536, "context_eighth": 8192,
        "formula_gap": 0, "keys_gap_attention": 0, "keys_gap_nsa": 1,
        "attention_reads_over_attention_grouped": 2, "attention_reads_over_sliding_window": 65536 / 516,
        "attention_reads_over_mamba2": 6553600 / 60000, "attention_reads_over_mamba2_attention": 6553600 / 3306800,
        "attention_reads_over_nsa": 6553600 / 563100, "attention_holds_over_nsa": 6553600 / 1126200,
        "attention_holds_over_sliding_window": 65536 / 516, "attention_holds_over_mamba2": 6553600 / 60000,
        "attention_holds_over_attention_grouped": 2, "attention_holds_over_mamba2_attention": 6553600 / 3306800,
        "read_growth_mamba2": 1, "read_growth_sliding_window": 1, "n_runs": 9,
    }  # fmt: skip
    for name, value in wanted.items():
        assert exact(found[name], value), (name, found[name])
    # Mamba-2 reads 60,000 bytes: more than attention's 51,200 at 512 tokens, fewer than 102,400 at 1024.
    places = {"mamba2": 1024, "nsa": 8192, "mamba2_attention": 1024, "sliding_window": 1024}
    for name, context in places.items():
        assert exact(found[f"reads_less_from_{name}"], context), name
    grouped = found["reads_less_from_attention_grouped"]
    assert (grouped.value, grouped.low, grouped.high) == (512, -math.inf, 512), "ahead everywhere: a bound"
    assert {found[name].unit for name in ("keys_gap_nsa", "reads_less_from_nsa", "context_long")} == {"tokens"}


def test_every_number_of_times(records):
    found = numbers(records)
    assert within(found["step_attention_long"], 65.536, 65.511, 65.561) and found["step_attention_long"].unit == "ms"
    assert within(found["step_nsa_short"], 3.0, 2.975, 3.025) and found["step_nsa_short"].n == 6
    assert within(found["step_ratio_attention_long"], 32.768, 32.7555, 32.7805)
    assert within(found["step_ratio_attention_short"], 0.512, 0.4995, 0.5245)
    assert within(found["step_ratio_mamba2_long"], 1, 0.9875, 1.0125)
    assert within(found["step_growth_attention"], 8, 65.511 / 8.217, 65.561 / 8.167)
    # At 1024 tokens attention takes half of Mamba-2's time, at 8192 four times.
    assert exact(found["mamba2_faster_from"], 8192)
    assert within(found["prompt_ratio_attention"], 2.5, 7.5 / 4, 12.5 / 4)
    assert exact(found["prompt_longest_attention"], 1024)
    assert exact(found["reference_spread"], 1.5) and found["reference_spread"].n == 9


def changed(metric: str, value: float, name: str, context: int) -> StudyRecords:
    """The records with one of them changed."""
    rows = made()
    (at,) = [
        i
        for i, r in enumerate(rows)
        if (r.metric, r.slice.get("context")) == (metric, context) and name in r.run.split("_seed")[0].split("-")
    ]
    rows[at] = made_up("decode_cost", rows[at].factors, 0, metric, value, context=context)
    return asked("decode_cost", rows)


@pytest.mark.parametrize("metric", ["bytes_read", "bytes_read_formula", "state_bytes", "state_bytes_formula"])
def test_one_byte_too_many_anywhere_is_a_gap(metric):
    true = READS["mamba2"][16384]
    assert exact(numbers(changed(metric, true + 3, "translator", 16384))["formula_gap"], 3)
    assert exact(numbers(changed(metric, true - 3, "translator", 16384))["formula_gap"], 3)


def test_a_count_without_its_formula_is_no_agreement():
    rows = [r for r in made() if (r.metric, r.slice.get("context")) != ("state_bytes_formula", 512)]
    assert numbers(asked("decode_cost", rows))["formula_gap"].value == math.inf


def test_a_key_too_many_or_too_few_in_attention_is_a_gap():
    for keys in (3, -3):
        assert exact(numbers(changed("tokens_read", 2 * 8192 + keys, "attention", 8192))["keys_gap_attention"], 1.5)


def test_what_is_slower_at_every_context_and_at_none():
    slow = [r.model_copy() for r in made()]
    for i, r in enumerate(slow):
        if r.metric == "step_seconds" and r.factors.get("architecture") == "attention":
            slow[i] = made_up("decode_cost", r.factors, 0, r.metric, 1.0, **r.slice)
    always = numbers(asked("decode_cost", slow))["mamba2_faster_from"]
    assert (always.value, always.low, always.high) == (512, -math.inf, 512)
    for i, r in enumerate(slow):
        if r.metric == "step_seconds" and r.factors.get("architecture") == "attention":
            slow[i] = made_up("decode_cost", r.factors, 0, r.metric, 1e-4, **r.slice)
    never = numbers(asked("decode_cost", slow))["mamba2_faster_from"]
    assert (never.value, never.low, never.high) == (65536, 65536, math.inf)


def test_an_interval_that_holds_1_is_not_faster():
    """At the longest context attention takes half as long as the reference in one turn of six, and longer in all others."""
    shaky = [r.model_copy() for r in made()]
    for i, r in enumerate(shaky):
        if r.metric == "step_seconds" and r.factors.get("architecture") == "attention" and r.slice["context"] == 65536:
            shaky[i] = r.replace(value=1e-3 if r.slice["turn"] == 1 else 65e-3)
    found = numbers(asked("decode_cost", shaky))["mamba2_faster_from"]
    assert (found.value, found.low, found.high) == (65536, 65536, math.inf)


def test_few_turns_say_nothing_of_who_is_faster():
    few = [r for r in made() if r.slice.get("turn", 0) <= 5]
    found = numbers(asked("decode_cost", few))
    assert math.isnan(found["mamba2_faster_from"].value) and found["mamba2_faster_from"].low == -math.inf
    assert math.isnan(found["step_ratio_attention_long"].low)


def test_every_cell(records):
    found = tables(records)
    assert list(found) == ["decode_cost", "decode_cost_keys", "decode_cost_times"]
    rows = {row[0]: row[1:] for row in found["decode_cost"].rows}
    assert list(rows) == [*LABELS.values(), "recall", "recall from source", "translator"]
    assert rows["NSA"] == [160_000, 160_000, 563_100, 563_100, 1_126_200, 1_126_200, 300, 7000]
    assert rows["translator"] == [60_000] * 6 + [300, 7000]
    assert [list(row) for row in found["decode_cost_keys"].rows] == [
        [8192, 8192, 2047, 2048], [16384, 16384, 2560, 2560], [32768, 32768, 3585, 3584], [65536, 65536, 5631.5, 5632]
    ]  # fmt: skip
    times = {row[0]: row[1:] for row in found["decode_cost_times"].rows}
    assert within(times["attention"][0], 1.024, 0.999, 1.049) and within(times["attention"][1], 0.512, 0.4995, 0.5245)
    assert within(times["attention"][2], 65.536, 65.511, 65.561) and within(times["attention"][3], 32.768, 32.7555, 32.7805)
    assert times["NSA"][4] == "8192" and times["NSA"][6] == 9 * 8192
    assert within(times["NSA"][5], 8192e-5, 8192 * 7.5e-6, 8192 * 12.5e-6) and times["NSA"][5].unit == "seconds"
    assert times["recall"][4:] == ["", "", ""], "no prompt was read"


def test_every_point(records):
    with style.style():
        found = figures(records)
    assert list(found) == ["decode_cost", "decode_cost_prompts"]
    read, held, took = found["decode_cost"].axes
    whole, peak = found["decode_cost_prompts"].axes
    for label, x, y in spots(read):
        name = next(name for name, text in LABELS.items() if text == label)
        assert y == READS[name][int(x)]
    assert len(spots(read)) == len(READS) * len(CONTEXTS)
    colors = {line.get_gid(): line.get_color() for line in read.get_lines() if line.get_gid()}
    assert len(set(colors.values())) == len(READS)
    for ax, factor in ((read, 1), (held, 2)):
        markers = [line for line in ax.get_lines() if line.get_color() == colors["NSA"] and line.get_marker() != "None"]
        full, hollow = sorted(markers, key=lambda line: -len(line.get_xdata()))
        assert list(full.get_ydata()) == [factor * READS["nsa"][n] for n in CONTEXTS]
        # Open where more than attention: read at 512 and 1024 tokens, held twice as much also no further than these.
        assert hollow.get_markerfacecolor() == "white" and list(hollow.get_xdata()) == [512, 1024]
        (line,) = [one for one in ax.get_lines() if one.get_color() == colors["NSA"] and one.get_marker() == "None"]
        assert list(line.get_ydata()) == [factor * READS["nsa"][n] for n in CONTEXTS] and line.get_linewidth() == 0.8
    (attention,) = [one for one in took.get_lines() if one.get_color() == colors["attention"] and len(one.get_xdata())]
    assert list(attention.get_ydata()) == pytest.approx([n * 1e-3 for n in CONTEXTS])
    (hollow,) = [
        one for one in took.get_lines() if one.get_color() == colors["Mamba-2"] and one.get_markerfacecolor() == "white"
    ]
    assert list(hollow.get_xdata()) == [512, 1024], "Mamba-2 is slower there"
    points = {(label, x): y for label, x, y in spots(whole)}
    assert points == {
        ("attention", 1024): pytest.approx(1024e-5),
        ("NSA", 1024): pytest.approx(1024e-5),
        ("NSA", 8192): pytest.approx(8192e-5),
    }
    lines = [list(one.get_ydata()) for one in peak.get_lines() if len(one.get_xdata())]
    assert lines == [[9 * 1024], [9 * 1024, 9 * 8192]]
    for figure in found.values():
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == list(LABELS.values())
    assert [tick.get_text() for tick in read.get_xticklabels()] == ["64", "1k", "16k", "128k"]
    assert "64 KiB" in [tick.get_text() for tick in read.get_yticklabels()]


def test_without_nsa_its_numbers_and_keys_are_not_measured():
    records = asked("decode_cost", made({"architecture": ("nsa",)}), ("architecture", "nsa"))
    missing = [name for name, estimate in numbers(records).items() if estimate.n == 0]
    assert missing == [name for name in NUMBERS if "nsa" in name]
    assert [row[2] for row in tables(records)["decode_cost_keys"].rows] == [None] * 4
    assert "NSA" not in [row[0] for row in tables(records)["decode_cost"].rows]
    with style.style():
        assert len(figures(records)["decode_cost"].axes) == 3


def test_what_a_scale_drops_is_not_measured():
    dropped = {"architecture": ("attention_grouped",), "preset": ("recall", "translator")}
    items = [(column, name) for column, names in dropped.items() for name in names]
    records = asked("decode_cost", made(dropped), *items)
    found = numbers(records)
    assert {name for name, e in found.items() if e.n == 0} == {name for name in NUMBERS if "grouped" in name}
    with pytest.raises(ConfigError, match="names architecture 'attention_grouped', which no record has"):
        numbers(asked("decode_cost", made(dropped)))


@pytest.mark.parametrize("name", LABELS)
def test_any_arm_may_be_dropped(name):
    records = asked("decode_cost", made({"architecture": (name,)}), ("architecture", name))
    own = tuple(f"_{name}{end}" for end in ("", "_short", "_long"))
    wanted = {number for number in NUMBERS if number.endswith(own)}
    if name == "attention":  # beside which all others stand
        wanted = {number for number in wanted if "mamba2_attention" not in number} | {"mamba2_faster_from"}
        wanted |= {number for number in NUMBERS if number.startswith(("attention_", "reads_less_from_"))}
    assert {number for number, estimate in numbers(records).items() if estimate.n == 0} == wanted
    assert len(tables(records)["decode_cost"].rows) == len(LABELS) + len(NAMED) - 1
    with style.style():
        assert figures(records)


def test_without_named_models_the_mixers_are_printed():
    records = asked("decode_cost", made({"preset": NAMED}), *(("preset", name) for name in NAMED))
    assert [row[0] for row in tables(records)["decode_cost"].rows] == list(LABELS.values())
    assert all(estimate.n for estimate in numbers(records).values())


def test_a_scale_without_times_has_its_bytes():
    kept = [r for r in made() if not r.metric.endswith("seconds")]
    found = numbers(asked("decode_cost", kept, ("part", "timed")))
    times = ("step", "mamba2_faster", "prompt", "reference_spread")
    assert {name for name, e in found.items() if e.n == 0} == {name for name in NUMBERS if name.startswith(times)}
    assert [row[1:6] for row in tables(asked("decode_cost", kept, ("part", "timed")))["decode_cost_times"].rows]
    with pytest.raises(ConfigError, match="names metric 'step_seconds', which no record has.*part=timed"):
        numbers(asked("decode_cost", kept))
