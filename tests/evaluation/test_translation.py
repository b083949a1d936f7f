"""Translation quality: values by hand, and a score with an interval for every hypothesis there can be."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from ripstop.config import ConfigError
from ripstop.evaluation.translation import Translation, TranslationConfig, length_ratio, quality, write_translations

GENERATION = {"max_new_tokens": 4, "eos": 2}
SENTENCE = "the cat sat on the mat and looked at the moon"


def translations(*pairs: tuple[str, str]) -> list[Translation]:
    return [Translation("d", "s", hypothesis, reference) for hypothesis, reference in pairs]


def scores(pairs: Sequence[tuple[str, str]], n_bootstrap: int = 20) -> dict[str, float]:
    return {m.metric: m.value for m in quality(translations(*pairs), n_bootstrap)}


def test_bleu_by_hand() -> None:
    """4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples, no shorter than the reference."""
    assert scores([("a b c d e", "a b c d f")])["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # Two words short of seven: the same precisions times exp(1 - 7 / 5).
    short = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25 * math.exp(1 - 7 / 5)
    assert scores([("a b c d e", "a b c d f g h")])["bleu"] == pytest.approx(short)


def test_chrf_with_words_by_hand() -> None:
    """Characters: 3/4, 2/3, 1/2, 0/1; words: 1/2, 0/1. Without words the mean is of four and is called chrF."""
    pairs = [("ab cd", "ab ce")]
    assert scores(pairs)["chrf++"] == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2 + 0 + 1 / 2 + 0) / 6)
    assert CHRF().corpus_score(["ab cd"], [["ab ce"]]).score == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2) / 4)


def test_quality_is_a_statistic_of_the_corpus() -> None:
    """Pooled over both windows: 11 and 8 words, and the mean of the sentences' scores would be 50."""
    pairs = [(SENTENCE, SENTENCE), ("x y z w v u t s", "a dog ran far away from here now")]
    counts = [(11, 19), (10, 17), (9, 15), (8, 13)]
    assert scores(pairs)["bleu"] == pytest.approx(100 * math.prod(hit / all_ for hit, all_ in counts) ** 0.25)


def test_perfect_is_100_and_never_more() -> None:
    for text in (SENTENCE, "a dog ran far away from here", "eins zwei drei vier fünf"):
        found = scores([(text, text)] * 3)
        assert all(99.999 < found[metric] <= 100 for metric in ("bleu", "chrf++"))
        assert found["bleu_half_interval"] == found["chrf++_half_interval"] == 0


def test_interval_by_hand() -> None:
    """Of two windows, one empty and one perfect, a resample is empty with probability 1/4, and perfect with 1/4."""
    found = scores([("", SENTENCE), (SENTENCE, SENTENCE)], 1000)
    assert found["bleu_half_interval"] == pytest.approx(50) and found["chrf++_half_interval"] == pytest.approx(50)


def test_intervals_are_those_of_sacrebleu_where_it_has_one() -> None:
    words = SENTENCE.split()
    pairs = [(" ".join(words[i % 7 :] + words[: i % 5]), " ".join(words[i % 3 :])) for i in range(24)]
    found = scores(pairs, 200)
    hypotheses, references = zip(*pairs, strict=True)
    for name, metric in (("bleu", BLEU()), ("chrf++", CHRF(word_order=2))):
        theirs = metric.corpus_score(hypotheses, [references], n_bootstrap=200)
        assert found[name] == pytest.approx(theirs.score)
        assert found[f"{name}_half_interval"] == pytest.approx(theirs._ci, rel=1e-3)  # they count in float32
        signatures = {m.slice["signature"] for m in quality(translations(*pairs), 200) if m.metric == name}
        assert signatures == {metric.get_signature().format(short=True)}


TEXT = st.sampled_from(["", SENTENCE, "la " * 30, "漢字かな", "Ω≈ç√∫", "שלום עולם", "🙂 🙂"]) | st.text()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(TEXT, TEXT) | TEXT.map(lambda text: (text, text)), min_size=1, max_size=6))
@example([("", SENTENCE), (SENTENCE, SENTENCE)])  # where sacrebleu's own interval is a TypeError
@example([("", "")])
def test_every_hypothesis_has_a_score_and_an_interval(pairs: list[tuple[str, str]]) -> None:
    for metric, value in scores(pairs).items():
        assert type(value) is float
        assert 0 <= value <= (50 if metric.endswith("half_interval") else 100)


def test_length_ratio_counts_words() -> None:
    assert length_ratio(translations(("one two three", "one two"), ("", "a b"))).value == 3 / 4
    with pytest.raises(ConfigError, match="the references of all 2 translated windows are empty"):
        length_ratio(translations(("word", ""), ("", " ")))


def test_translations_can_be_read_back(tmp_path: Path) -> None:
    write_translations(tmp_path / "t.jsonl", [Translation("d", "q", "Größe", "„Größe“")])
    assert json.loads((tmp_path / "t.jsonl").read_text(encoding="utf-8"))["reference"] == "„Größe“"


def test_settings() -> None:
    parsed = TranslationConfig.parse({"generation": GENERATION}, "t")
    assert parsed.files == ("translations.jsonl",) and not parsed.exclusive
    for bad in ({"n_translations": 0}, {"batch_size": 0}, {"generation": {"eos": 2}}):
        with pytest.raises(ConfigError):
            TranslationConfig.parse({"generation": GENERATION} | bad, "t")
