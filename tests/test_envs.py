"""Environments and container recipes: one list of versions, in an order that builds."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
GPU = ROOT / "envs/gpu"
RECIPES = {name: (GPU / name).read_text(encoding="utf-8") for name in ("Dockerfile", "ripstop.def")}
PINS = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M))
SETUP = (GPU / "setup").read_text(encoding="utf-8")


def kernels() -> list[Requirement]:
    lines = (GPU / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def code(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def base_image(recipe: str) -> str:
    (found,) = re.findall(r"^(?:FROM|From:) (\S+)$", recipe, flags=re.M)
    return str(found)


def copied(recipe: str) -> set[str]:
    """What of the checkout goes into the image."""
    docker = re.findall(r"^COPY (.+) \S+$", recipe, flags=re.M)
    section = re.search(r"^%files\n((?: .+\n)+)", recipe, flags=re.M)
    lines = section[1].splitlines() if section else []
    return {name for line in docker for name in line.split()} | {line.split()[0] for line in lines}


def test_kernels_are_of_the_declared_versions_and_in_the_order_in_which_they_build() -> None:
    gpu = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["gpu"]
    declared = {one.name: one.specifier for one in map(Requirement, gpu)}
    built = kernels()
    assert [one.name for one in built] == ["causal-conv1d", "mamba-ssm", "flash-attn"]
    for one in built:
        (version,) = one.specifier
        assert version.operator == "==" and declared[one.name].contains(version.version)
    assert declared.keys() - {one.name for one in built} <= PINS.keys(), "what is no kernel is pinned with the rest"


def test_the_gpu_environment_names_the_pinned_torch_triton_and_cuda() -> None:
    assert f"triton=={PINS['triton']}" in SETUP
    cuda = ".".join(PINS["cuda-toolkit"].split(".")[:2])
    assert set(re.findall(r"CUDA (?:version \()?(\d+\.\d+)", SETUP)) == {cuda}
    told = (GPU / "requirements.txt").read_text(encoding="utf-8")
    assert f"torch {PINS['torch']} and triton {PINS['triton']}" in told and f"CUDA {cuda}" in told
    readme = (ROOT / "envs/README.md").read_text(encoding="utf-8")
    for one in kernels():
        assert f"{one.name} {str(one.specifier).removeprefix('==')}" in readme
    for recipe in RECIPES.values():
        assert base_image(recipe).startswith(f"nvidia/cuda:{cuda}.") and "-devel-" in base_image(recipe)


def test_recipes_make_the_same_image_and_repeat_no_version() -> None:
    docker, apptainer = RECIPES.values()
    assert base_image(docker) == base_image(apptainer) and copied(docker) == copied(apptainer)
    for recipe in RECIPES.values():
        assert "==" not in recipe and "envs/gpu/image" in code(recipe)
        assert not re.search(r"\b(pip|uv|apt-get)\b", code(recipe)), "installing is envs/gpu/image's business"


@pytest.mark.parametrize("name", RECIPES)
def test_an_image_holds_what_its_setup_reads(name: str) -> None:
    """Every path that the scripts of the environment name lies in the image, and every one copied in the checkout."""
    held = copied(RECIPES[name])
    assert all((ROOT / path).exists() for path in held)
    scripts = "\n".join(
        code((ROOT / path).read_text(encoding="utf-8")) for path in ("envs/gpu/image", "envs/gpu/setup", "envs/cpu/setup")
    )
    named = {path for path in re.findall(r"[\w./-]+", scripts) if (ROOT / path).is_file() and not path.startswith(("/", "."))}
    assert {"constraints.txt", "envs/gpu/requirements.txt", "envs/paper/debian.txt"} <= named
    assert all(path in held or path.split("/")[0] in held for path in named)
    readme = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["readme"]
    assert {"pyproject.toml", readme, "src"} <= held, "the package is built from them"


@pytest.mark.parametrize(
    "script", ["envs/gpu/image", "envs/gpu/setup", "envs/cpu/setup", "envs/comet/setup", "workflow/scripts/restore"]
)
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    assert (ROOT / script).stat().st_mode & 0o111, "cannot be run"


PYTHON = """#!/bin/sh
echo "$*" >>"$NOTED"
case "$*" in *version_info*) exit "${FITS:-0}" ;; esac
for last; do :; done
if [ "$2" = venv ]; then mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; touch "$last/pyvenv.cfg"; fi
"""
"""Stands in for an interpreter: notes what it is told, and makes an environment of copies of itself."""


@pytest.mark.parametrize("name", ["cpu", "comet"])
def test_an_environment_is_kept_where_it_is_whole_and_else_made_anew(name: str, tmp_path: Path) -> None:
    python, venv, noted = tmp_path / "python", tmp_path / "venv", tmp_path / "noted"
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)

    def made(**more: str) -> list[str]:
        """How environments were made."""
        noted.write_text("", encoding="utf-8")
        there = {"PATH": os.environ["PATH"], "PYTHON": str(python), "VENV": str(venv), "NOTED": str(noted), **more}
        subprocess.run([str(ROOT / "envs" / name / "setup")], env=there, check=True, capture_output=True)
        return [line for line in noted.read_text(encoding="utf-8").splitlines() if line.startswith("-m venv")]

    venv.mkdir()
    (venv / "mine").touch()
    assert made() == [f"-m venv {venv}"], "a folder that is no environment is not cleared"
    assert made() == []
    (venv / "bin/python").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")  # no pip, or another version
    assert made() == [f"-m venv --clear {venv}"]
    with pytest.raises(subprocess.CalledProcessError) as refused:
        made(FITS="1")
    assert refused.value.stderr.startswith(b"error: ") and refused.value.stderr.count(b"\n") == 1


def test_an_image_runs_the_checkout_that_is_mounted() -> None:
    (mounted,) = re.findall(r'-v "\$PWD:(\S+)"', RECIPES["Dockerfile"])
    assert f"PYTHONPATH={mounted}/src" in code(RECIPES["Dockerfile"])
    assert "PYTHONPATH=$PWD/src" in code(RECIPES["ripstop.def"])


def test_without_a_compiler_the_setup_says_what_is_missing(tmp_path: Path) -> None:
    tools = {
        name: subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("bash", "dirname", "env")
    }
    for name, path in tools.items():
        (tmp_path / name).symlink_to(path)
    done = subprocess.run([str(GPU / "setup")], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: no nvcc; install the CUDA 13.0 toolkit") and done.stderr.count("\n") == 1
