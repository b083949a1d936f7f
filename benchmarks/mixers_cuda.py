"""One layer of each mixer on a GPU, computed by torch's own operations and by its kernels, side by side in one process.

    PYTHONPATH=src python benchmarks/mixers_cuda.py --autotune 4 --out benchmarks/results/mixers_cuda.json

Weights and activations are bfloat16. Training is forward and backward of a layer over whole rows, reading the forward alone
without gradients: milliseconds by events of the device, the median and the extremes of several windows, and the peak of memory
with weights and gradients. Decoding is one token after a past that nobody read: the same of steps as they are called, so that
where it is short it is the host's time.

The floor beside each is the larger of two times. Arithmetic: `flops_per_token`, of training three times, over the data
sheet's peak. Bytes, over the rate of a large copy on this device: of training, weights read twice and their gradients written,
and input, output and their gradients once each; of reading, weights, input and output; of a step, the weights, and the state
that it reads, and writes where it is of one size.

`--autotune N` lets each Triton kernel choose from N launches only; `--warm` compiles the kernels that a second run measures,
and measures nothing. Each backend is asked for by name; where one cannot run, the result says why.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from training_cuda import few_launches

from ripstop import provenance
from ripstop.files import write_text
from ripstop.kernels import backend as backends
from ripstop.mixers import MIXERS
from ripstop.mixers.base import Mixer, MixerConfig
from ripstop.models.past import CountsApart, drawn
from ripstop.training.peak import peak_flops

DTYPE = torch.bfloat16
# At d_model 1024 every recurrent state has 2^18 numbers.
MIXERS_OF: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba2": ("mamba_ssm", {"d_state": 128}),
    "mamba3": ("mamba_ssm", {"d_state": 128}),
    "gated_delta": ("fla", {"n_heads": 8, "head_k_dim": 128, "head_v_dim": 256}),
    "kda": ("fla", {"n_heads": 8, "head_k_dim": 128, "head_v_dim": 256}),
    "attention": ("flash_attn", {"n_heads": 16, "n_kv_heads": 4}),
    "mla": (
        "flash_attn",
        {"n_heads": 16, "kv_lora_rank": 256, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 64},
    ),
    "nsa": ("triton", {"n_heads": 16, "n_kv_heads": 1}),
}
"""Kind -> the backend with its kernels, and its sizes."""
ONE_STEP = ("mamba3", "mla")
"""Kinds whose step is torch's whatever the backend."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--mixers", nargs="+", default=list(MIXERS_OF), choices=list(MIXERS_OF))
    parser.add_argument("--d-model", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="*", default=[4096, 16384])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 64])
    parser.add_argument("--contexts", type=int, nargs="*", default=[1024, 16384, 65536])
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of a window of training; of decoding, eight times as many")
    parser.add_argument("--seconds", type=float, default=150, help="after which no further case begins")
    parser.add_argument("--autotune", type=int, default=0, help="launches that each Triton kernel may try; 0: all")
    parser.add_argument("--warm", action="store_true", help="call each kernel once, and write nothing")
    told = parser.parse_args()
    if told.device == "cuda" and not torch.cuda.is_available():
        print("needs a CUDA device: nothing is measured, nothing is written")
        return
    if told.autotune:
        few_launches(told.autotune)
    began, device = time.perf_counter(), torch.device(told.device)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else provenance.processor(),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "sizes": {"d_model": told.d_model, "rows": told.rows, "dtype": "bfloat16", "windows": told.windows},
        "mixers": {kind: MIXERS_OF[kind][1] for kind in told.mixers},
        "autotune": told.autotune or "all",
        "ceilings": (ceilings := measure_ceilings(device)),
        "training": [],
        "reading": [],
        "decoding": [],
    }
    cases: list[tuple[str, dict[str, Any], Callable[..., dict[str, Any]]]] = []
    for length in told.lengths:
        cases += [("training", {"mixer": kind, "length": length}, partial(train, length=length)) for kind in told.mixers]
        cases += [("reading", {"mixer": kind, "length": length}, partial(read, length=length)) for kind in told.mixers]
    for context in told.contexts:
        for batch in told.batches:
            place = {"context": context, "batch": batch}
            cases += [("decoding", {"mixer": kind} | place, partial(decode, **place)) for kind in told.mixers]
    for what, place, measure in cases:
        kind = place["mixer"]
        one = what == "decoding" and kind in ONE_STEP
        for backend in ["torch"] * (not told.warm) + [MIXERS_OF[kind][0]] * (not one):
            row = place | {"backend": backend}
            if time.perf_counter() - began > told.seconds:
                row["not_measured"] = f"{told.seconds:.0f} s were over"
            else:
                row |= tried(partial(measure, config_of(kind, backend), told, device, ceilings))
            report[what].append(row)
            print(f"[{time.perf_counter() - began:4.0f} s] {what}: {json.dumps(row)}", flush=True)
        report["chosen"] = backends.chosen()
        if not told.warm:
            write_text(told.out, json.dumps(report, indent=1) + "\n")
    print(table(report), flush=True)


def config_of(kind: str, backend: str) -> MixerConfig:
    config = MIXERS.parse({"kind": kind, "backend": backend, **MIXERS_OF[kind][1]})
    assert isinstance(config, MixerConfig)
    return config


def tried(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured; where it cannot run, why: one case that fails stops no other."""
    try:
        return measure()
    except Exception as error:
        return {"not_measured": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def measure_ceilings(device: torch.device) -> dict[str, Any]:
    """FLOP/s as `peak_flops` says, and bytes/s of a copy, those read and those written."""
    peak = peak_flops(device, "bf16")
    n_bytes = 2**31 if device.type == "cuda" else 2**26
    source, target = (torch.ones(n_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    seconds = times(lambda: target.copy_(source), 5, 5, device)
    return {"flops": peak.flops, "flops_source": peak.source, "bytes_per_second": 2 * n_bytes / statistics.median(seconds)}


def train(
    config: MixerConfig, told: argparse.Namespace, device: torch.device, ceilings: dict[str, Any], length: int
) -> dict[str, Any]:
    """Forward and backward of a layer."""
    torch.manual_seed(0)
    mixer = config.build(told.d_model).to(device, DTYPE)
    x_BTD = torch.randn(told.rows, length, told.d_model, device=device).to(DTYPE).requires_grad_()
    dy_BTD = torch.randn_like(x_BTD)
    wanted = [x_BTD, *mixer.parameters()]

    def step() -> None:
        torch.autograd.grad(mixer(x_BTD), wanted, dy_BTD, allow_unused=True)

    found = timed(step, told, told.steps, device)
    n_weights = sum(p.numel() for p in mixer.parameters())
    flops = 3 * x_BTD.shape[0] * length * config.flops_per_token(told.d_model, length)
    n_bytes = (3 * n_weights + 4 * x_BTD.numel()) * DTYPE.itemsize
    return found | {"parameters": n_weights} | floor(flops, n_bytes, ceilings)


@torch.no_grad()
def read(
    config: MixerConfig, told: argparse.Namespace, device: torch.device, ceilings: dict[str, Any], length: int
) -> dict[str, Any]:
    """Forward of a layer, without gradients."""
    torch.manual_seed(0)
    mixer = config.build(told.d_model).to(device, DTYPE).eval()
    x_BTD = torch.randn(told.rows, length, told.d_model, device=device).to(DTYPE)
    found = timed(lambda: mixer(x_BTD), told, told.steps, device)
    flops = told.rows * length * config.flops_per_token(told.d_model, length)
    n_bytes = (sum(p.numel() for p in mixer.parameters()) + 2 * x_BTD.numel()) * DTYPE.itemsize
    return found | floor(flops, n_bytes, ceilings)


@torch.no_grad()
def decode(
    config: MixerConfig, told: argparse.Namespace, device: torch.device, ceilings: dict[str, Any], context: int, batch: int
) -> dict[str, Any]:
    """Steps one after the other, from a past of `context` tokens on."""
    torch.manual_seed(0)
    torch.backends.cuda.enable_cudnn_sdp(False)  # as `ripstop.sdpa` has it of every command that decodes
    mixer = config.build(told.d_model).to(device, DTYPE).eval()
    n_steps = 8 * told.steps
    state = past(mixer, batch, context, room=n_steps * (told.windows + 1))
    x_BD = torch.randn(batch, told.d_model, device=device).to(DTYPE)

    def step() -> None:
        nonlocal state
        _, state = mixer.step(x_BD, state)

    found = timed(step, told, n_steps, device)
    held = config.state_bytes(told.d_model, context, DTYPE)
    if held == config.state_bytes(told.d_model, 2 * context, DTYPE):
        moved = 2 * held
    else:
        moved = config.read_bytes(told.d_model, context, DTYPE) if hasattr(config, "read_bytes") else held
    n_weights = sum(p.numel() for p in mixer.parameters())
    n_bytes = n_weights * DTYPE.itemsize + batch * moved
    # Of the last token of a context twice as long on average.
    flops = batch * config.flops_per_token(told.d_model, 2 * context)
    return found | {"state_bytes": batch * held} | floor(flops, n_bytes, ceilings)


def past(mixer: Mixer, batch: int, context: int, room: int) -> Any:
    """A state of `context` random tokens, which has room for more."""
    state: Any = mixer.init_state(batch, context + room)
    if isinstance(mixer, CountsApart):
        return drawn(mixer.after(state, context))
    return drawn(state._replace(length=context) if hasattr(state, "length") else state)


def timed(call: Callable[[], Any], told: argparse.Namespace, n_calls: int, device: torch.device) -> dict[str, Any]:
    """Milliseconds of a call in windows of `n_calls`, after one window that is not kept, and the peak of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    call()
    if told.warm:
        return {}
    times(call, 1, n_calls - 1, device)
    ms = [1e3 * seconds for seconds in times(call, told.windows, n_calls, device)]
    found = {"ms": digits(statistics.median(ms)), "range": [digits(min(ms)), digits(max(ms))]}
    if device.type == "cuda":
        found["peak_gigabytes"] = digits(torch.cuda.max_memory_allocated(device) / 1e9)
    return found


def times(call: Callable[[], Any], windows: int, n_calls: int, device: torch.device) -> list[float]:
    """Seconds of a call, window by window."""
    found = []
    for _ in range(windows):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(device)
            start.record()
        begun = time.perf_counter()
        for _ in range(n_calls):
            call()
        seconds = time.perf_counter() - begun
        if device.type == "cuda":
            end.record()
            torch.cuda.synchronize(device)
            seconds = start.elapsed_time(end) / 1e3
        found.append(seconds / max(1, n_calls))
    return found


def floor(flops: float, n_bytes: float, ceilings: dict[str, Any]) -> dict[str, Any]:
    """No version is faster than the larger of the two."""
    ms = {"arithmetic": 1e3 * flops / ceilings["flops"], "bytes": 1e3 * n_bytes / ceilings["bytes_per_second"]}
    return {"floor_ms": {name: digits(value) for name, value in ms.items()}}


def digits(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def table(report: dict[str, Any]) -> str:
    lines = [report["device"]]
    for what, row in [(name, row) for name in ("training", "reading", "decoding") for row in report[name]]:
        where = f"{row['length']:>6}" if "length" in row else f"{row['context']:>6} x {row['batch']:<3}"
        said = row.get("not_measured") or (
            f"{row['ms']:>9} ms {row['range']}  floor {max(row['floor_ms'].values())}" if "ms" in row else "called"
        )
        lines.append(f"{what:8} {row['mixer']:12} {where:12} {row['backend']:10} {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
