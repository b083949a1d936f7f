"""The battery of controls for wires: the same model and questions, with the information in the wire taken away.

    own        the wire of the question's document: no control.
    wrong      that of another document, which was asked a question of the same group: a real one that answers something else.
    shuffled   those of a batch in another order, whatever was asked of them.
    zero       a wire of zeros: what the adapters alone make of a prompt.
    random     Gaussian vectors as long as the own ones, vector by vector: as much of everything, and no content.

An answer swapped in the document tells whether a wire carries what its document says or what is likely anyway.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.question import Question

WireControl = Literal["own", "wrong", "shuffled", "zero", "random"]
WIRE_CONTROLS: tuple[WireControl, ...] = get_args(WireControl)
SEED = 0


def controlled(control: WireControl, z_QMZ: Tensor, questions: Sequence[Question], batch_size: int) -> Tensor:
    """The wires that the questions are asked with, in place of their own `z_QMZ`; both in the same order."""
    if control == "wrong":
        return z_QMZ[torch.tensor(wrong_of(questions), device=z_QMZ.device)]
    if control == "shuffled":
        return z_QMZ[torch.tensor(shuffled_of(questions, batch_size), device=z_QMZ.device)]
    if control == "zero":
        return torch.zeros_like(z_QMZ)
    if control == "random":
        drawn = torch.randn(z_QMZ.shape, generator=torch.Generator().manual_seed(SEED)).to(z_QMZ)
        return drawn * (z_QMZ.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True))
    return z_QMZ


def wrong_of(questions: Sequence[Question]) -> list[int]:
    """For each question the next one, going around, of the same group and with another document and another answer.

    Where its group has none, the next one of any group.
    """
    return [_next(questions, i, same_group=True) for i in range(len(questions))]


def shuffled_of(questions: Sequence[Question], batch_size: int) -> list[int]:
    """Each batch in a random order; one of a single question, and a batch that has one document, stay as they are."""
    generator = torch.Generator().manual_seed(SEED)
    order: list[int] = []
    for start in range(0, len(questions), batch_size):
        n = min(batch_size, len(questions) - start)
        places = torch.randperm(n, generator=generator)
        # A cyclic order has no fixed point: whoever is drawn gets the wire of who was drawn next.
        turned = torch.empty(n, dtype=torch.long)
        turned[places] = places.roll(-1)
        order += (start + turned).tolist()
    return order


def swapped(questions: Sequence[Question]) -> list[tuple[int, Question]]:
    """Place of each question whose answer stands in its document, and the question with another's answer put there instead.

    Every occurrence of the answer as a whole word goes; the other one, of the same group where there is one, does not stand in
    the document.
    """
    found = []
    for i, question in enumerate(questions):
        if question.start is None:
            continue
        other = questions[_next(questions, i, same_group=True)].answers[0]
        if other in question.document:
            continue
        document = re.sub(rf"(?<!\w){re.escape(question.answers[0])}(?!\w)", other.replace("\\", r"\\"), question.document)
        if other not in document:  # it stands there inside of another word alone
            continue
        found.append((i, replace(question, document=document, answers=(other,), start=document.find(other))))
    return found


def _next(questions: Sequence[Question], i: int, same_group: bool) -> int:
    mine = question = questions[i]
    for j in [*range(i + 1, len(questions)), *range(i)]:
        question = questions[j]
        differs = question.document != mine.document and not {*question.answers} & {*mine.answers}
        if differs and (question.group == mine.group or not same_group):
            return j
    if same_group:
        return _next(questions, i, same_group=False)
    raise ConfigError(
        "the controls need two questions with different documents and answers; raise the number of test questions"
    )
