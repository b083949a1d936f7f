"""FLOPs as torch counts them: matrix products of the slow forms, without what these compute in vain.

Some operations are no matrix products as they are written: reads of a state, its update by an outer product, and the short
convolution. Here they are written as such, equal in value (tested), so that the counter sees their multiply-adds. What scales, adds,
normalises or activates is counted by neither side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ripstop.mixers.attention import AttentionConfig
from ripstop.mixers.base import MixerConfig
from ripstop.mixers.mla import MlaConfig
from ripstop.mixers.sliding_window import SlidingWindowConfig
from ripstop.ops import convolution, delta_rule, state_space, trapezoidal
from ripstop.ops.trapezoidal import Trapezoid

KINDS = ("attention", "gated_delta", "kda", "mamba2", "mamba3", "mla", "nsa", "sliding_window")


def ssd_step(
    x_BHP: Tensor, dt_BH: Tensor, A_H: Tensor, B_BGN: Tensor, C_BGN: Tensor, D_H: Tensor, state_BHPN: Tensor
) -> tuple[Tensor, Tensor]:
    """`state_space.ssd_step`, update and read as products."""
    heads_a_group = x_BHP.shape[1] // B_BGN.shape[1]
    x_BHP, dt_BH, A_H, B_BGN, C_BGN, D_H = (t.to(state_BHPN.dtype) for t in (x_BHP, dt_BH, A_H, B_BGN, C_BGN, D_H))
    B_BHN, C_BHN = (t.repeat_interleave(heads_a_group, 1) for t in (B_BGN, C_BGN))
    kept_BHPN = torch.exp(dt_BH * A_H)[..., None, None] * state_BHPN
    state_BHPN = kept_BHPN + (dt_BH.unsqueeze(-1) * x_BHP).unsqueeze(-1) @ B_BHN.unsqueeze(-2)
    return (state_BHPN @ C_BHN.unsqueeze(-1)).squeeze(-1) + D_H[:, None] * x_BHP, state_BHPN


def delta_step(
    q_BHK: Tensor, k_BHK: Tensor, v_BHP: Tensor, g_BHK: Tensor, beta_BH: Tensor, memory_BHPK: Tensor
) -> tuple[Tensor, Tensor]:
    """`delta_rule.delta_step`, both reads and the update as products."""
    memory_BHPK = memory_BHPK * g_BHK.exp().unsqueeze(-2)
    written_BHP = beta_BH.unsqueeze(-1) * (v_BHP - (memory_BHPK @ k_BHK.unsqueeze(-1)).squeeze(-1))
    memory_BHPK = memory_BHPK + written_BHP.unsqueeze(-1) @ k_BHK.unsqueeze(-2)
    return (memory_BHPK @ q_BHK.unsqueeze(-1)).squeeze(-1), memory_BHPK


def trapezoidal_step(
    x_BHP: Tensor, dt_BH: Tensor, a_BH: Tensor, lambda_BH: Tensor, B_BHN: Tensor, C_BHN: Tensor, past: Trapezoid
) -> tuple[Tensor, Trapezoid]:
    """`trapezoidal.trapezoidal_step`, both updates and the read as products."""
    before = (((1 - lambda_BH) * dt_BH).unsqueeze(-1) * past.x_BHP).unsqueeze(-1) @ past.B_BHN.unsqueeze(-2)
    now = ((lambda_BH * dt_BH).unsqueeze(-1) * x_BHP).unsqueeze(-1) @ B_BHN.unsqueeze(-2)
    h_BHPN = a_BH.exp()[..., None, None] * (past.h_BHPN + before) + now
    return (h_BHPN @ C_BHN.unsqueeze(-1)).squeeze(-1), Trapezoid(h_BHPN, B_BHN, x_BHP)


def causal_conv(
    x_BTC: Tensor,
    weight_CW: Tensor,
    bias_C: Tensor,
    past_BWC: Tensor | None = None,
    segments: object = None,
    silu: bool = False,
) -> Tensor:
    """`convolution.causal_conv`, and its reference, of one document: a product for each channel."""
    assert segments is None and not silu
    n_batch, _, width = x_BTC.shape[0], x_BTC.shape[1], weight_CW.shape[1]
    past_BWC = x_BTC.new_zeros(n_batch, width - 1, x_BTC.shape[2]) if past_BWC is None else past_BWC
    taps_BTCW = torch.cat([past_BWC, x_BTC], 1).unfold(1, width, 1)
    return (taps_BTCW.permute(2, 0, 1, 3).flatten(1, 2) @ weight_CW.unsqueeze(-1)).squeeze(-1).t().view_as(x_BTC) + bias_C


def causal_conv_step(x_BC: Tensor, weight_CW: Tensor, bias_C: Tensor, past_BWC: Tensor) -> tuple[Tensor, Tensor]:
    """`convolution.causal_conv_step`."""
    y_B1C = causal_conv(x_BC.unsqueeze(1), weight_CW, bias_C, past_BWC.to(x_BC.dtype))
    return y_B1C.squeeze(1), torch.cat([past_BWC.to(x_BC.dtype), x_BC.unsqueeze(1)], 1)[:, 1:]


@contextmanager
def as_products() -> Iterator[FlopCounterMode]:
    """Counts what runs inside."""
    with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as counter:
        patch.setattr(state_space, "ssd_step", ssd_step)
        patch.setattr(delta_rule, "delta_step", delta_step)
        patch.setattr(trapezoidal, "trapezoidal_step", trapezoidal_step)
        patch.setattr(convolution, "causal_conv", causal_conv)
        patch.setattr(convolution, "causal_conv_reference", causal_conv)
        patch.setattr(convolution, "causal_conv_step", causal_conv_step)
        yield counter


def slow(values: Any) -> Any:
    """The same configuration, every mixer in it by its slow form."""
    if not isinstance(values, dict):
        return values
    found = {key: slow(value) for key, value in values.items()}
    return found | {"backend": "reference"} if found.get("kind") in KINDS else found


def vain(mixer: MixerConfig, d_model: int, n_time: int) -> int:
    """FLOPs of one sequence that the slow form of attention spends on pairs that its mask forbids, counted on that mask."""
    at_T = torch.arange(n_time)
    seen_TS = at_T[:, None] >= at_T
    if isinstance(mixer, MlaConfig):
        a_pair = 2 * mixer.n_heads * (mixer.qk_head_dim + mixer.v_head_dim)
    elif isinstance(mixer, AttentionConfig | SlidingWindowConfig):
        n_heads, _, head_dim = mixer.sizes(d_model)
        a_pair = 4 * n_heads * head_dim
        if isinstance(mixer, SlidingWindowConfig):
            seen_TS = seen_TS & ((at_T[:, None] - at_T < mixer.window_size) | (at_T < mixer.sink_size))
        elif not mixer.causal:
            return 0
    else:
        return 0
    return a_pair * int((~seen_TS).sum())
