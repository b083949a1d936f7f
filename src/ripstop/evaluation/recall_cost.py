"""Recall and what the memory behind it costs, in one job: a model of seconds is measured in less time than a process starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.decode_bytes import step_bytes
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.recall import RecallConfig, mqar_data
from ripstop.models.reading import decoder
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class RecallCostConfig(PartConfig):
    """Recall, how it was learnt, the model's parameters, and the bytes that it holds, and a step reads, in rows of each number
    of pairs that is tested."""

    kind: Literal["recall_cost"] = "recall_cost"
    recall: RecallConfig = RecallConfig(controls=["own", "wrong"])

    def check(self, run: Run) -> None:
        self.recall.check(run)
        LearningCurveConfig().check(run)
        decoder(run.model)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        run, model = subject.run, subject.model()
        yield from self.recall.measure(subject)
        yield from LearningCurveConfig().measure(subject)
        data = mqar_data(run)
        for num_pairs in data.test_pairs:
            for counted in step_bytes(model, run.model, data.row_length(num_pairs)):
                yield replace(counted, slice={"num_pairs": num_pairs, **counted.slice})
        yield Measurement("parameters", sum(p.numel() for p in model.parameters()), "parameters", 1)
