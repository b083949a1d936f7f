"""The operations as mixers call them: each takes `backend`, asks `choose`, and runs what was chosen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.kernels.backend import choose
from ripstop.ops import convolution, softmax_attention, state_space
from ripstop.ops.segments import Segments
from ripstop.ops.window_attention import window_attention as blocked_window_attention
from ripstop.ops.window_attention import window_attention_reference


def ssd(
    backend: str,
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    initial_BHPN: Tensor | None,
    segments: Segments | None,
    chunk_size: int,
    need_final: bool,
) -> tuple[Tensor, Tensor | None]:
    """State-space duality over a sequence: see `ops.state_space`. backend: auto, reference, torch, mamba_ssm."""
    name = choose(backend, "ssd", x_BTHP.device, x_BTHP.dtype)
    inputs = (x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H, initial_BHPN, segments)
    if name == "reference":
        return state_space.ssd_recurrent(*inputs)
    if name == "mamba_ssm":
        from ripstop.kernels import mamba_ssm

        return mamba_ssm.ssd(*inputs, chunk_size, need_final)
    return state_space.ssd_chunked(*inputs, chunk_size, need_final)


def ssd_step(
    backend: str,
    x_BHP: Tensor,
    dt_BH: Tensor,
    A_H: Tensor,
    B_BGN: Tensor,
    C_BGN: Tensor,
    D_H: Tensor,
    state_BHPN: Tensor,
) -> tuple[Tensor, Tensor]:
    """One token of it: output, next state. The kernel overwrites the state, so gradients take the torch form."""
    inputs = (x_BHP, dt_BH, A_H, B_BGN, C_BGN, D_H, state_BHPN)
    name = choose(backend, "ssd", x_BHP.device, x_BHP.dtype)
    if name == "mamba_ssm" and not torch.is_grad_enabled():
        from ripstop.kernels import mamba_ssm

        return mamba_ssm.ssd_step(*inputs)
    y_BHP, state_BHPN = state_space.ssd_step(*inputs)
    return y_BHP.to(x_BHP.dtype), state_BHPN


def causal_conv(
    backend: str,
    x_BTC: Tensor,
    weight_CW: Tensor,
    bias_C: Tensor,
    past_BWC: Tensor | None,
    segments: Segments | None,
    silu: bool,
) -> Tensor:
    """Causal depthwise convolution: see `ops.convolution`. backend: auto, reference, torch, causal_conv1d."""
    unfit = _conv_unfit(weight_CW)
    if past_BWC is not None and segments is not None:
        unfit = "takes either a past or segments"
    name = choose(backend, "convolution", x_BTC.device, x_BTC.dtype, unfit)
    if name == "causal_conv1d":
        from ripstop.kernels import causal_conv1d

        return causal_conv1d.causal_conv(x_BTC, weight_CW, bias_C, past_BWC, segments, silu)
    if name == "reference":
        y_BTC = convolution.causal_conv_reference(x_BTC, weight_CW, bias_C, past_BWC, segments)
        return F.silu(y_BTC) if silu else y_BTC
    return convolution.causal_conv(x_BTC, weight_CW, bias_C, past_BWC, segments, silu)


def causal_conv_step(
    backend: str, x_BC: Tensor, weight_CW: Tensor, bias_C: Tensor, past_BWC: Tensor, silu: bool
) -> tuple[Tensor, Tensor]:
    """One token of it: output, next past. The kernel overwrites the past, so gradients take the torch form."""
    name = choose(backend, "convolution", x_BC.device, x_BC.dtype, _conv_unfit(weight_CW))
    if name == "causal_conv1d" and not torch.is_grad_enabled():
        from ripstop.kernels import causal_conv1d

        return causal_conv1d.causal_conv_step(x_BC, weight_CW, bias_C, past_BWC, silu)
    y_BC, past_BWC = convolution.causal_conv_step(x_BC, weight_CW, bias_C, past_BWC)
    return (F.silu(y_BC) if silu else y_BC), past_BWC


def attention(
    backend: str,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    causal: bool,
    segments: Segments | None = None,
) -> Tensor:
    """Softmax attention: see `ops.softmax_attention`. backend: auto, reference, torch, flash_attn."""
    name = choose(backend, "attention", q_BTHK.device, q_BTHK.dtype, _flash_unfit(q_BTHK, v_BSGP))
    if name == "flash_attn":
        from ripstop.kernels import flash_attn

        return flash_attn.attention(q_BTHK, k_BSGK, v_BSGP, causal, segments)
    if name == "reference":
        n_queries, n_keys = q_BTHK.shape[1], k_BSGK.shape[1]
        seen = softmax_attention.visible(n_queries, n_keys, causal, segments, device=q_BTHK.device)
        return softmax_attention.attention_reference(q_BTHK, k_BSGK, v_BSGP, seen)
    return softmax_attention.attention(q_BTHK, k_BSGK, v_BSGP, causal, segments)


def window_attention(
    backend: str,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    window_size: int,
    sink_size: int,
    segments: Segments | None = None,
    sinks: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """Sliding window with sinks: see `ops.window_attention`. backend: auto, reference, torch, flash_attn."""
    unfit = "has no sinks" if sink_size else _flash_unfit(q_BTHK, v_BSGP)
    name = choose(backend, "attention", q_BTHK.device, q_BTHK.dtype, unfit)
    if name == "flash_attn":
        from ripstop.kernels import flash_attn

        return flash_attn.attention(q_BTHK, k_BSGK, v_BSGP, True, segments, window_size)
    op = window_attention_reference if name == "reference" else blocked_window_attention
    return op(q_BTHK, k_BSGK, v_BSGP, window_size, sink_size, segments, sinks, first)


def _conv_unfit(weight_CW: Tensor) -> str | None:
    n_channels, width = weight_CW.shape
    if n_channels % 8:
        return f"needs a multiple of 8 channels, not {n_channels}"
    return None if 2 <= width <= 4 else f"has widths 2 to 4, not {width}"


def _flash_unfit(q_BTHK: Tensor, v_BSGP: Tensor) -> str | None:
    head_dim = q_BTHK.shape[-1]
    if v_BSGP.shape[-1] != head_dim:
        return "needs values as wide as keys"
    return None if head_dim <= 256 and head_dim % 8 == 0 else f"has no head_dim {head_dim}"
