"""Text for language models: documents back to back in rows of one length, and the bytes of all that is held out.

Held-out documents are whole documents that are not trained on, by a digest of their text where their source has no split of its
own. Bits per byte are told by `held_out_bytes`: the bytes that each target stands for, so that models with different tokenizers
compare. Its sum over a split is the bytes of the documents' text, which stands in data.json too; EOS has none, and costs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

import numpy as np
import tokenizers
import torch
from pydantic import Field
from torch import Tensor

from ripstop.batch import StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data import text_source
from ripstop.data.base import DataConfig, HeldOut, RowLength
from ripstop.data.batching import Indices
from ripstop.data.gpt2_tokenizer import Gpt2Config
from ripstop.data.packed_rows import PackedRows, RowWriter, batch_of, row_dtype
from ripstop.data.text_source import Embedded, HubText, LocalText, Split, StalledError, TextDocument
from ripstop.data.text_stream import BackgroundStream, TextStream
from ripstop.data.tokenizer import BOS, SPECIALS, BpeConfig, BytesConfig, Tokenizer
from ripstop.files import replacing

LONGEST = 2**20
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
TOKENIZER_BYTES = 2**27
"""Of the first documents to train on: what a tokenizer learns from. They wait in memory meanwhile."""
AT_ONCE = 1024
"""Documents that are encoded together."""
WORKERS = 2
"""Threads that read ahead where there is a GPU, which must not wait."""

TextTokenizer = Annotated[BpeConfig | BytesConfig | Gpt2Config, Field(discriminator="kind")]


class TextConfig(DataConfig):
    """`isolate`: no document of a row sees another one, neither by attention nor in a state; held-out ones never do.

    What is held out is scored by `bits_per_byte`: there is no context whose controls `likelihood` could ask for.
    """

    kind: Literal["text"] = "text"
    source: Embedded | LocalText | HubText = "embedded"
    tokenizer: TextTokenizer = BpeConfig(vocab_size=4000)
    block_size: int = Field(512, ge=8, le=LONGEST, description="tokens of a row")
    held_out_block_size: int | None = Field(None, ge=8, le=LONGEST, description="of a held-out row; none given: block_size")
    held_out_share: float = Field(0.05, gt=0, lt=0.5, description="of the documents for valid, and as much for test")
    held_out_documents: int | None = Field(None, ge=1, description="of each of the two, the first ones; none given: all")
    train_tokens: int | None = Field(None, ge=1, description="with so many a stream ends, and no more are added; none: all")
    isolate: bool = True
    files: ClassVar[tuple[str, ...]] = (
        "tokenizer.json",
        *(f"{split}.rows" for split in SPLITS),
        *(f"{split}.bytes" for split in SPLITS[1:]),
        *(f"{split}.jsonl" for split in SPLITS[1:]),
    )

    @property
    def longest_row(self) -> RowLength:
        return RowLength(max(self.block_size, self._block_size("test")))

    def _block_size(self, split: Split) -> int:
        return self.block_size if split == "train" else self.held_out_block_size or self.block_size

    def local_files(self) -> list[Path]:
        return self.source.files() if isinstance(self.source, LocalText) else []

    def load_tokenizer(self, data: Path) -> Tokenizer:
        """The prepared tokenizer."""
        return Tokenizer.load(data / "tokenizer.json")

    def stream(self, data: Path, plan: StreamPlan) -> TextStream | BackgroundStream:
        """`shard(rank, n_ranks)` of it is what one rank reads; `plan` is that of all ranks together."""
        stream = self.plain_stream(data, plan)
        return BackgroundStream(stream, WORKERS, pin=True) if torch.cuda.is_available() else stream

    def plain_stream(self, data: Path, plan: StreamPlan) -> TextStream:
        """The same batches, made where they are asked for."""
        return TextStream(self.rows(data, "train"), plan.tokens_per_batch // self.block_size, plan.seed, self.isolate)

    def rows(self, data: Path, split: Split) -> PackedRows:
        """The packed rows of a split, of targets."""
        return self._packed(data / f"{split}.rows", self.description(data), split)

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[TokenBatch]:
        return self.held_out(data, "valid", plan.tokens_per_batch)

    def held_out(self, data: Path, split: HeldOut, tokens_per_batch: int) -> Iterator[TokenBatch]:
        return (batch for batch, _ in self.held_out_bytes(data, split, tokens_per_batch))

    def held_out_bytes(self, data: Path, split: HeldOut, tokens_per_batch: int) -> Iterator[tuple[TokenBatch, Tensor]]:
        """Every row of a held-out split once, and (B, T), int64, how many bytes of text each target stands for."""
        found = self.description(data)
        rows, sizes = (self._packed(data / f"{split}.{of}", found, split) for of in ("rows", "bytes"))
        n = tokens_per_batch // rows.block_size
        if not n:
            raise ConfigError(f"tokens_per_batch: {tokens_per_batch} does not hold a row of {rows.block_size} tokens; raise it")
        for start in range(0, len(rows), n):
            chosen = np.arange(start, min(start + n, len(rows)))
            yield batch_of(rows[chosen]), sizes[chosen]

    def held_out_texts(self, data: Path, split: HeldOut) -> list[str]:
        """The documents of a held-out split in the order of their source."""
        with (data / f"{split}.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in lines]

    def n_bytes(self, data: Path, split: HeldOut) -> int:
        """Bytes of all text of a held-out split."""
        return self.description(data)["splits"][split]["bytes"]

    def pieces(self, data: Path, split: Split, most_tokens: int | None = None) -> list[Indices]:
        """The documents of a split, and pieces of long ones, as token ids, EOS included: those of its first rows, which hold
        `most_tokens`; None: all."""
        rows = self.rows(data, split)
        n = len(rows) if most_tokens is None else min(-(-most_tokens // rows.block_size), len(rows))
        batch = batch_of(rows[np.arange(n)])
        filled_BT = batch.asked_BT
        begins_N = np.flatnonzero((batch.tokens_BT == BOS)[filled_BT].numpy())
        return np.split(batch.targets_BT[filled_BT].numpy(), begins_N[1:])

    def _packed(self, path: Path, found: dict[str, Any], split: Split) -> PackedRows:
        return PackedRows(path, found["splits"][split]["rows"], self._block_size(split), row_dtype(found["vocab_size"]))

    def write(self, out: Path) -> dict[str, Any]:
        source, told = self.source, text_source.origin(self.source)
        try:
            return self._write(out, text_source.documents(source)) | {"origin": told}
        except StalledError as error:
            if not isinstance(source, HubText) or source.on_stall == "fail":
                raise
            print(f"{error}; the text of the packages takes its place", flush=True)
            instead = {"instead_of": told, "because": str(error), **text_source.origin("embedded")}
            return self._write(out, text_source.documents("embedded")) | {"origin": instead}

    def _write(self, out: Path, documents: Iterator[TextDocument]) -> dict[str, Any]:
        found = ((self._split(document), document.text) for document in documents)
        head = list(_first_bytes(found, TOKENIZER_BYTES)) if isinstance(self.tokenizer, BpeConfig) else []
        tokenizer = self.tokenizer.train(text for split, text in head if split == "train")
        tokenizer.save(out / "tokenizer.json")
        digest = hashlib.sha256((out / "tokenizer.json").read_bytes())
        sizes = token_bytes(out / "tokenizer.json")
        counts: dict[str, dict[str, Any]] = {}
        with ExitStack() as stack:
            files = {name: _opened(stack, out / name) for name in self.files[1:]}
            writers = {
                split: RowWriter(
                    files[f"{split}.rows"], self._block_size(split), row_dtype(len(tokenizer)), files.get(f"{split}.bytes")
                )
                for split in SPLITS
            }
            self._encode(chain(head, found), tokenizer, sizes, writers, files)
            for split, writer in writers.items():
                writer.close()
                if not writer.n_rows:
                    raise ConfigError(
                        f"data.source: no document is in split {split!r}, of {sum(w.n_documents for w in writers.values())} in "
                        "all; give it more (a .txt file is one document unless data.source.text_document is paragraph or "
                        f"line), or {'lower' if split == 'train' else 'raise'} data.held_out_share"
                    )
                digest.update(writer.sha256.digest())
                counts[split] = {
                    "documents": writer.n_documents, "bytes": writer.n_bytes, "tokens": writer.n_tokens,
                    "rows": writer.n_rows, "pieces": writer.n_pieces, "padding": writer.padding,
                }  # fmt: skip
        return {"vocab_size": len(tokenizer), "sha256": digest.hexdigest(), "splits": counts}

    @property
    def _is_stream(self) -> bool:
        """Whether it comes from the hub, which holds more than anyone reads; of others all that is held out is read."""
        return isinstance(self.source, HubText)

    def _is_full(self, train: RowWriter) -> bool:
        return self.train_tokens is not None and train.n_tokens >= self.train_tokens

    def _split(self, document: TextDocument) -> Split:
        return document.split or text_source.split_of(document.text, self.held_out_share)

    def _encode(
        self, found: Iterable[tuple[Split, str]], tokenizer: Tokenizer, sizes: Sequence[int], writers: dict[Split, RowWriter],
        files: dict[str, BinaryIO],
    ) -> None:  # fmt: skip
        """Every document to the writer of its split; no more to train on where there are enough."""
        started, train = time.perf_counter(), writers["train"]
        shown = 2**24
        wanted = iter(found) if self._is_stream else filter(lambda one: one[0] != "train" or not self._is_full(train), found)
        while group := list(islice(wanted, AT_ONCE)):
            encoded = tokenizer.encode_batch([text for _, text in group])
            for (split, text), ids in zip(group, encoded, strict=True):
                writer = writers[split]
                if split == "train":
                    if not self._is_full(writer):
                        writer.add(ids, len(text.encode()))
                elif self.held_out_documents is None or writer.n_documents < self.held_out_documents:
                    sizes_of_ids = [sizes[i] for i in ids]
                    sizes_of_ids[0] -= 1  # the space before a text is the tokenizer's
                    writer.add(ids, len(text.encode()), sizes_of_ids)
                    line = json.dumps({"bytes": len(text.encode()), "text": text}, ensure_ascii=False)
                    files[f"{split}.jsonl"].write(line.encode() + b"\n")
                if self._is_stream and self._is_full(train):
                    return
            if train.n_tokens >= shown:
                shown = 2 * train.n_tokens
                speed = train.n_tokens / (time.perf_counter() - started)
                print(f"{train.n_tokens} tokens to train on, {speed:.0f} tokens/s", flush=True)


def token_bytes(tokenizer: Path) -> list[int]:
    """Bytes that each token id stands for; PAD, BOS and EOS none. In a byte-level vocabulary a character is a byte."""
    vocabulary = tokenizers.Tokenizer.from_file(str(tokenizer)).get_vocab()
    sizes = [0] * len(vocabulary)
    for token, number in vocabulary.items():
        sizes[number] = 0 if token in SPECIALS else len(token)
    return sizes


def _first_bytes(found: Iterator[tuple[Split, str]], n: int) -> Iterator[tuple[Split, str]]:
    """Documents until those to train on have `n` bytes together; the iterator goes on behind them."""
    for split, text in found:
        yield split, text
        n -= len(text.encode()) if split == "train" else 0
        if n <= 0:
            return


def _opened(stack: ExitStack, path: Path) -> BinaryIO:
    """A file that takes its place when all is written."""
    return stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
