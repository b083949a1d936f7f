"""A store that keeps a model's state from token to token as a number format holds it, and counts what that takes.

What is new in a state is rounded after each token, and nothing twice that is not made anew: see `roles`. With error feedback,
what rounding took from a recurrent tensor is carried to the next token and added before it is rounded again; it is carried in
the same format, rounded to nearest, and its bytes count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from ripstop.mixers.base import State
from ripstop.quantized_state.number_format import FORMATS
from ripstop.quantized_state.roles import Held, Place, held, replaced

Rounding = Literal["nearest", "stochastic", "feedback"]


@dataclass(frozen=True)
class Storage:
    """A name of `FORMATS`, the numbers that share a scale, and how they are rounded: `feedback` to nearest, the error
    carried."""

    format: str
    rounding: Rounding = "nearest"
    group: int = 32

    def n_bytes(self, state: State) -> int:
        """Bytes that a state takes, carried errors included, without room for tokens to come."""
        return sum(self._bytes_of(one) for one in _filled(state))

    def bits_per_element(self, state: State) -> float:
        """Of the state, scales and carried errors counted."""
        return 8 * self.n_bytes(state) / sum(one.values.numel() for one in _filled(state))

    def _bytes_of(self, one: Held) -> int:
        copies = 2 if self.rounding == "feedback" and one.role == "recurrent" else 1
        return copies * FORMATS[self.format].n_bytes(one.values.shape, self.group)

    def rounded(self, x: Tensor, generator: Generator) -> Tensor:
        return FORMATS[self.format].rounded(x, self.group, generator if self.rounding == "stochastic" else None).to(x.dtype)


class Store:
    """Of one decoding, whose batch is as many equal parts as there are storages, each kept in its own.

    `keep` is called with the state after every token. seed: of stochastic rounding.
    """

    def __init__(self, storages: Sequence[Storage], seed: int = 0):
        self.storages = tuple(storages)
        self._generators = [Generator().manual_seed(seed) for _ in self.storages]
        self._counts: dict[Place, int] = {}
        self._rings: dict[Place, Tensor] = {}
        self._errors: dict[tuple[Place, int], Tensor] = {}

    def copy(self) -> Store:
        """Another one that goes on from here."""
        other = Store(self.storages)
        for generator, own in zip(other._generators, self._generators, strict=True):
            generator.set_state(own.get_state())
        other._counts, other._rings, other._errors = {**self._counts}, {**self._rings}, {**self._errors}
        return other

    def keep(self, state: State) -> State:
        """The state as it comes back at the next token. The given one is consumed."""
        return replaced(state, {one.place: self._kept(one) for one in held(state)})

    def _kept(self, one: Held) -> Tensor:
        match one.role:
            case "recurrent":
                return self._rounded(one.values, one.place)
            case "latest":
                return self._rounded(one.values)
            case "appended":
                first = self._counts.get(one.place, 0)
                self._counts[one.place] = one.count
                return self._written(one.values, slice(first, one.count))
            case "shifted":
                return self._written(one.values, slice(-1, None))
            case "filling":
                end = min(one.count, one.values.shape[1])
                return self._written(one.values, slice(end - 1, end))
            case "ring":
                last = self._rings.get(one.place, torch.zeros_like(one.values))
                (new_N,) = (one.values != last).flatten(2).any(-1).any(0).nonzero(as_tuple=True)
                values = self._written(one.values, new_N)
                self._rings[one.place] = values.clone()
                return values

    def _written(self, values: Tensor, new: slice | Tensor) -> Tensor:
        """With the new entries along the axis of time rounded."""
        values[:, new] = self._rounded(values[:, new])
        return values

    def _rounded(self, values: Tensor, place: Place | None = None) -> Tensor:
        """Each part in its storage. place: of a recurrent tensor, whose errors may be carried."""
        parts = values.chunk(len(self.storages))
        return torch.cat([self._part(number, part, place) for number, part in enumerate(parts)])

    def _part(self, number: int, part: Tensor, place: Place | None) -> Tensor:
        storage, generator = self.storages[number], self._generators[number]
        if place is None or storage.rounding != "feedback":
            return storage.rounded(part, generator)
        wanted = part + self._errors.get((place, number), 0)
        kept = storage.rounded(wanted, generator)
        self._errors[place, number] = storage.rounded(wanted - kept, generator)
        return kept


def _filled(state: Any) -> list[Held]:
    """The tensors of a state without room for tokens to come."""
    if hasattr(state, "filled"):
        return list(held(state.filled()))
    if isinstance(state, list | tuple) and not any(isinstance(part, Tensor) for part in state):
        return [one for part in state for one in _filled(part)]
    return list(held(state))
