"""Packed numbers: their bytes by hand and by formula, how far rounding moves them, and what is refused."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.wire.quantize import BITS_EACH, Bits, WireFormat, error_bound, n_bytes, pack, straight_through, unpack

ALL: tuple[Bits, ...] = ("fp16", "int8", "int6", "int4")
WHOLE: tuple[Bits, ...] = ("int8", "int6", "int4")


def one_row(bits: Bits, width: int, group: int = 32) -> WireFormat:
    return WireFormat(bits=bits, group=group, n_vectors=1, width=width)


def halves(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def test_four_bits_by_hand() -> None:
    # Groups (7, -7, 3.4) and (1.75, 0.1): scales 1 and 0.25, codes 7 -7 3 and 7 0 (0.1 / 0.25 = 0.4), written 8 higher.
    z_MD = torch.tensor([[7, -7, 3.4, 1.75, 0.1]])
    expected = halves(1, 0.25) + bytes([15 | 1 << 4, 11 | 15 << 4, 8])
    assert pack(z_MD, one_row("int4", 5, 3)) == expected
    assert unpack(expected, one_row("int4", 5, 3)).tolist() == [[7, -7, 3, 1.75, 0]]


def test_six_bits_by_hand() -> None:
    # Scale 1, codes 31 -31 0 5 2, from 0: 63 1 32 37 34 = 111111 000001 100000 100101 100010, the lowest bit first.
    stream = "".join(format(code, "06b")[::-1] for code in (63, 1, 32, 37, 34)).ljust(32, "0")
    expected = halves(1) + bytes(int(stream[i : i + 8][::-1], 2) for i in range(0, 32, 8))
    z_MD = torch.tensor([[31.0, -31, 0.3, 5, 2]])
    assert pack(z_MD, one_row("int6", 5)) == expected
    assert unpack(expected, one_row("int6", 5)).tolist() == [[31, -31, 0, 5, 2]]


def test_eight_bits_and_fp16_by_hand() -> None:
    z_MD = torch.tensor([[127.0, -127, 1, 0]])
    assert pack(z_MD, one_row("int8", 4)) == halves(1) + bytes([255, 1, 129, 128])
    assert pack(z_MD / 3, one_row("fp16", 4)) == halves(127 / 3, -127 / 3, 1 / 3, 0)


def test_a_last_group_is_smaller_and_none_reaches_into_the_next_vector() -> None:
    format = WireFormat(bits="int4", group=2, n_vectors=2, width=3)
    z_MD = torch.tensor([[7.0, 1, 14], [700, 1, 7]])
    assert pack(z_MD, format)[:8] == halves(1, 2, 100, 1)
    assert unpack(pack(z_MD, format), format).tolist() == [[7, 1, 14], [700, 0, 7]]


@pytest.mark.parametrize(
    "bits, group, n_vectors, width, expected",
    [
        ("fp16", 32, 8, 256, 4096),
        ("int8", 32, 8, 256, 2048 + 128),
        ("int6", 32, 8, 256, 1536 + 128),
        ("int4", 32, 8, 256, 1024 + 128),
        ("int4", 256, 64, 256, 8192 + 128),
        ("int6", 5, 1, 7, 6 + 4),  # 42 bits in 6 bytes, two groups
        ("int4", 4, 3, 5, 8 + 12),  # 60 bits in 8 bytes, two groups a vector
        ("int8", 100, 2, 3, 6 + 4),
    ],
)
def test_bytes_are_those_of_the_formula(bits: Bits, group: int, n_vectors: int, width: int, expected: int) -> None:
    format = WireFormat(bits=bits, group=group, n_vectors=n_vectors, width=width)
    assert n_bytes(format) == expected == len(pack(torch.randn(n_vectors, width), format))


@st.composite
def wires(draw: st.DrawFn, largest: float = 6e4) -> tuple[Tensor, WireFormat]:
    format = WireFormat(
        bits=draw(st.sampled_from(ALL)),
        group=draw(st.integers(1, 9)),
        n_vectors=draw(st.integers(1, 3)),
        width=draw(st.integers(1, 9)),
    )
    numbers = st.floats(-largest, largest, width=32) | st.floats(-(2.0**-20), 2.0**-20, width=32) | st.just(0.0)
    count = format.n_vectors * format.width
    z = draw(st.lists(numbers, min_size=count, max_size=count))
    return torch.tensor(z).view(format.n_vectors, format.width), format


@settings(max_examples=100, deadline=None)
@given(wires())
def test_round_trips(case: tuple[Tensor, WireFormat]) -> None:
    z_MD, format = case
    data = pack(z_MD, format)
    assert len(data) == n_bytes(format)
    back_MD = unpack(data, format)
    for row, row_back in zip(z_MD.tolist(), back_MD.tolist(), strict=True):
        step = 1 if format.bits == "fp16" else format.group
        for i in range(0, format.width, step):
            group, group_back = row[i : i + step], row_back[i : i + step]
            bound = error_bound(max(map(abs, group)), format) * (1 + 1e-6)
            assert all(abs(a - b) <= bound for a, b in zip(group, group_back, strict=True))
    assert torch.equal(straight_through(z_MD[None], format)[0], back_MD)


@pytest.mark.parametrize("bits", WHOLE)
def test_no_number_moves_by_more_than_half_a_scale_and_some_by_nearly_that(bits: Bits) -> None:
    format = WireFormat(bits=bits, group=16, n_vectors=64, width=64)
    z_MD = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    data = pack(z_MD, format)
    scales = torch.frombuffer(bytearray(data[: 2 * 64 * 4]), dtype=torch.float16).float().view(64, 4)
    moved = (unpack(data, format) - z_MD).abs().view(64, 4, 16) / scales[..., None]
    assert 0.49 < float(moved.max()) <= 0.5 + 1e-4
    bound = error_bound(1.0, format) / (0.5 / format.largest_code)
    assert 1 <= bound < 1.002  # half of the largest by q, and a step of fp16


@pytest.mark.parametrize("bits", WHOLE)
def test_the_largest_number_of_a_group_keeps_the_largest_code(bits: Bits) -> None:
    largest_M = torch.logspace(-2, 5, 200)
    format = WireFormat(bits=bits, n_vectors=200, width=3)
    back_MD = unpack(pack(torch.stack([largest_M, -largest_M, 0 * largest_M], 1), format), format)
    grown_M = back_MD[:, 0] / largest_M
    assert float(grown_M.min()) >= 1 - 1e-6 and 1 + 2**-12 < float(grown_M.max()) <= 1 + 2**-10 + 1e-6, "nothing is clipped"
    assert torch.equal(back_MD[:, 1], -back_MD[:, 0]) and not back_MD[:, 2].any()


@pytest.mark.parametrize("bits", ALL)
def test_packing_what_was_unpacked_changes_nothing(bits: Bits) -> None:
    format = WireFormat(bits=bits, group=7, n_vectors=9, width=30)
    data = pack(torch.randn(9, 30, generator=torch.Generator().manual_seed(1)), format)
    assert pack(unpack(data, format), format) == data


@pytest.mark.parametrize("bits", ALL)
def test_zeros_stay_zeros_and_disturb_nobody(bits: Bits) -> None:
    format = WireFormat(bits=bits, group=4, n_vectors=2, width=8)
    z_MD = torch.zeros(2, 8)
    z_MD[1, 4:] = torch.tensor([1.0, -1, 1, -1])
    back_MD = unpack(pack(z_MD, format), format)
    assert torch.equal(back_MD != 0, z_MD != 0)
    assert float((back_MD - z_MD).abs().max()) < 1e-3


def test_ties_go_to_the_even_code() -> None:
    z_MD = torch.tensor([[7, 0.5, 1.5, 2.5, -0.5, -1.5]])
    assert unpack(pack(z_MD, one_row("int4", 6)), one_row("int4", 6)).tolist() == [[7, 0, 2, 2, 0, -2]]


def test_more_bits_are_nearer() -> None:
    z_MD = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    errors = []
    for bits in sorted(ALL, key=BITS_EACH.__getitem__):
        format = WireFormat(bits=bits, n_vectors=8, width=64)
        errors.append(float((unpack(pack(z_MD, format), format) - z_MD).square().mean()))
    assert all(fewer > 8 * more for fewer, more in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("bits", ALL)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_and_shows_in_training(bits: Bits, bad: float) -> None:
    z_MD = torch.ones(2, 4)
    z_MD[1, 2] = bad
    with pytest.raises(ConfigError, match="not finite"):
        pack(z_MD, WireFormat(bits=bits, n_vectors=2, width=4))
    assert not bool(straight_through(z_MD, WireFormat(bits=bits, n_vectors=2, width=4)).isfinite().all())


@pytest.mark.parametrize("bits", ALL)
def test_what_is_too_large_for_its_format_is_refused(bits: Bits) -> None:
    format = one_row(bits, 2)
    limit = 65504.0 * (1 if bits == "fp16" else format.largest_code)
    assert unpack(pack(torch.tensor([[limit, 0]]), format), format)[0, 0] == limit
    with pytest.raises(ConfigError, match="calibrate"):
        pack(torch.tensor([[limit * 1.01, 0]]), format)


@pytest.mark.parametrize("bits", ALL)
def test_bytes_that_pack_never_writes_are_refused(bits: Bits) -> None:
    format = one_row(bits, 4)
    data = pack(torch.tensor([[1.0, 2, 3, 4]]), format)
    for other in (data[:-1], data + b"\0", b""):
        with pytest.raises(ConfigError, match=f"has {n_bytes(format)} bytes, and this one {len(other)}"):
            unpack(other, format)
    with pytest.raises(ConfigError, match="never written"):
        unpack(halves(float("nan")) + data[2:], format)
    if bits != "fp16":
        with pytest.raises(ConfigError, match="never written"):
            unpack(halves(-1) + data[2:], format)
        with pytest.raises(ConfigError, match="code that was never written"):
            unpack(data[:2] + bytes(len(data) - 2), format)


def test_another_shape_is_refused() -> None:
    format = WireFormat(bits="int4", n_vectors=2, width=4)
    for shape in ((4, 2), (8,), (2, 5)):
        with pytest.raises(ConfigError, match=r"\(M, d_z\) = \(2, 4\)"):
            pack(torch.zeros(shape), format)
        with pytest.raises(ConfigError, match="not of the format"):
            straight_through(torch.zeros(shape), format)


@pytest.mark.parametrize("bits", ALL)
def test_gradients_pass_through_the_rounding(bits: Bits) -> None:
    format = WireFormat(bits=bits, group=3, n_vectors=2, width=5)
    z_BMD = torch.randn(3, 2, 5, requires_grad=True)
    weights_BMD = torch.randn(3, 2, 5)
    (straight_through(z_BMD, format) * weights_BMD).sum().backward()
    assert z_BMD.grad is not None and torch.equal(z_BMD.grad, weights_BMD)


def test_bfloat16_is_rounded_in_float32_and_stays_bfloat16() -> None:
    z_MD = torch.randn(2, 8, dtype=torch.bfloat16)
    format = WireFormat(bits="int8", n_vectors=2, width=8)
    rounded = straight_through(z_MD, format)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, unpack(pack(z_MD, format), format).bfloat16())
