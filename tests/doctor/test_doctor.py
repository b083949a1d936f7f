"""The set-up is told as it is: what works, what is missing with its command, and never a traceback."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from training.test_checkpoint import largest_file

from ripstop.doctor import doctor as module
from ripstop.doctor import machine, packages, tools, work
from ripstop.doctor.doctor import CHECKS, doctor
from ripstop.doctor.finding import Finding, examine
from ripstop.mixers import MIXERS

ROOT = Path(__file__).parents[2]


def call(*arguments: str, **variables: str) -> tuple[int, str, str]:
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120", **variables}
    command = [sys.executable, "-m", "ripstop", "doctor", *arguments]
    done = subprocess.run(command, env=there, cwd=ROOT, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout, done.stderr


def package(folder: Path, name: str, text: str) -> str:
    """A PYTHONPATH on which `name` is the module of this text."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)
    return f"{folder}:{ROOT / 'src'}"


def program(folder: Path, name: str, text: str) -> str:
    """A PATH on which `name` is this shell script."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def screen() -> str:
    """What a whole examination prints here."""
    out = io.StringIO()
    before = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    console = Console(file=out, width=100, highlight=False, force_terminal=False)
    assert doctor(console=console) == 0, out.getvalue()
    assert (signal.getsignal(signal.SIGTERM), torch.get_num_threads()) == before
    return out.getvalue()


def test_here_everything_works_on_one_screen(screen: str):
    lines = screen.splitlines()
    names = [line.split()[1] for line in lines if line.startswith(("ok ", "note ", "FAIL "))]
    assert {name for name, *_ in CHECKS if name not in ("gpu", "kernels", "cuda kernels")} <= set(names) and len(lines) <= 40
    assert lines[-1].startswith("scale cpu works here; ") and "Traceback" not in screen and "\x1b" not in screen


def test_every_mixer_took_a_step(screen: str):
    said = " ".join(screen.split())
    times = {kind: re.search(rf"\b{kind} (\d+\.\d)\b", said) for kind in MIXERS.names()}
    assert all(found and float(found[1]) > 0 for found in times.values()), times


def test_a_training_was_really_stopped_and_resumed(screen: str):
    found = re.search(r"stopped at step (\d+) of (\d+) and resumed ends with the same bits", " ".join(screen.split()))
    assert found and work.STOPPED_AFTER <= int(found[1]) < int(found[2]) == work.STEPS


def test_other_bits_are_told(monkeypatch: pytest.MonkeyPatch):
    trained = work._train

    def differs(folder: Path, data: Path) -> dict[str, Any]:
        report = trained(folder, data)
        if folder.parent.name == "whole":
            from safetensors.torch import load_file, save_file

            tensors = load_file(folder / "model.safetensors")
            name = sorted(tensors)[0]
            tensors[name].view(-1)[0] += 1e-3
            save_file(tensors, folder / "model.safetensors")
        return report

    monkeypatch.setattr(work, "_train", differs)
    (finding,) = work.resume()
    assert finding.level == "FAIL" and "ends with other bits" in finding.said


def test_a_training_that_nothing_stops_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(work, "STOPPED_AFTER", 10**6)
    monkeypatch.setattr(work, "STEPS", 9)
    (finding,) = work.resume()
    assert finding == Finding("resume", "FAIL", "SIGTERM did not stop the training; is it blocked where this runs?")


def test_a_mixer_that_breaks_is_one_line_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch):
    from ripstop.mixers.attention import Attention

    monkeypatch.setattr(
        Attention, "forward", lambda self, x_BTD, segments=None: x_BTD * float("nan") + self.out_proj.weight.sum()
    )
    first, second = work.mixers()
    assert (first.name, first.level) == ("attention on cpu", "FAIL") and "not finite" in first.said
    assert second.level == "ok" and "mamba2" in second.said and "attention " not in second.said.partition(":")[2].split(", ")[0]


def test_a_torch_that_does_not_load_is_told_in_every_line_that_needs_it(tmp_path: Path):
    path = package(tmp_path, "torch", "raise OSError('libcudart.so.13: cannot open shared object file')")
    status, out, said = call(PYTHONPATH=path)
    assert status == 1 and said == "" and "Traceback" not in out
    flat = " ".join(out.split())
    assert re.search(r"FAIL torch \S+ is installed and does not import, OSError: libcudart.so.13: cannot open", flat)
    failed = [line.split()[1] for line in out.splitlines() if line.startswith("FAIL")]
    assert {"torch", "kernels", "mixers", "resume"} <= set(failed)
    assert "ok   git" in out and out.splitlines()[-1].startswith("scale cpu does not work here: ")
    assert "-> pip install --force-reinstall --no-deps -c constraints.txt 'torch" in out


@pytest.mark.parametrize("name", ["pydantic", "typer"])
def test_without_what_the_command_line_stands_on_there_is_one_sentence(tmp_path: Path, name: str):
    path = package(tmp_path, name, f"raise ImportError('no {name} for this machine')")
    remedy = "activate the environment (. .venv/bin/activate), or make it with `make setup`"
    assert call(PYTHONPATH=path) == (1, "", f"error: no {name} for this machine; {remedy}\n")


def test_json_says_the_same(monkeypatch: pytest.MonkeyPatch):
    def breaks() -> Iterator[Finding]:
        raise ImportError("broken [bold]")
        yield

    monkeypatch.setattr(
        module, "CHECKS", (("python", machine.python, "FAIL"), ("odd", breaks, "FAIL"), ("even", breaks, "note"))
    )
    out = io.StringIO()
    assert doctor(as_json=True, console=Console(file=out, width=40)) == 1
    found = [Finding(**entry) for entry in json.loads(out.getvalue())]
    assert found[0].name == "python" and found[-2:] == [
        Finding("odd", "FAIL", "ImportError: broken [bold]", "make setup"),
        Finding("even", "note", "ImportError: broken [bold]"),
    ]  # fmt: skip
    monkeypatch.setattr(module, "CHECKS", (("even", breaks, "note"),))
    assert doctor(console=Console(file=out, width=40)) == 0  # what is optional fails nothing
    assert "broken [bold]" in out.getvalue() and "scale cpu works here; 1 notes" in out.getvalue()


NO_LATEX = pytest.mark.skipif(shutil.which("latexmk") is None, reason="LaTeX is not installed")


@pytest.mark.parametrize("check", [machine.disk, work.resume, pytest.param(tools.latex, marks=NO_LATEX)])
def test_a_disk_that_takes_nothing_is_a_finding(check: Callable[[], Iterator[Finding]]):
    with largest_file(0):
        found = list(examine("this", check))
    assert found[-1].level == "FAIL" and re.search("File too large|file would be larger", found[-1].said)


def test_a_temporary_folder_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert [(f.name, f.level, f.remedy[:14]) for f in machine.disk()][1:] == [("temporary", "FAIL", "export TMPDIR=")]
    (finding,) = examine("resume", work.resume)
    assert finding.level == "FAIL" and str(tmp_path / "none") in finding.said


def test_a_library_of_another_version_is_told(monkeypatch: pytest.MonkeyPatch):
    version = importlib.metadata.version
    fake = {"pandas": "2.0.0", "scipy": "1.99.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: fake.get(name) or version(name))
    named = {finding.name: finding for finding in packages.libraries()}
    assert named.keys() == {"pandas", "libraries"}
    assert named["pandas"].level == "FAIL" and named["pandas"].said == "2.0.0 is installed, and <4,>=3 is needed"
    assert named["pandas"].remedy == "pip install -c constraints.txt 'pandas<4,>=3'"
    assert (
        named["libraries"].level == "note" and f"scipy 1.99.0 (pinned: {packages.pins()['scipy']})" in named["libraries"].said
    )


def test_a_library_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch):
    from packaging.requirements import Requirement

    monkeypatch.setattr(packages, "requirements", lambda extra="": [Requirement("no-such-thing>=2"), Requirement("rich")])
    first, second = packages.libraries()
    assert (first.level, first.said, first.remedy) == (
        "FAIL",
        "is not installed",
        "pip install -c constraints.txt 'no-such-thing>=2'",
    )
    assert second.said.startswith("1 of 2 import")
    (finding,) = packages.extra("dev", "tests", "note")
    assert (finding.level, finding.remedy) == ("note", "pip install -c constraints.txt -e '.[dev]'")
    assert finding.said == "for tests, missing: no-such-thing"


def test_requirements_and_pins_are_those_of_the_checkout():
    assert {"torch", "rich", "pyyaml"} <= {one.name for one in packages.requirements()}
    assert "snakemake" in {one.name for one in packages.requirements("workflow")}
    assert (
        packages.pins()["torch"] == "2.13.0"
        and packages._same("2.13.0+cpu", "2.13.0")
        and not packages._same("2.13.1", "2.13.0")
    )


def test_a_gpu_that_torch_does_not_use_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if torch.cuda.is_available():
        pytest.skip("torch uses the GPU here")
    text = "echo 'NVIDIA H100 80GB HBM3, 81559 MiB, 580.95.05'"
    monkeypatch.setenv("PATH", program(tmp_path, "nvidia-smi", text))
    (finding,) = machine.gpu()
    assert finding.level == "note" and finding.remedy == "envs/gpu/setup"
    assert finding.said.endswith("and the machine has NVIDIA H100 80GB HBM3, 81559 MiB, driver 580.95.05")
    monkeypatch.setenv("PATH", program(tmp_path, "nvidia-smi", "echo 'Failed to initialize NVML'; exit 9"))
    (finding,) = machine.gpu()
    assert (finding.level, finding.said) == ("ok", "none here, and scale cpu needs none")


@pytest.mark.gpu
def test_a_gpu_is_named_and_multiplies():
    finding = next(iter(machine.gpu()))
    assert finding.level == "ok" and torch.cuda.get_device_name(0) in finding.said


@pytest.mark.skipif(not all(map(__import__("shutil").which, ("latexmk", "kpsewhich"))), reason="LaTeX is not installed")
def test_a_latex_that_makes_no_page_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", program(tmp_path, "pdflatex", "echo '! I cannot find the format file pdflatex.fmt'; exit 1"))
    (finding,) = tools.latex()
    assert finding.level == "note" and finding.said == "makes no page (! I cannot find the format file pdflatex.fmt)"


def test_programs_that_are_not_there_are_notes_with_their_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = [finding for check in (tools.git, tools.dvc, tools.latex) for finding in check()]
    assert [finding.level for finding in found] == ["note"] * 3
    assert [finding.remedy for finding in found] == [tools.GIT, "pip install -c constraints.txt dvc", tools.PAPER]


@pytest.mark.parametrize(("status", "level"), [(0, "ok"), (1, "note")])
def test_an_environment_of_comet_has_to_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, level: str
) -> None:
    monkeypatch.setattr(tools, "checkout", lambda: tmp_path)
    (tmp_path / ".venv-comet/bin").mkdir(parents=True)
    assert next(tools.comet()).said.startswith("not set up"), "a folder is none"
    program(tmp_path / ".venv-comet/bin", "python", f"exit {status}")
    (finding,) = tools.comet()
    assert (finding.level, finding.remedy) == (level, "" if level == "ok" else "envs/comet/setup")


def test_bounds_of_memory_and_disk():
    assert machine._enough(10, (1, 3), "much", "why") == ("ok", "much")
    assert machine._enough(2, (1, 3), "some", "why") == ("note", "some; why")
    assert machine._enough(0.5, (1, 3), "little", "why") == ("FAIL", "little; why")
    assert 1e8 < machine._available() < 1e14


def test_whatever_a_check_raises_is_a_finding():
    def breaks() -> Iterator[Finding]:
        yield Finding("first", "ok", "fine")
        raise ZeroDivisionError("by\nzero")

    assert list(examine("x", breaks, "note", "do this")) == [
        Finding("first", "ok", "fine"), Finding("x", "note", "ZeroDivisionError: by zero", "do this")
    ]  # fmt: skip

    def leaves() -> Iterator[Finding]:
        raise SystemExit(3)
        yield

    assert next(examine("x", leaves)) == Finding("x", "FAIL", "SystemExit: 3")


def test_kernels_that_a_gpu_could_use_are_named_with_what_they_need() -> None:
    if importlib.util.find_spec("mamba_ssm"):
        pytest.skip("they are installed here")
    (without,), (with_nvcc,) = list(packages._kernels(None)), list(packages._kernels("/usr/local/cuda/bin/nvcc"))
    for finding in (without, with_nvcc):
        assert finding.level == "note" and finding.remedy == "envs/gpu/setup"
        for name in ("causal-conv1d", "mamba-ssm", "flash-attn"):
            assert f"{name} is not installed" in finding.said
        assert "torchao" not in finding.said, "it is there"
    assert "nvcc of CUDA" in without.said and "nvcc" not in with_nvcc.said
