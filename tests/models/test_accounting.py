"""Accounting: the parts sum to the model, FLOPs are those that torch counts, state is what is held."""

from __future__ import annotations

import json

import pytest
import torch
from models.architectures import ALL, MIXERS, VOCAB, build, tokens
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ripstop.batch import IGNORE, TokenBatch, Vocabulary
from ripstop.models.accounting import describe, training_flops_per_token
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig


def counted(model: Model, batch: TokenBatch, at_BT: Tensor | None = None) -> int:
    """What torch counts; with attention as plain matrix products, since of SDPA's fast forms it counts those on CUDA alone."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch, at_BT)
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


SEQUENCE_TO_SEQUENCE = {
    "d_model": 24,
    "mixers": {"E": reference("attention", n_heads=3, causal=False), "A": reference("attention", n_heads=2)},
    "encoder_pattern": "E2",
    "decoder_pattern": "A4",
    "cross_attention_positions": [0, 1, 3],
    "n_cross_heads": 4,
    "n_cross_kv_heads": 2,
    "mlp": {"expand": 2},
}


@pytest.mark.parametrize("summary", ["none", "mean"])
@pytest.mark.parametrize("masks", ["none", "source", "both"])
@pytest.mark.parametrize(("n_time", "n_source"), [(13, 7), (5, 31), (2, 2)])
def test_encoder_decoder_costs_what_torch_counts(n_time: int, n_source: int, masks: str, summary: str) -> None:
    """To the last FLOP, source and target of any length, some rows shorter; attention both ways has no half left out."""
    config = EncoderDecoderConfig.parse(SEQUENCE_TO_SEQUENCE | {"source_summary": summary}, "c")
    x_BT, source_BS, n_rows = tokens(3, n_time), tokens(3, n_source), 3
    source_segments_BS, segments_BT = torch.ones_like(source_BS), torch.ones_like(x_BT)
    source_segments_BS[1, n_source // 2 + 1 :] = 0
    segments_BT[2, n_time // 2 + 1 :] = 0
    targets_BT = x_BT.where(torch.arange(n_time) % 3 == 0, IGNORE)
    batch = TokenBatch(
        x_BT,
        targets_BT,
        segments_BT if masks == "both" else None,
        source_BS,
        source_segments_BS if masks != "none" else None,
    )
    vain = n_rows * 4 * 4 * 24 * (n_time * n_time - n_time * (n_time + 1) // 2)
    expected = config.batch_flops(VOCAB, batch) + vain
    assert counted(config.build(Vocabulary(VOCAB)), batch, batch.asked_BT) == expected
    if masks == "none" and summary == "none":
        every = counted(config.build(Vocabulary(VOCAB)), batch)
        assert 0 <= every - vain - n_rows * n_time * config.flops_per_token(VOCAB, n_time, n_source) < n_rows * n_time


def test_the_source_of_a_batch_is_counted_by_its_own_length() -> None:
    """By hand: a longer source costs its encoder layer, keys and values, and scores; only targets have logits."""
    config = EncoderDecoderConfig.parse(
        {
            "d_model": 8,
            "mixers": {"E": {"kind": "attention", "n_heads": 1, "causal": False}, "A": {"kind": "attention", "n_heads": 1}},
            "encoder_pattern": "E",
            "decoder_pattern": "AA",
            "cross_attention_positions": [1],
            "n_cross_heads": 2,
        },
        "c",
    )
    x_BT = tokens(1, 3)

    def flops(n_source: int, n_targets: int) -> int:
        targets_BT = x_BT.where(torch.arange(3) < n_targets, IGNORE)
        return config.batch_flops(VOCAB, TokenBatch(x_BT, targets_BT, source_BS=tokens(1, n_source)))

    def source(n: int) -> int:
        encoder = 8 * 8 * 8 * n + 4 * 8 * n * n  # four projections, scores and values of all pairs
        return encoder + 4 * 8 * 8 * n + 4 * 8 * n * 3  # keys and values; scores and values of three queries

    assert flops(10, 3) - flops(4, 3) == source(10) - source(4)
    assert flops(4, 3) - flops(4, 1) == 2 * 2 * VOCAB * 8
    decoder = 2 * (8 * 8 * 8 * 3 + 4 * 8 * 6) + 4 * 8 * 8 * 3  # two layers, six pairs; queries and outputs of the reading
    assert flops(4, 1) == decoder + source(4) + 2 * VOCAB * 8


def test_decoder_only_batches_cost_what_torch_counts() -> None:
    mixers = {"A": reference("attention", n_heads=4, n_kv_heads=2)}
    config = DecoderOnlyConfig.parse({"d_model": 24, "pattern": "AA", "mixers": mixers, "mlp": {"expand": 2}}, "c")
    x_BT, segments_BT = tokens(3, 13), torch.ones(3, 13, dtype=torch.int64)
    segments_BT[1, 9:] = 0
    batch = TokenBatch(x_BT, x_BT.where(torch.rand(3, 13) < 0.4, IGNORE), segments_BT)
    vain = 3 * 2 * 4 * 24 * (13 * 13 - 13 * 14 // 2)
    assert counted(config.build(Vocabulary(VOCAB)), batch, batch.asked_BT) == config.batch_flops(VOCAB, batch) + vain


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
