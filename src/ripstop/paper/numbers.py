"""A study's numbers: how each is printed, how they are kept as JSON, and how the paper's text gets them by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ripstop.config import ConfigError, nearest
from ripstop.files import write_text
from ripstop.paper.latex import render
from ripstop.statistics import Estimate

Numbers = dict[str, dict[str, Estimate]]
"""study -> name -> estimate"""

CLAIM_COUNTS = ("total", "supported", "refuted", "inconclusive", "not_measured")
"""Numbers of claims; the claims' own file defines `claims.<this>` for the paper."""

COUNT_UNITS = {"runs", "count"}
MOST_DECIMALS = 4
NAME = re.compile(r"[a-z][a-z0-9_]*")
USE = re.compile(r"\\val(?:ci)?\s*\{([^}]*)\}")
COMMENT = re.compile(r"(?<!\\)%.*")


@dataclass(frozen=True)
class StudyNumbers:
    """The content of one numbers.json."""

    study: str
    scale: str
    runs: int
    devices: list[str]
    numbers: dict[str, Estimate]


def format_number(value: float) -> str:
    """A number without an interval, to 3 significant digits; "not run" for nan. Whole numbers are not rounded."""
    return format_estimate(None if math.isnan(value) else Estimate(value), interval=False)


def format_estimate(estimate: Estimate | None, interval: bool = True) -> str:
    """`0.93 [0.91, 0.95]`, to the first significant digit of half the interval's width (two where it is a 1).

    Never "nan".
    Nothing measured: "not run". A bound: `≥ 64`. Bounds in both directions, or a value that is no number: "unknown".
    With one run: the value alone.
    """
    if estimate is None or estimate.n == 0:
        return "not run"
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
    for name in numbers.numbers:
        if not NAME.fullmatch(name):
            raise ConfigError(f"{path}: {name!r} cannot name a number; use lower-case letters, digits and _")
    content = {
        "study": numbers.study,
        "scale": numbers.scale,
        "runs": numbers.runs,
        "devices": numbers.devices,
        "numbers": {name: to_json(estimate) for name, estimate in numbers.numbers.items()},
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_studies(paths: Iterable[Path], scale: str | None = None) -> list[StudyNumbers]:
    """Several numbers.json, in the order given; different scales, or another than `scale`, are an error."""
    found: list[StudyNumbers] = []
    for path in paths:
        study = _read(path)
        wanted = scale or (found[0].scale if found else study.scale)
        if study.scale != wanted:
            mixed = f"holds numbers of scale {study.scale!r}, not {wanted!r}"
            raise ConfigError(f"{path}: {mixed}; give those of one scale")
        if study.study in {other.study for other in found}:
            raise ConfigError(f"{path}: study {study.study!r} is given twice; give one numbers.json a study")
        found.append(study)
    return found


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


def check_tex(paths: Iterable[Path], numbers: Numbers) -> list[str]:
    r"""One sentence for each `\val` or `\valci` that names no number.

    Comments are skipped. A section of a study that has no numbers at all is not checked: the paper leaves it out.
    """
    known = sorted({f"{study}.{name}" for study, named in numbers.items() for name in named})
    known += [f"claims.{name}" for name in CLAIM_COUNTS]
    complaints = []
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        own = None if path.stem in numbers else f"{path.stem}."
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for name in USE.findall(COMMENT.sub("", line)):
                is_parameter = "#" in name  # inside the definition of \val itself
                left_out = own is not None and name.startswith(own)
                if name not in known and not is_parameter and not left_out:
                    complaints.append(f"{path}:{number}: \\val{{{name}}} names no number{nearest(name, known)}")
    return complaints


def to_json(estimate: Estimate) -> dict[str, float | int | str | None]:
    """An estimate as JSON values."""
    # float and int, because studies hand over numpy's and pandas' own numbers
    ends = {key: _number_to_json(float(getattr(estimate, key))) for key in ("value", "low", "high")}
    return {**ends, "n": int(estimate.n), "unit": estimate.unit}


def _read(path: Path) -> StudyNumbers:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; `python -m ripstop numbers` writes it")
    try:
        content = json.loads(path.read_text())
        named = {name: _from_json(values) for name, values in content["numbers"].items()}
        return StudyNumbers(content["study"], content["scale"], content["runs"], content["devices"], named)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path}: not a file of numbers ({error}); delete it and run `numbers` again") from None


def _from_json(values: Mapping[str, float | int | str | None]) -> Estimate:
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
