"""Tiny frozen models for the tests, each made once."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ripstop.frozen import FROZEN
from ripstop.frozen.base import FrozenConfig, FrozenLM
from ripstop.frozen.prompt import PromptBuilder, PromptConfig, Shot

ARCHITECTURES = ("llama", "gemma")
SHOTS = (Shot("The Elbe is in Hamburg.", "Which river?", "the Elbe"), Shot("Ada wrote it.", "Who wrote it?", "Ada"))
DOCUMENTS = (
    "The bridge over the Silt, built in 1704, is the oldest.",
    "Zürich — a town.",
    "It is a long way from here to there.",
)
QUESTIONS = ("When was it built?", "What is Zürich?", "How far is it?")
ANSWERS = ("1704", "a town of Switzerland", "a long way")


@functools.cache
def lm(architecture: str = "llama", **settings: Any) -> FrozenLM:
    """A random model. Nobody may change it: `fresh` makes one that may be."""
    return fresh(architecture, **settings)


def fresh(architecture: str = "llama", **settings: Any) -> FrozenLM:
    config = FROZEN.parse({"kind": "random", "architecture": architecture, "merges": 40, **settings})
    assert isinstance(config, FrozenConfig)
    return config.build(architecture)


def builder(model: FrozenLM, style: Any = "plain", n_shots: int = 2) -> PromptBuilder:
    return PromptBuilder(model, PromptConfig(style=style, n_shots=n_shots), SHOTS)


def plain_logits(model: FrozenLM, ids: list[int]) -> Tensor:
    """(T, V) by the model of transformers alone: no padding, no cache, ids instead of embeddings."""
    with torch.no_grad():
        return model.model(input_ids=torch.tensor([ids])).logits[0]
