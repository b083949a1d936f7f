"""Ways of teaching the selection: what each moves in training, and that none but its own moves the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ripstop.mixers.nsa import NSAConfig
from ripstop.mixers.nsa.mixer import NativeSparseAttention
from ripstop.mixers.nsa.teaching import TEACHINGS
from ripstop.mixers.nsa.trace import intervening, tracing
from ripstop.ops.segments import Segments

D_MODEL = 24
SMALL = {
    "compress_block": 4,
    "compress_stride": 4,
    "select_block": 4,
    "n_selected": 4,
    "window_size": 5,
    "n_heads": 4,
    "n_kv_heads": 2,
}


def _built(**teaching: Any) -> NativeSparseAttention:
    torch.manual_seed(0)
    return NSAConfig(**SMALL, phi="score", teaching=TEACHINGS.parse(teaching)).build(D_MODEL).double()


def _run(mixer: NativeSparseAttention, x_BTD: Tensor, segments: Segments | None = None) -> tuple[Tensor, Tensor | None]:
    with tracing() as trace:
        y_BTD = mixer(x_BTD, segments)
    return y_BTD, trace.layers[0].teaching_loss


X_BTD = torch.randn(2, 50, D_MODEL, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_every_way_is_here() -> None:
    assert TEACHINGS.names() == ["alternate", "branch_dropout", "indexer", "none", "score_weighted"]


@pytest.mark.parametrize(
    ("kind", "always"), [("alternate", {"p_full": 1.0}), ("branch_dropout", {"p": 1.0}), ("indexer", {"weight": 9.0})]
)
def test_outside_of_training_the_model_is_the_plain_one(kind: str, always: dict[str, float]) -> None:
    """Also where each batch of a training would be another: no draw decides this test."""
    plain, taught = _built(kind="none").eval(), _built(kind=kind, **always).eval()
    y_BTD, loss = _run(taught, X_BTD)
    assert loss is None and torch.equal(y_BTD, plain(X_BTD))


def test_branch_dropout_silences_the_selected_branch_so_often() -> None:
    mixer = _built(kind="branch_dropout", p=0.3)
    with intervening(drop=("selected",)):
        silent = mixer(X_BTD)
    torch.manual_seed(0)
    n_silent = sum(torch.equal(mixer(X_BTD), silent) for _ in range(200))
    assert 40 <= n_silent <= 80  # 60 expected, 6.5 standard deviation
    torch.manual_seed(3)
    first = [mixer(X_BTD) for _ in range(4)]
    torch.manual_seed(3)
    assert all(torch.equal(a, mixer(X_BTD)) for a in first)  # so that a training resumes bit for bit


def test_alternate_reads_everything_or_what_is_selected() -> None:
    """n l' = 16 of 50 tokens are selected."""
    dense = _built(kind="none")
    dense.blocks = dense.blocks._replace(n_selected=100)
    sparse = _built(kind="none")
    for p_full, wanted in ((1.0, dense(X_BTD)), (0.0, sparse(X_BTD))):
        for alignment in (0.0, 2.0):
            y_BTD, loss = _run(_built(kind="alternate", p_full=p_full, alignment=alignment), X_BTD)
            torch.testing.assert_close(y_BTD, wanted)
            assert (loss is None) == (alignment == 0)
    with intervening(drop=("compressed", "window")):
        difference = dense(X_BTD) - sparse(X_BTD)
    assert difference.abs().max() > 1e-3 and loss is not None and loss > 0
    (gradient,) = torch.autograd.grad(loss, [_weight(mixer := _built(kind="alternate"))], allow_unused=True)
    assert gradient is None and mixer.training  # of another model
    mixer = _built(kind="alternate", alignment=2.0)
    _, loss = _run(mixer, X_BTD)
    assert loss is not None and torch.autograd.grad(loss, _weight(mixer))[0].abs().max() > 0


def _weight(mixer: NativeSparseAttention) -> Tensor:
    return mixer.qkv_proj.weight


def test_the_indexer_falls_to_zero_where_both_agree_and_rises_where_they_do_not() -> None:
    mixer = _built(kind="indexer", weight=3.0)
    # Keys that are 0 make both uniform over blocks of the same size: nothing to learn.
    with torch.no_grad():
        _weight(mixer)[24:] = 0
    _, loss = _run(mixer, X_BTD)
    assert loss is not None and loss.abs() < 1e-4
    mixer = _built(kind="indexer", weight=3.0)
    _, loss = _run(mixer, X_BTD)
    assert loss is not None and loss > 1e-3
    gradients = torch.autograd.grad(loss, [_weight(mixer), mixer.compression.score_GK])
    rows = gradients[0].abs().amax(1).split([24, *[12] * 6])
    # Queries, compressed keys and how they are pooled learn; the keys of the target do not, nor any value.
    assert [bool(r.any()) for r in rows] == [True, True, False, False, False, False, False] and gradients[1].any()


def test_the_indexer_by_hand() -> None:
    """One head, one token a block: r is softmax(q k_c), p is softmax(q k_s), over the blocks that are free."""
    torch.manual_seed(0)
    config = NSAConfig(
        n_heads=1, head_dim=4, compress_block=1, compress_stride=1, select_block=1, n_selected=3, n_first=1, n_local=1,
        window_size=4, phi="mean", rope=(), teaching=TEACHINGS.parse({"kind": "indexer"}),
    )  # fmt: skip
    mixer = config.build(D_MODEL).double()
    with torch.no_grad():
        _weight(mixer).mul_(4)
    x_BTD = X_BTD[:1, :5]
    _, loss = _run(mixer, x_BTD)
    q, k_c, _, k_s, *_ = mixer.qkv_proj(x_BTD)[0].split(4, -1)
    wanted = []
    for t in range(2, 5):  # blocks 1, ..., t - 1 are free
        r = (q[t] @ k_c[: t + 1].T / 2).softmax(-1)[1:t] + 1e-6
        p = (q[t] @ k_s[: t + 1].T / 2).softmax(-1)[1:t]
        r, p = r / r.sum(), p / p.sum()
        wanted.append((p * (p / r).log()).sum())
    torch.testing.assert_close(loss, torch.stack(wanted).mean())


def test_packed_documents_are_taught_as_they_are_alone() -> None:
    numbers_BT = torch.tensor([[1] * 20 + [2] * 30, [1] * 50])
    for kind in ("indexer", "alternate"):
        mixer = _built(kind=kind, **({"p_full": 0.0} if kind == "alternate" else {}))
        _, packed = _run(mixer, X_BTD, Segments.of(numbers_BT))
        alone = [_run(mixer, x)[1] for x in (X_BTD[:1, :20], X_BTD[:1, 20:], X_BTD[1:])]
        assert packed is not None and all(loss is not None for loss in alone)
        if kind == "alternate":  # means over tokens
            weights = torch.tensor([20.0, 30, 50], dtype=torch.float64)
        else:  # over queries with a free block behind 1 first and 2 local ones: from the fourth block on
            weights = torch.tensor([20.0 - 12, 30 - 12, 50 - 12], dtype=torch.float64)
        wanted = (torch.stack(alone) * weights).sum() / weights.sum()  # type: ignore[arg-type]
        torch.testing.assert_close(packed, wanted)


def test_scores_as_weights_teach_what_selects() -> None:
    mixer = _built(kind="score_weighted")
    with intervening(drop=("compressed", "window")):
        y_BTD, loss = _run(mixer, X_BTD)
    assert loss is None
    rows = torch.autograd.grad(y_BTD.square().sum(), _weight(mixer))[0].abs().amax(1).split([24, *[12] * 6])
    assert rows[1].any()  # the compressed keys, though the compressed branch is silent
    assert not rows[2].any()
    plain = _built(kind="none")
    with intervening(drop=("compressed", "window")):
        rows = torch.autograd.grad(plain(X_BTD).square().sum(), _weight(plain))[0].abs().amax(1).split([24, *[12] * 6])
    assert not rows[1].any()
