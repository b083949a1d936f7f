"""decode_cost: nothing is trained, every arm is timed beside the same reference, and named models are as their presets say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.data.vocabulary import VocabularyConfig
from ripstop.evaluation.decode_bytes import DecodeBytesConfig
from ripstop.evaluation.decode_time import DecodeTimeConfig
from ripstop.models import MODELS
from ripstop.models.presets import PRESETS
from ripstop.paper.studies.decode_cost import AT, EIGHTH, TABLE_4
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"
SCALES = ("smoke", "cpu", "h100")


def grid(scale: str = "cpu", **changes: Any) -> list[Run]:
    values = params.load(FILE, scale=scale).study("decode_cost", scale) | changes
    return list(runs(studies.load("decode_cost"), values, scale, "decode_cost"))


@pytest.mark.parametrize("scale", SCALES)
def test_every_arm_is_timed_beside_one_reference_and_none_is_trained(scale: str) -> None:
    made = grid(scale)
    assert len({run.name for run in made}) == len(made) >= 5
    mamba2 = next(run for run in made if run.factors.get("architecture") == "mamba2")
    for run in made:
        assert run.training is None and set(run.evaluation) == {"counted", "timed"}
        timed = run.evaluation["timed"]
        assert isinstance(timed, DecodeTimeConfig) and timed.exclusive and not run.evaluation["counted"].exclusive
        assert (timed.reference, timed.reference_ids) == (mamba2.model, 256)
    assert {run.data.id for run in made if "architecture" in run.factors} == {VocabularyConfig(n_ids=256).id}


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_the_contexts_that_are_printed(scale: str) -> None:
    for run in grid(scale):
        counted, timed = run.evaluation["counted"], run.evaluation["timed"]
        assert isinstance(counted, DecodeBytesConfig) and isinstance(timed, DecodeTimeConfig)
        assert {*TABLE_4, *AT.values()} <= set(counted.contexts) and {*AT.values(), EIGHTH} <= set(timed.contexts)
        assert counted.prompts == timed.prompts, "what is timed has its memory beside it"
        assert scale == "smoke" or (timed.n_turns >= 6 and timed.prompt_turns >= 6), "fewer turns give no interval"


def test_named_models_are_as_their_presets_say_and_have_their_vocabulary() -> None:
    named = {str(run.factors["preset"]): run for run in grid() if "preset" in run.factors}
    assert {"recall", "recall_from_source", "translator"} == set(named) <= set(PRESETS)
    for name, run in named.items():
        assert run.model == MODELS.parse({"preset": name})
        assert run.data == VocabularyConfig(n_ids=PRESETS[name].vocab_size, source=run.model.reads_source)
        run.check()


def test_the_mixers_have_one_width_and_depth() -> None:
    models = [run.model.model_dump() for run in grid() if "architecture" in run.factors]
    assert len({(model["d_model"], len(model["pattern"])) for model in models}) == 1
    assert {run.factors["n_layers"] for run in grid() if "architecture" in run.factors} == {2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "mamba1"}, "decode_cost: reference: 'mamba1' is no key of patterns; did you mean 'mamba3'?"),
        ({"models": {"mine": "translater"}}, "decode_cost: models: 'translater' is no preset; did you mean 'translator'?"),
        ({"training": {"steps": 1}}, "decode_cost: training: input should be None"),
        ({"models": {"a=b": "recall"}}, "is no name of an arm"),
    ],
)
def test_mistakes_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        grid(**changes)
    assert message in str(error.value)


def settings(part: str, **changes: Any) -> dict[str, Any]:
    """The evaluation of the study, a part of it changed."""
    evaluation: dict[str, Any] = params.load(FILE, scale="cpu").study("decode_cost", "cpu")["evaluation"]
    return {"evaluation": evaluation | {part: evaluation[part] | changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            settings("counted", contexts=[64, 8192, 65536]),
            "evaluation.counted.contexts: lacks 1024, 16384, 32768, which the paper",
        ),
        (
            settings("timed", contexts=[2, 1024, 65536]),
            "evaluation.timed.contexts: lacks 8192, which the paper prints; add them",
        ),
        (
            settings("timed", reference={"preset": "recall"}),
            "reference: the paper prints times as ratios to those of mamba2, and",
        ),
        ({"reference": "nsa"}, "reference: the paper prints times as ratios to those of mamba2, and this is another model"),
    ],
)
def test_what_is_printed_is_measured_and_as_it_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        grid(**changes)
    assert str(error.value).startswith(f"decode_cost: {message}")


def test_architectures_of_several_depths_are_not_compared() -> None:
    patterns = params.load(FILE, scale="cpu").study("decode_cost", "cpu")["patterns"]
    with pytest.raises(ConfigError, match=r"patterns: .* have layers: mamba2 2, .*nsa 4, .*; give all as many"):
        grid(patterns=patterns | {"nsa": "N4"})


def test_a_reference_may_be_written_out_and_times_may_be_left_out() -> None:
    written = next(run for run in grid() if run.factors.get("architecture") == "mamba2").model.model_dump(mode="json")
    changes = settings("timed", reference=written, reference_ids=99)
    timed = grid(**changes)[0].evaluation["timed"]
    assert isinstance(timed, DecodeTimeConfig) and timed.reference_ids == 99
    assert timed.reference is not None and timed.reference.model_dump(mode="json") == written
    changes["evaluation"]["timed"] = None
    assert set(grid(**changes)[0].evaluation) == {"counted"}
