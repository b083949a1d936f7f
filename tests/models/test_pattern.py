"""Patterns: counts, brackets, and errors that say where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripstop.config import ConfigError
from ripstop.models.pattern import LONGEST, check_letters, letter_counts, parse


@pytest.mark.parametrize(
    ("pattern", "written_out"),
    [
        ("M", "M"),
        ("MMMA", "MMMA"),
        ("M7A", "MMMMMMMA"),
        ("(M7A)4", "MMMMMMMA" * 4),
        ("(MA)", "MA"),
        ("A(M2(AW)2)3C10", "A" + "MMAWAW" * 3 + "C" * 10),
        ("Mm1", "Mm"),
        ("M01", "M"),
    ],
)
def test_counts_repeat_the_letter_or_bracket_before_them(pattern: str, written_out: str) -> None:
    assert parse(pattern) == written_out


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "pattern: is empty; give one letter a layer, as in 'MMMA' or '(M7A)4'"),
        ("7M", "pattern '7M', position 1: a count must follow a letter or a bracket, as in 'M7A' or '(M7A)4'"),
        ("M0A", f"pattern 'M0A', position 2: a count goes from 1 to {LONGEST}"),
        ("MA)2", "pattern 'MA)2', position 3: ')' closes no bracket; remove it"),
        ("M(A(M)", "pattern 'M(A(M)', position 2: the bracket is never closed; add ')'"),
        ("M()", "pattern 'M()', position 3: the bracket is empty; put letters into it"),
        ("M-A", "pattern 'M-A', position 2: '-' is no letter, count or bracket; remove it"),
        ("MÄ", "pattern 'MÄ', position 2: 'Ä' is no letter, count or bracket; remove it"),
        ("M²", "pattern 'M²', position 2: '²' is no letter, count or bracket; remove it"),
        ("M9999999999", f"pattern 'M9999999999', position 2: a count goes from 1 to {LONGEST}"),
        (
            f"(MA){LONGEST}",
            f"pattern '(MA){LONGEST}', position 8: there are more than {LONGEST} layers; lower the count",
        ),
    ],
)
def test_errors_name_the_position(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(pattern)
    assert str(error.value) == message


@given(st.lists(st.tuples(st.sampled_from("MAW"), st.integers(1, 9)), min_size=1, max_size=6), st.integers(1, 4))
def test_counted_and_written_out_forms_agree(items: list[tuple[str, int]], repeats: int) -> None:
    written_out = "".join(letter * count for letter, count in items) * repeats
    counted = f"({''.join(f'{letter}{count}' for letter, count in items)}){repeats}"
    assert parse(counted) == written_out == parse(written_out)
    assert letter_counts(counted) == {letter: written_out.count(letter) for letter in dict.fromkeys(written_out)}


def test_a_letter_that_the_table_lacks_is_named() -> None:
    check_letters("MA", {"M": 1, "A": 1, "W": 1})
    with pytest.raises(ConfigError, match="pattern 'M7X' has the letter 'X', and mixers holds M, A; add it there"):
        check_letters("M7X", {"M": 1, "A": 1})
