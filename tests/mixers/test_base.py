"""What a mixer says that lacks something, and what of a state is filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import pytest
import torch
from torch import Tensor

from ripstop.mixers.base import Mixer, MixerConfig, filled_bytes, held_bytes


class Unfinished(Mixer):
    """Has no method of its own."""


class UnfinishedConfig(MixerConfig):
    kind: Literal["unfinished"] = "unfinished"


@pytest.mark.parametrize(
    ("call", "method"),
    [
        (lambda: Unfinished()(torch.zeros(1, 2, 3)), "forward(self, x_BTD, segments=None)"),
        (lambda: Unfinished().init_state(1, 2), "init_state(self, batch_size, max_len)"),
        (lambda: Unfinished().prefill(torch.zeros(1, 2, 3), None), "prefill(self, x_BTD, state)"),
        (lambda: Unfinished().step(torch.zeros(1, 3), None), "step(self, x_BD, state)"),
    ],
)
def test_a_missing_method_names_itself_and_its_class(call: Callable[[], object], method: str) -> None:
    with pytest.raises(NotImplementedError) as error:
        call()
    assert str(error.value) == f"Unfinished: a mixer has to define {method}"


@pytest.mark.parametrize(
    ("call", "method"),
    [
        (lambda config: config.build(3), "build(self, d_model)"),
        (lambda config: config.num_params(3), "num_params(self, d_model)"),
        (lambda config: config.state_bytes(3, 4), "state_bytes(self, d_model, seq_len, dtype)"),
        (lambda config: config.flops_per_token(3, 4), "flops_per_token(self, d_model, seq_len)"),
    ],
)
def test_so_does_one_of_a_configuration(call: Callable[[MixerConfig], object], method: str) -> None:
    with pytest.raises(NotImplementedError) as error:
        call(UnfinishedConfig())
    assert str(error.value) == f"UnfinishedConfig: a configuration of a mixer has to define {method}"


def test_a_mixer_without_out_proj_says_what_to_define() -> None:
    with pytest.raises(TypeError, match="Unfinished: has no out_proj; return the weights it ends in from residual_outputs"):
        Unfinished().residual_outputs()


class Room(NamedTuple):
    """Room for four tokens of one number, of which `length` are filled."""

    tokens: Tensor
    length: int

    def filled(self) -> Room:
        return self._replace(tokens=self.tokens[:, : self.length])


def test_filled_and_held_bytes_by_hand() -> None:
    state = (Room(torch.zeros(2, 4), 3), [torch.zeros(5, dtype=torch.float64)], None, 7)
    assert held_bytes(state) == 2 * 4 * 4 + 5 * 8
    assert filled_bytes(state) == 2 * 3 * 4 + 5 * 8
