"""Needles in a haystack at the level of tokens: exact, and a function of its seed. `haystack.py` says what a row is.

Ids: PAD 0, BOS 1, KEY 2, VAL 3, REF 4, then from 10 on the keys, the values and the filler. Training grows with its curriculum:
the length of a step's rows is log-uniform between the shortest and a longest that itself grows geometrically, and the family is
one of those that have joined by then, which they do one after the other at equal intervals. (A training row asks for all of its
facts, so `single` and `multi_key` are the same to train on.) Batch i of a stream follows from its seed and i alone, and each
test from `test_seed`; no global random state is touched.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.random import Generator
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor

from ripstop.batch import StreamPlan, TokenBatch
from ripstop.config import ConfigError, Strict
from ripstop.data.base import DataConfig, RowLength
from ripstop.data.batching import derived_seed, load_tensors
from ripstop.data.haystack import FAMILIES, HAS_DEPTH, Family, Filler, Lexicon, Rows, draw, to_batch, to_tensors
from ripstop.files import replacing

BOS, KEY, VAL, REF = 1, 2, 3, 4
FIRST_KEY = 10
LARGEST_TEST = 2**28
"""Tokens, so that it can be held at once."""
LONGEST = 2**24


class Test(Strict):
    """Rows to test on: so many of each length, the same for every one of `families`."""

    families: list[Family] = Field(min_length=1)
    lengths: list[int] = Field(min_length=1, description="rising; tokens that are read when the last answer is due")
    rows: list[int] = Field(min_length=1, description="one number for each length")

    @model_validator(mode="after")
    def _one_number_a_length(self) -> Self:
        if len(self.lengths) != len(self.rows) or min(self.rows) < 1:
            raise ValueError(f"rows {self.rows} needs a number from 1 on for each of lengths {self.lengths}")
        if self.lengths != sorted(set(self.lengths)) or self.lengths[0] < 1 or self.lengths[-1] > LONGEST:
            raise ValueError(f"lengths must rise without repeats up to {LONGEST}, and are {self.lengths}")
        return self


class NeedleBase(DataConfig):
    """What needles of any lexicon share. Subclasses say their kind, and give the lexicon and the filler."""

    families: list[Family] = Field(
        ["single", "multi_value", "variable_chain"], min_length=1, description="trained on in this order; see the module"
    )
    s_min: int = Field(64, ge=16, le=LONGEST, description="shortest row of the training")
    s_max: int = Field(512, ge=16, le=LONGEST, description="longest row of the training")
    curriculum: float = Field(0.6, ge=0, le=1, description="part of the steps over which the longest row grows to s_max")
    n_questions: int = Field(8, ge=1, le=1024, description="most questions of a row of the training")
    n_values_a_key: int = Field(2, ge=2, le=1024, description="facts of a key, in the family multi_value")
    n_others: int = Field(24, ge=1, le=2**16, description="facts that a test of the family multi_key does not ask for")
    depths: list[float] = Field([0.0, 0.25, 0.5, 0.75, 1.0], min_length=1, description="of the needles in a test; rising")
    tests: list[Test] = Field(min_length=1)
    n_valid: int = Field(16, ge=1, le=2**20, description="validation rows of each family and length")
    test_seed: int = Field(0, description="of the test and the validation rows")
    files: ClassVar[tuple[str, ...]] = ("test.safetensors",)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.families)) < len(self.families):
            raise ValueError(f"families {self.families} names one twice")
        if self.depths != sorted(set(self.depths)) or self.depths[0] < 0 or self.depths[-1] > 1:
            raise ValueError(f"depths must rise without repeats from 0 to 1, and are {self.depths}")
        if self.s_min > self.s_max:
            raise ValueError(f"s_min {self.s_min} is longer than s_max {self.s_max}")
        named = [family for test in self.tests for family in test.families]
        if len(set(named)) < len(named):
            raise ValueError(f"tests names a family twice, of {', '.join(named)}; give each its lengths in one place")
        tokens = sum(length * rows for _, length, rows in self.tested())
        if tokens > LARGEST_TEST:
            raise ValueError(f"the tests would hold {tokens} tokens; lower rows or lengths to at most {LARGEST_TEST}")
        return self

    def lexicon(self, data: Path) -> Lexicon:
        """What needles are written with. data: the prepared folder."""
        raise self._lacks("lexicon")

    def filler(self, data: Path, split: Literal["train", "held_out"]) -> Filler:
        """What haystacks are made of. Nothing of what is held out is trained on."""
        raise self._lacks("filler")

    @property
    def n_answers(self) -> int:
        """How many answers there are to guess from."""
        raise self._lacks("n_answers")

    def tested(self) -> Iterator[tuple[Family, int, int]]:
        """Family, length and number of rows of every test."""
        for test in self.tests:
            for family in test.families:
                yield from ((family, length, rows) for length, rows in zip(test.lengths, test.rows, strict=True))

    @property
    def longest_row(self) -> RowLength:
        return RowLength(max(length for _, length, _ in self.tested()))

    def check(self, plan: StreamPlan) -> None:
        if plan.tokens_per_batch < self.s_max:
            raise ConfigError(
                f"training.tokens_per_step: a batch of {plan.tokens_per_batch} tokens does not hold one row of data.s_max "
                f"{self.s_max}; raise it, or lower that"
            )

    def check_room(self, lexicon: Lexicon) -> None:
        """`ConfigError` where a row is too short for its needles, or a row has more keys than there are."""
        for family in self.families:
            needed = 1 + lexicon.cost(family, self.n_values_a_key)
            if self.s_min < needed:
                raise ConfigError(f"data.s_min: {self.s_min} tokens do not hold a question of {family}, which takes {needed}")
        for family, length, _ in self.tested():
            needed = 1 + lexicon.needles_width(family, len(self.depths), self.n_values_a_key, self.n_others)
            needed += lexicon.question_width(family, self.n_values_a_key)
            if length < needed:
                raise ConfigError(
                    f"data.tests: {length} tokens do not hold a row of {family} with a question for each depth, which takes "
                    f"{needed}; drop that length, or lower data.n_others, data.n_values_a_key or the number of depths"
                )
        n_keys = max(2 * self.n_questions, 2 * len(self.depths), len(self.depths) + self.n_others)
        if n_keys > len(lexicon.keys_K) or self.n_values_a_key > len(lexicon.values_V):
            raise ConfigError(
                f"data: a row may need {n_keys} keys and a key {self.n_values_a_key} values, and there are "
                f"{len(lexicon.keys_K)} and {len(lexicon.values_V)}; lower data.n_questions, n_others or n_values_a_key"
            )

    def stream(self, data: Path, plan: StreamPlan) -> NeedleStream:
        return NeedleStream(self, self.lexicon(data), self.filler(data, "train"), plan)

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[TokenBatch]:
        """Rows of each family at the shortest, the middle (of the logarithm) and the longest length of the training."""
        lexicon, filler = self.lexicon(data), self.filler(data, "held_out")
        for length in sorted({self.s_min, round(math.sqrt(self.s_min * self.s_max)), self.s_max}):
            for number, family in enumerate(self.families):
                generator = _generator("needle valid", self.test_seed, length, number)
                at_once = max(1, plan.tokens_per_batch // length)
                for begin in range(0, self.n_valid, at_once):
                    rows = min(at_once, self.n_valid - begin)
                    yield training_rows(self, lexicon, filler, generator, family, rows, length)

    def write(self, out: Path) -> dict[str, Any]:
        self.write_corpus(out)
        lexicon, filler = self.lexicon(out), self.filler(out, "held_out")
        self.check_room(lexicon)
        tensors = {
            f"{family}.{length}.{name}": tensor
            for family, length, rows in self.tested()
            for name, tensor in to_tensors(self.test_rows(lexicon, filler, family, length, rows)).items()
        }
        stream = self.stream(out, StreamPlan(16, 2 * self.s_max, 1, 0))
        hashes = {
            "sha256_test": _sha256(tensors.values()),
            "sha256_first_training_batches": _sha256(t for _ in range(16) for t in _read(next(stream))),
        }
        with replacing(out / "test.safetensors") as temporary:
            save_file(tensors, temporary)
        return {
            "vocab_size": self.n_tokens(out),
            "sha256": hashlib.sha256("".join(hashes.values()).encode()).hexdigest(),
            **hashes,
            "chance_accuracy": 1 / self.n_answers,
            "questions": {f"{family}.{length}": rows * len(self.depths) for family, length, rows in self.tested()},
        }

    def write_corpus(self, out: Path) -> None:
        """Write what `lexicon` and `filler` read, where they read anything."""

    def n_tokens(self, data: Path) -> int:
        """Number of token ids."""
        raise self._lacks("n_tokens")

    def vocab_size(self, data: Path) -> int:
        return self.n_tokens(data)

    def test_rows(self, lexicon: Lexicon, filler: Filler, family: Family, length: int, n_rows: int) -> Rows:
        """The test of a family at a length: in each row one question for each depth, of which a model is asked one alone."""
        generator = _generator("needle test", self.test_seed, length, FAMILIES.index(family))
        haystack = length - lexicon.question_width(family, self.n_values_a_key) + 1  # the last answer is not read
        depths = self.depths if family in HAS_DEPTH else None
        return draw(
            generator, lexicon, filler, family, n_rows, haystack, len(self.depths), self.n_values_a_key, self.n_others, depths
        )

    def prepared_test(self, data: Path, family: Family, length: int) -> Rows:
        """The same as `write` left it."""
        path = data / "test.safetensors"
        tensors, start = load_tensors(path), f"{family}.{length}."
        found = {name.removeprefix(start): t.long().numpy() for name, t in tensors.items() if name.startswith(start)}
        if not found:
            raise ConfigError(f"{path}: has no test of {family} at {length} tokens; add it to data.tests, prepare again")
        return Rows(family, **found)


class NeedleConfig(NeedleBase):
    """Keys, values and filler are ids of their own; `filler: hard` draws keys and values too, which then say nothing."""

    kind: Literal["needle"] = "needle"
    n_keys: int = Field(64, ge=2, le=2**16)
    n_values: int = Field(64, ge=2, le=2**16)
    n_filler: int = Field(256, ge=1, le=2**16)
    hard: bool = Field(False, description="filler draws keys and values too, never the words between them")

    @model_validator(mode="after")
    def _holds_its_needles(self) -> Self:
        self.check_room(self.lexicon(Path()))
        return self

    @property
    def n_answers(self) -> int:
        return self.n_values

    def n_tokens(self, data: Path) -> int:
        return FIRST_KEY + self.n_keys + self.n_values + self.n_filler

    def lexicon(self, data: Path) -> Lexicon:
        keys = FIRST_KEY + np.arange(self.n_keys)
        values = FIRST_KEY + self.n_keys + np.arange(self.n_values)
        return Lexicon(BOS, keys, values, opens=(KEY,), asserts=(VAL,), refers=(REF,), bridges=(VAL,))

    def filler(self, data: Path, split: Literal["train", "held_out"]) -> Filler:
        first = FIRST_KEY if self.hard else FIRST_KEY + self.n_keys + self.n_values
        end = self.n_tokens(data)
        return lambda generator, rows, length: generator.integers(first, end, (rows, length))


class NeedleStream:
    """Endless training batches; its whole state is the position. One family and length for all micro-batches of a step."""

    def __init__(self, config: NeedleBase, lexicon: Lexicon, filler: Filler, plan: StreamPlan):
        self.config, self.lexicon, self.filler, self.plan, self.position = config, lexicon, filler, plan, 0
        config.check(plan)

    def __next__(self) -> TokenBatch:
        family, length = self.drawn(self.position // self.plan.accumulation)
        generator = _generator("needle rows", self.plan.seed, self.position)
        rows = self.plan.tokens_per_batch // length
        self.position += 1
        return training_rows(self.config, self.lexicon, self.filler, generator, family, rows, length)

    def drawn(self, step: int) -> tuple[Family, int]:
        """Family and length of a step's rows."""
        config = self.config
        generator = _generator("needle step", self.plan.seed, step)
        growing = config.curriculum * self.plan.steps
        grown = min(1.0, (step + 1) / growing) if growing else 1.0
        longest = config.s_min * (config.s_max / config.s_min) ** grown
        length = math.exp(generator.uniform(math.log(config.s_min), math.log(longest)))
        families = config.families[: math.ceil(grown * len(config.families))]
        return families[generator.integers(len(families))], round(length)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def training_rows(
    config: NeedleBase, lexicon: Lexicon, filler: Filler, generator: Generator, family: Family, n_rows: int, length: int
) -> TokenBatch:
    """Rows of `length` tokens with the same number of questions, so many that needles and questions are half of it at most."""
    cost = lexicon.cost(family, config.n_values_a_key)
    n_questions = int(generator.integers(1, max(1, min(config.n_questions, length // (2 * cost))) + 1))
    asked = n_questions * (lexicon.question_width(family, config.n_values_a_key) + len(lexicon.closes))
    rows = draw(generator, lexicon, filler, family, n_rows, length - asked, n_questions, config.n_values_a_key)
    return to_batch(lexicon, rows)


def _generator(purpose: str, *numbers: int) -> Generator:
    return np.random.default_rng(derived_seed(purpose, *numbers))


def _read(batch: TokenBatch) -> Iterator[Tensor]:
    yield from (batch.tokens_BT, batch.targets_BT)


def _sha256(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.long().numpy().tobytes())
    return digest.hexdigest()
