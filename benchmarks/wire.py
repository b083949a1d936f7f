"""Bytes/s at which wires are packed and unpacked, by format, beside torch's plain copy of the same numbers.

    OMP_NUM_THREADS=1 python benchmarks/wire.py [--out benchmarks/results/wire.json] [--repeats 30] [--vectors 4096]

One process, in turns, CPU time of one thread, so that what else the machine does meets all alike. Bytes are those of the
numbers in float32 for all of them: what a format takes is time, not the bytes that it saves. The encoder and the frozen models
around a wire take milliseconds and more: a rate here of 100 MB/s is 0.16 ms for a wire of 16 vectors of 256 numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch

from ripstop import provenance
from ripstop.files import write_text
from ripstop.wire.quantize import Bits, WireFormat, n_bytes, pack, straight_through, unpack

WIDTH = 256


def tasks(n_vectors: int, group: int) -> dict[str, Callable[[], object]]:
    """What is timed, by its name."""
    z_MD = torch.randn(n_vectors, WIDTH, generator=torch.Generator().manual_seed(0))
    other_MD = torch.empty_like(z_MD)
    found: dict[str, Callable[[], object]] = {
        "torch copy": lambda: other_MD.copy_(z_MD),
        "torch half and back": lambda: z_MD.half().float(),
    }
    for bits in get_args(Bits):
        format = WireFormat(bits=bits, group=group, n_vectors=n_vectors, width=WIDTH)
        data = pack(z_MD, format)
        assert len(data) == n_bytes(format) and torch.equal(unpack(data, format), straight_through(z_MD, format))
        found[f"pack {bits}"] = lambda format=format: pack(z_MD, format)  # type: ignore[misc]
        found[f"unpack {bits}"] = lambda data=data, format=format: unpack(data, format)  # type: ignore[misc]
        found[f"straight through {bits}"] = lambda format=format: straight_through(z_MD, format)  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    parser.add_argument("--repeats", type=int, default=30, help="measured turns of each")
    parser.add_argument("--vectors", type=int, default=4096, help=f"vectors of {WIDTH} numbers that are packed at once")
    parser.add_argument("--group", type=int, default=32)
    arguments = parser.parse_args()
    todo = tasks(arguments.vectors, arguments.group)
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(-2, arguments.repeats):
        for name, task in todo.items():
            start = time.process_time()
            task()
            if number >= 0:
                seconds[name].append(time.process_time() - start)
    size = 4 * arguments.vectors * WIDTH
    copy = statistics.median(seconds["torch copy"])
    rows = []
    for name, values in seconds.items():
        median = statistics.median(values)
        rows.append({"name": name, "bytes_per_s": size / median, "times_a_copy": median / copy})
        print(f"{name:<24} {size / median / 1e6:>9.0f} MB/s {median / copy:>8.1f} times a copy", flush=True)
    report = {
        "rows": rows, "vectors": arguments.vectors, "width": WIDTH, "group": arguments.group, "repeats": arguments.repeats,
        "commit": provenance.commit(), "load": os.getloadavg(), "threads": torch.get_num_threads(),
        "device": provenance.processor(), "versions": provenance.versions(),
    }  # fmt: skip
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
