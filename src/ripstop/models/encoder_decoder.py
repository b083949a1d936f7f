"""An encoder that reads the source both ways, and a decoder that reads its memory at chosen layers."""

from __future__ import annotations

import logging
import math
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ripstop.batch import DataInfo, TokenBatch
from ripstop.config import ConfigError, Size, Strict
from ripstop.kernels import reads
from ripstop.layers.block import BlockState
from ripstop.layers.cross_attention import CrossAttentionConfig, Memory, mean_memory, remember
from ripstop.layers.embedding import Embedding, Readout
from ripstop.layers.mlp import MlpConfig
from ripstop.layers.norms import NORMS
from ripstop.layers.norms.base import NormConfig
from ripstop.layers.norms.rms_norm import RMSNormConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.attention import AttentionConfig
from ripstop.mixers.base import MixerConfig
from ripstop.mixers.bidirectional import BidirectionalConfig
from ripstop.mixers.mamba2 import Mamba2Config
from ripstop.models import pattern as patterns
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import check_decoder, head_flops
from ripstop.models.stack import ResidualInit, StackPlan
from ripstop.ops.segments import Segments

log = logging.getLogger(__name__)

ENCODER_MIXERS = {"B": BidirectionalConfig(mixer=Mamba2Config()), "E": AttentionConfig(causal=False)}
"""What the letters of `default_encoder` mean where the table of mixers does not say."""


def default_encoder(n_layers: int) -> str:
    """Bidirectional Mamba-2 with attention both ways at layers N/2 and N - 1; a single layer is Mamba-2.

    >>> default_encoder(6)
    'BBBEBE'
    """
    attends = {n_layers // 2, n_layers - 1} if n_layers > 1 else set()
    return "".join("E" if i in attends else "B" for i in range(n_layers))


class AdaptivePositions(Strict):
    """What adaptive cross-attention positions derive from: the decoder's state size and the pairs it has to carry."""

    d_state: int = Field(ge=1, le=10**9)
    num_pairs: int = Field(ge=1, le=10**9)

    def positions(self, n_layers: int) -> list[int]:
        """Layer 0, then every s-th layer, s = d_state / ln(num_pairs / d_state) rounded, at least 1.

        The more the pairs exceed the state, the more often the source is read again. Where they do not exceed it, the
        logarithm is not positive, the state holds all of them, and layer 0 alone reads.
        """
        if self.num_pairs <= self.d_state:
            return [0]
        return list(range(0, n_layers, max(1, round(self.d_state / math.log(self.num_pairs / self.d_state)))))


class EncoderDecoderConfig(ModelConfig):
    """Both patterns draw on one table `mixers`. Give `encoder_pattern`, or `n_encoder_layers` for `default_encoder`.

    cross_attention_positions: decoder layers that read the source, or "adaptive". With none of them and no
    `source_summary` the decoder is blind, and no encoder is built.
    source_summary: "mean" adds the encoder's mean output, through a linear map, to every embedding of the decoder.
    """

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    d_model: Size
    encoder_pattern: str | None = None
    n_encoder_layers: int | None = Field(None, ge=1, le=patterns.LONGEST)
    decoder_pattern: str
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    mlp: MlpConfig | None = None
    n_cross_heads: Size = Field(4, description="heads of the cross-attention")
    n_cross_kv_heads: Size | None = Field(None, description="heads of its keys and values; none given: as many")
    cross_attention_positions: list[int] | Literal["adaptive"]
    adaptive: AdaptivePositions | None = None
    source_summary: Literal["none", "mean"] = "none"
    share_embeddings: bool = True
    tie_embeddings: bool = False
    embedding_std: float = Field(0.02, gt=0)
    residual_init: ResidualInit = "depth"
    norm: Annotated[NormConfig, NORMS] = RMSNormConfig()

    @model_validator(mode="after")
    def _fits(self) -> EncoderDecoderConfig:
        if (self.encoder_pattern is None) == (self.n_encoder_layers is None):
            raise ConfigError("encoder_decoder needs one of encoder_pattern and n_encoder_layers; give exactly one")
        patterns.check_letters(self.encoder_layers, self._encoder_mixers, "encoder_pattern")
        check_decoder(self.decoder_pattern, self.mixers, "decoder_pattern")
        self._check_positions()
        patterns.check_sizes(self.encoder_layers, self._encoder_mixers, self.d_model)
        patterns.check_sizes(self.decoder_pattern, self.mixers, self.d_model)
        if self.cross_attention_layers:
            try:
                self._cross_attention.sizes(self.d_model)
            except ConfigError as error:
                raise ConfigError(f"n_cross_heads, n_cross_kv_heads: {error}") from None
        self.check_size()
        return self

    def _check_positions(self) -> None:
        if self.cross_attention_positions == "adaptive":
            if self.adaptive is None:
                raise ConfigError("cross_attention_positions 'adaptive' needs adaptive: {d_state, num_pairs}; add it")
            return
        n_layers = len(patterns.parse(self.decoder_pattern))
        positions = self.cross_attention_positions
        for position in positions:
            if not 0 <= position < n_layers:
                raise ConfigError(
                    f"cross_attention_positions: {position} is no layer of decoder_pattern {self.decoder_pattern!r}; "
                    f"its layers go from 0 to {n_layers - 1}"
                )
        if len(set(positions)) < len(positions):
            raise ConfigError(f"cross_attention_positions: {positions} names a layer twice; name each once")

    @property
    def encoder_layers(self) -> str:
        """The encoder's pattern, written out."""
        if self.encoder_pattern is None:
            return default_encoder(self.n_encoder_layers or 0)
        return patterns.parse(self.encoder_pattern)

    @property
    def cross_attention_layers(self) -> list[int]:
        """Decoder layers that read the source, derived where the positions are adaptive, in rising order."""
        if self.cross_attention_positions == "adaptive" and self.adaptive is not None:
            return self.adaptive.positions(len(patterns.parse(self.decoder_pattern)))
        return sorted(position for position in self.cross_attention_positions if isinstance(position, int))

    @property
    def reads_source(self) -> bool:
        return bool(self.cross_attention_layers) or self.source_summary == "mean"

    @property
    def takes_source(self) -> bool:
        return True

    @property
    def encoder(self) -> StackPlan:
        mixers = tuple(self._encoder_mixers[letter] for letter in self.encoder_layers)
        return StackPlan(self.d_model, mixers, self.mlp, self.norm, residual_init=self.residual_init)

    @property
    def decoder(self) -> StackPlan:
        mixers = tuple(self.mixers[letter] for letter in patterns.parse(self.decoder_pattern))
        cross_attention = dict.fromkeys(self.cross_attention_layers, self._cross_attention)
        return StackPlan(self.d_model, mixers, self.mlp, self.norm, cross_attention, self.residual_init)

    @property
    def _cross_attention(self) -> CrossAttentionConfig:
        return CrossAttentionConfig(n_heads=self.n_cross_heads, n_kv_heads=self.n_cross_kv_heads)

    @property
    def _encoder_mixers(self) -> dict[str, MixerConfig]:
        return ENCODER_MIXERS | self.mixers if self.encoder_pattern is None else self.mixers

    def build(self, data: DataInfo) -> EncoderDecoder:
        if self.cross_attention_positions == "adaptive":
            log.info("adaptive cross-attention at decoder layers %s", self.cross_attention_layers)
        return EncoderDecoder(self, data.vocab_size)

    def layout(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder_layers if self.reads_source else "",
            "decoder": patterns.parse(self.decoder_pattern),
            "cross_attention_layers": self.cross_attention_layers,
        }

    def params_by_part(self, vocab_size: int) -> dict[str, int]:
        table, norm = vocab_size * self.d_model, self.norm.num_params(self.d_model)
        decoder = self.decoder.params_by_part()
        tables = 2 if self.reads_source and not self.share_embeddings else 1
        return {
            "embedding": tables * table,
            "encoder": sum(self.encoder.params_by_part().values()) + norm if self.reads_source else 0,
            "source_summary": self.d_model**2 if self.source_summary == "mean" else 0,
            **decoder,
            "norms": decoder["norms"] + norm,
            "head": 0 if self.tie_embeddings else table,
        }

    def flops_per_token(self, vocab_size: int, seq_len: int, source_len: int | None = None) -> int:
        """Per target token, the encoder's work shared out over them."""
        source_len = seq_len if source_len is None else source_len
        return self._flops(seq_len, source_len) // seq_len + head_flops(vocab_size, self.d_model)

    def batch_flops(self, vocab_size: int, batch: TokenBatch) -> int:
        n_rows, n_time = batch.tokens_BT.shape
        source_len = 0 if batch.source_BS is None else batch.source_BS.shape[1]
        masked = batch.source_segments_BS is not None
        n_summaries = n_time if masked and batch.segments_BT is not None else 1  # a mean for each document, or one for all
        row = self._flops(n_time, source_len, n_summaries, masked)
        return n_rows * row + batch.n_targets * head_flops(vocab_size, self.d_model)

    def _flops(self, seq_len: int, source_len: int, n_summaries: int = 1, masked: bool = False) -> int:
        """Of one row without its logits; the mean of a masked source is a matrix product, that of a whole one is not."""
        decoder = self.decoder.flops(seq_len, source_len)
        if not self.reads_source:
            return decoder
        mean = 2 * source_len * self.d_model if masked else 0
        summary = n_summaries * (2 * self.d_model**2 + mean) if self.source_summary == "mean" else 0
        return decoder + self.encoder.flops(source_len) + summary

    def state_bytes(self, seq_len: int, dtype: torch.dtype = torch.bfloat16, source_len: int | None = None) -> int:
        """With keys and values of the source, without its mask of one byte a token."""
        source_len = seq_len if source_len is None else source_len
        summary = self.d_model * dtype.itemsize if self.source_summary == "mean" else 0
        return self.decoder.state_bytes(seq_len, dtype, source_len) + summary


class EncoderDecoderState(NamedTuple):
    """The decoder's past, and of the source: keys and values (in blocks), seen (B, 1, 1, S), summary (B, D)."""

    blocks: tuple[BlockState, ...]
    seen: Tensor | None
    summary: Tensor | None


class EncoderDecoder(Model):
    """Packed documents: document n of the decoder reads document n of the source (equal numbers in both segments)."""

    def __init__(self, config: EncoderDecoderConfig, vocab_size: int):
        super().__init__()
        d_model, std = config.d_model, config.embedding_std
        self.reads_source = config.reads_source
        self.embedding = Embedding(vocab_size, d_model, std)
        separate = self.reads_source and not config.share_embeddings
        self.source_embedding = Embedding(vocab_size, d_model, std) if separate else self.embedding
        self.encoder = config.encoder.build() if self.reads_source else None
        self.encoder_norm = config.norm.build(d_model) if self.reads_source else None
        self.summary = nn.Linear(d_model, d_model, bias=False) if config.source_summary == "mean" else None
        self.decoder = config.decoder.build()
        tied_to = self.embedding if config.tie_embeddings else None
        self.readout = Readout(vocab_size, d_model, std, config.norm, tied_to)

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        segments = Segments.of(batch.segments_BT)
        memory = self.encode(batch.source_BS, Segments.of(batch.source_segments_BS), segments)
        x_BTD = self.embedding(batch.tokens_BT)
        if self.summary is not None and memory is not None:
            x_BTD = x_BTD + self.summary(mean_memory(memory))
        return self.readout(self.decoder(x_BTD, segments, memory), at_BT)

    def encode(
        self, source_BS: Tensor | None, source_segments: Segments | None, segments: Segments | None = None
    ) -> Memory | None:
        """The memory that the decoder reads, seen from documents `segments`; None where the decoder is blind."""
        if self.encoder is None or self.encoder_norm is None:
            return None
        if source_BS is None:
            raise ConfigError("model encoder_decoder needs a source; use data with one, or kind: decoder_only")
        x_BSD = self.encoder(self.source_embedding(source_BS), source_segments)
        return remember(self.encoder_norm(x_BSD), source_segments, segments)

    def init_state(
        self,
        batch_size: int,
        max_len: int,
        source_BS: Tensor | None = None,
        source_segments_BS: Tensor | None = None,
    ) -> EncoderDecoderState:
        memory = self.encode(source_BS, Segments.of(source_segments_BS))
        blocks = self.decoder.init_state(batch_size, max_len, memory)
        if memory is None:
            return EncoderDecoderState(blocks, None, None)
        summary = None if self.summary is None else self.summary(mean_memory(memory)).squeeze(1)
        return EncoderDecoderState(blocks, memory.seen, summary)

    def prefill(self, tokens_BT: Tensor, state: EncoderDecoderState) -> tuple[Tensor, EncoderDecoderState]:
        if tokens_BT.shape[1] == 0:
            raise ValueError("prefill: there are no logits after no token; give at least one")
        reads.note("summary", 0, state.summary)
        x_BTD = self.embedding(tokens_BT)
        if state.summary is not None:
            x_BTD = x_BTD + state.summary.unsqueeze(1)
        x_BTD, blocks = self.decoder.prefill(x_BTD, state.blocks, state.seen)
        return self.readout(x_BTD[:, -1]), state._replace(blocks=blocks)

    def step(self, tokens_B: Tensor, state: EncoderDecoderState) -> tuple[Tensor, EncoderDecoderState]:
        reads.note("summary", 0, state.summary)
        x_BD = self.embedding(tokens_B)
        if state.summary is not None:
            x_BD = x_BD + state.summary
        x_BD, blocks = self.decoder.step(x_BD, state.blocks, state.seen)
        return self.readout(x_BD), state._replace(blocks=blocks)
