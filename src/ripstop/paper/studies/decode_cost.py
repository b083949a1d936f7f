"""decode_cost in the paper: bytes read and held, time and memory of a decoded token, against its context."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import costs, style
from ripstop.paper.costs import Arm, Costs
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate

LABELS = {
    "attention": "attention",
    "attention_grouped": "attention, grouped heads",
    "sliding_window": "sliding window",
    "mamba2": "Mamba-2",
    "mamba2_attention": "Mamba-2, then attention",
    "nsa": "NSA",
}
DRAWN = {"gated_delta": "Gated DeltaNet", "kda": "Kimi Delta Attention", "mamba3": "Mamba-3"}
"""Shown where a scale has them; no number is of them alone."""
MODELS = {"recall": "recall", "recall_from_source": "recall from source", "translator": "translator"}
NAMES = LABELS | DRAWN | MODELS
TABLE_4 = {8192: 2048, 16384: 2560, 32768: 3584, 65536: 5632}
"""Context -> keys that NSA reads by Table 4 of its paper (arXiv 2502.11089); full attention reads all of them."""
AT = {"short": 1024, "long": 65536}
"""Contexts that every scale has, and an eighth of the second."""
SHORT, LONG = AT.values()
EIGHTH = LONG // 8
ATTENTION: Arm = {"architecture": "attention"}
OTHERS = tuple(name for name in LABELS if name != "attention")
TICKS = (64, 1024, 16384, 131072)

ARMS = {"architecture": tuple(LABELS), "preset": tuple(MODELS)}
PARTS = dict.fromkeys(("step_seconds", "reference_step_seconds", "prompt_seconds", "reference_prompt_seconds"), "timed")
NUMBERS = (
    "context_short",
    "context_long",
    "context_eighth",
    "formula_gap",
    "keys_gap_attention",
    "keys_gap_nsa",
    *(f"attention_reads_over_{name}" for name in OTHERS),
    *(f"attention_holds_over_{name}" for name in OTHERS),
    *(f"reads_less_from_{name}" for name in OTHERS),
    "read_growth_mamba2",
    "read_growth_sliding_window",
    *(f"step_{name}_{at}" for name in LABELS for at in AT),
    *(f"step_ratio_{name}_{at}" for name in LABELS for at in AT),
    "step_growth_attention",
    "mamba2_faster_from",
    "prompt_ratio_attention",
    "prompt_longest_attention",
    "reference_spread",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Bytes are exact, at the long context where none is named; times are medians over turns.

    formula_gap: largest difference between bytes counted and computed, read or held, over all arms and contexts.
    keys_gap: largest difference between keys read in a layer and what Table 4 of NSA's paper gives, 8k to 64k.
    attention_reads_over, attention_holds_over: bytes of full attention over the arm's: above 1 where the arm has fewer.
    reads_less_from: the smallest measured context from which on the arm reads fewer bytes than full attention.
    read_growth: bytes read at the long context over those at the short one.
    step: milliseconds. step_ratio: over those of the reference, Mamba-2, in the same turn of the same process. Mamba-2 itself
        takes turns with another Mamba-2: its ratio is 1 but for what turns cannot cancel.
    step_growth_attention: milliseconds at the long context over those at an eighth of it.
    mamba2_faster_from: the smallest measured context from which on Mamba-2's step takes less time than full attention's.
    prompt_ratio_attention: seconds of full attention over those of Mamba-2 at prompt_longest_attention.
    reference_spread: slowest over fastest median step of the reference among the processes, which should be alike.
    """
    cost = Costs(records)
    prompts = cost.ratios("prompt", ATTENTION)
    longest = max(prompts, default=None)
    steps = {(n, at): cost.seconds("step", AT[at], {"architecture": n}).times(1e3, "ms") for n in LABELS for at in AT}
    eighth = cost.seconds("step", EIGHTH, ATTENTION).times(1e3, "ms")
    return {
        "context_short": Estimate.exact(SHORT, 1, "tokens"),
        "context_long": Estimate.exact(LONG, 1, "tokens"),
        "context_eighth": Estimate.exact(EIGHTH, 1, "tokens"),
        "formula_gap": _formula_gap(records),
        "keys_gap_attention": _keys_gap(cost, "attention", {context: context for context in TABLE_4}),
        "keys_gap_nsa": _keys_gap(cost, "nsa", TABLE_4),
        **{f"attention_reads_over_{n}": _attention_over(cost, "bytes_read", n) for n in OTHERS},
        **{f"attention_holds_over_{n}": _attention_over(cost, "state_bytes", n) for n in OTHERS},
        **{f"reads_less_from_{n}": _reads_less_from(cost, n) for n in OTHERS},
        "read_growth_mamba2": _read_growth(cost, "mamba2"),
        "read_growth_sliding_window": _read_growth(cost, "sliding_window"),
        **{f"step_{n}_{at}": step for (n, at), step in steps.items()},
        **{f"step_ratio_{n}_{at}": cost.ratio("step", AT[at], {"architecture": n}) for n in LABELS for at in AT},
        "step_growth_attention": steps["attention", "long"].over(eighth),
        "mamba2_faster_from": _faster_from(cost),
        "prompt_ratio_attention": Estimate.missing() if longest is None else prompts[longest],
        "prompt_longest_attention": Estimate.missing("tokens") if longest is None else Estimate.exact(longest, 1, "tokens"),
        "reference_spread": _reference_spread(records),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Bytes read and held, and time of a step; then time and memory of a prompt.

    Markers are counts where lines are formulas. An open one: more than full attention has at this context.
    """
    cost = Costs(records)
    names = _in_order(records, "architecture", LABELS)
    looks = style.looks(names)
    steps, prompts = style.figure(columns=2, height=2.7), style.figure(columns=2, height=2.5)
    read, held, took = steps.subplots(1, 3)
    took_whole, most = prompts.subplots(1, 2)
    for name in names:
        arm, look, label = {"architecture": name}, looks[name], NAMES.get(name, name)
        for ax, metric in ((read, "bytes_read"), (held, "state_bytes")):
            formula = cost.counts(f"{metric}_formula", arm)
            ax.plot(list(formula), [e.value for e in formula.values()], color=look.color, linewidth=0.8, zorder=1)
        for ax, metric, legend in ((read, "bytes_read", label), (held, "state_bytes", ""), (most, "prompt_peak_bytes", "")):
            costs.draw(ax, cost.counts(metric, arm), cost.counts(metric, ATTENTION), legend, look, joined=ax is most)
        for ax, kind, legend, factor in ((took, "step", "", 1e3), (took_whole, "prompt", label, 1)):
            own, attention = (
                {context: time.times(factor) for context, time in cost.times(kind, which).items()} for which in (arm, ATTENTION)
            )
            costs.draw(ax, own, attention, legend, look)
    titles = {
        read: "bytes that a step reads",
        held: "bytes that the state holds",
        took: "milliseconds of a step",
        took_whole: "seconds of a prompt",
        most: "most memory meanwhile",
    }
    whole = sorted({context for name in names for context in cost.counts("prompt_peak_bytes", {"architecture": name})})
    for ax, title in titles.items():
        ax.set_title(title)
        costs.context_axis(ax, whole if ax in (took_whole, most) else TICKS)
        axis = costs.time_axis if ax in (took, took_whole) else costs.bytes_axis
        axis(ax)
    for figure in (steps, prompts):
        figure.legend(loc="outside lower center", ncols=3)
    return {"decode_cost": steps, "decode_cost_prompts": prompts}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Bytes by count and by formula; keys beside those of NSA's paper; times and memory."""
    cost = Costs(records)
    arms: list[tuple[str, Arm]] = [
        (NAMES.get(name, name), {column: name})
        for column, labels in (("architecture", LABELS), ("preset", MODELS))
        for name in _in_order(records, column, labels)
    ]
    return {
        "decode_cost": _table_of_bytes(cost, arms),
        "decode_cost_keys": _table_of_keys(cost),
        "decode_cost_times": _table_of_times(cost, arms),
    }


def _table_of_bytes(cost: Costs, arms: list[tuple[str, Arm]]) -> Table:
    columns = [("bytes_read", SHORT), ("bytes_read", LONG), ("state_bytes", LONG)]
    rows: list[list[Cell]] = []
    for label, arm in arms:
        counts = [cost.count(m, context, arm) for metric, context in columns for m in (metric, f"{metric}_formula")]
        weights = cost.records.constant("weight_bytes", **arm)
        rows.append([label, *counts, cost.count("bytes_written", LONG, arm), None if weights is None else int(weights)])
    return Table(
        header=["model", "read, 1k", "formula", "read, 64k", "formula", "held, 64k", "formula", "written", "weights"],
        rows=rows,
        caption="Bytes of the past that one step reads, counted on the tensors that its operations are handed, and bytes that "
        "the state holds, each beside what its formula gives; bytes that the step writes into the past; and the decoder's "
        "weights, which it reads besides. One sequence; a context ends with the step's own token. The upper rows have one "
        "width and depth. Below them are presets of the package; of those with a source, half of the context is that.",
    )


def _table_of_keys(cost: Costs) -> Table:
    rows: list[list[Cell]] = [
        [context, _keys(cost, "attention", context), _keys(cost, "nsa", context), published]
        for context, published in TABLE_4.items()
    ]
    return Table(
        header=["context", "attention, counted", "NSA, counted", "NSA, published"],
        rows=rows,
        caption="Keys that a step reads in each layer, counted, and what Table 4 of NSA's paper gives.",
    )


def _table_of_times(cost: Costs, arms: list[tuple[str, Arm]]) -> Table:
    rows: list[list[Cell]] = []
    for label, arm in arms:
        row: list[Cell] = [label]
        for context in AT.values():
            row += [cost.seconds("step", context, arm).times(1e3, "ms"), cost.ratio("step", context, arm)]
        prompts, peaks = cost.times("prompt", arm), cost.counts("prompt_peak_bytes", arm)
        row += [str(max(prompts)), prompts[max(prompts)]] if prompts else ["", ""]
        rows.append([*row, int(peaks[max(peaks)].value) if peaks else ""])
    return Table(
        header=[
            "model",
            "step, 1k (ms)",
            "ratio",
            "step, 64k (ms)",
            "ratio",
            "prompt (tokens)",
            "prompt (s)",
            "memory (bytes)",
        ],
        rows=rows,
        caption="Time of a step, and its ratio to that of Mamba-2 in the same turn; then the longest prompt that was read, its "
        "time, and the most bytes that tensors took meanwhile, the weights not counted. Medians over turns of one process, "
        "with the interval that order statistics give.",
    )


def _in_order(records: StudyRecords, column: str, labels: Mapping[str, str]) -> list[str]:
    """The arms that there are, in the order of the labels; new ones come last under their own names."""
    there = records.values(column) if column in records.labels else []  # where a scale dropped all of them
    return [*(name for name in labels if name in there), *(name for name in there if name not in labels)]


def _keys(cost: Costs, name: str, context: int) -> float | None:
    """Keys that a layer reads, where all layers are of one mixer."""
    layers = cost.records.factor("n_layers", architecture=name)
    read = cost.count("tokens_read", context, {"architecture": name})
    return None if layers is None or read is None else read / layers


def _keys_gap(cost: Costs, name: str, wanted: Mapping[int, int]) -> Estimate:
    gaps = []
    for context, published in wanted.items():
        read = _keys(cost, name, context)
        if read is None:
            return Estimate.missing("tokens")
        gaps.append(abs(read - published))
    return Estimate.exact(max(gaps), 1, "tokens")


def _formula_gap(records: StudyRecords) -> Estimate:
    gaps = []
    for metric in ("bytes_read", "state_bytes"):
        counted, computed = (records.pick(m).set_index(["run", "context"])["value"] for m in (metric, f"{metric}_formula"))
        gaps.append((counted - computed).abs())
    both = pd.concat(gaps)
    # A count without a formula, or a formula without a count, is no agreement.
    return Estimate.exact(math.inf if both.isna().any() else float(both.max()), int(records.n_runs.value), "bytes")


def _attention_over(cost: Costs, metric: str, name: str) -> Estimate:
    attention, arm = cost.count(metric, LONG, ATTENTION), cost.count(metric, LONG, {"architecture": name})
    return Estimate.missing() if attention is None or arm is None else Estimate.exact(attention / arm)


def _read_growth(cost: Costs, name: str) -> Estimate:
    short, long = (cost.count("bytes_read", context, {"architecture": name}) for context in (SHORT, LONG))
    return Estimate.missing() if short is None or long is None else Estimate.exact(long / short)


def _reads_less_from(cost: Costs, name: str) -> Estimate:
    attention, arm = cost.counts("bytes_read", ATTENTION), cost.counts("bytes_read", {"architecture": name})
    if not attention:
        return Estimate.missing("tokens")
    return costs.from_on({context: read.value < attention[context].value for context, read in arm.items()})


def _faster_from(cost: Costs) -> Estimate:
    ratios = cost.ratios("step", ATTENTION)
    if any(math.isnan(ratio.low) for ratio in ratios.values()):
        return Estimate.unknown(1, "tokens")
    return costs.from_on({context: ratio.low > 1 for context, ratio in ratios.items()})


def _reference_spread(records: StudyRecords) -> Estimate:
    medians = records.pick("reference_step_seconds").groupby("run")["value"].median()
    return Estimate.missing() if medians.empty else Estimate.exact(float(medians.max() / medians.min()), len(medians))
