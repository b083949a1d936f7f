"""One builder of prompts for every arm: the text of a document, a soft prompt in its place, both, or neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor

from ripstop.config import ConfigError, Strict
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.cache import KeyValues

Piece = list[int] | Tensor | KeyValues
"""Token ids, soft embeddings (M, D), or keys and values that stand for M tokens."""

CONTEXT = "Context:"
MARKS = ("\ue000user\ue001", "\ue000assistant\ue001")
"""Stand for what a user and the assistant say, while a chat template is filled."""


class PromptConfig(Strict):
    """How a question is asked.

    style: plain (lines), or chat (the model's own template, the anchor begins its turn).
    n_shots: examples before it. anchor: the last words before an answer.
    """

    style: Literal["plain", "chat"] = "plain"
    n_shots: int = Field(3, ge=0)
    anchor: str = Field("Answer:", min_length=1)


@dataclass(frozen=True)
class Shot:
    """An example that stands before every question."""

    document: str
    question: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """What follows the constant prefix, in order, up to the anchor."""

    pieces: tuple[Piece, ...]

    def __len__(self) -> int:
        """Tokens, each soft vector one."""
        return sum(map(len, self.pieces))


class PromptBuilder:
    """Prompts for one frozen model. Every piece is encoded by itself, so that a soft prompt can take the place of a text and
    leave the other tokens as they are.

    prefix_ids: BOS and the shots, the same for every arm. A document's ids in a prompt are `lm.words(document)`.
    """

    def __init__(self, lm: FrozenLM, config: PromptConfig, shots: Sequence[Shot]):
        if len(shots) < config.n_shots:
            raise ConfigError(f"prompt: n_shots is {config.n_shots}, and there are {len(shots)} shots; lower it, or give more")
        self.lm, self.config = lm, config
        self._template = _plain(lm) if config.style == "plain" else _chat(lm)
        self.prefix_ids: list[int] = list(self._template.start)
        for shot in shots[: config.n_shots]:
            (asked,) = self.text(shot.question, shot.document).pieces
            assert isinstance(asked, list)
            self.prefix_ids += asked
            self.prefix_ids += [*self.answer_ids(shot.answer), *self._template.between]

    def text(self, question: str, document: str | None) -> Prompt:
        """The document as text; None: closed book, without the line of the context."""
        return Prompt(tuple(self._ask(question, None if document is None else [self.lm.words(document)])))

    def soft(self, question: str, soft: Tensor | KeyValues, document: str | None = None) -> Prompt:
        """The document as a soft prompt, where its tokens would stand. document: a text behind it."""
        beside = [] if document is None else [self.lm.words(document)]
        return Prompt(tuple(self._ask(question, [soft, *beside])))

    def answer_ids(self, answer: str) -> list[int]:
        """What the model should write after the anchor: the answer with a space before it, and what ends it."""
        return [*self.lm.words(answer), *self._template.end]

    def _ask(self, question: str, context: Sequence[Piece] | None) -> list[Piece]:
        """Pieces of a question up to the anchor; None: without the line of the context."""
        encode, template = self.lm.encode, self._template
        asked = [*encode("Question:"), *self.lm.words(question), *template.turn, *encode(self.config.anchor)]
        if context is None:
            return [asked]
        return _joined([encode(CONTEXT), *context, encode("\n") + asked])


@dataclass(frozen=True)
class _Template:
    """Token ids around what is said: before everything, between a question and its answer, after an answer (the end that a
    model has to write), and from there to the next question."""

    start: list[int]
    turn: list[int]
    end: list[int]
    between: list[int]


def _plain(lm: FrozenLM) -> _Template:
    newline = lm.encode("\n")
    return _Template(start=lm.bos, turn=newline, end=newline, between=newline)


def _chat(lm: FrozenLM) -> _Template:
    """The template of the model's chats, taken apart at what is said in two rounds of them."""
    user, assistant = MARKS
    if not lm.tokenizer.chat_template:
        raise ConfigError(f"{lm.name}: has no chat template; choose the prompt style plain")
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    rounds, asked = (
        str(lm.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=said[-1] is turns[0]))
        for said in ([*turns, *turns], turns[:1])
    )
    parts = rounds.replace(assistant, user).split(user)
    if len(parts) != 5 or parts[1] != parts[3] or asked != parts[0] + user + parts[1]:
        raise ConfigError(f"{lm.name}: its chat template does not repeat its turns; choose the prompt style plain")
    start, turn, between = (lm.encode(part, specials=True) for part in parts[:3])
    if not between:
        raise ConfigError(f"{lm.name}: its chat template does not end a turn; choose the prompt style plain")
    if start[: len(lm.bos)] != lm.bos:  # some templates begin with BOS, some leave it to the tokenizer
        start = lm.bos + start
    return _Template(start=start, turn=turn, end=between[:1], between=between[1:])


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring ids as one piece."""
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, list) and joined and isinstance(joined[-1], list):
            joined[-1] = joined[-1] + piece
        else:
            joined.append(piece)
    return joined
