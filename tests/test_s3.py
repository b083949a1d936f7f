"""Results through a bucket of S3: pushed, and restored on a clone. Its packages come to a folder of their own, as they want an
older python-dateutil than constraints.txt pins."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from status import small_graph
from test_dvc import commit, git
from test_workflow import ROOT, call

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]

CLIENT = [
    "dvc-s3",
    "s3fs",
    "aiobotocore",
    "botocore",
    "boto3",
    "s3transfer",
    "jmespath",
    "aioitertools",
    "python-dateutil<3",
    "wrapt",
]
SERVER = [
    "moto",
    "werkzeug",
    "responses",
    "xmltodict",
    "py-partiql-parser",
    "six",
    "flask",
    "flask-cors",
    "blinker",
    "itsdangerous",
]
BUCKET = "import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1]).create_bucket(Bucket='results')"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path of Python with them."""
    folder = tmp_path / "packages"
    installed = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *CLIENT, *SERVER]
    subprocess.run(installed, check=True)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return str(folder)


@pytest.fixture
def address(packages: str) -> Iterator[str]:
    """A server of S3, with a bucket `results`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = os.environ | {"PYTHONPATH": packages}
    serving = f"from moto.server import main; main(['-p', '{port}'])"
    server = subprocess.Popen([sys.executable, "-c", serving], env=there, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.1)
        found = f"http://127.0.0.1:{port}"
        subprocess.run([sys.executable, "-c", BUCKET, found], env=there, check=True)
        yield found
    finally:
        server.kill()
        server.wait()


def test_a_study_comes_back_from_a_bucket(tmp_path: Path, packages: str, address: str) -> None:
    made, clone = small_graph.make(tmp_path / "made"), tmp_path / "clone"
    shutil.copytree(ROOT / ".dvc/plots", made / ".dvc/plots")
    for name in (".dvc/config", ".dvc/.gitignore", "dvc.yaml", ".gitignore", "constraints.txt"):
        shutil.copy(ROOT / name, made / name)
    chosen = (made / "params.yaml").read_text(encoding="utf-8")
    (made / "params.yaml").write_text(chosen.replace("scale: smoke", "scale: cpu"), encoding="utf-8")
    git(made, "init", "--quiet")
    call(made, "snakemake", "study_lines", "data")

    def dvc(*arguments: str) -> str:
        return call(made, "dvc", *arguments, PYTHONPATH=os.pathsep.join([packages, str(made / "src")]))

    dvc("remote", "add", "--default", "store", "s3://results/here")
    dvc("remote", "modify", "store", "endpointurl", address)
    dvc("commit", "--force", "data", "study@lines")
    dvc("push", "data", "study@lines")
    commit(made)
    git(tmp_path, "clone", "--quiet", str(made), "clone")
    said = call(clone, "workflow/scripts/restore", "lines", PYTHONPATH=packages)
    assert "lines: 3 outputs of 1 runs are current" in said
    (model,) = clone.glob("results/cpu/lines/runs/*/model.safetensors")
    assert model.read_bytes() == (made / model.relative_to(clone)).read_bytes()
    assert "Nothing to be done" in call(clone, "snakemake", "study_lines", "--dry-run")
