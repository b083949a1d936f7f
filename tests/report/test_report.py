"""The report of a made-up checkout: its names, its chains, what it shows and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from report.read import Page
from verify import tree

from ripstop.claims.counts import CLAIM_COUNTS
from ripstop.config import ConfigError
from ripstop.files import read_text, write_text
from ripstop.report.anchors import anchor
from ripstop.report.build import build
from ripstop.report.captions import plain, section
from ripstop.report.chains import answers
from ripstop.report.drawing import MOST_POINTS, curves, held_against
from ripstop.why.answer import why
from ripstop.why.paper import Paper

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;'


def report(root: Path, out: Path | None = None) -> Page:
    return Page(build(tree.plan(), out, root)[0])


@pytest.fixture(scope="module")
def page(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return report(made, tmp_path_factory.mktemp("report"))


def test_every_printed_name_has_its_place_and_its_chain(page: Page, made: Path) -> None:
    paper = Paper("cpu", made)
    names = {*paper.numbers(), *paper.claims, "figures/tide", "tables/tide", *(f"claims.{count}" for count in CLAIM_COUNTS)}
    names |= {f"tables/tide:{arm}:{column}" for arm in tree.ARMS for column in ("arm", "recall")}
    assert names <= set(page.ids) and len(page.ids) == len(set(page.ids))
    assert names <= set(page.data["entries"]) <= set(page.ids)


def test_a_chain_is_what_why_answers(page: Page, made: Path) -> None:
    paper = Paper("cpu", made)
    for answer in answers(paper):
        name, kind, printed, said, *_ = page.data["entries"][anchor(answer.name)]
        texts = [page.data["texts"][number] for number in said]
        assert name == answer.name and printed.startswith(answer.printed) and page.data["texts"][kind] == answer.kind
        assert dict(zip(texts[::2], texts[1::2], strict=True)) == answer.said
        told = sorted((record["run"], f"{record['value']:.6g}") for record in answer.records)
        assert sorted(page.records(anchor(answer.name))) == told, answer.name
    assert page.records("tide.recall_mamba2") == [("arm-mamba2_seed-0", "0.5"), ("arm-mamba2_seed-1", "0.51")]


def test_every_link_leads_somewhere(page: Page) -> None:
    assert page.links and set(page.links) <= set(page.ids)
    assert not [address for address in page.addresses if not address.startswith(("#", "data:"))]


def test_figures_are_drawn_into_the_page(page: Page) -> None:
    assert page.images["The figure of tide."].startswith("data:image/svg+xml;base64,")
    assert "The figure of tide." in page.text and "Recall of tide." in page.text


def test_a_run_shows_its_configuration_and_how_it_ended(page: Page, made: Path) -> None:
    study, run, lines, configuration = next(run for run in page.data["runs"] if run[:2] == ["tide", "arm-window_seed-1"])
    text = "\n".join(page.data["texts"][number] for number in configuration) + "\n"
    assert text == read_text(made / f"results/cpu/{study}/runs/{run}/config.yaml")
    assert any(page.data["texts"][number].startswith("config: results/cpu/tide") for number in lines)
    assert f"run:{study}/{run}" in page.ids and page.text.count("finished") == 12


def test_a_configuration_that_has_changed_is_not_shown_as_the_runs_own(checkout: Path) -> None:
    file = checkout / "results/cpu/tide/runs/arm-window_seed-1/config.yaml"
    write_text(file, read_text(file) + "later: true\n")
    found = report(checkout)
    *_, configuration = next(run for run in found.data["runs"] if run[:2] == ["tide", "arm-window_seed-1"])
    assert [found.data["texts"][number] for number in configuration] == [
        "its text is not here: the parameters that it was made with are others now"
    ]


def test_the_same_results_are_the_same_bytes(made: Path, tmp_path: Path) -> None:
    first, second = (build(tree.plan(), tmp_path / name, made)[0].read_bytes() for name in ("a", "b"))
    assert first == second


def test_from_what_git_keeps_alone(checkout: Path, page: Page) -> None:
    """As on a fresh clone: it says how to get what lies with the runs."""
    shutil.rmtree(checkout / "results/cpu")
    found = report(checkout)
    assert set(page.ids) == set(found.ids)
    assert "`workflow/scripts/restore tide` fetches them" in found.text and "restore tide" not in page.text
    assert found.records("tide_is_ebb") == page.records("tide_is_ebb")


def test_losses_texts_and_pictures_are_shown_where_they_lie(checkout: Path) -> None:
    run = checkout / "results/cpu/tide/runs/arm-mamba2_seed-0"
    rows = [{"step": step, "loss": 3.0 - step / 50, "validation_loss": 2.5} for step in (10, 20, 30)]
    write_text(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    written = {"document": "Ruth 1", "source": "to go", "hypothesis": "gehen", "reference": "zu gehen"}
    write_text(run / "parts/translation/translations.jsonl", json.dumps(written) + "\n")
    unasked = {"question": "q", "prompt": "own", "gold": "g", "written": None}
    write_text(run / "parts/checks/answers.jsonl", json.dumps(unasked) + "\n")
    (run / "selection.png").write_bytes(b"\x89PNG")
    found = report(checkout)
    assert "Loss curves, one panel an arm (1)" in found.text and found.tags.count("polyline") == 2
    assert "gehen" in found.text and "What the models wrote (1 runs and parts)" in found.text
    assert found.images["Blocks that arm-mamba2_seed-0 selects"] == "data:image/png;base64,iVBORw=="


def test_texts_that_are_damaged_are_one_sentence(checkout: Path) -> None:
    file = checkout / "results/cpu/tide/runs/arm-mamba2_seed-0/parts/translation/translations.jsonl"
    write_text(file, "no JSON\n")
    with pytest.raises(ConfigError, match="translations.jsonl: holds a line that is no JSON object; evaluate the run again"):
        report(checkout)


def test_nothing_that_results_hold_becomes_markup(checkout: Path, page: Page) -> None:
    file = checkout / "results/cpu/paper/claims.json"
    claims = json.loads(read_text(file))
    claims["claims"][0]["statement"] = claims["claims"][1]["origin"] = HOSTILE
    write_text(file, json.dumps(claims))
    file = checkout / "results/cpu/tide/paper/sources.json"
    sources = json.loads(read_text(file))
    sources["tables"]["tide"]["rows"][0][0]["printed"] = sources["tables"]["tide"]["caption"] = HOSTILE
    sources["tables"]["tide"]["header"][1] = sources["methods"][0] = HOSTILE
    write_text(file, json.dumps(sources))
    file = checkout / "results/cpu/tide/runs/arm-attention_seed-0/parts/t/translations.jsonl"
    write_text(file, json.dumps(dict.fromkeys(("document", "source", "hypothesis", "reference"), HOSTILE)))
    write_text(checkout / "paper/sections/tide.tex", tree.SECTION.format(study="tide").replace("The figure", HOSTILE))
    found = report(checkout)
    assert found.tags.count("script") == page.tags.count("script") == 2
    assert found.tags.count("img") == page.tags.count("img")
    assert found.text.count("<img src=x onerror=") >= 8


def test_a_study_without_results_is_named(checkout: Path) -> None:
    shutil.rmtree(checkout / "results/cpu/tide")
    (checkout / "paper/sources/tide.json").unlink()
    path, sentences = build(tree.plan(), None, checkout)
    assert sentences == ["tide: nothing is printed of it at scale cpu; `snakemake study_tide --config scale=cpu` makes it"]
    found = Page(path)
    assert sentences[0] in found.text and "ebb.wrong" in found.ids and "tide.wrong" not in found.ids
    assert set(found.links) <= set(found.ids)


def test_figures_that_cannot_be_drawn_cost_no_report(checkout: Path) -> None:
    """As where a printer asks for an arm that is yet to be trained."""
    grid = replace(tree.plan(), dropped={"tide": ["sea=dead"]})
    path, sentences = build(grid, None, checkout)
    assert len(sentences) == 1 and sentences[0].startswith("tide: its figures are not drawn; ")
    found = Page(path)
    assert sentences[0] in found.text and set(found.images) == {"The figure of ebb."}
    assert set(found.links) <= set(found.ids) and "tide.wrong" in found.ids


def test_no_paper_was_assembled(checkout: Path) -> None:
    shutil.rmtree(checkout / "results/cpu/paper")
    (checkout / "paper/sources/claims.json").unlink()
    found = report(checkout)
    assert "no claim has a verdict here" in found.text and "tide.wrong" in found.ids
    assert set(found.links) <= set(found.ids)


def test_another_scale_has_nothing(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is printed at scale h100"):
        build(replace(tree.plan(), scale="h100"), tmp_path / "report", made)
    assert not (tmp_path / "report").exists()


def test_damaged_records_leave_the_earlier_report(checkout: Path) -> None:
    path, _ = build(tree.plan(), None, checkout)
    before = path.read_bytes()
    records = checkout / "results/records/cpu/tide.jsonl.gz"
    records.write_bytes(records.read_bytes()[:100])
    with pytest.raises(ConfigError, match="tide.jsonl.gz: is damaged, or no gzip; restore it with git"):
        build(tree.plan(), None, checkout)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_folder_that_holds_something_else_is_refused(made: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "notes.txt", "mine")
    with pytest.raises(ConfigError, match="holds notes.txt, which is no report; name an empty folder"):
        build(tree.plan(), tmp_path, made)
    with pytest.raises(ConfigError, match="notes.txt: is a file, and the report takes a folder"):
        build(tree.plan(), tmp_path / "notes.txt", made)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_a_killed_report_or_a_system_left_is_in_nobodys_way(made: Path, tmp_path: Path) -> None:
    (tmp_path / ".new-report.html-01234567").mkdir()
    (tmp_path / ".DS_Store").touch()
    build(tree.plan(), tmp_path, made)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".DS_Store", "report.html"]


def test_prose_of_latex_becomes_plain_text(tmp_path: Path) -> None:
    printed = {"tide.x": "0.5 [0.4, 0.6]"}
    assert plain(r"At \val{tide.x}, or \valci{tide.x}", printed) == "At 0.5, or 0.5 [0.4, 0.6]"
    assert plain(r"its 95\,\% interval \citep{a,b}; \emph{never} $d$ -- \given{0.9}", {}) == (
        "its 95\u202f% interval; never d – 0.9"
    )
    figure = "\\includegraphics{figures/f.pdf}\n\\caption{C\n{d}.}"
    write_text(tmp_path / "s.tex", f"\\section{{A \\emph{{b}}}}\n% \\section{{not}}\n{figure}")
    assert section(tmp_path / "s.tex", {}).title == "A b" and section(tmp_path / "s.tex", {}).captions == {"f": "C d."}
    assert section(tmp_path / "none.tex", {}).title == ""


def test_an_interval_is_drawn_against_its_criterion() -> None:
    row = {"criterion": {"above": 0.9}, "value": 0.5, "low": 0.4, "high": 0.6}
    assert 'class="meets"' in held_against(row) and held_against(row).count("level") == 1
    assert held_against(row | {"criterion": {"within": [0, 1]}}).count("level") == 2
    assert "M0.0 9H" in held_against(row | {"low": "-inf"}) and "H160.0" in held_against(row | {"high": "inf"})
    assert not held_against({"criterion": {"above": 0.9}}) and not held_against(row | {"value": None})


def test_a_long_training_is_drawn_with_few_points() -> None:
    line = [(float(step), 1 / (1 + step)) for step in range(5000)]
    drawn = curves([("training", line)])
    n_points = drawn.partition('points="')[2].partition('"')[0].count(" ") + 1
    assert n_points <= MOST_POINTS + 1 and "4999 steps" in drawn
    assert curves([("held-out", [(10.0, 2.0)])])


def test_an_anchor_is_the_name_without_blanks() -> None:
    assert anchor("tables/Tide:8 pairs:late\u00a0gain") == "tables/Tide:8_pairs:late_gain"


def test_cells_under_a_heading_that_stands_twice(checkout: Path) -> None:
    file = checkout / "results/cpu/tide/paper/sources.json"
    sources = json.loads(read_text(file))
    for row in sources["tables"]["tide"]["rows"]:
        row[0]["printed"] = "2"
    write_text(file, json.dumps(sources))
    paper = Paper("cpu", checkout)
    found = [answer for answer in answers(paper) if answer.name.startswith("tables/tide:")]
    assert [answer.name for answer in found[1::2]] == ["tables/tide:2:recall", "tables/tide:@2:recall", "tables/tide:@3:recall"]
    for answer in found:
        assert vars(why(paper, answer.name)) == vars(answer)
