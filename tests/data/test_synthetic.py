"""What synthetic tasks share: splits that cannot meet, data that is a function of its seed alone, lengths by step."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Generator

from ripstop.batch import IGNORE, StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data import synthetic
from ripstop.data.pointer_chain import PointerChainConfig
from ripstop.data.selective_copying import SelectiveCopyingConfig
from ripstop.data.synthetic import SyntheticConfig, SyntheticStream
from ripstop.data.word_problem import WordProblemConfig

LENGTHS = {"lengths": [4, 6, 8], "test_lengths": [8, 16, 32], "n_test": 21, "n_valid": 5}
TASKS: dict[str, SyntheticConfig] = {
    "parity": WordProblemConfig(n_things=2, **LENGTHS),
    "s3": WordProblemConfig(n_things=3, **LENGTHS),
    "copying": SelectiveCopyingConfig(n_values=3, n_different=5, **LENGTHS),
    "chains": PointerChainConfig(n_nodes=33, n_chains=2, **LENGTHS),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def plan(seed: int = 0, steps: int = 20, tokens: int = 200, accumulation: int = 1) -> StreamPlan:
    return StreamPlan(steps, tokens, accumulation, seed)


def stream(task: SyntheticConfig, **asked: int) -> SyntheticStream:
    found = task.stream(Path("unused"), plan(**asked))
    assert isinstance(found, SyntheticStream)
    return found


def numbers(batch: TokenBatch) -> tuple[list, list]:
    return batch.tokens_BT.tolist(), batch.targets_BT.tolist()


def rows_of(task: SyntheticConfig, split: synthetic.Split, length: int, n: int, seed: int = 0) -> set[tuple[int, ...]]:
    return set(map(tuple, task.rows(split, length, n, Generator().manual_seed(seed)).tolist()))


def test_splits_share_no_row_and_together_are_all_rows() -> None:
    """Small enough to see every row there is: the 256 words of 8 letters of parity."""
    seen = {split: rows_of(TASKS["parity"], split, 8, 4000) for split in ("train", "valid", "test")}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["valid"] and not seen["valid"] & seen["test"]
    sizes = {split: len(rows) for split, rows in seen.items()}
    assert sum(sizes.values()) == 256
    assert 20 < sizes["test"] < 44 and 20 < sizes["valid"] < 44


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(TASKS)), st.integers(0, 2**32), st.integers(0, 2**32))
def test_no_seed_makes_splits_meet(name: str, seed: int, other: int) -> None:
    """At the one length that is trained on and tested; rows of a split are drawn anew for each seed."""
    rows = [rows_of(TASKS[name], split, 8, 30, s) for split, s in (("train", seed), ("test", other), ("valid", seed))]
    assert sum(map(len, rows)) == len(set().union(*rows))


@every_task
def test_an_eighth_of_the_rows_is_tested_whatever_the_length(task: SyntheticConfig) -> None:
    """What a hash decides looks like chance: no length, and so no answer, is favoured."""
    for length in (6, 8, 32):
        drawn = task.draw(length, 8000, Generator().manual_seed(length)).unique(dim=0)
        share = {split: float(synthetic._is_of(split, drawn).double().mean()) for split in ("train", "valid", "test")}
        assert sum(share.values()) == pytest.approx(1)
        assert stats.binomtest(round(share["test"] * len(drawn)), len(drawn), 1 / 8).pvalue > 1e-4
        assert stats.binomtest(round(share["valid"] * len(drawn)), len(drawn), 1 / 8).pvalue > 1e-4


@every_task
def test_answers_of_the_test_are_uniform(task: SyntheticConfig) -> None:
    shown = task.rows("test", 16, 4000, Generator().manual_seed(1))
    batch = task.lay_out(shown, 16, every=False)
    last = batch.targets_BT[:, -1] - synthetic.FIRST
    assert stats.chisquare(torch.bincount(last, minlength=task.n_answers).numpy()).pvalue > 1e-4


@every_task
def test_a_test_row_is_a_training_row_that_asks_for_the_whole(task: SyntheticConfig) -> None:
    shown = task.draw(8, 5, Generator().manual_seed(0))
    trained, tested = task.lay_out(shown, 8, every=True), task.lay_out(shown, 8, every=False)
    assert torch.equal(trained.tokens_BT, tested.tokens_BT)
    assert trained.tokens_BT.shape[1] == task.row_length(8)
    asked = tested.targets_BT != IGNORE
    assert torch.equal(trained.targets_BT[asked], tested.targets_BT[asked])
    assert bool(asked[:, -1].all()) and bool((trained.targets_BT != IGNORE)[asked].all())
    assert tested.context_BT is not None
    assert torch.equal(tested.tokens_BT[tested.context_BT].view(5, -1)[:, 0], tested.tokens_BT[:, 1])
    assert not bool(tested.context_BT[:, 0].any())


@every_task
def test_data_is_a_function_of_its_seed(task: SyntheticConfig) -> None:
    """Global random states neither matter nor move."""
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    reference = stream(task, seed=4)
    batches = [numbers(next(reference)) for _ in range(6)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    torch.manual_seed(2)
    again = stream(task, seed=4)
    assert [numbers(next(again)) for _ in range(6)] == batches
    assert numbers(next(stream(task, seed=5))) != batches[0]


HASHES = {
    "parity": "de6c6994807d14c5",
    "s3": "3e69c9e3d4dcdaa8",
    "copying": "7435f425fa6717e1",
    "chains": "03f3a9cd2ad1d997",
}


@pytest.mark.parametrize("name", TASKS)
def test_hash_of_a_tiny_stream(name: str) -> None:
    """A change of this number is a change of every run's data: say so in the changelog."""
    tiny, digest = stream(TASKS[name], seed=7), hashlib.sha256()
    for _ in range(4):
        batch = next(tiny)
        digest.update(batch.tokens_BT.numpy().tobytes() + batch.targets_BT.numpy().tobytes())
    assert digest.hexdigest()[:16] == HASHES[name]


@every_task
def test_resume_at_every_position(task: SyntheticConfig) -> None:
    task = task.replace(curriculum=0.8)
    undisturbed = stream(task, seed=1, accumulation=2, tokens=400)
    states, batches = [], []
    for _ in range(6):
        states.append(json.loads(json.dumps(undisturbed.state_dict())))
        batches.append(numbers(next(undisturbed)))
    for position, state in enumerate(states):
        resumed = stream(task, seed=1, accumulation=2, tokens=400)
        resumed.load_state_dict(state)
        assert [numbers(next(resumed)) for _ in batches[position:]] == batches[position:]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_curriculum_grows_over_its_part_of_the_steps(accumulation: int) -> None:
    steps = 300
    grown = stream(TASKS["parity"].replace(curriculum=0.5), steps=steps, tokens=20 * accumulation, accumulation=accumulation)
    widths = [{next(grown).tokens_BT.shape[1] for _ in range(accumulation)} for _ in range(steps)]
    assert all(len(width) == 1 for width in widths)  # the micro-batches of a step agree
    longest = [max(width) - 1 for width in widths]
    # 3 lengths over 150 steps: the second may come from step 50 on, the third from step 100.
    assert max(longest[:50]) == 4 and max(longest[50:100]) == 6 and max(longest[100:150]) == 8
    assert set(longest[150:]) == {4, 6, 8}


def test_without_curriculum_all_lengths_come_equally_often() -> None:
    flat = stream(TASKS["parity"], steps=3000)
    counts = np.bincount([flat.length(step) for step in range(3000)])[[4, 6, 8]]
    assert stats.chisquare(counts).pvalue > 1e-4


@every_task
def test_batches_fill_the_budget(task: SyntheticConfig) -> None:
    made = stream(task, tokens=900)
    for batch in (next(made) for _ in range(5)):
        assert 900 - batch.tokens_BT.shape[1] < batch.n_tokens <= 900
    assert next(stream(task, tokens=900, accumulation=3)).n_tokens <= 300


@every_task
def test_validation_is_the_same_at_every_call_and_asks_as_training_does(task: SyntheticConfig) -> None:
    read = [list(task.validation(Path(), plan(tokens=300))) for _ in range(2)]
    assert [numbers(batch) for batch in read[0]] == [numbers(batch) for batch in read[1]]
    found: dict[int, int] = {}
    for batch in read[0]:
        assert batch.n_tokens <= 300
        found[batch.tokens_BT.shape[1]] = found.get(batch.tokens_BT.shape[1], 0) + len(batch.tokens_BT)
        expected = task.lay_out(task.draw(8, 1, Generator().manual_seed(0)), 8, every=True)
        per_row = batch.n_targets / len(batch.tokens_BT)
        if batch.tokens_BT.shape[1] == task.row_length(8):
            assert per_row == expected.n_targets
    assert found == {task.row_length(length): 5 for length in (4, 6, 8)}


@every_task
def test_prepare_is_reproducible_and_test_batches_are_what_it_wrote(task: SyntheticConfig, tmp_path: Path) -> None:
    told = []
    for name, chosen in (("a", task), ("b", task), ("c", task.replace(test_seed=1))):
        chosen.prepare(tmp_path / name)
        told.append(json.loads((tmp_path / name / "data.json").read_text(encoding="utf-8")))
    assert told[0] == told[1]
    assert told[0]["sha256_test"] != told[2]["sha256_test"]
    assert told[0]["sha256_first_training_batches"] == told[2]["sha256_first_training_batches"]
    assert told[0]["vocab_size"] == task.vocab_size(tmp_path / "a")
    assert told[0]["chance_accuracy"] == 1 / task.n_answers
    assert told[0]["examples"] == {"8": 21, "16": 21, "32": 21}
    assert 0 < told[0]["different"]["8"] <= 21 and told[0]["different"]["32"] == 21
    for length in task.test_lengths:
        batches = list(task.test_batches(tmp_path / "a", length, 4))
        assert [len(batch.tokens_BT) for batch in batches] == [4, 4, 4, 4, 3, 2]  # none is alone
        generator = synthetic._generator("test", 0, length)
        assert numbers(task.lay_out(task.rows("test", length, 21, generator), length, every=False)) == (
            torch.cat([b.tokens_BT for b in batches]).tolist(),
            torch.cat([b.targets_BT for b in batches]).tolist(),
        )


def test_a_length_that_was_not_prepared(tmp_path: Path) -> None:
    TASKS["s3"].prepare(tmp_path)
    with pytest.raises(ConfigError, match="no test of length 9; add it to the data's test_lengths"):
        next(TASKS["s3"].test_batches(tmp_path, 9, 4))


def test_a_split_without_rows_says_so() -> None:
    """Of the two words of one letter, none is a test."""
    short = WordProblemConfig(n_things=2, lengths=[1], test_lengths=[1])
    with pytest.raises(ConfigError, match="too few rows of length 1 for a test split; leave out that length"):
        short.rows("test", 1, 8, Generator().manual_seed(0))


def test_a_batch_too_small_for_a_row() -> None:
    with pytest.raises(
        ConfigError, match="training.tokens_per_step: a batch of 8 tokens does not hold one row of data.lengths 8"
    ):
        stream(TASKS["parity"], tokens=8)
    assert next(stream(TASKS["parity"], tokens=9)).n_tokens <= 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": [4, 4]}, "lengths must rise from 1 or more without repeats"),
        ({"lengths": [0, 4]}, "lengths must rise from 1 or more without repeats"),
        ({"test_lengths": [16, 8]}, "test_lengths must rise"),
        ({"n_test": 2**23}, "the tests would hold .* tokens; lower n_test or test_lengths"),
    ],
)
def test_lengths_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WordProblemConfig.parse({"n_things": 2, **LENGTHS, **changes}, "data")
