"""Haystacks: every needle where it is said to be, exact answers, layouts by hand, places that are uniform."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ripstop.batch import IGNORE
from ripstop.data.haystack import FAMILIES, HAS_DEPTH, JITTER, Family, Lexicon, Rows, draw, to_batch

BOS, FILL = 1, 500
TOKENS = Lexicon(BOS, 10 + np.arange(40), 100 + np.arange(30), opens=(2,), asserts=(3,), refers=(4,), bridges=(3,))
WORDS = Lexicon(
    BOS, 10 + np.arange(40), 100 + np.arange(30),
    opens=(2, 5), asserts=(3,), refers=(3, 6), bridges=(7, 3), closes=(8,), ends=(8, 9),
)  # fmt: skip


def counted(generator: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """Filler that counts on from FILL, so that a token that is lost or moved is seen."""
    return np.broadcast_to(FILL + np.arange(length), (rows, length)).copy()


def made(family: Family, lexicon: Lexicon = TOKENS, seed: int = 0, rows: int = 5, length: int = 300, **more: Any) -> Rows:
    return draw(np.random.default_rng(seed), lexicon, counted, family, rows, length, **({"n_questions": 3} | more))


def read(lexicon: Lexicon, row: list[int]) -> tuple[dict[int, list[int]], dict[int, int], list[int]]:
    """Facts (key -> values), links (key -> key) and filler of a haystack, as a reader takes them apart."""
    facts: dict[int, list[int]] = {}
    links: dict[int, int] = {}
    filler, at = [], 1
    opens, n = list(lexicon.opens), len(lexicon.opens)
    while at < len(row):
        if row[at : at + n] != opens:
            filler.append(row[at])
            at += 1
            continue
        key, rest = row[at + n], row[at + n + 1 :]
        linked = rest[: len(lexicon.refers)] == list(lexicon.refers) and rest[len(lexicon.refers)] in lexicon.keys_K
        verb = lexicon.refers if linked else lexicon.asserts
        assert rest[: len(verb)] == list(verb)
        said = rest[len(verb)]
        assert rest[len(verb) + 1 : len(verb) + 1 + len(lexicon.closes)] == list(lexicon.closes)
        if linked:
            links[key] = said
        else:
            facts.setdefault(key, []).append(said)
        at += n + 1 + len(verb) + 1 + len(lexicon.closes)
    return facts, links, filler


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(FAMILIES), st.sampled_from([TOKENS, WORDS]), st.integers(0, 2**32), st.integers(1, 5), st.booleans())
def test_what_is_asked_is_what_the_haystack_says(
    family: Family, lexicon: Lexicon, seed: int, n_questions: int, at_depths: bool
) -> None:
    depths = np.linspace(0, 1, n_questions).tolist() if at_depths else None
    rows = made(family, lexicon, seed, rows=4, n_questions=n_questions, n_values=3, n_others=7, depths=depths)
    assert rows.haystack_BR.shape == (4, 300) and set(rows.haystack_BR[:, 0]) == {BOS}
    for row, prompts, answers, places in zip(
        rows.haystack_BR.tolist(), rows.prompt_BQP, rows.answers_BQA, rows.place_BQA, strict=True
    ):
        facts, links, filler = read(lexicon, row)
        assert filler == list(range(FILL, FILL + len(filler)))  # none lost, none moved
        n_facts = {"multi_value": 3 * n_questions, "multi_key": n_questions + 7}.get(family, n_questions)
        assert sum(map(len, facts.values())) == n_facts and len(links) == (n_questions if family == "variable_chain" else 0)
        assert [[row[place] for place in question] for question in places] == answers.tolist()
        asked = []
        for prompt, answer in zip(prompts.tolist(), answers.tolist(), strict=True):
            key = prompt[len(lexicon.opens)]
            asked.append(key)
            verb = lexicon.refers if family == "variable_chain" else lexicon.asserts
            assert prompt == [*lexicon.opens, key, *verb]
            if family == "variable_chain":
                assert answer[0] == links[key] and [answer[1]] == facts[answer[0]]
            elif family == "multi_value":
                assert sorted(answer) == sorted(facts[key]) and len(set(answer)) == 3
            else:
                assert answer == facts[key]
        assert len(set(asked)) == n_questions


def test_a_training_row_by_hand() -> None:
    """`8` is filler; a chain with its question, and two values of one key."""
    chain = Rows(
        "variable_chain",
        np.array([[1, 8, 2, 11, 3, 100]]),
        np.array([[[2, 12, 4]]]),
        np.array([[[11, 100]]]),
        np.zeros((1, 1, 2), int),
    )
    batch = to_batch(TOKENS, chain)
    assert batch.tokens_BT.tolist() == [[1, 8, 2, 11, 3, 100, 2, 12, 4, 11, 3, 100]]
    n = IGNORE
    assert batch.targets_BT.tolist() == [[n, n, n, n, n, n, n, n, 11, n, 100, n]]
    assert batch.context_BT is not None and batch.context_BT.tolist() == [[True] * 6 + [False] * 6]
    values = Rows(
        "multi_value", np.array([[1, 8]]), np.array([[[2, 5, 12, 3]]]), np.array([[[101, 100]]]), np.zeros((1, 1, 2), int)
    )
    batch = to_batch(WORDS, values)
    assert batch.tokens_BT.tolist() == [[1, 8, 2, 5, 12, 3, 101, 100, 8]]
    assert batch.targets_BT.tolist() == [[n, n, n, n, n, 101, 100, n, n]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lexicon", [TOKENS, WORDS])
def test_widths_are_those_of_the_rows(family: Family, lexicon: Lexicon) -> None:
    rows = made(family, lexicon, n_values=3, n_others=7)
    room = 300 - 1 - lexicon.needles_width(family, 3, 3, 7)
    assert sum(token >= FILL for token in rows.haystack_BR[0]) == room
    batch = to_batch(lexicon, rows)
    asked = 3 * (lexicon.question_width(family, 3) + len(lexicon.closes))
    assert batch.tokens_BT.shape[1] == 300 + asked
    assert lexicon.cost(family, 3) * 3 == asked + lexicon.needles_width(family, 3, 3)


@pytest.mark.parametrize("family", HAS_DEPTH)
def test_a_needle_lies_at_its_depth(family: Family) -> None:
    depths = [0.0, 0.3, 1.0]
    rows = made(family, rows=300, length=700, n_others=20, depths=depths)
    room = 700 - 1 - TOKENS.needles_width(family, 3, 2, 20)
    starts = rows.place_BQA[:, :, 0] - 3
    for depth, start_B in zip(depths, starts.T, strict=True):
        off = start_B - 1 - round(depth * room)
        # Needles before it push it on by their widths.
        assert off.min() >= -JITTER and off.max() <= JITTER + 4 * 22
    assert starts[:, 0].min() == 1 and starts[:, 2].max() == 700 - 4
    jitter = Counter((made("single", rows=3000, length=200, n_questions=1, depths=[0.5]).place_BQA[:, 0, 0]).tolist())
    assert len(jitter) == 2 * JITTER + 1 and stats.chisquare(list(jitter.values())).pvalue > 1e-4


def test_without_a_depth_a_needle_lies_anywhere() -> None:
    starts = made("single", rows=8_000, length=25, n_questions=1).place_BQA[:, 0, 0] - 3
    counts = np.bincount(starts)
    assert counts[0] == 0 and len(counts) == 22  # 1 to 25 - 4
    assert stats.chisquare(counts[1:]).pvalue > 1e-4


def test_needles_stand_between_sentences() -> None:
    def sentences(generator: np.random.Generator, rows: int, length: int) -> np.ndarray:
        return generator.choice([9, 20, 21, 22, 23], (rows, length))

    rows = draw(np.random.default_rng(0), WORDS, sentences, "single", 50, 200, 4, depths=[0, 0.4, 0.6, 1])
    for row, places in zip(rows.haystack_BR.tolist(), rows.place_BQA[:, :, 0].tolist(), strict=True):
        for place in places:
            before = row[place - 5]  # a fact is `2 5 key 3 value 8`
            assert before in (9, 8, BOS), row[place - 6 : place + 2]
    assert len({tuple(p) for p in rows.place_BQA[:, :, 0].tolist()}) > 40


def test_a_haystack_without_room_is_refused() -> None:
    assert made("single", length=1 + 3 * 4).haystack_BR.shape == (5, 13)
    with pytest.raises(ValueError, match="a haystack of 12 tokens has no room for needles of 12"):
        made("single", length=12)


def test_the_same_generator_gives_the_same_rows() -> None:
    one, same, other = (made("multi_value", seed=seed) for seed in (3, 3, 4))
    for name in ("haystack_BR", "prompt_BQP", "answers_BQA", "place_BQA"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.haystack_BR, other.haystack_BR)


def test_several_values_are_asked_in_every_order() -> None:
    rows = made("multi_value", rows=4000, n_questions=1, length=30)
    first = (rows.place_BQA[:, 0, 0] < rows.place_BQA[:, 0, 1]).mean()
    assert 0.46 < first < 0.54
