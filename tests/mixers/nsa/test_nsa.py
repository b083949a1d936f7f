"""Natively sparse attention: what it is the same as, its gates, its interventions, and settings that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.mixers import MIXERS
from ripstop.mixers.attention import AttentionConfig
from ripstop.mixers.nsa import NSAConfig
from ripstop.mixers.nsa.trace import intervening, tracing
from ripstop.mixers.sliding_window import SlidingWindowConfig

D_MODEL = 24
SMALL = {
    "compress_block": 8,
    "compress_stride": 4,
    "select_block": 8,
    "n_selected": 4,
    "window_size": 12,
    "n_heads": 4,
    "n_kv_heads": 2,
}


def _built(**changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return NSAConfig(**{**SMALL, **changes}).build(D_MODEL).double()


def _input(n_time: int) -> torch.Tensor:
    return torch.randn(2, n_time, D_MODEL, dtype=torch.float64)


@pytest.mark.parametrize("rope", [("compressed", "selected", "window"), ("window",), ("selected",), ()])
@pytest.mark.parametrize(("branch", "drop"), [("selected", ("compressed", "window")), ("window", ("compressed", "selected"))])
def test_one_branch_alone_is_what_it_is_made_of(branch: str, drop: Any, rope: tuple[str, ...]) -> None:
    """With everything selected the selected branch is attention; the window is a sliding window. Gates are 1/2 at first. Each
    knows positions where `rope` names it."""
    mixer = _built(n_selected=100, rope=rope)
    plain: dict[str, Any] = {"n_heads": 4, "n_kv_heads": 2, "rope": branch in rope}
    other = AttentionConfig(**plain) if branch == "selected" else SlidingWindowConfig(**plain, window_size=12)
    alone = other.build(D_MODEL).double()
    q, *kv = mixer.qkv_proj.weight.split([24, *[12] * 6])
    at = 2 if branch == "selected" else 4
    alone.load_state_dict({"qkv_proj.weight": torch.cat([q, *kv[at : at + 2]]), "out_proj.weight": mixer.out_proj.weight})
    x_BTD = _input(60)
    with intervening(drop=drop):
        torch.testing.assert_close(2 * mixer(x_BTD), alone(x_BTD))


def test_gates_start_alike_and_are_traced() -> None:
    for gate, wanted in (("sigmoid", 1 / 2), ("softmax", 1 / 3)):
        mixer = _built(gate=gate)
        with tracing() as trace:
            mixer(_input(20))
            mixer(_input(9))
        assert [layer.gates.tolist() for layer in trace.layers] == [pytest.approx([wanted] * 3)] * 2
        assert [layer.ids_BTGn.shape for layer in trace.layers] == [(2, 20, 2, 4), (2, 9, 2, 4)]
        with tracing() as second:
            pass
        assert second.layers == [] and len(trace.layers) == 2


def test_random_selection_keeps_what_is_forced_and_comes_at_its_rate() -> None:
    mixer, n_time = _built(n_selected=6), 321  # the last token's own block is number 40
    x_BTD = _input(n_time)
    with torch.no_grad(), intervening(select="random", seed=1), tracing() as trace:
        mixer(x_BTD)
    ids = trace.layers[0].ids_BTGn
    late = ids[:, 200:]  # blocks 25 to 40
    own = torch.arange(200, n_time)[:, None] // 8
    for forced in (torch.zeros_like(own), own - 1, own):
        assert (late == forced.unsqueeze(-1)).any(-1).all()
    assert (late >= 0).all() and (late.diff() > 0).all()
    # 3 of the n - 3 blocks that are not forced, each with the same chance.
    rate = (ids[:, -8:] == 20).any(-1).double().mean()
    assert abs(rate - 3 / 38) < 0.2
    expected = (3 / (own.double() - 2)).mean()
    assert (late == 12).any(-1).double().mean() == pytest.approx(expected.item(), rel=0.3)
    with torch.no_grad(), intervening(select="random", seed=1), tracing() as again:
        mixer(x_BTD)
        mixer(x_BTD)
    assert torch.equal(again.layers[0].ids_BTGn, ids)
    # Rows, groups, layers, and tokens of one block draw apart: the same 3 of 37 blocks come once in 7770 draws.
    last, second = (trace.ids_BTGn[:, 312:320] for trace in again.layers)
    for one, other in ((last[0], last[1]), (last[:, :, 0], last[:, :, 1]), (last, second), (last[:, :4], last[:, 4:])):
        assert (one == other).all(-1).double().mean() < 0.1


def test_an_oracle_reads_the_block_it_names() -> None:
    mixer, x_BTD = _built(n_selected=5), _input(200)
    with torch.no_grad(), tracing() as plain:
        mixer(x_BTD)
    named = torch.tensor([[7, 11], [3, -1]])
    with torch.no_grad(), intervening(select="oracle", blocks_BM=named), tracing() as trace:
        mixer(x_BTD)
    ids, former = trace.layers[0].ids_BTGn, plain.layers[0].ids_BTGn
    for row, block in ((0, 7), (0, 11), (1, 3)):
        assert (ids[row, 150:] == block).any(-1).all()
    # The forced ones stay, and what is left of the places goes to the best scored.
    kept = (ids[1, 150:, :, :, None] == former[1, 150:, :, None]).any(-1).sum(-1)
    assert (kept >= 4).all() and not (former[1, 150:] == 3).any(-1).all()


def test_interventions_that_are_none() -> None:
    with pytest.raises(ValueError, match="select is 'best'"), intervening(select="best"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ValueError, match="drop"), intervening(drop=("sliding",)):  # type: ignore[arg-type]
        pass
    with pytest.raises(ValueError, match="needs it"), intervening(select="oracle"):
        pass


def test_dropping_all_branches_leaves_nothing() -> None:
    with intervening(drop=("compressed", "selected", "window")):
        assert not _built()(_input(30)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compress_stride": 3}, "compress_stride 3 does not divide compress_block 8; choose one that does"),
        ({"select_block": 10}, "compress_stride 4 does not divide select_block 10"),
        ({"n_selected": 2}, "n_selected 2 is less than n_first 1 and n_local 2; raise n_selected"),
        ({"n_local": 0}, "n_local: input should be greater than or equal to 1"),
        ({"rope": ["window", "window"]}, "rope names a branch twice"),
        ({"rope": ["sliding"]}, "'compressed', 'selected' or 'window'"),
        ({"phi": "max"}, "'mean', 'score' or 'mlp'"),
        ({"teaching": {"kind": "dropout"}}, "unknown kind 'dropout'"),
        ({"teaching": {"kind": "branch_dropout", "p": 2}}, "teaching.p"),
        ({"window_size": 0}, "window_size"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        MIXERS.parse({"kind": "nsa", **SMALL, **changes}, "params.yaml: N")
    assert message.lower() in str(error.value).lower() and "\n" not in str(error.value)


@pytest.mark.parametrize("n_time", [1, 2, 7, 8, 9])
def test_short_text_has_no_compressed_block_and_a_window_longer_than_it(n_time: int) -> None:
    """T < l: the compressed branch is silent, the others are attention over all there is. n is larger than the blocks."""
    mixer = _built(window_size=1000, n_selected=50, rope=[])
    x_BTD = _input(n_time)
    with intervening(drop=("selected", "window")):
        y_BTD = mixer(x_BTD)
    assert not y_BTD[:, : min(n_time, 7)].any() and bool(y_BTD.any()) == (n_time > 7)
    assert mixer(x_BTD).isfinite().all()


def test_a_state_without_room_says_so() -> None:
    mixer = _built()
    with pytest.raises(ValueError, match="room for 8 tokens, 9 are needed"):
        mixer.prefill(_input(9), mixer.init_state(2, 8))
