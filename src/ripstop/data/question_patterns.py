"""Questions that a fixed turn of phrase answers: "X is a 1954 film directed by Y" says who directed X.

Patterns are strict: better none than one that a reader would answer otherwise. Each gives at most one question a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_NAME = r"[A-ZÀ-Ž][\w'’-]+(?: (?:(?:de|di|da|van|von|der|la|le|al|el|bin|ibn) )*(?:[A-Z]\.|[A-ZÀ-Ž][\w'’-]+))*"
_PLACE = r"[A-ZÀ-Ž][\w'’-]+(?:(?: of| and the| of the)? [A-ZÀ-Ž][\w'’-]+)*"
_YEAR = r"(?:1[0-9]{3}|20[0-2][0-9])"
_NATIONALITIES = """
    Albanian Algerian American Argentine Armenian Australian Austrian Azerbaijani Bangladeshi Belgian Bolivian Bosnian
    Brazilian British Bulgarian Burmese Canadian Chilean Chinese Colombian Congolese Croatian Cuban Czech Danish Dutch
    Ecuadorian Egyptian English Estonian Ethiopian Filipino Finnish French Genoese Georgian German Ghanaian Greek Guatemalan
    Haitian Hungarian Icelandic Indian Indonesian Iranian Iraqi Irish Israeli Italian Jamaican Japanese Jordanian Kenyan
    Korean Kurdish Latvian Lebanese Libyan Lithuanian Malaysian Mexican Mongolian Moroccan Nigerian Norwegian Ottoman
    Pakistani Palestinian Persian Peruvian Polish Portuguese Prussian Roman Romanian Russian Saudi Scottish Senegalese
    Serbian Slovak Slovene Somali Soviet Spanish Sudanese Swedish Swiss Syrian Tanzanian Thai Tunisian Turkish Ukrainian
    Uruguayan Venetian Venezuelan Vietnamese Welsh Zimbabwean
"""
NATIONALITIES = _NATIONALITIES.split()
_LEAD = rf"(?:(?:the|a|an|its|his|her) )?(?:(?:{'|'.join(NATIONALITIES)}|[a-z][\w'’-]*|[A-Z][a-z]+-[A-Z]?[a-z]+),? )*?"
_END_OF_NAME = r"(?=[.,;:]|$| \(| (?:and (?=[a-z])|in|from|that|which|who|first|published|at|with|between|on|for)\b)"
"""What may come behind a person: not a second person, nor what the word before only describes (German physicist Georg Ohm)."""


class Pattern(NamedTuple):
    """regex: its group `answer` is the answer. topics: of the articles that it is for, none given: all."""

    name: str
    regex: re.Pattern[str]
    question: str
    topics: tuple[str, ...] = ()


def _pattern(name: str, regex: str, question: str, *topics: str) -> Pattern:
    return Pattern(name, re.compile(regex.replace("<answer>", "?P<answer>")), question, topics)


_SENTENCE = r"[^.]*?"
_WORK = r"(?:novel|play|poem|tragedy|comedy|novella|book|epic|treatise|memoir|essay)"
_LARGEST = r"(?:,| and) (?:the )?(?:largest|most populous) city(?: of [A-Z]\w+)?,?"
_ABOUT = r"(?:about|over|around|approximately|nearly|some|more than|an estimated)"
_PERSON = rf"{_LEAD}(<answer>{_NAME}){_END_OF_NAME}"
_STUDIES = ("Arts", "Philosophy and religion", "Society and social sciences")
_FOUNDED = ("Arts", "Everyday life", "Geography", "History", "Society and social sciences", "Technology")
_LIFE = "Biology and health sciences"

PATTERNS = (
    _pattern(
        "nationality",
        rf"^{_SENTENCE}\b(?:is|was) an? (?:[a-z]+ )?(<answer>{'|'.join(NATIONALITIES)}) [a-z]",
        "What is the nationality of {title}?",
        "People",
    ),
    _pattern("birthplace", rf"(?:He|She) was born in (<answer>{_PLACE})[.,]", "Where was {title} born?", "People"),
    _pattern("birthplace", rf"[.,] [Bb]orn in (<answer>{_PLACE}),", "Where was {title} born?", "People"),
    _pattern(
        "death",
        rf"until (?:his|her) (?:death|assassination|execution) in (<answer>{_YEAR})\b",
        "In which year did {title} die?",
    ),
    _pattern("director", rf"^{_SENTENCE}film {_SENTENCE}\bdirected(?:, [a-z ,]+)? by {_PERSON}", "Who directed {title}?"),
    _pattern(
        "author",
        rf"^{_SENTENCE}\b(?:is|was) an? {_SENTENCE}\b{_WORK}s?\b{_SENTENCE}\bby {_PERSON}",
        "Who wrote {title}?",
        *_STUDIES,
    ),
    _pattern(
        "painter",
        rf"^{_SENTENCE}\b(?:painting|fresco|mural|sculpture|statue|woodblock print)\b{_SENTENCE}\bby {_PERSON}",
        "Who made {title}?",
        "Arts",
    ),
    _pattern(
        "year",
        rf"^{_SENTENCE}\b(?:is|was) an? (<answer>{_YEAR}) {_SENTENCE}(?:{_WORK}|film|painting|album|song|opera)\b",
        "From which year is {title}?",
    ),
    _pattern(
        "founded",
        rf"\b(?:was|were) (?:founded|established|created) (?:in|on [A-Z][a-z]+ \d{{1,2}},) (<answer>{_YEAR})\b",
        "In which year was {title} founded?",
        *_FOUNDED,
    ),
    _pattern("headquarters", rf"\bheadquartered in (<answer>{_PLACE})[.,]", "Where is {title} headquartered?"),
    _pattern(
        "capital", rf"\bcapital(?:{_LARGEST}| city)? is (<answer>{_PLACE})\b", "What is the capital of {title}?", "Geography"
    ),
    _pattern(
        "capital_of",
        rf"^{_SENTENCE}\bis the capital(?:,| and| city| largest| most| populous|-)* (?:of|in) (?:the )?(<answer>{_PLACE})\b",
        "{title} is the capital of what?",
        "Geography",
    ),
    _pattern(
        "population",
        rf"\bpopulation of (?:{_ABOUT} )?(<answer>(?:\d{{1,3}}(?:,\d{{3}})+|\d+(?:\.\d+)?)(?: million| billion)?)(?=[ ,.;])",
        "What is the population of {title}?",
        "Geography",
    ),
    _pattern(
        "symbol",
        r"\bsymbol (?:is )?(<answer>[A-Z][a-z]?) and (?:its )?atomic number",
        "What is the chemical symbol of {title}?",
    ),
    _pattern("atomic_number", r"\batomic number (?:is )?(<answer>\d{1,3})\b", "What is the atomic number of {title}?"),
    _pattern(
        "family",
        r"^[^.]*\b(?:the|a|an) (?:[a-z-]+ ){0,2}family,? (<answer>[A-Z][a-z]+(?:ae|idae))\b",
        "To which family does {title} belong?",
        _LIFE,
    ),
    _pattern(
        "native_to",
        rf"^[^.]*\bnative to (?:the )?(<answer>{_PLACE})(?=\.|;|, (?:where|which|closely|and (?:is|are|was|were|it))\b)",
        "Where is {title} native to?",
        _LIFE,
    ),
    _pattern(
        "named_after",
        rf"\b(?:is|was) named (?:after|for|in honou?r of) (?:the )?{_PERSON}",
        "After whom or what is {title} named?",
    ),
    _pattern(
        "discovered_by",
        rf"\b(?:was|were) (?:first )?discovered (?:in \d{{4}} )?by {_PERSON}",
        "Who discovered {title}?",
    ),
    _pattern(
        "language",
        r"\bofficial language(?: of [A-Z]\w+)? is (<answer>[A-Z][a-z]+)\b",
        "What is the official language of {title}?",
        "Geography",
    ),
)


def matches(text: str, title: str, topic: str) -> Iterator[tuple[str, str, str, int]]:
    """Name of the pattern, question, answer and the character at which it begins; a pattern's name once."""
    seen = set()
    for pattern in PATTERNS:
        if pattern.name in seen or (pattern.topics and topic not in pattern.topics):
            continue
        found = pattern.regex.search(text)
        if found and found["answer"].lower() not in title.lower() and title.lower() not in found["answer"].lower():
            seen.add(pattern.name)
            yield pattern.name, pattern.question.format(title=title), found["answer"], found.start("answer")
