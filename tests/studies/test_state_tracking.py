"""state_tracking: which run learns what, and what is printed and would not be measured is told before anything trains."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.data.pointer_chain import PointerChainConfig
from ripstop.data.selective_copying import SelectiveCopyingConfig
from ripstop.data.word_problem import WordProblemConfig
from ripstop.mixers.delta_heads import DeltaConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.paper.studies.state_tracking import NAMED, TASKS
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"


def grid(scale: str = "cpu", **changes: Any) -> list[Run]:
    """changes: dotted keys, with __ for the dots."""
    values = deepcopy(params.load(FILE, scale=scale).study("state_tracking", scale))
    for key, value in changes.items():
        *outer, last = key.split("__")
        block = values
        for name in outer:
            block = block[name]
        block[last] = value
    return list(runs(studies.load("state_tracking"), values, scale, "state_tracking"))


@pytest.mark.parametrize("scale", ["cpu", "h100"])
def test_every_arm_that_is_printed_is_trained_on_its_own_task(scale: str) -> None:
    made = grid(scale)
    arms = {(str(run.factors["task"]), str(run.factors["architecture"])) for run in made}
    assert arms >= {(task, name) for task, named in NAMED.items() for name in named}
    assert {task for task, _ in arms} == set(TASKS)
    assert len(made) == 3 * len(arms)
    n_things = {"parity": 2, "s3": 3, "s5": 5}
    for run in made:
        task = str(run.factors["task"])
        if task in n_things:
            assert isinstance(run.data, WordProblemConfig)
            assert (run.data.n_things, run.data.swaps) == (n_things[task], task == "s3")
        else:
            assert isinstance(run.data, SelectiveCopyingConfig if task == "copying" else PointerChainConfig)


def test_architectures_differ_in_their_mixers_alone() -> None:
    by_name: dict[str, set] = {}
    for run in grid():
        assert isinstance(run.model, DecoderOnlyConfig)
        mixers = run.model.stack.mixers
        assert len(mixers) == (2 if run.factors["task"] in ("copying", "chains") else 1)
        by_name.setdefault(str(run.factors["architecture"]), set()).update(mixer.model_dump_json() for mixer in mixers)
        if isinstance(mixers[0], DeltaConfig):
            assert mixers[0].negative_eigenvalues == (run.factors["architecture"] != "gated_delta_below_1")
    assert all(len(mixers) == 1 for mixers in by_name.values())
    below, up_to_2 = (set(by_name[name]).pop() for name in ("gated_delta_below_1", "gated_delta"))
    assert below == up_to_2.replace('"negative_eigenvalues":true', '"negative_eigenvalues":false')


def test_all_architectures_of_a_task_train_alike() -> None:
    by_task: dict[str, set] = {}
    for run in grid():
        assert run.training is not None
        by_task.setdefault(str(run.factors["task"]), set()).add((run.training.model_dump_json(), run.data.id))
    assert {task: len(found) for task, found in by_task.items()} == dict.fromkeys(TASKS, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data__test_lengths": [16, 32]},
            "the test_lengths of parity have no 64, 4 times the longest of lengths, which the paper prints; add it",
        ),
        ({"tasks__chains__data__test_lengths": [2, 4, 8]}, "the test_lengths of chains have no 1, 0.5 times the longest"),
        ({"tasks__s3__architectures": ["mamba4"]}, "tasks.s3.architectures: no pattern is called 'mamba4'.*'mamba3'"),
        (
            {"tasks__s5__data": {"kind": "mqar", "num_pairs": [2]}},
            "lengths are those of a synthetic task, and the run's data is mqar; remove this part",
        ),
        ({"tasks__copying__layers": 0}, "layers"),
        ({"tasks": {}}, "tasks"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(**changes)
