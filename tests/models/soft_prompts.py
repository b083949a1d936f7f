"""Soft prompts over tiny random frozen models, and questions with a rule that they can learn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ripstop.data.question import Question, QuestionBatch
from ripstop.models.soft_prompt import SoftPromptConfig

RIVERS, TOWNS = ("Elbe", "Oder", "Isar", "Ruhr"), ("Ulm", "Jena", "Kiel", "Bonn", "Mainz")
LLAMA: dict[str, Any] = {"kind": "random", "width": 32, "n_layers": 2}
GEMMA: dict[str, Any] = {**LLAMA, "architecture": "gemma", "seed": 1, "merges": 40, "width": 24}
READERS: dict[str, dict[str, Any]] = {
    "mean_pool": {"d_hidden": 7},
    "pointer": {"d_key": 6, "d_hidden": 7},
    "feature_resampler": {"resampler": {"d_model": 12, "n_heads": 3}},
    "byte_resampler": {"resampler": {"d_model": 12, "n_heads": 3}, "d_byte": 5},
    "constant": {},
}


@dataclass(frozen=True)
class Info:
    """What the data tells a model."""

    vocab_size: int = 1

    def examples(self, n: int) -> Sequence[Question]:
        return questions(n, seed=99)

    def training_documents(self) -> Sequence[str]:
        return [question.document for question in questions(40)]


def questions(n: int, seed: int = 0) -> list[Question]:
    """Which river? The document says it."""
    draw = random.Random(seed)
    found = []
    for i in range(n):
        river, town = draw.choice(RIVERS), draw.choice(TOWNS)
        text = f"{town} lies on the {river}, a river of {draw.choice(('great', 'little'))} length."
        found.append(Question(f"{seed}-{i}", f"{seed}-{i}", town, text, "Which river?", (river,), text.index(river), "test"))
    return found


class Stream:
    """Batches of 4 questions out of 40, by position."""

    def __init__(self, steps: int, size: int = 4):
        self.questions, self.steps, self.size, self.position = questions(40), steps, size, 0

    def __next__(self) -> QuestionBatch:
        at = self.position * self.size
        rows = tuple(self.questions[(at + i) % len(self.questions)] for i in range(self.size))
        self.position += 1
        return QuestionBatch(rows, (self.position - 1) / self.steps)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def soft_prompt(kind: str = "pointer", two: bool = False, **changes: Any) -> SoftPromptConfig:
    """changes: of the configuration."""
    features_of = "one" if kind not in ("byte_resampler", "constant") else None
    values = {
        "frozen": {"one": LLAMA} | ({"two": GEMMA} if two else {}),
        "features_of": features_of,
        "compressor": {"kind": kind, **READERS[kind]},
        "n_vectors": 4,
        "d_z": 16,
        "prompt": {"n_shots": 1},
    }
    return SoftPromptConfig.parse({**values, **changes}, "model")
