"""A text in the bits that a frozen model needs to predict it: arithmetic coding of its tokens, exact both ways.

Both sides read the text token by token with the same calls, the receiver what it has decoded so far, so that each step's
logits are the same numbers on the same machine, device and number of threads. From there on everything is whole numbers: the
logits on a grid, their exponentials from a table, frequencies that leave no token out. The end of the text is a token of its
own (the model's end of text), and the bytes have no header: they are the model's cross-entropy, two bits, and the filling of
the last byte. Only what takes less than a quarter of a bit a token, as no text does, is filled up with zeros to that: so a
receiver of damaged data, whose model may have begun to repeat itself, knows when to stop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import torch
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.frozen.arithmetic_coder import Decoder, Encoder
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.cache import Past

GRID = 64
"""Steps of a nat: rounding to them costs (1 / GRID)^2 / 24 nats a token, a hundred thousandth."""
PRECISION = 26
"""Frequencies of a step add up to at most 2^26. Every token has at least 1 of them, 0.6 % for all of Gemma's 262,144."""
TOKENS_PER_BYTE = 32
"""What is decoded at most."""
BLOCK = 64
"""Tokens that are read at once where only their likelihood is asked for."""


def compress(lm: FrozenLM, text: str) -> bytes:
    """`text`, to be read with `decompress` by the same model. `ConfigError` where its tokens do not give it back."""
    encoder, reader, ids = Encoder(), _Reader(lm), _tokens(lm, text)
    for token in ids:
        encoder.put(*_part(_starts(reader.logits_V), token))
        reader.read([token])
    encoder.put(*_part(_starts(reader.logits_V), reader.end))
    return _filled(encoder.finish(), len(ids))


def decompress(lm: FrozenLM, data: bytes) -> str:
    """The text of what `compress` made. `ConfigError` where it was made by another model or in another place, or is damaged,
    as far as that shows: the text does not end where the data does."""
    decoder, reader = Decoder(data), _Reader(lm)
    encoder = Encoder()  # goes along: it has to come to the same bytes
    ids: list[int] = []
    while len(encoder) <= 8 * len(data) and len(ids) <= TOKENS_PER_BYTE * len(data):
        starts = _starts(reader.logits_V)
        token = int(np.searchsorted(starts, decoder.target(int(starts[-1])), side="right")) - 1
        decoder.take(*_part(starts, token))
        encoder.put(*_part(starts, token))
        if token == reader.end:
            break
        ids.append(token)
        reader.read([token])
    if _filled(encoder.finish(), len(ids)) != data:
        raise ConfigError(
            f"the data is no text under {lm.name} ({lm.identity}): it is damaged, or was compressed by another model, or on "
            "another device or number of threads"
        )
    return lm.decode(ids)


@torch.no_grad()
def cross_entropy(lm: FrozenLM, text: str) -> float:
    """Bits of `text` and its end under the model, without coding: what `compress` comes to, read in blocks."""
    reader = _Reader(lm)
    ids = [*_tokens(lm, text), reader.end]
    bits, at = 0.0, 0
    while at < len(ids):
        block = ids[at : at + max(1, min(BLOCK, reader.room))]
        logits_NV = torch.cat([reader.logits_V[None], reader.read(block[:-1])])
        targets_N = torch.tensor(block, device=logits_NV.device)
        bits += float(torch.nn.functional.cross_entropy(logits_NV.double(), targets_N, reduction="sum")) / np.log(2)
        reader.read(block[-1:])
        at += len(block)
    return bits


def frequencies(logits_V: Tensor) -> np.ndarray:
    """A whole number above 0 for each token, in proportion to its probability; at most 2^PRECISION together."""
    logits = logits_V.double().cpu().numpy()
    largest = logits.max()
    if not np.isfinite(largest) or np.isnan(logits).any():
        raise ConfigError("the frozen model gives logits that are not finite; load it in a wider number format")
    table = _exponentials()
    below = np.minimum(np.rint((largest - logits) * GRID), len(table) - 1).astype(np.int64)
    weights = table[below]
    spare = (1 << PRECISION) - len(weights)
    assert spare > 0, f"a vocabulary of {len(weights)} does not fit into {PRECISION} bits"
    return 1 + weights * spare // weights.sum()


class _Reader:
    """The model, with what it has read, and what it expects next.

    A text that does not fit into the model's positions goes on from its last half, read anew.
    """

    def __init__(self, lm: FrozenLM):
        if not lm.eos:
            raise ConfigError(f"{lm.name}: has no end of text; texts cannot be coded under it")
        self.lm = lm
        self.end = min(lm.eos)
        self._start = lm.bos or [self.end]  # the end of another text, where no text begins with a token of its own
        self._size = lm.max_positions
        self._ids: list[int] = []
        self._past: Past | None = None
        self._n_read = 0
        self.logits_V = self._more(self._start)[-1]

    @property
    def room(self) -> int:
        """Tokens that still fit; BLOCK where it does not matter."""
        return BLOCK if self._size is None else self._size - self._n_read

    def read(self, ids: Sequence[int]) -> Tensor:
        """Logits (N, V) after each of these tokens."""
        if not ids:
            return self.logits_V[None][:0]
        if self.room < len(ids):
            assert self._size is not None
            self._past, self._n_read = None, 0
            kept = (self._size - len(self._start)) // 2
            self._more([*self._start, *self._ids[len(self._ids) - kept :]])
        self._ids += ids
        logits_NV = self._more(ids)
        self.logits_V = logits_NV[-1]
        return logits_NV

    @torch.no_grad()
    def _more(self, ids: Sequence[int]) -> Tensor:
        lm = self.lm
        positions_BT = torch.arange(self._n_read, self._n_read + len(ids), device=lm.device)[None]
        valid_BT = torch.ones_like(positions_BT, dtype=torch.bool)
        x_BTD = lm.embed(torch.tensor([list(ids)]))
        logits_NV, self._past = lm.read(x_BTD, positions_BT, valid_BT, self._past, at_BT=valid_BT, keep=True)
        self._n_read += len(ids)
        return logits_NV


def _starts(logits_V: Tensor) -> np.ndarray:
    """Where the part of each token starts, and behind them the total."""
    return np.concatenate([[0], np.cumsum(frequencies(logits_V))])


def _part(starts: np.ndarray, token: int) -> tuple[int, int, int]:
    """From where, up to where, of what total, in Python's whole numbers: what a coder multiplies does not fit into 64 bits."""
    return int(starts[token]), int(starts[token + 1]), int(starts[-1])


def _filled(data: bytes, n_tokens: int) -> bytes:
    return data.ljust(-(-n_tokens // TOKENS_PER_BYTE), b"\0")


def _tokens(lm: FrozenLM, text: str) -> list[int]:
    ids = lm.encode(text)
    if lm.decode(ids) != text or min(lm.eos, default=None) in ids:
        raise ConfigError(f"{lm.name}: its tokenizer does not give this text back ({text[:40]!r}); code it by another model")
    return ids


@functools.cache
def _exponentials() -> np.ndarray:
    """2^PRECISION e^(-n / GRID) in whole numbers, down to a 0, which stands for all that is less likely. In decimals, since
    the last bit of a floating-point exponential depends on the machine."""
    found: list[int] = []
    while not found or found[-1]:
        found.append(int((1 << PRECISION) * (Decimal(-len(found)) / GRID).exp()))
    return np.array(found, dtype=np.int64)
