"""The chunked SSD with its own backward: what `state_space.ssd_chunked` runs.

Notation, for one head and one chunk of Q positions; a_t = dt_t A, s_t = a_1 + ... + a_t inside the chunk, u_t = dt_t x_t:

    y_i  = sum_{j <= i} exp(s_i - s_j) (C_i . B_j) u_j  +  exp(s_i) h_in C_i  +  D x_i        (diagonal, off-diagonal, skip)
    h_out = exp(s_Q) h_in  +  sum_j exp(s_Q - s_j) u_j B_j^T

Every product of decays that a_t is part of reaches from a position j < t, or the state that enters, to a position i >= t,
or the state that leaves, so its gradient is the sum of those four kinds of terms, each counted once:

    da_t = sum_{i >= t > j} G_ij  +  sum_{i >= t} dy_i . (what h_in adds to y_i)  +  sum_{j < t} u_j . (du_j through h_out)
           +  <exp(s_Q) h_in, dh_out>              where G_ij = exp(s_i - s_j) (C_i . B_j) (dy_i . u_j)

The first is sum_{i >= t} (sum_{j < i} G_ij - sum_{k > i} G_ki). (Shorter, da_t = sum_{i >= t} dy_i . y_i - u_i . du_i +
<h_out, dh_out>; but its terms for i = j cancel only up to rounding, which is larger than the rest where the decay is strong.)

Axes are chunk-major (c, B, ...): the pass over chunk states then walks over contiguous memory, and the tensors of a chunk
are one batch of matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ripstop.ops.chunks import LOG2_E, Chunks, Ends, apart, between, entering, leaving, through
from ripstop.ops.operation import Operation, without_autocast

_CONTIGUOUS = torch.contiguous_format


@without_autocast
def _forward(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    initial_BHPN: Tensor | None,
    run_BT: Tensor | None,
    chunk_size: int,
    need_final: bool,
) -> tuple[Tensor, ...]:
    """y_BTHP, the final state (empty unless `need_final`), and what the backward needs; all inputs in one precision."""
    n_batch, n_time, n_heads, head_dim = x_BTHP.shape
    n_groups, d_state = B_BTGN.shape[2:]
    chunks = Chunks.of(n_time, chunk_size)
    n, size, split = chunks.n, chunks.size, (n_groups, n_heads // n_groups)
    run_cBQ = None if run_BT is None else chunks.runs(run_BT)
    ends = Ends.of(run_cBQ, dt_BTH.dtype)
    x_BTHP, dt_BTH = chunks.extend(x_BTHP), chunks.extend(dt_BTH)
    x, dt = chunks.cut(x_BTHP), chunks.cut(dt_BTH)  # (c, B, Q, H, P), (c, B, Q, H)
    # Copies, (c, B, G, Q, N): what an operation returns is never a view of what it was given.
    B, C = (chunks.cut(chunks.extend(t)).transpose(2, 3).clone(memory_format=_CONTIGUOUS) for t in (B_BTGN, C_BTGN))
    s = (dt * (A_H * LOG2_E)).cumsum(2)  # (c, B, Q, H)

    # Diagonal: inside a chunk.
    u = torch.empty(n, n_batch, n_heads, size, head_dim, dtype=x.dtype, device=x.device)
    torch.mul(x.transpose(2, 3), dt.transpose(2, 3).unsqueeze(-1), out=u)
    decay = between(s, apart(size, run_cBQ, s))  # (c, B, H, Q, Q)
    scores = C @ B.transpose(-1, -2)  # (c, B, G, Q, Q)
    mixing = (decay.unflatten(2, split) * scores.unsqueeze(3)).flatten(2, 3)
    y_BTHP = torch.empty_like(x_BTHP, memory_format=_CONTIGUOUS)
    y = chunks.cut(y_BTHP)
    torch.addcmul((mixing @ u).transpose(2, 3), x, D_H[:, None], out=y)

    # Chunk states: states[i] enters chunk i. Chunk 0 has one only where there is an initial state; the last chunk's
    # own is worked out only where somebody asks for it.
    first, last = _stateful(chunks, initial_BHPN, need_final)
    states = x.new_zeros(n + 1, n_batch, n_heads, head_dim, d_state)
    if initial_BHPN is not None:
        states[0] = initial_BHPN
    if last > 0:
        weighted = _by_group(x[:last], (leaving(s, ends) * dt)[:last], n_groups)  # (c, B, G, Q, R P)
        own = weighted.transpose(-1, -2) @ B[:last]
        states[1 : last + 1] = own.view(last, n_batch, n_heads, head_dim, d_state)
        left = through(s, ends)
        for i in range(first, last):
            states[i + 1].addcmul_(states[i], left[i])

    # What the entering state adds.
    if first < n:
        read = C[first:] @ states[first:n].view(n - first, n_batch, n_groups, -1, d_state).transpose(-1, -2)
        y[first:].addcmul_(_from_group(read, n_heads), entering(s, ends)[first:].unsqueeze(-1))
    else:
        read = x.new_empty(0, n_batch, n_groups, size, split[1] * head_dim)
    final_BHPN = states[n].clone() if need_final else x.new_empty(0)
    return y_BTHP[:, :n_time].contiguous(), final_BHPN, B, C, s, u, decay, mixing, states, read


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x_BTHP, dt_BTH, A_H, _, _, D_H, initial_BHPN, run_BT, ctx.chunk_size, ctx.need_final = inputs
    ctx.has_initial = initial_BHPN is not None
    ctx.save_for_backward(x_BTHP, dt_BTH, A_H, D_H, run_BT, *output[2:])
    ctx.mark_non_differentiable(*output[2 if ctx.need_final else 1 :])
    ctx.set_materialize_grads(False)


def _differentiate(
    backward: Any, ctx: Any, dy_BTHP: Tensor | None, dfinal_BHPN: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    settings = (ctx.has_initial, ctx.chunk_size, ctx.need_final)
    *gradients, dinitial_BHPN = backward(dy_BTHP, dfinal_BHPN, *ctx.saved_tensors, *settings)
    return (*gradients, dinitial_BHPN if ctx.has_initial else None, None, None, None)


@without_autocast
def _backward(
    dy_BTHP: Tensor | None,
    dfinal_BHPN: Tensor | None,
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    D_H: Tensor,
    run_BT: Tensor | None,
    B: Tensor,
    C: Tensor,
    s: Tensor,
    u: Tensor,
    decay: Tensor,
    mixing: Tensor,
    states: Tensor,
    read: Tensor,
    has_initial: bool,
    chunk_size: int,
    need_final: bool,
) -> tuple[Tensor, ...]:
    """Gradients of the inputs, in their order; that of the initial state is empty where there is none."""
    n, n_batch, n_groups, size, d_state = B.shape
    n_time, n_heads = x_BTHP.shape[1:3]
    split = (n_groups, n_heads // n_groups)
    chunks = Chunks.of(n_time, chunk_size)
    first, last = _stateful(chunks, has_initial or None, need_final)
    ends = Ends.of(None if run_BT is None else chunks.runs(run_BT), s.dtype)
    if dy_BTHP is None:
        dy_BTHP = torch.zeros_like(x_BTHP)
    x_BTHP, dt_BTH, dy_BTHP = chunks.extend(x_BTHP), chunks.extend(dt_BTH), chunks.extend(dy_BTHP)
    x, dy, dt = chunks.cut(x_BTHP), chunks.cut(dy_BTHP), chunks.cut(dt_BTH)

    # Diagonal. Each G_ij with j < i is in da_t for j < t <= i: it enters at i and is taken out at j.
    dy_head = dy.transpose(2, 3).contiguous()  # (c, B, H, Q, P)
    dmixing = dy_head @ u.transpose(-1, -2)
    coupling = dmixing * mixing  # G
    coupling.diagonal(0, -1, -2).zero_()
    ds = (coupling.sum(-1) - coupling.sum(-2)).transpose(2, 3).contiguous()  # (c, B, Q, H)
    dscores = dmixing.mul_(decay).unflatten(2, split).sum(3) if split[1] > 1 else dmixing.mul_(decay)
    dC, dB = dscores @ B, dscores.transpose(-1, -2) @ C
    du_BTHP = torch.empty_like(x_BTHP, memory_format=_CONTIGUOUS)
    du = chunks.cut(du_BTHP).copy_((mixing.transpose(-1, -2) @ dy_head).transpose(2, 3))  # (c, B, Q, H, P)

    # Chunk states, last to first. dstates[i] is the gradient of the state that enters chunk i.
    dstates = torch.zeros_like(states)
    if dfinal_BHPN is not None:
        dstates[n] = dfinal_BHPN
    if first < n:
        weighted = _by_group(dy[first:], entering(s, ends)[first:], n_groups)  # (c, B, G, Q, R P)
        dstates[first:n] = (weighted.transpose(-1, -2) @ C[first:]).view_as(dstates[first:n])
        dC[first:] += weighted @ states[first:n].view(n - first, n_batch, n_groups, -1, d_state)
        ds[first:] += _from_group(weighted.mul_(read), n_heads).sum(-1)
    da = ds.flip(2).cumsum(2).flip(2)  # sum over i >= t
    if first < last:
        left = through(s, ends)[first:last]
        for i in reversed(range(first, last)):
            dstates[i].addcmul_(dstates[i + 1], left[i - first])
        kept = (states[first:last] * dstates[first + 1 : last + 1]).sum((-1, -2))
        da[first:last] += kept.mul_(left[..., 0, 0]).unsqueeze(2)
    if last > 0:
        outgoing = dstates[1 : last + 1].view(last, n_batch, n_groups, -1, d_state)
        to_end = leaving(s, ends)[:last]
        weighted = _by_group(x[:last], to_end * dt[:last], n_groups)
        dB[:last] += weighted @ outgoing
        reached = B[:last] @ outgoing.transpose(-1, -2)
        du[:last].addcmul_(_from_group(reached, n_heads), to_end.unsqueeze(-1))
        da[:last, :, 1:] += _from_group(weighted.mul_(reached), n_heads).sum(-1).cumsum(2)[:, :, :-1]

    gradients = (
        torch.mul(dy_BTHP, D_H[:, None]).addcmul_(du_BTHP, dt_BTH.unsqueeze(-1)),
        (du_BTHP * x_BTHP).sum(-1).addcmul_(da.transpose(0, 1).flatten(1, 2), A_H),
        (da * dt).sum((0, 1, 2)),
        dB.transpose(2, 3).transpose(0, 1).flatten(1, 2).contiguous(),
        dC.transpose(2, 3).transpose(0, 1).flatten(1, 2).contiguous(),
        (dy_BTHP * x_BTHP).sum((0, 1, 3)),
    )
    dinitial_BHPN = dstates[0].clone() if has_initial else dstates.new_empty(0)
    return (*(d[:, :n_time] if d.ndim > 1 else d for d in gradients), dinitial_BHPN)


def _stateful(chunks: Chunks, initial: Any, need_final: bool) -> tuple[int, int]:
    """The first chunk that a state enters, and the number of chunks whose own state is worked out."""
    return (1 if initial is None else 0), (chunks.n if need_final else chunks.n - 1)


def _by_group(x: Tensor, weight: Tensor, n_groups: int) -> Tensor:
    """x (c, B, Q, H, P) times weight (c, B, Q, H), as (c, B, G, Q, R P): one product serves all heads of a group."""
    n, n_batch, size, n_heads, head_dim = x.shape
    out = torch.empty(n, n_batch, n_groups, size, n_heads // n_groups, head_dim, dtype=x.dtype, device=x.device)
    split = (n_groups, n_heads // n_groups)
    torch.mul(x.unflatten(3, split).transpose(2, 3), weight.unflatten(3, split).transpose(2, 3).unsqueeze(-1), out=out)
    return out.flatten(4)


def _from_group(x: Tensor, n_heads: int) -> Tensor:
    """(c, B, G, Q, R P) as (c, B, Q, H, P)."""
    n_groups = x.shape[2]
    return x.unflatten(-1, (n_heads // n_groups, -1)).transpose(2, 3).flatten(3, 4)


def _fake(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    initial_BHPN: Tensor | None,
    run_BT: Tensor | None,
    chunk_size: int,
    need_final: bool,
) -> tuple[Tensor, ...]:
    n_batch, n_time, n_heads, head_dim = x_BTHP.shape
    n_groups, d_state = B_BTGN.shape[2:]
    chunks = Chunks.of(n_time, chunk_size)
    n, size = chunks.n, chunks.size
    first, _ = _stateful(chunks, initial_BHPN, need_final)
    shapes = [
        (n_batch, n_time, n_heads, head_dim),
        (n_batch, n_heads, head_dim, d_state) if need_final else (0,),
        (n, n_batch, n_groups, size, d_state),
        (n, n_batch, n_groups, size, d_state),
        (n, n_batch, size, n_heads),
        (n, n_batch, n_heads, size, head_dim),
        (n, n_batch, n_heads, size, size),
        (n, n_batch, n_heads, size, size),
        (n + 1, n_batch, n_heads, head_dim, d_state),
        (n - first, n_batch, n_groups, size, n_heads // n_groups * head_dim),
    ]
    return tuple(x_BTHP.new_empty(shape) for shape in shapes)


def _fake_backward(
    dy_BTHP: Tensor | None,
    dfinal_BHPN: Tensor | None,
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    D_H: Tensor,
    run_BT: Tensor | None,
    B: Tensor,
    C: Tensor,
    s: Tensor,
    u: Tensor,
    decay: Tensor,
    mixing: Tensor,
    states: Tensor,
    read: Tensor,
    has_initial: bool,
    chunk_size: int,
    need_final: bool,
) -> tuple[Tensor, ...]:
    n, n_batch, n_groups, size, d_state = B.shape
    n_time, n_heads, head_dim = x_BTHP.shape[1:]

    def over_time(*axes: int) -> Tensor:
        return x_BTHP.new_empty(n_batch, n * size, *axes)[:, :n_time]

    return (
        over_time(n_heads, head_dim),
        over_time(n_heads),
        torch.empty_like(A_H),
        over_time(n_groups, d_state),
        over_time(n_groups, d_state),
        torch.empty_like(D_H),
        x_BTHP.new_empty(states.shape[1:] if has_initial else (0,)),
    )


ssd_chunked = Operation(
    "ssd_chunked",
    "(Tensor x_BTHP, Tensor dt_BTH, Tensor A_H, Tensor B_BTGN, Tensor C_BTGN, Tensor D_H, Tensor? initial_BHPN, "
    "Tensor? run_BT, int chunk_size, bool need_final) "
    "-> (Tensor y_BTHP, Tensor final_BHPN, Tensor B, Tensor C, Tensor s, Tensor u, Tensor decay, Tensor mixing, "
    "Tensor states, Tensor read)",
    _forward,
    "(Tensor? dy_BTHP, Tensor? dfinal_BHPN, Tensor x_BTHP, Tensor dt_BTH, Tensor A_H, Tensor D_H, Tensor? run_BT, "
    "Tensor B, Tensor C, Tensor s, Tensor u, Tensor decay, Tensor mixing, Tensor states, Tensor read, "
    "bool has_initial, int chunk_size, bool need_final) "
    "-> (Tensor dx_BTHP, Tensor ddt_BTH, Tensor dA_H, Tensor dB_BTGN, Tensor dC_BTGN, Tensor dD_H, Tensor dinitial_BHPN)",
    _backward,
    _save,
    _differentiate,
)
ssd_chunked.fake(_fake, _fake_backward)
