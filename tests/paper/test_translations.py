"""Quality in the paper: what is marked as significant, and a table whose every cell was worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from paper.made_up import close, made_up

from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Marked, format_cell
from ripstop.paper.translations import (
    DAGGER,
    HEADER,
    PARTS,
    TranslatorArm,
    comet_cell,
    comet_notes,
    differs,
    quality_table,
    recall_of_names,
)
from ripstop.records import Record, frame

STUDY = "hybrid_ratio"
BASE, HYBRID, ATTENTION = (
    TranslatorArm(label, f"ratio-{ratio}", {"ratio": ratio}) for label, ratio in (("none", "0"), ("1:3", "1_3"), ("all", "all"))
)
ARMS = [BASE, HYBRID, ATTENTION]
BLEU = {"0": (10.0, 12.0), "1_3": (13.0, 14.0), "all": (11.0, 11.0)}
P_VALUES = {"1_3": (0.001, 0.049), "all": (0.001, 0.001)}


def record(ratio: str, seed: int, metric: str, value: float, **slice_: object) -> Record:
    made = made_up(STUDY, {"ratio": ratio}, seed, metric, value, **slice_)
    return made.replace(part=PARTS.get(metric, "comet"))


def made(bleu: Mapping = BLEU, p_values: Mapping = P_VALUES) -> Iterable[Record]:
    for ratio, scores in bleu.items():
        for seed, score in enumerate(scores):
            yield record(ratio, seed, "bleu", score, signature="s")
            yield record(ratio, seed, "chrf++", 2 * score, signature="s")
            yield record(ratio, seed, "bleu_by_length", 1.0, source_words="1-15")
            for metric in ("bleu", "chrf++") if ratio in p_values else ():
                yield record(ratio, seed, f"{metric}_p_value", p_values[ratio][seed], against="ratio-0")
                yield record(ratio, seed, f"{metric}_p_value", 0.9, against="ratio-all")
            yield record(ratio, seed, "entity_recall", score / 20, training_occurrences="all")
            yield record(ratio, seed, "entity_recall", score / 40, training_occurrences="100+")
            for of, share in (("translation", 0.2 + 0.1 * seed), ("reference", 0.01)):
                yield record(ratio, seed, "omission_rate", share, of=of)
                yield record(ratio, seed, "over_translation_rate", share / 2, of=of)


def asked(records: Iterable[Record], *dropped: tuple[str, str]) -> StudyRecords:
    return StudyRecords(STUDY, frame(records), frozenset(dropped), PARTS)


def comet(ratio: str, seed: int, score: float, valid: int = 1, truncated: int = 0) -> list[Record]:
    known = {"comet_model": "wmt22-comet-da", "comet_version": "2.2.7"}
    values = {"comet": score, "comet_valid": valid, "comet_truncated": truncated}
    return [record(ratio, seed, metric, value, **known) for metric, value in values.items()]


def test_a_difference_is_significant_with_every_seed_and_in_one_direction() -> None:
    assert differs(asked(made()), "bleu", HYBRID, BASE)
    assert not differs(asked(made()), "bleu", ATTENTION, BASE)  # better with one seed and worse with the other
    assert not differs(asked(made()), "bleu", BASE, BASE)
    assert not differs(asked(made()), "bleu", HYBRID, ATTENTION)  # p = 0.9 against that one
    assert not differs(asked(made(p_values={"1_3": (0.001, 0.05), "all": (0, 0)})), "bleu", HYBRID, BASE)
    worse = {"0": (10.0, 12.0), "1_3": (9.0, 8.0), "all": (10.0, 12.0)}
    assert differs(asked(made(worse)), "chrf++", HYBRID, BASE)
    assert not differs(asked(made(worse)), "chrf++", ATTENTION, BASE)  # no difference is not a significant one


def test_every_cell() -> None:
    table = quality_table(asked(made(), ("part", "comet")), ARMS, BASE, "caption")
    assert list(table.header) == ["decoder", *HEADER]
    assert [row[0] for row in table.rows] == ["none", "1:3", "all"]
    for arm, row in zip(("0", "1_3", "all"), table.rows, strict=True):
        low, high = BLEU[arm]
        for cell, factor in ((row[1], 1), (row[2], 2), (row[4], 1 / 20)):
            estimate = cell.estimate if isinstance(cell, Marked) else cell
            assert close(estimate, factor * (low + high) / 2, factor * low, factor * high)
        assert [isinstance(cell, Marked) for cell in row] == [False, *[arm == "1_3"] * 2, *[False] * 4]
        assert row[3] == "not run"
        assert close(row[5], 0.25, 0.2, 0.3) and close(row[6], 0.125, 0.1, 0.15)
    assert table.notes == [
        "† differs from none with every seed: paired bootstrap over segments, p < 0.05.",
        "Of the references the same measure finds 1.0 % of the source's words omitted and 0.5 % of theirs added.",
        "COMET was not run: the parameters of this scale leave it out.",
    ]
    assert r"13.5\ensuremath{^\dagger}\\" in table.latex("hybrid_ratio") and table.latex("t").count(r"^\dagger") == 3


def test_without_quality_nothing_is_marked() -> None:
    kept = [r for r in made() if r.part == "translation"]
    table = quality_table(asked(kept, ("part", "comet"), ("part", "quality")), ARMS, BASE, "caption")
    assert not any(isinstance(cell, Marked) for row in table.rows for cell in row)
    assert [format_cell(cell) for cell in table.rows[0][4:]] == ["not measured"] * 3
    assert "finds not measured of" in table.notes[1]


def test_names_that_no_segment_has_are_missing() -> None:
    records = asked(made())
    assert close(recall_of_names(records, HYBRID, "100+"), 13.5 / 40, 13 / 40, 14 / 40)
    assert recall_of_names(records, HYBRID, "0").n == 0
    assert recall_of_names(asked(r for r in made() if r.metric != "entity_recall"), HYBRID).n == 0


def test_comet_is_a_number_only_where_it_says_something() -> None:
    scored = [one for ratio in BLEU for seed in (0, 1) for one in comet(ratio, seed, 0.7 + 0.1 * seed, truncated=seed)]
    records = asked([*made(), *scored])
    assert close(comet_cell(records, HYBRID), 0.75, 0.7, 0.8)
    assert comet_notes(records, ARMS) == [
        "COMET: wmt22-comet-da, unbabel-comet 2.2.7; 3 segments were truncated by its encoder."
    ]
    doubtful = [r.replace(value=0) if r.metric == "comet_valid" and r.run == "ratio-all_seed-1" else r for r in scored]
    records = asked([*made(), *doubtful])
    assert comet_cell(records, ATTENTION) == "invalid" and close(comet_cell(records, BASE), 0.75, 0.7, 0.8)
    assert comet_notes(records, ARMS)[0].startswith("COMET of all is invalid: a translation that equals its reference")


def test_comet_that_was_not_run_says_why() -> None:
    why = "no model at models/wmt22"
    rows = [record(ratio, seed, "comet_not_run", 1, why=why).replace(unit="count") for ratio in BLEU for seed in (0, 1)]
    records = asked([*made(), *rows])
    assert {comet_cell(records, arm) for arm in ARMS} == {"not run"}
    assert comet_notes(records, ARMS) == [f"COMET was not run: {why}."]


@pytest.mark.parametrize("mark", [DAGGER, "*"])
def test_a_mark_stands_behind_the_value(mark: str) -> None:
    records = asked(made())
    cell = Marked(records.mean("bleu", ratio="1_3"), mark)
    assert format_cell(cell) == f"13.5{mark} [13.0, 14.0]"
    assert format_cell(Marked(records.mean("bleu", ratio="1_3", seed=0), mark)) == f"13{mark}"
