"""Questions in the manner of the Children's Book Test: a sentence with a gap, to be filled from the sentences before it.

Hill et al., The Goldilocks Principle (arXiv 1511.02301). What is left out is a whole proper noun, and it stands in the
sentences before, which are the document.
"""

from __future__ import annotations

import re

from ripstop.data.sentences import sentences

GAP = "_____"
FEWEST_BEFORE, MOST_WORDS = 2, 40
"""Sentences that the document has at least, and words that the sentence with the gap has at most."""

_WORD = r"[A-Z][\w'’-]*[a-z][\w'’-]*"
_PROPER = re.compile(rf"\b{_WORD}(?: (?:(?:of the|of|de|von|van|al) )*{_WORD})*")
_COMMON_WORDS = """
    a after although an and as at because before both but by despite during each for from he her his however if in into it its
    later like many most no not of on one other she since some that the their there these they this those though through to
    today together two under until when where whereas which while who with yet january february march april may june july august
    september october november december monday tuesday wednesday thursday friday saturday sunday
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def cloze(text: str, title: str) -> tuple[str, str, str] | None:
    """Document, sentence with a gap, and what belongs there; None where no sentence can be asked.

    The last sentence with a proper noun of its own is asked, for the first of them that the sentences before name too and that
    is no part of the title, which a reader fills in without reading. The noun stands once in the sentence.
    """
    pieces = sentences(text)
    for number in range(len(pieces) - 1, FEWEST_BEFORE - 1, -1):
        sentence, document = pieces[number], " ".join(pieces[:number])
        if len(sentence.split()) > MOST_WORDS:
            continue
        for noun in proper_nouns(sentence):
            known = set(proper_nouns(document))
            if noun in known and len(known) > 1 and not _shares_a_word(noun, title) and sentence.count(noun) == 1:
                return document, sentence.replace(noun, GAP), noun
    return None


def proper_nouns(text: str) -> list[str]:
    """Runs of capitalised words, small words between them included, in order; what only begins a sentence is none.

    >>> proper_nouns("In Paris he met the Bishop of New York. The end.")
    ['Paris', 'Bishop of New York']
    """
    found = []
    for piece in sentences(text):
        for match in _PROPER.finditer(piece):
            words = match[0].split()
            at_start = not re.search(r"\w", piece[: match.start()])
            while words and words[0].lower() in _COMMON:  # "In Paris": the sentence's capital, not the noun's
                words = words[1:]
                at_start = False
            if words and not (at_start and len(words) == 1):
                found.append(" ".join(words))
    return found


def _shares_a_word(noun: str, title: str) -> bool:
    return not {word.lower() for word in noun.split()}.isdisjoint(re.findall(r"[\w'’-]+", title.lower()))
