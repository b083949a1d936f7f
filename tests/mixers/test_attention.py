"""Attention against torch's own module with the same weights, and its numbers by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ripstop.config import ConfigError
from ripstop.mixers.attention import AttentionConfig
from ripstop.mixers.base import held_bytes
from ripstop.ops.segments import Segments

D_MODEL = 24


@pytest.mark.parametrize("causal", [True, False])
def test_equals_torch_multi_head_attention(causal: bool) -> None:
    torch.manual_seed(0)
    ours = AttentionConfig(n_heads=4, rope=False, causal=causal).build(D_MODEL).double()
    peer = nn.MultiheadAttention(D_MODEL, 4, bias=False, batch_first=True).double()
    peer.load_state_dict({"in_proj_weight": ours.qkv_proj.weight, "out_proj.weight": ours.out_proj.weight})
    x_BTD = torch.randn(3, 13, D_MODEL, dtype=torch.float64, requires_grad=True)
    mask = nn.Transformer.generate_square_subsequent_mask(13, dtype=torch.float64) if causal else None
    y_ours, (y_peer, _) = ours(x_BTD), peer(x_BTD, x_BTD, x_BTD, attn_mask=mask)
    torch.testing.assert_close(y_ours, y_peer)
    dy = torch.randn_like(y_ours)
    (got,), (wanted,) = torch.autograd.grad(y_ours, x_BTD, dy), torch.autograd.grad(y_peer, x_BTD, dy)
    torch.testing.assert_close(got, wanted)


def test_rope_is_blind_to_where_a_document_begins() -> None:
    mixer = AttentionConfig(n_heads=2).build(D_MODEL).double()
    x_BTD = torch.randn(1, 9, D_MODEL, dtype=torch.float64)
    shifted = torch.cat([torch.randn(1, 31, D_MODEL, dtype=torch.float64), x_BTD], 1)
    segments = Segments.of((torch.arange(40) >= 31).long().unsqueeze(0) + 1)
    torch.testing.assert_close(mixer(shifted, segments)[:, 31:], mixer(x_BTD))


def test_rope_tells_the_order_of_the_past() -> None:
    x_BTD = torch.randn(1, 6, D_MODEL)
    swapped = x_BTD[:, [1, 0, 2, 3, 4, 5]]
    for rope in (True, False):
        mixer = AttentionConfig(n_heads=2, rope=rope).build(D_MODEL)
        same = torch.allclose(mixer(x_BTD)[:, -1], mixer(swapped)[:, -1], atol=1e-6)
        assert same is not rope


def test_numbers_by_hand() -> None:
    config = AttentionConfig(n_heads=4, n_kv_heads=2, head_dim=10, d_conv=3)
    # 4 + 2 + 2 heads of 10: 80 channels.
    assert config.num_params(24) == 24 * 80 + 40 * 24 + 80 * 4
    assert config.state_bytes(24, 7) == 2 * (2 * 7 * 2 * 10 + 2 * 80)
    # Token t sees t of 7: 28 pairs; 40 channels of queries, scores and values.
    assert config.flops_per_token(24, 7) == 2 * 24 * 80 + 2 * 40 * 24 + 2 * 3 * 80 + 2 * 2 * 40 * 28 // 7
    both = AttentionConfig(n_heads=4, causal=False)
    assert both.flops_per_token(24, 7) == 4 * 2 * 24 * 24 + 2 * 2 * 24 * 7
    assert both.state_bytes(24, 7) == 0


def test_decoding_writes_in_place_and_training_does_not() -> None:
    mixer = AttentionConfig(n_heads=2).build(D_MODEL)
    x_BD = torch.randn(1, D_MODEL)
    state = mixer.init_state(1, 4)
    with torch.no_grad():
        _, after = mixer.step(x_BD, state)
    assert after.k.data_ptr() == state.k.data_ptr() and held_bytes(after) == held_bytes(state)
    _, after = mixer.step(x_BD, state)
    assert after.k.data_ptr() != state.k.data_ptr()


def test_a_full_state_says_so() -> None:
    mixer = AttentionConfig(n_heads=2).build(D_MODEL)
    with pytest.raises(ValueError, match="room for 4 tokens, 5 are needed"):
        mixer.prefill(torch.randn(1, 5, D_MODEL), mixer.init_state(1, 4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_heads": 4, "n_kv_heads": 3}, "n_heads 4 must be a multiple of n_kv_heads 3"),
        ({"n_heads": 5}, "d_model 24 is no multiple of n_heads 5; set head_dim"),
        ({"n_heads": 8}, "head_dim 3 must be even for rope"),
        ({"d_conv": 1}, "d_conv of 1 mixes nothing"),
        ({"d_conv": 4, "causal": False}, "short convolution looks back only"),
        ({"backend": "flash_attn"}, "needs a CUDA device"),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AttentionConfig.parse(values, "attention").build(D_MODEL)(torch.randn(1, 2, D_MODEL))
