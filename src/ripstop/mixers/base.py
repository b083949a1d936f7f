"""The contract of every mixer: forward, prefill and step give the same output; state goes in and comes out."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ripstop.config import Strict
from ripstop.ops.segments import Segments

State = Any
"""A `NamedTuple` of tensors with the batch as first axis (and plain ints, such as a length). Each mixer has its own. One that
keeps room for tokens to come has a method `filled()`: itself without that room."""


class Mixer(nn.Module):
    """Mixes along time. `tests/contract.py` holds every mixer to what is said here."""

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        """Whole sequence. Segment 0 is padding (output 0), 1, 2, ... are packed documents that do not see each other."""
        missing(self, "forward(self, x_BTD, segments=None)")

    def residual_outputs(self) -> list[Tensor]:
        """The weights whose products are the terms of the output: a model draws them smaller, the more of them there are.

        A mixer that ends otherwise than in one `out_proj` overrides this.
        """
        last = getattr(self, "out_proj", None)
        if not isinstance(last, nn.Linear):
            raise TypeError(f"{type(self).__name__}: has no out_proj; return the weights it ends in from residual_outputs()")
        return [last.weight]

    def init_state(self, batch_size: int, max_len: int) -> State:
        """An empty past that has room for `max_len` tokens."""
        missing(self, "init_state(self, batch_size, max_len)")

    def prefill(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """A chunk of the prompt, after any past. The given state is consumed: use the returned one."""
        missing(self, "prefill(self, x_BTD, state)")

    def step(self, x_BD: Tensor, state: State) -> tuple[Tensor, State]:
        """One token. The given state is consumed: use the returned one."""
        missing(self, "step(self, x_BD, state)")


class MixerConfig(Strict):
    """Hyperparameters of a mixer. Subclasses add `kind: Literal[...]` and implement what raises here."""

    kind: str

    @property
    def is_causal(self) -> bool:
        """Whether the mixer can decode. One that reads its sequence whole has no state: init_state, prefill, step raise."""
        return True

    def build(self, d_model: int) -> Mixer:
        missing(self, "build(self, d_model)")

    def num_params(self, d_model: int) -> int:
        """Parameters of the built mixer."""
        missing(self, "num_params(self, d_model)")

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        """Bytes of state that `seq_len` tokens of one sequence fill, activations in `dtype`."""
        missing(self, "state_bytes(self, d_model, seq_len, dtype)")

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        """Multiply-adds count as 2; forward only; averaged over a causal sequence of `seq_len` tokens."""
        missing(self, "flops_per_token(self, d_model, seq_len)")


def missing(owner: Any, method: str) -> NoReturn:
    """What a method does that every mixer or every mixer's configuration must define, where one does not."""
    what = "configuration of a mixer" if isinstance(owner, MixerConfig) else "mixer"
    raise NotImplementedError(f"{type(owner).__name__}: a {what} has to define {method}")


def reorder_state(state: Any, index_B: Tensor) -> Any:
    """State of the rows `index_B` of the batch, through any nesting of tuples and lists. Used by beam search."""
    if isinstance(state, Tensor):
        return state.index_select(0, index_B)
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(reorder_state(part, index_B) for part in state))
    if isinstance(state, list | tuple):
        return type(state)(reorder_state(part, index_B) for part in state)
    return state


def filled_bytes(state: Any) -> int:
    """Bytes of a state that the tokens so far fill, measured: `held_bytes` without the room for those to come."""
    if hasattr(state, "filled"):
        state = state.filled()
    elif isinstance(state, list | tuple):
        return sum(filled_bytes(part) for part in state)
    return held_bytes(state)


def held_bytes(state: Any) -> int:
    """Bytes of the tensors in a state, measured; room for tokens to come included."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, list | tuple):
        return sum(held_bytes(part) for part in state)
    return 0
