"""Every way in which the house writes a file: an old and a new content, and how a reader tells which of them lies there."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from faults import injected
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from torch import nn

from ripstop import provenance
from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.files import replacing, write_if_different, write_text
from ripstop.models.base import Model
from ripstop.paper import plots
from ripstop.records import Record, read_records, write_records
from ripstop.training import checkpoint_file
from ripstop.training.checkpoint import Checkpoints
from ripstop.training.distributed import checkpoint_folder
from ripstop.training.distributed.ranks import ALONE
from ripstop.training.results import MODEL, REPORT, remove_results, write_results
from ripstop.wire import file as wire_file
from ripstop.wire.quantize import WireFormat

LARGE = 20_000
"""Numbers of what is written: some blocks of a file."""
WRITING = {
    "files.py", "records.py", "results.py", "checkpoint.py", "checkpoint_file.py", "checkpoint_folder.py", "base.py",
    "plots.py", "file.py", "mqar.py",
}  # fmt: skip
"""Files of the house in which a write can be killed: at each of their lines."""
IDENTITY = {"configuration": "aa", "code": "bb"}


@dataclass(frozen=True)
class Writer:
    """write(folder, value) leaves a value there; found(folder) says which one lies there, None for none, or fails where it is
    half of one. loses: the old one may go before the new one comes. files: what lies there at the end."""

    write: Callable[[Path, int], object]
    found: Callable[[Path], int | None]
    files: set[str]
    loses: bool = False


def _text(folder: Path) -> int | None:
    text = (folder / "f.json").read_text(encoding="utf-8")
    value = json.loads(text)
    assert value == [value[0]] * LARGE
    return int(value[0])


def _tensors(folder: Path, value: int) -> None:
    with replacing(folder / "f.safetensors") as temporary:
        save_file({"a": torch.full((LARGE,), value)}, temporary)


def _same(tensor: torch.Tensor) -> int:
    assert tensor.numel() == LARGE and bool((tensor == tensor[0]).all())
    return int(tensor[0])


def _figure(folder: Path, value: int) -> None:
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, str(value))
    plots._write(figure, folder / "f.png", "png", {"Software": str(value) * 1000})


def _figure_found(folder: Path) -> int:
    data = (folder / "f.png").read_bytes()
    assert data.endswith(b"IEND\xaeB`\x82")
    return int(data[data.index(b"Software\0") + 9 :][:1])


FORMAT = WireFormat(bits="int4", group=4, n_vectors=2, width=6)


def _wire(folder: Path, value: int) -> None:
    z_MD = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    wire_file.save(wire_file.Wire.of(z_MD, FORMAT, str(value), {"reader": "r" * LARGE}), folder / "f.wire")


def _records(folder: Path, value: int) -> None:
    told = {
        "study": "s", "run": "a", "scale": "smoke", "seed": value, "part": "recall", "factors": {}, "metric": "accuracy",
        "unit": "fraction", "value": 0.25, "n": 8, "code": "c", "config": "k", "data": "d", "model": "m", "device": "cpu",
    }  # fmt: skip
    write_records(folder / "f.jsonl", [Record.parse(told | {"slice": {"n": n, "text": "x" * LARGE}}, "test") for n in range(4)])


def _records_found(folder: Path) -> int:
    found = read_records(folder / "f.jsonl")
    assert len(found) == 4
    return found[0].seed


class OneTensor(Model):
    def __init__(self, value: int):
        super().__init__()
        self.a = nn.Parameter(torch.full((LARGE,), float(value)))


def _results(folder: Path, value: int) -> None:
    """As a training does: what lay there goes first."""
    remove_results(folder)
    write_results(folder, OneTensor(value), {"value": value}, {})


def _results_found(folder: Path) -> int | None:
    if not (folder / MODEL).is_file():
        return None
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    assert provenance.file_sha256(folder / MODEL) == report["model_sha256"]
    assert _same(load_file(folder / MODEL)["a"]) == report["value"]
    return int(report["value"])


def _state(value: int) -> dict[str, Any]:
    return {"a": torch.full((LARGE,), value)}


def _checkpoint(folder: Path, value: int) -> None:
    """As a training does: it looks first for one to go on from."""
    checkpoints = Checkpoints(folder, IDENTITY, keep=1)
    checkpoints.load()
    checkpoints.save(value, _state(value))


def _checkpoint_found(folder: Path) -> int:
    content = [checkpoint_file.read(path) for path in folder.glob("step-*.pt")]
    found = max((one for one in content if one is not None), key=lambda one: one["step"])
    assert len(content) <= 2 and _same(found["state"]["a"]) == found["step"]
    return int(found["step"])


def _checkpoint_parts(folder: Path, value: int) -> None:
    """As `Checkpoints` does for several processes, by one."""
    temporary = folder / ".step.tmp"
    digest = checkpoint_folder.write(temporary, {"identity": {}, "settings": {}, "step": value, "state": _state(value)}, ALONE)
    Checkpoints(folder, IDENTITY, keep=1)._take_place(temporary, folder / f"step-{value}-{digest[: checkpoint_file.DIGITS]}")


def _checkpoint_parts_found(folder: Path) -> int:
    newest = max(folder.glob("step-*"))
    content = checkpoint_folder.read(newest)
    assert content is not None
    whole = checkpoint_folder.filled(content, newest, None, ALONE)
    assert _same(whole["state"]["a"]) == whole["step"]
    return int(whole["step"])


def _data(folder: Path, value: int) -> None:
    MqarConfig(n_keys=4, n_values=4, num_pairs=[2], n_test=64 + value).prepare(folder)


def _data_found(folder: Path) -> int | None:
    for value in (1, 2, 3):
        try:
            MqarConfig(n_keys=4, n_values=4, num_pairs=[2], n_test=64 + value).verify(folder)
            return value
        except ConfigError as error:
            if "is not prepared" in str(error):
                return None
            if "holds the data" not in str(error):
                raise
    raise AssertionError("neither")


WRITERS = {
    "text": Writer(lambda folder, value: write_text(folder / "f.json", json.dumps([value] * LARGE)), _text, {"f.json"}),
    "input file of a run": Writer(
        lambda folder, value: write_if_different(folder / "f.json", json.dumps([value] * LARGE)), _text, {"f.json"}
    ),
    "tensors": Writer(_tensors, lambda folder: _same(load_file(folder / "f.safetensors")["a"]), {"f.safetensors"}),
    "figure": Writer(_figure, _figure_found, {"f.png"}),
    "wire": Writer(_wire, lambda folder: int(wire_file.load(folder / "f.wire").compressor), {"f.wire"}),
    "records": Writer(_records, _records_found, {"f.jsonl"}),
    "model and its report": Writer(_results, _results_found, {MODEL, REPORT}, loses=True),
    "checkpoint": Writer(_checkpoint, _checkpoint_found, {"step-*.pt"}),
    "checkpoint of several processes": Writer(_checkpoint_parts, _checkpoint_parts_found, {"step-*"}),
    "prepared data": Writer(_data, _data_found, {"test.safetensors", "data.json"}, loses=True),
}


def _killed_at_line(number: int) -> None:
    """SIGKILL as the writing modules come to their so manieth line."""
    left = number

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if os.path.basename(frame.f_code.co_filename) not in WRITING or "ripstop" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def kill_at_lines(name: str, folder: Path, every: int) -> None:
    """Old content, a writer of the new one that is killed at one line, at another one behind it, ..., until none is left.

    After each kill there is the old or the new content, and the next write leaves what it writes and nothing else.
    """
    number = 1
    while _dies(name, folder / str(number), functools.partial(_killed_at_line, number), signal.SIGKILL):
        number += every
    assert number > 20, f"{name}: only {number} lines"


def kill_at_bytes(name: str, folder: Path) -> None:
    """The same, killed by the kernel as a file is about to grow beyond so many bytes, whichever language writes it."""
    died = [
        _dies(name, folder / str(n), functools.partial(injected.killed_at_byte, n), signal.SIGXFSZ)
        for n in (0, 100, 4096, 50_000)
    ]
    assert died[:2] == [True, True]


def _dies(name: str, folder: Path, fault: Callable[[], None], number: signal.Signals) -> bool:
    writer = WRITERS[name]
    folder.mkdir(parents=True)
    writer.write(folder, 1)
    assert writer.found(folder) == 1
    child = os.fork()
    if child == 0:
        fault()
        writer.write(folder, 2)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    killed = os.WIFSIGNALED(status)
    assert not killed or os.WTERMSIG(status) == number
    found = writer.found(folder)
    assert found in ({1, 2, None} if writer.loses else {1, 2}), found
    writer.write(folder, 3)
    assert writer.found(folder) == 3
    left = {path.name for path in folder.iterdir() if not any(path.match(pattern) for pattern in writer.files)}
    assert not left, left
    return killed
