"""GPT-2's byte-pair encoding, from the hub or from a file, behind our three special ids."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import tokenizers
from pydantic import Field
from tokenizers import decoders, models, pre_tokenizers

from ripstop.config import ConfigError, Strict
from ripstop.data.base import one_line
from ripstop.data.tokenizer import SPECIALS, Tokenizer


class Gpt2Config(Strict):
    """Its tokens in their order from id 3 on; PAD, BOS and EOS are ours, and `<|endoftext|>` is none of them."""

    kind: Literal["gpt2"] = "gpt2"
    path: str = Field(
        "openai-community/gpt2", min_length=1, description="name on the hub, or a local tokenizer.json of any byte-level BPE"
    )
    revision: str = Field("main", description="commit or tag, on the hub")

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Nothing is learnt."""
        file = Path(self.path).expanduser()
        try:
            if file.is_file():
                found = tokenizers.Tokenizer.from_file(str(file))
            else:
                found = tokenizers.Tokenizer.from_pretrained(self.path, self.revision)
        except Exception as error:  # the library raises nothing narrower
            raise ConfigError(
                f"data.tokenizer.path: {self.path!r} cannot be loaded ({one_line(error)}); name a local tokenizer.json, or "
                "load it once where there is a network"
            ) from None
        return Tokenizer(_behind_ours(json.loads(found.to_str()), self.path))


def _behind_ours(described: dict[str, Any], path: str) -> tokenizers.Tokenizer:
    """The same merges, every special token of its own left out, and ours before all others."""
    model, specials = described["model"], {token["content"] for token in described["added_tokens"]}
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    if model["type"] != "BPE" or not alphabet <= model["vocab"].keys():
        raise ConfigError(f"data.tokenizer.path: {path!r} is no byte-level BPE, which has a token for every byte; name one")
    tokens = [token for token in sorted(model["vocab"], key=model["vocab"].get) if token not in specials]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    inner = tokenizers.Tokenizer(
        models.BPE(vocab={token: number for number, token in enumerate([*SPECIALS, *tokens])}, merges=merges)
    )
    inner.add_special_tokens(list(SPECIALS))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return inner
