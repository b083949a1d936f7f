"""The baseline of language models: an interpolated n-gram model of the same tokens, trained on the same text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import BOS, PAD
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.bits_per_byte import check_text
from ripstop.evaluation.kneser_ney import KneserNey
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class NgramConfig(PartConfig):
    """Bits per byte of a split, by a model of each order. It reads nothing of the run but its data.

    Which order is the baseline is to be told on the split `valid`, as a setting of an arm is.
    """

    kind: Literal["ngram"] = "ngram"
    split: Literal["valid", "test"] = "test"
    orders: list[Annotated[int, Field(ge=1, le=16)]] = Field([1, 2, 3, 4, 5], min_length=1)
    train_tokens: int = Field(2**25, ge=1, le=2**32, description="trained on the first rows that hold so many, or on all")

    def check(self, run: Run) -> None:
        check_text(run)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        data = subject.run.data
        assert isinstance(data, TextConfig)
        train = data.pieces(subject.data, "train", self.train_tokens)
        yield Measurement("ngram_train_tokens", sum(map(len, train)), "tokens", 1)
        held_out = data.pieces(subject.data, self.split)
        for order in self.orders:
            p_N = KneserNey(train, order, data.vocab_size(subject.data), BOS, never=[PAD]).probabilities(held_out)
            bits = -float(np.log2(p_N).sum()) / data.n_bytes(subject.data, self.split)
            yield Measurement("ngram_bits_per_byte", bits, "bits", len(p_N), {"split": self.split, "order": order})
