"""swa_mla: every number, cell and point from records worked out by hand, and every claim on records that bear and break it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from paper.made_up import asked, close, made_up, spots

from ripstop.claims import registry
from ripstop.claims.verdicts import judge, verdicts
from ripstop.config import ConfigError
from ripstop.paper import language_models as lm
from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.swa_mla import NUMBERS, figures, numbers, tables
from ripstop.records import Record

CLAIMS = Path(__file__).parents[3] / "paper" / "claims.yaml"
POSITIONS = (0, 16, 32, 64)
BEARS: dict[Any, float] = {
    "sliding_window": 0.05, "mla": 0.005, "attention": -0.01, "mamba2_attention": -0.02,
    ("window", 16): 0.015, ("window", 64): -0.004, ("sink", 0): 0.01, ("sink", 1): 0.001,
    ("cycle", "SL"): -0.002, ("cycle", "SSSSSL"): 0.006, ("rank", 16): 0.003, ("isolation", "off"): 0.005,
    "dropped": 0.04, "within": 0.0, "ngram": 2.45, "parameters": 1.0, "attention_state": 40000, "lowest": 0, "highest": 1,
}  # fmt: skip
"""Bits per byte above those of the base, of all text; past the window twice as much. And what else the claims ask."""
BREAKS = {name: 0.1 for name in BEARS} | {
    "sliding_window": -0.2, "attention": -0.1, "mla": 0.0, ("window", 64): -0.1, ("cycle", "SL"): -0.1, ("sink", 0): 0.0,
    "dropped": 0.0, "within": 0.01, "ngram": 1.0, "parameters": 1.1, "attention_state": 11000, "lowest": 1, "highest": 0,
}  # fmt: skip
CURVES = {"adamw": (5.0, 4.0, 3.5), "lion": (4.5, 3.6, 3.4), "muon": (4.0, 3.25, 3.0)}
SLOW = CURVES | {"lion": (5.5, 4.5, 4.0), "muon": (5.5, 4.5, 3.9)}
"""Held-out losses after 10, 20 and 30 steps, 0.1 higher with seed 1."""


def arms() -> Iterator[tuple[dict[str, Any], Any]]:
    yield {"sweep": "architecture", "architecture": "swa_mla"} | OWN, None
    for name in ("sliding_window", "mla", "attention", "mamba2_attention"):
        yield {"sweep": "architecture", "architecture": name}, name
    for key in BEARS:
        if isinstance(key, tuple):
            share = {"latent_share": {"SL": 0.5, "SSSSSL": 1 / 6}[key[1]]} if key[0] == "cycle" else {}
            yield {"sweep": key[0], key[0]: key[1]} | share, key


OWN = {"window": 32, "sink": 4, "cycle": "SSL", "rank": 32, "isolation": "on", "latent_share": 1 / 3}
DERIVED = (*OWN,)


def made(world: Mapping[Any, float] = BEARS, curves: Mapping[str, tuple[float, ...]] = CURVES) -> list[Record]:
    records: list[Record] = []
    for seed in (1, 0):

        def add(factors: dict[str, Any], metric: str, value: float, seed: int = seed, **slice_: Any) -> None:
            records.append(made_up("swa_mla", factors, seed, metric, value, **slice_))

        for factors, key in arms():
            more = 0.0 if key is None else world[key]
            at: dict[str, Any] = {"split": "test"}
            add(factors, "bits_per_byte", 2.0 + more + seed / 100, **at)
            add(factors, "bits_per_byte_past", 1.8 + 2 * more + seed / 100, **at, position=64)
            add(factors, "parameters", 1000 * (world["parameters"] if key == "mla" else 1))
            for n, position in enumerate(POSITIONS):
                add(factors, "bits_per_byte_at", 2.5 - n / 10 + more, **at, position=position)
            if key is None:
                add(factors, "bits_per_byte_without_sinks_past", 1.8 + world["dropped"] + seed / 100, **at, position=64)
                for n, position in enumerate(POSITIONS):
                    moved = world["within"] if position < 32 else 0.3
                    add(factors, "bits_per_byte_without_sinks_at", 2.5 - n / 10 + moved, **at, position=position)
            if seed == 0 and factors["sweep"] not in ("sink", "isolation"):
                add(factors, "state_bytes", world["attention_state"] if key == "attention" else 10240, seq_len=2048)
            if seed == 0 and key is None:
                texts = {"prompt": "He said & went", "continuation": "on.", "reference": "away."}
                for number in (1, 0):
                    add(factors, "sample_bits_per_token", 2.5 + number, sample=number, **texts)
        for name, losses in curves.items():
            factors = {"sweep": "optimizers", "optimizer": name}
            for step, loss in zip((10, 20, 30), losses, strict=True):
                add(factors, "held_out_loss", loss + seed / 10, step=step)
            add(factors, "chosen", {"lion": 0.001}.get(name, 0.004), setting="training.lr")
        for sink in (0, 4):
            for lr in (0.01, 0.1):
                lost = int(world["lowest"] if lr == 0.01 else world["highest"] if sink == 0 else not world["highest"])
                where = {"sweep": "stability", "sink": sink, "lr": lr}
                # of seed 0 the loss is not finite, so that nothing else is measured
                add(where, "diverged", lost * (seed == 0))
                if not (lost and seed == 0):
                    add(where, "unstable", lost, lost=0.5)
    for split, values in (("valid", (3.0, 2.4, 2.5)), ("test", (3.1, world["ngram"], 0.5))):
        for order, value in enumerate(values, 1):
            records.append(made_up("swa_mla", {"sweep": "baseline"}, 0, "ngram_bits_per_byte", value, split=split, order=order))
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("swa_mla", made())


def test_every_number(records: StudyRecords) -> None:
    found = numbers(records)
    assert list(found) == sorted(found, key=NUMBERS.index) and set(found) == set(NUMBERS)
    for name, more in (("swa_mla", 0.0), *((name, BEARS[name]) for name in list(lm.LABELS)[1:])):
        assert close(found[f"bits_{name}"], 2.005 + more, 2.0 + more, 2.01 + more), name
        assert close(found[f"past_{name}"], 1.805 + 2 * more, 1.8 + 2 * more, 1.81 + 2 * more), name
    # the order is chosen on other text, on which the second is the best; the third would be on this
    assert (found["ngram_order"].value, found["bits_ngram"].value) == (2, 2.45)
    assert found["worst_seed_minus_ngram"].value == pytest.approx(2.01 - 2.45) and found["worst_seed_minus_ngram"].n == 2
    ahead = 2.005 + BEARS["attention"] - 2.45
    assert close(found["attention_minus_ngram"], ahead, ahead - 0.005, ahead + 0.005)
    exact = {
        "parameter_spread": 0.0, "past_position": 64, "state_context": 2048, "window": 32, "rank": 32,
        "state_bytes_swa_mla": 10240, "state_bytes_attention": 40000, "attention_state_over_swa_mla": 3.90625,
        "latent_gains_past": 0.1, "swa_mla_minus_attention": 0.01, "swa_mla_minus_mla": -0.005, "mla_minus_attention": 0.015,
        "mamba2_minus_swa_mla": -0.02, "attention_minus_window_past": -0.12, "window_doubled_gains": 0.004,
        "window_halved_costs": 0.015, "no_sink_costs_past": 0.02, "sink_dropped_costs_past": 0.04, "sink_dropped_within": 0.0,
        "densest_cycle_gains": 0.002, "densest_cycle_gains_past": 0.004, "rank_halved_costs": 0.003, "isolation_gains": 0.005,
        "unstable_no_sink": 1, "unstable_sink": 0, "sink_stabilises": 1, "unstable_at_lowest_rate": 0,
        "unstable_when_lost": 0.5, "n_runs": 2 * 20 + 1,
    }  # fmt: skip
    for name, value in exact.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name
    # until the loss of AdamW, the highest at last: between 4 and 3.25, at the end, between 3.6 and 3.4
    steps = {"muon": 10 + 10 * 0.5 / 0.75, "adamw": 30, "lion": 25}
    for name, value in steps.items():
        assert close(found[f"steps_{name}"], value, value, value), name
        assert found[f"loss_{name}"].value == pytest.approx(CURVES[name][-1] + 0.05)
    assert found["steps_muon_over_adamw"].value == pytest.approx(steps["muon"] / 30)
    assert found["steps_lion_over_adamw"].value == pytest.approx(25 / 30)


def test_a_loss_that_is_reached_at_once_takes_the_first_step() -> None:
    curves = CURVES | {"muon": (3.0, 2.0, 2.0)}
    assert numbers(asked("swa_mla", made(curves=curves)))["steps_muon"].value == pytest.approx(10)


def test_sinks_that_move_what_the_window_holds_are_told() -> None:
    assert numbers(asked("swa_mla", made({**BEARS, "within": 0.01})))["sink_dropped_within"].value == pytest.approx(0.01)


@pytest.mark.parametrize(("world", "curves", "verdict"), [(BEARS, CURVES, "supported"), (BREAKS, SLOW, "refuted")])
def test_every_claim_is_borne_by_one_world_and_broken_by_the_other(
    world: Mapping[Any, float], curves: Mapping[str, tuple[float, ...]], verdict: str
) -> None:
    claims = [claim for claim in registry.load(CLAIMS, ["smoke", "cpu", "h100"]) if set(claim.studies) == {"swa_mla"}]
    assert 10 <= sum(claim.role == "claim" for claim in claims) <= 16
    # one claim of the literature asks for less than 0.01, which the first world's latents exceed
    found = numbers(asked("swa_mla", made({**world, "mla": -0.015} if world is BEARS else world, curves)))
    if verdict == "supported":
        assert {item.claim.id: item.verdict for item in verdicts(claims, {"swa_mla": found}, "cpu")} == {
            claim.id: "supported" for claim in claims
        }
    alone = {claim.id: judge(found[claim.measure.rpartition(".")[2]], claim.criterion) for claim in claims}
    assert alone == {claim.id: verdict for claim in claims}


def test_without_its_controls_no_claim_is_decided() -> None:
    claims = [claim for claim in registry.load(CLAIMS, ["smoke", "cpu", "h100"]) if set(claim.studies) == {"swa_mla"}]
    found = numbers(asked("swa_mla", made({**BEARS, "ngram": 1.0, "lowest": 1})))
    judged = {item.claim.id: item.verdict for item in verdicts(claims, {"swa_mla": found}, "cpu") if item.claim.role == "claim"}
    assert set(judged.values()) == {"undecided: control failed"}


def test_every_table(records: StudyRecords) -> None:
    made_ = tables(records)
    assert list(made_) == ["swa_mla", *(f"swa_mla_{more}" for more in ("sweeps", "optimizers", "samples"))]
    rows = made_["swa_mla"].rows
    assert [row[0] for row in rows] == [*lm.LABELS.values(), "interpolated 2-gram model"]
    assert [row[1] for row in rows[:-1]] == [1000] * 5 and [row[2] for row in rows[:-1]] == [10240] * 3 + [40000, 10240]
    for column, value in ((3, 2.055), (4, 2.055 - 2.45), (5, 1.905)):
        assert close(rows[1][column], value, value - 0.005, value + 0.005)  # type: ignore[arg-type]
    assert rows[-1][3] == 2.45 and "2048 tokens" in made_["swa_mla"].caption and "position 64" in made_["swa_mla"].caption
    changes = [(row[0], row[1]) for row in made_["swa_mla_sweeps"].rows]
    assert changes == [
        ("window", "16"), ("window", "64"), ("sink", "0"), ("sink", "1"), ("cycle", "SSSSSL"), ("cycle", "SL"),
        ("latent rank", "16"), ("isolation in training", "off"),
    ]  # fmt: skip
    for row, key in zip(made_["swa_mla_sweeps"].rows, ["16", "64"], strict=False):
        more = BEARS["window", int(key)]
        assert close(row[2], more, more, more) and close(row[3], 2 * more, 2 * more, 2 * more)  # type: ignore[arg-type]
    assert "window 32, sink 4, cycle SSL, latent rank 32" in made_["swa_mla_sweeps"].caption
    tuned = made_["swa_mla_optimizers"].rows
    assert [list(row[:2]) for row in tuned] == [["AdamW", 0.004], ["Lion", 0.001], ["Muon", 0.004]]
    assert [row[4] if isinstance(row[4], str) else round(row[4].value, 4) for row in tuned] == ["", 0.8333, 0.5556]  # type: ignore[union-attr]
    assert [list(row) for row in made_["swa_mla_samples"].rows] == [
        ["He said & went", "on.", "away.", 2.5], ["He said & went", "on.", "away.", 3.5]
    ]  # fmt: skip


def test_every_figure(records: StudyRecords) -> None:
    with style.style():
        drawn = figures(records)
    assert list(drawn) == ["swa_mla", *(f"swa_mla_{more}" for more in ("sweeps", "optimizers", "stability"))]
    curves = spots(drawn["swa_mla"].axes[0])
    assert [(label, x) for label, x, _ in curves] == [(label, x) for label in lm.LABELS.values() for x in range(4)]
    assert [y for label, x, y in curves if x == 3] == pytest.approx([2.2, 2.25, 2.205, 2.19, 2.18])
    assert [tick.get_text() for tick in drawn["swa_mla"].axes[0].get_xticklabels()] == ["0-15", "16-31", "32-63", "64+"]
    dashed = [line for line in drawn["swa_mla"].axes[0].get_lines() if not line.get_gid()]
    assert [line.get_xydata()[0].tolist() for line in dashed] == [[0.0, 2.45], [2.5, 0.0]]
    panels = drawn["swa_mla_sweeps"].axes
    assert [[tick.get_text() for tick in ax.get_xticklabels()] for ax in panels[3:]] == [
        ["16", "32", "64"], ["SSSSSL", "SSL", "SL"], ["16", "32"]
    ]  # fmt: skip
    assert [y for _, _, y in spots(panels[0])[:3]] == pytest.approx([2.02, 2.005, 2.001])
    assert [y for _, _, y in spots(panels[0])[3:]] == pytest.approx([1.835, 1.805, 1.797])
    assert drawn["swa_mla_sweeps"].axes[3].get_lines()[0].get_ydata().tolist() == [10, 10, 10]  # type: ignore[union-attr]
    losses = spots(drawn["swa_mla_optimizers"].axes[0])
    assert [y for label, _, y in losses if label == "Muon"] == pytest.approx([4.05, 3.3, 3.05])
    shares = spots(drawn["swa_mla_stability"].axes[0])
    assert shares == [("no sink", 0, 0), ("no sink", 1, 1), ("sink of 4", 0, 0), ("sink of 4", 1, 0)]


DROPS = [
    ("sweep", "window", {"window_doubled_gains", "window_halved_costs"}),
    ("sweep", "cycle", {"densest_cycle_gains", "densest_cycle_gains_past"}),
    ("sweep", "isolation", {"isolation_gains"}),
    ("optimizer", "lion", {"loss_lion", "steps_lion", "steps_lion_over_adamw"}),
    (
        "architecture",
        "mla",
        {"bits_mla", "past_mla", "mla_minus_ngram", "state_bytes_mla", "swa_mla_minus_mla", "mla_minus_attention"},
    ),
    ("sweep", "stability", {name for name in NUMBERS if "stab" in name}),
]


@pytest.mark.parametrize(("factor", "value", "gone"), DROPS)
def test_what_a_scale_drops_is_not_measured(factor: str, value: str, gone: set[str]) -> None:
    kept = [record for record in made() if record.factors.get(factor) != value]
    with pytest.raises(ConfigError, match=f"{value}'?,? which no record has|no record has"):
        numbers(asked("swa_mla", kept))
    records = asked("swa_mla", kept, (factor, value))
    found = numbers(records)
    assert {name for name, estimate in found.items() if estimate.n == 0} == gone
    assert not any(math.isnan(estimate.value) for name, estimate in found.items() if name not in gone)
    tables(records)
    with style.style():
        figures(records)


def test_a_size_beside_the_study_is_a_row_of_its_own() -> None:
    records = made()
    for metric, value, slice_ in (
        ("bits_per_byte", 1.5, {}), ("bits_per_byte_past", 1.4, {"position": 64}), ("parameters", 9000, {}),
        ("state_bytes", 777, {"seq_len": 2048}),
    ):  # fmt: skip
        records.append(made_up("swa_mla", {"sweep": "size", "size": "base"}, 0, metric, value, **{"split": "test", **slice_}))
    rows = tables(asked("swa_mla", records))["swa_mla"].rows
    assert list(rows[-2][:3]) == ["windows and latents, base", 9000, 777] and len(rows) == 7
