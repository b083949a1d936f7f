"""How few bytes texts can be coded in: plain, by two common codings, and by arithmetic coding under a frozen model itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ripstop.config import ConfigError
from ripstop.evaluation.text_bits import gzip_bytes, utf8_bytes, zstd_bytes
from ripstop.frozen.arithmetic import compress, decompress
from ripstop.frozen.base import FrozenLM
from ripstop.records import Measurement


def coded_bytes(lm: FrozenLM, documents: Sequence[str], n_decoded: int, reader: str) -> Iterator[Measurement]:
    """Bytes of all documents under each coding, each by itself; the first `n_decoded` are decoded again and compared."""
    coded = [compress(lm, document) for document in documents]
    for document, data in list(zip(documents, coded, strict=True))[:n_decoded]:
        if decompress(lm, data) != document:
            raise ConfigError(
                f"{lm.name}: what was coded under it is decoded to another text, {document[:40]!r}...; report this"
            )
    sizes = {
        "utf8": [utf8_bytes(document) for document in documents],
        "gzip": [gzip_bytes(document) for document in documents],
        "zstd": [zstd_bytes(document) for document in documents],
        "arithmetic": [len(data) for data in coded],
    }
    for coding, found in sizes.items():
        yield Measurement("coded_bytes", sum(found), "bytes", len(documents), {"reader": reader, "coding": coding})
