"""Registered operations: what they tell a compiler about shapes, strides and gradients is what they do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ripstop.ops.convolution import shifted_conv
from ripstop.ops.operation import Operation
from ripstop.ops.segments import Segments
from ripstop.ops.state_space_chunked import ssd_chunked
from ripstop.ops.window_attention import blocked

CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


@pytest.fixture(autouse=True, params=["contiguous", "transposed"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every input that a test draws: mixers hand over transposed weights, and slices of one projection.

    What a compiler makes of an operation does not depend on it, and is asked once.
    """
    if request.param == "transposed":
        monkeypatch.setitem(globals(), "CHECKS", CHECKS[:3])
        monkeypatch.setitem(globals(), "_random", _transposed)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).requires_grad_()


def _transposed(*shape: int) -> Tensor:
    drawn = torch.randn(shape[::-1], generator=torch.Generator().manual_seed(len(shape)))
    return drawn.permute(*range(len(shape))[::-1]).requires_grad_()


class Calls(TorchDispatchMode):
    """Remembers the arguments of every call of one operation."""

    def __init__(self, of: Any):
        super().__init__()
        self.of, self.arguments = of._opoverload, list[tuple[Any, ...]]()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if function is self.of:
            self.arguments.append(args)
        return function(*args, **kwargs or {})


def _check(operation: Operation, inputs: tuple[Any, ...]) -> None:
    """The operation, and its backward as autograd calls it: a compiler stops where strides are not as announced."""
    opcheck(operation.registered, inputs, test_utils=CHECKS)
    with Calls(operation.registered_backward) as calls:
        outputs = operation.registered(*inputs)
        first = outputs if isinstance(outputs, Tensor) else outputs[0]
        first.sum().backward()
    (arguments,) = calls.arguments
    with torch.no_grad():
        real = operation.registered_backward(*arguments)
        with FakeTensorMode() as mode:
            announced = operation.registered_backward(*tree_map_only(Tensor, mode.from_tensor, arguments))
    assert [(t.shape, t.stride(), t.dtype) for t in announced] == [(t.shape, t.stride(), t.dtype) for t in real]


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
    _check(ssd_chunked, (*inputs, *rest, chunk_size, full))


@pytest.mark.parametrize("full", [False, True])
def test_convolution(full: bool) -> None:
    _check(shifted_conv, (_random(2, 9, 8), _random(4, 8), _random(8), _segments(9).run_BT if full else None, full))


@pytest.mark.parametrize("given", ["nothing", "sinks", "documents"])
def test_window(given: str) -> None:
    q, k, v = _random(2, 40, 4, 6), _random(2, 40, 2, 6), _random(2, 40, 2, 3)
    sinks = (_random(2, 2, 2, 6), _random(2, 2, 2, 3)) if given == "sinks" else (None, None)
    segments = _segments(40)
    documents = [segments.run_BT, segments.start_BT, segments.position_BT] if given == "documents" else []
    # Its backward differentiates inside, which no dispatch mode can watch; all that it returns is made contiguous.
    opcheck(blocked.registered, (q, k, v, *sinks, documents, 7, 2, 2 if given == "sinks" else 0), test_utils=CHECKS)
