"""The trainer: batches in, rows of metrics and a trained model out. It knows neither architecture nor study."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from ripstop.batch import Batch, BatchStream
from ripstop.config import ConfigError
from ripstop.models.base import Model
from ripstop.training.checkpoint import Checkpoints
from ripstop.training.config import Reporting, TrainingConfig, TrainingError
from ripstop.training.monitor import Monitor
from ripstop.training.objectives.base import Objective
from ripstop.training.peak import peak_flops
from ripstop.training.precision import autocast
from ripstop.training.randomness import random_state, restore_random_state, seed_everything
from ripstop.training.schedule import learning_rate

CPU = torch.device("cpu")
DEFAULT_REPORTING = Reporting()


class Trainer:
    """Trains `model` in place on batches of `stream`.

    Everything that resumes is in `state_dict`: on a CPU a training that was stopped anywhere ends with the same bits as
    one that was not. (On CUDA the same states are restored, but kernels that add atomically round as they happen to.)
    """

    def __init__(
        self, model: Model, stream: BatchStream, config: TrainingConfig, out: Path, *, objective: Objective, seed: int,
        flops: Callable[[Batch], float], identity: dict[str, str], device: torch.device = CPU,
        reporting: Reporting = DEFAULT_REPORTING,
    ):  # fmt: skip
        """out: folder of metrics.jsonl and checkpoints/. flops: forward FLOPs of a batch; the backward pass is counted as
        twice that. identity: a checkpoint is resumed where it is equal. device: see `prepare_device`.
        """
        self.device = device
        self.model = model.to(self.device).train()
        self.stream = stream
        self.config = config
        self.out = out
        self.seed = seed
        self.objective = objective
        self.flops = flops
        self.reporting = reporting
        self.checkpoints = Checkpoints(out / "checkpoints", identity, reporting.keep_checkpoints)
        self.optimizer = config.optimizer.build(model)
        self.step = 0
        self.seconds = 0.0
        self._since_row: list[list[float]] = []
        """Loss and gradient norm of each update since the last row."""
        self._unread: list[Tensor] = []
        """The same of the newest updates, still on the device: reading them one by one would make it wait."""
        _prepare_blocks(model, config)

    def fit(self) -> dict[str, Any]:
        """Train to `config.steps` from the newest checkpoint that fits, or from the start, and summarise.

        On SIGTERM and SIGINT: `SystemExit(128 + signal)` after the step at hand and a checkpoint. `TrainingError` where
        loss or gradient are not finite, or the disk is full.
        """
        self._start()
        first_step, seconds_before = self.step, self.seconds
        peak = peak_flops(self.device, self.config.precision)
        print(f"training on {self.device}, peak {peak.flops / 1e12:.3g} TFLOP/s ({peak.source})", flush=True)
        monitor = Monitor(self.out, self.config.steps, self.reporting, self.device, peak, first_step, seconds_before)
        loss = math.nan
        with monitor, _Interruption() as interruption:
            while self.step < self.config.steps:
                monitor.count(*self._update())
                ends = self.step == self.config.steps
                row_due = ends or self.step % self.reporting.log_every == 0
                stops = interruption.signal is not None and not ends
                save_due = stops or (self.step % self.reporting.checkpoint_every == 0 and not ends)
                if row_due or save_due or self.device.type == "cpu":
                    self._read()
                if row_due:
                    loss, grad_norm = (sum(values) / len(values) for values in zip(*self._since_row, strict=True))
                    monitor.heartbeat(self.step, loss, learning_rate(self.step - 1, self.config), grad_norm)
                    self._since_row.clear()
                if save_due:
                    self.seconds = seconds_before + monitor.seconds
                    path = self.checkpoints.save(self.step, self.state_dict())
                if stops and interruption.signal is not None:
                    name = signal.Signals(interruption.signal).name
                    print(f"{name}: stopped after step {self.step}; the same command resumes from {path}", flush=True)
                    raise SystemExit(128 + interruption.signal)
            self.seconds = seconds_before + monitor.seconds
        return {
            "steps": self.step,
            "loss": loss,
            "seconds": round(monitor.seconds, 3),
            "seconds_before": round(seconds_before, 3),
            "resumed_at": first_step,
            "peak_flops": peak.flops,
            "peak_source": peak.source,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that resumes; the schedule is a function of `step`."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "since_row": [list(values) for values in self._since_row],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "stream": self.stream.state_dict(),
            "random": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.step = state["step"]
        self.seconds = state["seconds"]
        self._since_row = [list(values) for values in state["since_row"]]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stream.load_state_dict(state["stream"])
        restore_random_state(state["random"])

    def _start(self) -> None:
        found = self.checkpoints.load()
        if found is None:
            seed_everything(self.seed)  # whatever randomness building the model took, training starts alike
            print(f"starting at step 0 of {self.config.steps}", flush=True)
        else:
            self.load_state_dict(found[1])
            print(f"resuming at step {self.step} of {self.config.steps} from {self.checkpoints.last}", flush=True)

    def _update(self) -> tuple[int, float]:
        """One update of the parameters. Returns the tokens that it read and the FLOPs that it needed."""
        batches = [next(self.stream) for _ in range(self.config.accumulation)]
        n_targets = [batch.n_targets for batch in batches]
        n = sum(n_targets)
        if not n:
            raise ConfigError(f"step {self.step + 1}: the update's batches have no target; correct the data")
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.device)
        for batch in batches:
            with autocast(self.device, self.config.precision):
                total = self.objective(self.model, batch.to(self.device)).sum
            part = total / n  # of the mean over all targets of the update
            part.backward()
            loss += part.detach()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        self.optimizer.step()
        self.step += 1
        self._unread.append(torch.stack([loss, grad_norm]))
        flops = sum(3 * self.flops(batch) for batch in batches)
        return sum(batch.n_tokens for batch in batches), flops

    def _read(self) -> None:
        """Fetch loss and gradient norm of the updates since the last call; all of them must be finite."""
        rows = torch.stack(self._unread).tolist() if self._unread else []
        for step, (loss, grad_norm) in enumerate(rows, self.step - len(rows) + 1):
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                last = self.checkpoints.last
                raise TrainingError(
                    f"step {step}: the loss is {loss:.4g} and its gradient's norm {grad_norm:.4g}; "
                    f"{f'the last good checkpoint is {last}' if last else 'there is no checkpoint before it'}; "
                    "lower training.lr or training.clip, since the same command would end there again"
                )
        self._since_row += rows
        self._unread.clear()


class _Interruption:
    """Remembers the first SIGTERM or SIGINT while entered; a second one acts as it did before."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__(None, None, None)


def _prepare_blocks(model: Model, config: TrainingConfig) -> None:
    """Compile each block, and let its backward pass recompute activations, where the configuration says so."""
    blocks = model.blocks() if config.compile or config.activation_checkpointing else []
    if config.compile:
        for block in blocks:
            block.compile()  # block by block: alike ones share what was compiled, and parameter names stay
    if config.activation_checkpointing:
        chosen = set(map(id, blocks))
        apply_activation_checkpointing(model, check_fn=lambda module: id(module) in chosen)
