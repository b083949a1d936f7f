"""How many attention layers does a Mamba-2 translator of documents need?

Varies: the decoder's pattern, from pure Mamba-2 over 1:7, 1:3 and 1:1 to pure attention, and the seed. The encoder, the
positions of cross-attention, the data (German translations of English documents, held out by whole books) and the
number of updates stay the same; parameters differ by the mixers alone and are recorded.
Refuted would be: hybrids that are no better than both pure models, or a clear optimum where the literature finds a flat
region. Wrong and shuffled sources tell how much of the loss the source accounts for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ripstop.config import ArmName, Size, Strict
from ripstop.data.documents import DocumentsConfig
from ripstop.evaluation.likelihood import LikelihoodConfig
from ripstop.evaluation.translation import TranslationConfig
from ripstop.layers.mlp import MlpConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.pattern import letter_counts, used
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig


class Evaluation(Strict):
    """The loss on every test window under each control, and the quality of translations of some of them."""

    likelihood: LikelihoodConfig = LikelihoodConfig()
    translation: TranslationConfig


class Params(StudyParams):
    """`patterns` names each decoder by its ratio of attention to Mamba-2 layers."""

    data: DocumentsConfig
    training: TrainingConfig
    d_model: Size
    n_cross_heads: Size = Field(description="heads of the cross-attention")
    mlp: MlpConfig | None
    encoder_pattern: str
    patterns: dict[ArmName, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    cross_attention_positions: list[int]
    evaluation: Evaluation


def arms(params: Params) -> Iterator[Arm]:
    """Every ratio; its share of attention layers is recorded with it."""
    for ratio, pattern in params.patterns.items():
        model = EncoderDecoderConfig(
            d_model=params.d_model,
            encoder_pattern=params.encoder_pattern,
            decoder_pattern=pattern,
            mixers=used(params.mixers, params.encoder_pattern, pattern),
            mlp=params.mlp,
            n_cross_heads=params.n_cross_heads,
            cross_attention_positions=params.cross_attention_positions,
        )
        yield Arm(factors={"ratio": ratio}, derived={"attention_share": _attention_share(pattern, model.mixers)}, model=model)


def _attention_share(pattern: str, mixers: dict[str, MixerConfig]) -> float:
    counts = letter_counts(pattern)
    return sum(n for letter, n in counts.items() if mixers[letter].kind == "attention") / sum(counts.values())
