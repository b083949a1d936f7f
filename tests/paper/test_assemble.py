"""The rendered studies become one paper that compiles, and that its readers find."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from paper.made_up import FIGURES, MADE, TABLES

from ripstop.accepted import FILE
from ripstop.config import ConfigError
from ripstop.files import write_text
from ripstop.paper.assemble import assemble, publish
from ripstop.paper.numbers import StudyNumbers, read_numbers, write_numbers_json
from ripstop.paper.tables import table_files
from ripstop.provenance import file_sha256

PAPER = Path(__file__).parents[2] / "paper"
STUDIES = list(MADE)
SCALES = ["smoke", "cpu", "h100"]


@pytest.fixture(scope="module")
def folders(rendered: Path) -> list[Path]:
    return [rendered / study for study in STUDIES]


@pytest.fixture(scope="module")
def assembled(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("assembled")
    assemble(folders, "cpu", out, PAPER, SCALES)
    return out


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A copy of the paper's own text, to be changed."""
    folder = tmp_path / "text"
    (folder / "sections").mkdir(parents=True)
    for name in ("main.tex", "claims.yaml", *(f"sections/{study}.tex" for study in STUDIES)):
        shutil.copy(PAPER / name, folder / name)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_everything_but_the_text_is_there(assembled, rendered):
    made = table_files(table for study in STUDIES for table in TABLES[study])
    made += [f"figures/{figure}.pdf" for study in STUDIES for figure in FIGURES[study]]
    made += [f"sources/{study}.json" for study in STUDIES]
    assert files(assembled) == sorted(["appendix.tex", "claims.json", "claims.tex", "contents.json", "numbers.tex", *made])
    for study in STUDIES:
        assert (assembled / f"figures/{study}.pdf").read_bytes() == (rendered / study / f"figures/{study}.pdf").read_bytes()
        assert (assembled / f"tables/{study}.tex").read_bytes() == (rendered / study / f"tables/{study}.tex").read_bytes()
    tex = (assembled / "numbers.tex").read_text()
    assert [tex.index(f"sections/{study}.tex") for study in STUDIES] == sorted(tex.index(f"sections/{s}.tex") for s in STUDIES)
    runs = "mqar\\_cliff 27, d\\_state\\_scaling 24, blind\\_start 27, residual\\_init 12, hybrid\\_ratio 36, decode\\_cost 9"
    runs += ", nsa\\_needle 22, latent\\_compression 11, swa\\_mla 45"
    runs += ", state\\_tracking 34, state\\_precision 20, memory\\_frontier 48"
    assert f"Runs & {runs} \\\\" in tex
    assert "Scale & cpu \\\\" in tex and "Devices & cpu \\\\" in tex
    claims = json.loads((assembled / "claims.json").read_text())
    assert claims["scale"] == "cpu" and len(claims["claims"]) > 10
    assert "not measured" not in {claim["verdict"] for claim in claims["claims"]}


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        (
            "sections/mqar_cliff.tex",
            "recall_mamba2_max",
            "recal_mamba2_max",
            r"mqar_cliff.tex:\d+: .*did you mean 'mqar_cliff.recall",
        ),
        (
            "sections/blind_start.tex",
            "figures/blind_start",
            "figures/blind",
            "names no figure; did you mean 'blind_start'",
        ),
        (
            "sections/blind_start.tex",
            "tables/blind_start",
            "tables/blind_strt",
            "names no table; did you mean 'blind_start'",
        ),
        ("main.tex", "claims.refuted", "claims.refused", "main.tex:.*did you mean 'claims.refuted'"),
        (
            "claims.yaml",
            "mqar_cliff.control_wrong",
            "mqar_cliff.control_wrng",
            "claims.yaml: claim 'mqar_control_wrong': .*wrong'",
        ),
        ("claims.yaml", "mqar_cliff.control_wrong", "mqar_clif.control_wrong", "study 'mqar_clif' does not exist"),
        ("claims.yaml", "[cpu, h100]", "[cpu, h10]", "scale 'h10' does not exist; did you mean 'h100'"),
    ],
)
def test_what_the_text_names_and_does_not_exist_is_one_sentence(name, old, new, sentence, folders, text, tmp_path):
    content = (text / name).read_text()
    assert old in content
    (text / name).write_text(content.replace(old, new))
    with pytest.raises(ConfigError, match=sentence):
        assemble(folders, "cpu", tmp_path / "out", text, SCALES)
    assert not (tmp_path / "out").exists()


def test_missing_and_unreadable_text_is_one_sentence(folders, text, tmp_path):
    (text / "sections" / "blind_start.tex").write_bytes(b"Gr\xf6\xdfe")
    with pytest.raises(ConfigError, match="blind_start.tex.*not UTF-8"):
        assemble(folders, "cpu", tmp_path / "out", text, SCALES)
    (text / "sections" / "blind_start.tex").unlink()
    with pytest.raises(ConfigError, match="sections/blind_start.tex: no such file; the paper needs it"):
        assemble(folders, "cpu", tmp_path / "out", text, SCALES)
    assert assemble([folders[0], folders[1], folders[3]], "cpu", tmp_path / "out", text, SCALES)
    (text / "claims.yaml").unlink()
    with pytest.raises(ConfigError, match="claims.yaml.*no such file"):
        assemble(folders[:1], "cpu", tmp_path / "out", text, SCALES)
    (text / "main.tex").unlink()
    with pytest.raises(ConfigError, match="main.tex: no such file"):
        assemble(folders[:1], "cpu", tmp_path / "out", text, SCALES)


def test_a_study_that_was_not_rendered_is_one_sentence(folders, text, tmp_path):
    with pytest.raises(ConfigError, match="none/numbers.json: no such file; `python -m ripstop render` writes it"):
        assemble([tmp_path / "none"], "cpu", tmp_path / "out", text, SCALES)
    with pytest.raises(ConfigError, match="holds numbers of scale 'cpu', not 'smoke'"):
        assemble(folders, "smoke", tmp_path / "out", text, SCALES)
    half = tmp_path / "half"
    shutil.copytree(folders[0], half)
    (half / "tables" / "mqar_cliff.tex").unlink()
    with pytest.raises(
        ConfigError, match=r"half/tables/mqar_cliff.tex: no such file, though .* lists it; render mqar_cliff again"
    ):
        assemble([half], "cpu", tmp_path / "out", text, SCALES)


def test_what_an_earlier_paper_left_goes_and_what_it_did_not_make_stays(folders, text, tmp_path):
    out = tmp_path / "out"
    assemble(folders, "cpu", out, text, SCALES)
    (out / "tables" / "mine.tex").write_text("by hand")
    assemble(folders[:1], "cpu", out, text, SCALES)
    assert files(out / "tables") == sorted(
        ["mine.tex", *(f"{table}.{form}" for table in TABLES["mqar_cliff"] for form in ("csv", "tex"))]
    )
    assert files(out / "figures") == ["mqar_cliff.pdf"]
    # a list that leads elsewhere, or is none, is not followed
    outside = tmp_path / "precious"
    outside.write_text("x")
    for content in ('{"files": ["../precious"]}', json.dumps({"files": [str(outside)]}), "[]", "{", '{"files": 3}'):
        (out / "contents.json").write_text(content)
        assemble(folders[:1], "cpu", out, text, SCALES)
        assert outside.exists()


def test_two_studies_do_not_share_a_file(tmp_path, text):
    for study, figure in (("a", "a_b"), ("a_b", "a_b")):
        folder = tmp_path / study
        (folder / "figures").mkdir(parents=True)
        (folder / "figures" / f"{figure}.pdf").write_text("x")
        write_numbers_json(folder / "numbers.json", StudyNumbers(study, "cpu", 1, ["cpu"], {}, [figure]))
        (folder / "sources.json").write_text("{}")
        (text / "sections" / f"{study}.tex").write_text("")
    with pytest.raises(ConfigError, match="a_b/figures/a_b.pdf: another study has a file of that name; rename one"):
        assemble([tmp_path / "a", tmp_path / "a_b"], "cpu", tmp_path / "out", text, SCALES)


def test_results_kept_under_other_code_are_printed(folders, text, tmp_path, monkeypatch):
    names = {"scale": "cpu", "study": "mqar_cliff", "stage": "train", "date": "2026-11-26T00:00:00+00:00", "commit": "abc"}
    entry = names | {"made": "0" * 16, "now": "1" * 16, "reason": "a name changed & nothing else"}
    write_text(tmp_path / FILE, json.dumps([entry, entry | {"scale": "smoke", "reason": "elsewhere"}]))
    monkeypatch.chdir(tmp_path)
    assemble(folders, "cpu", tmp_path / "out", text, SCALES)
    tex = (tmp_path / "out/numbers.tex").read_text()
    assert "a name changed \\& nothing else" in tex and "elsewhere" not in tex


def test_publishing_copies_what_readers_see(assembled, tmp_path):
    out = tmp_path / "paper"
    (out / "tables").mkdir(parents=True)
    (out / "tables" / "old.tex").write_text("old")
    (out / "claims.yaml").write_text("mine")
    assert publish(assembled, out) == [f"{out}/tables/old.tex is not of this paper; delete it if it is an old one"]
    tables = ["tables/claims.tex", "tables/old.tex", *table_files(name for study in STUDIES for name in TABLES[study])]
    made = [*tables, *(f"figures/{figure}.pdf" for study in STUDIES for figure in FIGURES[study])]
    made += [f"sources/{name}.json" for name in ("claims", *STUDIES)]
    assert files(out) == sorted(["claims.yaml", "contents.json", *made])
    listed = json.loads((out / "contents.json").read_text())
    assert listed["scale"] == "cpu" and set(listed["files"]) == {*made} - {"tables/old.tex"}
    assert listed["files"]["tables/claims.tex"] == file_sha256(out / "tables/claims.tex")
    assert (out / "tables/claims.tex").read_bytes() == (assembled / "claims.tex").read_bytes()
    shutil.copytree(assembled, tmp_path / "with_pdf")
    (tmp_path / "with_pdf" / "main.pdf").write_text("%PDF")
    publish(tmp_path / "with_pdf", out)
    assert (out / "main.pdf").read_text() == "%PDF"
    with pytest.raises(ConfigError, match="none/contents.json: no such file, or it is damaged; `python -m ripstop assemble`"):
        publish(tmp_path / "none", out)


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="LaTeX is not installed")
class TestLatex:
    def compile(self, assembled: Path, source: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
        places = f".:{assembled}:{source}:{PAPER}:"
        options = ["-pdf", "-latexoption=-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error"]
        environment = os.environ | {"TEXINPUTS": places, "BIBINPUTS": places}
        command = ["latexmk", *options, str(source / "main.tex")]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace")

    def test_the_paper_compiles_without_a_missing_reference(self, assembled, tmp_path):
        result = self.compile(assembled, PAPER, tmp_path)
        log = (tmp_path / "main.log").read_text(errors="replace")
        assert result.returncode == 0, log[-2000:]
        assert not re.search(r"undefined|Missing character|multiply defined|Overfull \\hbox", log)
        assert "referenced but does not exist" not in log.replace("\n", ""), "a link leads nowhere"
        assert "restricted \\write18 enabled" not in log

    def test_an_undefined_number_stops_the_paper_with_its_name(self, assembled, tmp_path):
        source = tmp_path / "source"
        source.mkdir()
        text = (PAPER / "main.tex").read_text().replace(r"\begin{abstract}", r"\begin{abstract}\val{no.such}")
        (source / "main.tex").write_text(text)
        result = self.compile(assembled, source, tmp_path)
        assert result.returncode != 0 and "Unknown number 'no.such'" in (tmp_path / "main.log").read_text(errors="replace")


def test_a_device_or_scale_cannot_be_latex(folders, text, tmp_path):
    shutil.copytree(folders[0], tmp_path / "evil")
    made = read_numbers(tmp_path / "evil" / "numbers.json")
    for name in ("numbers.json", "sources.json"):
        path = tmp_path / "evil" / name
        path.write_text(path.read_text().replace('"cpu"', json.dumps(r"x\input{/etc/passwd} & $y_1$")))
    assemble([tmp_path / "evil"], r"x\input{/etc/passwd} & $y_1$", tmp_path / "out", text, SCALES)
    tex = (tmp_path / "out" / "numbers.tex").read_text()
    assert made.devices == ["cpu"] and r"\input{/etc" not in tex and r"\textbackslash{}input\{/etc/passwd\}" in tex
