"""The store: a cache's entry is rounded once and a recurrent state at every token, errors that are carried, bytes of both."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from contract import CASES
from torch import Tensor

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.mixers.base import filled_bytes
from ripstop.mixers.mamba2 import Mamba2State
from ripstop.models.decoder_only import DecoderOnly, DecoderOnlyConfig
from ripstop.quantized_state import store as stores
from ripstop.quantized_state.roles import ROLES, held
from ripstop.quantized_state.store import Storage, Store

T, ROWS = 12, 2
MIXERS: dict[str, dict[str, Any]] = {
    "mamba2": {"kind": "mamba2", "d_state": 8, "head_dim": 8},
    "mamba3": {"kind": "mamba3", "d_state": 8, "head_dim": 8},
    "gated_delta": {"kind": "gated_delta", "n_heads": 2, "head_k_dim": 8, "head_v_dim": 8},
    "kda": {"kind": "kda", "n_heads": 2, "head_k_dim": 8, "head_v_dim": 8},
    "attention": {"kind": "attention", "n_heads": 2, "d_conv": 3},
    "mla": {"kind": "mla", "n_heads": 2, "kv_lora_rank": 6, "qk_nope_head_dim": 6, "qk_rope_head_dim": 2, "v_head_dim": 8},
    "sliding_window": {"kind": "sliding_window", "n_heads": 2, "window_size": 4, "sink_size": 1, "d_conv": 3},
    "nsa": {
        "kind": "nsa",
        "n_heads": 2,
        "compress_block": 4,
        "compress_stride": 2,
        "select_block": 4,
        "n_selected": 3,
        "window_size": 4,
    },
}
STATIC = ("attention", "mla", "sliding_window", "nsa")


def model(kind: str) -> DecoderOnly:
    torch.manual_seed(0)
    config = DecoderOnlyConfig.parse(
        {"d_model": 16, "pattern": "XX", "mixers": {"X": MIXERS[kind]}, "embedding_std": 0.5}, "model"
    )
    return DecoderOnly(config, 11).eval()


def tokens() -> Tensor:
    return torch.randint(11, (ROWS, T), generator=torch.Generator().manual_seed(1))


def run(kind: str, storages: list[Storage]) -> tuple[Tensor, Any, Store]:
    """Logits (storages, B, T, V), the last state and the store."""
    made, store = model(kind), Store(storages)
    with torch.inference_mode():
        state = made.init_state(ROWS * len(storages), T + 3)
        logits = []
        for tokens_B in tokens().repeat(len(storages), 1).unbind(1):
            found, state = made.step(tokens_B, state)
            state = store.keep(state)
            logits.append(found)
    return torch.stack(logits, 1).unflatten(0, (len(storages), ROWS)), state, store


def test_every_mixer_that_decodes_has_its_case() -> None:
    assert {case.kind for case in CASES} - {"bidirectional"} == MIXERS.keys()


@pytest.mark.parametrize("kind", MIXERS)
def test_float32_is_the_undisturbed_model(kind: str) -> None:
    made = model(kind)
    with torch.inference_mode():
        state = made.init_state(ROWS, T + 3)
        logits = []
        for tokens_B in tokens().unbind(1):
            found, state = made.step(tokens_B, state)
            logits.append(found)
        forward = made(TokenBatch(tokens(), tokens()))
    kept, _, _ = run(kind, [Storage("fp32")])
    assert torch.equal(kept[0], torch.stack(logits, 1))
    assert torch.allclose(kept[0], forward, atol=1e-5)


@pytest.mark.parametrize("kind", MIXERS)
def test_storages_of_one_batch_do_not_know_each_other(kind: str) -> None:
    ways = [Storage("fp32"), Storage("int4"), Storage("int4", "stochastic"), Storage("int3", "feedback"), Storage("fp8_e4m3")]
    together, _, _ = run(kind, ways)
    for way, logits in zip(ways, together, strict=True):
        alone, _, _ = run(kind, [way])
        assert torch.allclose(alone[0], logits, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("kind", STATIC)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_what_is_written_once_is_rounded_once(kind: str, rounding: Any) -> None:
    """At the end each entry is what was put there: rounding a second time, at random, would have moved it."""
    made, store = model(kind), Store([Storage("int3", rounding)])
    kept: dict[tuple[Any, int], Tensor] = {}
    with torch.inference_mode():
        state = made.init_state(ROWS, T + 3)
        for tokens_B in tokens().unbind(1):
            _, state = made.step(tokens_B, state)
            state = store.keep(state)
            for one in held(state):
                if one.role != "appended":
                    continue
                for position in range(one.count):
                    entry = one.values[:, position].clone()
                    assert torch.equal(kept.setdefault((one.place, position), entry), entry)
    assert (len(kept) >= T) == (kind != "sliding_window")


@pytest.mark.parametrize("kind", MIXERS)
def test_numbers_that_are_rounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recurrent tensor all at every token; of any other one each that is written, once."""
    asked = 0

    def rounded(self: Storage, x: Tensor, generator: torch.Generator) -> Tensor:
        nonlocal asked
        asked += x.numel()
        return x

    monkeypatch.setattr(stores.Storage, "rounded", rounded)
    _, state, _ = run(kind, [Storage("int4")])
    expected = 0
    for one in held(state):
        entry = one.values[:, :1].numel()
        if one.role in ("recurrent", "latest"):
            expected += T * one.values.numel()
        else:
            expected += (one.count if one.role == "appended" else T) * entry
    assert asked == expected


@pytest.mark.parametrize("kind", ["attention", "sliding_window", "mamba2", "nsa"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_shifted_and_ring_entries_are_as_they_were_written(kind: str, rounding: Any) -> None:
    """Whatever moved or stayed is found among what was there a token ago."""
    made, store = model(kind), Store([Storage("int3", rounding)])
    with torch.inference_mode():
        state = made.init_state(ROWS, T + 3)
        before: dict[Any, Tensor] = {}
        for tokens_B in tokens().unbind(1):
            _, state = made.step(tokens_B, state)
            state = store.keep(state)
            for one in held(state):
                if one.role in ("shifted", "ring", "filling") and one.values.numel():
                    last = before.get(one.place, torch.zeros_like(one.values))
                    same = [any(torch.equal(entry, old) for old in last.unbind(1)) for entry in one.values.unbind(1)]
                    assert same.count(False) <= 1
                    before[one.place] = one.values.clone()


class Sum(NamedTuple):
    """A state that adds up: what error feedback is for."""

    total: Tensor


def summed(storage: Storage, steps: int, monkeypatch: pytest.MonkeyPatch, decay: float = 1.0) -> tuple[Tensor, Tensor]:
    """What is stored of sums of small numbers, and the exact sums."""
    monkeypatch.setitem(ROLES, Sum, {"total": "recurrent"})
    store, state = Store([storage]), Sum(torch.zeros(1, 32))
    exact = torch.zeros(1, 32, dtype=torch.float64)
    state.total[0, 0] = exact[0, 0] = 10.0
    for _ in range(steps):
        added = torch.linspace(0.01, 0.3, 32).unsqueeze(0)
        added[0, 0] = 0.0
        exact = decay * exact + added
        state = store.keep(Sum(decay * state.total + added))
    return state.total.double(), exact


def test_without_feedback_small_additions_are_lost_and_with_it_the_error_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a step of 4 bits beside a 10 is 0.71: every addition here is rounded away, at every token."""
    plain, exact = summed(Storage("int4"), 30, monkeypatch)
    assert bool((plain[0, 1:] == 0).all()) and float(exact[0, -1]) == pytest.approx(9.0)
    fed, _ = summed(Storage("int4", "feedback"), 30, monkeypatch)
    step = 10 / 7
    # what is carried is itself rounded, to within a seventh of the largest error
    assert float((fed - exact).abs().max()) <= 1.5 * step
    longer, exact = summed(Storage("int4", "feedback"), 60, monkeypatch)
    assert float((longer - exact).abs().max()) <= 1.5 * float(exact.max()) / 7


def test_stochastic_rounding_does_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    found, exact = summed(Storage("int4", "stochastic"), 30, monkeypatch)
    assert float((found - exact).mean().abs()) < 0.5 * float(exact[0, 1:].mean())


def test_nothing_is_carried_of_what_is_written_once() -> None:
    ways = [Storage("int4"), Storage("int4", "feedback")]
    for kind in ("attention", "mla", "sliding_window"):
        logits, state, store = run(kind, ways)
        assert torch.equal(logits[0], logits[1]) and not store._errors
        assert ways[0].n_bytes(state) == ways[1].n_bytes(state)
    logits, _, _ = run("gated_delta", ways)
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("kind", MIXERS)
def test_bytes_in_float32_are_those_that_are_filled(kind: str) -> None:
    _, state, _ = run(kind, [Storage("fp32")])
    assert Storage("fp32").n_bytes(state) == filled_bytes(state)
    assert Storage("fp32").bits_per_element(state) == 32


def test_bytes_are_the_formula() -> None:
    state = Mamba2State(conv=torch.zeros(1, 3, 48), ssm=torch.zeros(1, 2, 8, 32))
    conv, ssm = 3 * (48 // 2 + 2 * 2), 2 * 8 * (32 // 2 + 2)
    assert Storage("int4").n_bytes(state) == conv + ssm
    assert Storage("int4", "feedback").n_bytes(state) == conv + 2 * ssm
    assert Storage("int4", group=16).n_bytes(state) == 3 * (24 + 3 * 2) + 2 * 8 * (16 + 2 * 2)
    assert Storage("int4").bits_per_element(state) == 8 * (conv + ssm) / (3 * 48 + 512)


def test_a_branch_goes_on_alone() -> None:
    """What is kept after a branch is what would have been kept without it."""
    made, ways = model("gated_delta"), [Storage("int3", "stochastic"), Storage("int3", "feedback")]
    alone, _, _ = run("gated_delta", ways)
    store = Store(ways)
    with torch.inference_mode():
        state = made.init_state(ROWS * 2, T + 3)
        for t, tokens_B in enumerate(tokens().repeat(2, 1).unbind(1)):
            if t == 5:
                other, aside = store.copy(), Mamba2State  # the copy reads on, and is forgotten
                _, aside = made.step(tokens_B.flip(0), state)
                other.keep(aside)
            logits, state = made.step(tokens_B, state)
            state = store.keep(state)
    assert torch.equal(logits.unflatten(0, (2, ROWS)), alone[:, :, -1])


def test_a_state_of_which_nothing_is_said_is_refused() -> None:
    class Unknown(NamedTuple):
        memory: Tensor

    with pytest.raises(ConfigError, match="Unknown: nothing says how its tensors are written"):
        Store([Storage("int4")]).keep((Unknown(torch.zeros(1, 2)), None))
