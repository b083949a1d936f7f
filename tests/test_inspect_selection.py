"""The picture of a run: a map a layer and group with the blocks that were selected, and one sentence where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.evaluation.selection import selected
from ripstop.files import write_text
from ripstop.inspect_selection import draw, inspect_selection
from ripstop.mixers.nsa.trace import Layer, Trace
from ripstop.models.weights import save_weights
from ripstop.paper import style
from ripstop.runs import Run
from ripstop.studies.base import runs

FILE = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture(scope="module")
def grid() -> dict[str, Run]:
    made = runs(studies.load("nsa_needle"), params.load(FILE, scale="smoke").study("nsa_needle", "smoke"), "smoke", "test")
    return {str(run.factors["architecture"]): run for run in made}


def laid_out(root: Path, run: Run, trained: bool = True) -> Path:
    """The folder of a run as the workflow has it, its data beside the study."""
    folder = root / "smoke" / "nsa_needle" / "runs" / run.name
    for name, text in run.files().items():
        write_text(folder / name, text)
    data = root / "smoke" / "data" / run.data.id
    run.data.prepare(data)
    if trained:
        torch.manual_seed(0)
        save_weights(run.model.build(run.data.info(data)), folder / "model.safetensors")
    return folder


def test_a_run_is_drawn_into_its_folder(grid: dict[str, Run], tmp_path: Path) -> None:
    folder = laid_out(tmp_path, grid["nsa"])
    path = inspect_selection(folder, row=1)
    assert path == folder / "selection.pdf" and path.read_bytes().startswith(b"%PDF")
    first = (folder / "selection.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    inspect_selection(folder, row=0)
    assert (folder / "selection.png").read_bytes() != first


@pytest.mark.parametrize(
    ("architecture", "trained", "row", "told"),
    [
        ("attention", True, 0, "no layer of this run selects blocks; name a run with a mixer of kind nsa"),
        ("nsa", False, 0, r"model\.safetensors: no such file, the run is not trained"),
        ("nsa", True, 99, "--row 99: the test has the rows 0 to"),
    ],
)
def test_what_cannot_be_drawn(
    architecture: str, trained: bool, row: int, told: str, grid: dict[str, Run], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        inspect_selection(laid_out(tmp_path, grid[architecture], trained), row=row)


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
