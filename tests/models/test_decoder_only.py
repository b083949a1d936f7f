"""DecoderOnly: what a decoder refuses, and how its weights are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from models.architectures import MIXERS, VOCAB, build, decoder_only, tokens
from torch.testing import assert_close

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.models.decoder_only import DecoderOnly, DecoderOnlyConfig

NO_GROUPS = {"kind": "mamba2", "head_dim": 16, "n_groups": 2}  # 48 / 16 = 3 heads in 2 groups


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "MB"}, "pattern 'MB': mixer 'B' (bidirectional) sees what comes after and cannot decode"),
        ({"pattern": "E"}, "pattern 'E': mixer 'E' (attention) sees what comes after and cannot decode"),
        ({"pattern": "MXM"}, "pattern 'MXM' has the letter 'X'"),
        ({"pattern": "M(A"}, "pattern 'M(A', position 2"),
        ({"mlp": {"activation": "relu"}}, "mlp.activation: input should be 'swiglu' or 'gelu'"),
        ({"pattern": "MA", "d_model": 28}, "c: mixers.M: mamba2: expand * d_model = 56 must be a multiple"),
        ({"pattern": "A", "d_model": 26}, "c: mixers.A: attention: d_model 26 is no multiple of n_heads 4; set head_dim"),
        ({"pattern": "A", "d_model": 4}, "c: mixers.A: attention: head_dim 1 must be even for rope"),
        ({"pattern": "M", "mixers": {"M": NO_GROUPS}}, "c: mixers.M: mamba2: expand * d_model = 48 must be a multiple"),
        (
            {"pattern": "A500", "d_model": 2**16},
            "c: the model would have more than 10^12 parameters, most of them in its mixers",
        ),
        ({"mlp": {"d_mlp": 2**20}, "pattern": "A500", "d_model": 2**12}, "most of them in its mlps; lower d_model"),
        ({"d_model": 12 * 10**9}, "c: d_model: input should be less than or equal to 65536"),
        ({"d_model": 12 * 10**3000}, "c: d_model: input should be less than or equal to 65536"),
        ({"mlp": {"d_mlp": 10**12}}, "c: mlp.d_mlp: input should be less than or equal to 1048576"),
        ({"mlp": {"expand": 1e300}}, "c: mlp.expand: input should be less than or equal to 1024"),
        ({"mlp": {"expand": float("inf")}}, "mlp.expand: needs a finite number"),
        ({"embedding_std": float("inf")}, "embedding_std: needs a finite number"),
        ({"pattern": "M1024M"}, "pattern 'M1024M', position 6: there are more than 1024 layers; lower the count"),
        ({"norm": {"kind": "layer_norm"}}, "norm: unknown kind 'layer_norm'; did you mean 'rms_norm'?"),
        ({"norm": {"kind": "rms_norm", "epsilon": 1e-5}}, "c: norm.epsilon: unknown key; did you mean 'eps'?"),
        ({"norm_eps": 1e-5}, "norm_eps: unknown key; did you mean 'norm'?"),
        ({"mlp": {"expnad": 2}}, "mlp.expnad: unknown key; did you mean 'expand'?"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        DecoderOnlyConfig.parse({"d_model": 24, "pattern": "M", "mixers": MIXERS} | changes, "c")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mixer_that_the_pattern_leaves_out_need_not_fit() -> None:
    mixers = MIXERS | {"X": {"kind": "attention", "n_heads": 7}}
    assert DecoderOnlyConfig.parse({"d_model": 24, "pattern": "M", "mixers": mixers}, "c").d_model == 24


def test_a_source_is_refused_rather_than_ignored() -> None:
    model, x_BT = build(decoder_only("recurrent")), tokens(2, 5)
    with pytest.raises(ConfigError, match="reads no source"):
        model(TokenBatch(x_BT, x_BT, source_BS=x_BT))
    with pytest.raises(ConfigError, match="reads no source"):
        model.init_state(2, 5, x_BT)


def test_the_pattern_orders_the_mixers() -> None:
    model = build(decoder_only("hybrid"))
    assert isinstance(model, DecoderOnly)
    names = [type(block.mixer).__name__ for block in model.decoder.blocks]
    assert names == ["Mamba2", "SlidingWindow", "Attention", "Attention"]


def test_logits_are_those_of_the_formula_without_layers_between() -> None:
    """With every projection into the residual stream zero, logits are head(norm(embedding))."""
    config = decoder_only("attention")
    model = build(config)
    assert isinstance(model, DecoderOnly)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "out_proj" in name:
                weight.zero_()
    x_BT = tokens(2, 7)
    e_BTD = model.embedding.weight[x_BT]
    normed = e_BTD / (e_BTD.square().mean(-1, keepdim=True) + config.norm.eps).sqrt() * model.readout.norm.weight
    assert_close(model(TokenBatch(x_BT, x_BT)), normed @ model.readout.head.weight.T)


def test_tied_weights_are_one_tensor() -> None:
    tied, separate = build(decoder_only("hybrid")), build(decoder_only("recurrent"))
    assert isinstance(tied, DecoderOnly) and isinstance(separate, DecoderOnly)
    assert tied.readout.head.weight is tied.embedding.weight
    assert separate.readout.head.weight is not separate.embedding.weight


def test_weights_are_drawn_as_documented() -> None:
    """embedding_std for embedding and head; projections into the residual stream shrink with its number of terms."""
    torch.manual_seed(0)
    config = DecoderOnlyConfig.parse({"d_model": 128, "pattern": "A8", "mixers": MIXERS, "mlp": {}}, "c")
    model = config.build(Vocabulary(997))
    for table in (model.embedding.weight, model.readout.head.weight):
        assert table.std().item() == pytest.approx(0.02, rel=0.02)
    uniform = 1 / math.sqrt(3)  # standard deviation of the uniform distribution on [-1, 1]
    for block in model.decoder.blocks:
        assert block.mixer.qkv_proj.weight.std().item() == pytest.approx(uniform / math.sqrt(128), rel=0.03)
        assert block.mixer.out_proj.weight.std().item() == pytest.approx(uniform / math.sqrt(128 * 16), rel=0.03)
        assert block.mlp.out_proj.weight.std().item() == pytest.approx(uniform / math.sqrt(512 * 16), rel=0.03)


def test_the_same_seed_draws_the_same_model() -> None:
    first, second, other = (build(decoder_only("hybrid"), seed) for seed in (3, 3, 4))
    x_BT = tokens(1, 9)
    batch = TokenBatch(x_BT, x_BT)
    assert_close(first(batch), second(batch), rtol=0, atol=0)
    assert (first(batch) - other(batch)).abs().max() > 0.1


def test_the_first_loss_is_that_of_guessing() -> None:
    torch.manual_seed(0)
    x_BT = tokens(4, 33)
    logits_BTV = decoder_only("hybrid").build(Vocabulary(VOCAB))(TokenBatch(x_BT, x_BT))
    loss = torch.nn.functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), x_BT[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(VOCAB), rel=0.03)
