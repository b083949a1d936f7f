"""Bytes of texts, and texts cut to bytes and tokens: by hand, by unpacking again, and by the rule itself on random texts."""

from __future__ import annotations

import gzip
import random

import pyarrow
import pytest

from ripstop.evaluation.text_bits import SIZES, ZSTD_LEVEL, cut_to_bytes, cut_to_tokens

TEXT = "Zürich is the largest city in Switzerland. " * 20


def test_sizes_are_those_of_what_unpacks_to_the_text() -> None:
    data = TEXT.encode()
    assert SIZES["utf8"](TEXT) == len(TEXT) + 20  # ü takes two bytes
    packed = gzip.compress(data, 9)
    assert SIZES["gzip"](TEXT) == len(packed) and gzip.decompress(packed) == data
    codec = pyarrow.Codec("zstd", compression_level=ZSTD_LEVEL)
    packed = codec.compress(data, asbytes=True)
    assert SIZES["zstd"](TEXT) == len(packed) and codec.decompress(packed, len(data), asbytes=True) == data
    assert packed[:4] == b"\x28\xb5\x2f\xfd"  # a whole zstd frame, which the command of that name unpacks
    assert SIZES["zstd"](TEXT) < SIZES["gzip"](TEXT) < SIZES["utf8"](TEXT) / 5


def test_sizes_of_nothing() -> None:
    assert SIZES["utf8"]("") == 0
    assert SIZES["gzip"]("") == 20  # header and checksum
    assert 0 < SIZES["zstd"]("") <= 13


@pytest.mark.parametrize(
    ("n", "kept"),
    [
        (0, ""),
        (6, ""),
        (7, "Zürich"),
        (9, "Zürich"),
        (10, "Zürich is"),
        (14, "Zürich is"),
        (15, "Zürich is  big"),
        (99, "Zürich is  big"),
    ],
)
def test_cut_to_bytes_keeps_whole_words(n: int, kept: str) -> None:
    assert cut_to_bytes("Zürich is  big \n", n) == kept


def test_cut_texts_are_the_longest_that_fit() -> None:
    draw = random.Random(0)
    for _ in range(200):
        words = ["".join(draw.choices("aäß語😀", k=draw.randint(1, 5))) for _ in range(draw.randint(0, 12))]
        text, n = " ".join(words), draw.randint(0, 60)
        fitting = [" ".join(words[:i]) for i in range(len(words) + 1) if len(" ".join(words[:i]).encode()) <= n]
        assert cut_to_bytes(text, n) == fitting[-1]
        assert cut_to_tokens(lambda t: list(t.encode()), text, n) == fitting[-1]


def test_cut_to_tokens_where_two_words_are_one_token() -> None:
    def encode(text: str) -> list[int]:
        """A token a word, but New York is one."""
        return list(range(len(text.replace("New York", "NewYork").split())))

    assert cut_to_tokens(encode, "in New York now", 2) == "in New York"
    assert cut_to_tokens(encode, "in New York now", 1) == "in"
    assert cut_to_tokens(encode, "New York New York", 1) == "New York"
    assert cut_to_tokens(encode, "in New York now", 0) == ""
