"""Adapter to the causal-conv1d CUDA kernels: the short convolution with SiLU fused, over a sequence and for one token.

Checked against the source of causal-conv1d 1.7.0.
"""

from __future__ import annotations

import torch
from causal_conv1d import causal_conv1d_fn, causal_conv1d_update
from torch import Tensor

from ripstop.ops.segments import Segments


def causal_conv(
    x_BTC: Tensor,
    weight_CW: Tensor,
    bias_C: Tensor,
    past_BWC: Tensor | None,
    segments: Segments | None,
    silu: bool,
) -> Tensor:
    """As `ops.convolution.causal_conv`, then SiLU where asked. Channels are a multiple of 8, the width is 2 to 4."""
    # The kernel's fast layout is (B, C, T) with the channels innermost in memory: a transposed view of ours. It refuses rows
    # that are no multiple of 8 apart, and reads eight numbers at once, so that they must begin at one: a slice of a wider
    # projection need not.
    if x_BTC.stride(2) != 1 or x_BTC.stride(1) % 8 or x_BTC.stride(0) % 8 or x_BTC.storage_offset() % 8:
        x_BTC = x_BTC.clone(memory_format=torch.contiguous_format)
    y_BCT = causal_conv1d_fn(
        x_BTC.transpose(1, 2),
        weight_CW.to(x_BTC.dtype),
        bias_C.to(x_BTC.dtype),
        seq_idx=None if segments is None else segments.run_BT,
        initial_states=None if past_BWC is None else past_BWC.to(x_BTC.dtype).transpose(1, 2),
        activation="silu" if silu else None,
    )
    return y_BCT.transpose(1, 2)


def causal_conv_step(x_BC: Tensor, weight_CW: Tensor, bias_C: Tensor, past_BWC: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    """As `ops.convolution.causal_conv_step`, then SiLU where asked; writes into `past_BWC`: not where gradients are wanted."""
    past_BWC = past_BWC.to(x_BC.dtype)  # a state is kept in the weights' precision, which autocast does not touch
    y_BC = causal_conv1d_update(
        x_BC, past_BWC.transpose(1, 2), weight_CW.to(x_BC.dtype), bias_C.to(x_BC.dtype), "silu" if silu else None
    )
    return y_BC, past_BWC
