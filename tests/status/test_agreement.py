"""What `status` lists is what Snakemake then runs, and its causes are what was edited: every kind of edit, on a real graph."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from status import small_graph
from status.small_graph import call

from ripstop import yaml_file
from ripstop.paper.pdf import why_no_latex
from ripstop.status import report, workflow
from ripstop.training.lock import Lock

RUN = "results/smoke/pairs/runs/arm-one_seed-0"
PAPER = {"assemble": 1, "publish": 1} | ({} if why_no_latex(small_graph.ROOT / "paper/main.tex") else {"pdf": 1})
PRINTED = {"collect": 1, "render": 1, **PAPER}

pytestmark = pytest.mark.timeout(900)  # a busy machine

Jobs = Counter[tuple[str, str, str]]


def params(*overrides: str) -> Callable[[Path], object]:
    """An edit of params.yaml."""

    def edit(folder: Path) -> None:
        path = folder / "params.yaml"
        path.write_text(yaml_file.dump(yaml_file.override(yaml_file.mapping(path), overrides, "params.yaml")), encoding="utf-8")

    return edit


def text(name: str, old: str, new: str) -> Callable[[Path], object]:
    """An edit of a text file."""

    def edit(folder: Path) -> None:
        before = (folder / name).read_text(encoding="utf-8")
        assert old in before, f"{name} no longer holds {old!r}: give this test another edit"
        (folder / name).write_text(before.replace(old, new, 1), encoding="utf-8")

    return edit


def deleted(name: str) -> Callable[[Path], object]:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def touched(name: str) -> Callable[[Path], object]:
    return lambda folder: os.utime(folder / name)


def both(*edits: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [edit(folder) for edit in edits]


def planned(folder: Path) -> None:
    """What an execution writes that is stopped before its first job."""
    call(folder, "ripstop", "plan", "--write")


def accepted(folder: Path) -> None:
    call(folder, "ripstop", "accept", "pairs", "--reason", "it is the same")


@dataclass(frozen=True)
class Edit:
    """An edit, the jobs that it must bring (rule -> number), and causes that must be told."""

    apply: Callable[[Path], object]
    jobs: dict[str, int]
    causes: tuple[str, ...] = ()
    loses: bool = False
    """Whether files of a run are gone that Snakemake does not make again."""


MEASURE = text("src/ripstop/evaluation/recall.py", "correct = total = 0", "correct, total = 0, 0")
EDITS = {
    "seed added": Edit(params("studies.pairs.seeds=[0, 1, 2]"), {"train": 1, "evaluate": 2, **PRINTED}, ("not there",)),
    "seed removed": Edit(params("studies.pairs.seeds=[0]"), PRINTED, ("it reads other files than before",)),
    "steps": Edit(
        params("studies.pairs.training.steps=5"),
        {"train": 4, "choose": 1, "evaluate": 4, **PRINTED},
        ("training.steps 4 -> 5",),
    ),
    "learning rate": Edit(
        params("studies.lines.training.lr=0.02"), {"train": 1, "evaluate": 2, **PRINTED}, ("training.lr 0.01 -> 0.02",)
    ),
    "choice edited": Edit(
        params("studies.pairs.choice.settings.training.lr=[0.001, 0.05]"),
        {"train": 3, "choose": 1, "evaluate": 4, **PRINTED},
        ("settings.training.lr 0.01 -> 0.05", "its settings are chosen again"),
    ),
    "choice taken away": Edit(
        params("studies.pairs.choice=null"), {"train": 2, "evaluate": 4, **PRINTED}, ('choice "arm-one" -> ""',)
    ),
    "setting of a part": Edit(
        params("studies.pairs.evaluation.recall.controls=[own]"),
        {"evaluate": 2, **PRINTED},
        ('evaluation.recall.controls ["own", "zero"] -> ["own"]',),
    ),
    "code of an operation": Edit(
        text("src/ripstop/ops/normalize.py", "import torch", "import torch\n\nTINY = 1e-30"),
        {"train": 5, "choose": 1, "evaluate": 6, "collect": 2, "render": 2, **PAPER},
        ("code of the training changed: ripstop.ops.normalize", "code of bits changed: ripstop.ops.normalize"),
    ),
    "code of a measure": Edit(MEASURE, {"evaluate": 2, **PRINTED}, ("code of recall changed: ripstop.evaluation.recall",)),
    "code of a printer": Edit(
        text("src/ripstop/paper/studies/pairs.py", "[0, 1], [0, 1]", "[0, 2], [0, 1]"),
        PRINTED,
        ("code of what is printed changed: ripstop.paper.studies.pairs",),
    ),
    "template of the paper": Edit(
        text("src/ripstop/paper/templates/table.tex.j2", "%", "%%"),
        {"collect": 2, "render": 2, **PAPER},
        ("a template of the paper changed",),
    ),
    "comment and message": Edit(
        both(
            text("src/ripstop/ops/normalize.py", "import torch", "import torch  # the library"),
            text("src/ripstop/evaluation/recall.py", "raise ConfigError(", "raise ConfigError('so: ' + "),
        ),
        {},
    ),
    "reporting": Edit(params("studies.pairs.reporting={log_every: 1}"), {}),
    "resources": Edit(params("studies.pairs.resources={mem_mb: 2000, runtime: 9}"), {}),
    "comment of the parameters": Edit(text("params.yaml", "studies:", "# what is varied\nstudies:"), {}),
    "overlay of the scale": Edit(
        text("workflow/scales/smoke.yaml", "steps: 3", "steps: 2"),
        {"train": 1, "evaluate": 2, **PRINTED},
        ("training.steps 3 -> 2",),
    ),
    "model deleted": Edit(deleted(f"{RUN}/model.safetensors"), {}, loses=True),
    "records of a part deleted": Edit(deleted(f"{RUN}/parts/recall"), {}, loses=True),
    "everything of a run deleted": Edit(deleted(RUN), {}, loses=True),
    "choice deleted": Edit(deleted("results/smoke/pairs/choices/arm-one.json"), {}),
    "printed study deleted": Edit(deleted("results/smoke/pairs/paper"), {}),
    "tables of the paper deleted": Edit(deleted("paper/tables"), {"publish": 1}, ("paper/tables is missing",)),
    "file touched": Edit(both(touched(f"{RUN}/config.yaml"), touched("params.yaml"), touched("paper/claims.yaml")), {}),
    "local file edited": Edit(
        text("corpus.txt", "line number 1 ", "line number one "),
        {"prepare": 1, "train": 1, "evaluate": 2, **PRINTED},
        ("corpus.txt changed", "its data are prepared again"),
    ),
    "claims": Edit(text("paper/claims.yaml", "above: 1", "above: 0"), PAPER, ("paper/claims.yaml changed",)),
    "text of the paper": Edit(text("paper/sections/pairs.tex", "pairs", "Pairs"), PAPER, ("paper/sections/pairs.tex changed",)),
    "code accepted": Edit(both(MEASURE, accepted), PAPER, ("results/accepted.json changed",)),
    "edited, planned and back": Edit(
        both(params("studies.pairs.training.steps=5"), planned, params("studies.pairs.training.steps=4")), {}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose whole graph ran."""
    folder = small_graph.make(tmp_path_factory.mktemp("status") / "finished")
    call(folder, "snakemake", "all")
    return folder


@pytest.fixture
def checkout(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, time stamps and all, that may be edited."""
    return Path(shutil.copytree(finished, tmp_path / "checkout", symlinks=True))


def told(folder: Path, *options: str) -> dict[str, Any]:
    return json.loads(call(folder, "ripstop", "status", "--json", *options))


def listed(said: dict[str, Any]) -> Jobs:
    return Counter((job["rule"], job["study"], job["name"]) for job in said["jobs"])


def executed(folder: Path) -> Jobs:
    """What Snakemake runs, without the rules that only name what is wanted."""
    found = workflow.jobs(call(folder, "snakemake", "all"), "smoke")
    return Counter((job.rule, job.study, report.name(job)) for job in found if not job.rule.startswith(report.NAMELESS))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file but those of Snakemake's own folder and of the cache, with its time stamp."""
    hidden = {".snakemake", ".cache", "__pycache__"}
    files = (path for path in folder.rglob("*") if path.is_file() and not hidden & set(path.relative_to(folder).parts))
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_nothing_is_stale_after_an_execution(finished: Path) -> None:
    said = told(finished, "--check")
    assert said["jobs"] == [] and said["paper"] == [] and said["left"] == []
    assert Counter(run["state"] for run in said["runs"]) == {"fresh": 5}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_makes_stale_what_depends_on_it_and_its_cause_is_told(checkout: Path, name: str) -> None:
    edit = EDITS[name]
    edit.apply(checkout)
    before = contents(checkout)
    said = told(checkout)
    assert Counter(job["rule"] for job in said["jobs"]) == edit.jobs
    causes = {cause for job in said["jobs"] for cause in job["causes"]}
    assert set(edit.causes) <= causes
    assert all(job["causes"] for job in said["jobs"])
    assert any(run["state"] == "gone" for run in said["runs"]) == edit.loses
    assert contents(checkout) == before, "looking writes nothing"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", EDITS)
def test_snakemake_runs_what_was_listed_and_after_that_nothing(checkout: Path, name: str) -> None:
    EDITS[name].apply(checkout)
    before = listed(told(checkout))
    assert executed(checkout) == before
    assert not listed(told(checkout))


def test_one_study_is_asked_for_and_a_check_fails_where_anything_would_run(checkout: Path) -> None:
    params("studies.lines.training.lr=0.02")(checkout)
    assert listed(told(checkout, "--study", "pairs")) == Counter()
    said = json.loads(call(checkout, "ripstop", "status", "--json", "--study", "lines", "--check", status=1))
    assert {job["study"] for job in said["jobs"]} == {"lines"} == {run["study"] for run in said["runs"]}
    assert said["command"] == "snakemake study_lines"
    assert "did you mean 'lines'" in call(checkout, "ripstop", "status", "--study", "line", status=2)


def test_a_training_that_was_stopped_and_one_that_runs_are_told(checkout: Path) -> None:
    home = checkout / RUN
    for name in ("model.safetensors", "training.json"):
        (home / name).unlink()
    shutil.rmtree(home / "parts")
    shutil.rmtree(checkout / "results/smoke/benchmarks/pairs")
    shutil.rmtree(checkout / ".snakemake/metadata")
    (home / "checkpoints/step-00000002-0123456789abcdef.pt").parent.mkdir()
    (home / "checkpoints/step-00000002-0123456789abcdef.pt").touch()
    touched(f"{RUN}/config.yaml")(checkout)
    found = {run["name"]: run for run in told(checkout)["runs"] if run["study"] == "pairs"}["arm-one_seed-0"]
    assert (found["state"], found["step"], found["steps"]) == ("stopped", 2, 4)
    with Lock(home / "training.lock"):
        found = {run["name"]: run for run in told(checkout)["runs"] if run["study"] == "pairs"}["arm-one_seed-0"]
    assert found["state"] == "running"


def test_a_planned_file_that_cannot_be_written_ends_the_execution(checkout: Path) -> None:
    """Snakemake passes over a job whose input function fails, and would call everything up to date."""
    path = checkout / "results/smoke/pairs/paper.code"
    path.unlink()
    path.mkdir()
    assert "paper.code: this is a folder, not a file; move it away" in call(checkout, "snakemake", "all", status=1)


def test_what_snakemake_complains_of_is_told(checkout: Path) -> None:
    for path in ("paper/claims.yaml", "paper/tables", "results/smoke/paper"):
        deleted(path)(checkout)
    assert "paper/claims.yaml" in call(checkout, "ripstop", "status", status=2)
    (checkout / "Snakefile").unlink()
    assert "run `status` in the root of the checkout" in call(checkout, "ripstop", "status", status=2)
