"""The trainer in steps/s and MFU: beside a bare loop on the same model and batches, in one process.

    OMP_NUM_THREADS=1 python benchmarks/trainer.py [--device cuda] [--out benchmarks/results/trainer.json]

The bare loop is forward, backward, clipping and AdamW, nothing else; what the trainer adds to it (schedule, checks, rows
of metrics, a checkpoint) is its overhead. The two take turns, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch

from ripstop import params, provenance, studies
from ripstop.batch import Vocabulary
from ripstop.files import write_text
from ripstop.runs import Run
from ripstop.studies.base import runs
from ripstop.training.peak import peak_flops
from ripstop.training.precision import autocast, prepare_device
from ripstop.training.trainer import Trainer


def first_run(scale: str, architecture: str, steps: int) -> Run:
    """mqar_cliff's run of this architecture, with its longest rows alone: every step then costs the same."""
    study = studies.load("mqar_cliff")
    values = params.load(Path("params.yaml")).study("mqar_cliff", scale)
    run = next(run for run in runs(study, values, scale, "params.yaml") if run.factors["architecture"] == architecture)
    data = run.data.replace(num_pairs=run.data.num_pairs[-1:], curriculum=0.0)
    reporting = run.reporting.replace(log_every=steps, checkpoint_every=steps)
    training = run.training.replace(steps=steps)
    return run.replace(data=data, training=training, reporting=reporting)


def bare(run: Run, device: torch.device) -> float:
    """Seconds of the loop that nobody can do without."""
    model = run.model.build(Vocabulary(run.data.vocab_size(Path()))).to(device).train()
    stream = run.data.stream(Path(), run.training.stream_plan(run.seed))
    objective, optimizer = run.training.objective.build(), run.training.optimizer.build(model)
    start = time.perf_counter()
    for _ in range(run.training.steps):
        optimizer.zero_grad()
        with autocast(device, run.training.precision):
            loss = objective(model, next(stream).to(device))
        (loss.sum / loss.n).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.training.clip)
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def trained(run: Run) -> dict[str, float]:
    """The last row of metrics of a whole training, and its seconds."""
    vocab_size = run.data.vocab_size(Path())
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        model, stream = run.model.build(Vocabulary(vocab_size)), run.data.stream(Path(), run.training.stream_plan(run.seed))
        trainer = Trainer(
            model,
            stream,
            run.training,
            Path(folder),
            seed=run.seed,
            objective=run.training.objective.build(),
            flops=functools.partial(run.model.batch_flops, vocab_size),
            identity={},
            device=prepare_device(run.compute, run.training.precision),
            reporting=run.reporting,
        )
        summary = trainer.fit()
        row = json.loads((Path(folder) / "metrics.jsonl").read_text().splitlines()[-1])
    return {"seconds": summary["seconds"], "tokens_per_s": row["tokens_per_second"], "mfu": row["mfu"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    parser.add_argument("--scale", default="cpu")
    parser.add_argument("--architecture", default="mamba2")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    run = first_run(arguments.scale, arguments.architecture, arguments.steps)
    device = prepare_device(run.compute, run.training.precision)
    peak = peak_flops(device, run.training.precision)
    bare(run, device)
    pairs = [(trained(run), bare(run, device)) for _ in range(arguments.repeats)]
    report = {
        "architecture": arguments.architecture,
        "scale": arguments.scale,
        "steps_per_s": statistics.median(run.training.steps / ours["seconds"] for ours, _ in pairs),
        "tokens_per_s": statistics.median(ours["tokens_per_s"] for ours, _ in pairs),
        "mfu": statistics.median(ours["mfu"] for ours, _ in pairs),
        "over_bare_loop": statistics.median(ours["seconds"] / alone for ours, alone in pairs),
        "peak_tflops": peak.flops / 1e12,
        "peak_source": peak.source,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else provenance.processor(),
        "threads": run.compute.threads,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
