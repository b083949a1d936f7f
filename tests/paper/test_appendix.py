"""Every number, figure and table that is printed has one entry in the appendix, and links to it; no link leads nowhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from verify import tree

from ripstop.files import read_text, write_text
from ripstop.paper.appendix import Arms, ranges
from ripstop.paper.assemble import assemble
from ripstop.paper.latex import breakable
from ripstop.paper.numbers import uncommented, without_others
from ripstop.why.answer import why
from ripstop.why.paper import Paper

PAPER = Path(__file__).parents[2] / "paper"
LATEX = pytest.mark.skipif(not (shutil.which("latexmk") and shutil.which("pdfinfo")), reason="LaTeX is not installed")
ENTRY = re.compile(r"\\ripstopentry\{([^}]*)\}")
MORE = r"""
Twice: \val{tide.recall_mamba2} and \val{ebb.wrong}, a level of \given{0.9} and \given{five
times}. % \val{tide.not_there} and \given{7} in a comment
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A made-up checkout whose section names a number twice, and gives values itself."""
    for root in tree.made_with_printers(tmp_path_factory.mktemp("made"), read_text(PAPER / "main.tex")):
        write_text(root / "paper/sections/tide.tex", read_text(root / "paper/sections/tide.tex") + MORE)
        put_together(root, tree.STUDIES)
        yield root


@pytest.fixture(scope="module")
def pdf(made: Path) -> Path:
    return compiled(made, made / "results/cpu/paper", made / "build")


def put_together(root: Path, studies: tuple[str, ...], out: str = "results/cpu/paper") -> str:
    """The appendix of the paper of these studies."""
    folders = [root / f"results/cpu/{study}/paper" for study in studies]
    assemble(folders, "cpu", root / out, root / "paper", tree.SCALES, root)
    return read_text(root / out / "appendix.tex")


def compiled(root: Path, assembled: Path, build: Path) -> Path:
    # By relative paths, which stand in the file for figures, and with one run more than latexmk asks for, as in the workflow.
    source, generated = (os.path.relpath(folder, build) for folder in (root / "paper", assembled))
    command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", f"{source}/main.tex"]
    build.mkdir()
    environment = os.environ | {"TEXINPUTS": f".:{generated}:{source}:", "BIBINPUTS": str(PAPER)}
    for more in ([], ["-g"]):
        done = subprocess.run(command + more, cwd=build, env=environment, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
    return build / "main.pdf"


def links(pdf: Path) -> Counter[str]:
    """How many links of the file lead to each destination."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.DOTALL)
    found: Counter[str] = Counter()
    for stream in streams:
        try:
            text = zlib.decompress(stream)
        except zlib.error:  # a font, say
            continue
        found.update(name.decode() for name in re.findall(rb"/S\s*/GoTo\s*/D\s*\(([^)]*)\)", text))
    return found


def destinations(pdf: Path) -> dict[str, int]:
    """Destination -> its page."""
    told = subprocess.run(["pdfinfo", "-dests", str(pdf)], capture_output=True, text=True, check=True).stdout
    return {name: int(page) for page, name in re.findall(r'^\s*(\d+) \[.*\] "(.*)"$', told, re.MULTILINE)}


def dangles(pdf: Path) -> bool:
    """pdfTeX gives a link that leads nowhere some page."""
    return "referenced but does not exist" in read_text(pdf.with_suffix(".log")).replace("\n", "")


def page(pdf: Path, number: int) -> str:
    command = ["pdftotext", "-f", str(number), "-l", str(number), str(pdf), "-"]
    return " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def said(appendix: str, target: str) -> str:
    """What stands in an entry, breaks of its names left out."""
    (line,) = [line for line in appendix.split("\n") if line.startswith(rf"\ripstopentry{{{target}}}")]
    return line.replace(r"\nolinebreak[3]", "")


def named(root: Path) -> Counter[str]:
    """How often the text prints each number, and the table of claims each that a claim is held against."""
    text = "".join(uncommented(root / f"paper/{name}.tex") for name in ("main", *(f"sections/{s}" for s in tree.STUDIES)))
    found = Counter(re.findall(r"\\val(?:ci)?\{([^#}]*)\}", without_others(text, tree.STUDIES)))
    found.update(claim["measure"] for claim in tree.CLAIMS if " " not in claim["measure"])
    return found


def test_each_number_has_one_entry(made: Path) -> None:
    entries = Counter(ENTRY.findall(read_text(made / "results/cpu/paper/appendix.tex")))
    assert set(entries.values()) == {1}
    numbers = {f"number.{name}" for name in named(made)} | {"number.ebb.recall_mamba2"}  # which a claim takes with another
    assert {target for target in entries if target.startswith("number.")} == numbers
    assert len(numbers) == 15
    assert {"figures/ebb", "figures/tide", "tables/ebb", "tables/tide", "claim.tide_is_ebb"} < set(entries)


def test_an_entry_says_what_why_says(made: Path) -> None:
    paper, appendix = Paper("cpu", made), read_text(made / "results/cpu/paper/appendix.tex")
    for name in ("recall_mamba2", "recall_attention", "recall_window"):
        answer = why(paper, f"tide.{name}")
        entry = said(appendix, f"number.tide.{name}")
        assert (
            answer.printed.replace("[", "{[}").replace("]", "{]}") in entry
            and "{mean\\_interval}; 2 records of 2 runs, arm" in entry
        )
        assert len(answer.records) == len(answer.runs) == 2
    assert r"6 records of 6 runs, all arms" in said(appendix, "tables/tide")
    assert r"6 records of 6 runs, all arms" in said(appendix, "figures/tide")
    run = answer.runs["tide", "arm-window_seed-1"]
    commit, data = run["stages"]["train"]["commit"], run["data"]["digest"][:8]
    assert f"6 runs; commit {commit}; " in appendix and f"; data {data}." in appendix
    (arm,) = [line for line in appendix.replace(r"\nolinebreak[3]", "").split("\n") if "{arm-window}" in line][-1:]
    assert arm.startswith(r"\ripstoparm{3}{arm-window}{seeds 0--1: ") and run["config"]["digest"][:8] in arm


def test_what_the_text_gives_itself_stands_with_its_files(made: Path) -> None:
    appendix = read_text(made / "results/cpu/paper/appendix.tex")
    given = dict(
        re.findall(r"\\ripstopentry\{given\.\w+\}\{\}\{\\textbf\{(.*?)\}: (.*)\.\}", appendix.replace(r"\nolinebreak[3]", ""))
    )
    of_main = dict.fromkeys(("64", "0.02", "0.01"), "main.tex")
    assert given == of_main | dict.fromkeys(("0.9", "five times"), "sections/tide.tex")


@LATEX
def test_every_number_links_to_its_entry_and_nothing_dangles(made: Path, pdf: Path) -> None:
    to, there = links(pdf), destinations(pdf)
    assert set(to) <= set(there)
    for name, times in named(made).items():
        wanted = times + (name in tree.CLAIMS[-1]["measure"])  # by the entry of a claim that takes two numbers
        assert to[f"number.{name}"] >= wanted, name  # one that is broken between lines is two
    assert named(made)["tide.recall_mamba2"] == 3
    for name in ("ebb", "tide"):
        assert to[f"figures/{name}"] == to[f"tables/{name}"] == 1
    assert to["claim.tide_is_ebb"] == 1 and len([name for name in to if name.startswith("given.")]) == 5
    assert not dangles(pdf) and "Overfull \\hbox" not in read_text(pdf.with_suffix(".log"))


@LATEX
def test_an_entry_ends_with_the_page_that_prints_it_first(pdf: Path) -> None:
    there, pages = destinations(pdf), {}
    for name, number in re.findall(r"\\ripstopprinted\{(.*?)\}\{.*?\}\{(\d+)\}", read_text(pdf.with_suffix(".aux"))):
        pages.setdefault(name, int(number))
    shown = {"number.tide.recall_mamba2": "0.505", "number.claims.total": "Of 3 claims", "tables/tide": "Table 2"}
    for target, text in (shown | {"figures/tide": "Figure 2"}).items():
        first = pages[target]
        assert text in page(pdf, first) and there[f"page.{first}"] == first < there[target]
    appendix = " ".join(page(pdf, number) for number in range(there["appendix.A"], max(there.values()) + 1))
    assert f"all arms. Figure 2, p. {pages['figures/tide']}." in appendix
    assert "total 3: a count of claims by their verdicts. p. 1." in appendix  # page 2 prints it too
    entry = "recall_mamba2 0.505 [0.500, 0.510] fraction: mean_interval; 2 records of 2 runs, arm 2. p. "
    assert f"{entry}{pages['number.tide.recall_mamba2']}." in appendix


@LATEX
def test_the_file_is_the_same_wherever_it_is_made(made: Path, pdf: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "paper", tmp_path / "paper")
    shutil.copytree(made / "results/cpu/paper", tmp_path / "results/cpu/paper")
    assert compiled(tmp_path, tmp_path / "results/cpu/paper", tmp_path / "build").read_bytes() == pdf.read_bytes()


@LATEX
def test_a_study_that_is_not_in_the_paper_has_no_entry_and_no_link(made: Path) -> None:
    appendix = put_together(made, ("ebb",), "results/cpu/without")
    entries = ENTRY.findall(appendix)
    assert "number.ebb.wrong" in entries and not [name for name in entries if "tide" in name]
    pdf = compiled(made, made / "results/cpu/without", made / "build_without")
    assert links(pdf)["number.ebb.wrong"] and not dangles(pdf)


def test_where_nothing_was_kept_of_the_runs_that_is_said(made: Path, tmp_path: Path) -> None:
    sources = [made / "results/cpu/tide/paper/sources.json"]
    arms = Arms(Paper("cpu", tmp_path, sources), "tide")
    assert arms.common == ["commit not kept", "device not kept", "versions not kept", "data not kept"]
    assert [row["configs"] for row in arms.rows()] == [["not kept"] * 2] * 3


def test_what_holds_for_some_runs_stands_with_their_arm(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made / "results/records", tmp_path / "results/records")).parents[1]
    file = root / "results/records/cpu/tide.runs.json"
    text = read_text(file)
    old = re.search(r'"arm-mamba2_seed-1".*?"digest": "\w+"\}, "data": \{"path": "[^"]*", "digest": "(\w+)"', text)
    assert old
    write_text(file, text[: old.start(1)] + "0123456789abcdef" + text[old.end(1) :])
    arms = Arms(Paper("cpu", root, [made / "results/cpu/tide/paper/sources.json"]), "tide")
    assert not [said for said in arms.common if said.startswith("data")] and len(arms.common) == 3
    assert [row["apart"] for row in arms.rows()] == [
        [f"data {old[1][:8]}"],
        [f"data {old[1][:8]}", "data 01234567"],
        [f"data {old[1][:8]}"],
    ]
    assert arms.of(["arm-mamba2_seed-1"]) == "arm 2" and arms.of(["arm-window_seed-0", "arm-mamba2_seed-0"]) == "arms 2–3"


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([4], "4"), ([3, 1, 2, 2], "1–3"), ([7, 1, 2, 5, 6], "1–2, 5–7")])
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_a_name_is_broken_behind_its_signs_alone() -> None:
    assert breakable("d_state.x-") == r"d\_\nolinebreak[3]state.\nolinebreak[3]x-"
    assert breakable("mamba2 & b") == r"mamba2 \& b"
