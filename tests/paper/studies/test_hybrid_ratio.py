"""hybrid_ratio: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import pytest
from paper.made_up import asked, close, made_up

from ripstop.config import ConfigError
from ripstop.paper import plots, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.hybrid_ratio import NUMBERS, figures, numbers, tables
from ripstop.records import Record

# ratio: (share, own loss, what the wrong source costs, what the shuffled one costs, BLEU, chrF++, parameters)
RATIOS = {
    "all": (1.0, (5.0, 5.4), (0.9, 1.0), (0.05, 0.06), (1, 2), (50, 40), 105),
    "1_1": (0.5, (3.4, 3.6), (0.5, 0.6), (0.03, 0.04), (26, 26), (30, 34), 103),
    "3_1": (0.75, (3.8, 3.3), (0.7, 0.8), (0.04, 0.05), (24, 20), (60, 62), 104),
    "1_3": (0.25, (3.5, 3.9), (0.3, 0.4), (0.02, 0.03), (30, 20), (44, 48), 102),
    "0": (0.0, (4.0, 4.3), (0.1, 0.2), (0.01, 0.02), (10, 12), (20, 22), 101),
}
ORDER = ["0", "1_3", "1_1", "3_1", "all"]
DROPPED = ("part", "comet")


def factors(ratio: str) -> dict[str, str | float]:
    return {"ratio": ratio, "ablation": "none", "attention_share": RATIOS[ratio][0]}


def made() -> list[Record]:
    records = []
    for ratio, (_, own, wrong, shuffled, bleu, chrf, parameters) in RATIOS.items():
        for seed in (1, 0):
            losses = {"own": own[seed], "wrong": own[seed] + wrong[seed], "shuffled": own[seed] + shuffled[seed]}
            for control, value in losses.items():
                records.append(made_up("hybrid_ratio", factors(ratio), seed, "loss", value, control=control, split="test"))
                records.append(made_up("hybrid_ratio", factors(ratio), seed, "loss", 9.9, control=control, split="valid"))
            for metric, value in (("bleu", bleu[seed]), ("chrf++", chrf[seed]), ("parameters", parameters)):
                records.append(made_up("hybrid_ratio", factors(ratio), seed, metric, value))
                if metric != "parameters":
                    records.append(made_up("hybrid_ratio", factors(ratio), seed, f"{metric}_half_interval", 77))
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("hybrid_ratio", made(), DROPPED)


def test_every_number(records):
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    assert close(found["loss_mamba2"], 4.15, 4.0, 4.3)
    assert close(found["loss_attention"], 5.2, 5.0, 5.4)
    assert close(found["loss_best_hybrid"], 3.5, 3.4, 3.6)  # 1:1; 1:3 has 3.7 and 3:1 has 3.55
    assert close(found["hybrid_gain"], 0.65, 0.6, 0.7)
    assert close(found["hybrid_gain_over_attention"], 1.7, 1.6, 1.8)
    # seed 0: 3.8 - 3.4, seed 1: 3.9 - 3.3
    assert close(found["ratio_spread"], 0.5, 0.4, 0.6)
    assert close(found["source_use"], 0.55, 0.5, 0.6)
    assert close(found["order_use"], 0.035, 0.03, 0.04)
    assert close(found["bleu_best"], 26, 26, 26)  # 1:3 has 25
    assert close(found["chrf_best"], 61, 60, 62)
    assert found["n_runs"].value == 10
    units = {name: found[name].unit for name in NUMBERS}
    assert units["bleu_best"] == units["chrf_best"] == "points" and units["source_use"] == units["ratio_spread"] == "nats"


def test_every_cell(records):
    (name, table), *more = tables(records).items()
    assert (name, more) == ("hybrid_ratio", [])
    assert list(table.header) == ["ratio", "parameters", "loss (nats)", "wrong source costs", "BLEU", "chrF++", "COMET"]
    assert [row[0] for row in table.rows] == ["none", "1:3", "1:1", "3:1", "all"]
    assert [row[1] for row in table.rows] == [101, 102, 103, 104, 105]
    for ratio, row in zip(ORDER, table.rows, strict=True):
        _, own, wrong, _, bleu, chrf, _ = RATIOS[ratio]
        for cell, values in zip(row[2:6], (own, wrong, bleu, chrf), strict=True):
            assert close(cell, sum(values) / 2, min(values), max(values)), (ratio, values)
        assert row[6].n == 0


def test_every_point(records):
    with style.style():
        (name, figure), *more = figures(records).items()
    assert (name, more) == ("hybrid_ratio", [])
    left, right = figure.axes
    costs = {"own": lambda r: 0, "shuffled": lambda r: sum(RATIOS[r][3]) / 2, "wrong": lambda r: sum(RATIOS[r][2]) / 2}
    wanted = [
        (f"{control} source", at, sum(RATIOS[ratio][1]) / 2 + costs[control](ratio))
        for control in ("own", "shuffled", "wrong")
        for at, ratio in enumerate(ORDER)
    ]
    found = plots.curves(left)
    assert [(label, x) for label, x, _ in found] == [(label, x) for label, x, _ in wanted]
    assert [y for *_, y in found] == pytest.approx([y for *_, y in wanted])
    (line,) = right.get_lines()
    assert line.get_ydata() == pytest.approx([sum(RATIOS[ratio][5]) / 2 for ratio in ORDER])
    assert (left.get_ylabel(), right.get_ylabel()) == ("test loss (nats per token)", "chrF++")
    for ax in (left, right):
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["none", "1:3", "1:1", "3:1", "all"]


def test_comet_is_printed_where_it_was_asked_for():
    rows = [
        made_up(
            "hybrid_ratio",
            {"ratio": ratio, "ablation": "none", "attention_share": RATIOS[ratio][0]},
            seed,
            "comet",
            0.1 * i + 0.01 * seed,
        )
        for i, ratio in enumerate(ORDER)
        for seed in (0, 1)
    ]
    cells = [row[6] for row in tables(asked("hybrid_ratio", [*made(), *rows]))["hybrid_ratio"].rows]
    for i, cell in enumerate(cells):
        assert close(cell, 0.1 * i + 0.005, 0.1 * i, 0.1 * i + 0.01)


def test_comet_that_was_asked_for_and_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match="names metric 'comet', which no record has.*--dropped part=comet"):
        tables(asked("hybrid_ratio", made()))


@pytest.mark.parametrize("arm", ["0", "all"])
def test_a_renamed_arm_is_an_error(arm):
    rows = [r.replace(factors=r.factors | {"ratio": "pure"}) if r.factors["ratio"] == arm else r for r in made()]
    with pytest.raises(ConfigError, match=f"names ratio '{arm}', which no record has"):
        numbers(asked("hybrid_ratio", rows, DROPPED))


def test_hybrids_are_there_unless_they_were_dropped():
    kept = [r for r in made() if r.factors["ratio"] in ("0", "all")]
    with pytest.raises(ConfigError, match="no ratio has attention and Mamba-2 layers"):
        numbers(asked("hybrid_ratio", kept, DROPPED))
    found = numbers(asked("hybrid_ratio", kept, DROPPED, *(("ratio", name) for name in ("1_3", "1_1", "3_1"))))
    missing = {name for name, estimate in found.items() if estimate.n == 0}
    assert missing == {"loss_best_hybrid", "hybrid_gain", "hybrid_gain_over_attention", "ratio_spread"}


def test_a_missing_run_is_not_averaged_away():
    kept = [r for r in made() if (r.factors["ratio"], r.seed) != ("3_1", 1)]
    with pytest.raises(
        ConfigError, match="loss where control is own, split is test: 5 of seed 0, 4 of seed 1; evaluate the missing runs"
    ):
        numbers(asked("hybrid_ratio", kept, DROPPED))
    kept = [r for r in made() if (r.factors["ratio"], r.seed, r.slice.get("control")) != ("3_1", 1, "wrong")]
    with pytest.raises(ConfigError, match=r"paired values need the same seeds, not \[0\] and \[0, 1\]"):
        tables(asked("hybrid_ratio", kept, DROPPED))


def test_the_validation_split_is_not_printed_as_the_test():
    kept = [r for r in made() if r.slice.get("split") != "test"]
    with pytest.raises(ConfigError, match="names split 'test', which no record has; there is: valid"):
        numbers(asked("hybrid_ratio", kept, DROPPED))
