"""How test questions are put to a frozen model, whatever stands in the prompt: one way for wires, texts and their controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ripstop.config import ConfigError, Strict
from ripstop.data.batching import evenly
from ripstop.data.question import Question
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answered import AS_COMPUTED, Answered, asked
from ripstop.evaluation.squad_scores import exact_match, f1
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.prompt import Prompt, PromptBuilder
from ripstop.frozen.scoring import DecodingConfig, generate, jointly_best, log_likelihoods, score
from ripstop.models.soft_prompt import SoftPromptConfig
from ripstop.records import Measurement, Scalar

if TYPE_CHECKING:
    from ripstop.runs import Run


class Asking(Strict):
    """n_questions: of the test split, spread evenly; none given: all. batch_size: questions that are read at once."""

    n_questions: int | None = Field(None, ge=2)
    batch_size: int = Field(16, ge=1)
    decoding: DecodingConfig = DecodingConfig()


def chosen_questions(data: QuestionsConfig, folder: Path, settings: Asking) -> list[Question]:
    """The questions of the test split that are asked."""
    questions = data.questions(folder, "test")
    if len(questions) < 2:
        raise ConfigError("data: its test split has fewer than two questions, and the controls need two; raise n_test")
    return questions if settings.n_questions is None else evenly(questions, settings.n_questions)


def ask(
    lm: FrozenLM, builder: PromptBuilder, questions: Sequence[Question], prompts: Sequence[Prompt], settings: Asking,
    n_vectors: int, reader: str, prompt: str, format_: str = AS_COMPUTED, written: bool = False,
) -> list[Answered]:  # fmt: skip
    """The gold answers scored after the prompts, and answers written where `written`; a row a question.

    n_vectors: those of a wire; whether an answer lies inside as many tokens of its document is told with it.
    """
    gold = [builder.answer_ids(question.answers[0]) for question in questions]
    scored = score(lm, builder, prompts, gold, settings.batch_size)
    texts = generate(lm, builder, prompts, settings.decoding, settings.batch_size) if written else [None] * len(questions)
    return [
        Answered(
            question=question.id,
            document=question.document_id,
            group=question.group,
            place=place(lm, question, n_vectors),
            reader=reader,
            prompt=prompt,
            format=format_,
            gold=question.answers[0],
            nats=found.nll,
            tokens=found.n_tokens,
            first=found.first,
            all=found.all,
            written=text,
            exact_match=None if text is None else float(exact_match(text, question.answers)),
            f1=None if text is None else float(f1(text, question.answers)),
        )
        for question, found, text in zip(questions, scored, texts, strict=True)
    ]


def joint_scores(
    lms: Mapping[str, FrozenLM], prompts: Mapping[str, tuple[PromptBuilder, list[Prompt]]], questions: Sequence[Question],
    rows: Sequence[Answered], prompt: str, batch_size: int,
) -> Iterator[Measurement]:  # fmt: skip
    """Exact match and F1 of the likeliest under all models together of what each wrote after `prompt`, the reader `joint`; and
    of what each wrote by itself. All are over these questions, the slice `questions` says `joint`.

    prompts: reader -> its builder and its prompt for each question.
    """
    wrote = {reader: {row.question: row.written or "" for row in asked(rows, prompt, reader)} for reader in lms}
    candidates = [list(dict.fromkeys(wrote[reader][question.id] for reader in lms)) for question in questions]
    weighed = [log_likelihoods(lms[reader], *prompts[reader], candidates, batch_size) for reader in lms]
    chosen = {reader: [wrote[reader][question.id] for question in questions] for reader in lms}
    chosen["joint"] = [jointly_best(candidates[i], *(scores[i] for scores in weighed)) for i in range(len(questions))]
    for reader, answers in chosen.items():
        where: dict[str, Scalar] = {"reader": reader, "prompt": prompt, "format": AS_COMPUTED, "questions": "joint"}
        for metric, measure in (("exact_match", exact_match), ("f1", f1)):
            scores = [float(measure(text, question.answers)) for text, question in zip(answers, questions, strict=True)]
            yield Measurement(metric, min(1.0, sum(scores) / len(scores)), "fraction", len(scores), where)


def place(lm: FrozenLM, question: Question, n_tokens: int) -> str:
    """Whether the answer ends within the first tokens of its document: `inside`, else `outside`."""
    if question.start is None:
        return "outside"
    end = question.start + len(question.answers[0])
    return "inside" if len(lm.encode(question.document[:end])) <= n_tokens else "outside"


def check_asked(run: Run) -> SoftPromptConfig:
    """The model of a run that questions are asked of; `ConfigError` where there is none, or its data holds no questions."""
    if not isinstance(run.data, QuestionsConfig):
        raise ConfigError(f"needs data of kind questions, and the run's is {run.data.kind}; remove this part")
    if not isinstance(run.model, SoftPromptConfig):
        raise ConfigError(f"needs a model of kind soft_prompt, and the run's is {run.model.kind}; remove this part")
    return run.model
