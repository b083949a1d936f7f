"""Draws what a trained run selects: the blocks of each token, by layer and group, and the gates of each layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ripstop import provenance
from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.haystack import to_batch
from ripstop.data.needle import NeedleBase
from ripstop.evaluation.base import Subject
from ripstop.evaluation.evaluate import training_report
from ripstop.evaluation.selection import look, selected, sparse_layers
from ripstop.mixers.nsa.trace import BRANCHES, Trace
from ripstop.paper import style
from ripstop.paper.plots import save
from ripstop.runs import Run
from ripstop.training.precision import prepare_device

FILE = "selection.pdf"
LONGEST = 8192
"""Tokens of a row that is drawn; in a longer one no block would be seen."""


def inspect_selection(folder: Path, data: Path | None = None, row: int = 0, length: int | None = None) -> Path:
    """Draw selection.pdf and .png into the folder of a trained run.

    data: its prepared data; None: where the plan puts it. row, length: which test row of the first family is read; None: of the
    shortest length. `ConfigError` where the weights are not what this run's configuration, code and data make.
    """
    run = Run.load(folder)
    if not isinstance(run.data, NeedleBase):
        raise ConfigError(f"{folder}: what is selected is drawn for data of kind needle, and this run's is {run.data.kind}")
    sparse = sparse_layers(run.model)
    if not sparse:
        raise ConfigError(f"{folder}: no layer of this run selects blocks; name a run with a mixer of kind nsa")
    data = run.data_beside(folder) if data is None else data
    run.data.verify(data)
    _is_trained(run, folder, data)
    batch, places = _row(run.data, data, row, length)
    device = prepare_device(run.compute)
    trace = look(Subject(run, folder, data, folder, device).model(), batch.to(device))
    with style.style():
        save(draw(trace, [mixer.select_block for mixer in sparse], places, run.name), folder / FILE)
    return folder / FILE


def _is_trained(run: Run, folder: Path, data: Path) -> None:
    """A picture bears the name of its run, so it is of what that run trained, as every measure is."""
    report = training_report(run, folder, {"data": provenance.digest((data / "data.json").read_bytes())})
    if report.get("outcome") == "diverged":
        raise ConfigError(f"{folder / 'training.json'}: says that the training diverged, and of such nothing is drawn")


def draw(trace: Trace, select_blocks: list[int], needles: list[int], title: str) -> Figure:
    """A map for each layer and group: tokens down, blocks across, those that a token selected dark; and the gates by layer.

    needles: places in the sequence; the block of each is marked.
    """
    n_groups = max(layer.ids_BTGn.shape[2] for layer in trace.layers)
    figure = Figure(figsize=(2.6 * n_groups + 2.6, 2.6 * len(trace.layers) + 0.4), layout="constrained")
    axes = figure.subplots(len(trace.layers), n_groups + 1, squeeze=False)
    for number, (layer, block, row) in enumerate(zip(trace.layers, select_blocks, axes, strict=True)):
        chosen_GTM = selected(layer.ids_BTGn[:1], block)[0].transpose(0, 1).cpu().numpy()
        for group, (ax, chosen_TM) in enumerate(zip(row[:-1], chosen_GTM, strict=False)):
            _map(ax, chosen_TM, [place // block for place in needles])
            ax.set_title(f"layer {number + 1}, group {group + 1}")
        for ax in row[len(chosen_GTM) : -1]:
            ax.set_visible(False)
        row[-1].bar(BRANCHES, layer.gates.tolist(), color=style.PLAIN.color)
        row[-1].set_ylim(0, 1)
        row[-1].set_title(f"mean gates of layer {number + 1}")
    figure.suptitle(title, fontsize=8)
    return figure


def _map(ax: Axes, chosen_TM: np.ndarray, blocks: list[int]) -> None:
    n_time, n_blocks = chosen_TM.shape
    ax.grid(visible=False)
    ax.imshow(chosen_TM, cmap="Greys", aspect="auto", interpolation="nearest", extent=(-0.5, n_blocks - 0.5, n_time, 0))
    for block in sorted(set(blocks)):
        ax.axvline(block, color=style.LOOKS["attention"].color, linewidth=0.6, alpha=0.6)
    ax.set_xlabel("block of keys (needles marked)")
    ax.set_ylabel("token")


def _row(config: NeedleBase, data: Path, row: int, length: int | None) -> tuple[TokenBatch, list[int]]:
    """One test row with all of its questions, and the places of its needles."""
    family, shortest, _ = next(config.tested())
    found = config.prepared_test(data, family, shortest if length is None else length)
    if not 0 <= row < len(found.haystack_BR):
        raise ConfigError(f"--row {row}: the test has the rows 0 to {len(found.haystack_BR) - 1} of this length")
    one = replace(found, **{name: value[row : row + 1] for name, value in vars(found).items() if name != "family"})
    batch = to_batch(config.lexicon(data), one)
    n_tokens = batch.tokens_BT.shape[1]
    if n_tokens > LONGEST:
        raise ConfigError(
            f"--length: the row has {n_tokens} tokens, and no block is seen in more than {LONGEST}; name a shorter one"
        )
    return batch, one.place_BQA.flatten().tolist()
