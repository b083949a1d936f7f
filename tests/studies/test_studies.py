"""Every study end to end on its smallest grid: one run is trained and evaluated, and its records print."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.paper.render import load_study
from ripstop.records import Record, frame, read_records
from ripstop.runs import Run
from ripstop.statistics import Estimate
from ripstop.studies.base import evaluate
from ripstop.training.train import train

ROOT = Path(__file__).parents[2]
RECALL = ["mqar_cliff", "d_state_scaling", "blind_start"]


def smoke_runs(name: str) -> list[Run]:
    loaded = params.load(ROOT / "params.yaml", scale="smoke")
    study = studies.load(name)
    return list(study.runs(study.Params.parse(loaded.study(name, "smoke"), name), "smoke"))


def lay_out(run: Run, root: Path) -> tuple[Path, Path]:
    """The folders that the plan would make."""
    folder, data = root / "runs" / run.name, root / "data" / run.data.id
    folder.mkdir(parents=True)
    for name, text in run.files().items():
        (folder / name).write_text(text)
    for stage in ("train", "evaluate"):
        (folder / f"{stage}.code").write_text("digest\n")
    run.data.prepare(data)
    return folder, data


def test_there_is_a_printer_for_every_study() -> None:
    for name in studies.names():
        assert load_study(name).__name__.endswith(name)


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mqar_cliff'"):
        studies.load("mqar_clif")


@pytest.mark.parametrize("name", RECALL)
def test_one_run_end_to_end(name: str, tmp_path: Path) -> None:
    run = smoke_runs(name)[0]
    folder, data = lay_out(run, tmp_path)
    with pytest.raises(ConfigError, match="no trained model"):
        evaluate(folder, data)
    train(folder, data, ["training.steps=2"])
    records = read_records(evaluate(folder, data))
    assert {(r.study, r.run, r.seed, r.code) for r in records} == {(name, run.name, run.seed, "digest")}
    own = [r for r in records if r.metric == "accuracy" and r.slice["control"] == "own"]
    assert [r.slice["num_pairs"] for r in own] == run.data.test_pairs
    assert all(0 <= r.value <= 1 for r in own)
    table = frame(records)
    assert load_study(name).table(table).latex()
    assert all(isinstance(number, Estimate) for number in load_study(name).numbers(table).values())


def made_up(study: str, factors: dict, value: float, seed: int, **slice_: object) -> Record:
    run = "_".join(f"{k}-{v}" for k, v in factors.items())
    return Record.parse(
        {
            "study": study, "run": f"{run}_seed-{seed}", "scale": "cpu", "seed": seed, "part": "all", "factors": factors,
            "slice": slice_, "metric": slice_.pop("metric", "accuracy"), "unit": "fraction", "value": value, "n": 100,
            "code": "c", "config": "k", "data": "d", "model": "m", "device": "cpu",
        },
        "test",
    )  # fmt: skip


def test_d_state_scaling_finds_the_exponent_that_was_put_in() -> None:
    """Curves that fall to half at exactly 2 x d_state pairs: capacity grows in proportion, whatever the length."""
    records = []
    for d_state in (4, 8, 16):
        for steps in (10, 20):
            for seed in (0, 1, 2):
                factors = {"d_state": d_state, "expand": 2, "state_elements": 64 * d_state, "steps": steps}
                records.append(made_up("d_state_scaling", factors, 0.0, seed, metric="chance"))
                for pairs in (2, 4, 8, 16, 32, 64, 128):
                    value = 1 / (1 + (pairs / (2 * d_state)) ** 3)
                    records.append(made_up("d_state_scaling", factors, value, seed, num_pairs=pairs, control="own"))
                    records.append(made_up("d_state_scaling", factors, 0.0, seed, num_pairs=pairs, control="wrong"))
    numbers = load_study("d_state_scaling").numbers(frame(records))
    assert numbers["capacity_exponent_d_state"].value == pytest.approx(1, abs=0.01)
    assert numbers["capacity_at_min_d_state"].value == pytest.approx(8, rel=0.02)
    assert numbers["capacity_at_max_d_state"].value == pytest.approx(32, rel=0.02)
    assert numbers["training_length_shift"].value == pytest.approx(1, abs=0.01)
    assert numbers["recall_gain_per_doubling"].low > 0


def test_blind_start_separates_layer_0_from_the_others() -> None:
    scores = {
        "layer_0": 0.9,
        "layer_1": 0.6,
        "layer_2": 0.4,
        "layers_0_2": 0.95,
        "adaptive": 0.9,
        "none": 0.1,
        "none_mean": 0.2,
    }
    records = []
    for positions, score in scores.items():
        for seed in (0, 1, 2):
            factors = {"positions": positions, "steps": 5}
            records.append(made_up("blind_start", factors, 0.05, seed, metric="chance"))
            for control in ("own", "wrong", "shuffled", "zero"):
                value = score + 0.01 * seed if control == "own" else 0.05
                records.append(made_up("blind_start", factors, value, seed, num_pairs=8, control=control))
    numbers = load_study("blind_start").numbers(frame(records))
    assert numbers["layer0_minus_other"].value == pytest.approx(0.4)
    assert numbers["recall_best_pair"].value == pytest.approx(0.96)
    assert numbers["recall_last"].value == pytest.approx(0.41)
    assert numbers["control_wrong_source"].value == pytest.approx(0.05)
