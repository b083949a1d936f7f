"""Bits per byte of a model whose state is kept in few bits between tokens, by position in the document."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.bits_per_byte import check_text
from ripstop.evaluation.stored_decoding import Decoding, StoredPart, sizes, slice_of
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class StoredTextConfig(StoredPart):
    """Of the first test rows that one document fills, from their first token on. What is told at a length is the text between
    the length before and it.
    """

    kind: Literal["stored_text"] = "stored_text"

    def check(self, run: Run) -> None:
        check_text(run)
        needed, held_out = self.lengths[-1] * run.data.block_size, run.data.longest_row.total  # type: ignore[attr-defined]
        if held_out < needed:
            raise ConfigError(
                f"data.held_out_block_size: a held-out row of {held_out} tokens does not reach {self.lengths[-1]} times those "
                f"of training, {needed}; raise it"
            )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        data = subject.run.data
        assert isinstance(data, TextConfig)
        model, storages = subject.model(), self.storages()
        ends = [length * data.block_size for length in self.lengths]
        tokens_BT, targets_BT, bytes_BT = (x[:, : ends[-1]].to(subject.device) for x in self._rows(subject, data))
        nats_SBT = torch.zeros(len(storages), *targets_BT.shape, dtype=torch.float64)
        decoding = Decoding(model, len(tokens_BT), ends[-1], storages)
        for t, logits_SBV in enumerate(decoding.read(tokens_BT)):
            wanted_SB = targets_BT[:, t].expand(len(storages), -1)
            nats_SBT[..., t] = F.cross_entropy(logits_SBV.flatten(0, 1), wanted_SB.flatten(), reduction="none").view_as(
                wanted_SB
            )
        for length, begin, end in zip(self.lengths, [0, *ends], ends, strict=False):
            n_bytes = int(bytes_BT[:, begin:end].sum())
            for storage, nats_BT in zip(storages, nats_SBT[..., begin:end], strict=True):
                at = {**slice_of(storage), "length": length}
                yield Measurement("stored_bits_per_byte", float(nats_BT.sum()) / math.log(2) / n_bytes, "bits", n_bytes, at)
        yield from sizes(storages, decoding.state)

    def _rows(self, subject: Subject, data: TextConfig) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, targets and bytes of `n_rows` rows."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for batch, bytes_BT in data.held_out_bytes(subject.data, "test", data.longest_row.total):
            assert batch.segments_BT is not None
            if bool((batch.segments_BT == 1).all()):
                found.append((batch.tokens_BT, batch.targets_BT, bytes_BT))
            if len(found) == self.n_rows:
                tokens, targets, n_bytes = (torch.cat(column) for column in zip(*found, strict=True))
                return tokens, targets, n_bytes
        raise ConfigError(f"n_rows: only {len(found)} test rows are filled by one document, not {self.n_rows}; lower it")
