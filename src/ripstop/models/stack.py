"""A stack of blocks, and its plan: the part that decoder-only models, encoders and decoders share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ripstop.layers.block import Block, BlockState
from ripstop.layers.cross_attention import CrossAttentionConfig, Memory
from ripstop.layers.mlp import MlpConfig
from ripstop.layers.norms.base import NormConfig
from ripstop.mixers.base import MixerConfig
from ripstop.ops.segments import Segments

ResidualInit = Literal["depth", "plain"]


@dataclass(frozen=True)
class StackPlan:
    """Blocks to build, in order, and what they will weigh and cost.

    cross_attention: the layers that read a source, by index.
    residual_init: "depth" divides what is added to the residual stream by the root of the number of terms, "plain" does not.
    """

    d_model: int
    mixers: tuple[MixerConfig, ...]
    mlp: MlpConfig | None
    norm: NormConfig
    cross_attention: dict[int, CrossAttentionConfig] = field(default_factory=dict)
    residual_init: ResidualInit = "depth"

    def build(self) -> Stack:
        return Stack(self)

    @property
    def n_norms(self) -> int:
        """One in front of each mixer, cross-attention and mlp."""
        return len(self.mixers) * (1 if self.mlp is None else 2) + len(self.cross_attention)

    def params_by_part(self) -> dict[str, int]:
        """Parameters of mixers, cross-attention, mlps and norms."""
        d_model = self.d_model
        return {
            "mixers": sum(mixer.num_params(d_model) for mixer in self.mixers),
            "cross_attention": sum(cross.num_params(d_model) for cross in self.cross_attention.values()),
            "mlps": 0 if self.mlp is None else len(self.mixers) * self.mlp.num_params(d_model),
            "norms": self.n_norms * self.norm.num_params(d_model),
        }

    def flops(self, seq_len: int, source_len: int = 0) -> int:
        """Forward, of one sequence; multiply-adds as 2. Residuals and activations are no matrix products and left out."""
        d_model = self.d_model
        mixers = sum(mixer.flops_per_token(d_model, seq_len) for mixer in self.mixers)
        mlps = 0 if self.mlp is None else len(self.mixers) * self.mlp.flops_per_token(d_model)
        norms = self.n_norms * self.norm.flops_per_token(d_model)
        cross = sum(c.flops(d_model, seq_len, source_len) for c in self.cross_attention.values())
        return (mixers + mlps + norms) * seq_len + cross

    def state_bytes(self, seq_len: int, dtype: torch.dtype, source_len: int = 0) -> int:
        """Bytes of one sequence's state after `seq_len` tokens, the keys and values of its source included."""
        mixers = sum(mixer.state_bytes(self.d_model, seq_len, dtype) for mixer in self.mixers)
        return mixers + sum(c.state_bytes(self.d_model, source_len, dtype) for c in self.cross_attention.values())


class Stack(nn.Module):
    """Blocks one after the other; the norm behind the last is the model's.

    Weights are drawn as by the authors of Mamba (`_init_weights` of mamba_ssm): torch's uniform within 1/sqrt(fan_in),
    and, where `residual_init` is "depth", every projection into the residual stream divided by the root of the number of
    terms added to it (GPT-2, section 2.3). The blocks name those projections.
    """

    def __init__(self, plan: StackPlan):
        super().__init__()
        self.blocks: Sequence[Block] = nn.ModuleList(  # type: ignore[assignment]
            Block(
                plan.d_model,
                mixer.build(plan.d_model),
                plan.cross_attention[i].build(plan.d_model) if i in plan.cross_attention else None,
                None if plan.mlp is None else plan.mlp.build(plan.d_model),
                plan.norm,
            )
            for i, mixer in enumerate(plan.mixers)
        )
        if plan.residual_init == "plain":
            return
        terms = [weight for block in self.blocks for weight in block.residual_outputs()]
        with torch.no_grad():
            for weight in {id(weight): weight for weight in terms}.values():  # a shared one once
                weight.mul_(len(terms) ** -0.5)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None, memory: Memory | None = None) -> Tensor:
        for block in self.blocks:
            x_BTD = block(x_BTD, segments, memory)
        return x_BTD

    def init_state(self, batch_size: int, max_len: int, memory: Memory | None = None) -> tuple[BlockState, ...]:
        return tuple(block.init_state(batch_size, max_len, memory) for block in self.blocks)

    def prefill(
        self, x_BTD: Tensor, state: tuple[BlockState, ...], seen: Tensor | None = None
    ) -> tuple[Tensor, tuple[BlockState, ...]]:
        """A chunk, after any past. `seen`: which positions of the source may be read, as in `Memory`."""
        after = []
        for block, past in zip(self.blocks, state, strict=True):
            x_BTD, past = block.prefill(x_BTD, past, seen)
            after.append(past)
        return x_BTD, tuple(after)

    def step(
        self, x_BD: Tensor, state: tuple[BlockState, ...], seen: Tensor | None = None
    ) -> tuple[Tensor, tuple[BlockState, ...]]:
        """One token."""
        after = []
        for block, past in zip(self.blocks, state, strict=True):
            x_BD, past = block.step(x_BD, past, seen)
            after.append(past)
        return x_BD, tuple(after)
