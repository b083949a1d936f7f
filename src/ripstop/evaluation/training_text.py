"""The text that a translator was trained on, taken apart into words: what measures of single words are held against."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ripstop.data.batching import load_sequences
from ripstop.data.documents import DocumentsConfig

WORD = re.compile(r"[^\W\d_]+")
"""Letters alone: no digits or signs, and what an apostrophe or a hyphen joins is two words."""


class WordPair(NamedTuple):
    """The words of one window, in order and as they are written."""

    source: list[str]
    target: list[str]


def words(text: str) -> list[str]:
    """The words of a text in order."""
    return WORD.findall(text)


def training_words(config: DocumentsConfig, data: Path) -> list[WordPair]:
    """Every window of the training split. Each piece of text that was trained on stands in one of them."""
    columns = load_sequences(data / "train.safetensors")
    tokenizer = config.load_tokenizer(data)
    sides = ([words(tokenizer.decode(ids)) for ids in columns[side]] for side in ("source", "target"))
    return [WordPair(source, target) for source, target in zip(*sides, strict=True)]


def held_out_words(config: DocumentsConfig, data: Path) -> list[WordPair]:
    """Every window of the validation split: human translations that no model was trained on."""
    return [WordPair(words(w.source_text), words(w.target_text)) for w in config.test_windows(data, "valid")]


def occurrences(texts: Sequence[Sequence[str]]) -> Counter[str]:
    """How often each word stands in the texts, as it is written."""
    return Counter(word for text in texts for word in text)
