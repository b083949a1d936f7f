"""Every number, cell and figure of every study says what is behind it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from paper import made_up

from ripstop.files import read_text, write_text
from ripstop.paper.numbers import read_numbers
from ripstop.paper.sources import FILE
from ripstop.why.answer import why
from ripstop.why.paper import Paper

SETTINGS = {"n_runs", "n_depths", "min_d_state", "max_d_state", "layers_adaptive", "longer_steps", "longest_length", "window",
            "rank", "past_position", "state_context", "context_short", "context_long", "context_eighth",
            "prompt_longest_attention", "unstable_when_lost", "drop", "longest", "pairs_asked", "pairs_most",
            "questions_longest", "row_tokens"}  # fmt: skip
"""Numbers that no measured value moves."""


@pytest.fixture(scope="module")
def paper(rendered: Path, records: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Paper:
    """All made-up studies as a paper of scale cpu."""
    root = tmp_path_factory.mktemp("checkout")
    for study in made_up.STUDIES:
        shutil.copytree(rendered / study, root / "results/cpu" / study / "paper")
        write_text(root / f"results/records/cpu/{study}.jsonl.gz", read_text(records[study]))
    return Paper("cpu", root)


@pytest.mark.parametrize("study", made_up.STUDIES)
def test_every_printed_number_resolves(study: str, paper: Paper, rendered: Path) -> None:
    printed = read_numbers(rendered / study / "numbers.json").numbers
    unmoved = set()
    for name, estimate in printed.items():
        answer = why(paper, f"{study}.{name}")
        assert answer.said["method"] and answer.estimate["n"] == estimate.n
        if estimate.n:
            assert answer.runs, name
            behind = paper.studies[study]["numbers"][name]["behind"]
            assert paper.studies[study]["behind"][behind]["records"] == len(answer.records), name
            unmoved |= set() if answer.records else {name}
    assert unmoved <= SETTINGS


def test_fifty_of_all_that_is_printed(paper: Paper) -> None:
    """Numbers, cells and figures at random: records that were collected, of the runs that are named."""
    names = [*paper.numbers(), *(f"figures/{name}" for name in paper.printed("figures"))]
    for name, study in paper.printed("tables").items():
        table = paper.studies[study]["tables"][name]
        places = [(row, column) for row in range(len(table["rows"])) for column in range(1, len(table["header"]))]
        names += [f"tables/{name}:{row + 1}:{column + 1}" for row, column in places]
    assert len(names) > 1000
    for name in random.Random(0).sample(names, 50):
        answer = why(paper, name)
        assert answer.runs or answer.said["behind"].startswith("nothing"), name
        assert {(record["study"], record["run"]) for record in answer.records} <= set(answer.runs), name


@pytest.mark.parametrize("study", ["mqar_cliff", "swa_mla", "decode_cost"])
def test_records_are_counted_as_why_lists_them(study: str, paper: Paper) -> None:
    """Also where the sets of a table's cells overlap."""
    sources = paper.studies[study]
    for name, table in sources["tables"].items():
        assert table["records"] == len(why(paper, f"tables/{name}").records), name
    for name, figure in sources["figures"].items():
        assert sources["behind"][figure["behind"]]["records"] == len(why(paper, f"figures/{name}").records) > 0, name


def metrics(answer: Any) -> set[str]:
    return {record["metric"] for record in answer.records}


def test_the_records_of_some_numbers(paper: Paper) -> None:
    gain = why(paper, "mqar_cliff.hybrid_gain")
    assert metrics(gain) == {"accuracy"} and {r["slice"]["control"] for r in gain.records} == {"own"}
    assert {r["slice"]["num_pairs"] for r in gain.records} == {max(made_up.PAIRS)}
    assert {r["factors"]["architecture"] for r in gain.records} == {"mamba2_attention", "mamba2"}
    wrong = why(paper, "mqar_cliff.control_wrong")
    assert {(r["slice"]["control"], r["slice"]["num_pairs"]) for r in wrong.records} == {("wrong", min(made_up.PAIRS))}
    assert len({r["factors"]["architecture"] for r in wrong.records}) == 9
    assert metrics(why(paper, "mqar_cliff.n_not_converged")) == {"held_out_accuracy"}
    assert why(paper, "d_state_scaling.capacity_exponent_d_state").said["method"].startswith("fit_surface: Least squares")
    rank = why(paper, "swa_mla.rank_halved_costs")
    assert metrics(rank) == {"bits_per_byte"} and {r["factors"]["sweep"] for r in rank.records} == {"architecture", "rank"}


def test_the_same_records_give_the_same_bytes(records: Mapping[str, Path], rendered: Path, tmp_path: Path) -> None:
    from ripstop.paper.render import render_study

    render_study("residual_init", records["residual_init"], tmp_path)
    assert (tmp_path / FILE).read_bytes() == (rendered / "residual_init" / FILE).read_bytes()
    assert json.loads(read_text(tmp_path / FILE))["records"].keys() == {"residual_init"}
