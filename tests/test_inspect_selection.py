"""The picture of a run: a map a layer and group with the blocks that were selected, and one sentence where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ripstop import params, studies
from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.evaluation.selection import selected
from ripstop.files import write_text
from ripstop.inspect_selection import LONGEST, _row, draw, inspect_selection
from ripstop.mixers.nsa.trace import Layer, Trace
from ripstop.models.weights import save_weights
from ripstop.paper import style
from ripstop.provenance import digest
from ripstop.runs import Run
from ripstop.studies.base import runs
from ripstop.training.train import train

FILE = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture(scope="module")
def grid() -> dict[str, Run]:
    made = runs(studies.load("nsa_needle"), params.load(FILE, scale="smoke").study("nsa_needle", "smoke"), "smoke", "test")
    return {str(run.factors["architecture"]): run for run in made}


def laid_out(root: Path, run: Run) -> Path:
    """The folder of a run as the workflow has it, its data beside the study."""
    folder = root / "smoke" / "nsa_needle" / "runs" / run.name
    for name, text in run.files().items():
        write_text(folder / name, text)
    write_text(folder / "train.code", "code\n")
    run.data.prepare(root / "smoke" / "data" / run.data.id)
    return folder


@pytest.fixture(scope="module")
def trained(grid: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = grid["nsa"]
    assert run.training is not None
    run = run.replace(training=run.training.replace(steps=2, validate_every=2))
    root = tmp_path_factory.mktemp("trained")
    folder = laid_out(root, run)
    train(folder, root / "smoke" / "data" / run.data.id)
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """The trained run, to be damaged."""
    root = trained.parents[3]
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return tmp_path / trained.relative_to(root)


def test_a_run_is_drawn_into_its_folder(copied: Path) -> None:
    path = inspect_selection(copied, row=1)
    assert path == copied / "selection.pdf" and path.read_bytes().startswith(b"%PDF")
    first = (copied / "selection.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    inspect_selection(copied / ".." / copied.name, row=0)  # however its folder is named
    assert (copied / "selection.png").read_bytes() != first


@pytest.mark.parametrize(("row", "length", "told"), [(99, None, "--row 99: the test has the rows 0 to 1"),
                                                     (-1, None, "--row -1: the test has the rows 0 to 1"),
                                                     (0, 77, "has no test of single at 77 tokens")])  # fmt: skip
def test_rows_that_are_not_tested(row: int, length: int | None, told: str, copied: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        inspect_selection(copied, row=row, length=length)
    assert not (copied / "selection.pdf").exists()


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        ("attention", "no layer of this run selects blocks; name a run with a mixer of kind nsa"),
        ("nsa", r"model\.safetensors: no such file, the run is not trained"),
    ],
)
def test_what_cannot_be_drawn(architecture: str, told: str, grid: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        inspect_selection(laid_out(tmp_path, grid[architecture]))


def reported(folder: Path, **changes: Any) -> None:
    path = folder / "training.json"
    write_text(path, json.dumps(json.loads(path.read_text()) | changes))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights of another run": (
        lambda folder: save_weights(Run.load(folder).model.build(Vocabulary(138)), folder / "model.safetensors"),
        r"model\.safetensors: is not the model that training\.json describes",
    ),
    "no report": (lambda folder: (folder / "training.json").unlink(), r"training\.json: no such file, the run is not trained"),
    "half a report": (lambda folder: write_text(folder / "training.json", "{"), r"training\.json: not a report of a training"),
    "other settings": (
        lambda folder: write_text(
            folder / "config.yaml", (folder / "config.yaml").read_text().replace("n_selected: 5", "n_selected: 7")
        ),
        "was trained with another configuration than the run has now",
    ),
    "other code": (
        lambda folder: write_text(folder / "train.code", "another\n"),
        "was trained with another code than the run has now",
    ),
    "diverged": (
        lambda folder: reported(folder, outcome="diverged"),
        r"training\.json: says that the training diverged, which this run does not allow",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_picture_is_of_what_the_run_trained(damage: str, copied: Path) -> None:
    done, told = DAMAGES[damage]
    done(copied)
    with pytest.raises(ConfigError, match=told) as error:
        inspect_selection(copied)
    assert "\n" not in str(error.value) and not list(copied.glob("selection.*"))


def test_a_run_that_may_diverge_and_did_is_not_drawn(copied: Path) -> None:
    config = copied / "config.yaml"
    write_text(config, config.read_text().replace("on_divergence: fail", "on_divergence: record"))
    identity = json.loads((copied / "training.json").read_text())["identity"] | {"configuration": digest(config.read_text())}
    reported(copied, outcome="diverged", identity=identity)
    with pytest.raises(ConfigError, match="says that the training diverged, and of such nothing is drawn"):
        inspect_selection(copied)


def test_a_row_in_which_no_block_would_be_seen(tmp_path: Path, grid: dict[str, Run]) -> None:
    tests = [{"families": ["single"], "lengths": [LONGEST], "rows": [1]}]
    data = grid["nsa"].data.replace(tests=tests)
    data.prepare(tmp_path)
    with pytest.raises(ConfigError, match=f"--length: the row has 82.. tokens, and no block is seen in more than {LONGEST}"):
        _row(data, tmp_path, 0, None)  # type: ignore[arg-type]


def test_data_that_lies_elsewhere_is_asked_for(copied: Path, tmp_path: Path) -> None:
    run = Run.load(copied)
    beside = tmp_path / "smoke" / "data" / run.data.id
    beside.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=rf"data/{run.data.id}/data\.json: no such file; the data is not prepared"):
        inspect_selection(copied)
    assert inspect_selection(copied, tmp_path / "moved").is_file()


def test_maps_are_what_was_selected() -> None:
    ids = torch.tensor([[0, -1], [0, -1], [0, 1], [1, 0], [2, 0], [2, 1]]).view(1, 6, 1, 2).repeat(1, 1, 2, 1)
    ids[:, :, 1] = ids[:, :, 1].clamp(max=0)
    trace = Trace([Layer(ids, torch.tensor([0.1, 0.2, 0.9]), None)])
    with style.style():
        figure = draw(trace, [2], [3, 5], "a run")
    first, second, gates = figure.axes
    for group, ax in enumerate((first, second)):
        (image,) = ax.get_images()
        assert np.array_equal(image.get_array(), selected(ids, 2)[0, :, group].numpy())
        assert [line.get_xdata()[0] for line in ax.get_lines()] == [1, 2]  # the blocks of tokens 3 and 5
        assert ax.get_title() == f"layer 1, group {group + 1}"
    assert [bar.get_height() for bar in gates.patches] == pytest.approx([0.1, 0.2, 0.9])
