"""env.json: what a training stands on, known from its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ripstop import provenance
from ripstop.training.environment import environment, moving, write_environment


def test_variables_that_move_numbers_are_kept_and_secrets_are_not():
    given = {
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0,1", "TORCH_LOGS": "x", "TORCHELASTIC_RUN_ID": "7",
        "NCCL_DEBUG": "INFO", "TOKENIZERS_PARALLELISM": "false", "SLURM_JWT": "s3cret", "RIPSTOP_TOKEN": "s3cret",
        "TORCH_API_KEY": "s3cret", "HOME": "/home/me", "HF_TOKEN": "s3cret", "XOMP_NUM_THREADS": "2",
    }  # fmt: skip
    kept = [
        "CUDA_VISIBLE_DEVICES",
        "NCCL_DEBUG",
        "OMP_NUM_THREADS",
        "TOKENIZERS_PARALLELISM",
        "TORCHELASTIC_RUN_ID",
        "TORCH_LOGS",
    ]
    assert list(moving(given)) == kept and moving(given)["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_process_says_what_it_is(tmp_path: Path):
    program = (
        "import torch; from pathlib import Path; from ripstop.training.environment import write_environment; "
        f"torch.set_num_threads(1); write_environment(Path({str(tmp_path)!r}), torch.device('cpu'), 4)"
    )
    there = {**os.environ, "OMP_NUM_THREADS": "1", "NCCL_P2P_DISABLE": "1"}
    child = subprocess.Popen([sys.executable, "-X", "utf8", "-c", program], env=there, cwd=tmp_path)
    assert child.wait(timeout=60) == 0
    found = json.loads((tmp_path / "env.json").read_text())
    assert (found["pid"], found["ranks"], found["threads"]) == (child.pid, 4, 1)
    assert found["command"].split()[1:4] == ["-X", "utf8", "-c"]  # as it was typed
    assert (found["host"], found["folder"]) == (os.uname().nodename, str(tmp_path.resolve()))
    assert found["device"] == {"name": provenance.processor()}
    assert found["versions"]["torch"] == torch.__version__ and found["commit"] == provenance.commit()
    assert found["environment"].items() >= {"OMP_NUM_THREADS": "1", "NCCL_P2P_DISABLE": "1"}.items()
    assert 1 <= found["cpus"] <= (os.cpu_count() or 1)


def test_the_newest_session_stands(tmp_path: Path):
    (tmp_path / "env.json").write_text("of an earlier one")
    write_environment(tmp_path, torch.device("cpu"))
    assert json.loads((tmp_path / "env.json").read_text())["ranks"] == 1


@pytest.mark.gpu
def test_a_gpu_is_named():
    device = torch.device("cuda", 0)
    found = environment(device)["device"]
    assert found["name"] == torch.cuda.get_device_name(device) and found["memory_bytes"] > 1e9 and found["cuda"]
