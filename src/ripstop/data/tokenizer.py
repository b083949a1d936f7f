"""Text to token ids and back, without loss: byte-level BPE trained with `tokenizers`, or plain bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tokenizers
from pydantic import Field
from tokenizers import decoders, models, pre_tokenizers, trainers

from ripstop.config import ConfigError, Strict
from ripstop.files import write_text

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<bos>", "<eos>")
N_BYTES = 256


class BpeConfig(Strict):
    """Byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2). The same texts give the same tokens."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(8000, ge=len(SPECIALS) + N_BYTES, le=2**20, description="specials and the 256 bytes included")

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the merges from `texts`; ends below `vocab_size` where they hold too few."""
        return _train(texts, self.vocab_size)


class BytesConfig(Strict):
    """One token for each byte of UTF-8."""

    kind: Literal["bytes"] = "bytes"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Nothing is learnt."""
        return _train((), len(SPECIALS) + N_BYTES)


TokenizerConfig = Annotated[BpeConfig | BytesConfig, Field(discriminator="kind")]


class Tokenizer:
    """PAD 0, BOS 1, EOS 2, then the vocabulary. Encoding adds none of the three; a caller does.

    Every text is encoded with one space before it, which decoding takes away. So a word has the same tokens at the
    start of a text as inside it, and encode(a) + encode(b) == encode(a + " " + b) for a, b without outer spaces.
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        self._inner = inner
        # A text that spells "<eos>" is text.
        inner.encode_special_tokens = True

    def __len__(self) -> int:
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; of an empty text, none."""
        encodings = self._inner.encode_batch_fast([f" {text}" if text else "" for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`. PAD, BOS and EOS are left out; bytes that are not UTF-8 become U+FFFD."""
        return self._inner.decode(list(ids), skip_special_tokens=True).removeprefix(" ")

    def save(self, path: Path) -> None:
        """One JSON file, in the format of `tokenizers`."""
        write_text(path, self._inner.to_str(pretty=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """What `save` wrote."""
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; run `python -m ripstop prepare` for this data first")
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except Exception as error:  # the library raises nothing narrower
            raise ConfigError(
                f"{path}: cannot be read ({error}); delete {path.parent / 'data.json'} and prepare the data again"
            ) from None


def _train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator((f" {text}" for text in texts), trainer)
    return Tokenizer(inner)
