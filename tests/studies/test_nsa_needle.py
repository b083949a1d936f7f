"""nsa_needle: who is taught, and what is printed and would not be measured is told before anything trains."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.mixers.nsa import NSAConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.paper.needles import WAYS
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[2] / "params.yaml"
SCALES = ("smoke", "cpu", "h100")
FAMILIES = ["single", "multi_key", "multi_value", "variable_chain"]


def grid(scale: str = "cpu", **changes: Any) -> list[Run]:
    """changes: dotted keys, with __ for the dots."""
    values = deepcopy(params.load(FILE, scale=scale).study("nsa_needle", scale))
    for key, value in changes.items():
        *outer, last = key.split("__")
        block = values
        for name in outer:
            block = block.setdefault(name, {})
        block[last] = value
    return list(runs(studies.load("nsa_needle"), values, scale, "nsa_needle"))


@pytest.mark.parametrize("scale", SCALES)
def test_sparse_attention_is_an_arm_for_each_way_of_teaching_and_nothing_else_is(scale: str) -> None:
    made = grid(scale)
    assert len({run.name for run in made}) == len(made)
    for run in made:
        assert isinstance(run.model, DecoderOnlyConfig)
        taught = {mixer.teaching.kind for mixer in run.model.stack.mixers if isinstance(mixer, NSAConfig)}
        assert taught == ({run.factors["teaching"]} if "teaching" in run.factors else set())
    tokens = [run for run in made if run.factors["haystack"] == "tokens" and run.factors["architecture"] == "nsa"]
    assert {run.factors["teaching"] for run in tokens} == set(WAYS)
    assert {run.data.kind for run in made if run.factors["haystack"] == "prose"} == (
        set() if scale == "smoke" else {"needle_text"}
    )


def asking(families: list[str], lengths: list[int], rows: list[int]) -> list[dict[str, Any]]:
    return [{"families": families, "lengths": lengths, "rows": rows}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__tests": asking(["single"], [512], [2])}, "data.tests: no test asks multi_key, which the paper prints"),
        ({"data__tests": asking(FAMILIES[1:], [512], [2])}, "data.tests: no test asks single, which the paper prints"),
        ({"data__depths": [0.0, 1.0]}, "data.depths: [0.0, 1.0] has none between the first and the last"),
        ({"prose__data__depths": [0.0]}, "prose.data.depths: [0.0] has none between the first and the last"),
        ({"evaluation__needle__controls": ["random"]}, "evaluation.needle.controls: 'own' is not among them, and the paper"),
        (
            {"evaluation__needle__controls": ["own", "own", "wrong", "random", "silent", "random_silent", "oracle"]},
            "evaluation.needle.controls: names own twice; name each once",
        ),
        (
            {"data__tests": asking(FAMILIES, [512, 65536], [1, 1])},
            "data.tests: the control 'wrong' needs two rows of single at 512 tokens",
        ),
        ({"evaluation__needle__tokens_at_once": 1023}, "data.tests: the control 'wrong' needs two rows of single"),
        (
            {"prose__data__tests": asking(["single"], [512], [4])},
            "prose.data.tests: single is printed at 65536 tokens, the longest length of data.tests, and prose is tested at 512",
        ),
        ({"prose__data__tests": asking(["multi_key"], [65536], [4])}, "prose.data.tests: single is printed at 65536 tokens"),
        (
            {"prose__data__tests": asking(["single"], [256, 65536], [4, 1])},
            "prose.data.tests: single is tested at 256 tokens, and data.tests has not that length; add it",
        ),
        (
            {"evaluation__needle__n_parts": 256, "data__tests": asking(FAMILIES, [200, 512, 65536], [2, 2, 2]),
             "prose__data__tests": asking(["single"], [512, 65536], [4, 1])},
            "evaluation.needle.n_parts: the picture is of the first test of data, whose 200 tokens have no 256 parts",
        ),
        ({"training__objective": {"kind": "cross_entropy"}}, "training.objective: cross_entropy leaves out what teaches"),
        ({"training__validate_every": 0}, "training.validate_every: is 0, and the paper prints how the arms learnt"),
    ],
)  # fmt: skip
def test_what_is_printed_and_would_not_be_measured_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        grid(**changes)
    assert str(error.value).startswith(f"nsa_needle: {message}") and "\n" not in str(error.value)


def test_as_much_as_is_needed_is_enough() -> None:
    assert grid(evaluation__needle={"tokens_at_once": 1024, "n_parts": 256})
    assert grid(data__depths=[0.0, 0.5, 1.0], prose=None)


def test_layers_of_two_block_sizes_are_told_both_ways_out() -> None:
    block = params.load(FILE, scale="cpu").study("nsa_needle", "cpu")
    other = block["mixers"]["N"] | {"select_block": 64}
    with pytest.raises(ConfigError, match="give all of them one select_block, or leave it out"):
        grid(mixers__O=other, patterns__nsa="NO")
