"""The command line: every mistake is one sentence on standard error and exit status 2, and nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ripstop import __main__ as cli

ROOT = Path(__file__).parents[1]
PARAMS = str(ROOT / "params.yaml")


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """Exit status of `python -m ripstop ARGUMENTS` in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["ripstop", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan"], "params.yaml: no such file; run from the root of the repository or pass --params"),
        (["plan", "--params", PARAMS, "--scale", "smok"], "scale 'smok' does not exist; did you mean 'smoke'?"),
        (["plan", "--params", PARAMS, "--set", "studies.mqar_cliff.sedes=[0]"], "sedes: unknown key; did you mean 'seeds'?"),
        (["plan", "--params", PARAMS, "--set", "studies.mqar_clif.seeds=[0]"], "did you mean 'mqar_cliff'?"),
        (["prepare", "none/config.yaml", "--out", "x"], "none/config.yaml: no such file; `python -m ripstop plan` writes it"),
        (["train", "none", "--data", "x"], "none/config.yaml: no such file"),
        (["evaluate", "none", "--data", "x"], "none/config.yaml: no such file"),
        (["collect", "none/records.jsonl", "--out", "r.jsonl"], "none/records.jsonl: no such records; evaluate the run first"),
        (
            ["render", "mqar_clif", "--records", "r", "--out", "o"],
            "add src/ripstop/paper/studies/mqar_clif.py; did you mean 'mqar",
        ),
        (["render", "mqar_cliff", "--records", "r.jsonl", "--out", "o"], "r.jsonl: no such records"),
        (["render", "mqar_cliff", "--records", "r", "--reads", "x", "--out", "o"], "--reads x: write it as study=path"),
        (["render", "mqar_cliff", "--records", "r", "--dropped", "x", "--out", "o"], "--dropped x: write it as factor=value"),
        (["assemble", "none", "--scale", "cpu", "--out", "o", "--params", PARAMS], "none/numbers.json: no such file"),
        (["assemble", "none", "--scale", "cpu", "--out", "o"], "params.yaml: no such file"),
        (["publish", "none", "--out", "o"], "none/contents.json: no such file, or it is damaged"),
        (["verify", "--params", PARAMS], "results/cpu: holds no numbers.json of a study; run `snakemake paper/tables` at this"),
        (["verify", "--scale", "cpuu", "--params", PARAMS], "--scale cpuu: no such scale; did you mean 'cpu'?"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, *arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_plan_prints_the_grid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ripstop", "plan", "--params", PARAMS, "--scale", "smoke"])
    try:
        cli.main()
    except SystemExit as exited:
        assert not exited.code
    assert "mqar_cliff: 12 runs in results/smoke/mqar_cliff/runs" in capsys.readouterr().out
