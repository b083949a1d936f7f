"""Escaping: every character prints as itself and none does anything else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripstop.config import ConfigError
from ripstop.paper import latex
from ripstop.paper.latex import Latex, checked_name, escape, render

COMMANDS = r"\\text[a-z]+\{\}|\\ensuremath\{\^?\\?[a-z-]+\}|\\[{}$&#%_-]|\\dots\{\}|\{[][*]\}|\{\}|~"


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50 % of A&B", r"50 \% of A\&B"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("$x_1^2$ #3 ~", r"\$x\_1\textasciicircum{}2\$ \#3 \textasciitilde{}"),
        ("--set a=b", r"-{}-set a=b"),
        ("---", "-{}-{}-"),
        ("''", "'{}'"),
        ("[1] * 2", "{[}1{]} {*} 2"),
        ("a\nb\tc", "a b c"),
        ("≥ 64, \u22120.5, 2×3", r"\ensuremath{\geq} 64, \ensuremath{-}0.5, 2\ensuremath{\times}3"),
        ("Größe é ß", "Größe é ß"),
        ("\u2603\x00\U0001f600", "{[}U+2603{]}".replace("{[}", "[").replace("{]}", "]") + "[U+0000][U+1F600]"),
        (3.5, "3.5"),
    ],
)
def test_escape(text, latex):
    assert escape(text) == latex


@given(st.text())
def test_nothing_active_is_left(text):
    escaped = escape(text)
    assert not re.search(r"[\\{}$&#%_^~\"`|<>]", re.sub(COMMANDS, "", escaped))
    assert "\n" not in escaped and "--" not in escaped.replace("{}", " ").replace("–", "") or set("–—") & set(text)
    assert escape(escaped) is escaped  # once is enough


def test_templates_escape_what_does_not_say_that_it_is_latex():
    values = {
        "entries": [{"name": "a.b", "value": "50 %", "interval": Latex(r"\relax")}],
        "studies": [],
        "provenance": [],
    }
    text = render("numbers.tex.j2", values)
    assert r"\ripstopnumber{a.b}{50 \%}{\relax}" in text


def test_a_missing_value_is_an_error():
    with pytest.raises(ConfigError, match="numbers.tex.j2: 'entries' is undefined; mend the template"):
        render("numbers.tex.j2", {})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "new.tex.j2: no such template; restore it with git"),
        (b"a\n((* if *))", "new.tex.j2:2: .*; mend the template"),
        (b"((* for x in y *))", "new.tex.j2:1: "),
        (b"\xff\xfe", "new.tex.j2: .*utf-8.*; mend the template"),
        (b"((( x.y )))", "new.tex.j2: 'str object' has no attribute 'y'"),
    ],
)
def test_a_broken_template_is_one_sentence(content, sentence, tmp_path, monkeypatch):
    if content is not None:
        (tmp_path / "new.tex.j2").write_bytes(content)
    monkeypatch.setattr(latex, "TEMPLATES", tmp_path)
    latex._environment.cache_clear()
    try:
        with pytest.raises(ConfigError, match=sentence) as error:
            render("new.tex.j2", {"x": "text"})
        assert "\n" not in str(error.value)
    finally:
        latex._environment.cache_clear()


@pytest.mark.parametrize("name", ["a}", "a b", "A", "1a", "_a", "", "a-b", "a.b", "a%", "a\n", "é", r"a\input", None, 3])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="cannot name a number"):
        checked_name(name, "number")
    assert checked_name("a_1", "number") == "a_1"
