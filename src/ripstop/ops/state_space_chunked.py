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

It is a registered operation, of which a compiler sees the shapes alone: how many chunks there are changes with T, and to trace
the loops over them would compile again for every length.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

_CONTIGUOUS = torch.contiguous_format


class Chunks(NamedTuple):
    """How T is cut: `n` chunks of `size`, with `fill` positions behind the last."""

    n: int
    size: int
    fill: int

    @staticmethod
    def of(n_time: int, chunk_size: int) -> Chunks:
        """Balanced: 66 positions in chunks of at most 64 are 33 + 33, not 64 and 62 of filling."""
        n = -(-n_time // chunk_size)
        size = -(-n_time // n)
        return Chunks(n, size, n * size - n_time)

    def extend(self, x: Tensor) -> Tensor:
        """Zeros as filling: with dt = 0 and x = 0 they leave the state as it is."""
        return x if self.fill == 0 else torch.cat([x, x.new_zeros(x.shape[0], self.fill, *x.shape[2:])], 1)

    def cut(self, x: Tensor) -> Tensor:
        """(B, T, ...) as a view (c, B, Q, ...)."""
        return x.unflatten(1, (self.n, self.size)).transpose(0, 1)

    def runs(self, run_BT: Tensor) -> Tensor:
        """Numbers of the documents by chunk, (c, B, Q); the filling is of the last."""
        return self.cut(torch.cat([run_BT, run_BT[:, -1:].expand(-1, self.fill)], 1))


class _Ends(NamedTuple):
    """Who shares a document with the states between chunks. Factors of 0 and 1: arithmetic with exp(-inf) would give NaN."""

    enter: Tensor  # (c, B, Q, 1): position sees the state that enters the chunk
    leave: Tensor  # (c, B, Q, 1): position is seen by the state that leaves it


def _ends(run_cBQ: Tensor | None, dtype: torch.dtype) -> _Ends | None:
    if run_cBQ is None:
        return None
    before_cB = torch.cat([torch.zeros_like(run_cBQ[:1, :, -1]), run_cBQ[:-1, :, -1]])  # run 0 continues the initial state
    enter = (run_cBQ == before_cB.unsqueeze(-1)).to(dtype).unsqueeze(-1)
    return _Ends(enter, (run_cBQ == run_cBQ[..., -1:]).to(dtype).unsqueeze(-1))


def _apart(size: int, run_cBQ: Tensor | None, like: Tensor) -> Tensor:
    """0 where j reaches i, else -inf: (Q, Q), or (c, B, 1, Q, Q) with documents."""
    future_QQ = torch.ones(size, size, dtype=torch.bool, device=like.device).triu(1)
    if run_cBQ is None:
        return like.new_zeros(size, size).masked_fill_(future_QQ, float("-inf"))
    apart = (run_cBQ.unsqueeze(-1) != run_cBQ.unsqueeze(-2)) | future_QQ
    return like.new_zeros(apart.shape).masked_fill_(apart, float("-inf")).unsqueeze(2)


@torch.library.custom_op(
    "ripstop::ssd_chunked",
    mutates_args=(),
    schema="(Tensor x_BTHP, Tensor dt_BTH, Tensor A_H, Tensor B_BTGN, Tensor C_BTGN, Tensor D_H, Tensor? initial_BHPN, "
    "Tensor? run_BT, int chunk_size, bool need_final) "
    "-> (Tensor y_BTHP, Tensor final_BHPN, Tensor B, Tensor C, Tensor s, Tensor u, Tensor decay, Tensor scores, "
    "Tensor states, Tensor read)",
)
def ssd_chunked(
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
    with torch.autocast(x_BTHP.device.type, enabled=False):
        chunks = Chunks.of(x_BTHP.shape[1], chunk_size)
        return _forward(x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, D_H, initial_BHPN, run_BT, chunks, need_final)


def _forward(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    D_H: Tensor,
    initial_BHPN: Tensor | None,
    run_BT: Tensor | None,
    chunks: Chunks,
    need_final: bool,
) -> tuple[Tensor, ...]:
    n_batch, n_time, n_heads, head_dim = x_BTHP.shape
    n_groups, d_state = B_BTGN.shape[2:]
    n, size, heads = chunks.n, chunks.size, n_heads // n_groups
    run_cBQ = None if run_BT is None else chunks.runs(run_BT)
    ends = _ends(run_cBQ, dt_BTH.dtype)
    x_BTHP, dt_BTH = chunks.extend(x_BTHP), chunks.extend(dt_BTH)
    x, dt = chunks.cut(x_BTHP), chunks.cut(dt_BTH)  # (c, B, Q, H, P), (c, B, Q, H)
    # Copies, (c, B, G, Q, N): what an operation returns is never a view of what it was given.
    B, C = (chunks.cut(chunks.extend(t)).transpose(2, 3).clone(memory_format=_CONTIGUOUS) for t in (B_BTGN, C_BTGN))
    s = (dt * A_H).cumsum(2)  # (c, B, Q, H)

    # Diagonal: inside a chunk.
    u = torch.empty(n, n_batch, n_heads, size, head_dim, dtype=x.dtype, device=x.device)
    torch.mul(x.transpose(2, 3), dt.transpose(2, 3).unsqueeze(-1), out=u)
    decay = _decay(s, _apart(size, run_cBQ, s))  # (c, B, H, Q, Q)
    scores = C @ B.transpose(-1, -2)  # (c, B, G, Q, Q)
    y_diagonal = (decay.unflatten(2, (n_groups, heads)) * scores.unsqueeze(3)).flatten(2, 3) @ u

    # Chunk states: states[i] enters chunk i. Chunk 0 has one only where there is an initial state; the last chunk's
    # own is worked out only where somebody asks for it.
    first, last = _stateful(chunks, initial_BHPN, need_final)
    states = x.new_zeros(n + 1, n_batch, n_heads, head_dim, d_state)
    if initial_BHPN is not None:
        states[0] = initial_BHPN
    leaving, through = _leaving(s, ends), _through(s, ends)
    if last > 0:
        weighted = _by_group(x[:last], (leaving * dt)[:last], n_groups)  # (c, B, G, Q, R P)
        own = weighted.transpose(-1, -2) @ B[:last]
        states[1 : last + 1] = own.view(last, n_batch, n_heads, head_dim, d_state)
        for i in range(last):
            states[i + 1].addcmul_(states[i], through[i])

    # Output: skip, diagonal, and what the entering state adds.
    y_BTHP = torch.empty_like(x_BTHP, memory_format=_CONTIGUOUS)
    torch.mul(x_BTHP, D_H[:, None], out=y_BTHP)
    y = chunks.cut(y_BTHP)
    y.add_(y_diagonal.transpose(2, 3))
    entering = _entering(s, ends)
    if first < n:
        read = C[first:] @ states[first:n].view(n - first, n_batch, n_groups, -1, d_state).transpose(-1, -2)
        y[first:].addcmul_(_from_group(read, n_heads), entering[first:].unsqueeze(-1))
    else:
        read = x.new_empty(0, n_batch, n_groups, size, heads * head_dim)
    final_BHPN = states[n].clone() if need_final else x.new_empty(0)
    return y_BTHP[:, :n_time].contiguous(), final_BHPN, B, C, s, u, decay, scores, states, read


@ssd_chunked.register_fake
def _(
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
        (n, n_batch, n_groups, size, size),
        (n + 1, n_batch, n_heads, head_dim, d_state),
        (n - first, n_batch, n_groups, size, n_heads // n_groups * head_dim),
    ]
    return tuple(x_BTHP.new_empty(shape) for shape in shapes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x_BTHP, dt_BTH, A_H, _, _, D_H, initial_BHPN, run_BT, ctx.chunk_size, ctx.need_final = inputs
    ctx.has_initial = initial_BHPN is not None
    ctx.save_for_backward(x_BTHP, dt_BTH, A_H, D_H, run_BT, *output[2:])
    ctx.mark_non_differentiable(*output[2 if ctx.need_final else 1 :])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dy_BTHP: Tensor | None, dfinal_BHPN: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    settings = (ctx.has_initial, ctx.chunk_size, ctx.need_final)
    *gradients, dinitial_BHPN = ssd_chunked_backward(dy_BTHP, dfinal_BHPN, *ctx.saved_tensors, *settings)
    return (*gradients, dinitial_BHPN if ctx.has_initial else None, None, None, None)


ssd_chunked.register_autograd(_differentiate, setup_context=_save)


@torch.library.custom_op(
    "ripstop::ssd_chunked_backward",
    mutates_args=(),
    schema="(Tensor? dy_BTHP, Tensor? dfinal_BHPN, Tensor x_BTHP, Tensor dt_BTH, Tensor A_H, Tensor D_H, Tensor? run_BT, "
    "Tensor B, Tensor C, Tensor s, Tensor u, Tensor decay, Tensor scores, Tensor states, Tensor read, "
    "bool has_initial, int chunk_size, bool need_final) "
    "-> (Tensor dx_BTHP, Tensor ddt_BTH, Tensor dA_H, Tensor dB_BTGN, Tensor dC_BTGN, Tensor dD_H, Tensor dinitial_BHPN)",
)
def ssd_chunked_backward(
    dy_BTHP: Tensor | None, dfinal_BHPN: Tensor | None, x_BTHP: Tensor, *saved_and_settings: Any
) -> tuple[Tensor, ...]:
    """Gradients of the inputs, in their order; that of the initial state is empty where there is none."""
    with torch.autocast(x_BTHP.device.type, enabled=False):
        return _backward(dy_BTHP, dfinal_BHPN, x_BTHP, *saved_and_settings)


@ssd_chunked_backward.register_fake
def _(
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
    scores: Tensor,
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
    scores: Tensor,
    states: Tensor,
    read: Tensor,
    has_initial: bool,
    chunk_size: int,
    need_final: bool,
) -> tuple[Tensor, ...]:
    n, n_batch, n_groups, size, d_state = B.shape
    n_time, n_heads = x_BTHP.shape[1:3]
    split = (n_groups, n_heads // n_groups)
    chunks = Chunks.of(n_time, chunk_size)
    first, last = _stateful(chunks, has_initial or None, need_final)
    ends = _ends(None if run_BT is None else chunks.runs(run_BT), s.dtype)
    if dy_BTHP is None:
        dy_BTHP = torch.zeros_like(x_BTHP)
    x_BTHP, dt_BTH, dy_BTHP = chunks.extend(x_BTHP), chunks.extend(dt_BTH), chunks.extend(dy_BTHP)
    dy, dt = chunks.cut(dy_BTHP), chunks.cut(dt_BTH)
    leaving, through, entering = _leaving(s, ends), _through(s, ends), _entering(s, ends)
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
        weighted = _by_group(chunks.cut(x_BTHP)[:last], (leaving * dt)[:last], n_groups)
        dB[:last] += weighted @ outgoing
        reached = B[:last] @ outgoing.transpose(-1, -2)
        du[:last].addcmul_(_from_group(reached, n_heads), leaving[:last].unsqueeze(-1))
        da[:last, :, 1:] += _from_group(weighted.mul_(reached), n_heads).sum(-1).cumsum(2)[:, :, :-1]

    du_BTHP = du.transpose(0, 1).flatten(1, 2)
    da_BTH = da.transpose(0, 1).flatten(1, 2)
    gradients = (
        torch.mul(dy_BTHP, D_H[:, None]).addcmul_(du_BTHP, dt_BTH.unsqueeze(-1)),
        da_BTH * A_H + (du_BTHP * x_BTHP).sum(-1),
        (da_BTH * dt_BTH).sum((0, 1)),
        dB.transpose(2, 3).transpose(0, 1).flatten(1, 2).contiguous(),
        dC.transpose(2, 3).transpose(0, 1).flatten(1, 2).contiguous(),
        (dy_BTHP * x_BTHP).sum((0, 1, 3)),
    )
    dinitial_BHPN = dstates[0].clone() if has_initial else dstates.new_empty(0)
    return (*(d[:, :n_time] if d.ndim > 1 else d for d in gradients), dinitial_BHPN)


def _stateful(chunks: Chunks, initial: Any, need_final: bool) -> tuple[int, int]:
    """The first chunk that a state enters, and the number of chunks whose own state is worked out."""
    return (1 if initial is None else 0), (chunks.n if need_final else chunks.n - 1)


def _decay(s: Tensor, apart: Tensor) -> Tensor:
    """exp(s_i - s_j) where i sees j, else 0: (c, B, H, Q, Q)."""
    s_head = s.transpose(2, 3).contiguous()
    return (s_head.unsqueeze(-1) - s_head.unsqueeze(-2)).add_(apart).exp_()


def _entering(s: Tensor, ends: _Ends | None) -> Tensor:
    """exp(s_i): what is left at i of the state that entered, (c, B, Q, H)."""
    return s.exp() if ends is None else s.exp() * ends.enter


def _leaving(s: Tensor, ends: _Ends | None) -> Tensor:
    """exp(s_Q - s_j): what is left at the chunk's end of the input at j, (c, B, Q, H)."""
    left = (s[:, :, -1:] - s).exp()
    return left if ends is None else left * ends.leave


def _through(s: Tensor, ends: _Ends | None) -> Tensor:
    """What is left at the chunk's end of the state that entered, (c, B, H, 1, 1)."""
    left = s[:, :, -1].exp()
    return (left if ends is None else left * ends.enter[:, :, -1])[..., None, None]


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
