"""The gated delta rule: a memory that forgets by decay and overwrites by key. Slowly, and one step; in chunks by
`delta_rule_chunked`.

Source: Yang, Kautz and Hatamizadeh 2024, "Gated Delta Networks", arXiv 2412.06464, Eq. (10), where the decay is one a head;
Kimi Team 2025, "Kimi Linear", arXiv 2510.26692, Eq. (1), where it is one a channel of the keys. For one head, with a = exp(g):

    S_t = S_{t-1} diag(a_t) (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,    o_t = S_t q_t

Shapes of all forms: q_BTHK, k_BTHK; v_BTHP; g_BTHK or g_BTH1, the logarithm of what is kept, <= 0; beta_BTH, how much of what
a key held is replaced, in 0..1, or up to 2 for eigenvalues down to -1 (keys of length 1); initial_BHPK, the memory before the
first token (None: zero). Returns o_BTHP and the memory after the last token, BHPK.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ripstop.ops import delta_rule_chunked
from ripstop.ops.segments import Segments
from ripstop.ops.state_space import precision


def delta_step(
    q_BHK: Tensor, k_BHK: Tensor, v_BHP: Tensor, g_BHK: Tensor, beta_BH: Tensor, memory_BHPK: Tensor
) -> tuple[Tensor, Tensor]:
    """One token, in the memory's precision: decay, what the key finds, what it is to find, what the query finds."""
    q_BHK, k_BHK, v_BHP, g_BHK, beta_BH = (t.to(memory_BHPK.dtype) for t in (q_BHK, k_BHK, v_BHP, g_BHK, beta_BH))
    memory_BHPK = memory_BHPK * g_BHK.exp().unsqueeze(-2)
    found_BHP = (memory_BHPK * k_BHK.unsqueeze(-2)).sum(-1)
    written_BHP = beta_BH.unsqueeze(-1) * (v_BHP - found_BHP)
    memory_BHPK = memory_BHPK + written_BHP.unsqueeze(-1) * k_BHK.unsqueeze(-2)
    return (memory_BHPK * q_BHK.unsqueeze(-2)).sum(-1), memory_BHPK


def delta_recurrent(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor,
    initial_BHPK: Tensor | None = None,
    segments: Segments | None = None,
) -> tuple[Tensor, Tensor]:
    """The reference: `delta_step` token after token, the memory emptied where a document begins (not at token 0)."""
    n_batch, n_time, n_heads, width = k_BTHK.shape
    memory_BHPK = initial_BHPK
    if memory_BHPK is None:
        memory_BHPK = v_BTHP.new_zeros(n_batch, n_heads, v_BTHP.shape[-1], width, dtype=precision(v_BTHP))
    reset_BT = None if segments is None else segments.position_BT == 0
    outputs = []
    for t in range(n_time):
        if reset_BT is not None and t > 0:
            memory_BHPK = torch.where(reset_BT[:, t, None, None, None], torch.zeros_like(memory_BHPK), memory_BHPK)
        token = (q_BTHK[:, t], k_BTHK[:, t], v_BTHP[:, t], g_BTHK[:, t], beta_BTH[:, t])
        o_BHP, memory_BHPK = delta_step(*token, memory_BHPK)
        outputs.append(o_BHP)
    return torch.stack(outputs, 1).to(v_BTHP.dtype), memory_BHPK


def delta_chunked(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor,
    initial_BHPK: Tensor | None = None,
    segments: Segments | None = None,
    chunk_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """The same in chunks of matrix products, in float32 at least."""
    dtype = precision(v_BTHP)
    inputs = (t.to(dtype) for t in (q_BTHK, k_BTHK, v_BTHP, g_BTHK, beta_BTH))
    initial = None if initial_BHPK is None else initial_BHPK.to(dtype)
    run_BT = None if segments is None else segments.run_BT
    o_BTHP, final_BHPK, *_ = delta_rule_chunked.delta_chunked(*inputs, initial, run_BT, chunk_size)
    return o_BTHP.to(v_BTHP.dtype), final_BHPK
