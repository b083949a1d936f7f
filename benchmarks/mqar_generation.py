"""MQAR generation in examples/s: ours beside a plain one-example-at-a-time numpy program, in one process.

    python benchmarks/mqar_generation.py [--out benchmarks/results/mqar_generation.json]

Both write the same rows (distinct keys, values, every key asked once, targets); only how they are made differs. Times
are the smallest of several repetitions of whole training batches, on one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ripstop.batch import IGNORE
from ripstop.data.mqar import BOS, FIRST_KEY, SEP, MqarConfig, training_batch
from ripstop.files import write_text

# (name, keys, values, pairs, rows): the batches of a step at the scales cpu and h100.
SIZES = [
    ("cpu", 64, 64, 4, 292),
    ("cpu", 64, 64, 64, 21),
    ("h100", 4086, 4096, 64, 2029),
    ("h100", 4086, 4096, 512, 256),
]


def one_by_one(n_keys: int, n_values: int, num_pairs: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What one writes first: numpy, an example at a time. Test examples are avoided as in ours."""
    generator = np.random.default_rng(seed)
    inputs, targets = [], []
    for _ in range(rows):
        keys = generator.choice(n_keys, num_pairs, replace=False)
        values = generator.integers(0, n_values, num_pairs)
        while values.sum() % n_values == 0:
            values = generator.integers(0, n_values, num_pairs)
        keys, values = keys + FIRST_KEY, values + FIRST_KEY + n_keys
        order = generator.permutation(num_pairs)
        row = np.concatenate([[BOS], np.stack([keys, values], 1).ravel(), [SEP], keys[order]])
        target = np.full(len(row), IGNORE)
        target[-num_pairs:] = values[order]
        inputs.append(row)
        targets.append(target)
    return np.stack(inputs), np.stack(targets)


def seconds(functions: list[Callable[[int], object]], repeats: int) -> list[float]:
    """Smallest time of each. They take turns, so that what else the machine does meets all of them alike."""
    times: list[list[float]] = [[] for _ in functions]
    for index in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(index)
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def measure(name: str, n_keys: int, n_values: int, num_pairs: int, rows: int, repeats: int) -> dict[str, object]:
    config = MqarConfig(n_keys=n_keys, n_values=n_values, num_pairs=[num_pairs])
    ours, plain = seconds(
        [
            lambda index: training_batch(config, num_pairs, rows, 0, index),
            lambda index: one_by_one(n_keys, n_values, num_pairs, rows, index),
        ],
        repeats,
    )
    return {
        "size": name,
        "n_keys": n_keys,
        "num_pairs": num_pairs,
        "rows": rows,
        "ours_examples_per_s": rows / ours,
        "plain_examples_per_s": rows / plain,
        "ours_tokens_per_s": rows * config.row_length(num_pairs) / ours,
        "ratio": plain / ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(*size, repeats=arguments.repeats) for size in SIZES]
    print(f"{'size':6}{'keys':>6}{'pairs':>7}{'rows':>7}{'ours ex/s':>13}{'plain ex/s':>13}{'ratio':>8}")
    for r in results:
        print(
            f"{r['size']:6}{r['n_keys']:>6}{r['num_pairs']:>7}{r['rows']:>7}"
            f"{r['ours_examples_per_s']:>13,.0f}{r['plain_examples_per_s']:>13,.0f}{r['ratio']:>8.1f}"
        )
    if arguments.out:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        report = {"threads": 1, "machine": platform.machine(), "versions": versions, "results": results}
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
