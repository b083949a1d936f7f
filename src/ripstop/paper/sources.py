"""sources.json: what is behind each number, table cell and figure of a study, as `why` tells it and `verify` makes it again."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ripstop.paper.by_heart import by_heart
from ripstop.paper.influence import Behind, Influence
from ripstop.paper.methods import Methods
from ripstop.paper.numbers import format_estimate, to_json
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Table, format_cell
from ripstop.statistics import Estimate

FILE = "sources.json"
FOLDER = "sources"
"""Of the assembled and of the published paper: <study>.json, and the claims as `assemble` judged them."""


def sources(
    printer: ModuleType,
    mine: StudyRecords,
    others: Mapping[str, StudyRecords],
    numbers: Mapping[str, Estimate],
    tables: Mapping[str, Table],
    methods: Methods,
    records: Mapping[str, str],
) -> str:
    """The text of a study's sources.json.

    methods: how the estimates among `numbers` and `tables` were made.
    records: study -> digest of its records.
    """
    asked = Influence(mine, others)
    behind = asked.behind(lambda records, **reads: _pieces(printer, records, reads))
    drawn = asked.drawn(lambda records, **reads: _figures(printer, records, reads)) if hasattr(printer, "figures") else {}
    sets: dict[Behind, int] = {}
    says: dict[str, int] = {}

    def of(piece: Hashable, shown: Any) -> dict[str, int]:
        method = methods.of(shown)
        return {"behind": sets.setdefault(behind[piece], len(sets)), "method": says.setdefault(method, len(says))}

    run, kind = asked.places.run, asked.places.kind

    def records_of(found: Iterable[Behind]) -> int:
        """How many records there are in these sets, each once."""
        return int(np.any([np.isin(run, one.runs) & np.isin(kind, one.kinds) for one in found], axis=0).sum())

    content = {
        "study": mine.study,
        "scale": str(mine.table["scale"].iloc[0]),
        "records": dict(records),
        "numbers": {
            name: {"printed": format_estimate(estimate), **to_json(estimate), **of(name, estimate)}
            for name, estimate in numbers.items()
        },
        "tables": {
            name: {
                "caption": table.caption,
                "header": list(table.header),
                "records": records_of(
                    {behind[name, row, column] for row, cells in enumerate(table.rows) for column in range(len(cells))}
                ),
                "rows": [
                    [{"printed": format_cell(cell), **of((name, row, column), cell)} for column, cell in enumerate(cells)]
                    for row, cells in enumerate(table.rows)
                ],
            }
            for name, table in tables.items()
        },
        "figures": {name: {"behind": sets.setdefault(found, len(sets))} for name, found in drawn.items()},
        "methods": list(says),
        "behind": [{"runs": found.runs, "kinds": found.kinds, "records": records_of([found])} for found in sets],
        "runs": [{"study": study, "run": run} for study, run in asked.places.runs],
        "kinds": [
            {"study": study, "part": part, "metric": metric, "slice": dict(slices)}
            for study, part, metric, slices in asked.places.kinds
        ],
    }
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in content.items()) + "\n}\n"


def _lines(value: Any) -> str:
    """JSON with a line for each member, so that a difference in git is one of few lines."""
    if isinstance(value, dict):
        return "{" + ",".join(f"\n {json.dumps(key)}: {json.dumps(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"\n {json.dumps(one)}" for one in value) + "]"
    return json.dumps(value)


def _pieces(printer: ModuleType, records: StudyRecords, reads: Mapping[str, StudyRecords]) -> dict[Hashable, object]:
    """Name of a number, or (table, row, column) -> what is printed there."""
    found: dict[Hashable, object] = dict(by_heart(printer.numbers)(records, **reads))
    for name, table in by_heart(printer.tables)(records, **reads).items() if hasattr(printer, "tables") else ():
        for row, cells in enumerate(table.rows):
            found |= {(name, row, column): cell for column, cell in enumerate(cells)}
    return found


def _figures(printer: ModuleType, records: StudyRecords, reads: Mapping[str, StudyRecords]) -> dict[Hashable, object]:
    """Name -> what is drawn."""
    return {name: _drawn(figure) for name, figure in by_heart(printer.figures)(records, **reads).items()}


def _drawn(figure: Figure) -> list[object]:
    """Everything in a figure that its data moves: lines, areas, images and words."""
    found: list[object] = []
    for ax in figure.axes:
        found += [_values(line.get_xydata()) for line in ax.lines]
        for collection in ax.collections:
            found += [_values(path.vertices) for path in collection.get_paths()]
            found += [_values(collection.get_offsets()), _values(collection.get_array())]
        found += [_values(image.get_array()) for image in ax.images]
        found += [str(patch) for patch in ax.patches]
        found += [text.get_text() for text in [*ax.texts, ax.title, *ax.get_xticklabels(), *ax.get_yticklabels()]]
    return found


def _values(array: Any) -> list[Any] | None:
    return None if array is None else np.asarray(array).tolist()
