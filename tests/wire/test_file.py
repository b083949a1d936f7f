"""A wire's file: every flipped bit and every cut is seen; what is foreign is refused in one sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.wire import file as wire_file
from ripstop.wire.file import MAGIC, Wire, from_bytes, load, save, to_bytes
from ripstop.wire.quantize import WireFormat, n_bytes

FORMAT = WireFormat(bits="int4", group=4, n_vectors=2, width=6)
MODELS = {"zwei": "random gemma, Größe 2 sha256:0011223344556677", "eins": "random llama sha256:8899aabbccddeeff"}


@pytest.fixture
def wire() -> Wire:
    z_MD = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    return Wire.of(z_MD, FORMAT, "soft_prompt sha256:0123456789abcdef", MODELS)


def signed(body: bytes) -> bytes:
    """With the checksum that belongs to it: somebody wrote it so."""
    return body + wire_file._checksum(body)


def test_a_wire_comes_back_whole(wire: Wire, tmp_path: Path) -> None:
    save(wire, tmp_path / "new" / "a.wire")
    found = load(tmp_path / "new" / "a.wire")
    assert found == wire and torch.equal(found.numbers(), wire.numbers())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wire"]
    assert (tmp_path / "new" / "a.wire").read_bytes() == to_bytes(wire)


def test_the_bytes_of_version_1(wire: Wire) -> None:
    # What stands where is a promise to files that exist: written out here a second time.
    data = to_bytes(wire)
    version, length = struct.unpack_from("<HI", data, 8)
    assert (data[:8], version) == (b"\x89RIPWIRE", 1)
    assert json.loads(data[14 : 14 + length]) == {
        "format": {"bits": "int4", "group": 4, "n_vectors": 2, "width": 6},
        "compressor": "soft_prompt sha256:0123456789abcdef",
        "models": MODELS,
    }
    assert data[14 + length : -16] == wire.payload and len(wire.payload) == n_bytes(FORMAT) == 14


def test_a_file_of_version_1_is_read_to_this_day() -> None:
    header = b'{"compressor":"c","format":{"bits":"int4","group":2,"n_vectors":1,"width":2},"models":{"m":"i"}}'
    body = b"\x89RIPWIRE\x01\x00" + len(header).to_bytes(4, "little") + header + b"\x00\x3c" + bytes([15 | 6 << 4])
    found = from_bytes(body + bytes.fromhex("cc672b74058a3d5bb0f92677b1d9e572"), "old")
    assert found.numbers().tolist() == [[7, -2]]


def test_every_single_flipped_bit_is_detected(wire: Wire) -> None:
    data = to_bytes(wire)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ConfigError, match="is damaged or cut short|is no wire"):
            from_bytes(bytes(damaged), "a.wire")


def test_every_cut_and_whatever_is_added_is_detected(wire: Wire) -> None:
    data = to_bytes(wire)
    for length in range(len(data)):
        with pytest.raises(ConfigError, match=r"a\.wire: is"):
            from_bytes(data[:length], "a.wire")
    with pytest.raises(ConfigError, match="damaged"):
        from_bytes(data + b"\0", "a.wire")


def test_a_newer_version_says_so(wire: Wire) -> None:
    body = bytearray(to_bytes(wire)[:-16])
    body[8] = 2
    with pytest.raises(ConfigError, match=r"a\.wire: is a wire of version 2, .*update ripstop"):
        from_bytes(signed(bytes(body)), "a.wire")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(40), b"plain text", MAGIC[:5]])
def test_another_file_is_no_wire(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x: is no wire; `python -m ripstop wire pack` makes one"):
        load(tmp_path / "x")


@pytest.mark.parametrize(
    "header, payload, said",
    [
        (b"{", b"", "header is no JSON"),
        (b"\xff", b"", "header is no JSON"),
        (b"[" * 100_000, b"", "header is no JSON"),
        (b"[]", b"", "a.wire"),
        (
            b'{"compressor":"c\\u001b[2J","models":{"m":"i"},"format":{"n_vectors":1,"width":2}}',
            bytes(4),
            "a.wire: .*be printed",
        ),
        (
            b'{"compressor":"c","models":{"m":"i"},"format":{"n_vectors":1,"width":2}}',
            b"\xff" * 4,
            "a.wire: a wire in fp16 holds a number that was never written; it is damaged; pack the document anew",
        ),
        (b'{"compressor":"c","models":{"m":"i"}}', b"", "format"),
        (b'{"compressor":"c","models":{},"format":{"n_vectors":1,"width":2}}', bytes(4), "models"),
        (b'{"compressor":"c","models":{"m":"i"},"format":{"n_vectors":1,"width":2}}', bytes(3), "3 bytes of numbers"),
    ],
)
def test_a_header_that_says_nothing_is_refused(header: bytes, payload: bytes, said: str) -> None:
    body = MAGIC + struct.pack("<HI", 1, len(header)) + header + payload
    with pytest.raises(ConfigError, match=said):
        from_bytes(signed(body), "a.wire")


def test_a_foreign_wire_names_what_differs(wire: Wire) -> None:
    wire.check(wire.compressor, MODELS, "a.wire")
    wire.check(wire.compressor, {"eins": MODELS["eins"]}, "a.wire")
    with pytest.raises(ConfigError, match="packed by another compressor"):
        wire.check("soft_prompt sha256:fedcba9876543210", MODELS, "a.wire")
    with pytest.raises(ConfigError, match="for another model eins"):
        wire.check(wire.compressor, {"eins": "other weights"}, "a.wire")
    with pytest.raises(ConfigError, match="none of that name"):
        wire.check(wire.compressor, {"drei": MODELS["eins"]}, "a.wire")


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.wire")
    with pytest.raises(ConfigError, match="this is a folder"):
        load(tmp_path)
