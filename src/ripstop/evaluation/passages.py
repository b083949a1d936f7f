"""A piece of a document with what stands before it: scored alone, after its own context, and after one that tells nothing.

A *passage* is one piece (a verse, a sentence) and the pieces before it. Its window is laid out as in training: the context's
pieces and the piece itself, on both sides, as many of the nearest ones as fit, and EOS. Of the context there are

    own        the pieces before it: no control.
    shuffled   their tokens in random order, source and target by themselves: content without order.
    wrong      the pieces before a piece of another document.
    none       nothing: the piece alone, as a model of sentences would have it.

What is scored is always the piece, with its EOS, and never the context. A passage without a context that fits is the same
under all four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.batching import Indices, Sequences, derived_seed, token_batches
from ripstop.data.document_stream import batch_of
from ripstop.data.tokenizer import EOS
from ripstop.models.base import Model

Context = Literal["own", "shuffled", "wrong", "none"]
CONTEXTS: tuple[Context, ...] = get_args(Context)

Ids = list[int]
Pair = tuple[Ids, Ids]
"""Token ids of the source and of the target, without EOS."""


@dataclass(frozen=True)
class Passage:
    """before: the pieces of the document before this one, the nearest last. targets: one, or several to be compared."""

    document: str
    before: Sequence[Pair]
    source: Ids
    targets: Sequence[Ids]

    def context(self, max_tokens: int, before: Sequence[Pair] | None = None) -> list[Pair]:
        """The last pieces of `before` (its own where none are given) that fit beside the piece, none left out between."""
        n_source, n_target = len(self.source), max(map(len, self.targets))
        found: list[Pair] = []
        for pair in reversed(self.before if before is None else before):
            n_source, n_target = n_source + len(pair[0]), n_target + len(pair[1])
            if max(n_source, n_target) >= max_tokens:  # EOS takes the last place
                break
            found.insert(0, pair)
        return found

    def fits(self, max_tokens: int) -> bool:
        """Whether the piece alone does."""
        return max(len(self.source), *map(len, self.targets)) < max_tokens


@dataclass(frozen=True)
class Row:
    """Source and target with EOS, of which the target's tokens from `start` on are scored."""

    source: Ids
    target: Ids
    start: int


def contexts(context: Context, passages: Sequence[Passage], max_tokens: int) -> list[list[Pair]]:
    """What stands before each passage. `ConfigError` where a wrong context is wanted and there is no other document."""
    found = [[] if context == "none" else passage.context(max_tokens) for passage in passages]
    if context == "shuffled":
        return [_shuffled(pairs, i) for i, pairs in enumerate(found)]
    if context == "wrong":
        return [_wrong(passages, i, max_tokens) if pairs else [] for i, pairs in enumerate(found)]
    return found


def row(passage: Passage, target: Ids, before: Sequence[Pair]) -> Row:
    """The window of a passage with one of its targets."""
    source = [token for pair in before for token in pair[0]]
    written = [token for pair in before for token in pair[1]]
    return Row([*source, *passage.source, EOS], [*written, *target, EOS], len(written))


def scores(model: Model, rows: Sequence[Row], tokens_per_batch: int) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each row's scored tokens, in nats, and their number: float64 and int64, (rows,)."""
    columns = {side: Sequences.of(getattr(one, side) for one in rows) for side in ("source", "target")}
    start = torch.tensor([one.start for one in rows])
    device = next(model.parameters()).device
    nats, counts = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.int64)
    lengths = [columns[side].lengths for side in columns]
    order = np.argsort(-(lengths[0] + lengths[1]), kind="stable")
    for chosen in token_batches(order, lengths, tokens_per_batch):
        batch = _batch(columns, start, chosen).to(device)
        asked_BT = batch.asked_BT
        loss_N = F.cross_entropy(model(batch, asked_BT).float(), batch.targets_BT[asked_BT], reduction="none")
        of_row_N = asked_BT.nonzero()[:, 0]
        index = torch.from_numpy(chosen)
        nats[index] = torch.zeros(len(chosen), dtype=torch.float64).index_add_(0, of_row_N.cpu(), loss_N.double().cpu())
        counts[index] = asked_BT.sum(1).cpu()
    return nats, counts


def _batch(columns: Mapping[str, Sequences], start: Tensor, rows: Indices) -> TokenBatch:
    """As in training, but that the context carries no loss."""
    batch = batch_of(columns, rows)
    scored_BT = torch.arange(batch.targets_BT.shape[1]) >= start[torch.from_numpy(rows)][:, None]
    return replace(batch, targets_BT=torch.where(scored_BT, batch.targets_BT, IGNORE))


def _shuffled(pairs: Sequence[Pair], number: int) -> list[Pair]:
    """One pair that has the tokens of all."""
    generator = np.random.default_rng(derived_seed("shuffled context", number))
    source, target = ([token for pair in pairs for token in pair[side]] for side in (0, 1))
    return [(generator.permutation(source).tolist(), generator.permutation(target).tolist())] if pairs else []


def _wrong(passages: Sequence[Passage], i: int, max_tokens: int) -> list[Pair]:
    """The context of the nearest passage before (and around) that is of another document and has one that fits here."""
    own = passages[i]
    for distance in range(1, len(passages)):
        other = passages[i - distance]
        if other.document != own.document:
            found = own.context(max_tokens, other.context(max_tokens))
            if found:
                return found
    raise ConfigError(
        "the context 'wrong' needs a piece of another document with one before it that fits; test several documents, or leave "
        "out 'wrong'"
    )
