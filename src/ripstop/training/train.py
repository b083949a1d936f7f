"""Train one run of the grid: its folder's configuration in, its model and training.json out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from ripstop import provenance, yaml_file
from ripstop.batch import Batch, BatchStream
from ripstop.choices import resolved
from ripstop.config import ConfigError, TrainingError
from ripstop.files import read_text, sentence
from ripstop.models.accounting import describe
from ripstop.models.base import Model
from ripstop.runs import Run
from ripstop.training.distributed.ranks import Ranks, joined
from ripstop.training.environment import write_environment
from ripstop.training.lock import Lock
from ripstop.training.precision import prepare_device
from ripstop.training.randomness import seed_everything
from ripstop.training.results import check_room, circumstances, remove_results, write_results
from ripstop.training.trainer import Trainer

LOCK = "training.lock"
DESCRIBED_LENGTH = 1024
"""Tokens of the sequence whose FLOPs and state a training says at its start."""


def train(run_dir: Path, data: Path, overrides: Sequence[str] = ()) -> None:
    """Train the run whose files lie in `run_dir` on the prepared folder `data`, from where an earlier call was stopped.

    Writes metrics.jsonl while it runs, then training.json and, last, model.safetensors. Results of an earlier training
    are removed at the start, so that there is never a model beside another configuration, and not before everything that
    can be checked was: `ConfigError` leaves the folder as it was.
    """
    started = time.perf_counter()
    run_dir, data = Path(run_dir), Path(data)
    run = Run.load(run_dir, overrides)
    with joined(run.compute.device, run.parallel.timeout) as ranks, _one_sentence(run_dir), _locked(run_dir, ranks):
        config = run.files()["config.yaml"] if overrides else resolved(run_dir)
        training = _prepare(run, run_dir, data, config, ranks)
        ranks.once(lambda: _begin(run_dir, training, ranks))
        summary = training.trainer.fit()
        _write(run_dir, training, summary)
    took = timedelta(seconds=round(time.perf_counter() - started))
    outcome = "results" if summary["outcome"] == "finished" else "the training diverged; results"
    if ranks.first:
        print(f"{outcome} in {run_dir}: model.safetensors, training.json, metrics.jsonl; took {took}", flush=True)


@runtime_checkable
class SharedStream(BatchStream, Protocol):
    """A stream for several processes: what they read together is the stream, and its state is that of all of them."""

    def shard(self, rank: int, n_ranks: int) -> BatchStream:
        """The part of rank `rank` of `n_ranks`, at the same position."""


@dataclass(frozen=True)
class _Training:
    """Everything that a training needs, checked."""

    run: Run
    model: Model
    trainer: Trainer
    identity: dict[str, str]
    ranks: Ranks
    build: Callable[[], Model]
    """Draws the model anew."""


def _locked(run_dir: Path, ranks: Ranks) -> AbstractContextManager[Any]:
    """The first process of the training holds the folder for all of them."""
    return Lock(run_dir / LOCK) if ranks.first else nullcontext()


def _begin(run_dir: Path, training: _Training, ranks: Ranks) -> None:
    """Remove what an earlier training left, and say what this one stands on."""
    remove_results(run_dir)
    write_environment(run_dir, training.trainer.device, ranks.n_ranks)


def _write(run_dir: Path, training: _Training, summary: dict[str, Any]) -> None:
    """Leave the results, and no checkpoints."""
    run, trainer, ranks = training.run, training.trainer, training.ranks
    state = trainer.laid.whole_state()  # by all ranks together

    def write() -> None:
        model = training.model
        if trainer.laid.in_parts:
            model = training.build()
            model.load_trained(state)
        facts = {"study": run.study, "run": run.name, "seed": run.seed}
        report = facts | summary | circumstances(run, training.model, trainer.device, ranks) | {"identity": training.identity}
        metadata = {key: str(value) for key, value in (facts | training.identity).items()}
        write_results(run_dir, model, report, metadata)
        trainer.checkpoints.clear()
        for folder in trainer.checkpoints.others():
            print(f"{folder}: checkpoints that another training left; remove them where nobody goes on with it", flush=True)

    ranks.once(write)


def _prepare(run: Run, run_dir: Path, data: Path, config: str, ranks: Ranks) -> _Training:
    """Build what the training needs. Nothing that lies in `run_dir` is changed. config: text of the resolved one."""
    told = run.training
    if told is None:
        raise ConfigError(f"{run_dir / 'config.yaml'}: training: there is none, so this run has nothing to train")
    code = run_dir / "train.code"
    if not code.is_file():
        raise ConfigError(f"{code}: no such file; run the workflow's plan, or `python -m ripstop plan`, first")
    ranks.each(lambda: run.data.verify(data) if ranks.local_rank == 0 else None)  # once on every machine
    identity = {
        "configuration": provenance.digest(config),
        "code": read_text(code).strip(),
        "data": provenance.digest((data / "data.json").read_bytes()),
    }
    _are_alike(ranks.each(lambda: identity), run_dir)
    info = run.data.info(data)
    described = {"model": describe(run.model, info.vocab_size, DESCRIBED_LENGTH)}
    print(yaml_file.dump(described), end="")
    print(f"{run_dir}: training with\n{config}", flush=True)

    device = prepare_device(run.compute, told.precision)
    seed_everything(run.seed)
    model = run.model.build(info)
    plan = told.stream_plan(run.seed)
    stream = _own_part(run.data.stream(data, plan), run, ranks)
    position = stream.state_dict()
    _first(stream, "training")
    stream.load_state_dict(position)
    validation = functools.partial(run.data.validation, data, plan) if told.validate_every else None
    if validation is not None:
        _first(iter(validation()), "validation")
    trainer = Trainer(
        model, stream, told, run_dir, objective=told.objective.build(), seed=run.seed, identity=identity,
        flops=functools.partial(run.model.batch_flops, info.vocab_size), validation=validation, device=device,
        reporting=run.reporting, settings=_flat(yaml_file.parse(config, "config.yaml")), ranks=ranks,
        parallel=run.parallel,
    )  # fmt: skip
    ranks.once(lambda: check_room(run_dir, model, told))
    return _Training(run, model, trainer, identity, ranks, lambda: run.model.build(info))


def _own_part(stream: BatchStream, run: Run, ranks: Ranks) -> BatchStream:
    """What this process reads of the data. `ConfigError` where several would all read the same."""
    if ranks.alone:
        return stream
    if not isinstance(stream, SharedStream):
        raise ConfigError(
            f"data.kind: {run.data.kind} is read by one process, and {ranks.n_ranks} were started; start one, or use data of "
            "kind text, whose stream can be shared"
        )
    return stream.shard(ranks.rank, ranks.n_ranks)


def _are_alike(identities: list[dict[str, str]], run_dir: Path) -> None:
    """`ConfigError` where a process, as one of another machine, was given something else than the first one."""
    for rank, identity in enumerate(identities):
        differs = [key for key in identity if identity[key] != identities[0][key]]
        if differs:
            raise ConfigError(
                f"{run_dir}: rank {rank} reads another {' and '.join(differs)} than rank 0; give every machine the same files"
            )


def _first(batches: Iterator[Batch] | BatchStream, what: str) -> None:
    try:
        batch = next(batches)
    except StopIteration:
        raise ConfigError(f"data: there is no {what} batch; correct the data") from None
    if what == "training" and batch.n_tokens == 0:
        raise ConfigError("data: the first training batch is empty; correct the data")


def _flat(values: Any, prefix: str = "") -> dict[str, str]:
    """A configuration as one text by dotted key, as `--set` writes them."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(values, Mapping) and values:
        items = values.items()
    else:
        return {prefix: str(values)}
    return {key: text for name, value in items for key, text in _flat(value, f"{prefix}.{name}".lstrip(".")).items()}


@contextmanager
def _one_sentence(run_dir: Path) -> Iterator[None]:
    """What a disk or the memory refuses."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(_no_memory(run_dir)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # a CPU's allocator has no error of its own
            raise
        raise TrainingError(_no_memory(run_dir)) from error
    except OSError as error:
        raise TrainingError(sentence(error) if error.filename else f"{run_dir}: {sentence(error)}") from error


def _no_memory(run_dir: Path) -> str:
    return (
        f"{run_dir}: the memory does not suffice; lower training.tokens_per_step, or raise training.accumulation, "
        "which reads as many tokens in more batches"
    )
