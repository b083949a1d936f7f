"""The loss on windows longer than those of the test: what a model makes of more context than two sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.controls import Control, applied
from ripstop.evaluation.likelihood import loss_per_token
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class LongWindowsConfig(PartConfig):
    """The loss on every long window of the test split, under each of `controls`."""

    kind: Literal["long_windows"] = "long_windows"
    controls: list[Control] = Field(["own", "wrong"], min_length=1)
    tokens_per_batch: int = Field(8192, ge=1, le=2**22, description="tokens read at once, padding and source included")

    def check(self, run: Run) -> None:
        if not isinstance(run.data, DocumentsConfig) or run.data.long is None:
            raise ConfigError("long_windows needs data of kind documents that has some; set data.long, or remove this part")
        needed = 2 * run.data.longest_row.total
        if self.tokens_per_batch < needed:
            raise ConfigError(
                f"tokens_per_batch: {self.tokens_per_batch} does not hold two of the longest rows, that is {needed}; raise it"
            )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model, data = subject.model(), subject.run.data
        assert isinstance(data, DocumentsConfig)
        for control in self.controls:
            batches = data.held_out_long(subject.data, "test", self.tokens_per_batch)
            value, n = loss_per_token(model, applied(control, batches))
            yield Measurement("long_window_loss", value, "nats", n, {"control": control})
