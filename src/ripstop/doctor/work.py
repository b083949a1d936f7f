"""Work in miniature: a step of every mixer, the kernels that would run, and a training that is stopped and resumed."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import pkgutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ripstop.doctor.finding import Finding, examine

D_MODEL, LENGTH, BATCH = 128, 256, 2
SMALL: dict[str, Any] = {"window_size": 32, "sink_size": 2, "n_heads": 4, "mixer": {"kind": "mamba2"}}
"""Settings of a mixer that has no default for them."""
GPU = "envs/gpu/setup"
STEPS, STOPPED_AFTER = 50, 5


def kernels() -> Iterator[Finding]:
    """Of each operation, which backend `auto` takes on the device that there is, and why."""
    import torch

    import ripstop.kernels
    from ripstop.kernels import backend

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    found: dict[str, str] = {}
    with _silent():
        for module in pkgutil.iter_modules(ripstop.kernels.__path__):
            kernel = getattr(importlib.import_module(f"ripstop.kernels.{module.name}"), "KERNEL", None)
            if isinstance(kernel, backend.Kernel) and kernel.op not in found:
                name = backend.choose("auto", kernel, device, dtype)
                found[kernel.op] = name
                why = backend.chosen()[f"{kernel.op} on {device.type} in {str(dtype).removeprefix('torch.')}"]
                if device.type == "cuda":
                    yield Finding(kernel.op, "ok" if name == kernel.name else "note", why, "" if name == kernel.name else GPU)
    if device.type == "cpu":
        yield Finding("kernels", "ok", f"torch's own operations for {', '.join(sorted(found))}; CUDA kernels need a GPU")


def mixers() -> Iterator[Finding]:
    """Forward and backward of each kind, on the CPU and on a GPU where there is one."""
    import torch

    from ripstop.mixers import MIXERS

    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        times: list[str] = []
        for kind in MIXERS.names():
            where = f"{kind} on {device}"
            for finding in examine(where, lambda kind=kind, device=device: _step(kind, device)):  # type: ignore[misc]
                if finding.level == "ok":
                    times.append(f"{kind} {finding.said}")
                else:
                    yield finding
        if times:
            said = f"forward and backward of {BATCH} x {LENGTH} tokens, width {D_MODEL}, on {device} in ms: {', '.join(times)}"
            yield Finding("mixers", "ok", said)


def resume() -> Iterator[Finding]:
    """A training in a temporary folder, and the same one stopped by SIGTERM and resumed: the models are equal bit for bit."""
    from safetensors.torch import load_file

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ripstop-doctor-") as folder, _silent(), _threads_kept():
        whole, stopped = _lay_out(Path(folder, "whole")), _lay_out(Path(folder, "stopped"))
        step = _stop(*stopped)
        resumed = _train(*stopped)
        _train(*whole)
        a, b = (load_file(run / "model.safetensors") for run, _ in (stopped, whole))
        same = a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)
    seconds = time.perf_counter() - started
    if step is None:
        yield Finding("resume", "FAIL", "SIGTERM did not stop the training; is it blocked where this runs?")
    elif not resumed["resumed_at"]:
        yield Finding("resume", "FAIL", f"the training was stopped at step {step} and began anew")
    elif not same:
        yield Finding("resume", "FAIL", f"a training resumed at step {resumed['resumed_at']} ends with other bits")
    else:
        said = f"a training stopped at step {resumed['resumed_at']} of {STEPS} and resumed ends with the same bits"
        yield Finding("resume", "ok", f"{said} ({seconds:.1f} s)")


def _step(kind: str, device: str) -> Iterator[Finding]:
    import torch

    from ripstop.mixers import MIXERS
    from ripstop.mixers.base import MixerConfig

    fields = MIXERS.config(kind).model_fields
    needed = {name: SMALL[name] for name, field in fields.items() if field.is_required() and name in SMALL}
    config = MIXERS.parse({"kind": kind, **needed})
    assert isinstance(config, MixerConfig)
    torch.manual_seed(0)
    times = []
    with _silent():
        mixer = config.build(D_MODEL).to(device)
        x_BTD = torch.randn(BATCH, LENGTH, D_MODEL, device=device)
        for _ in range(3):
            started = time.perf_counter()
            y_BTD = mixer(x_BTD)
            y_BTD.square().mean().backward()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    gradients = [p.grad for p in mixer.parameters() if p.grad is not None]
    if not (gradients and torch.isfinite(y_BTD).all() and all(torch.isfinite(gradient).all() for gradient in gradients)):
        raise ArithmeticError("its output or its gradient is not finite")
    yield Finding(kind, "ok", f"{1000 * min(times):.1f}")


def _lay_out(root: Path) -> tuple[Path, Path]:
    """The folder of a run, and its prepared data, as a plan and `prepare` leave them."""
    from ripstop.runs import Run

    run = Run.parse(
        {
            "study": "doctor", "scale": "cpu", "name": "resume_seed-0", "seed": 0, "factors": {"arm": "resume"},
            "data": {"kind": "mqar", "n_keys": 8, "n_values": 8, "num_pairs": [2, 4], "n_test": 4},
            "model": {
                "kind": "decoder_only", "d_model": 16, "pattern": "MA", "mixers": {
                    "M": {"kind": "mamba2", "head_dim": 8, "d_state": 4}, "A": {"kind": "attention", "n_heads": 2},
                },
            },
            "training": {"steps": STEPS, "tokens_per_step": 64, "lr": 0.01},
            "reporting": {"log_every": 1, "checkpoint_every": STEPS},
        },
        "doctor",
    )  # fmt: skip
    folder, data = root / "run", root / "data"
    folder.mkdir(parents=True)
    for name, text in {**run.files(), "train.code": "doctor\n"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    run.data.prepare(data)
    return folder, data


def _train(folder: Path, data: Path) -> dict[str, Any]:
    from ripstop.training.train import train

    train(folder, data)
    report: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return report


def _stop(folder: Path, data: Path) -> int | None:
    """Train until some steps have been made, then stop it as a workflow does. The step; None where it did not stop."""
    metrics, ended = folder / "metrics.jsonl", threading.Event()

    def ask() -> None:
        while not ended.wait(0.002):
            if metrics.is_file() and metrics.read_bytes().count(b"\n") >= STOPPED_AFTER:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def late(number: int, frame: FrameType | None) -> None:
        """The training had ended before it was asked."""

    before = signal.signal(signal.SIGTERM, late)
    asking = threading.Thread(target=ask, daemon=True)
    try:
        asking.start()
        _train(folder, data)
    except SystemExit as stopped:
        if stopped.code != 128 + signal.SIGTERM:
            raise
        return metrics.read_bytes().count(b"\n")
    finally:
        ended.set()
        asking.join()
        signal.signal(signal.SIGTERM, before)
    return None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What is said on the way is of no interest here."""
    log = logging.getLogger("ripstop")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    """A training sets threads for its whole process."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
