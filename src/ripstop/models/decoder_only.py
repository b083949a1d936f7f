"""A decoder-only language model: embedding, a stack of blocks in the order of a pattern, norm, head."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ripstop.batch import DataInfo, TokenBatch
from ripstop.config import ConfigError, Size
from ripstop.layers.block import BlockState
from ripstop.layers.embedding import Embedding, Readout
from ripstop.layers.mlp import MlpConfig
from ripstop.layers.norms import NORMS
from ripstop.layers.norms.base import NormConfig
from ripstop.layers.norms.rms_norm import RMSNormConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models import pattern as patterns
from ripstop.models.base import Model, ModelConfig
from ripstop.models.stack import ResidualInit, StackPlan
from ripstop.ops.segments import Segments


class DecoderOnlyConfig(ModelConfig):
    """`pattern` names each layer's mixer by its key in `mixers`, a table that may hold more than the pattern uses."""

    kind: Literal["decoder_only"] = "decoder_only"
    d_model: Size
    pattern: str
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    mlp: MlpConfig | None = None
    tie_embeddings: bool = False
    embedding_std: float = Field(0.02, gt=0)
    residual_init: ResidualInit = "depth"
    norm: Annotated[NormConfig, NORMS] = RMSNormConfig()

    @model_validator(mode="after")
    def _decodes(self) -> DecoderOnlyConfig:
        check_decoder(self.pattern, self.mixers)
        patterns.check_sizes(self.pattern, self.mixers, self.d_model)
        self.check_size()
        return self

    @property
    def stack(self) -> StackPlan:
        """The blocks, in order."""
        mixers = tuple(self.mixers[letter] for letter in patterns.parse(self.pattern))
        return StackPlan(self.d_model, mixers, self.mlp, self.norm, residual_init=self.residual_init)

    def build(self, data: DataInfo) -> DecoderOnly:
        return DecoderOnly(self, data.vocab_size)

    def layout(self) -> dict[str, Any]:
        return {"decoder": patterns.parse(self.pattern)}

    def params_by_part(self, vocab_size: int) -> dict[str, int]:
        parts = self.stack.params_by_part()
        table = vocab_size * self.d_model
        return {
            "embedding": table,
            **parts,
            "norms": parts["norms"] + self.norm.num_params(self.d_model),
            "head": 0 if self.tie_embeddings else table,
        }

    def flops_per_token(self, vocab_size: int, seq_len: int, source_len: int | None = None) -> int:
        return self.stack.flops(seq_len) // seq_len + head_flops(vocab_size, self.d_model)

    def batch_flops(self, vocab_size: int, batch: TokenBatch) -> int:
        n_rows, n_time = batch.tokens_BT.shape
        return n_rows * self.stack.flops(n_time) + batch.n_targets * head_flops(vocab_size, self.d_model)

    def state_bytes(self, seq_len: int, dtype: torch.dtype = torch.bfloat16, source_len: int | None = None) -> int:
        return self.stack.state_bytes(seq_len, dtype)


class DecoderOnly(Model):
    """Its state is a tuple of the blocks' states."""

    def __init__(self, config: DecoderOnlyConfig, vocab_size: int):
        super().__init__()
        self.embedding = Embedding(vocab_size, config.d_model, config.embedding_std)
        self.decoder = config.stack.build()
        tied_to = self.embedding if config.tie_embeddings else None
        self.readout = Readout(vocab_size, config.d_model, config.embedding_std, config.norm, tied_to)

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        if batch.source_BS is not None:
            raise _no_source()
        return self.readout(self.decoder(self.embedding(batch.tokens_BT), Segments.of(batch.segments_BT)), at_BT)

    def init_state(
        self,
        batch_size: int,
        max_len: int,
        source_BS: Tensor | None = None,
        source_segments_BS: Tensor | None = None,
    ) -> tuple[BlockState, ...]:
        if source_BS is not None:
            raise _no_source()
        return self.decoder.init_state(batch_size, max_len)

    def prefill(self, tokens_BT: Tensor, state: tuple[BlockState, ...]) -> tuple[Tensor, tuple[BlockState, ...]]:
        if tokens_BT.shape[1] == 0:
            raise ValueError("prefill: there are no logits after no token; give at least one")
        x_BTD, state = self.decoder.prefill(self.embedding(tokens_BT), state)
        return self.readout(x_BTD[:, -1]), state

    def step(self, tokens_B: Tensor, state: tuple[BlockState, ...]) -> tuple[Tensor, tuple[BlockState, ...]]:
        x_BD, state = self.decoder.step(self.embedding(tokens_B), state)
        return self.readout(x_BD), state


def head_flops(vocab_size: int, d_model: int) -> int:
    """FLOPs of the logits at one position."""
    return 2 * vocab_size * d_model


def check_decoder(pattern: str, mixers: dict[str, MixerConfig], name: str = "pattern") -> None:
    """`ConfigError` where the pattern is not one, names a mixer that the table lacks, or one that cannot decode."""
    patterns.check_letters(pattern, mixers, name)
    for letter in patterns.letter_counts(pattern):
        if not mixers[letter].is_causal:
            raise ConfigError(
                f"{name} {pattern!r}: mixer {letter!r} ({mixers[letter].kind}) sees what comes after and cannot "
                "decode; use a causal mixer in a decoder"
            )


def _no_source() -> ConfigError:
    return ConfigError("model decoder_only reads no source; use kind: encoder_decoder, or data without a source")
