"""The battery of controls: the same model and questions, with the information taken away.

A score counts as use of the context only by what it loses here. The same code serves every study: it replaces the
source of a sequence-to-sequence batch, or the positions of `context_BT` in a decoder's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError, nearest

PAD = 0


def own(context_BS: Tensor, segments_BS: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The context as it is: no control."""
    return context_BS, segments_BS


def zero(context_BS: Tensor, segments_BS: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Every token of the context is PAD, still visible: length without content."""
    return torch.full_like(context_BS, PAD), segments_BS


def shuffled(context_BS: Tensor, segments_BS: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The context's own tokens in random order: content without order. Padding stays where it is."""
    order = torch.rand(context_BS.shape, generator=generator).to(context_BS.device)
    order = order.masked_fill(segments_BS == 0, 2.0)  # beyond every draw: padding sorts behind the tokens
    return context_BS.gather(1, order.argsort(1)), segments_BS


def wrong(context_BS: Tensor, segments_BS: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The next row's context: a real one, of another example."""
    if len(context_BS) < 2:
        raise ConfigError("the control 'wrong' needs at least 2 rows in a batch; raise the evaluation's batch size")
    return context_BS.roll(1, 0), segments_BS.roll(1, 0)


CONTROLS: dict[str, Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]] = {
    "own": own,
    "zero": zero,
    "shuffled": shuffled,
    "wrong": wrong,
}


def apply(control: str, batch: TokenBatch, seed: int) -> TokenBatch:
    """`batch` with its context replaced by the control's. The same seed gives the same replacement."""
    if control not in CONTROLS:
        raise ConfigError(f"control {control!r} does not exist{nearest(control, list(CONTROLS))}")
    generator = torch.Generator().manual_seed(seed)
    if batch.source_BS is not None:
        segments = batch.source_segments_BS
        segments = torch.ones_like(batch.source_BS) if segments is None else segments
        source, segments = CONTROLS[control](batch.source_BS, segments, generator)
        return replace(batch, source_BS=source, source_segments_BS=segments)
    if batch.context_BT is None:
        raise ConfigError("a control needs a batch with a source or with a mask of its context")
    n_context = int(batch.context_BT[0].sum())
    context = batch.tokens_BT[:, :n_context]
    context, _ = CONTROLS[control](context, torch.ones_like(context), generator)
    return replace(batch, tokens_BT=torch.cat([context, batch.tokens_BT[:, n_context:]], 1))
