"""Memory that this process freed stays with it: an update allocates what the one before has just freed."""

from __future__ import annotations

import ctypes
import sys

MOVES_NO_NUMBER = "the allocator decides where a tensor lies, not what it holds"

# mallopt(3) of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_ON_THE_HEAP = 32 * 2**20
"""The most that glibc takes; larger blocks are asked of the system each time."""
KEPT = 2**30


def keep_freed_memory() -> bool:
    """Whether the allocator could be told so. It is glibc's; elsewhere nothing happens.

    By default glibc gives the tensors of every update back to the system, which then has to clear thousands of pages for the
    next. What that costs depends on the machine and on what else it does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_ON_THE_HEAP) and mallopt(M_TRIM_THRESHOLD, KEPT))
