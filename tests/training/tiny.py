"""A model and a stream small enough to train in milliseconds, and the trainings that tests kill.

As a program, which imports torch once: `tiny.py fit OUT...` trains in a child for each folder; `tiny.py kill OUT` trains in
children killed at random moments; `tiny.py kill_each OUT` does so for each optimizer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ripstop.batch import IGNORE, TokenBatch
from ripstop.models.base import Model
from ripstop.training.config import TrainingConfig
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.reporting import Reporting
from ripstop.training.trainer import Trainer

VOCAB = 13
D_MODEL = 8


class TinyBlock(nn.Module):
    """Residual mean over the past, with dropout so that training draws random numbers."""

    def __init__(self, d_model: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.linear = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        n_T1 = torch.arange(1, x_BTD.shape[1] + 1, device=x_BTD.device)[:, None]
        return x_BTD + self.dropout(self.linear(self.norm(x_BTD).cumsum(1) / n_T1).tanh())


class TinyModel(Model):
    def __init__(self, d_model: int = D_MODEL, dropout: float = 0.1):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, d_model)
        self.layers = nn.ModuleList(TinyBlock(d_model, dropout) for _ in range(2))
        self.head = nn.Linear(d_model, VOCAB, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        x_BTD = self.embedding(batch.tokens_BT)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        return self.head(x_BTD if at_BT is None else x_BTD[at_BT])


class TinyStream:
    """Batches of its seed and position, and of the global states of Python and numpy, as a careless one would be."""

    def __init__(self, seed: int, batch_size: int = 3, length: int = 7):
        self.seed, self.position, self.shape = seed, 0, (batch_size, length)

    def __next__(self) -> TokenBatch:
        generator = torch.Generator().manual_seed(1000 * self.seed + self.position)
        self.position += 1
        shift = random.randrange(VOCAB) + int(np.random.randint(VOCAB))
        tokens_BT = (torch.randint(VOCAB, self.shape, generator=generator) + shift) % VOCAB
        kept_BT = torch.rand(self.shape, generator=generator) < 0.6
        kept_BT[0, 0] = True
        return TokenBatch(tokens_BT, ((tokens_BT * 5 + 3) % VOCAB).where(kept_BT, torch.tensor(IGNORE)))

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**({"steps": 24, "tokens_per_step": 21, "lr": 1e-2} | changes))


def reporting(**changes: Any) -> Reporting:
    return Reporting(**({"log_every": 4, "checkpoint_every": 5} | changes))


def trainer(out: Path, model: Model | None = None, identity: str = "one", **changes: Any) -> Trainer:
    """changes: of `config`, of `reporting`, or arguments of the trainer itself."""
    torch.manual_seed(3)
    told = {key: changes.pop(key) for key in Reporting.model_fields.keys() & changes.keys()}
    settings = {key: changes.pop(key) for key in TrainingConfig.model_fields.keys() & changes.keys() - {"objective"}}
    arguments = {"objective": cross_entropy, "seed": 11, "flops": lambda batch: 100.0 * batch.n_tokens} | changes
    return Trainer(
        model or TinyModel(), TinyStream(5), config(**settings), out, reporting=reporting(**told),
        identity={"configuration": identity, "code": "c0de"}, **arguments,
    )  # fmt: skip


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(training: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


LONG = {"steps": 300, "checkpoint_every": 3, "log_every": 4}


def _kill_ten_times(out: Path) -> None:
    """An undisturbed training, then one killed at ten random moments and finished. Prints what the kills met."""
    times = []
    for name, steps in (("short", 1), ("undisturbed", LONG["steps"])):
        started = time.perf_counter()
        _child(out / name, steps)
        times.append(time.perf_counter() - started)
    start_up, step = times[0], (times[1] - times[0]) / LONG["steps"]
    kills, reached = 0, []
    for session in range(10):
        # Counted in steps, since no clock tells how fast a busy machine is; two die before their first.
        after, delay = (0, start_up) if session in (0, 5) else (random.randint(1, 25), 3 * step)
        kills += _child(out / "killed", LONG["steps"], after, random.uniform(0, delay))
        reached.append(max((int(p.name.split("-")[1]) for p in out.glob("killed/checkpoints/step-*.pt")), default=0))
    _child(out / "killed", LONG["steps"])
    print(json.dumps({"kills": kills, "reached": reached}))


OPTIMIZERS = {
    "adamw": {"kind": "adamw"},
    "lion": {"kind": "lion"},
    "muon": {"kind": "muon"},
    "adamw_low_bit": {"kind": "adamw_low_bit"},
    "adamw_low_bit_fp8": {"kind": "adamw_low_bit", "moments": "fp8"},
}
"""Of each kind at least one."""
SHORT = {"steps": 24, "checkpoint_every": 8, "log_every": 4}


def _kill_each(out: Path) -> None:
    """For each optimizer an undisturbed training, then one killed twice and finished. Prints where the kills left them.

    Of a width at which moments are kept in 8 bits.
    """
    reached: dict[str, list[int]] = {}
    for name, told in OPTIMIZERS.items():
        TrainingConfig(steps=1, tokens_per_step=1, lr=1.0, optimizer=told).optimizer.build(TinyModel())  # imports, once
        changes = SHORT | {"optimizer": told, "d_model": 64}
        _child(out / name / "undisturbed", **changes)
        reached[name] = []
        for _ in range(2):
            _child(out / name / "killed", kill_after=random.randint(10, 15), **changes)
            checkpoints = out.glob(f"{name}/killed/checkpoints/step-*.pt")
            reached[name].append(max((int(p.name.split("-")[1]) for p in checkpoints), default=0))
        _child(out / name / "killed", **changes)
    print(json.dumps(reached))


def _fit(outs: list[Path]) -> None:
    """Endless trainings. Prints their process ids, and their statuses when they have been stopped."""
    pids = []
    for out in outs:
        out.mkdir()
        pids.append(os.fork())
        if not pids[-1]:
            os.dup2(os.open(out / "said.txt", os.O_WRONLY | os.O_CREAT), 1)
            trainer(out, steps=100_000, checkpoint_every=100_000, log_every=50).fit()
    print(json.dumps(pids), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))


class _Reporting(TinyStream):
    """Writes a byte to a pipe for each batch."""

    def __init__(self, pipe: int):
        super().__init__(5)
        self.pipe = pipe

    def __next__(self) -> TokenBatch:
        os.write(self.pipe, b".")
        return super().__next__()


def _child(
    out: Path, steps: int, kill_after: int | None = None, delay: float = 0.0, d_model: int = D_MODEL, **told: Any
) -> bool:
    """Train in a fork, which needs no import, and kill it `delay` seconds after a number of steps; True if it was."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        torch.manual_seed(3)
        training = trainer(out, TinyModel(d_model), **(LONG | told | {"steps": steps}))
        training.stream = _Reporting(writing)
        training.fit()
        torch.save(training.model.state_dict(), out / "model.pt")
        os._exit(0)
    os.close(writing)
    if kill_after is not None:
        for _ in range(kill_after):
            os.read(reading, 1)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    else:
        while os.read(reading, 4096):
            pass
    status = os.waitpid(child, 0)[1]
    os.close(reading)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"a training failed with status {os.WEXITSTATUS(status)}")
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    command, *folders = sys.argv[1:]
    if command == "kill":
        _kill_ten_times(Path(folders[0]))
    elif command == "kill_each":
        _kill_each(Path(folders[0]))
    else:
        _fit([Path(folder) for folder in folders])
