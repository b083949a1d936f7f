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
    by_study,
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
        (Estimate.missing(), "not run"),
        (None, "not run"),
    ],
)
def test_format_estimate(estimate, text):
    assert format_estimate(estimate) == text


def test_format_without_interval_keeps_its_digits():
    assert format_estimate(Estimate(0.93456, 0.91234, 0.95678, 3), interval=False) == "0.93"
    assert format_number(NAN) == "not run"
    assert format_number(0.1 + 0.2) == "0.300"


@given(st.floats(), st.floats(), st.floats(), st.integers(0, 5))
def test_nan_is_never_printed(value, low, high, n):
    text = format_estimate(Estimate(value, low, high, n))
    assert "nan" not in text and "inf" not in text


def test_json_gives_back_what_was_written(tmp_path):
    numbers = {
        "a": Estimate(0.1, NAN, NAN, 1),
        "b": Estimate(np.int64(64), 40.0, INF, np.int64(3), "pairs"),
        "c": Estimate.missing("nats"),
    }
    path = tmp_path / "numbers.json"
    write_numbers_json(path, StudyNumbers("cliff", "cpu", 3, ["cpu"], numbers))
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (found,) = read_studies([path])
    plain = numbers | {"b": Estimate(64.0, 40.0, INF, 3, "pairs")}
    assert repr(found) == repr(StudyNumbers("cliff", "cpu", 3, ["cpu"], plain))


def test_bad_files_are_one_sentence(tmp_path):
    path = tmp_path / "numbers.json"
    with pytest.raises(ConfigError, match="no such file"):
        read_studies([path])
    for text in (
        "{",
        "[]",
        '{"study": "a"}',
        '{"study": "a", "scale": "cpu", "runs": 1, "devices": [], "numbers": {"x": 1}}',
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match="not a file of numbers"):
            read_studies([path])
    with pytest.raises(ConfigError, match="cannot name a number"):
        write_numbers_json(path, StudyNumbers("a", "cpu", 1, [], {"no{such}": Estimate(1)}))


def test_studies_of_one_scale_each_once(tmp_path):
    for name, study, scale in (("a", "one", "cpu"), ("b", "two", "h100"), ("c", "one", "cpu")):
        write_numbers_json(tmp_path / name, StudyNumbers(study, scale, 1, ["cpu"], {}))
    with pytest.raises(ConfigError, match="scale 'h100', not 'cpu'"):
        read_studies([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ConfigError, match="'one' is given twice"):
        read_studies([tmp_path / "a", tmp_path / "c"])


def test_macros_and_sections_are_in_order():
    studies = [
        StudyNumbers("zebra", "cpu", 1, [], {"x": Estimate(0.7, 0.6, 0.8, 3)}),
        StudyNumbers("ant", "cpu", 1, [], {}),
    ]
    text = numbers_tex(studies, [("Commit", "a_b")])
    assert r"\ripstopnumber{zebra.x}{0.70}{0.70 {[}0.60, 0.80{]}}" in text
    assert text.index("sections/zebra.tex") < text.index("sections/ant.tex")
    assert r"Commit & a\_b \\" in text


def test_check_tex_names_the_line_and_the_nearest_name(tmp_path):
    numbers = by_study([StudyNumbers("cliff", "cpu", 1, [], {"recall": Estimate(1.0)})])
    path = tmp_path / "main.tex"
    path.write_text(
        "\\val{cliff.recall} \\valci{cliff.recall}\n\\val{claims.refuted} % \\val{gone}\n50\\% \\val{cliff.recal}\n"
    )
    (complaint,) = check_tex([path], numbers)
    assert complaint.endswith("main.tex:3: \\val{cliff.recal} names no number; did you mean 'cliff.recall'?")
    with pytest.raises(ConfigError, match="no such file"):
        check_tex([tmp_path / "none.tex"], numbers)


def test_check_tex_skips_the_section_of_a_study_that_was_not_run(tmp_path):
    section = tmp_path / "nsa.tex"
    section.write_text("\\val{nsa.recall} \\val{other.recall}")
    assert len(check_tex([section], {})) == 1
    assert len(check_tex([section], {"nsa": {}})) == 2
