"""Tasks whose rows are drawn: what their kinds share. Trained on short rows, tested on rows up to several times as long.

What a length counts is the kind's own. Every row belongs to one split, and a hash of all that it shows says to which: one
eighth is for the tests, one eighth for validation, the rest for training. So no row is in two splits, whatever the seeds.

A training row asks wherever it can be asked, a test row only what takes all of it. Training batch i is a function of the
stream's seed and i alone; no global random state is read or changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Generator, Tensor

from ripstop.batch import StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.base import DataConfig, RowLength
from ripstop.data.batching import derived_seed, load_tensors, row_counts
from ripstop.files import replacing

PAD, BOS, ASK, NOISE, SEP = 0, 1, 2, 3, 4
FIRST = 5
"""The first id that is the kind's own."""
LARGEST_TEST = 2**28
"""Tokens, so that it can be held at once."""
MOST_DRAWS = 1000
"""In a row, that give no row of a split: there is none."""
Split = Literal["train", "valid", "test"]


class SyntheticConfig(DataConfig):
    """Subclasses add `kind: Literal[...]`, and define what raises here."""

    lengths: list[int] = Field(min_length=1, description="rising; each step trains on one of them, all equally often")
    test_lengths: list[int] = Field(min_length=1, description="rising")
    curriculum: float = Field(0.0, ge=0, le=1, description="part of the steps over which the longest of the lengths grows")
    n_test: int = Field(512, ge=2, le=2**24, description="test rows of each length")
    n_valid: int = Field(64, ge=1, le=2**24, description="validation rows of each length of the training")
    test_seed: int = Field(0, description="of the test and the validation rows")
    files: ClassVar[tuple[str, ...]] = ("test.safetensors",)

    @model_validator(mode="after")
    def _lengths_rise(self) -> Self:
        for name, lengths in (("lengths", self.lengths), ("test_lengths", self.test_lengths)):
            if lengths != sorted(set(lengths)) or lengths[0] < 1:
                raise ValueError(f"{name} must rise from 1 or more without repeats, and is {lengths}")
        self.check_lengths()
        tokens = self.n_test * sum(map(self.row_length, self.test_lengths))
        if tokens > LARGEST_TEST:
            raise ValueError(
                f"the tests would hold {tokens} tokens; lower n_test or test_lengths to at most {LARGEST_TEST} tokens"
            )
        return self

    def check_lengths(self) -> None:
        """`ValueError` where the task has no rows of one of the lengths."""

    @property
    def n_tokens(self) -> int:
        """Number of token ids."""
        raise self._lacks("n_tokens")

    @property
    def n_answers(self) -> int:
        """How many answers there are to guess from."""
        raise self._lacks("n_answers")

    def row_length(self, length: int) -> int:
        """Tokens of a row."""
        raise self._lacks("row_length")

    def draw(self, length: int, n: int, generator: Generator) -> Tensor:
        """What `n` rows show, int64 (n, width): every row that there is equally likely."""
        raise self._lacks("draw")

    def lay_out(self, shown: Tensor, length: int, every: bool) -> TokenBatch:
        """Rows as a model reads them. every: asked wherever they can be; else only what takes the whole row."""
        raise self._lacks("lay_out")

    @property
    def longest_row(self) -> RowLength:
        return RowLength(self.row_length(self.test_lengths[-1]))

    def check(self, plan: StreamPlan) -> None:
        needed = self.row_length(self.lengths[-1])
        if plan.tokens_per_batch < needed:
            raise ConfigError(
                f"training.tokens_per_step: a batch of {plan.tokens_per_batch} tokens does not hold one row of data.lengths "
                f"{self.lengths[-1]}, which takes {needed}; raise it, or lower data.lengths"
            )

    def vocab_size(self, data: Path) -> int:
        return self.n_tokens

    def stream(self, data: Path, plan: StreamPlan) -> SyntheticStream:
        return SyntheticStream(self, plan)

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[TokenBatch]:
        """`n_valid` rows of each of `lengths`, asked as in training."""
        for length in self.lengths:
            shown = self.rows("valid", length, self.n_valid, _generator("valid", self.test_seed, length))
            for part in shown.split(max(1, plan.tokens_per_batch // self.row_length(length))):
                yield self.lay_out(part, length, every=True)

    def rows(self, split: Split, length: int, n: int, generator: Generator) -> Tensor:
        """What `n` rows of a split show; `ConfigError` where it has none of this length."""
        kept: list[Tensor] = []
        for _ in range(MOST_DRAWS):
            drawn = self.draw(length, n, generator)
            kept.append(drawn[_is_of(split, drawn)])
            if sum(map(len, kept)) >= n:
                return torch.cat(kept)[:n]
        raise ConfigError(f"data: there are too few rows of length {length} for a {split} split; leave out that length")

    def training_batch(self, length: int, rows: int, seed: int, index: int) -> TokenBatch:
        """Training batch `index` of the stream with this seed."""
        return self.lay_out(self.rows("train", length, rows, _generator("train", seed, index)), length, every=True)

    def write(self, out: Path) -> dict[str, Any]:
        tests = {
            length: self.rows("test", length, self.n_test, _generator("test", self.test_seed, length))
            for length in self.test_lengths
        }
        training = (self.training_batch(length, 16, seed=0, index=i) for i, length in enumerate(self.lengths))
        hashes = {
            "sha256_test": _sha256(self.lay_out(shown, length, every=False) for length, shown in tests.items()),
            "sha256_first_training_batches": _sha256(training),
        }
        with replacing(out / "test.safetensors") as temporary:
            save_file({str(length): shown.to(torch.int32) for length, shown in tests.items()}, temporary)
        return {
            "vocab_size": self.n_tokens,
            "sha256": hashlib.sha256("".join(hashes.values()).encode()).hexdigest(),
            **hashes,
            "chance_accuracy": 1 / self.n_answers,
            "examples": {str(length): self.n_test for length in self.test_lengths},
            "different": {str(length): len(shown.unique(dim=0)) for length, shown in tests.items()},
            "row_length": {str(length): self.row_length(length) for length in self.test_lengths},
        }

    def test_batches(self, data: Path, length: int, batch_size: int) -> Iterator[TokenBatch]:
        """The test rows of a length, in order; the last batches may differ by `row_counts`."""
        path = data / "test.safetensors"
        tests = load_tensors(path)
        if str(length) not in tests:
            raise ConfigError(f"{path}: has no test of length {length}; add it to the data's test_lengths, prepare again")
        shown = tests[str(length)].long()
        for part in shown.split(row_counts(len(shown), batch_size)):
            yield self.lay_out(part, length, every=False)


class SyntheticStream:
    """Endless training batches; its whole state is the position. One length for all micro-batches of a step."""

    def __init__(self, config: SyntheticConfig, plan: StreamPlan):
        self.config, self.plan, self.position = config, plan, 0
        config.check(plan)

    def __next__(self) -> TokenBatch:
        length = self.length(self.position // self.plan.accumulation)
        rows = self.plan.tokens_per_batch // self.config.row_length(length)
        batch = self.config.training_batch(length, rows, self.plan.seed, self.position)
        self.position += 1
        return batch

    def length(self, step: int) -> int:
        """Drawn evenly from what the curriculum has reached: the shortest at step 0, all after its part of the steps."""
        lengths = self.config.lengths
        growing = self.config.curriculum * self.plan.steps
        reached = 1 + int(step / growing * len(lengths)) if step < growing else len(lengths)
        return lengths[derived_seed("length", self.plan.seed, step) % reached]

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def _is_of(split: Split, shown: Tensor) -> Tensor:
    """Bool, (rows,): whether a row is of a split, by a hash of what it shows: FNV-1a, mixed as MurmurHash3 is at its end."""
    hash_N = torch.full((len(shown),), 0x4BF29CE484222325)
    for column_N in shown.T:
        hash_N = (hash_N ^ column_N) * 0x100000001B3  # wraps around
    for factor in (0x7F51AFD7ED558CCD, 0x44CEB9FE1A85EC53):
        hash_N = (hash_N ^ _high(hash_N)) * factor
    eighth_N = (hash_N ^ _high(hash_N)) & 7
    return eighth_N > 1 if split == "train" else eighth_N == (0 if split == "test" else 1)


def _high(hash_N: Tensor) -> Tensor:
    """The upper 31 bits."""
    return (hash_N >> 33) & 0x7FFFFFFF


def _generator(purpose: str, seed: int, index: int) -> Generator:
    return Generator().manual_seed(derived_seed(purpose, seed, index))


def _sha256(batches: Iterable[TokenBatch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in (batch.tokens_BT, batch.targets_BT):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
