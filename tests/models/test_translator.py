"""The translator: an encoder-decoder to the bit where nothing starts, and what each start replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.models import MODELS
from ripstop.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ripstop.models.starts import STARTS
from ripstop.models.translator import TranslatorConfig

V, D = 23, 16
VECTORS, LOOKUP = {"kind": "token_vectors"}, {"kind": "lookup"}
VALUES: dict[str, Any] = {
    "d_model": D,
    "encoder_pattern": "BE",
    "decoder_pattern": "MAM",
    "mixers": {
        "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "d_state": 4, "head_dim": 8}},
        "E": {"kind": "attention", "n_heads": 2, "causal": False},
        "M": {"kind": "mamba2", "d_state": 4, "head_dim": 8},
        "A": {"kind": "attention", "n_heads": 2},
    },
    "n_cross_heads": 2,
    "cross_attention_positions": [0, 2],
    "share_embeddings": False,
}


@dataclass(frozen=True)
class Known:
    """Data with vectors, the target's the negative of the source's."""

    vocab_size: int = V

    def token_vectors(self, width: int) -> tuple[Tensor, Tensor]:
        source_VD = torch.randn(V, width, generator=torch.Generator().manual_seed(7))
        return source_VD, -source_VD


def config(*start: dict[str, Any], **changes: Any) -> TranslatorConfig:
    found = MODELS.parse({"kind": "translator", **VALUES, "start": list(start), **changes}, "model")
    assert isinstance(found, TranslatorConfig)
    return found


def built(*start: dict[str, Any], **changes: Any) -> EncoderDecoder:
    torch.manual_seed(3)
    return config(*start, **changes).build(Known())


def changed(model: EncoderDecoder, other: EncoderDecoder) -> set[str]:
    mine, theirs = model.state_dict(), other.state_dict()
    assert set(mine) == set(theirs)
    return {name for name in mine if not torch.equal(mine[name], theirs[name])}


def test_every_start_is_found() -> None:
    assert STARTS.names() == ["lookup", "token_vectors"]


def test_without_a_start_it_is_an_encoder_decoder_to_the_bit() -> None:
    torch.manual_seed(3)
    other = EncoderDecoderConfig.parse(VALUES, "model").build(Vocabulary(V))
    assert not changed(built(), other)
    assert config().num_params(V) == sum(p.numel() for p in other.parameters())


TABLES = {"embedding.weight", "source_embedding.weight", "readout.head.weight"}
CROSS = {f"decoder.blocks.{i}.cross_attention.{name}_proj.weight" for i in (0, 2) for name in ("q", "kv", "out")}


def test_each_start_replaces_its_own_and_nothing_else() -> None:
    plain = built()
    assert changed(built(VECTORS), plain) == TABLES
    assert changed(built(LOOKUP), plain) == CROSS
    both = built(VECTORS, LOOKUP)
    assert changed(both, plain) == TABLES | CROSS
    assert changed(both, built(LOOKUP)) == TABLES  # the vectors draw nothing


def test_tables_are_the_vectors_at_their_scale() -> None:
    model = built({"kind": "token_vectors", "embedding_std": 0.5, "head_std": 0.25})
    source_VD, target_VD = Known().token_vectors(D)
    assert_close(model.source_embedding.weight, 0.5 * source_VD)
    assert_close(model.embedding.weight, 0.5 * target_VD)
    assert_close(model.readout.head.weight, 0.25 * target_VD)
    assert all(p.requires_grad for p in model.parameters())


def test_a_lookup_finds_its_equal_and_hands_it_on() -> None:
    """A query that equals one of many long orthogonal memories gets that one back, times the square of the gain."""
    cross = built({"kind": "lookup", "gain": 0.5}, n_cross_heads=1).decoder.blocks[0].cross_attention
    assert cross is not None
    memory_BSD = 30 * torch.eye(D).unsqueeze(0)
    y_BTD = cross(memory_BSD[:, 5:6], cross.init_state(_memory(memory_BSD)))
    assert_close(y_BTD, 0.25 * memory_BSD[:, 5:6], rtol=1e-4, atol=1e-4)
    other = built({"kind": "lookup", "gain": 0.5}, n_cross_heads=1).decoder.blocks[2].cross_attention
    assert other is not None and not torch.equal(other.q_proj.weight, cross.q_proj.weight)


def _memory(x_BSD: Tensor) -> Any:
    from ripstop.layers.cross_attention import Memory

    return Memory(x_BSD, None)


def test_it_differs_from_the_seed_in_the_rest_alone() -> None:
    """Two seeds: the same vectors, other rotations."""
    first = built(VECTORS, LOOKUP)
    torch.manual_seed(4)
    second = config(VECTORS, LOOKUP).build(Known())
    assert TABLES.isdisjoint(changed(first, second)) and changed(first, second) >= CROSS


def test_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="model: start: token_vectors differ .* set share_embeddings and tie_embeddings to"):
        config(VECTORS, share_embeddings=True)
    with pytest.raises(ConfigError, match="start: token_vectors differ"):
        config(VECTORS, tie_embeddings=True)
    with pytest.raises(ConfigError, match="start: lookup needs as many heads of keys and values as of queries"):
        config(LOOKUP, n_cross_kv_heads=1)
    config(LOOKUP, n_cross_kv_heads=2)
    with pytest.raises(ConfigError, match="unknown kind 'look_up'; did you mean 'lookup'"):
        config({"kind": "look_up"})
    with pytest.raises(ConfigError, match="needs data that has them, such as kind: documents"):
        config(VECTORS).build(Vocabulary(V))


def test_decoding_with_state_equals_the_whole() -> None:
    model = built(VECTORS, LOOKUP).double()
    tokens_BT, source_BS = torch.randint(0, V, (2, 6)), torch.randint(0, V, (2, 5))
    expected_BTV = model(TokenBatch(tokens_BT, tokens_BT, source_BS=source_BS))
    state = model.init_state(2, 6, source_BS)
    for t in range(6):
        logits_BV, state = model.step(tokens_BT[:, t], state)
        assert_close(logits_BV, expected_BTV[:, t])
