"""From which length on the kernels of sparse attention pay: read from what `python -m ripstop bench selection` measured.

On a device that was not measured they are off unless they are asked for by name.
"""

from __future__ import annotations

import csv
import functools
import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from ripstop.config import ConfigError
from ripstop.files import write_text

FILE = Path(__file__).with_name("selection.csv")
MARGIN = 0.1
"""By which part of the other's time a form has to be faster, so that noise does not decide."""
NEVER = 2**62

Part = Literal["training", "forward", "decode"]


class Row(NamedTuple):
    """Milliseconds of one form at one length: forward, backward of a sequence of `length`, and one token after as many.

    form: dense, torch or triton.
    """

    device: str
    dtype: str
    heads: int
    groups: int
    head_dim: int
    length: int
    form: str
    forward: float
    backward: float
    decode: float

    def time(self, part: Part) -> float:
        return {"training": self.forward + self.backward, "forward": self.forward, "decode": self.decode}[part]

    @property
    def what(self) -> tuple[str | int, ...]:
        """What was measured: everything but the times."""
        return self[:7]


def read(path: Path = FILE) -> list[Row]:
    """ConfigError where the file is not what the command writes."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [_row(values) for values in csv.DictReader(file)]
        except (TypeError, ValueError, KeyError) as error:
            again = "write it anew with `python -m ripstop bench selection`"
            raise ConfigError(f"{path}: no table of measured times ({error}); {again}") from None


def _row(values: dict[str, str]) -> Row:
    device, dtype, heads, groups, head_dim, length, form, *times = (values[name] for name in Row._fields)
    forward, backward, decode = map(float, times)
    return Row(device, dtype, int(heads), int(groups), int(head_dim), int(length), form, forward, backward, decode)


def write(rows: Iterable[Row], path: Path = FILE) -> None:
    """Puts the rows into the file, in the place of those of the same device, sizes, length and form."""
    kept = {row.what: row for row in read(path)} | {row.what: row for row in rows}
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([Row._fields, *sorted(kept.values())])
    write_text(path, table.getvalue())


def pays_from(
    rows: Iterable[Row],
    device: str,
    dtype: str,
    part: Part,
    form: str = "triton",
    against: str = "torch",
    margin: float = MARGIN,
) -> int | None:
    """The smallest measured length from which on `form` is faster than `against` by the margin, at every longer one too and at
    all sizes that were measured. None where there is none."""
    times: dict[tuple[int, ...], dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if (row.device, row.dtype) == (device, dtype):
            times[row.heads, row.groups, row.head_dim][row.length][row.form] = row.time(part)
    starts = []
    for of_length in times.values():
        both = {n: found for n, found in of_length.items() if form in found and against in found}
        pays = NEVER
        for n in sorted(both, reverse=True):
            if both[n][form] * (1 + margin) > both[n][against]:
                break
            pays = n
        starts.append(pays)
    return max(starts) if starts and max(starts) < NEVER else None


@functools.cache
def kernels_pay_from(device: str, dtype: str, part: Part) -> int:
    """`NEVER` where they do not, or where nobody has measured."""
    found = pays_from(read(), device, dtype, part)
    return NEVER if found is None else found


# A constant of a traced graph: no compiler has to follow the reading of a file.
kernels_pay_from._dynamo_marked_constant = True  # type: ignore[attr-defined]
