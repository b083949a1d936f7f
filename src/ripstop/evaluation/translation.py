"""Translation: windows of the test split translated, BLEU and chrF++ of them, and the translations as files to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from ripstop.config import ConfigError
from ripstop.data.batching import evenly
from ripstop.data.documents import DocumentsConfig
from ripstop.data.tokenizer import BOS, EOS
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.corpus_scores import quality, quality_by_length
from ripstop.evaluation.translated import SIDES, TRANSLATIONS, Translation, write_translations
from ripstop.models.base import Model
from ripstop.models.generate import GenerationConfig, generate
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class TranslationConfig(PartConfig):
    """Translations of `n_translations` windows of the test split, spread evenly over its documents, and their quality."""

    kind: Literal["translation"] = "translation"
    n_translations: int = Field(64, ge=1)
    batch_size: int = Field(16, ge=1, description="windows translated at once")
    generation: GenerationConfig
    files: ClassVar[tuple[str, ...]] = (TRANSLATIONS, *SIDES.values())

    def check(self, run: Run) -> None:
        documents_of(run)
        if self.generation.eos != EOS:
            raise ConfigError(f"generation.eos: is {self.generation.eos}, and a text of the data ends with {EOS}; set {EOS}")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model = subject.model()
        translations = translate(model, documents_of(subject.run), subject.data, self)
        write_translations(subject.out, translations)
        yield from quality(translations)
        yield from quality_by_length(translations)
        yield length_ratio(translations)
        yield Measurement("parameters", sum(p.numel() for p in model.parameters()), "parameters", 1)


def translate(model: Model, config: DocumentsConfig, data: Path, settings: TranslationConfig) -> list[Translation]:
    """Translations of test windows spread evenly over the held-out documents."""
    chosen = evenly(config.test_windows(data, "test"), settings.n_translations)
    tokenizer = config.load_tokenizer(data)
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(0)  # of a configuration that samples
    translations = []
    for start in range(0, len(chosen), settings.batch_size):
        batch = chosen[start : start + settings.batch_size]
        sources = [torch.tensor(window.source_ids, device=device) for window in batch]
        outputs = generate(model, [[BOS]] * len(batch), settings.generation, sources=sources, generator=generator)
        for window, ids in zip(batch, outputs, strict=True):
            text = tokenizer.decode(ids)
            translations.append(Translation(window.doc_id, window.source_text, text, window.target_text))
    return translations


def length_ratio(translations: Sequence[Translation]) -> Measurement:
    """Words written over words of the reference: far from 1, BLEU says more about length than about words."""
    written = sum(len(t.hypothesis.split()) for t in translations)
    wanted = sum(len(t.reference.split()) for t in translations)
    if wanted == 0:
        raise ConfigError(f"the references of all {len(translations)} translated windows are empty; test on windows with text")
    return Measurement("length_ratio", written / wanted, "ratio", len(translations))


def documents_of(run: Run) -> DocumentsConfig:
    """The data of a run that translates; `ConfigError` where it is of another kind."""
    if not isinstance(run.data, DocumentsConfig):
        raise ConfigError(f"translation needs data of kind documents, and the run's is {run.data.kind}; remove this part")
    return run.data
