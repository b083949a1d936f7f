"""The causal depthwise convolution as mixers call it, with SiLU after it where asked: over a sequence, and one token.

Arguments as in `ops.convolution`, with `backend` before them: auto, reference, torch, causal_conv1d.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.kernels import reads
from ripstop.kernels.backend import HALF, Kernel, choose
from ripstop.ops import convolution
from ripstop.ops.segments import Segments

KERNEL = Kernel("convolution", "causal_conv1d", "pip install --no-build-isolation causal-conv1d", (*HALF, torch.float32))


def causal_conv(
    backend: str,
    x_BTC: Tensor,
    weight_CW: Tensor,
    bias_C: Tensor,
    past_BWC: Tensor | None,
    segments: Segments | None,
    silu: bool,
) -> Tensor:
    """A sequence, after a past or from the start."""
    reads.note("convolution", 0, past_BWC)
    unfit = _unfit(weight_CW)
    if past_BWC is not None and segments is not None:
        unfit = "takes either a past or segments"
    name = choose(backend, KERNEL, x_BTC.device, x_BTC.dtype, unfit)
    if name == "causal_conv1d":
        from ripstop.kernels.adapters import causal_conv1d

        return causal_conv1d.causal_conv(x_BTC, weight_CW, bias_C, past_BWC, segments, silu)
    if name == "reference":
        y_BTC = convolution.causal_conv_reference(x_BTC, weight_CW, bias_C, past_BWC, segments)
        return F.silu(y_BTC) if silu else y_BTC
    return convolution.causal_conv(x_BTC, weight_CW, bias_C, past_BWC, segments, silu)


def causal_conv_step(
    backend: str, x_BC: Tensor, weight_CW: Tensor, bias_C: Tensor, past_BWC: Tensor, silu: bool
) -> tuple[Tensor, Tensor]:
    """One token: output, next past. The kernel overwrites the past, so gradients take the torch form."""
    reads.note("convolution", 0, past_BWC)
    reads.wrote(past_BWC)
    name = choose(backend, KERNEL, x_BC.device, x_BC.dtype, _unfit(weight_CW))
    if name == "causal_conv1d" and not torch.is_grad_enabled():
        from ripstop.kernels.adapters import causal_conv1d

        return causal_conv1d.causal_conv_step(x_BC, weight_CW, bias_C, past_BWC, silu)
    y_BC, past_BWC = convolution.causal_conv_step(x_BC, weight_CW, bias_C, past_BWC)
    return (F.silu(y_BC) if silu else y_BC), past_BWC


def _unfit(weight_CW: Tensor) -> str | None:
    n_channels, width = weight_CW.shape
    if n_channels % 8:
        return f"needs a multiple of 8 channels, not {n_channels}"
    return None if 2 <= width <= 4 else f"has widths 2 to 4, not {width}"
