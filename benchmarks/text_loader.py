"""Packed text in tokens/s: ours beside the map-and-group packing of `datasets`, in one process.

    OMP_NUM_THREADS=1 python benchmarks/text_loader.py [--out benchmarks/results/text_loader.json] [--repeats 7]

The same tokenized documents (the introductions that ship in a package), the same length of rows and size of batches, in turns;
CPU seconds of this process, the median of the repeats. `pack` is from lists of token ids to rows on the disk; `read` is
shuffled batches of a whole epoch as int64 tensors, of theirs by torch's DataLoader and by `iter`, of which the faster counts.
Map-and-group is the one of transformers' run_clm.py: documents back to back, cut anywhere, so that rows begin inside documents
and no row says where one ends. Tokens are those of the texts and EOS, without padding.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import DataLoader

from ripstop import provenance
from ripstop.data import text_source
from ripstop.data.packed_rows import PackedRows, RowWriter, row_dtype
from ripstop.data.text_stream import BackgroundStream, TextStream
from ripstop.data.tokenizer import EOS, BpeConfig
from ripstop.files import write_text


def group_texts(examples: dict[str, list], block_size: int) -> dict[str, list]:
    """As in transformers' examples/pytorch/language-modeling/run_clm.py."""
    concatenated = {k: list(chain(*examples[k])) for k in examples}
    total_length = len(concatenated[next(iter(examples))])
    total_length = (total_length // block_size) * block_size
    result = {k: [t[i : i + block_size] for i in range(0, total_length, block_size)] for k, t in concatenated.items()}
    result["labels"] = result["input_ids"].copy()
    return result


class Ours:
    def __init__(self, ids: list[list[int]], block_size: int, n_rows: int, folder: Path, vocab_size: int):
        self.ids, self.block_size, self.n_rows = ids, block_size, n_rows
        self.path, self.dtype = folder / "train.rows", row_dtype(vocab_size)
        self.padding = 0.0

    def pack(self) -> int:
        with self.path.open("wb", buffering=io.DEFAULT_BUFFER_SIZE) as file:
            writer = RowWriter(file, self.block_size, self.dtype)
            for ids in self.ids:
                writer.add(ids, 0)
            writer.close()
        self.padding = writer.padding
        self.rows = PackedRows(self.path, writer.n_rows, self.block_size, self.dtype)
        return writer.n_tokens

    def read(self, ahead: int = 0) -> int:
        plain = TextStream(self.rows, self.n_rows, seed=0)
        stream = BackgroundStream(plain, ahead) if ahead else plain
        n = 0
        for _ in range(len(self.rows) // self.n_rows):
            n += next(stream).tokens_BT.numel()
        return round(n * (1 - self.padding))


class Theirs:
    def __init__(self, ids: list[list[int]], block_size: int, n_rows: int, folder: Path):
        self.block_size, self.n_rows, self.folder = block_size, n_rows, folder
        self.documents = datasets.Dataset.from_dict({"input_ids": [[*document, EOS] for document in ids]})
        self.number = 0

    def pack(self) -> int:
        self.number += 1
        grouped = self.documents.map(
            group_texts, batched=True, fn_kwargs={"block_size": self.block_size}, load_from_cache_file=False,
            cache_file_name=str(self.folder / f"grouped{self.number}.arrow"),
        )  # fmt: skip
        self.grouped = grouped.with_format("torch")
        return len(grouped) * self.block_size

    def read_by_loader(self) -> int:
        return sum(b["input_ids"].numel() for b in DataLoader(self.grouped, self.n_rows, shuffle=True, drop_last=True))

    def read_by_iter(self) -> int:
        shuffled = self.grouped.shuffle(seed=0)
        return sum(b["input_ids"].numel() for b in shuffled.iter(self.n_rows, drop_last_batch=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--block-size", type=int, default=512)
    parser.add_argument("--rows", type=int, default=16, help="of a batch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    texts = [document.text for document in text_source.embedded("introductions")][: arguments.documents]
    tokenizer = BpeConfig(vocab_size=4000).train(texts)
    ids = tokenizer.encode_batch(texts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = Ours(ids, arguments.block_size, arguments.rows, folder, len(tokenizer))
        theirs = Theirs(ids, arguments.block_size, arguments.rows, folder)
        turns: dict[str, Callable[[], int]] = {
            "ours: pack": ours.pack, "datasets: pack": theirs.pack,
            "ours: read": ours.read, "datasets: read by DataLoader": theirs.read_by_loader,
            "datasets: read by iter": theirs.read_by_iter,
        }  # fmt: skip
        speeds: dict[str, list[float]] = {name: [] for name in turns}
        tokens: dict[str, int] = {}
        for number in range(-1, arguments.repeats):
            for name, turn in turns.items():
                start = time.process_time()
                tokens[name] = turn()
                if number >= 0:
                    speeds[name].append(tokens[name] / (time.process_time() - start))
        start = time.perf_counter()
        n = ours.read(ahead=2)
        ahead = n / (time.perf_counter() - start)
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    best = max(speed["datasets: read by DataLoader"], speed["datasets: read by iter"])
    once = [1 / speed["ours: pack"] + 1 / speed["ours: read"], 1 / speed["datasets: pack"] + 1 / best]  # seconds a token
    ratios = {
        "pack": speed["ours: pack"] / speed["datasets: pack"], "read": speed["ours: read"] / best,
        "pack and read once": once[1] / once[0],
    }  # fmt: skip
    report: dict[str, Any] = {
        "tokens_per_s": speed, "spread": {name: [min(values), max(values)] for name, values in speeds.items()},
        "ratios": ratios, "ours_padding": ours.padding, "tokens": tokens, "ours_ahead_wall_tokens_per_s": ahead,
        "block_size": arguments.block_size, "rows": arguments.rows, "documents": len(ids), "repeats": arguments.repeats,
        "commit": provenance.commit(), "load": os.getloadavg(), "threads": torch.get_num_threads(),
        "device": provenance.processor(), "versions": provenance.versions() | {"datasets": datasets.__version__},
    }  # fmt: skip
    for name, value in speed.items():
        print(f"{name:32}{value:>14,.0f} tokens/s")
    print(json.dumps(ratios | {"padding": ours.padding}), flush=True)
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
