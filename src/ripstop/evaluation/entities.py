"""Recall of named entities, by how often the training data has them: a measure of recall beside the loss.

A name here is a word that the source and its reference write alike, such as Jerusalem, Israel or Satan. No tagger is needed
for that, and it holds for languages that capitalise every noun as for those that capitalise names. The rule:

* it has three letters or more, the first of them a capital, and stands in the source letter for letter;
* it is no common word: the training data's source text does not write it with a small letter more often than with a
  capital one, wherever in a sentence it stands (so "Land", "Was" and "Man" are none);
* in the reference, and in what is translated, it may have the genitive's s of German or English (Israels).

Names that the languages spell differently (Moses and Mose) are left out, so this counts what can be copied and is known to be
right, not every name that there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ripstop.evaluation.training_text import WordPair, occurrences, words
from ripstop.evaluation.translated import Translation
from ripstop.records import Measurement

BUCKETS = ((0, "0"), (1, "1-9"), (10, "10-99"), (100, "100+"))
"""Least number of occurrences in the training data's target text, and what the bucket is called."""
ALL = "all"
SHORTEST = 3


@dataclass(frozen=True)
class NameCounts:
    """What the training data says of names.

    common: words of the source, in small letters, that are no names; target: how often each word stands in the target text.
    """

    common: frozenset[str]
    target: Mapping[str, int]

    @classmethod
    def count(cls, training: Sequence[WordPair]) -> Self:
        source = occurrences([pair.source for pair in training])
        common = frozenset(word for word in source if word.islower() and source[word] > source[word.capitalize()])
        return cls(common, dict(occurrences([pair.target for pair in training])))

    def names(self, source: str, reference: str) -> Counter[str]:
        """name -> how often the reference has it, of the names that the source has too."""
        in_source = {
            word for word in words(source) if len(word) >= SHORTEST and word[0].isupper() and word.lower() not in self.common
        }
        in_reference = Counter(words(reference))
        return Counter({name: n for name in in_source if (n := _times(name, in_reference))})

    def bucket(self, name: str) -> str:
        """By how often the training data's target text has the name."""
        n = _times(name, self.target)
        return next(label for least, label in reversed(BUCKETS) if n >= least)


def entity_recall(translations: Sequence[Translation], counts: NameCounts) -> Iterator[Measurement]:
    """Share of the names in the references that the translations have, of all and of each bucket that has any.

    A name that the reference of a window has twice is found twice where its translation has it twice.
    """
    wanted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for translation in translations:
        written = Counter(words(translation.hypothesis))
        for name, n in counts.names(translation.source, translation.reference).items():
            for bucket in (ALL, counts.bucket(name)):
                wanted[bucket] += n
                found[bucket] += min(n, _times(name, written))
    for bucket in (ALL, *(label for _, label in BUCKETS)):
        if wanted[bucket]:
            value = found[bucket] / wanted[bucket]
            yield Measurement("entity_recall", value, "fraction", wanted[bucket], {"training_occurrences": bucket})


def _times(name: str, written: Mapping[str, int]) -> int:
    """How often the words have the name, with and without a genitive's s."""
    return written.get(name, 0) + written.get(f"{name}s", 0)
