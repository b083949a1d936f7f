"""The chunked gated delta rule with its own backward: what `delta_rule.delta_chunked` runs.

For one head and one chunk of Q positions, s_t = g_1 + ... + g_t, S the memory that enters it (arXiv 2412.06464, section 3.3):

    A_ij = k_i . exp(s_i - s_j) k_j,  j < i         M_ij = q_i . exp(s_i - s_j) k_j,  j <= i
    U = T diag(beta) (v - (exp(s) k) S^T)           T = (I + diag(beta) A)^-1: what is really written, token by token
    o = (exp(s) q) S^T + M U                        S_out = S exp(s_Q) + U^T (exp(s_Q - s) k)

T does not depend on S, so all but two products a chunk is done for all chunks at once. So it is in the backward:

    dU = M^T do + (exp(s_Q - s) k) dS_out^T         dS = do^T (exp(s) q) + dS_out exp(s_Q) - dU^T T diag(beta) (exp(s) k)
    Y = T^T dU,  dv = beta Y,  dA_ij = -beta_i Y_i . U_j,  dbeta_i = Y_i . (v - (exp(s) k) S^T - A U)_i

Without beta nothing is overwritten, U = v, and M_ij is 0 for j = i too: o is what gated linear attention (arXiv 2312.06635)
finds of the tokens before.

A decay g_t is part of what reaches from a position before t, or the memory that enters, to one from t on, or the memory that
leaves. Its gradient sums those four kinds of terms, each counted once, as in `state_space_chunked`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ripstop.ops.chunks import LOG2_E, Chunks, Ends
from ripstop.ops.decayed_products import decayed_products, decayed_products_backward
from ripstop.ops.operation import Operation, without_autocast


class _Cut(NamedTuple):
    """Inputs by chunk, (c, B, H, Q, ...), and what depends on no memory. s: in powers of two."""

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor | None  # (c, B, H, Q, 1)
    s: Tensor  # (c, B, H, Q, K), or 1
    together: Tensor | None  # (c, B, 1, Q, Q): 1 where two positions are of one document, else 0
    entering: Tensor  # 2^s where the entering memory is of the same document, else 0
    leaving: Tensor  # 2^(s_Q - s) where the leaving one is
    through: Tensor  # (c, B, H, 1, K or 1): what is left of the entering memory in the leaving one


@without_autocast
def _forward(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor | None,
    initial_BHPK: Tensor | None,
    run_BT: Tensor | None,
    chunk_size: int,
) -> tuple[Tensor, ...]:
    """o_BTHP, the final memory, and what the backward needs; all inputs in one precision."""
    n_batch, n_time, n_heads, width = k_BTHK.shape
    chunks = Chunks.of(n_time, chunk_size)
    cut = _cut(chunks, q_BTHK, k_BTHK, v_BTHP, g_BTHK, beta_BTH, run_BT)
    A = T = found = v_BTHP.new_empty(0)
    own = cut.v.clone()
    if cut.beta is None:
        (M,) = _pairs([cut.q], cut)
    else:
        M, A = _pairs([cut.q, cut.k], cut)
        M.diagonal(0, -2, -1).copy_((cut.q * cut.k).sum(-1))
        T = _inverse(cut.beta * A)
        own = T @ (cut.beta * cut.v)  # what would be written into an empty memory
        found = T @ (cut.beta * cut.k * cut.entering)
    last = cut.k * cut.leaving
    memory = v_BTHP.new_zeros(chunks.n + 1, n_batch, n_heads, v_BTHP.shape[-1], width)  # memory[i] enters chunk i
    if initial_BHPK is not None:
        memory[0] = initial_BHPK
    for i in range(chunks.n):
        if cut.beta is not None:
            own[i] -= found[i] @ memory[i].transpose(-1, -2)
        torch.addcmul(own[i].transpose(-1, -2) @ last[i], memory[i], cut.through[i], out=memory[i + 1])
    o = (cut.q * cut.entering) @ memory[:-1].transpose(-1, -2) + M @ own
    T = T.clone() if cut.beta is None else T  # an operation returns no tensor twice
    return _joined(o, n_time), memory[-1].clone(), A, M, T, own, memory


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.chunk_size = inputs
    ctx.has_beta, ctx.has_initial = inputs[4] is not None, inputs[5] is not None
    ctx.save_for_backward(*tensors[:5], tensors[6], *output[2:])
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)


def _differentiate(
    backward: Any, ctx: Any, do_BTHP: Tensor | None, dfinal_BHPK: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    *gradients, dbeta_BTH, dinitial_BHPK = backward(do_BTHP, dfinal_BHPK, *ctx.saved_tensors, ctx.chunk_size)
    optional = (dbeta_BTH if ctx.has_beta else None, dinitial_BHPK if ctx.has_initial else None)
    return (*gradients, *optional, None, None)


@without_autocast
def _backward(
    do_BTHP: Tensor | None,
    dfinal_BHPK: Tensor | None,
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor | None,
    run_BT: Tensor | None,
    A: Tensor,
    M: Tensor,
    T: Tensor,
    U: Tensor,
    memory: Tensor,
    chunk_size: int,
) -> tuple[Tensor, ...]:
    """Gradients of the inputs, in their order, that of beta empty where there is none, and of the initial memory."""
    n_time = k_BTHK.shape[1]
    chunks = Chunks.of(n_time, chunk_size)
    cut = _cut(chunks, q_BTHK, k_BTHK, v_BTHP, g_BTHK, beta_BTH, run_BT)
    q, k, v, beta, entered = cut.q, cut.k, cut.v, cut.beta, memory[:-1]
    do = _by_chunk(chunks, torch.zeros_like(v_BTHP) if do_BTHP is None else do_BTHP)
    k_in, q_in, k_out = k * cut.entering, q * cut.entering, k * cut.leaving

    # The memories, last to first. dmemory[i] is the gradient of the one that enters chunk i.
    dU = M.transpose(-1, -2) @ do
    found = dU if beta is None else T @ (beta * k_in)
    dmemory = torch.zeros_like(memory)
    dmemory[:-1] = do.transpose(-1, -2) @ q_in
    if dfinal_BHPK is not None:
        dmemory[-1] = dfinal_BHPK
    for i in reversed(range(chunks.n)):
        dU[i] += k_out[i] @ dmemory[i + 1].transpose(-1, -2)
        dmemory[i].addcmul_(dmemory[i + 1], cut.through[i])
        if beta is not None:
            dmemory[i] -= dU[i].transpose(-1, -2) @ found[i]

    # What was read.
    dM, dq_in, dk_out = do @ U.transpose(-1, -2), do @ entered, U @ dmemory[1:]
    if beta is None:
        dv = dU
        [(dq_pairs, dk_pairs)] = _pairs_backward([dM], [q], cut)
    else:
        Y = T.transpose(-1, -2) @ dU
        dv = beta * Y
        dA = -(dv @ U.transpose(-1, -2))
        (dq_pairs, dk_pairs), (dk_late, dk_early) = _pairs_backward([dM, dA], [q, k], cut)
    dq = dq_pairs + dq_in * cut.entering
    dk = dk_pairs + dk_out * cut.leaving
    arriving = q * dq_pairs - k * dk_pairs + q_in * dq_in

    # What was written.
    dbeta = v_BTHP.new_empty(0)
    if beta is not None:
        dbeta = _joined(Y * (v - k_in @ entered.transpose(-1, -2) - A @ U), n_time).sum(-1)
        dk_in = -(dv @ entered)
        same = dM.diagonal(0, -2, -1).unsqueeze(-1)
        dq += same * k
        dk += same * q + dk_late + dk_early + dk_in * cut.entering
        arriving += k * (dk_late - dk_early) + k_in * dk_in

    # The decay: what arrives at i, what departs from j, what passes through.
    departing = k_out * dk_out
    passing = (dmemory[1:] * entered).sum(-2, keepdim=True) * cut.through  # (c, B, H, 1, K)
    if cut.s.shape[-1] == 1:
        arriving, departing, passing = (t.sum(-1, keepdim=True) for t in (arriving, departing, passing))
    dg = arriving.flip(-2).cumsum(-2).flip(-2) + passing
    dg[..., 1:, :] += departing.cumsum(-2)[..., :-1, :]
    dq, dk, dv, dg = (_joined(t, n_time) for t in (dq, dk, dv, dg))
    # Of what passes a decay so strong nothing is left in this precision, nor of its gradient but the rounding of the sums.
    dg.masked_fill_(g_BTHK < 2 * math.log(torch.finfo(dg.dtype).eps), 0)
    return dq, dk, dv, dg, dbeta, dmemory[0].clone()


def _cut(
    chunks: Chunks,
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor | None,
    run_BT: Tensor | None,
) -> _Cut:
    q, k, v, g = (_by_chunk(chunks, t) for t in (q_BTHK, k_BTHK, v_BTHP, g_BTHK))
    beta = None if beta_BTH is None else _by_chunk(chunks, beta_BTH.unsqueeze(-1))
    s = (g * LOG2_E).cumsum(-2)
    entering, leaving, through = s.exp2(), (s[..., -1:, :] - s).exp2(), s[..., -1:, :].exp2()
    if run_BT is None:
        return _Cut(q, k, v, beta, s, None, entering, leaving, through)
    run_cBQ = chunks.runs(run_BT)
    ends = Ends.of(run_cBQ, s.dtype)
    assert ends is not None
    enter, leave = (t.unsqueeze(2) for t in ends)  # (c, B, 1, Q, 1)
    together = (run_cBQ.unsqueeze(-1) == run_cBQ.unsqueeze(-2)).to(s.dtype).unsqueeze(2)
    return _Cut(q, k, v, beta, s, together, entering * enter, leaving * leave, through * enter[..., -1:, :])


def _by_chunk(chunks: Chunks, x: Tensor) -> Tensor:
    """(B, T, H, ...) as (c, B, H, Q, ...). Zeros as filling write nothing, and leave the memory as it is."""
    return chunks.cut(chunks.extend(x)).transpose(2, 3).contiguous()


def _joined(x: Tensor, n_time: int) -> Tensor:
    """(c, B, H, Q, ...) as (B, T, H, ...)."""
    return x.transpose(2, 3).transpose(0, 1).flatten(1, 2)[:, :n_time].contiguous()


def _pairs(several: list[Tensor], cut: _Cut) -> list[Tensor]:
    """a_i . exp(s_i - s_j) k_j for j < i of the same document, else 0, of each a."""
    products = decayed_products(several, cut.k, cut.s)
    return products if cut.together is None else [each.mul_(cut.together) for each in products]


def _pairs_backward(dpairs: list[Tensor], several: list[Tensor], cut: _Cut) -> list[tuple[Tensor, Tensor]]:
    """Gradients of each a, and of k through it."""
    if cut.together is not None:
        dpairs = [each * cut.together for each in dpairs]
    return decayed_products_backward(dpairs, several, cut.k, cut.s)


def _inverse(lower: Tensor) -> Tensor:
    """(I + lower)^-1 of what is strictly lower triangular."""
    identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower + identity, identity.expand_as(lower), upper=False, unitriangular=True)


def _sizes(k_BTHK: Tensor, v_BTHP: Tensor, chunk_size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(c, B, H, Q), and (c + 1, B, H, P, K) of the memories."""
    n_batch, n_time, n_heads, width = k_BTHK.shape
    chunks = Chunks.of(n_time, chunk_size)
    return (chunks.n, n_batch, n_heads, chunks.size), (chunks.n + 1, n_batch, n_heads, v_BTHP.shape[-1], width)


def _fake(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHP: Tensor,
    g_BTHK: Tensor,
    beta_BTH: Tensor | None,
    initial_BHPK: Tensor | None,
    run_BT: Tensor | None,
    chunk_size: int,
) -> tuple[Tensor, ...]:
    rows, memory = _sizes(k_BTHK, v_BTHP, chunk_size)
    pairs = (*rows, rows[-1])
    solved = (0,) if beta_BTH is None else pairs
    shapes = (v_BTHP.shape, memory[1:], solved, pairs, solved, (*rows, memory[-2]), memory)
    return tuple(v_BTHP.new_empty(shape) for shape in shapes)


def _fake_backward(
    do_BTHP: Tensor | None, dfinal_BHPK: Tensor | None, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHP: Tensor, g_BTHK: Tensor,
    beta_BTH: Tensor | None, run_BT: Tensor | None, A: Tensor, M: Tensor, T: Tensor, U: Tensor, memory: Tensor, chunk_size: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    dbeta = (0,) if beta_BTH is None else beta_BTH.shape
    shapes = (q_BTHK.shape, k_BTHK.shape, v_BTHP.shape, g_BTHK.shape, dbeta, memory.shape[1:])
    return tuple(v_BTHP.new_empty(shape) for shape in shapes)


delta_chunked = Operation(
    "delta_chunked",
    "(Tensor q_BTHK, Tensor k_BTHK, Tensor v_BTHP, Tensor g_BTHK, Tensor? beta_BTH, Tensor? initial_BHPK, Tensor? run_BT, "
    "int chunk_size) -> (Tensor o_BTHP, Tensor final_BHPK, Tensor A, Tensor M, Tensor T, Tensor U, Tensor memory)",
    _forward,
    "(Tensor? do_BTHP, Tensor? dfinal_BHPK, Tensor q_BTHK, Tensor k_BTHK, Tensor v_BTHP, Tensor g_BTHK, Tensor? beta_BTH, "
    "Tensor? run_BT, Tensor A, Tensor M, Tensor T, Tensor U, Tensor memory, int chunk_size) "
    "-> (Tensor dq_BTHK, Tensor dk_BTHK, Tensor dv_BTHP, Tensor dg_BTHK, Tensor dbeta_BTH, Tensor dinitial_BHPK)",
    _backward,
    _save,
    _differentiate,
)
delta_chunked.fake(_fake, _fake_backward)
