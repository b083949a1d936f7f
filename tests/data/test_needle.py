"""Needles of token ids: a stream that grows, splits that share no seed, data that is a function of its seed alone."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from ripstop.batch import StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.haystack import FAMILIES
from ripstop.data.needle import NeedleConfig, NeedleStream

TEST = {"families": ["single", "variable_chain"], "lengths": [64, 100], "rows": [3, 2]}
VALUES: dict[str, Any] = {
    "n_keys": 20, "n_values": 9, "n_filler": 30, "s_min": 32, "s_max": 128, "n_questions": 3, "n_others": 4,
    "depths": [0.0, 0.5, 1.0], "n_valid": 3,
    "tests": [TEST, {"families": ["multi_key", "multi_value"], "lengths": [80], "rows": [2]}],
}  # fmt: skip


def config(**changes: Any) -> NeedleConfig:
    return NeedleConfig.parse(VALUES | changes, "data")


def stream(data: NeedleConfig, seed: int = 0, **training: Any) -> NeedleStream:
    values = {"steps": 30, "tokens_per_step": 400, "accumulation": 1} | training
    return data.stream(Path("unused"), StreamPlan(**values, seed=seed))


def same(one: TokenBatch, other: TokenBatch) -> bool:
    return torch.equal(one.tokens_BT, other.tokens_BT) and torch.equal(one.targets_BT, other.targets_BT)


def test_data_is_a_function_of_its_seed() -> None:
    """Global random states neither matter nor move."""
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    batches = [next(s) for s in [stream(config(), 4)] for _ in range(8)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    again, other = stream(config(), 4), stream(config(), 5)
    assert all(same(next(again), batch) for batch in batches)
    assert not same(next(other), batches[0])


def test_hash_of_a_tiny_stream() -> None:
    """A change of this number is a change of every run's data: say so in the changelog."""
    tiny, digest = stream(config(), 7), hashlib.sha256()
    for _ in range(4):
        digest.update(next(tiny).tokens_BT.numpy().tobytes())
    assert digest.hexdigest()[:12] == "66c1985a6f82"


def test_resume_at_every_position() -> None:
    undisturbed, states, batches = stream(config(), accumulation=2, tokens_per_step=800), [], []
    for _ in range(7):
        states.append(json.loads(json.dumps(undisturbed.state_dict())))
        batches.append(next(undisturbed))
    for position, state in enumerate(states):
        resumed = stream(config(), accumulation=2, tokens_per_step=800)
        resumed.load_state_dict(state)
        assert all(same(next(resumed), batch) for batch in batches[position:])


def test_batches_fill_the_budget_and_a_step_has_one_length() -> None:
    filled = stream(config(), accumulation=2, tokens_per_step=800)
    for _ in range(20):
        first, second = next(filled), next(filled)
        assert first.tokens_BT.shape == second.tokens_BT.shape and not same(first, second)
        assert 400 - first.tokens_BT.shape[1] < first.n_tokens <= 400
        assert first.n_targets == second.n_targets or first.n_targets > 0


def test_lengths_and_families_grow_to_the_end_of_the_curriculum() -> None:
    steps = 600
    drawn = [stream(config(curriculum=0.5), steps=steps).drawn(step) for step in range(steps)]
    lengths = np.array([length for _, length in drawn])
    grown = np.minimum(1, np.arange(1, steps + 1) / 300)
    assert lengths.min() >= 32 and (lengths <= np.round(32 * 4**grown)).all()
    assert lengths[300:].max() > 120 and lengths[:100].max() <= round(32 * 4 ** (1 / 3))
    families = [family for family, _ in drawn]
    assert set(families[:100]) == {"single"} and set(families[100:200]) == {"single", "multi_value"}
    assert set(families[200:300]) == {"single", "multi_value", "variable_chain"}
    late = np.log(lengths[300:] / 32) / np.log(4)  # log-uniform
    assert stats.kstest(late, "uniform").pvalue > 1e-3
    counts = [families[300:].count(family) for family in ("single", "multi_value", "variable_chain")]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_without_a_curriculum_everything_is_there_from_the_start() -> None:
    drawn = [stream(config(curriculum=0.0), steps=300).drawn(step) for step in range(60)]
    assert {family for family, _ in drawn} == {"single", "multi_value", "variable_chain"}
    assert max(length for _, length in drawn) > 115


def test_prepare_is_reproducible_and_holds_every_test(tmp_path: Path) -> None:
    described = []
    for name, chosen in (("a", config()), ("b", config()), ("c", config(test_seed=1))):
        chosen.prepare(tmp_path / name)
        described.append(json.loads((tmp_path / name / "data.json").read_text()))
    assert described[0] == described[1]
    assert described[0]["sha256_test"] != described[2]["sha256_test"] and described[0]["sha256"] != described[2]["sha256"]
    assert described[0]["sha256_first_training_batches"] == described[2]["sha256_first_training_batches"]
    assert described[0]["vocab_size"] == 10 + 20 + 9 + 30 and described[0]["chance_accuracy"] == 1 / 9
    assert described[0]["questions"] == {
        "single.64": 9, "single.100": 6, "variable_chain.64": 9, "variable_chain.100": 6,
        "multi_key.80": 6, "multi_value.80": 6,
    }  # fmt: skip
    data, folder = config(), tmp_path / "a"
    for family, length, n_rows in data.tested():
        rows = data.prepared_test(folder, family, length)
        fresh = data.test_rows(data.lexicon(folder), data.filler(folder, "held_out"), family, length, n_rows)
        for name in ("haystack_BR", "prompt_BQP", "answers_BQA", "place_BQA"):
            assert np.array_equal(getattr(rows, name), getattr(fresh, name)), (family, length, name)
        # What is read when the last answer is due is as long as the test says.
        n_answers = rows.answers_BQA.shape[2]
        read = rows.haystack_BR.shape[1] + rows.prompt_BQP.shape[2] + (n_answers - 1) * (2 if family == "variable_chain" else 1)
        assert read == length
    single, chain = (data.prepared_test(folder, family, 64) for family in ("single", "variable_chain"))
    assert not np.array_equal(single.answers_BQA[..., -1], chain.answers_BQA[..., -1]), "families have numbers of their own"
    assert data.longest_row.tokens == 100
    with pytest.raises(ConfigError, match="has no test of single at 65 tokens; add it to data.tests"):
        data.prepared_test(folder, "single", 65)


def test_validation_is_of_every_family_and_of_numbers_of_its_own(tmp_path: Path) -> None:
    data, plan = config(), StreamPlan(30, 400, 1, 0)
    batches = list(data.validation(tmp_path, plan))
    assert sorted({batch.tokens_BT.shape[1] for batch in batches}) == [32, 64, 128]
    assert sum(len(batch.tokens_BT) for batch in batches) == 3 * 3 * 3
    assert all(same(one, other) for one, other in zip(batches, data.validation(tmp_path, plan), strict=True))
    trained = {tuple(row) for s in [stream(data)] for _ in range(30) for row in next(s).tokens_BT.tolist()}
    assert not trained & {tuple(row) for batch in batches for row in batch.tokens_BT.tolist()}


def test_hard_filler_draws_keys_and_values_and_no_word(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    plain, hard = (set(config(hard=hard).filler(tmp_path, "train")(generator, 50, 100).ravel()) for hard in (False, True))
    assert plain == set(range(39, 69)) and hard == set(range(10, 69))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"s_min": 200}, "s_min 200 is longer than s_max 128"),
        ({"s_min": 16, "n_values_a_key": 3}, "data.s_min: 16 tokens do not hold a question of multi_value, which takes 19"),
        ({"families": ["single", "single"]}, "names one twice"),
        ({"families": ["sinlge"]}, "families"),
        ({"depths": [0.5, 0.0]}, "depths must rise"),
        ({"depths": [0.0, 1.5]}, "depths must rise without repeats from 0 to 1"),
        ({"tests": [TEST, TEST]}, "names a family twice"),
        ({"tests": [TEST | {"rows": [3]}]}, r"rows \[3\] needs a number from 1 on for each of lengths \[64, 100\]"),
        ({"tests": [TEST | {"lengths": [100, 64]}]}, "lengths must rise without repeats"),
        (
            {"tests": [TEST | {"lengths": [20, 100]}]},
            "data.tests: 20 tokens do not hold a row of variable_chain .*, which takes 31",
        ),
        ({"n_keys": 5}, "a row may need 7 keys .* and there are 5 and 9"),
        ({"n_values_a_key": 10, "s_min": 64, "tests": [TEST]}, "a key 10 values, and there are 20 and 9"),
        ({"tests": [TEST | {"rows": [2**24, 2**24]}]}, "the tests would hold .* tokens; lower rows or lengths"),
    ],
)
def test_what_does_not_fit_is_one_sentence(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config(**changes)


def test_a_batch_holds_the_longest_row() -> None:
    with pytest.raises(ConfigError, match="a batch of 127 tokens does not hold one row of data.s_max 128"):
        stream(config(), tokens_per_step=127)
    assert next(stream(config(), tokens_per_step=128)).n_targets


def test_every_family_can_be_trained_on() -> None:
    for family in FAMILIES:
        batches = [next(s) for s in [stream(config(families=[family]))] for _ in range(20)]
        # At most half of a row is needles and questions, unless it has room for one question alone.
        assert {batch.n_targets % len(batch.tokens_BT) for batch in batches} == {0}
