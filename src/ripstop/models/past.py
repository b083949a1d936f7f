"""A state as after so many tokens, made without reading them: what a step reads, holds and takes depends on how many they
were, and not on what they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ripstop.layers.block import Block, BlockState
from ripstop.layers.cross_attention import MemoryState
from ripstop.mixers.base import State
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnly
from ripstop.models.encoder_decoder import EncoderDecoder, EncoderDecoderState

CHUNK = 2**20
"""Numbers drawn for a tensor; they repeat in a longer one, since drawing takes ten times as long as copying."""


@runtime_checkable
class CountsApart(Protocol):
    """A mixer whose state has other counts than `length`, which is how many tokens it has read."""

    def after(self, state: State, n_tokens: int) -> State:
        """An empty state with its counts as after `n_tokens` tokens, and the contents that it has."""


def past(model: Model, n_tokens: int, room: int = 1, n_source: int | None = None) -> Any:
    """State of one sequence as after `n_tokens` tokens, with room for `room` more, and as after a source of `n_source`.

    Its numbers are drawn between -1 and 1.
    """
    if not isinstance(model, DecoderOnly | EncoderDecoder):
        raise TypeError(f"{type(model).__name__}: a past is made for DecoderOnly and EncoderDecoder, whose states it knows")
    device = next(model.parameters()).device
    source_BS = None if n_source is None else torch.zeros(1, 1, dtype=torch.int64, device=device)
    state = model.init_state(1, n_tokens + room, source_BS)
    if isinstance(state, EncoderDecoderState):
        blocks = _blocks(model.decoder.blocks, state.blocks, n_tokens, n_source)
        return state._replace(blocks=blocks, summary=drawn(state.summary))
    return _blocks(model.decoder.blocks, state, n_tokens, n_source)


def _blocks(
    blocks: Sequence[Block], states: Sequence[BlockState], n_tokens: int, n_source: int | None
) -> tuple[BlockState, ...]:
    pairs = zip(blocks, states, strict=True)
    return tuple(BlockState(_mixer(b.mixer, s.mixer, n_tokens), _memory(s.memory, n_source)) for b, s in pairs)


def _mixer(mixer: Any, state: State, n_tokens: int) -> State:
    if isinstance(mixer, CountsApart):
        return drawn(mixer.after(state, n_tokens))
    counts = [name for name, value in state._asdict().items() if isinstance(value, int)]
    for name in counts:
        if name != "length":
            raise TypeError(f"{type(mixer).__name__}: its state counts {name}; give the mixer after(state, n_tokens)")
    return drawn(state._replace(**dict.fromkeys(counts, n_tokens)))


def _memory(memory: MemoryState | None, n_source: int | None) -> MemoryState | None:
    if memory is None or n_source is None:
        return memory
    return MemoryState(*(drawn(t.new_empty(t.shape[0], n_source, *t.shape[2:])) for t in memory))


def drawn(state: Any) -> Any:
    """The same state, the numbers of its tensors drawn between -1 and 1; whole numbers stay as they are."""
    if isinstance(state, tuple):
        for part in state:
            drawn(part)
    elif isinstance(state, Tensor) and state.is_floating_point():
        flat = state.view(-1)
        numbers = torch.empty(min(CHUNK, len(flat)), dtype=state.dtype, device=state.device).uniform_(-1, 1)
        for begin in range(0, len(flat), CHUNK):
            part = flat[begin : begin + CHUNK]
            part.copy_(numbers[: len(part)])
    return state
