"""A study's records that can be moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd

from ripstop.paper.by_heart import Moves
from ripstop.paper.select import StudyRecords


@dataclass(frozen=True)
class Probe(StudyRecords):
    """`StudyRecords` whose values can be moved, which a printer cannot tell from them.

    One demand is waived: values that should all be the same need not be, since one of them may have been moved.

    moves: of the study's whole table, of which `labels` may be a part.
    """

    moves: Moves = field(default_factory=lambda: Moves(0))

    @classmethod
    def of(cls, records: StudyRecords) -> Probe:
        same = {field.name: getattr(records, field.name) for field in fields(StudyRecords)}
        return cls(**same, moves=Moves(len(records.labels)))

    def _shown(self, rows: pd.DataFrame) -> pd.DataFrame:
        return self.moves.shown(rows)

    def _one(self, name: str, values: list, where: Mapping[str, object]) -> float | None:
        if len(values) > 1 and all(isinstance(value, float | int) for value in values):
            return float(np.mean(values))
        return super()._one(name, values, where)
