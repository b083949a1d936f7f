"""The state space of Mamba-3, discretised by the exponential-trapezoidal rule: slowly, in chunks, and one step.

Source: "Mamba-3", arXiv 2603.15569, section 3.1. For one head, with alpha_t = exp(a_t):

    h_t = alpha_t h_{t-1} + (1 - lambda_t) dt_t alpha_t x_{t-1} B_{t-1}^T + lambda_t dt_t x_t B_t^T,   y_t = h_t C_t

lambda = 1 is the rule of Mamba-2, lambda = 1/2 the trapezoid. A complex state is one whose B and C are turned by the angles
that have passed (section 3.2): `heads`. Shapes of all forms: x_BTHP; dt_BTH; a_BTH = dt A <= 0; lambda_BTH in 0..1; B_BTHN,
C_BTHN; past: the state before the first token (None: nothing). Returns y_BTHP and the state after the last token.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.delta_rule_chunked import delta_chunked as gated_linear_attention
from ripstop.ops.segments import Segments
from ripstop.ops.state_space import precision


class Trapezoid(NamedTuple):
    """h_BHPN; B_BHN and x_BHP of the last token, which the next one adds once more."""

    h_BHPN: Tensor
    B_BHN: Tensor
    x_BHP: Tensor


class Projected(NamedTuple):
    """What a mixer projects its input to: x_BTHP, dt_BTH, a_BTH; trap_BTH, whose sigmoid is lambda; B and C, normalised, by
    group, and their biases by head; turn_BTR, of whose tanh an angle is pi dt times as much."""

    x_BTHP: Tensor
    dt_BTH: Tensor
    a_BTH: Tensor
    trap_BTH: Tensor
    B_BTGN: Tensor
    C_BTGN: Tensor
    B_bias_HN: Tensor
    C_bias_HN: Tensor
    turn_BTR: Tensor


Heads = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""x, dt, a, lambda, B and C of every head."""


def heads(projected: Projected, angle_BHR: Tensor | None = None) -> tuple[Heads, Tensor]:
    """What the recurrence takes, and angle_BTHR, by how much the state has been turned; angle_BHR: before the first token."""
    x_BTHP, dt_BTH, a_BTH, trap_BTH, B_BTGN, C_BTGN, B_bias_HN, C_bias_HN, turn_BTR = projected
    full = precision(x_BTHP)
    angle_BTHR = ((torch.tanh(turn_BTR.to(full)) * math.pi).unsqueeze(-2) * dt_BTH.to(full).unsqueeze(-1)).cumsum(1)
    if angle_BHR is not None:
        angle_BTHR = angle_BTHR + angle_BHR.to(full).unsqueeze(1)
    group = x_BTHP.shape[2] // B_BTGN.shape[2]
    B_BTHN, C_BTHN = (
        turned(M.to(full).repeat_interleave(group, 2) + bias_HN, angle_BTHR).to(M.dtype)
        for M, bias_HN in ((B_BTGN, B_bias_HN), (C_BTGN, C_bias_HN))
    )
    return (x_BTHP, dt_BTH, a_BTH, torch.sigmoid(trap_BTH.to(full)), B_BTHN, C_BTHN), angle_BTHR


def trapezoidal_step(
    x_BHP: Tensor, dt_BH: Tensor, a_BH: Tensor, lambda_BH: Tensor, B_BHN: Tensor, C_BHN: Tensor, past: Trapezoid
) -> tuple[Tensor, Trapezoid]:
    """One token, in the state's precision."""
    dtype = past.h_BHPN.dtype
    x, dt, a, share, B, C, B_before, x_before = (
        t.to(dtype) for t in (x_BHP, dt_BH, a_BH, lambda_BH, B_BHN, C_BHN, past.B_BHN, past.x_BHP)
    )
    before = ((1 - share) * dt).unsqueeze(-1) * x_before
    h_BHPN = a.exp()[..., None, None] * (past.h_BHPN + before.unsqueeze(-1) * B_before.unsqueeze(-2))
    h_BHPN = h_BHPN + ((share * dt).unsqueeze(-1) * x).unsqueeze(-1) * B.unsqueeze(-2)
    return (h_BHPN * C.unsqueeze(-2)).sum(-1), Trapezoid(h_BHPN, B.to(past.B_BHN.dtype), x.to(past.x_BHP.dtype))


def trapezoidal_recurrent(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    a_BTH: Tensor,
    lambda_BTH: Tensor,
    B_BTHN: Tensor,
    C_BTHN: Tensor,
    past: Trapezoid | None = None,
    segments: Segments | None = None,
) -> tuple[Tensor, Trapezoid]:
    """The reference: `trapezoidal_step` token after token, nothing left of the past where a document begins."""
    past = nothing(x_BTHP, B_BTHN) if past is None else past
    reset_BT = None if segments is None else segments.position_BT == 0
    outputs = []
    for t in range(x_BTHP.shape[1]):
        if reset_BT is not None and t > 0:
            first_B = reset_BT[:, t]
            past = Trapezoid(*(torch.where(first_B.view(-1, *[1] * (p.ndim - 1)), torch.zeros_like(p), p) for p in past))
        token = (x_BTHP[:, t], dt_BTH[:, t], a_BTH[:, t], lambda_BTH[:, t], B_BTHN[:, t], C_BTHN[:, t])
        y_BHP, past = trapezoidal_step(*token, past)
        outputs.append(y_BHP)
    return torch.stack(outputs, 1).to(x_BTHP.dtype), past


def trapezoidal_chunked(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    a_BTH: Tensor,
    lambda_BTH: Tensor,
    B_BTHN: Tensor,
    C_BTHN: Tensor,
    past: Trapezoid | None = None,
    segments: Segments | None = None,
    chunk_size: int = 64,
) -> tuple[Tensor, Trapezoid]:
    """The same in chunks of matrix products, in float32 at least.

    What token s adds is the same for all tokens behind it, (lambda_s dt_s + (1 - lambda_{s+1}) dt_{s+1}) x_s B_s^T, so that
    they find it by gated linear attention. The token itself sees the first part alone.
    """
    dtype = precision(x_BTHP)
    x, dt, a, share, B, C = (t.to(dtype) for t in (x_BTHP, dt_BTH, a_BTH, lambda_BTH, B_BTHN, C_BTHN))
    again = (1 - share) * dt
    later = F.pad(again, (0, 0, 0, 1))[:, 1:]  # by the next token; one of another document does not see it
    initial = None
    if past is not None:
        first = again[:, 0].unsqueeze(-1) * past.x_BHP.to(dtype)
        initial = past.h_BHPN.to(dtype) + first.unsqueeze(-1) * past.B_BHN.to(dtype).unsqueeze(-2)
    now = share * dt
    v, run_BT = (now + later).unsqueeze(-1) * x, None if segments is None else segments.run_BT
    before, h_BHPN, *_ = gated_linear_attention(C, B, v, a.unsqueeze(-1), None, initial, run_BT, chunk_size)
    y = before + (now * (C * B).sum(-1)).unsqueeze(-1) * x
    return y.to(x_BTHP.dtype), Trapezoid(h_BHPN, B_BTHN[:, -1], x_BTHP[:, -1])


def nothing(x_BTHP: Tensor, B_BTHN: Tensor) -> Trapezoid:
    """The state before the first token."""
    n_batch, _, n_heads, head_dim = x_BTHP.shape
    h_BHPN = x_BTHP.new_zeros(n_batch, n_heads, head_dim, B_BTHN.shape[-1], dtype=precision(x_BTHP))
    return Trapezoid(h_BHPN, torch.zeros_like(B_BTHN[:, 0]), torch.zeros_like(x_BTHP[:, 0]))


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Each pair (x_2k, x_2k+1) turned by angle_k; what lies behind the last angle stays. x: (..., N); angle: (..., R)."""
    n_turned = 2 * angle.shape[-1]
    cos, sin = angle.cos(), angle.sin()
    even, odd = x[..., 0:n_turned:2], x[..., 1:n_turned:2]
    pairs = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
    return torch.cat([pairs, x[..., n_turned:]], -1)
