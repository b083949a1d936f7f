"""What `why` answers, from a name to the runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from verify import tree

from ripstop.config import ConfigError
from ripstop.files import read_text, write_text
from ripstop.why.answer import Answer, why
from ripstop.why.paper import Paper
from ripstop.why.screen import Screen

OWN = [("arm-mamba2_seed-0", 0.5), ("arm-mamba2_seed-1", 0.51)]


def values(answer: Answer) -> list[tuple[str, float]]:
    return [(record["run"], record["value"]) for record in answer.records]


def test_a_number(made: Path) -> None:
    answer = why(Paper("cpu", made), "tide.recall_mamba2")
    assert answer.kind == "number" and answer.printed == "0.505 [0.500, 0.510]"
    assert answer.estimate["n"] == 2 and answer.said["method"].startswith("mean_interval: Mean over seeds")
    assert values(answer) == OWN and {record["slice"]["control"] for record in answer.records} == {"own"}
    run = answer.runs["tide", "arm-mamba2_seed-0"]
    assert run["config"]["path"] == "results/cpu/tide/runs/arm-mamba2_seed-0/config.yaml"
    assert run["stages"]["train"]["commit"] == answer.records[0]["commit"]


@pytest.mark.parametrize("name", ["tables/tide:mamba2:recall", "tables/tide:2:2", "paper/tables/tide.tex:mamba2:2"])
def test_a_cell(name: str, made: Path) -> None:
    answer = why(Paper("cpu", made), name)
    assert (answer.kind, answer.name, answer.printed) == ("cell", "tables/tide:mamba2:recall", "0.505 [0.500, 0.510]")
    assert values(answer) == OWN


def test_a_table_and_a_figure_rest_on_all_of_their_records(made: Path) -> None:
    paper = Paper("cpu", made)
    for name, kind in (("tables/tide", "table"), ("figures/tide", "figure"), ("paper/figures/tide.pdf", "figure")):
        answer = why(paper, name)
        assert answer.kind == kind and len(answer.records) == 6 and len(answer.runs) == 6
        assert {record["slice"]["control"] for record in answer.records} == {"own"}


def test_a_verdict_with_its_numbers(made: Path) -> None:
    answer = why(Paper("cpu", made), "tide_is_ebb")
    assert (answer.kind, answer.printed) == ("verdict", "supported")
    assert answer.said["statement"] == "Statement of tide is ebb."
    assert answer.said["criterion"] == "ebb.recall_mamba2 / tide.recall_mamba2 within [0.5, 2.0]"
    assert answer.said["needs"] == "wrong_gives_nothing (supported)" and answer.said["registration"].startswith("registered")
    assert answer.of == ["ebb.recall_mamba2", "tide.recall_mamba2"]
    assert values(answer) == [*OWN, *OWN] and {study for study, _ in answer.runs} == {"ebb", "tide"}


def test_counts_of_verdicts_are_those_of_the_paper(made: Path) -> None:
    paper = Paper("cpu", made)
    text = read_text(made / "results/cpu/paper/claims.tex")
    printed = dict(re.findall(r"\\ripstopnumber\{claims\.(\w+)\}\{(\d+)\}", text))
    assert len(printed) == 10
    for name, count in printed.items():
        assert why(paper, f"claims.{name}").printed == count, name
    assert why(paper, "claims.refuted").of == ["mamba2_recalls"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tide.recall_mamba", r"nothing of that name is printed at scale cpu; did you mean 'tide.recall_mamba2'\?"),
        ("mamba_recalls", r"did you mean 'mamba2_recalls'\?"),
        ("tide", "is a figure and a table; write figures/tide or tables/tide"),
        ("tables/tied", r"did you mean 'tables/tide'\?"),
        ("tables/tide:mamba:recall", r"of \d rows none is 'mamba'; did you mean 'mamba2'\?"),
        ("tables/tide:2:7", r"columns none is '7'"),
        ("tables/tide:2", "write a cell as tables/tide:<row>:<column>"),
        ("claims.refutd", r"claims are not counted so; did you mean 'refuted'\?"),
        ("figures/tide:1:1", "nothing of that name"),
        ("QQQ", r"printed at scale cpu; sources of what is printed are kept of \w+"),
    ],
)
def test_no_such_name(name: str, said: str, made: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        why(Paper("cpu", made), name)


def test_from_what_was_published_alone(checkout: Path) -> None:
    """As in an archive of the paper: its sources and the records, and none of the runs."""
    before = why(Paper("cpu", checkout), "tide_is_ebb").json()
    shutil.rmtree(checkout / "results/cpu")
    shutil.rmtree(checkout / ".git")
    assert why(Paper("cpu", checkout), "tide_is_ebb").json() == before


def test_another_scale_has_nothing(made: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is printed at scale h100; run `snakemake paper/tables`"):
        why(Paper("h100", made), "tide.wrong")


def test_other_records_than_were_printed_are_refused(checkout: Path) -> None:
    file = checkout / "results/records/cpu/tide.jsonl.gz"
    write_text(file, read_text(file).replace('"value":0.5,', '"value":0.6,'))
    with pytest.raises(ConfigError, match="tide.jsonl.gz: these are not the records that were printed; render the study again"):
        why(Paper("cpu", checkout), "tide.recall_mamba2")


@pytest.mark.parametrize("content", ["", "[]", '{"study": "tide"}'])
def test_damaged_sources_are_one_sentence(content: str, checkout: Path) -> None:
    write_text(checkout / "results/cpu/tide/paper/sources.json", content)
    with pytest.raises(
        ConfigError, match="sources.json: not what was printed, it was damaged or edited; render the study again"
    ):
        why(Paper("cpu", checkout), "tide.recall_mamba2")


def test_where_records_come_from_may_not_have_been_kept(checkout: Path) -> None:
    (checkout / "results/records/cpu/tide.runs.json").unlink()
    answer = why(Paper("cpu", checkout), "tide.recall_mamba2")
    assert values(answer) == OWN
    assert "not kept; collect its study's records again" in shown(answer, True)
    assert "2 runs: commit not kept" in shown(answer)


def shown(answer: Answer, everything: bool = False) -> str:
    console = Console(width=10_000, highlight=False)
    with console.capture() as capture:
        console.print(Screen(answer, everything))
    return capture.get()


def test_the_short_of_it_comes_first(made: Path) -> None:
    short = shown(why(Paper("cpu", made), "figures/tide")).splitlines()
    assert short[0].strip() == "figures/tide" and "rests on: 6 records of 6 runs" in short[2]
    lines = shown(why(Paper("cpu", made), "tide.recall_mamba2")).splitlines()
    assert lines[0].startswith("tide.recall_mamba2  0.505 [0.500, 0.510] fraction")
    assert any(re.fullmatch(r"2 runs: commit \w{12} · device not kept · versions not kept", line.strip()) for line in lines)
    long = shown(why(Paper("cpu", made), "tide.recall_mamba2"), True)
    for told in ("config: results/cpu/tide/runs/arm-mamba2_seed-1/config.yaml  digest ", "data: results/cpu/data/d  digest ",
                 "train: code c0de, log not kept", "recall: code c0de2, settings results/cpu/tide/runs"):  # fmt: skip
        assert told in long


def test_the_command(made: Path) -> None:
    """Offline and without pandas or torch, whose imports alone take longer than an answer may."""
    code = "import sys; from ripstop.__main__ import main; sys.argv[1:] = sys.argv[1:]\ntry: main()\nfinally: "
    code += "print(*({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)), file=sys.stderr)"
    source = str(Path(tree.__file__).parents[2] / "src")
    call = [sys.executable, "-c", code, "why", "tide.recall_mamba2", "--scale", "cpu", "--json"]
    done = subprocess.run(call, cwd=made, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == 0 and done.stderr.strip() == ""
    found = json.loads(done.stdout)
    assert found["estimate"]["value"] == 0.505 and [run["run"] for run in found["runs"]] == [run for run, _ in OWN]
