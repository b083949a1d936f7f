"""What a text costs in bytes without any model, and texts cut to what something else costs.

gzip's and zstd's bytes are those of their files, headers included: that is what one would send. zstd is pyarrow's, at its
strongest ordinary level.
"""

from __future__ import annotations

import gzip
from bisect import bisect_right
from collections.abc import Callable, Sequence

import pyarrow

ZSTD_LEVEL = 19


def utf8_bytes(text: str) -> int:
    return len(text.encode())


def gzip_bytes(text: str) -> int:
    return len(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def zstd_bytes(text: str) -> int:
    return len(pyarrow.Codec("zstd", compression_level=ZSTD_LEVEL).compress(text.encode(), asbytes=True))


SIZES: dict[str, Callable[[str], int]] = {"utf8": utf8_bytes, "gzip": gzip_bytes, "zstd": zstd_bytes}
"""Name -> bytes of a text, stored that way."""


def cut_to_bytes(text: str, n: int) -> str:
    """The longest beginning in whole words that has at most `n` UTF-8 bytes; empty where the first word has more.

    White space behind the last word is left out, and words are what white space parts.
    """
    return _longest(text, lambda beginning: utf8_bytes(beginning) <= n)


def cut_to_tokens(encode: Callable[[str], Sequence[int]], text: str, n: int) -> str:
    """The longest beginning in whole words that `encode` makes at most `n` tokens of; see `cut_to_bytes`."""
    return _longest(text, lambda beginning: len(encode(beginning)) <= n)


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    ends = _word_ends(text)
    # A longer text takes more of everything, but for a token now and then, where two words merge: looked at one by one.
    kept = bisect_right(ends, False, key=lambda end: not fits(text[:end]))
    while kept < len(ends) and fits(text[: ends[kept]]):
        kept += 1
    return text[: ends[kept - 1]] if kept else ""


def _word_ends(text: str) -> list[int]:
    ends, end = [], 0
    for word in text.split():
        end = text.index(word, end) + len(word)
        ends.append(end)
    return ends
