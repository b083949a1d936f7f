"""Adapter to mamba-ssm's Triton kernels of the SSD (arXiv 2405.21060): the chunked scan and one decoding step.

Checked against the source of mamba-ssm 2.3.2.
"""

from __future__ import annotations

import torch
from mamba_ssm.ops.triton.selective_state_update import selective_state_update
from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
from torch import Tensor

from ripstop.ops.segments import Segments

SMALLEST_CHUNK = 16  # tl.dot multiplies no smaller tiles


def ssd(
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
    """As `ops.state_space.ssd_chunked`."""
    # Triton wants a power of two; the result does not depend on it.
    chunk_size = max(SMALLEST_CHUNK, 1 << (chunk_size - 1).bit_length())
    result = mamba_chunk_scan_combined(
        x_BTHP,
        dt_BTH.to(torch.float32),
        A_H.to(torch.float32),
        B_BTGN.to(x_BTHP.dtype),
        C_BTGN.to(x_BTHP.dtype),
        chunk_size,
        D=D_H.to(torch.float32),
        initial_states=initial_BHPN,
        # Run 0 continues the initial state in the kernel too.
        seq_idx=None if segments is None else segments.run_BT,
        return_final_states=need_final,
    )
    return result if need_final else (result, x_BTHP.new_empty(0))


def ssd_step(
    x_BHP: Tensor, dt_BH: Tensor, A_H: Tensor, B_BGN: Tensor, C_BGN: Tensor, D_H: Tensor, state_BHPN: Tensor
) -> tuple[Tensor, Tensor]:
    """As `ops.state_space.ssd_step`, but writes into `state_BHPN`: not for use where gradients are wanted."""
    head_dim, d_state = state_BHPN.shape[2:]
    A_H, D_H = A_H.to(torch.float32), D_H.to(torch.float32)
    y_BHP = selective_state_update(
        state_BHPN,
        x_BHP,
        # Strides of 0 select the kernel for one decay per head; it asks them of the bias too, so there must be one.
        dt_BH.to(torch.float32).unsqueeze(-1).expand(-1, -1, head_dim),
        A_H[:, None, None].expand(-1, head_dim, d_state),
        B_BGN,
        C_BGN,
        D_H.unsqueeze(-1).expand(-1, head_dim),
        dt_bias=torch.zeros_like(A_H).unsqueeze(-1).expand(-1, head_dim),
    )
    return y_BHP, state_BHPN
