"""memory_frontier: equal parameters, equal states where they are compared, one choice a mixer."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.equal_parameters import TOLERANCE
from ripstop.models.reading import read_bytes
from ripstop.paper.studies.memory_frontier import LABELS
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"


def grid(scale: str = "cpu", **changes: Any) -> list[Run]:
    """changes: dotted keys, with __ for the dots."""
    values = deepcopy(params.load(FILE, scale=scale).study("memory_frontier", scale))
    for key, value in changes.items():
        *outer, last = key.split("__")
        block = values
        for name in outer:
            block = block[name]
        block[last] = value
    return list(runs(studies.load("memory_frontier"), values, scale, "memory_frontier"))


def arms(made: list[Run]) -> dict[tuple[str, int], Run]:
    seed = min(run.seed for run in made)
    return {
        (str(run.factors["mixer"]), int(run.factors["memory_size"])): run
        for run in made
        if run.seed == seed and "memory_size" in run.factors
    }


def model(run: Run) -> DecoderOnlyConfig:
    assert isinstance(run.model, DecoderOnlyConfig)
    return run.model


@pytest.mark.parametrize("scale", ["smoke", "cpu", "h100"])
def test_parameters_are_equal(scale: str) -> None:
    sizes = [sum(model(run).params_by_part(run.data.vocab_size(Path())).values()) for run in arms(grid(scale)).values()]
    assert 1 - min(sizes) / max(sizes) < TOLERANCE


@pytest.mark.parametrize("scale", ["cpu", "h100"])
def test_every_mixer_has_three_sizes_and_five_seeds_and_more_of_them_is_more_memory(scale: str) -> None:
    made = grid(scale)
    assert {run.seed for run in made if "memory_size" in run.factors} == set(range(5))
    # blocks that are selected are held in any case, and read
    read = {at: read_bytes(run.model, run.data.longest_row.tokens, torch.float32) for at, run in arms(made).items()}
    assert {name for name, _ in read} == set(LABELS)
    for name in LABELS:
        rising = [n for (other, _), n in sorted(read.items()) if other == name]
        assert len(rising) >= 3 and rising == sorted(set(rising))


@pytest.mark.parametrize(("scale", "common"), [("cpu", 3), ("h100", 4)])
def test_equal_sizes_of_delta_rule_and_mamba2_are_equal_states(scale: str, common: int) -> None:
    found = arms(grid(scale))
    both = [size for name, size in found if name == "gated_delta" and ("mamba2", size) in found]
    assert len(both) == common
    for size in both:
        elements = []
        for name, memory in (("gated_delta", "memory"), ("mamba2", "ssm")):
            run = found[name, size]
            (mixer,) = {id(m): m for m in model(run).stack.mixers}.values()
            elements.append(getattr(mixer.build(model(run).d_model).init_state(1, 1), memory).numel())
        assert elements[0] == elements[1]


def test_every_size_trains_with_what_the_middle_one_chose() -> None:
    made = grid(mixers__mamba2__sizes=[8, 16, 32])
    candidates = [run for run in made if run.factors.get("mixer") == "mamba2" and "candidate" in run.factors]
    assert [run.settings["training.lr"] for run in candidates] == [1.0e-2, 2.0e-2]
    middle = arms(made)["mamba2", 16]
    assert all(run.seed == 100 and run.model == middle.model for run in candidates)
    assert {run.choice for run in made if run.factors.get("mixer") == "mamba2"} == {"mixer-mamba2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixers__mamba2__sizes": [16, 8]}, "mixers.mamba2.sizes: must rise without repeats, and is [16, 8]"),
        ({"mixers__mamba2__sizes": [16]}, "mixers.mamba2.sizes"),
        ({"mixers__mamba2__size": "d_stat"}, "d_stat: unknown key; did you mean 'd_state'?"),
        ({"layers__X": {"kind": "attention"}}, "layers.X: X is the letter of the mixer under study; take another one"),
        ({"data__test_pairs": [2, 4]}, "data.test_pairs: the paper asks for the third most of them; give at least three"),
        ({"training__validate_every": 0}, "choice needs training.validate_every above 0"),
    ],
)
def test_mistakes_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        grid(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)
