"""Natively sparse attention on a GPU: the Triton kernels proved against dense attention under masks, then timed beside SDPA.

    PYTHONPATH=src python benchmarks/sparse_attention_cuda.py --out benchmarks/results/sparse_attention_cuda.json

Sizes are the paper's (arXiv 2502.11089): 64 query heads in 4 groups, keys of 192 and values of 128, l = 32, d = 16, l' = 64,
n = 16, w = 512, bfloat16, one sequence. Data are random, so that neighbouring queries share few of their blocks: the worst
case for the cache. "whole" is the gated sum of the three branches with the selection; dense is the fastest SDPA kernel
that takes the sizes. Times are medians by events of the device, the first call apart. Kernels are compiled beforehand by as
many processes as there are cores. --tune times each kernel in several launches at 32k, and measures all with the fastest.

Needs torch and triton only; every result is printed as it comes, and the file is written anew after each step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ripstop.ops.segments import Segments
from ripstop.ops.sparse_attention import (
    Blocks,
    Documents,
    compressed_attention_reference,
    importance_reference,
    position_of,
    select_reference,
    selected_attention_reference,
)
from ripstop.ops.window_attention import window_attention_reference

DEVICE = "cuda"
LENGTHS = (4096, 8192, 16384, 32768, 65536)
HEADS, GROUPS, K, P = 64, 4, 192, 128
BLOCKS, WINDOW = (32, 16, 64, 16), 512
L, D, BLOCK, N = BLOCKS
TUNED_AT = 32768
# Launches (rows, columns, warps, stages) to try, the module's own apart.
CANDIDATES = {
    "compressed": [(64, 32, 4, 3), (64, 32, 4, 2), (64, 64, 4, 1), (128, 64, 8, 2), (128, 64, 8, 3), (128, 32, 8, 3)],
    "compressed_dq": [(64, 32, 4, 3), (64, 32, 4, 2), (64, 64, 4, 1), (128, 64, 8, 2), (128, 64, 8, 1), (128, 32, 8, 2)],
    "compressed_dkv": [(32, 128, 8, 2), (64, 128, 8, 1), (32, 128, 8, 3), (64, 64, 4, 1), (32, 64, 4, 2), (32, 64, 4, 1)],
    "scores": [
        (64, 64, 4, 2),
        (128, 64, 4, 2),
        (64, 128, 4, 2),
        (64, 128, 4, 1),
        (128, 128, 8, 2),
        (64, 64, 4, 3),
        (128, 64, 8, 2),
    ],
    "selected": [(16, 64, 2, 1), (16, 32, 2, 2), (16, 32, 1, 2), (16, 64, 2, 3), (16, 64, 1, 2), (16, 32, 2, 3)],
    "selected_dq": [(16, 64, 2, 1), (16, 64, 2, 2), (16, 32, 2, 2), (16, 32, 1, 2), (16, 32, 1, 3)],
    "selected_dkv": [(32, 64, 4, 1), (32, 64, 4, 3), (16, 64, 4, 2), (32, 64, 8, 2), (16, 64, 2, 2), (32, 64, 2, 2)],
    "window": [(64, 64, 4, 1), (64, 32, 4, 2), (64, 32, 4, 3), (128, 64, 8, 3)],
    "window_dq": [(64, 32, 4, 2), (64, 64, 4, 1), (64, 64, 4, 2), (128, 32, 8, 2)],
    "window_dkv": [(32, 64, 4, 2), (32, 128, 8, 2), (64, 64, 4, 1), (64, 64, 8, 2)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--fla", action="store_true", help="time fla's parallel_nsa as well, where it is installed")
    parser.add_argument("--warm", action="store_true", help="compile what `python -m ripstop bench selection` will launch, too")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    given = parser.parse_args()
    began = time.perf_counter()
    if not torch.cuda.is_available():
        print("needs a CUDA device: nothing is measured, nothing is written")
        return
    from ripstop.kernels.triton import tiles

    compile_beforehand(given.tune, given.warm)
    print(f"compiled after {time.perf_counter() - began:.0f} s", flush=True)
    result: dict[str, Any] = {"device": torch.cuda.get_device_name(), "versions": versions(), "sizes": sizes()}

    def keep(name: str, value: Any) -> None:
        result[name] = value
        given.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"[{time.perf_counter() - began:4.0f} s] {name}: {json.dumps(value)}", flush=True)

    keep("errors", {})
    for name, of in CASES.items():
        with reported(result["errors"], name):
            keep("errors", result["errors"] | {name: prove(of)})
    if given.tune:
        keep("tuning", {})
        for kernel in CANDIDATES:
            with reported(result["tuning"], kernel):
                keep("tuning", result["tuning"] | {kernel: tune(kernel)})
    keep("launches", {kernel: tuple(launches[0]) for kernel, launches in tiles.LAUNCHES.items()})
    keep("milliseconds", {})
    for n_time in given.lengths:
        with reported(result["milliseconds"], str(n_time)):
            keep("milliseconds", result["milliseconds"] | {str(n_time): measure(n_time)})
        torch.cuda.empty_cache()
    with reported(result, "kernels"):
        keep("kernels", kernels(max(given.lengths)))
    keep("decode", {})
    for n_keys in given.lengths:
        with reported(result["decode"], str(n_keys)):
            keep("decode", result["decode"] | {str(n_keys): measure_decode(n_keys)})
    if given.fla:
        keep("fla", {})
        for n_time in (4096, 16384, 65536):
            with reported(result["fla"], str(n_time)):
                keep("fla", result["fla"] | {str(n_time): measure_fla(n_time)})
    print(table(result), flush=True)


def versions() -> dict[str, str]:
    import triton

    return {"torch": torch.__version__, "triton": triton.__version__, "cuda": str(torch.version.cuda)}


def sizes() -> dict[str, int]:
    names = ("heads", "groups", "key", "value", "compress_block", "compress_stride", "select_block", "selected", "window")
    return dict(zip(names, (HEADS, GROUPS, K, P, L, D, BLOCK, N, WINDOW), strict=True))


@contextlib.contextmanager
def reported(where: dict[str, Any], name: str) -> Iterator[None]:
    """One step that fails is said and recorded; the others go on."""
    try:
        yield
    except Exception as error:
        where[name] = f"{type(error).__name__}: {error}"[:500]
        print(f"FAILED {name}: {where[name]}", flush=True)


# Inputs --------------------------------------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    n_keys: int
    n_queries: int
    heads: int = HEADS
    groups: int = GROUPS
    k: int = K
    p: int = P
    dtype: torch.dtype = torch.bfloat16
    packed: bool = False

    @staticmethod
    def sequence(n_time: int) -> Sizes:
        return Sizes(n_time, n_time)


class Inputs:
    """Random tensors; on the host memory that nobody fills."""

    def __init__(self, of: Sizes, device: str = DEVICE):
        n_compressed, self.first = of.n_keys // D + 2 if of.packed else (of.n_keys - L) // D + 1, of.n_keys - of.n_queries

        def tensor(*shape: int) -> Tensor:
            if device == "cpu":
                return torch.empty(shape, dtype=of.dtype)
            return torch.randn(shape, device=device).to(of.dtype).requires_grad_()

        self.q = tensor(1, of.n_queries, of.heads, of.k)
        self.compressed = tensor(1, n_compressed, of.groups, of.k), tensor(1, n_compressed, of.groups, of.p)
        self.selected = tensor(1, of.n_keys, of.groups, of.k), tensor(1, of.n_keys, of.groups, of.p)
        self.window = tensor(1, of.n_keys, of.groups, of.k), tensor(1, of.n_keys, of.groups, of.p)
        self.dy = tensor(1, of.n_queries, of.heads, of.p).detach()
        self.gates = tensor(1, of.n_queries, of.heads, 3)
        self.lse = torch.zeros(1, of.n_queries, of.heads, device=device)
        self.ids = torch.zeros(1, of.n_queries, of.groups, N, dtype=torch.int32, device=device)
        self.start = torch.zeros(1, of.n_queries, dtype=torch.int32, device=device) if of.packed else None


# Name, and what is proved.
CASES = {
    "bfloat16, the paper's sizes": Sizes.sequence(1500),
    "bfloat16, 3 heads a group, after a past": Sizes(1512, 1000, 12, 4, 64, 64),
    "bfloat16, one token": Sizes(8001, 1),
    "float16, 1 head a group, documents": Sizes(1000, 1000, 4, 4, 128, 128, torch.float16, True),
    "float32, 4 heads a group, documents": Sizes(1000, 1000, 8, 2, 96, 64, torch.float32, True),
}


# Compilation ---------------------------------------------------------------------------------------------------------------


def compile_beforehand(tune: bool, warm: bool) -> None:
    """Fills Triton's cache by processes that know the device's architecture, but do not touch the device."""
    from ripstop.kernels.triton import tiles

    sizes = [*CASES.values(), *map(Sizes.sequence, LENGTHS), *(Sizes(n, 1) for n in LENGTHS)]
    if warm:
        sizes += [Sizes(n, n_queries, 64, 4, 128, 128) for n in (2048, *LENGTHS) for n_queries in (n, 1)]
    sizes.sort(key=lambda of: of.dtype != torch.float32)  # these take longest
    kernels = ("compressed", "compressed_dq", "window", "window_dq", "scores", "selected", "selected_dq")
    tasks = [(kernel, None, of) for of in sizes for kernel in kernels if of.n_queries > 1 or not kernel.endswith("dq")]
    if tune:
        tasks += [(kernel, launch, Sizes.sequence(TUNED_AT)) for kernel, all_ in CANDIDATES.items() for launch in all_]
    major, minor = torch.cuda.get_device_capability()
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    work = [(*task, 10 * major + minor, processors) for task in tasks]
    tiles._shared_memory(torch.device("cuda"))
    with multiprocessing.get_context("fork").Pool(min(len(os.sched_getaffinity(0)), len(work))) as pool:
        for said in pool.imap_unordered(_compile, work):
            if said:
                print(said, flush=True)


def _compile(task: tuple[str, tuple[int, ...] | None, Sizes, int, int]) -> str | None:
    try:
        compile_for(*task)
    except Exception as error:
        return f"not compiled beforehand: {task[:3]}: {type(error).__name__}: {str(error)[:200]}"
    return None


def compile_for(kernel: str, launch: tuple[int, ...] | None, of: Sizes, capability: int, processors: int) -> None:
    """Runs the functions around a kernel on tensors of the host, and compiles what they would launch."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from ripstop.kernels.triton import partial_softmax, tiles

    class Absent:
        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", capability, 32)

    if not hasattr(JITFunction, "launching_run"):
        driver.set_active(Absent())
        JITFunction.launching_run = JITFunction.run

        def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
            return JITFunction.launching_run(self, *args, grid=grid, warmup=True, **kwargs)

        JITFunction.run = run
        partial_softmax._processors = lambda device: processors
        torch.set_num_threads(1)
    before = tiles.LAUNCHES[kernel]
    if launch is not None:
        use(kernel, launch)
    call_of(kernel, Inputs(of, "cpu"))()
    tiles.LAUNCHES[kernel] = before


def use(kernel: str, launch: tuple[int, ...]) -> None:
    from ripstop.kernels.triton import tiles

    tiles.LAUNCHES[kernel] = (tiles.Launch(*launch), tiles.LAUNCHES[kernel][1])


# Calls ---------------------------------------------------------------------------------------------------------------------


def settings(x: Inputs) -> dict[str, tuple[Any, ...]]:
    """What the functions around the kernels are given after the queries."""
    scale = x.q.shape[-1] ** -0.5
    return {
        "compressed": (*x.compressed, x.start, L, D, 0, x.first, scale),
        "window": (*x.window, x.start, 1, 1, WINDOW, x.first, scale),
        "selected": (*x.selected, x.ids, x.start, BLOCK, x.first, scale),
    }


@torch.no_grad()
def forward(x: Inputs, branch: str) -> tuple[Tensor, Tensor]:
    from ripstop.kernels.triton import selected_forward, strided_forward

    function = selected_forward.forward if branch == "selected" else strided_forward.forward
    return function(x.q, *settings(x)[branch])


@torch.no_grad()
def backward(x: Inputs, branch: str, y: Tensor, lse: Tensor) -> tuple[Tensor, ...]:
    from ripstop.kernels.triton import selected_backward, strided_backward

    function = selected_backward.backward if branch == "selected" else strided_backward.backward
    return function(x.dy, y, lse, x.q, *settings(x)[branch])


@torch.no_grad()
def select(x: Inputs) -> Tensor:
    from ripstop.kernels.triton.block_selection import select_blocks

    return select_blocks(x.q, x.compressed[0], x.lse, x.start, Blocks(*BLOCKS), x.first, x.q.shape[-1] ** -0.5)[0]


def call_of(kernel: str, x: Inputs) -> Callable[[], Any]:
    """The smallest function that runs the kernel."""
    branch = kernel.split("_")[0]
    if kernel == "scores":
        return lambda: select(x)
    if kernel == branch:
        return lambda: forward(x, branch)
    return lambda: backward(x, branch, x.dy, x.lse)


def whole(x: Inputs, window_size: int = WINDOW) -> Tensor:
    """The three branches, gated and summed."""
    from ripstop.kernels.triton.gated_sum import gated_sum
    from ripstop.kernels.triton.sparse_attention import compress_and_select, selected_attention
    from ripstop.kernels.triton.window_attention import window_attention

    y, ids, _ = compress_and_select(x.q, *x.compressed, Blocks(*BLOCKS), x.first)
    y_selected = selected_attention(x.q, *x.selected, ids, BLOCK)
    return gated_sum(x.gates, y, y_selected, window_attention(x.q, *x.window, window_size))


# Proof ---------------------------------------------------------------------------------------------------------------------


def prove(of: Sizes) -> dict[str, Any]:
    """Relative errors |x - reference| / |reference| of outputs and gradients; the reference is by definition, under masks, in
    float32, or float64 where the kernels compute in float32."""
    from ripstop.kernels.triton.sparse_attention import compress_and_select, selected_attention
    from ripstop.kernels.triton.window_attention import window_attention

    torch.manual_seed(0)
    x, blocks, errors = Inputs(of), Blocks(*BLOCKS), {}
    # Documents of 200, 1 and 600 tokens and of what is left, none but the first of which begins at a block.
    numbers = torch.bucketize(torch.arange(of.n_keys, device=DEVICE), torch.tensor([200, 201, 801], device=DEVICE), right=True)
    segments = Segments.of(numbers.unsqueeze(0)) if of.packed else None
    documents = Documents.of(segments)
    start = None if segments is None else segments.start_BT
    dtype = torch.float64 if of.dtype == torch.float32 else torch.float32
    q, kc, vc, ks, vs, kw, vw = (t.detach().to(dtype).requires_grad_() for t in (x.q, *x.compressed, *x.selected, *x.window))

    y, ids, _ = compress_and_select(x.q, *x.compressed, blocks, x.first, documents)
    exact, weights = compressed_attention_reference(q, kc, vc, blocks, x.first, documents)
    compare(errors, "compressed", y, exact, (x.q, *x.compressed), (q, kc, vc))
    importance = importance_reference(weights.detach(), of.groups, blocks, x.first, documents)
    wanted = select_reference(importance, blocks, position_of(of.n_queries, x.first, documents, q.device))
    errors["selection"] = differences(ids, wanted, importance)
    y = selected_attention(x.q, *x.selected, ids, BLOCK, documents)
    exact = selected_attention_reference(q, ks, vs, ids, BLOCK, documents)
    compare(errors, "selected", y, exact, (x.q, *x.selected), (q, ks, vs))
    y = window_attention(x.q, *x.window, WINDOW, start)
    exact = window_attention_reference(q, kw, vw, WINDOW, 0, segments)
    compare(errors, "window", y, exact, (x.q, *x.window), (q, kw, vw))
    return errors


def compare(
    errors: dict[str, Any], name: str, y: Tensor, exact: Tensor, inputs: tuple[Tensor, ...], exact_inputs: tuple[Tensor, ...]
) -> None:
    dy = torch.randn_like(y)
    found = [y, *torch.autograd.grad(y, inputs, dy)]
    wanted = [exact, *torch.autograd.grad(exact, exact_inputs, dy.to(exact.dtype))]
    relative = [((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in zip(found, wanted, strict=True)]
    errors[name] = dict(zip(("y", "dq", "dk", "dv"), (float(f"{e:.2e}") for e in relative), strict=True))


def differences(ids: Tensor, wanted: Tensor, importance: Tensor) -> dict[str, float]:
    """How many selected blocks are not the reference's, and by which part the least important of those taken falls short of the
    least important of the reference's, at most: where it is rounding, it is tiny."""
    least = [importance.gather(-1, i.clamp(min=0).long()).masked_fill(i < 0, torch.inf) for i in (ids, wanted)]
    different = (ids.sort(-1).values != wanted.sort(-1).values).any(-1)
    # Forced blocks stand in both, whatever their importance: only what is in one of them counts.
    lone = [
        part.masked_fill((a.unsqueeze(-1) == b.unsqueeze(-2)).any(-1), torch.inf).amin(-1)
        for part, a, b in ((least[0], ids, wanted), (least[1], wanted, ids))
    ]
    short = ((lone[1] - lone[0]) / lone[1])[different]
    gap = short.max().item() if len(short) else 0.0
    return {"rows that differ": int(different.sum()), "of": different.numel(), "gap": float(f"{gap:.1e}")}


# Time ----------------------------------------------------------------------------------------------------------------------


def milliseconds(call: Callable[[], Any], seconds: float = 0.15) -> float:
    """Median by events, of at least 3 calls and of as many as fit into the seconds; one call before them."""
    call()
    torch.cuda.synchronize()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - began < seconds and len(times) < 50):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return round(statistics.median(times), 4)


def forward_and_backward(call: Callable[[], Tensor], inputs: tuple[Tensor, ...], dy: Tensor) -> dict[str, float]:
    with torch.no_grad():
        forward = milliseconds(call)
    y = call()
    backward = milliseconds(lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True))
    return {"forward": forward, "backward": backward}


def tune(kernel: str) -> dict[str, Any]:
    """Milliseconds of each launch; the fastest stays in use."""
    from ripstop.kernels.triton import tiles

    x = Inputs(Sizes.sequence(TUNED_AT))
    _, x.lse = forward(x, "compressed")
    x.ids = select(x)
    times: dict[str, Any] = {}
    for launch in [tuple(tiles.LAUNCHES[kernel][0]), *CANDIDATES[kernel]]:
        use(kernel, launch)
        with reported(times, str(launch)):
            times[str(launch)] = milliseconds(call_of(kernel, x), 0.05)
    measured = {name: t for name, t in times.items() if isinstance(t, float)}
    best = min(measured, key=measured.__getitem__)
    use(kernel, tuple(int(n) for n in best.strip("()").split(",")))
    return {"best": best, **times}


def measure(n_time: int) -> dict[str, Any]:
    """Every kernel, the whole, and dense attention."""
    torch.manual_seed(1)
    x, found = Inputs(Sizes.sequence(n_time)), {}
    _, x.lse = forward(x, "compressed")
    x.ids = select(x)
    found["selection"] = {"forward": milliseconds(lambda: select(x))}
    for branch in settings(x):
        y, lse = forward(x, branch)
        found[branch] = {
            "forward": milliseconds(lambda branch=branch: forward(x, branch)),
            "backward": milliseconds(lambda given=(branch, y, lse): backward(x, *given)),
        }
    inputs = (x.q, *x.compressed, *x.selected, *x.window, x.gates)
    torch.cuda.reset_peak_memory_stats()
    found["whole"] = forward_and_backward(lambda: whole(x), inputs, x.dy)
    found["whole"]["gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    torch.cuda.empty_cache()
    for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
        with reported(found, f"dense, {name}"), sdpa_kernel(backend):
            found[f"dense, {name}"] = forward_and_backward(lambda p=name == "flash": dense(x, p), (x.q, *x.window), x.dy)
        torch.cuda.empty_cache()
    times = [t for name, t in found.items() if name.startswith("dense") and isinstance(t, dict)]
    if times:
        found["faster than dense"] = {
            part: round(min(t[part] for t in times) / found["whole"][part], 3) for part in ("forward", "backward")
        }
    return found


def kernels(n_time: int) -> dict[str, float]:
    """Milliseconds of every kernel of a forward and backward of the whole."""
    from torch.profiler import ProfilerActivity, profile

    x = Inputs(Sizes.sequence(n_time))
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        torch.autograd.grad(whole(x), (x.q, *x.compressed, *x.selected, *x.window, x.gates), x.dy)
        torch.cuda.synchronize()
    times = {event.key[:60]: event.device_time_total / 1000 for event in profiled.key_averages()}
    return {name: round(t, 3) for name, t in sorted(times.items(), key=lambda item: -item[1]) if t > 0.05}


def dense(x: Inputs, padded: bool) -> Tensor:
    """SDPA. padded: with values as wide as keys, for kernels that know one width only."""
    q, (k, v) = x.q, x.window
    v = F.pad(v, (0, K - P)) if padded else v
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    causal = q.shape[2] == k.shape[2]
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True).transpose(1, 2)[..., :P]


def measure_decode(n_keys: int) -> dict[str, Any]:
    """One token after n_keys - 1: captured as a graph, so that launches cost next to nothing."""
    x = Inputs(Sizes(n_keys, 1))
    found: dict[str, Any] = {}

    # What a ring buffer holds is what the token sees.
    ring = Inputs(Sizes(n_keys, 1))
    ring.window = tuple(t[:, -WINDOW:] for t in ring.window)
    with torch.no_grad():
        found["whole"] = milliseconds(replay(lambda: whole(ring, 0)))
        for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            with reported(found, f"dense, {name}"), sdpa_kernel(backend):
                found[f"dense, {name}"] = milliseconds(replay(lambda p=name == "flash": dense(x, p)))
        # SDPA gives every query head a program of its own; as many queries of one head read the keys once for all.
        with reported(found, "dense, heads as queries"), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            found["dense, heads as queries"] = milliseconds(replay(lambda: grouped(x)))
    return found


def grouped(x: Inputs) -> Tensor:
    q = x.q.unflatten(2, (GROUPS, -1)).squeeze(1)  # (1, G, R, K)
    k, v = (t.transpose(1, 2) for t in (x.window[0], F.pad(x.window[1], (0, K - P))))
    return F.scaled_dot_product_attention(q, k, v)[..., :P]


def replay(call: Callable[[], Any]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def measure_fla(n_time: int) -> dict[str, Any]:
    """fla's parallel_nsa and ours at sizes that both take: keys and values of 128, given blocks, the selected branch alone."""
    from fla.ops.nsa import parallel_nsa

    from ripstop.kernels.triton.sparse_attention import selected_attention

    torch.manual_seed(2)
    q, k, v = (torch.randn(1, n_time, n, 128, device=DEVICE, dtype=torch.bfloat16).requires_grad_() for n in (64, 4, 4))
    own = torch.arange(n_time, device=DEVICE)[:, None] // BLOCK
    rank = torch.rand(n_time, GROUPS, n_time // BLOCK, device=DEVICE)
    i = torch.arange(n_time // BLOCK, device=DEVICE)
    rank = rank.masked_fill((i > own).unsqueeze(1), -1)
    best = rank.topk(min(N, n_time // BLOCK), -1)
    ids = best.indices.masked_fill(best.values < 0, n_time).sort(-1).values
    ids = ids.masked_fill(ids == n_time, -1).to(torch.int32).unsqueeze(0)
    gate, dy = torch.ones(1, n_time, 64, device=DEVICE, dtype=torch.bfloat16), torch.randn_like(q)
    blocks = ids.long()
    found = {"ours": forward_and_backward(lambda: selected_attention(q, k, v, ids, BLOCK), (q, k, v), dy.detach())}

    def theirs() -> Tensor:
        return parallel_nsa(q, k, v, None, gate, None, block_indices=blocks, block_counts=N, block_size=BLOCK, window_size=0)

    found["fla"] = forward_and_backward(theirs, (q, k, v), dy.detach())
    with torch.no_grad():
        a, b = selected_attention(q, k, v, ids, BLOCK).float(), theirs().float()
    found["difference"] = {"relative": float(f"{((a - b).norm() / b.norm()).item():.1e}")}
    return found


def table(result: dict[str, Any]) -> str:
    lines = [result["device"], "length  part       compressed selection selected window  whole | flash  cudnn | times faster"]
    for n, found in result["milliseconds"].items():
        for part in ("forward", "backward") if isinstance(found, dict) else ():
            names = (
                "compressed",
                "selection",
                "selected",
                "window",
                "whole",
                "dense, flash",
                "dense, cudnn",
                "faster than dense",
            )
            values = [found.get(name) for name in names]
            cells = [f"{v[part]:9.3f}" if isinstance(v, dict) and part in v else "        -" for v in values]
            lines.append(f"{n:>6} {part:9}" + " ".join(cells))
    lines += [f"decode at {n}: {json.dumps(found)}" for n, found in result["decode"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
