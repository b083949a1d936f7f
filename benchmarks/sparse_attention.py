"""Natively sparse attention on a CPU beside its peers: lucidrains' module, dense attention, and a token far into a text.

    OMP_NUM_THREADS=1 python benchmarks/sparse_attention.py --out benchmarks/results/sparse_attention.json

Repetitions are interleaved, medians of wall time are compared. The peak of memory is that of a process of its own for each.
The peer is native-sparse-attention-pytorch 0.2.3 (MIT), where it is installed:

    pip install native-sparse-attention-pytorch==0.2.3
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ripstop import provenance
from ripstop.files import write_text
from ripstop.mixers.attention import AttentionConfig
from ripstop.mixers.base import Mixer, State, filled_bytes
from ripstop.mixers.nsa import NSAConfig

D_MODEL, HEADS = 256, {"n_heads": 4, "n_kv_heads": 2, "head_dim": 64}
PEER = "native_sparse_attention_pytorch"


def sparse() -> Mixer:
    """The paper's sizes of blocks and window."""
    return NSAConfig(**HEADS, phi="mean").build(D_MODEL)


def dense() -> Mixer:
    return AttentionConfig(**HEADS).build(D_MODEL)


def peer() -> nn.Module:
    """lucidrains' module at the same sizes."""
    from native_sparse_attention_pytorch import SparseAttention

    return SparseAttention(
        dim=D_MODEL, dim_head=64, heads=4, kv_heads=2, causal=True, sliding_window_size=512, compress_block_size=32,
        compress_block_sliding_stride=16, selection_block_size=64, num_selected_blocks=16,
    )  # fmt: skip


MODULES: dict[str, Callable[[], nn.Module]] = {"ripstop": sparse, "dense": dense, "peer": peer}


def interleaved(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Medians of milliseconds, after one run each that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {f"{name}_ms": statistics.median(values) for name, values in times.items()}


def forward_backward(module: nn.Module, x_BTD: Tensor) -> Callable[[], None]:
    def run() -> None:
        y_BTD = module(x_BTD)
        y_BTD.sum().backward()

    return run


def forward(module: nn.Module, x_BTD: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            module(x_BTD)

    return run


def training(lengths: list[int], names: list[str], repeats: int) -> list[dict[str, float]]:
    """Forward + backward, and forward alone, of one sequence."""
    rows = []
    for n_time in lengths:
        torch.manual_seed(0)
        x_BTD = torch.randn(1, n_time, D_MODEL)
        modules = {name: MODULES[name]() for name in names}
        row = {"T": n_time, **interleaved({n: forward_backward(m, x_BTD) for n, m in modules.items()}, repeats)}
        row |= {
            f"forward_{key}": value
            for key, value in interleaved({n: forward(m, x_BTD) for n, m in modules.items()}, repeats).items()
        }
        rows.append(row)
        print("  ".join(f"{key} {value:.0f}" for key, value in row.items()), flush=True)
    return rows


def decoding(n_past: int, repeats: int) -> dict[str, float]:
    """One token after `n_past` others, keys and values drawn at random: milliseconds, and bytes of state."""
    row: dict[str, float] = {"T": n_past}
    runs: dict[str, Callable[[], Any]] = {}
    for name in ("ripstop", "dense"):
        mixer = MODULES[name]()
        assert isinstance(mixer, Mixer)
        state = drawn_state(mixer, n_past, n_past + 1)
        row[f"{name}_state_bytes"] = filled_bytes(state)
        runs[name] = step(mixer, state)
    return row | interleaved(runs, repeats)


def drawn_state(mixer: Mixer, n_past: int, room: int) -> State:
    """A state that `n_past` tokens fill, of which the last few hundred were read and the others drawn."""
    with torch.no_grad():
        state = mixer.init_state(1, room)
        for part in state:
            if isinstance(part, Tensor):
                part.normal_()
        lengths = {"length": n_past}
        if hasattr(state, "n_compressed"):
            lengths["n_compressed"] = state.compressed_k.shape[1]
        return state._replace(**lengths)


def step(mixer: Mixer, state: State) -> Callable[[], None]:
    x_BD = torch.randn(1, D_MODEL)

    def run() -> None:
        with torch.no_grad():
            mixer.step(x_BD, state)

    return run


def peak(name: str, n_time: int, backward: bool) -> float:
    """MB that a process of its own holds at most, above what it holds before."""
    command = [sys.executable, __file__, "--peak-of", name, "--lengths", str(n_time), *(["--backward"] if backward else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(name: str, n_time: int, backward: bool) -> None:
    module = MODULES[name]()
    run = forward_backward if backward else forward
    run(module, torch.randn(1, 128, D_MODEL))()
    before = most_kilobytes()
    run(module, torch.randn(1, n_time, D_MODEL))()
    print((most_kilobytes() - before) / 1024)


def most_kilobytes() -> int:
    """The most that this process held. What `getrusage` says begins with what the process that started it held."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "Linux says it there"
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table as JSON here")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="beside the peer")
    parser.add_argument("--long", type=int, nargs="+", default=[8192, 16384, 32768], help="beside dense attention")
    parser.add_argument("--past", type=int, nargs="+", default=[4096, 16384, 65536], help="before a decoded token")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak-of", choices=sorted(MODULES), help=argparse.SUPPRESS)
    parser.add_argument("--backward", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        print_peak(arguments.peak_of, arguments.lengths[0], arguments.backward)
        return
    names = ["ripstop", "dense"]
    if importlib.util.find_spec(PEER) is None:
        print("the peer is not installed (pip install native-sparse-attention-pytorch==0.2.3); its columns are left out")
    else:
        names.append("peer")
    report: dict[str, Any] = {"short": training(arguments.lengths, names, arguments.repeats)}
    report["long"] = training(arguments.long, ["ripstop", "dense"], 1)
    report["decoding"] = [decoding(n, 4 * arguments.repeats) for n in arguments.past]
    for row in report["decoding"]:
        print("one token", row, flush=True)
    report["peak_mb"] = {
        f"{name}_{n_time}": peak(name, n_time, True) for name in names for n_time in arguments.lengths[-2:]
    }  # fmt: skip
    report["prefill_64k_peak_mb"] = peak("ripstop", 65536, False)
    print("peak, MB", report["peak_mb"], "prefill of 65,536 tokens", report["prefill_64k_peak_mb"], flush=True)
    if arguments.out:
        report |= {
            "config": NSAConfig(**HEADS, phi="mean").model_dump(mode="json"), "d_model": D_MODEL, "threads": arguments.threads,
            "device": provenance.processor(), "load": os.getloadavg(), "commit": provenance.commit(),
            "versions": provenance.versions() | {PEER: "0.2.3" if "peer" in names else "none"},
        }  # fmt: skip
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
