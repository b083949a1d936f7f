"""Training of a named architecture on one GPU, by the trainer itself: tokens/s, the used part of the peak, memory.

    python benchmarks/training_cuda.py --preset translator_medium --out benchmarks/results/training_cuda.json

Rows are random token ids without padding, so that every multiplication counts; what is timed is whole updates (batch to the
device, forward, backward, clipping, optimizer), after some that compile and warm up, in several windows whose median and
extremes are kept. MFU is model FLOPs, three times those of the forward pass, over the device's peak for dense bf16.
`--ssd mamba_ssm` takes the kernels of mamba-ssm; `--autotune N` lets each of its kernels choose from N launches only, from the
fourth on (the first want more memory than some widths leave), since all of them take minutes to compile. Each row says which.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ripstop import provenance
from ripstop.batch import TokenBatch, Vocabulary
from ripstop.files import write_text
from ripstop.models import MODELS
from ripstop.models.base import Model, ModelConfig
from ripstop.models.presets import PRESETS, resolve
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.peak import peak_flops
from ripstop.training.precision import prepare_device
from ripstop.training.trainer import Trainer

WARMUP, WINDOWS, STEPS = 4, 7, 4


class Rows:
    """The same random rows again and again: as a source and a target where the model takes one, else as a text."""

    def __init__(self, model: ModelConfig, vocab_size: int, n_rows: int, length: int):
        ids_BT = torch.randint(4, vocab_size, (n_rows, length + 1), generator=torch.Generator().manual_seed(0))
        whole_BT = torch.ones(n_rows, length, dtype=torch.long)
        source = (ids_BT[:, 1:].flip(1).contiguous(), whole_BT) if model.takes_source else (None, None)
        self.batch = TokenBatch(ids_BT[:, :-1].contiguous(), ids_BT[:, 1:].contiguous(), whole_BT, *source)

    def __next__(self) -> TokenBatch:
        return self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def measure(model: ModelConfig, vocab_size: int, rows: Rows, compiled: bool, device: torch.device) -> dict[str, Any]:
    """One row of the table."""
    torch.manual_seed(0)
    torch.cuda.reset_peak_memory_stats(device)
    config = TrainingConfig(steps=10**6, tokens_per_step=rows.batch.n_tokens, lr=1e-4, precision="bf16", compile=compiled)
    flops = functools.partial(model.batch_flops, vocab_size)
    built: Model = model.build(Vocabulary(vocab_size))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            built, rows, config, Path(folder), seed=0, objective=config.objective.build(), identity={}, flops=flops,
            device=device,
        )  # fmt: skip
        started = time.perf_counter()
        _window(trainer, WARMUP)
        ready = time.perf_counter() - started
        seconds = [_window(trainer, STEPS) / STEPS for _ in range(WINDOWS)]
    n_tokens, work = rows.batch.n_tokens, 3 * flops(rows.batch)
    peak = peak_flops(device, "bf16")
    median = statistics.median(seconds)
    return {
        "parameters": sum(p.numel() for p in built.parameters()),
        "tokens_a_step": n_tokens,
        "compiled": compiled,
        "seconds_to_ready": round(ready, 1),
        "tokens_per_second": round(n_tokens / median),
        "tokens_per_second_range": [round(n_tokens / s) for s in (max(seconds), min(seconds))],
        "windows": WINDOWS,
        "mfu": round(work / median / peak.flops, 4),
        "peak_gigabytes": round(torch.cuda.max_memory_allocated(device) / 1e9, 2),
    }


def _window(trainer: Trainer, steps: int) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        trainer._update()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def with_backend(values: Any, kind: str, backend: str) -> Any:
    """The mixers of a kind, wherever they stand, computed by `backend`."""
    if not isinstance(values, Mapping):
        return values
    told = {key: with_backend(value, kind, backend) for key, value in values.items()}
    return {**told, "backend": backend} if told.get("kind") == kind else told


def few_launches(n: int) -> None:
    """Triton's autotuner, from here on, tries n launches of each kernel, from the fourth on."""
    import triton
    from triton.runtime import autotuner

    whole = autotuner.Autotuner.__init__

    def cut(self: Any, fn: Any, arg_names: Any, configs: list[Any], *args: Any, **kwargs: Any) -> None:
        whole(self, fn, arg_names, configs[3 : 3 + n] or configs[-n:], *args, **kwargs)

    autotuner.Autotuner.__init__ = cut
    print(f"triton {triton.__version__}: {n} launches a kernel")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", nargs="+", default=["translator_medium"], choices=sorted(PRESETS))
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=512, help="of the source and of the target")
    parser.add_argument("--ssd", default="torch", help="backend of Mamba-2: torch or mamba_ssm")
    parser.add_argument("--autotune", type=int, default=0, help="launches that each Triton kernel may try; 0: all")
    parser.add_argument("--eager", action="store_true", help="compile no block")
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: no CUDA device; this is a measure of one")
    if told.autotune:
        few_launches(told.autotune)
    device = prepare_device(Compute(device="cuda"), "bf16")
    report = json.loads(told.out.read_text()) if told.out.is_file() else {"rows": []}
    for name in told.preset:
        vocab_size = PRESETS[name].vocab_size
        values = with_backend(resolve({"preset": name}), "mamba2", told.ssd)
        model = MODELS.config(values["kind"]).parse(values, name)
        row = {"preset": name, "rows": told.rows, "length": told.length, "ssd": told.ssd, "autotune": told.autotune or "all"}
        row |= measure(model, vocab_size, Rows(model, vocab_size, told.rows, told.length), not told.eager, device)
        print(json.dumps(row), flush=True)
        report["rows"].append(row)
        report |= {
            "device": torch.cuda.get_device_name(device), "commit": provenance.commit(), "versions": provenance.versions(),
        }  # fmt: skip
        write_text(told.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
