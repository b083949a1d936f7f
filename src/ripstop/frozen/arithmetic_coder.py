"""Arithmetic coding of symbols with given frequencies, in whole numbers (Witten, Neal and Cleary 1987, CACM 30(6)).

The message so far is an interval of 32-bit numbers; a symbol takes the part of it that its frequency has of the total. Bits
that both ends share are written and shifted out; while the ends straddle the middle within a half of the range, their second
bits are taken out and remembered (the paper's `bits_to_follow`), so that the interval is never below a quarter of the range.
"""

from __future__ import annotations

BITS = 32
WHOLE, HALF, QUARTER = 1 << BITS, 1 << BITS - 1, 1 << BITS - 2
LARGEST_TOTAL = QUARTER
"""Above it a symbol of frequency 1 could be left with no number of its own."""


class Encoder:
    """Symbols in, bytes out."""

    def __init__(self) -> None:
        self._low, self._high = 0, WHOLE - 1
        self._straddled = 0
        self._bits = bytearray()

    def __len__(self) -> int:
        """Bits that are written."""
        return len(self._bits)

    def put(self, start: int, end: int, total: int) -> None:
        """A symbol whose part of `total` is from `start` up to `end`, which is not in it any more."""
        self._low, self._high = _narrowed(self._low, self._high, start, end, total)
        while True:
            if self._high < HALF:
                self._write(0)
            elif self._low >= HALF:
                self._write(1)
            elif self._low >= QUARTER and self._high < HALF + QUARTER:
                self._straddled += 1
            else:
                return
            self._low, self._high = _doubled(self._low, self._high)

    def finish(self) -> bytes:
        """Everything, with the two bits that say where in the last interval; zeros fill up the last byte."""
        self._straddled += 1
        self._write(int(self._low >= QUARTER))
        filled = bytes(self._bits) + bytes(-len(self._bits) % 8)
        return bytes(int("".join(map(str, filled[i : i + 8])), 2) for i in range(0, len(filled), 8))

    def _write(self, bit: int) -> None:
        self._bits += bytes([bit]) + bytes([1 - bit]) * self._straddled
        self._straddled = 0


class Decoder:
    """Bytes in, symbols out: `target` says where the next one lies, `take` goes past it."""

    def __init__(self, data: bytes):
        self._low, self._high = 0, WHOLE - 1
        self._data = data
        self._position = 0
        self._value = 0
        for _ in range(BITS):
            self._value = self._value << 1 | self._next_bit()

    def target(self, total: int) -> int:
        """A number below `total` inside the part of the next symbol."""
        return ((self._value - self._low + 1) * total - 1) // (self._high - self._low + 1)

    def take(self, start: int, end: int, total: int) -> None:
        """Go past the symbol whose part is from `start` up to `end`."""
        self._low, self._high = _narrowed(self._low, self._high, start, end, total)
        while self._high < HALF or self._low >= HALF or (self._low >= QUARTER and self._high < HALF + QUARTER):
            self._value = 2 * (self._value - _removed(self._low, self._high)) + self._next_bit()
            self._low, self._high = _doubled(self._low, self._high)

    def _next_bit(self) -> int:
        """Zeros behind the end: what was written ends as soon as it is certain."""
        byte, bit = divmod(self._position, 8)
        self._position += 1
        return self._data[byte] >> 7 - bit & 1 if byte < len(self._data) else 0


def _narrowed(low: int, high: int, start: int, end: int, total: int) -> tuple[int, int]:
    assert 0 <= start < end <= total <= LARGEST_TOTAL, f"no part of {total}: {start} up to {end}"
    span = high - low + 1
    return low + span * start // total, low + span * end // total - 1


def _removed(low: int, high: int) -> int:
    """What is taken off before the interval is doubled: the half or the quarter below it."""
    return 0 if high < HALF else HALF if low >= HALF else QUARTER


def _doubled(low: int, high: int) -> tuple[int, int]:
    removed = _removed(low, high)
    return 2 * (low - removed), 2 * (high - removed) + 1
