"""What a training says while it runs: rows in metrics.jsonl, progress with time left, TensorBoard events."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ripstop.config import ConfigError, TrainingError
from ripstop.files import write_text
from ripstop.training.peak import Peak, mfu
from ripstop.training.reporting import Reporting

MOVES_NO_NUMBER = "shows numbers"

HELD_OUT = "validation_"
"""Begins the name of what was measured on held-out batches."""


@dataclass(frozen=True)
class Heartbeat:
    """A row of metrics.jsonl. loss, grad_norm and metrics are means over the updates since the row before.

    tokens_per_second, mfu (model FLOPs utilisation, 0 to 1): 0 where the clock did not move.
    memory_bytes: peak; what tensors took on CUDA, else what the process took.
    seconds: of this and earlier sessions.
    metrics: what the objective measured beside the loss; columns of their names.
    held_out: loss and metrics on held-out batches, where the step measured them; columns `validation_<name>`.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    mfu: float
    memory_bytes: int
    seconds: float
    seconds_left: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, float] = field(default_factory=dict)

    @property
    def measured(self) -> dict[str, float]:
        """Metrics and held-out measurements by their columns."""
        return {**self.metrics, **{HELD_OUT + name: value for name, value in self.held_out.items()}}

    def row(self) -> dict[str, float | None]:
        """Column -> value; None for a measurement that is not a finite number, which JSON cannot hold."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("metrics", "held_out")}
        return own | {name: value if math.isfinite(value) else None for name, value in self.measured.items()}

    @property
    def said(self) -> str:
        """Name and value of every measurement; without metrics that no update since the row before has measured."""
        silent = {name for name, value in self.metrics.items() if math.isnan(value)}
        return "".join(f"{name} {value:.4g}  " for name, value in self.measured.items() if name not in silent)

    def line(self, steps: int) -> str:
        elapsed, left = (timedelta(seconds=round(s)) for s in (self.seconds, self.seconds_left))
        return (
            f"step {self.step:>{len(str(steps))}}/{steps}  loss {self.loss:.4f}  {self.said}lr {self.lr:.2e}  "
            f"grad {self.grad_norm:.2e}  {self.tokens_per_second:,.0f} tokens/s  mfu {self.mfu:.1%}  "
            f"{self.memory_bytes / 1e9:.2f} GB  elapsed {elapsed}  left {left}"
        )


COLUMNS = {f.name for f in fields(Heartbeat)}


def check_names(names: list[str]) -> None:
    """`ConfigError` where a metric of an objective would take the place of a column of its own."""
    for name in names:
        if name in COLUMNS or name.startswith(HELD_OUT):
            raise ConfigError(
                f"training.objective: its metric {name!r} has the name of a column of metrics.jsonl; name it otherwise"
            )


class Monitor:
    """Counts tokens, FLOPs and time between heartbeats, and writes each heartbeat everywhere. A context manager.

    Entered at step 0 it starts metrics.jsonl afresh; at a later step it keeps the rows up to that step.
    """

    def __init__(
        self, out: Path, steps: int, reporting: Reporting, device: torch.device, peak: Peak, first_step: int,
        seconds_before: float, console: Console | None = None,
    ):  # fmt: skip
        self.path = out / "metrics.jsonl"
        self.steps = steps
        self.reporting = reporting
        self.device = device
        self.peak = peak
        self.first_step = first_step
        self.seconds_before = seconds_before
        self._tensorboard_folder = out / "tensorboard"
        self._console = console or Console()
        self._bar: Progress | None = None
        self._events: Any = None

    def __enter__(self) -> Self:
        try:
            write_text(self.path, "".join(rows_until(self.path, self.first_step)))
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error.strerror}); mend that and start again") from error
        if self.reporting.tensorboard:
            self._events = _event_writer(self._tensorboard_folder, self.first_step)
        if self._console.is_terminal:
            self._bar = _progress_bar(self._console)
            self._bar.start()
            self._task = self._bar.add_task("", total=self.steps, completed=self.first_step)
        self._started = self._last = time.perf_counter()
        self._tokens = 0
        self._flops = 0.0
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)
        if self._events is not None:
            self._events.close()
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Of this session."""
        return time.perf_counter() - self._started

    def count(self, tokens: int, flops: float) -> None:
        """An update has been made that read `tokens` and needed `flops`."""
        self._tokens += tokens
        self._flops += flops
        if self._bar is not None:
            self._bar.advance(self._task)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is done inside, such as a validation, does not slow the tokens per second."""
        started = time.perf_counter()
        yield
        self._last += time.perf_counter() - started

    def heartbeat(
        self, step: int, loss: float, lr: float, grad_norm: float, metrics: Mapping[str, float] | None = None,
        held_out: Mapping[str, float] | None = None,
    ) -> Heartbeat:  # fmt: skip
        """Write the row of `step`: what was counted since the row before. `TrainingError` where the disk is full."""
        now = time.perf_counter()
        interval, per_step = now - self._last, (now - self._started) / max(1, step - self.first_step)
        row = Heartbeat(
            step=step,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens_per_second=round(self._tokens / interval, 1) if interval > 0 else 0.0,
            mfu=float(f"{mfu(self._flops, interval, self.peak.flops):.4g}") if interval > 0 else 0.0,
            memory_bytes=peak_memory(self.device),
            seconds=round(self.seconds_before + now - self._started, 3),
            seconds_left=round(max(0.0, per_step * (self.steps - step)), 1),
            metrics=metrics or {},
            held_out=held_out or {},
        )
        self._last, self._tokens, self._flops = now, 0, 0.0
        self._write(row)
        if self._events is not None:
            for name, value in row.row().items():
                if value is not None:
                    self._events.add_scalar(name, value, step)
        if self._bar is None:
            print(row.line(self.steps), flush=True)
        else:
            text = f"loss {row.loss:.4f}  {row.tokens_per_second:,.0f} tokens/s  mfu {row.mfu:.1%}"
            self._bar.update(self._task, description=f"{text}  {row.said}".rstrip())
        return row

    def _write(self, row: Heartbeat) -> None:
        # Unbuffered: a checkpoint of this step must never be on the disk without its row, and nothing is left to write
        # when a full disk closes the file.
        line = (json.dumps(row.row(), allow_nan=False) + "\n").encode()
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise TrainingError(
                f"{self.path}: the row of step {row.step} cannot be written ({error.strerror}); "
                "free some space and start the same command again to resume"
            ) from error


def rows_until(path: Path, step: int) -> list[str]:
    """Lines of metrics.jsonl up to and with `step`. Lines that are none, such as one that a kill cut short, are left out:
    a row that was lost must not cost the training that it is of."""
    if step == 0 or not path.is_file():
        return []
    rows: list[str] = []
    last = 0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        at = _step_of(line)
        if at is None:
            print(f"{path}: line {number} is no row and is left out", flush=True)
        elif last < at <= step:
            rows.append(line.decode() + "\n")
            last = at
    return rows


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a CUDA device, else the largest resident set of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _step_of(line: bytes) -> int | None:
    """The step of a row; None where the line is none."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def _progress_bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)


def _event_writer(folder: Path, first_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    if first_step == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return SummaryWriter(str(folder), purge_step=first_step + 1)
