"""The chunked SSD with its own backward: what `state_space.ssd_chunked` runs.

Notation, for one head and one chunk of Q positions; a_t = dt_t A, s_t = a_1 + ... + a_t inside the chunk, u_t = dt_t x_t:

    y_i  = sum_{j <= i} exp(s_i - s_j) (C_i . B_j) u_j  +  exp(s_i) h_in C_i  +  D x_i        (diagonal, off-diagonal, skip)
    h_out = exp(s_Q) h_in  +  sum_j exp(s_Q - s_j) u_j B_j^T

Every product of decays that a_t is part of reaches from a position j < t, or the state that enters, to a position i >= t,
or the state that leaves, so its gradient is the sum of those four kinds of terms, each counted once:

    da_t = sum_{i >= t > j} G_ij  +  sum_{i >= t} dy_i . (what h_in adds to y_i)  +  sum_{j < t} u_j . (du_j through h_out)
           +  <exp(s_Q) h_in, dh_out>              where G_ij = exp(s_i - s_j) (C_i . B_j) (dy_i . u_j)

(Shorter, da_t = sum_{i >= t} dy_i . y_i - u_i . du_i + <h_out, dh_out>; but its terms for i = j cancel only up to rounding,
which is larger than the rest where the decay is strong.)

Axes are chunk-major (c, B, ...): the pass over chunk states then walks over contiguous memory, and the tensors of a chunk
are one batch of matrix products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Chunks(NamedTuple):
    """How T is cut: `n` chunks of `size`; `run_BT` numbers the documents (None: one), 0 continues the initial state."""

    n: int
    size: int
    run_BT: Tensor | None


class _Masks(NamedTuple):
    """Which positions see each other; 0/1 factors, because exp(-inf) arithmetic would give NaN gradients."""

    see: Tensor  # (c, B, 1, Q, Q) or (Q, Q): 0 where j reaches i, else -inf
    enter: Tensor | None  # (c, B, Q, 1): position sees the state that enters the chunk
    leave: Tensor | None  # (c, B, Q, 1): position is seen by the state that leaves it


def _masks(chunks: Chunks, like: Tensor) -> _Masks:
    size = chunks.size
    future_QQ = torch.ones(size, size, dtype=torch.bool, device=like.device).triu(1)
    if chunks.run_BT is None:
        return _Masks(like.new_zeros(size, size).masked_fill_(future_QQ, float("-inf")), None, None)
    run_cBQ = chunks.run_BT.unflatten(1, (chunks.n, size)).transpose(0, 1)
    apart = (run_cBQ.unsqueeze(-1) != run_cBQ.unsqueeze(-2)) | future_QQ
    see = like.new_zeros(apart.shape).masked_fill_(apart, float("-inf")).unsqueeze(2)
    before_cB = torch.cat([torch.zeros_like(run_cBQ[:1, :, -1]), run_cBQ[:-1, :, -1]])
    enter = (run_cBQ == before_cB.unsqueeze(-1)).to(like.dtype).unsqueeze(-1)
    leave = (run_cBQ == run_cBQ[..., -1:]).to(like.dtype).unsqueeze(-1)
    return _Masks(see, enter, leave)


def _cut(x: Tensor, chunks: Chunks) -> Tensor:
    """(B, T, ...) as a view (c, B, Q, ...)."""
    return x.unflatten(1, (chunks.n, chunks.size)).transpose(0, 1)


class ChunkedSSD(torch.autograd.Function):
    """`apply(x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H, initial_BHPN | None, Chunks, need_final)` -> y_BTHP, final | None."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BTHP: Tensor,
        dt_BTH: Tensor,
        A_H: Tensor,
        B_BTGN: Tensor,
        C_BTGN: Tensor,
        D_H: Tensor,
        initial_BHPN: Tensor | None,
        chunks: Chunks,
        need_final: bool,
    ) -> tuple[Tensor, Tensor | None]:
        n_batch, _, n_heads, head_dim = x_BTHP.shape
        n_groups, d_state = B_BTGN.shape[2:]
        n, size, heads = chunks.n, chunks.size, n_heads // n_groups
        masks = _masks(chunks, dt_BTH)
        x, dt = _cut(x_BTHP, chunks), _cut(dt_BTH, chunks)  # (c, B, Q, H, P), (c, B, Q, H)
        B = _cut(B_BTGN, chunks).transpose(2, 3).contiguous()  # (c, B, G, Q, N)
        C = _cut(C_BTGN, chunks).transpose(2, 3).contiguous()
        s = (dt * A_H).cumsum(2)  # (c, B, Q, H)

        # Diagonal: inside a chunk.
        u = torch.empty(n, n_batch, n_heads, size, head_dim, dtype=x.dtype, device=x.device)
        torch.mul(x.transpose(2, 3), dt.transpose(2, 3).unsqueeze(-1), out=u)
        decay = _decay(s, masks)  # (c, B, H, Q, Q)
        scores = C @ B.transpose(-1, -2)  # (c, B, G, Q, Q)
        y_diagonal = (decay.unflatten(2, (n_groups, heads)) * scores.unsqueeze(3)).flatten(2, 3) @ u

        # Chunk states: states[i] enters chunk i. Chunk 0 has one only where there is an initial state; the last chunk's
        # own is worked out only where somebody asks for it.
        first, last = (0 if initial_BHPN is not None else 1), (n if need_final else n - 1)
        states = x.new_zeros(n + 1, n_batch, n_heads, head_dim, d_state)
        if initial_BHPN is not None:
            states[0] = initial_BHPN
        leaving, through = _leaving(s, masks), _through(s, masks)
        if last > 0:
            weighted = _by_group(x[:last], (leaving * dt)[:last], n_groups)  # (c, B, G, Q, R P)
            own = weighted.transpose(-1, -2) @ B[:last]
            states[1 : last + 1] = own.view(last, n_batch, n_heads, head_dim, d_state)
            for i in range(last):
                states[i + 1].addcmul_(states[i], through[i])

        # Output: skip, diagonal, and what the entering state adds.
        y_BTHP = torch.empty_like(x_BTHP, memory_format=torch.contiguous_format)
        torch.mul(x_BTHP, D_H[:, None], out=y_BTHP)
        y = _cut(y_BTHP, chunks)
        y.add_(y_diagonal.transpose(2, 3))
        entering = _entering(s, masks)
        read = None
        if first < n:
            read = C[first:] @ states[first:n].view(n - first, n_batch, n_groups, -1, d_state).transpose(-1, -2)
            y[first:].addcmul_(_from_group(read, n_heads), entering[first:].unsqueeze(-1))

        ctx.chunks, ctx.first, ctx.last, ctx.masks = chunks, first, last, masks
        ctx.save_for_backward(x_BTHP, dt_BTH, A_H, B, C, D_H, read, s, u, decay, scores, states)
        ctx.set_materialize_grads(False)
        return y_BTHP, (states[n].clone() if need_final else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_BTHP: Tensor | None, dfinal_BHPN: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):
            return _backward(ctx, dy_BTHP, dfinal_BHPN)


def _backward(ctx: Any, dy_BTHP: Tensor | None, dfinal_BHPN: Tensor | None) -> tuple[Tensor | None, ...]:
    x_BTHP, dt_BTH, A_H, B, C, D_H, read, s, u, decay, scores, states = ctx.saved_tensors
    chunks, first, last, masks = ctx.chunks, ctx.first, ctx.last, ctx.masks
    n, n_batch, n_groups, size, d_state = B.shape
    n_heads = x_BTHP.shape[2]
    split = (n_groups, n_heads // n_groups)
    if dy_BTHP is None:
        dy_BTHP = torch.zeros_like(x_BTHP)
    dy, dt = _cut(dy_BTHP, chunks), _cut(dt_BTH, chunks)
    leaving, through, entering = _leaving(s, masks), _through(s, masks), _entering(s, masks)
    da = torch.zeros_like(s)  # (c, B, Q, H)

    # Diagonal.
    dy_head = dy.transpose(2, 3).contiguous()  # (c, B, H, Q, P)
    dscores = (dy_head @ u.transpose(-1, -2)).mul_(decay).unflatten(2, split)
    coupling = (dscores * scores.unsqueeze(3)).flatten(2, 3)  # G
    dscores = dscores.sum(3)
    dC, dB = dscores @ B, dscores.transpose(-1, -2) @ C
    mixing = (decay.unflatten(2, split) * scores.unsqueeze(3)).flatten(2, 3)
    du = (mixing.transpose(-1, -2) @ dy_head).transpose(2, 3)  # (c, B, Q, H, P)
    later = torch.ones(size, size, dtype=s.dtype, device=s.device).triu(1)  # 1 where j < t
    da.copy_((coupling @ later).tril_().sum(-2).transpose(2, 3))

    # Chunk states, last to first. dstates[i] is the gradient of the state that enters chunk i.
    dstates = torch.zeros_like(states)
    if dfinal_BHPN is not None:
        dstates[n] = dfinal_BHPN
    if first < n:
        weighted = _by_group(dy[first:], entering[first:], n_groups)  # (c, B, G, Q, R P)
        dstates[first:n] = (weighted.transpose(-1, -2) @ C[first:]).view_as(dstates[first:n])
        dC[first:] += weighted @ states[first:n].view(n - first, n_batch, n_groups, -1, d_state)
        da[first:] += _sum_from(_from_group(weighted.mul_(read), n_heads).sum(-1))
    for i in reversed(range(first, last)):
        dstates[i].addcmul_(dstates[i + 1], through[i])
        da[i] += (states[i] * dstates[i + 1]).sum((-1, -2)).mul_(through[i, ..., 0, 0]).unsqueeze(1)
    if last > 0:
        outgoing = dstates[1 : last + 1].view(last, n_batch, n_groups, -1, d_state)
        weighted = _by_group(_cut(x_BTHP, chunks)[:last], (leaving * dt)[:last], n_groups)
        dB[:last] += weighted @ outgoing
        reached = B[:last] @ outgoing.transpose(-1, -2)
        du[:last].addcmul_(_from_group(reached, n_heads), leaving[:last].unsqueeze(-1))
        da[:last, :, 1:] += _from_group(weighted.mul_(reached), n_heads).sum(-1).cumsum(2)[:, :, :-1]

    du_BTHP = du.transpose(0, 1).flatten(1, 2)
    da_BTH = da.transpose(0, 1).flatten(1, 2)
    return (
        torch.mul(dy_BTHP, D_H[:, None]).addcmul_(du_BTHP, dt_BTH.unsqueeze(-1)),
        da_BTH * A_H + (du_BTHP * x_BTHP).sum(-1),
        (da_BTH * dt_BTH).sum((0, 1)),
        dB.transpose(2, 3).transpose(0, 1).flatten(1, 2),
        dC.transpose(2, 3).transpose(0, 1).flatten(1, 2),
        (dy_BTHP * x_BTHP).sum((0, 1, 3)),
        dstates[0] if first == 0 else None,
        None,
        None,
    )


def _decay(s: Tensor, masks: _Masks) -> Tensor:
    """exp(s_i - s_j) where i sees j, else 0: (c, B, H, Q, Q)."""
    s_head = s.transpose(2, 3).contiguous()
    return (s_head.unsqueeze(-1) - s_head.unsqueeze(-2)).add_(masks.see).exp_()


def _entering(s: Tensor, masks: _Masks) -> Tensor:
    """exp(s_i): what is left at i of the state that entered, (c, B, Q, H)."""
    return s.exp() if masks.enter is None else s.exp() * masks.enter


def _leaving(s: Tensor, masks: _Masks) -> Tensor:
    """exp(s_Q - s_j): what is left at the chunk's end of the input at j, (c, B, Q, H)."""
    left = (s[:, :, -1:] - s).exp()
    return left if masks.leave is None else left * masks.leave


def _through(s: Tensor, masks: _Masks) -> Tensor:
    """What is left at the chunk's end of the state that entered, (c, B, H, 1, 1)."""
    left = s[:, :, -1].exp()
    return (left if masks.enter is None else left * masks.enter[:, :, -1])[..., None, None]


def _sum_from(terms: Tensor) -> Tensor:
    """sum over i >= t inside the chunk, (c, B, Q, H)."""
    return terms.flip(2).cumsum(2).flip(2)


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
