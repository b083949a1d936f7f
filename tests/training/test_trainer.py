"""Training goes on, after whatever stopped it, to the same bits."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training import tiny
from training.tiny import TinyModel, TinyStream, assert_equal, config, reporting, rows, trainer, weights

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError, TrainingError
from ripstop.training.interruption import ASKING
from ripstop.training.objectives.base import Loss
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.schedule import learning_rate
from ripstop.training.trainer import Trainer

from training.test_checkpoint import largest_file  # isort: skip


ADAMW = {"kind": "adamw", "weight_decay": 0.3, "betas": (0.8, 0.9)}


class FixedStream(TinyStream):
    """The given batches, over and over."""

    def __init__(self, batches: list[TokenBatch]):
        super().__init__(0)
        self.batches = batches

    def __next__(self) -> TokenBatch:
        self.position += 1
        return self.batches[(self.position - 1) % len(self.batches)]


def without_times(out: Path) -> list[tuple]:
    return [(row["step"], row["loss"], row["lr"], row["grad_norm"]) for row in rows(out)]


def start(command: str, *outs: Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command_line = [sys.executable, tiny.__file__, command, *map(str, outs)]
    return subprocess.Popen(command_line, env=environment, text=True, stdout=subprocess.PIPE)


def test_it_learns(tmp_path: Path):
    training = trainer(tmp_path, steps=300, log_every=50)
    summary = training.fit()
    assert summary["steps"] == 300 and summary["loss"] == rows(tmp_path)[-1]["loss"] < rows(tmp_path)[0]["loss"] / 2
    assert [row["step"] for row in rows(tmp_path)] == [50, 100, 150, 200, 250, 300]


def test_a_row_is_the_mean_of_its_updates(tmp_path: Path):
    trainer(tmp_path / "all", log_every=1).fit()
    trainer(tmp_path / "some", log_every=5).fit()
    each, some = rows(tmp_path / "all"), rows(tmp_path / "some")
    assert [row["step"] for row in some] == [5, 10, 15, 20, 24]
    for row, first in zip(some, (0, 5, 10, 15, 20), strict=True):
        window = each[first : row["step"]]
        for key in ("loss", "grad_norm"):
            assert row[key] == pytest.approx(sum(r[key] for r in window) / len(window), rel=1e-9)
        assert row["lr"] == window[-1]["lr"] == learning_rate(row["step"] - 1, config())


def test_three_updates_equal_a_loop_written_out(tmp_path: Path):
    """Loss, clipping, schedule and AdamW of the trainer against plain arithmetic on every parameter."""
    torch.manual_seed(1)
    model = TinyModel(dropout=0.0).double()
    batches = [next(TinyStream(seed)) for seed in (1, 2, 3)]
    settings = config(steps=3, warmup=0.3, min_lr_ratio=0.5, lr=0.1, clip=0.7, optimizer=ADAMW)
    reference = copy.deepcopy(model)
    m = {name: torch.zeros_like(p) for name, p in reference.named_parameters()}
    v = {name: torch.zeros_like(p) for name, p in reference.named_parameters()}
    for t, (batch, rate) in enumerate(zip(batches, (0.1, 0.075, 0.05), strict=True), 1):
        reference.zero_grad()
        loss = cross_entropy(reference, batch)
        (loss.sum / loss.n).backward()
        norm = sum(float(p.grad.square().sum()) for p in reference.parameters()) ** 0.5
        assert norm > 0.7
        with torch.no_grad():
            for name, p in reference.named_parameters():
                g = p.grad * 0.7 / (norm + 1e-6)
                m[name], v[name] = 0.8 * m[name] + 0.2 * g, 0.9 * v[name] + 0.1 * g * g
                if name.endswith("linear.weight"):
                    p -= rate * 0.3 * p
                p -= rate * (m[name] / (1 - 0.8**t)) / ((v[name] / (1 - 0.9**t)).sqrt() + 1e-8)
    training = Trainer(
        model, FixedStream(batches), settings, tmp_path, objective=cross_entropy, seed=1, flops=lambda batch: 1.0, identity={}
    )
    training.fit()
    for (name, a), b in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=name)


def test_an_accumulated_update_equals_that_of_the_whole_batch(tmp_path: Path):
    """With unequal numbers of targets, so that a plain mean of means would differ."""
    parts = [next(TinyStream(seed)) for seed in (1, 2, 3)]
    parts[1].targets_BT[1:] = IGNORE
    parts[2].targets_BT[2:] = IGNORE
    assert len({int((part.targets_BT != IGNORE).sum()) for part in parts}) == 3
    whole = TokenBatch(torch.cat([p.tokens_BT for p in parts]), torch.cat([p.targets_BT for p in parts]))
    results = []
    for batches in (parts, [whole]):
        torch.manual_seed(1)
        model, out = TinyModel(dropout=0.0).double(), tmp_path / str(len(batches))
        loss = cross_entropy(model, whole)
        expected = loss.sum.item() / loss.n
        training = Trainer(
            model, FixedStream(batches), config(steps=3, accumulation=len(batches)), out, objective=cross_entropy, seed=1,
            flops=lambda batch: 1.0, identity={}, reporting=reporting(log_every=1),
        )  # fmt: skip
        training.fit()
        assert rows(out)[0]["loss"] == pytest.approx(expected, rel=1e-6)
        results.append((weights(training), [row["grad_norm"] for row in rows(out)]))
    (a, norms_a), (b, norms_b) = results
    assert norms_a == pytest.approx(norms_b, rel=1e-6)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_clipping_bounds_the_gradient_that_is_applied(tmp_path: Path, clip: float):
    training = trainer(tmp_path, steps=1, clip=clip, log_every=1)
    training.fit()
    applied = torch.stack([p.grad.norm() for p in training.model.parameters()]).norm().item()
    before = rows(tmp_path)[0]["grad_norm"]
    assert before > 1 and applied == pytest.approx(clip or before, rel=1e-4)


@pytest.mark.parametrize("stop", [5, 10, 15, 20])
def test_resuming_ends_with_the_same_bits(tmp_path: Path, stop: int):
    straight = trainer(tmp_path / "straight", keep_checkpoints=9)
    straight.fit()
    first = trainer(tmp_path / "resumed", keep_checkpoints=9)
    first.fit()
    for path in (tmp_path / "resumed/checkpoints").iterdir():
        if int(path.name.split("-")[1]) > stop:
            path.unlink()
    second = trainer(tmp_path / "resumed", TinyModel(dropout=0.1), keep_checkpoints=9)
    torch.manual_seed(99)  # what the process did before must not matter
    summary = second.fit()
    assert summary["resumed_at"] == stop and summary["seconds_before"] > 0
    assert_equal(weights(second), weights(straight))
    assert without_times(tmp_path / "resumed") == without_times(tmp_path / "straight")


def test_state_dict_alone_resumes(tmp_path: Path):
    straight = trainer(tmp_path / "a")
    straight.fit()
    half = trainer(tmp_path / "b")
    half._start()
    for _ in range(7):
        half._update()
    state = half.state_dict()
    torch.save(state, tmp_path / "state.pt")
    other = trainer(tmp_path / "c")
    torch.manual_seed(99)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    while other.step < 24:
        other._update()
    assert_equal(weights(other), weights(straight))


def test_ten_kills_at_random_moments_change_no_bit(tmp_path: Path):
    with start("kill", tmp_path) as process:
        report = json.loads(process.communicate(timeout=200)[0].splitlines()[-1])
    assert process.returncode == 0 and report["kills"] == 10
    assert 0 < max(report["reached"]) < tiny.LONG["steps"], report
    a, b = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("undisturbed", "killed"))
    assert_equal(a, b)
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "undisturbed")
    steps = [row["step"] for row in rows(tmp_path / "killed")]
    assert steps == sorted(set(steps)) and steps[-1] == tiny.LONG["steps"]


def test_a_signal_leaves_a_checkpoint_and_the_status(tmp_path: Path):
    """Two trainings, each with a signal of its own."""
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    outs = [tmp_path / number.name for number in numbers]
    with start("fit", *outs) as process:
        assert process.stdout is not None
        pids = json.loads(process.stdout.readline())
        for number, out, pid in zip(numbers, outs, pids, strict=True):
            deadline = time.monotonic() + 60
            while not (out / "metrics.jsonl").is_file() or len(rows_safely(out)) < 2:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            os.kill(pid, number)
        statuses = json.loads(process.communicate(timeout=60)[0])
    assert statuses == [128 + number for number in numbers]
    for number, out in zip(numbers, outs, strict=True):
        (path,) = (out / "checkpoints").iterdir()
        step = int(path.name.split("-")[1])
        said = (out / "said.txt").read_text().splitlines()[-1]
        assert said == f"{number.name}: stopped after step {step}; the same command resumes from {path}"
        assert rows(out)[-1]["step"] <= step < rows(out)[-1]["step"] + 50


def rows_safely(out: Path) -> list[str]:
    """Lines of a file that is being written."""
    return (out / "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_in_process_resumes_to_the_same_bits(tmp_path: Path, number: signal.Signals):
    straight = trainer(tmp_path / "straight")
    straight.fit()

    class Interrupting(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == 8:
                os.kill(os.getpid(), number)
            return super().__next__()

    before = signal.getsignal(number)
    stopped = trainer(tmp_path / "stopped")
    stopped.stream = Interrupting(5)
    with pytest.raises(SystemExit) as raised:
        stopped.fit()
    assert raised.value.code == 128 + number and stopped.step == 9 and signal.getsignal(number) is before
    resumed = trainer(tmp_path / "stopped")
    assert resumed.fit()["resumed_at"] == 9
    assert_equal(weights(resumed), weights(straight))
    assert without_times(tmp_path / "stopped") == without_times(tmp_path / "straight")


def test_a_damaged_checkpoint_costs_steps_but_no_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    straight = trainer(tmp_path)
    straight.fit()
    newest = max((tmp_path / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()
    resumed = trainer(tmp_path)
    assert resumed.fit()["resumed_at"] == 15
    assert f"{newest}: damaged" in capsys.readouterr().out
    assert_equal(weights(resumed), weights(straight))


def test_another_configuration_starts_afresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trainer(tmp_path, identity="one").fit()
    capsys.readouterr()
    other = trainer(tmp_path, identity="two")
    assert other.fit()["resumed_at"] == 0
    out = capsys.readouterr().out
    assert "made with another configuration; not resumed, kept in" in out and "starting at step 0 of 24" in out
    assert [row["step"] for row in rows(tmp_path)] == [4, 8, 12, 16, 20, 24]


def test_a_full_disk_stops_with_a_sentence_and_resumes(tmp_path: Path):
    straight = trainer(tmp_path / "straight")
    straight.fit()

    class Filling(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == 12:
                limit.__enter__()
            return super().__next__()

    limit = largest_file(3000)  # more than the rows need and less than a checkpoint does
    full = trainer(tmp_path / "full")
    full.stream = Filling(5)
    try:
        with pytest.raises(TrainingError, match=r"checkpoint of step 15 cannot be written .* step-00000010-\w+.pt is"):
            full.fit()
    finally:
        limit.__exit__(None, None, None)
    assert sorted(p.name[:13] for p in (tmp_path / "full/checkpoints").iterdir()) == ["step-00000005", "step-00000010"]
    resumed = trainer(tmp_path / "full")
    assert resumed.fit()["resumed_at"] == 10
    assert_equal(weights(resumed), weights(straight))
    assert without_times(tmp_path / "full") == without_times(tmp_path / "straight")


class Counting:
    """Cross-entropy with metrics of which every value is known: the number of the call, and the same times ten."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model: TinyModel, batch: TokenBatch) -> Loss:
        self.calls += 1
        return cross_entropy(model, batch)._replace(
            metrics={"call": torch.tensor(self.calls), "ten": torch.tensor(10.0 * self.calls)}
        )


def test_metrics_are_means_over_micro_batches_and_updates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trainer(tmp_path, objective=Counting(), accumulation=2, steps=6).fit()
    first, second = rows(tmp_path)  # updates 1 to 4 are the calls 1 to 8, updates 5 and 6 the calls 9 to 12
    assert (first["call"], first["ten"], second["call"], second["ten"]) == (4.5, 45.0, 10.5, 105.0)
    assert "call 4.5  ten 45  lr" in capsys.readouterr().out


def test_metrics_survive_a_stop(tmp_path: Path):
    straight = trainer(tmp_path / "straight", objective=Counting())
    straight.fit()
    objective = Counting()

    class Interrupting(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == 9:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    stopped = trainer(tmp_path / "stopped", objective=objective)
    stopped.stream = Interrupting(5)
    with pytest.raises(SystemExit):
        stopped.fit()
    trainer(tmp_path / "stopped", objective=objective).fit()
    assert [row["call"] for row in rows(tmp_path / "stopped")] == [row["call"] for row in rows(tmp_path / "straight")]


@pytest.mark.parametrize("name", ["loss", "step", "lr", "mfu", "validation_loss", "validation_x"])
def test_a_metric_named_like_a_column_is_refused(tmp_path: Path, name: str):
    def objective(model: TinyModel, batch: TokenBatch) -> Loss:
        return cross_entropy(model, batch)._replace(metrics={name: torch.tensor(1.0)})

    with pytest.raises(ConfigError, match=f"metric '{name}' has the name of a column"):
        trainer(tmp_path, objective=objective).fit()


@pytest.mark.parametrize("wrong", ["other names", "a vector", "another n"])
def test_an_objective_that_contradicts_itself_is_told(tmp_path: Path, wrong: str):
    calls: list[int] = []

    def objective(model: TinyModel, batch: TokenBatch) -> Loss:
        calls.append(1)
        loss = cross_entropy(model, batch)._replace(metrics={"a": torch.tensor(1.0)})
        if len(calls) < 3:
            return loss
        changes = {
            "other names": {"metrics": {}},
            "a vector": {"metrics": {"a": torch.ones(2)}},
            "another n": {"n": loss.n + 1},
        }
        return loss._replace(**changes[wrong])

    with pytest.raises(ConfigError, match=r"training.objective: (counts \d+ targets|returns the metrics)"):
        trainer(tmp_path, objective=objective).fit()


def test_a_group_has_its_own_part_of_the_rate(tmp_path: Path):
    """What an optimizer skips does not move, and a group's lr_scale scales what it does."""
    torch.manual_seed(3)
    model = TinyModel(dropout=0.0)
    training = trainer(tmp_path, model, steps=4, optimizer={"kind": "adamw", "weight_decay": 0.0})
    training.optimizer.param_groups[0]["lr_scale"] = 0.5
    training._start()
    rates = []
    for _ in range(4):
        training._update()
        rates.append([group["lr"] for group in training.optimizer.param_groups])
    expected = [learning_rate(step, training.config) for step in range(4)]
    assert rates == [[rate * 0.5, rate] for rate in expected] and len(set(expected)) > 1


def test_every_trainable_parameter_moves(tmp_path: Path):
    training = trainer(tmp_path)
    before = weights(training)
    training.fit()
    after = weights(training)
    assert not [name for name in before if torch.equal(before[name], after[name])]


def test_a_model_with_nothing_to_train_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="no parameter to train"):
        trainer(tmp_path, TinyModel().requires_grad_(False))


def test_a_stream_that_ends_is_told(tmp_path: Path):
    class Ending(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == 3:
                raise StopIteration
            return super().__next__()

    training = trainer(tmp_path)
    training.stream = Ending(5)
    with pytest.raises(ConfigError, match="step 4: the training data has come to an end"):
        training.fit()


def test_a_checkpoint_that_does_not_fit_is_one_sentence(tmp_path: Path):
    trainer(tmp_path).fit()
    with pytest.raises(TrainingError, match=r"step-00000020-.*does not fit it .*embedding.weight") as raised:
        trainer(tmp_path, TinyModel(d_model=4)).fit()
    assert "\n" not in str(raised.value)


def test_frozen_parts_are_in_no_checkpoint_and_another_base_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def on(base: str) -> Trainer:
        torch.manual_seed(3)
        model = TinyModel()
        model.layers[0].requires_grad_(False)
        model.frozen_base = base
        return trainer(tmp_path, model)

    on("base-1").fit()
    newest = max((tmp_path / "checkpoints").iterdir())
    content = torch.load(newest, weights_only=True)
    assert content["identity"]["frozen_base"] == "base-1"
    assert not [name for name in content["state"]["model"] if name.startswith("layers.0")]
    capsys.readouterr()
    assert on("base-2").fit()["resumed_at"] == 0
    assert "made with another frozen base; not resumed" in capsys.readouterr().out
    assert on("base-1").fit()["resumed_at"] == 20


def test_another_way_of_reporting_resumes_to_the_same_bits(tmp_path: Path):
    straight = trainer(tmp_path / "straight")
    straight.fit()

    class Interrupting(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == 13:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    stopped = trainer(tmp_path / "stopped", log_every=3)
    stopped.stream = Interrupting(5)
    with pytest.raises(SystemExit):
        stopped.fit()
    resumed = trainer(tmp_path / "stopped", log_every=7, checkpoint_every=2, keep_checkpoints=1)
    assert resumed.fit()["resumed_at"] == 14
    assert_equal(weights(resumed), weights(straight))
    assert [row["step"] for row in rows(tmp_path / "stopped")] == [3, 6, 9, 12, 21, 24]


def test_a_batch_without_target_is_told(tmp_path: Path):
    training = trainer(tmp_path)
    tokens_BT = torch.zeros(2, 5, dtype=torch.int64)
    training.stream = FixedStream([TokenBatch(tokens_BT, torch.full_like(tokens_BT, IGNORE))])
    with pytest.raises(ConfigError, match="no target"):
        training.fit()


def test_activation_checkpointing_recomputes_blocks_and_changes_no_bit(tmp_path: Path):
    trained, calls = [], []
    for saving in (False, True):
        training = trainer(tmp_path / str(saving), steps=6, activation_checkpointing=saving)
        calls.append([])
        for block in [m for m in training.model.modules() if isinstance(m, tiny.TinyBlock)]:
            block.register_forward_pre_hook(lambda *_, seen=calls[-1]: seen.append(1))
        training.fit()
        trained.append(weights(training))
    assert [len(seen) for seen in calls] == [6 * 2, 6 * 2 * 2]
    assert_equal(*trained)  # names are alike too


def test_bf16_trains_with_float32_parameters(tmp_path: Path):
    training = trainer(tmp_path, precision="bf16", steps=60, log_every=20)
    training.fit()
    assert all(p.dtype == torch.float32 for p in training.model.parameters())
    assert rows(tmp_path)[-1]["loss"] < rows(tmp_path)[0]["loss"]


def test_utilisation_counts_three_forward_passes(tmp_path: Path):
    training = trainer(tmp_path)
    training._start()
    tokens, flops = training._update()
    assert (tokens, flops) == (21, 3 * 100.0 * 21)


@pytest.mark.slow
def test_compiled_blocks_train_alike(tmp_path: Path):
    trained = []
    for compiled in (False, True):
        torch.manual_seed(3)
        training = trainer(tmp_path / str(compiled), TinyModel(dropout=0.0), compile=compiled)
        training.fit()
        trained.append(weights(training))
    assert trained[0].keys() == trained[1].keys()
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-3, atol=1e-4)
