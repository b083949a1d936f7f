"""mqar_cliff: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math

import pytest
from paper.made_up import asked, close, made_up, spots

from ripstop.config import ConfigError
from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.mqar_cliff import NUMBERS, figures, numbers, tables
from ripstop.records import Record

CHANCE = 0.2
PAIRS = (4, 16, 64)
ARMS = {
    "mamba2": 0,
    "mamba3": 7,
    "gated_delta": 8,
    "kda": 9,
    "attention": 1,
    "attention_conv": 2,
    "sliding_window": 3,
    "mamba2_attention": 4,
    "attention_mamba2": 5,
    "zebra": 6,
}
LABELS = [
    "Mamba-2", "Mamba-3, complex state", "Gated DeltaNet", "Kimi Delta Attention", "attention", "attention + short conv.",
    "sliding window", "Mamba-2, then attention", "attention, then Mamba-2", "zebra",
]  # fmt: skip
CAPACITY = (8, 32)
"""Of mamba2, by seed; its d_state is 8. The other arms' own recall is 0.arm + 0.0pair + 0.00seed, zebra's 0.05 more."""


LATE = {"attention": (0.30, 0.60), "zebra": (-0.02, -0.04)}
"""Arm -> how far its held-out accuracy moved over the last fifth, by seed; the others moved by 0.001 and 0.003."""


def own(name: str, seed: int, pair: int) -> float:
    if name == "mamba2":
        return CHANCE + (1 - CHANCE) / (1 + PAIRS[pair] / CAPACITY[seed])
    return ARMS[name] / 10 + pair / 100 + seed / 1000 + (0.05 if name == "zebra" else 0)


def control(name: str, seed: int, pair: int, level: float) -> float:
    """At the fewest pairs `level` + 0.0arm + 0.00seed; elsewhere a value that must not be used."""
    return level + ARMS[name] / 100 + seed / 1000 if pair == 0 else 0.99


def made() -> list[Record]:
    records = []
    for name, arm in ARMS.items():
        for seed in (1, 0):
            factors = {"architecture": name} | ({"d_state": 8 if name == "mamba2" else 50} if "mamba2" in name else {})

            def add(metric: str, value: float, factors: dict = factors, seed: int = seed, **slice_: object) -> None:
                records.append(made_up("mqar_cliff", factors, seed, metric, value, **slice_))

            for pair, n in enumerate(PAIRS):
                add("accuracy", own(name, seed, pair), num_pairs=n, control="own")
                for other, level in (("wrong", 0.0), ("shuffled", 0.1), ("zero", 0.2)):
                    add("accuracy", control(name, seed, pair, level), num_pairs=n, control=other)
            add("chance", CHANCE)
            add("state_bytes", 1000 + arm, seq_len=100)
            add("state_bytes_formula", 7, seq_len=100)
            gain = LATE.get(name, (0.001, 0.003))[seed]
            for step, value in ((10, 0.0), (40, 0.3), (50, 0.3 + gain)):
                add("held_out_accuracy", value, step=step)
            add("chosen", (arm + 1) / 100, setting="training.lr")
            add("chosen", 0.1 if arm % 2 else 0.3, setting="model.embedding_std")
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("mqar_cliff", made())


def test_every_number(records):
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    # 0.2 + 0.8 / (1 + 64 / 8), and 0.2 + 0.8 / (1 + 64 / 32)
    low, high = 0.2 + 0.8 / 9, 0.2 + 0.8 / 3
    assert close(found["recall_mamba2_max_pairs"], (low + high) / 2, low, high)
    assert close(found["recall_attention_max_pairs"], 0.1205, 0.120, 0.121)
    assert close(found["recall_attention_conv_max_pairs"], 0.2205, 0.220, 0.221)
    assert close(found["recall_sliding_window_max_pairs"], 0.3205, 0.320, 0.321)
    assert close(found["recall_hybrid_max_pairs"], 0.4205, 0.420, 0.421)
    assert close(found["recall_hybrid_reversed_max_pairs"], 0.5205, 0.520, 0.521)
    assert close(found["capacity_mamba2"], 16, 8, 32, rel=1e-3)
    assert close(found["cliff_ratio_mamba2"], 2, 1, 4, rel=1e-3)
    # seed by seed: 0.420 - low and 0.421 - high
    assert close(found["hybrid_gain"], (0.420 - low + 0.421 - high) / 2, 0.421 - high, 0.420 - low)
    # over the pairs 0.71 + 0.00seed, minus Mamba-2's mean
    mamba2 = [sum(own("mamba2", seed, pair) for pair in range(3)) / 3 for seed in (0, 1)]
    for arm, name in ((7, "mamba3"), (8, "gated_delta"), (9, "kda")):
        gains = [arm / 10 + 0.01 + seed / 1000 - mamba2[seed] for seed in (0, 1)]
        assert close(found[f"{name}_gain"], sum(gains) / 2, min(gains), max(gains))
        assert close(found[f"recall_{name}_max_pairs"], arm / 10 + 0.0205, arm / 10 + 0.020, arm / 10 + 0.021)
    # arms 0 to 9 average to 4.5
    assert close(found["control_wrong"], 0.0455, 0.045, 0.046)
    assert close(found["control_shuffled"], 0.1455, 0.145, 0.146)
    assert close(found["control_zero"], 0.2455, 0.245, 0.246)
    # the worst of 0.120 and 0.121; attention and zebra still move by 0.01 or more
    assert (found["recall_attention_worst_seed"].value, found["recall_attention_worst_seed"].n) == (pytest.approx(0.120), 2)
    assert found["recall_attention_worst_seed"].low == found["recall_attention_worst_seed"].high == pytest.approx(0.120)
    assert (found["n_not_converged"].value, found["n_not_converged"].n, found["n_not_converged"].unit) == (2, 2, "arms")
    assert (found["chance"].value, found["chance"].low, found["chance"].high) == (0.2, 0.2, 0.2)
    assert (found["n_runs"].value, found["n_runs"].unit) == (20, "runs")
    assert found["capacity_mamba2"].unit == "pairs" and found["cliff_ratio_mamba2"].unit == ""
    assert {
        found[name].unit for name in NUMBERS if name.startswith(("recall", "control", "hybrid", "mamba3", "gated", "kda"))
    } == {"fraction"}


def test_every_cell(records):
    found = tables(records)
    assert list(found) == ["mqar_cliff", "mqar_cliff_settings"]
    table = found["mqar_cliff"]
    assert "Not converged" in " ".join(table.notes)
    assert list(table.header) == ["architecture", "4 pairs", "16 pairs", "64 pairs", "capacity (pairs)", "state (bytes)"]
    order = list(ARMS)
    marked = [*LABELS]
    marked[4], marked[9] = "attention (not converged)", "zebra (not converged)"
    assert [row[0] for row in table.rows] == marked
    for name, row in zip(order, table.rows, strict=True):
        for pair, cell in enumerate(row[1:4]):
            values = sorted(own(name, seed, pair) for seed in (0, 1))
            assert close(cell, sum(values) / 2, *values), (name, pair)
        assert row[5] == 1000 + ARMS[name]
    capacities = {name: row[4] for name, row in zip(order, table.rows, strict=True)}
    assert close(capacities["mamba2"], 16, 8, 32, rel=1e-3)
    # half way is 0.6: arms 1 to 5 stay below it, zebra (0.65 to 0.671) and those after it above
    for name, arm in ARMS.items():
        if 1 <= arm <= 5:
            assert (capacities[name].value, capacities[name].low) == (4, -math.inf), name
        elif arm >= 6:
            assert capacities[name].value == 64 and capacities[name].high == math.inf, name


def test_every_setting_that_was_chosen(records):
    table = tables(records)["mqar_cliff_settings"]
    assert list(table.header) == ["architecture", "embedding std", "learning rate"]
    wanted = [[label, 0.1 if arm % 2 else 0.3, (arm + 1) / 100] for label, arm in zip(LABELS, ARMS.values(), strict=True)]
    assert [list(row) for row in table.rows] == wanted


def test_every_point(records):
    with style.style():
        (name, figure), *more = figures(records).items()
    assert (name, more) == ("mqar_cliff", [])
    (ax,) = figure.axes
    labels = [row[0] for row in tables(records)["mqar_cliff"].rows]
    wanted = [
        (label, n, (own(name, 0, pair) + own(name, 1, pair)) / 2)
        for label, name in zip(labels, ARMS, strict=True)
        for pair, n in enumerate(PAIRS)
    ]
    found = spots(ax)
    assert [(label, x) for label, x, _ in found] == [(label, x) for label, x, _ in wanted]
    assert [y for *_, y in found] == pytest.approx([y for *_, y in wanted])
    for band, name in zip(ax.collections, ARMS, strict=True):
        corners = {(round(x), round(y, 9)) for path in band.get_paths() for x, y in path.vertices}
        assert {(n, round(own(name, seed, i), 9)) for i, n in enumerate(PAIRS) for seed in (0, 1)} <= corners
    (chance,) = [line for line in ax.get_lines() if not line.get_gid()]
    assert list(chance.get_ydata()) == [0.2, 0.2]
    looks = [(line.get_color(), line.get_marker()) for line in ax.get_lines() if line.get_gid()]
    assert len(set(looks)) == 10


CLOSE = {"mamba2": "mamba3", "mamba3": "mamba2"}
"""Arm -> what its name is nearest to, where that is another arm."""


@pytest.mark.parametrize("arm", [name for name in ARMS if name != "zebra"])
def test_a_renamed_arm_is_an_error(arm):
    rows = [r.replace(factors=r.factors | {"architecture": f"{r.factors['architecture']}_new"})
            if r.factors["architecture"] == arm else r for r in made()]  # fmt: skip
    with pytest.raises(
        ConfigError, match=f"names architecture '{arm}', which no record has; did you mean '{CLOSE.get(arm, f'.*{arm}.*')}'"
    ):
        numbers(asked("mqar_cliff", rows))


def test_a_dropped_arm_and_part_are_not_measured():
    kept = [r for r in made() if r.factors["architecture"] not in ("attention", "mamba2") and r.metric != "state_bytes"]
    dropped = [("architecture", "attention"), ("architecture", "mamba2"), ("part", "state_size")]
    records = asked("mqar_cliff", kept, *dropped)
    found = numbers(records)
    missing = {name for name, estimate in found.items() if estimate.n == 0}
    gone = {"recall_mamba2_max_pairs", "recall_attention_max_pairs", "capacity_mamba2", "cliff_ratio_mamba2", "hybrid_gain"}
    gone |= {f"{name}_gain" for name in ("mamba3", "gated_delta", "kda")}
    assert missing == gone | {"recall_attention_worst_seed"}
    assert found["n_not_converged"].value == 1
    table = tables(records)["mqar_cliff"]
    assert [row[-1] for row in table.rows] == [None] * 8
    with style.style():
        assert len({label for label, *_ in spots(figures(records)["mqar_cliff"].axes[0])}) == 8


def test_a_dropped_learning_curve_marks_and_tells_nothing():
    kept = [r for r in made() if r.part != "learning_curve"]
    records = asked("mqar_cliff", kept, ("part", "learning_curve"))
    assert {name for name, estimate in numbers(records).items() if estimate.n == 0} == {"n_not_converged"}
    found = tables(records)
    assert list(found) == ["mqar_cliff", "mqar_cliff_settings"] and [row[0] for row in found["mqar_cliff"].rows] == LABELS
    with pytest.raises(ConfigError, match="names metric 'held_out_accuracy', which no record has.*part=learning_curve"):
        numbers(asked("mqar_cliff", kept))


def test_a_missing_measure_is_an_error():
    kept = [r for r in made() if r.metric != "state_bytes"]
    with pytest.raises(
        ConfigError, match="'state_bytes', which no record has; did you mean 'state_bytes_formula'.*part=state_s"
    ):
        tables(asked("mqar_cliff", kept))
    with pytest.raises(ConfigError, match="names control 'zero', which no record has"):
        numbers(asked("mqar_cliff", [r for r in made() if r.slice.get("control") != "zero"]))
    without_seed = [r for r in made() if (r.factors["architecture"], r.seed) != ("mamba2", 1)]
    with pytest.raises(ConfigError, match=r"paired values need the same seeds, not \[0, 1\] and \[0\]"):
        numbers(asked("mqar_cliff", without_seed))
