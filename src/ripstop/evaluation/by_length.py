"""Accuracy by length: what was learnt on short rows, on rows up to several times as long, and under every control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ripstop.config import ConfigError
from ripstop.data.synthetic import SyntheticConfig
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.controls import CONTROLS, Control, applied
from ripstop.evaluation.recall import accuracy
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class ByLengthConfig(PartConfig):
    """Accuracy on the test rows of every length, under each of `controls`; and that of guessing an answer.

    A length is recorded as it is, and as a multiple of the longest that was trained on.
    """

    kind: Literal["by_length"] = "by_length"
    controls: list[Control] = Field(list(CONTROLS), min_length=1)
    batch_size: int = Field(128, ge=2, description="test rows read at once; the control `wrong` needs another in the batch")

    def check(self, run: Run) -> None:
        _synthetic(run)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        data, model = _synthetic(subject.run), subject.model()
        for length in data.test_lengths:
            for control in self.controls:
                value, n = accuracy(model, applied(control, data.test_batches(subject.data, length, self.batch_size)))
                times = length / data.lengths[-1]
                yield Measurement("accuracy", value, "fraction", n, {"length": length, "times": times, "control": control})
        yield Measurement("chance", 1 / data.n_answers, "fraction", 1)


def _synthetic(run: Run) -> SyntheticConfig:
    if not isinstance(run.data, SyntheticConfig):
        raise ConfigError(f"lengths are those of a synthetic task, and the run's data is {run.data.kind}; remove this part")
    return run.data
