"""Needles in a haystack: facts hidden in filler and asked for at the end, of four families, from one lexicon.

A fact gives a key its value, a link gives a key the value of another key. Of the family `variable_chain`, with one question
(. is filler, targets stand where the next token is to be predicted):

    haystack   BOS . . KEY a VAL v . . . . KEY b REF a . .
    question   KEY b REF a VAL v
    targets            a     v

    single          one fact a question, with distinct keys: (Kamradt, Needle in a Haystack; RULER's S-NIAH)
    multi_key       besides these, facts of other keys that nobody asks for (RULER's MK-NIAH)
    multi_value     a key has several facts, and all its values are asked for, in any order (RULER's MV-NIAH)
    variable_chain  a question about a link: the key that it names, then that key's value (RULER's variable tracking)

RULER is Hsieh et al., arXiv 2404.06654; its prompts are written for language models, these are made of a model's own token ids,
so that a model of any size can be trained to answer them. Every row is a function of the generator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ripstop.batch import IGNORE, TokenBatch
from ripstop.data.batching import Indices

Family = Literal["single", "multi_key", "multi_value", "variable_chain"]
FAMILIES: tuple[Family, ...] = get_args(Family)
HAS_DEPTH: tuple[Family, ...] = ("single", "multi_key")
"""A question of these is about one fact, which a test puts at a depth. The facts of the others lie anywhere."""
JITTER = 16
"""Tokens by which a fact lies before or behind its depth, so that it meets the borders of blocks everywhere."""

Filler = Callable[[Generator, int, int], Indices]
"""filler(generator, rows, length): token ids without a needle."""


@dataclass(frozen=True)
class Lexicon:
    """What needles are written with; a key and a value are one token each.

    A fact reads `opens key asserts value closes`, a link `opens key refers key closes`; in the question about a link `bridges`
    stand between the key that it names and that key's value. ends: tokens that a sentence of the filler ends with; a needle
    stands behind one of them, or anywhere where there are none.
    """

    bos: int
    keys_K: Indices
    values_V: Indices
    opens: tuple[int, ...]
    asserts: tuple[int, ...]
    refers: tuple[int, ...]
    bridges: tuple[int, ...]
    closes: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def width(self, verb: tuple[int, ...]) -> int:
        """Tokens of a fact (its verb is `asserts`) or a link (`refers`)."""
        return len(self.opens) + 1 + len(verb) + 1 + len(self.closes)

    def needles_width(self, family: Family, n_questions: int, n_values: int, n_others: int = 0) -> int:
        """Tokens of the facts and links of so many questions."""
        n_facts = n_questions * (n_values if family == "multi_value" else 1) + (n_others if family == "multi_key" else 0)
        n_links = n_questions if family == "variable_chain" else 0
        return n_facts * self.width(self.asserts) + n_links * self.width(self.refers)

    def between(self, family: Family) -> tuple[int, ...]:
        """What a question reads between one answer and the next."""
        return self.bridges if family == "variable_chain" else ()

    def question_width(self, family: Family, n_values: int) -> int:
        """Tokens of a question with its answers, without what closes it."""
        n_answers = n_answers_of(family, n_values)
        verb = self.refers if family == "variable_chain" else self.asserts
        return len(self.opens) + 1 + len(verb) + n_answers + (n_answers - 1) * len(self.between(family))

    def cost(self, family: Family, n_values: int) -> int:
        """Tokens that one more question takes of a row: its facts and links, and itself."""
        return self.needles_width(family, 1, n_values) + self.question_width(family, n_values) + len(self.closes)


@dataclass(frozen=True)
class Rows:
    """Rows of one family: haystacks, and of each the same number of questions.

    haystack_BR: token ids. prompt_BQP: a question up to its first answer. answers_BQA: token ids in the order in which
    training shows them. place_BQA: where in the haystack the token stands that gives the answer.
    """

    family: Family
    haystack_BR: Indices
    prompt_BQP: Indices
    answers_BQA: Indices
    place_BQA: Indices


def n_answers_of(family: Family, n_values: int) -> int:
    """Answers of one question, each the object of one fact or link."""
    return {"multi_value": n_values, "variable_chain": 2}.get(family, 1)


def draw(
    generator: Generator, lexicon: Lexicon, filler: Filler, family: Family, n_rows: int, length: int, n_questions: int,
    n_values: int = 4, n_others: int = 0, depths: Sequence[float] | None = None,
) -> Rows:  # fmt: skip
    """`n_rows` haystacks of `length` tokens, BOS included.

    n_values: of a key, in the family multi_value. n_others: facts that nobody asks for, in the family multi_key.
    depths: of the facts asked for, one a question, 0 at the start and 1 at the end, give or take `JITTER` tokens; None:
        anywhere. What has no depth lies anywhere.
    """
    needles = _needles(generator, lexicon, family, n_rows, n_questions, n_values, n_others)
    haystack_BR, place_BM = _hidden(generator, lexicon, filler, needles, length, depths if family in HAS_DEPTH else None)
    flat_BN = needles.answer_BQA.reshape(n_rows, -1)
    answers_BQA, place_BQA = (
        np.take_along_axis(of_BM, flat_BN, 1).reshape(needles.answer_BQA.shape) for of_BM in (needles.object_BM, place_BM)
    )
    asked_BQ = np.take_along_axis(needles.subject_BM, needles.answer_BQA[:, :, 0], 1)
    return Rows(family, haystack_BR, _prompts(lexicon, family, asked_BQ), answers_BQA, place_BQA)


def to_batch(lexicon: Lexicon, rows: Rows) -> TokenBatch:
    """Haystacks with all their questions and answers behind them, as a training reads them; the haystack is the context."""
    n_rows, n_questions, n_answers = rows.answers_BQA.shape
    between = lexicon.between(rows.family)
    columns: list[Indices] = [rows.prompt_BQP]
    targets: list[Indices] = [np.full_like(rows.prompt_BQP, IGNORE)]
    for number in range(n_answers):
        answer_BQ1 = rows.answers_BQA[:, :, number : number + 1]
        targets[-1][:, :, -1:] = answer_BQ1
        after = lexicon.closes if number == n_answers - 1 else between
        words_BQW = np.broadcast_to(np.array(after, dtype=np.int64), (n_rows, n_questions, len(after)))
        columns.append(np.concatenate([answer_BQ1, words_BQW], 2))
        targets.append(np.full_like(columns[-1], IGNORE))
    asked_BN, target_BN = (np.concatenate(parts, 2).reshape(n_rows, -1) for parts in (columns, targets))
    tokens_BT = torch.from_numpy(np.concatenate([rows.haystack_BR, asked_BN], 1))
    targets_BT = torch.from_numpy(np.concatenate([np.full_like(rows.haystack_BR, IGNORE), target_BN], 1))
    context_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
    context_BT[:, : rows.haystack_BR.shape[1]] = True
    return TokenBatch(tokens_BT, targets_BT, context_BT=context_BT)


def to_tensors(rows: Rows) -> dict[str, Tensor]:
    """The arrays of `rows` by name, int32."""
    arrays = {name: value for name, value in vars(rows).items() if name != "family"}
    return {name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.int32)) for name, value in arrays.items()}


@dataclass(frozen=True)
class _Needles:
    """The first `n_facts` columns are facts, the others links. answer_BQA: the column that gives each answer."""

    subject_BM: Indices
    object_BM: Indices
    n_facts: int
    answer_BQA: Indices


def _needles(
    generator: Generator, lexicon: Lexicon, family: Family, n_rows: int, n_questions: int, n_values: int, n_others: int
) -> _Needles:
    shape, question_Q = (n_rows, n_questions), np.arange(n_questions)
    if family == "multi_value":
        key_BM = _keys(generator, lexicon, n_rows, n_questions).repeat(n_values, 1)
        value_BM = lexicon.values_V[_distinct(generator, n_rows * n_questions, len(lexicon.values_V), n_values)]
        order_BQA = _distinct(generator, n_rows * n_questions, n_values, n_values).reshape(*shape, n_values)
        n_facts = n_questions * n_values
        return _Needles(key_BM, value_BM.reshape(n_rows, n_facts), n_facts, question_Q[:, None] * n_values + order_BQA)
    n_facts = n_questions + (n_others if family == "multi_key" else 0)
    value_BM = lexicon.values_V[generator.integers(0, len(lexicon.values_V), (n_rows, n_facts))]
    if family == "variable_chain":
        # Fact q gives key q its value, and link q gives key n_questions + q that of key q.
        key_BM = _keys(generator, lexicon, n_rows, 2 * n_questions)
        object_BM = np.concatenate([value_BM, key_BM[:, :n_questions]], 1)
        chain_Q2 = np.stack([n_questions + question_Q, question_Q], 1)
        return _Needles(key_BM, object_BM, n_facts, np.broadcast_to(chain_Q2, (*shape, 2)))
    key_BM = _keys(generator, lexicon, n_rows, n_facts)
    return _Needles(key_BM, value_BM, n_facts, np.broadcast_to(question_Q[:, None], (*shape, 1)))


def _hidden(
    generator: Generator, lexicon: Lexicon, filler: Filler, needles: _Needles, length: int, depths: Sequence[float] | None
) -> tuple[Indices, Indices]:
    """Haystacks of `length` tokens that hold the needles, and where each needle's object stands."""
    n_rows, n_needles = needles.subject_BM.shape
    width_M = np.full(n_needles, lexicon.width(lexicon.asserts))
    width_M[needles.n_facts :] = lexicon.width(lexicon.refers)
    room = length - 1 - int(width_M.sum())
    if room < 0:
        raise ValueError(f"a haystack of {length} tokens has no room for needles of {int(width_M.sum())}")
    filler_BF = filler(generator, n_rows, room)
    start_BM = _places(generator, filler_BF, lexicon.ends, width_M, depths)
    haystack_BR, place_BM = np.full((n_rows, length), -1), np.empty_like(start_BM)
    haystack_BR[:, 0] = lexicon.bos
    for kind, verb in ((slice(needles.n_facts), lexicon.asserts), (slice(needles.n_facts, None), lexicon.refers)):
        subject_BN, object_BN = needles.subject_BM[:, kind], needles.object_BM[:, kind]
        words: list[int | Indices] = [*lexicon.opens, subject_BN, *verb, object_BN, *lexicon.closes]
        for offset, word in enumerate(words):
            np.put_along_axis(haystack_BR, start_BM[:, kind] + offset, word, 1)
        place_BM[:, kind] = start_BM[:, kind] + len(lexicon.opens) + 1 + len(verb)
    haystack_BR[haystack_BR < 0] = filler_BF.ravel()
    return haystack_BR, place_BM


def _prompts(lexicon: Lexicon, family: Family, key_BQ: Indices) -> Indices:
    verb = lexicon.refers if family == "variable_chain" else lexicon.asserts
    words: list[int | Indices] = [*lexicon.opens, key_BQ, *verb]
    return np.stack([np.broadcast_to(word, key_BQ.shape) for word in words], 2).astype(np.int64)


def _places(
    generator: Generator, filler_BF: Indices, ends: tuple[int, ...], width_M: Indices, depths: Sequence[float] | None
) -> Indices:
    """Where each needle starts, (rows, needles): behind BOS, and between two tokens of filler."""
    (n_rows, room), n_needles = filler_BF.shape, len(width_M)
    before_BM = generator.integers(0, room + 1, (n_rows, n_needles))
    if depths is not None:
        wanted_BQ = np.round(np.array(depths) * room) + generator.integers(-JITTER, JITTER + 1, (n_rows, len(depths)))
        before_BM[:, : len(depths)] = wanted_BQ.clip(0, room)
    if ends:
        ended_BF = np.where(np.isin(filler_BF, ends), np.arange(1, room + 1), 0)
        last_BF = np.concatenate([np.zeros((n_rows, 1), dtype=np.int64), np.maximum.accumulate(ended_BF, 1)], 1)
        before_BM = np.take_along_axis(last_BF, before_BM, 1)
    # So many tokens of filler before it, and the needles that have fewer.
    order_BM = before_BM.argsort(1, kind="stable")
    needles_BM = np.empty_like(before_BM)
    np.put_along_axis(needles_BM, order_BM, width_M[order_BM].cumsum(1) - width_M[order_BM], 1)
    return 1 + before_BM + needles_BM


def _keys(generator: Generator, lexicon: Lexicon, n_rows: int, n: int) -> Indices:
    return lexicon.keys_K[_distinct(generator, n_rows, len(lexicon.keys_K), n)]


def _distinct(generator: Generator, n_rows: int, size: int, n: int) -> Indices:
    """(rows, n) of range(size), no two of a row alike; every ordered selection is equally likely."""
    return generator.random((n_rows, size)).argsort(1)[:, :n]
