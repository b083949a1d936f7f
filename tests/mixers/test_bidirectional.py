"""Both ways: the sum of a scan ahead and a scan of the reversed text."""

from __future__ import annotations

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.mixers import MIXERS
from ripstop.mixers.bidirectional import BidirectionalConfig

D_MODEL = 24
MAMBA2 = {"kind": "mamba2", "head_dim": 8, "d_state": 5}


def test_is_the_sum_of_two_scans_with_their_own_weights() -> None:
    mixer = BidirectionalConfig.parse({"mixer": MAMBA2}, "bidirectional").build(D_MODEL)
    x_BTD = torch.randn(2, 11, D_MODEL)
    torch.testing.assert_close(mixer(x_BTD), mixer.ahead(x_BTD) + mixer.back(x_BTD.flip(1)).flip(1))
    assert not torch.equal(mixer.ahead.in_proj.weight, mixer.back.in_proj.weight)


def test_numbers_are_twice_the_mixers() -> None:
    config, nested = BidirectionalConfig.parse({"mixer": MAMBA2}, "bidirectional"), MIXERS.parse(MAMBA2)
    assert config.num_params(D_MODEL) == 2 * nested.num_params(D_MODEL)
    assert config.flops_per_token(D_MODEL, 9) == 2 * nested.flops_per_token(D_MODEL, 9)


def test_survives_its_own_yaml() -> None:
    config = BidirectionalConfig.parse({"mixer": MAMBA2}, "bidirectional")
    assert MIXERS.parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        ({"kind": "attention", "causal": False}, "sees both ways already"),
        ({"kind": "bidirectional", "mixer": MAMBA2}, "sees both ways already"),
        ({"kind": "mamba22"}, "unknown kind 'mamba22'; did you mean 'mamba2'"),
        ({**MAMBA2, "d_stat": 3}, "did you mean 'd_state'"),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(mixer: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BidirectionalConfig.parse({"mixer": mixer}, "bidirectional")


def test_prefill_and_step_say_that_there_is_no_state() -> None:
    mixer = BidirectionalConfig.parse({"mixer": MAMBA2}, "bidirectional").build(D_MODEL)
    for call in (lambda: mixer.prefill(torch.randn(1, 2, D_MODEL), None), lambda: mixer.step(torch.randn(1, D_MODEL), None)):
        with pytest.raises(ConfigError, match="reads its sequence whole and has no state"):
            call()
