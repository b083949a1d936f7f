"""A vocabulary alone: prepared like any data, and nothing to train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop.batch import StreamPlan
from ripstop.config import ConfigError
from ripstop.data import DATA
from ripstop.data.base import RowLength
from ripstop.data.vocabulary import VocabularyConfig


def test_it_says_how_many_ids_there_are_and_holds_nothing_else(tmp_path: Path) -> None:
    config = DATA.parse({"kind": "vocabulary", "n_ids": 300})
    assert isinstance(config, VocabularyConfig)
    config.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]
    config.verify(tmp_path)
    assert config.vocab_size(tmp_path) == config.info(tmp_path).vocab_size == 300
    with pytest.raises(ConfigError, match=r"holds the data vocabulary-\w+, and vocabulary-\w+ is asked for"):
        config.replace(n_ids=301).verify(tmp_path)


def test_a_model_with_a_source_finds_one() -> None:
    assert VocabularyConfig().longest_row == RowLength(1, None)
    assert VocabularyConfig(source=True).longest_row == RowLength(1, 1)
    assert VocabularyConfig().id != VocabularyConfig(source=True).id


def test_nothing_is_trained_on_it() -> None:
    with pytest.raises(ConfigError, match="holds no rows to train on; take another kind, or write `training: null`"):
        VocabularyConfig().check(StreamPlan(1, 10**6, 1, 0))
    with pytest.raises(ConfigError, match="n_ids"):
        VocabularyConfig.parse({"kind": "vocabulary", "n_ids": 0}, "data")
