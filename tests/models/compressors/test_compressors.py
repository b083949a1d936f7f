"""What every compressor promises: a sane wire from the first draw, documents apart from each other and from padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from ripstop.config import ConfigError
from ripstop.models.compressors import COMPRESSORS
from ripstop.models.compressors.base import Compressor, CompressorConfig, Reading, WireShape, segments, unit_rms

D, M, Z = 24, 5, 10
SHAPE = WireShape(M, Z, D)
RESAMPLER = {"d_model": 12, "n_heads": 3, "n_positions": 9}
CASES: dict[str, dict[str, Any]] = {
    "mean_pool": {"d_hidden": 7},
    "pointer": {"d_key": 6, "d_hidden": 7, "n_positions": 9},
    "feature_resampler": {"resampler": RESAMPLER},
    "byte_resampler": {"resampler": RESAMPLER, "d_byte": 5, "patch": 3},
    "constant": {},
}


def config(kind: str, **changes: Any) -> CompressorConfig:
    found = COMPRESSORS.parse({"kind": kind, **CASES[kind], **changes})
    assert isinstance(found, CompressorConfig)
    return found


def build(kind: str, **changes: Any) -> Compressor:
    torch.manual_seed(0)
    compressor = config(kind, **changes).build(SHAPE)
    with torch.no_grad():
        compressor.start(torch.randn(D), torch.linalg.qr(torch.randn(D, D))[0][:, :Z])
    return compressor.double()


def reading(lengths: list[int], seed: int = 1, pads: int = 0) -> Reading:
    """Documents of these lengths, padding filled with what must not be read."""
    generator = torch.Generator().manual_seed(seed)
    n = max(lengths) + pads
    mask_BS = torch.arange(n) < torch.tensor(lengths)[:, None]
    columns = []
    for row, length in enumerate(lengths):
        generator.manual_seed(seed + 100 * row)
        columns.append(torch.randn(length, 2 * D, generator=generator, dtype=torch.float64))
    x = torch.nn.utils.rnn.pad_sequence(columns, batch_first=True)
    x = torch.nn.functional.pad(x, (0, 0, 0, pads))
    ids_BS = (x[..., 0].abs() * 1000).long() % 256
    tokens_BSD, hidden_BSD = x[..., :D].clone().requires_grad_(), x[..., D:].clone().requires_grad_()
    return Reading(mask_BS, ids_BS, tokens_BSD, hidden_BSD)


def test_every_kind_is_tested() -> None:
    assert COMPRESSORS.names() == sorted(CASES)


@pytest.mark.parametrize("kind", CASES)
def test_the_first_wire_is_about_one_in_size(kind: str) -> None:
    torch.manual_seed(3)
    compressor = config(kind).build(WireShape(M, 64, 96)).double()
    with torch.no_grad():
        compressor.start(0.5 * torch.randn(96), torch.linalg.qr(torch.randn(96, 96))[0][:, :64])
    torch.manual_seed(4)
    x_BSD = torch.randn(7, 19, 2 * 96, dtype=torch.float64)
    given = Reading(torch.ones(7, 19, dtype=torch.bool), torch.randint(256, (7, 19)), x_BSD[..., :96], x_BSD[..., 96:])
    z_BMZ = compressor(given)
    assert z_BMZ.shape == (7, M, 64)
    assert 0.5 < z_BMZ.square().mean().sqrt() < 2


@pytest.mark.parametrize("kind", CASES)
def test_a_wire_depends_on_its_own_document_alone(kind: str) -> None:
    """Alone, among others, and with more padding: the same."""
    compressor = build(kind).eval()
    lengths = [4, 11, 1, 8]
    together = compressor(reading(lengths))
    assert_close(compressor(reading(lengths, pads=3)), together, rtol=1e-9, atol=1e-12)
    given = reading(lengths)
    for row, length in enumerate(lengths):
        alone = Reading(*(x[row : row + 1, :length] for x in (given.mask_BS, given.ids_BS, *given.features)))
        assert_close(compressor(alone)[0], together[row], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["mean_pool", "pointer", "feature_resampler"])
def test_padding_and_other_documents_get_no_gradient(kind: str) -> None:
    compressor, given = build(kind), reading([4, 11])
    with torch.no_grad():
        for parameter in compressor.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # away from the zeros that hide a path
    compressor(given)[0].square().sum().backward()
    for x_BSD in given.features:
        assert x_BSD.grad is not None
        assert (x_BSD.grad[0, :4].abs().sum(-1) > 0).all()
        assert not x_BSD.grad[0, 4:].any() and not x_BSD.grad[1].any()


@pytest.mark.parametrize("kind", CASES)
def test_every_parameter_has_a_gradient(kind: str) -> None:
    compressor, given = build(kind), reading([9, 12, 3])
    with torch.no_grad():
        for parameter in compressor.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    (compressor(given) * torch.randn(3, M, Z, dtype=torch.float64)).sum().backward()
    assert [name for name, p in compressor.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("kind", CASES)
def test_parameters_are_those_of_the_built_one(kind: str) -> None:
    assert config(kind).num_params(SHAPE) == sum(p.numel() for p in build(kind).parameters())


@pytest.mark.parametrize("kind", CASES)
def test_it_costs_what_torch_counts(kind: str) -> None:
    changes = {"resampler": {**RESAMPLER, "n_layers": 2}} if "resampler" in CASES[kind] else {}
    compressor, given = build(kind, **changes), reading([12, 12])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        compressor(given)
    assert counter.get_total_flops() == pytest.approx(2 * config(kind, **changes).flops(SHAPE, 12), rel=0.02)


def test_pieces_by_hand() -> None:
    """Seven tokens in three pieces, and two in three; n * M // length is the piece of token n."""
    mask_BS = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    found = segments(mask_BS, 3).int().tolist()
    assert found == [
        [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]],
        [[1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]],
    ]


def test_the_first_pieces_of_a_document_shorter_than_a_wire_have_a_token_each() -> None:
    found = segments(torch.ones(1, 2, dtype=torch.bool), 5).int().tolist()
    assert found == [[[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]]]


def test_mean_pool_starts_as_the_mean_of_its_piece() -> None:
    """With the identity as directions and as many tokens as vectors it hands each embedding on, in units of its RMS, less the
    mean of all."""
    compressor = config("mean_pool").build(WireShape(4, D, D)).double()
    with torch.no_grad():
        mean_D = torch.randn(D)
        compressor.start(mean_D, torch.eye(D))
    given = reading([4, 8])
    z_BMZ, tokens_BSD = compressor(given), given.features[0]
    assert_close(z_BMZ[0], unit_rms(tokens_BSD[0, :4]) - mean_D, rtol=1e-6, atol=1e-6)
    assert_close(z_BMZ[1], unit_rms(tokens_BSD[1].view(4, 2, D).mean(1)) - mean_D, rtol=1e-6, atol=1e-6)


def pointed(start: str, lengths: list[int]) -> Tensor:
    compressor = build("pointer", start=start, sharpness=1e-9).eval()
    compressor(reading(lengths))
    weights_BMS = compressor.weights_BMS
    assert isinstance(weights_BMS, Tensor)
    return weights_BMS


def test_where_pointers_point_before_they_are_trained() -> None:
    """Without an opinion of their own: by softmax of 0 and -3 in and out of the piece, of 6 at one's own token, or evenly."""
    inside, outside = 1.0, float(torch.tensor(-3.0).exp())
    expected = torch.full((5, 10), outside, dtype=torch.float64)
    for piece in range(5):
        expected[piece, 2 * piece : 2 * piece + 2] = inside
    assert_close(pointed("segments", [10])[0], expected / (2 * inside + 8 * outside), rtol=1e-6, atol=1e-6)
    ahead = float(torch.tensor(6.0).exp())
    found = pointed("truncation", [10])[0]
    assert_close(found.diagonal(), torch.full((5,), ahead / (ahead + 9), dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert_close(pointed("none", [10])[0], torch.full((5, 10), 0.1, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert_close(pointed("none", [10, 4])[1, :, 4:], torch.zeros(5, 6, dtype=torch.float64))


def test_a_pointer_that_is_sure_hands_on_one_embedding() -> None:
    compressor = config("pointer", start="truncation").build(WireShape(3, D, D)).double().eval()
    with torch.no_grad():
        compressor.start(torch.zeros(D), torch.eye(D))
        compressor.position_MS.fill_diagonal_(100)  # type: ignore[union-attr,operator]
    given = reading([10])
    assert_close(compressor(given)[0], unit_rms(given.features[0][0, :3]), rtol=1e-6, atol=1e-6)


def test_a_constant_reads_nothing_and_bytes_need_no_model() -> None:
    compressor = build("constant")
    assert torch.equal(compressor(reading([4, 7]))[0], compressor(reading([9], seed=8))[0])
    assert [config(kind).reads for kind in ("constant", "byte_resampler", "pointer")] == ["nothing", "bytes", "features"]
    without = WireShape(M, Z)
    for kind in ("constant", "byte_resampler"):
        given = replace(reading([4]), tokens_BSD=None, hidden_BSD=None)
        assert config(kind).build(without).double()(given).shape == (1, M, Z)


def test_a_later_byte_moves_the_wire() -> None:
    """The last byte of a last, incomplete patch is read."""
    compressor, given = build("byte_resampler"), reading([10])
    ids_BS = given.ids_BS.clone()
    ids_BS[0, -1] ^= 1
    assert not torch.allclose(compressor(given), compressor(replace(given, ids_BS=ids_BS)))


def test_what_stands_behind_a_document_is_no_byte() -> None:
    """Not even a zero, within the patch that it ends in."""
    compressor, ids_BS = build("byte_resampler"), torch.tensor([[97, 98, 0]])
    with torch.no_grad():
        three, two = (compressor(Reading(mask_BS, ids_BS)) for mask_BS in (ids_BS >= 0, ids_BS > 0))
    assert (three - two).abs().max() > 1e-3


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of n_heads"):
        config("feature_resampler", resampler={"d_model": 10, "n_heads": 3})
