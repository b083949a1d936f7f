"""How a training went: what it measured on held-out data on its way, and the settings that its arm chose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from ripstop import choices
from ripstop.config import ConfigError
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.files import read_text
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class LearningCurveConfig(PartConfig):
    """Held-out loss and accuracy at every validation; the numbers that were chosen, and what each candidate came to."""

    kind: Literal["learning_curve"] = "learning_curve"

    def check(self, run: Run) -> None:
        if run.training is None or not run.training.validate_every:
            raise ConfigError("training.validate_every is 0, so there is no learning curve; set it, or remove this part")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        path = subject.folder / "training.json"
        yield from _curve(json.loads(read_text(path))["validation"], str(path))
        if subject.run.choice:
            yield from _chosen(choices.chosen(subject.folder, subject.run.choice))


def _curve(rows: list[dict[str, Any]], where: str) -> Iterator[Measurement]:
    for row in rows:
        for name, unit in (("loss", "nats"), ("accuracy", "fraction")):
            if row.get(name) is not None:
                yield Measurement(f"held_out_{name}", row[name], unit, row["n"], {"step": row["step"]})
    if not rows:
        raise ConfigError(f"{where}: the training measured nothing on held-out data; delete it and train again")


def _chosen(choice: choices.Choice) -> Iterator[Measurement]:
    for key, value in choice.settings.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Measurement("chosen", value, "setting", 1, {"setting": key})
    for candidate in choice.candidates:
        if candidate.loss is not None:
            tried = ", ".join(f"{key} {value}" for key, value in candidate.settings.items())
            yield Measurement("candidate_loss", candidate.loss, "nats", 1, {"candidate": tried})
