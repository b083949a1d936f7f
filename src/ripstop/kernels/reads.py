"""Counts what operations read of a past, by branch, on the tensors that they are handed; and what is written to it.

    with reads.counting() as counted:
        logits, state = model.step(tokens_B, state)
    counted.tokens, counted.bytes, counted.written      # of all branches together
    counted.branches["attention"].tokens                # of one

An operation says what it was handed where it is called: `reads.note("attention", k_BSGK.shape[1], k_BSGK, v_BSGP)`; a caller
for whom that is another branch says so before, `reads.of("window")`. Nothing is worked out from a configuration, so that a
cache that hands on too much or too little is found. Where nobody counts, a note costs a call. `note`, `of` and `wrote` return
and change nothing, so that they enter no digest of code (`code_digest.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Branch:
    """What one branch was handed. tokens: keys of a sequence, summed over calls; bytes: of the whole batch."""

    calls: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass(eq=False)
class Reads:
    """Everything that was noted within one `counting()`.

    written: bytes that went into the past. A recurrent state is written whole at every step, a cache by one token.
    called: branch of what is noted next, in place of its own; "" where nothing was said.
    """

    branches: dict[str, Branch] = field(default_factory=dict)
    written: int = 0
    called: str = ""

    def take(self, branch: str) -> Branch:
        """The branch to count the next note for."""
        found = self.branches.setdefault(self.called or branch, Branch())
        found.calls, self.called = found.calls + 1, ""
        return found

    @property
    def tokens(self) -> int:
        return sum(branch.tokens for branch in self.branches.values())

    @property
    def bytes(self) -> int:
        return sum(branch.bytes for branch in self.branches.values())


_counters: list[Reads] = []


@contextmanager
def counting() -> Iterator[Reads]:
    """Counts what is noted inside; one `counting()` within another counts for both."""
    counter = Reads()
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters.remove(counter)


def note(branch: str, tokens: int, *read: Tensor | None) -> None:
    """`read` are handed to an operation to be read; None is nothing. tokens: whose keys they hold, 0 for a state."""
    for counter in _counters:
        handed = [tensor for tensor in read if tensor is not None]
        if handed:
            found = counter.take(branch)
            found.tokens += tokens
            found.bytes += sum(map(n_bytes, handed))


def note_blocks(branch: str, ids_BTGn: Tensor, block: int, *read: Tensor) -> None:
    """`read`, (B, S, G, width) each, are handed whole to a kernel that reads of them the blocks that its last query names.

    A negative id names none; of a block that ends behind the S tokens, those that there are.
    """
    if not _counters:
        return
    n_tokens, ids_BGn = read[0].shape[1], ids_BTGn[:, -1]
    keys_BG = (n_tokens - ids_BGn * block).clamp(0, block).masked_fill(ids_BGn < 0, 0).sum(-1)
    for counter in _counters:
        found = counter.take(branch)
        found.tokens += int(keys_BG.max())
        found.bytes += int(keys_BG.sum()) * sum(tensor.shape[-1] * tensor.element_size() for tensor in read)


def of(branch: str) -> None:
    """What is noted next is of this branch, whatever the operation calls it."""
    for counter in _counters:
        counter.called = branch


def wrote(*written: Tensor) -> None:
    """`written` go into the past."""
    for counter in _counters:
        counter.written += sum(map(n_bytes, written))


def n_bytes(tensor: Tensor) -> int:
    """Bytes behind a tensor, those that an expanded axis repeats once."""
    n = tensor.element_size()
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        n *= size if stride or not size else 1
    return n
