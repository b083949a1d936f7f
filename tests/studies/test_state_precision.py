"""state_precision: its arms at each scale, and what would not be measured is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ripstop import params, studies, yaml_file
from ripstop.config import ConfigError
from ripstop.data.mqar_gap import MqarGapConfig
from ripstop.data.text import TextConfig
from ripstop.evaluation.stored_decoding import StoredPart
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.paper.precision import CACHES, LABELS, RECURRENT
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"


def values(scale: str = "cpu") -> dict[str, Any]:
    return yaml_file.parse(yaml_file.dump(params.load(FILE, scale=scale).study("state_precision", scale)), "block")


def made(block: dict[str, Any], scale: str = "cpu") -> list[Run]:
    return list(runs(studies.load("state_precision"), block, scale, "state_precision"))


@pytest.mark.parametrize("scale", ["smoke", "cpu", "h100"])
def test_every_architecture_is_asked_to_recall_and_some_to_read(scale: str) -> None:
    found = [run for run in made(values(scale), scale) if "candidate" not in run.factors]
    assert len({run.seed for run in found}) >= (1 if scale == "smoke" else 3)
    recall = {run.factors["architecture"] for run in found if run.factors["task"] == "recall"}
    text = {run.factors["architecture"] for run in found if run.factors["task"] == "text"}
    assert recall <= set(LABELS) and text <= recall
    assert text & set(RECURRENT) and text & set(CACHES) and recall & set(RECURRENT) and set(CACHES) <= recall
    for run in found:
        assert list(run.evaluation) == [run.factors["task"]]
        assert isinstance(run.data, MqarGapConfig if run.factors["task"] == "recall" else TextConfig)


@pytest.mark.parametrize("scale", ["cpu", "h100"])
def test_lengths_go_to_eight_times_those_of_training(scale: str) -> None:
    for run in made(values(scale), scale):
        for part in run.evaluation.values():
            assert isinstance(part, StoredPart) and part.lengths[0] == 1 and part.lengths[-1] == 8


@pytest.mark.parametrize("scale", ["cpu", "h100"])
def test_no_group_of_a_scale_is_half_empty(scale: str) -> None:
    """Every tensor of a state is a multiple of 32 wide, so that bits per element compare between mixers."""
    for run in made(values(scale), scale):
        assert isinstance(run.model, DecoderOnlyConfig)
        for mixer in run.model.stack.mixers:
            match mixer.kind:
                case "mamba2":
                    widths = [mixer.d_state, mixer.conv_channels(run.model.d_model)]  # type: ignore[attr-defined]
                case "gated_delta" | "kda":
                    widths = [mixer.head_k_dim, mixer.conv_channels]  # type: ignore[attr-defined]
                case "mla":
                    widths = [mixer.cached_width]  # type: ignore[attr-defined]
                case _:
                    widths = [mixer.sizes(run.model.d_model)[2], mixer.qkv_width(run.model.d_model)]  # type: ignore[attr-defined]
            assert not any(width % 32 for width in widths), (mixer.kind, widths)


def test_arms_on_mqar_choose_with_a_seed_of_their_own_and_language_models_do_not() -> None:
    found = made(values())
    candidates = [run for run in found if "candidate" in run.factors]
    assert {run.factors["task"] for run in candidates} == {"recall"} and {run.seed for run in candidates} == {100}
    assert len(candidates) == 2 * len(LABELS)
    assert not any(run.choice for run in found if run.factors["task"] == "text")


def test_some_architectures_are_trained_for_longer_on_mqar_alone() -> None:
    found = made(values() | {"recall_steps": {"mamba2": 1234}})
    steps = {
        (run.factors["task"], run.factors["architecture"]): run.training.steps
        for run in found
        if "candidate" not in run.factors
    }
    assert steps["recall", "mamba2"] == 1234 and steps["recall", "kda"] == 450 and steps["text", "mamba2"] == 250
    assert {run.training.steps for run in found if "candidate" in run.factors} == {250}


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda block: block["evaluation"]["recall"]["nearest"].remove("int4"),
            "evaluation.recall.nearest: int4 is not among them",
        ),
        (
            lambda block: block["evaluation"]["text"]["feedback"].remove("int3"),
            "evaluation.text.feedback: int3 is not among them",
        ),
        (lambda block: block["text"]["architectures"].append("mamba"), "text.architectures: no pattern is called 'mamba'"),
        (lambda block: block["evaluation"]["text"].update(lengths=[1, 16]), "data.held_out_block_size: a held-out row of 512"),
        (lambda block: block["evaluation"]["recall"].update(n_rows=65), "n_rows: 65 are asked of a test of 64 rows"),
        (
            lambda block: block.update(recall_steps={"mamba": 9}),
            "recall_steps: no pattern is called 'mamba'; did you mean 'mamba2'",
        ),
        (lambda block: block["recall_choice"].update(seed=0), "choice.seed: 0 is one of `seeds`"),
        (lambda block: block.update(choice={"seed": 100, "settings": {"training": {"lr": [0.1]}}}), "choice"),
    ],
)
def test_what_would_not_be_measured_is_refused_before_anything_trains(change: Any, message: str) -> None:
    block = values()
    change(block)
    with pytest.raises(ConfigError, match=message):
        made(block)
