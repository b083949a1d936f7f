"""Steps/s of a training of the paper, this tree beside an earlier commit: two processes that take turns on the same batches.

    OMP_NUM_THREADS=1 python benchmarks/training_steps.py [--before main] [--out benchmarks/results/training_steps.json]

Each process imports its own checkout and does so many whole updates whenever it is asked to: data, forward, backward, clipping
and optimizer, as the trainer does them. Only one works at a time, so that what else the machine does meets both alike; CPU time
of the process is compared, and the median over turns given.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PAIRS, TOKENS = [4, 8, 16, 32, 64], 2048
RUNS = [("mqar_cliff", "mamba2"), ("mqar_cliff", "attention"), ("mqar_cliff", "sliding_window"), ("blind_start", "layer_0")]


def worker(study: str, arm: str, steps: int) -> None:
    """Answers every line on stdin with the CPU seconds of `steps` updates, on the batches that come next."""
    import torch

    from ripstop import params, studies
    from ripstop.batch import Vocabulary
    from ripstop.studies.base import runs
    from ripstop.training.precision import prepare_device
    from ripstop.training.trainer import Trainer

    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    values = params.load(Path("params.yaml")).study(study, "cpu")
    run = next(run for run in runs(studies.load(study), values, "cpu", "params.yaml") if arm in run.factors.values())
    # The same rows whatever the parameters of the two commits say, of every length from the first step on.
    data = run.data.replace(num_pairs=PAIRS, test_pairs=PAIRS, n_keys=PAIRS[-1], n_values=PAIRS[-1], curriculum=0.0)
    run = run.replace(data=data, training=run.training.replace(tokens_per_step=TOKENS))
    vocab_size = run.data.vocab_size(Path())
    device = prepare_device(run.compute, run.training.precision)
    torch.manual_seed(0)
    model, stream = run.model.build(Vocabulary(vocab_size)), run.data.stream(Path(), run.training.stream_plan(run.seed))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model, stream, run.training, Path(folder), seed=run.seed, objective=run.training.objective.build(), identity={},
            flops=functools.partial(run.model.batch_flops, vocab_size), device=device, reporting=run.reporting,
            validation=list,
        )  # fmt: skip
        for _ in sys.stdin:
            start = time.process_time()
            for _ in range(steps):
                trainer._update()
            print(time.process_time() - start, file=answer, flush=True)


def start(checkout: Path, study: str, arm: str, steps: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", study, arm, "--steps", str(steps)]
    return subprocess.Popen(command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def turn(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def measure(before: Path, study: str, arm: str, steps: int, repeats: int) -> dict[str, object]:
    both = [start(checkout, study, arm, steps) for checkout in (before, HERE)]
    for process in both:
        turn(process)
    turns = [[turn(process) for process in both] for _ in range(repeats)]
    for process in both:
        process.communicate()
    return {
        "study": study,
        "arm": arm,
        "before_steps_per_s": statistics.median(steps / old for old, _ in turns),
        "steps_per_s": statistics.median(steps / new for _, new in turns),
        "ratio": statistics.median(old / new for old, new in turns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="HEAD", help="the commit to compare with")
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    parser.add_argument("--steps", type=int, default=10, help="updates a turn")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--arms", nargs="+", help="of these arms alone")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(*arguments.worker, arguments.steps)
    from ripstop import provenance
    from ripstop.files import write_text

    commit = subprocess.run(["git", "rev-parse", arguments.before], cwd=HERE, check=True, capture_output=True, text=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", arguments.before], cwd=HERE, check=True, capture_output=True)
        subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
        for study, arm in RUNS:
            if not arguments.arms or arm in arguments.arms:
                rows.append(measure(Path(folder), study, arm, arguments.steps, arguments.repeats))
                print(json.dumps(rows[-1]), flush=True)
    report = {
        "rows": rows, "before": commit.stdout.strip(), "commit": provenance.commit(), "device": provenance.processor(),
        "load": os.getloadavg(), "threads": 1, "versions": provenance.versions(),
    }  # fmt: skip
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
