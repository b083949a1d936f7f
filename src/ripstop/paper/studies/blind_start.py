"""blind_start in the paper: recall by where the decoder sees its source."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import learning, plots, style
from ripstop.paper.select import StudyRecords, mean_of
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, difference_interval, mean_interval

LABELS = {"all": "all layers", "adaptive": "adaptive rule", "none": "none", "none_mean": "none, source mean added"}
SINGLE, SEVERAL = "layer_", "layers_"
BLIND = ("none", "none_mean")
CONTROLS = ("wrong", "shuffled", "zero")

LEVEL = 0.9
"""Recall whose first reaching is told."""

PARTS = {"held_out_accuracy": "learning_curve"}
ARMS = {"positions": ("layer_0", "adaptive", *BLIND)}
NUMBERS = (
    "recall_layer0",
    "recall_last",
    "recall_best_single",
    "recall_best_pair",
    "recall_adaptive",
    "recall_none",
    "recall_none_mean",
    "layer0_minus_other",
    "adaptive_minus_layer0",
    *(f"steps_to_90_{name}" for name in ("layer0", "last", "adaptive")),
    "layers_adaptive",
    "n_not_converged",
    "chance",
    "n_runs",
    *(f"control_{control}_source" for control in CONTROLS),
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Recall at the largest number of pairs for each kind of position, and layer 0 against the other single ones.

    All after the longest training.
    steps_to_90_...: steps until recall on held-out data, over all numbers of pairs, first reached 0.9.
    control_...: accuracy at the smallest number of pairs, averaged over the arms that see their source.
    """
    trainings = records.values("steps")
    trained = records.only(steps=trainings[-1])
    singles, pairs = _singles(records), records.family("positions", SEVERAL)
    fewest = records.values("num_pairs")[0]
    return {
        "recall_layer0": _recall(trained, "layer_0"),
        "recall_last": _recall(trained, singles[-1]) if singles else Estimate.missing("fraction"),
        "recall_best_single": _best(trained, singles),
        "recall_best_pair": _best(trained, pairs),
        "recall_adaptive": _recall(trained, "adaptive"),
        "recall_none": _recall(trained, "none"),
        "recall_none_mean": _recall(trained, "none_mean"),
        "layer0_minus_other": _layer0_minus_other(trained, singles),
        "adaptive_minus_layer0": _adaptive_minus_layer0(trained),
        "steps_to_90_layer0": _steps(trained, "layer_0"),
        "steps_to_90_last": _steps(trained, singles[-1]) if singles else Estimate.missing("steps"),
        "steps_to_90_adaptive": _steps(trained, "adaptive"),
        "layers_adaptive": _layers(trained, "adaptive"),
        "n_not_converged": learning.n_not_converged(trained, "positions"),
        "chance": Estimate.exact(records.chance, unit="fraction"),
        "n_runs": records.n_runs,
        **{f"control_{control}_source": _control(trained, control, fewest) for control in CONTROLS},
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """A row an arm: recall at the largest number of pairs, a panel a training, and the steps to `LEVEL` in the longest one."""
    most = records.values("num_pairs")[-1]
    arms, trainings = _arms(records), records.values("steps")
    fig = style.figure(columns=2, height=2.4)
    *panels, last = fig.subplots(1, len(trainings) + 1, sharey=True)
    for ax, steps in zip(panels, trainings, strict=True):
        trained = records.only(steps=steps)
        plots.forest(ax, [_label(name) for name in arms], [_recall(trained, name) for name in arms])
        plots.reference_line(ax, records.chance, "chance", "x")
        ax.set_title(f"{steps:g} steps")
        ax.set_xlabel(f"recall at {most:g} pairs")
        ax.set_xlim(-0.03, 1.03)
    longest = records.only(steps=trainings[-1])
    plots.forest(last, [_label(name) for name in arms], [_steps(longest, name) for name in arms])
    last.set_title(f"{trainings[-1]:g} steps")
    last.set_xlabel(f"steps to {LEVEL:g} recall")
    return {"blind_start": fig}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Recall by number of pairs after the longest training, a row an arm."""
    trained = records.only(steps=records.values("steps")[-1])
    pairs = records.values("num_pairs")
    rows: list[list[Cell]] = [
        [
            learning.mark(trained, _label(name), positions=name),
            *(trained.mean("accuracy", positions=name, control="own", num_pairs=n) for n in pairs),
        ]
        for name in _arms(records)
    ]
    return {
        "blind_start": Table(
            header=["cross-attention", *(f"{int(n)} pairs" for n in pairs)],
            rows=rows,
            caption="Recall on sequence-to-sequence MQAR by the decoder layers that attend to the source, after the longest "
            "training, mean over seeds with its 95 % interval.",
            notes=learning.NOTES,
        ),
        **learning.settings(trained, "blind_start_settings", "positions", {name: _label(name) for name in _arms(records)}),
    }


def _arms(records: StudyRecords) -> list[str]:
    """Arms in the order of the paper: single layers, several, then by LABELS, then what is new."""
    present = records.values("positions")
    order = [*_singles(records), *records.family("positions", SEVERAL), *LABELS]
    return [*(name for name in order if name in present), *(name for name in present if name not in order)]


def _singles(records: StudyRecords) -> list[str]:
    """The arms of one layer, first layer first."""
    return sorted(records.family("positions", SINGLE), key=lambda name: int(name.removeprefix(SINGLE)))


def _label(name: str) -> str:
    if name.startswith(SEVERAL):
        return "layers " + " and ".join(name.removeprefix(SEVERAL).split("_"))
    return LABELS.get(name) or name.replace("_", " ")


def _scores(records: StudyRecords, name: str) -> pd.Series:
    return records.by_seed("accuracy", positions=name, control="own", num_pairs=records.values("num_pairs")[-1])


def _recall(records: StudyRecords, name: str) -> Estimate:
    return mean_interval(_scores(records, name), "fraction")


def _steps(records: StudyRecords, name: str) -> Estimate:
    return learning.steps_to(records, LEVEL, positions=name)


def _layers(records: StudyRecords, name: str) -> Estimate:
    """Decoder layers that read the source."""
    n = records.factor("cross_layers", positions=name)
    return Estimate.missing("layers") if n is None else Estimate.exact(n, records.n_seeds, "layers")


def _best(records: StudyRecords, names: list[str]) -> Estimate:
    """The arm with the best mean. Picked on the scores it is reported with: an upper reading, not a fair estimate."""
    found = [_recall(records, name) for name in names]
    return max(found, key=lambda estimate: estimate.value) if found else Estimate.missing("fraction")


def _layer0_minus_other(records: StudyRecords, singles: list[str]) -> Estimate:
    """Recall with cross-attention at layer 0 minus the mean over the other single layers."""
    first, others = _scores(records, "layer_0"), [name for name in singles if name != "layer_0"]
    if not len(first):
        return Estimate.missing("fraction")
    if not others:
        return Estimate.unknown(len(first), "fraction")
    return difference_interval(first, mean_of(_scores(records, name) for name in others), "fraction")


def _adaptive_minus_layer0(records: StudyRecords) -> Estimate:
    adaptive, first = _scores(records, "adaptive"), _scores(records, "layer_0")
    both = len(adaptive) and len(first)
    return difference_interval(adaptive, first, "fraction") if both else Estimate.missing("fraction")


def _control(records: StudyRecords, control: str, num_pairs: float) -> Estimate:
    """Accuracy under a control, averaged over the arms that see a source of which the control can take something away."""
    seeing = [name for name in records.values("positions") if name not in BLIND]
    scores = [records.by_seed("accuracy", positions=name, control=control, num_pairs=num_pairs) for name in seeing]
    return mean_interval(mean_of(scores), "fraction")
