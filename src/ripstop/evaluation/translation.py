"""Translation quality: corpus BLEU and chrF++ by sacrebleu, and the translations themselves as a file to read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF

from ripstop.files import write_text
from ripstop.records import Measurement, Scalar


@dataclass(frozen=True)
class Translation:
    """One window of a document: what went in, what came out, what a human wrote."""

    document: str
    source: str
    hypothesis: str
    reference: str


def quality(translations: Sequence[Translation], n_bootstrap: int = 1000) -> Iterator[Measurement]:
    """Corpus BLEU and chrF++ (Papineni 2002; Popović 2017) with half-widths of their 95 % bootstrap intervals.

    These are statistics of the whole corpus: a mean of sentence scores is another number.
    """
    hypotheses = [t.hypothesis for t in translations]
    references = [[t.reference for t in translations]]
    for name, metric in (("bleu", BLEU()), ("chrf++", CHRF(word_order=2))):
        score = metric.corpus_score(hypotheses, references, n_bootstrap=n_bootstrap)
        measured: dict[str, Scalar] = {"signature": metric.get_signature().format(short=True)}
        yield Measurement(name, score.score, "points", len(translations), measured)
        yield Measurement(f"{name}_half_interval", score._ci, "points", len(translations), measured)


def length_ratio(translations: Sequence[Translation]) -> Measurement:
    """Words written over words of the reference: far from 1, BLEU says more about length than about words."""
    written = sum(len(t.hypothesis.split()) for t in translations)
    wanted = sum(len(t.reference.split()) for t in translations)
    return Measurement("length_ratio", written / wanted, "ratio", len(translations))


def write_translations(path: Path, translations: Sequence[Translation]) -> None:
    """JSON lines, for readers and for metrics that need another environment (COMET)."""
    write_text(path, "".join(json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in translations))
