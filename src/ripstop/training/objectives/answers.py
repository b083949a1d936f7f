"""Answers of frozen models to prompts with a wire in place of the document: what trains a soft prompt.

Three terms, each with a weight that may be 0, each a mean of its own for every question:

* the cross-entropy of the first K tokens of the answer, teacher-forced;
* the divergence, at those tokens, of the model's next-token distribution from the one that it has when it reads the document's
  text (distillation at temperature 1; the text-prompted teacher gets no gradient, being frozen);
* reconstruction: every word of the document should be found by one of the vectors (`models/words_lost.py`). It needs no pass
  through a frozen model, so a training may begin with it alone, which costs little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.frozen.scoring import answer_logits
from ripstop.models import soft_prompt_costs as costs
from ripstop.training.objectives.base import Loss, Objective, ObjectiveConfig

if TYPE_CHECKING:
    from ripstop.data.question import Question, QuestionBatch
    from ripstop.models.soft_prompt import SoftPrompt

METRICS = ("nll", "first_accuracy", "distill", "reconstruction")


class AnswersConfig(ObjectiveConfig):
    """n_tokens: K; null: all of an answer, and the end of its line. first_weight: of the first token, where the others have 1.

    pretrain: the part of the training, at its beginning, that reconstructs alone.
    models: the frozen models of a step: all of them, or one, which the batch decides (held-out losses are over all of them).
    """

    kind: Literal["answers"] = "answers"
    n_tokens: int | None = Field(4, ge=1)
    first_weight: float = Field(1.0, gt=0)
    answer: float = Field(1.0, ge=0, description="weight of the cross-entropy")
    distill: float = Field(0.0, ge=0, description="weight of the distillation")
    reconstruction: float = Field(0.0, ge=0, description="weight of the reconstruction beside the others")
    pretrain: float = Field(0.0, ge=0, le=1, description="part of the training that reconstructs alone")
    lead: int = Field(24, ge=0, description="different words at a document's beginning that count twice in the reconstruction")
    models: Literal["together", "alternate"] = "together"

    @model_validator(mode="after")
    def _trains_something(self) -> AnswersConfig:
        if not (self.answer or self.distill or self.reconstruction) and self.pretrain < 1:
            raise ConfigError("answer, distill and reconstruction are all 0, so nothing is trained; give one of them a weight")
        return self

    def build(self) -> Objective:
        return Answers(self)


class Answers:
    """Metrics are means over questions and models: nll (of a token) and first_accuracy over the first K tokens, distill and
    reconstruction as they enter the loss. What a step does not measure is NaN, which metrics.jsonl writes as null."""

    def __init__(self, config: AnswersConfig):
        self.config = config

    def __call__(self, model: SoftPrompt, batch: QuestionBatch) -> Loss:
        config, questions = self.config, batch.questions
        alone = model.training and batch.progress < config.pretrain
        if alone:
            costs.unread(batch)
        names = list(model.lms)
        if model.training and config.models == "alternate":
            names = [names[_drawn([question.id for question in questions]) % len(names)]]
        z_BMZ = model.wire([question.document for question in questions])
        total_B = z_BMZ.new_zeros(len(questions), dtype=torch.float32)
        measured: dict[str, list[Tensor]] = {}
        for name in names:
            if alone or config.reconstruction:
                lost_B = model.words_lost(z_BMZ, [question.document for question in questions], name, config.lead)
                total_B = total_B + (1.0 if alone else config.reconstruction) * lost_B
                measured.setdefault("reconstruction", []).append(lost_B.detach().mean())
            if not alone and (config.answer or config.distill):
                answered = self._answers(model, name, z_BMZ, questions)
                total_B = total_B + config.answer * answered.loss_B + config.distill * answered.distill_B
                for metric in ("nll", "first_accuracy", *(["distill"] if config.distill else [])):
                    measured.setdefault(metric, []).append(getattr(answered, f"{metric}_B").detach().mean())
        unmeasured = total_B.new_full((), torch.nan)
        metrics = {name: torch.stack(measured[name]).mean() if name in measured else unmeasured for name in METRICS}
        return Loss(total_B.sum() / len(names), len(questions), metrics)

    def _answers(self, model: SoftPrompt, name: str, z_BMZ: Tensor, questions: Sequence[Question]) -> _Answered:
        config, lm, builder = self.config, model.lms[name], model.builders[name]
        answers = [builder.answer_ids(question.answers[0]) for question in questions]
        prompts = [builder.soft(q.question, soft) for q, soft in zip(questions, model.soft(z_BMZ, name), strict=True)]
        logits = answer_logits(lm, builder, prompts, answers, config.n_tokens)
        teacher: list[Tensor] | list[None] = [None] * len(questions)
        if config.distill:
            with torch.no_grad():
                texts = [builder.text(question.question, question.document) for question in questions]
                teacher = answer_logits(lm, builder, texts, answers, config.n_tokens)
        rows = [self._one(*row) for row in zip(logits, answers, teacher, strict=True)]
        # a model laid over several devices makes its logits on the last of them
        return _Answered(*(torch.stack(column).to(z_BMZ.device) for column in zip(*rows, strict=True)))

    def _one(self, logits_TV: Tensor, answer: list[int], teacher_TV: Tensor | None) -> tuple[Tensor, ...]:
        """Of one question: loss, nll, whether the first token is right, divergence from the teacher."""
        target_T = torch.tensor(answer[: len(logits_TV)], device=logits_TV.device)
        nll_T = F.cross_entropy(logits_TV.float(), target_T, reduction="none")
        weight_T = torch.ones_like(nll_T)
        weight_T[0] = self.config.first_weight
        first = (logits_TV[0].argmax() == target_T[0]).float()
        divergence = nll_T.new_zeros(()) if teacher_TV is None else _divergence(teacher_TV, logits_TV)
        return (weight_T * nll_T).sum() / weight_T.sum(), nll_T.mean(), first, divergence


class _Answered(NamedTuple):
    """Of each of B questions."""

    loss_B: Tensor
    nll_B: Tensor
    first_accuracy_B: Tensor
    distill_B: Tensor


def _divergence(teacher_TV: Tensor, logits_TV: Tensor) -> Tensor:
    """KL(teacher || student) in nats, a mean over the tokens."""
    student_TV, teacher_TV = logits_TV.float().log_softmax(-1), teacher_TV.float().log_softmax(-1)
    return F.kl_div(student_TV, teacher_TV, log_target=True, reduction="batchmean")


def _drawn(ids: Sequence[str]) -> int:
    """A number that the questions of a batch decide, and nothing else does: a training that resumes draws it again."""
    return int.from_bytes(hashlib.sha256("\n".join(ids).encode()).digest()[:8])
