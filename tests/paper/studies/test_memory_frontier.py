"""memory_frontier: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math

import pytest
from paper.made_up import asked, close, made_up, spots

from ripstop.config import ConfigError
from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.memory_frontier import LABELS, NUMBERS, figures, numbers, tables
from ripstop.records import Record

PAIRS = (2, 8, 32, 128)
"""Mixers are compared at 8."""
RECALL: dict[str, dict[int, tuple[float, float]]] = {
    "attention": {4: (0.5, 0.6), 8: (0.98, 1.0)},
    "mla": {4: (0.5, 0.5), 8: (1.0, 1.0)},
    "sliding_window": {16: (0.92, 0.94), 32: (0.95, 0.97)},
    "nsa": {4: (0.3, 0.3), 8: (0.95, 0.95)},
    "mamba2": {8: (0.1, 0.3), 16: (0.5, 0.5), 32: (0.7, 0.9), 64: (1.0, 1.0)},
    "mamba3": {16: (0.2, 0.2), 32: (0.4, 0.6)},
    "gated_delta": {8: (0.4, 0.4), 16: (0.8, 0.9), 32: (1.0, 0.98)},
    "kda": {8: (0.9, 0.8), 16: (1.0, 1.0)},
}
"""mixer -> size -> recall of 8 pairs, by seed."""
HELD = {
    "attention": 1000,
    "mla": 500,
    "sliding_window": 200,
    "nsa": 2000,
    "mamba2": 128,
    "mamba3": 128,
    "gated_delta": 128,
    "kda": 120,
}
"""Bytes by unit of size. Mixers read as much, but latent and sparse attention and the window a tenth."""


def read(name: str, size: int) -> int:
    return HELD[name] * size // (10 if name in ("mla", "sliding_window", "nsa") else 1)


def made() -> list[Record]:
    records = []
    for rank, (name, sizes) in enumerate(RECALL.items()):
        for size, by_seed in sizes.items():
            factors = {"mixer": name, "memory_size": size, "arm": f"{name}-{size}"}
            for seed, recall in reversed(list(enumerate(by_seed))):

                def add(metric: str, value: float, seed: int = seed, factors: dict = factors, **slice_: float | str) -> None:
                    records.append(made_up("memory_frontier", factors, seed, metric, value, **slice_))

                for n in PAIRS:
                    own = recall if n == 8 else 1.0 if n == 2 else 0.1
                    add("accuracy", own, num_pairs=n, control="own")
                    add("accuracy", 0.05 + seed / 100 if n == 2 else 0.9, num_pairs=n, control="wrong")
                add("chance", 0.02)
                for metric, value in (("state_bytes", HELD[name] * size), ("bytes_read", read(name, size))):
                    for n in PAIRS:
                        place = {"num_pairs": n, "context": 3 * n + 2}
                        add(metric, value * n / 8, **place)
                        gap = 3 * (name == "kda" and metric == "bytes_read" and n == 32)
                        add(f"{metric}_formula", value * n / 8 + gap, **place)
                add("parameters", 10_000 - 10 * rank)
                for part, value in ((0.5, 0.1), (0.8, 0.2), (1, 0.2 + 0.05 * (name == "mamba2"))):
                    add("held_out_accuracy", value, step=int(part * 100))
                add("chosen", 0.01 * (1 + rank % 2), setting="training.lr")
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("memory_frontier", made())


def between(small: float, before: float, after: float) -> float:
    """Bytes at 0.9 recall between a size and its double."""
    return small * 2 ** ((0.9 - before) / (after - before))


def test_every_number(records: StudyRecords) -> None:
    found = numbers(records)
    assert list(found) == list(NUMBERS)
    for name, sizes in RECALL.items():
        first, second = sizes[max(sizes)]
        assert close(found[f"recall_{name}"], (first + second) / 2, min(first, second), max(first, second))
    delta = between(16 * 128, 0.8, 1.0), 16 * 128
    mamba2 = between(32 * 128, 0.7, 1.0), 32 * 128
    assert close(found["bytes_gated_delta"], math.sqrt(math.prod(delta)), delta[1], delta[0], rel=1e-6)
    assert close(found["bytes_mamba2"], math.sqrt(math.prod(mamba2)), mamba2[1], mamba2[0], rel=1e-6)
    ratios = [own / other for own, other in zip(delta, mamba2, strict=True)]
    wanted = math.sqrt(math.prod(ratios))
    assert close(found["delta_over_mamba2"], wanted, min(ratios), max(ratios), rel=1e-6)
    # the window has 0.9 at its smallest size, Mamba-3 not at its largest, KDA with the first seed at its smallest
    window, mamba3, kda = (found[f"bytes_{name}"] for name in ("sliding_window", "mamba3", "kda"))
    assert (window.value, window.low) == (pytest.approx(16 * 200), -math.inf)
    assert (mamba3.value, mamba3.high) == (pytest.approx(32 * 128), math.inf)
    assert kda.low == -math.inf and kda.high == pytest.approx(between(8 * 120, 0.8, 1.0))
    assert found["window_over_delta"].low == found["kda_over_delta"].low == -math.inf
    assert found["mamba3_over_mamba2"].high == math.inf
    attention = between(4000, 0.5, 0.98), between(4000, 0.6, 1.0)
    latent = between(2000, 0.5, 1.0)
    ends = sorted(latent / own for own in attention)
    assert close(found["latent_over_attention"], latent / math.sqrt(math.prod(attention)), *ends, rel=1e-6)
    ends = sorted(latent / 10 / own for own in attention)
    assert close(found["latent_reads_over_attention"], latent / 10 / math.sqrt(math.prod(attention)), *ends, rel=1e-6)
    sparse = between(800, 0.3, 0.95)
    ends = sorted(sparse / own for own in attention)
    assert close(found["sparse_reads_over_attention"], sparse / math.sqrt(math.prod(attention)), *ends, rel=1e-6)
    # by bytes held: KDA 960 (0.85) and 1920 (1); read: latents 200 (0.5), the window 320 (0.93), latents 400 (1)
    families = ("", "_delta_rule", "_other_states", "_caches")
    assert [found[f"efficient{family}"].value for family in families] == [2, 2, 0, 0]
    assert [found[f"efficient_read{family}"].value for family in families] == [3, 0, 0, 3]
    # sizes 8, 16, 32: of seed 0 0.3, 0.3, 0.3, of seed 1 0.1, 0.4, 0.08
    assert close(found["delta_minus_mamba2"], (0.9 / 3 + 0.58 / 3) / 2, 0.58 / 3, 0.3)
    assert close(found["delta_minus_mamba2_least"], 0.19, 0.08, 0.3)
    # the least of all: Gated DeltaNet from 16 to 32, by 0.2 and 0.08
    assert close(found["least_rise_constant"], 0.14, 0.08, 0.2)
    assert found["recall_attention_worst_seed"].value == 0.98
    assert close(found["control_wrong"], 0.055, 0.05, 0.06)
    assert found["formula_gap"].value == 3
    assert found["parameter_spread"].value == pytest.approx(0.007)
    assert found["n_not_converged"].value == 4
    named = {name: found[name].value for name in ("pairs_asked", "pairs_most", "row_tokens", "chance", "n_runs")}
    assert named == {"pairs_asked": 8, "pairs_most": 128, "row_tokens": 26, "chance": 0.02, "n_runs": 38}


def test_every_cell(records: StudyRecords) -> None:
    found = tables(records)
    table = found["memory_frontier"]
    assert list(table.header) == [
        "mixer, size", "held", "read", "parameters", "8 pairs", "32 pairs", "128 pairs", "capacity (pairs)",
    ]  # fmt: skip
    places = [(rank, name, size) for rank, name in enumerate(LABELS) for size in RECALL[name]]
    for (rank, name, size), row in zip(places, table.rows, strict=True):
        learning = " (not converged)" if name == "mamba2" else ""
        label = f"{LABELS[name]}, {size}{learning}"
        assert row[:4] == [label, HELD[name] * size, read(name, size), 10_000 - 10 * rank]
        first, second = RECALL[name][size]
        assert close(row[4].estimate, (first + second) / 2, min(first, second), max(first, second))
        assert row[4].mark == {("kda", 8): "*", ("kda", 16): "*", ("mla", 4): "†", ("mla", 8): "†",
                               ("sliding_window", 16): "†"}.get((name, size), "")  # fmt: skip
        assert close(row[5], 0.1, 0.1, 0.1) and close(row[6], 0.1, 0.1, 0.1) and row[7].unit == "pairs"
    chosen = found["memory_frontier_settings"]
    assert [list(row) for row in chosen.rows] == [[label, 0.01 * (1 + rank % 2)] for rank, label in enumerate(LABELS.values())]


def test_every_point(records: StudyRecords) -> None:
    with style.style():
        (name, figure), *more = figures(records).items()
    assert (name, more) == ("memory_frontier", [])
    left, right = figure.axes
    for ax, counted in ((left, lambda name, size: HELD[name] * size), (right, read)):
        wanted = [(counted(name, size), sum(RECALL[name][size]) / 2) for name in LABELS for size in RECALL[name]]
        assert [point for _, *point in spots(ax)] == [pytest.approx(list(point)) for point in wanted]
    assert [label for label, *_ in spots(left)] == [LABELS[name] for name in LABELS for _ in RECALL[name]]
    stairs = [next(line for line in ax.get_lines() if not line.get_gid() and len(line.get_xdata()) > 1) for ax in (left, right)]
    assert stairs[0].get_xydata()[:-1].tolist() == [[960, pytest.approx(0.85)], [1920, 1.0]]
    assert stairs[1].get_xydata()[:-1, 0].tolist() == [200, 320, 400]
    assert left.get_ylabel() == "recall of 8 pairs"


@pytest.mark.parametrize("name", list(LABELS))
def test_a_dropped_mixer_is_not_measured_and_a_renamed_one_is_an_error(name: str) -> None:
    kept = [record for record in made() if record.factors["mixer"] != name]
    records = asked("memory_frontier", kept, ("mixer", name))
    missing = {number for number, estimate in numbers(records).items() if estimate.n == 0}
    own = {f"recall_{name}", f"bytes_{name}"}
    assert own <= missing
    assert ("delta_over_mamba2" in missing) == (name in ("gated_delta", "mamba2")) == ("delta_minus_mamba2" in missing)
    assert ("recall_attention_worst_seed" in missing) == (name == "attention")
    with style.style():
        assert figures(records)
    assert all(LABELS[name] not in str(row[0]).split(",") for row in tables(records)["memory_frontier"].rows)
    with pytest.raises(ConfigError, match=f"names mixer '{name}', which no record has"):
        numbers(asked("memory_frontier", kept))


def test_runs_of_one_mixer_with_other_seeds_are_an_error() -> None:
    kept = [r for r in made() if (r.factors["arm"], r.seed) != ("mamba2-16", 1)]
    with pytest.raises(ConfigError, match=r"paired values need the same seeds"):
        numbers(asked("memory_frontier", kept))
