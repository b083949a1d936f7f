"""Registered operations: what they tell a compiler about shapes, strides and gradients is what they do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from ripstop.ops.convolution import shifted_conv
from ripstop.ops.segments import Segments
from ripstop.ops.state_space_chunked import ssd_chunked
from ripstop.ops.window_attention import blocked


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).requires_grad_()


def _segments(n_time: int) -> Segments:
    return Segments.of(torch.arange(n_time).expand(2, -1) // 5)


@pytest.mark.parametrize(("n_time", "chunk_size"), [(13, 4), (12, 4), (3, 8)])
@pytest.mark.parametrize("full", [False, True])
def test_ssd(n_time: int, chunk_size: int, full: bool) -> None:
    """full: with documents, an initial state and a final one."""
    decay, D_H = -_random(4).detach().abs(), _random(4)
    inputs = (_random(2, n_time, 4, 3), _random(2, n_time, 4).detach().abs(), decay)
    inputs += (_random(2, n_time, 2, 5), _random(2, n_time, 2, 5), D_H)
    rest: tuple[Any, ...] = (_random(2, 4, 3, 5), _segments(n_time).run_BT) if full else (None, None)
    opcheck(ssd_chunked.registered, (*inputs, *rest, chunk_size, full))


@pytest.mark.parametrize("full", [False, True])
def test_convolution(full: bool) -> None:
    opcheck(shifted_conv.registered, (_random(2, 9, 8), _random(4, 8), _random(8), _segments(9).run_BT if full else None, full))


@pytest.mark.parametrize("given", ["nothing", "sinks", "documents"])
def test_window(given: str) -> None:
    q, k, v = _random(2, 40, 4, 6), _random(2, 40, 2, 6), _random(2, 40, 2, 3)
    sinks = (_random(2, 2, 2, 6), _random(2, 2, 2, 3)) if given == "sinks" else (None, None)
    segments = _segments(40)
    documents = [segments.run_BT, segments.start_BT, segments.position_BT] if given == "documents" else []
    opcheck(blocked.registered, (q, k, v, *sinks, documents, 7, 2, 2 if given == "sinks" else 0))
