"""hybrid_ratio: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import pytest
from paper.made_up import FIGURES, asked, close, made_up, spots

from ripstop.config import ConfigError
from ripstop.paper import ablations, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.hybrid_ratio import NUMBERS, PARTS, QUALITY, figures, numbers, tables
from ripstop.records import Record, Scalar

# ratio: (share, own loss, what the wrong source costs, what the shuffled one costs, BLEU, chrF++, parameters)
RATIOS = {
    "all": (1.0, (5.0, 5.4), (0.9, 1.0), (0.05, 0.06), (1, 2), (50, 40), 105),
    "1_1": (0.5, (3.4, 3.6), (0.5, 0.6), (0.03, 0.04), (26, 26), (30, 34), 103),
    "3_1": (0.75, (3.8, 3.3), (0.7, 0.8), (0.04, 0.05), (24, 20), (60, 62), 104),
    "1_3": (0.25, (3.5, 3.9), (0.3, 0.4), (0.02, 0.03), (30, 20), (44, 48), 102),
    "0": (0.0, (4.0, 4.3), (0.1, 0.2), (0.01, 0.02), (10, 12), (20, 22), 101),
}
ORDER = ["0", "1_3", "1_1", "3_1", "all"]
LABELS = ["none", "1:3", "1:1", "3:1", "all"]
# ratio: names recalled, loss without context, with the own, right pronouns with the own context and without, by seed
USE = {
    "0": ((0.2, 0.3), (3.0, 3.1), (2.8, 3.0), (0.30, 0.32), (0.30, 0.30)),
    "1_1": ((0.5, 0.7), (2.9, 3.0), (2.4, 2.7), (0.50, 0.54), (0.40, 0.42)),
    "all": ((0.6, 0.6), (4.0, 4.1), (4.1, 4.1), (0.20, 0.26), (0.30, 0.30)),
}
OTHER_USE = ((0.1, 0.1), (3.0, 3.0), (3.0, 3.0), (0.0, 0.0), (0.0, 0.0))
# arm: (own loss by seed, what the wrong source costs, loss on long windows by seed)
ABLATIONS: dict[str, tuple[tuple[float, ...], float, tuple[float, ...] | None]] = {
    "unchanged": ((4.0, 4.2), 0.5, (4.6, 4.8)),
    "start_plain": ((5.0, 5.4), 0.1, None),
    "start_lookup": ((4.5, 4.5), 0.2, None),
    "encoder_unidirectional": ((4.1,), 0.3, None),
    "decoder_mamba3": ((3.9, 4.3), 0.3, None),
    "decoder_gated_delta": ((3.7, 4.1), 0.3, None),
    "decoder_kda": ((3.8, 3.8), 0.3, None),
    "cross_attention_first": ((4.25,), 0.3, None),
    "cross_attention_alternate": ((3.9,), 0.3, None),
    "sentences": ((4.0,), 0.3, None),
    "cat_random": ((4.05,), 0.3, None),
    "long_windows": ((4.4,), 0.3, (4.3,)),
    "trained_longer": ((3.2,), 1.7, None),
}
SAMPLES = [("Ruth 1", "He said & went.", "Und er sprach.", "Er sprach und ging.", 41.5), ("Ruth 2", "So", "Also", "So", 7.25)]
CONTEXTS = ("own", "shuffled", "wrong", "none")
DISTANCES = ("all", ">0", "0", "1", ">1")
DROPPED = ("part", "comet")


def factors(ratio: str, ablation: str = "none") -> dict[str, Scalar]:
    return {"ratio": ratio, "ablation": ablation, "attention_share": RATIOS[ratio][0]}


def made() -> list[Record]:
    records: list[Record] = []

    def add(arm: dict[str, Scalar], seed: int, metric: str, value: float, **slice_: Scalar) -> None:
        records.append(made_up("hybrid_ratio", arm, seed, metric, value, **slice_))

    for ratio, (_, own, wrong, shuffled, bleu, chrf, parameters) in RATIOS.items():
        for seed in (1, 0):
            arm = factors(ratio)
            losses = {"own": own[seed], "wrong": own[seed] + wrong[seed], "shuffled": own[seed] + shuffled[seed]}
            for control, value in losses.items():
                add(arm, seed, "loss", value, control=control, split="test")
                add(arm, seed, "loss", 9.9, control=control, split="valid")
            for metric, value in (("bleu", bleu[seed]), ("chrf++", chrf[seed])):
                add(arm, seed, metric, value)
                add(arm, seed, f"{metric}_half_interval", 77)
                if ratio != "0":
                    add(arm, seed, f"{metric}_p_value", 0.01 if ratio == "1_1" else 0.2, against="ratio-0_ablation-none")
            add(arm, seed, "parameters", parameters)
            _use(add, arm, seed, ratio)
            _costs(add, arm, seed, ratio)
    for name, (own_, wrong_, long) in ABLATIONS.items():
        for seed, value in enumerate(own_):
            arm = factors("1_3", name) | ({"steps": 1900} if name == "trained_longer" else {})
            add(arm, seed, "loss", value, control="own", split="test")
            add(arm, seed, "loss", value + wrong_, control="wrong", split="test")
            if long is not None:
                add(arm, seed, "long_window_loss", long[seed], control="own")
                add(arm, seed, "long_window_loss", 9.0, control="wrong")
            if name == "unchanged":
                add(arm, seed, "also_in_train", 0.02, split="test")
                add(arm, seed, "also_in_train", 0.5, split="valid")
            if name == "trained_longer":
                add(arm, seed, "bleu", 13.2)
                add(arm, seed, "chrf++", 34.1)
                for i, (document, *texts, score) in enumerate(SAMPLES):
                    told = dict(zip(("source", "hypothesis", "reference"), texts, strict=True))
                    add(arm, seed, "sample_chrf++", score, sample=i, document=document, **told)
    return records


def _use(add, arm, seed, ratio):
    names, without, own, right, right_without = (values[seed] for values in USE.get(ratio, OTHER_USE))
    add(arm, seed, "entity_recall", names, training_occurrences="all")
    add(arm, seed, "entity_recall", 0.99, training_occurrences="100+")
    for metric in ("omission_rate", "over_translation_rate"):
        add(arm, seed, metric, 0.1, of="translation")
        add(arm, seed, metric, 0.02, of="reference")
    for context in CONTEXTS:
        add(arm, seed, "context_loss", {"own": own, "none": without}.get(context, 8.0), context=context)
        for distance in DISTANCES:
            value = {"own": right, "none": right_without}.get(context, 0.1) if distance == ">0" else 0.6
            for gender in ("balanced", "m", "f", "n"):
                add(arm, seed, "pronoun_accuracy", value, context=context, distance=distance, gender=gender)
    for distance in DISTANCES:
        add(arm, seed, "always_es_accuracy", 1 / 3 if distance == ">0" else 0.5, distance=distance, gender="balanced")


def _costs(add, arm, seed, ratio):
    for source, target, batch in ((8, 4, 1), (16, 4, 1), (8, 8, 1), (8, 4, 2)):
        at = {"source": source, "target": target, "batch": batch}
        add(arm, seed, "translation_peak_bytes", 1000 * source, **at)
        for turn in (1, 2):
            add(arm, seed, "first_token_seconds", source * (2 if ratio == "0" else 1), **at, turn=turn)
            add(arm, seed, "inter_token_seconds", 0.5, **at, turn=turn)
            add(arm, seed, "translation_tokens_per_second", 10 * batch, **at, turn=turn)


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("hybrid_ratio", made(), DROPPED)


def test_every_number(records):
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    assert close(found["loss_mamba2"], 4.15, 4.0, 4.3)
    assert close(found["loss_attention"], 5.2, 5.0, 5.4)
    assert close(found["loss_best_hybrid"], 3.5, 3.4, 3.6)  # 1:1; 1:3 has 3.7 and 3:1 has 3.55
    assert close(found["hybrid_gain"], 0.65, 0.6, 0.7)
    assert close(found["hybrid_gain_over_attention"], 1.7, 1.6, 1.8)
    # seed 0: 3.8 - 3.4, seed 1: 3.9 - 3.3
    assert close(found["ratio_spread"], 0.5, 0.4, 0.6)
    assert close(found["source_use"], 0.55, 0.5, 0.6)
    assert close(found["order_use"], 0.035, 0.03, 0.04)
    assert close(found["bleu_best"], 26, 26, 26)  # 1:3 has 25
    assert close(found["chrf_best"], 61, 60, 62)
    assert found["n_runs"].value == 10 + 6 * 2 + 7
    units = {name: found[name].unit for name in NUMBERS}
    assert units["bleu_best"] == units["chrf_best"] == "points" and units["source_use"] == units["ratio_spread"] == "nats"


def test_numbers_of_quality_and_of_context(records):
    found = numbers(records)
    assert close(found["bleu_best_hybrid"], 26, 26, 26) and close(found["chrf_mamba2"], 21, 20, 22)
    assert close(found["names_best_hybrid"], 0.6, 0.5, 0.7) and close(found["names_attention"], 0.6, 0.6, 0.6)
    assert close(found["names_gain"], 0.35, 0.3, 0.4)
    assert close(found["cxmi_mamba2"], 0.15, 0.1, 0.2) and close(found["cxmi_best_hybrid"], 0.4, 0.3, 0.5)
    assert close(found["cxmi_attention"], -0.05, -0.1, 0.0)
    assert close(found["pronouns_own_best_hybrid"], 0.52, 0.5, 0.54)
    assert close(found["pronoun_gain_best_hybrid"], 0.11, 0.1, 0.12) and close(found["pronoun_gain_mamba2"], 0.01, 0.0, 0.02)
    assert found["pronouns_always_es"].value == pytest.approx(1 / 3) and found["also_in_train"].value == 0.02


def test_numbers_of_ablations(records):
    found = numbers(records)
    assert close(found["ablation_base"], 4.1, 4.0, 4.2)
    assert close(found["ablation_start_plain"], 1.1, 1.0, 1.2) and close(found["ablation_start_lookup"], 0.4, 0.3, 0.5)
    assert close(found["ablation_decoder_mamba3"], 0.0, -0.1, 0.1)
    assert close(found["ablation_decoder_gated_delta"], -0.2, -0.3, -0.1)
    assert close(found["ablation_decoder_kda"], -0.3, -0.4, -0.2)
    # one seed each, beside the same seed of the unchanged arm
    alone = {"encoder_unidirectional": 0.1, "cross_attention_first": 0.25, "cross_attention_alternate": -0.1, "sentences": 0.0}
    for name, value in {**alone, "cat_random": 0.05, "long_windows": -0.3, "trained_longer": -0.8}.items():
        assert found[f"ablation_{name}"].n == 1 and found[f"ablation_{name}"].value == pytest.approx(value)
    longer = {"steps": 1900, "source_use": 1.7, "bleu": 13.2, "chrf": 34.1}
    assert {name: found[f"longer_{name}"].value for name in longer} == pytest.approx(longer)


def test_samples_are_those_of_one_seed_in_order(records):
    rows = tables(records)["hybrid_ratio_samples"].rows
    assert [tuple(row) for row in rows] == SAMPLES
    text = tables(records)["hybrid_ratio_samples"].latex("samples")
    assert r"Ruth 1 & He said \& went. & Und er sprach. & Er sprach und ging. & 41.5 \\" in text
    assert text.count(r"p{0.400\linewidth}") == 3


def test_every_cell(records):
    made_ = tables(records)
    assert list(made_) == ["hybrid_ratio", "hybrid_ratio_quality", "hybrid_ratio_ablations", "hybrid_ratio_samples"]
    table = made_["hybrid_ratio"]
    assert list(table.header) == ["ratio", "parameters", "loss (nats)", "wrong source costs", "context gains"]
    assert [row[0] for row in table.rows] == LABELS and [row[1] for row in table.rows] == [101, 102, 103, 104, 105]
    for ratio, row in zip(ORDER, table.rows, strict=True):
        _, own, wrong, *_ = RATIOS[ratio]
        _, without, given, *_ = USE.get(ratio, OTHER_USE)
        gains = [a - b for a, b in zip(without, given, strict=True)]
        for cell, values in zip(row[2:], (own, wrong, gains), strict=True):
            assert close(cell, sum(values) / 2, min(values), max(values)), (ratio, values)


def test_quality_is_marked_against_mamba2(records):
    rows = tables(records)["hybrid_ratio_quality"].rows
    assert [row[0] for row in rows] == LABELS
    marks = [[getattr(cell, "mark", "") for cell in row[1:3]] for row in rows]
    assert marks == [["", ""], ["", ""], ["†", "†"], ["", ""], ["", ""]]
    assert [row[3] for row in rows] == ["not run"] * 5
    assert close(rows[0][4], 0.25, 0.2, 0.3)


def test_every_ablation(records):
    rows = tables(records)["hybrid_ratio_ablations"].rows
    assert [row[0] for row in rows] == list(ablations.LABELS.values()) and [row[1] for row in rows] == [
        2,
        2,
        2,
        1,
        2,
        2,
        2,
        *[1] * 6,
    ]
    (_, _, own, change, wrong, long), plain, *_, last, _ = rows
    assert close(own, 4.1, 4.0, 4.2) and change == "" and close(wrong, 0.5, 0.5, 0.5) and close(long, 4.7, 4.6, 4.8)
    assert close(plain[3], 1.1, 1.0, 1.2) and plain[5] == "not measured"
    assert last[5].value == pytest.approx(-0.3) and last[5].n == 1


def test_a_dropped_ablation_is_not_measured():
    kept = [record for record in made() if record.factors["ablation"] != "sentences"]
    with pytest.raises(ConfigError, match="'sentences', which no record has"):
        numbers(asked("hybrid_ratio", kept, DROPPED))
    records = asked("hybrid_ratio", kept, DROPPED, ("ablation", "sentences"))
    assert {name for name, e in numbers(records).items() if e.n == 0} == {"ablation_sentences"}
    assert len(tables(records)["hybrid_ratio_ablations"].rows) == 12


def test_every_point(records):
    with style.style():
        drawn = figures(records)
    assert list(drawn) == [
        "hybrid_ratio",
        *(f"hybrid_ratio_{name}" for name in ("pronouns", "throughput", "latency", "memory")),
    ]
    left, right = drawn["hybrid_ratio"].axes
    costs = {"own": lambda r: 0, "shuffled": lambda r: sum(RATIOS[r][3]) / 2, "wrong": lambda r: sum(RATIOS[r][2]) / 2}
    wanted = [
        (f"{control} source", at, sum(RATIOS[ratio][1]) / 2 + costs[control](ratio))
        for control in ("own", "shuffled", "wrong")
        for at, ratio in enumerate(ORDER)
    ]
    found = spots(left)
    assert [(label, x) for label, x, _ in found] == [(label, x) for label, x, _ in wanted]
    assert [y for *_, y in found] == pytest.approx([y for *_, y in wanted])
    (line,) = right.get_lines()
    assert line.get_ydata() == pytest.approx([sum(RATIOS[ratio][5]) / 2 for ratio in ORDER])
    assert (left.get_ylabel(), right.get_ylabel()) == ("test loss (nats per token)", "chrF++")
    for ax in (left, right):
        assert [tick.get_text() for tick in ax.get_xticklabels()] == LABELS
    by_arm = drawn["hybrid_ratio_pronouns"].axes[0]
    assert [tick.get_text() for tick in by_arm.get_xticklabels()] == LABELS
    own = [y for label, _, y in spots(by_arm) if label == "own context"]
    assert own == pytest.approx([0.31, 0.0, 0.52, 0.0, 0.23])
    first = spots(drawn["hybrid_ratio_latency"].axes[0])
    assert [y for label, _, y in first if label == "none"] == pytest.approx([16, 32])


def test_comet_is_printed_where_it_was_asked_for():
    rows = []
    for i, ratio in enumerate(ORDER):
        for seed in (0, 1):
            told = {"comet_model": "tiny", "comet_version": "2.2.7"}
            rows.append(made_up("hybrid_ratio", factors(ratio), seed, "comet", 0.1 * i + 0.01 * seed, **told))
            rows.append(made_up("hybrid_ratio", factors(ratio), seed, "comet_valid", float(ratio != "all"), **told))
    cells = [row[3] for row in tables(asked("hybrid_ratio", [*made(), *rows]))["hybrid_ratio_quality"].rows]
    assert cells[-1] == "invalid"
    for i, cell in enumerate(cells[:-1]):
        assert close(cell, 0.1 * i + 0.005, 0.1 * i, 0.1 * i + 0.01)


def test_comet_that_is_not_there_is_said_to_be():
    with pytest.raises(ConfigError, match="names metric 'comet_valid', which no record has.*--dropped part=comet"):
        tables(asked("hybrid_ratio", made()))


@pytest.mark.parametrize("arm", ["0", "all"])
def test_a_renamed_arm_is_an_error(arm):
    rows = [r.replace(factors=r.factors | {"ratio": "pure"}) if r.factors["ratio"] == arm else r for r in made()]
    with pytest.raises(ConfigError, match=f"names ratio '{arm}', which no record has"):
        numbers(asked("hybrid_ratio", rows, DROPPED))


def test_hybrids_are_there_unless_they_were_dropped():
    kept = [r for r in made() if r.factors["ratio"] in ("0", "all") or r.factors["ablation"] != "none"]
    with pytest.raises(ConfigError, match="no ratio has attention and Mamba-2 layers"):
        numbers(asked("hybrid_ratio", kept, DROPPED))
    found = numbers(asked("hybrid_ratio", kept, DROPPED, *(("ratio", name) for name in ("1_3", "1_1", "3_1"))))
    missing = {name for name, estimate in found.items() if estimate.n == 0}
    gone = {f"{what}_best_hybrid" for what in QUALITY} | {"names_gain", "loss_best_hybrid", "ratio_spread"}
    assert missing == gone | {"hybrid_gain", "hybrid_gain_over_attention"}


def test_parts_that_a_scale_leaves_out_are_not_measured():
    gone = {
        "quality": ("names",),
        "context": ("cxmi",),
        "pronouns": ("pronoun",),
        "cost": (),
        "overlap": ("also",),
        "samples": (),
    }
    for part, prefixes in gone.items():
        of_part = {metric for metric, measured_by in PARTS.items() if measured_by == part}
        kept = [r for r in made() if r.metric not in of_part]
        records = asked("hybrid_ratio", kept, DROPPED, ("part", part))
        missing = {name for name, e in numbers(records).items() if e.n == 0}
        assert missing == {name for name in NUMBERS if name.startswith(prefixes)} if prefixes else not missing, part
        with style.style():
            assert list(figures(records)) == list(FIGURES["hybrid_ratio"]), part
        tables(records)


def test_a_missing_run_is_not_averaged_away():
    kept = [r for r in made() if (r.factors["ratio"], r.seed) != ("3_1", 1)]
    with pytest.raises(
        ConfigError, match="loss where control is own, split is test: 5 of seed 0, 4 of seed 1; evaluate the missing runs"
    ):
        numbers(asked("hybrid_ratio", kept, DROPPED))
    kept = [r for r in made() if (r.factors["ratio"], r.seed, r.slice.get("control")) != ("3_1", 1, "wrong")]
    with pytest.raises(ConfigError, match=r"paired values need the same seeds, not \[0\] and \[0, 1\]"):
        tables(asked("hybrid_ratio", kept, DROPPED))


def test_the_validation_split_is_not_printed_as_the_test():
    kept = [r for r in made() if r.slice.get("split") != "test"]
    with pytest.raises(ConfigError, match="names split 'test', which no record has; there is: valid"):
        numbers(asked("hybrid_ratio", kept, DROPPED))
