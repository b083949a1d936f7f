"""MQAR across a gap: rows laid out as said, lengths trained and tested, a stream that resumes, splits that stay apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ripstop.batch import IGNORE, StreamPlan
from ripstop.config import ConfigError
from ripstop.data.mqar import BOS, SEP
from ripstop.data.mqar_gap import MqarGapConfig

PLAN = StreamPlan(steps=40, tokens_per_step=256, accumulation=1, seed=5)


def config(**changes: Any) -> MqarGapConfig:
    pairs = {"n_keys": 8, "n_values": 8, "num_pairs": [2, 4], "n_test": 8, "n_valid": 4, "curriculum": 0.5} | changes.pop(
        "pairs", {}
    )
    return MqarGapConfig.parse({"pairs": pairs, "n_filler": 3, "block_size": 24} | changes, "data")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gap")
    config().prepare(folder)
    return folder


def test_a_row_is_laid_out_as_said(prepared: Path) -> None:
    """Pairs, filler, SEP, questions; and the answer to each is the value that stood behind its key."""
    batch = config().test_rows(prepared, 2, 4, 12)
    filler = config().pairs.n_tokens
    assert batch.context_BT is not None
    for tokens, targets, context in zip(
        batch.tokens_BT.tolist(), batch.targets_BT.tolist(), batch.context_BT.tolist(), strict=True
    ):
        assert len(tokens) == 12 and tokens[0] == BOS and tokens[9] == SEP
        assert all(filler <= token < filler + 3 for token in tokens[5:9])
        values = dict(zip(tokens[1:5:2], tokens[2:5:2], strict=True))
        assert targets == [IGNORE] * 10 + [values[key] for key in tokens[10:]]
        assert context == [True] * 5 + [False] * 7


def test_a_longer_row_begins_as_a_shorter_one_and_ends_as_it(prepared: Path) -> None:
    short, long = (config().test_rows(prepared, 4, 8, length) for length in (24, 96))
    assert torch.equal(long.tokens_BT[:, :19], short.tokens_BT[:, :19])
    assert torch.equal(long.tokens_BT[:, -5:], short.tokens_BT[:, -5:])
    assert int((short.targets_BT != IGNORE).sum()) == int((long.targets_BT != IGNORE).sum()) == 8 * 4
    assert len(long.tokens_BT[:, 19:-5].unique()) == 3


def test_rows_of_training_have_every_length_and_fit_the_batch() -> None:
    stream = config().stream(Path(), PLAN)
    lengths: dict[int, set[int]] = {2: set(), 4: set()}
    for step in range(400):
        batch = next(stream)
        assert batch.n_tokens <= 256 and batch.n_tokens + batch.tokens_BT.shape[1] > 256 * 0.5
        asked = int((batch.targets_BT[0] != IGNORE).sum())
        if step >= 20:
            lengths[asked].add(batch.tokens_BT.shape[1])
    assert lengths == {2: set(range(8, 25)), 4: set(range(14, 25))}


def test_the_gap_grows_over_the_curriculum() -> None:
    stream = config(block_size=64).stream(Path(), PLAN)
    widths = [next(stream).tokens_BT.shape[1] for _ in range(40)]
    assert widths[0] == 8 and max(widths[:5]) <= 8 + 56 * 4 / 20 < max(widths[20:]) <= 64


def test_a_batch_follows_from_its_number_and_a_stream_resumes() -> None:
    stream, again = config().stream(Path(), PLAN), config().stream(Path(), PLAN)
    batches = [next(stream) for _ in range(6)]
    again.load_state_dict({"position": 4})
    assert again.state_dict() == {"position": 4}
    for batch in batches[4:]:
        assert torch.equal(next(again).tokens_BT, batch.tokens_BT)
    assert again.state_dict() == stream.state_dict() == {"position": 6}
    other = config().stream(Path(), StreamPlan(40, 256, 1, seed=6))
    assert not any(torch.equal(next(other).tokens_BT, batch.tokens_BT) for batch in batches[:2])


def test_test_rows_are_none_of_training_or_validation(prepared: Path) -> None:
    """By the sum of their values, as in MQAR."""
    made, first = config(), config().pairs.n_keys + 10
    rest = [int((row[2:9:2] - first).sum()) % 8 for row in made.test_rows(prepared, 4, 8, 24).tokens_BT]
    assert set(rest) == {0}
    for batch in made.validation(prepared, PLAN):
        asked = int((batch.targets_BT[0] != IGNORE).sum())
        assert all(int((row[2 : 2 * asked + 1 : 2] - first).sum()) % 8 for row in batch.tokens_BT)


def test_the_digest_is_of_the_gap_too(tmp_path: Path) -> None:
    digests = []
    for number, changes in enumerate(({}, {"n_filler": 4}, {"block_size": 25}, {"pairs": {"n_keys": 9}})):
        made = config(**changes)
        made.prepare(tmp_path / str(number))
        found = made.description(tmp_path / str(number))
        assert found["vocab_size"] == made.pairs.n_tokens + made.n_filler
        digests.append(found["sha256"])
    assert len(set(digests)) == 4


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"block_size": 13}, "block_size is 13, and a row of 4 pairs takes 14"),
        ({"pairs": {"layout": "seq2seq"}}, "a gap needs layout decoder and format separator"),
        ({"n_fillers": 3}, "n_filler"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_a_test_row_that_is_too_short_is_refused(prepared: Path) -> None:
    with pytest.raises(ConfigError, match="a row of 4 pairs takes 14 tokens, and 13 are given to it"):
        config().test_rows(prepared, 4, 8, 13)
