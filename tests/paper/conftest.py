"""Made-up records of every study, shaped like the real ones, and what is rendered from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from ripstop.metrics import METRICS
from ripstop.records import Record, Scalar, write_records

STUDIES = ("mqar_cliff", "d_state_scaling", "blind_start", "hybrid_ratio")
PAIRS = (4, 8, 16, 32)
CONTROLS = ("own", "wrong", "shuffled", "zero")
CHANCE = 1 / 64

Add = Callable[..., Record]


def _recall(add: Add, capacity: float, noise: Callable[[], float]) -> Iterator[Record]:
    for num_pairs in PAIRS:
        right = 1 / (1 + (num_pairs / capacity) ** 2) + 0.03 * noise()
        for control in CONTROLS:
            value = float(np.clip(right if control == "own" else CHANCE * (1 + noise() / 4), 0, 1))
            yield add("accuracy", value, num_pairs=num_pairs, control=control)
    yield add("chance", CHANCE)


def _mqar_cliff(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    capacities = {"mamba2": 11, "attention": 500, "attention_conv": 900, "sliding_window": 6, "mamba2_attention": 400}
    for architecture, capacity in (capacities | {"attention_mamba2": 1}).items():
        for seed in range(3):
            add = run(seed, {"architecture": architecture})
            yield from _recall(add, capacity, noise)
            if "mamba2" in architecture:
                yield add("d_state", 16)
            yield add("state_bytes", 4096 + capacity, seq_len=70)


def _d_state_scaling(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    for d_state, expand in ((4, 2), (8, 2), (16, 2), (32, 2), (16, 1), (16, 4)):
        for steps in (400, 1000):
            for seed in range(2):
                elements = d_state * expand * 32
                add = run(seed, {"d_state": d_state, "expand": expand, "state_elements": elements, "steps": steps})
                yield from _recall(add, elements**0.8 / 15 * (steps / 400) ** 0.3, noise)


def _blind_start(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    for arm in (
        "layer_0",
        "layer_1",
        "layer_2",
        "layer_3",
        "layers_0_2",
        "layers_1_3",
        "adaptive",
        "none",
        "none_mean",
    ):
        for seed in range(3):
            yield from _recall(run(seed, {"positions": arm, "steps": 300}), 2 if "none" in arm else 100, noise)


def _hybrid_ratio(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    for ratio, share in (("0", 0.0), ("1_7", 0.125), ("1_3", 0.25), ("1_1", 0.5), ("all", 1.0)):
        for seed in range(2):
            add = run(seed, {"ratio": ratio, "attention_share": share})
            for control, cost in (("own", 0.0), ("wrong", 0.7), ("shuffled", 0.3)):
                yield add("loss", 4 + (share - 0.4) ** 2 + cost + 0.01 * noise(), control=control)
            yield add("bleu", 12.3 + noise(), signature="nrefs:1|case:mixed")
            yield add("chrf++", 33.1 + noise(), signature="nrefs:1|case:mixed")
            yield add("parameters", 400_123)


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """study -> its records.jsonl."""
    made = {"mqar_cliff": _mqar_cliff, "d_state_scaling": _d_state_scaling}
    made |= {"blind_start": _blind_start, "hybrid_ratio": _hybrid_ratio}
    folder = tmp_path_factory.mktemp("records")
    noise = np.random.default_rng(7).standard_normal
    paths = {}
    for study, make in made.items():

        def run(seed: int, factors: dict[str, Scalar], study: str = study) -> Add:
            def add(metric: str, value: float, **part: Scalar) -> Record:
                name = "_".join(f"{k}-{v}" for k, v in factors.items()) + f"_seed-{seed}"
                identity = {"code": "c0", "config": "c1", "data": "d0", "model": "m0", "device": "cpu"}
                return Record(
                    study=study, run=name, scale="cpu", seed=seed, factors=factors, slice=part, metric=metric,
                    unit=METRICS.get(metric, "elements"), part="all", value=float(value), n=256, **identity,
                )  # fmt: skip

            return add

        paths[study] = folder / study / "records.jsonl"
        write_records(paths[study], list(make(run, noise)))
    return paths
