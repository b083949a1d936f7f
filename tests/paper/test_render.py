"""From records to figure, table, numbers and the paper itself, through every study's own module."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ripstop import claims
from ripstop.config import ConfigError
from ripstop.paper import numbers, render
from ripstop.records import read_records

PAPER = Path(__file__).parents[2] / "paper"
STUDIES = ["mqar_cliff", "d_state_scaling", "blind_start", "hybrid_ratio"]


@pytest.fixture(scope="module")
def rendered(records: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of the four studies, laid out as results/<scale>/paper."""
    folder = tmp_path_factory.mktemp("paper")
    for study in STUDIES:
        render.write_figure(study, records[study], folder / "figures" / f"{study}.pdf")
        render.write_table(study, records[study], folder / "tables" / f"{study}.tex")
        render.write_numbers(study, records[study], folder / f"{study}.json")
    paths = [folder / f"{study}.json" for study in STUDIES]
    render.write_paper_numbers(paths, folder / "numbers.tex", sorted(PAPER.rglob("*.tex")))
    claims.write_claims(PAPER / "claims.yaml", paths, "cpu", folder / "claims.json", folder / "claims.tex")
    return folder


def test_every_number_is_measured_and_finite_json(rendered):
    for study in STUDIES:
        content = json.loads((rendered / f"{study}.json").read_text())
        assert (content["study"], content["scale"], content["devices"]) == (study, "cpu", ["cpu"])
        assert content["runs"] == content["numbers"]["n_runs"]["value"]


def test_known_records_give_known_numbers(rendered):
    found = numbers.by_study(numbers.read_studies([rendered / "mqar_cliff.json"]))["mqar_cliff"]
    # made up with a capacity of 11 pairs and a d_state of 16
    assert found["cliff_ratio_mamba2"].value == pytest.approx(11 / 16, rel=0.15)
    assert found["chance"].value == 1 / 64


def test_no_table_prints_nan_or_a_raw_underscore(rendered):
    for study in STUDIES:
        text = (rendered / "tables" / f"{study}.tex").read_text()
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        assert "nan" not in text and not re.search(r"(?<!\\)_", body)
        assert rf"\label{{tab:{study}}}" in text


def test_the_same_records_give_the_same_bytes(records, rendered, tmp_path):
    for study in STUDIES:
        render.write_figure(study, records[study], tmp_path / "figure.pdf")
        render.write_table(study, records[study], tmp_path / "table.tex")
        assert (tmp_path / "figure.pdf").read_bytes() == (rendered / "figures" / f"{study}.pdf").read_bytes()
        assert (tmp_path / "figure.png").read_bytes() == (rendered / "figures" / f"{study}.png").read_bytes()
        assert (tmp_path / "table.tex").read_bytes() == (rendered / "tables" / f"{study}.tex").read_bytes()


@pytest.mark.parametrize("study", STUDIES)
def test_metrics_and_curves_for_dvc(records, study, tmp_path):
    read = read_records(records[study])
    render.write_metrics(read, tmp_path / "m.json")
    render.write_curves(read, tmp_path / "c.csv")
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert len(metrics) > 5 and all(isinstance(value, float) for value in metrics.values())
    header, *rows = (tmp_path / "c.csv").read_text().splitlines()
    assert header == "label,x,y" and len(rows) > 4


def test_missing_and_foreign_records_are_one_sentence(records, tmp_path):
    out = tmp_path / "table.tex"
    with pytest.raises(ConfigError, match="no such records"):
        render.write_table("mqar_cliff", tmp_path / "none.jsonl", out)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(ConfigError, match="holds no records"):
        render.write_table("mqar_cliff", empty, out)
    with pytest.raises(ConfigError, match="holds records of hybrid_ratio, not only of mqar_cliff"):
        render.write_table("mqar_cliff", records["hybrid_ratio"], out)
    mixed = tmp_path / "mixed.jsonl"
    text = records["mqar_cliff"].read_text()
    mixed.write_text(text + text.replace('"scale":"cpu"', '"scale":"h100"'))
    with pytest.raises(ConfigError, match="mixes the scales cpu, h100"):
        render.write_table("mqar_cliff", mixed, out)
    with pytest.raises(ConfigError, match="there are no records"):
        render.write_metrics([], out)
    with pytest.raises(ConfigError, match="written as .pdf"):
        render.write_figure("mqar_cliff", records["mqar_cliff"], tmp_path / "figure.png")
    assert not out.exists()


def test_a_study_without_a_module_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no module paper/mqar_clif.py to print it; did you mean 'mqar_cliff'\?"):
        render.load_study("mqar_clif")
    for name in ("tables", "render", "../x"):
        with pytest.raises(ConfigError, match="no module"):
            render.load_study(name)


def test_every_module_beside_the_machinery_is_a_study():
    with pytest.raises(ConfigError) as error:
        render.load_study("%")
    names = str(error.value).partition("there is: ")[2].split(", ")
    assert set(STUDIES) <= set(names)
    for name in names:
        assert {"figure", "table", "numbers"} <= set(vars(render.load_study(name)))


def test_an_unknown_number_in_the_text_is_named(rendered, tmp_path):
    source = tmp_path / "main.tex"
    source.write_text(r"\val{mqar_cliff.recal_mamba2_max_pairs}")
    with pytest.raises(ConfigError, match=r"main.tex:1: .*did you mean 'mqar_cliff.recall_mamba2_max_pairs'"):
        render.write_paper_numbers([rendered / "mqar_cliff.json"], tmp_path / "numbers.tex", [source])
    assert not (tmp_path / "numbers.tex").exists()


def test_nothing_of_the_paper_imports_torch():
    modules = "ripstop.claims, ripstop.statistics, ripstop.paper.render, " + ", ".join(f"ripstop.paper.{s}" for s in STUDIES)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_result_is_typed_into_a_section():
    for path in (PAPER / "sections").glob("*.tex"):
        text = re.sub(r"\\(val|valci|cite[pt]?|ref|label|input|includegraphics)(\[.*?\])?\{[^}]*\}", "", path.read_text())
        assert not re.search(r"\d", text.replace(r"95\,\%", "").replace("Mamba-2", "")), path.name


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="LaTeX is not installed")
class TestLatex:
    def compile(self, rendered: Path, source: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
        places = f".:{rendered}:{source}:{PAPER}:"
        command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", str(source / "main.tex")]
        environment = os.environ | {"TEXINPUTS": places, "BIBINPUTS": places}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace")

    def test_the_paper_compiles_without_a_missing_reference(self, rendered, tmp_path):
        result = self.compile(rendered, PAPER, tmp_path)
        log = (tmp_path / "main.log").read_text(errors="replace")
        assert result.returncode == 0, log[-2000:]
        assert not re.search(r"undefined|Missing character|multiply defined", log)

    def test_an_undefined_number_stops_the_paper_with_its_name(self, rendered, tmp_path):
        source = tmp_path / "source"
        source.mkdir()
        text = (PAPER / "main.tex").read_text().replace(r"\begin{abstract}", r"\begin{abstract}\val{no.such}")
        (source / "main.tex").write_text(text)
        result = self.compile(rendered, source, tmp_path)
        assert result.returncode != 0 and "Unknown number 'no.such'" in (tmp_path / "main.log").read_text(errors="replace")
