"""Questions on documents as data: Wikipedia introductions that ship in a package, SQuAD's JSON, or datasets of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ripstop.batch import StreamPlan
from ripstop.config import Strict
from ripstop.data.base import DataConfig, RowLength
from ripstop.data.question import Question, QuestionBatch, read_questions

SPLITS = ("train", "valid", "test")
Split = Literal["train", "valid", "test"]


class SquadConfig(Strict):
    """Files in the format of SQuAD, v1.1 or v2.0 (whose unanswerable questions are left out), one for each split."""

    train: str = Field(min_length=1)
    test: str = Field(min_length=1)
    valid: str | None = Field(None, description="none given: a tenth of the articles of `train`")


class QuestionsConfig(DataConfig):
    """Questions split by article: no document of one split stands in another."""

    kind: Literal["questions"] = "questions"
    source: Literal["introductions"] | SquadConfig = "introductions"
    max_words: int = Field(256, ge=8, description="of document, question and answer; longer ones are left out and counted")
    n_train: int | None = Field(None, ge=1, description="questions to train on; none given: all")
    n_valid: int | None = Field(None, ge=1, description="questions of each group; none given: all")
    n_test: int | None = Field(None, ge=1, description="questions of each group; none given: all")
    files: ClassVar[tuple[str, ...]] = tuple(f"{split}.jsonl" for split in SPLITS)

    @property
    def longest_row(self) -> RowLength:
        return RowLength(self.max_words)

    def write(self, out: Path) -> dict[str, Any]:
        raise NotImplementedError

    def stream(self, data: Path, plan: StreamPlan) -> Any:
        """Endless batches of training questions, a function of the plan's seed and the position alone."""
        raise NotImplementedError

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[Any]:
        """The validation questions, each once; batches are `QuestionBatch`."""
        raise NotImplementedError

    def questions(self, data: Path, split: Split) -> list[Question]:
        """The questions of one split of a prepared folder, in their order."""
        return read_questions(data / f"{split}.jsonl")


__all__ = ["QuestionBatch", "QuestionsConfig", "SquadConfig"]
