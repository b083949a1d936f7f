"""Omissions and additions: stretches of the source without a counterpart in the translation, and the other way round.

A word without a counterpart says little, since every human translation has some. So each word is weighed by a likelihood
ratio: how often it has none in another text's translation (as if it had been left out), over how often it has none in its
own. What counts is a stretch of words that weighs more together than almost every stretch in a human translation. A clause
that is left out is such a stretch, and so is one that is translated twice, since a word can be linked once only. One that is
translated wrongly is both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from ripstop.data.batching import evenly
from ripstop.evaluation.alignment import Lexicon, Link, parted, stem
from ripstop.evaluation.training_text import WordPair, words
from ripstop.evaluation.translated import Translation
from ripstop.records import Measurement

PRIOR = 2.0
"""How many times each stem is taken to have been seen, with the rate of all, before it was counted."""
LOUDEST = 0.97
"""Share of held-out windows whose human translation raises no alarm.

Of all 1,636 windows of the Bible's test books, with what was learnt from its training and validation books: 3.4 % of
references raise an alarm of an omission (1.5 % of their words), 2.0 % one of an addition (0.8 %). Taken out of a reference, 5,
8, 12 words in a row and its half are found in 18, 45, 79 and 99.7 % of windows; said twice, in 11, 32, 64 and 99.8 %.
"""
MOST_WINDOWS = 1500
"""Windows that weights, and then the level of alarm, are learnt from."""


class Stretch(NamedTuple):
    """Words `start` to `end` (not included) of a text, and what their being without a counterpart weighs (nats)."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Rates:
    """How often each stem has no counterpart, drawn to the rate of all where it was seen seldom.

    alone: stem -> how often it had none; of_all: the share of all words that had none, above 0 and below 1.
    """

    alone: Mapping[str, int]
    of_all: float

    @classmethod
    def count(cls, texts: Sequence[Sequence[str]], linked: Sequence[set[int]]) -> Self:
        alone = [stem(w) for text, found in zip(texts, linked, strict=True) for i, w in enumerate(text) if i not in found]
        return cls(dict(Counter(alone)), (len(alone) + 1) / (sum(map(len, texts)) + 2))

    def rate(self, word: str, n: int) -> float:
        """Of a word that was seen `n` times; above 0 and below 1."""
        return (self.alone.get(stem(word), 0) + PRIOR * self.of_all) / (n + PRIOR)


@dataclass
class Side:
    """What is known of one language.

    seen: stem -> how often; own, other: rates of having no counterpart in its own translation, and in that of another text;
    level: weight of a stretch above which there is an alarm.
    """

    seen: Mapping[str, int]
    own: Rates
    other: Rates
    level: float = math.inf

    @classmethod
    def count(cls, texts: Sequence[Sequence[str]], own: Sequence[set[int]], other: Sequence[set[int]]) -> Self:
        """own, other: the places in each text that have a counterpart in its own translation, and in another one."""
        seen = Counter(stem(word) for text in texts for word in text)
        return cls(dict(seen), Rates.count(texts, own), Rates.count(texts, other))

    def calibrate(self, texts: Sequence[Sequence[str]], own: Sequence[set[int]]) -> None:
        """Set the level of alarm, by human translations that taught nothing else."""
        heaviest = [max((s.weight for s in self.stretches(*pair)), default=0.0) for pair in zip(texts, own, strict=True)]
        self.level = float(np.quantile(heaviest, LOUDEST)) if heaviest else math.inf

    def weight(self, word: str, is_linked: bool) -> float:
        """Nats for its being left out, over its being translated."""
        n = self.seen.get(stem(word), 0)
        present, absent = self.own.rate(word, n), self.other.rate(word, n)
        absent = max(absent, present)  # a word that seems to be linked better in another text tells nothing
        return math.log((1 - absent) / (1 - present)) if is_linked else math.log(absent / present)

    def stretches(self, text: Sequence[str], linked: set[int]) -> list[Stretch]:
        """Disjoint stretches that weigh more than nothing, in order: weights summed until they fall to 0 (the CUSUM of
        Page 1954), each cut after the word at which it weighed most."""
        found = []
        total, start, best = 0.0, 0, Stretch(0, 0, 0.0)
        for i, word in enumerate(text):
            total += self.weight(word, i in linked)
            if total > best.weight:
                best = Stretch(start, i + 1, total)
            if total <= 0:
                found += [best] if best.weight else []
                total, start, best = 0.0, i + 1, Stretch(0, 0, 0.0)
        return found + ([best] if best.weight else [])

    def alarms(self, text: Sequence[str], linked: set[int]) -> list[Stretch]:
        """Those above the level."""
        return [stretch for stretch in self.stretches(text, linked) if stretch.weight > self.level]


@dataclass(frozen=True)
class Coverage:
    """Finds omissions and additions, with what human translations teach of links and their absence.

    Each is learnt from windows of its own, since words are linked best where the lexicon comes from: links from the
    shortest windows of the training data, weights from others of them, levels from held-out ones.
    """

    lexicon: Lexicon
    source: Side
    target: Side

    @classmethod
    def estimate(cls, training: Sequence[WordPair], held_out: Sequence[WordPair]) -> Self:
        """training, held_out: windows of human translations."""
        taught, rest = parted(training)
        lexicon = Lexicon.estimate(taught)
        weighed = evenly(rest or taught, MOST_WINDOWS)
        own = [lexicon.links(*pair) for pair in weighed]
        after = weighed[1:] + weighed[:1]
        wrong_target = [lexicon.links(pair.source, other.target) for pair, other in zip(weighed, after, strict=True)]
        wrong_source = [lexicon.links(other.source, pair.target) for pair, other in zip(weighed, after, strict=True)]
        source = Side.count([pair.source for pair in weighed], _places(own, 0), _places(wrong_target, 0))
        target = Side.count([pair.target for pair in weighed], _places(own, 1), _places(wrong_source, 1))
        levels = evenly(held_out, MOST_WINDOWS)
        links = [lexicon.links(*pair) for pair in levels]
        source.calibrate([pair.source for pair in levels], _places(links, 0))
        target.calibrate([pair.target for pair in levels], _places(links, 1))
        return cls(lexicon, source, target)

    def omitted(self, source: Sequence[str], target: Sequence[str]) -> list[Stretch]:
        """Stretches of the source that the target leaves out."""
        return self.source.alarms(source, {link.source for link in self.lexicon.links(source, target)})

    def added(self, source: Sequence[str], target: Sequence[str]) -> list[Stretch]:
        """Stretches of the target that the source does not have, or has fewer times."""
        return self.target.alarms(target, {link.target for link in self.lexicon.links(source, target)})


def coverage_rates(translations: Sequence[Translation], coverage: Coverage) -> Iterator[Measurement]:
    """Share of the source's words that are left out, and of the written words that are added, of translations and, as a
    control, of the references; with each the share of windows that have any."""
    for of in ("translation", "reference"):
        texts = [(words(t.source), words(t.hypothesis if of == "translation" else t.reference)) for t in translations]
        for name, find, k in (("omission", coverage.omitted, 0), ("over_translation", coverage.added, 1)):
            found = [find(*text) for text in texts]
            n_words = sum(len(text[k]) for text in texts)
            inside = sum(stretch.end - stretch.start for stretches in found for stretch in stretches)
            yield Measurement(f"{name}_rate", inside / max(n_words, 1), "fraction", max(n_words, 1), {"of": of})
            alarms = sum(bool(stretches) for stretches in found)
            yield Measurement(f"{name}_alarms", alarms / len(texts), "fraction", len(texts), {"of": of})


def _places(links: Sequence[Sequence[Link]], side: int) -> list[set[int]]:
    """The places on one side that are linked, of each window."""
    return [{link[side] for link in found} for found in links]
