"""Where the records of a study come from, kept beside them in git: of each run its files, and what each stage stood on.

Records carry digests; this carries what those are digests of, and what lies with the runs: commit, device, versions, log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ripstop import provenance
from ripstop.config import ConfigError
from ripstop.files import read_object, read_text, write_text
from ripstop.records import Record, read_records

MOVES_NO_NUMBER = "says where records come from"
ENVIRONMENT = "env.json"
TRAIN = "train"
STOOD_ON = ("commit", "device", "versions", "threads", "backends")
LOG = "RIPSTOP_LOG"


def origins_file(records: Path) -> Path:
    """`<study>.runs.json` beside `<study>.jsonl.gz`."""
    return records.with_name(records.name.removesuffix(".gz").removesuffix(".jsonl") + ".runs.json")


def write_origins(paths: Iterable[Path], out: Path) -> None:
    """Write the origins of the records in `paths`, runs/<run>/parts/<part>/records.jsonl each. out: the collected records."""
    write_text(origins_file(out), origins(paths))


def origins(paths: Iterable[Path]) -> str:
    """The text of an origins file: a line a run. Its paths are those below the checkout, wherever that lies."""
    stood: dict[str, int] = {}
    runs: dict[str, dict[str, Any]] = {}
    data: dict[Path, dict[str, str]] = {}
    study = scale = ""
    for path in sorted(set(paths)):
        record, folder = read_records(path)[0], path.parents[2]
        study, scale = record.study, record.scale
        if record.run not in runs:
            home = folder.parents[2] / "data"
            data.setdefault(home, _prepared(home))
            runs[record.run] = {
                "config": _file(folder / "config.yaml"),
                "data": {"path": data[home].get(record.data, ""), "digest": record.data},
                "model": record.model,
                "stages": _trained(folder, stood),
            }
        told = _told(path.with_name(ENVIRONMENT))
        found = {"commit": record.commit, "device": record.device} | _stood_on(told)
        runs[record.run]["stages"][record.part] = {
            "code": record.code,
            "config": record.config,
            "settings": _file(folder / f"{record.part}.yaml")["path"],
            **_known(told, found, stood),
        }
    lines = {
        "stood_on": "[" + ",".join(f"\n {text}" for text in stood) + "]",
        "runs": "{" + ",".join(f"\n {json.dumps(run)}: {json.dumps(of)}" for run, of in runs.items()) + "}",
    }
    head = f'"study": {json.dumps(study)},\n"scale": {json.dumps(scale)},\n'
    return "{\n" + head + ",\n".join(f'"{key}": {text}' for key, text in lines.items()) + "\n}\n"


def read_origins(file: Path) -> dict[str, Any]:
    """What `origins` wrote; `ConfigError` where it is none."""
    try:
        found = json.loads(read_text(file, "`python -m ripstop collect` writes it"))
        runs = {run: dict(of) | {"stages": dict(of["stages"])} for run, of in found["runs"].items()}
        for of in runs.values():
            of["stages"] = {name: dict(stage) | found["stood_on"][stage["stood_on"]] for name, stage in of["stages"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file}: not a file of origins; collect the study's records again") from None
    return runs


def contradictions(file: Path, records: Sequence[Record]) -> list[str]:
    """One sentence for each thing that an origins file says of a run and its records do not."""
    runs, told = read_origins(file), []
    measured = {record.run for record in records}
    told += [f"{file}: does not tell of the run {run}, which has records" for run in sorted(measured - set(runs))]
    told += [f"{file}: tells of the run {run}, which has no records" for run in sorted(set(runs) - measured)]
    seen: set[tuple[str, str]] = set()
    for record in records:
        of = runs.get(record.run)
        if of is None or (record.run, record.part) in seen:
            continue
        seen.add((record.run, record.part))
        stage = of["stages"].get(record.part, {})
        said = {"data": of["data"].get("digest"), "model": of.get("model")}
        said |= {key: stage.get(key) for key in ("code", "config")}
        if TRAIN in of["stages"]:
            said["commit"] = of["stages"][TRAIN].get("commit")
        for key, value in said.items():
            if value != getattr(record, key):
                wanted = f"its records say {getattr(record, key)!r}"
                told.append(f"{file}: {key} of {record.run}, part {record.part}, is {value!r}, {wanted}")
    return told


def _trained(folder: Path, stood: dict[str, int]) -> dict[str, Any]:
    """The stage `train` of a run that has one."""
    report = _told(folder / "training.json")
    if not report:
        return {}
    code = (report.get("identity") or {}).get("code", "")
    return {TRAIN: {"code": code, **_known(_told(folder / ENVIRONMENT), _stood_on(report), stood)}}


def _known(told: Mapping[str, Any], found: Mapping[str, Any], stood: dict[str, int]) -> dict[str, Any]:
    log = (told.get("environment") or {}).get(LOG, "")
    return {"log": log, "stood_on": stood.setdefault(json.dumps(found), len(stood))}


def _stood_on(told: Mapping[str, Any]) -> dict[str, Any]:
    device = told.get("device")
    kept = {key: told[key] for key in STOOD_ON if told.get(key)}
    return kept | ({"device": device["name"]} if isinstance(device, dict) else {})


def _told(file: Path) -> dict[str, Any]:
    """A JSON object that lies with a run; empty where there is none, as in results of an earlier version."""
    damaged = "not a JSON object, it was damaged or edited; make the run again"
    return read_object(file, damaged) if file.is_file() else {}


def _file(path: Path) -> dict[str, str]:
    """Of a file in the folder of a run."""
    if not path.is_file():
        return {"path": "", "digest": ""}
    return {"path": str(path.relative_to(path.parents[5])), "digest": provenance.file_sha256(path)[:16]}


def _prepared(home: Path) -> dict[str, str]:
    """Digest -> folder of the prepared data below results/<scale>/data."""
    found = sorted(home.glob("*/data.json"))
    return {provenance.digest(file.read_bytes()): str(file.parent.relative_to(file.parents[4])) for file in found}
