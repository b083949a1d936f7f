"""latent_compression in the paper: answers by the bytes of their context, controls, gaps, and one wire for two models."""

from __future__ import annotations

from matplotlib.figure import Figure

from ripstop.paper import wire_figures, wire_tables, wires
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Table
from ripstop.paper.wires import (
    BOTH,
    CODINGS,
    FIRST,
    FORMATS,
    HEADLINE,
    LABELS,
    MAIN,
    NARROW,
    READERS,
    SECOND,
    SMALLEST,
    TEXT,
    TEXTS,
    Asked,
)
from ripstop.statistics import Estimate

ARMS = {"compressor": (TEXT, *LABELS, NARROW), "readers": (FIRST, SECOND, BOTH)}
PARTS = {"probe_auc": "probe", "wire_directions": "probe"}
METRICS = {"first": "first_accuracy", "em": "exact_match", "f1": "f1"}
NUMBERS = (
    *(f"{what}_{arm}" for arm in HEADLINE for what in ("nll", "first", "forced", "em", "f1")),
    *(f"nll_{arm}" for arm in LABELS if arm not in HEADLINE),
    *(f"wire_use_{arm}" for arm in LABELS if arm != "constant"),
    *(
        f"{arm}_{what}"
        for arm in HEADLINE
        for what in (
            *("over_zero", "over_random", "over_constant", "over_closed", "over_cut", "over_cut_outside", "over_text"),
            *("over_equal_bytes", "int4_costs", "beside_gains", "closes_to_text", "closes_to_ceiling", "swap_followed"),
        )
    ),
    *(f"narrow_{what}" for what in ("nll", "wire_use", "over_cut", "over_equal_bytes", "int4_costs", "bytes", "costs")),
    "pointer_over_mean_pool",
    "feature_resampler_over_mean_pool",
    *(f"nll_{prompt}_{reader}" for reader in READERS for prompt in TEXTS),
    *(f"{what}_{prompt}_{reader}" for reader in READERS for prompt in ("closed", "text") for what in ("first", "em", "f1")),
    *(f"text_over_closed_{reader}" for reader in READERS),
    *(f"alignment_gap_{reader}" for reader in READERS),
    "text_swap_followed",
    "nll_ceiling",
    "ceiling_over_text",
    *(f"shared_costs_{reader}" for reader in READERS),
    *(f"shared_use_{reader}" for reader in READERS),
    *(f"{what}_{label}_text" for label in ("joint", "alone_first", "alone_second") for what in ("em", "f1")),
    *(f"wire_bytes_{bits}" for bits in FORMATS),
    "text_bytes",
    *(f"coded_bytes_{coding}" for coding in CODINGS),
    *(f"probe_auc_{arm}" for arm in HEADLINE),
    *(f"wire_directions_{arm}" for arm in HEADLINE),
    *(f"parameters_{arm}" for arm in HEADLINE),
    *(f"seconds_{what}" for what in ("compress", "wire", "text")),
    "n_vectors",
    "n_questions",
    "n_ceiling",
    "n_coded",
    "n_joint",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Losses (nll) are in nats per token of the gold answer; first, forced, em, f1: its first token the likeliest, every one,
    and what is written, greedily, by exact match and F1. Of the headline's number of vectors, and the first frozen model.

    wire_use_...: loss with another document's wire minus that with the own. <arm>_over_...: loss of what it is compared with
    minus its own; over_cut_outside: over the questions whose answer lies beyond the first M tokens; over_equal_bytes: in int4,
    text cut to as many bytes; int4_costs: the other way round; beside_gains: loss of the text minus that of the text beside its
    wire. closes_to_...: part of the way from the best of a zero, a random and a constant wire. swap_followed: of answers
    swapped in the document the share that is then likelier. shared_costs_<model>: of one wire for two models minus one of its
    own. Their intervals are over documents, the widest of the seeds. coded_bytes_...: of the same few documents.
    """
    whole, records = records, records.only(source=MAIN)
    m = wires.headline(records)
    arms = {name: Asked(name, m) for name in LABELS}
    text = Asked(TEXT, m, BOTH)
    return {
        **{f"nll_{name}": wires.loss(records, arm) for name, arm in arms.items()},
        **{
            f"{what}_{name}": wires.score(records, metric, arms[name])
            for name in HEADLINE
            for what, metric in {"forced": "forced_match", **METRICS}.items()
        },
        **{f"wire_use_{name}": wires.gain(records, arm, "wrong") for name, arm in arms.items() if name != "constant"},
        **{f"{name}_{what}": found for name in HEADLINE for what, found in wires.compared(records, arms[name]).items()},
        **{f"narrow_{what}": found for what, found in _narrow(records, Asked(NARROW, m)).items()},
        "pointer_over_mean_pool": wires.gain(records, arms["pointer"], "mean_pool"),
        "feature_resampler_over_mean_pool": wires.gain(records, arms["feature_resampler"], "mean_pool"),
        **{
            f"nll_{prompt}_{reader}": wires.loss(records, text, prompt, reader) for reader in READERS for prompt in TEXTS
        },
        **{
            f"{what}_{prompt}_{reader}": wires.score(records, metric, text, prompt, reader)
            for reader in READERS
            for prompt in ("closed", "text")
            for what, metric in METRICS.items()
        },
        **{f"text_over_closed_{r}": wires.gain(records, text, "closed", r, prompt="text") for r in READERS},
        **{f"alignment_gap_{r}": wires.largest(records, "alignment_gap", "nats", **text.by(r)) for r in READERS},
        "text_swap_followed": wires.over_documents(records, "swap_followed", "fraction", **text.by(FIRST)),
        "nll_ceiling": wires.loss(records, text, "ceiling"),
        "ceiling_over_text": wires.gain(records, text, "text", prompt="ceiling"),
        **{f"shared_costs_{r}": wires.negated(wires.gain(records, Asked("pointer", m, BOTH), "alone", r)) for r in READERS},
        **{f"shared_use_{r}": wires.gain(records, Asked("pointer", m, BOTH), "wrong", r) for r in READERS},
        **{
            f"{what}_{label}_text": wires.score(records, metric, text, "text", reader, questions="joint")
            for reader, label in (("joint", "joint"), (FIRST, "alone_first"), (SECOND, "alone_second"))
            for what, metric in METRICS.items()
            if what != "first"
        },
        **{f"wire_bytes_{bits}": wires.bytes_each(records, coding=bits, **arms["pointer"].factors) for bits in FORMATS},
        "text_bytes": wires.bytes_each(records, "context_bytes", coding="utf8", prompt="text", **text.by(FIRST)),
        **{
            f"coded_bytes_{coding}": wires.bytes_each(records, "coded_bytes", coding=coding, **text.by(FIRST))
            for coding in CODINGS
        },
        **{f"probe_auc_{name}": records.mean("probe_auc", wire="own", **arms[name].factors) for name in HEADLINE},
        **{
            f"wire_directions_{name}": records.mean("wire_directions", explained=0.9, **arms[name].factors) for name in HEADLINE
        },
        **{
            f"parameters_{name}": records.mean("trained_parameters", part="answers", **arms[name].factors) for name in HEADLINE
        },
        "seconds_compress": records.mean("compress_seconds", part="answers", **arms["pointer"].factors),
        "seconds_wire": records.mean("answer_seconds", part="answers", prompt="own", **arms["pointer"].by(FIRST)),
        "seconds_text": records.mean("answer_seconds", prompt="text", **text.by(FIRST)),
        "n_vectors": Estimate.exact(m, records.n_seeds, "count"),
        "n_questions": wires.n_over(records, "answer_nll", prompt="text", questions="all", **text.by(FIRST)),
        "n_ceiling": wires.n_over(records, "answer_nll", prompt="ceiling", questions="all", **text.by(FIRST)),
        "n_coded": wires.n_over(records, "coded_bytes", coding="gzip", **text.by(FIRST)),
        "n_joint": wires.n_over(records, "exact_match", prompt="text", questions="joint", **text.by(FIRST)),
        "n_runs": whole.n_runs,
    }  # fmt: skip


def _narrow(records: StudyRecords, arm: Asked) -> dict[str, Estimate]:
    """Of the wire with fewer numbers a vector; costs: its loss minus that of the pointer's."""
    return {
        "nll": wires.loss(records, arm),
        "wire_use": wires.gain(records, arm, "wrong"),
        "over_cut": wires.gain(records, arm, "cut_tokens"),
        **wires.in_bytes(records, arm),
        "bytes": wires.bytes_each(records, coding=SMALLEST, **arm.factors),
        "costs": wires.negated(wires.gain(records, arm, "pointer")),
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Loss by the bytes of the context; what each control and text leaves of it."""
    records = records.only(source=MAIN)
    return {
        "latent_compression": wire_figures.by_bytes(records),
        "latent_compression_controls": wire_figures.by_prompt(records),
    }


def tables(records: StudyRecords) -> dict[str, Table]:
    """Arms beside texts; what the headline gains over what; bytes; one wire for two models; other questions."""
    main = records.only(source=MAIN)
    return {
        "latent_compression": wire_tables.arms(main),
        "latent_compression_gains": wire_tables.gains(main),
        "latent_compression_bytes": wire_tables.sizes(main),
        "latent_compression_readers": wire_tables.readers(main),
        "latent_compression_sources": wire_tables.sources(records),
    }
