"""Adapter to mamba-ssm's Triton kernel of Mamba-3, one input and output a head: whole sequences.

Checked against the source of mamba-ssm 2.3.2.post1. It adds the biases, turns B and C and takes lambda's sigmoid by itself.
"""

from __future__ import annotations

from mamba_ssm.ops.triton.mamba3.mamba3_siso_combined import mamba3_siso_combined
from torch import Tensor

from ripstop.ops.segments import Segments
from ripstop.ops.trapezoidal import Projected


def scan(projected: Projected, segments: Segments | None) -> Tensor:
    """As `ops.trapezoidal.trapezoidal_chunked` of the heads, in bfloat16."""
    x_BTHP, dt_BTH, a_BTH, trap_BTH, B_BTGN, C_BTGN, B_bias_HN, C_bias_HN, turn_BTR = projected
    n_batch, n_time, n_heads, _ = x_BTHP.shape
    turn_BTHR = turn_BTR.unsqueeze(2).expand(-1, -1, n_heads, -1)
    tokens = [C_BTGN, B_BTGN, x_BTHP, a_BTH.float(), dt_BTH.float(), trap_BTH, turn_BTHR]
    offsets = None
    if segments is not None:  # all rows laid end to end, the runs of documents and of padding as its sequences
        offsets = segments.offsets
        tokens = [t.flatten(0, 1).unsqueeze(0) for t in tokens]
    C, B, x, a, dt, trap, turn = tokens
    a, dt, trap = (t.transpose(1, 2).contiguous() for t in (a, dt, trap))
    y = mamba3_siso_combined(
        Q=C, K=B, V=x, ADT=a, DT=dt, Trap=trap, Q_bias=C_bias_HN.float(), K_bias=B_bias_HN.float(), Angles=turn,
        cu_seqlens=offsets,
    )  # fmt: skip
    return y if segments is None else y.squeeze(0).unflatten(0, (n_batch, n_time))
