"""Recall of a model whose state is kept in few bits between tokens, by the length of the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from ripstop.config import ConfigError
from ripstop.data.mqar_gap import MqarGapConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.recall import accuracy
from ripstop.evaluation.stored_decoding import Decoding, StoredPart, sizes, slice_of
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class StoredRecallConfig(StoredPart):
    """Test examples in rows of each length: the pairs stay the same while what is stored is read ever later, and a recurrent
    state has been rounded ever more often. Rows of more pairs would ask for more capacity, too.
    """

    kind: Literal["stored_recall"] = "stored_recall"
    num_pairs: int | None = Field(None, ge=2, description="of a row; none given: the most that are trained")

    def check(self, run: Run) -> None:
        data = run.data
        if not isinstance(data, MqarGapConfig):
            raise ConfigError(f"stored_recall needs data of kind mqar_gap, and the run's is {data.kind}; remove this part")
        if self._pairs(data) not in data.pairs.test_pairs:
            raise ConfigError(
                f"num_pairs: {self._pairs(data)} is not among data.pairs.test_pairs, {data.pairs.test_pairs}; add it"
            )
        if self.n_rows > data.pairs.n_test:
            raise ConfigError(
                f"n_rows: {self.n_rows} are asked of a test of {data.pairs.n_test} rows; lower it, or raise n_test"
            )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        data = subject.run.data
        assert isinstance(data, MqarGapConfig)
        model, n_pairs, storages = subject.model(), self._pairs(data), self.storages()
        yield Measurement("chance", 1 / data.pairs.n_values, "fraction", 1)
        decoding = Decoding(model, self.n_rows, self.lengths[-1] * data.block_size, storages)
        read = 0
        for length in self.lengths:
            batch = data.test_rows(subject.data, n_pairs, self.n_rows, length * data.block_size).to(subject.device)
            value, n = accuracy(model, [batch])
            yield Measurement("forward_accuracy", value, "fraction", n, {"length": length})
            # SEP and the questions end every length; what stands before them begins the longer ones
            shown = batch.tokens_BT.shape[1] - n_pairs - 1
            for _ in decoding.read(batch.tokens_BT[:, read:shown]):
                pass
            read = shown
            asked = decoding.branch()
            logits_TSBV = torch.stack(list(asked.read(batch.tokens_BT[:, shown:])))[1:]
            right_TSB = logits_TSBV.argmax(-1) == batch.targets_BT[:, -n_pairs:].T.unsqueeze(1)
            for storage, right_TB in zip(storages, right_TSB.unbind(1), strict=True):
                at = {**slice_of(storage), "length": length}
                yield Measurement("stored_accuracy", float(right_TB.double().mean()), "fraction", right_TB.numel(), at)
        yield from sizes(storages, asked.state)

    def _pairs(self, data: MqarGapConfig) -> int:
        return self.num_pairs or data.pairs.num_pairs[-1]
