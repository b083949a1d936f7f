"""Contexts of a decoder, and the prompts among them that are worth the time that reading them takes."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field, field_validator

from ripstop.config import Strict
from ripstop.models.base import ModelConfig

Context = Annotated[int, Field(ge=2, le=2**24)]
"""Tokens that the last of them can look back on, itself among them."""


class Tokens(NamedTuple):
    """How a model has a context: as its own tokens, and where it reads a source, as many of that."""

    own: int
    source: int | None = None


def tokens_of(context: int, config: ModelConfig) -> Tokens:
    """All of the context, or half of it behind a source of the other half."""
    return Tokens(context - context // 2, context // 2) if config.reads_source else Tokens(context)


class Prompts(Strict):
    """Prompts to be read whole, those that cost no more than `most_flops`: attention's cost is quadratic."""

    contexts: list[Context]
    most_flops: float = Field(gt=0)

    @field_validator("contexts")
    @classmethod
    def _rising(cls, contexts: list[int]) -> list[int]:
        return rising(contexts)

    def affordable(self, config: ModelConfig, vocab_size: int) -> list[int]:
        """The contexts whose prompts are read."""
        return [n for n in self.contexts if prompt_flops(config, vocab_size, n) <= self.most_flops]


def prompt_flops(config: ModelConfig, vocab_size: int, context: int) -> int:
    """Forward FLOPs of a prompt, its source included."""
    own, source = tokens_of(context, config)
    return config.flops_per_token(vocab_size, own, source) * own


def rising(contexts: list[int]) -> list[int]:
    """The same, where each is larger than the one before."""
    if any(b <= a for a, b in zip(contexts, contexts[1:], strict=False)):
        raise ValueError(f"contexts {contexts} do not rise; sort them, and name each once")
    return contexts
