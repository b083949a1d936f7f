"""The numbers of a wire in 16, 8, 6 or 4 bits, really packed: as many bytes as are counted.

Whole numbers are symmetric around zero: a group of neighbouring numbers of one vector shares a scale s in fp16, and each
number z becomes the code round(z / s) between -q and q, with q = 2^(bits - 1) - 1. s is the smallest fp16 number that is not
below max |z| / q, so that nothing is clipped, the largest number of a group keeps the code q (as long as s is not subnormal,
below 2^-14), and no number moves by more than s / 2. A tie goes to the even code. A group of zeros has the scale 0.

A packed wire is its scales, vector by vector, then its codes, vector by vector; little-endian. Codes are counted from 0
(code + q + 1, so that 0 is never written) and stand one after the other in a stream of bits, the lowest bits of a byte first:
two codes of 4 bits in a byte, four of 6 bits in three bytes. fp16 has neither: the numbers themselves, rounded to nearest.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ripstop.config import ConfigError, Strict

Bits = Literal["fp16", "int8", "int6", "int4"]
BITS_EACH: dict[Bits, int] = {"fp16": 16, "int8": 8, "int6": 6, "int4": 4}
"""Bits of one number, without its share of a scale."""


class WireFormat(Strict):
    """How many numbers a wire has, and in how many bits each of them is sent."""

    bits: Bits = Field(default="fp16", description="Of one number: fp16, or a whole number of 8, 6 or 4 bits with a scale.")
    group: int = Field(default=32, ge=1, description="Neighbouring numbers of a vector that share a scale; fp16 has none.")
    n_vectors: int = Field(ge=1, description="Vectors of a wire (M).")
    width: int = Field(ge=1, description="Numbers of a vector (d_z).")

    @property
    def n_groups(self) -> int:
        """Scales of one vector; the last of its groups is smaller where `group` does not divide the width."""
        return 0 if self.bits == "fp16" else -(-self.width // self.group)

    @property
    def largest_code(self) -> int:
        """q: codes are the whole numbers from -q to q."""
        assert self.bits != "fp16", "fp16 has no codes"
        return 2 ** (BITS_EACH[self.bits] - 1) - 1


def n_bytes(format: WireFormat) -> int:
    """Bytes of a packed wire: two for each scale, and the bits of all numbers, the last byte filled up."""
    return 2 * format.n_vectors * format.n_groups + -(-format.n_vectors * format.width * BITS_EACH[format.bits] // 8)


def error_bound(largest: float, format: WireFormat) -> float:
    """How far a number can move at most in a group (fp16: a number alone) whose largest magnitude is `largest`.

    Half a scale, which is at most one step of fp16 above largest / q. Holds up to the rounding of one product in float32.
    """
    if format.bits == "fp16":
        return max(largest * 2**-11, 2**-25)
    return (largest / format.largest_code * (1 + 2**-10) + 2**-24) / 2


def pack(z_MD: Tensor, format: WireFormat) -> bytes:
    """A wire in `n_bytes(format)` bytes. `ConfigError` where it is not finite, or too large for fp16."""
    _check_shape(z_MD, format)
    z_MD = z_MD.detach().to("cpu", torch.float32)
    if not bool(z_MD.isfinite().all()):
        raise ConfigError("a wire holds a number that is not finite (NaN or infinite); the model that made it has diverged")
    if format.bits == "fp16":
        scales, codes = z_MD.half(), None
    else:
        scales, codes = _quantized(z_MD, format)
    if not bool(scales.isfinite().all()):
        largest = 65504 * (1 if codes is None else format.largest_code)
        raise ConfigError(
            f"a wire in {format.bits} holds numbers up to {largest}, and this one {float(z_MD.abs().max()):.3g}; "
            "calibrate what makes it"
        )
    head = scales.numpy().astype("<f2").tobytes()
    return head if codes is None else head + _to_bits(codes.flatten().numpy(), format)


def unpack(data: bytes, format: WireFormat) -> Tensor:
    """The numbers (M, d_z) of a packed wire in float32, exactly as they were rounded. `ConfigError` where it is none."""
    if len(data) != n_bytes(format):
        raise ConfigError(
            f"a wire of {format.n_vectors} vectors of {format.width} numbers in {format.bits} has {n_bytes(format)} bytes, "
            f"and this one {len(data)}; it is cut, or of another format"
        )
    n_halves = format.n_vectors * (format.width if format.bits == "fp16" else format.n_groups)
    halves = torch.from_numpy(np.frombuffer(data, "<f2", n_halves).astype(np.float32))
    if not bool(halves.isfinite().all()) or (format.bits != "fp16" and bool((halves < 0).any())):
        raise ConfigError(f"a wire in {format.bits} holds a number that was never written; it is damaged")
    if format.bits == "fp16":
        return halves.view(format.n_vectors, format.width)
    codes = torch.from_numpy(_from_bits(np.frombuffer(data, np.uint8, offset=2 * n_halves), format))
    if bool((codes < -format.largest_code).any()):
        raise ConfigError(f"a wire in {format.bits} holds a code that was never written; it is damaged")
    codes_MD = codes.view(format.n_vectors, format.width)
    return _restored(halves.view(format.n_vectors, format.n_groups), codes_MD, format)


def straight_through(z_BMD: Tensor, format: WireFormat) -> Tensor:
    """`z_BMD` (..., M, d_z) as it arrives, exactly `unpack(pack(z))` in float32; its gradient is the identity's.

    For training through the rounding (Bengio et al. 2013, arXiv 1308.3432). What `pack` refuses comes out infinite or NaN
    here, where a training notices it in its loss.
    """
    _check_shape(z_BMD, format)
    z = z_BMD.detach().float()
    rounded = z.half().float() if format.bits == "fp16" else _restored(*_quantized(z, format), format)
    return rounded.to(z_BMD.dtype) + (z_BMD - z_BMD.detach())


def _quantized(z_BMD: Tensor, format: WireFormat) -> tuple[Tensor, Tensor]:
    """Scales (..., M, groups) in fp16 and codes (..., M, d_z) in float32, from -q to q."""
    missing = format.n_groups * format.group - format.width
    largest = F.pad(z_BMD, (0, missing)).unflatten(-1, (format.n_groups, format.group)).abs().amax(-1)
    wanted = largest / format.largest_code
    scales = wanted.half()
    next_up = (scales.view(torch.int16) + 1).view(torch.float16)  # of a number that is not negative; of the largest: infinity
    scales = torch.where(scales.float() < wanted, next_up, scales)
    divisor = torch.where(scales == 0, 1, scales.float())
    return scales, torch.round(z_BMD / _spread(divisor, format))


def _restored(scales: Tensor, codes_BMD: Tensor, format: WireFormat) -> Tensor:
    return codes_BMD * _spread(scales.float(), format)


def _spread(scales: Tensor, format: WireFormat) -> Tensor:
    """Each scale as often as its group has numbers: (..., M, groups) to (..., M, d_z)."""
    return scales.repeat_interleave(format.group, -1)[..., : format.width]


def _to_bits(codes: np.ndarray, format: WireFormat) -> bytes:
    """Codes from -q to q as a stream of bits."""
    raw = (codes.astype(np.int16) + format.largest_code + 1).astype(np.uint8)
    match format.bits:
        case "int4":
            low, high = _columns(raw, 2)
            packed = low | high << 4
        case "int6":
            a, b, c, d = _columns(raw, 4)
            packed = np.stack([a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2], -1).reshape(-1)
        case _:
            packed = raw
    return packed[: -(-len(raw) * BITS_EACH[format.bits] // 8)].tobytes()


def _from_bits(packed: np.ndarray, format: WireFormat) -> np.ndarray:
    """Codes in float32 out of the stream that `_to_bits` wrote."""
    match format.bits:
        case "int4":
            raw = np.stack([packed & 15, packed >> 4], -1)
        case "int6":
            a, b, c = _columns(packed, 3)
            raw = np.stack([a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2], -1)
        case _:
            raw = packed
    count = format.n_vectors * format.width
    return raw.reshape(-1)[:count].astype(np.float32) - (format.largest_code + 1)


def _columns(values: np.ndarray, n: int) -> list[np.ndarray]:
    """Every n-th value, from each of the first n; zeros where the last are missing."""
    filled = np.pad(values, (0, -len(values) % n)).reshape(-1, n)
    return [filled[:, i] for i in range(n)]


def _check_shape(z_BMD: Tensor, format: WireFormat) -> None:
    expected = (format.n_vectors, format.width)
    if tuple(z_BMD.shape[-2:]) != expected:
        raise ConfigError(f"a wire of shape {tuple(z_BMD.shape)} is not of the format, which has (M, d_z) = {expected}")
