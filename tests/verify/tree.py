"""A small made-up checkout: two studies from runs to the published paper, in a git repository, all of it consistent."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ripstop import provenance
from ripstop.files import write_text
from ripstop.origins import write_origins
from ripstop.paper.assemble import assemble, publish
from ripstop.paper.render import render_study
from ripstop.plan import Job, Part, Plan
from ripstop.records import Record, collect, write_records
from ripstop.verify.verify import verify

STUDIES = ("ebb", "tide")
SCALES = ["smoke", "cpu", "h100"]
ARMS = {"attention": 0.97, "mamba2": 0.5, "window": 0.2}

PRINTER = '''
"""{study} in the paper."""

from ripstop.paper import style
from ripstop.paper.tables import Table

NUMBERS = ("recall_attention", "recall_mamba2", "recall_window", "wrong")


def numbers(records):
    found = {{f"recall_{{arm}}": records.mean("accuracy", arm=arm, control="own") for arm in ("attention", "mamba2", "window")}}
    return found | {{"wrong": records.mean("accuracy", arm="attention", control="wrong")}}


def figures(records):
    fig = style.figure(columns=1, height=1)
    ax = fig.subplots()
    y = [records.mean("accuracy", arm=arm, control="own").value for arm in ("attention", "mamba2", "window")]
    ax.plot([1, 2, 3], y, gid="{study}", label="{study}")
    ax.set_title("{study}")
    return {{"{study}": fig}}


def tables(records):
    rows = [[arm, records.mean("accuracy", arm=arm, control="own")] for arm in ("attention", "mamba2", "window")]
    return {{"{study}": Table(["arm", "recall"], rows, "Recall of {study}.")}}
'''

SECTION = r"""\section{{{study}}}
Recall is \valci{{{study}.recall_mamba2}}.
\begin{{figure}}[tbp]\centering\includegraphics{{figures/{study}.pdf}}\caption{{The figure of {study}.}}\end{{figure}}
\input{{tables/{study}.tex}}
"""


def claim(name: str, measure: str, role: str = "claim", needs: tuple[str, ...] = (), **criterion: Any) -> dict[str, Any]:
    values = {"id": name, "role": role, "statement": f"Statement of {name.replace('_', ' ')}.", "origin": "hypothesis"}
    return {**values, "measure": measure, "criterion": criterion, "needs": list(needs), "scales": ["cpu", "h100"]}


CLAIMS = [
    claim("attention_recalls", "tide.recall_attention", "control", above=0.9),
    claim("wrong_gives_nothing", "ebb.wrong", "control", below=0.1),
    claim("window_forgets", "tide.recall_window", needs=("attention_recalls",), below=0.6),
    claim("mamba2_recalls", "tide.recall_mamba2", needs=("attention_recalls",), above=0.9),
    claim("tide_is_ebb", "ebb.recall_mamba2 / tide.recall_mamba2", needs=("wrong_gives_nothing",), within=[0.5, 2.0]),
]


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=made up", "-c", "user.email=made@up", "-c", "commit.gpgsign=false"]
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "--short=12", "HEAD")


def write_printers(folder: Path) -> None:
    for study in STUDIES:
        write_text(folder / f"{study}.py", PRINTER.format(study=study))


def write_claims(root: Path, claims: list[dict[str, Any]]) -> None:
    write_text(root / "paper/claims.yaml", yaml.safe_dump({"claims": claims}, sort_keys=False))


def write_paper(root: Path, main: str) -> None:
    write_text(root / "paper/main.tex", main)
    for study in STUDIES:
        write_text(root / f"paper/sections/{study}.tex", SECTION.format(study=study))


def plan() -> Plan:
    job = Job(
        data="d", trains=True, parts={"recall": Part("main", False)}, threads=1, gpus=0, gpu_model=None, nodes=1, processes=1,
        mem_mb=100, runtime=1, evaluation_runtime=1, environment="main", work=0,
    )  # fmt: skip
    return Plan("cpu", {study: {f"arm-{arm}_seed-{seed}": job for arm in ARMS for seed in (0, 1)} for study in STUDIES}, {})


def make_runs(root: Path, made_at: str, recalls: dict[str, float] | None = None) -> None:
    """Runs with their training, as it would have been at the commit `made_at`."""
    scale = root / "results/cpu"
    write_text(scale / "data/d/data.json", "{}\n")
    data = provenance.digest(b"{}\n")
    for study in STUDIES:
        for arm, recall in (ARMS | (recalls or {})).items():
            for seed in (0, 1):
                name = f"arm-{arm}_seed-{seed}"
                run = scale / study / "runs" / name
                config = {"study": study, "scale": "cpu", "name": name, "seed": seed, "factors": {"arm": arm}}
                write_text(run / "config.yaml", yaml.safe_dump(config | {"training": {"on_divergence": "fail"}}))
                write_text(run / "recall.yaml", "kind: recall\n")
                write_text(run / "train.code", "c0de\n")
                write_text(run / "recall.code", "c0de2\n")
                write_text(run / "model.safetensors", f"{study} {name}")
                sha = provenance.file_sha256(run / "model.safetensors")
                text = (run / "config.yaml").read_bytes()
                identity = {"configuration": provenance.digest(text), "code": "c0de", "data": data}
                report = {"outcome": "finished", "commit": made_at, "identity": identity, "model_sha256": sha}
                write_text(run / "training.json", json.dumps(report))
                known = {key: config[key] for key in ("study", "scale", "seed", "factors")} | {
                    "run": name, "part": "recall", "metric": "accuracy", "unit": "fraction", "n": 10, "code": "c0de2",
                    "config": provenance.digest(text + b"kind: recall\n"), "data": data, "model": sha[:16],
                    "commit": made_at, "device": "cpu",
                }  # fmt: skip
                values = {"own": recall + 0.01 * seed, "wrong": 0.02 + 0.001 * seed}
                records = [known | {"slice": {"control": c}, "value": v} for c, v in values.items()]
                write_records(run / "parts/recall/records.jsonl", [Record.parse(values, "made up") for values in records])


def make_paper(root: Path) -> None:
    """From the runs' records to what readers see."""
    folders = []
    for study in STUDIES:
        folder = root / "results/cpu" / study
        records = root / f"results/records/cpu/{study}.jsonl.gz"
        parts = sorted(folder.glob("runs/*/parts/*/records.jsonl"))
        collect(parts, records)
        write_origins(parts, records)
        metrics = root / "results/metrics/cpu"
        paths = (metrics / f"{study}.json", metrics / f"{study}.csv")
        render_study(study, records, folder / "paper", {}, (), *paths)
        folders.append(folder / "paper")
    assemble(folders, "cpu", root / "results/cpu/paper", root / "paper", SCALES, root)
    publish(root / "results/cpu/paper", root / "paper")


def verified(root: Path, update: bool = False) -> tuple[int, str]:
    """Exit status and what is said."""
    console = Console(file=io.StringIO(), width=200)
    status = verify(plan(), SCALES, root / "paper/claims.yaml", root / "paper/verdicts.json", update, root, console)
    return status, console.file.getvalue()  # type: ignore[attr-defined]


def mismatches(root: Path) -> list[str]:
    """The sentences of a verification, which has to fail where there are any."""
    status, said = verified(root)
    lines = said.splitlines()
    found = [line.removeprefix("mismatch: ").replace(f"{root}/", "") for line in lines if line.startswith("mismatch: ")]
    assert status == bool(found) and len(lines) < 90
    return found


def made_with_printers(scratch: Path, main: str) -> Iterator[Path]:
    """The checkout below `scratch`, while its studies have printers."""
    (scratch / "printers").mkdir()
    for _ in printers(scratch / "printers"):
        yield make(scratch / "checkout", main)


def make(root: Path, main: str, recalls: dict[str, float] | None = None) -> Path:
    """The whole checkout: claims are committed, then runs are made at that commit, then results are committed."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    write_text(root / ".gitignore", "/results/*\n!/results/metrics/\n!/results/records/\n")
    write_paper(root, main)
    write_claims(root, CLAIMS)
    made_at = commit(root, "claims")
    make_runs(root, made_at, recalls)
    make_paper(root)
    verified(root, update=True)
    commit(root, "results")
    return root


def printers(folder: Path) -> Iterator[None]:
    """While this runs, the made-up studies have their printers."""
    import sys

    from ripstop.paper import studies

    write_printers(folder)
    studies.__path__.append(str(folder))
    yield
    studies.__path__.remove(str(folder))
    for study in STUDIES:
        sys.modules.pop(f"ripstop.paper.studies.{study}", None)
