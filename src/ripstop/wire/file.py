"""A wire as a file: what it is of and for, its packed numbers, and a checksum over everything.

The bytes, little-endian: MAGIC (8), version (2), length of the header (4), header (JSON in UTF-8), packed numbers, and 16
bytes of BLAKE2b over all that stands before. Magic, version and checksum keep their places in every version to come, so that
what is damaged, what is newer and what is something else can be told apart.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor

from ripstop.config import ConfigError, Strict
from ripstop.files import replacing, sentence
from ripstop.wire.quantize import WireFormat, n_bytes, pack, unpack

MOVES_NO_NUMBER = "it keeps bytes that others packed"

MAGIC = b"\x89RIPWIRE"
"""Its first byte is no text in any encoding of one byte, nor the first one of UTF-8."""
VERSION = 1
CHECKSUM = 16
_FIXED = struct.Struct("<HI")


class _Header(Strict):
    """What stands before the numbers."""

    format: WireFormat
    compressor: str
    models: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_shown(self) -> _Header:
        if not all(text.isprintable() for text in (self.compressor, *self.models, *self.models.values())):
            raise ConfigError("compressor, models: hold characters that cannot be printed; pack the document anew")
        return self


@dataclass(frozen=True)
class Wire:
    """A document, compressed: packed numbers, and who can read them.

    payload: as `quantize.pack` gives it. compressor: identity of what wrote it. models: identity of each frozen model that
    can read it, by its name.
    """

    format: WireFormat
    payload: bytes = field(repr=False)
    compressor: str
    models: dict[str, str]

    @classmethod
    def of(cls, z_MD: Tensor, format: WireFormat, compressor: str, models: dict[str, str]) -> Wire:
        """The wire that carries these numbers."""
        return cls(format, pack(z_MD, format), compressor, dict(models))

    def numbers(self) -> Tensor:
        """(M, d_z) in float32, as they were rounded."""
        return unpack(self.payload, self.format)

    def check(self, compressor: str, models: dict[str, str], where: str) -> None:
        """`ConfigError` where it was written by another compressor, or for other frozen models than these."""
        if self.compressor != compressor:
            raise ConfigError(
                f"{where}: was packed by another compressor ({self.compressor}, not {compressor}); name the run that packed it"
            )
        for name, identity in models.items():
            if self.models.get(name) != identity:
                made_for = self.models.get(name, "none of that name")
                raise ConfigError(
                    f"{where}: is for another model {name} ({made_for}, not {identity}); pack the document for this one"
                )


def to_bytes(wire: Wire) -> bytes:
    """The whole file."""
    values = {"format": wire.format.model_dump(), "compressor": wire.compressor, "models": wire.models}
    header = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    body = MAGIC + _FIXED.pack(VERSION, len(header)) + header + wire.payload
    return body + _checksum(body)


def from_bytes(data: bytes, where: str) -> Wire:
    """The wire that `to_bytes` wrote. `ConfigError` names `where` it is damaged, cut, newer than this code, or no wire."""
    if not data.startswith(MAGIC):
        raise ConfigError(f"{where}: is no wire; `python -m ripstop wire pack` makes one")
    body, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if len(body) < len(MAGIC) + _FIXED.size or _checksum(body) != checksum:
        raise ConfigError(f"{where}: is damaged or cut short, its checksum does not fit; copy or pack it again")
    version, length = _FIXED.unpack_from(body, len(MAGIC))
    if version != VERSION:
        raise ConfigError(f"{where}: is a wire of version {version}, and this is ripstop for version {VERSION}; update ripstop")
    start = len(MAGIC) + _FIXED.size
    header = _Header.parse(_json(body[start : start + length], where), where)
    payload = body[start + length :]
    if len(payload) != n_bytes(header.format):
        raise ConfigError(
            f"{where}: holds {len(payload)} bytes of numbers, and its format has {n_bytes(header.format)}; pack it anew"
        )
    try:
        unpack(payload, header.format)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; pack the document anew") from None
    return Wire(header.format, payload, header.compressor, header.models)


def save(wire: Wire, path: Path) -> None:
    """Write it whole or not at all. `OSError` with the name of `path` where the disk does not take it."""
    with replacing(path) as temporary:
        temporary.write_bytes(to_bytes(wire))


def load(path: Path) -> Wire:
    """The wire that `save` wrote. `ConfigError` in one sentence where there is none, or not a whole one."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(len(MAGIC))
            data += file.read() if data == MAGIC else b""  # what is something else may be large
    except OSError as error:
        raise ConfigError(sentence(OSError(error.errno, error.strerror or str(error), str(path)))) from None
    return from_bytes(data, str(path))


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECKSUM).digest()


def _json(header: bytes, where: str) -> Any:
    try:
        return json.loads(header.decode())
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: its header is no JSON; pack the document anew") from None
