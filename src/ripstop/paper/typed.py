r"""Results that were typed by hand: numerals in the paper's prose, and in sentences of a README that state a result.

A number of the paper is printed by `\val` or `\valci`, which take it from the records. One that is no result but a setting, a
level or a definition is written `\given{0.9}`, which prints it as it stands. In LaTeX every other numeral is named, and so are
words that count (`three times`, `twice as fast`), but for the parts of names (`Mamba-2`, `chrF2`, `int8`) and the level of
intervals (`95\,\%`). In Markdown, where most numerals are no results, those of sentences that speak of what is measured are;
code is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ripstop.files import read_text
from ripstop.paper.numbers import COMMENT

Known = Mapping[str, Mapping[str, float]]
"""study -> name -> value: what could have been printed."""

MOVES_NO_NUMBER = "it only reads what was written by hand"
_MEASURED = (
    r"recall\w*|accurac\w+|loss\w*|perplexit\w+|BLEU|chrF\+*|COMET|F1|exact match|bits? per|bpb|exponents?|capacit\w+|"
    r"verdicts?|refuted|supported|throughput|latenc\w+|speed-?ups?|faster|slower|quicker|gains?|costs?|"
    r"cheaper|fewer|better|worse|higher|lower|beats?|outperforms?|ahead|behind|significan\w+"
)
_WORD = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|fifty|a hundred|a thousand|a dozen"
_COUNTING = re.compile(
    rf"\b(?:(?:{_WORD})[ -](?:times|fold|percent|per cent|points?|percentage points|orders of magnitude|tenths?|thirds)"
    rf"|(?:{_WORD})(?:fold|times)"
    r"|(?:twice|half|thrice) as (?:much|many|fast|good|bad|accurate|high|low|large|small|long|slow|cheap|expensive|well)"
    rf"|(?:twice|half|double|triple|a third of|a quarter of|two thirds of) (?:the|of the|its) (?:{_MEASURED})"
    rf"|(?:doubl|tripl|halv|quadrupl)(?:es|ed|ing) (?:the |its )?(?:{_MEASURED}))\b",
    re.IGNORECASE,
)
_NUMERAL = re.compile(
    r"(?<![\w.\\])(?<![A-Za-z0-9]-)(?:[-+](?=\S))?(?:\d+(?:(?:,|\\,|\{,\})\d{3})*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
    r"(?:x|k|K|M|B|m?s|[kKMG]i?B|bits?)?(?![A-Za-z_]|\d)"
)
_LEVEL = re.compile(r"95\s*(?:\\,|~)?\s*(?:\\%|%|percent|per cent)")
_NAMED = re.compile(
    r"\\(?:val|valci|given|cite[a-z]*|ref|eqref|pageref|label|input|includegraphics|url|bibliography\w*|begin|end|vspace|hspace|"
    r"setlength|controlsof)\*?\s*(?:\[[^]]*\]\s*)*\{[^}]*\}(?:\{[^}]*\})?"
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|<[^>\n]*>|\]\([^)\n]*\)", re.DOTALL)
_FORMULA = re.compile(r"\\\[.*?\\\]|\$\$.*?\$\$|\$[^$]*\$", re.DOTALL)
_RELATED = re.compile(
    r"(?:[=<>~]|\\approx|\\sim|\\simeq|\\leq?|\\geq?|\\pm|\\times)\s*[-+]?\d|\d\.\d|^\s*[-+]?[\d.,]+\s*(?:\\,|\\%|\\times|x|k|%|$)"
)
_SENTENCE = re.compile(r"(?<=[.:;!?])\s+(?=[A-Z*`|\[-])|\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.))")


def typed_results(path: Path, known: Known) -> list[str]:
    """One sentence for each numeral of a .tex or .md file that states a result: file, line, what to write in its place."""
    text = read_text(path)
    found = _in_markdown(text) if path.suffix == ".md" else _in_latex(text)
    study = path.stem if path.stem in known else ""
    return [_told(path, text, start, numeral, known, study) for start, numeral in sorted(set(found))]


def _in_latex(text: str) -> list[tuple[int, str]]:
    begin = text.find(r"\begin{document}")
    body = _blanked(COMMENT, text)
    body = " " * max(begin, 0) + body[max(begin, 0) :]
    body = _blanked(_LEVEL, _blanked(_NAMED, body))
    prose = _FORMULA.sub(lambda m: m.group() if _RELATED.search(m.group().strip("$\\[]")) else _blank(m.group()), body)
    return [(m.start(), m.group()) for pattern in (_NUMERAL, _COUNTING) for m in pattern.finditer(prose)]


def _in_markdown(text: str) -> list[tuple[int, str]]:
    prose = _blanked(_LEVEL, _blanked(_CODE, text))
    found, start = [(m.start(), m.group()) for m in _COUNTING.finditer(prose)], 0
    measured = re.compile(rf"\b(?:{_MEASURED})\b", re.IGNORECASE)
    for end in [*(m.start() for m in _SENTENCE.finditer(prose)), len(prose)]:
        if measured.search(prose, start, end):
            found += [(m.start(), m.group()) for m in _NUMERAL.finditer(prose, start, end)]
        start = end
    return found


def _told(path: Path, text: str, start: int, numeral: str, known: Known, study: str) -> str:
    place = f"{path}:{text.count(chr(10), 0, start) + 1}: {numeral.strip()!r} is typed by hand"
    printed = " or ".join(rf"\val{{{name}}}" for name in _matching(numeral, known, study))
    if path.suffix == ".md":
        return f"{place} where a result is told; leave it to the paper" + (f", which prints it by {printed}" if printed else "")
    printed = printed or rf"\val{{{study or '<study>'}.<number>}}"
    return rf"{place}; write {printed}, or \given{{{numeral.strip()}}} where it is no result"


def _matching(numeral: str, known: Known, study: str) -> list[str]:
    """At most two numbers that round to what was typed, as it stands or as a percentage; those of the section's study first."""
    plain = re.sub(r"\\,|\{,\}|,", "", numeral).lstrip("+")
    try:
        value = float(plain)
    except ValueError:
        return []
    decimals = len(plain.partition("e")[0].partition(".")[2])
    near = []
    for name in sorted(known, key=lambda name: name != study):
        for number, held in known[name].items():
            if any(round(scaled, decimals) == value for scaled in (held, 100 * held)):
                near.append((name != study, abs(held - value), f"{name}.{number}"))
    return [name for _, _, name in sorted(near)[:2]]


def _blanked(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: _blank(match.group()), text)


def _blank(text: str) -> str:
    """Spaces in its place, so that lines and columns stay."""
    return re.sub(r"[^\n]", " ", text)
