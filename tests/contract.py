"""The contract every mixer passes: points, each a check that takes a `Case` and raises AssertionError.

A new kind adds its cases to `CASES`; `tests/mixers/test_contract.py` runs every check over all of them. What is not about
precision is in float64 on the CPU, so that a mistake is far larger than rounding. Sizes are awkward on purpose.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ripstop.config import ConfigError
from ripstop.mixers import MIXERS
from ripstop.mixers.base import Mixer, MixerConfig, filled_bytes, held_bytes, reorder_state
from ripstop.ops.segments import Segments

D_MODEL = 24
CHUNK = 16
LENGTHS = (1, 63, 64, 100)
TOLERANCE = 1e-9


Reach = Callable[[int, int], set[int]]
"""(t, n_time) -> the positions of a document of `n_time` tokens whose input moves the output at t."""


def everything_before(t: int, n_time: int) -> set[int]:
    return set(range(t + 1))


def everything(t: int, n_time: int) -> set[int]:
    return set(range(n_time))


def window(window_size: int, sink_size: int, d_conv: int = 1) -> Reach:
    """The window, the sinks, and what the short convolution carries into those."""

    def reach(t: int, n_time: int) -> set[int]:
        seen = {s for s in range(t + 1) if t - s < window_size or s < sink_size}
        return {s - shift for s in seen for shift in range(d_conv) if s >= shift}

    return reach


def both_ways(ahead: Reach) -> Reach:
    """A causal reach and its mirror image."""

    def reach(t: int, n_time: int) -> set[int]:
        return ahead(t, n_time) | {n_time - 1 - s for s in ahead(n_time - 1 - t, n_time)}

    return reach


@dataclass(frozen=True)
class Case:
    """One configuration under the contract.

    reference: what to change in `values` to get the slow reference with the same parameters. fast: the functions that the
    fast form runs and the reference must not. flops: FLOPs a token at some lengths, worked out by hand for `D_MODEL`.
    """

    kind: str
    name: str
    values: dict[str, Any]
    fast: tuple[str, ...]
    flops: dict[int, int]
    reference: dict[str, Any] = field(default_factory=lambda: {"backend": "reference"})
    reach: Reach = everything_before

    def config(self) -> MixerConfig:
        return MIXERS.parse({"kind": self.kind} | self.values)

    def reference_config(self) -> MixerConfig:
        return MIXERS.parse({"kind": self.kind} | self.values | self.reference)

    def build(self, config: MixerConfig | None = None) -> Mixer:
        """The same weights every time. Vectors are no longer all ones or zeros, which would hide a wrong order."""
        torch.manual_seed(7)
        mixer = (config or self.config()).build(D_MODEL).double()
        with torch.no_grad():
            for parameter in mixer.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return mixer


_MAMBA2 = {"head_dim": 8, "d_state": 5, "chunk_size": CHUNK}
_MAMBA2_NESTED = {"kind": "mamba2", **_MAMBA2}
_WINDOW_NESTED = {"kind": "sliding_window", "n_heads": 2, "window_size": 5, "sink_size": 2}
_SSD, _CONV = "ripstop.ops.state_space.ssd_chunked", "ripstop.ops.convolution.causal_conv"
_DELTA = ("ripstop.ops.delta_rule.delta_chunked", _CONV)
_TRAPEZOIDAL = ("ripstop.ops.trapezoidal.trapezoidal_chunked", "ripstop.ops.trapezoidal.gated_linear_attention")
_ATTENTION = ("ripstop.ops.softmax_attention.attention", "ripstop.ops.softmax_attention.sdpa")
_WINDOW = ("ripstop.ops.window_attention.window_attention", "ripstop.ops.window_attention.sdpa")
_NSA = (
    *_WINDOW,
    "ripstop.ops.compressed_attention.compress_and_select",
    "ripstop.ops.selected_attention.selected_attention",
    "ripstop.ops.selected_attention.gathered",
)
_NSA_SIZES = {"n_heads": 4, "n_kv_heads": 2, "compress_block": 8, "compress_stride": 4, "select_block": 8, "window_size": 12}
# 4 heads and 2 for keys and values of 6 in each branch, so 16 heads of projections; gates by 32 hidden units.
_NSA_LINEAR = 2 * (24 * 16 * 6 + 24 * 24 + 24 * 32 + 32 * 12)
_LATENT = (
    "ripstop.ops.latent_attention.expanded",
    "ripstop.ops.latent_attention.absorbed",
    "ripstop.ops.softmax_attention.sdpa",
)
# Inner width 48, 6 heads, 48 + 2 * 5 = 58 channels: projections, convolution, one update and one read of 48 * 5 numbers.
_MAMBA2_FLOPS = 2 * (24 * (48 + 58 + 6) + 48 * 24 + 4 * 58 + 2 * 48 * 5)
# 24 channels each for queries, keys, values and output; tokens of 8 see 1, 2, 3, 4, 5, 6, 7 and 7: 35 pairs.
_WINDOW_FLOPS = 2 * (4 * 24 * 24) + 2 * (2 * 24 * 35) // 8

CASES = [
    Case("mamba2", "one_group", _MAMBA2, (_SSD, _CONV), {1: _MAMBA2_FLOPS, 100: _MAMBA2_FLOPS}),
    Case(
        "mamba2",
        "groups",
        {**_MAMBA2, "n_groups": 3, "d_conv": 2, "expand": 1},
        (_SSD, _CONV),
        # Inner width 24, 3 heads, 24 + 2 * 3 * 5 = 54 channels.
        {7: 2 * (24 * (24 + 54 + 3) + 24 * 24 + 2 * 54 + 2 * 24 * 5)},
    ),
    Case(
        "mamba2",
        "one_head_large_decay",
        {"head_dim": 48, "d_state": 3, "chunk_size": 64, "A_init_range": [2, 3], "dt_init_range": [1, 5]},
        (_SSD, _CONV),
        {7: 2 * (24 * (48 + 54 + 1) + 48 * 24 + 4 * 54 + 2 * 48 * 3)},
    ),
    # Causal: n tokens see n (n + 1) / 2 pairs, each a product of scores and one of values over all heads' channels.
    Case("attention", "plain", {"n_heads": 4}, _ATTENTION, {n: 2 * (4 * 24 * 24 + 24 * (n + 1)) for n in (1, 7, 99)}),
    Case(
        "attention",
        "grouped_conv",
        {"n_heads": 4, "n_kv_heads": 2, "head_dim": 10, "d_conv": 3},
        (*_ATTENTION, _CONV),
        {7: 2 * (24 * (40 + 20 + 20) + 40 * 24 + 3 * 80 + 2 * 40 * 4)},  # 4 pairs a token
    ),
    Case(
        "attention",
        "no_rope",
        {"n_heads": 3, "n_kv_heads": 1, "rope": False},
        _ATTENTION,
        {7: 2 * (24 * (24 + 8 + 8) + 24 * 24 + 2 * 24 * 4)},
    ),
    Case(
        "attention",
        "both_ways",
        {"n_heads": 2, "causal": False},
        _ATTENTION,
        {n: 2 * (4 * 24 * 24 + 2 * 24 * n) for n in (1, 7, 100)},
        reach=everything,
    ),
    Case(
        "sliding_window",
        "window_only",
        {"n_heads": 2, "window_size": 7},
        (*_WINDOW, *_ATTENTION),
        {8: _WINDOW_FLOPS, 100: 2 * (4 * 24 * 24) + 2 * (2 * 24 * (28 + 93 * 7)) // 100},
        reach=window(7, 0),
    ),
    Case(
        "sliding_window",
        "sinks_grouped_conv",
        {"n_heads": 4, "n_kv_heads": 2, "window_size": CHUNK, "sink_size": 3, "d_conv": 4},
        (*_WINDOW, *_ATTENTION, _CONV),
        {100: 2 * (24 * 48 + 24 * 24 + 4 * 48) + 2 * (2 * 24 * (190 + 81 * 19)) // 100},
        reach=window(CHUNK, 3, 4),
    ),
    Case(
        "sliding_window",
        "itself_and_a_sink",
        {"n_heads": 4, "window_size": 1, "sink_size": 1},
        (*_WINDOW, *_ATTENTION),
        {1: 2 * (4 * 24 * 24 + 2 * 24), 2: 2 * (4 * 24 * 24) + 2 * (2 * 24 * 3) // 2},
        reach=window(1, 1),
    ),
    Case(
        "sliding_window",
        "wider_than_text",
        {"n_heads": 2, "window_size": 300, "sink_size": 4, "rope": False},
        (*_WINDOW, *_ATTENTION),
        {99: 2 * (4 * 24 * 24 + 24 * 100)},
    ),
    Case(
        "nsa",
        "all_selected",
        {**_NSA_SIZES, "n_selected": 16},
        _NSA,
        {
            7: _NSA_LINEAR + 4 * 24 * 2 * 28 // 7,
            # 4 tokens see one compressed block, 4 two and 1 three; all see their past, and 12 of it in the window. The
            # convolution of 8 tokens with 12 units and the layer behind it, for 3 blocks of keys and values of 2 heads.
            16: _NSA_LINEAR + 4 * 24 * (15 + 136 + 126) // 16 + 3 * 4 * 2 * (8 * 6 * 12 + 12 * 6) // 16,
        },
    ),
    Case(
        "nsa",
        "few_selected_conv",
        {**_NSA_SIZES, "n_selected": 4, "d_conv": 3, "phi": "score", "rope": ["window"], "gate": "softmax"},
        (*_NSA, _CONV),
        # 40 tokens: 4 see 1, 2, ..., 8 compressed blocks and the last 9; 32 read all and the others 24 and 1, 2, ..., 8.
        {40: _NSA_LINEAR + 2 * 3 * 96 + 4 * 24 * ((4 * 36 + 9) + (528 + 8 * 24 + 36) + (78 + 28 * 12)) // 40},
    ),
    Case(
        "nsa",
        "score_weighted_every_size_the_same",
        {
            **{"n_heads": 4, "n_kv_heads": 1, "compress_block": 4, "compress_stride": 4, "select_block": 4, "n_selected": 30},
            **{"n_first": 0, "n_local": 1, "window_size": 7, "phi": "mean", "rope": [], "teaching": {"kind": "score_weighted"}},
        },
        (*_NSA[:-1], "ripstop.ops.selected_attention.weighted_step"),
        {3: 2 * (24 * 10 * 6 + 24 * 24 + 24 * 32 + 32 * 12) + 4 * 24 * 2 * 2},  # 2 pairs a token in each of two branches
    ),
    Case(
        "mla",
        "values_narrower",
        {"n_heads": 2, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5},
        _LATENT,
        # 2 heads: queries of 6 + 4, one latent of 10 and one rotary key of 4, keys of 6 and values of 5 from it; n tokens see
        # n (n + 1) / 2 pairs, each 10 products for its score and 5 for its value.
        {n: 2 * (24 * 20 + 24 * 14 + 10 * 22 + 10 * 24) + 2 * 2 * 15 * (n + 1) // 2 for n in (1, 7, 99)},
    ),
    Case(
        "mla",
        "query_latent_yarn",
        {
            **{
                "n_heads": 3,
                "kv_lora_rank": 7,
                "q_lora_rank": 5,
                "qk_nope_head_dim": 3,
                "qk_rope_head_dim": 8,
                "v_head_dim": 16,
            },
            "rope_scaling": {"kind": "yarn", "factor": 4, "original_max_position_embeddings": 20, "beta_fast": 2},
        },
        _LATENT,
        {7: 2 * (24 * 5 + 5 * 33 + 24 * 15 + 7 * 3 * 19 + 48 * 24) + 2 * 3 * 27 * 4},
    ),
    Case(
        "gated_delta",
        "values_wider",
        {"n_heads": 3, "head_k_dim": 5, "head_v_dim": 6, "chunk_size": CHUNK},
        _DELTA,
        # 15 channels of queries and of keys, 18 of values: 48 go through the convolution, and 18 gate the output; what a key
        # finds, what is written and what a query finds are 18 * 5 products each.
        {n: 2 * (24 * (48 + 3 + 3 + 18) + 18 * 24 + 4 * 48 + 3 * 18 * 5) for n in (1, 100)},
    ),
    Case(
        "gated_delta",
        "one_head_negative_large_decay",
        {
            **{"n_heads": 1, "head_k_dim": 20, "head_v_dim": 3, "d_conv": 2, "negative_eigenvalues": True},
            **{"A_init_range": [2, 3], "dt_init_range": [1, 5]},
        },
        _DELTA,
        {7: 2 * (24 * (43 + 1 + 1 + 3) + 3 * 24 + 2 * 43 + 3 * 3 * 20)},
    ),
    Case(
        "kda",
        "a_decay_a_channel",
        {"n_heads": 2, "head_k_dim": 5, "head_v_dim": 4, "chunk_size": 40, "negative_eigenvalues": True},
        _DELTA,
        # 28 channels through the convolution; decays of 10 channels and gates of 8 through a bottleneck of 4 each.
        {n: 2 * (24 * (28 + 2 + 4 + 4) + 4 * (10 + 8) + 8 * 24 + 4 * 28 + 3 * 8 * 5) for n in (1, 7, 99)},
    ),
    Case(
        "mamba3",
        "half_complex_groups",
        {"head_dim": 8, "d_state": 9, "n_groups": 2, "chunk_size": CHUNK},
        _TRAPEZOIDAL,
        # Inner width 48, 6 heads, 2 groups of 9 for B and C each, 2 angles; two terms into the state and one read of it.
        {n: 2 * (24 * (48 + 48 + 18 + 18 + 3 * 6 + 2) + 48 * 24 + 3 * 48 * 9) for n in (1, 100)},
    ),
    Case(
        "mamba3",
        "all_complex_one_head_large_steps",
        {"head_dim": 24, "d_state": 6, "expand": 1, "rope_fraction": 1.0, "dt_init_range": [1, 5]},
        _TRAPEZOIDAL,
        {7: 2 * (24 * (24 + 24 + 6 + 6 + 3 + 3) + 24 * 24 + 3 * 24 * 6)},
    ),
    Case(
        "mamba3",
        "real",
        {"head_dim": 16, "d_state": 5, "expand": 2, "rope_fraction": 0.0, "chunk_size": 7},
        _TRAPEZOIDAL,
        {7: 2 * (24 * (48 + 48 + 5 + 5 + 3 * 3) + 48 * 24 + 3 * 48 * 5)},
    ),
    Case(
        "bidirectional",
        "mamba2",
        {"mixer": _MAMBA2_NESTED},
        (_SSD, _CONV),
        {9: 2 * _MAMBA2_FLOPS},
        reference={"mixer": {**_MAMBA2_NESTED, "backend": "reference"}},
        reach=everything,
    ),
    Case(
        "bidirectional",
        "window",
        {"mixer": _WINDOW_NESTED},
        _WINDOW,
        {8: 2 * _WINDOW_FLOPS},
        reference={"mixer": {**_WINDOW_NESTED, "backend": "reference"}},
        reach=both_ways(window(5, 2)),
    ),
]


def check_prefill_and_step(case: Case) -> None:
    """1. forward = prefill = step after step, in values; gradients of forward = gradients through prefill."""
    mixer = case.build()
    for n_time in LENGTHS:
        x_BTD = _input(2, n_time)
        with torch.no_grad():
            y_BTD = mixer(x_BTD)
            _equal(_prefill_then_step(mixer, x_BTD, [n_time]), y_BTD, f"prefill of {n_time}")
            _equal(_prefill_then_step(mixer, x_BTD, []), y_BTD, f"{n_time} steps")
    x_BTD, dy_BTD = _input(2, 13).requires_grad_(), _input(2, 13, seed=1)
    wanted = torch.autograd.grad(mixer(x_BTD), [x_BTD, *mixer.parameters()], dy_BTD)
    for cuts in ([13], [4, 9], [6]):
        got = torch.autograd.grad(_prefill_then_step(mixer, x_BTD, cuts), [x_BTD, *mixer.parameters()], dy_BTD)
        _equal_all(got, wanted, f"gradients through prefill of {cuts}")


def check_prefill_anywhere(case: Case) -> None:
    """2. Prefill to any t, in one chunk or more, then step: the same."""
    mixer, n_time = case.build(), 41
    x_BTD = _input(2, n_time)
    with torch.no_grad():
        y_BTD = mixer(x_BTD)
        for cuts in ([0], [1], [CHUNK - 1], [CHUNK], [CHUNK + 1], [n_time], [1, 1, 2, CHUNK], [CHUNK, CHUNK + 1], [3, 0, 30]):
            _equal(_prefill_then_step(mixer, x_BTD, cuts), y_BTD, f"prefill of {cuts}, then step")


def check_reach(case: Case) -> None:
    """3. By gradient: later positions reach nothing, exactly; each position is reached by all it should see and no other."""
    mixer, n_time = case.build(), 37
    x_BTD = _input(1, n_time).requires_grad_()
    y_BTD = mixer(x_BTD)
    for t in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, n_time - 1):
        (dx_BTD,) = torch.autograd.grad(y_BTD[0, t], x_BTD, _input(1, 1)[0, 0], retain_graph=True)
        reached = set(dx_BTD[0].abs().amax(-1).nonzero().flatten().tolist())
        wanted = case.reach(t, n_time)
        assert reached == wanted, f"the output at {t} depends on {sorted(reached)}, and should on {sorted(wanted)}"


def check_documents(case: Case) -> None:
    """4. NaN in padding and in other rows reaches nothing; packed documents = the same documents alone, gradients too."""
    mixer = case.build()
    lengths, n_time = [[23, 1, 19], [3], [9, 55]], 67
    segments_BT = torch.zeros(4, n_time, dtype=torch.long)
    segments_BT[0, :43] = torch.tensor([1] * 23 + [2] * 1 + [3] * 19)
    segments_BT[1, 5:8] = 1  # padding before, too
    segments_BT[2, :64] = torch.tensor([2] * 9 + [7] * 55)
    x_BTD, dy_BTD = _input(4, n_time), _input(4, n_time, seed=1)
    x_BTD[segments_BT == 0] = float("nan")  # the last row is nothing else
    x_BTD.requires_grad_()
    y_BTD = mixer(x_BTD, Segments.of(segments_BT))
    assert (y_BTD[segments_BT == 0] == 0).all(), "the output is not 0 where there is padding"
    got = torch.autograd.grad(y_BTD, [x_BTD, *mixer.parameters()], dy_BTD, retain_graph=True)
    assert (got[0][segments_BT == 0] == 0).all(), "padding receives a gradient"

    wanted_dx, wanted_dparameters = [], None
    for row, of_row in enumerate(lengths):
        places = segments_BT[row].nonzero().flatten().split(of_row)
        for place in places:
            document = x_BTD[row : row + 1, place].detach().requires_grad_()
            y = mixer(document)
            _same_as_alone(y_BTD, y[0], row, place, segments_BT, x_BTD)
            gradients = torch.autograd.grad(y, [document, *mixer.parameters()], dy_BTD[row : row + 1, place])
            wanted_dx.append(((row, place), gradients[0][0]))
            if wanted_dparameters is None:
                wanted_dparameters = gradients[1:]
            else:
                wanted_dparameters = [a + b for a, b in zip(wanted_dparameters, gradients[1:], strict=True)]
    for (row, place), wanted in wanted_dx:
        _equal(got[0][row, place], wanted, f"gradient of {_document(row, place, segments_BT)} differs from the same alone")
    _equal_all(got[1:], wanted_dparameters, "gradients of parameters from packed documents")

    x_BTD = _input(3, 19)
    x_BTD[1] = float("nan")
    y_BTD = mixer(x_BTD)
    _equal(y_BTD[[0, 2]], mixer(x_BTD[[0, 2]]), "a row of NaN moves other rows")


def check_counts(case: Case) -> None:
    """5. `num_params` equals what the built module holds, `flops_per_token` what was worked out by hand."""
    config = case.config()
    mixer = config.build(D_MODEL)
    held = sum(p.numel() for p in mixer.parameters())
    assert config.num_params(D_MODEL) == held, f"num_params says {config.num_params(D_MODEL)}, the module holds {held}"
    for seq_len, wanted in case.flops.items():
        said = config.flops_per_token(D_MODEL, seq_len)
        assert said == wanted, f"flops_per_token says {said} at length {seq_len}; by hand it is {wanted}"
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            mixer(torch.randn(1, seq_len, D_MODEL))
        linear = 2 * sum(m.weight.numel() for m in mixer.modules() if isinstance(m, nn.Linear))
        counted = counter.get_total_flops() // seq_len
        assert linear <= said, f"flops_per_token says {said}, the linear maps alone take {linear}"
        assert linear <= counted, f"{counted} FLOPs a token are counted, fewer than the {linear} of the linear maps"
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert config.is_causal or config.state_bytes(D_MODEL, 100, dtype) == 0


def check_state_bytes(case: Case) -> None:
    """`state_bytes` is what the tokens so far fill of a real state, at every length; what it holds is the room asked for."""
    config, n_batch, room = case.config(), 2, 70
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        mixer = config.build(D_MODEL).to(dtype)
        with torch.no_grad():
            state, read = mixer.init_state(n_batch, room), 0
            for seq_len in (0, 1, 5, CHUNK, CHUNK + 1, 40, room):
                if seq_len:
                    _, state = mixer.prefill(_input(n_batch, seq_len - read).to(dtype), state)
                said = n_batch * config.state_bytes(D_MODEL, seq_len, dtype)
                filled, held, read = filled_bytes(state), held_bytes(state), seq_len
                assert filled == said, f"state_bytes says {said} after {seq_len} tokens, they fill {filled}"
                allocated = n_batch * config.state_bytes(D_MODEL, room, dtype)
                assert held == allocated, f"a state with room for {room} holds {held}, not {allocated}, after {seq_len} tokens"


def check_residual_outputs(case: Case) -> None:
    """The output is a sum of products, one with each of the weights that `residual_outputs` names."""
    mixer, x_BTD = case.build(), _input(2, 11)
    outputs = mixer.residual_outputs()
    parameters = {id(p) for p in mixer.parameters()}
    assert outputs and all(id(w) in parameters for w in outputs), "residual_outputs() names what is no parameter of the mixer"
    assert len({id(w) for w in outputs}) == len(outputs), "residual_outputs() names a weight twice"
    with torch.no_grad():
        whole, weights = mixer(x_BTD), [w.clone() for w in outputs]
        terms = torch.zeros_like(whole)
        for alone in outputs:
            for w, value in zip(outputs, weights, strict=True):
                w.copy_(value if w is alone else torch.zeros_like(value))
            term = mixer(x_BTD)
            assert term.any(), "residual_outputs() names a weight without which nothing is missing"
            terms += term
            alone.mul_(2)
            _equal(mixer(x_BTD), 2 * term, "twice a weight of residual_outputs()")
            alone.zero_()
            assert not mixer(x_BTD).any(), "the output is not 0 where all weights of residual_outputs() are: one is not named"
        _equal(terms, whole, "sum of the terms that residual_outputs() names")


def check_reference(case: Case) -> None:
    """6. The fast form = the slow reference, in values and gradients; its gradients = finite differences."""
    fast, slow = case.build(), case.build(case.reference_config())
    slow.load_state_dict(fast.state_dict())
    for n_time in LENGTHS:
        segments_BT = torch.ones(2, n_time, dtype=torch.long)
        segments_BT[1, n_time // 3 :] = 2
        for segments in (None, Segments.of(segments_BT)):
            x_BTD, dy_BTD = _input(2, n_time).requires_grad_(), _input(2, n_time, seed=1)
            y_fast, y_slow = fast(x_BTD, segments), slow(x_BTD, segments)
            _equal(y_fast, y_slow, f"fast form at {n_time}")
            got = torch.autograd.grad(y_fast, [x_BTD, *fast.parameters()], dy_BTD)
            _equal_all(got, torch.autograd.grad(y_slow, [x_BTD, *slow.parameters()], dy_BTD), f"gradients at {n_time}")
    x_BTD = _input(2, 5).requires_grad_()
    parameters = dict(fast.named_parameters())

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(fast, dict(zip(parameters, values, strict=True)), (x,))

    try:
        torch.autograd.gradcheck(call, (x_BTD, *parameters.values()), fast_mode=True)
    except torch.autograd.gradcheck.GradcheckError as error:
        raise AssertionError(str(error)) from error


def check_backend(case: Case) -> None:
    """The fast form runs what the case says is fast; `backend: reference` runs nothing of it, and other operations."""

    def operations(config: MixerConfig, **watch: bool) -> tuple[dict[str, int], list[str]]:
        mixer, segments = case.build(config), Segments.of(torch.tensor([[1] * 6 + [2] * 5]))
        with _watched(case.fast, **watch) as calls, torch.no_grad(), _Recorded() as recorded:
            mixer(_input(1, 11))
            mixer(_input(1, 11), segments)
            if config.is_causal:
                _prefill_then_step(mixer, _input(1, 11), [4, 5])
        return calls, recorded.names

    calls, fast = operations(case.config(), allowed=True)
    unused = sorted(name for name, n_calls in calls.items() if n_calls == 0)
    assert not unused, f"the case names {unused} as fast, and the fast form does not run it"
    _, slow = operations(case.reference_config(), allowed=False)
    assert fast != slow, "backend: reference runs the very operations of the fast form"


def check_float32(case: Case) -> None:
    """Large inputs, one huge token, strong decay: values and gradients in float32 are finite, and near those in float64."""
    exact = case.build()
    single = case.build().float()
    n_time = 70
    dy_BTD = _input(2, n_time, seed=1)
    one_huge_BTD = _input(2, n_time)
    one_huge_BTD[:, 40] *= 100
    for what, x_BTD in (("inputs of 30", 30 * _input(2, n_time)), ("one token of 100", one_huge_BTD), ("zeros", 0 * dy_BTD)):
        results = []
        for mixer, dtype in ((single, torch.float32), (exact, torch.float64)):
            x = x_BTD.to(dtype).requires_grad_()
            y = mixer(x)
            gradients = torch.autograd.grad(y, [x, *mixer.parameters()], dy_BTD.to(dtype))
            results.append([y, *gradients])
        names = ["the output", "the gradient of x", *(f"the gradient of {name}" for name, _ in exact.named_parameters())]
        for name, got, wanted in zip(names, *results, strict=True):
            assert got.isfinite().all(), f"{what}: {name} in float32 has NaN or infinity"
            error = (got.double() - wanted).norm().item()
            assert error <= 3e-3 * wanted.norm().item() + 1e-6, f"{what}: {name} in float32 is off by {error:.3g}"


def check_checkpointing(case: Case) -> None:
    """Recomputed in the backward pass, alone and in the wrapper that trainings use: the same values and gradients."""
    mixer, n_time = case.build(), 21
    segments = Segments.of(torch.tensor([[1] * 9 + [2] * 12, [1] * 17 + [0] * 4]))
    x_BTD, dy_BTD = _input(2, n_time).requires_grad_(), _input(2, n_time, seed=1)
    wrapped = checkpoint_wrapper(mixer)
    for documents in (None, segments):
        y_BTD = mixer(x_BTD, documents)
        wanted = torch.autograd.grad(y_BTD, [x_BTD, *mixer.parameters()], dy_BTD)
        for y in (checkpoint(mixer, x_BTD, documents, use_reentrant=False), wrapped(x_BTD, documents)):
            _equal(y, y_BTD, "with activation checkpointing")
            got = torch.autograd.grad(y, [x_BTD, *mixer.parameters()], dy_BTD)
            _equal_all(got, wanted, "gradients with activation checkpointing")


def check_compiled(case: Case) -> None:
    """`torch.compile` makes one graph, compiles twice at most for all lengths (once where it is told that they vary), and gives
    the same values and gradients."""
    for with_segments, lengths, dynamic in ((False, (5, 70, 33), True), (True, (5, 9, 33, 64, 100, 2), None)):
        torch._dynamo.reset()
        mixer, counter = case.build(), CompileCounter()
        compiled = torch.compile(mixer, backend=counter, fullgraph=True, dynamic=dynamic)
        for n_time in lengths:
            numbers_BT = torch.ones(2, n_time, dtype=torch.long)
            numbers_BT[0, n_time // 2 :] = 2
            numbers_BT[1, n_time - 1 :] = 0
            segments = Segments.of(numbers_BT) if with_segments else None
            x_BTD, dy_BTD = _input(2, n_time).requires_grad_(), _input(2, n_time, seed=1)
            y_BTD, wanted = compiled(x_BTD, segments), mixer(x_BTD, segments)
            _equal(y_BTD, wanted, f"compiled, at {n_time}")
            inputs = [x_BTD, *mixer.parameters()]
            _equal_all(
                torch.autograd.grad(y_BTD, inputs, dy_BTD),
                torch.autograd.grad(wanted, inputs, dy_BTD),
                f"gradients compiled, at {n_time}",
            )
        n_graphs, allowed = counter.frame_count, 1 if dynamic else 2
        assert n_graphs <= allowed, f"{n_graphs} graphs for {len(lengths)} lengths: something depends on the length"
    torch._dynamo.reset()


def check_autocast(case: Case) -> None:
    """Float32 weights under bfloat16 autocast: hardly worse than the slow reference so; forward, gradients, prefill, step."""
    fast, slow, exact = case.build().float(), case.build(case.reference_config()).float(), case.build()
    n_time = 50
    segments = Segments.of(torch.tensor([[1] * 20 + [2] * 30, [1] * 45 + [0] * 5]))
    x_BTD, dy_BTD = _input(2, n_time).float(), _input(2, n_time, seed=1).float()
    names = ["output", "gradient of x", *(f"gradient of {name}" for name, _ in exact.named_parameters())]

    @contextlib.contextmanager
    def precision(mixer: Mixer) -> Iterator[torch.dtype]:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixer is not exact):
            yield torch.float64 if mixer is exact else torch.float32

    for documents in (None, segments):
        results = []
        for mixer in (fast, slow, exact):
            with precision(mixer) as dtype:
                x = x_BTD.to(dtype).requires_grad_()
                y = mixer(x, documents)
            results.append([y, *torch.autograd.grad(y, [x, *mixer.parameters()], dy_BTD.to(y.dtype))])
        for what, *three in zip(names, *results, strict=True):
            _no_worse(*three, f"{what} under autocast", factor=3)
    if case.config().is_causal:
        results = []
        for mixer in (fast, slow, exact):
            with torch.no_grad(), precision(mixer) as dtype:
                results.append(_prefill_then_step(mixer, x_BTD.to(dtype), [CHUNK + 1, 3]))
        _no_worse(*results, "prefill and step under autocast", factor=3)


def check_beams(case: Case) -> None:
    """7. Reordering a state = reordering the batch."""
    mixer, n_time = case.build(), 21
    x_BTD, index_B = _input(3, n_time + 3), torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        _, state = mixer.prefill(x_BTD[:, :n_time], mixer.init_state(3, n_time + 3))
        state = reorder_state(state, index_B)
        wanted = mixer(x_BTD)[index_B]
        for t in range(n_time, n_time + 3):
            y_BD, state = mixer.step(x_BTD[index_B, t], state)
            _equal(y_BD, wanted[:, t], "a reordered state")


def check_no_state(case: Case) -> None:
    """In place of 1, 2 and 7 for mixers that see both ways: they say that they cannot decode."""
    mixer = case.build()
    with pytest.raises(ConfigError, match="no state"):
        mixer.init_state(1, 8)


def check_bfloat16(case: Case, device: str) -> None:
    """1, 2 and 4 again in bfloat16 with whatever `auto` runs on `device`: hardly worse than the slow reference in bfloat16."""
    fast = case.build().to(device, torch.bfloat16)
    exact, slow = case.build(case.reference_config()), case.build(case.reference_config()).bfloat16()
    weights = {name: value.cpu() for name, value in fast.state_dict().items()}
    exact.load_state_dict(weights)
    slow.load_state_dict(weights)
    n_time = 100
    segments_BT = torch.ones(2, n_time, dtype=torch.long)
    segments_BT[1, n_time // 3 :] = 2
    x_BTD, dy_BTD = _input(2, n_time).bfloat16(), _input(2, n_time, seed=1).bfloat16()
    for segments in (None, segments_BT):
        results = []
        for mixer, x in ((fast, x_BTD.to(device)), (slow, x_BTD), (exact, x_BTD.double())):
            x.requires_grad_()
            y = mixer(x, None if segments is None else Segments.of(segments.to(x.device)))
            results.append((y, *torch.autograd.grad(y, x, dy_BTD.to(x))))
        for what, *three in zip(("output", "gradient"), *results, strict=True):
            _no_worse(*three, f"{what} in bfloat16")
    if case.config().is_causal:
        with torch.no_grad():
            results = [
                _prefill_then_step(m, x_BTD[:, :50].to(next(m.parameters())), [CHUNK + 1, 3]) for m in (fast, slow, exact)
            ]
            _no_worse(*results, "prefill and step in bfloat16")


CAUSAL_CHECKS = [check_prefill_and_step, check_prefill_anywhere, check_beams, check_state_bytes]
CHECKS = [
    check_reach,
    check_documents,
    check_counts,
    check_residual_outputs,
    check_reference,
    check_backend,
    check_float32,
    check_checkpointing,
    check_compiled,
    check_autocast,
]


def _input(n_batch: int, n_time: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_batch, n_time, D_MODEL, dtype=torch.float64, generator=generator)


def _prefill_then_step(mixer: Mixer, x_BTD: Tensor, cuts: list[int]) -> Tensor:
    """Outputs of prefill by chunks of these lengths, and of one step for every token after them."""
    n_batch, n_time = x_BTD.shape[:2]
    state, outputs, read = mixer.init_state(n_batch, n_time), [], 0
    for length in cuts:
        y_BTD, state = mixer.prefill(x_BTD[:, read : read + length], state)
        outputs.append(y_BTD)
        read += length
    for t in range(read, n_time):
        y_BD, state = mixer.step(x_BTD[:, t], state)
        outputs.append(y_BD.unsqueeze(1))
    return torch.cat(outputs, 1)


def _equal(got: Tensor, wanted: Tensor, what: str) -> None:
    torch.testing.assert_close(got, wanted, rtol=TOLERANCE, atol=TOLERANCE, msg=lambda text: f"{what}: {text}")


def _equal_all(got: Any, wanted: Any, what: str) -> None:
    for one, other in zip(got, wanted, strict=True):
        _equal(one, other, what)


def _no_worse(fast: Tensor, slow: Tensor, exact: Tensor, what: str, factor: float = 2) -> None:
    """Relative error, in norm, of the fast form: at most so many times the slow form's, and 1 %."""
    error, usual = (((y.detach().double().cpu() - exact).norm() / exact.norm()).item() for y in (fast, slow))
    assert error < factor * usual + 0.01, f"{what}: relative error {error:.3g}, of the slow reference {usual:.3g}"


def _document(row: int, place: Tensor, segments_BT: Tensor) -> str:
    return f"row {row}, document {int(segments_BT[row, place[0]])} (positions {int(place[0])} to {int(place[-1])})"


def _same_as_alone(y_BTD: Tensor, alone: Tensor, row: int, place: Tensor, segments_BT: Tensor, x_BTD: Tensor) -> None:
    """A packed document's output, (n, D), equals that of the same alone; else which positions of what documents leak in."""
    apart = ((y_BTD[row, place] - alone).abs().amax(-1) > TOLERANCE * (1 + alone.abs().amax(-1))).nonzero().flatten()
    if not len(apart):
        return
    wrong = place[apart]
    (dx_BTD,) = torch.autograd.grad(y_BTD[row, wrong[0]].sum(), x_BTD, retain_graph=True)
    moving = [(r, t) for r, t in dx_BTD.abs().amax(-1).nonzero().tolist() if r != row or t not in place.tolist()]
    leaks = [f"row {r}, position {t} (document {int(segments_BT[r, t])})" for r, t in moving[:4]]
    raise AssertionError(
        f"{_document(row, place, segments_BT)} differs from the same alone at {wrong.tolist()[:8]}; the output at "
        f"{int(wrong[0])} is moved by {'; '.join(leaks) if leaks else 'no input outside the document'}"
    )


@contextlib.contextmanager
def _watched(names: tuple[str, ...], allowed: bool) -> Iterator[dict[str, int]]:
    """Counts the calls of functions given by their full names, or raises AssertionError where they are not allowed."""
    calls = dict.fromkeys(names, 0)
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            module, _, function = name.rpartition(".")
            true = getattr(importlib.import_module(module), function)

            def watched(*arguments: Any, name: str = name, true: Any = true, **settings: Any) -> Any:
                assert allowed, f"backend: reference runs the fast form {name}"
                calls[name] += 1
                return true(*arguments, **settings)

            patch.setattr(f"{module}.{function}", watched)
        yield calls


class _Recorded(TorchDispatchMode):
    """Names of the operations that run, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))
