"""Two and four processes train as one does, whatever is shared how, and resume each other.

All in double precision, so that only another order of sums is between them: losses agree to 1e-5 of their value (they are
read as float32), weights to 1e-9.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training.distributed import processes
from training.distributed.processes import fit, trainer
from training.tiny import rows

DDP, FSDP = {"strategy": "ddp"}, {"strategy": "fsdp"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "ddp of two": (DDP, {}, 2),
    "fsdp of two": (FSDP, {}, 2),
    "ddp of four": (DDP, {}, 4),
    "fsdp of four": (FSDP, {}, 4),
    "lion, fsdp": (FSDP, {"optimizer": {"kind": "lion"}, "lr": 1e-3}, 2),
    "muon, fsdp": (FSDP, {"optimizer": {"kind": "muon"}}, 2),
    "recomputed, fsdp": (FSDP, {"activation_checkpointing": True}, 2),
    "diverging, ddp": (DDP, {"on_divergence": "record", "lr": 1e200, "warmup": 0.5, "keep": "last"}, 2),
    "diverging, fsdp": (FSDP, {"on_divergence": "record", "lr": 1e200, "warmup": 0.5, "keep": "last"}, 2),
}
"""How it is shared, what is changed of the training, and by how many processes."""
RECORDS = {"on_divergence": "record"}
"""Of the chains: their checkpoints hold the state before the last update, too."""


def launch(folder: Path, groups: list[dict[str, Any]], program: str = processes.__file__) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "groups.json").write_text(json.dumps(groups))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, program, str(folder / "groups.json")], env=environment, check=True, timeout=280)


def same_rows(out: Path, expected: Path) -> None:
    found, wanted = rows(out), rows(expected)
    assert [row["step"] for row in found] == [row["step"] for row in wanted]
    measured = [key for key in wanted[0] | wanted[-1] if key.split("_")[-1] in ("loss", "accuracy", "norm", "lr")]
    assert {"loss", "accuracy", "grad_norm"} <= set(measured)
    for a, b in zip(found, wanted, strict=True):
        for key in measured:
            wanted_value = b.get(key)
            assert a.get(key) == (wanted_value and pytest.approx(wanted_value, rel=1e-5)), (key, b["step"])


def same_weights(a: dict[Any, Tensor], b: dict[Any, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-9, atol=1e-9, msg=str(name))


def weights(out: Path) -> dict[str, Tensor]:
    return torch.load(out / "weights.pt", weights_only=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case by one process, in folders `<case>/one`, and by several, in `<case>/several`; and chains of trainings, each
    of which goes on where a signal has stopped the one before it: one process, two, four."""
    root = tmp_path_factory.mktemp("distributed")
    groups: dict[int, dict[str, Any]] = {n: {"n": n, "folder": str(root / f"of {n}"), "trainings": []} for n in (2, 4)}
    for name, (parallel, changes, n) in CASES.items():
        (root / name / "one").mkdir(parents=True)
        fit({"out": root / name / "one", "changes": changes})
        groups[n]["trainings"].append({"out": str(root / name / "several"), "parallel": parallel, "changes": changes})
    for order in (("ddp", "fsdp"), ("fsdp", "ddp")):
        out = root / f"chain of {order[0]}"
        out.mkdir()
        assert fit({"out": out, "signal": [0, 3], "changes": RECORDS})["stopped"] == 128 + 15
        for n, strategy, position in ((2, order[0], 7), (4, order[1], 9)):
            told = {"out": str(out), "parallel": {"strategy": strategy}, "signal": [n - 1, position], "changes": RECORDS}
            groups[n]["trainings"].append(told)
    full = {
        "out": str(root / "full"),
        "parallel": FSDP,
        "changes": {"checkpoint_every": 2, "log_every": 4, "validate_every": 0},
    }
    full["changes"] |= {"keep": "last"}
    on_full_disk = {"n": 2, "folder": str(root / "on a full disk"), "trainings": [full | {"fill": 6}, full]}
    low_bit = {"optimizer": {"kind": "adamw_low_bit"}, "d_model": 64, "single": True, "dropout": 0.5}
    by_torchao = []  # which says something of its own when it is imported
    for name, signal in (("undisturbed", None), ("stopped", [0, 7]), ("stopped", None)):
        by_torchao.append({"out": str(root / "low bit" / name), "changes": low_bit, "signal": signal})
    by_torchao.append({"out": str(root / "low bit" / "fsdp"), "changes": low_bit, "parallel": FSDP})
    all_of_them = [*groups.values(), on_full_disk, {"n": 2, "folder": str(root / "by torchao"), "trainings": by_torchao}]
    launch(root, all_of_them)
    for group in all_of_them:
        assert json.loads((Path(group["folder"]) / "statuses.json").read_text()) == [0] * group["n"], said(
            Path(group["folder"])
        )
    return root


def said(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("std*")))


@pytest.mark.parametrize("case", CASES)
def test_several_processes_train_as_one(made: Path, case: str) -> None:
    one, several = made / case / "one", made / case / "several"
    same_rows(several, one)
    same_weights(weights(several), weights(one))
    n = CASES[case][2]
    reports = [json.loads((several / f"told-{n}-{rank}.json").read_text()) for rank in range(n)]
    expected = json.loads((one / "told-1-0.json").read_text())
    for report in reports:
        assert report["outcome"] == expected["outcome"] == ("diverged" if "diverging" in case else "finished")
        for key in ("steps", "diverged_at", "last_finite_step"):
            assert report.get(key) == expected.get(key)
        assert report["kept"]["which"] == expected["kept"]["which"] and report["kept"]["step"] == expected["kept"]["step"]
        assert report["kept"] == reports[0]["kept"] and report["validation"] == reports[0]["validation"]
        for a, b in zip(report["validation"], expected["validation"], strict=True):
            assert a == pytest.approx(b, rel=1e-9)


@pytest.mark.parametrize("first", ["ddp", "fsdp"])
def test_one_two_four_and_one_process_continue_the_same_training(made: Path, tmp_path: Path, first: str) -> None:
    out = made / f"chain of {first}"
    for n, step in ((2, 4), (4, 5)):
        told = [json.loads((out / f"told-{n}-{rank}.json").read_text()) for rank in range(n)]
        assert told == [{"stopped": 128 + 15, "step": step}] * n  # the signal was the last rank's
    newest = max((out / "checkpoints").iterdir())
    assert newest.name.startswith("step-00000005-") and newest.is_dir()
    assert {path.name for path in newest.iterdir()} > {".metadata", "state.pt", "manifest.json", "__0_0.distcp"}

    states = []  # of the best model, and before the last update
    for at, position in (("four", 7), ("five", 9)):
        stopped = trainer({"out": tmp_path / at, "signal": [0, position], "changes": RECORDS})
        with pytest.raises(SystemExit):
            stopped.fit()
        states.append(stopped)
    resumed = trainer({"out": out, "changes": RECORDS})
    resumed._start()
    assert resumed._best is not None and resumed._before is not None and resumed._best["step"] == 4
    same_weights(resumed._best["state"], dict(states[0].model.trained_state()))
    same_weights(dict(enumerate(resumed._before)), dict(enumerate(states[1]._before)))

    assert fit({"out": out, "changes": RECORDS})["resumed_at"] == 5
    one = made / "ddp of two" / "one"
    same_rows(out, one)
    same_weights(weights(out), weights(one))


def test_a_full_disk_stops_all_with_one_sentence_and_the_older_checkpoint(made: Path) -> None:
    out, text = made / "full", (made / "on a full disk" / "stdout-0").read_text()
    assert "checkpoint of step 4 cannot be written" in (out / "failed-2-0.json").read_text()
    assert {json.loads((out / f"failed-2-{rank}.json").read_text())["kind"] for rank in range(2)} <= {
        "TrainingError", "OtherRankError",
    }  # fmt: skip
    assert f"resuming at step 2 of 6 from {out}" in text
    fit({"out": made / "empty", "changes": {"checkpoint_every": 2, "validate_every": 0, "keep": "last"}})
    same_weights(weights(out), weights(made / "empty"))


def test_moments_of_8_bits_resume_and_dropout_goes_on_where_it_was(made: Path) -> None:
    """To the same bits: both ranks are there again. What FSDP2 would need other blocks for is refused."""
    stopped, undisturbed = (weights(made / "low bit" / name) for name in ("stopped", "undisturbed"))
    assert all(torch.equal(stopped[name], undisturbed[name]) for name in undisturbed)
    refused = json.loads((made / "low bit" / "fsdp" / "failed-2-1.json").read_text())
    assert refused["kind"] == "ConfigError" and "parallel.strategy: fsdp cannot share the moments" in refused["error"]


@pytest.mark.parametrize("damage", ["one bit", "shortened", "missing", "added", "no manifest", "another manifest"])
def test_a_damaged_folder_is_refused_by_name_and_the_older_one_taken(
    made: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(made / "chain of fsdp", out)
    older, newest = sorted((out / "checkpoints").glob("step-*"))[-2:]
    part, manifest = newest / "__3_0.distcp", newest / "manifest.json"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 4
    match damage:
        case "one bit":
            part.write_bytes(content)
        case "shortened":
            part.write_bytes(content[:-1])
        case "missing":
            part.unlink()
        case "added":
            (newest / "__4_0.distcp").write_bytes(content)
        case "no manifest":
            manifest.unlink()
        case "another manifest":
            manifest.write_text(manifest.read_text().replace("0", "1"))
    (out / "told-1-0.json").unlink(missing_ok=True)
    assert fit({"out": out, "changes": RECORDS | {"checkpoint_every": 5}})["resumed_at"] == 4
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{newest}: damaged, ")]
    assert len(said) == 1 and older.name.startswith("step-00000004-")
    same_weights(weights(out), weights(made / "ddp of two" / "one"))
    assert [path.suffix for path in (out / "checkpoints").iterdir() if path.name.startswith("step-00000005")] == [".pt"]


def test_only_the_first_process_says_anything(made: Path) -> None:
    for n in (2, 4):
        folder = made / f"of {n}"
        assert "step 6/6" in (folder / "stdout-0").read_text()
        assert not any((folder / f"stdout-{rank}").read_text() for rank in range(1, n))
        assert not any((folder / f"stderr-{rank}").read_text() for rank in range(n))
