"""Exact match and F1 of an answer, as SQuAD's official script (evaluate-v1.1.py) computes them.

Rajpurkar et al. 2016 (arXiv 1606.05250). Small and capital letters are the same; ASCII punctuation, the articles a, an and the,
and white space beyond single spaces do not count. F1 is over words, each as often as it stands there. Of several answers that
are right the best counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """What of an answer counts.

    >>> normalized("The U.S.  Army")
    'us army'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> bool:
    """Whether it is one of the answers."""
    return any(normalized(prediction) == normalized(answer) for answer in answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The largest F1 with one of the answers, from 0 to 1; 0 where nothing is left of the prediction."""
    return max(_f1(normalized(prediction).split(), normalized(answer).split()) for answer in answers)


def _f1(predicted: list[str], right: list[str]) -> float:
    n_same = sum((Counter(predicted) & Counter(right)).values())
    if n_same == 0:
        return 0.0
    precision, recall = n_same / len(predicted), n_same / len(right)
    return 2 * precision * recall / (precision + recall)
