"""No text: a number of token ids alone, for measures that no text moves, such as bytes and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ripstop.batch import StreamPlan
from ripstop.config import ConfigError
from ripstop.data.base import DataConfig, RowLength
from ripstop.provenance import digest


class VocabularyConfig(DataConfig):
    """What a model is built for that nothing is trained or tested on. source: whether it is to read one."""

    kind: Literal["vocabulary"] = "vocabulary"
    n_ids: int = Field(256, ge=1, le=2**20, description="token ids, those of a source among them")
    source: bool = False

    @property
    def longest_row(self) -> RowLength:
        return RowLength(1, 1 if self.source else None)

    def check(self, plan: StreamPlan) -> None:
        raise ConfigError(
            "data of kind vocabulary holds no rows to train on; take another kind, or write `training: null` where nothing is "
            "trained"
        )

    def write(self, out: Path) -> dict[str, Any]:
        return {"vocab_size": self.n_ids, "sha256": digest(f"{self.n_ids} ids, source {self.source}")}
