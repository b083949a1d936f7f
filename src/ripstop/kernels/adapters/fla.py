"""Adapter to flash-linear-attention's Triton kernels of the gated delta rule: the chunked form and one decoding step.

Checked against the source of fla-core 0.6.0. Its `state_v_first` is our layout of the memory, (B, H, P, K).
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable

import torch
from fla.ops.gated_delta_rule import chunk_gated_delta_rule, fused_recurrent_gated_delta_rule
from fla.ops.kda import chunk_kda, fused_recurrent_kda
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.ops.segments import Segments

Kernel = Callable[..., tuple[Tensor, Tensor]]


def delta(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor,
    initial_BHPK: Tensor | None = None,
    segments: Segments | None = None,
) -> tuple[Tensor, Tensor]:
    """As `ops.delta_rule.delta_chunked`; with `segments` there is no initial memory, and the last one is empty."""
    n_batch, n_time = k_BTHK.shape[:2]
    if g_BTHK.shape[-1] == 1 and torch.is_grad_enabled() and (why := untrainable(k_BTHK.device)):
        raise ConfigError(f"backend 'fla' of delta_rule cannot train here ({why}); set backend to 'torch'")
    kernel, decay = (chunk_gated_delta_rule, g_BTHK.squeeze(-1)) if g_BTHK.shape[-1] == 1 else (chunk_kda, g_BTHK)
    tokens = (q_BTHK, k_BTHK, v_BTHP, decay, beta_BTH)
    if segments is None:
        return _run(kernel, *tokens, initial_state=_full(initial_BHPK), output_final_state=True)
    assert initial_BHPK is None
    # All rows laid end to end, the runs of documents and of padding as its sequences.
    laid = (t.flatten(0, 1).unsqueeze(0) for t in tokens)
    o_BTHP, _ = _run(kernel, *laid, output_final_state=False, cu_seqlens=segments.offsets.long())
    return o_BTHP.squeeze(0).unflatten(0, (n_batch, n_time)), v_BTHP.new_empty(0)


def delta_step(
    q_BHK: Tensor, k_BHK: Tensor, v_BHP: Tensor, g_BHK: Tensor, beta_BH: Tensor, memory_BHPK: Tensor
) -> tuple[Tensor, Tensor]:
    """As `ops.delta_rule.delta_step`, without gradients."""
    one = g_BHK.shape[-1] == 1
    kernel = fused_recurrent_gated_delta_rule if one else fused_recurrent_kda
    token = (t.unsqueeze(1) for t in (q_BHK, k_BHK, v_BHP, g_BHK.squeeze(-1) if one else g_BHK, beta_BH))
    o_BTHP, memory_BHPK = _run(kernel, *token, initial_state=_full(memory_BHPK), output_final_state=True)
    return o_BTHP.squeeze(1), memory_BHPK


@torch.compiler.assume_constant_result
@functools.cache
def untrainable(device: torch.device) -> str | None:
    """Why there are no gradients of one decay a head on a device. On Hopper Triton 3.4 to 3.7.0 computes wrong ones, and fla
    refuses (its issue 640) where it has no tilelang to take instead. Values, and a decay a channel, are not concerned."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != 9 or importlib.util.find_spec("tilelang"):
        return None
    triton = importlib.metadata.version("triton")
    wrong = (3, 4, 0) <= tuple(int(part) for part in triton.partition("+")[0].split(".")[:3]) < (3, 7, 1)
    return f"one decay a head has no gradients on Hopper with Triton {triton}: install 3.7.1" if wrong else None


def _run(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **settings: object) -> tuple[Tensor, Tensor]:
    """g: (B, T, H) for the kernels of one decay a head, (B, T, H, K) for the others."""
    half = (q.to(v.dtype), k.to(v.dtype), v)
    return kernel(*half, g=g.float(), beta=beta.float(), scale=1.0, state_v_first=True, **settings)


def _full(memory: Tensor | None) -> Tensor | None:
    return None if memory is None else memory.to(torch.float32)
