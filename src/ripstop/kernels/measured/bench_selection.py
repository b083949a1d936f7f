"""`python -m ripstop bench selection`: dense and sparse attention on this device, forward, backward and for one token.

Every form computes attention alone, on random tensors: dense is SDPA as the mixers call it; torch and triton are the three
branches of natively sparse attention (arXiv 2502.11089) with its sizes, gated and summed.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ripstop import provenance
from ripstop.config import ConfigError
from ripstop.kernels import sparse_attention
from ripstop.kernels.measured.selection import MARGIN, Part, Row, pays_from
from ripstop.ops import softmax_attention
from ripstop.ops.sparse_attention import Blocks

BLOCKS, WINDOW = Blocks(32, 16, 64, 16), 512
CUDA_LENGTHS: tuple[int, ...] = (2048, 4096, 8192, 16384, 32768, 65536)
CPU_LENGTHS: tuple[int, ...] = (1024, 2048, 4096)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
PATIENCE = 2.0
"""Seconds that one call of a form may take; longer sequences are then left out for it."""


class Sizes(NamedTuple):
    """Heads, groups of them with keys and values in common, and their width."""

    heads: int
    groups: int
    head_dim: int


def asked_for(
    lengths: Iterable[int] = (), heads: int | None = None, groups: int | None = None, head_dim: int | None = None,
    dtype: str | None = None, margin: float = MARGIN,
) -> tuple[torch.device, Sizes, tuple[int, ...], torch.dtype]:  # fmt: skip
    """What `measure` takes: on a GPU if there is one, with the paper's heads and groups; on a CPU in miniature.

    margin: of `recommendation`; whether it is one is seen before anything is measured.
    """
    if torch.cuda.is_available():
        device, usual, usual_lengths, usual_dtype = torch.device("cuda"), Sizes(64, 4, 128), CUDA_LENGTHS, "bfloat16"
    else:
        device, usual, usual_lengths, usual_dtype = torch.device("cpu"), Sizes(4, 2, 32), CPU_LENGTHS, "float32"
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype}: there is {', '.join(DTYPES)}")
    for option, n in (("heads", heads), ("groups", groups), ("head-dim", head_dim)):
        if n is not None and n < 1:
            raise ConfigError(f"--{option} {n}: take 1 or more")
    if not 0 <= margin < math.inf:
        raise ConfigError(f"--margin {margin}: is a part of a time, 0 or more, such as {MARGIN}")
    sizes = Sizes(heads or usual.heads, groups or usual.groups, head_dim or usual.head_dim)
    if sizes.heads % sizes.groups:
        raise ConfigError(f"--heads {sizes.heads} is no multiple of --groups {sizes.groups}; choose one that is")
    chosen = tuple(sorted(set(lengths) or usual_lengths))
    if chosen[0] < BLOCKS.compress_block:
        raise ConfigError(f"--lengths {chosen[0]}: shorter than a compressed block of {BLOCKS.compress_block}; leave it out")
    return device, sizes, chosen, DTYPES[dtype or usual_dtype]


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else provenance.processor()


def measure(device: torch.device, sizes: Sizes, lengths: tuple[int, ...], dtype: torch.dtype) -> Iterator[Row]:
    """Row after row, as they are measured."""
    forms: dict[str, Callable[[_Inputs], Tensor]] = {"dense": _dense, "torch": lambda x: _sparse("torch", x)}
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        forms["triton"] = lambda x: _sparse("triton", x)
    for length in sorted(lengths):
        for form, run in list(forms.items()):
            try:
                times = _times(run, device, sizes, length, dtype)
            except torch.cuda.OutOfMemoryError:
                del forms[form]
                continue
            yield Row(device_name(device), str(dtype).removeprefix("torch."), *sizes, length, form, *times)
            if times[0] + times[1] > 1000 * PATIENCE:
                del forms[form]


def _times(
    run: Callable[[_Inputs], Tensor], device: torch.device, sizes: Sizes, length: int, dtype: torch.dtype
) -> tuple[float, float, float]:
    """Milliseconds forward, backward, and of one token."""
    whole, one = _Inputs(device, sizes, length, length, dtype), _Inputs(device, sizes, length, 1, dtype)
    with torch.no_grad():
        forward, decode = _milliseconds(lambda: run(whole), device), _milliseconds(lambda: run(one), device)
    y = run(whole)

    def backward() -> object:
        return torch.autograd.grad(y, whole.differentiated, whole.dy, retain_graph=True, allow_unused=True)

    return forward, _milliseconds(backward, device), decode


def recommendation(rows: list[Row], device: str, margin: float = MARGIN) -> Iterator[str]:
    """Sentences: from which length on which form is faster on the device, in each precision."""
    parts: tuple[Part, ...] = ("training", "forward", "decode")
    for dtype in sorted({row.dtype for row in rows if row.device == device}):
        forms = {row.form for row in rows if (row.device, row.dtype) == (device, dtype)}
        for form, against in (("triton", "torch"), ("triton", "dense"), ("torch", "dense")):
            if {form, against} <= forms:
                found = {part: pays_from(rows, device, dtype, part, form, against, margin) for part in parts}
                said = ", ".join(f"{part} {'at no length' if n is None else f'from {n} tokens'}" for part, n in found.items())
                yield f"{device}, {dtype}: {form} is faster than {against} by {margin:.0%}: {said}"


class _Inputs:
    """Random tensors: queries, keys and values of three branches, gates."""

    def __init__(self, device: torch.device, sizes: Sizes, n_keys: int, n_queries: int, dtype: torch.dtype):
        heads, groups, width = sizes

        def tensor(*shape: int) -> Tensor:
            return torch.randn(1, *shape, device=device, dtype=dtype).requires_grad_()

        self.n_past = n_keys - n_queries
        self.q, self.gates, self.dy = (
            tensor(n_queries, heads, width),
            tensor(n_queries, heads, 3),
            tensor(n_queries, heads, width),
        )
        self.compressed = [tensor(BLOCKS.n_compressed(n_keys), groups, width) for _ in range(2)]
        self.selected = [tensor(n_keys, groups, width) for _ in range(2)]
        self.window = [tensor(n_keys if n_queries > 1 else min(n_keys, WINDOW), groups, width) for _ in range(2)]
        self.differentiated = [self.q, *self.compressed, *self.selected, *self.window, self.gates]


def _dense(x: _Inputs) -> Tensor:
    return softmax_attention.attention(x.q, x.selected[0], x.selected[1])


def _sparse(backend: str, x: _Inputs) -> Tensor:
    y, ids, _ = sparse_attention.compress_and_select(backend, x.q, x.compressed[0], x.compressed[1], BLOCKS, x.n_past)
    branches = (
        y,
        sparse_attention.selected_attention(backend, x.q, x.selected[0], x.selected[1], ids, BLOCKS.select_block),
        sparse_attention.window_attention(backend, x.q, x.window[0], x.window[1], WINDOW),
    )
    return sparse_attention.gated_sum(backend, x.selected[0].shape[1], x.gates, *branches)


def _milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Median of 3 to 20 calls in a third of a second; one before them, which compiles what there is to compile."""

    def once() -> float:
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    once()
    times = [once()]
    while len(times) < 3 or (sum(times) < 0.3 and len(times) < 20):
        times.append(once())
    return round(1000 * statistics.median(times), 4)
