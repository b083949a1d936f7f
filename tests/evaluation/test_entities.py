"""Recall of names: which words are names, how often the training data has them, and what a translation has of them."""

from __future__ import annotations

import pytest

from ripstop.evaluation.entities import NameCounts, entity_recall
from ripstop.evaluation.training_text import WordPair, words
from ripstop.evaluation.translated import Translation


def counts(*pairs: tuple[str, str]) -> NameCounts:
    return NameCounts.count([WordPair(words(source), words(target)) for source, target in pairs])


TRAINING = counts(
    (
        "So David went to the land, so that Israel was glad. Was David there? David was.",
        "So ging David in das Land. War David da?",
    ),
    ("Land of Israel, a land of men", "Das Land Israels, Israel"),
    *[("Zion", "Zion")] * 4,
    *[("Jerusalem", "Jerusalems")] * 5,
    *[("Jerusalem", "Jerusalem")] * 5,
    *[("Juda", "Juda")] * 99,
)


def test_words_are_letters() -> None:
    assert words("Beth-El's 12 „Söhne“, d.h. O_o") == ["Beth", "El", "s", "Söhne", "d", "h", "O", "o"]


@pytest.mark.parametrize(
    ("source", "reference", "names"),
    [
        ("David saw Israel", "David sah Israel", {"David": 1, "Israel": 1}),
        ("David's son, the son of David", "der Sohn Davids, David Davids", {"David": 3}),
        ("So the Land was his", "So war das Land sein; Was", {}),  # common words of the source
        ("Moses and Aaron", "Mose und Aaron", {"Aaron": 1}),  # never seen in training, and one that is spelled differently
        ("Og of Bashan", "Og von Basan", {}),  # two letters; and not letter for letter
        ("David", "er", {}),  # the reference has none
        ("he", "David", {}),
        ("david", "david", {}),
        ("DAVID", "DAVID", {"DAVID": 1}),
    ],
)
def test_what_a_name_is(source: str, reference: str, names: dict[str, int]) -> None:
    assert TRAINING.names(source, reference) == names


def test_buckets_count_the_target_text_with_genitives() -> None:
    found = {name: TRAINING.bucket(name) for name in ("Aaron", "Israel", "Zion", "Jerusalem", "Juda", "David")}
    assert found == {"Aaron": "0", "Israel": "1-9", "Zion": "1-9", "Jerusalem": "10-99", "Juda": "10-99", "David": "1-9"}
    assert counts(*[("Juda", "Juda")] * 100).bucket("Juda") == "100+"
    seldom = counts(*[("Juda went", "er ging")] * 20, ("Juda", "Juda"), *[("he", "Zion")] * 12)
    assert (seldom.bucket("Juda"), seldom.bucket("Zion")) == ("1-9", "10-99")  # whatever the source has


def test_recall_by_hand() -> None:
    """Israel twice in one reference and once in its translation; David in the wrong window does not count."""
    translations = [
        Translation("d", "Israel and David, Aaron", "Israels Volk, Davit und Aaron", "Israel, Israels Volk, David und Aaron"),
        Translation("d", "Israel", "Israel Israel David Israels", "Israel"),
        Translation("d", "the land", "David", "das Land"),
    ]
    found = {m.slice["training_occurrences"]: (m.value, m.n) for m in entity_recall(translations, TRAINING)}
    # Israel 1 of 2 and 1 of 1, David 0 of 1; Aaron 1 of 1
    assert found == {"all": (3 / 5, 5), "1-9": (2 / 4, 4), "0": (1.0, 1)}


def test_a_reference_recalls_every_name_and_nothing_is_measured_without_names() -> None:
    texts = [("David of Zion", "David von Zion"), ("Juda and Aaron", "Juda und Aaron")]
    perfect = [Translation("d", source, target, target) for source, target in texts]
    assert {m.value for m in entity_recall(perfect, TRAINING)} == {1.0}
    empty = [Translation("d", source, "", target) for source, target in texts]
    assert {m.value for m in entity_recall(empty, TRAINING)} == {0.0}
    assert not list(entity_recall([Translation("d", "so", "so", "so")], TRAINING))
