"""From a study's block to its runs: hand-worked grids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ripstop import params, studies
from ripstop.data.mqar import MqarConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.runs import Run
from ripstop.studies.base import Arm, runs

FILE = Path(__file__).parents[2] / "params.yaml"


def grid(name: str, **changes: Any) -> list[Run]:
    """The runs of the shipped block of scale cpu with `changes`, at a scale of another name."""
    return list(runs(studies.load(name), params.load(FILE).study(name, "cpu") | changes, "large", "test"))


def test_every_arm_meets_every_seed_and_has_its_own_settings() -> None:
    made = grid("d_state_scaling", seeds=[3, 8], shapes=[[4, 2], [16, 1]], steps=[10, 20], d_model=32, pattern="MM")
    # two layers x expand x 32 x d_state: 2*2*32*4 = 512 and 2*1*32*16 = 1024
    wanted = [
        (f"d_state-{d_state}_expand-{expand}_steps-{steps}_seed-{seed}", seed, steps, d_state, expand, state)
        for d_state, expand, state in ((4, 2, 512), (16, 1, 1024))
        for steps in (10, 20)
        for seed in (3, 8)
    ]
    found = []
    for run in made:
        assert run.training is not None and isinstance(run.model, DecoderOnlyConfig)
        mixer: Any = run.model.mixers["M"]
        found.append((run.name, run.seed, run.training.steps, mixer.d_state, mixer.expand, run.factors["state_elements"]))
        assert {key: run.factors[key] for key in ("d_state", "expand", "steps")} == {
            "d_state": mixer.d_state,
            "expand": mixer.expand,
            "steps": run.training.steps,
        }
    assert found == wanted
    assert {(run.study, run.scale) for run in made} == {("d_state_scaling", "large")}


def test_an_arm_may_have_data_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.load("mqar_cliff")
    arms, own = study.arms, MqarConfig(num_pairs=[2])

    def with_data(params: Any) -> Iterator[Arm]:
        for arm in arms(params):
            yield replace(arm, data=own) if arm.factors["architecture"] == "attention" else arm

    monkeypatch.setattr(study, "arms", with_data)
    found = {str(run.factors["architecture"]): run.data for run in grid("mqar_cliff", seeds=[0])}
    assert found.pop("attention") == own
    assert found and all(data.id != own.id for data in found.values())


def test_an_architecture_records_the_one_d_state_that_it_has() -> None:
    made = grid("mqar_cliff", seeds=[5], patterns={"both": "MA", "none": "AA"})
    assert [(run.name, run.factors) for run in made] == [
        ("architecture-both_seed-5", {"architecture": "both", "d_state": 16}),
        ("architecture-none_seed-5", {"architecture": "none"}),
    ]


def test_a_decoder_sees_its_source_where_its_arm_says() -> None:
    positions = {"second": {"cross_attention": [1]}, "mean": {"cross_attention": [], "source_summary": "mean"}}
    made = grid("blind_start", seeds=[0], positions=positions, steps=[7])
    models = [run.model for run in made if isinstance(run.model, EncoderDecoderConfig)]
    assert [(m.cross_attention_positions, m.source_summary) for m in models] == [([1], "none"), ([], "mean")]
    assert [run.name for run in made] == ["positions-second_steps-7_seed-0", "positions-mean_steps-7_seed-0"]
    assert {run.training.steps for run in made if run.training} == {7}


def test_a_ratio_records_its_share_of_attention() -> None:
    made = grid("hybrid_ratio", seeds=[0], patterns={"some": "MMAM", "all": "AAAA"}, cross_attention_positions=[0])
    assert [run.factors for run in made] == [
        {"ratio": "some", "attention_share": 0.25},
        {"ratio": "all", "attention_share": 1.0},
    ]
    assert [run.model.decoder_pattern for run in made if isinstance(run.model, EncoderDecoderConfig)] == ["MMAM", "AAAA"]
