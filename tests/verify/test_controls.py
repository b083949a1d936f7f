"""A failed control is told at figures and tables, among the claims, in the abstract and by verify; one that holds is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from verify import tree

PAPER = Path(__file__).parents[2] / "paper"
LATEX = pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("pdftotext")), reason="LaTeX is not installed")
TOLD = "Statement of attention recalls (refuted: 0.605 [0.600, 0.610], needed > 0.9)"


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout in which attention does not recall."""
    root = tmp_path_factory.mktemp("failed") / "checkout"
    return tree.make(root, (PAPER / "main.tex").read_text(), {"attention": 0.6})


def read(root: Path, tmp_path: Path) -> str:
    """The text of the paper as a reader sees it, words parted by one space."""
    assembled, source = root / "results/cpu/paper", root / "paper"
    places = f".:{assembled}:{source}:{PAPER}:"
    environment = os.environ | {"TEXINPUTS": places, "BIBINPUTS": places}
    # Once: references are still missing then, and nothing that is read here is one.
    options = ["-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error"]
    subprocess.run(["pdflatex", *options, str(source / "main.tex")], cwd=tmp_path, env=environment, capture_output=True)
    assert (tmp_path / "main.pdf").is_file(), (tmp_path / "main.log").read_text(errors="replace")[-2000:]
    done = subprocess.run(["pdftotext", "main.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True)
    return re.sub(r"-?\s+", " ", done.stdout)


@LATEX
def test_the_paper_tells_of_a_failed_control(failed: Path, tmp_path: Path) -> None:
    text = read(failed, tmp_path)
    for caption in ("The figure of tide.", "Recall of tide."):
        assert f"{caption} A control of this study failed (Table" in text
    for caption in ("The figure of ebb.", "Recall of ebb."):
        assert f"{caption} A control" not in text
    assert f"What the claims came to. Control failed. {TOLD}." in text
    abstract = text[text.index("Abstract") : text.index("1 Introduction")]
    assert f"A control failed at this scale: {TOLD}." in abstract
    assert len(re.findall("attention_ ?recalls", text)) == 3, (
        "in the row of the control, and in those of the claims that need it"
    )


@LATEX
def test_nothing_is_told_of_controls_that_hold(made: Path, tmp_path: Path) -> None:
    text = read(made, tmp_path)
    assert "The figure of tide." in text and "Recall of tide." in text
    assert (
        "Control failed" not in text
        and "study failed" not in text
        and "failed at this scale" not in text
        and "undecided: control failed" not in text
    )


def test_verify_and_claims_json_tell_of_a_failed_control(failed: Path, made: Path) -> None:
    status, said = tree.verified(failed)
    assert status == 0, "a control that fails is a result"
    sentence = (
        "control attention_recalls failed (refuted: tide.recall_attention is 0.605 [0.600, 0.610], the criterion is > 0.9)"
    )
    assert f"{sentence}; it puts tide in doubt and leaves 2 claims undecided" in said
    content = json.loads((failed / "results/cpu/paper/claims.json").read_text())
    assert content["failed_controls"] == [
        {"id": "attention_recalls", "verdict": "refuted", "studies": ["tide"], "undecided": 2}
    ]
    verdicts = {claim["id"]: claim["verdict"] for claim in content["claims"]}
    assert verdicts["window_forgets"] == verdicts["mamba2_recalls"] == "undecided: control failed"
    assert verdicts["tide_is_ebb"] == "supported"
    recorded = json.loads((failed / "paper/verdicts.json").read_text())["cpu"]
    assert recorded["window_forgets"]["failed"] == ["attention_recalls"]
    assert "control" not in tree.verified(made)[1].replace("(control)", "")
    assert json.loads((made / "results/cpu/paper/claims.json").read_text())["failed_controls"] == []
