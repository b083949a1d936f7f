"""Arithmetic coding of whole numbers: round trips, the paper's example, and as many bits as the entropy."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripstop.frozen.arithmetic_coder import LARGEST_TOTAL, Decoder, Encoder

Steps = list[tuple[list[int], int]]
"""Frequencies of all symbols, and the one that comes, step by step."""


def coded(steps: Steps) -> bytes:
    encoder = Encoder()
    for frequencies, symbol in steps:
        starts = [0, *accumulate(frequencies)]
        encoder.put(starts[symbol], starts[symbol + 1], starts[-1])
    return encoder.finish()


def decoded(data: bytes, steps: Steps) -> list[int]:
    decoder, found = Decoder(data), []
    for frequencies, _ in steps:
        starts = [0, *accumulate(frequencies)]
        target = decoder.target(starts[-1])
        found.append(next(i for i in range(len(frequencies)) if starts[i] <= target < starts[i + 1]))
        decoder.take(starts[found[-1]], starts[found[-1] + 1], starts[-1])
    return found


def ideal(steps: Steps) -> float:
    return sum(math.log2(sum(frequencies) / frequencies[symbol]) for frequencies, symbol in steps)


def number(data: bytes) -> Fraction:
    """The bytes as a binary fraction."""
    return Fraction(int.from_bytes(data), 1 << 8 * len(data))


def test_the_example_of_the_paper() -> None:
    # Witten, Neal and Cleary 1987, section 2: eaii! over a e i o u ! of .2 .3 .1 .2 .1 .1 is [.23354, .2336).
    steps = [([2, 3, 1, 2, 1, 1], "aeiou!".index(letter)) for letter in "eaii!"]
    data = coded(steps)
    assert Fraction("0.23354") <= number(data) < Fraction("0.2336")
    assert decoded(data, steps) == [1, 0, 2, 2, 5]


def test_halves_are_bits() -> None:
    bits = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0]
    data = coded([([1, 1], bit) for bit in bits])
    assert "".join(f"{byte:08b}" for byte in data).startswith("".join(map(str, bits)))
    assert len(data) == 2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(1, 2**20), min_size=1, max_size=6), st.integers(0, 5)), max_size=40))
def test_whatever_was_put_comes_back(drawn: list[tuple[list[int], int]]) -> None:
    steps = [(frequencies, symbol % len(frequencies)) for frequencies, symbol in drawn]
    data = coded(steps)
    assert decoded(data, steps) == [symbol for _, symbol in steps]
    assert ideal(steps) <= 8 * len(data) + 1e-3 <= ideal(steps) + 2 + 8


@pytest.mark.parametrize("skew", [1, 10, 1000])
def test_a_long_message_takes_its_entropy(skew: int) -> None:
    draw = random.Random(skew)
    frequencies = [skew**2, skew, 1, 1]
    steps = [(frequencies, draw.choices(range(4), frequencies)[0]) for _ in range(5000)]
    data = coded(steps)
    assert decoded(data, steps) == [symbol for _, symbol in steps]
    assert abs(8 * len(data) - ideal(steps)) < 10 + 1e-4 * ideal(steps)


def test_an_interval_that_straddles_the_middle_for_long() -> None:
    # The middle one of three stays around the middle: nothing is written for hundreds of steps, and no register runs out.
    steps: Steps = [([1, 2, 1], 1)] * 700 + [([1, 2, 1], 2), ([1, 2, 1], 0)]
    encoder = Encoder()
    for _ in range(700):
        encoder.put(1, 3, 4)
    assert len(encoder) == 0
    assert decoded(coded(steps), steps) == [1] * 700 + [2, 0]
    assert 8 * len(coded(steps)) <= 700 + 4 + 10


def test_the_rarest_symbol_has_numbers_of_its_own() -> None:
    edge = [([1, LARGEST_TOTAL - 2, 1], symbol) for symbol in (0, 2, 1, 1, 0, 2, 2, 0)]
    straddling: Steps = [([1, 2, 1], 1)] * 40
    for steps in (edge, [*straddling, *edge], edge * 20):
        assert decoded(coded(steps), steps) == [symbol for _, symbol in steps]


def test_a_part_that_is_none_is_a_bug() -> None:
    for start, end, total in ((1, 1, 2), (2, 1, 4), (0, 3, 2), (-1, 1, 2), (0, 1, LARGEST_TOTAL + 1)):
        with pytest.raises(AssertionError, match="no part"):
            Encoder().put(start, end, total)


def test_nothing_is_one_byte_of_certainty() -> None:
    assert len(coded([])) == 1 and decoded(coded([]), []) == []
