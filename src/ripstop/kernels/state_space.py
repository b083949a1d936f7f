"""State-space duality as Mamba-2 calls it: a whole sequence, a chunk after a past, one token.

Arguments as in `ops.state_space`, with `backend` before them: auto, reference, torch, mamba_ssm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ripstop.kernels import reads
from ripstop.kernels.backend import HALF, Kernel, choose
from ripstop.ops import state_space
from ripstop.ops.segments import Segments

KERNEL = Kernel("ssd", "mamba_ssm", "pip install --no-build-isolation mamba-ssm", (*HALF, torch.float32))


def ssd(
    backend: str,
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    segments: Segments | None,
    chunk_size: int,
) -> Tensor:
    """Outputs of whole documents."""
    inputs = (x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H, None, segments)
    name = choose(backend, KERNEL, x_BTHP.device, x_BTHP.dtype)
    if name == "mamba_ssm":
        from ripstop.kernels.adapters import mamba_ssm

        return mamba_ssm.ssd(*inputs, chunk_size, need_final=False)[0]
    if name == "reference":
        return state_space.ssd_recurrent(*inputs)[0]
    return state_space.ssd_chunked(*inputs, chunk_size, need_final=False)[0]


def ssd_after(
    backend: str,
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    state_BHPN: Tensor,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """A chunk of one document after a past: outputs, next state."""
    reads.note("ssd", 0, state_BHPN)
    reads.wrote(state_BHPN)
    inputs = (x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H, state_BHPN, None)
    name = choose(backend, KERNEL, x_BTHP.device, x_BTHP.dtype)
    if name == "mamba_ssm":
        from ripstop.kernels.adapters import mamba_ssm

        return mamba_ssm.ssd(*inputs, chunk_size, need_final=True)
    if name == "reference":
        return state_space.ssd_recurrent(*inputs)
    return state_space.ssd_chunked(*inputs, chunk_size, need_final=True)


def ssd_step(
    backend: str,
    x_BHP: Tensor,
    dt_BH: Tensor,
    A_H: Tensor,
    B_BGN: Tensor,
    C_BGN: Tensor,
    D_H: Tensor,
    state_BHPN: Tensor,
) -> tuple[Tensor, Tensor]:
    """One token: output, next state. The kernel overwrites the state, so gradients take the torch form."""
    reads.note("ssd", 0, state_BHPN)
    reads.wrote(state_BHPN)
    inputs = (x_BHP, dt_BH, A_H, B_BGN, C_BGN, D_H, state_BHPN)
    name = choose(backend, KERNEL, x_BHP.device, x_BHP.dtype)
    if name == "mamba_ssm" and not torch.is_grad_enabled():
        from ripstop.kernels.adapters import mamba_ssm

        return mamba_ssm.ssd_step(*inputs)
    y_BHP, state_BHPN = state_space.ssd_step(*inputs)
    return y_BHP.to(x_BHP.dtype), state_BHPN
