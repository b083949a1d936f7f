"""FLOPs per token are those that torch counts: of every preset, forward and backward, and of every mixer, token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract import CASES, D_MODEL, Case
from models import counted
from models.counted import as_products, causal_conv, causal_conv_step, slow, ssd_step, vain
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from ripstop.batch import IGNORE, TokenBatch, Vocabulary
from ripstop.mixers.mla import MlaConfig
from ripstop.models import MODELS
from ripstop.models.accounting import training_flops_per_token
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.presets import PRESETS
from ripstop.ops import convolution, delta_rule, state_space, trapezoidal
from ripstop.ops.trapezoidal import Trapezoid


def preset(name: str) -> Any:
    return MODELS.parse(slow(dict(PRESETS[name].values)), name)


def length(name: str) -> int:
    """Windows of 256 and 4 sinks are full; a state costs the same at every token."""
    return 600 if name.startswith("swa_mla") else 4


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_costs_what_torch_counts_forward_and_backward(name: str) -> None:
    """On the meta device, within 1 in 10,000 (a mixer's FLOPs per token are whole), and a training three times the forward."""
    config, n_ids, n_time, n_source = preset(name), PRESETS[name].vocab_size, length(name), 5
    with torch.device("meta"):
        model, x_BT = config.build(Vocabulary(n_ids)), torch.zeros(1, n_time, dtype=torch.int64)
        source_BS = torch.zeros(1, n_source, dtype=torch.int64) if config.reads_source else None
        with as_products() as counter:
            logits = model(TokenBatch(x_BT, x_BT, source_BS=source_BS))
            forward = counter.get_total_flops()
            logits.sum().backward()
    assert isinstance(config, DecoderOnlyConfig | EncoderDecoderConfig)
    stack = config.stack if isinstance(config, DecoderOnlyConfig) else config.decoder
    in_vain = sum(vain(mixer, config.d_model, n_time) for mixer in stack.mixers)
    said = n_time * config.flops_per_token(n_ids, n_time, n_source)
    assert forward - in_vain == pytest.approx(said, rel=1e-4)
    assert counter.get_total_flops() == 3 * forward
    assert training_flops_per_token(config, n_ids, n_time) == 3 * config.flops_per_token(n_ids, n_time)


def steps_count(case: Case, n_time: int) -> int:
    """FLOPs of `n_time` steps, in the form that reads what a token sees and nothing else."""
    mixer = case.build()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), as_products() as counter:
        state = mixer.init_state(1, n_time)
        for x_BD in torch.randn(n_time, 1, D_MODEL, dtype=torch.float64):
            _, state = mixer.step(x_BD, state)
    return counter.get_total_flops()


CAUSAL = [case for case in CASES if case.config().is_causal and case.kind != "mla"]


@pytest.mark.parametrize("case", CAUSAL, ids=lambda case: f"{case.kind}-{case.name}")
def test_a_mixer_costs_what_torch_counts_token_by_token(case: Case) -> None:
    """Nothing is computed in vain, so that nothing has to be taken off."""
    n_time = 40
    said = n_time * case.config().flops_per_token(D_MODEL, n_time)
    assert steps_count(case, n_time) == pytest.approx(said, rel=0.01)


@pytest.mark.parametrize(
    "case", [c for c in CASES if not c.config().is_causal or c.kind == "mla"], ids=lambda c: f"{c.kind}-{c.name}"
)
def test_a_mixer_costs_what_torch_counts_over_a_sequence(case: Case) -> None:
    """Those that see what comes after; and latent attention, whose step is another form."""
    config, n_time = case.reference_config(), 40
    mixer = case.build(config)
    with torch.no_grad(), as_products() as counter:
        mixer(torch.randn(1, n_time, D_MODEL, dtype=torch.float64))
    both_ways = 2 if case.kind == "bidirectional" else 1
    in_vain = both_ways * vain(getattr(config, "mixer", config), D_MODEL, n_time)
    assert counter.get_total_flops() - in_vain == pytest.approx(n_time * config.flops_per_token(D_MODEL, n_time), rel=0.01)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == "mla"], ids=lambda case: case.name)
def test_an_absorbed_step_costs_what_it_says_by_hand(case: Case) -> None:
    """Queries into the latent, scores and values in it, and out of it: to the last FLOP, at every length of the past."""
    config = case.config()
    assert isinstance(config, MlaConfig)
    heads, rank, rotary, n_time = config.n_heads, config.kv_lora_rank, config.qk_rope_head_dim, 40
    up = heads * rank * (config.qk_nope_head_dim + config.v_head_dim)
    queries = heads * (config.qk_nope_head_dim + rotary)
    q = D_MODEL * config.q_lora_rank + config.q_lora_rank * queries if config.q_lora_rank else D_MODEL * queries
    projections = q + D_MODEL * (rank + rotary) + heads * config.v_head_dim * D_MODEL
    pairs = n_time * (n_time + 1) // 2
    assert steps_count(case, n_time) == 2 * n_time * (projections + up) + 2 * heads * (2 * rank + rotary) * pairs


@pytest.mark.parametrize("name", ["swa_mla_small", "swa_mla_xl"])
def test_packed_documents_are_counted_as_one_row(name: str) -> None:
    """`batch_flops` says what dense products take for a row, whatever documents it holds, and logits at its targets alone. What
    that is above the pairs inside of documents is told here: 16 of them, of 128 tokens each."""
    config, n_ids, n_time, n_documents = preset(name), PRESETS[name].vocab_size, 2048, 16
    targets_BT = torch.zeros(1, n_time, dtype=torch.int64)
    targets_BT[:, ::3] = IGNORE
    batch = TokenBatch(torch.zeros_like(targets_BT), targets_BT)
    said = config.batch_flops(n_ids, batch)
    x_BT = torch.zeros(1, n_time, dtype=torch.int64, device="meta")
    n_targets = int(batch.asked_BT.sum())
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = config.build(Vocabulary(n_ids))
        hidden_BTD = model.decoder(model.embedding(x_BT))
        model.readout(hidden_BTD[:, :n_targets])
    in_vain = sum(vain(mixer, config.d_model, n_time) for mixer in config.stack.mixers)
    assert counter.get_total_flops() - in_vain == pytest.approx(said, rel=1e-4)
    apart = n_documents * config.stack.flops(n_time // n_documents) + n_targets * 2 * n_ids * config.d_model
    assert 1.02 < said / apart < 1.2


def test_the_products_are_the_operations() -> None:
    """In value and in gradient, with groups, and after a past."""
    torch.manual_seed(0)
    x, dt, A, B, C, D, state = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 6, 5), (2, 6), (6,), (2, 3, 4), (2, 3, 4), (6,), (2, 6, 5, 4))
    )
    inputs = (x, dt, A, B, C, D, state)
    both = [step(*inputs) for step in (ssd_step, state_space.ssd_step)]
    assert_close(*both)
    assert_close(*(torch.autograd.grad((y.sin().sum() + after.cos().sum()), inputs) for y, after in both))
    rows, wide = (2, 6), ((2, 6, 5), (2, 6, 5), (2, 6, 4), (2, 6, 5), (2, 6), (2, 6, 4, 5))
    token = [torch.randn(*shape, dtype=torch.float64) for shape in wide]
    assert_close(counted.delta_step(*token), delta_rule.delta_step(*token))
    dt, a, share = torch.randn(3, *rows, dtype=torch.float64)
    last = Trapezoid(token[5], token[0], token[2])
    given = (token[2] + 1, dt, a, share, token[1], token[3], last)
    assert_close(counted.trapezoidal_step(*given), trapezoidal.trapezoidal_step(*given))
    x, weight, bias, past = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 7, 3), (3, 4), (3,), (2, 3, 3)))
    for before in (None, past):
        assert_close(causal_conv(x, weight, bias, before), convolution.causal_conv_reference(x, weight, bias, before))
    for mine, theirs in zip(
        causal_conv_step(x[:, 0], weight, bias, past), convolution.causal_conv_step(x[:, 0], weight, bias, past), strict=True
    ):
        assert_close(mine, theirs)


def test_the_state_by_hand() -> None:
    """One update and one read of a state of 6 x 5 x 4 numbers, a multiply-add each; 3 channels of 4 taps over 7 tokens."""
    with FlopCounterMode(display=False) as counter:
        ssd_step(torch.ones(1, 6, 5), *(torch.ones(s) for s in ((1, 6), (6,), (1, 3, 4), (1, 3, 4), (6,), (1, 6, 5, 4))))
    assert counter.get_total_flops() == 2 * 2 * 6 * 5 * 4
    with FlopCounterMode(display=False) as counter:
        causal_conv(torch.ones(1, 7, 3), torch.ones(3, 4), torch.ones(3))
    assert counter.get_total_flops() == 2 * 7 * 3 * 4
