"""The trainer: batches in, rows of metrics and a trained model out. It knows neither architecture, objective nor study."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ripstop.batch import Batch, BatchStream
from ripstop.config import ConfigError, TrainingError
from ripstop.models.base import Model
from ripstop.training.checkpoint import Checkpoints
from ripstop.training.config import TrainingConfig
from ripstop.training.distributed.config import Parallel
from ripstop.training.distributed.parts import of_part, part_of
from ripstop.training.distributed.quiet_monitor import QuietMonitor
from ripstop.training.distributed.ranks import ALONE, Ranks
from ripstop.training.distributed.strategy import lay, shares
from ripstop.training.fp8 import in_use, use_fp8
from ripstop.training.interruption import Interruption
from ripstop.training.monitor import Monitor, check_names
from ripstop.training.objectives.base import Loss, Objective
from ripstop.training.peak import Peak, peak_flops
from ripstop.training.precision import autocast
from ripstop.training.pulse import Pulse
from ripstop.training.randomness import random_state, restore_random_state, seed_everything, seed_of_rank
from ripstop.training.reporting import Reporting
from ripstop.training.schedule import learning_rate
from ripstop.training.validation import held_out_loss

CPU = torch.device("cpu")
DEFAULT_REPORTING = Reporting()
DEFAULT_PARALLEL = Parallel()


class Trainer:
    """Trains `model` in place on batches of `stream`.

    Everything that resumes is in `state_dict`: on a CPU a training that was stopped anywhere ends with the same bits as
    one that was not. (On CUDA the same states are restored, but kernels that add atomically round as they happen to.)

    Several processes train one model, each with a trainer of its own that does the same at the same time, on its part of each
    batch. Losses and metrics are means over the targets of all; what is decided (a stop, a divergence, the best model) is
    decided alike. Any number of them resumes what any other number left, but then draws other random numbers (dropout).
    """

    def __init__(
        self, model: Model, stream: BatchStream, config: TrainingConfig, out: Path, *, objective: Objective, seed: int,
        flops: Callable[[Batch], float], identity: Mapping[str, str],
        validation: Callable[[], Iterable[Batch]] | None = None, device: torch.device = CPU,
        reporting: Reporting = DEFAULT_REPORTING, settings: Mapping[str, Any] | None = None, ranks: Ranks = ALONE,
        parallel: Parallel = DEFAULT_PARALLEL,
    ):  # fmt: skip
        """out: folder of metrics.jsonl and checkpoints/. flops: forward FLOPs of a batch; the backward pass is counted as
        twice that. identity: a checkpoint is resumed where it, and the model's frozen base, are equal; settings tell where
        two differ. validation: the held-out batches, the same ones at every call, and on every rank. device: see
        `prepare_device`. ranks: the processes that train together; `stream` is what this one reads. parallel: how they share.
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
            ranks=ranks,
        )
        self.ranks = ranks
        if in_use(config.precision, device) == "fp8":
            print(f"fp8: {len(use_fp8(model))} linear layers multiply in 8 bits", flush=True)
        # In the order that PyTorch documents: compiled, recomputed, shared among processes; and then the optimizer, since FSDP2
        # puts other tensors in the place of the parameters.
        _prepare_blocks(model, config)
        self.laid = lay(model, objective, config, parallel, ranks, device)
        self.optimizer = config.optimizer.build(model)
        self.step = 0
        self.seconds = 0.0
        self.kept: dict[str, Any] = {}
        """After `fit`, which parameters the model holds."""
        self._metrics: list[str] | None = None
        """Names of the objective's metrics; None before the first update."""
        self._since_row: list[list[float]] = []
        """Loss, gradient norm and metrics of each update since the last row."""
        self._unread: list[tuple[int, Tensor, Tensor]] = []
        """Step, loss and metrics, and gradient norm of the newest updates, still on the device, which reading them one by one
        would make wait. The former are this rank's parts of a sum over ranks."""
        self._reads_each = device.type == "cpu" or config.on_divergence == "record"
        self._last_finite: tuple[int, float] | None = None
        """Step and loss of the newest update that was read."""
        self._best: dict[str, Any] | None = None
        """Step, held-out loss and trained state of the best model so far."""
        self._held_out: list[dict[str, float | None]] = []
        """Step, number of targets, loss and metrics of each validation."""
        self._trained = model.trained_state()
        self._parts = [part_of(tensor) for tensor in self._trained.values()]
        """What this process holds of it."""
        self._before: list[Tensor] | None = None
        """The parts in which the loss of the last update was measured, where divergence is recorded."""
        self._asked: int | None = None
        """The signal that asked one of several processes to stop, once all of them know."""

    def fit(self) -> dict[str, Any]:
        """Train to `config.steps` from the newest checkpoint that fits, or from the start, and summarise.

        On a signal that asks to stop: `SystemExit(128 + signal)` after the step at hand and a checkpoint. `TrainingError`
        where the disk is full, or where loss or gradient are not finite and that is no outcome (`on_divergence`).
        """
        self._start()
        first_step, seconds_before = self.step, self.seconds
        peak = peak_flops(self.device, self.config.precision)
        print(f"training on {self.device}, peak {peak.flops / 1e12:.3g} TFLOP/s ({peak.source})", flush=True)
        monitor: Monitor | QuietMonitor = QuietMonitor()
        if self.ranks.first:
            of_all = Peak(peak.flops * self.ranks.n_ranks, peak.source)
            monitor = Monitor(self.out, self.config.steps, self.reporting, self.device, of_all, first_step, seconds_before)
        loss, diverged = math.nan, None
        ranks, stall = self.ranks, self.reporting.stall_seconds
        pulse = Pulse(self.out, ranks.rank, ranks.n_ranks, stall, self.config.steps)
        with monitor, pulse, Interruption(repeated=not ranks.alone) as interruption:
            while self.step < self.config.steps:
                try:
                    monitor.count(*self._update(interruption))
                    pulse.beat(self.step)
                    ends = self.step == self.config.steps
                    validates = self._is_due(self.config.validate_every, ends)
                    row_due = validates or self._is_due(self.reporting.log_every, ends)
                    asked = interruption.signal if self.ranks.alone else self._asked
                    stops = asked is not None and not ends
                    save_due = not ends and (stops or self._is_due(self.reporting.checkpoint_every))
                    if row_due or save_due:
                        self._read()
                except DivergenceError as divergence:
                    diverged = self._after(divergence)
                    if self._since_row:
                        loss = self._report(monitor)
                    break
                if row_due:
                    pulse.beat(self.step, "validating" if validates else "training")
                    loss = self._report(monitor, validates)
                if save_due:
                    pulse.beat(self.step, "saving")
                    self.seconds = seconds_before + monitor.seconds
                    path = self.checkpoints.save(self.step, self.state_dict())
                if stops and asked is not None:
                    interruption.signal = asked
                    name = signal.Signals(asked).name
                    print(f"{name}: stopped after step {self.step}; the same command resumes from {path}", flush=True)
                    raise SystemExit(128 + asked)
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
            "before": None if self._before is None else list(map(of_part, self._before, self._trained.values())),
            "best": self._best_laid_out(),
            "held_out": [dict(row) for row in self._held_out],
            "optimizer": self.optimizer.state_dict(),
            "stream": self.stream.state_dict(),
            "random": random_state() if self.ranks.alone else self.ranks.each(random_state),
        }

    def _best_laid_out(self) -> dict[str, Any] | None:
        if self._best is None:
            return None
        parts = self._best["state"].items()
        return {**self._best, "state": {name: of_part(part, self._trained[name]) for name, part in parts}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, of however many processes."""
        state = dict(self.laid.lay_out(state, self.optimizer))
        self.step = state["step"]
        self.seconds = state["seconds"]
        self._metrics = state["metrics"]
        self._since_row = [list(values) for values in state["since_row"]]
        self._last_finite = state["last_finite"]
        before = state["before"]
        self._before = None if before is None else [part_of(value).to(self.device) for value in before]
        self._best = state["best"]
        if self._best is not None:
            parts = {name: part_of(value).cpu() for name, value in self._best["state"].items()}
            self._best = {**self._best, "state": parts}
        self._held_out = [dict(row) for row in state["held_out"]]
        self.model.load_trained(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stream.load_state_dict(state["stream"])
        self._restore_random(state["random"])

    def _restore_random(self, saved: Any) -> None:
        """Of every rank its own state, where there are as many again. Otherwise none can go on where it was: each rank then
        draws what seed, step and its number say, so that the same processes do the same again."""
        states = saved if isinstance(saved, list) else [saved]
        if len(states) == self.ranks.n_ranks:
            restore_random_state(states[self.ranks.rank])
        else:
            seed_everything(seed_of_rank(self.seed, self.step, self.ranks.rank))

    def _start(self) -> None:
        found = self.checkpoints.load(self.laid.layout(self.optimizer))
        if found is None:
            # Whatever randomness building the model took, training starts alike; ranks, each on data of its own, apart.
            seed_everything(self.seed if self.ranks.alone else seed_of_rank(self.seed, 0, self.ranks.rank))
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

    def _update(self, interruption: Interruption | None = None) -> tuple[int, float]:
        """One update of the parameters. Returns the tokens that it read and the FLOPs that it needed, of all ranks together.

        interruption: knows of a signal that this process was sent; one that any was sent is then known to all of them.
        """
        batches = [self._next_batch() for _ in range(self.config.accumulation)]
        counts = [batch.n_targets for batch in batches]
        tokens, flops = sum(batch.n_tokens for batch in batches), sum(3 * self.flops(batch) for batch in batches)
        asked = 0 if interruption is None else interruption.signal or 0
        by_rank = self.ranks.gather([tokens, flops, asked, *counts])
        counts_by_rank = [row[3:] for row in by_rank]
        n = sum(map(sum, counts_by_rank))
        if not n:
            raise ConfigError(f"step {self.step + 1}: the batches of this update have no target; correct the data")
        self._asked = self._asked or max(int(row[2]) for row in by_rank) or None
        n_by_rank = n / self.ranks.n_ranks  # gradients of several ranks are a mean over these
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.device)
        metrics: list[list[Tensor]] = []
        weights = shares(counts_by_rank, self.ranks.rank)
        for number, (batch, count, weight) in enumerate(zip(batches, counts, weights, strict=True), 1):
            with self.laid.gradients(last=number == len(batches)):
                with autocast(self.device, self.config.precision):
                    found = self.laid.loss(batch.to(self.device))
                metrics.append([weighed(value, weight) for value in self._metrics_of(found, count)])
                part = found.sum / n_by_rank  # of the mean over all targets of the update
                part.backward()
            loss += part.detach()
        grad_norm = self.laid.clip(self.config.clip or math.inf)
        means = [torch.stack(values).mean() for values in zip(*metrics, strict=True)]
        self._unread.append((self.step + 1, torch.stack([loss, *means]) / self.ranks.n_ranks, grad_norm))
        if self._reads_each:
            self._read()
        if self.config.on_divergence == "record":
            self._remember()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config) * group.get("lr_scale", 1.0)
        self.optimizer.step()
        self.step += 1
        return round(sum(row[0] for row in by_rank)), sum(row[1] for row in by_rank)

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
        if not self._unread:
            return
        sums = self.ranks.sum(torch.stack([values for _, values, _ in self._unread]))
        norms = torch.stack([norm for _, _, norm in self._unread])
        rows = torch.cat([sums[:, :1], norms[:, None], sums[:, 1:]], 1).tolist()
        steps = [step for step, _, _ in self._unread]
        self._unread.clear()
        for step, row in zip(steps, rows, strict=True):
            if not (math.isfinite(row[0]) and math.isfinite(row[1])):
                raise DivergenceError(step, row[0], row[1])
            self._since_row.append(row)
            self._last_finite = step, row[0]

    def _remember(self) -> None:
        """Keep the parameters as they are: the loss that was just found finite is theirs."""
        if self._before is None:
            self._before = [value.clone() for value in self._parts]
        else:
            torch._foreach_copy_(self._before, self._parts)

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
            torch._foreach_copy_(self._parts, self._before)
        step, loss = self._last_finite or (0, None)
        return {"diverged_at": divergence.step, "last_finite_step": step, "last_finite_loss": loss}

    def _report(self, monitor: Monitor | QuietMonitor, validates: bool = False) -> float:
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
        call = self.laid.held_out
        loss, metrics, n = held_out_loss(
            self.model, lambda _, batch: call(batch), batches, self.device, self.config.precision, self.ranks
        )
        if self.config.keep == "best" and math.isfinite(loss) and (self._best is None or loss < self._best["loss"]):
            state = {name: part.detach().cpu().clone() for name, part in zip(self._trained, self._parts, strict=True)}
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
            parts = self._best["state"]
            self.model.load_trained({name: of_part(part, self._trained[name]) for name, part in parts.items()})
            self.kept = {"which": "best", "step": self._best["step"], "validation_loss": self._best["loss"]}
        elif diverged is not None:
            self.kept = {"which": "last finite", "step": max(0, diverged["last_finite_step"] - 1)}
        else:
            self.kept = {"which": "last", "step": self.step}


def weighed(value: Tensor, weight: float) -> Tensor:
    """`value` times `weight`; nothing where that is 0, even if nothing was measured (NaN)."""
    return value * weight if weight else torch.zeros_like(value)


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
