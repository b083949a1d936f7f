"""Windows of parallel documents: consecutive whole pieces of one document, cut to a number of tokens, kept as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.data.base import DESCRIPTION, one_line
from ripstop.data.batching import Sequences
from ripstop.data.hub import Document
from ripstop.data.tokenizer import EOS, Tokenizer
from ripstop.files import write_text


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


def encoded(documents: Sequence[Document], tokenizer: Tokenizer) -> list[DocumentWindow]:
    """Every piece of the documents, in order, without EOS."""
    pieces = [(i, d.id, *pair) for i, d in enumerate(documents) for pair in zip(d.source, d.target, strict=True)]
    sources = tokenizer.encode_batch([source for *_, source, _ in pieces])
    targets = tokenizer.encode_batch([target for *_, target in pieces])
    return [DocumentWindow(*p, s, t) for p, s, t in zip(pieces, sources, targets, strict=True)]


def windows(
    pieces: Sequence[DocumentWindow], joined: Sequence[bool], max_tokens: int, most_pieces: int | None = None
) -> list[DocumentWindow]:
    """Those that `cut` makes of the pieces, each joined to one text that ends in EOS."""
    return [_join(window) for window in cut(pieces, joined, max_tokens, most_pieces)]


def cut(
    pieces: Sequence[DocumentWindow], joined: Sequence[bool], max_tokens: int, most_pieces: int | None = None
) -> Iterator[list[DocumentWindow]]:
    """Neighbours of one document that fit into `max_tokens` (and EOS) together, `most_pieces` at most; a piece not `joined`
    stands alone.

    A piece that does not fit by itself, or has nothing on one side, is left out, and nothing is joined across the gap.
    """
    window: list[DocumentWindow] = []
    source = target = 0
    joins = False
    for piece, join in zip(pieces, joined, strict=True):
        n_source, n_target = len(piece.source_ids), len(piece.target_ids)
        whole = min(n_source, n_target) > 0
        room = most_pieces is None or len(window) < most_pieces
        same = whole and joins and room and piece.document == window[0].document
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


def write_texts(path: Path, found: Sequence[DocumentWindow]) -> None:
    """The texts of windows whose tokens stand elsewhere."""
    write_text(path, "".join(_json_line(window) for window in found))


def _json_line(window: DocumentWindow) -> str:
    line = {
        "document": window.doc_id,
        "position": window.document,
        "pieces": window.n_pieces,
        "source": window.source_text,
        "target": window.target_text,
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


def read_windows(path: Path, source: Sequences, target: Sequences) -> list[DocumentWindow]:
    """Windows from their texts and tokens, in the order in which they were written."""
    try:
        with path.open(encoding="utf-8") as rows:
            texts = [json.loads(row) for row in rows]
        return [
            DocumentWindow(t["position"], t["document"], t["source"], t["target"], source_ids, target_ids, t["pieces"])
            for t, source_ids, target_ids in zip(texts, source, target, strict=True)
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: cannot be read beside {path.with_suffix('.safetensors').name} ({one_line(error)}); delete "
            f"{path.parent / DESCRIPTION} and prepare the data again"
        ) from None
