"""What a soft prompt weighs and costs, its frozen models included, by formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from ripstop.frozen.base import FrozenConfig, FrozenLM, Sizes
from ripstop.models.compressors.base import WireShape

if TYPE_CHECKING:
    from ripstop.models.soft_prompt import SoftPromptConfig

TOKENS_PER_WORD = 4 / 3
"""Of English prose, roughly, with vocabularies of tens of thousands. Costs of batches, which hold words, stand on it."""
BYTES_PER_WORD = 6
"""The same of its UTF-8 bytes, a space included."""
_KNOWN: dict[FrozenConfig, Sizes] = {}
"""Of the models that this process has built."""
_UNREAD: WeakSet[Any] = WeakSet()
"""Batches that no frozen model has read."""


def remember(config: FrozenConfig, lm: FrozenLM) -> None:
    """From now on the sizes of `config` are known."""
    _KNOWN[config] = lm.sizes


def unread(batch: Any) -> None:
    """This batch is compressed and reconstructed alone: it costs no reading by a frozen model."""
    _UNREAD.add(batch)


def sizes(config: FrozenConfig) -> Sizes | None:
    """Of a frozen model; None where nobody knows them before it is built: it is then left out of all counts."""
    return _KNOWN.get(config) or config.sizes()


def params_by_part(config: SoftPromptConfig) -> dict[str, int]:
    """Trainable parts, and `frozen <name>` for each frozen model."""
    known = {name: found for name, frozen in config.frozen.items() if (found := sizes(frozen)) is not None}
    shape = wire_shape(config)
    compressor = 0 if config.features_of is not None and shape.d_features is None else config.compressor.num_params(shape)
    adapters = sum(config.adapter.num_params(config.n_vectors, config.d_z, found) for found in known.values())
    return {"compressor": compressor, "adapters": adapters} | {
        f"frozen {name}": found.n_params for name, found in known.items()
    }


def wire_shape(config: SoftPromptConfig) -> WireShape:
    """As the compressor is built; without the width of its features where nobody knows it yet."""
    found = None if config.features_of is None else sizes(config.frozen[config.features_of])
    return WireShape(config.n_vectors, config.d_z, None if found is None else found.width)


def reading_flops(found: Sizes, n_tokens: int, n_logits: int) -> int:
    """Of a frozen model that reads so many tokens at once and makes logits at some of them."""
    tables = found.vocab_size * found.width * (1 if found.tied else 2)
    body = 2 * (found.n_params - tables) * n_tokens
    attention = 2 * found.n_layers * found.n_heads * found.head_dim * n_tokens * (n_tokens + 1)
    return body + attention + 2 * found.vocab_size * found.width * n_logits


def batch_flops(config: SoftPromptConfig, batch: Any) -> int:
    """Of a batch of questions: each document compressed, and read by every model between question and answer.

    The trainer counts a backward pass as two forward ones. That of a frozen model is one, since its weights have no gradients:
    of its forward pass two thirds enter. Hidden states are computed once a document and kept, and so not counted. What an
    objective adds (a teacher) or leaves out (one of two models) is its own and not known here, but for `unread`.
    """
    shape, total = wire_shape(config), 0.0
    known = [found for frozen in config.frozen.values() if (found := sizes(frozen)) is not None]
    readers = [] if batch in _UNREAD else known
    per_word = BYTES_PER_WORD if config.compressor.reads == "bytes" else TOKENS_PER_WORD
    for question in batch.questions:
        n_read = max(1, round(per_word * len(question.document.split())))
        n_asked, n_answered = (round(TOKENS_PER_WORD * len(t.split())) for t in (question.question, question.answers[0]))
        if config.features_of is None or shape.d_features is not None:
            total += config.compressor.flops(shape, n_read)
        for found in known:
            total += config.n_vectors * config.adapter.flops(config.d_z, found)
        for found in readers:
            total += 2 / 3 * reading_flops(found, config.n_vectors + n_asked + n_answered, n_answered)
    return round(total)


def state_bytes(config: SoftPromptConfig, seq_len: int, dtype: torch.dtype) -> int:
    """Keys and values of `seq_len` tokens in every frozen model."""
    known = [found for frozen in config.frozen.values() if (found := sizes(frozen)) is not None]
    return sum(2 * found.n_layers * found.n_kv_heads * found.head_dim * seq_len * dtype.itemsize for found in known)
