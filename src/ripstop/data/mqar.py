"""Multi-query associative recall: key-value pairs, then every key once more; its value is to be recalled.

Arora et al., Zoology (arXiv 2312.04927). Two pairs (k 17: v 42, k 12: v 40), layout `decoder`, format `separator`:

    column        0    1   2   3   4    5   6   7
    tokens_BT    BOS  17  42  12  40  SEP  12  17
    targets_BT     .   .   .   .   .    .  40  42          . = IGNORE
    context_BT     x   x   x   x   x    .   .   .          x = what a control replaces

Format `colon` writes `17 : 42` for `17 42`. Layout `seq2seq`:

    source_BS    BOS  17  42  12  40  EOS
    tokens_BT    BOS  12  17  EOS
    targets_BT     .  40  42    .

Test and training examples are disjoint by construction. The value indices of a test example sum to 0 modulo n_values,
those of a training example do not, and the sum does not depend on the order of pairs or queries. This gives nothing
away: any num_pairs - 1 of the values are independent and uniform in both splits, so no value can be told from fewer
than all the others, and what training shows of the last one is only that one of n_values candidates is impossible,
a candidate that in a test example is the right one. (With a single pair the rule *would* fix the value: at least 2.)

Training batch i is a function of the stream's seed and i alone; no global random state is read or changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Generator, Tensor

from ripstop.batch import IGNORE, StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.base import DataConfig, RowLength
from ripstop.data.batching import derived_seed, load_tensors, row_counts
from ripstop.files import replacing

PAD, BOS, EOS, COLON, SEP = 0, 1, 2, 3, 4
FIRST_KEY = 10
LARGEST_TEST = 2**28
"""Tokens, so that it can be drawn at once."""
Split = Literal["train", "test"]


class MqarConfig(DataConfig):
    """Keys are the ids [10, 10 + n_keys), values the n_values ids after them."""

    kind: Literal["mqar"] = "mqar"
    n_keys: int = Field(64, ge=2, le=2**20)
    n_values: int = Field(64, ge=2, le=2**20)
    num_pairs: list[int] = Field(min_length=1, description="rising; each step trains on one of them, all equally often")
    test_pairs: list[int] = Field([], description="rows of the test set; empty: num_pairs")
    layout: Literal["decoder", "seq2seq"] = "decoder"
    format: Literal["separator", "colon"] = "separator"
    curriculum: float = Field(0.0, ge=0, le=1, description="part of the steps over which the largest num_pairs grows")
    n_test: int = Field(512, ge=2, le=2**24, description="test examples for each of test_pairs")
    n_valid: int = Field(64, ge=1, le=2**24, description="validation examples of the largest num_pairs; see `validation`")
    test_seed: int = Field(0, description="of the test and the validation examples")
    files: ClassVar[tuple[str, ...]] = ("test.safetensors",)

    @model_validator(mode="before")
    @classmethod
    def _test_what_was_trained(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("test_pairs", []) == [] and "num_pairs" in values:
            return {**values, "test_pairs": values["num_pairs"]}
        return values

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        for name, pairs in (("num_pairs", self.num_pairs), ("test_pairs", self.test_pairs)):
            if pairs != sorted(set(pairs)):
                raise ValueError(f"{name} must rise without repeats, and is {pairs}")
            if pairs[0] < 2:
                raise ValueError(f"{name} starts at {pairs[0]}, but the smallest number of pairs is 2")
            if pairs[-1] > self.n_keys:
                raise ValueError(f"{name} asks for {pairs[-1]} distinct keys, but n_keys is {self.n_keys}")
        tokens = self.n_test * sum(self.row_length(n) for n in self.test_pairs)
        if tokens > LARGEST_TEST:
            raise ValueError(f"the test set would hold {tokens} tokens; lower n_test or test_pairs to at most {LARGEST_TEST}")
        return self

    @property
    def n_tokens(self) -> int:
        """Number of token ids."""
        return FIRST_KEY + self.n_keys + self.n_values

    def row_length(self, num_pairs: int) -> int:
        """Tokens a model reads for one example, the source included."""
        pair = 3 if self.format == "colon" else 2
        return (pair + 1) * num_pairs + (2 if self.layout == "decoder" else 4)

    @property
    def longest_row(self) -> RowLength:
        num_pairs = self.test_pairs[-1]
        if self.layout == "decoder":
            return RowLength(self.row_length(num_pairs))
        return RowLength(num_pairs + 2, self.row_length(num_pairs) - num_pairs - 2)

    def check(self, plan: StreamPlan) -> None:
        longest = self.row_length(self.num_pairs[-1])
        if plan.tokens_per_batch < longest:
            raise ConfigError(
                f"training.tokens_per_step: a batch of {plan.tokens_per_batch} tokens does not hold one example of "
                f"{self.num_pairs[-1]} pairs, which takes {longest}; raise it, or lower data.num_pairs"
            )

    def vocab_size(self, data: Path) -> int:
        return self.n_tokens

    def stream(self, data: Path, plan: StreamPlan) -> MqarStream:
        return MqarStream(self, plan)

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[TokenBatch]:
        """Examples of each of `num_pairs`, drawn as training draws them, from numbers of their own.

        `n_valid` of the largest, and of fewer pairs as many more, so that each number of pairs has about as many targets: loss
        and accuracy over all of them are means over the numbers of pairs.
        """
        for num_pairs in self.num_pairs:
            n = self.n_valid * self.num_pairs[-1] // num_pairs
            drawn = examples(self, num_pairs, n, _generator("valid", self.test_seed, num_pairs), "train")
            rows = max(1, plan.tokens_per_batch // self.row_length(num_pairs))
            columns = (column.split(rows) for column in vars(drawn).values())
            yield from (to_batch(self, MqarExamples(*part)) for part in zip(*columns, strict=True))

    def write(self, out: Path) -> dict[str, Any]:
        tests = {n: examples_to_test(self, n) for n in self.test_pairs}
        tensors = {f"{n}.{name}": tensor.to(torch.int32) for n, test in tests.items() for name, tensor in vars(test).items()}
        training = [training_batch(self, n, 16, seed=0, index=i) for i, n in enumerate(self.num_pairs)]
        test_hash = _sha256(t for test in tests.values() for t in astuple(test))
        shown = ((b.tokens_BT, b.targets_BT, b.source_BS) for b in training)
        training_hash = _sha256(t for tensors in shown for t in tensors if t is not None)
        with replacing(out / "test.safetensors") as temporary:
            save_file(tensors, temporary)
        return {
            "vocab_size": self.n_tokens,
            "sha256": hashlib.sha256((test_hash + training_hash).encode()).hexdigest(),
            "sha256_test": test_hash,
            "sha256_first_training_batches": training_hash,
            "chance_accuracy": 1 / self.n_values,
            "examples": {str(n): self.n_test for n in self.test_pairs},
            "row_length": {str(n): self.row_length(n) for n in self.test_pairs},
        }

    def test_batches(self, data: Path, num_pairs: int, batch_size: int) -> Iterator[TokenBatch]:
        """The test examples with `num_pairs` pairs, in order; the last batches may differ by `row_counts`."""
        path = data / "test.safetensors"
        tensors = load_tensors(path)
        if f"{num_pairs}.keys" not in tensors:
            raise ConfigError(f"{path}: has no test with {num_pairs} pairs; add it to the data's test_pairs, prepare again")
        columns = [tensors[f"{num_pairs}.{name}"].long() for name in ("keys", "values", "queries", "answers")]
        counts = row_counts(len(columns[0]), batch_size)
        for rows in zip(*(column.split(counts) for column in columns), strict=True):
            yield to_batch(self, MqarExamples(*rows))


@dataclass(frozen=True)
class MqarExamples:
    """Token ids, int64 (examples, num_pairs): pairs in the order shown, queries and answers in the order asked."""

    keys: Tensor
    values: Tensor
    queries: Tensor
    answers: Tensor


class MqarStream:
    """Endless training batches; its whole state is the position. One num_pairs for all micro-batches of a step."""

    def __init__(self, config: MqarConfig, plan: StreamPlan):
        self.config, self.plan, self.position = config, plan, 0
        self._tokens = plan.tokens_per_batch
        config.check(plan)

    def __next__(self) -> TokenBatch:
        num_pairs = self.num_pairs(self.position // self.plan.accumulation)
        rows = self._tokens // self.config.row_length(num_pairs)
        batch = training_batch(self.config, num_pairs, rows, self.plan.seed, self.position)
        self.position += 1
        return batch

    def num_pairs(self, step: int) -> int:
        """Drawn evenly from what the curriculum has reached: the first at step 0, all after its part of the steps."""
        reached = len(self.config.num_pairs)
        growing = self.config.curriculum * self.plan.steps
        if step < growing:
            reached = min(reached, 1 + int(step / growing * reached))
        return self.config.num_pairs[derived_seed("num_pairs", self.plan.seed, step) % reached]

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def training_batch(config: MqarConfig, num_pairs: int, rows: int, seed: int, index: int) -> TokenBatch:
    """Training batch `index` of the stream with this seed."""
    return to_batch(config, examples(config, num_pairs, rows, _generator("train", seed, index), "train"))


def examples(config: MqarConfig, num_pairs: int, n: int, generator: Generator, split: Split = "test") -> MqarExamples:
    """`n` examples of a split: distinct keys in random order, values that may repeat, each key queried once."""
    keys = FIRST_KEY + _distinct(n, num_pairs, config.n_keys, generator)
    values = torch.randint(config.n_values, (n, num_pairs), generator=generator)
    # See the module's docstring: the sum of all values says to which split an example belongs.
    residue = 0 if split == "test" else torch.randint(1, config.n_values, (n,), generator=generator)
    values[:, -1] = (residue - values[:, :-1].sum(1)) % config.n_values
    values += FIRST_KEY + config.n_keys
    order = _permutations(n, num_pairs, generator)
    return MqarExamples(keys, values, keys.gather(1, order), values.gather(1, order))


def examples_to_test(config: MqarConfig, num_pairs: int) -> MqarExamples:
    """The test set of one number of pairs. No two neighbours show the same pairs in the same order.

    So any two rows of a batch differ, and the control `wrong` finds another context in it. Where there are few contexts
    an example that repeats its neighbour is drawn again.
    """
    generator = _generator("test", config.test_seed, num_pairs)
    drawn = examples(config, num_pairs, config.n_test, generator)
    while bool((again := _repeats(drawn)).any()):
        fresh = examples(config, num_pairs, int(again.sum()), generator)
        for name, column in vars(drawn).items():
            column[again] = getattr(fresh, name)
    return drawn


def _repeats(examples: MqarExamples) -> Tensor:
    """Bool, (examples,): whether one shows what the one before it shows."""
    shown = torch.cat([examples.keys, examples.values], 1)
    repeats = torch.zeros(len(shown), dtype=torch.bool)
    repeats[1:] = (shown[1:] == shown[:-1]).all(1)
    return repeats


def to_batch(config: MqarConfig, examples: MqarExamples) -> TokenBatch:
    """Examples laid out as in the module's docstring."""
    n, num_pairs = examples.keys.shape
    pair = 3 if config.format == "colon" else 2
    n_context = 1 + pair * num_pairs
    context = torch.full((n, n_context + 1), COLON)
    context[:, 0] = BOS
    context[:, 1:n_context:pair] = examples.keys
    context[:, pair:n_context:pair] = examples.values
    if config.layout == "decoder":
        context[:, -1] = SEP
        tokens_BT = torch.cat([context, examples.queries], 1)
        targets_BT = torch.full_like(tokens_BT, IGNORE)
        targets_BT[:, n_context + 1 :] = examples.answers
        context_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
        context_BT[:, :n_context] = True
        return TokenBatch(tokens_BT, targets_BT, context_BT=context_BT)
    context[:, -1] = EOS
    tokens_BT = torch.full((n, num_pairs + 2), EOS)
    tokens_BT[:, 0] = BOS
    tokens_BT[:, 1:-1] = examples.queries
    targets_BT = torch.full_like(tokens_BT, IGNORE)
    targets_BT[:, 1:-1] = examples.answers
    return TokenBatch(tokens_BT, targets_BT, source_BS=context)


def _distinct(rows: int, n: int, size: int, generator: Generator) -> Tensor:
    """(rows, n) of range(size): every ordered selection of n distinct numbers is equally likely.

    The first n different numbers of a long enough run of independent draws are exactly that (rejection), and cost
    O(n) where a permutation costs O(size log size).
    """
    # The draws needed until n of `size` numbers have been seen (coupon collector), and 5 standard deviations.
    expected = size * (math.log(size) - math.log(size - n)) if n < size else math.inf
    if expected > size / 2:
        return _permutations(rows, size, generator)[:, :n]
    width = int(expected + 5 * math.sqrt(expected - n + 1)) + 1
    draws = torch.randint(size, (rows, width), generator=generator)
    while int((first := _first_occurrence(draws)).sum(1).min()) < n:
        draws = torch.cat([draws, torch.randint(size, (rows, width), generator=generator)], 1)
    return draws[first & (first.cumsum(1) <= n)].view(rows, n)


def _first_occurrence(draws: Tensor) -> Tensor:
    # Sorted with the position in the low bits, the first of equal draws is the one whose neighbour on the left differs.
    bits = draws.shape[1].bit_length()
    tagged = torch.from_numpy(np.sort(((draws << bits) + torch.arange(draws.shape[1])).numpy(), 1))
    number = tagged >> bits
    new = torch.ones_like(draws, dtype=torch.bool)
    torch.ne(number[:, 1:], number[:, :-1], out=new[:, 1:])
    return torch.empty_like(new).scatter_(1, tagged & ((1 << bits) - 1), new)


def _permutations(rows: int, n: int, generator: Generator) -> Tensor:
    """(rows, n) random permutations: indices sorted by random numbers of some 50 bits, so that ties do not matter."""
    # The index travels in the low bits: numpy sorts plain integers many times faster than either library argsorts.
    bits = n.bit_length()
    tagged = torch.randint(1 << (63 - bits), (rows, n), generator=generator).bitwise_left_shift_(bits)
    tagged += torch.arange(n)
    return torch.from_numpy(np.sort(tagged.numpy(), 1)).bitwise_and_((1 << bits) - 1)


def _generator(purpose: str, seed: int, index: int) -> Generator:
    # Its Mersenne twister keeps 32 bits of the seed: of 100,000 batches about one pair comes from the same numbers.
    return Generator().manual_seed(derived_seed(purpose, seed, index))


def _sha256(tensors: Iterator[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.to(torch.int64).numpy().tobytes())
    return digest.hexdigest()
