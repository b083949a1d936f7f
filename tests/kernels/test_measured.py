"""The length from which the kernels of sparse attention pay: read from measured times, and measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.kernels import sparse_attention
from ripstop.kernels.backend import choose
from ripstop.kernels.measured import bench_selection, selection
from ripstop.kernels.measured.selection import NEVER, Row, pays_from
from ripstop.ops.sparse_attention import Blocks

DEVICE, DTYPE = "Some GPU", "bfloat16"


def _rows(heads: int = 64, **times: dict[int, float]) -> list[Row]:
    """Forward times by form and length; backward takes twice as long, a token a tenth."""
    return [
        Row(DEVICE, DTYPE, heads, 4, 128, n, form, t, 2 * t, t / 10) for form, of in times.items() for n, t in of.items()
    ]  # fmt: skip


# torch takes 10 everywhere: with a margin of 0.1 the other may take 9.09.
@pytest.mark.parametrize(
    ("triton", "wanted"),
    [
        ({1: 20.0, 2: 9.0, 4: 5.0}, 2),
        ({1: 9.0, 2: 9.2, 4: 5.0}, 4),  # what it loses in between counts
        ({1: 1.0, 2: 1.0, 4: 9.2}, None),
        ({1: 9.0, 2: 9.0, 4: 9.0, 8: 100.0}, 1),  # at 8 there is nothing to compare with
        ({}, None),
    ],
)
@pytest.mark.parametrize("part", ["training", "forward", "decode"])
def test_pays_from(triton: dict[int, float], wanted: int | None, part: selection.Part) -> None:
    rows = _rows(torch={1: 10.0, 2: 10.0, 4: 10.0}, triton=triton)
    assert pays_from(rows, DEVICE, DTYPE, part) == wanted
    assert pays_from(rows, "Another GPU", DTYPE, part) is None
    assert pays_from(rows, DEVICE, "float32", part) is None


def test_without_a_margin_noise_decides() -> None:
    rows = _rows(torch={1: 10.0}, triton={1: 9.9})
    assert (pays_from(rows, DEVICE, DTYPE, "forward"), pays_from(rows, DEVICE, DTYPE, "forward", margin=0)) == (None, 1)


def test_it_has_to_pay_at_all_sizes_that_were_measured() -> None:
    torch_ = {1: 10.0, 2: 10.0}
    rows = _rows(16, torch=torch_, triton={1: 1.0, 2: 1.0}) + _rows(64, torch=torch_, triton={1: 20.0, 2: 1.0})
    assert pays_from(rows, DEVICE, DTYPE, "forward") == 2
    assert pays_from(rows + _rows(8, torch=torch_, triton={2: 20.0}), DEVICE, DTYPE, "forward") is None


def test_training_weighs_both_passes() -> None:
    rows = [Row(DEVICE, DTYPE, 4, 1, 64, 1, "torch", 1.0, 9.0, 1.0), Row(DEVICE, DTYPE, 4, 1, 64, 1, "triton", 2.0, 1.0, 5.0)]
    assert [pays_from(rows, DEVICE, DTYPE, part) for part in ("training", "forward", "decode")] == [1, None, None]


def test_new_times_take_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "selection.csv"
    assert selection.read(path) == []
    selection.write(_rows(torch={1: 10.0, 2: 20.0}), path)
    other = [row._replace(device='A "GPU", with a comma') for row in _rows(torch={1: 7.0})]
    selection.write(other, path)
    selection.write(_rows(torch={2: 5.5}, triton={2: 1.25}), path)
    assert selection.read(path) == other + _rows(torch={1: 10.0, 2: 5.5}, triton={2: 1.25})


@pytest.mark.parametrize("text", ["device,dtype\nx,y\n", "{}\nnothing\n", ",".join(Row._fields) + "\na,b,c,d,e,f,g,h,i,j\n"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "selection.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match="ripstop bench selection"):
        selection.read(path)


def test_the_file_that_auto_goes_by_is_whole() -> None:
    assert selection.FILE.read_text().startswith(",".join(Row._fields) + "\n")
    for row in selection.read():
        assert row.form in ("dense", "torch", "triton") and min(row.forward, row.backward, row.decode) > 0


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of its own for the choice, and a device with a name."""
    path = tmp_path / "selection.csv"
    monkeypatch.setattr(selection.read, "__defaults__", (path,))
    monkeypatch.setattr(sparse_attention, "_device_name", lambda device: DEVICE)
    selection.kernels_pay_from.cache_clear()
    yield path
    selection.kernels_pay_from.cache_clear()


def test_auto_goes_by_what_was_measured(measured: Path) -> None:
    q = torch.empty(1, 9, 64, 128, dtype=torch.bfloat16)
    assert "was not measured" in str(sparse_attention._does_not_pay(q, 10**6))
    rows = _rows(torch={1000: 10.0, 2000: 10.0}, triton={1000: 20.0, 2000: 1.0})
    selection.write([row._replace(decode={"torch": 1.0, "triton": 3.0}[row.form]) for row in rows], measured)
    selection.kernels_pay_from.cache_clear()
    assert sparse_attention._does_not_pay(q, 2000) is None
    assert "from 2000 tokens" in str(sparse_attention._does_not_pay(q, 1999))
    assert "was not measured" in str(sparse_attention._does_not_pay(q.float(), 2000))
    with torch.no_grad():
        assert sparse_attention._does_not_pay(q, 2000) is None
        assert "was not measured to pay" in str(sparse_attention._does_not_pay(q[:, :1], 10**6)), "a token is another case"
    assert selection.kernels_pay_from(DEVICE, DTYPE, "decode") == NEVER


def test_on_a_cpu_there_is_no_kernel() -> None:
    cpu = torch.device("cpu")
    assert choose("auto", sparse_attention.KERNEL, cpu, torch.float32) == "torch"
    x, blocks = torch.randn(1, 8, 1, 16), Blocks(4, 4, 8, 2)
    with pytest.raises(ConfigError, match="triton.*CUDA"):
        sparse_attention.compress_and_select("triton", x, x[:, :2], x[:, :2], blocks)
    wide = torch.randn(1, 8, 1, 264)
    with pytest.raises(ConfigError):
        sparse_attention.window_attention("triton", wide, wide, wide, 4)
    assert sparse_attention.beside("triton") == "auto" and sparse_attention.beside("torch") == "torch"


def test_the_command_measures_what_there_is() -> None:
    rows = list(bench_selection.measure(*bench_selection.asked_for([64, 33], 2, 1, 16)))
    forms = {"dense", "torch"} | ({"triton"} if torch.cuda.is_available() else set())
    assert [row.length for row in rows] == sorted(row.length for row in rows)
    assert {(row.length, row.form) for row in rows} == {(n, form) for n in (33, 64) for form in forms}
    assert all(row[2:5] == (2, 1, 16) and min(row[7:]) > 0 for row in rows)
    said = list(bench_selection.recommendation(rows, rows[0].device))
    assert any("torch is faster than dense by 10%: training" in sentence for sentence in said)
    assert list(bench_selection.recommendation(rows, "Another GPU")) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"lengths": [31]}, "--lengths 31"), ({"heads": 5, "groups": 2}, "--heads 5"), ({"dtype": "int8"}, "--dtype int8"),
     ({"heads": 0}, "--heads 0: take 1 or more"), ({"groups": 0}, "--groups 0"), ({"head_dim": -1}, "--head-dim -1"),
     ({"margin": -0.1}, "--margin -0.1: is a part of a time"), ({"margin": math.nan}, "--margin nan")],
)  # fmt: skip
def test_what_cannot_be_measured(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bench_selection.asked_for(**asked)  # type: ignore[arg-type]


def test_slow_forms_are_left_out_of_longer_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_selection, "PATIENCE", 0.0)
    rows = list(bench_selection.measure(*bench_selection.asked_for([64, 128], 2, 1, 16)))
    assert {row.length for row in rows} == {64}


def test_gates_weigh_the_branches() -> None:
    gates, branches = torch.rand(2, 3, 4, 3), [torch.randn(2, 3, 4, 5) for _ in range(3)]
    wanted = sum(gates[..., i, None] * branches[i] for i in range(3))
    torch.testing.assert_close(sparse_attention.gated_sum("torch", 3, gates, *branches), wanted)
