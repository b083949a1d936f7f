"""How numbers are printed, kept and found by name."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripstop.config import ConfigError
from ripstop.paper.numbers import (
    StudyNumbers,
    check_tex,
    format_estimate,
    format_number,
    numbers_tex,
    read_studies,
    write_numbers_json,
)
from ripstop.statistics import Estimate

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.93456, 0.91234, 0.95678, 3), "0.93 [0.91, 0.96]"),
        (Estimate(0.7, 0.6, 0.8, 3), "0.70 [0.60, 0.80]"),
        (Estimate(0.9906, 0.9857, 1.0, 3), "0.991 [0.986, 1.000]"),
        (Estimate(5.0, 4.90001, 5.09999, 3), "5.00 [4.90, 5.10]"),
        (Estimate(1e-9, 0.0, 0.5, 3), "0.0 [0.0, 0.5]"),
        (Estimate(12.345, 10, 15, 3), "12 [10, 15]"),
        (Estimate(1234.5, 1000, 1500, 3), "1234 [1000, 1500]"),
        (Estimate(-0.5, -0.9, -0.1, 3), "−0.5 [−0.9, −0.1]"),
        (Estimate(-0.0001, -0.1, 0.1, 3), "0.00 [−0.10, 0.10]"),
        (Estimate(1, 1, 1, 3), "1.00"),
        (Estimate(0.015625, 0.015625, 0.015625), "0.0156"),
        (Estimate(0.015625), "0.0156"),
        (Estimate(18, n=18), "18"),
        (Estimate(1, n=1, unit="runs"), "1"),
        (Estimate(400_123.0), "400123"),
        (Estimate(12_345_678.0), "1.23e+07"),
        (Estimate(0.0000123), "1.23e−05"),
        (Estimate(0.0), "0.00"),
        (Estimate(64, 40, INF, 3), "≥ 64"),
        (Estimate(4, -INF, 6, 3), "≤ 4"),
        (Estimate(64, NAN, INF, 1), "≥ 64"),
        (Estimate(NAN, -INF, INF, 3), "unknown"),
        (Estimate(INF, 1.0, 2.0, 3), "unknown"),
        (Estimate.missing(), "not measured"),
        (None, "not measured"),
    ],
)
def test_format_estimate(estimate, text):
    assert format_estimate(estimate) == text


def test_format_without_interval_keeps_its_digits():
    assert format_estimate(Estimate(0.93456, 0.91234, 0.95678, 3), interval=False) == "0.93"
    assert format_number(NAN) == "not measured"
    assert format_number(0.1 + 0.2) == "0.300"


@given(st.floats(), st.floats(), st.floats(), st.integers(0, 5))
def test_nan_is_never_printed(value, low, high, n):
    text = format_estimate(Estimate(value, *((high, low) if low > high else (low, high)), n))
    assert "nan" not in text and "inf" not in text


def test_json_gives_back_what_was_written(tmp_path):
    numbers = {
        "a": Estimate(0.1, NAN, NAN, 1),
        "b": Estimate(np.int64(64), 40.0, INF, np.int64(3), "pairs"),
        "c": Estimate.missing("nats"),
    }
    path = tmp_path / "numbers.json"
    write_numbers_json(path, StudyNumbers("cliff", "cpu", 3, ["cpu"], numbers, ["cliff", "cliff_b"], ["cliff"]))
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (found,) = read_studies([path], "cpu")
    plain = numbers | {"b": Estimate(64.0, 40.0, INF, 3, "pairs")}
    assert repr(found) == repr(StudyNumbers("cliff", "cpu", 3, ["cpu"], plain, ["cliff", "cliff_b"], ["cliff"]))


GOOD = {"study": "a", "scale": "cpu", "n_runs": 1, "devices": [], "figures": [], "tables": [], "numbers": {}}
VALUE = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 3, "unit": ""}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "not a file of numbers"),
        ("[]", "not a file of numbers"),
        ({"study": "a"}, "not a file of numbers"),
        (GOOD | {"numbers": {"x": 1}}, "not a file of numbers"),
        (GOOD | {"numbers": {"x": VALUE | {"low": 2.0}}}, "an interval from 2.0 to 1.5 ends before it begins"),
        (GOOD | {"numbers": {"x": VALUE | {"n": -1}}}, "not on -1"),
        (GOOD | {"numbers": {"x": VALUE | {"value": "much"}}}, "not a file of numbers"),
        (GOOD | {"numbers": {"x}\\input{y": VALUE}}, "cannot name a number"),
        (GOOD | {"study": "a}\\immediate\\write18{rm}"}, "cannot name a study"),
        (GOOD | {"study": "../a"}, "cannot name a study"),
        (GOOD | {"figures": ["../a"]}, "cannot name a figure"),
        (GOOD | {"tables": ["b"]}, "table 'b' is not named by its study; call it a_b"),
        (GOOD | {"figures": ["ab"]}, "figure 'ab' is not named by its study; call it a_ab"),
        (GOOD | {"n_runs": "3"}, "n_runs is a whole number"),
        (GOOD | {"devices": [3]}, "devices"),
        (GOOD | {"scale": 1}, "a scale"),
        (GOOD | {"more": 1}, "not a file of numbers"),
    ],
)
def test_bad_files_are_one_sentence(content, sentence, tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError, match=sentence) as error:
        read_studies([path], "cpu")
    assert str(error.value).startswith(f"{path}: ") and str(error.value).endswith("delete it and render the study again")


def test_missing_and_unreadable_files_are_one_sentence(tmp_path):
    path = tmp_path / "numbers.json"
    with pytest.raises(ConfigError, match="no such file; `python -m ripstop render` writes it"):
        read_studies([path], "cpu")
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_studies([path], "cpu")
    path.write_text(json.dumps(GOOD | {"numbers": {"x": VALUE}}))
    assert read_studies([path], "cpu")[0].numbers == {"x": Estimate(1.0, 0.5, 1.5, 3)}


def test_a_name_that_is_none_is_not_written():
    with pytest.raises(ConfigError, match="cannot name a number"):
        StudyNumbers("a", "cpu", 1, [], {"no{such}": Estimate(1)})


def test_studies_of_one_scale_each_once(tmp_path):
    for name, study, scale in (("a", "one", "cpu"), ("b", "two", "h100"), ("c", "one", "cpu")):
        write_numbers_json(tmp_path / name, StudyNumbers(study, scale, 1, ["cpu"], {}))
    with pytest.raises(ConfigError, match="b: holds numbers of scale 'h100', not 'cpu'"):
        read_studies([tmp_path / "a", tmp_path / "b"], "cpu")
    with pytest.raises(ConfigError, match="a: holds numbers of scale 'cpu', not 'smoke'"):
        read_studies([tmp_path / "a"], "smoke")
    with pytest.raises(ConfigError, match="'one' is given twice"):
        read_studies([tmp_path / "a", tmp_path / "c"], "cpu")


def test_macros_and_sections_are_in_order():
    studies = [
        StudyNumbers("zebra", "cpu", 1, [], {"x": Estimate(0.7, 0.6, 0.8, 3)}),
        StudyNumbers("ant", "cpu", 1, [], {}),
    ]
    text = numbers_tex(studies, [("Commit", "a_b")])
    assert r"\ripstopnumber{zebra.x}{0.70}{0.70 {[}0.60, 0.80{]}}" in text
    assert text.index("sections/zebra.tex") < text.index("sections/ant.tex")
    assert r"Commit & a\_b \\" in text


CLIFF = StudyNumbers("cliff", "cpu", 1, [], {"recall": Estimate(1.0)}, ["cliff"], ["cliff_controls"])


def test_check_tex_names_the_line_and_the_nearest_name(tmp_path):
    path = tmp_path / "main.tex"
    path.write_text(
        "\\val{cliff.recall} \\valci{cliff.recall}\n\\val{claims.refuted} % \\val{gone}\n50\\% \\val{cliff.recal}\n"
        "\\\\% \\val{gone}\n\\newcommand{\\x}[1]{\\val{#1}}\n\\valci\n{cliff.\nrecall}"
    )
    first, second = check_tex([path], [CLIFF])
    assert first.endswith("main.tex:3: \\val{cliff.recal} names no number; did you mean 'cliff.recall'?")
    assert "main.tex:6: " in second  # a name over two lines is none
    with pytest.raises(ConfigError, match=r"none.tex.*[Nn]o such file"):
        check_tex([tmp_path / "none.tex"], [CLIFF])
    path.write_bytes(b"\xe4")
    with pytest.raises(ConfigError, match="main.tex.*not UTF-8"):
        check_tex([path], [CLIFF])


def test_check_tex_knows_figures_and_tables(tmp_path):
    path = tmp_path / "sections" / "cliff.tex"
    path.parent.mkdir()
    path.write_text(
        "\\includegraphics{figures/cliff.pdf} \\includegraphics[width=1cm]{figures/cliff} \\input{tables/cliff_controls.tex}\n"
        "\\input{sections/any.tex} \\input{tables/cliff.tex}\n\\includegraphics[width=1cm]{figures/clif.pdf}\n"
    )
    found = check_tex([path], [CLIFF])
    assert found == [
        f"{path}:3: \\includegraphics[width=1cm]{{figures/clif.pdf}} names no figure; did you mean 'cliff'?",
        f"{path}:2: \\input{{tables/cliff.tex}} names no table; there is: cliff_controls",
    ]


def test_a_figure_stands_in_the_section_of_its_study(tmp_path):
    """Its caption tells of the study's failed controls, which elsewhere nobody would."""
    other = tmp_path / "sections" / "other.tex"
    other.parent.mkdir()
    for path in (tmp_path / "main.tex", other):
        path.write_text("\n\\includegraphics{figures/cliff.pdf}\n")
    found = check_tex([tmp_path / "main.tex", other], [CLIFF, StudyNumbers("other", "cpu", 1, [], {})])
    assert [line.partition(": ")[0] for line in found] == [f"{tmp_path}/main.tex:2", f"{other}:2"]
    assert all("stands outside the section of its study" in line for line in found)


def test_what_is_said_of_a_study_that_is_left_out_is_left_out(tmp_path):
    path = tmp_path / "main.tex"
    path.write_text(
        "\\ifstudied{cliff}\n\\val{cliff.recall}\n\\fi\n\\ifstudied{gone}\n\\val{gone.loss}\n\\fi\n\\val{claims.total}\n"
    )
    assert check_tex([path], [CLIFF]) == []
    path.write_text(
        "\\ifstudied{cliff}\n\\val{cliff.recal}\n\\fi\n\\ifstudied{clif} \\val{cliff.recall}\n\\fi\n\\val{gone.loss}\n"
    )
    misspelt, unknown, outside = check_tex([path], [CLIFF])
    assert misspelt == f"{path}:4: \\ifstudied{{clif}} has a number of cliff; name that"
    assert unknown.startswith(f"{path}:2: \\val{{cliff.recal}} names no number") and outside.startswith(f"{path}:6: ")


def test_check_tex_skips_the_section_of_a_study_that_is_left_out(tmp_path):
    section = tmp_path / "sections" / "nsa.tex"
    section.parent.mkdir()
    section.write_text("\\val{nsa.recall} \\val{other.recall}")
    assert check_tex([section], []) == []
    assert len(check_tex([section], [StudyNumbers("nsa", "cpu", 1, [], {})])) == 2
