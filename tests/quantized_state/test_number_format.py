"""Number formats: torch's casts and the wire's whole numbers to the bit, errors within bounds, means that stay, bytes."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from ripstop.quantized_state.number_format import FORMATS, Floating, Whole
from ripstop.wire import quantize

DTYPES = [name for name, format in FORMATS.items() if isinstance(format, Floating)]
SCALED = [name for name, format in FORMATS.items() if format.scaled]
COARSE = [name for name in FORMATS if name != "fp32"]


def drawn(*shape: int, seed: int = 0, spread: float = 3.0) -> Tensor:
    """Numbers of many magnitudes, zeros among them."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * torch.exp(spread * torch.randn(shape, generator=generator))
    return x.masked_fill_(torch.rand(shape, generator=generator) < 0.1, 0.0)


def half_step(x: Tensor, format: Floating | Whole, scale: float) -> Tensor:
    """Half the distance of the format's numbers around `x`, at most: half a scale, or half a unit in the last place."""
    if isinstance(format, Whole):
        return torch.full_like(x, scale / 2)
    info = torch.finfo(format.dtype)
    return (x.abs() * info.eps / 2).clamp(min=info.smallest_normal * info.eps * scale / 2)


@pytest.mark.parametrize("name", DTYPES)
def test_unscaled_numbers_are_those_of_torchs_own_cast(name: str) -> None:
    format = cast(Floating, FORMATS[name])
    x = drawn(4096).clamp(-format.largest, format.largest)
    whole = Floating(format.bits, scaled=False, dtype=format.dtype)
    assert torch.equal(whole.rounded(x, 32), x.to(format.dtype).float())


@pytest.mark.parametrize("name", ["int8", "int6", "int4"])
@pytest.mark.parametrize("width", [32, 64, 45, 7])
def test_whole_numbers_and_their_bytes_are_those_of_a_wire(name: str, width: int) -> None:
    x = drawn(6, width)
    wire = quantize.WireFormat(bits=cast(quantize.Bits, name), group=32, n_vectors=6, width=width)
    packed = quantize.pack(x, wire)
    assert torch.equal(FORMATS[name].rounded(x, 32), quantize.unpack(packed, wire))
    assert FORMATS[name].n_bytes(x.shape, 32) == len(packed)


@pytest.mark.parametrize("name", COARSE)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), group=st.sampled_from([1, 5, 32, 100]), stochastic=st.booleans())
def test_no_number_moves_further_than_its_neighbour(name: str, seed: int, group: int, stochastic: bool) -> None:
    format: Any = FORMATS[name]
    x = drawn(3, 40, seed=seed, spread=1.0)
    found = format.rounded(x, group, Generator().manual_seed(seed) if stochastic else None)
    for row, moved in zip(x, found, strict=True):
        for values, kept in zip(row.split(group), moved.split(group), strict=True):
            scale = float(values.abs().max()) / format.largest * (1 + 2**-10) + 2**-24 if format.scaled else 1.0
            bound = half_step(values, format, scale) * (2 if stochastic else 1)
            assert bool(((kept - values).abs() <= bound * (1 + 1e-5)).all())


@pytest.mark.parametrize("name", COARSE)
def test_what_was_rounded_to_nearest_stays_as_it_is(name: str) -> None:
    once = FORMATS[name].rounded(drawn(16, 64, spread=1.0), 32)
    assert torch.equal(FORMATS[name].rounded(once, 32), once)


@pytest.mark.parametrize("name", COARSE)
def test_stochastic_rounding_keeps_the_mean(name: str) -> None:
    """Within five standard errors of the mean of two neighbours, worked out from the spread of what comes out."""
    n = 20000
    x = drawn(1, 32, spread=1.0)
    found = FORMATS[name].rounded(x.expand(n, 32), 32, Generator().manual_seed(0)).double()
    error = found.std(0) / math.sqrt(n)
    assert bool(((found.mean(0) - x[0]).abs() <= 5 * error + 1e-7 * x[0].abs()).all())
    assert int((found.std(0) > 0).sum()) > 16  # it does round at random


def test_stochastic_rounding_repeats_with_its_generator() -> None:
    x = drawn(8, 32)
    one, same, other = (FORMATS["int4"].rounded(x, 32, Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("name", SCALED)
def test_groups_do_not_know_each_other(name: str) -> None:
    x = drawn(4, 64)
    loud = torch.cat([x[:, :32], 1e4 * x[:, 32:]], 1)
    assert torch.equal(FORMATS[name].rounded(x, 32)[:, :32], FORMATS[name].rounded(loud, 32)[:, :32])
    assert not torch.equal(FORMATS[name].rounded(x, 64)[:, :32], FORMATS[name].rounded(loud, 64)[:, :32])


@pytest.mark.parametrize("name", COARSE)
def test_what_is_too_large_becomes_the_largest(name: str) -> None:
    found = FORMATS[name].rounded(torch.tensor([[3e38, -3e38, 1.0]]), 3)
    largest = FORMATS[name].largest * (65504 if FORMATS[name].scaled else 1)
    assert float(found[0, 0]) == -float(found[0, 1]) == pytest.approx(min(largest, 3e38), rel=1e-2)


def test_float32_is_left_alone() -> None:
    x = drawn(8, 32)
    assert torch.equal(FORMATS["fp32"].rounded(x, 32), x)


@pytest.mark.parametrize(
    "name, shape, group, expected",
    [
        ("fp32", (2, 3, 32), 32, 2 * 3 * 32 * 4),
        ("bf16", (2, 3, 32), 32, 2 * 3 * 32 * 2),
        ("fp8_e4m3", (2, 3, 32), 32, 2 * 3 * (32 + 2)),
        ("int8", (2, 3, 33), 32, 2 * 3 * (33 + 2 * 2)),
        ("int4", (5, 7), 32, 18 + 5 * 2),
        ("int3", (1, 3), 2, 2 + 2 * 2),
        ("int2", (0, 32), 32, 0),
    ],
)
def test_bytes_are_those_worked_out_by_hand(name: str, shape: tuple[int, ...], group: int, expected: int) -> None:
    assert FORMATS[name].n_bytes(shape, group) == expected
