"""Made-up records of every study, shaped like the real ones, and records by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from ripstop.metrics import METRICS
from ripstop.paper import plots, precision, studies, translations
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies import memory_frontier, state_tracking
from ripstop.records import Record, Scalar, frame, write_records
from ripstop.statistics import Estimate

PAIRS = (4, 8, 16, 32)
CONTROLS = ("own", "wrong", "shuffled", "zero")
CHANCE = 1 / 64
DROPPED = {"hybrid_ratio": ["part=comet"]}
"""Study -> what the made-up records do without."""
PARTS = {"state_bytes": "state_size", "loss": "likelihood", "bleu": "translation", "chrf++": "translation"}
PARTS |= dict.fromkeys(("step_seconds", "reference_step_seconds", "prompt_seconds", "reference_prompt_seconds"), "timed")
PARTS |= dict.fromkeys(("bytes_read", "tokens_read", "bytes_written", "weight_bytes", "prompt_peak_bytes"), "counted")
PARTS |= dict.fromkeys(("held_out_accuracy", "held_out_loss", "chosen", "candidate_loss"), "learning_curve")
NEEDLE = ("accuracy_at_depth", "selection_recall_at_depth", "selection_floor_at_depth", "selected_share", "gate")
NEEDLE += ("trained_length", "peak_bytes", "prefill_seconds")
PARTS |= dict.fromkeys(NEEDLE, "needle")
PARTS |= translations.PARTS
PARTS |= dict.fromkeys(("answer_nll", "trained_parameters", "compress_seconds", "answer_seconds"), "answers")
PARTS |= {"stored_bits_per_byte": "text"}
PARTS |= {"loss_gain": "gaps", "gap_closed": "gaps", "probe_auc": "probe", "wire_directions": "probe"}
DERIVED = ("arm", "state_elements", "attention_share", "shape", "cross_layers", "n_layers", "size", "latent_share")
"""Factors that follow from others and do not enter a run's name."""

Add = Callable[..., Record]


def made_up(study: str, factors: Mapping[str, Scalar], seed: int, metric: str, value: float, **slice_: Scalar) -> Record:
    """One record of a study's run."""
    named = "_".join(f"{k}-{v}" for k, v in factors.items() if k not in DERIVED)
    values = {
        "study": study, "run": f"{named}_seed-{seed}", "scale": "cpu", "seed": seed, "part": PARTS.get(metric, "recall"),
        "factors": dict(factors), "slice": slice_, "metric": metric, "unit": METRICS.get(metric, "points"), "value": value,
        "n": 100, "code": "c", "config": "k", "data": "d", "model": "m", "device": "cpu",
    }  # fmt: skip
    return Record.parse(values, "test")


def close(estimate: Estimate, value: float, low: float, high: float, rel: float = 1e-9) -> bool:
    """An estimate over two seeds is their mean, and its interval their values."""
    found = (estimate.value, estimate.low, estimate.high)
    return estimate.n == 2 and found == pytest.approx((value, low, high), rel=rel, abs=1e-12)


def asked(study: str, records: Sequence[Record], *dropped: tuple[str, str]) -> StudyRecords:
    """Records as the study's printer gets them."""
    printer = studies.load(study)
    return StudyRecords(study, frame(records), frozenset(dropped), getattr(printer, "PARTS", {}))


def _recall(add: Add, capacity: float, noise: Callable[[], float]) -> Iterator[Record]:
    for num_pairs in PAIRS:
        right = 1 / (1 + (num_pairs / capacity) ** 2) + 0.03 * noise()
        for control in CONTROLS:
            value = float(np.clip(right if control == "own" else CHANCE * (1 + noise() / 4), 0, 1))
            yield add("accuracy", value, num_pairs=num_pairs, control=control)
    yield add("chance", CHANCE)


def _learning(add: Add, steps: int, settings: Mapping[str, float]) -> Iterator[Record]:
    """An arm that learns for three quarters of its steps, with the settings that it chose."""
    for part in range(1, 11):
        yield add("held_out_loss", 4 - min(part, 8) / 3, step=part * steps // 10)
        yield add("held_out_accuracy", min(part, 8) / 8.5, step=part * steps // 10)
    for key, value in settings.items():
        yield add("chosen", value, setting=key)
        yield add("candidate_loss", 4 - 8 / 3, candidate=f"{key} {value}")


def _mqar_cliff(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    recurrent = {"mamba2": 11, "mamba3": 9, "gated_delta": 14, "kda": 13}
    capacities = recurrent | {"attention": 500, "attention_conv": 900, "sliding_window": 6, "mamba2_attention": 400}
    for architecture, capacity in (capacities | {"attention_mamba2": 1}).items():
        for seed in range(3):
            add = run(seed, {"architecture": architecture} | ({"d_state": 16} if "mamba2" in architecture else {}))
            yield from _recall(add, capacity, noise)
            yield add("state_bytes", 4096 + capacity, seq_len=70)
            yield from _learning(add, 600, {"training.lr": 0.02, "model.embedding_std": 0.1})


def _d_state_scaling(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    for d_state, expand in ((4, 2), (8, 2), (16, 2), (32, 2), (16, 1), (16, 4)):
        for steps in (400, 1000):
            for seed in range(2):
                elements = d_state * expand * 32
                shape = {"d_state": d_state, "expand": expand, "shape": f"{d_state}x{expand}"}
                add = run(seed, shape | {"state_elements": elements, "steps": steps})
                yield from _recall(add, elements**0.8 / 15 * (steps / 400) ** 0.3, noise)
                yield from _learning(add, steps, {"training.lr": 0.02})


def _blind_start(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    for arm in (
        "layer_0",
        "layer_1",
        "layer_2",
        "layer_3",
        "layers_0_2",
        "layers_1_3",
        "adaptive",
        "none",
        "none_mean",
    ):
        for seed in range(3):
            layers = 0 if "none" in arm else 2 if "layers" in arm or arm == "adaptive" else 1
            add = run(seed, {"positions": arm, "cross_layers": layers, "steps": 300})
            yield from _recall(add, 2 if "none" in arm else 100, noise)
            yield from _learning(add, 300, {"training.lr": 0.005})


def _residual_init(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    for depth in (1, 2, 4):
        for start in ("depth", "plain"):
            for seed in range(2):
                add = run(seed, {"depth": depth, "start": start})
                yield from _recall(add, 12 + 4 * (start == "plain"), noise)
                yield from _learning(add, 300, {"training.lr": 0.01})


def _hybrid_ratio(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    for ratio, share in (("0", 0.0), ("1_7", 0.125), ("1_3", 0.25), ("1_1", 0.5), ("all", 1.0)):
        for seed in range(2):
            add = run(seed, {"ratio": ratio, "ablation": "none", "attention_share": share})
            for control, cost in (("own", 0.0), ("wrong", 0.7), ("shuffled", 0.3)):
                yield add("loss", 4 + (share - 0.4) ** 2 + cost + 0.01 * noise(), control=control, split="test")
            yield add("bleu", 12.3 + noise(), signature="nrefs:1|case:mixed")
            yield add("chrf++", 33.1 + noise(), signature="nrefs:1|case:mixed")
            yield add("parameters", 400_123)
            yield from _translations(add, ratio, share)
    for ablation, cost in (("unchanged", 0.0), ("start_plain", 1.0), ("start_lookup", 0.5), *((name, 0.1) for name in CHANGED)):
        for seed in range(2):
            steps = {"steps": 1900} if ablation == "trained_longer" else {}
            add = run(seed, {"ratio": "1_3", "ablation": ablation, "attention_share": 0.25, **steps})
            for control, more in (("own", 0.0), ("wrong", 0.4)):
                yield add("loss", 4.2 + cost + more + 0.01 * noise(), control=control, split="test")
            if ablation in ("unchanged", "long_windows"):
                yield add("long_window_loss", 4.5 - cost, control="own")
            if ablation == "unchanged":
                yield add("also_in_train", 0.01, split="test")
            if ablation == "trained_longer":
                yield add("bleu", 13.2, signature="nrefs:1|case:mixed")
                yield add("chrf++", 34.1, signature="nrefs:1|case:mixed")
                texts = {"source": "He said & went.", "hypothesis": "Und er sprach.", "reference": "Er sprach und ging."}
                yield add("sample_chrf++", 41.5, sample=0, document="Ruth 1", **texts)


CHANGED = (
    "encoder_unidirectional",
    "decoder_mamba3",
    "decoder_gated_delta",
    "decoder_kda",
    "cross_attention_first",
    "cross_attention_alternate",
    "sentences",
    "cat_random",
    "long_windows",
    "trained_longer",
)


def _translations(add: Add, ratio: str, share: float) -> Iterator[Record]:
    """Quality, use of context and cost of one translator."""
    for metric in ("bleu", "chrf++") if ratio != "0" else ():
        yield add(f"{metric}_p_value", 0.01, against="ratio-0_ablation-none")
    yield add("entity_recall", 0.3 + share / 10, training_occurrences="all")
    for metric in ("omission_rate", "over_translation_rate"):
        yield add(metric, 0.1, of="translation")
        yield add(metric, 0.02, of="reference")
    for context, gained in (("own", 0.2), ("shuffled", 0.1), ("wrong", -0.1), ("none", 0.0)):
        yield add("context_loss", 3.5 - gained, context=context)
        for distance in ("all", ">0", "0", "1", ">1"):
            for gender in ("balanced", "m", "f", "n"):
                yield add("pronoun_accuracy", 0.4 + gained / 10, context=context, distance=distance, gender=gender)
    for distance in ("all", ">0", "0", "1", ">1"):
        for gender, value in (("balanced", 1 / 3), ("m", 0.0), ("f", 0.0), ("n", 1.0)):
            yield add("always_es_accuracy", value, distance=distance, gender=gender)
    for source, target, batch in ((8, 4, 1), (16, 4, 1), (8, 8, 1), (8, 4, 2)):
        at = {"source": source, "target": target, "batch": batch}
        yield add("translation_peak_bytes", 1000 * batch * source, **at)
        for turn in (1, 2):
            yield add("first_token_seconds", source / 1e4, **at, turn=turn)
            yield add("inter_token_seconds", 1e-3, **at, turn=turn)
            yield add("translation_tokens_per_second", batch * 900, **at, turn=turn)


def _decode_cost(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    """Two layers: keys that a step reads and that are held, of 1 KiB each, and a state; 64 to 128k tokens."""
    arms: dict[str, tuple[Callable[[int], float], Callable[[int], float], int]] = {
        "attention": (lambda n: 2 * n, lambda n: 2 * n, 0),
        "attention_grouped": (lambda n: n, lambda n: n, 0),
        "sliding_window": (lambda n: 2 * min(n, 516), lambda n: 2 * min(n, 516), 0),
        "mamba2": (lambda n: 0, lambda n: 0, 140288),
        "mamba2_attention": (lambda n: n, lambda n: n, 70144),
        "nsa": (lambda n: 2 * min(n // 16 + 1535, 2 * n), lambda n: 2 * (n + n // 16 + min(n, 512)), 0),
    }
    named = {"recall": 600_000, "recall_from_source": 300_000, "translator": 9_000_000}
    for name in (*arms, *named):
        reads, holds, state = arms.get(name, (lambda n: n, lambda n: n, named.get(name, 0)))
        add = run(0, {"architecture": name, "n_layers": 2} if name in arms else {"preset": name})
        yield add("weight_bytes", 700_000)
        for context in (64 * 2**k for k in range(12)):
            for metric, keys in (("bytes_read", reads(context)), ("state_bytes", holds(context))):
                yield add(metric, 1024 * int(keys) + state, context=context)
                yield add(f"{metric}_formula", 1024 * int(keys) + state, context=context)
            yield add("tokens_read", int(reads(context)), context=context)
            yield add("bytes_written", 2048 + state, context=context)
            for turn in range(1, 13):
                seconds = 1e-3 + 1.5e-7 * reads(context) + 5e-9 * state
                yield add("step_seconds", seconds * (1 + 0.05 * abs(noise())), context=context, turn=turn)
                yield add("reference_step_seconds", 1.7e-3 * (1 + 0.05 * abs(noise())), context=context, turn=turn)
        for context in (1024, 4096, 16384) if name in arms else (1024,):
            yield add("prompt_peak_bytes", 20_000 * context, context=context)
            for turn in range(1, 7):
                seconds = 5e-5 * context + 1e-8 * context * reads(context)
                yield add("prompt_seconds", seconds * (1 + 0.05 * abs(noise())), context=context, turn=turn)
                yield add("reference_prompt_seconds", 1e-4 * context * (1 + 0.05 * abs(noise())), context=context, turn=turn)


FAMILIES = ("single", "multi_key", "multi_value", "variable_chain")


def _nsa_needle(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    ways = ("none", "branch_dropout", "indexer", "alternate", "score_weighted")
    arms = [("tokens", "nsa", way) for way in ways] + [("prose", "nsa", "branch_dropout"), ("prose", "attention", "")]
    arms += [("tokens", name, "") for name in ("attention", "sliding_window", "mamba2", "hybrid")]
    for haystack, architecture, way in arms:
        factors = {"haystack": haystack, "architecture": architecture} | ({"teaching": way} if way else {})
        for seed in range(2):
            add = run(seed, factors | {"arm": "_".join(factors.values())})
            yield from _needle(add, way, noise, ("single",) if haystack == "prose" else FAMILIES)
            yield from _learning(add, 200, {"training.lr": 0.01})
            yield add("chance", CHANCE)
            yield add("trained_length", 512)


def _needle(add: Add, way: str, noise: Callable[[], float], families: Sequence[str]) -> Iterator[Record]:
    """Accuracy falls with the length; sparse attention, which has a way of being taught, selects besides."""
    for length in (512, 4096, 65536):
        right = float(np.clip(0.9 - length / 2e5 + 0.02 * noise(), 0, 1))
        controls = ("own", "wrong", "random", "silent", "random_silent", "oracle") if way else ("own", "wrong")
        for control in controls if length < 65536 else (c for c in controls if c != "wrong"):
            value = 0.01 if control in ("wrong", "random_silent") else right
            for family in families:
                yield add("accuracy", value, family=family, length=length, control=control)
            for depth in (0.0, 0.5, 1.0):
                at = {"family": "single", "length": length, "control": control, "depth": depth}
                yield add("accuracy_at_depth", value, **at)
                for group in range(2 if control in ("own", "random") and way else 0):
                    yield add("selection_recall_at_depth", right if control == "own" else 0.1, **at, layer=0, group=group)
        if way:
            yield add("selection_floor_at_depth", 0.1, family="single", length=length, depth=0.5, layer=0)
        yield add("tokens_read", length / 8 if way else length, family="single", length=length)
        yield add("bytes_read", length if way else 8 * length, family="single", length=length)
        yield add("prefill_seconds", length / 1e4 + abs(noise()) / 100, length=length)
        yield add("peak_bytes", 3e8 + length, length=length)
    for branch in ("compressed", "selected", "window") if way else ():
        yield add("gate", 0.4, layer=0, branch=branch)
    for query in range(3 if way else 0):
        for key in range(query + 1):
            yield add("selected_share", (1 + key) / 4, layer=0, query_part=query, key_part=key)


BITS = {"fp16": 4096, "int8": 2176, "int6": 1664, "int4": 1152}
"""Bytes of a wire of 8 vectors of 256 numbers."""


def _latent_compression(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    arms = [("pointer", "first", 2.3), ("mean_pool", "first", 2.9), ("feature_resampler", "first", 3.0)]
    arms += [("byte_resampler", "first", 3.1), ("constant", "first", 3.05), ("pointer_narrow", "first", 2.7)]
    arms += [("pointer", "second", 2.4), ("pointer", "both", 2.5), ("text", "both", 1.3)]
    for compressor, readers, loss in arms:
        for seed in (0, 1) if compressor in ("pointer", "mean_pool") and readers == "first" else (0,):
            factors = {"source": "main", "compressor": compressor, "n_vectors": 8, "readers": readers, "size": "headline"}
            add = run(seed, factors)
            for reader in ("first", "second") if readers == "both" else (readers,):
                if compressor == "text":
                    yield from _texts_asked(add, reader, noise)
                else:
                    yield from _wires_asked(add, compressor, reader, loss + 0.02 * noise(), seed, readers == "both")
            if compressor != "text":
                yield add("trained_parameters", 500_000)
                yield add("compress_seconds", 0.01)
    for metric, value in (("exact_match", 0.6), ("f1", 0.7)):
        text = {"source": "main", "compressor": "text", "n_vectors": 8, "readers": "both", "size": "headline"}
        for reader in ("joint", "first", "second"):
            yield run(0, text)(metric, value, reader=reader, prompt="text", format="none", questions="joint")


def _wires_asked(add: Add, compressor: str, reader: str, loss: float, seed: int, shared: bool) -> Iterator[Record]:
    """One run's answers after wires: a headline arm's first seed is asked in more ways."""
    at: dict[str, Scalar] = {"reader": reader, "format": "none"}
    yield from _scored(add, loss, **at, prompt="own")
    yield add("answer_seconds", 0.2, reader=reader, prompt="own")
    if compressor == "constant":
        return
    for prompt in ("wrong", "zero", "random"):
        yield from _scored(add, loss + 0.5, **at, prompt=prompt)
    for over, gain in (("wrong", 0.5), ("zero", 0.7), ("random", 0.8), ("closed", 1.0), ("cut_tokens", -0.4), ("text", -1.0)):
        yield from _interval(add, "loss_gain", gain, **at, prompt="own", over=over, questions="all")
    yield from _interval(add, "loss_gain", 0.1, **at, prompt="own", over="cut_tokens", questions="outside")
    for over in ("constant", "mean_pool", "pointer") if reader == "first" else ():
        if over != compressor:
            yield from _interval(add, "loss_gain", 0.3, **at, prompt="own", over=over, questions="all")
    if shared:
        yield from _interval(add, "loss_gain", -0.05, **at, prompt="own", over="alone", questions="all")
    for to in ("text", "ceiling"):
        yield from _interval(add, "gap_closed", 0.4, reader=reader, to=to)
    if compressor in ("pointer", "mean_pool", "pointer_narrow") and reader == "first" and not shared and seed == 0:
        for prompt in ("shuffled", "swapped", "beside"):
            yield from _scored(add, loss + 0.1, **at, prompt=prompt)
        for bits, size in BITS.items():
            yield from _scored(add, loss + 0.01, reader=reader, format=bits, prompt="own")
            yield add("context_bytes", 100 * (size // 4 if compressor == "pointer_narrow" else size), coding=bits)
            yield from _interval(add, "loss_gain", 0.01, **at, prompt="own", over=bits, questions="all")
            yield from _interval(
                add, "loss_gain", -0.9, reader=reader, format=bits, prompt="own", over="cut_bytes", questions="all"
            )
        yield from _interval(add, "loss_gain", -0.02, **at, prompt="beside", over="text", questions="all")
        yield from _interval(add, "swap_followed", 0.6, reader=reader)
        for wire, value in (("own", 0.8), ("wrong", 0.5)):
            yield add("probe_auc", value, wire=wire)
        for explained in (0.5, 0.9):
            yield add("wire_directions", 40, explained=explained)


def _texts_asked(add: Add, reader: str, noise: Callable[[], float]) -> Iterator[Record]:
    """The run without a wire."""
    losses = {"closed": 3.6, "cut_tokens": 1.8, "text": 1.3, "swapped": 3.0, "ceiling": 0.2}
    for prompt, loss in losses.items():
        yield from _scored(add, loss + 0.02 * noise(), reader=reader, format="none", prompt=prompt)
        yield add("answer_seconds", 0.5, reader=reader, prompt=prompt)
    for prompt, bits, size in (
        ("cut_tokens", "none", 40),
        ("text", "none", 400),
        *(("cut_bytes", str(b), b) for b in (64, 288, 400)),
    ):
        yield add("context_bytes", 100 * size, reader=reader, prompt=prompt, format=bits, coding="utf8")
        if prompt == "cut_bytes":
            yield from _scored(add, 1.3, reader=reader, format=bits, prompt=prompt)
    at: dict[str, Scalar] = {"reader": reader, "format": "none", "questions": "all"}
    yield from _interval(add, "loss_gain", 2.3, **at, prompt="text", over="closed")
    yield from _interval(add, "loss_gain", 1.1, **at, prompt="ceiling", over="text")
    yield from _interval(add, "swap_followed", 0.9, reader=reader)
    yield add("alignment_gap", 1e-6, reader=reader)
    for coding, size in (("utf8", 400), ("gzip", 300), ("zstd", 290), ("arithmetic", 80)):
        yield add("coded_bytes", 100 * size, reader=reader, coding=coding)


def _scored(add: Add, loss: float, **way: Scalar) -> Iterator[Record]:
    """Every measure of one way of asking, over all questions and some."""
    for questions in ("all", "inside", "outside", "group:cloze"):
        yield add("answer_nll", loss, **way, questions=questions)
        for metric, value in (("first_accuracy", 0.5), ("forced_match", 0.35), ("exact_match", 0.4), ("f1", 0.45)):
            yield add(metric, value, **way, questions=questions)


def _interval(add: Add, metric: str, value: float, **slice_: Scalar) -> Iterator[Record]:
    for end, at in (("value", value), ("low", value - 0.05), ("high", value + 0.05)):
        yield add(metric, at, **slice_, end=end)


def _swa_mla(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    own = {"window": 32, "sink": 4, "cycle": "SSL", "rank": 32, "isolation": "on", "latent_share": 1 / 3}
    arms: list[dict[str, Scalar]] = [{"sweep": "architecture", "architecture": "swa_mla"} | own]
    arms += [
        {"sweep": "architecture", "architecture": name} for name in ("sliding_window", "mla", "attention", "mamba2_attention")
    ]
    arms += [{"sweep": "cycle", "cycle": c, "latent_share": s} for c, s in (("SL", 1 / 2), ("SSSSSL", 1 / 6))]
    for sweep, values in {"window": (16, 64), "sink": (0, 1), "rank": (16,), "isolation": ("off",)}.items():
        arms += [{"sweep": sweep, sweep: value} for value in values]
    for seed in range(2):
        for number, factors in enumerate(arms):
            add = run(seed, factors)
            yield from _language_model(add, 2 + number / 100 + noise() / 200, number == 0, seed == 0)
        for rank, name in enumerate(("adamw", "lion", "muon")):
            add = run(seed, {"sweep": "optimizers", "optimizer": name})
            for step in range(10, 70, 10):
                yield add("held_out_loss", 7 - (step / 30) ** 0.5 - rank / 10 + abs(noise()) / 50, step=step)
            yield add("chosen", 0.006, setting="training.lr")
        for sink in (0, 4):
            for lr in (0.01, 0.03, 0.1):
                add = run(seed, {"sweep": "stability", "sink": sink, "lr": lr})
                lost = int(lr > 0.02 + sink / 100)
                yield add("diverged", lost * seed)
                if not lost * seed:
                    yield add("unstable", lost, lost=0.5)
    for split in ("valid", "test"):
        for order in (1, 2, 3):
            yield run(0, {"sweep": "baseline"})("ngram_bits_per_byte", 3 - order / 5, split=split, order=order)


def _language_model(add: Add, bits: float, base: bool, first: bool) -> Iterator[Record]:
    """Bits per byte that fall along the document; of the base also without its sinks, and texts."""
    positions = (0, 16, 32, 64, 128)
    yield add("bits_per_byte", bits, split="test")
    yield add("bits_per_byte_past", bits - 0.1, split="test", position=64)
    yield add("parameters", 370_560)
    if first:
        yield add("state_bytes", 300_000, seq_len=2048)
    for position in positions:
        yield add("bits_per_byte_at", bits + 0.2 - position / 500, split="test", position=position)
        if base:
            more = 0.05 * (position >= 32)
            yield add("bits_per_byte_without_sinks_at", bits + 0.2 + more - position / 500, split="test", position=position)
    if base:
        yield add("bits_per_byte_without_sinks_past", bits - 0.05, split="test", position=64)
    for number in range(2 if base and first else 0):
        texts = {"prompt": "The river rises & flows", "continuation": "through the city.", "reference": "into the sea."}
        yield add("sample_bits_per_token", 3.5, sample=number, **texts)


def _state_tracking(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    """Right with half of the answers at the length of the training, and with less beyond."""
    for task, named in state_tracking.NAMED.items():
        longest = 2 if task == "chains" else 8
        for architecture in named:
            for seed in range(2):
                add = run(seed, {"task": task, "architecture": architecture})
                for times in state_tracking.printed_times(task):
                    at = {"times": times, "length": int(times * longest)}
                    yield add("accuracy", 0.5 / times**0.5 + 0.01 * noise(), control="own", **at)
                    yield add("accuracy", CHANCE, control="wrong", **at)
                yield add("chance", CHANCE)


def _state_precision(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    """Recurrent states lose twice what caches lose, and more the longer the row; a window has forgotten long rows."""
    for seed in range(2):
        for architecture in precision.LABELS:
            recurrent = architecture in precision.RECURRENT
            for task, metric in (("recall", "stored_accuracy"), ("text", "stored_bits_per_byte")):
                if task == "text" and architecture in ("kda", "sliding_window"):
                    continue
                add = run(seed, {"task": task, "architecture": architecture})
                for length in (1, 2, 8):
                    exact = 0.03 if architecture == "sliding_window" and length > 1 else 0.96
                    if task == "recall":
                        yield add("forward_accuracy", exact, length=length)
                    for rounding, formats in precision.LADDER.items():
                        for name in formats:
                            n_bits = (
                                32 if name == "fp32" else 8.5 if "8" in name else 16 if "16" in name else int(name[3:]) + 0.5
                            )
                            n_bits *= 1.8 if rounding == "feedback" and recurrent else 1
                            cost = 0 if name == "fp32" else 2**-n_bits * (1 + recurrent) * length * (1.1 + noise() / 20)
                            value = max(exact - cost, 0.01) if task == "recall" else 2.5 + cost
                            where = {"format": name, "rounding": rounding}
                            yield add(metric, value, length=length, **where)
                            if length == 8:
                                yield add("state_bits_per_element", n_bits, **where)
                                yield add("stored_state_bytes", round(n_bits * 512), **where)
                if task == "recall":
                    yield add("chance", 1 / 32)


def _memory_frontier(run: Callable[..., Add], noise: Callable[[], float]) -> Iterator[Record]:
    """Mixers whose capacity grows with the size of their memory, some of them faster."""
    for rank, name in enumerate(memory_frontier.LABELS):
        for size in (4, 8, 16):
            for seed in range(2):
                add = run(seed, {"mixer": name, "memory_size": size, "arm": f"{name}-{size}"})
                yield from _recall(add, size * (rank + 1), noise)
                yield from _learning(add, 400, {"training.lr": 0.01})
                for n, metric in itertools.product(PAIRS, ("state_bytes", "bytes_read")):
                    yield add(metric, 600 * size, num_pairs=n, context=3 * n + 2)
                    yield add(f"{metric}_formula", 600 * size, num_pairs=n, context=3 * n + 2)
                yield add("parameters", 26_000 + size)


MADE = {"mqar_cliff": _mqar_cliff, "d_state_scaling": _d_state_scaling, "blind_start": _blind_start}
MADE |= {"residual_init": _residual_init, "hybrid_ratio": _hybrid_ratio, "decode_cost": _decode_cost}
MADE |= {"nsa_needle": _nsa_needle, "latent_compression": _latent_compression, "swa_mla": _swa_mla}
MADE |= {"state_tracking": _state_tracking}
MADE |= {"state_precision": _state_precision}
MADE |= {"memory_frontier": _memory_frontier}
STUDIES = tuple(MADE)
TABLES = {name: [name, f"{name}_settings"] for name in ("mqar_cliff", "d_state_scaling", "blind_start", "memory_frontier")}
TABLES |= {"decode_cost": ["decode_cost", "decode_cost_keys", "decode_cost_times"]}
TABLES["nsa_needle"] = ["nsa_needle", *(f"nsa_needle_{more}" for more in ("effective", "cost"))]
TABLES["hybrid_ratio"] = ["hybrid_ratio", *(f"hybrid_ratio_{more}" for more in ("quality", "ablations", "samples"))]
LATENT = ("gains", "bytes", "readers", "sources")
TABLES["latent_compression"] = ["latent_compression", *(f"latent_compression_{more}" for more in LATENT)]
TABLES["swa_mla"] = ["swa_mla", *(f"swa_mla_{more}" for more in ("sweeps", "optimizers", "samples"))]
TABLES["state_precision"] = ["state_precision", "state_precision_formats"]
TABLES |= {name: [name] for name in STUDIES if name not in TABLES}
"""Study -> its tables."""
FIGURES = {"nsa_needle": ["nsa_needle", *(f"nsa_needle_{more}" for more in ("depth", "selection", "blocks"))]}
FIGURES["hybrid_ratio"] = [
    "hybrid_ratio",
    *(f"hybrid_ratio_{more}" for more in ("pronouns", "throughput", "latency", "memory")),
]
FIGURES |= {"latent_compression": ["latent_compression", "latent_compression_controls"]}
FIGURES |= {"decode_cost": ["decode_cost", "decode_cost_prompts"]}
FIGURES["swa_mla"] = ["swa_mla", *(f"swa_mla_{more}" for more in ("sweeps", "optimizers", "stability"))]
FIGURES["state_precision"] = ["state_precision", *(f"state_precision_{more}" for more in ("rounding", "text"))]
FIGURES |= {name: [name] for name in STUDIES if name not in FIGURES}
"""Study -> its figures."""


def write(folder: Path) -> dict[str, Path]:
    """study -> its records.jsonl below `folder`."""
    noise = np.random.default_rng(7).standard_normal
    paths = {}
    for study, make in MADE.items():

        def run(seed: int, factors: dict[str, Scalar], study: str = study) -> Add:
            return lambda metric, value, **slice_: made_up(study, factors, seed, metric, float(value), **slice_)

        paths[study] = folder / study / "records.jsonl"
        write_records(paths[study], list(make(run, noise)))
    return paths


def spots(ax: Axes) -> list[tuple[str, float, float]]:
    """Label, x and y of every point that `paper.plots` drew on `ax`."""
    return [(point.label, point.x, point.y) for point in plots.curves(ax)]
