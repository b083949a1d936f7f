"""A block: norm and mixer, norm and cross-attention where it has one, norm and mlp; each added to its input."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ripstop.layers.cross_attention import CrossAttention, Memory, MemoryState
from ripstop.layers.mlp import Mlp
from ripstop.layers.norms.base import NormConfig
from ripstop.layers.norms.rms_norm import RMSNormConfig
from ripstop.mixers.base import Mixer, State
from ripstop.ops.cross_attention import Laid
from ripstop.ops.segments import Segments


class BlockState(NamedTuple):
    """The mixer's state, and keys and values of the source where the block has cross-attention."""

    mixer: State
    memory: MemoryState | None


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(
        self,
        d_model: int,
        mixer: Mixer,
        cross_attention: CrossAttention | None = None,
        mlp: Mlp | None = None,
        norm: NormConfig = RMSNormConfig(),  # noqa: B008  frozen
    ):
        super().__init__()
        self.mixer_norm, self.mixer = norm.build(d_model), mixer
        self.cross_norm = None if cross_attention is None else norm.build(d_model)
        self.cross_attention = cross_attention
        self.mlp_norm = None if mlp is None else norm.build(d_model)
        self.mlp = mlp

    def residual_outputs(self) -> list[Tensor]:
        """The weights whose products are added to the residual stream, one for each term."""
        parts = [part for part in (self.mixer, self.cross_attention, self.mlp) if part is not None]
        return [weight for part in parts for weight in part.residual_outputs()]

    def forward(self, x_BTD: Tensor, segments: Segments | None = None, memory: Memory | None = None) -> Tensor:
        x_BTD = x_BTD + self.mixer(self.mixer_norm(x_BTD), segments)
        state = self._remembered(memory)
        x_BTD = self._read(x_BTD, state) if memory is None else self._read(x_BTD, state, memory.seen, memory.laid)
        return self._channels(x_BTD)

    def init_state(self, batch_size: int, max_len: int, memory: Memory | None = None) -> BlockState:
        """Empty past, with the source already read."""
        return BlockState(self.mixer.init_state(batch_size, max_len), self._remembered(memory))

    def prefill(self, x_BTD: Tensor, state: BlockState, seen: Tensor | None = None) -> tuple[Tensor, BlockState]:
        y_BTD, mixer = self.mixer.prefill(self.mixer_norm(x_BTD), state.mixer)
        return self._channels(self._read(x_BTD + y_BTD, state.memory, seen)), state._replace(mixer=mixer)

    def step(self, x_BD: Tensor, state: BlockState, seen: Tensor | None = None) -> tuple[Tensor, BlockState]:
        y_BD, mixer = self.mixer.step(self.mixer_norm(x_BD), state.mixer)
        x_BTD = self._read((x_BD + y_BD).unsqueeze(1), state.memory, seen)
        return self._channels(x_BTD.squeeze(1)), state._replace(mixer=mixer)

    def _remembered(self, memory: Memory | None) -> MemoryState | None:
        """Keys and values of the source; None where the block does not read it."""
        if self.cross_attention is None:
            return None
        if memory is None:
            raise ValueError("block: its cross-attention reads a memory, and none is given")
        return self.cross_attention.init_state(memory)

    def _read(self, x_BTD: Tensor, memory: MemoryState | None, seen: Tensor | None = None, laid: Laid | None = None) -> Tensor:
        if self.cross_attention is None or self.cross_norm is None or memory is None:
            return x_BTD
        return x_BTD + self.cross_attention(self.cross_norm(x_BTD), memory, seen, laid)

    def _channels(self, x: Tensor) -> Tensor:
        return x if self.mlp is None or self.mlp_norm is None else x + self.mlp(self.mlp_norm(x))
