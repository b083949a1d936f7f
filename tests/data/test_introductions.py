"""Introductions and the questions made from them: every rule on small texts, counts and invariants of the real package."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest
from data.tiny_packages import wiki_wheel

from ripstop.config import ConfigError
from ripstop.data import registry
from ripstop.data.cloze import GAP, cloze, proper_nouns
from ripstop.data.introductions import MEMBER, WIKI, introductions, made, split_of
from ripstop.data.question import Question
from ripstop.data.question_patterns import matches
from ripstop.data.sentences import sentences, shuffled

LIFE = "Biology and health sciences"
CACHED = (registry.cache_folder() / WIKI.filename).is_file()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("H. G. Wells lived. He wrote.", ["H. G. Wells lived.", "He wrote."]),
        ("It is in the U.S. It is big.", ["It is in the U.S. It is big."]),  # a name's full stop is taken for no end
        ("St. John saw c. 40 of them. (He did.) So.", ["St. John saw c. 40 of them.", "(He did.)", "So."]),
        ('He said "Go." Then "No."', ['He said "Go."', 'Then "No."']),
        ("It has 3.5 km. 7 are left. of it", ["It has 3.5 km.", "7 are left. of it"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected
    assert " ".join(sentences(text)) == text


def test_shuffled_sentences_keep_the_place_of_the_answer() -> None:
    document = " ".join(f"Sentence {n} names x{n}x." for n in range(9))
    orders = set()
    for name in "abcdef":
        question = Question("q", name, "t", document, "?", ("x7x",), document.index("x7x"), "squad")
        found = shuffled(question)
        assert found == shuffled(question) and sorted(sentences(found.document)) == sorted(sentences(document))
        assert found.start == found.document.index("x7x")
        orders.add(found.document)
    assert len(orders) == 6
    over = Question("q", "a", "t", document, "?", ("x3x. Sentence 4",), document.index("x3x"), "squad")
    assert shuffled(over) == over  # an answer of two sentences has no place in another order
    assert shuffled(Question("q", "a", "t", document, "?", ("none",), None, "squad")).document in orders


def test_proper_nouns_are_whole_and_no_beginning_of_a_sentence() -> None:
    text = "Amber flows. In Paris the Bishop of New York met Queen Elizabeth II and NASA. However, Rome fell on Monday."
    assert proper_nouns(text) == ["Paris", "Bishop of New York", "Queen Elizabeth", "Rome"]


TEXT = "Riga is a city. It lies on the Daugava in Latvia. Most of Latvia trades here. The Daugava, old, freezes near Riga."


def test_cloze_asks_the_last_sentence_for_a_noun_that_came_before() -> None:
    assert cloze(TEXT, "Riga") == (TEXT[: TEXT.index(" The Daugava")], f"The {GAP}, old, freezes near Riga.", "Daugava")
    assert cloze(TEXT, "Daugava") == (TEXT[: TEXT.index(" Most")], f"Most of {GAP} trades here.", "Latvia")
    assert cloze(TEXT, "Daugava in Latvia") is None  # of the title nothing is asked
    assert cloze("It is in Latvia. It is by the Daugava. Latvia is old.", "Riga") is None  # begins the sentence
    assert cloze("It is in Latvia. The Latvia of old, and Latvia, on the Daugava.", "Riga") is None  # one sentence before
    assert cloze(TEXT.replace("trades here", "trades, Latvia says, here"), "Daugava") is None  # twice in the sentence


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("Ann Bell was an American poet and singer.", "People", ("nationality", "American")),
        ("Ann Bell was an influential French poet. She was born in Lyon, France.", "People", ("nationality", "French")),
        ("She ruled. She was born in New York City.", "People", ("birthplace", "New York City")),
        ("She ruled from 1212 until her death in 1250.", "People", ("death", "1250")),
        ("X is a 1954 Italian film directed by Federico Fellini.", "Arts", ("director", "Federico Fellini")),
        ("X is a 1967 novel by Colombian author Gabriel García Márquez.", "Arts", ("author", "Gabriel García Márquez")),
        ("X is a 1967 novel by Colombian author Gabriel García Márquez.", "Arts", ("year", "1967")),
        ("X is a painting by the Dutch master Jan van Eyck, made in oil.", "Arts", ("painter", "Jan van Eyck")),
        ("X is a club. It was founded in 1901.", "Everyday life", ("founded", "1901")),
        ("X is a company headquartered in Redmond, Washington.", "Technology", ("headquarters", "Redmond")),
        ("X is a country. Its capital and largest city is Port of Spain.", "Geography", ("capital", "Port of Spain")),
        ("X is the capital and most populous city of South Korea.", "Geography", ("capital_of", "South Korea")),
        ("X is a city. It has a population of about 1,234,567, says one.", "Geography", ("population", "1,234,567")),
        ("X is a city with a population of 3.5 million.", "Geography", ("population", "3.5 million")),
        ("X is an element; it has symbol Xx and atomic number 69.", "Physical sciences", ("symbol", "Xx")),
        ("X is an element; it has symbol Xx and atomic number 69.", "Physical sciences", ("atomic_number", "69")),
        (
            "The x is a bird of the finch family, Fringillidae, in Asia.",
            LIFE,
            ("family", "Fringillidae"),
        ),
        ("The x is a fish native to South America.", LIFE, ("native_to", "South America")),
        ("The unit is named after German physicist Georg Ohm (1789).", "", ("named_after", "Georg Ohm")),
        ("It was discovered in 1774 by Carl Wilhelm Scheele.", "", ("discovered_by", "Carl Wilhelm Scheele")),
        ("X is an island. The official language is Malay.", "Geography", ("language", "Malay")),
    ],
)
def test_patterns(text: str, topic: str, expected: tuple[str, str]) -> None:
    found = {name: (answer, start) for name, _, answer, start in matches(text, "Title", topic)}
    name, answer = expected
    assert found[name] == (answer, text.index(answer))


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("X is an American company.", "Technology"),  # not a person
        ("X is a film directed by two sisters.", "Arts"),
        ("It was discovered by Ferdinand Reich and Theodor Richter.", ""),  # two persons
        ("The x is a fish native to Arctic, subarctic and boreal waters.", LIFE),
        ("Title has a population of dogs.", "Geography"),
        ("X is named after Title.", ""),  # what is asked about is no answer
    ],
)
def test_patterns_are_strict(text: str, topic: str) -> None:
    assert list(matches(text, "Title", topic)) == []


def article(title: str, text: str, description: str = "") -> dict[str, str]:
    return {"title": title, "extract": text, "description": description}


def test_descriptions_that_one_article_has_and_that_do_not_name_it(tmp_path: Path) -> None:
    wheel = wiki_wheel(
        tmp_path / "w.whl",
        [
            article("Oak (tree)", "The  oak is a tree\nwith lobed leaves and with acorns.", "Tree with acorns"),
            article("Elm", "The elm is a tree with leaves of its own, and no acorns.", "Tree"),
            article("Ash", "The ash is a tree with leaves of its own, and no acorns.", "Tree"),
            article("Fir", "The fir is a tree without leaves, and it has no acorns.", "The fir tree"),
            article("Yew", "A tree without leaves, and it has no acorns: taxus baccata.", "Another tree"),
        ],
    )
    (found,) = made(introductions(wheel))
    assert found.document == "The oak is a tree with lobed leaves and with acorns."
    assert found.question == "Which subject is described as “Tree with acorns”?"
    assert found.answers == ("oak", "Oak") and found.start == 4
    assert (found.id, found.title, found.kind) == ("Oak (tree)/description", "Oak (tree)", "description")


def test_texts_with_holes_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    whole = "A field extension of the field has a degree that is a number."
    holes = [
        "A degree , denoted by , is a number that an extension has.",
        "The extension of  has a degree that is a number.",
    ]
    rows = [article("whole", whole), article("short", "A field."), *(article(f"hole {h}", h) for h in holes)]
    assert [i.title for i in introductions(wiki_wheel(tmp_path / "w.whl", rows))] == ["whole"]


@pytest.mark.parametrize("content", [b"", b"PK", None, b"[]", b'{"a": 3}', b'{"a": {"title": "a"}}', b"\xff"])
def test_another_package_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    wheel = tmp_path / "w.whl"
    if content in (b"", b"PK"):
        wheel.write_bytes(content)
    else:
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("other" if content is None else MEMBER, content or b"")
    with pytest.raises(ConfigError, match=r"w.whl: holds no introductions in .*; it is not the package we read") as caught:
        introductions(wheel)
    assert "\n" not in str(caught.value)


def test_splits_by_title() -> None:
    titles = [f"Title {n}" for n in range(2000)]
    counts = Counter(map(split_of, titles))
    assert 150 < counts["valid"] < 250 and 150 < counts["test"] < 250
    assert {split_of(t, titles) for t in titles} == {"test"}
    # int(hashlib.sha1(title).hexdigest(), 16) % 10 of each, worked out apart
    assert [split_of(t) for t in ("Oak", "Lyon", "Mars", "Paris")] == ["train", "test", "valid", "train"]


@pytest.mark.skipif(not CACHED, reason="the package is not in the cache, and this test downloads nothing")
def test_the_real_package() -> None:
    found = introductions(registry.fetch(WIKI))
    assert len(found) == 9912
    questions = list(made(found))
    assert len({q.id for q in questions}) == len(questions)
    assert all(q.start is not None and q.document[q.start :].startswith(q.answers[0]) for q in questions)
    assert all(q.answers[0] not in q.question.split(GAP)[0] or q.kind != "cloze" for q in questions)
    counts = Counter(q.group for q in questions)
    assert counts["description"] > 7000 and counts["cloze"] > 1000 and counts["pattern"] > 1500
    kinds = Counter(q.kind for q in questions)
    assert kinds["pattern:nationality"] < counts["pattern"] / 4 and min(kinds.values()) >= 5
