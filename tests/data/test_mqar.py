"""MQAR: layouts by hand, splits that cannot meet, exact sampling, data that is a function of its seed alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Generator, Tensor

from ripstop.batch import IGNORE, StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.batching import derived_seed
from ripstop.data.mqar import (
    FIRST_KEY,
    MqarConfig,
    MqarExamples,
    MqarStream,
    _distinct,
    _permutations,
    examples,
    examples_to_test,
    to_batch,
)


def config(**changes: Any) -> MqarConfig:
    return MqarConfig(**{"n_keys": 13, "n_values": 7, "num_pairs": [2, 3, 5], "n_test": 11} | changes)


def stream(mqar: MqarConfig, seed: int = 0, **training: Any) -> MqarStream:
    values = {"steps": 20, "tokens_per_step": 101, "accumulation": 1} | training
    result = mqar.stream(Path("unused"), StreamPlan(**values, seed=seed))
    assert isinstance(result, MqarStream)
    return result


def assert_same(one: TokenBatch, other: TokenBatch) -> None:
    for name, value in vars(one).items():
        same = torch.equal(value, getattr(other, name)) if isinstance(value, Tensor) else value == getattr(other, name)
        assert same, name


# Two pairs: 17 -> 42 and 12 -> 40, asked in the other order.
ROW = MqarExamples(*(torch.tensor([row]) for row in ([17, 12], [42, 40], [12, 17], [40, 42])))
N = IGNORE


@pytest.mark.parametrize(
    ("layout", "format_", "source", "tokens", "targets", "n_context"),
    [
        ("decoder", "separator", None, [1, 17, 42, 12, 40, 4, 12, 17], [N, N, N, N, N, N, 40, 42], 5),
        ("decoder", "colon", None, [1, 17, 3, 42, 12, 3, 40, 4, 12, 17], [N] * 8 + [40, 42], 7),
        ("seq2seq", "separator", [1, 17, 42, 12, 40, 2], [1, 12, 17, 2], [N, 40, 42, N], 0),
        ("seq2seq", "colon", [1, 17, 3, 42, 12, 3, 40, 2], [1, 12, 17, 2], [N, 40, 42, N], 0),
    ],
)
def test_layout_by_hand(
    layout: str, format_: str, source: list[int] | None, tokens: list[int], targets: list[int], n_context: int
) -> None:
    mqar = config(n_keys=30, n_values=30, layout=layout, format=format_)
    batch = to_batch(mqar, ROW)
    assert batch.tokens_BT.tolist() == [tokens]
    assert batch.targets_BT.tolist() == [targets]
    context = None if source else [[True] * n_context + [False] * (len(tokens) - n_context)]
    assert (None if batch.context_BT is None else batch.context_BT.tolist()) == context
    assert (batch.source_BS is None) if source is None else (batch.source_BS.tolist() == [source])
    assert batch.n_tokens == mqar.row_length(2)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_examples_are_valid_and_know_their_split(data: st.DataObject) -> None:
    n_keys, n_values = data.draw(st.integers(2, 60)), data.draw(st.integers(2, 40))
    num_pairs = data.draw(st.integers(2, n_keys))
    mqar = config(n_keys=n_keys, n_values=n_values, num_pairs=[num_pairs])
    for split in ("train", "test"):
        made = examples(mqar, num_pairs, 9, Generator().manual_seed(data.draw(st.integers(0, 2**32))), split)
        first_value = 10 + n_keys
        assert made.keys.min() >= 10 and made.keys.max() < first_value
        assert made.values.min() >= first_value and made.values.max() < mqar.n_tokens
        for keys, values, queries, answers in zip(*(column.tolist() for column in vars(made).values()), strict=True):
            assert len(set(keys)) == num_pairs
            assert sorted(queries) == sorted(keys)
            pairs = dict(zip(keys, values, strict=True))
            assert answers == [pairs[query] for query in queries]
            assert (sum(value - first_value for value in values) % n_values == 0) == (split == "test")


def test_train_and_test_share_no_example() -> None:
    """Small enough to see every example there is: 12 ordered pairs of keys, 9 pairs of values."""
    mqar = config(n_keys=4, n_values=3, num_pairs=[2])
    seen = {}
    for split in ("train", "test"):
        made = examples(mqar, 2, 4000, Generator().manual_seed(3), split)
        seen[split] = {frozenset(zip(k, v, strict=True)) for k, v in zip(made.keys.tolist(), made.values.tolist(), strict=True)}
    assert not seen["train"] & seen["test"]
    # Together they are everything: 6 sets of keys x 9 ordered values; a third of it is test.
    assert (len(seen["train"]), len(seen["test"])) == (36, 18)


@pytest.mark.parametrize("split", ["train", "test"])
def test_values_are_uniform_and_one_tells_nothing_of_another(split: str) -> None:
    mqar = config(n_values=5, num_pairs=[3])
    values = examples(mqar, 3, 50_000, Generator().manual_seed(1), split).values - 23
    for i, j in itertools.combinations(range(3), 2):
        counts = torch.bincount(values[:, i] * 5 + values[:, j], minlength=25)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize(("n", "size"), [(2, 7), (3, 11), (4, 5), (3, 3)])  # rejection, rejection, permutation, all
def test_selections_are_uniform(n: int, size: int) -> None:
    drawn = _distinct(60_000, n, size, Generator().manual_seed(5))
    codes = (drawn * size ** torch.arange(n)).sum(1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == np.prod(range(size - n + 1, size + 1))  # every ordered selection, and no other
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_selection_at_full_size_is_distinct() -> None:
    drawn = _distinct(64, 512, 4086, Generator().manual_seed(0))
    assert drawn.min() >= 0 and drawn.max() < 4086
    assert bool((drawn.sort(1).values.diff(dim=1) > 0).all())


def test_permutations_hold_every_index_and_are_uniform() -> None:
    drawn = _permutations(24_000, 4, Generator().manual_seed(2))
    codes, counts = (drawn * 4 ** torch.arange(4)).sum(1).unique(return_counts=True)
    assert len(codes) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("layout", ["decoder", "seq2seq"])
def test_data_is_a_function_of_its_seed(layout: str) -> None:
    """Global random states neither matter nor move."""
    mqar = config(layout=layout, curriculum=0.5)
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    reference = stream(mqar, seed=4)
    batches = [next(reference) for _ in range(8)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    torch.manual_seed(2)
    again = stream(mqar, seed=4)
    for batch in batches:
        assert_same(next(again), batch)
    assert not torch.equal(next(stream(mqar, seed=5)).tokens_BT, batches[0].tokens_BT)


def test_hash_of_a_tiny_stream() -> None:
    """A change of this number is a change of every run's data: say so in the changelog."""
    tiny, digest = stream(config(), seed=7), hashlib.sha256()
    for _ in range(4):
        digest.update(next(tiny).tokens_BT.numpy().tobytes())
    assert digest.hexdigest() == "0d19cd2d3f0551a740514e37559c1db71ec6728c0a81ead10c0d95344a983ebf"


def test_resume_at_every_position() -> None:
    mqar = config(curriculum=0.8)
    undisturbed = stream(mqar, seed=1, accumulation=2, tokens_per_step=202)
    states, batches = [], []
    for _ in range(9):
        states.append(json.loads(json.dumps(undisturbed.state_dict())))
        batches.append(next(undisturbed))
    for position, state in enumerate(states):
        resumed = stream(mqar, seed=1, accumulation=2, tokens_per_step=202)
        resumed.load_state_dict(state)
        for batch in batches[position:]:
            assert_same(next(resumed), batch)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_curriculum_grows_over_its_part_of_the_steps(accumulation: int) -> None:
    steps = 300
    grown = stream(config(curriculum=0.5), steps=steps, accumulation=accumulation, tokens_per_step=101 * accumulation)
    sizes = [{int((next(grown).targets_BT != IGNORE).sum(1)[0]) for _ in range(accumulation)} for _ in range(steps)]
    assert all(len(size) == 1 for size in sizes)  # the micro-batches of a step agree
    largest = [max(size) for size in sizes]
    # 3 sizes over 150 steps: the second may come from step 50 on, the third from step 100.
    assert max(largest[:50]) == 2 and max(largest[50:100]) == 3 and max(largest[100:150]) == 5
    assert set(largest[150:]) == {2, 3, 5}


def test_without_curriculum_all_sizes_come_equally_often() -> None:
    flat = stream(config(), steps=3000)
    counts = np.bincount([flat.num_pairs(step) for step in range(3000)])[[2, 3, 5]]
    assert stats.chisquare(counts).pvalue > 1e-4


def test_batches_fill_the_budget() -> None:
    mqar = config()
    for batch in (next(s) for s in [stream(mqar, tokens_per_step=1000)] for _ in range(6)):
        assert 1000 - batch.tokens_BT.shape[1] < batch.n_tokens <= 1000
    assert next(stream(mqar, tokens_per_step=1000, accumulation=4)).n_tokens <= 250


def test_prepare_is_reproducible_and_test_batches_are_what_it_wrote(tmp_path: Path) -> None:
    mqar = config(test_pairs=[2, 4])
    descriptions = []
    for name, chosen in (("a", mqar), ("b", mqar), ("c", mqar.replace(test_seed=1))):
        chosen.prepare(tmp_path / name)
        descriptions.append(json.loads((tmp_path / name / "data.json").read_text()))
    assert descriptions[0] == descriptions[1]
    assert (tmp_path / "a/test.safetensors").read_bytes() == (tmp_path / "b/test.safetensors").read_bytes()
    assert descriptions[0]["sha256_test"] != descriptions[2]["sha256_test"]
    assert descriptions[0]["sha256_first_training_batches"] == descriptions[2]["sha256_first_training_batches"]
    assert descriptions[0]["sha256"] != descriptions[2]["sha256"]
    assert descriptions[0]["vocab_size"] == mqar.vocab_size(tmp_path / "a") == 10 + 13 + 7
    assert descriptions[0]["chance_accuracy"] == 1 / 7
    assert descriptions[0]["examples"] == {"2": 11, "4": 11}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["data.json", "test.safetensors"]

    batches = list(mqar.test_batches(tmp_path / "a", 4, 4))
    assert [len(batch.tokens_BT) for batch in batches] == [4, 4, 3]
    assert [len(batch.tokens_BT) for batch in mqar.test_batches(tmp_path / "a", 4, 5)] == [5, 4, 2]
    whole = next(mqar.test_batches(tmp_path / "a", 4, 100))
    assert torch.equal(torch.cat([batch.tokens_BT for batch in batches]), whole.tokens_BT)
    assert whole.tokens_BT.dtype == torch.int64
    values = whole.targets_BT[:, -4:] - 23
    assert bool((values.sum(1) % 7 == 0).all())


def residues(batch: TokenBatch, mqar: MqarConfig) -> set[int]:
    """The sums of the values of each example modulo n_values: 0 marks a test example, whatever the batch's layout."""
    values = batch.targets_BT.where(batch.asked_BT, torch.tensor(FIRST_KEY + mqar.n_keys)) - FIRST_KEY - mqar.n_keys
    return set((values.sum(1) % mqar.n_values).tolist())


def shown(batch: TokenBatch) -> list[tuple[int, ...]]:
    """Everything that a model reads of each row."""
    read = [batch.tokens_BT] if batch.source_BS is None else [batch.source_BS, batch.tokens_BT]
    return list(map(tuple, torch.cat(read, 1).tolist()))


@pytest.mark.parametrize("layout", ["decoder", "seq2seq"])
def test_what_is_trained_and_validated_on_is_never_tested(layout: str, tmp_path: Path) -> None:
    """On the batches themselves: those of a stream, of the validation, and of the prepared test set."""
    mqar = config(layout=layout, n_values=5, n_test=200, n_valid=50)
    mqar.prepare(tmp_path)
    plan = StreamPlan(30, 400, 1, 3)
    training = mqar.stream(tmp_path, plan)
    trained = [next(training) for _ in range(30)]
    validated = list(mqar.validation(tmp_path, plan))
    tested = [batch for n in mqar.test_pairs for batch in mqar.test_batches(tmp_path, n, 64)]
    assert [set().union(*(residues(batch, mqar) for batch in held)) for held in (trained, validated, tested)] == [
        {1, 2, 3, 4}, {1, 2, 3, 4}, {0},
    ]  # fmt: skip
    # Validation is drawn from numbers of its own: none of its larger examples was trained on.
    rows = [{row for batch in held for row in shown(batch) if len(row) > 10} for held in (trained, validated)]
    assert not rows[0] & rows[1] and min(map(len, rows)) > 40


def test_validation_holds_every_number_of_pairs_and_is_the_same_each_time(tmp_path: Path) -> None:
    mqar = config(n_valid=9)
    first, again = (list(mqar.validation(tmp_path, StreamPlan(5, 60, 1, seed))) for seed in (0, 1))
    for batch, other in zip(first, again, strict=True):
        assert_same(batch, other)
    assert all(batch.n_tokens <= 60 for batch in first)
    counted = Counter(int(n) for batch in first for n in batch.asked_BT.sum(1))
    assert counted == {2: 22, 3: 15, 5: 9}  # 45 targets, or one pair short of as many


def test_no_test_batch_has_a_single_row(tmp_path: Path) -> None:
    for n_test in (2, 3, 5, 9):
        mqar = config(num_pairs=[2], n_test=n_test)
        mqar.prepare(tmp_path)
        whole = next(mqar.test_batches(tmp_path, 2, n_test))
        for batch_size in (2, 3, 4, 8):
            batches = list(mqar.test_batches(tmp_path, 2, batch_size))
            sizes = [len(batch.tokens_BT) for batch in batches]
            assert min(sizes) >= 2 and max(sizes) <= max(batch_size, 3) and sum(sizes) == n_test
            assert torch.equal(torch.cat([batch.tokens_BT for batch in batches]), whole.tokens_BT)
            assert all(len(row.unique(dim=0)) > 1 for row in (batch.tokens_BT[:, :5] for batch in batches))


def test_neighbours_in_a_test_set_differ_even_where_there_are_few_contexts() -> None:
    """Two keys and two values have 4 contexts whose values sum to 0: without care, every fourth repeats its neighbour."""
    mqar = config(n_keys=2, n_values=2, num_pairs=[2], n_test=300)
    made = examples_to_test(mqar, 2)
    shown = torch.cat([made.keys, made.values], 1)
    assert not bool((shown[1:] == shown[:-1]).all(1).any())
    assert len(shown.unique(dim=0)) == 4
    for keys, values, queries, answers in zip(*(column.tolist() for column in vars(made).values()), strict=True):
        assert answers == [dict(zip(keys, values, strict=True))[query] for query in queries]
        assert sum(values) % 2 == 0
    # Where none repeats, the set is what it was drawn as.
    wide = config(n_test=50)
    drawn = examples(wide, 5, 50, Generator().manual_seed(derived_seed("test", 0, 5)))
    assert all(torch.equal(a, b) for a, b in zip(vars(drawn).values(), vars(examples_to_test(wide, 5)).values(), strict=True))


def test_test_set_does_not_depend_on_its_other_rows(tmp_path: Path) -> None:
    """One more num_pairs in the test leaves the others as they were."""
    config(test_pairs=[4]).prepare(tmp_path / "one")
    config(test_pairs=[2, 4, 5]).prepare(tmp_path / "more")
    assert_same(*(next(config().test_batches(tmp_path / name, 4, 11)) for name in ("one", "more")))


def test_unprepared_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"test\.safetensors: no such file; run"):
        next(config().test_batches(tmp_path, 2, 4))
    config().prepare(tmp_path)
    with pytest.raises(ConfigError, match="no test with 4 pairs; add it to the data's test_pairs"):
        next(config().test_batches(tmp_path, 4, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_pairs": [2, 14]}, "num_pairs asks for 14 distinct keys, but n_keys is 13"),
        ({"test_pairs": [14]}, "test_pairs asks for 14 distinct keys"),
        ({"num_pairs": [1, 2]}, "smallest number of pairs is 2"),
        ({"num_pairs": [4, 2]}, r"num_pairs must rise without repeats, and is \[4, 2\]"),
        ({"num_pairs": []}, "num_pairs"),
        ({"curriculum": 1.5}, "curriculum"),
        ({"n_values": 1}, "n_values"),
        ({"n_test": 1}, "n_test"),
        ({"n_keys": 10**12}, "n_keys"),
        ({"n_test": 2**24, "num_pairs": [2, 13]}, "the test set would hold .* tokens; lower n_test or test_pairs"),
        ({"layout": "encoder"}, "layout"),
        ({"n_key": 3}, "unknown key; did you mean 'n_keys'"),
    ],
)
def test_bad_configuration_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    values = config().model_dump() | {"test_pairs": []} | changes
    with pytest.raises(ConfigError, match=message) as caught:
        MqarConfig.parse(values, "data")
    assert "\n" not in str(caught.value)


def test_too_few_tokens_for_one_row() -> None:
    with pytest.raises(ConfigError, match="batch of 16 tokens does not hold one example of 5 pairs, which takes 17"):
        stream(config(), tokens_per_step=16)


def test_test_pairs_default_to_the_trained_ones() -> None:
    assert config().test_pairs == [2, 3, 5]
    assert MqarConfig.parse(config().model_dump(mode="json"), "data") == config()
