"""What adapters hand to the packages' kernels, through stand-ins that refuse what the kernels refuse and compute slowly."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from contract import CASES, Case, _input, check_bfloat16
from kernels import standins
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.kernels import attention, convolution, cross_attention, delta_rule, state_space, trapezoidal, window_attention
from ripstop.layers.block import Block
from ripstop.layers.cross_attention import CrossAttentionConfig, remember
from ripstop.mixers import MIXERS
from ripstop.ops.segments import Segments
from ripstop.ops.softmax_attention import attention_reference, visible
from ripstop.ops.trapezoidal import Projected

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")
NUMBERS = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0, 0], [0, 1, 1, 1, 1, 1, 3, 3, 3]])
SEGMENTS = Segments.of(NUMBERS)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> standins.Calls:
    return standins.install(monkeypatch)


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _near(got: Tensor, wanted: Tensor) -> None:
    assert (got.double() - wanted.double()).norm() < 2e-2 * wanted.double().norm()


def _qkv(n_queries: int, n_keys: int) -> list[Tensor]:
    return [_random(2, n, heads, 8, seed=n + heads) for n, heads in ((n_queries, 4), (n_keys, 2), (n_keys, 2))]


@pytest.mark.parametrize(("n_queries", "n_keys"), [(9, 9), (1, 9), (4, 9)])
@pytest.mark.parametrize("causal", [True, False])
def test_attention(calls: standins.Calls, n_queries: int, n_keys: int, causal: bool) -> None:
    qkv = _qkv(n_queries, n_keys)
    got = attention.attention("auto", *qkv, causal)
    _near(got, attention_reference(*(t.double() for t in qkv), visible(n_queries, n_keys, causal)))
    ((name, given),) = calls
    assert (name, given["causal"], given["window_size"]) == ("flash_attn_func", causal, (-1, -1))


@pytest.mark.parametrize("causal", [True, False])
def test_packed_attention_gives_every_run_as_a_sequence(calls: standins.Calls, causal: bool) -> None:
    qkv = _qkv(9, 9)
    got = attention.attention("auto", *qkv, causal, SEGMENTS)
    _near(got, attention_reference(*(t.double() for t in qkv), visible(9, 9, causal, SEGMENTS)))
    ((name, given),) = calls
    assert name == "flash_attn_varlen_func" and given["cu_seqlens_q"] is given["cu_seqlens_k"] is SEGMENTS.offsets
    assert given["cu_seqlens_q"].tolist() == [0, 3, 7, 9, 10, 15, 18]


@pytest.mark.parametrize("window_size", [1, 3, 20])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_a_window_counts_the_query_itself(calls: standins.Calls, window_size: int, segments: Segments | None) -> None:
    qkv = _qkv(9, 9)
    got = window_attention.window_attention("auto", *qkv, window_size, 0, segments)
    _near(got, attention_reference(*(t.double() for t in qkv), visible(9, 9, True, segments, window_size)))
    ((_, given),) = calls
    assert given["window_size"] == (window_size - 1, 0)


def test_sinks_and_odd_heads_are_no_work_for_flash(calls: standins.Calls) -> None:
    window_attention.window_attention("auto", *_qkv(9, 9), 3, 1)
    attention.attention("auto", *(t[..., :6] for t in _qkv(9, 9)), True)
    attention.attention("auto", *_qkv(9, 9)[:2], _random(2, 9, 2, 16), True)
    attention.attention("auto", *(t.float() for t in _qkv(9, 9)), True)
    assert calls == []


def test_a_scale_is_handed_on(calls: standins.Calls) -> None:
    from ripstop.kernels.adapters import flash_attn

    qkv = _qkv(9, 9)
    for segments in (None, SEGMENTS):
        wanted = attention_reference(*(t.double() for t in qkv), visible(9, 9, True, segments), scale=0.7)
        _near(flash_attn.attention(*qkv, segments=segments, scale=0.7), wanted)


def test_keys_in_the_weights_precision_are_cast_for_autocast(calls: standins.Calls) -> None:
    q, k, v = _qkv(1, 9)
    _near(attention.attention("auto", q, k.float(), v.float(), False), attention.attention("torch", q, k, v, False))
    assert len(calls) == 1


SOURCE = Segments.of(torch.tensor([[1, 1, 2, 2, 2, 0, 0], [1, 3, 3, 0, 2, 2, 2]]))


@pytest.mark.parametrize("source", [None, SOURCE])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_cross_attention(calls: standins.Calls, source: Segments | None, segments: Segments | None) -> None:
    memory = remember(_random(2, 7, 16, dtype=torch.float64), source, segments)
    torch.manual_seed(0)
    layer = CrossAttentionConfig(n_heads=2, n_kv_heads=1).build(16)
    exact = CrossAttentionConfig(n_heads=2, n_kv_heads=1, backend="reference").build(16).double()
    exact.load_state_dict(layer.bfloat16().state_dict())
    x_BTD = _random(2, 9, 16, seed=1)
    half = memory._replace(x_BSD=memory.x_BSD.bfloat16())
    given = x_BTD.clone().requires_grad_()
    y_BTD = layer(given, layer.init_state(half), memory.seen, memory.laid)
    wanted = x_BTD.double().requires_grad_()
    exact_BTD = exact(wanted, exact.init_state(memory._replace(x_BSD=half.x_BSD.double())), memory.seen)
    _near(y_BTD, exact_BTD)
    for y in (y_BTD, exact_BTD):
        y.sum().backward()
    assert given.grad is not None and wanted.grad is not None
    _near(given.grad, wanted.grad)
    assert [name for name, _ in calls] == ["flash_attn_func" if source is None else "flash_attn_varlen_func"]


@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_a_block_reads_a_padded_source_by_flash(calls: standins.Calls, segments: Segments | None) -> None:
    mixer = MIXERS.parse({"kind": "mamba2", "head_dim": 8, "d_state": 4}).build(16)
    block = Block(16, mixer, CrossAttentionConfig(n_heads=2).build(16)).bfloat16()
    block(_random(2, 9, 16), segments, remember(_random(2, 7, 16, seed=1), SOURCE, segments))
    assert [name for name, _ in calls if "flash" in name] == ["flash_attn_varlen_func"]


def test_cross_attention_with_a_mask_alone_is_no_work_for_flash(calls: standins.Calls) -> None:
    seen = (SOURCE.numbers_BT != 0)[:, None, None]
    cross_attention.cross_attention("auto", *_qkv(1, 7), seen)
    assert calls == []


@pytest.mark.parametrize("offset", [0, 4, 8])
@pytest.mark.parametrize("given", ["nothing", "past", "segments"])
@pytest.mark.parametrize("silu", [True, False])
def test_convolution(calls: standins.Calls, offset: int, given: str, silu: bool) -> None:
    x_BTC = _random(2, 9, 40)[..., offset : offset + 16]  # a slice of a wider projection, in the middle of its rows
    weight_CW, bias_C = _random(16, 4, seed=1).float(), _random(16, seed=2).float()
    past_BWC = _random(2, 3, 16, seed=3, dtype=torch.float32) if given == "past" else None
    inputs = (x_BTC, weight_CW, bias_C, past_BWC, SEGMENTS if given == "segments" else None, silu)
    _near(convolution.causal_conv("auto", *inputs), convolution.causal_conv("reference", x_BTC.double(), *inputs[1:]))
    ((_, handed),) = calls
    assert handed["activation"] == ("silu" if silu else None)
    if given == "segments":
        assert handed["seq_idx"] is SEGMENTS.run_BT


def test_convolution_leaves_alone_what_the_kernel_cannot(calls: standins.Calls) -> None:
    weight_CW, bias_C = _random(16, 4), _random(16)
    past_BWC = _random(2, 3, 16)
    convolution.causal_conv("auto", _random(2, 9, 16), weight_CW, bias_C, past_BWC, SEGMENTS, True)
    convolution.causal_conv("auto", _random(2, 9, 12), weight_CW[:12], bias_C[:12], None, None, True)
    convolution.causal_conv("auto", _random(2, 9, 16), _random(16, 5), bias_C, None, None, True)
    assert calls == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_convolution_step(calls: standins.Calls, dtype: torch.dtype) -> None:
    """dtype: of the state, which is that of the weights and not of autocast."""
    x_BC, weight_CW, bias_C, past_BWC = _random(2, 16), _random(16, 4, seed=1), _random(16, seed=2), _random(2, 3, 16, seed=3)
    exact = [t.double() for t in (x_BC, weight_CW, bias_C, past_BWC)]
    with torch.no_grad():
        y_BC, past = convolution.causal_conv_step("auto", x_BC, weight_CW, bias_C, past_BWC.to(dtype), True)
        wanted_BC, wanted = convolution.causal_conv_step("torch", *exact, True)
    _near(y_BC, wanted_BC)
    _near(past, wanted)
    assert [name for name, _ in calls] == ["causal_conv1d_update"]


def test_steps_that_want_gradients_overwrite_nothing(calls: standins.Calls) -> None:
    past_BWC, x_BC = _random(2, 3, 16), _random(2, 16)
    before = past_BWC.clone()
    convolution.causal_conv_step("auto", x_BC, _random(16, 4), _random(16), past_BWC, True)
    state_BHPN = _random(2, 4, 8, 5, dtype=torch.float32)
    held = state_BHPN.clone()
    state_space.ssd_step("auto", *_step_inputs(), state_BHPN)
    assert calls == [] and torch.equal(past_BWC, before) and torch.equal(state_BHPN, held)


def _scan_inputs(dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
    x = _random(2, 9, 4, 8, dtype=dtype)
    B, C = (_random(2, 9, 2, 5, seed=seed, dtype=dtype) for seed in (1, 2))
    dt, A, D = _random(2, 9, 4, seed=3).abs(), -_random(4, seed=4).abs(), _random(4, seed=5)
    return x, dt, A, B, C, D


def _step_inputs() -> tuple[Tensor, ...]:
    x, dt, A, B, C, D = _scan_inputs()
    return x[:, 0], dt[:, 0].float(), A, B[:, 0], C[:, 0], D


@pytest.mark.parametrize(("chunk_size", "handed"), [(1, 16), (16, 16), (17, 32), (64, 64), (100, 128)])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_scan(calls: standins.Calls, chunk_size: int, handed: int, segments: Segments | None) -> None:
    inputs = _scan_inputs()
    exact = [t.double() for t in inputs]
    got = state_space.ssd("auto", *inputs, segments, chunk_size)
    _near(got, state_space.ssd("reference", *exact, segments, chunk_size))
    ((_, given),) = calls
    assert given["chunk_size"] == handed and given["return_final_states"] is False
    assert segments is None or given["seq_idx"] is SEGMENTS.run_BT


def test_scan_after_a_past(calls: standins.Calls) -> None:
    inputs, state_BHPN = _scan_inputs(), _random(2, 4, 8, 5, seed=6, dtype=torch.float32)
    exact = [t.double() for t in (*inputs, state_BHPN)]
    for got, wanted in zip(
        state_space.ssd_after("auto", *inputs, state_BHPN, 64),
        state_space.ssd_after("reference", *exact, 64),
        strict=True,
    ):
        _near(got, wanted)
    assert len(calls) == 1


def test_scan_step_writes_its_state(calls: standins.Calls) -> None:
    inputs, state_BHPN = _step_inputs(), _random(2, 4, 8, 5, seed=6, dtype=torch.float32)
    exact = [t.double() for t in (*inputs, state_BHPN)]
    with torch.no_grad():
        y_BHP, after_BHPN = state_space.ssd_step("auto", *inputs, state_BHPN)
        wanted_BHP, wanted_BHPN = state_space.ssd_step("torch", *exact)
    _near(y_BHP, wanted_BHP)
    _near(after_BHPN, wanted_BHPN)
    assert after_BHPN is state_BHPN and [name for name, _ in calls] == ["selective_state_update"]


def _delta_inputs(n_decays: int) -> tuple[Tensor, ...]:
    q, k = (_random(2, 9, 4, 6, seed=seed) / 3 for seed in (1, 2))
    g = -_random(2, 9, 4, n_decays, seed=3, dtype=torch.float32).abs()
    return q, k, _random(2, 9, 4, 8, seed=4), g, _random(2, 9, 4, seed=5, dtype=torch.float32).sigmoid()


@pytest.mark.parametrize("n_decays", [1, 6])
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_delta_rule(calls: standins.Calls, n_decays: int, segments: Segments | None) -> None:
    inputs = _delta_inputs(n_decays)
    got = delta_rule.delta("auto", *inputs, segments, 64)
    _near(got, delta_rule.delta("reference", *(t.double() for t in inputs), segments, 64))
    ((name, given),) = calls
    assert name == ("chunk_gated_delta_rule" if n_decays == 1 else "chunk_kda") and given["scale"] == 1
    assert segments is None or given["cu_seqlens"].tolist() == [0, 3, 7, 9, 10, 15, 18]


@pytest.mark.parametrize(
    ("triton", "capability", "wrong"),
    [("3.3.1", 9, False), ("3.6.0", 9, True), ("3.7.0+git1", 9, True), ("3.7.1", 9, False), ("3.6.0", 8, False)],
)
def test_no_delta_rule_is_trained_where_triton_is_wrong(
    calls: standins.Calls, triton: str, capability: int, wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ripstop.kernels.adapters import fla

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 0))
    monkeypatch.setattr("importlib.metadata.version", lambda name: triton)
    why = fla.untrainable.__wrapped__(torch.device("cuda"))
    assert (why is not None) == wrong and fla.untrainable(torch.device("cpu")) is None
    monkeypatch.setattr(fla, "untrainable", lambda device: why)
    for n_decays in (1, 6):
        inputs = _delta_inputs(n_decays)
        with contextlib.ExitStack() as stack:
            if wrong and n_decays == 1:
                stack.enter_context(pytest.raises(ConfigError, match="cannot train here .one decay.*set backend to 'torch'"))
            delta_rule.delta("auto", *inputs, None, 64)
        with torch.no_grad():
            delta_rule.delta("auto", *inputs, None, 64)
    assert len(calls) == (3 if wrong else 4)


@pytest.mark.parametrize("n_decays", [1, 6])
def test_delta_rule_after_a_past(calls: standins.Calls, n_decays: int) -> None:
    inputs, memory_BHPK = _delta_inputs(n_decays), _random(2, 4, 8, 6, seed=6, dtype=torch.float32)
    exact = [t.double() for t in (*inputs, memory_BHPK)]
    for got, wanted in zip(
        delta_rule.delta_after("auto", *inputs, memory_BHPK, 64), delta_rule.delta_after("reference", *exact, 64), strict=True
    ):
        _near(got, wanted)
    token = [t[:, 0] for t in inputs]
    with torch.no_grad():
        stepped = delta_rule.delta_step("auto", *token, memory_BHPK)
    wanted_step = delta_rule.delta_step("torch", *(t.double() for t in (*token, memory_BHPK)))
    for got, wanted in zip(stepped, wanted_step, strict=True):
        _near(got, wanted)
    delta_rule.delta_step("auto", *token, memory_BHPK)  # gradients are wanted: no kernel has them
    chunk, step = ("chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule")
    assert [name for name, _ in calls] == ([chunk, step] if n_decays == 1 else ["chunk_kda", "fused_recurrent_kda"])


@pytest.mark.parametrize("segments", [None, SEGMENTS])
@pytest.mark.parametrize("n_angles", [2, 8])
def test_trapezoidal_scan(calls: standins.Calls, segments: Segments | None, n_angles: int) -> None:
    rows = (2, 9, 4)
    dt, a = (_random(*rows, seed=seed, dtype=torch.float32).abs() for seed in (1, 2))
    biases = _random(4, 16, seed=6, dtype=torch.float32), _random(4, 16, seed=7, dtype=torch.float32)
    groups = _random(2, 9, 2, 16, seed=4), _random(2, 9, 2, 16, seed=5)
    turn = _random(2, 9, n_angles, seed=8)
    projected = Projected(_random(*rows, 16), dt, -a, _random(*rows, seed=3), *groups, *biases, turn)
    got = trapezoidal.scan("auto", projected, segments, 64)
    _near(got, trapezoidal.scan("reference", Projected(*(t.double() for t in projected)), segments, 64))
    ((name, given),) = calls
    assert name == "mamba3_siso_combined" and given["cu_seqlens"] is (None if segments is None else SEGMENTS.offsets)
    for odd in (projected._replace(turn_BTR=turn[..., :1]), projected._replace(x_BTHP=projected.x_BTHP[..., :9])):
        trapezoidal.scan("auto", odd, segments, 64)
    assert len(calls) == 1, "an odd number of angles and widths that are no power of two are no work for the kernel"


def _kernel_sizes(values: dict[str, Any]) -> dict[str, Any]:
    """The case with heads and channels of sizes that the kernels take."""
    if "mixer" in values:
        return {"mixer": _kernel_sizes(values["mixer"])}
    if "rope_fraction" in values or "n_groups" in values and "d_conv" not in values:
        return values | {"d_state": 16, "head_dim": 16, "expand": 2, "n_groups": 1, "rope_fraction": 0.5}
    if "d_state" in values:
        return values | {"d_state": 4, "head_dim": 8, "d_conv": 4, "expand": 2}
    if "head_k_dim" in values:
        return values | {"n_heads": 2, "head_k_dim": 8, "head_v_dim": 8, "d_conv": 4}
    if "kv_lora_rank" in values:
        return values | {"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    kept = {key: value for key, value in values.items() if key not in ("head_dim", "sink_size")}
    return kept | {"n_heads": 3, "n_kv_heads": 1}


CHUNKED = {
    "mamba2": {"mamba_chunk_scan_combined", "causal_conv1d_fn"},
    "gated_delta": {"chunk_gated_delta_rule", "causal_conv1d_fn"},
    "kda": {"chunk_kda", "causal_conv1d_fn"},
    "mamba3": {"mamba3_siso_combined"},
}
STEP = {
    "mamba2": "selective_state_update",
    "gated_delta": "fused_recurrent_gated_delta_rule",
    "kda": "fused_recurrent_kda",
}
SOFTMAX = {"flash_attn_func", "flash_attn_varlen_func"}


@pytest.mark.parametrize("case", [c for c in CASES if c.kind != "nsa"], ids=lambda case: f"{case.kind}-{case.name}")
def test_every_mixer_runs_on_its_kernels(case: Case, calls: standins.Calls) -> None:
    """The bfloat16 contract of `pytest -m gpu`, and which kernels it ran. Those of nsa are our own: `tests/kernels/triton`."""
    values = _kernel_sizes(case.values)
    reference = {"mixer": values["mixer"] | {"backend": "reference"}} if "mixer" in values else {"backend": "reference"}
    check_bfloat16(Case(case.kind, case.name, values, (), {}, reference), "cpu")
    ran = {name for name, _ in calls}
    kind = case.name if case.kind == "bidirectional" else case.kind
    assert ran >= CHUNKED.get(kind, SOFTMAX)
    config = MIXERS.parse({"kind": case.kind} | values)
    if config.is_causal:
        assert ran & set(STEP.values()) == ({STEP[kind]} if kind in STEP else set())
        mixer = config.build(24)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # a state in float32 beside inputs in bfloat16
            x_BTD = _input(2, 5).float()
            y_BTD, state = mixer.prefill(x_BTD[:, :4], mixer.init_state(2, 5))
            y_BD, _ = mixer.step(x_BTD[:, 4], state)
        wanted_BTD = mixer.float()(x_BTD)
        _near(y_BTD, wanted_BTD[:, :4])
        _near(y_BD, wanted_BTD[:, 4])
