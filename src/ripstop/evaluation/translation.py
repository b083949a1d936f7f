"""Translation quality: corpus BLEU and chrF++ by sacrebleu, and the translations themselves as a file to read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.data.tokenizer import BOS, EOS
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.files import write_text
from ripstop.models.base import Model
from ripstop.models.generate import GenerationConfig, generate
from ripstop.records import Measurement, Scalar

if TYPE_CHECKING:
    from ripstop.runs import Run

BOOTSTRAP_SEED = 12345
"""That of sacrebleu, so that its resamples are ours."""


class TranslationConfig(PartConfig):
    """Translations of `n_translations` windows of the test split, spread evenly over its documents, and their quality."""

    kind: Literal["translation"] = "translation"
    n_translations: int = Field(64, ge=1)
    batch_size: int = Field(16, ge=1, description="windows translated at once")
    generation: GenerationConfig
    files: ClassVar[tuple[str, ...]] = ("translations.jsonl",)

    def check(self, run: Run) -> None:
        _documents(run)
        if self.generation.eos != EOS:
            raise ConfigError(f"generation.eos: is {self.generation.eos}, and a text of the data ends with {EOS}; set {EOS}")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model = subject.model()
        translations = translate(model, _documents(subject.run), subject.data, self)
        write_translations(subject.out / self.files[0], translations)
        yield from quality(translations)
        yield length_ratio(translations)
        yield Measurement("parameters", sum(p.numel() for p in model.parameters()), "parameters", 1)


@dataclass(frozen=True)
class Translation:
    """One window of a document: what went in, what came out, what a human wrote."""

    document: str
    source: str
    hypothesis: str
    reference: str


def translate(model: Model, config: DocumentsConfig, data: Path, settings: TranslationConfig) -> list[Translation]:
    """Translations of test windows spread evenly over the held-out documents."""
    windows = config.test_windows(data, "test")
    n = min(settings.n_translations, len(windows))
    chosen = [windows[i * len(windows) // n] for i in range(n)]
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


def quality(translations: Sequence[Translation], n_bootstrap: int = 1000) -> Iterator[Measurement]:
    """Corpus BLEU and chrF++ (Papineni 2002; Popović 2017) with half-widths of their 95 % bootstrap intervals.

    These are statistics of the whole corpus: a mean of sentence scores is another number.
    """
    hypotheses = [t.hypothesis for t in translations]
    references = [[t.reference for t in translations]]
    for name, metric in (("bleu", BLEU()), ("chrf++", CHRF(word_order=2))):
        score, half_interval = _bootstrapped(metric, hypotheses, references, n_bootstrap)
        measured: dict[str, Scalar] = {"signature": metric.get_signature().format(short=True)}
        yield Measurement(name, score, "points", len(translations), measured)
        yield Measurement(f"{name}_half_interval", half_interval, "points", len(translations), measured)


def _bootstrapped(
    metric: Metric, hypotheses: Sequence[str], references: Sequence[Sequence[str]], n_bootstrap: int
) -> tuple[float, float]:
    """The score and half the width of its interval, resampling whole windows as sacrebleu does.

    `corpus_score(..., n_bootstrap)` itself raises a TypeError where some resamples match nothing and others do: the
    former are Python floats, the latter NumPy's, and `statistics.mean` refuses to mix them. It also counts in float32.
    """
    score = metric.corpus_score(hypotheses, references).score
    counts = np.array(metric._extract_corpus_statistics(hypotheses, references), dtype=np.int64)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    rows = generator.choice(len(counts), size=(n_bootstrap, len(counts)), replace=True)
    resampled = sorted(_points(metric._compute_score_from_stats(counts[row].sum(0).tolist()).score) for row in rows)
    metric.n_bootstrap, metric.seed = n_bootstrap, str(BOOTSTRAP_SEED)  # what the signature says
    outside = n_bootstrap // 40
    return _points(score), (resampled[-1 - outside] - resampled[outside]) / 2


def _points(score: float) -> float:
    """A score of perfect hypotheses comes out as 100.00000000000004."""
    return min(float(score), 100.0)


def length_ratio(translations: Sequence[Translation]) -> Measurement:
    """Words written over words of the reference: far from 1, BLEU says more about length than about words."""
    written = sum(len(t.hypothesis.split()) for t in translations)
    wanted = sum(len(t.reference.split()) for t in translations)
    if wanted == 0:
        raise ConfigError(f"the references of all {len(translations)} translated windows are empty; test on windows with text")
    return Measurement("length_ratio", written / wanted, "ratio", len(translations))


def write_translations(path: Path, translations: Sequence[Translation]) -> None:
    """JSON lines, for readers and for metrics that need another environment (COMET)."""
    write_text(path, "".join(json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in translations))


def _documents(run: Run) -> DocumentsConfig:
    if not isinstance(run.data, DocumentsConfig):
        raise ConfigError(f"translation needs data of kind documents, and the run's is {run.data.kind}; remove this part")
    return run.data
