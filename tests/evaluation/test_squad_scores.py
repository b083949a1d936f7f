"""Exact match and F1 case by case against the rules of SQuAD's official script, and against that script's own lines."""

from __future__ import annotations

import re
import string
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ripstop.evaluation.squad_scores import exact_match, f1, normalized


class Case(NamedTuple):
    prediction: str
    answers: list[str]
    exact: bool
    f1: Fraction


def text(written: str) -> str:
    """\\u0020, \\t and \\n as the characters that they stand for; every other backslash as it is."""
    spelt = {"t": "\t", "n": "\n"}
    return re.sub(r"\\u([0-9a-f]{4})|\\([tn])", lambda m: chr(int(m[1], 16)) if m[1] else spelt[m[2]], written.strip(" "))


def cases() -> list[Case]:
    lines = Path(__file__).with_name("squad_cases.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if not line.startswith("# ")]
    return [Case(text(p), [text(a) for a in answers.split(" ; ")], e == "1", Fraction(f)) for p, answers, e, f in rows]


CASES = cases()


def test_there_are_two_hundred_of_all_sorts() -> None:
    assert len(CASES) >= 200
    assert sum(len(case.answers) > 1 for case in CASES) > 15
    assert sum(not case.prediction.isascii() for case in CASES) > 30
    assert sum(bool(re.search(r"\d", case.prediction)) for case in CASES) > 40
    assert 20 < sum(0 < case.f1 < 1 for case in CASES) < sum(case.exact for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.prediction!a} for {case.answers!a}")
def test_as_worked_out_by_hand(case: Case) -> None:
    assert exact_match(case.prediction, case.answers) is case.exact
    assert f1(case.prediction, case.answers) == pytest.approx(float(case.f1), abs=1e-12)


# evaluate-v1.1.py of the SQuAD authors (rajpurkar.github.io/SQuAD-explorer), as it stands there but for the layout.
def normalize_answer(s: str) -> str:
    def remove_articles(text: str) -> str:
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def white_space_fix(text: str) -> str:
        return " ".join(text.split())

    def remove_punc(text: str) -> str:
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    def lower(text: str) -> str:
        return text.lower()

    return white_space_fix(remove_articles(remove_punc(lower(s))))


def f1_score(prediction: str, ground_truth: str) -> float:
    prediction_tokens = normalize_answer(prediction).split()
    ground_truth_tokens = normalize_answer(ground_truth).split()
    common = Counter(prediction_tokens) & Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


def exact_match_score(prediction: str, ground_truth: str) -> bool:
    return normalize_answer(prediction) == normalize_answer(ground_truth)


def metric_max_over_ground_truths(metric_fn: Any, prediction: str, ground_truths: list[str]) -> Any:
    return max(metric_fn(prediction, ground_truth) for ground_truth in ground_truths)


def test_as_the_official_script_on_every_pair_of_texts() -> None:
    texts = sorted({case.prediction for case in CASES} | {answer for case in CASES for answer in case.answers})
    for prediction in texts:
        assert normalized(prediction) == normalize_answer(prediction)
        for i in range(0, len(texts), 3):
            answers = texts[i : i + 3]
            assert exact_match(prediction, answers) == metric_max_over_ground_truths(exact_match_score, prediction, answers)
            assert f1(prediction, answers) == pytest.approx(metric_max_over_ground_truths(f1_score, prediction, answers))
