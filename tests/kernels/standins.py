"""Stand-ins for the packages with CUDA kernels: the same signatures and conditions, computed slowly on a CPU.

Signatures, defaults and what is refused follow the sources of flash-attn 2.8.3, causal-conv1d 1.7.0, mamba-ssm 2.3.2 and
fla-core 0.6.0. What they compute is written out here token by token from their documentation, not taken from `ripstop.ops`.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.kernels import adapters, backend

Calls = list[tuple[str, dict[str, Any]]]
"""Names of the functions that were called, with their arguments by name."""

ADAPTERS = ("flash_attn", "causal_conv1d", "mamba_ssm", "mamba3", "fla")


def install(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The packages as if installed on a CUDA machine: `auto` takes them on a CPU too, and the calls are returned."""
    calls: Calls = []

    def recorded(function: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            calls.append((function.__name__, dict(zip(names, arguments, strict=False)) | settings))
            return function(*arguments, **settings)

        return call

    contents = {
        "flash_attn": [flash_attn_func, flash_attn_varlen_func],
        "causal_conv1d": [causal_conv1d_fn, causal_conv1d_update],
        "mamba_ssm": [],
        "mamba_ssm.ops": [],
        "mamba_ssm.ops.triton": [],
        "mamba_ssm.ops.triton.selective_state_update": [selective_state_update],
        "mamba_ssm.ops.triton.ssd_combined": [mamba_chunk_scan_combined],
        "mamba_ssm.ops.triton.mamba3": [],
        "mamba_ssm.ops.triton.mamba3.mamba3_siso_combined": [mamba3_siso_combined],
        "fla": [],
        "fla.ops": [],
        "fla.ops.gated_delta_rule": [chunk_gated_delta_rule, fused_recurrent_gated_delta_rule],
        "fla.ops.kda": [chunk_kda, fused_recurrent_kda],
    }
    for name, functions in contents.items():
        module = ModuleType(name)
        for function in functions:
            setattr(module, function.__name__, recorded(function))
        monkeypatch.setitem(sys.modules, name, module)
    for kernel in ADAPTERS:  # they have imported the stand-ins, and go with them
        name = f"ripstop.kernels.adapters.{kernel}"
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        adapter = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(adapter)
        monkeypatch.setitem(sys.modules, name, adapter)
        monkeypatch.setattr(adapters, kernel, adapter, raising=False)

    def obstacle(kernel: backend.Kernel, device: torch.device, dtype: torch.dtype) -> str | None:
        return None if dtype in kernel.dtypes else "has no such precision"

    monkeypatch.setattr(backend, "_obstacle", obstacle)
    monkeypatch.setattr(backend, "_resolve", functools.cache(backend._resolve.__wrapped__))
    monkeypatch.setattr(backend, "_chosen", {})
    return calls


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """(B, T, H, K). Aligned at the end; a query at i + S - T sees keys from there minus left to there plus right, -1: all."""
    _flash_conditions(q, k, v, dropout_p)
    return torch.cat([_flash(q[i], k[i], v[i], softmax_scale, causal, window_size)[None] for i in range(q.shape[0])])


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """(all T, H, K): sequences laid end to end, which begin and end at the offsets."""
    _flash_conditions(q, k, v, dropout_p)
    for offsets, x, longest in ((cu_seqlens_q, q, max_seqlen_q), (cu_seqlens_k, k, max_seqlen_k)):
        assert offsets.dtype == torch.int32 and offsets.is_contiguous(), "offsets are contiguous int32"
        assert offsets[0] == 0 and offsets[-1] == x.shape[0], "offsets go from 0 to the number of tokens"
        assert offsets.diff().min() >= 0 and offsets.diff().max() <= longest, "a sequence is longer than was said"
    assert len(cu_seqlens_q) == len(cu_seqlens_k)
    outputs = []
    for i in range(len(cu_seqlens_q) - 1):
        queries, keys = (slice(int(o[i]), int(o[i + 1])) for o in (cu_seqlens_q, cu_seqlens_k))
        outputs.append(_flash(q[queries], k[keys], v[keys], softmax_scale, causal, window_size))
    return torch.cat(outputs)


def _flash_conditions(q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> None:
    assert q.dtype == k.dtype == v.dtype and q.dtype in (torch.float16, torch.bfloat16), "half precision, all alike"
    assert dropout_p == 0
    assert all(x.stride(-1) == 1 for x in (q, k, v)), "the last axis is contiguous"
    assert q.shape[-1] == k.shape[-1] == v.shape[-1] <= 256 and q.shape[-1] % 8 == 0
    assert q.shape[-2] % k.shape[-2] == 0 and k.shape == v.shape


def _flash(q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool, window: tuple[int, int]) -> Tensor:
    n_queries, n_keys = q.shape[0], k.shape[0]
    left, right = window[0], 0 if causal else window[1]
    rows = []
    for i in range(n_queries):
        at = i + n_keys - n_queries
        first = 0 if left < 0 else max(0, at - left)
        end = n_keys if right < 0 else min(n_keys, at + right + 1)
        if end <= first:
            rows.append((0 * q[i] + 0 * v.sum()).to(q.dtype))
            continue
        group = q.shape[1] // k.shape[1]
        keys, values = (x[first:end].repeat_interleave(group, 1).float() for x in (k, v))
        weights = torch.einsum("hk,shk->hs", q[i].float(), keys) * (scale or q.shape[-1] ** -0.5)
        rows.append(torch.einsum("hs,shk->hk", weights.softmax(-1), values).to(q.dtype))
    return torch.stack(rows)


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """x (B, C, T), weight (C, W), initial_states (B, C, W - 1), seq_idx (B, T)."""
    assert activation in (None, "silu", "swish")
    assert 2 <= weight.shape[1] <= 4 and weight.dtype == x.dtype and (bias is None or bias.dtype == x.dtype)
    assert x.stride(1) == 1, "channels innermost: the layout that takes seq_idx and initial_states"
    assert x.shape[1] % 8 == 0 and x.stride(0) % 8 == 0 and x.stride(2) % 8 == 0, "strides are multiples of 8"
    assert x.storage_offset() % 8 == 0, "eight numbers are read at once"
    width = weight.shape[1]
    if seq_idx is not None:
        assert initial_states is None, "either an initial state or documents"
        assert seq_idx.dtype == torch.int32 and seq_idx.is_contiguous() and seq_idx.shape == (x.shape[0], x.shape[2])
    before = torch.zeros(x.shape[0], x.shape[1], width - 1, dtype=x.dtype)
    if initial_states is not None:
        assert initial_states.shape == before.shape and initial_states.dtype == x.dtype and initial_states.stride(1) == 1
        before = initial_states
    whole, outputs = torch.cat([before, x], 2).float(), []
    for t in range(x.shape[2]):
        y = torch.zeros_like(whole[:, :, 0]) if bias is None else bias.float().expand(x.shape[:2])
        for w in range(width):
            shift = width - 1 - w
            term = whole[:, :, t + w] * weight[:, w].float()
            if seq_idx is not None and shift:
                same = torch.zeros(x.shape[0], dtype=torch.bool) if t < shift else seq_idx[:, t - shift] == seq_idx[:, t]
                term = term * same[:, None]
            y = y + term
        outputs.append(F.silu(y) if activation else y)
    return torch.stack(outputs, 1).to(x.dtype).transpose(1, 2)  # in the layout of x


def causal_conv1d_update(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """x (B, C), conv_state (B, C, at least W - 1), which is shifted where it lies."""
    assert activation in (None, "silu", "swish")
    assert conv_state.dtype == x.dtype == weight.dtype and conv_state.shape[2] >= weight.shape[1] - 1
    assert not torch.is_grad_enabled(), "it overwrites the state"
    window = torch.cat([conv_state[:, :, -(weight.shape[1] - 1) :], x.unsqueeze(2)], 2)
    conv_state.copy_(torch.cat([conv_state, x.unsqueeze(2)], 2)[:, :, 1:])
    y = (window.float() * weight.float()).sum(2) + (0 if bias is None else bias.float())
    return (F.silu(y) if activation else y).to(x.dtype)


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
) -> Any:
    """x (B, T, H, P), dt (B, T, H), A and D (H), B and C (B, T, G, N), initial_states (B, H, P, N), seq_idx (B, T)."""
    assert z is dt_bias is cu_seqlens is None and not dt_softplus and dt_limit == (0.0, float("inf"))
    assert chunk_size >= 16 and chunk_size & (chunk_size - 1) == 0, "a power of two, and no smaller tiles"
    assert dt.dtype == A.dtype == torch.float32 and (D is None or D.dtype == torch.float32)
    assert B.dtype == C.dtype == x.dtype
    assert seq_idx is None or (seq_idx.dtype == torch.int32 and seq_idx.shape == x.shape[:2])
    group = x.shape[2] // B.shape[2]
    state = torch.zeros(x.shape[0], *x.shape[2:], B.shape[3]) if initial_states is None else initial_states.float()
    outputs = []
    for t in range(x.shape[1]):
        if seq_idx is not None:
            before = torch.zeros_like(seq_idx[:, 0]) if t == 0 else seq_idx[:, t - 1]
            state = torch.where((seq_idx[:, t] == before)[:, None, None, None], state, torch.zeros(()))
        b, c = (m[:, t].float().repeat_interleave(group, 1) for m in (B, C))
        update = dt[:, t, :, None, None] * x[:, t].float()[..., None] * b[:, :, None]
        state = torch.exp(dt[:, t] * A)[..., None, None] * state + update
        y = (state * c[:, :, None]).sum(-1) + (0 if D is None else D[:, None] * x[:, t].float())
        outputs.append(y.to(x.dtype))
    y = torch.stack(outputs, 1)
    return (y, state) if return_final_states else y


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """state (B, H, P, N), which is overwritten; x, dt (B, H, P), A (H, P, N), B and C (B, G, N), D and dt_bias (H, P)."""
    assert z is None and not dt_softplus and not torch.is_grad_enabled(), "it overwrites the state"
    assert dt_bias is not None and dt.stride(-1) == A.stride(-1) == A.stride(-2) == dt_bias.stride(-1) == 0, "one decay a head"
    assert A.shape == state.shape[1:] and dt.shape == x.shape == state.shape[:3]
    group = x.shape[1] // B.shape[1]
    dt = dt + dt_bias
    b, c = (m.float().repeat_interleave(group, 1)[:, :, None] for m in (B, C))
    state.copy_(torch.exp(dt[..., None] * A) * state + (dt * x.float())[..., None] * b)
    y = (state.float() * c).sum(-1) + (0 if D is None else D * x.float())
    return y.to(x.dtype)


def mamba3_siso_combined(
    Q: Tensor,
    K: Tensor,
    V: Tensor,
    ADT: Tensor,
    DT: Tensor,
    Trap: Tensor,
    Q_bias: Tensor,
    K_bias: Tensor,
    Angles: Tensor,
    D: Tensor | None = None,
    Z: Tensor | None = None,
    Input_States: Any = None,
    chunk_size: int = 64,
    return_final_states: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor:
    """Q, K (B, T, G, N), V (B, T, H, P), ADT, DT, Trap (B, H, T), biases (H, N), Angles (B, T, H, R)."""
    assert D is Z is Input_States is None and not return_final_states
    n_batch, n_time, n_heads, _ = V.shape
    n_angles, N = Angles.shape[3], Q.shape[3]
    assert ADT.shape == DT.shape == Trap.shape == (n_batch, n_heads, n_time) and ADT.dtype == DT.dtype == torch.float32
    assert Angles.shape[:3] == V.shape[:3] and n_angles <= N // 2 and n_angles % 2 == 0
    assert Q_bias.shape == K_bias.shape == (n_heads, N) and Q_bias.dtype == torch.float32
    if cu_seqlens is not None:
        assert n_batch == 1 and cu_seqlens.dtype == torch.int32
        ends, outputs = cu_seqlens.tolist(), []
        for a, b in zip(ends, ends[1:], strict=False):
            tokens = [t[:, a:b] for t in (Q, K, V)] + [t[:, :, a:b] for t in (ADT, DT, Trap)]
            outputs.append(mamba3_siso_combined(*tokens, Q_bias, K_bias, Angles[:, a:b]))
        return torch.cat(outputs, 1)
    group = n_heads // Q.shape[2]
    angle, state = torch.zeros(n_batch, n_heads, n_angles), torch.zeros(n_batch, n_heads, V.shape[3], N)
    written, outputs = torch.zeros_like(state), []
    for t in range(n_time):
        angle = angle + torch.tanh(Angles[:, t].float()) * torch.pi * DT[:, :, t, None]
        q, k = (m[:, t].float().repeat_interleave(group, 1) + b for m, b in ((Q, Q_bias), (K, K_bias)))
        turns = torch.ones(n_batch, n_heads, N // 2, dtype=torch.complex64)
        turns[..., :n_angles] = torch.polar(torch.ones_like(angle), angle)
        q, k = (torch.view_as_real(torch.view_as_complex(m.unflatten(-1, (-1, 2))) * turns).flatten(-2) for m in (q, k))
        share, dt = torch.sigmoid(Trap[:, :, t].float()), DT[:, :, t]
        state = ADT[:, :, t].exp()[..., None, None] * (state + ((1 - share) * dt)[..., None, None] * written)
        written = V[:, t].float()[..., None] * k[:, :, None]
        state = state + (share * dt)[..., None, None] * written
        outputs.append((state * q[:, :, None]).sum(-1).to(V.dtype))
    return torch.stack(outputs, 1)


def chunk_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """q, k (B, T, H, K), v (B, T, H, V), g and beta (B, T, H), states (sequences, H, V, K) where `state_v_first`."""
    assert g.shape == beta.shape == v.shape[:3]
    return _delta(q, k, v, g.unsqueeze(-1), beta, scale, initial_state, output_final_state, state_v_first, cu_seqlens)


def chunk_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The same with g (B, T, H, K)."""
    assert g.shape == k.shape and beta.shape == v.shape[:3]
    return _delta(q, k, v, g, beta, scale, initial_state, output_final_state, state_v_first, cu_seqlens)


def fused_recurrent_gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    gk: Tensor | None = None,
    gv: Tensor | None = None,
    beta: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    assert g is not None and beta is not None and gk is gv is None and not torch.is_grad_enabled(), "it has no backward"
    return chunk_gated_delta_rule(q, k, v, g, beta, scale, initial_state, output_final_state, state_v_first)


def fused_recurrent_kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    state_v_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    assert not torch.is_grad_enabled(), "it has no backward"
    return chunk_kda(q, k, v, g, beta, scale, initial_state, output_final_state, state_v_first)


def _delta(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None, initial_state: Tensor | None,
    output_final_state: bool, state_v_first: bool, cu_seqlens: Tensor | None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    assert q.dtype == k.dtype == v.dtype != torch.float32, "its backward takes no float32"
    assert k.shape[-1] <= 256
    if cu_seqlens is not None:
        assert v.shape[0] == 1 and cu_seqlens.dtype == torch.int64, "sequences laid end to end in one row"
        ends = cu_seqlens.tolist()
        assert ends[0] == 0 and ends[-1] == v.shape[1] and initial_state is None and not output_final_state
        parts = [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]
        outputs = [_delta_of_one(*(t[:, p] for t in (q, k, v, g, beta)), scale, None)[0] for p in parts]
        return torch.cat(outputs, 1), None
    if initial_state is not None:
        assert initial_state.dtype == torch.float32
        initial_state = initial_state if state_v_first else initial_state.transpose(-1, -2)
    o, state = _delta_of_one(q, k, v, g, beta, scale, initial_state)
    return o, (state if state_v_first else state.transpose(-1, -2)) if output_final_state else None


def _delta_of_one(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, scale: float | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    scale, outputs = q.shape[-1] ** -0.5 if scale is None else scale, []
    state = torch.zeros(v.shape[0], *v.shape[2:], k.shape[-1]) if state is None else state
    for t in range(v.shape[1]):
        key = k[:, t].float()
        state = state * g[:, t].float().exp()[:, :, None]
        error = v[:, t].float() - torch.einsum("bhvk,bhk->bhv", state, key)
        state = state + torch.einsum("bh,bhv,bhk->bhvk", beta[:, t].float(), error, key)
        outputs.append(torch.einsum("bhvk,bhk->bhv", state, scale * q[:, t].float()).to(v.dtype))
    return torch.stack(outputs, 1), state
