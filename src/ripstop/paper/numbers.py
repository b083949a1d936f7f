"""A study's numbers: how each is printed, how they are kept as JSON, and how the paper's text gets them by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ripstop.claims.counts import CLAIM_COUNTS
from ripstop.config import ConfigError, nearest
from ripstop.files import read_text, write_text
from ripstop.paper.latex import checked_name, render
from ripstop.statistics import Estimate

Numbers = dict[str, dict[str, Estimate]]
"""study -> name -> estimate"""

NOT_MEASURED = "not measured"
COUNT_UNITS = {"runs", "count", "arms", "layers", "depths", "steps"}
MOST_DECIMALS = 4
FILE = "numbers.json"
SECTIONS = "sections"
USES = {
    "number": re.compile(r"\\val(?:ci)?\s*\{([^}]*)\}"),
    "figure": re.compile(r"\\includegraphics\s*(?:\[[^]]*\])?\s*\{figures/([^}]*?)(?:\.pdf)?\}"),
    "table": re.compile(r"\\input\s*\{tables/([^}]*?)(?:\.tex)?\}"),
}
"""How the paper's text names what is generated."""
STUDIED = re.compile(r"\\ifstudied\{([^}]*)\}(.*?)\\fi\b", re.S)
COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*")


@dataclass(frozen=True)
class StudyNumbers:
    """The content of one numbers.json: a study's numbers, and the names of its figures and tables beside it.

    n_runs, devices: how many runs there are records of, and the processors that they were measured on.
    commits: at which those runs were made, as their records say.
    """

    study: str
    scale: str
    n_runs: int
    devices: list[str]
    numbers: dict[str, Estimate]
    figures: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        plain = isinstance(self.scale, str) and isinstance(self.n_runs, int)
        if not plain or not all(isinstance(text, str) for text in [*self.devices, *self.figures, *self.tables, *self.commits]):
            raise ConfigError(
                "a scale and the names of devices, figures, tables and commits are text, n_runs is a whole number"
            )
        checked_name(self.study, "study")
        for name in self.numbers:
            checked_name(name, "number")
        for kind, names in (("figure", self.figures), ("table", self.tables)):
            for name in names:
                if checked_name(name, kind) != self.study and not name.startswith(f"{self.study}_"):
                    raise ConfigError(f"{kind} {name!r} is not named by its study; call it {self.study}_{name}")


def format_number(value: float) -> str:
    """A number without an interval, to 3 significant digits; "not measured" for nan. Whole numbers are not rounded."""
    return format_estimate(None if math.isnan(value) else Estimate(value), interval=False)


def format_estimate(estimate: Estimate | None, interval: bool = True) -> str:
    """`0.93 [0.91, 0.95]`, to the first significant digit of half the interval's width (two where it is a 1).

    Never "nan".
    Nothing measured: "not measured". A bound: `≥ 64`. Bounds in both directions, or a value that is no number: "unknown".
    With one run: the value alone.
    """
    if estimate is None or estimate.n == 0:
        return NOT_MEASURED
    if not math.isfinite(estimate.value) or (estimate.low, estimate.high) == (-math.inf, math.inf):
        return "unknown"
    shown = [estimate.value]
    bounded = math.isfinite(estimate.low) and math.isfinite(estimate.high)
    if bounded:
        shown += [estimate.low, estimate.high]
    width = estimate.high - estimate.low if bounded else 0.0
    texts = _digits(shown, width, estimate.unit in COUNT_UNITS)
    if estimate.high == math.inf:
        return f"≥ {texts[0]}"
    if estimate.low == -math.inf:
        return f"≤ {texts[0]}"
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if bounded and interval and width > 0 else texts[0]


def write_numbers_json(path: Path, numbers: StudyNumbers) -> None:
    """Write numbers.json, whole or not at all. nan is null and infinities are strings, so that it is JSON."""
    content = {
        "study": numbers.study,
        "scale": numbers.scale,
        "n_runs": numbers.n_runs,
        "devices": numbers.devices,
        "commits": numbers.commits,
        "figures": numbers.figures,
        "tables": numbers.tables,
        "numbers": {name: to_json(estimate) for name, estimate in numbers.numbers.items()},
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_numbers(path: Path) -> StudyNumbers:
    """One numbers.json; `ConfigError` where it is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; `python -m ripstop render` writes it")
    try:
        content = json.loads(read_text(path))
        content["numbers"] = {name: from_json(values) for name, values in content["numbers"].items()}
        return StudyNumbers(**content)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a file of numbers ({error}); delete it and render the study again") from None


def read_studies(paths: Iterable[Path], scale: str) -> list[StudyNumbers]:
    """Several numbers.json, in the order given; one of another scale, or of a study a second time, is an error."""
    found: list[StudyNumbers] = []
    for path in paths:
        study = read_numbers(path)
        if study.scale != scale:
            mixed = f"holds numbers of scale {study.scale!r}, not {scale!r}"
            raise ConfigError(f"{path}: {mixed}; give those of one scale")
        if study.study in {other.study for other in found}:
            raise ConfigError(f"{path}: study {study.study!r} is given twice; give one numbers.json a study")
        found.append(study)
    return found


def metric_values(numbers: Mapping[str, Estimate]) -> dict[str, float]:
    """The numbers without their intervals, to six digits, as results/metrics keeps them in git."""
    return {name: float(f"{e.value:.6g}") for name, e in sorted(numbers.items()) if math.isfinite(e.value)}


def by_study(studies: Iterable[StudyNumbers]) -> Numbers:
    """study -> name -> estimate."""
    return {study.study: study.numbers for study in studies}


def numbers_tex(studies: Sequence[StudyNumbers], provenance: Sequence[tuple[str, str]]) -> str:
    r"""LaTeX that defines what the paper's text takes from results.

    `\val{study.name}` the value, `\valci{study.name}` the value with its interval, `\studies` the sections in the order
    given, `\provenance` a table of the given rows (name, value).
    """
    entries = [
        {"name": f"{s.study}.{name}", "value": format_estimate(e, interval=False), "interval": format_estimate(e)}
        for s in studies
        for name, e in s.numbers.items()
    ]
    names = [s.study for s in studies]
    return render("numbers.tex.j2", {"entries": entries, "studies": names, "provenance": provenance})


def check_tex(texts: Iterable[Path], studies: Sequence[StudyNumbers]) -> list[str]:
    r"""One sentence for each `\val`, `\valci`, figure or table in the paper's text that names none.

    A figure or table stands in the section of its study, where captions say which of the study's controls failed.
    Comments are skipped, and so are the section of a study that is not among `studies`, and what stands between its
    `\ifstudied{study}` and `\fi`: the paper leaves them out.
    """
    known: dict[str, list[str]] = {
        "number": [f"{s.study}.{name}" for s in studies for name in s.numbers] + [f"claims.{name}" for name in CLAIM_COUNTS],
        "figure": [name for s in studies for name in s.figures],
        "table": [name for s in studies for name in s.tables],
    }
    given = {s.study: [*s.figures, *s.tables] for s in studies}
    complaints = []
    for path in texts:
        text = uncommented(path)
        if path.parent.name == SECTIONS and path.stem not in given:
            continue
        complaints += _of_another(path, text)
        text = without_others(text, given)
        mine = given.get(path.stem, []) if path.parent.name == SECTIONS else []
        for kind, use in USES.items():
            complaints += _unknown(path, text, kind, use, known[kind])
            complaints += _elsewhere(path, text, use, set(known[kind]) - set(mine)) if kind != "number" else []
    return complaints


def without_others(text: str, studies: Collection[str]) -> str:
    """The text, line by line, without what it says between `\\ifstudied` and `\\fi` of a study that is none of these."""
    return STUDIED.sub(lambda found: found[0] if found[1] in studies else "\n" * found[0].count("\n"), text)


def uncommented(path: Path) -> str:
    """The file's text, line by line, without LaTeX's comments."""
    return "\n".join(COMMENT.sub(r"\1", line) for line in read_text(path).split("\n"))


def _unknown(path: Path, text: str, kind: str, use: re.Pattern[str], known: Collection[str]) -> list[str]:
    found = []
    for match in use.finditer(text):
        name = match.group(1)
        if name not in known and "#" not in name:  # `#1` stands inside the definition of \val itself
            found.append(f"{_place(path, match)} names no {kind}{nearest(name, sorted(known))}")
    return found


def _of_another(path: Path, text: str) -> list[str]:
    """What an `\\ifstudied` says of a study that it does not name: misspelt, it would be left out for ever."""
    return [
        f"{path}:{text.count(chr(10), 0, block.start()) + 1}: \\ifstudied{{{block[1]}}} has a number of {study}; name that"
        for block in STUDIED.finditer(text)
        for study in sorted({use[1].partition(".")[0] for use in USES["number"].finditer(block[2])} - {block[1]})
    ]


def _elsewhere(path: Path, text: str, use: re.Pattern[str], others: Collection[str]) -> list[str]:
    why = "stands outside the section of its study, whose captions tell of failed controls; move it there"
    return [f"{_place(path, match)} {why}" for match in use.finditer(text) if match.group(1) in others]


def _place(path: Path, match: re.Match[str]) -> str:
    return f"{path}:{match.string.count(chr(10), 0, match.start()) + 1}: {match.group(0)}"


def to_json(estimate: Estimate) -> dict[str, float | int | str | None]:
    """An estimate as JSON values."""
    # float and int, because studies hand over numpy's and pandas' own numbers
    ends = {key: _number_to_json(float(getattr(estimate, key))) for key in ("value", "low", "high")}
    return {**ends, "n": int(estimate.n), "unit": estimate.unit}


def from_json(values: Mapping[str, float | int | str | None]) -> Estimate:
    """The estimate that `to_json` wrote."""
    value, low, high = (math.nan if values[k] is None else float(values[k] or 0) for k in ("value", "low", "high"))
    return Estimate(value, low, high, int(values["n"] or 0), str(values["unit"]))


def _number_to_json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _digits(values: Sequence[float], width: float, count: bool) -> list[str]:
    """Every value to the same number of decimals: what `width` justifies, else 3 significant digits of the first."""
    largest = max(abs(v) for v in values)
    if count or (width == 0 and values[0] == round(values[0]) and 1 < largest < 1e6):
        return [_signed(f"{v:.0f}") for v in values]
    if largest >= 1e6 or 0 < largest < 1e-3:
        return [_signed(f"{v:.2e}") for v in values]
    if width > 0:
        first, exponent = f"{width / 2:.0e}".split("e")
        decimals = (1 if first == "1" else 0) - int(exponent)
    else:
        decimals = 2 - math.floor(math.log10(largest)) if largest > 0 else 2
    return [_signed(f"{v:.{min(max(decimals, 0), MOST_DECIMALS)}f}") for v in values]


def _signed(text: str) -> str:
    """No negative zero, and a true minus sign."""
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return text.replace("-", "\u2212")
