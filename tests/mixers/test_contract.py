"""Every mixer against the contract, and the contract against broken mixers."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import CASES, CAUSAL_CHECKS, CHECKS, Case, check_bfloat16, check_no_state
from contract import check_backend as backend
from contract import check_checkpointing as checkpointing
from contract import check_compiled as compiled
from contract import check_counts as counts
from contract import check_documents as documents
from contract import check_float32 as float32
from contract import check_prefill_and_step as prefill_and_step
from contract import check_prefill_anywhere as prefill_anywhere
from contract import check_reach as reach
from contract import check_reference as reference
from contract import check_residual_outputs as residual_outputs
from contract import check_state_bytes as state_bytes
from torch import Tensor

from ripstop import kernels
from ripstop.mixers import MIXERS, attention, bidirectional, heads, mamba2, mla, short_conv, sliding_window
from ripstop.ops import convolution, latent_attention, softmax_attention, state_space, state_space_chunked, window_attention
from ripstop.ops.segments import Segments

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")


def _id(value: object) -> str:
    return f"{value.kind}-{value.name}" if isinstance(value, Case) else getattr(value, "__name__", str(value))


def _checks(case: Case) -> list[Callable[[Case], None]]:
    return [*CHECKS, *(CAUSAL_CHECKS if case.config().is_causal else [check_no_state])]


def test_every_kind_has_a_case() -> None:
    missing = set(MIXERS.names()) - {case.kind for case in CASES}
    assert not missing, f"add a Case for {sorted(missing)} to CASES in tests/contract.py: a mixer is finished when it passes"


@pytest.mark.parametrize(("case", "check"), [(case, check) for case in CASES for check in _checks(case)], ids=_id)
def test_contract(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("case", CASES, ids=_id)
def test_bfloat16(case: Case, device: str) -> None:
    if device == "cuda" and case.kind == "gated_delta" and importlib.util.find_spec("fla"):
        from ripstop.kernels.adapters.fla import untrainable

        if why := untrainable(torch.device(device)):
            pytest.skip(why)
    check_bfloat16(case, device)


def _case(kind: str, name: str) -> Case:
    return next(case for case in CASES if (case.kind, case.name) == (kind, name))


MAMBA2, GROUPED = _case("mamba2", "one_group"), _case("attention", "grouped_conv")
PLAIN = _case("attention", "plain")
LATENT, YARN = _case("mla", "values_narrower"), _case("mla", "query_latent_yarn")
SINKS, BOTH = _case("sliding_window", "sinks_grouped_conv"), _case("bidirectional", "mamba2")


def _no_future_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    true = state_space_chunked.apart
    monkeypatch.setattr(state_space_chunked, "apart", lambda *a: torch.zeros_like(true(*a)))


def _segments(module: object, name: str, change: Callable[[Segments], Segments | None]) -> Callable[[pytest.MonkeyPatch], None]:
    """The operation gets other segments than it was given."""
    true = getattr(module, name)

    def operation(*arguments: Any, **settings: Any) -> Any:
        return true(*(change(a) if isinstance(a, Segments) else a for a in arguments), **settings)

    return lambda monkeypatch: monkeypatch.setattr(module, name, operation)


def _one_document(module: object, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return _segments(module, name, lambda segments: None)


def _starts_at_zero(module: object, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return _segments(module, name, lambda segments: segments._replace(start_BT=torch.zeros_like(segments.start_BT)))


def _no_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_space_chunked, "through", lambda s, ends: torch.ones_like(s[:, :, -1])[..., None, None])


def _no_sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    true = window_attention.window_attention
    monkeypatch.setattr(
        window_attention, "window_attention", lambda q, k, v, window, sinks, *rest: true(q, k, v, window, 0, *rest)
    )


def _wider_window(monkeypatch: pytest.MonkeyPatch) -> None:
    true = window_attention.window_attention
    monkeypatch.setattr(window_attention, "window_attention", lambda q, k, v, window, *rest: true(q, k, v, window + 1, *rest))


def _keep_padding(module: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(module, "without_padding", lambda x, segments: x)


def _forget_conv_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_conv, "next_past", lambda x, width, past: torch.zeros_like(past))


def _positions_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    true = heads.rotate
    monkeypatch.setattr(heads, "rotate", lambda x, position, base: true(x, position - position.min(), base))


def _absorbed_without_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    true = latent_attention.absorbed

    def absorbed(q: Tensor, cache: Tensor, up: latent_attention.Up, scale: float) -> Tensor:
        return true(torch.cat([q[..., : up.width], 0 * q[..., up.width :]], -1), cache, up, scale)

    monkeypatch.setattr(latent_attention, "absorbed", absorbed)


def _absorbed_scaled_by_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 / sqrt(r + K) in place of the heads' width."""
    true = latent_attention.absorbed
    monkeypatch.setattr(latent_attention, "absorbed", lambda q, cache, up, scale: true(q, cache, up, cache.shape[-1] ** -0.5))


def _rotary_keys_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    true = mla.Rope.forward
    monkeypatch.setattr(mla.Rope, "forward", lambda self, position, *x: true(self, position - position.min(), *x))


def _latents_cached_before_their_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    true = mla.Mla._read

    def read(self: Any, x_BTD: Tensor, state: Any) -> Any:
        norm, self.kv_a_norm = self.kv_a_norm, torch.nn.Identity()
        found = true(self, x_BTD, state)
        self.kv_a_norm = norm
        return found

    monkeypatch.setattr(mla.Mla, "_read", read)


def _see_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    true = softmax_attention.attention
    monkeypatch.setattr(softmax_attention, "attention", lambda q, k, v, causal, *rest: true(q, k, v, False, *rest))


def _forget_state(monkeypatch: pytest.MonkeyPatch) -> None:
    true = state_space.ssd_chunked
    monkeypatch.setattr(
        state_space, "ssd_chunked", lambda *a, **k: true(*a[:6], None if a[6] is None else torch.zeros_like(a[6]), *a[7:], **k)
    )


def _ring_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    true = sliding_window.SlidingWindow._slots
    monkeypatch.setattr(
        sliding_window.SlidingWindow,
        "_slots",
        lambda self, position, state: true(self, torch.where(position >= 20, position + 1, position), state),
    )


def _reverse_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = property(lambda segments: torch.arange(segments.run_BT.shape[1]).flip(0).expand_as(segments.run_BT))
    monkeypatch.setattr(Segments, "reversal_BT", whole)


def _the_fast_form_as_the_slow(module: Any, slow: str, fast: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(module, slow, lambda *a: getattr(module, fast)(*a))


def _one_form_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `backend` says, a form that no case names."""
    monkeypatch.setattr(kernels.state_space, "choose", lambda *a: "reference")
    monkeypatch.setattr(kernels.convolution, "choose", lambda *a: "reference")


def _mask_after_the_exponential(monkeypatch: pytest.MonkeyPatch) -> None:
    def decay(s: Tensor, apart: Tensor) -> Tensor:
        s_head = s.transpose(2, 3)
        return (s_head.unsqueeze(-1) - s_head.unsqueeze(-2)).exp2() * (apart == 0)

    monkeypatch.setattr(state_space_chunked, "between", decay)


def _quotient_of_decays(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^s_i / 2^s_j, which is 0 / 0 after one large step."""

    def decay(s: Tensor, apart: Tensor) -> Tensor:
        s_head = s.transpose(2, 3)
        return s_head.exp2().unsqueeze(-1) * (-s_head).exp2().unsqueeze(-2) * (apart == 0)

    monkeypatch.setattr(state_space_chunked, "between", decay)


def _scaled(config: Any, method: str, factor: float) -> Callable[[pytest.MonkeyPatch], None]:
    true = getattr(config, method)
    return lambda monkeypatch: monkeypatch.setattr(config, method, lambda *a: int(factor * true(*a)))


def _room_counted_as_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention.KVState, "filled", lambda state: state)


def _ring_always_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliding_window.WindowState, "filled", lambda state: state)


def _outputs(change: Callable[[Any], list[Tensor]]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(bidirectional.Bidirectional, "residual_outputs", change)


def _another_value_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    true, calls = mamba2.Mamba2.forward, itertools.count()
    monkeypatch.setattr(mamba2.Mamba2, "forward", lambda self, x, segments=None: true(self, x, segments) * (1 + next(calls)))


def _break_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    true = mamba2.Mamba2.forward

    def forward(self: Any, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        torch._dynamo.graph_break()
        return true(self, x_BTD, segments)

    monkeypatch.setattr(mamba2.Mamba2, "forward", forward)


def _depend_on_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    true = mamba2.Mamba2.forward

    def forward(self: Any, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        return true(self, x_BTD, segments) if x_BTD.shape[1] % 16 else true(self, x_BTD * 1, segments)

    monkeypatch.setattr(mamba2.Mamba2, "forward", forward)


def _decay_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_space, "precision", lambda x: torch.bfloat16 if x.dtype == torch.bfloat16 else x.dtype)


@pytest.mark.parametrize(
    ("case", "check", "break_it"),
    [
        (MAMBA2, reach, _no_future_mask),
        (MAMBA2, reference, _no_future_mask),
        (MAMBA2, reference, _no_decay),
        (MAMBA2, prefill_and_step, _no_decay),
        (MAMBA2, prefill_anywhere, _forget_state),
        (MAMBA2, prefill_anywhere, _forget_conv_past),
        (MAMBA2, documents, _one_document(state_space, "ssd_chunked")),
        (MAMBA2, documents, _one_document(convolution, "causal_conv")),
        (MAMBA2, documents, _keep_padding(mamba2)),
        (GROUPED, reach, _see_the_future),
        (GROUPED, prefill_and_step, _positions_from_zero),
        (GROUPED, documents, _one_document(softmax_attention, "attention")),
        (GROUPED, documents, _keep_padding(attention)),
        (SINKS, reach, _no_sinks),
        (SINKS, reference, _no_sinks),
        (SINKS, prefill_and_step, _no_sinks),
        (SINKS, reach, _wider_window),
        (SINKS, prefill_and_step, _wider_window),
        (SINKS, prefill_anywhere, _ring_off_by_one),
        (SINKS, documents, _one_document(window_attention, "window_attention")),
        (SINKS, documents, _starts_at_zero(window_attention, "window_attention")),
        (LATENT, reach, _see_the_future),
        (LATENT, documents, _one_document(latent_attention, "expanded")),
        (LATENT, documents, _keep_padding(mla)),
        (LATENT, prefill_and_step, _absorbed_without_positions),
        (LATENT, prefill_and_step, _rotary_keys_from_zero),
        (LATENT, prefill_anywhere, _latents_cached_before_their_norm),
        (YARN, prefill_and_step, _absorbed_scaled_by_its_own_width),
        (LATENT, backend, _the_fast_form_as_the_slow(latent_attention, "latent_attention_reference", "expanded")),
        (LATENT, counts, _scaled(mla.MlaConfig, "flops_per_token", 1.01)),
        (BOTH, documents, _reverse_the_row),
        (BOTH, documents, _one_document(state_space, "ssd_chunked")),
        (MAMBA2, backend, _the_fast_form_as_the_slow(state_space, "ssd_recurrent", "ssd_chunked")),
        (MAMBA2, backend, _the_fast_form_as_the_slow(convolution, "causal_conv_reference", "causal_conv")),
        (MAMBA2, backend, _one_form_only),
        (PLAIN, backend, _the_fast_form_as_the_slow(softmax_attention, "attention_reference", "sdpa")),
        (SINKS, backend, _the_fast_form_as_the_slow(window_attention, "window_attention_reference", "window_attention")),
        (MAMBA2, float32, _mask_after_the_exponential),
        (MAMBA2, float32, _quotient_of_decays),
        (MAMBA2, counts, _scaled(mamba2.Mamba2Config, "flops_per_token", 0.5)),
        (MAMBA2, counts, _scaled(mamba2.Mamba2Config, "flops_per_token", 1.01)),
        (PLAIN, counts, _scaled(attention.AttentionConfig, "attention_flops", 2)),
        (PLAIN, counts, _scaled(attention.AttentionConfig, "num_params", 2)),
        (PLAIN, state_bytes, _room_counted_as_filled),
        (SINKS, state_bytes, _ring_always_full),
        (MAMBA2, state_bytes, _scaled(mamba2.Mamba2Config, "state_bytes", 1.01)),
        (BOTH, residual_outputs, _outputs(lambda self: self.ahead.residual_outputs())),
        (BOTH, residual_outputs, _outputs(lambda self: [*self.ahead.residual_outputs(), self.back.in_proj.weight])),
        (BOTH, residual_outputs, _outputs(lambda self: [*self.ahead.residual_outputs(), *self.ahead.residual_outputs()])),
        (MAMBA2, checkpointing, _another_value_each_time),
        (MAMBA2, compiled, _depend_on_the_length),
    ],
    ids=_id,
)
def test_contract_finds(
    case: Case, check: Callable[[Case], None], break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these mistakes has been made in published code of this field; the check must not pass over it."""
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        check(case)


def test_contract_finds_a_broken_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_the_graph(monkeypatch)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(MAMBA2)


def test_a_leak_names_row_document_and_positions() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(AssertionError) as error:
        _one_document(softmax_attention, "attention")(monkeypatch)
        documents(PLAIN)
    assert "row 0, document 2 (positions 23 to 23) differs from the same alone at [23]" in str(error.value)
    assert "the output at 23 is moved by row 0, position 0 (document 1); row 0, position 1 (document 1)" in str(error.value)
