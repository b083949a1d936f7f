"""Bits per byte of held-out text, in all and by position in the document: what models with any tokenizer compare by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.models.base import Model
from ripstop.ops.segments import Segments
from ripstop.records import Measurement, Scalar

if TYPE_CHECKING:
    from ripstop.runs import Run


class ScoredText(PartConfig):
    """Every document of a split, isolated; the end of a document costs bits and has no byte.

    positions: where a range of positions begins, 0 the first; each ends where the next begins, the last with the row. A
    position is the number of tokens of the document that were read before; in a document that is cut it begins anew.
    past: one of them, from which on everything is told together, too.
    """

    split: Literal["valid", "test"] = "test"
    positions: list[int] = Field([0, 16, 32, 64, 128, 256], min_length=1)
    past: int | None = Field(None, description="such as the size of a window, beyond which a model has to see otherwise")
    tokens_per_batch: int = Field(8192, ge=1, le=2**22)

    @model_validator(mode="after")
    def _rise_from_zero(self) -> Self:
        if self.positions != sorted(set(self.positions)) or self.positions[0] != 0:
            raise ValueError(f"positions must rise without repeats from 0, and are {self.positions}")
        if self.past is not None and self.past not in self.positions:
            raise ValueError(f"past is {self.past}, which is none of positions, {self.positions}; add it to them")
        return self

    def check(self, run: Run) -> None:
        check_text(run)
        needed = run.data.longest_row.total
        if self.tokens_per_batch < needed:
            raise ConfigError(f"tokens_per_batch: {self.tokens_per_batch} does not hold a row, which takes {needed}; raise it")

    def sums(self, subject: Subject, model: Model) -> list[list[float]]:
        """Nats, bytes and number of the targets, each by range of positions."""
        data = subject.run.data
        assert isinstance(data, TextConfig)
        edges_E = torch.tensor(self.positions, device=subject.device)
        sums = torch.zeros(3, len(self.positions), dtype=torch.float64)
        for batch, bytes_BT in data.held_out_bytes(subject.data, self.split, self.tokens_per_batch):
            batch = batch.to(subject.device)
            asked_BT = batch.asked_BT
            segments = Segments.of(batch.segments_BT)
            assert segments is not None
            range_N = torch.bucketize(segments.position_BT[asked_BT], edges_E, right=True) - 1
            nats_N = F.cross_entropy(model(batch, asked_BT).float(), batch.targets_BT[asked_BT], reduction="none")
            sums += _by_range(range_N.cpu(), torch.stack([nats_N.cpu(), bytes_BT[asked_BT.cpu()]]), len(self.positions))
        return sums.tolist()

    def by_position(self, metric: str, sums: list[list[float]]) -> Iterator[Measurement]:
        """`<metric>_at` in each range that has bytes, and `<metric>_past` over all ranges from `past` on."""
        for begin, (nats, n_bytes, n) in zip(self.positions, zip(*sums, strict=True), strict=True):
            if n_bytes:
                at: dict[str, Scalar] = {"split": self.split, "position": begin}
                yield Measurement(f"{metric}_at", nats / math.log(2) / n_bytes, "bits", int(n), at)
        if self.past is not None:
            first = self.positions.index(self.past)
            nats, n_bytes, n = (sum(row[first:]) for row in sums)
            if not n_bytes:
                raise ConfigError(f"past: no held-out document has text behind {self.past} tokens; lower it")
            at = {"split": self.split, "position": self.past}
            yield Measurement(f"{metric}_past", nats / math.log(2) / n_bytes, "bits", int(n), at)


class BitsPerByteConfig(ScoredText):
    """Of the trained model as it is."""

    kind: Literal["bits_per_byte"] = "bits_per_byte"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model = subject.model()
        sums = self.sums(subject, model)
        nats, n_bytes, n = map(sum, sums)
        yield Measurement("parameters", sum(p.numel() for p in model.parameters()), "parameters", 1)
        yield Measurement("loss", nats / n, "nats", int(n), {"split": self.split})
        yield Measurement("bits_per_byte", nats / math.log(2) / n_bytes, "bits", int(n), {"split": self.split})
        yield from self.by_position("bits_per_byte", sums)


def check_text(run: Run) -> None:
    """`ConfigError` where the data keeps no bytes of what is held out."""
    if not isinstance(run.data, TextConfig):
        raise ConfigError(f"bits per byte need data of kind text, and this is {run.data.kind}; remove this part")


def _by_range(range_N: Tensor, values_VN: Tensor, n_ranges: int) -> Tensor:
    """(V + 1, ranges): sums of the values, and how many there are."""
    values_VN = torch.cat([values_VN.double(), torch.ones(1, len(range_N), dtype=torch.float64)])
    return torch.zeros(len(values_VN), n_ranges, dtype=torch.float64).index_add_(1, range_N, values_VN)
