"""The trainer: batches in, rows of metrics and a trained model out. It knows neither architecture, objective nor study."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ripstop.batch import Batch, BatchStream
from ripstop.config import ConfigError, TrainingError
from ripstop.models.base import Model
from ripstop.training.checkpoint import Checkpoints
from ripstop.training.config import TrainingConfig
from ripstop.training.fp8 import in_use, use_fp8
from ripstop.training.interruption import Interruption
from ripstop.training.monitor import Monitor, check_names
from ripstop.training.objectives.base import Loss, Objective
from ripstop.training.peak import peak_flops
from ripstop.training.precision import autocast
from ripstop.training.randomness import random_state, restore_random_state, seed_everything
from ripstop.training.reporting import Reporting
from ripstop.training.schedule import learning_rate
from ripstop.training.validation import held_out_loss

CPU = torch.device("cpu")
DEFAULT_REPORTING = Reporting()


class Trainer:
    """Trains `model` in place on batches of `stream`.

    Everything that resumes is in `state_dict`: on a CPU a training that was stopped anywhere ends with the same bits as
    one that was not. (On CUDA the same states are restored, but kernels that add atomically round as they happen to.)
    """

    def __init__(
        self, model: Model, stream: BatchStream, config: TrainingConfig, out: Path, *, objective: Objective, seed: int,
        flops: Callable[[Batch], float], identity: Mapping[str, str],
        validation: Callable[[], Iterable[Batch]] | None = None, device: torch.device = CPU,
        reporting: Reporting = DEFAULT_REPORTING, settings: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        """out: folder of metrics.jsonl and checkpoints/. flops: forward FLOPs of a batch; the backward pass is counted as
        twice that. identity: a checkpoint is resumed where it, and the model's frozen base, are equal; settings tell where
        two differ. validation: the held-out batches, the same ones at every call. device: see `prepare_device`.
        """
        if not any(p.requires_grad for p in model.parameters()):
            raise ConfigError("training: the model has no parameter to train; leave the training out")
        if config.validate_every and validation is None:
            raise ConfigError("training.validate_every: the data has no held-out batches; set it to 0")
        self.device = device
        self.model = model.to(device).train()
        self.stream = stream
        self.config = config
        self.out = out
        self.objective = objective
        self.seed = seed
        self.flops = flops
        self.validation = validation
        self.reporting = reporting
        self.checkpoints = Checkpoints(
            out / "checkpoints",
            {**identity, "frozen_base": model.frozen_base},
            reporting.keep_checkpoints,
            settings,
            companions=[out / "metrics.jsonl"],
        )
        if in_use(config.precision, device) == "fp8":
            print(f"fp8: {len(use_fp8(model))} linear layers multiply in 8 bits", flush=True)
        self.optimizer = config.optimizer.build(model)
        self.step = 0
        self.seconds = 0.0
        self.kept: dict[str, Any] = {}
        """After `fit`, which parameters the model holds."""
        self._metrics: list[str] | None = None
        """Names of the objective's metrics; None before the first update."""
        self._since_row: list[list[float]] = []
        """Loss, gradient norm and metrics of each update since the last row."""
        self._unread: list[tuple[int, Tensor]] = []
        """Step and the same of the newest updates, still on the device: reading them one by one would make it wait."""
        self._reads_each = device.type == "cpu" or config.on_divergence == "record"
        self._last_finite: tuple[int, float] | None = None
        """Step and loss of the newest update that was read."""
        self._best: dict[str, Any] | None = None
        """Step, held-out loss and trained state of the best model so far."""
        self._held_out: list[dict[str, float | None]] = []
        """Step, number of targets, loss and metrics of each validation."""
        self._trained = model.trained_state()
        self._before: list[Tensor] | None = None
        """The trained state in which the loss of the last update was measured, where divergence is recorded."""
        _prepare_blocks(model, config)

    def fit(self) -> dict[str, Any]:
        """Train to `config.steps` from the newest checkpoint that fits, or from the start, and summarise.

        On a signal that asks to stop: `SystemExit(128 + signal)` after the step at hand and a checkpoint. `TrainingError`
        where the disk is full, or where loss or gradient are not finite and that is no outcome (`on_divergence`).
        """
        self._start()
        first_step, seconds_before = self.step, self.seconds
        peak = peak_flops(self.device, self.config.precision)
        print(f"training on {self.device}, peak {peak.flops / 1e12:.3g} TFLOP/s ({peak.source})", flush=True)
        monitor = Monitor(self.out, self.config.steps, self.reporting, self.device, peak, first_step, seconds_before)
        loss, diverged = math.nan, None
        with monitor, Interruption() as interruption:
            while self.step < self.config.steps:
                try:
                    monitor.count(*self._update())
                    ends = self.step == self.config.steps
                    validates = self._is_due(self.config.validate_every, ends)
                    row_due = validates or self._is_due(self.reporting.log_every, ends)
                    stops = interruption.signal is not None and not ends
                    save_due = not ends and (stops or self._is_due(self.reporting.checkpoint_every))
                    if row_due or save_due:
                        self._read()
                except DivergenceError as divergence:
                    diverged = self._after(divergence)
                    if self._since_row:
                        loss = self._report(monitor)
                    break
                if row_due:
                    loss = self._report(monitor, validates)
                if save_due:
                    self.seconds = seconds_before + monitor.seconds
                    path = self.checkpoints.save(self.step, self.state_dict())
                if stops and interruption.signal is not None:
                    name = signal.Signals(interruption.signal).name
                    print(f"{name}: stopped after step {self.step}; the same command resumes from {path}", flush=True)
                    raise SystemExit(128 + interruption.signal)
            self.seconds = seconds_before + monitor.seconds
        self._keep(diverged)
        return {
            "outcome": "finished" if diverged is None else "diverged",
            "steps": self.step,
            "loss": loss if math.isfinite(loss) else None,
            **(diverged or {}),
            "kept": self.kept,
            "validation": self._held_out,
            "seconds": round(monitor.seconds, 3),
            "seconds_before": round(seconds_before, 3),
            "resumed_at": first_step,
            "peak_flops": peak.flops,
            "peak_source": peak.source,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that resumes; the schedule is a function of `step`. Frozen parts are not in it."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "metrics": self._metrics,
            "since_row": [list(values) for values in self._since_row],
            "last_finite": self._last_finite,
            "model": self.model.trained_state(),
            "before": self._before,
            "best": self._best,
            "held_out": [dict(row) for row in self._held_out],
            "optimizer": self.optimizer.state_dict(),
            "stream": self.stream.state_dict(),
            "random": random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.step = state["step"]
        self.seconds = state["seconds"]
        self._metrics = state["metrics"]
        self._since_row = [list(values) for values in state["since_row"]]
        self._last_finite = state["last_finite"]
        self._before = None if state["before"] is None else [value.to(self.device) for value in state["before"]]
        self._best = state["best"]
        self._held_out = [dict(row) for row in state["held_out"]]
        self.model.load_trained(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stream.load_state_dict(state["stream"])
        restore_random_state(state["random"])

    def _start(self) -> None:
        found = self.checkpoints.load()
        if found is None:
            seed_everything(self.seed)  # whatever randomness building the model took, training starts alike
            print(f"starting at step 0 of {self.config.steps}", flush=True)
            return
        last = self.checkpoints.last
        try:
            self.load_state_dict(found[1])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            # The identity holds configuration, code and data, so only a change of those that was not digested ends here.
            raise TrainingError(
                f"{last}: is whole and of this training, and does not fit it ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); move it away and start again from step 0"
            ) from error
        print(f"resuming at step {self.step} of {self.config.steps} from {last}", flush=True)

    def _is_due(self, every: int, ends: bool = False) -> bool:
        """Whether what happens each `every` steps, and at the end where `ends` says so, is due after this step."""
        return every > 0 and (ends or self.step % every == 0)

    def _update(self) -> tuple[int, float]:
        """One update of the parameters. Returns the tokens that it read and the FLOPs that it needed."""
        batches = [self._next_batch() for _ in range(self.config.accumulation)]
        counts = [batch.n_targets for batch in batches]
        n = sum(counts)
        if not n:
            raise ConfigError(f"step {self.step + 1}: the batches of this update have no target; correct the data")
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.device)
        metrics: list[list[Tensor]] = []
        for batch, count in zip(batches, counts, strict=True):
            with autocast(self.device, self.config.precision):
                found = self.objective(self.model, batch.to(self.device))
            metrics.append(self._metrics_of(found, count))
            part = found.sum / n  # of the mean over all targets of the update
            part.backward()
            loss += part.detach()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf)
        means = [torch.stack(values).mean() for values in zip(*metrics, strict=True)]
        self._unread.append((self.step + 1, torch.stack([loss, grad_norm, *means])))
        if self._reads_each:
            self._read()
        if self.config.on_divergence == "record":
            self._remember()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config) * group.get("lr_scale", 1.0)
        self.optimizer.step()
        self.step += 1
        return sum(batch.n_tokens for batch in batches), sum(3 * self.flops(batch) for batch in batches)

    def _next_batch(self) -> Batch:
        try:
            return next(self.stream)
        except StopIteration:
            raise ConfigError(
                f"step {self.step + 1}: the training data has come to an end, and must not; correct the data"
            ) from None

    def _metrics_of(self, found: Loss, count: int) -> list[Tensor]:
        """The objective's metrics of a batch in the order of their names."""
        if found.n != count:
            raise ConfigError(f"training.objective: counts {found.n} targets in a batch that has {count}; correct one of them")
        names = sorted(found.metrics)
        if self._metrics is None:
            check_names(names)
            self._metrics = names
        if names != self._metrics or any(found.metrics[name].ndim for name in names):
            raise ConfigError(
                f"training.objective: returns the metrics {names} after {self._metrics}; "
                "let it return the same ones each time, one number each"
            )
        return [found.metrics[name].detach().to(self.device, torch.float32) for name in names]

    def _read(self) -> None:
        """Fetch loss, gradient norm and metrics of the updates since the last call. `DivergenceError` at the first of them
        whose loss or gradient norm is not finite."""
        rows = torch.stack([values for _, values in self._unread]).tolist() if self._unread else []
        steps = [step for step, _ in self._unread]
        self._unread.clear()
        for step, row in zip(steps, rows, strict=True):
            if not (math.isfinite(row[0]) and math.isfinite(row[1])):
                raise DivergenceError(step, row[0], row[1])
            self._since_row.append(row)
            self._last_finite = step, row[0]

    def _remember(self) -> None:
        """Keep the parameters as they are: the loss that was just found finite is theirs."""
        now = list(self._trained.values())
        if self._before is None:
            self._before = [value.clone() for value in now]
        else:
            torch._foreach_copy_(self._before, now)

    def _after(self, divergence: DivergenceError) -> dict[str, Any]:
        """What training.json says of a divergence that is an outcome; `TrainingError` where it is none.

        The update of the step at hand was not applied. The model goes back to the parameters whose loss was the last
        finite one; the update after that is the one that led where nothing is finite.
        """
        if self.config.on_divergence == "fail":
            last = self.checkpoints.last
            raise TrainingError(
                f"{divergence}; {f'the last good checkpoint is {last}' if last else 'there is no checkpoint before it'}; "
                "lower training.lr or training.clip, since the same command would end there again"
            )
        print(f"{divergence}; the training has diverged, which is its outcome", flush=True)
        if self._before is not None:
            torch._foreach_copy_(list(self._trained.values()), self._before)
        step, loss = self._last_finite or (0, None)
        return {"diverged_at": divergence.step, "last_finite_step": step, "last_finite_loss": loss}

    def _report(self, monitor: Monitor, validates: bool = False) -> float:
        """Write the row of this step, held-out loss included where it is due. Returns the loss in it."""
        held_out: dict[str, float] = {}
        if validates:
            with monitor.apart():
                held_out = self._validate()
        loss, grad_norm, *metrics = (sum(values) / len(values) for values in zip(*self._since_row, strict=True))
        named = dict(zip(self._metrics or [], metrics, strict=True))
        monitor.heartbeat(self.step, loss, learning_rate(self.step - 1, self.config), grad_norm, named, held_out)
        self._since_row.clear()
        return loss

    def _validate(self) -> dict[str, float]:
        """Held-out loss and metrics; the model is remembered where it is the best so far and the best is kept."""
        assert self.validation is not None
        batches = self.validation()
        loss, metrics, n = held_out_loss(self.model, self.objective, batches, self.device, self.config.precision)
        if self.config.keep == "best" and math.isfinite(loss) and (self._best is None or loss < self._best["loss"]):
            state = {name: value.detach().cpu().clone() for name, value in self._trained.items()}
            self._best = {"step": self.step, "loss": loss, "state": state}
        measured = {"loss": loss, **metrics}
        finite = {name: value if math.isfinite(value) else None for name, value in measured.items()}
        self._held_out.append({"step": self.step, "n": n, **finite})
        return measured

    def _keep(self, diverged: dict[str, Any] | None) -> None:
        """Put the parameters that are kept into the model, and say in `kept` which they are.

        kept.step: how many updates they have seen.
        """
        if self._best is not None:
            self.model.load_trained(self._best["state"])
            self.kept = {"which": "best", "step": self._best["step"], "validation_loss": self._best["loss"]}
        elif diverged is not None:
            self.kept = {"which": "last finite", "step": max(0, diverged["last_finite_step"] - 1)}
        else:
            self.kept = {"which": "last", "step": self.step}


class DivergenceError(Exception):
    """A step whose loss or gradient norm is not finite."""

    def __init__(self, step: int, loss: float, grad_norm: float):
        super().__init__(f"step {step}: the loss is {loss:.4g} and its gradient's norm {grad_norm:.4g}")
        self.step = step


def _prepare_blocks(model: Model, config: TrainingConfig) -> None:
    """Compile each block, and let its backward pass recompute activations, where the configuration says so."""
    blocks = model.blocks() if config.compile or config.activation_checkpointing else []
    if config.compile:
        for block in blocks:
            block.compile()  # block by block: alike ones share what was compiled, and parameter names stay
    if config.activation_checkpointing:
        # slow to import
        from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

        chosen = set(map(id, blocks))
        apply_activation_checkpointing(model, check_fn=lambda module: id(module) in chosen)
