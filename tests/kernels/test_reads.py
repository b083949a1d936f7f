"""Reads are counted on the tensors that operations are handed: for every mixer what was worked out by hand, and a cache that
hands on anything else is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import CASES, CHUNK, D_MODEL, Case
from torch import Tensor

from ripstop.batch import Vocabulary
from ripstop.kernels import attention, convolution, cross_attention, reads, sparse_attention, state_space, window_attention
from ripstop.mixers import attention as attention_mixer
from ripstop.mixers import mamba2, mla, short_conv, sliding_window
from ripstop.mixers.base import Mixer
from ripstop.mixers.nsa.state import SparseState
from ripstop.mixers.sliding_window import WindowState
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.past import past
from ripstop.models.reading import ReadsPart
from ripstop.ops import selected_attention

CONTEXTS = (1, 4, 6, CHUNK + 3, 40)
DOUBLE = 8
"""Bytes of a number in the contract's precision."""


def constant(numbers: int) -> Callable[[int], tuple[int, int, int]]:
    return lambda context: (0, numbers, numbers)


def keys(a_key: int, conv: int = 0, most: int = 10**9) -> Callable[[int], tuple[int, int, int]]:
    """a_key: numbers of a token's keys and values; conv: those of the convolution's past, which is read and written whole."""
    return lambda context: (min(context, most), min(context, most) * a_key + conv, a_key + conv)


def sparse(a_key: int, l: int, d: int, block: int, n: int, w: int, conv: int = 0) -> Callable[[int], tuple[int, int, int]]:  # noqa: E741
    """Compressed keys, the selected blocks up to the own token, the window; and the last l - 1 tokens, from which the next
    compressed key is made, which are read and moved on by one. A compressed key is written at every d-th token."""

    def by_hand(context: int) -> tuple[int, int, int]:
        compressed = sum(1 for begin in range(0, context, d) if begin + l <= context)
        begun = list(range(0, context, block))
        # Of n blocks at most, the last of them is the own one, which ends with the token.
        selected = sum(block for _ in begun[:-1][: n - 1]) + context - begun[-1]
        read = compressed + selected + min(context, w)
        emitted = context >= l and (context - l) % d == 0
        return read, (read + min(context - 1, l - 1)) * a_key + conv, (2 + min(context, l - 1) + emitted) * a_key + conv

    return by_hand


BY_HAND: dict[tuple[str, str], Callable[[int], tuple[int, int, int]]] = {
    # Inner width 48 times d_state 5, and three past inputs of 48 + 2 x 5 channels.
    ("mamba2", "one_group"): constant(48 * 5 + 3 * 58),
    ("mamba2", "groups"): constant(24 * 5 + 1 * 54),
    ("mamba2", "one_head_large_decay"): constant(48 * 3 + 3 * 54),
    ("attention", "plain"): keys(2 * 24),
    ("attention", "grouped_conv"): keys(2 * 2 * 10, conv=2 * (40 + 20 + 20)),
    ("attention", "no_rope"): keys(2 * 8),
    ("sliding_window", "window_only"): keys(2 * 24, most=7),
    ("sliding_window", "sinks_grouped_conv"): keys(2 * 2 * 6, conv=3 * (24 + 12 + 12), most=CHUNK + 3),
    ("sliding_window", "itself_and_a_sink"): keys(2 * 24, most=2),
    ("sliding_window", "wider_than_text"): keys(2 * 24),
    # The latent and the rotary key of a token, once for all heads.
    ("mla", "values_narrower"): keys(10 + 4),
    ("mla", "query_latent_yarn"): keys(7 + 8),
    # The memory of each head, and three past inputs of all channels.
    ("gated_delta", "values_wider"): constant(18 * 5 + 3 * 48),
    ("gated_delta", "one_head_negative_large_decay"): constant(3 * 20 + 1 * 43),
    ("kda", "a_decay_a_channel"): constant(8 * 5 + 3 * 28),
    # The state, the last B of 6 heads and the last x, and 2 angles a head.
    ("mamba3", "half_complex_groups"): constant(48 * 9 + 6 * 9 + 48 + 6 * 2),
    ("mamba3", "all_complex_one_head_large_steps"): constant(24 * 6 + 6 + 24 + 3),
    ("mamba3", "real"): constant(48 * 5 + 3 * 5 + 48),
    ("nsa", "all_selected"): sparse(24, l=8, d=4, block=8, n=16, w=12),
    ("nsa", "few_selected_conv"): sparse(24, l=8, d=4, block=8, n=4, w=12, conv=2 * (24 + 3 * 2 * 12)),
    ("nsa", "score_weighted_every_size_the_same"): sparse(12, l=4, d=4, block=4, n=30, w=7),
}
"""Case of the contract -> context -> keys and numbers that the step of its last token reads, and numbers that it writes."""
CAUSAL = [case for case in CASES if case.config().is_causal]


def step(mixer: Mixer, context: int, room: int = 0, batch: int = 1) -> reads.Reads:
    """Counts of the step after context - 1 tokens."""
    x_BTD = torch.randn(batch, context, D_MODEL, dtype=torch.float64)
    with torch.no_grad():
        _, state = mixer.prefill(x_BTD[:, :-1], mixer.init_state(batch, context + room))
        with reads.counting() as counted:
            mixer.step(x_BTD[:, -1], state)
    return counted


def check_reads(case: Case) -> None:
    mixer = case.build()
    for context in CONTEXTS:
        counted = step(mixer, context)
        wanted = BY_HAND[case.kind, case.name](context)
        found = (counted.tokens, counted.bytes / DOUBLE, counted.written / DOUBLE)
        assert found == wanted, f"at context {context} keys, numbers read and written are {found}; by hand {wanted}"
        config = case.config()
        if isinstance(config, ReadsPart):
            formula = config.read_bytes(D_MODEL, context, torch.float64)
            assert formula == counted.bytes, f"at context {context} {counted.bytes} bytes are read, by formula {formula}"
        rooms = step(mixer, context, room=9)
        assert (rooms.tokens, rooms.bytes) == (counted.tokens, counted.bytes), "room for tokens to come is read"
        assert step(mixer, context, batch=3).bytes == 3 * counted.bytes


@pytest.mark.parametrize("case", CAUSAL, ids=lambda case: f"{case.kind}-{case.name}")
def test_a_step_reads_what_was_worked_out_by_hand(case: Case) -> None:
    assert (case.kind, case.name) in BY_HAND, "add what its step reads, worked out by hand, to BY_HAND"
    check_reads(case)


@pytest.mark.parametrize("case", CAUSAL, ids=lambda case: f"{case.kind}-{case.name}")
def test_counting_moves_no_bit(case: Case) -> None:
    mixer, x_BTD = case.build(), torch.randn(2, 21, D_MODEL, dtype=torch.float64)

    def run() -> list[Tensor]:
        with torch.no_grad():
            y_BTD, state = mixer.prefill(x_BTD[:, :20], mixer.init_state(2, 21))
            return [mixer(x_BTD), y_BTD, mixer.step(x_BTD[:, 20], state)[0]]

    alone = run()
    with reads.counting() as counted:
        beside = run()
    assert counted.bytes > 0
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))


def _window_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the ring is not handed on."""
    true = WindowState.filled
    monkeypatch.setattr(WindowState, "filled", lambda s: (f := true(s))._replace(k=f.k[:, ::2], v=f.v[:, ::2]))


def _block_read_twice(module: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """The last keys are handed on a second time."""
    true = attention.attention

    def twice(backend: str, q: Tensor, k: Tensor, v: Tensor, *more: Any, **settings: Any) -> Tensor:
        return true(backend, q, torch.cat([k, k[:, -4:]], 1), torch.cat([v, v[:, -4:]], 1), *more, **settings)

    return lambda monkeypatch: monkeypatch.setattr(module.attention, "attention", twice)


def _values_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys stand in for values, one head of them expanded to all."""
    true = attention.attention
    monkeypatch.setattr(
        attention_mixer.attention, "attention", lambda b, q, k, v, *m, **s: true(b, q, k, v[:, :, :1].expand_as(v), *m, **s)
    )


def _latents_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as keys, and a copy of them as values."""
    true = mla.latent_attention.absorbed

    def twice(backend: str, q: Tensor, cache: Tensor, *more: Any) -> Tensor:
        reads.note("latent", 0, cache[..., :10].clone())
        return true(backend, q, cache, *more)

    monkeypatch.setattr(mla.latent_attention, "absorbed", twice)


def _called_twice(module: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    true = getattr(module, name)

    def twice(*arguments: Any) -> Any:
        true(*arguments)
        return true(*arguments)

    return lambda monkeypatch: monkeypatch.setattr(module, name, twice)


def _narrow_state(monkeypatch: pytest.MonkeyPatch) -> None:
    true = state_space.ssd_step

    def narrow(*arguments: Any) -> Any:
        y, state = true(*arguments[:-1], arguments[-1].float())
        return y, state.double()

    monkeypatch.setattr(mamba2.state_space, "ssd_step", narrow)


WRONG = {
    "the window is dropped": ("sliding_window", "window_only", _window_dropped),
    "a block of the window is read twice": ("sliding_window", "window_only", _block_read_twice(sliding_window)),
    "a block of the past is read twice": ("attention", "plain", _block_read_twice(attention_mixer)),
    "one head of values stands for all": ("attention", "plain", _values_forgotten),
    "latents are read as keys and as values": ("mla", "values_narrower", _latents_twice),
    "the state is read twice": ("mamba2", "one_group", _called_twice(mamba2.state_space, "ssd_step")),
    "the state is kept in half the bytes": ("mamba2", "one_group", _narrow_state),
    "the convolution reads its past twice": ("mamba2", "groups", _called_twice(short_conv.convolution, "causal_conv_step")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cache_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, of_kind, plant = WRONG[name]
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=r"by hand"):
        check_reads(next(case for case in CASES if (case.kind, case.name) == (kind, of_kind)))


def test_a_cache_that_hands_on_its_room_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All slots of the buffer, those of tokens to come among them."""
    true = attention_mixer.Attention.prefill

    def whole(self: Any, x_BTD: Tensor, state: Any) -> Any:
        reads.note("attention", state.k.shape[1] - state.length - x_BTD.shape[1], state.k[:, state.length + x_BTD.shape[1] :])
        return true(self, x_BTD, state)

    monkeypatch.setattr(attention_mixer.Attention, "prefill", whole)
    with pytest.raises(AssertionError, match="room for tokens to come is read"):
        check_reads(next(case for case in CASES if (case.kind, case.name) == ("attention", "plain")))


def test_every_operation_notes_what_it_is_handed() -> None:
    """Keys and bytes by branch, of float32 tensors of 2 rows."""
    q, k, v = torch.randn(2, 3, 4, 8), torch.randn(2, 5, 2, 8), torch.randn(2, 5, 2, 8)
    sinks = (torch.randn(2, 1, 2, 8), torch.randn(2, 1, 2, 8))
    x, past, weight, bias = torch.randn(2, 3, 6), torch.randn(2, 2, 6), torch.randn(6, 3), torch.randn(6)
    x_BTHP, dt_BTH, A_H, B_BTGN, D_H = (
        torch.randn(2, 3, 2, 4),
        torch.rand(2, 3, 2),
        -torch.rand(2),
        torch.randn(2, 3, 1, 7),
        torch.ones(2),
    )
    state = torch.randn(2, 2, 4, 7)

    def counted(call: Callable[[], object]) -> tuple[dict[str, tuple[int, int]], int]:
        with reads.counting() as found:
            call()
        return {name: (branch.tokens, branch.bytes) for name, branch in found.branches.items()}, found.written

    key_bytes = 2 * (2 * 2 * 8 * 4)
    for backend in ("torch", "reference"):
        calls: dict[str, tuple[Callable[[], object], tuple[dict[str, tuple[int, int]], int]]] = {
            "attention": (
                lambda b=backend: attention.attention(b, q[:, :1], k, v, True),
                ({"attention": (5, 5 * key_bytes)}, 0),
            ),
            "cross_attention": (
                lambda b=backend: cross_attention.cross_attention(b, q, k, v, None),
                ({"cross_attention": (5, 5 * key_bytes)}, 0),
            ),
            "window": (
                lambda b=backend: window_attention.window_attention(b, q, k, v, 4, 1, None, sinks, 2),
                ({"window": (6, 6 * key_bytes)}, 0),
            ),
            "window without a past": (
                lambda b=backend: window_attention.window_attention(b, q, q[:, :, :2], q[:, :, :2], 4, 1),
                ({"window": (3, 3 * key_bytes)}, 0),
            ),
            "convolution": (
                lambda b=backend: convolution.causal_conv(b, x, weight, bias, past, None, True),
                ({"convolution": (0, 2 * 2 * 6 * 4)}, 0),
            ),
            "convolution from the start": (
                lambda b=backend: convolution.causal_conv(b, x, weight, bias, None, None, True),
                ({}, 0),
            ),
            "one token of the convolution": (
                lambda b=backend: convolution.causal_conv_step(b, x[:, 0], weight, bias, past, True),
                ({"convolution": (0, 2 * 2 * 6 * 4)}, 2 * 2 * 6 * 4),
            ),
            "ssd": (
                lambda b=backend: state_space.ssd(b, x_BTHP, dt_BTH, A_H, B_BTGN, B_BTGN, D_H, None, 2),
                ({}, 0),
            ),
            "ssd after": (
                lambda b=backend: state_space.ssd_after(b, x_BTHP, dt_BTH, A_H, B_BTGN, B_BTGN, D_H, state, 2),
                ({"ssd": (0, 2 * 2 * 4 * 7 * 4)}, 2 * 2 * 4 * 7 * 4),
            ),
            "one token of the ssd": (
                lambda b=backend: state_space.ssd_step(
                    b, x_BTHP[:, 0], dt_BTH[:, 0], A_H, B_BTGN[:, 0], B_BTGN[:, 0], D_H, state
                ),
                ({"ssd": (0, 2 * 2 * 4 * 7 * 4)}, 2 * 2 * 4 * 7 * 4),
            ),
        }
        for name, (call, wanted) in calls.items():
            assert counted(call) == wanted, f"{name}, {backend}"


def test_one_counting_within_another_counts_for_both_and_nothing_after() -> None:
    tensor = torch.zeros(3, 4)
    reads.note("early", 1, tensor)
    with reads.counting() as outer:
        reads.note("a", 2, tensor)
        with reads.counting() as inner:
            reads.note("a", 1, tensor, tensor)
            reads.note("b", 0, None)
            reads.wrote(tensor)
        reads.note("a", 1, tensor[:1])
    reads.note("late", 1, tensor)
    assert inner.branches == {"a": reads.Branch(1, 1, 96)} and (inner.tokens, inner.bytes, inner.written) == (1, 96, 48)
    assert outer.branches == {"a": reads.Branch(3, 4, 48 + 96 + 16)} and outer.written == 48
    with pytest.raises(KeyError), reads.counting() as broken:
        raise KeyError
    reads.note("late", 1, tensor)
    assert not broken.branches


def test_what_is_noted_next_may_be_of_another_branch() -> None:
    tensor = torch.zeros(5)
    with reads.counting() as outer:
        reads.of("window")
        with reads.counting() as inner:
            reads.note("nothing", 0, None)
            reads.note("attention", 1, tensor)
            reads.note("attention", 1, tensor)
    assert inner.branches == {"attention": reads.Branch(2, 2, 40)}
    assert outer.branches == {"window": reads.Branch(1, 1, 20), "attention": reads.Branch(1, 1, 20)}


PAPER = {"kind": "nsa", "n_heads": 4, "n_kv_heads": 1, "head_dim": 8, "phi": "mean"}
"""With the sizes of Table 4, which are the defaults."""
TABLE_4 = {8192: 2048, 16384: 2560, 32768: 3584, 65536: 5632}


def sparse_step(context: int, batch: int = 1) -> reads.Reads:
    config = DecoderOnlyConfig.parse({"d_model": 32, "pattern": "N", "mixers": {"N": PAPER}}, "t")
    model = config.build(Vocabulary(5)).eval()
    with torch.inference_mode():
        state = past(model, context - 1)
        with reads.counting() as counted:
            model.step(torch.zeros(1, dtype=torch.int64), state)
    return counted


@pytest.mark.parametrize("context", TABLE_4)
def test_a_step_of_nsa_reads_what_its_paper_says(context: int) -> None:
    counted = sparse_step(context)
    assert abs(counted.tokens - TABLE_4[context]) <= 2
    by_branch = {name: branch.tokens for name, branch in counted.branches.items()}
    assert by_branch == {"compressed": (context - 32) // 16 + 1, "selected": 16 * 64, "window": 512, "recent": 0}
    assert counted.bytes == (counted.tokens + 31) * 2 * 8 * 4


def _compressed_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of compressed keys lags behind by three."""
    true = sparse_attention.compress_and_select
    monkeypatch.setattr(
        sparse_attention, "compress_and_select", lambda b, q, k, v, *more: true(b, q, k[:, :-3], v[:, :-3], *more)
    )


def _selected_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the selected blocks is read again."""
    true = selected_attention.gathered

    def twice(k_BSGK: Tensor, v_BSGP: Tensor, ids_BTGn: Tensor, select_block: int) -> tuple[Tensor, Tensor]:
        k, v = true(k_BSGK, v_BSGP, ids_BTGn, select_block)
        return torch.cat([k, k[:, :select_block]], 1), torch.cat([v, v[:, :select_block]], 1)

    monkeypatch.setattr(selected_attention, "gathered", twice)


def _window_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window's ring is not handed on."""
    true = SparseState.filled
    monkeypatch.setattr(
        SparseState, "filled", lambda s: (f := true(s))._replace(window_k=f.window_k[:, :1], window_v=f.window_v[:, :1])
    )


@pytest.mark.parametrize(("plant", "keys"), [(_compressed_forgotten, -3), (_selected_twice, 64), (_window_lost, -511)])
def test_a_wrong_cache_of_nsa_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = sparse_step(8192).tokens
    plant(monkeypatch)
    wrong = sparse_step(8192).tokens
    assert wrong == right + keys and abs(wrong - TABLE_4[8192]) > 2


def test_blocks_that_a_kernel_reads_are_counted_by_their_ids() -> None:
    """2 rows, 2 groups, 22 tokens in blocks of 8: of the third there are 6. 5 numbers of a key and 3 of a value, float32."""
    k, v = torch.zeros(2, 22, 2, 5), torch.zeros(2, 22, 2, 3)
    ids_BTGn = torch.tensor([[[[0, 1, 2], [9, 9, 9]], [[2, 0, -1], [2, 1, -1]]], [[[9] * 3] * 2, [[2, 1, -1], [2, 1, 0]]]])
    with reads.counting() as counted:
        reads.note_blocks("selected", ids_BTGn, 8, k, v)
    assert counted.branches == {"selected": reads.Branch(1, 22, (14 + 14 + 14 + 22) * (5 + 3) * 4)}
    with torch.no_grad():
        q = torch.randn(1, 1, 4, 8)
        past_k, past_v = torch.randn(1, 44, 2, 8), torch.randn(1, 44, 2, 8)
        ids = torch.tensor([[[[0, 2, 5], [1, 3, 5]]]])
        with reads.counting() as handed:
            sparse_attention.selected_attention("torch", q, past_k, past_v, ids, 8)
        with reads.counting() as by_ids:
            reads.note_blocks("selected", ids, 8, past_k, past_v)
    assert handed.branches == by_ids.branches, "what is gathered is what the ids say"


def test_an_expanded_axis_is_read_once() -> None:
    tensor = torch.zeros(2, 1, 5, dtype=torch.bfloat16)
    assert reads.n_bytes(tensor) == reads.n_bytes(tensor.expand(2, 7, 5)) == 20
    assert reads.n_bytes(tensor[:, :, ::2]) == 12 and reads.n_bytes(torch.zeros(3, 0, 2)) == 0
    assert reads.n_bytes(torch.zeros(4, 6).T) == 96 and reads.n_bytes(torch.zeros(1).expand(0)) == 0
