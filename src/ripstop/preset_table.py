"""The presets in a table: what each weighs, and what a token costs it."""

from __future__ import annotations

from collections.abc import Iterator

from ripstop.models import MODELS
from ripstop.models.accounting import training_flops_per_token
from ripstop.models.base import ModelConfig
from ripstop.models.presets import PRESETS

MOVES_NO_NUMBER = "it prints what the configurations say"

HEAD = ("preset", "vocabulary", "parameters", "forward", "training")


def lines(length: int) -> Iterator[str]:
    """FLOPs per token are a mean over `length` tokens (and a source of as many, where the model reads one)."""
    yield f"FLOPs per token, a mean over {length} tokens"
    yield _row(*HEAD)
    for name, preset in PRESETS.items():
        config = MODELS.parse({"preset": name}, name)
        assert isinstance(config, ModelConfig)
        n_ids = preset.vocab_size
        flops = (config.flops_per_token(n_ids, length), training_flops_per_token(config, n_ids, length))
        yield _row(name, f"{n_ids:,}", f"{config.num_params(n_ids):,}", *(f"{number:.4g}" for number in flops))


def _row(name: str, *numbers: str) -> str:
    return f"{name:<28}" + "".join(f"{number:>15}" for number in numbers)
