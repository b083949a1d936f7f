"""How much of what is held out also stands in training, as it was counted when the data was prepared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class OverlapConfig(PartConfig):
    """The fraction of the pieces of each held-out split, with both sides, that training has word for word."""

    kind: Literal["overlap"] = "overlap"

    def check(self, run: Run) -> None:
        if not isinstance(run.data, DocumentsConfig):
            raise ConfigError(f"overlap needs data of kind documents, and the run's is {run.data.kind}; remove this part")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        splits = subject.run.data.description(subject.data)["splits"]
        for split in ("valid", "test"):
            n = splits[split]["pieces"] + splits[split]["pieces_too_long"]
            yield Measurement("also_in_train", splits[split]["pieces_also_in_train"] / n, "fraction", n, {"split": split})
