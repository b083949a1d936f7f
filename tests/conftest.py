"""Fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def nan_in_new_memory() -> Iterator[None]:
    """`torch.empty` gives NaN, so that a place which is never written cannot pass as a lucky zero."""
    import torch  # tests of the paper run without it

    torch.use_deterministic_algorithms(True)  # with fill_uninitialized_memory, which is on
    yield
    torch.use_deterministic_algorithms(False)
