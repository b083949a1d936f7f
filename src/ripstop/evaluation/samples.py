"""Some translations to read, each with its score: what stands in the paper's table of samples.

It reads what the part `translation` left. The texts are slices of the record, so that what is printed has its run behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from sacrebleu.metrics import CHRF

from ripstop.config import NAME
from ripstop.data.batching import evenly
from ripstop.evaluation.base import Subject
from ripstop.evaluation.derived import DerivedConfig, left_at, place
from ripstop.evaluation.translated import TRANSLATIONS, one_line, read_translations
from ripstop.evaluation.translation import documents_of
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class SamplesConfig(DerivedConfig):
    """Translations at equal distances: their place alone picks them, not how good they are."""

    kind: Literal["samples"] = "samples"
    translation: str = Field("translation", pattern=rf"^{NAME.pattern}$", description="the part whose translations are read")
    n: int = Field(8, ge=1, le=1000)

    def check(self, run: Run) -> None:
        documents_of(run)

    def reads(self, run: Run) -> list[str]:
        return [place(run, self.translation)]

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """`sample_chrf++`: chrF++ of the one segment (sacrebleu's sentence score)."""
        folder = left_at(subject, place(subject.run, self.translation))
        for number, one in enumerate(evenly(read_translations(folder / TRANSLATIONS), self.n)):
            texts = {side: one_line(getattr(one, side)) for side in ("source", "hypothesis", "reference")}
            score = CHRF(word_order=2).sentence_score(texts["hypothesis"], [texts["reference"]]).score
            yield Measurement("sample_chrf++", score, "points", 1, {"sample": number, "document": one.document, **texts})
