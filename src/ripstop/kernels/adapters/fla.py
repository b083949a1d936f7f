"""Adapter to flash-linear-attention's Triton kernels of the gated delta rule: the chunked form and one decoding step.

Checked against the source of fla-core 0.6.0. Its `state_v_first` is our layout of the memory, (B, H, P, K).
"""

from __future__ import annotations

import torch
from fla.ops.gated_delta_rule import chunk_gated_delta_rule, fused_recurrent_gated_delta_rule
from fla.ops.kda import chunk_kda, fused_recurrent_kda
from torch import Tensor

from ripstop.ops.segments import Segments


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
    run, inputs = _inputs(chunk_gated_delta_rule, chunk_kda, q_BTHK, k_BTHK, v_BTHP, g_BTHK, beta_BTH)
    if segments is None:
        o_BTHP, final_BHPK = run(*inputs, initial_state=_full(initial_BHPK), output_final_state=True)
        return o_BTHP, final_BHPK
    assert initial_BHPK is None
    # All rows laid end to end, the runs of documents and of padding as its sequences.
    laid = (t.flatten(0, 1).unsqueeze(0) for t in inputs)
    o_BTHP, _ = run(*laid, output_final_state=False, cu_seqlens=segments.offsets.long())
    return o_BTHP.squeeze(0).unflatten(0, (n_batch, n_time)), v_BTHP.new_empty(0)


def delta_step(
    q_BHK: Tensor, k_BHK: Tensor, v_BHP: Tensor, g_BHK: Tensor, beta_BH: Tensor, memory_BHPK: Tensor
) -> tuple[Tensor, Tensor]:
    """As `ops.delta_rule.delta_step`, without gradients."""
    token = (t.unsqueeze(1) for t in (q_BHK, k_BHK, v_BHP, g_BHK, beta_BH))
    run, inputs = _inputs(fused_recurrent_gated_delta_rule, fused_recurrent_kda, *token)
    o_BTHP, memory_BHPK = run(*inputs, initial_state=_full(memory_BHPK), output_final_state=True)
    return o_BTHP.squeeze(1), memory_BHPK


def _inputs(gated_delta, kda, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor):  # type: ignore[no-untyped-def]
    """The kernel for one decay a head or one a channel, and what it takes."""
    one = g.shape[-1] == 1
    kernel = gated_delta if one else kda
    inputs = (q.to(v.dtype), k.to(v.dtype), v, g.squeeze(-1).float() if one else g.float(), beta.float())

    def run(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **settings: object) -> tuple[Tensor, Tensor]:
        return kernel(q, k, v, g=g, beta=beta, scale=1.0, state_v_first=True, **settings)

    return run, inputs


def _full(memory: Tensor | None) -> Tensor | None:
    return None if memory is None else memory.to(torch.float32)
