"""What a training says while it runs: rows in metrics.jsonl, progress with time left, TensorBoard events."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ripstop.files import write_text
from ripstop.training.config import Reporting, TrainingError
from ripstop.training.peak import Peak, mfu


@dataclass(frozen=True)
class Heartbeat:
    """A row of metrics.jsonl. loss and grad_norm are means over the updates since the row before.

    seconds: of this and earlier sessions. memory_bytes: peak; what tensors took on CUDA, else what the process took.
    mfu: model FLOPs utilisation, 0 to 1.
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

    def line(self, steps: int) -> str:
        elapsed, left = (timedelta(seconds=round(s)) for s in (self.seconds, self.seconds_left))
        return (
            f"step {self.step:>{len(str(steps))}}/{steps}  loss {self.loss:.4f}  lr {self.lr:.2e}  "
            f"grad {self.grad_norm:.2e}  {self.tokens_per_second:,.0f} tokens/s  mfu {self.mfu:.1%}  "
            f"{self.memory_bytes / 1e9:.2f} GB  elapsed {elapsed}  left {left}"
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "".join(rows_until(self.path, self.first_step)))
        self._file = open(self.path, "a")  # noqa: SIM115 (closed by __exit__)
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
        self._file.close()
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

    def heartbeat(self, step: int, loss: float, lr: float, grad_norm: float) -> Heartbeat:
        """Write the row of `step`: what was counted since the row before. `TrainingError` where the disk is full."""
        now = time.perf_counter()
        interval, per_step = now - self._last, (now - self._started) / (step - self.first_step)
        row = Heartbeat(
            step=step,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens_per_second=round(self._tokens / interval, 1),
            mfu=float(f"{mfu(self._flops, interval, self.peak.flops):.4g}"),
            memory_bytes=peak_memory(self.device),
            seconds=round(self.seconds_before + now - self._started, 3),
            seconds_left=round(per_step * (self.steps - step), 1),
        )
        self._last, self._tokens, self._flops = now, 0, 0.0
        try:
            self._file.write(json.dumps(asdict(row)) + "\n")
            self._file.flush()  # a checkpoint of this step must never be on the disk without its row
        except OSError as error:
            raise TrainingError(
                f"{self.path}: the row of step {step} cannot be written ({error.strerror}); "
                "free some space and start the same command again to resume"
            ) from error
        if self._events is not None:
            for name, value in asdict(row).items():
                self._events.add_scalar(name, value, step)
        if self._bar is None:
            print(row.line(self.steps), flush=True)
        else:
            text = f"loss {row.loss:.4f}  {row.tokens_per_second:,.0f} tokens/s  mfu {row.mfu:.1%}"
            self._bar.update(self._task, description=text)
        return row


def rows_until(path: Path, step: int) -> list[str]:
    """Lines of metrics.jsonl up to and with `step`; a line that a kill cut short, and all after it, are left out."""
    if step == 0 or not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("}\n") or json.loads(line)["step"] > step:
            break
        rows.append(line)
    return rows


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a CUDA device, else the largest resident set of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _progress_bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)


def _event_writer(folder: Path, first_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    if first_step == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return SummaryWriter(str(folder), purge_step=first_step + 1)
