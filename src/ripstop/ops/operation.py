"""Operations with a backward of their own: a plain autograd function, and one registered operation to a compiler.

Where T changes the number of tiles, chunks or blocks, a compiler that traced the loops over them would compile again for every
length. It is given one operation instead, of which it knows the shapes (`fake`).

Outside of a compiler the registered form is not called: torch imports its whole compiler at the first call of one, seconds of
every job on a CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Tensors = tuple[Tensor, ...]


def without_autocast(function: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """The function in the precision of what it is given, under autocast too. Its first or another input is a tensor."""

    @functools.wraps(function)
    def wrapped(*inputs: Any) -> Tensors:
        with torch.autocast(next(t for t in inputs if isinstance(t, Tensor)).device.type, enabled=False):
            return function(*inputs)

    return wrapped


class Operation:
    """`forward(*inputs)`: tensors alone, optional ones and numbers in, a tensor or a tuple of tensors out.

    schema, backward_schema: arguments and results of `forward` and `backward` as `torch.library` writes them.
    save(ctx, inputs, output): keeps what the backward needs.
    differentiate(backward, ctx, *gradients): the gradients of the inputs, by a call of the `backward` that it is handed.
    plain: what runs outside of a compiler where autograd differentiates it by itself; none given: `forward` with `backward`.
    """

    def __init__(
        self, name: str, schema: str, forward: Callable[..., Any], backward_schema: str, backward: Callable[..., Tensors],
        save: Callable[..., None], differentiate: Callable[..., tuple[Any, ...]], plain: Callable[..., Any] | None = None,
    ):  # fmt: skip
        self.registered = torch.library.custom_op(f"ripstop::{name}", forward, mutates_args=(), schema=schema)
        self.registered_backward = torch.library.custom_op(
            f"ripstop::{name}_backward", backward, mutates_args=(), schema=backward_schema
        )
        traced = functools.partial(differentiate, self.registered_backward)
        self.registered.register_autograd(traced, setup_context=save)

        class Plain(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:  # with a `setup_context`, torch binds the inputs anew at every call
                output = forward(*inputs)
                save(ctx, inputs, output)
                return output

            @staticmethod
            @once_differentiable
            def backward(ctx: Any, *gradients: Any) -> Any:
                return differentiate(backward, ctx, *gradients)

        self.plain = plain or Plain.apply

    def __call__(self, *inputs: Any) -> Any:
        return self.registered(*inputs) if torch.compiler.is_compiling() else self.plain(*inputs)

    def fake(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Functions that return empty tensors of the shapes of the results."""
        self.registered.register_fake(forward)
        self.registered_backward.register_fake(backward)
