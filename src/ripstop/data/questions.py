"""Questions on documents as data: Wikipedia introductions that ship in a package, SQuAD's JSON, or datasets of the hub.

Splits are by article, and a document that is tested on is in no other split, whatever the files say. Nothing is tokenized here:
each frozen model that reads a question has its own tokens, so that lengths are words between white space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ripstop.batch import StreamPlan
from ripstop.config import ConfigError
from ripstop.data import hub_questions, introductions, registry, source_package, squad, trivia
from ripstop.data.base import DataConfig, RowLength
from ripstop.data.batching import derived_seed, evenly
from ripstop.data.hub_questions import HubQuestions
from ripstop.data.question import Question, QuestionBatch, Split, read_questions, write_questions
from ripstop.data.question_info import QuestionInfo
from ripstop.data.question_stream import QuestionStream, in_order
from ripstop.data.sentences import shuffled
from ripstop.data.squad import SquadConfig

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
Kind = Literal["description", "pattern", "cloze"]
DRAWS = 100
"""Documents that are looked at for each distractor before it is said that there is none."""


class QuestionsConfig(DataConfig):
    """Questions split by article. `n_valid` and `n_test` count each group (description, pattern, cloze, trivia) on its own."""

    kind: Literal["questions"] = "questions"
    source: Literal["introductions"] | SquadConfig | HubQuestions = "introductions"
    kinds: list[Kind] = Field(["description", "pattern", "cloze"], min_length=1, description="made from introductions")
    trivia: bool = Field(True, description="of introductions: test on questions that people wrote, too")
    max_words: int = Field(
        256, ge=8, le=2**20, description="of document, question and answer together; longer ones are left out"
    )
    n_train: int | None = Field(None, ge=1, description="questions to train on, at equal distances; none given: all")
    n_valid: int | None = Field(None, ge=1, description="questions of each group, at equal distances; none given: all")
    n_test: int | None = Field(None, ge=1, description="questions of each group, at equal distances; none given: all")
    distractors: int = Field(0, ge=0, le=100, description="other documents of the split around the one that answers")
    shuffle_sentences: bool = Field(False, description="documents with their sentences in another order: no lead bias")
    files: ClassVar[tuple[str, ...]] = tuple(f"{split}.jsonl" for split in SPLITS)

    @property
    def longest_row(self) -> RowLength:
        return RowLength(self.max_words)

    def local_files(self) -> list[Path]:
        if not isinstance(self.source, SquadConfig):
            return []
        return [path for split in SPLITS if (path := self.source.local_file(split)) is not None]

    def questions(self, data: Path, split: Split) -> list[Question]:
        """The questions of one split of a prepared folder, in their order."""
        return read_questions(data / f"{split}.jsonl")

    def info(self, data: Path) -> QuestionInfo:
        return QuestionInfo(self.vocab_size(data), data / "train.jsonl")

    def stream(self, data: Path, plan: StreamPlan) -> QuestionStream:
        self.check(plan)
        n_batches = plan.steps * plan.accumulation
        return QuestionStream(self.questions(data, "train"), plan.tokens_per_batch, plan.seed, n_batches)

    # The base says TokenBatch, and the trainer asks for any Batch.
    def validation(self, data: Path, plan: StreamPlan) -> Iterator[QuestionBatch]:  # type: ignore[override]
        return in_order(self.questions(data, "valid"), plan.tokens_per_batch)

    def write(self, out: Path) -> dict[str, Any]:
        loaded, origin = self._load()
        tested = {question.document for question in loaded["test"]}
        held_out = tested | {question.document for question in loaded["valid"]}
        digest = hashlib.sha256()
        counts: dict[str, dict[str, Any]] = {}
        for split, found in loaded.items():
            seen_elsewhere: set[str] = {"train": held_out, "valid": tested, "test": set[str]()}[split]
            apart = [question for question in found if question.document not in seen_elsewhere]
            whole = self._documents(apart, split)
            short = [question for question in whole if question.n_words <= self.max_words]
            kept = self._some(short, split)
            if not kept:
                raise ConfigError(
                    f"data: no question of split {split!r} has at most {self.max_words} words; raise data.max_words"
                    if whole
                    else f"data: every question of split {split!r} is on a document that is held out; name other files"
                    if found
                    else f"data: split {split!r} has no question; name a source with more articles, or one for each split"
                )
            write_questions(out / f"{split}.jsonl", kept)
            digest.update((out / f"{split}.jsonl").read_bytes())
            counts[split] = {
                "questions": len(kept),
                "documents": len({question.document for question in kept}),
                "words": sum(question.n_words for question in kept),
                "groups": {group: len(of_one) for group, of_one in _grouped(kept).items()},
                "left_out_too_long": len(whole) - len(short),
                "left_out_document_held_out": len(found) - len(apart),
            }
            print(f"{split}: {len(kept)} questions on {counts[split]['documents']} documents", flush=True)
        # A vocabulary of one, since every model brings its own.
        return {"vocab_size": 1, "sha256": digest.hexdigest(), "origin": origin, "splits": counts}

    def _load(self) -> tuple[dict[Split, list[Question]], Any]:
        """Every split's questions, and where they are from; `ConfigError` where two have the same id."""
        if isinstance(self.source, SquadConfig):
            loaded, origin = self._squad(self.source), self.source.model_dump(mode="json")
        elif isinstance(self.source, HubQuestions):
            loaded, origin = self._hub(self.source), self.source.model_dump(mode="json")
        else:
            loaded, origin = self._introductions()
        seen: set[str] = set()
        for question in (question for split in SPLITS for question in loaded[split]):
            if question.id in seen:
                raise ConfigError(f"data.source: two questions have the id {question.id!r}; give each its own")
            seen.add(question.id)
        return loaded, origin

    def _squad(self, source: SquadConfig) -> dict[Split, list[Question]]:
        paths = {split: source.local_file(split) for split in SPLITS}
        read = {split: list(squad.questions(path)) for split, path in paths.items() if path is not None}
        return {**read, **({} if source.valid else by_article(read["train"])), "test": read["test"]}

    def _hub(self, source: HubQuestions) -> dict[Split, list[Question]]:
        train, test = (list(hub_questions.questions(source, split)) for split in ("train", "test"))
        if source.split_train:
            return {**by_article(train), "test": test}
        return {"train": train, "valid": list(hub_questions.questions(source, "valid")), "test": test}

    def _introductions(self) -> tuple[dict[Split, list[Question]], Any]:
        found = introductions.introductions(registry.fetch(introductions.WIKI))
        asked: list[Question] = []
        origin = [vars(introductions.WIKI)]
        if self.trivia:
            asked = trivia.questions(source_package.fetch(trivia.RED_TRIVIA), {one.title: one.text for one in found})
            origin.append(vars(trivia.RED_TRIVIA))
        held_out = {question.title for question in asked}
        loaded: dict[Split, list[Question]] = {split: [] for split in SPLITS}
        for question in introductions.made(found):
            if question.group in self.kinds:
                loaded[introductions.split_of(question.title, held_out)].append(question)
        loaded["test"] += asked
        return loaded, origin

    def _documents(self, questions: list[Question], split: Split) -> list[Question]:
        """The questions with their documents as they are to be read."""
        if self.shuffle_sentences:
            questions = [shuffled(question) for question in questions]
        if not self.distractors:
            return questions
        pool = list({question.document: question.title for question in questions}.items())
        answers: dict[str, set[str]] = {}
        for question in questions:
            answers.setdefault(question.document_id, set()).update(answer.lower() for answer in question.answers)
        return [_among(question, pool, answers[question.document_id], self.distractors, split) for question in questions]

    def _some(self, questions: list[Question], split: Split) -> list[Question]:
        if split == "train":
            return evenly(questions, self.n_train or len(questions))
        limit = self.n_valid if split == "valid" else self.n_test
        return [question for of_one in _grouped(questions).values() for question in evenly(of_one, limit or len(of_one))]


def by_article(questions: Iterable[Question]) -> dict[Split, list[Question]]:
    """Questions as train and valid: a tenth of the articles, by a digest of their titles, are validated on."""
    found: dict[Split, list[Question]] = {"train": [], "valid": []}
    for question in questions:
        found["valid" if introductions.split_of(question.title) == "valid" else "train"].append(question)
    return found


def _grouped(questions: Iterable[Question]) -> dict[str, list[Question]]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.group, []).append(question)
    return groups


def _among(question: Question, pool: list[tuple[str, str]], answers: set[str], n: int, split: Split) -> Question:
    """The question with `n` other documents around its own; which, and where it stands among them, its document's name decides.

    None of them is on the same article, or holds an answer to any question on this document.
    """
    generator = np.random.default_rng(derived_seed("distractors", *question.document_id.encode()))
    others: list[str] = []
    for _ in range(DRAWS * n):
        document, title = pool[int(generator.integers(len(pool)))]
        lower = document.lower()
        if title != question.title and document not in others and not any(answer in lower for answer in answers):
            others.append(document)
        if len(others) == n:
            break
    else:
        raise ConfigError(
            f"data.distractors: split {split!r} has no {n} documents without an answer to {question.id!r}; lower it"
        )
    place = int(generator.integers(n + 1))
    before = "".join(f"{document} " for document in others[:place])
    whole = " ".join([*others[:place], question.document, *others[place:]])
    return replace(question, document=whole, start=None if question.start is None else len(before) + question.start)
