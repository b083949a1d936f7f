"""What is kept in the cache is what would be learnt, and of these data and this code."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.translated_runs import prepared

from ripstop.data.documents import DocumentsConfig
from ripstop.evaluation import learnt_words
from ripstop.evaluation.learnt_words import LearntWords, learn


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[DocumentsConfig, Path]:
    return prepared(tmp_path_factory.mktemp("words"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/words"


def refused(*_: object) -> LearntWords:
    raise AssertionError("it was learnt again")


def test_the_second_time_it_is_read(data: tuple[DocumentsConfig, Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = learnt_words.learnt_words(*data)
    assert first == learn(*data) and first.names.target and first.coverage.lexicon.scores
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(learnt_words, "learn", refused)
        assert learnt_words.learnt_words(*data) == first
        patch.setattr(learnt_words, "code_digest", lambda modules: "another code")
        with pytest.raises(AssertionError, match="learnt again"):
            learnt_words.learnt_words(*data)
    for damaged in ("", "[]", '{"names": {}}', kept.read_text(encoding="utf-8")[:-9]):
        kept.write_text(damaged, encoding="utf-8")
        assert learnt_words.learnt_words(*data) == first
    with monkeypatch.context() as patch:
        patch.setattr(learnt_words, "learn", refused)
        assert learnt_words.learnt_words(*data) == first  # what was damaged was written anew


def test_other_data_is_learnt_from_itself(data: tuple[DocumentsConfig, Path], cache: Path, tmp_path: Path) -> None:
    config, folder = data
    learnt_words.learnt_words(config, folder)
    (tmp_path / "other").mkdir()
    other = config.replace(max_tokens=32)
    other.prepare(tmp_path / "other")
    assert learnt_words.learnt_words(other, tmp_path / "other") == learn(other, tmp_path / "other")
    assert len(list(cache.iterdir())) == 2


def test_without_a_cache_it_is_learnt(
    data: tuple[DocumentsConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "file"))  # no folder
    assert learnt_words.learnt_words(*data) == learn(*data)
