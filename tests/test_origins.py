"""Where records come from is kept beside them, and agrees with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ripstop import provenance
from ripstop.config import ConfigError
from ripstop.files import write_text
from ripstop.origins import contradictions, origins_file, read_origins, write_origins
from ripstop.records import Record, collect

VERSIONS = {"python": "3.11.7", "torch": "2.13.0"}


def make(root: Path, **changed: Any) -> tuple[Path, list[Record]]:
    """A study of two runs below `root`, and its collected records."""
    home = root / "results/cpu"
    write_text(home / "data/pairs-1/data.json", "{}\n")
    for seed in (0, 1):
        run = home / f"recall/runs/arm-a_seed-{seed}"
        write_text(run / "config.yaml", f"seed: {seed}\n")
        write_text(run / "part.yaml", "kind: part\n")
        report = {"identity": {"code": "c0de"}, "commit": "abc", "device": "some CPU", "versions": VERSIONS, "threads": 1}
        write_text(run / "training.json", json.dumps(report))
        stood = {"device": {"name": "some CPU"}, "commit": "def", "versions": VERSIONS}
        for folder, name in ((run, "train"), (run / "parts/part", "part")):
            log = {"RIPSTOP_LOG": f"results/cpu/logs/recall/{run.name}/{name}.log"}
            write_text(folder / "env.json", json.dumps(stood | {"environment": log}))
        record = {
            "study": "recall", "run": run.name, "scale": "cpu", "seed": seed, "part": "part", "factors": {"arm": "a"},
            "slice": {}, "metric": "accuracy", "unit": "fraction", "value": 0.5, "n": 1, "code": "beef", "config": "k",
            "data": provenance.digest(b"{}\n"), "model": "m", "commit": "abc", "device": "some CPU",
        }  # fmt: skip
        write_text(run / "parts/part/records.jsonl", json.dumps(record | changed) + "\n")
    paths, out = sorted(home.glob("recall/runs/*/parts/*/records.jsonl")), root / "results/records/cpu/recall.jsonl.gz"
    records = collect(paths, out)
    write_origins(paths, out)
    return out, records


def test_of_each_run_its_files_and_what_each_stage_stood_on(tmp_path: Path) -> None:
    out, records = make(tmp_path)
    found = read_origins(origins_file(out))
    assert list(found) == ["arm-a_seed-0", "arm-a_seed-1"]
    run = found["arm-a_seed-1"]
    assert run["config"]["path"] == "results/cpu/recall/runs/arm-a_seed-1/config.yaml"
    assert run["config"]["digest"] == provenance.digest(b"seed: 1\n")
    assert run["data"] == {"path": "results/cpu/data/pairs-1", "digest": provenance.digest(b"{}\n")}
    train, part = run["stages"]["train"], run["stages"]["part"]
    assert (train["code"], train["commit"], train["threads"], train["device"]) == ("c0de", "abc", 1, "some CPU")
    assert train["log"] == "results/cpu/logs/recall/arm-a_seed-1/train.log"
    assert (part["code"], part["config"], part["commit"], part["versions"]) == ("beef", "k", "def", VERSIONS)
    assert part["settings"] == "results/cpu/recall/runs/arm-a_seed-1/part.yaml"
    assert part["log"] == "results/cpu/logs/recall/arm-a_seed-1/part.log"
    assert contradictions(origins_file(out), records) == []


def test_the_same_runs_give_the_same_bytes_wherever_the_checkout_lies(tmp_path: Path) -> None:
    first, second = (origins_file(make(tmp_path / name)[0]).read_bytes() for name in ("one", "two"))
    assert first == second
    assert first.count(b'"threads": 1') == 1, "what many runs stood on is said once"


def test_what_was_not_kept_is_told_as_that(tmp_path: Path) -> None:
    make(tmp_path)
    for file in [*tmp_path.rglob("env.json"), *tmp_path.rglob("training.json"), *tmp_path.rglob("data.json")]:
        file.unlink()
    paths, out = sorted(tmp_path.rglob("parts/*/records.jsonl")), tmp_path / "results/records/cpu/recall.jsonl.gz"
    write_origins(paths, out)
    run = read_origins(origins_file(out))["arm-a_seed-0"]
    assert list(run["stages"]) == ["part"] and run["data"]["path"] == ""
    assert run["stages"]["part"]["log"] == "" and "versions" not in run["stages"]["part"]
    assert run["stages"]["part"]["commit"] == "abc", "the records still know it"


@pytest.mark.parametrize(
    ("key", "value"), [("data", "other"), ("model", "other"), ("code", "other"), ("config", "other"), ("commit", "other")]
)
def test_what_contradicts_the_records_is_named(key: str, value: str, tmp_path: Path) -> None:
    out, _ = make(tmp_path / "one")
    _, others = make(tmp_path / "two", **{key: value})
    told = contradictions(origins_file(out), others)
    assert len(told) == 2 and f"{key} of arm-a_seed-0, part part, is " in told[0] and f"its records say '{value}'" in told[0]


def test_a_run_too_many_and_one_too_few(tmp_path: Path) -> None:
    out, records = make(tmp_path)
    file = origins_file(out)
    assert contradictions(file, records[:1]) == [f"{file}: tells of the run arm-a_seed-1, which has no records"]
    renamed = records[0].replace(run="arm-b_seed-0")
    assert f"{file}: does not tell of the run arm-b_seed-0, which has records" in contradictions(file, [renamed, *records])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": {"a": {"stages": {"part": {"stood_on": 3}}}}, "stood_on": []}'])
def test_a_damaged_file_is_one_sentence(text: str, tmp_path: Path) -> None:
    file = tmp_path / "recall.runs.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="not a file of origins; collect the study's records again"):
        read_origins(file)
