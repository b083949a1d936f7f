"""The runs of a study: what training.json and the records of the parts say against the files that lie there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ripstop import provenance, yaml_file
from ripstop.choices import choose, resolved
from ripstop.config import ConfigError
from ripstop.files import read_object, read_text
from ripstop.origins import contradictions, origins, origins_file
from ripstop.plan import Job
from ripstop.records import Record, collect, read_records
from ripstop.verify.differences import MOST, json_differences


def check_runs(folder: Path, jobs: Mapping[str, Job], data: Path) -> list[str]:
    """One sentence for each mismatch among the runs below `folder`, results/<scale>/<study>. data: results/<scale>/data."""
    told = []
    for name, job in jobs.items():
        try:
            told += list(_run(folder / "runs" / name, job, data / job.data / "data.json"))
        except (ConfigError, OSError) as error:
            told.append(str(error))
    return told


def check_choices(folder: Path, choices: Mapping[str, Sequence[str]]) -> list[str]:
    """Settings that arms chose against the held-out losses of their candidates. choices: choice -> its candidates."""
    told = []
    for name, candidates in choices.items():
        file = folder / "choices" / f"{name}.json"
        runs = [folder / "runs" / candidate for candidate in candidates]
        if file.is_file() and all((run / "training.json").is_file() for run in runs):
            with tempfile.TemporaryDirectory() as scratch:
                again = Path(scratch) / file.name
                try:
                    choose(runs, again)
                except ConfigError as error:
                    told.append(str(error))
                    continue
                told += json_differences(file, read_text(again), "the candidates give")
    return told


def check_records(file: Path, folder: Path, jobs: Mapping[str, Job]) -> list[str]:
    """A study's records against those of the parts below `folder`, where they are there, and against the grid."""
    found = read_records(file)
    runs = {record.run for record in found}
    measured = [name for name, job in jobs.items() if job.parts]
    told = [f"{file}: holds no record of the run {name}, which the grid has" for name in measured if name not in runs]
    told += [f"{file}: holds records of the run {name}, which the grid lacks" for name in sorted(runs - set(measured))]
    paths = [folder / "runs" / name / "parts" / part / "records.jsonl" for name, job in jobs.items() for part in job.parts]
    missing = [path for path in paths if not path.is_file()]
    told += check_origins(origins_file(file), found, [] if missing else paths)
    if len(missing) == len(paths):
        return told
    if missing:
        return [*told, f"{missing[0]}: no such file, though {file} has records of the runs beside it"]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            joined = collect(paths, Path(scratch) / file.name)
        except ConfigError as error:
            return [*told, str(error)]
    mine, theirs = ({record.place(): record for record in records} for records in (found, joined))
    differ = [place for place in dict.fromkeys([*theirs, *mine]) if mine.get(place) != theirs.get(place)]
    told += [f"{file}: {_record_difference(mine.get(place), theirs.get(place))}" for place in differ[:MOST]]
    return told + ([f"{file}: {len(differ) - MOST} more records differ"] if len(differ) > MOST else [])


def check_origins(file: Path, records: Sequence[Record], paths: Sequence[Path]) -> list[str]:
    """What is said of the runs behind a study's records, against those records. paths: of the parts, where they are there."""
    try:
        told = contradictions(file, records)
        if not told:
            return json_differences(file, origins(paths), "the runs give") if paths else []
        return told[:MOST] + ([f"{file}: {len(told) - MOST} more differences"] if len(told) > MOST else [])
    except ConfigError as error:
        return [str(error)]


def _record_difference(mine: Record | None, other: Record | None) -> str:
    if mine is None or other is None:
        record = mine or other
        assert record is not None
        what = f"{record.metric} of {record.run}, part {record.part}, {_slice(record)}"
        return f"{what} is {record.value:g}, the part has none" if mine else f"{what} is missing, the part has {record.value:g}"
    keys = [key for key in Record.model_fields if getattr(mine, key) != getattr(other, key)]
    values = "; ".join(f"{key} is {getattr(mine, key)!r}, the part has {getattr(other, key)!r}" for key in keys)
    return f"{mine.metric} of {mine.run}, part {mine.part}, {_slice(mine)}: {values}"


def _slice(record: Record) -> str:
    return "where " + (", ".join(f"{key} is {value}" for key, value in record.slice.items()) or "nothing varies")


def _run(run: Path, job: Job, data: Path) -> Iterator[str]:
    config = run / "config.yaml"
    if not config.is_file():
        return
    values = yaml_file.mapping(config)
    identity = {key: values.get(key) for key in ("study", "scale", "seed", "factors")} | {"run": values.get("name")}
    if data.is_file():
        identity["data"] = provenance.digest(data.read_bytes())
    report: dict[str, Any] = {}
    if job.trains and (run / "training.json").is_file():
        report = read_object(run / "training.json", "not a report of a training; train the run again")
        yield from _training(run, report, identity)
        identity |= {"model": str(report.get("model_sha256"))[:16], "commit": report.get("commit")}
    for part in job.parts:
        file = run / "parts" / part / "records.jsonl"
        if file.is_file():
            yield from _part(file, run, part, identity)
            yield from _outcome(file, run, report, values)


def _training(run: Path, report: Mapping[str, Any], identity: Mapping[str, Any]) -> Iterator[str]:
    file, model = run / "training.json", run / "model.safetensors"
    if model.is_file():
        found = provenance.file_sha256(model)
        if found != report.get("model_sha256"):
            yield f"{model}: its SHA-256 is {found[:16]}, {file.name} says {str(report.get('model_sha256'))[:16]}"
    wanted = {"configuration": provenance.digest(resolved(run)), "code": _code(run / "train.code")}
    wanted |= {"data": identity["data"]} if "data" in identity else {}
    trained = report.get("identity") or {}
    for key, value in wanted.items():
        if value and trained.get(key) != value:
            yield f"{file}: identity.{key} is {trained.get(key)}, that of the file beside it is {value}"


def _part(file: Path, run: Path, part: str, identity: Mapping[str, Any]) -> Iterator[str]:
    settings = run / f"{part}.yaml"
    wanted = dict(identity) | {"part": part}
    if settings.is_file():
        wanted["config"] = provenance.digest(resolved(run) + read_text(settings))
    if code := _code(run / f"{part}.code"):
        wanted["code"] = code
    records = read_records(file)
    for key, value in wanted.items():
        for found in dict.fromkeys(json.dumps(getattr(record, key), sort_keys=True) for record in records):
            if json.loads(found) != value:
                yield f"{file}: {key} is {found}, the files of the run say {json.dumps(value, sort_keys=True)}"


def _outcome(file: Path, run: Path, report: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """A divergence is in the report and in the records, or in neither."""
    if not report:
        return
    diverged = [bool(record.value) for record in read_records(file) if record.metric == "diverged"]
    allowed = (config.get("training") or {}).get("on_divergence") == "record"
    said = report.get("outcome")
    wanted = "diverged" if any(diverged) else "finished"
    if said != wanted:
        why = f"the records of {file.parent.name} say" if allowed else "the run allows only"
        yield f"{run / 'training.json'}: outcome is {json.dumps(said)}, {why} {json.dumps(wanted)}"


def _code(file: Path) -> str:
    return read_text(file).strip() if file.is_file() else ""
