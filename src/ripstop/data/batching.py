"""Sequences of many lengths: stored flat, padded into rows, gathered into batches under a budget of tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.files import replacing

Indices = NDArray[np.int64]
T = TypeVar("T")


def derived_seed(purpose: str, *numbers: int) -> int:
    """64 bits that depend on every argument: the seed of one purpose never meets that of another."""
    text = " ".join([purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Sequences:
    """Sequence i is tokens[offsets[i]:offsets[i + 1]]; tokens int32, offsets int64 and one longer than the number."""

    tokens: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Sequences:
        """From lists of token ids."""
        rows = list(rows)
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        flat = np.fromiter((token for row in rows for token in row), np.int32, int(lengths.sum()))
        return cls(torch.from_numpy(flat), torch.from_numpy(np.concatenate([[0], lengths.cumsum()])))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> list[int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.tokens[self.offsets[index] : self.offsets[index + 1]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> Indices:
        return self.offsets.diff().numpy()

    def padded(self, rows: Indices, fill: int) -> Tensor:
        """int64 (len(rows), longest of them): the sequences side by side, `fill` behind their ends."""
        chosen = torch.from_numpy(rows)
        starts, ends = self.offsets[chosen], self.offsets[chosen + 1]
        positions = starts[:, None] + torch.arange(int((ends - starts).max()))
        inside = positions < ends[:, None]
        padded_BT = torch.full(positions.shape, fill)
        padded_BT[inside] = self.tokens[positions[inside]].long()
        return padded_BT


def save_sequences(path: Path, columns: Mapping[str, Sequences]) -> None:
    """One safetensors file with `<name>.tokens` and `<name>.offsets` for every column."""
    tensors = {f"{name}.{part}": tensor for name, column in columns.items() for part, tensor in vars(column).items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_sequences(path: Path) -> dict[str, Sequences]:
    """What `save_sequences` wrote; `ConfigError` where there is none or it is damaged."""
    tensors = load_tensors(path)
    names = [name.removesuffix(".tokens") for name in tensors if name.endswith(".tokens")]
    try:
        return {name: Sequences(tensors[f"{name}.tokens"], tensors[f"{name}.offsets"]) for name in names}
    except KeyError as error:
        raise ConfigError(f"{path}: holds no {error}; delete {path.parent / 'data.json'} and prepare the data again") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a prepared safetensors file; `ConfigError` where there is none or it is damaged."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; run `python -m ripstop prepare` for this data first")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); delete {path.parent / 'data.json'} and prepare the data again"
        ) from None


def token_batches(order: Indices, lengths: Sequence[Indices], budget: int) -> list[Indices]:
    """Cut `order` into batches, each as many rows as fit: rows x (sum over the columns of the longest) <= budget.

    `lengths` holds one array for each column of a row (source and target, say), indexed by what `order` holds.
    """
    batches, start = [], 0
    longest = [0] * len(lengths)
    columns = [column[order].tolist() for column in lengths]
    for end, row in enumerate(zip(*columns, strict=True)):
        if sum(row) > budget:
            raise ConfigError(
                f"a batch of {budget} tokens does not hold a row of {sum(row)}; "
                "raise tokens_per_step, or tokens_per_batch where it is tested"
            )
        wider = [max(pair) for pair in zip(longest, row, strict=True)]
        if (end + 1 - start) * sum(wider) > budget:
            batches.append(order[start:end])
            start, wider = end, list(row)
        longest = wider
    return [*batches, order[start:]] if start < len(order) else batches


def evenly(rows: Sequence[T], n: int) -> list[T]:
    """`n` of them at equal distances, or all where there are fewer.

    >>> evenly("abcdef", 3), evenly("ab", 3)
    (['a', 'c', 'e'], ['a', 'b'])
    """
    n = min(n, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]


def row_counts(n_rows: int, batch_size: int) -> list[int]:
    """Sizes of the batches that cut `n_rows` in order: `batch_size` (at least 2) each, the last one what is left.

    No batch has a single row where there are two: a row that would be left alone is joined by the one before it, or
    joins the batch before where that has only two.

    >>> row_counts(9, 4), row_counts(5, 2), row_counts(1, 4)
    ([4, 3, 2], [2, 3], [1])
    """
    counts = [batch_size] * (n_rows // batch_size) + [n_rows % batch_size] * (n_rows % batch_size > 0)
    if len(counts) > 1 and counts[-1] == 1:
        counts[-2:] = [counts[-2] - 1, 2] if counts[-2] > 2 else [counts[-2] + 1]
    return counts


def shuffled_batches(lengths: Sequence[Indices], budget: int, seed: int, bucket: int = 8) -> list[Indices]:
    """Every row once: rows of similar lengths share a batch, in an order of batches and rows that `seed` decides.

    Lengths that differ by less than `bucket` tokens count as equal, so that the rows of a batch change with the seed.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths[0]))
    # The sum of the lengths decides what a row costs, the first column then keeps unlike shapes apart.
    keys = (lengths[0][order] // bucket, np.sum([column[order] for column in lengths], axis=0) // bucket)
    batches = token_batches(order[np.lexsort(keys)], lengths, budget)
    return [batches[i] for i in generator.permutation(len(batches))]
