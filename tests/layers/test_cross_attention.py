"""Cross-attention: against attention written out, and what padding and empty sources do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ripstop.config import ConfigError
from ripstop.layers.cross_attention import CrossAttention, CrossAttentionConfig, mean_memory, remember
from ripstop.ops.segments import Segments

B, T, S, D = 3, 5, 7, 12
EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def layer() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttentionConfig(n_heads=6, n_kv_heads=2).build(D).double()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_equals_attention_written_out(layer: CrossAttention) -> None:
    """softmax(q k^T / sqrt(K)) v head by head; heads 0 to 2 share the first keys and values, 3 to 5 the second."""
    x_BTD, memory_BSD = random(B, T, D), random(B, S, D, seed=1)
    q, k, v = layer.q_proj(x_BTD), *layer.kv_proj(memory_BSD).chunk(2, -1)
    heads = []
    for head in range(6):
        own, shared = slice(2 * head, 2 * head + 2), slice(2 * (head // 3), 2 * (head // 3) + 2)
        scores_BTS = q[..., own] @ k[..., shared].transpose(1, 2) / math.sqrt(2)
        heads.append(scores_BTS.softmax(-1) @ v[..., shared])
    state = layer.init_state(remember(memory_BSD, None))
    assert_close(layer(x_BTD, state), layer.out_proj(torch.cat(heads, -1)), **EXACT)


def test_padding_of_nan_leaves_values_and_gradients_alone(layer: CrossAttention) -> None:
    x_BTD, memory_BSD = random(B, T, D), random(B, S, D, seed=1)
    segments_BS = torch.tensor([[1] * S + [0, 0]] * B)
    padded_BSD = torch.cat([memory_BSD, torch.full((B, 2, D), torch.nan, dtype=torch.float64)], 1).requires_grad_()
    memory = remember(padded_BSD, Segments.of(segments_BS))
    y_BTD = layer(x_BTD, layer.init_state(memory), memory.seen)
    assert_close(y_BTD, layer(x_BTD, layer.init_state(remember(memory_BSD, None))), **EXACT)
    y_BTD.square().sum().backward()
    assert padded_BSD.grad is not None
    assert padded_BSD.grad[:, :S].ne(0).all() and padded_BSD.grad[:, S:].eq(0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_a_row_that_sees_nothing_is_zero(layer: CrossAttention) -> None:
    x_BTD, segments = random(B, T, D), Segments.of(torch.tensor([[1] * S, [0] * S, [1] + [0] * (S - 1)]))
    memory = remember(random(B, S, D, seed=1), segments)
    y_BTD = layer(x_BTD, layer.init_state(memory), memory.seen)
    assert y_BTD[1].eq(0).all() and y_BTD[0].ne(0).all()
    # One visible token: its value, whatever the query.
    assert_close(y_BTD[2], y_BTD[2, :1].expand(T, D), **EXACT)


def test_documents_read_their_own_source(layer: CrossAttention) -> None:
    x_BTD, memory_BSD = random(1, T, D), random(1, S, D, seed=1)
    memory = remember(
        memory_BSD, Segments.of(torch.tensor([[1, 1, 1, 2, 2, 2, 0]])), Segments.of(torch.tensor([[1, 1, 2, 2, 0]]))
    )
    y_BTD = layer(x_BTD, layer.init_state(memory), memory.seen)
    first, second = (layer.init_state(remember(memory_BSD[:, part], None)) for part in (slice(3), slice(3, 6)))
    assert_close(y_BTD[:, :2], layer(x_BTD[:, :2], first), **EXACT)
    assert_close(y_BTD[:, 2:4], layer(x_BTD[:, 2:4], second), **EXACT)
    assert y_BTD[:, 4].eq(0).all()


def test_mean_of_the_memory_by_hand() -> None:
    memory_BSD = torch.tensor([[[2.0], [4.0], [9.0], [torch.nan]]])
    assert mean_memory(remember(memory_BSD[:, :3], None)).tolist() == [[[5.0]]]
    assert mean_memory(remember(memory_BSD, Segments.of(torch.tensor([[1, 1, 2, 0]])))).tolist() == [[[5.0]]]
    packed = remember(memory_BSD, Segments.of(torch.tensor([[1, 1, 2, 0]])), Segments.of(torch.tensor([[1, 2, 3, 0]])))
    assert mean_memory(packed).tolist() == [[[3.0], [9.0], [0.0], [0.0]]]


def test_sizes(layer: CrossAttention) -> None:
    config = CrossAttentionConfig(n_heads=6, n_kv_heads=2)
    assert config.num_params(D) == sum(p.numel() for p in layer.parameters()) == 12 * 12 * 2 + 12 * 8
    held = layer.init_state(remember(random(B, S, D), None))
    assert B * config.state_bytes(D, S, torch.float64) == sum(part.numel() * 8 for part in held)
    with pytest.raises(ConfigError, match="n_heads 6 must be a multiple of n_kv_heads 4"):
        CrossAttentionConfig(n_heads=6, n_kv_heads=4).build(D)
    with pytest.raises(ConfigError, match="d_model 12 must be a multiple of n_heads 5"):
        CrossAttentionConfig(n_heads=5).build(D)
