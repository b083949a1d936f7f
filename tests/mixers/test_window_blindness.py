"""What lies outside window and sinks moves nothing, to the last bit: packed and cached, and in every form of the operation.

A perturbed input reaches a token only where the window lets it, so outputs are compared with `torch.equal`.
"""

from __future__ import annotations

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.layers.block import Block
from ripstop.layers.mlp import MlpConfig
from ripstop.mixers.sliding_window import SlidingWindow, SlidingWindowConfig
from ripstop.ops.segments import Segments

D_MODEL, WINDOW, SINK = 16, 4, 2
LENGTHS = [*range(1, 41), 64, 97, 130]
"""Below, at and above the window, the blocks of the fast form, and multiples of them."""


def mixer_of(backend: str = "auto", sink_size: int = SINK) -> SlidingWindow:
    torch.manual_seed(0)
    return SlidingWindowConfig(n_heads=2, window_size=WINDOW, sink_size=sink_size, backend=backend).build(D_MODEL).double()


def unseen(n_time: int, first: int, sink_size: int = SINK) -> list[int]:
    """Positions that no token from `first` on sees, where a document begins at 0."""
    return list(range(sink_size, max(sink_size, min(first - WINDOW + 1, n_time))))


@torch.no_grad()
@pytest.mark.parametrize("backend", ["auto", "reference", "flex"])
@pytest.mark.parametrize("sink_size", [0, SINK])
def test_inputs_outside_window_and_sinks(backend: str, sink_size: int) -> None:
    mixer = mixer_of(backend, sink_size)
    lengths = {"auto": LENGTHS, "reference": [1, 5, 23, 40, 130], "flex": [1, 5, 23, 40]}[backend]
    for n_time in lengths:
        x_BTD = torch.randn(2, n_time, D_MODEL, dtype=torch.float64)
        y_BTD = mixer(x_BTD)
        for first in {0, n_time // 2, n_time - 1}:
            other_BTD = x_BTD.clone()
            other_BTD[:, unseen(n_time, first, sink_size)] = 100 * torch.randn(D_MODEL, dtype=torch.float64)
            assert torch.equal(mixer(other_BTD)[:, first:], y_BTD[:, first:]), (n_time, first)
        for outside in unseen(n_time, n_time - 1, sink_size):  # and each of them alone, seen or not by whom it should be
            other_BTD = x_BTD.clone()
            other_BTD[:, outside] += 1
            moved_T = (mixer(other_BTD) != y_BTD).any(-1).any(0)
            assert moved_T.nonzero().flatten().tolist() == list(range(outside, outside + WINDOW)), (n_time, outside)


@torch.no_grad()
@pytest.mark.parametrize("n_time", [1, 7, 40, 97])
def test_inputs_of_other_documents_and_outside_the_window_of_ones_own(n_time: int) -> None:
    mixer = mixer_of()
    segments = Segments.of(torch.arange(n_time).div(17, rounding_mode="floor").expand(2, -1) + 1)
    assert segments is not None
    position_T = segments.position_BT[0]
    x_BTD = torch.randn(2, n_time, D_MODEL, dtype=torch.float64)
    y_BTD = mixer(x_BTD, segments)
    for changed in range(n_time):
        other_BTD = x_BTD.clone()
        other_BTD[:, changed] += 1
        moved_T = (mixer(other_BTD, segments) != y_BTD).any(-1).any(0)
        same_T = torch.arange(n_time) // 17 == changed // 17
        ahead_T = torch.arange(n_time) - changed
        seen_T = same_T & (ahead_T >= 0) & ((ahead_T < WINDOW) | (position_T[changed] < SINK))
        assert torch.equal(moved_T, seen_T), changed


@torch.no_grad()
@pytest.mark.parametrize("read", [1, 5, 6, 7, 20, 33])
def test_a_cache_holds_nothing_from_outside(read: int) -> None:
    """After `read` tokens, prefilled or one by one, a step and a second prefill do not depend on what they cannot see."""
    mixer = mixer_of()
    x_BTD = torch.randn(2, read + 9, D_MODEL, dtype=torch.float64)
    other_BTD = x_BTD.clone()
    other_BTD[:, unseen(read, read)] += 100
    for by_steps in (False, True):
        outputs = []
        for given in (x_BTD, other_BTD):
            state = mixer.init_state(2, read + 9)
            if by_steps:
                for t in range(read):
                    _, state = mixer.step(given[:, t], state)
            else:
                _, state = mixer.prefill(given[:, :read], state)
            y_BTD, after = mixer.prefill(given[:, read:-1], state)
            y_BD, _ = mixer.step(given[:, -1], after)
            outputs.append(torch.cat([y_BTD, y_BD[:, None]], 1))
        assert torch.equal(*outputs)


@torch.no_grad()
def test_a_block_is_as_blind_as_its_mixer() -> None:
    block = Block(D_MODEL, mixer_of(), mlp=MlpConfig(expand=2).build(D_MODEL)).double()
    x_BTD = torch.randn(1, 50, D_MODEL, dtype=torch.float64)
    other_BTD = x_BTD.clone()
    other_BTD[:, unseen(50, 30)] += 100
    assert torch.equal(block(other_BTD)[:, 30:], block(x_BTD)[:, 30:])
    assert not torch.equal(block(other_BTD)[:, 29], block(x_BTD)[:, 29])


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
def test_forms_agree(packed: bool) -> None:
    """Compiled, FlexAttention's and explicit, in values. flash-attn's, which has no sinks, is in tests/kernels, on a GPU."""
    n_time = 75
    x_BTD = torch.randn(2, n_time, D_MODEL, dtype=torch.float64)
    segments = Segments.of(torch.arange(n_time).div(13, rounding_mode="floor").expand(2, -1) + 1) if packed else None
    wanted_BTD = mixer_of("reference")(x_BTD, segments)
    for backend in ("torch", "flex"):
        torch.testing.assert_close(mixer_of(backend)(x_BTD, segments), wanted_BTD, rtol=1e-10, atol=1e-12)
    compiled = torch.compile(mixer_of("torch"), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x_BTD, segments), wanted_BTD, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@torch.no_grad()
def test_the_compiled_form_agrees() -> None:
    x_BTD = torch.randn(2, 75, D_MODEL, dtype=torch.float64)
    compiled = torch.compile(mixer_of("torch"), fullgraph=True)
    torch.testing.assert_close(compiled(x_BTD), mixer_of("reference")(x_BTD), rtol=1e-10, atol=1e-12)


def test_flex_trains_on_a_gpu_alone() -> None:
    with pytest.raises(ConfigError, match="trains on a GPU alone"):
        mixer_of("flex")(torch.randn(1, 9, D_MODEL, dtype=torch.float64))


@pytest.mark.gpu
@pytest.mark.parametrize("packed", [False, True])
def test_flex_on_a_gpu(packed: bool) -> None:
    """Values and gradients in bfloat16 against the reference in float64."""
    torch.manual_seed(0)
    from ripstop.kernels.window_attention import window_attention

    shapes = [(2, 300, 4, 64), (2, 300, 2, 64), (2, 300, 2, 64)]
    values = [torch.randn(shape).bfloat16() for shape in shapes]
    numbers = torch.arange(300).div(70, rounding_mode="floor").expand(2, -1) + 1 if packed else None
    slow, fast = [t.double().requires_grad_() for t in values], [t.cuda().requires_grad_() for t in values]
    y_slow = window_attention("reference", *slow, 64, 4, Segments.of(numbers))
    y_fast = window_attention("flex", *fast, 64, 4, Segments.of(None if numbers is None else numbers.cuda()))
    dy = torch.randn_like(y_slow).bfloat16()
    got, wanted = torch.autograd.grad(y_fast, fast, dy.cuda()), torch.autograd.grad(y_slow, slow, dy.double())
    for a, b in zip((y_fast, *got), (y_slow, *wanted), strict=True):
        assert (a.double().cpu() - b).norm() < 2e-2 * b.norm() + 1e-6
