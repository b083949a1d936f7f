"""BLEU and chrF++ of a corpus by sacrebleu: with intervals, by length of the source, and compared with a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest

from ripstop.config import ConfigError
from ripstop.evaluation.translated import Translation, one_line
from ripstop.records import Measurement, Scalar

BOOTSTRAP_SEED = 12345
"""That of sacrebleu, so that its resamples are ours."""
WORDS = (16, 32, 64, 128)
"""Where buckets of source length begin, in words between white space."""


def corpus_metrics() -> dict[str, Metric]:
    """name -> sacrebleu's metric (Papineni 2002; Popović 2017), as `sacrebleu -m bleu chrf --chrf-word-order 2` has them."""
    return {"bleu": BLEU(), "chrf++": CHRF(word_order=2)}


def quality(translations: Sequence[Translation], n_bootstrap: int = 1000) -> Iterator[Measurement]:
    """Corpus BLEU and chrF++ with half-widths of their 95 % bootstrap intervals.

    These are statistics of the whole corpus: a mean of sentence scores is another number.
    """
    hypotheses, references = _sides(translations)
    for name, metric in corpus_metrics().items():
        score, half_interval = _bootstrapped(metric, hypotheses, references, n_bootstrap)
        measured: dict[str, Scalar] = {"signature": metric.get_signature().format(short=False)}
        yield Measurement(name, score, "points", len(translations), measured)
        yield Measurement(f"{name}_half_interval", half_interval, "points", len(translations), measured)


def quality_by_length(translations: Sequence[Translation]) -> Iterator[Measurement]:
    """The same scores of the corpus of each bucket of source length that has segments."""
    for bucket, those in by_length(translations).items():
        hypotheses, references = _sides(those)
        for name, metric in corpus_metrics().items():
            score = _points(metric.corpus_score(hypotheses, references).score)
            yield Measurement(f"{name}_by_length", score, "points", len(those), {"source_words": bucket})


def by_length(translations: Sequence[Translation]) -> dict[str, list[Translation]]:
    """Translations by number of words of the source: "1-15", "16-31", "32-63", "64-127", "128+", those that there are."""
    found: dict[str, list[Translation]] = {}
    for translation in sorted(translations, key=lambda t: len(t.source.split())):
        found.setdefault(length_bucket(len(translation.source.split())), []).append(translation)
    return found


def length_bucket(n_words: int) -> str:
    """The bucket of a source with so many words."""
    starts = [1, *WORDS]
    i = sum(n_words >= start for start in WORDS)
    return f"{starts[i]}+" if i == len(WORDS) else f"{starts[i]}-{WORDS[i] - 1}"


def paired_bootstrap(
    baseline: Sequence[Translation], translations: Sequence[Translation], n_samples: int = 1000
) -> dict[str, float]:
    """metric -> two-sided p-value of the difference to the baseline (Koehn 2004), as `sacrebleu --paired-bs` gives it.

    The same segments are drawn of both. Two equal scores have p = 1: of two corpora that are the same in every segment,
    and so in every resample, sacrebleu says 1 / (n_samples + 1), since no resample differs by more than nothing.
    `ConfigError` where the two did not translate the same segments.
    """
    if [(t.source, t.reference) for t in baseline] != [(t.source, t.reference) for t in translations]:
        raise ConfigError("the baseline translated other segments; evaluate both with the same data and number of translations")
    systems: list[tuple[str, Sequence[str]]] = [("baseline", _sides(baseline)[0]), ("system", _sides(translations)[0])]
    test = PairedTest(systems, corpus_metrics(), _sides(baseline)[1], "bs", n_samples)
    test._seed = BOOTSTRAP_SEED  # whatever SACREBLEU_SEED says
    found = test()[1]
    results: list[list[Any]] = [list(found[name]) for name in test.metrics]
    return {
        name: 1.0 if first.score == second.score else float(second.p_value)
        for name, (first, second) in zip(corpus_metrics(), results, strict=True)
    }


def _sides(translations: Sequence[Translation]) -> tuple[list[str], list[list[str]]]:
    """Hypotheses and references, as the files of plain text hold them."""
    return [one_line(t.hypothesis) for t in translations], [[one_line(t.reference) for t in translations]]


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
