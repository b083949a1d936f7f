"""What a training is told reaches the data and the kinds that it names; mistakes are named."""

from __future__ import annotations

import pytest
from training.tiny import config

from ripstop.batch import StreamPlan
from ripstop.config import ConfigError
from ripstop.runs import Run
from ripstop.training.config import TrainingConfig
from ripstop.training.objectives.cross_entropy import CrossEntropyConfig
from ripstop.training.optimizers.adamw import AdamwConfig
from ripstop.training.reporting import Reporting


def test_the_data_is_asked_for_what_was_told():
    told = config(steps=7, tokens_per_step=30, accumulation=3)
    assert told.stream_plan(41) == StreamPlan(steps=7, tokens_per_step=30, accumulation=3, seed=41)


def test_kinds_are_found_by_name_and_have_defaults():
    assert (config().objective, config().optimizer) == (CrossEntropyConfig(), AdamwConfig())
    other = config(optimizer={"kind": "adamw", "weight_decay": 0.5, "betas": [0.5, 0.75]}).optimizer
    assert other == AdamwConfig(weight_decay=0.5, betas=(0.5, 0.75))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": {"kind": "adam"}}, "optimizer: unknown kind 'adam'; did you mean 'adamw'"),
        ({"optimizer": {"kind": "adamw", "weight_decy": 0.1}}, "weight_decy: unknown key; did you mean 'weight_decay'"),
        ({"optimizer": {"kind": "adamw", "betas": [0.9, 1.0]}}, "betas.*less than 1"),
        ({"objective": {"kind": "cross_entropi"}}, "did you mean 'cross_entropy'"),
        ({"objective": {"kind": "cross_entropy", "weight": 1}}, "weight: unknown key"),
        ({"keep": "best"}, "keep: best needs validate_every above 0"),
        ({"lr": float("inf")}, "lr"),
        ({"clip": float("nan")}, "clip"),
    ],
)
def test_mistakes_are_named(changes: dict, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        TrainingConfig.parse({"steps": 1, "tokens_per_step": 1, "lr": 0.1} | changes, "here")


def test_what_is_said_on_the_way_is_not_among_what_moves_numbers():
    assert not Reporting.model_fields.keys() & TrainingConfig.model_fields.keys()
    assert {"training", "compute", "reporting"} <= Run.model_fields.keys()
