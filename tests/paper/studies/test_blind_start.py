"""blind_start: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import pytest
from paper.made_up import asked, close, made_up

from ripstop.config import ConfigError
from ripstop.paper import plots, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.blind_start import NUMBERS, figures, numbers, tables
from ripstop.records import Record

CHANCE = 0.125
RECALL = {
    "zebra": (0.33, 0.35),
    "none": (0.02, 0.04),
    "none_mean": (0.12, 0.16),
    "adaptive": (0.55, 0.65),
    "all": (0.99, 0.97),
    "layers_1_2": (0.75, 0.65),
    "layers_0_2": (0.7, 0.6),
    "layer_10": (0.1, 0.4),
    "layer_2": (0.3, 0.2),
    "layer_1": (1.0, 0.9),
    "layer_0": (0.9, 0.8),
}
"""Arm -> own recall at 8 pairs after 20 steps, by seed; at 4 pairs half of it."""
SHORT = {"layer_0": (0.2, 0.3), "layer_1": (0.6, 0.5), "layer_2": (0.1, 0.1), "layer_10": (0.2, 0.3)}
"""After 10 steps; the other arms have 0.5."""
ORDER = [
    "layer_0",
    "layer_1",
    "layer_2",
    "layer_10",
    "layers_0_2",
    "layers_1_2",
    "all",
    "adaptive",
    "none",
    "none_mean",
    "zebra",
]
LABELS = [
    "layer 0", "layer 1", "layer 2", "layer 10", "layers 0 2", "layers 1 2", "all layers", "adaptive rule", "none",
    "none, source mean added", "zebra",
]  # fmt: skip
SEEING = [name for name in ORDER if not name.startswith("none")]


def made() -> list[Record]:
    records = []
    for name, after in RECALL.items():
        for steps, seed in ((20, 1), (20, 0), (10, 1), (10, 0)):
            factors = {"positions": name, "steps": steps}
            own = after[seed] if steps == 20 else SHORT.get(name, (0.5, 0.5))[seed]
            for n in (8, 4):
                values = {"own": own if n == 8 else own / 2}
                for control, level in (("wrong", 0.0), ("shuffled", 0.1), ("zero", 0.2)):
                    used = (n, steps) == (4, 20) and name in SEEING
                    # seeing arms 1 to 9 average to 5
                    values[control] = level + (SEEING.index(name) + 1) / 100 + seed / 1000 if used else 0.95
                for control, value in values.items():
                    records.append(made_up("blind_start", factors, seed, "accuracy", value, num_pairs=n, control=control))
            records.append(made_up("blind_start", factors, seed, "chance", CHANCE))
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("blind_start", made())


def test_every_number(records):
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    assert close(found["recall_layer0"], 0.85, 0.8, 0.9)
    assert close(found["recall_last"], 0.25, 0.1, 0.4)  # layer 10 comes after layer 2
    assert close(found["recall_best_single"], 0.95, 0.9, 1.0)
    assert close(found["recall_best_pair"], 0.7, 0.65, 0.75)
    assert close(found["recall_adaptive"], 0.6, 0.55, 0.65)
    assert close(found["recall_none"], 0.03, 0.02, 0.04)
    assert close(found["recall_none_mean"], 0.14, 0.12, 0.16)
    # the others' means are 1.4 / 3 and 1.5 / 3
    assert close(found["layer0_minus_other"], (0.9 - 1.4 / 3 + 0.3) / 2, 0.3, 0.9 - 1.4 / 3)
    # and 0.3 for both seeds after the shortest training
    assert close(found["layer0_minus_other_short"], -0.05, -0.1, 0.0)
    assert (found["chance"].value, found["chance"].low) == (0.125, 0.125)
    assert found["n_runs"].value == 44
    assert close(found["control_wrong_source"], 0.0505, 0.050, 0.051)
    assert close(found["control_shuffled_source"], 0.1505, 0.150, 0.151)
    assert close(found["control_zero_source"], 0.2505, 0.250, 0.251)
    assert {found[name].unit for name in NUMBERS if name != "n_runs"} == {"fraction"}


def test_every_cell(records):
    (name, table), *more = tables(records).items()
    assert (name, more) == ("blind_start", [])
    assert list(table.header) == ["cross-attention", "4 pairs", "8 pairs"]
    assert [row[0] for row in table.rows] == LABELS
    for name, row in zip(ORDER, table.rows, strict=True):
        values = sorted(RECALL[name])
        assert close(row[1], sum(values) / 4, values[0] / 2, values[1] / 2), name
        assert close(row[2], sum(values) / 2, *values), name


def test_every_point(records):
    with style.style():
        (name, figure), *more = figures(records).items()
    assert (name, more) == ("blind_start", [])
    short, long = figure.axes
    assert (short.get_title(), long.get_title()) == ("10 steps", "20 steps")
    assert long.get_xlabel() == "recall at 8 pairs"
    for ax, recall in ((short, {name: SHORT.get(name, (0.5, 0.5)) for name in ORDER}), (long, RECALL)):
        found = plots.curves(ax)
        assert [(label, row) for label, _, row in found] == [(label, row) for row, label in enumerate(LABELS)]
        assert [x for _, x, _ in found] == pytest.approx([sum(recall[name]) / 2 for name in ORDER])
        ends = [segment[:, 0].tolist() for bars in ax.collections for segment in bars.get_segments()]
        assert sorted(map(sorted, ends)) == [pytest.approx(sorted(v)) for v in sorted(sorted(recall[name]) for name in ORDER)]
    (chance,) = [line for line in long.get_lines() if not line.get_gid() and line.get_linestyle() != "None"]
    assert list(chance.get_xdata()) == [0.125, 0.125]


@pytest.mark.parametrize("arm", ["layer_0", "adaptive", "none", "none_mean"])
def test_a_renamed_arm_is_an_error(arm):
    renamed = f"late_{arm}"
    rows = [r.replace(factors=r.factors | {"positions": renamed}) if r.factors["positions"] == arm else r
            for r in made()]  # fmt: skip
    with pytest.raises(ConfigError, match=f"names positions '{arm}', which no record has; did you mean"):
        numbers(asked("blind_start", rows))


def test_a_family_that_is_gone_is_an_error_unless_it_was_dropped():
    kept = [r for r in made() if not str(r.factors["positions"]).startswith("layers_")]
    with pytest.raises(ConfigError, match="names positions 'layers_...', which no record has"):
        numbers(asked("blind_start", kept))
    dropped = asked("blind_start", kept, ("positions", "layers_0_2"), ("positions", "layers_1_2"))
    assert numbers(dropped)["recall_best_pair"].n == 0
    assert [row[0] for row in tables(dropped)["blind_start"].rows] == [name for name in LABELS if "layers " not in name]


def test_a_dropped_layer_0_is_not_measured():
    kept = [r for r in made() if r.factors["positions"] != "layer_0"]
    found = numbers(asked("blind_start", kept, ("positions", "layer_0")))
    missing = {name for name, estimate in found.items() if estimate.n == 0}
    assert missing == {"recall_layer0", "layer0_minus_other", "layer0_minus_other_short"}
