"""Records: what is written is what is read, and a damaged file is refused by name and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.records import Record, collect, frame, read_records, write_records


def record(run: str = "a", **changes: object) -> Record:
    values = {
        "study": "s", "run": run, "scale": "smoke", "seed": 0, "factors": {"d_state": 16}, "slice": {"num_pairs": 4},
        "metric": "accuracy", "unit": "fraction", "value": 0.25, "n": 8, "code": "c", "config": "k", "data": "d",
        "device": "cpu",
    }  # fmt: skip
    return Record.parse(values | changes, "test")


def test_round_trip(tmp_path: Path) -> None:
    records = [record(value=1 / 3), record(slice={"control": "wrong"}, metric="loss")]
    write_records(tmp_path / "r.jsonl", records)
    assert read_records(tmp_path / "r.jsonl") == records


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(path, [record()])
    path.write_text(path.read_text() + '{"study": "s"')
    with pytest.raises(ConfigError, match=r"r.jsonl:2: not a JSON line"):
        read_records(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="evaluate the run first"):
        read_records(tmp_path / "none.jsonl")


def test_collect_does_not_depend_on_the_order_of_its_arguments(tmp_path: Path) -> None:
    for run in "ba":
        write_records(tmp_path / run / "records.jsonl", [record(run)])
    paths = [tmp_path / run / "records.jsonl" for run in "ab"]
    collect(paths, tmp_path / "one.jsonl")
    collect(paths[::-1], tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_frame_gives_factors_and_slices_columns_of_their_own() -> None:
    table = frame([record(), record(slice={"num_pairs": 8, "control": "own"})])
    assert table["num_pairs"].tolist() == [4, 8]
    assert table["d_state"].tolist() == [16, 16]
    assert table["control"].isna().tolist() == [True, False]


def test_a_slice_that_hides_a_factor_is_refused() -> None:
    with pytest.raises(ConfigError, match="'d_state' names two columns"):
        frame([record(slice={"d_state": 3})])
