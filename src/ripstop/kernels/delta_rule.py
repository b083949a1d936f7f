"""The gated delta rule as its mixers call it: a whole sequence, a chunk after a past, one token.

Arguments as in `ops.delta_rule`, with `backend` before them: auto, reference, torch, fla.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ripstop.kernels import reads
from ripstop.kernels.backend import HALF, Kernel, choose
from ripstop.ops import delta_rule
from ripstop.ops.segments import Segments

KERNEL = Kernel("delta_rule", "fla", "pip install flash-linear-attention", HALF)
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def delta(
    backend: str,
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor,
    segments: Segments | None,
    chunk_size: int,
) -> Tensor:
    """Outputs of whole documents."""
    return _run(backend, (q_BTHK, k_BTHK, v_BTHP, g_BTHK, beta_BTH), None, segments, chunk_size)[0]


def delta_after(
    backend: str,
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor,
    memory_BHPK: Tensor,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """A chunk of one document after a past: outputs, next memory."""
    reads.note("delta_rule", 0, memory_BHPK)
    reads.wrote(memory_BHPK)
    return _run(backend, (q_BTHK, k_BTHK, v_BTHP, g_BTHK, beta_BTH), memory_BHPK, None, chunk_size)


def delta_step(
    backend: str,
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHP: Tensor,
    g_BHK: Tensor,
    beta_BH: Tensor,
    memory_BHPK: Tensor,
) -> tuple[Tensor, Tensor]:
    """One token: output, next memory."""
    reads.note("delta_rule", 0, memory_BHPK)
    reads.wrote(memory_BHPK)
    inputs = (q_BHK, k_BHK, v_BHP, g_BHK, beta_BH)
    if choose(backend, KERNEL, v_BHP.device, v_BHP.dtype) == "fla" and not torch.is_grad_enabled():
        from ripstop.kernels.adapters import fla

        return fla.delta_step(*inputs, memory_BHPK)
    o_BHP, memory_BHPK = delta_rule.delta_step(*inputs, memory_BHPK)
    return o_BHP.to(v_BHP.dtype), memory_BHPK


def _run(
    backend: str, inputs: Inputs, initial_BHPK: Tensor | None, segments: Segments | None, chunk_size: int
) -> tuple[Tensor, Tensor]:
    v_BTHP = inputs[2]
    name = choose(backend, KERNEL, v_BTHP.device, v_BTHP.dtype)
    if name == "fla":
        from ripstop.kernels.adapters import fla

        return fla.delta(*inputs, initial_BHPK, segments)
    if name == "reference":
        return delta_rule.delta_recurrent(*inputs, initial_BHPK, segments)
    return delta_rule.delta_chunked(*inputs, initial_BHPK, segments, chunk_size)
