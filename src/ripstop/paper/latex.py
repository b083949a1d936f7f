"""LaTeX from values: escaping, and templates in which every value is escaped unless it says that it is LaTeX."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from ripstop.config import NAME, ConfigError

TEMPLATES = Path(__file__).parent / "templates"

# Brackets and stars are harmless in a paragraph, but at the start of a table's row they are arguments of the row's end.
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "\u2212": r"\ensuremath{-}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "×": r"\ensuremath{\times}",
    "±": r"\ensuremath{\pm}",
    "→": r"\ensuremath{\rightarrow}",
    "∞": r"\ensuremath{\infty}",
    "†": r"\ensuremath{^\dagger}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "\u201c": r"\textquotedblleft{}",
    "\u201d": r"\textquotedblright{}",
    "\u00a0": "~",
    "\u00ad": r"\-",
}

# Letters of Latin-1 and Latin Extended-A that the T1 encoding lacks.
MISSING = set("\u00af\u00b4\u00b8\u00a8ĦħĸŉĿŀŦŧĈĉĊċĖėĠġĜĝĤĥĴĵŜŝŬŭŴŵŶŷĀāĒēĪīŌōŪūĨĩĬĭĎŎŏĻļŅņŖŗĢģĶķŲųĮįſ")

BETWEEN = re.compile(r"(?<=[-_./])(?=.)")
"""Where a long name is broken."""


class Latex(str):
    """Text that is LaTeX already. Everything else is escaped."""


def escape(value: object) -> Latex:
    """`value` as LaTeX that prints exactly its text, on one line, in any place of a paragraph or table.

    A character that pdflatex's T1 fonts cannot print becomes its code, `[U+2603]`, instead of stopping the paper.
    """
    if isinstance(value, Latex):
        return value
    text = str(value)
    return Latex("".join(_escaped(text, i) for i in range(len(text))))


def breakable(name: object) -> Latex:
    """A name, which goes on in the next line behind one of its signs where it has to."""
    return Latex(r"\nolinebreak[3]".join(escape(part) for part in BETWEEN.split(str(name))))


def checked_name(name: str, of: str) -> str:
    """`name`, where it is one that LaTeX takes as it stands; of: what it names, for the message."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a {of}; use lower-case letters, digits and _, a letter first")
    return name


def render(template: str, values: Mapping[str, Any]) -> str:
    """The template's text with `values` laid in; a value it names and does not get is an error."""
    where = f"src/ripstop/paper/templates/{template}"
    try:
        return _environment().get_template(template).render(values)
    except jinja2.TemplateNotFound:
        raise ConfigError(f"{where}: no such template; restore it with git") from None
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{where}:{error.lineno}: {error.message}; mend the template, or restore it with git") from None
    except (jinja2.TemplateError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{where}: {error}; mend the template, or restore it with git") from None


def _escaped(text: str, i: int) -> str:
    c = text[i]
    if c in "-,'":
        # Doubled, these print as one sign: the dash of `--set`, a low or a closing quotation mark.
        return "{}" + c if i and text[i - 1] == c else c
    if c in SPECIAL:
        return SPECIAL[c]
    if c in "\n\r\t":
        return " "
    if " " <= c <= "~" or (0xA1 <= ord(c) <= 0x17F and c not in MISSING):
        return c
    return f"[U+{ord(c):04X}]"


@functools.cache
def _environment() -> jinja2.Environment:
    # `{`, `%` and `#` are LaTeX's own, so the delimiters are made of parentheses. finalize escapes what a template
    # prints, so that no template can forget to.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        block_start_string="((*",
        block_end_string="*))",
        variable_start_string="(((",
        variable_end_string=")))",
        comment_start_string="((=",
        comment_end_string="=))",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=escape,
        autoescape=False,
    )
    environment.filters |= {"tex": escape, "latex": Latex, "breakable": breakable}
    return environment
