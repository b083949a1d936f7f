"""Mamba-2 block on a CPU, forward + backward: ripstop, transformers' torch path, and the paper's minimal SSD, in one process.

    OMP_NUM_THREADS=1 python benchmarks/mamba2_block.py --out benchmarks/results/mamba2_block.json

All three hold the same weights and are checked to agree, in output and in gradients, before the clock starts. Repetitions are
interleaved, so that what else the machine does meets all of them alike; medians of wall time are compared.

Beside each stands the floor: the larger of the time that the block's FLOPs take at this machine's rate of matrix products, and
the time that the bytes take which no implementation can spare, at its rate of copying. Those bytes are input, output and their
gradients once, and the projected tensor and its gradient written and read once each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers.models.mamba2.configuration_mamba2 import Mamba2Config as PeerConfig
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as PeerMixer

from ripstop import provenance
from ripstop.files import write_text
from ripstop.mixers.mamba2 import Mamba2, Mamba2Config
from ripstop.training.peak import matmul_flops

LENGTHS = (128, 256, 512, 1024, 2048, 4096)


def transformers_block(ours: Mamba2, d_model: int) -> nn.Module:
    """transformers' module with our weights, which fit by name."""
    config = ours.config
    peer = PeerMixer(
        PeerConfig(
            hidden_size=d_model,
            num_heads=ours.n_heads,
            head_dim=config.head_dim,
            state_size=config.d_state,
            conv_kernel=config.d_conv,
            expand=config.expand,
            n_groups=config.n_groups,
            chunk_size=config.chunk_size,
            num_hidden_layers=1,
        ),
        layer_idx=0,
    )
    peer.load_state_dict(ours.state_dict())
    return peer


def segsum(x: Tensor) -> Tensor:
    """Sums of x over (j, i]; -inf above the diagonal. Listing 1 of arXiv 2405.21060, stable form."""
    n_time = x.size(-1)
    x = x[..., None].expand(*x.shape, n_time)
    x = x.masked_fill(~torch.ones(n_time, n_time, dtype=torch.bool).tril(-1), 0)
    return x.cumsum(-2).masked_fill(~torch.ones(n_time, n_time, dtype=torch.bool).tril(0), float("-inf"))


def ssd_minimal(X: Tensor, A: Tensor, B: Tensor, C: Tensor, block_len: int) -> Tensor:
    """Minimal SSD: Listing 1 of Dao and Gu 2024, "Transformers are SSMs", arXiv 2405.21060 (Apache-2.0 in state-spaces/mamba,
    `ssd_minimal_discrete`). X (b, l, h, p), A (b, l, h), B and C (b, l, h, n)."""
    X, A, B, C = (t.unflatten(1, (-1, block_len)) for t in (X, A, B, C))
    A = A.permute(0, 3, 1, 2)
    A_cumsum = A.cumsum(-1)
    # 1. Intra-chunk (diagonal blocks)
    L = torch.exp(segsum(A))
    Y_diag = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, L, X)
    # 2. The state of each chunk (right factors of the low-rank blocks)
    decay_states = torch.exp(A_cumsum[:, :, :, -1:] - A_cumsum)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", B, decay_states, X)
    # 3. Inter-chunk recurrence (middle factors)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], 1)
    decay_chunk = torch.exp(segsum(F.pad(A_cumsum[:, :, :, -1], (1, 0))))
    states = torch.einsum("bhzc,bchpn->bzhpn", decay_chunk, states)[:, :-1]
    # 4. State to output (left factors)
    Y_off = torch.einsum("bclhn,bchpn,bhcl->bclhp", C, states, torch.exp(A_cumsum))
    return (Y_diag + Y_off).flatten(1, 2)


class MinimalBlock(nn.Module):
    """The paper's minimal SSD inside the Mamba-2 block as its authors write the rest of it in plain torch."""

    def __init__(self, ours: Mamba2):
        super().__init__()
        self.config, self.d_inner, self.n_heads = ours.config, ours.d_inner, ours.n_heads
        self.in_proj, self.conv1d, self.norm, self.out_proj = ours.in_proj, ours.conv1d, ours.norm, ours.out_proj
        self.dt_bias, self.A_log, self.D = ours.dt_bias, ours.A_log, ours.D

    def forward(self, u: Tensor) -> Tensor:
        config, width = self.config, self.config.n_groups * self.config.d_state
        z, xBC, dt = self.in_proj(u).split([self.d_inner, self.d_inner + 2 * width, self.n_heads], -1)
        weight, padding = self.conv1d.weight, config.d_conv - 1
        xBC = F.conv1d(xBC.transpose(1, 2), weight, self.conv1d.bias, padding=padding, groups=weight.shape[0])
        x, B, C = F.silu(xBC[..., : u.shape[1]].transpose(1, 2)).split([self.d_inner, width, width], -1)
        dt = F.softplus(dt + self.dt_bias)
        x = x.unflatten(-1, (self.n_heads, config.head_dim))
        B, C = (t.unflatten(-1, (config.n_groups, -1)).repeat_interleave(self.n_heads // config.n_groups, 2) for t in (B, C))
        y = ssd_minimal(x * dt.unsqueeze(-1), dt * -self.A_log.exp(), B, C, config.chunk_size)
        y = (y + x * self.D[:, None]).flatten(2)
        return self.out_proj(F.rms_norm(y * F.silu(z), y.shape[-1:], self.norm.weight, 1e-5))


def forward_backward(block: nn.Module, x_BTD: Tensor, dy_BTD: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    parameters = list(block.parameters())

    def run() -> tuple[Tensor, ...]:
        y_BTD = block(x_BTD)
        return y_BTD, *torch.autograd.grad(y_BTD, [x_BTD, *parameters], dy_BTD)

    return run


def largest_error(got: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    """Relative to the largest value of each tensor."""
    return max(float(((a - b).abs().max() / b.abs().max()).detach()) for a, b in zip(got, wanted, strict=True))


def copied_bytes_per_second(n_bytes: int = 2**28) -> float:
    """Bytes read and written a second when a tensor larger than any cache is copied; the fastest of five."""
    a = torch.ones(n_bytes // 4)
    b = torch.empty_like(a)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        b.copy_(a)
        times.append(time.perf_counter() - start)
    return 2 * n_bytes / min(times[1:])


def floor(
    config: Mamba2Config, d_model: int, n_time: int, tokens: int, flops_rate: float, bytes_rate: float
) -> dict[str, float]:
    """FLOPs and bytes of forward and backward, and the milliseconds that the slower of the two takes at the measured rates."""
    flops = 3 * tokens * config.flops_per_token(d_model, n_time)
    d_inner, n_heads = config.expand * d_model, config.n_heads(d_model)
    projected = 2 * d_inner + 2 * config.n_groups * config.d_state + n_heads
    n_bytes = 4 * tokens * (4 * d_model + 4 * projected)
    return {"flops": flops, "bytes": n_bytes, "floor_ms": 1e3 * max(flops / flops_rate, n_bytes / bytes_rate)}


def measure(n_time: int, tokens: int, repeats: int, d_model: int, config: Mamba2Config) -> dict[str, float]:
    """Medians of milliseconds, ratios to ours, and the largest relative difference of outputs and gradients."""
    torch.manual_seed(0)
    ours = config.build(d_model)
    blocks = {"ripstop": ours, "transformers": transformers_block(ours, d_model), "minimal": MinimalBlock(ours)}
    x_BTD = torch.randn(tokens // n_time, n_time, d_model, requires_grad=True)
    dy_BTD = torch.randn_like(x_BTD)
    runs, names = {}, [name for name, _ in ours.named_parameters()]
    for name, block in blocks.items():
        own = dict(block.named_parameters())
        runs[name] = forward_backward(block, x_BTD, dy_BTD)
        order = [list(own).index(n) for n in names]
        result = runs[name]()
        result = (*result[:2], *(result[2 + i] for i in order))
        if name == "ripstop":
            wanted, error = result, 0.0
        else:
            error = max(error, largest_error(result, wanted))
    if error > 1e-3:
        raise SystemExit(f"error: the three blocks differ by {error:.2g} at T = {n_time}; nothing to compare")
    times: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    row = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    ratios = {f"{name}_ratio": row[f"{name}_ms"] / row["ripstop_ms"] for name in blocks if name != "ripstop"}
    return {"T": n_time, "batch": tokens // n_time, **row, **ratios, "error": error}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table as JSON here")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a repetition, whatever the length")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--d-state", type=int, default=64)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--chunk-size", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()  # it says on every call that it has no CUDA kernels here
    config = Mamba2Config(d_state=arguments.d_state, head_dim=arguments.head_dim, chunk_size=arguments.chunk_size)
    print(f"ms, forward + backward of one block, {arguments.tokens} tokens, d_model {arguments.d_model}, {config}")
    flops_rate, bytes_rate = matmul_flops(torch.device("cpu"), "fp32", 1.0), copied_bytes_per_second()
    print(f"floor at {flops_rate / 1e9:.1f} GFLOP/s and {bytes_rate / 1e9:.1f} GB/s")
    print(f"{'T':>5} {'floor':>7} {'ripstop':>9} {'transformers':>19} {'minimal SSD':>19} {'difference':>11}")
    rows = []
    for n_time in arguments.lengths:
        row = measure(n_time, arguments.tokens, arguments.repeats, arguments.d_model, config)
        row |= floor(config, arguments.d_model, n_time, arguments.tokens, flops_rate, bytes_rate)
        rows.append(row)
        peers = " ".join(f"{row[f'{name}_ms']:11.1f} ({row[f'{name}_ratio']:4.1f}x)" for name in ("transformers", "minimal"))
        print(f"{row['T']:5d} {row['floor_ms']:7.1f} {row['ripstop_ms']:9.1f} {peers} {row['error']:11.1e}", flush=True)
    if arguments.out:
        report = {
            "rows": rows, "config": config.model_dump(), "d_model": arguments.d_model, "threads": arguments.threads,
            "flops_per_s": flops_rate, "bytes_per_s": bytes_rate, "device": provenance.processor(), "load": os.getloadavg(),
            "commit": provenance.commit(), "versions": provenance.versions() | {"transformers": transformers.__version__},
        }  # fmt: skip
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
