"""Rows decoded token by token, their state kept in several storages at once: one batch, whose step costs little more."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Annotated, Self

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from ripstop.config import ConfigError, Size, nearest
from ripstop.evaluation.base import PartConfig
from ripstop.mixers.base import State, reorder_state
from ripstop.models.base import Model
from ripstop.quantized_state.number_format import FORMATS
from ripstop.quantized_state.roles import held
from ripstop.quantized_state.store import Storage, Store
from ripstop.records import Measurement, Scalar

EXACT = Storage("fp32")
"""Keeps a state as it is: what every other storage is compared with."""


def _known(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"no number format is called {name!r}{nearest(name, list(FORMATS))}")
    return name


FormatName = Annotated[str, AfterValidator(_known)]


class StoredPart(PartConfig):
    """Formats of the state between tokens, by how they are rounded. Lengths are multiples of the longest row of training."""

    nearest: list[FormatName] = list(FORMATS)
    stochastic: list[FormatName] = []
    feedback: list[FormatName] = []
    group_size: Size = Field(32, description="neighbours along the last axis that share a scale")
    lengths: list[int] = Field([1, 2, 4, 8], min_length=1)
    n_rows: int = Field(32, ge=1, le=2**16)

    @model_validator(mode="after")
    def _has_a_reference(self) -> Self:
        if EXACT.format not in self.nearest:
            raise ValueError(f"nearest: {EXACT.format} is not among them, and every loss is against it; add it")
        if self.lengths != sorted(set(self.lengths)) or self.lengths[0] < 1:
            raise ValueError(f"lengths must rise without repeats from 1 or more, and are {self.lengths}")
        return self

    def storages(self) -> list[Storage]:
        """Every way of keeping a state."""
        ways = {"nearest": self.nearest, "stochastic": self.stochastic, "feedback": self.feedback}
        return [Storage(name, rounding, self.group_size) for rounding, names in ways.items() for name in names]  # type: ignore[arg-type]


class Decoding:
    """Rows that are read token by token, each row once in every storage, with room for so many tokens. Used in inference mode.

    The prompt is read by steps, too. Read in one piece it would be rounded once, and how often a recurrent state is rounded
    would depend on where a prompt ends; so it is as often as there are tokens, for every mixer.
    """

    def __init__(self, model: Model, n_rows: int, room: int, storages: Sequence[Storage]):
        self.model, self.n_rows = model, n_rows
        self.store = Store(storages)
        self.state = model.init_state(len(storages) * n_rows, room)

    def read(self, tokens_BT: Tensor) -> Iterator[Tensor]:
        """Logits (storages, B, V) after each token. `ConfigError` where the state is no longer finite after the last."""
        n_storages = len(self.store.storages)
        for tokens_B in tokens_BT.repeat(n_storages, 1).unbind(1):
            logits, state = self.model.step(tokens_B, self.state)
            self.state = self.store.keep(state)
            yield logits.unflatten(0, (n_storages, self.n_rows))
        if not all(bool(torch.isfinite(one.values).all()) for one in held(self.state)):
            raise ConfigError(
                "a state that was kept in few bits is no longer finite; leave out the formats that cannot hold it"
            )

    def branch(self) -> Decoding:
        """Another one that goes on from here."""
        other = copy.copy(self)
        every_B = torch.arange(len(self.store.storages) * self.n_rows)
        other.store, other.state = self.store.copy(), reorder_state(self.state, every_B)
        return other


def slice_of(storage: Storage) -> dict[str, Scalar]:
    """What tells the records of a storage from those of others."""
    return {"format": storage.format, "rounding": storage.rounding}


def sizes(storages: Sequence[Storage], state: State) -> Iterator[Measurement]:
    """What one row of a state takes in each storage."""
    row = reorder_state(state, torch.tensor([0]))
    for storage in storages:
        yield Measurement("state_bits_per_element", storage.bits_per_element(row), "bits", 1, slice_of(storage))
        yield Measurement("stored_state_bytes", storage.n_bytes(row), "bytes", 1, slice_of(storage))
