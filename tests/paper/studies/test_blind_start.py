"""blind_start: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math

import pytest
from paper.made_up import asked, close, made_up, spots

from ripstop.config import ConfigError
from ripstop.paper import style
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
    "layer 0", "layer 1", "layer 2", "layer 10", "layers 0 and 2", "layers 1 and 2", "all layers", "adaptive rule", "none",
    "none, source mean added", "zebra",
]  # fmt: skip
CURVES = {
    "layer_0": ((0.8, 0.95, 0.95), (0.85, 0.95, 0.955)),
    "layer_10": ((0.1, 0.2, 0.3), (0.2, 0.3, 0.45)),
    "adaptive": ((0.5, 1.0, 1.0), (0.95, 1.0, 1.0)),
}
"""Arm -> by seed, accuracy on held-out data after 8, 16 and 20 of 20 steps; the other arms have 0.1, 0.2 and 0.2. After 10
steps nothing is to be read."""
LAYERS = {"adaptive": 3, "none": 0, "none_mean": 0}
SEEING = [name for name in ORDER if not name.startswith("none")]


def made() -> list[Record]:
    records = []
    for name, after in RECALL.items():
        for steps, seed in ((20, 1), (20, 0), (10, 1), (10, 0)):
            factors = {"positions": name, "cross_layers": LAYERS.get(name, 1), "steps": steps}
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
            curve = CURVES.get(name, ((0.1, 0.2, 0.2),) * 2)[seed] if steps == 20 else (0.91, 0.99, 0.5)
            for step, value in zip((8, 16, 20), curve, strict=True):
                records.append(made_up("blind_start", factors, seed, "held_out_accuracy", value, step=step))
            lr = (ORDER.index(name) + 1) / 100
            records.append(made_up("blind_start", factors, seed, "chosen", lr, setting="training.lr"))
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
    # seed by seed 0.55 - 0.9 and 0.65 - 0.8
    assert close(found["adaptive_minus_layer0"], -0.25, -0.35, -0.15)
    # layer 0: 2/3 of the way from (8, 0.8) to (16, 0.95), 13.333; half of that from (8, 0.85), 12
    assert close(found["steps_to_90_layer0"], (40 / 3 * 12) ** 0.5, 12, 40 / 3)
    # layer 10 never reaches it in 20 steps
    assert (found["steps_to_90_last"].value, found["steps_to_90_last"].high) == (pytest.approx(20), math.inf)
    # adaptive: 4/5 of the way from (8, 0.5) to (16, 1), 14.4; from nothing to (8, 0.95), 8 * 0.9 / 0.95
    assert close(found["steps_to_90_adaptive"], (14.4 * 7.2 / 0.95) ** 0.5, 7.2 / 0.95, 14.4)
    assert (found["layers_adaptive"].value, found["layers_adaptive"].n, found["layers_adaptive"].unit) == (3, 2, "layers")
    # layer 10 moved by 0.1 and 0.15 from step 16 on, layer 0 by 0.0025 in the mean
    assert (found["n_not_converged"].value, found["n_not_converged"].unit) == (1, "arms")
    assert (found["chance"].value, found["chance"].low) == (0.125, 0.125)
    assert found["n_runs"].value == 44
    assert close(found["control_wrong_source"], 0.0505, 0.050, 0.051)
    assert close(found["control_shuffled_source"], 0.1505, 0.150, 0.151)
    assert close(found["control_zero_source"], 0.2505, 0.250, 0.251)
    others = {"n_runs", "n_not_converged", "layers_adaptive", *(name for name in NUMBERS if name.startswith("steps_to"))}
    assert {found[name].unit for name in NUMBERS if name not in others} == {"fraction"}
    assert {found[name].unit for name in NUMBERS if name.startswith("steps_to")} == {"steps"}


def test_every_cell(records):
    found = tables(records)
    assert list(found) == ["blind_start", "blind_start_settings"]
    table = found["blind_start"]
    assert list(table.header) == ["cross-attention", "4 pairs", "8 pairs"]
    assert [row[0] for row in table.rows] == [label + " (not converged)" * (label == "layer 10") for label in LABELS]
    settings = found["blind_start_settings"]
    assert list(settings.header) == ["positions", "learning rate"]
    assert [list(row) for row in settings.rows] == [[label, n / 100] for n, label in enumerate(LABELS, 1)]
    for name, row in zip(ORDER, table.rows, strict=True):
        values = sorted(RECALL[name])
        assert close(row[1], sum(values) / 4, values[0] / 2, values[1] / 2), name
        assert close(row[2], sum(values) / 2, *values), name


def test_every_point(records):
    with style.style():
        (name, figure), *more = figures(records).items()
    assert (name, more) == ("blind_start", [])
    short, long, steps = figure.axes
    assert (short.get_title(), long.get_title()) == ("10 steps", "20 steps")
    assert long.get_xlabel() == "recall at 8 pairs"
    for ax, recall in ((short, {name: SHORT.get(name, (0.5, 0.5)) for name in ORDER}), (long, RECALL)):
        found = spots(ax)
        assert [(label, row) for label, _, row in found] == [(label, row) for row, label in enumerate(LABELS)]
        assert [x for _, x, _ in found] == pytest.approx([sum(recall[name]) / 2 for name in ORDER])
        ends = [segment[:, 0].tolist() for bars in ax.collections for segment in bars.get_segments()]
        assert sorted(map(sorted, ends)) == [pytest.approx(sorted(v)) for v in sorted(sorted(recall[name]) for name in ORDER)]
    assert (steps.get_title(), steps.get_xlabel()) == ("20 steps", "steps to 0.9 recall")
    found = spots(steps)
    assert [(label, row) for label, _, row in found] == [(label, row) for row, label in enumerate(LABELS)]
    reached = {"layer_0": (40 / 3 * 12) ** 0.5, "adaptive": (14.4 * 7.2 / 0.95) ** 0.5}
    assert [x for _, x, _ in found] == pytest.approx([reached.get(name, 20) for name in ORDER])
    # who never got there is an open marker, with an arrow to more steps
    fills = {line.get_gid(): line.get_markerfacecolor() == "white" for line in steps.get_lines() if line.get_gid()}
    assert {label for label, is_open in fills.items() if not is_open} == {"layer 0", "adaptive rule"}
    assert [text.get_position() for text in steps.texts] == [(12, 0)] * 9
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
    labels = [row[0].removesuffix(" (not converged)") for row in tables(dropped)["blind_start"].rows]
    assert labels == [name for name in LABELS if "layers " not in name]


def test_a_dropped_layer_0_is_not_measured():
    kept = [r for r in made() if r.factors["positions"] != "layer_0"]
    found = numbers(asked("blind_start", kept, ("positions", "layer_0")))
    missing = {name for name, estimate in found.items() if estimate.n == 0}
    assert missing == {"recall_layer0", "steps_to_90_layer0", "layer0_minus_other", "adaptive_minus_layer0"}
    assert found["adaptive_minus_layer0"].unit == "fraction"


def test_a_dropped_adaptive_rule_is_not_measured():
    kept = [r for r in made() if r.factors["positions"] != "adaptive"]
    found = numbers(asked("blind_start", kept, ("positions", "adaptive")))
    missing = {name for name, estimate in found.items() if estimate.n == 0}
    assert missing == {"recall_adaptive", "adaptive_minus_layer0", "steps_to_90_adaptive", "layers_adaptive"}


def test_a_dropped_learning_curve_marks_and_tells_nothing():
    kept = [r for r in made() if r.part != "learning_curve"]
    records = asked("blind_start", kept, ("part", "learning_curve"))
    missing = {name for name, estimate in numbers(records).items() if estimate.n == 0}
    assert missing == {"n_not_converged", "steps_to_90_layer0", "steps_to_90_last", "steps_to_90_adaptive"}
    found = tables(records)
    assert list(found) == ["blind_start", "blind_start_settings"] and [row[0] for row in found["blind_start"].rows] == LABELS
    with style.style():
        last = figures(records)["blind_start"].axes[-1]
    assert spots(last) == [] and {text.get_text() for text in last.texts} == {"not measured"}
