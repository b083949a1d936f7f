"""The state space of Mamba-3 as its mixer calls it: a whole sequence, a chunk after a past, one token.

Arguments as in `ops.trapezoidal`, with `backend` before them: auto, reference, torch, mamba_ssm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ripstop.kernels import reads
from ripstop.kernels.backend import Kernel, choose
from ripstop.ops import trapezoidal
from ripstop.ops.segments import Segments
from ripstop.ops.trapezoidal import Projected, Trapezoid

KERNEL = Kernel("trapezoidal", "mamba_ssm", "pip install --no-build-isolation mamba-ssm", (torch.bfloat16,))


def scan(backend: str, projected: Projected, segments: Segments | None, chunk_size: int) -> Tensor:
    """Outputs of whole documents, without the skip."""
    x_BTHP = projected.x_BTHP
    name = choose(backend, KERNEL, x_BTHP.device, x_BTHP.dtype, _unfit(projected))
    if name == "mamba_ssm":
        from ripstop.kernels.adapters import mamba3

        return mamba3.scan(projected, segments)
    if name == "reference":
        return trapezoidal.trapezoidal_recurrent(*trapezoidal.heads(projected)[0], None, segments)[0]
    return trapezoidal.trapezoidal_chunked(*trapezoidal.heads(projected)[0], None, segments, chunk_size)[0]


def scan_after(
    backend: str, projected: Projected, past: Trapezoid, angle_BHR: Tensor, chunk_size: int
) -> tuple[Tensor, Trapezoid, Tensor]:
    """A chunk of one document after a past: outputs, next past, next angle. The kernel is for whole sequences."""
    _note(past, angle_BHR)
    heads, angle_BTHR = trapezoidal.heads(projected, angle_BHR)
    if backend == "reference":
        y_BTHP, past = trapezoidal.trapezoidal_recurrent(*heads, past)
    else:
        y_BTHP, past = trapezoidal.trapezoidal_chunked(*heads, past, None, chunk_size)
    return y_BTHP, past, angle_BTHR[:, -1]


def step(backend: str, projected: Projected, past: Trapezoid, angle_BHR: Tensor) -> tuple[Tensor, Trapezoid, Tensor]:
    """One token, with an axis of time of one: output, next past, next angle. `backend` makes no difference."""
    _note(past, angle_BHR)
    (x, dt, a, share, B, C), angle_BTHR = trapezoidal.heads(projected, angle_BHR)
    y_BHP, past = trapezoidal.trapezoidal_step(x[:, 0], dt[:, 0], a[:, 0], share[:, 0], B[:, 0], C[:, 0], past)
    return y_BHP.unsqueeze(1).to(projected.x_BTHP.dtype), past, angle_BTHR[:, -1]


def _note(past: Trapezoid, angle_BHR: Tensor) -> None:
    reads.note("trapezoidal", 0, *past, angle_BHR)
    reads.wrote(*past, angle_BHR)


def _unfit(projected: Projected) -> str | None:
    """Why these shapes are none for the kernel."""
    head_dim, d_state, n_angles = (projected.x_BTHP.shape[-1], projected.B_BTGN.shape[-1], projected.turn_BTR.shape[-1])
    if head_dim & (head_dim - 1) or d_state & (d_state - 1) or min(head_dim, d_state) < 16:
        return "takes head_dim and d_state that are powers of two, 16 at least"
    return None if n_angles and n_angles % 2 == 0 else "takes an even number of angles"
