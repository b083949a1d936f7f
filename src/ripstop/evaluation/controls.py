"""The battery of controls: the same model and questions, with the information taken away.

A score counts as use of the context only by what it loses here. The same code serves every study. The *context* of a
document is its source in a sequence-to-sequence batch, and in a decoder's batch those of its positions that
`context_BT` marks. A row may hold several packed documents (each a run of equal numbers in the segments, 0 is padding):
every control works on one document at a time and leaves questions, targets and padding as they are.

    own        the context as it is: no control.
    zero       every token of the context is PAD, still visible: length without content.
    shuffled   the document's own tokens in random order: content without order. Order between documents stays.
    wrong      the context of another document of the test set: a real one that answers other questions.

For `wrong` the candidates are the batch's other documents, going backwards from the one before and around (row by row,
from left to right within a row), and behind them documents of other batches. One that would give the document its own
tokens again is passed over. A source is replaced as a whole, with its length, so the first candidate is taken; rows of
sources are laid out anew from column 0. A decoder's questions must stay where they are, so there the first candidate
with a context of the same length is taken; without one, the shortest that is longer, cut at its end; without one of
those, the longest, repeated from its start until the place is filled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError, nearest

Control = Literal["own", "zero", "shuffled", "wrong"]
CONTROLS: tuple[Control, ...] = get_args(Control)
PAD = 0


def applied(control: Control, batches: Iterable[TokenBatch]) -> Iterator[TokenBatch]:
    """Every batch under the control, in order; the seed of a batch is its number.

    Where all documents of a batch have the same context, `wrong` takes one of an earlier or later batch. `ConfigError`
    where all documents of all batches have the same.
    """
    waiting: list[tuple[int, TokenBatch]] = []
    spare: list[Tensor] = []
    for seed, batch in enumerate(batches):
        waiting.append((seed, batch))
        if control == "wrong" and len(spare) < 2:
            spare = _two_that_differ(spare, batch)
            if len(spare) < 2:
                continue
        yield from (apply(control, held, number, spare) for number, held in waiting)
        waiting = []
    yield from (apply(control, held, number, spare) for number, held in waiting)


def apply(control: Control, batch: TokenBatch, seed: int, spare: Sequence[Tensor] = ()) -> TokenBatch:
    """`batch` with its contexts replaced by the control's. The same seed gives the same replacement.

    spare: contexts of other batches, each the tokens of one document, for a batch without two that differ.
    """
    if control not in CONTROLS:
        raise ConfigError(f"control {control!r} does not exist{nearest(str(control), list(CONTROLS))}")
    if batch.source_BS is not None:
        segments_BS = batch.source_segments_BS
        segments_BS = torch.ones_like(batch.source_BS) if segments_BS is None else segments_BS
        if control == "wrong":
            return _wrong_source(batch, batch.source_BS, segments_BS, spare)
        source_BS = _changed(control, batch.source_BS, segments_BS, seed)
        return replace(batch, source_BS=source_BS, source_segments_BS=segments_BS)
    if batch.context_BT is None:
        raise ConfigError("a control needs a batch with a source or with a mask of its context")
    if control == "wrong":
        return _wrong_context(batch, spare)
    index_BS, segments_BS = _compacted(batch, batch.context_BT)
    context_BS = _changed(control, batch.tokens_BT.gather(1, index_BS), segments_BS, seed)
    return replace(batch, tokens_BT=batch.tokens_BT.scatter(1, index_BS, context_BS))


def _changed(control: Control, context_BS: Tensor, segments_BS: Tensor, seed: int) -> Tensor:
    """The contexts under `own`, `zero` or `shuffled`; nothing moves or changes where the segment is 0."""
    inside_BS = segments_BS != 0
    if control == "zero":
        return torch.where(inside_BS, PAD, context_BS)
    if control == "shuffled":
        random_BS = torch.rand(context_BS.shape, generator=torch.Generator().manual_seed(seed)).to(context_BS.device)
        order_BS = random_BS.masked_fill(~inside_BS, 2.0).argsort(1)
        # Stably by document behind that: random inside each, every document where it was.
        order_BS = order_BS.gather(1, _runs(segments_BS).gather(1, order_BS).argsort(dim=1, stable=True))
        return torch.where(inside_BS, context_BS.gather(1, order_BS), context_BS)
    return context_BS


def _compacted(batch: TokenBatch, context_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(B, S) the positions of the contexts of each row, S the most of any row, and the number of the document of each.

    Behind the ends of shorter rows stand other positions of the row, each once, with number 0.
    """
    held_BT = context_BT if batch.segments_BT is None else context_BT & (batch.segments_BT != 0)
    index_BS = (~held_BT).long().argsort(dim=1, stable=True)[:, : int(held_BT.sum(1).max())]
    numbers_BT = torch.ones_like(batch.tokens_BT) if batch.segments_BT is None else _runs(batch.segments_BT) + 1
    return index_BS, (numbers_BT * held_BT).gather(1, index_BS)


def _runs(segments_BT: Tensor) -> Tensor:
    """Number of the run of equal segments that each position lies in, 0, 1, ..., (B, T)."""
    runs_BT = torch.zeros_like(segments_BT)
    runs_BT[:, 1:] = (segments_BT[:, 1:] != segments_BT[:, :-1]).cumsum(1)
    return runs_BT


def _documents(segments_BS: Tensor) -> list[Tensor]:
    """Of each document in the batch, its positions in the flattened batch, row by row and from left to right."""
    numbers_BS = _runs(segments_BS)
    row_B1 = torch.arange(len(segments_BS), device=segments_BS.device)[:, None]
    at_N = (segments_BS != 0).flatten().nonzero().squeeze(1)
    numbers_N = (row_B1 * segments_BS.shape[1] + numbers_BS).flatten()[at_N]
    return list(at_N.split(numbers_N.unique_consecutive(return_counts=True)[1].tolist()))


def _contexts(batch: TokenBatch) -> tuple[list[Tensor], list[Tensor]]:
    """Of each document with a context: where it stands in the flattened source or tokens, and its tokens."""
    if batch.source_BS is not None:
        segments_BS = batch.source_segments_BS
        places = _documents(torch.ones_like(batch.source_BS) if segments_BS is None else segments_BS)
        return places, [batch.source_BS.flatten()[place] for place in places]
    if batch.context_BT is None:
        raise ConfigError("a control needs a batch with a source or with a mask of its context")
    index_BS, segments_BS = _compacted(batch, batch.context_BT)
    row_B1 = torch.arange(len(index_BS), device=index_BS.device)[:, None]
    flat_BS = index_BS + row_B1 * batch.tokens_BT.shape[1]
    places = [flat_BS.flatten()[place] for place in _documents(segments_BS)]
    return places, [batch.tokens_BT.flatten()[place] for place in places]


def _two_that_differ(found: list[Tensor], batch: TokenBatch) -> list[Tensor]:
    for tokens in _contexts(batch)[1]:
        if not found:
            found = [tokens]
        elif not torch.equal(found[0], tokens):
            return [found[0], tokens]
    return found


def _wrong_source(batch: TokenBatch, source_BS: Tensor, segments_BS: Tensor, spare: Sequence[Tensor]) -> TokenBatch:
    places, contexts = _contexts(batch)
    width = source_BS.shape[1]
    rows: list[list[Tensor]] = [[] for _ in source_BS]
    numbers: list[list[Tensor]] = [[] for _ in source_BS]
    for i, (place, own) in enumerate(zip(places, contexts, strict=True)):
        donor = next((other for other in _others(contexts, i, spare) if not torch.equal(other, own)), None)
        if donor is None:
            raise _no_other()
        row = int(place[0]) // width
        rows[row].append(donor)
        numbers[row].append(segments_BS.flatten()[place[:1]].expand(len(donor)))
    width = max([width, *(sum(map(len, row)) for row in rows)])
    laid_out = [torch.full((len(rows), width), fill, device=source_BS.device) for fill in (PAD, 0)]
    for filled_BS, parts in zip(laid_out, (rows, numbers), strict=True):
        for filled_S, row_parts in zip(filled_BS, parts, strict=True):
            if row_parts:
                joined = torch.cat(row_parts)
                filled_S[: len(joined)] = joined
    return replace(batch, source_BS=laid_out[0], source_segments_BS=laid_out[1])


def _wrong_context(batch: TokenBatch, spare: Sequence[Tensor]) -> TokenBatch:
    places, contexts = _contexts(batch)
    tokens = batch.tokens_BT.flatten().clone()
    for i, (place, own) in enumerate(zip(places, contexts, strict=True)):
        made = next(_fitting(own, contexts, i, spare), None)
        if made is None:
            raise _no_other()
        tokens[place] = made
    return replace(batch, tokens_BT=tokens.view_as(batch.tokens_BT))


def _fitting(own: Tensor, contexts: Sequence[Tensor], i: int, spare: Sequence[Tensor]) -> Iterator[Tensor]:
    """What could stand in the place of document i, as long as its own context, best first by the module's rule."""
    length = len(own)
    for wanted in _lengths(length, contexts, spare):
        for other in _others(contexts, i, spare):
            if len(other) == wanted:
                made = other.repeat(-(-length // wanted))[:length]
                if not torch.equal(made, own):
                    yield made


def _lengths(length: int, contexts: Sequence[Tensor], spare: Sequence[Tensor]) -> Iterator[int]:
    yield length
    others = {len(other) for other in [*contexts, *spare]} - {length}
    yield from sorted(n for n in others if n > length)
    yield from sorted((n for n in others if n < length), reverse=True)


def _others(contexts: Sequence[Tensor], i: int, spare: Sequence[Tensor]) -> Iterator[Tensor]:
    """Candidates for document i: those before it, backwards and around, then the spare ones."""
    yield from (contexts[i - distance] for distance in range(1, len(contexts)))
    yield from spare


def _no_other() -> ConfigError:
    return ConfigError(
        "the control 'wrong' needs another document with another context, and there is none; test at least 2 that differ, "
        "or leave out 'wrong'"
    )
