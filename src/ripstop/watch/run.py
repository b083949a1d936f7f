"""What the folder of a training says of it: rows of metrics, heartbeats, and how it goes or has ended."""

from __future__ import annotations

import json
import math
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ripstop import choices, yaml_file
from ripstop.config import ConfigError
from ripstop.files import object_if_any
from ripstop.training.lock import lives
from ripstop.training.pulse import Beat, read_beats

MOVES_NO_NUMBER = "it shows what others wrote"

State = Literal["not started", "running", "silent", "finished", "diverged", "stopped", "failed", "killed"]
"""silent: its processes may live, and give no sign of it."""
ENDED = {"finished", "diverged", "stopped", "failed", "killed"}
METRICS, REPORT, LOCK, CONFIG = "metrics.jsonl", "training.json", "training.lock", "config.yaml"
QUIET = 60.0
"""Seconds without a beat that are never a silence; more where ten steps take longer."""

RESUMES = "the same command resumes it"

Row = Mapping[str, float | None]


@dataclass(frozen=True)
class Watched:
    """A training as its folder shows it at `now`.

    rows: of metrics.jsonl, None for what was no finite number. steps: of the whole training; 0 where nothing says it.
    why: what is to be said of the state, "" where the state says all. written: when metrics.jsonl was last written.
    """

    folder: Path
    rows: list[Row]
    beats: list[Beat]
    steps: int
    state: State
    why: str
    written: float
    now: float

    @property
    def step(self) -> int:
        """The newest that anything tells of."""
        told = [beat.step for beat in self.beats if beat.step is not None] if self.state not in ("finished", "diverged") else []
        return max([*told, int(self.last("step") or 0)])

    @property
    def silence(self) -> float:
        """Seconds without a beat after which a rank is said to be silent."""
        return max(QUIET, 10 * (self.step_seconds or 0))

    @property
    def step_seconds(self) -> float | None:
        """Of a step, validations and checkpoints included, between the last two rows."""
        (step, seconds), (later, end) = [(0.0, 0.0), (0.0, 0.0), *self.series("seconds")][-2:]
        return (end - seconds) / (later - step) if later > step and end > seconds else None

    @property
    def seconds_left(self) -> float | None:
        """By the last row, less what has passed since."""
        left = self.last("seconds_left")
        return None if left is None else max(0.0, left - max(0.0, self.now - self.written))

    def last(self, column: str) -> float | None:
        """The newest finite value of a column."""
        return next((row[column] for row in reversed(self.rows) if row.get(column) is not None), None)

    def series(self, column: str) -> list[tuple[float, float]]:
        """Step and value where the column has one."""
        return [
            (step, value) for row in self.rows if (value := row.get(column)) is not None and (step := row["step"]) is not None
        ]

    def age(self, beat: Beat) -> float:
        """Seconds since a beat. 0 where the clock of its host is ahead of ours."""
        return max(0.0, self.now - beat.time)


def find(folder: Path) -> list[Path]:
    """The trainings of a folder: itself, or those below `runs/` of a study or a scale. `ConfigError` where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; name that of a run, or of a study's results")
    if _is_run(folder):
        return [folder]
    for pattern in ("*", "runs/*", "*/runs/*"):
        if found := sorted(path for path in folder.glob(pattern) if path.is_dir() and _is_run(path)):
            return found
    raise ConfigError(f"{folder}: no training lies here; name the folder of a run, such as results/cpu/<study>/runs/<run>")


def look(folder: Path, now: float | None = None) -> Watched:
    """What `folder` says now. now: seconds since 1970; not given: the clock's."""
    now = time.time() if now is None else now
    path, report = folder / METRICS, object_if_any(folder / REPORT)
    rows, written = list(_rows(path)), 0.0
    with suppress(OSError):
        written = path.stat().st_mtime
    watched = Watched(folder, rows, read_beats(folder), 0, "running", "", written, now)
    state, why = _state(watched, report)
    return Watched(folder, rows, watched.beats, _steps(watched, report), state, why, written, now)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (METRICS, REPORT, LOCK, "train.code")) or bool(read_beats(folder))


def _state(watched: Watched, report: Mapping[str, Any]) -> tuple[State, str]:
    match report.get("outcome"):
        case "finished":
            return "finished", ""
        case "diverged":
            return "diverged", f"at step {report.get('diverged_at', '?')}"
    if watched.beats:
        return _by_beats(watched)
    owner = object_if_any(watched.folder / LOCK)
    if owner.get("host") == socket.gethostname():
        pid = owner.get("pid")
        return ("running", f"process {pid}") if lives(owner) else ("killed", f"process {pid} is gone; {RESUMES}")
    if owner:
        return "running", f"process {owner.get('pid')} on {owner.get('host')}, as its lock says"
    return ("stopped", RESUMES) if watched.rows else ("not started", "")


def _by_beats(watched: Watched) -> tuple[State, str]:
    stopped = [beat for beat in watched.beats if beat.phase == "stopped"]
    failed = [beat for beat in watched.beats if beat.phase == "failed"]
    here = [beat for beat in watched.beats if beat.host == socket.gethostname() and beat not in [*stopped, *failed]]
    gone = ", ".join(f"rank {beat.rank}" for beat in here if not lives({"pid": beat.pid, "process": beat.process}))
    lost = f"{gone} ended without a word (kill -9, or no memory)"
    if failed:  # of a rank that is gone the others fail too
        why = f"rank {failed[0].rank}: {failed[0].why[:200]}"
        return "failed", f"{lost}; {why}" if gone else why
    if stopped:
        return "stopped", f"{_asked(stopped[0].why)}; {RESUMES}"
    if gone:
        return "killed", f"{lost}; {RESUMES}"
    if silent := [beat for beat in watched.beats if watched.age(beat) > watched.silence]:
        return "silent", f"no beat of rank {', '.join(str(beat.rank) for beat in silent)}"
    return "running", ", ".join(sorted({beat.phase for beat in watched.beats}))


def _asked(why: str) -> str:
    """`SystemExit: 143` is SIGTERM."""
    code = why.removeprefix("SystemExit:").strip()
    if code.isdecimal() and int(code) > 128:
        with suppress(ValueError):
            return f"by {signal.Signals(int(code) - 128).name}"
    return "by Ctrl-C" if why.startswith("KeyboardInterrupt") else f"by {why}"


def _steps(watched: Watched, report: Mapping[str, Any]) -> int:
    if watched.beats and watched.beats[0].steps > 0:
        return watched.beats[0].steps
    with suppress(ConfigError, OSError, KeyError, TypeError, ValueError):
        told = yaml_file.parse(choices.resolved(watched.folder), CONFIG)
        return int(told["training"]["steps"])
    steps = report.get("steps", 0)
    return steps if isinstance(steps, int) else 0


def _rows(path: Path) -> Iterator[Row]:
    """Rows by rising step. Left out: a last one that is being written, and whatever else is none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    last = -1.0
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        row = {name: _number(value) for name, value in found.items()} if isinstance(found, dict) else {}
        step = row.get("step")
        if step is not None and step > last:
            last = step
            yield row


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    with suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None
