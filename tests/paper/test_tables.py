"""Tables: what a study prints, as LaTeX."""

from __future__ import annotations

import math

import pytest

from ripstop.config import ConfigError
from ripstop.paper.tables import Marked, Paragraph, Table
from ripstop.statistics import Estimate


def test_cells_and_alignment():
    table = Table(
        header=["mixer_kind", "recall", "bytes", "loss"],
        rows=[["[A] 50 %", Estimate(0.7, 0.6, 0.8, 3), 1234567, 0.123456], ["b", None, 0, math.nan]],
        caption="Recall & more",
        notes=["n = 3"],
    )
    text = table.latex("mqar_cliff")
    assert r"\begin{tabular}{@{}lrrr@{}}" in text
    assert r"mixer\_kind & recall & bytes & loss \\" in text
    # a row that began with a bare bracket would be read as the length of the line before
    assert r"{[}A{]} 50 \% & 0.70 {[}0.60, 0.80{]} & 1234567 & 0.123 \\" in text
    assert r"b & not measured & 0 & not measured \\" in text
    assert r"\caption{Recall \& more}" in text and r"\label{tab:mqar_cliff}" in text and "n = 3" in text
    assert "nan" not in text


def test_many_estimates_are_stacked():
    row = [Estimate(0.7, 0.6, 0.8, 3), *[Estimate(0.5)] * 4]
    text = Table(list("abcde"), [row], "c").latex("l")
    assert r"0.70\\[-2pt]{\scriptsize {[}0.60, 0.80{]}}\end{tabular} & 0.500 & 0.500 & 0.500 & 0.500 \\" in text


def test_four_estimates_stand_side_by_side():
    row = [Estimate(0.7, 0.6, 0.8, 3)] * 4
    assert "0.70 {[}0.60, 0.80{]} & 0.70 {[}0.60, 0.80{]} & " in Table(list("abcd"), [row], "c").latex("l")


def test_a_number_keeps_its_side_beside_words():
    text = Table(list("abc"), [["x", "not run", 1], ["y", "not run", "not measured"]], "c").latex("l")
    assert r"\begin{tabular}{@{}llr@{}}" in text


def test_paragraphs_share_the_width():
    text = Table(["a", "b", "c"], [[Paragraph("x & y"), 1.5, Paragraph("z")]], "c").latex("l")
    wide = r">{\raggedright\arraybackslash}p{0.600\linewidth}"
    assert rf"\begin{{tabular}}{{@{{}}{wide}r{wide}@{{}}}}" in text and r"x \& y & 1.50 & z \\" in text


def test_a_ragged_table_and_a_bad_name_are_refused():
    with pytest.raises(ValueError, match="1 cells under 2 headings"):
        Table(["a", "b"], [["x"]], "c")
    for name in ("l}", "l-1", "", "Lab", "tab:l", "a b", "a\nb", "a\\input{x}"):
        with pytest.raises(ConfigError, match="cannot name a table"):
            Table(["a"], [["x"]], "c").latex(name)


def test_csv_has_every_digit():
    rows = [
        ["a, b", Marked(Estimate(1 / 3, 0.25, 0.5, 3), "+"), 7, Estimate.missing("nats")],
        [Paragraph('say "no"'), Estimate(2.0), 0.1, None],
    ]
    assert Table(["arm", "loss", "n", "gain"], rows, "c", ["a note"]).csv().splitlines() == [
        'arm,loss,"loss, low","loss, high","loss, runs",n,gain,"gain, low","gain, high","gain, runs"',
        '"a, b",0.3333333333333333,0.25,0.5,3,7,,,,',
        '"say ""no""",2.0,,,1,0.1,,,,',
    ]
    assert Table(["a", "b"], [], "c").csv() == "a,b\n"


def test_a_table_without_rows_is_still_a_table():
    assert r"\begin{tabular}{@{}ll@{}}" in Table(["a", "b"], [], "c").latex("l")
