"""Trainings of several processes, forked from one that has imported torch once, with a store as torchrun's agent keeps it.

As a program: `processes.py FILE`, where FILE holds a list of groups, `{"n": processes, "folder": ..., "trainings": [...]}` or
`{"n": ..., "folder": ..., "command": [...], "fails": rank}`. What process r says goes to `<folder>/stdout-<r>` and
`<folder>/stderr-<r>`, exit statuses go to `<folder>/statuses.json`. A training is what `trainer` reads.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from training import tiny

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError, TrainingError
from ripstop.training.distributed.config import Parallel
from ripstop.training.distributed.ranks import ALONE, Ranks, joined
from ripstop.training.trainer import Trainer

ROWS, LENGTH = 6, 7


class SharedStream:
    """Batches of its position, dealt out row by row: to four ranks 2, 2, 1 and 1 rows, of unequal numbers of targets."""

    def __init__(self, rank: int = 0, n_ranks: int = 1):
        self.rank, self.n_ranks, self.position = rank, n_ranks, 0
        self.signal: list[int] | None = None
        """Rank and position at which that rank sends itself SIGTERM."""
        self.fill: int | None = None
        """Position from which on the disk is full."""

    def __next__(self) -> TokenBatch:
        if self.signal == [self.rank, self.position]:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.fill == self.position:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
        self.position += 1
        return self.at(self.position)

    def at(self, position: int) -> TokenBatch:
        generator = torch.Generator().manual_seed(position)
        tokens_BT = torch.randint(tiny.VOCAB, (ROWS, LENGTH), generator=generator)
        kept_BT = torch.rand((ROWS, LENGTH), generator=generator) < torch.linspace(0.1, 0.9, ROWS)[:, None]
        targets_BT = ((tokens_BT * 5 + 3) % tiny.VOCAB).where(kept_BT, torch.tensor(IGNORE))
        return TokenBatch(tokens_BT[self.rank :: self.n_ranks], targets_BT[self.rank :: self.n_ranks])

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def held_out() -> Iterator[TokenBatch]:
    """Five batches: no whole number of rounds of two or four ranks, and the first without a target."""
    whole = SharedStream()
    empty = whole.at(100)
    yield TokenBatch(empty.tokens_BT, torch.full_like(empty.targets_BT, IGNORE))
    yield from (whole.at(100 + n) for n in range(1, 5))


DEFAULTS: dict[str, Any] = {
    "steps": 6, "accumulation": 2, "clip": 0.5, "validate_every": 4, "keep": "best", "log_every": 1, "checkpoint_every": 99,
    "keep_checkpoints": 9,
}  # fmt: skip


def trainer(training: dict[str, Any], ranks: Ranks = ALONE) -> Trainer:
    changes = DEFAULTS | training.get("changes", {})
    model = tiny.TinyModel(changes.pop("d_model", 25), changes.pop("dropout", 0.0))  # of rows that are no multiple of 2 or 4
    with torch.no_grad():
        for parameter in model.parameters():  # the first process's are those of all
            generator = torch.Generator().manual_seed(parameter.numel() + ranks.rank)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    if not changes.pop("single", False):
        model.double()
    made = tiny.trainer(
        Path(training["out"]), model, ranks=ranks, parallel=Parallel(**training.get("parallel", {})), validation=held_out,
        **changes,
    )  # fmt: skip
    stream = SharedStream(ranks.rank, ranks.n_ranks)
    stream.signal, stream.fill = training.get("signal"), training.get("fill")
    made.stream = stream
    return made


def fit(training: dict[str, Any], ranks: Ranks = ALONE) -> dict[str, Any]:
    """Train; what came of it, and where it ended the weights. The first process writes both into the folder."""
    out = Path(training["out"])
    out.mkdir(parents=True, exist_ok=True)
    name, told = "told", {}
    try:
        made = trainer(training, ranks)
        told = made.fit()
        weights = made.laid.whole_state()
        if ranks.first:
            torch.save({key: value.clone() for key, value in weights.items()}, out / "weights.pt")
    except SystemExit as stopped:
        told = {"stopped": stopped.code, "step": made.step}
    except (TrainingError, ConfigError) as error:
        name, told = "failed", {"error": str(error), "kind": type(error).__name__}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (out / f"{name}-{ranks.n_ranks}-{ranks.rank}.json").write_text(json.dumps(told))
    return told


def _trainings(group: dict[str, Any]) -> None:
    with joined("cpu", 30) as ranks:
        for training in group["trainings"]:
            fit(training, ranks)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a training that was stopped lets nothing disturb its end


def _command(group: dict[str, Any]) -> None:
    from ripstop import __main__ as cli
    from ripstop.data.text_stream import TextStream

    read = TextStream.at

    def fails_later(stream: TextStream, position: int) -> TokenBatch:
        return read(stream, position // (0 if position > 2 * stream.n_rows else 1))

    if os.environ["RANK"] == group.get("fails"):
        TextStream.at = fails_later  # type: ignore[method-assign]
    sys.argv = ["ripstop", *group["command"]]
    cli.main()


def _launch(group: dict[str, Any], work: Callable[[dict[str, Any]], None]) -> None:
    folder = Path(group["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))
    pids = []
    for rank in range(group["n"]):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(group["n"]), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_ERROR_FILE": str(folder / f"error-{rank}.json"),
            }  # fmt: skip
            for stream, descriptor in (("stdout", 1), ("stderr", 2)):
                os.dup2(os.open(folder / f"{stream}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            status = 1
            try:
                work(group)
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        pids.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    (folder / "statuses.json").write_text(json.dumps(statuses))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for told in json.loads(Path(sys.argv[1]).read_text()):
        _launch(told, _command if "command" in told else _trainings)
