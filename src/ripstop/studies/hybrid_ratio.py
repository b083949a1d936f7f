"""How many attention layers does a Mamba-2 translator of documents need?

Varies: the decoder's pattern, from pure Mamba-2 over 1:7, 1:3 and 1:1 to pure attention, and the seed. The encoder, the
positions of cross-attention, the data (German translations of English documents, held out by whole books) and the
number of updates stay the same; parameters differ by the mixers alone and are recorded.
Refuted would be: hybrids that are no better than both pure models, or a clear optimum where the literature finds a flat
region. Wrong and shuffled sources tell how much of the loss the source accounts for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from ripstop.config import Strict
from ripstop.data.documents import DocumentsConfig
from ripstop.data.tokenizer import BOS
from ripstop.evaluation import controls
from ripstop.evaluation.likelihood import loss_per_token
from ripstop.evaluation.translation import Translation, length_ratio, quality, write_translations
from ripstop.layers.mlp import MlpConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.base import Model
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.generate import GenerationConfig, generate
from ripstop.models.pattern import letter_counts, used
from ripstop.records import Measurement
from ripstop.runs import Run, Scalar, run_name
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.reporting import Reporting


class Evaluation(Strict):
    """What is scored: the loss on every test window under each control, and translations of `n_translations` of them."""

    controls: list[str] = ["own", "shuffled", "wrong"]
    tokens_per_batch: int = Field(8192, ge=1)
    n_translations: int = Field(64, ge=1, description="test windows translated, spread evenly over the documents")
    batch_size: int = Field(16, ge=1)
    generation: GenerationConfig


class Params(Strict):
    """`patterns` names each decoder by its ratio of attention to Mamba-2 layers."""

    seeds: list[int] = Field(min_length=1)
    data: DocumentsConfig
    d_model: int = Field(ge=1)
    n_cross_heads: int = Field(ge=1, description="heads of the cross-attention")
    mlp: MlpConfig | None
    encoder_pattern: str
    patterns: dict[str, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    cross_attention_positions: list[int]
    training: TrainingConfig
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    evaluation: Evaluation


def runs(params: Params, scale: str) -> Iterator[Run]:
    """Every ratio with every seed."""
    for ratio, pattern in params.patterns.items():
        for seed in params.seeds:
            factors: dict[str, Scalar] = {"ratio": ratio, "attention_share": _attention_share(pattern, params.mixers)}
            yield Run(
                study="hybrid_ratio",
                scale=scale,
                name=run_name({"ratio": ratio}, seed),
                seed=seed,
                factors=factors,
                data=params.data,
                model=EncoderDecoderConfig(
                    d_model=params.d_model,
                    encoder_pattern=params.encoder_pattern,
                    decoder_pattern=pattern,
                    mixers=used(params.mixers, params.encoder_pattern, pattern),
                    mlp=params.mlp,
                    n_cross_heads=params.n_cross_heads,
                    cross_attention_positions=params.cross_attention_positions,
                ),
                training=params.training,
                compute=params.compute,
                reporting=params.reporting,
                evaluation=params.evaluation.model_dump(mode="json"),
            )


def evaluate(model: Model, run: Run, data: Path) -> Iterator[Measurement]:
    """Loss under each control, corpus quality of the translations (kept in translations.jsonl), and the size."""
    settings = Evaluation.parse(run.evaluation, "evaluation.yaml")
    assert isinstance(run.data, DocumentsConfig)
    for name in settings.controls:
        batches = run.data.test_batches(data, "test", settings.tokens_per_batch)
        applied = (controls.apply(name, batch, seed) for seed, batch in enumerate(batches))
        value, n = loss_per_token(model, applied)
        yield Measurement("loss", value, "nats", n, {"control": name})
    translations = translate(model, run.data, data, settings)
    write_translations(data.parent.parent / "runs" / run.name / "translations.jsonl", translations)
    yield from quality(translations)
    yield length_ratio(translations)
    yield Measurement("parameters", sum(p.numel() for p in model.parameters()), "parameters", 1)


def translate(model: Model, config: DocumentsConfig, data: Path, settings: Evaluation) -> list[Translation]:
    """Translations of test windows spread evenly over the held-out documents."""
    windows = config.test_windows(data)
    every = max(1, len(windows) // settings.n_translations)
    chosen = windows[::every][: settings.n_translations]
    tokenizer = config.load_tokenizer(data)
    device = next(model.parameters()).device
    translations = []
    for start in range(0, len(chosen), settings.batch_size):
        batch = chosen[start : start + settings.batch_size]
        sources = [torch.tensor(window.source_ids, device=device) for window in batch]
        outputs = generate(model, [[BOS]] * len(batch), settings.generation, sources=sources)
        for window, ids in zip(batch, outputs, strict=True):
            text = tokenizer.decode(ids)
            translations.append(Translation(window.doc_id, window.source_text, text, window.target_text))
    return translations


def _attention_share(pattern: str, mixers: dict[str, MixerConfig]) -> float:
    counts = letter_counts(pattern)
    return sum(n for letter, n in counts.items() if mixers[letter].kind == "attention") / sum(counts.values())
