"""Candidates for the curated trivia: for each question the introductions that hold an answer and share most of its words.

    python -m ripstop.data.trivia_candidates candidates.tsv

writes them to be read by a person: list, number, title, share, question, answers, introduction. `trivia.csv` is what was kept
(`trivia.py` has the rules), now and then with another title of the same question where that one answers better.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ripstop.data import registry, source_package
from ripstop.data.introductions import WIKI, Introduction, introductions
from ripstop.data.trivia import RED_TRIVIA, Asked, asked, stands

LEAST_SHARE = 0.6
TITLE_COUNTS = 0.25
"""What is added to the share where the article is an answer, or is named in the question."""
_SMALL_WORDS = """
    a about after all also an and any are as at be been before being between but by called can could did do does for from
    had has have he her his how if in into is it its known like many may more most much name named not of on one only or
    other people she some such than that the their then there these they this those to used was were what when where which
    who whom whose why will with world would you your
"""
_SMALL = frozenset(_SMALL_WORDS.split())


def candidates(questions: Iterable[Asked], found: Sequence[Introduction]) -> Iterator[tuple[Asked, Introduction, float]]:
    """Of each question the introduction with the largest share of the question's words, rare ones counting more."""
    words = [_words(f"{introduction.title} {introduction.text}") for introduction in found]
    holders: dict[str, set[int]] = defaultdict(set)
    for number, of_one in enumerate(words):
        for word in of_one:
            holders[word].add(number)
    n_with = Counter({word: len(numbers) for word, numbers in holders.items()})

    def weight(of: Iterable[str]) -> float:
        return sum(math.log((len(found) + 1) / (n_with[word] + 1)) for word in of)

    for each in questions:
        looked_for = _words(each.question) - _SMALL - _words(" ".join(each.answers))
        holding = {n for answer in each.answers for n in _all(holders, _words(answer)) if stands(found[n].text, (answer,))}
        if not looked_for or not holding:
            continue
        scores = {
            n: weight(looked_for & words[n]) / weight(looked_for) + TITLE_COUNTS * _named(found[n], each) for n in holding
        }
        best = max(scores, key=lambda n: (scores[n], -len(found[n].text), -n))
        if scores[best] >= LEAST_SHARE:
            yield each, found[best], scores[best]


def _words(text: str) -> set[str]:
    """Small letters, without an s at the end."""
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in re.findall(r"[^\W_]+", text.lower())}


def _all(holders: dict[str, set[int]], words: set[str]) -> set[int]:
    return set.intersection(*(holders.get(word, set()) for word in words)) if words else set()


def _named(introduction: Introduction, question: Asked) -> bool:
    name = introduction.name
    return stands(question.question, (name,)) is not None or any(_words(name) == _words(answer) for answer in question.answers)


def main(out: Path) -> None:
    found = introductions(registry.fetch(WIKI))
    lines = [
        "\t".join([each.list, str(each.number), one.title, f"{share:.2f}", each.question, "; ".join(each.answers), one.text])
        for each, one, share in candidates(asked(source_package.fetch(RED_TRIVIA)), found)
    ]
    out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} candidates in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
