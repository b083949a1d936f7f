"""Accounting: the parts sum to the model, FLOPs are those that torch counts, state is what is held."""

from __future__ import annotations

import json

import pytest
import torch
from models.architectures import ALL, MIXERS, VOCAB, build, tokens
from torch.utils.flop_counter import FlopCounterMode

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.models.accounting import describe, training_flops_per_token
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig


def counted(model: Model, batch: TokenBatch) -> int:
    with FlopCounterMode(display=False) as counter:
        model(batch)
    return counter.get_total_flops()


def reference(kind: str, **values: object) -> dict[str, object]:
    """A mixer by its slow form, whose products are matrix products that the counter sees."""
    return {"kind": kind, "backend": "reference"} | values


@pytest.mark.parametrize("name", ALL)
def test_parts_are_those_of_the_built_model(name: str) -> None:
    """Each part against the parameters below its modules, tied tables once."""
    config, model = ALL[name], build(ALL[name])
    owners = {
        "embedding": ("embedding", "source_embedding"),
        "encoder": ("encoder", "encoder_norm"),
        "source_summary": ("summary",),
        "head": ("readout.head",),
    }
    held = dict.fromkeys(config.params_by_part(VOCAB), 0)
    for path, weight in model.named_parameters():
        part = next((p for p, prefixes in owners.items() if path.startswith(tuple(f"{x}." for x in prefixes))), None)
        if part is None:
            inside = path.split(".")
            part = {"mixer": "mixers", "cross_attention": "cross_attention", "mlp": "mlps"}.get(
                inside[3] if inside[0] == "decoder" else "", "norms"
            )
        held[part] += weight.numel()
    assert held == config.params_by_part(VOCAB)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
def test_attention_model_costs_what_torch_counts(tie: bool, activation: str) -> None:
    """Equal to the last FLOP, but for the half of the causal scores that the slow form computes in vain."""
    n_time, n_layers, d_model = 13, 3, 24
    mixers = {"A": reference("attention", n_heads=4, n_kv_heads=2)}
    values = {"d_model": d_model, "pattern": f"A{n_layers}", "mixers": mixers, "tie_embeddings": tie}
    config = DecoderOnlyConfig.parse(values | {"mlp": {"activation": activation, "d_mlp": 31}}, "c")
    x_BT = tokens(2, n_time)
    vain = n_layers * 4 * d_model * (n_time * n_time - n_time * (n_time + 1) // 2)
    expected = 2 * (n_time * config.flops_per_token(VOCAB, n_time) + vain)
    assert counted(config.build(Vocabulary(VOCAB)), TokenBatch(x_BT, x_BT)) == expected


def test_encoder_decoder_costs_what_torch_counts() -> None:
    """Attention both ways has no half to leave out; source and target differ in length; the encoder's share is rounded."""
    n_time, n_source = 13, 7
    mixers = {"E": reference("attention", n_heads=3, causal=False), "A": reference("attention", n_heads=2)}
    values = {
        "d_model": 24,
        "mixers": mixers,
        "encoder_pattern": "E2",
        "decoder_pattern": "A",
        "cross_attention_positions": [0],
        "n_cross_kv_heads": 2,
        "source_summary": "mean",
        "mlp": {"expand": 2},
    }
    config = EncoderDecoderConfig.parse(values, "c")
    x_BT = tokens(1, n_time)
    batch = TokenBatch(x_BT, x_BT, source_BS=tokens(1, n_source))
    vain = 4 * 24 * (n_time * n_time - n_time * (n_time + 1) // 2)
    expected = n_time * config.flops_per_token(VOCAB, n_time, n_source) + vain
    # Torch's counter knows the cross-attention's SDPA on CUDA alone; on the CPU it is added by hand.
    sdpa = 4 * 24 * n_time * n_source
    assert abs(counted(config.build(Vocabulary(VOCAB)), batch) + sdpa - expected) <= 2 * n_time


def test_mamba2_model_costs_what_torch_counts_within_a_tenth() -> None:
    """Of Mamba-2, projections and head are products that the counter sees; convolution and recurrence must be the rest."""
    n_time, d_model = 13, 64
    config = DecoderOnlyConfig.parse({"d_model": d_model, "pattern": "M2", "mixers": MIXERS | {
        "M": {"kind": "mamba2", "d_state": 16, "head_dim": 32, "backend": "torch"}}}, "c")  # fmt: skip
    x_BT = tokens(1, n_time)
    mixer = config.mixers["M"]
    d_inner, channels, n_heads = 2 * d_model, 2 * d_model + 32, 4
    projections = 2 * d_model * (d_inner + channels + n_heads) + 2 * d_inner * d_model
    recurrence = mixer.flops_per_token(d_model, n_time) - projections
    assert recurrence == 2 * 4 * channels + 4 * d_inner * 16
    matrix_products = n_time * (config.flops_per_token(VOCAB, n_time) - 2 * recurrence)
    assert (
        matrix_products
        <= counted(config.build(Vocabulary(VOCAB)), TokenBatch(x_BT, x_BT))
        <= 1.1 * (matrix_products + 2 * n_time * recurrence)
    )


def test_training_costs_three_forward_passes_as_torch_counts() -> None:
    """The first layer's input is a table look-up: it has no gradient to compute, and all others do."""
    config = DecoderOnlyConfig.parse({"d_model": 24, "pattern": "A", "mixers": {"A": reference("attention")}}, "c")
    model, x_BT = config.build(Vocabulary(VOCAB)), tokens(2, 13)
    with FlopCounterMode(display=False) as counter:
        model(TokenBatch(x_BT, x_BT)).sum().backward()
    assert counter.get_total_flops() == 3 * counted(model, TokenBatch(x_BT, x_BT))
    assert training_flops_per_token(config, VOCAB, 13) == 3 * config.flops_per_token(VOCAB, 13)


@pytest.mark.parametrize("name", ALL)
def test_description_can_be_written_down(name: str) -> None:
    config = ALL[name]
    described = describe(config, VOCAB, 13, torch.float32)
    assert json.loads(json.dumps(described)) == described
    assert described["parameters"] == sum(described["parameters_by_part"].values()) == config.num_params(VOCAB)
    assert described["state_bytes"] == config.state_bytes(13, torch.float32)
    assert described["layout"] == config.layout()


def test_a_source_adds_its_keys_and_values_to_the_state() -> None:
    """Two layers of cross-attention, 2 key heads of 4: 2 x 2 x 2 x 4 numbers a source token."""
    config = ALL["encoder_decoder-hybrid"]
    assert isinstance(config, EncoderDecoderConfig)
    more = config.state_bytes(13, torch.float32, source_len=30) - config.state_bytes(13, torch.float32, source_len=20)
    assert more == 10 * 2 * 2 * 2 * 4 * 4
