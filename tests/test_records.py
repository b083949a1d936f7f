"""Records: what is written is what is read, and what cannot be is refused on both ways, by name and line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.records import Measurement, Record, collect, frame, read_records, write_records

VALUES = {
    "study": "s", "run": "a", "scale": "smoke", "seed": 0, "part": "recall", "factors": {"d_state": 16},
    "slice": {"num_pairs": 4}, "metric": "accuracy", "unit": "fraction", "value": 0.25, "n": 8, "code": "c", "config": "k",
    "data": "d", "model": "m", "device": "cpu",
}  # fmt: skip


def record(run: str = "a", **changes: object) -> Record:
    return Record.parse(VALUES | {"run": run} | changes, "test")


def lines(path: Path, *rows: dict) -> Path:
    """A file as a faulty writer would leave it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(VALUES | row) + "\n" for row in rows))
    return path


def test_round_trip(tmp_path: Path) -> None:
    records = [record(value=1 / 3), record(slice={"control": "wrong"}, metric="loss", unit="nats"), record(factors={"é": "ü"})]
    records[2] = records[2].replace(slice={})
    write_records(tmp_path / "r.jsonl", records)
    assert read_records(tmp_path / "r.jsonl") == records


REFUSED = [
    ({"value": 1.5}, r"accuracy is 1.5 fraction, which has to be a number from 0 to 1"),
    ({"value": -0.1}, "accuracy is -0.1 fraction"),
    ({"value": math.nan}, "accuracy is nan fraction"),
    ({"value": math.inf}, "accuracy is inf fraction"),
    ({"metric": "bleu", "unit": "points", "value": 101.0}, "bleu is 101.0 points, which has to be a number from 0 to 100"),
    ({"metric": "loss", "unit": "nats", "value": -1.0}, "loss is -1.0 nats"),
    ({"metric": "state_bytes", "unit": "bytes", "value": 0.5}, "state_bytes is 0.5 bytes, which has to be a whole number"),
    ({"unit": "percent"}, "accuracy has the unknown unit 'percent'"),
    ({"n": 0}, "n: .*greater than or equal to 1"),
    ({"n": -3}, "n: .*greater than or equal to 1"),
    ({"seed": -1}, "seed: "),
    ({"slice": {"num_pairs": math.nan}}, "accuracy where num_pairs is nan"),
    ({"factors": {"lr": math.inf}}, "accuracy where lr is inf"),
    ({"study": "../../evil"}, "study: "),
    ({"scale": "x; touch P; y"}, "scale: "),
    ({"run": "a/b"}, "run: "),
    ({"device": ""}, "device: "),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_what_cannot_be_is_refused_where_it_is_written_and_where_it_is_read(
    changes: dict, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(ConfigError, match=f"test: {sentence}"):
        record(**changes)
    with pytest.raises(ConfigError, match=rf"r.jsonl: {sentence}"):
        write_records(path, [Record.model_construct(**VALUES | changes)])
    assert not path.exists()
    with pytest.raises(ConfigError, match=rf"r.jsonl:2: {sentence}.*; delete the file and evaluate the run again"):
        read_records(lines(path, {"slice": {}}, changes))


@pytest.mark.parametrize(
    "changes", [{"value": "0.5"}, {"value": True}, {"n": "8"}, {"n": 8.5}, {"seed": True}, {"value": None}]
)
def test_a_number_is_a_number(changes: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"r.jsonl:1: {next(iter(changes))}: "):
        read_records(lines(tmp_path / "r.jsonl", changes))


def test_a_measurement_that_cannot_be_names_its_run() -> None:
    identity = {key: VALUES[key] for key in VALUES.keys() - {"metric", "unit", "value", "n", "slice"}}
    assert Record.of(Measurement("accuracy", 0.25, "fraction", 8, {"num_pairs": 4}), "s/a", **identity) == record()
    with pytest.raises(ConfigError, match="s/a: accuracy is 2.0 fraction"):
        Record.of(Measurement("accuracy", 2, "fraction", 8), "s/a", **identity)


def test_a_record_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    same = record(value=0.5)  # another value: still the same thing measured
    with pytest.raises(
        ConfigError, match=r"record 2: accuracy of a, part recall, where num_pairs is 4 stands already in .*record 1; tell"
    ):
        write_records(path, [record(), same])
    with pytest.raises(
        ConfigError, match=r"r.jsonl:3: accuracy of a, part recall, where num_pairs is 4 stands already in .*r.jsonl:1"
    ):
        read_records(lines(path, {}, {"slice": {}}, {"value": 0.5}))
    others = [{}, {"slice": {"num_pairs": 8}}, {"run": "b"}, {"metric": "chance"}, {"part": "sink_off"}]
    assert len(read_records(lines(path, *others))) == 5


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(path, [record()])
    path.write_text(path.read_text() + '{"study": "s"')
    with pytest.raises(ConfigError, match=r"r.jsonl:2: not a JSON line"):
        read_records(path)
    path.write_text("[]\n")
    with pytest.raises(ConfigError, match=r"r.jsonl:1: .*evaluate the run again"):
        read_records(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"r.jsonl:1: not UTF-8"):
        read_records(path)
    lines(path, {"modle": "m"})
    with pytest.raises(ConfigError, match=r"r.jsonl:1: modle: unknown key; did you mean 'model'\?"):
        read_records(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="evaluate the run first"):
        read_records(tmp_path / "none.jsonl")


def test_collect_does_not_depend_on_the_order_of_its_arguments(tmp_path: Path) -> None:
    for run in "ba":
        write_records(tmp_path / run / "records.jsonl", [record(run)])
    paths = [tmp_path / run / "records.jsonl" for run in "ab"]
    joined = collect(paths, tmp_path / "one.jsonl")
    collect(paths[::-1], tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert [r.run for r in joined] == ["a", "b"] and read_records(tmp_path / "one.jsonl") == joined


def test_collect_takes_the_parts_of_a_run(tmp_path: Path) -> None:
    """Each part has a code and settings of its own; the model and the data are the run's."""
    size = {"part": "state_size", "metric": "state_bytes", "unit": "bytes", "value": 8, "code": "c2", "config": "k2"}
    write_records(tmp_path / "a" / "recall.jsonl", [record()])
    write_records(tmp_path / "a" / "state_size.jsonl", [record(**size)])
    assert len(collect([tmp_path / "a" / f"{part}.jsonl" for part in ("recall", "state_size")], tmp_path / "out.jsonl")) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"code": "c2"}, "code c2 of a recall is c in"),
        ({"config": "k2"}, "config k2 of a recall is k in"),
        ({"device": "H100"}, "device H100 of a recall is cpu in"),
        ({"commit": "abc"}, "commit abc of a recall is  in"),
        ({"code": "c2", "part": "other", "model": "m2"}, "model m2 of a is m in"),
        ({"part": "other", "data": "d2"}, "data d2 of a is d in"),
        ({"part": "other", "seed": 1}, "seed 1 of a is 0 in"),
        ({"part": "other", "factors": {"d_state": 8}}, r'factors {"d_state": 8} of a is {"d_state": 16} in'),
        ({"run": "b"}, "holds records of the run b, which does not lie there"),
        ({"study": "t"}, "records of t at scale smoke and s at scale smoke do not go into one file"),
        ({"scale": "cpu"}, "records of s at scale cpu and s at scale smoke do not go into one file"),
    ],
)
def test_collect_refuses_what_is_not_of_one_evaluation(changes: dict, sentence: str, tmp_path: Path) -> None:
    write_records(tmp_path / "a" / "1.jsonl", [record()])
    lines(tmp_path / "a" / "2.jsonl", {"slice": {"num_pairs": 8}} | changes)
    with pytest.raises(ConfigError, match=sentence):
        collect([tmp_path / "a" / "1.jsonl", tmp_path / "a" / "2.jsonl"], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_collect_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to collect"):
        collect([], tmp_path / "out.jsonl")


def test_collect_refuses_a_file_that_was_emptied_or_cut_at_the_end_of_a_line(tmp_path: Path) -> None:
    whole = [{"slice": {"num_pairs": 4}}, {"slice": {"num_pairs": 8}}]
    one, two = (tmp_path / run / "parts" / "recall" / "r.jsonl" for run in "ab")
    lines(one, *({"run": "a"} | row for row in whole))
    lines(two, {"run": "b", "seed": 1} | whole[0])
    with pytest.raises(ConfigError, match="b/parts/recall/r.jsonl: holds 1 records where another seed has 2"):
        collect([one, two], tmp_path / "out.jsonl")
    two.write_text("")
    with pytest.raises(ConfigError, match="b/parts/recall/r.jsonl: holds no record"):
        collect([one, two], tmp_path / "out.jsonl")
    lines(two, *({"run": "b", "seed": 1, "part": "other"} | row for row in whole))
    with pytest.raises(ConfigError, match="holds a record of the part other"):
        collect([one, two], tmp_path / "out.jsonl")
    lines(two, {"run": "b", "seed": 1, "metric": "diverged", "unit": "count", "value": 1, "slice": {}})
    assert len(collect([one, two], tmp_path / "out.jsonl")) == 3


def test_frame_gives_factors_and_slices_columns_of_their_own() -> None:
    table = frame([record(), record(slice={"num_pairs": 8, "control": "own"})])
    assert table["num_pairs"].tolist() == [4, 8]
    assert table["d_state"].tolist() == [16, 16]
    assert table["control"].isna().tolist() == [True, False]


def test_a_slice_that_hides_a_factor_is_refused() -> None:
    with pytest.raises(ConfigError, match="'d_state' names two columns"):
        frame([record(slice={"d_state": 3})])
