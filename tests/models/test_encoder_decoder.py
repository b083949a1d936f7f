"""EncoderDecoder: where it reads its source, what it cannot see, and the positions it derives."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from models.architectures import ENCODER_DECODERS, MIXERS, VOCAB, build, encoder_decoder, tokens
from torch.testing import assert_close

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.models.encoder_decoder import AdaptivePositions, EncoderDecoder, EncoderDecoderConfig, default_encoder

EXACT = {"rtol": 1e-9, "atol": 1e-9}
B, T, S = 2, 7, 9


def a_batch() -> TokenBatch:
    return TokenBatch(tokens(B, T), tokens(B, T), source_BS=tokens(B, S, seed=1))


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_padding_of_the_source_never_matters(name: str) -> None:
    """Neither what its tokens are nor how much of it there is, in forward and in the state."""
    model = build(encoder_decoder(name))
    batch = a_batch()
    expected_BTV = model(batch)
    for fill, width in ((0, 1), (VOCAB - 1, 6)):
        source_BS = torch.cat([batch.source_BS, torch.full((B, width), fill)], 1)
        segments_BS = torch.cat([torch.ones(B, S), torch.zeros(B, width)], 1).long()
        assert_close(model(replace(batch, source_BS=source_BS, source_segments_BS=segments_BS)), expected_BTV, **EXACT)
        logits_BV, _ = model.prefill(batch.tokens_BT, model.init_state(B, T, source_BS, segments_BS))
        assert_close(logits_BV, expected_BTV[:, -1], **EXACT)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_source_is_read_unless_the_decoder_is_blind(name: str) -> None:
    """Every token of the source moves every logit; the blind baseline's are the same to the bit."""
    model, batch = build(encoder_decoder(name)), a_batch()
    before = model(batch)
    for s in (0, S // 2, S - 1):
        source_BS = batch.source_BS.clone()
        source_BS[:, s] = source_BS[:, s] % (VOCAB - 1) + 1
        moved_BT = (model(replace(batch, source_BS=source_BS)) - before).abs().amax(-1)
        if name == "blind":
            assert moved_BT.max() == 0
        else:
            assert moved_BT.min() > 1e-9


def test_a_source_without_a_token_is_no_nan() -> None:
    for name in ENCODER_DECODERS:
        model, batch = build(encoder_decoder(name)), a_batch()
        segments_BS = torch.tensor([[1] * S, [0] * S])
        logits_BTV = model(replace(batch, source_segments_BS=segments_BS))
        logits_BTV.square().sum().backward()
        assert logits_BTV.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_blind_decoder_has_no_encoder_and_needs_no_source() -> None:
    config = encoder_decoder("blind")
    model = build(config)
    assert isinstance(model, EncoderDecoder) and model.encoder is None
    assert config.layout() == {"encoder": "", "decoder": "M", "cross_attention_layers": []}
    x_BT = tokens(B, T)
    logits_BV, _ = model.prefill(x_BT, model.init_state(B, T))
    assert_close(logits_BV, model(a_batch())[:, -1], **EXACT)


def test_a_missing_source_is_one_sentence() -> None:
    model = build(encoder_decoder("first"))
    with pytest.raises(ConfigError, match="needs a source"):
        model(TokenBatch(tokens(B, T), tokens(B, T)))
    with pytest.raises(ConfigError, match="needs a source"):
        model.init_state(B, T)


def test_cross_attention_stands_at_its_positions_alone() -> None:
    model = build(encoder_decoder("hybrid"))
    assert isinstance(model, EncoderDecoder)
    assert [block.cross_attention is not None for block in model.decoder.blocks] == [True, False, True]
    assert all(block.cross_attention is None for block in model.encoder.blocks)


def test_embeddings_are_shared_unless_told() -> None:
    shared, separate = build(encoder_decoder("first")), build(encoder_decoder("hybrid"))
    assert isinstance(shared, EncoderDecoder) and isinstance(separate, EncoderDecoder)
    assert shared.source_embedding is shared.embedding
    assert separate.source_embedding.weight is not separate.embedding.weight


@pytest.mark.parametrize(
    ("n_layers", "pattern"), [(1, "B"), (2, "BE"), (3, "BEE"), (4, "BBEE"), (7, "BBBEBBE"), (8, "BBBBEBBE")]
)
def test_default_encoder_attends_at_the_middle_and_the_end(n_layers: int, pattern: str) -> None:
    assert default_encoder(n_layers) == pattern


def test_default_encoder_brings_its_mixers() -> None:
    values = {"d_model": 64, "decoder_pattern": "M", "mixers": {"M": {"kind": "mamba2"}}}
    config = EncoderDecoderConfig.parse(values | {"n_encoder_layers": 2, "cross_attention_positions": [0]}, "c")
    model = config.build(Vocabulary(VOCAB))
    assert isinstance(model, EncoderDecoder)
    assert [type(block.mixer).__name__ for block in model.encoder.blocks] == ["Bidirectional", "Attention"]
    assert config.num_params(VOCAB) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("d_state", "num_pairs", "n_layers", "positions"),
    [
        (4, 29, 5, [0, 2, 4]),  # 4 / ln 7.25 = 2.02
        (16, 64, 24, [0, 12]),  # 16 / ln 4 = 11.5
        (64, 512, 64, [0, 31, 62]),  # 64 / ln 8 = 30.8
        (16, 64, 4, [0]),
        (1, 1000, 3, [0, 1, 2]),  # 1 / ln 1000 = 0.14: at least 1
        (64, 64, 9, [0]),  # the logarithm is 0
        (64, 8, 9, [0]),  # and below
        (64, 65, 9, [0]),  # 64 / ln(65/64) = 4128
    ],
)
def test_adaptive_positions_by_hand(d_state: int, num_pairs: int, n_layers: int, positions: list[int]) -> None:
    assert AdaptivePositions(d_state=d_state, num_pairs=num_pairs).positions(n_layers) == positions


def test_adaptive_positions_are_derived_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    config = encoder_decoder("adaptive")
    assert config.cross_attention_layers == [0, 2, 4]
    with caplog.at_level(logging.INFO):
        config.build(Vocabulary(VOCAB))
    assert "adaptive cross-attention at decoder layers [0, 2, 4]" in caplog.text


BACKWARD = {"kind": "attention", "causal": False, "d_conv": 3}
WITH_ODD = MIXERS | {
    "X": {"kind": "attention", "n_heads": 7},
    "Z": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "head_dim": 7}},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross_attention_positions": [0, 2]}, "2 is no layer of decoder_pattern 'M2'; its layers go from 0 to 1"),
        ({"cross_attention_positions": [-1]}, "-1 is no layer of decoder_pattern 'M2'"),
        ({"cross_attention_positions": [1, 1]}, "[1, 1] names a layer twice"),
        ({"cross_attention_positions": "adaptive"}, "needs adaptive: {d_state, num_pairs}; add it"),
        ({"n_cross_heads": 5}, "n_cross_heads, n_cross_kv_heads: cross_attention: d_model 24 must be a multiple of n_heads 5"),
        ({"n_cross_kv_heads": 3}, "cross_attention: n_heads 4 must be a multiple of n_kv_heads 3"),
        ({"encoder_pattern": "X", "mixers": WITH_ODD}, "c: mixers.X: attention: d_model 24 is no multiple of n_heads 7"),
        ({"decoder_pattern": "X2", "mixers": WITH_ODD}, "c: mixers.X: attention: d_model 24 is no multiple of n_heads 7"),
        (
            {"encoder_pattern": "Y", "mixers": MIXERS | {"Y": BACKWARD}},
            "c: mixers.Y: a short convolution looks back only; set d_conv: 0",
        ),
        ({"encoder_pattern": "Z", "mixers": WITH_ODD}, "c: mixers.Z: mamba2: expand * d_model = 48 must be a multiple"),
        ({"encoder_pattern": None, "n_encoder_layers": 10**9}, "n_encoder_layers: input should be less than or equal to 1024"),
        ({"cross_attention_positions": "adaptive", "adaptive": {"d_state": 10**400, "num_pairs": 1}}, "adaptive.d_state: "),
        ({"d_model": 24 * 10**9}, "d_model: input should be less than or equal to 65536"),
        ({"n_encoder_layers": 2}, "needs one of encoder_pattern and n_encoder_layers"),
        ({"encoder_pattern": None}, "needs one of encoder_pattern and n_encoder_layers"),
        ({"encoder_pattern": "BX"}, "encoder_pattern 'BX' has the letter 'X'"),
        ({"decoder_pattern": "MB"}, "decoder_pattern 'MB': mixer 'B' (bidirectional) sees what comes after"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(changes: dict[str, object], message: str) -> None:
    values = {"d_model": 24, "mixers": MIXERS} | ENCODER_DECODERS["first"]
    with pytest.raises(ConfigError) as error:
        EncoderDecoderConfig.parse(values | changes, "c")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_blind_decoder_needs_no_heads_that_fit() -> None:
    values = {"d_model": 24, "mixers": MIXERS} | ENCODER_DECODERS["blind"] | {"n_cross_heads": 5}
    assert not EncoderDecoderConfig.parse(values, "c").reads_source


def test_the_mean_summary_by_hand() -> None:
    """The mean of the normed encoder's output over a row's own source, through the map, is in every input of the decoder."""
    model = build(encoder_decoder("summary"))
    assert isinstance(model, EncoderDecoder) and model.encoder is not None and model.encoder_norm is not None
    x_BT, source_BS = tokens(B, T), tokens(B, S, seed=1)
    lengths, means = (S, 4), []
    for row_S, length in zip(source_BS, lengths, strict=True):
        memory_1SD = model.encoder_norm(model.encoder(model.embedding(row_S[:length].unsqueeze(0))))
        means.append(memory_1SD.mean(1) @ model.summary.weight.T)
    summary_BD = torch.cat(means)
    expected_BTV = model.readout(model.decoder(model.embedding(x_BT) + summary_BD.unsqueeze(1)))
    segments_BS = (torch.arange(S) < torch.tensor(lengths).unsqueeze(1)).long()
    assert_close(model(TokenBatch(x_BT, x_BT, None, source_BS, segments_BS)), expected_BTV, **EXACT)
    state = model.init_state(B, T, source_BS, segments_BS)
    assert_close(state.summary, summary_BD, **EXACT)


def test_a_block_alone_reads_at_its_position() -> None:
    """With the reading layer's output zero, the source is gone; layers before it never knew it."""
    model, batch = build(encoder_decoder("adaptive")), a_batch()
    assert isinstance(model, EncoderDecoder)
    other = replace(batch, source_BS=batch.source_BS.flip(1))
    assert (model(batch) - model(other)).abs().max() > 1e-6
    with torch.no_grad():
        for i in (0, 2, 4):
            model.decoder.blocks[i].cross_attention.out_proj.weight.zero_()
    assert_close(model(batch), model(other), rtol=0, atol=0)
