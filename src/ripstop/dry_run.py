"""What a free run comes to, told before anything is prepared or written: its place, its model, its tokens, its FLOPs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ripstop import yaml_file
from ripstop.data.base import DataConfig
from ripstop.data.gpt2_tokenizer import Gpt2Config
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import N_BYTES, SPECIALS, BpeConfig
from ripstop.free_run import FreeRun
from ripstop.models.accounting import describe, training_flops_per_token
from ripstop.models.presets import PRESETS
from ripstop.runs import Run

MOVES_NO_NUMBER = "it tells what others resolved"

GPT2 = 50_256
"""Tokens of GPT-2 without its `<|endoftext|>`."""


def described(free: FreeRun) -> str:
    """The resolved configuration, and above it what it comes to.

    Parameters and FLOPs with the vocabulary as far as it is known, FLOPs per
    token as a mean over a row of the data."""
    run, told = free.run, free.run.training
    assert told is not None
    n_ids, source = vocabulary(run.data, free.data if free.is_prepared else None)
    length = run.data.block_size if isinstance(run.data, TextConfig) else run.data.longest_row.tokens
    tokens = told.steps * told.tokens_per_step
    comes_to: dict[str, Any] = {
        "folder": str(free.folder),
        "data": f"{free.data}, {'prepared' if free.is_prepared else 'to be prepared'}",
        "vocabulary": f"{n_ids:,} ids, {source}",
        "model": describe(run.model, n_ids, length),
        "steps": told.steps,
        "tokens_per_step": told.tokens_per_step,
        "tokens": tokens,
        "training_flops": f"{tokens * training_flops_per_token(run.model, n_ids, length):.3e}",
        "notes": [*free.notes, *_made_for(run)],
    }
    return f"{yaml_file.dump(comes_to)}---\n{run.files()['config.yaml']}"


def _made_for(run: Run) -> Iterator[str]:
    """The vocabulary that gives a preset its size, which is that of its name."""
    preset = PRESETS.get(str(run.factors.get("preset")))
    if preset is not None:
        size = f"{preset.n_params:,} parameters with the {preset.vocab_size:,} ids that it is for"
        yield f"the preset as it stands has {size}"


def vocabulary(data: DataConfig, folder: Path | None) -> tuple[int, str]:
    """Number of token ids, and where it is known from. folder: of the data where it is prepared."""
    if folder is not None:
        return data.vocab_size(folder), "of the prepared data"
    if not isinstance(data, TextConfig):
        return 1, "since the data says how many only when it is prepared: the model is counted without"
    if isinstance(data.tokenizer, BpeConfig):
        return data.tokenizer.vocab_size, "fewer where the text has too few to merge"
    if isinstance(data.tokenizer, Gpt2Config):
        return len(SPECIALS) + GPT2, "those of GPT-2 and three of ours, unless data.tokenizer.path is another's"
    return len(SPECIALS) + N_BYTES, "a byte each, and three of ours"
