"""State-space duality (SSD) of Mamba-2: the recurrence slowly, in chunks of matrix products, and one step.

Source: Dao and Gu 2024, "Transformers are SSMs", arXiv 2405.21060. Shapes of all three forms:

x_BTHP inputs; dt_BTH step sizes, >= 0; A_H decay rates, < 0; B_BTGN and C_BTGN, shared by H / G heads each; D_H skip;
initial_BHPN state before the first token (None: zero). Returns y_BTHP and the state after the last token, BHPN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ripstop.ops import state_space_chunked
from ripstop.ops.segments import Segments


def ssd_step(
    x_BHP: Tensor, dt_BH: Tensor, A_H: Tensor, B_BGN: Tensor, C_BGN: Tensor, D_H: Tensor, state_BHPN: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: Eq. (2) of the paper with the discretisation of its section 2.1, in the state's precision."""
    heads_a_group = x_BHP.shape[1] // B_BGN.shape[1]
    x_BHP, dt_BH, A_H, B_BGN, C_BGN, D_H = (t.to(state_BHPN.dtype) for t in (x_BHP, dt_BH, A_H, B_BGN, C_BGN, D_H))
    B_BHN = B_BGN.repeat_interleave(heads_a_group, 1)
    C_BHN = C_BGN.repeat_interleave(heads_a_group, 1)
    decay_BH = torch.exp(dt_BH * A_H)  # A-bar_t = exp(dt_t A)
    input_BHPN = (dt_BH.unsqueeze(-1) * x_BHP).unsqueeze(-1) * B_BHN.unsqueeze(-2)  # B-bar_t x_t = dt_t B_t x_t
    state_BHPN = decay_BH[..., None, None] * state_BHPN + input_BHPN  # Eq. (2a)
    y_BHP = (state_BHPN * C_BHN.unsqueeze(-2)).sum(-1)  # Eq. (2b)
    return y_BHP + D_H[:, None] * x_BHP, state_BHPN


def ssd_recurrent(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    initial_BHPN: Tensor | None = None,
    segments: Segments | None = None,
) -> tuple[Tensor, Tensor]:
    """The reference: `ssd_step` token after token, the state set to zero where a document begins (not at token 0)."""
    n_batch, n_time, n_heads, head_dim = x_BTHP.shape
    state_BHPN = initial_BHPN
    if state_BHPN is None:
        state_BHPN = x_BTHP.new_zeros(n_batch, n_heads, head_dim, B_BTGN.shape[-1], dtype=precision(x_BTHP))
    reset_BT = None if segments is None else segments.position_BT == 0
    outputs = []
    for t in range(n_time):
        if reset_BT is not None and t > 0:
            state_BHPN = torch.where(reset_BT[:, t, None, None, None], torch.zeros_like(state_BHPN), state_BHPN)
        y_BHP, state_BHPN = ssd_step(x_BTHP[:, t], dt_BTH[:, t], A_H, B_BTGN[:, t], C_BTGN[:, t], D_H, state_BHPN)
        outputs.append(y_BHP)
    return torch.stack(outputs, 1).to(x_BTHP.dtype), state_BHPN


def ssd_chunked(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    initial_BHPN: Tensor | None = None,
    segments: Segments | None = None,
    chunk_size: int = 64,
    need_final: bool = True,
) -> tuple[Tensor, Tensor]:
    """The same in chunks (section 6 of the paper): attention-like inside a chunk, a recurrence over chunk states.

    Computes in float32 at least. `need_final=False` saves the last chunk's state; an empty tensor is returned in its place.
    """
    dtype = precision(x_BTHP)
    x, dt, A_H, B, C, D_H = (t.to(dtype) for t in (x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H))
    initial = None if initial_BHPN is None else initial_BHPN.to(dtype)
    run_BT = None if segments is None else segments.run_BT
    y, final_BHPN, *_ = state_space_chunked.ssd_chunked(x, dt, A_H, B, C, D_H, initial, run_BT, chunk_size, need_final)
    return y.to(x_BTHP.dtype), final_BHPN


def precision(x: Tensor) -> torch.dtype:
    """What states are kept in: float32, or float64 where the input is."""
    return torch.promote_types(x.dtype, torch.float32)
