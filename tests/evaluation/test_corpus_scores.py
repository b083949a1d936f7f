"""Scores of a corpus: values by hand, those of sacrebleu's command line, and a score for every hypothesis there can be."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from ripstop.config import ConfigError
from ripstop.evaluation.corpus_scores import by_length, length_bucket, paired_bootstrap, quality, quality_by_length
from ripstop.evaluation.translated import SIDES, Translation, write_translations

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
        assert signatures == {metric.get_signature().format(short=False)}


TEXT = st.sampled_from(["", SENTENCE, "la " * 30, "漢字かな", "Ω≈ç√∫", "שלום עולם", "🙂 🙂"]) | st.text()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(TEXT, TEXT) | TEXT.map(lambda text: (text, text)), min_size=1, max_size=6))
@example([("", SENTENCE), (SENTENCE, SENTENCE)])  # where sacrebleu's own interval is a TypeError
@example([("", "")])
def test_every_hypothesis_has_a_score_and_an_interval(pairs: list[tuple[str, str]]) -> None:
    for metric, value in scores(pairs).items():
        assert type(value) is float
        assert 0 <= value <= (50 if metric.endswith("half_interval") else 100)


def sacrebleu(references: Path, *hypotheses: Path, options: Sequence[str] = ()) -> str:
    """What its command line says of files."""
    command = [Path(sys.executable).with_name("sacrebleu"), references, "-i", *hypotheses, "-m", "bleu", "chrf"]
    command += ["--chrf-word-order", "2", "-w", "10", *options]
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, encoding="utf-8").stdout


def corpora(n: int = 30) -> tuple[list[Translation], list[Translation]]:
    """A baseline and a somewhat better system, with what is unusual in text."""
    text = "Und der HERR sprach: „Geh hin!“ 1,000 Männer (aus Juda) kamen … zu ihm, nicht &quot;er&quot;"
    vocabulary = text.split()
    baseline, system = [], []
    for i in range(n):
        reference = " ".join(vocabulary[(3 * i + j * j) % len(vocabulary)] for j in range(5 + i % 9))
        words = reference.split()
        worse = " ".join(word if (i * 7 + j) % 3 else "x" for j, word in enumerate(words))
        better = " ".join(word if (i * 5 + j) % 4 else "y" for j, word in enumerate(words))
        baseline.append(Translation("d", f"s {i}", worse, reference))
        system.append(Translation("d", f"s {i}", better, reference))
    odd = "eins\u2028zwei\r\ndrei\x85vier\tfünf  sechs\x1c sieben \n"
    for made, hypothesis in ((baseline, ""), (system, odd)):
        made += [Translation("d", odd, hypothesis, odd), Translation("d", "", odd, SENTENCE)]
    return baseline, system


def test_scores_are_those_of_the_command_line_on_the_files(tmp_path: Path) -> None:
    """To the last digit, with the signature and the interval that it prints; it counts resamples in float32."""
    for translations in corpora():
        write_translations(tmp_path, translations)
        for name in SIDES.values():
            assert (tmp_path / name).read_bytes().count(b"\n") == len(translations)
        files = (tmp_path / SIDES["reference"], tmp_path / SIDES["hypothesis"])
        theirs = json.loads(sacrebleu(*files, options=["--confidence", "--format", "json"]))
        mine = {m.metric: m for m in quality(translations)}
        for name, one in zip(("bleu", "chrf++"), theirs, strict=True):
            assert mine[name].value == pytest.approx(one["score"], abs=1e-9)
            assert mine[f"{name}_half_interval"].value == pytest.approx(float(one["confidence_var"]), rel=1e-4)
            assert mine[name].slice == {"signature": one["signature"]}


def test_p_values_are_those_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline, system = corpora()
    mixed = list(enumerate(zip(baseline, system, strict=True)))  # each is the better one in half of the segments
    baseline, system = [pair[1 - i % 2] for i, pair in mixed], [pair[i % 2] for i, pair in mixed]
    for name, translations in (("baseline", baseline), ("system", system)):  # it names systems by their files
        write_translations(tmp_path, translations)
        (tmp_path / SIDES["hypothesis"]).rename(tmp_path / name)
    files = [tmp_path / name for name in (SIDES["reference"], "baseline", "system")]
    said = sacrebleu(*files, options=["--paired-bs", "--paired-bs-n", "300", "--format", "text"])
    theirs = [float(p_value) for p_value in re.findall(r"\(p = ([\d.]+)\)", said)]
    monkeypatch.setenv("SACREBLEU_SEED", "7")  # which is not what a record stands on
    mine = paired_bootstrap(baseline, system, 300)
    assert list(mine) == ["bleu", "chrf++"] and [round(p_value, 4) for p_value in mine.values()] == theirs
    assert 0.1 < min(mine.values()) <= max(mine.values()) < 0.5  # where another drawing says something else
    assert paired_bootstrap(system, baseline, 300) == mine


def test_the_same_translations_are_no_better_than_themselves() -> None:
    baseline, system = corpora()
    assert paired_bootstrap(baseline, baseline, 50) == {"bleu": 1.0, "chrf++": 1.0}
    assert set(paired_bootstrap(translations(*[("", "a b")] * 4), translations(*[("", "a b")] * 4), 50).values()) == {1.0}
    for other in (system[:-1], [*system[1:], system[0]]):
        with pytest.raises(ConfigError, match="the baseline translated other segments"):
            paired_bootstrap(baseline, other, 50)


def test_a_difference_that_is_there_is_found_and_chance_is_not() -> None:
    """A system that is better in every segment; and two that are better in half of them each."""
    good = [(SENTENCE, SENTENCE)] * 40
    bad = [("the cat sat on a mat and looked at a moon", SENTENCE)] * 40
    found = paired_bootstrap(translations(*bad), translations(*good), 200)
    assert set(found.values()) == {1 / 201}
    one = [good[0] if i % 2 else bad[0] for i in range(40)]
    other = [bad[0] if i % 2 else good[0] for i in range(39)] + [good[0]]
    assert min(paired_bootstrap(translations(*one), translations(*other), 200).values()) > 0.3


def test_buckets_of_length_begin_where_they_say() -> None:
    assert [length_bucket(n) for n in (0, 1, 15, 16, 31, 32, 63, 64, 127, 128, 9999)] == [
        "1-15", "1-15", "1-15", "16-31", "16-31", "32-63", "32-63", "64-127", "64-127", "128+", "128+"]  # fmt: skip


def test_each_bucket_has_the_score_of_its_own_corpus() -> None:
    """Short sources are translated, long ones are not; the order of the corpus does not matter."""
    found = [Translation("d", "w " * n, SENTENCE if n < 16 else "nothing", SENTENCE) for n in (200, 3, 15, 17, 16, 1)]
    scores = {(m.metric, m.slice["source_words"]): (m.value, m.n) for m in quality_by_length(found)}
    assert list(by_length(found)) == ["1-15", "16-31", "128+"]
    assert set(scores) == {(f"{name}_by_length", b) for name in ("bleu", "chrf++") for b in ("1-15", "16-31", "128+")}
    assert scores["bleu_by_length", "1-15"] == (pytest.approx(100), 3)
    assert scores["bleu_by_length", "16-31"] == (0, 2)
    assert scores["chrf++_by_length", "128+"][0] == pytest.approx(
        CHRF(word_order=2).corpus_score(["nothing"], [[SENTENCE]]).score
    )
