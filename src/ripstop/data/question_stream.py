"""Batches of questions: shuffled and endless for a training, each once for a validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ripstop.data.batching import Indices, derived_seed, token_batches
from ripstop.data.question import Question, QuestionBatch

BUCKET = 64
"""Questions of which those of similar lengths share a batch: few enough that what is asked stays mixed."""


def in_order(questions: Sequence[Question], words: int) -> Iterator[QuestionBatch]:
    """Every question once, long ones first, so that a batch too large fails at once; rows x longest <= words."""
    lengths = _lengths(questions)
    for rows in token_batches(np.argsort(-lengths, kind="stable"), [lengths], words):
        yield batch_of(questions, rows)


class QuestionStream:
    """Endless batches of at most `words` words, padding included; epoch e is a permutation that (seed, e) decides.

    n_batches: how many a training reads, of which each batch says its part. The state is (epoch, position in it).
    """

    def __init__(self, questions: Sequence[Question], words: int, seed: int, n_batches: int):
        self._questions, self._words, self._seed = questions, words, seed
        self._lengths = _lengths(questions)
        self._n_batches = n_batches
        self.epoch, self.position = 0, 0
        self._n_before = 0
        """Batches of the epochs before this one."""
        self._batches = self._epoch_batches(0)

    def _epoch_batches(self, epoch: int) -> list[Indices]:
        generator = np.random.default_rng(derived_seed("epoch", self._seed, epoch))
        order = generator.permutation(len(self._questions))
        found = []
        for start in range(0, len(order), BUCKET):
            bucket = order[start : start + BUCKET]
            batches = token_batches(bucket[np.argsort(self._lengths[bucket], kind="stable")], [self._lengths], self._words)
            found += [batches[i] for i in generator.permutation(len(batches))]
        return found

    def __next__(self) -> QuestionBatch:
        if self.position == len(self._batches):
            self.epoch, self.position, self._n_before = self.epoch + 1, 0, self._n_before + len(self._batches)
            self._batches = self._epoch_batches(self.epoch)
        batch = batch_of(self._questions, self._batches[self.position])
        progress = min(1.0, (self._n_before + self.position) / self._n_batches)
        self.position += 1
        return replace(batch, progress=progress)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self._n_before = sum(len(self._epoch_batches(epoch)) for epoch in range(self.epoch))
        self._batches = self._epoch_batches(self.epoch)


def batch_of(questions: Sequence[Question], rows: Indices) -> QuestionBatch:
    return QuestionBatch(tuple(questions[i] for i in rows.tolist()))


def _lengths(questions: Sequence[Question]) -> Indices:
    return np.fromiter((question.n_words for question in questions), np.int64, len(questions))
