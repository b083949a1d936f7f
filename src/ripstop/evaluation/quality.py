"""Quality of translations that were made: against a baseline, by names, and by what is left out or added.

It reads the translations that the part `translation` left, of this run and of the baselines with the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ripstop.config import NAME, ConfigError
from ripstop.evaluation.base import Subject
from ripstop.evaluation.corpus_scores import paired_bootstrap
from ripstop.evaluation.coverage import coverage_rates
from ripstop.evaluation.derived import DerivedConfig, left_at, place
from ripstop.evaluation.entities import entity_recall
from ripstop.evaluation.learnt_words import learnt_words
from ripstop.evaluation.translated import TRANSLATIONS, Translation, read_translations
from ripstop.evaluation.translation import documents_of
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class QualityConfig(DerivedConfig):
    """against: arms to compare with, each as its folders name it without the seed (`ratio-0`); an arm is not compared with
    itself."""

    kind: Literal["quality"] = "quality"
    translation: str = Field("translation", pattern=rf"^{NAME.pattern}$", description="the part whose translations are read")
    against: list[str] = []
    n_bootstrap: int = Field(1000, ge=1, description="resamples of a paired test")

    def check(self, run: Run) -> None:
        documents_of(run)

    def reads(self, run: Run) -> list[str]:
        baselines = [place(run, self.translation, arm) for arm in self.against]
        return list(dict.fromkeys([place(run, self.translation), *baselines]))

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        run, own = subject.run, place(subject.run, self.translation)
        translations = self._translations(subject, own)
        yield Measurement("segments", len(translations), "count", len(translations))
        for arm in self.against:
            other = place(run, self.translation, arm)
            if other != own:
                yield from self._compared(translations, self._translations(subject, other), arm)
        learnt = learnt_words(documents_of(run), subject.data)
        yield from entity_recall(translations, learnt.names)
        yield from coverage_rates(translations, learnt.coverage)

    def _compared(self, mine: list[Translation], baseline: list[Translation], arm: str) -> Iterator[Measurement]:
        try:
            found = paired_bootstrap(baseline, mine, self.n_bootstrap)
        except ConfigError as error:
            raise ConfigError(f"quality.against: {arm}: {error}") from None
        for metric, p_value in found.items():
            yield Measurement(f"{metric}_p_value", p_value, "fraction", len(mine), {"against": arm})

    def _translations(self, subject: Subject, where: str) -> list[Translation]:
        return read_translations(left_at(subject, where) / TRANSLATIONS)
