"""From records to figures, tables, numbers and the files for DVC, through every study's own printer."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from paper.made_up import FIGURES, MADE, TABLES, made_up

from ripstop.config import ConfigError
from ripstop.paper import plots, render, studies
from ripstop.paper.numbers import format_estimate, read_numbers
from ripstop.paper.tables import table_files
from ripstop.records import write_records
from ripstop.statistics import Estimate
from ripstop.verify.rendered import Again, print_again

STUDIES = list(MADE)


@pytest.mark.parametrize("study", STUDIES)
def test_one_folder_holds_everything_of_a_study(study, rendered):
    found = sorted(str(path.relative_to(rendered / study)) for path in (rendered / study).rglob("*") if path.is_file())
    figure_files = [f"figures/{figure}.{form}" for figure in FIGURES[study] for form in ("pdf", "png")]
    tables = table_files(TABLES[study])
    assert found == sorted(["numbers.json", "metrics.json", "sources.json", "curves.csv", *figure_files, *tables])
    made = read_numbers(rendered / study / "numbers.json")
    assert (made.study, made.scale, made.devices, made.figures) == (study, "cpu", ["cpu"], FIGURES[study])
    assert made.tables == TABLES[study]
    assert list(made.numbers) == list(studies.load(study).NUMBERS)
    assert made.n_runs == made.numbers["n_runs"].value > 1


@pytest.mark.parametrize(("study", "table"), [(study, table) for study in STUDIES for table in TABLES[study]])
def test_no_table_prints_nan_or_a_raw_underscore(study, table, rendered):
    text = (rendered / study / "tables" / f"{table}.tex").read_text()
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert "nan" not in text and not re.search(r"(?<!\\)_", body)
    assert rf"\label{{tab:{table}}}" in text


@pytest.mark.parametrize("study", STUDIES)
def test_what_dvc_shows_is_what_the_paper_prints(study, rendered):
    numbers = read_numbers(rendered / study / "numbers.json").numbers
    metrics = json.loads((rendered / study / "metrics.json").read_text())
    assert metrics == {name: pytest.approx(e.value, rel=1e-5) for name, e in numbers.items() if format_estimate(e) != "unknown"}
    assert list(metrics) == sorted(metrics)
    rows = list(csv.DictReader((rendered / study / "curves.csv").open()))
    assert len(rows) > 4
    for row in rows:
        assert float(row["x_low"]) <= float(row["x"]) <= float(row["x_high"]), row
        assert float(row["y_low"]) <= float(row["y"]) <= float(row["y_high"]), row
        assert row["x_axis"] and row["y_axis"] and {row["x_scale"], row["y_scale"]} <= {"linear", "log"}, row


def test_the_curves_are_those_of_the_first_panel(records, rendered):
    table = render.load_records("mqar_cliff", records["mqar_cliff"])
    rows = list(csv.DictReader((rendered / "mqar_cliff" / "curves.csv").open()))
    own = table.mean("accuracy", architecture="attention", control="own", num_pairs=8)
    (row,) = (row for row in rows if (row["label"], row["x"]) == ("attention", "8"))
    found = [float(row[name]) for name in ("y", "y_low", "y_high")]
    assert found == pytest.approx([own.value, own.low, own.high], rel=1e-5) and own.low < own.high
    assert [row[name] for name in ("x_axis", "x_scale", "y_axis", "y_scale")] == ["key-value pairs", "log", "recall", "linear"]


def test_the_same_records_give_the_same_bytes_in_another_process_too(records, rendered, tmp_path):
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text("{\n", encoding="utf-8")
    given = {"blind_start": records["blind_start"], "residual_init": records["residual_init"], "mqar_cliff": damaged}
    made = print_again([Again(study, tmp_path / study, {study: file}, ()) for study, file in given.items()], processes=2)
    refused = made.pop("mqar_cliff")
    assert isinstance(refused, ConfigError) and str(damaged) in str(refused)
    for study, numbers in made.items():
        assert numbers == read_numbers(rendered / study / "numbers.json")
        for path in (rendered / study).rglob("*.*"):
            assert path.read_bytes() == (tmp_path / study / path.relative_to(rendered / study)).read_bytes(), path


def test_metrics_and_curves_lie_where_they_are_wanted(records, rendered, tmp_path):
    study, out = "hybrid_ratio", tmp_path / "out"
    places = {"metrics": tmp_path / "metrics" / "h.json", "curve": tmp_path / "metrics" / "h.csv"}
    render.render_study(study, records[study], out, dropped=["part=comet"], **places)
    assert places["metrics"].read_bytes() == (rendered / study / "metrics.json").read_bytes()
    assert places["curve"].read_bytes() == (rendered / study / "curves.csv").read_bytes()
    assert not (out / "metrics.json").exists() and not (out / "curves.csv").exists()


def test_missing_and_foreign_records_are_one_sentence_and_nothing_is_written(records, tmp_path):
    out, study = tmp_path / "out", "mqar_cliff"
    text = records[study].read_text()
    files = {"none": None, "empty": "", "others": records["hybrid_ratio"].read_text()}
    files["mixed"] = text + text.replace('"scale":"cpu"', '"scale":"h100"')
    files["renamed"] = text.replace('"architecture":"attention"', '"architecture":"atention"')
    sentences = {
        "none": "none: no such records; evaluate the run first",
        "empty": "empty: holds no records",
        "others": "holds records of hybrid_ratio, not only of mqar_cliff",
        "mixed": "mixes the scales cpu, h100",
        "renamed": "names architecture 'attention', which no record has; did you mean 'atention'\\?; if the parameters of this "
        "scale dropped it, `render` takes --dropped architecture=attention",
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=sentences[name]):
            render.render_study(study, tmp_path / name, out)
    assert not out.exists()


def test_a_dropped_arm_prints_as_not_measured(records, tmp_path):
    kept = [line for line in records["mqar_cliff"].read_text().splitlines(True) if '"architecture":"attention"' not in line]
    (tmp_path / "records.jsonl").write_text("".join(kept))
    render.render_study("mqar_cliff", tmp_path / "records.jsonl", tmp_path / "out", dropped=["architecture=attention"])
    found = read_numbers(tmp_path / "out" / "numbers.json").numbers
    gone = ["recall_attention_max_pairs", "recall_attention_worst_seed"]
    assert [name for name, e in found.items() if format_estimate(e) == "not measured"] == gone
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert set(metrics) == set(found) - set(gone)


@pytest.mark.parametrize("item", ["architecture", "=x", "architecture=", "/architecture=x", ""])
def test_a_dropped_thing_is_written_as_factor_and_value(item, records, tmp_path):
    with pytest.raises(ConfigError, match=f"--dropped {item}: write it as factor=value"):
        render.render_study("mqar_cliff", records["mqar_cliff"], tmp_path, dropped=[item])


class TestPrinters:
    def test_every_printer_is_found_by_its_file_name(self):
        assert set(STUDIES) <= set(studies.names())
        for name in studies.names():
            assert studies.load(name).__name__ == f"ripstop.paper.studies.{name}"

    def test_a_study_without_a_printer_says_which_file_to_add(self):
        sentence = r"study 'mqar_clif' has no printer: add src/ripstop/paper/studies/mqar_clif.py; did you mean 'mqar_cliff'\?"
        with pytest.raises(ConfigError, match=sentence):
            studies.load("mqar_clif")
        for name in ("../x", "render", "__init__", "a.b", ""):
            with pytest.raises(ConfigError, match="has no printer"):
                studies.load(name)

    @pytest.fixture
    def printer(self, tmp_path, monkeypatch):
        """Adds a printer by adding a file, and gives its records."""
        folder = tmp_path / "studies"
        folder.mkdir()
        monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(folder)])
        rows = [made_up("weaving", {"way": arm}, seed, "accuracy", 0.5, num_pairs=4) for arm in "ab" for seed in (0, 1)]
        write_records(tmp_path / "weaving.jsonl", rows)

        def add(source: str) -> Path:
            monkeypatch.delitem(sys.modules, "ripstop.paper.studies.weaving", raising=False)
            (folder / "weaving.py").write_text(textwrap.dedent(source))
            return tmp_path / "weaving.jsonl"

        yield add
        sys.modules.pop("ripstop.paper.studies.weaving", None)

    SOURCE = """
        from ripstop.paper import plots, style
        from ripstop.paper.tables import Table

        READS = ("mqar_cliff",)
        NUMBERS = ("a", "attention")

        def numbers(records, mqar_cliff):
            pairs = mqar_cliff.values("num_pairs")[-1]
            return {
                "attention": mqar_cliff.mean("accuracy", architecture="attention", control="own", num_pairs=pairs),
                "a": records.mean("accuracy", way="a"),
            }

        def figures(records, mqar_cliff):
            drawn = {}
            for name in ("weaving_first", "weaving"):
                drawn[name] = style.figure()
                plots.forest(drawn[name].subplots(), [name], [records.mean("accuracy", way="a")])
            return drawn

        def tables(records, mqar_cliff):
            return {name: Table(["x"], [[name]], "A caption") for name in ("weaving", "weaving_b", "weaving_c")}
    """

    def test_any_number_of_figures_and_tables_and_another_study(self, printer, records, tmp_path):
        path, out = printer(self.SOURCE), tmp_path / "out"
        made = render.render_study("weaving", path, out, {"mqar_cliff": records["mqar_cliff"]})
        assert made == read_numbers(out / "numbers.json")
        assert (made.figures, made.tables) == (["weaving_first", "weaving"], ["weaving", "weaving_b", "weaving_c"])
        assert list(made.numbers) == ["a", "attention"] and made.numbers["a"].value == 0.5
        assert made.numbers["attention"].value > 0.9
        assert sorted(p.name for p in (out / "figures").iterdir()) == [
            "weaving.pdf", "weaving.png", "weaving_first.pdf", "weaving_first.png",
        ]  # fmt: skip
        assert r"\label{tab:weaving_b}" in (out / "tables" / "weaving_b.tex").read_text()
        # of the main figure, not of the first
        (point,) = csv.DictReader((out / "curves.csv").open())
        assert (point["label"], point["x"], point["y"]) == ("weaving", "0.5", "0")

    def test_each_figure_is_drawn_once(self, printer, records, tmp_path, monkeypatch):
        path = printer(self.SOURCE)
        drawn = []
        monkeypatch.setattr(plots, "forest", lambda *args: drawn.append(args))
        monkeypatch.setattr(render, "sources", lambda *_: "{}\n")  # which asks the printer again
        render.render_study("weaving", path, tmp_path / "out", {"mqar_cliff": records["mqar_cliff"]})
        assert len(drawn) == 2

    def test_the_records_of_the_other_study_are_asked_for(self, printer, records, tmp_path):
        path = printer(self.SOURCE)
        with pytest.raises(ConfigError, match="weaving reads the records of mqar_cliff: pass --reads mqar_cliff=results/"):
            render.render_study("weaving", path, tmp_path / "out")
        with pytest.raises(ConfigError, match="--reads mqar_clif: weaving does not read it; did you mean 'mqar_cliff'"):
            render.render_study("weaving", path, tmp_path / "out", {"mqar_clif": path})
        other = tmp_path / "other.jsonl"
        other.write_text(records["mqar_cliff"].read_text().replace('"scale":"cpu"', '"scale":"h100"'))
        with pytest.raises(ConfigError, match="weaving at scale cpu cannot read mqar_cliff at scale h100"):
            render.render_study("weaving", path, tmp_path / "out", {"mqar_cliff": other})
        rows = [line for line in records["mqar_cliff"].read_text().splitlines(True) if '"sliding_window"' not in line]
        other.write_text("".join(rows))
        with pytest.raises(ConfigError, match="mqar_cliff: what prints it names architecture 'sliding_window'"):
            render.render_study("weaving", path, tmp_path / "out", {"mqar_cliff": other})
        dropped = ["mqar_cliff/architecture=sliding_window"]
        assert render.render_study("weaving", path, tmp_path / "out", {"mqar_cliff": other}, dropped).tables

    @pytest.mark.parametrize(
        ("item", "told"),
        [
            ("architecture=sliding_window", "weaving.py names no arms by 'architecture'; there is: part"),
            ("mqar_cliff/architecture=nope", "mqar_cliff.py names no architecture 'nope'"),
            ("mqar_cliff/architecture=mamba4", "mqar_cliff.py names no architecture 'mamba4'; did you mean 'mamba3'?"),
            ("mqar_cliff/part=nope", "mqar_cliff.py names no part 'nope'; there is: "),
            ("mqar_clif/architecture=mamba2", "weaving does not read mqar_clif; did you mean 'mqar_cliff'?"),
        ],
    )
    def test_what_no_printer_names_cannot_be_dropped(self, item, told, printer, records, tmp_path):
        path, reads = printer(self.SOURCE), {"mqar_cliff": records["mqar_cliff"]}
        with pytest.raises(ConfigError, match=f"--dropped {item}: .*{re.escape(told)}"):
            render.render_study("weaving", path, tmp_path / "out", reads, [item])

    def test_what_is_no_longer_made_goes_and_what_was_never_made_stays(self, printer, records, tmp_path):
        out, reads = tmp_path / "out", {"mqar_cliff": records["mqar_cliff"]}
        render.render_study("weaving", printer(self.SOURCE), out, reads)
        for name in ("tables/mine.tex", "figures/notes.txt"):
            (out / name).write_text("by hand")
        render.render_study(
            "weaving", printer(self.SOURCE.replace("weaving_b", "weaving_d").replace("_first", "_one")), out, reads
        )
        assert sorted(p.name for p in (out / "tables").iterdir()) == [
            "mine.tex", *(f"weaving{name}.{form}" for name in ("", "_c", "_d") for form in ("csv", "tex")),
        ]  # fmt: skip
        assert sorted(p.name for p in (out / "figures").iterdir()) == [
            "notes.txt", "weaving.pdf", "weaving.png", "weaving_one.pdf", "weaving_one.png",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("old", "new", "sentence"),
        [
            ('("a", "attention")', '("a",)', "weaving.py: NUMBERS does not list 'attention'"),
            ('("a", "attention")', '("a", "attention", "z")', "NUMBERS lists what numbers\\(\\) does not give: 'z'"),
            ("NUMBERS = ", "NUMERS = ", "weaving.py: has no NUMBERS; add it"),
            ('"weaving_c"', '"other_c"', "table 'other_c' is not named by its study; call it weaving_other_c"),
            ('"weaving_first"', '"weavingfirst"', "figure 'weavingfirst' is not named by its study"),
            ('"weaving_c"', '"weaving}c"', "cannot name a table"),
        ],
    )
    def test_a_printer_that_is_none_is_one_sentence(self, old, new, sentence, printer, records, tmp_path):
        path = printer(self.SOURCE.replace(old, new))
        with pytest.raises(ConfigError, match=sentence):
            render.render_study("weaving", path, tmp_path / "out", {"mqar_cliff": records["mqar_cliff"]})
        assert not (tmp_path / "out").exists()

    def test_a_printer_of_numbers_alone(self, printer, tmp_path):
        path = printer(
            """
            NUMBERS = ("a",)
            def numbers(records):
                return {"a": records.mean("accuracy", way="a")}
            """
        )
        made = render.render_study("weaving", path, tmp_path / "out")
        assert made.numbers == {"a": Estimate(0.5, 0.5, 0.5, 2, "fraction")} and made.figures == made.tables == []
        assert (tmp_path / "out" / "curves.csv").read_text() == "label,x,y,x_low,x_high,y_low,y_high\n"
        assert studies.reads("weaving") == ()


def test_nothing_of_the_paper_imports_torch():
    modules = "ripstop.claims, ripstop.statistics, ripstop.paper.render, ripstop.paper.assemble, "
    modules += ", ".join(f"ripstop.paper.studies.{s}" for s in studies.names())
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
