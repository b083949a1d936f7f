"""A difference is one sentence, with file, key or line, and both values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ripstop.verify.differences import file_differences, json_differences, text_differences, value_differences


@pytest.mark.parametrize(
    ("found", "wanted", "sentences"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, []),
        ({"a": 1.0001}, {"a": 1.0}, ["a is 1.0001, they give 1.0"]),
        ({"a": True}, {"a": 1}, ["a is true, they give 1"]),
        ({"a": None}, {"a": 1}, ["a is null, they give 1"]),
        ({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}, ["a.b is 1, they give 2", "a.c is missing, they give 3"]),
        ({"a": 1, "b": 2}, {"a": 1}, ["b is 2, they give none"]),
        ({"a": [{"id": "x", "v": 1}]}, {"a": [{"id": "x", "v": 2}]}, ["a.x.v is 1, they give 2"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a.1 is 2, they give 3"]),
        ({"a": [1]}, {"a": [1, 3]}, ["a is [1], they give [1, 3]"]),
    ],
)
def test_values(found: object, wanted: object, sentences: list[str]) -> None:
    assert list(value_differences(found, wanted, "they give")) == sentences


def test_json_files(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"a": 1, "b": {"why": "x"}}')
    assert json_differences(file, '{"a": 2, "b": {"why": "y"}}', "they give", ("why",)) == [f"{file}: a is 1, they give 2"]
    file.write_text("{")
    assert json_differences(file, "{}", "they give") == [f"{file}: not JSON; make it again"]
    assert json_differences(tmp_path / "none", "{}", "they give") == [f"{tmp_path}/none: no such file"]
    file.write_text(json.dumps(dict.fromkeys("abcdefgh", 1)))
    found = json_differences(file, json.dumps(dict.fromkeys("abcdefgh", 2)), "they give")
    assert len(found) == 6 and found[-1] == f"{file}: 3 more differences"


def test_texts(tmp_path: Path) -> None:
    file = tmp_path / "x.tex"
    file.write_text("one\nCommit & abc\n\\ripstopnumber{a.b}{1}{1}\nlast\n")
    wanted = "one\nCommit & def\n\\ripstopnumber{a.b}{2}{1}\nlast\nmore\n"
    assert text_differences(file, wanted, "they give", ("Commit & ",)) == [
        f"{file}: line 3 (a.b) reads '\\ripstopnumber{{a.b}}{{1}}{{1}}', they give '\\ripstopnumber{{a.b}}{{2}}{{1}}'",
        f"{file}: line 5 reads nothing, they give 'more'",
    ]
    assert text_differences(file, file.read_text(), "they give") == []
    (long,) = text_differences(file, file.read_text().replace("last", "x" * 300 + "last"), "they give")
    assert len(long) < 500
    assert text_differences(tmp_path / "none", "", "they give") == [f"{tmp_path}/none: no such file"]


def test_files(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    assert file_differences(one, one, "they give") == []
    assert file_differences(one, other, "they give") == [f"{one}: its SHA-256 is 6b86b273ff34fce1, they give d4735e3a265e16ee"]
    assert "no such file" in file_differences(tmp_path / "none", other, "they give")[0]
