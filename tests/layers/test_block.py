"""The block: its order of norm, mixer, cross-attention and mlp, and its three forms."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

from ripstop.kernels.backend import chosen
from ripstop.layers.block import Block
from ripstop.layers.cross_attention import CrossAttentionConfig, Memory, remember
from ripstop.layers.mlp import MlpConfig
from ripstop.layers.norms.rms_norm import RMSNormConfig
from ripstop.mixers.attention import AttentionConfig
from ripstop.ops.segments import Segments

B, T, S, D = 2, 7, 5, 12
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def block(cross_attention: bool, mlp: bool) -> Block:
    torch.manual_seed(0)
    built = Block(
        D,
        AttentionConfig(n_heads=2).build(D),
        CrossAttentionConfig(n_heads=3).build(D) if cross_attention else None,
        MlpConfig(expand=2).build(D) if mlp else None,
        norm=RMSNormConfig(eps=1e-3),
    ).double()
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return built


def inputs() -> tuple[torch.Tensor, Memory]:
    generator = torch.Generator().manual_seed(1)
    x_BTD = torch.randn(B, T, D, dtype=torch.float64, generator=generator)
    source_BSD = torch.randn(B, S, D, dtype=torch.float64, generator=generator)
    return x_BTD, remember(source_BSD, Segments.of(torch.tensor([[1] * S, [1, 1, 1, 0, 0]])))


def test_order_of_the_parts() -> None:
    """Pre-norm: mixer, then cross-attention, then mlp, each reading the norm of the sum so far."""
    built, (x_BTD, memory) = block(True, True), inputs()
    h = x_BTD + built.mixer(built.mixer_norm(x_BTD))
    h = h + built.cross_attention(built.cross_norm(h), built.cross_attention.init_state(memory), memory.seen)
    h = h + built.mlp(built.mlp_norm(h))
    assert_close(built(x_BTD, None, memory), h, **EXACT)
    assert built.mixer_norm.eps == built.cross_norm.eps == built.mlp_norm.eps == 1e-3


@pytest.mark.parametrize("cross_attention", [False, True])
@pytest.mark.parametrize("mlp", [False, True])
def test_forward_prefill_and_step_agree(cross_attention: bool, mlp: bool) -> None:
    built, (x_BTD, memory) = block(cross_attention, mlp), inputs()
    expected_BTD = built(x_BTD, None, memory)
    y_BTD, state = built.prefill(x_BTD[:, :3], built.init_state(B, T, memory), memory.seen)
    outputs = [y_BTD]
    for t in range(3, T):
        y_BD, state = built.step(x_BTD[:, t], state, memory.seen)
        outputs.append(y_BD.unsqueeze(1))
    assert_close(torch.cat(outputs, 1), expected_BTD, **EXACT)


def test_a_block_without_cross_attention_ignores_the_memory() -> None:
    built, (x_BTD, memory) = block(False, True), inputs()
    assert_close(built(x_BTD, None, memory), built(x_BTD), rtol=0, atol=0)
    assert built.init_state(B, T, memory).memory is None


def test_a_memory_that_is_missing_is_named() -> None:
    built, (x_BTD, _) = block(True, False), inputs()
    for call in (lambda: built(x_BTD), lambda: built.init_state(B, T)):
        with pytest.raises(ValueError, match="its cross-attention reads a memory, and none is given"):
            call()


def test_one_graph_for_packed_documents_of_any_length_that_read_their_source() -> None:
    built, counter = block(True, True), CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(built, backend=counter, fullgraph=True)
    for n_time, n_source in ((7, 5), (9, 6), (64, 31), (33, 40)):
        x_BTD, source_BSD = torch.randn(B, n_time, D, dtype=torch.float64), torch.randn(B, n_source, D, dtype=torch.float64)
        segments, source = (Segments.of((torch.arange(n) // 4 + 1).expand(B, -1)) for n in (n_time, n_source))
        memory = remember(source_BSD, source, segments)
        assert_close(compiled(x_BTD, segments, memory), built(x_BTD, segments, memory), **EXACT)
    assert counter.frame_count <= 2
    torch._dynamo.reset()


def test_cross_attention_is_among_the_chosen_backends() -> None:
    built, (x_BTD, memory) = block(True, False), inputs()
    built(x_BTD, None, memory)
    assert "torch (flash_attn: needs a CUDA device)" in chosen()["cross_attention on cpu in float64"]


def test_both_forms_of_cross_attention_agree_in_a_layer() -> None:
    x_BTD, memory = inputs()
    outputs = []
    for backend in ("torch", "reference"):
        torch.manual_seed(3)
        layer = CrossAttentionConfig(n_heads=3, backend=backend).build(D).double()
        outputs.append(layer(x_BTD, layer.init_state(memory), memory.seen, memory.laid))
    assert_close(*outputs, **EXACT)
