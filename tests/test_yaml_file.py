"""YAML: what YAML 1.2 means, what is refused with its line, overrides, and that what is written is read back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ripstop import yaml_file
from ripstop.config import ConfigError

# What YAML 1.1 takes for something else stands beside it: these are the values of YAML 1.2's core schema.
PLAIN: dict[str, Any] = {
    "010": 10,  # 1.1: 8
    "0o10": 8,
    "0x1F": 31,
    "+3": 3,
    "-0": 0,
    "1:30": "1:30",  # 1.1: 90
    "yes": "yes",  # 1.1: true
    "No": "No",
    "on": "on",
    "off": "off",
    "y": "y",
    "true": True,
    "True": True,
    "FALSE": False,
    "tRUE": "tRUE",
    "1e-3": 0.001,  # 1.1: text
    "1.0e-3": 0.001,
    "1.": 1.0,
    ".5": 0.5,
    "-.5e2": -50.0,
    "1e3": 1000.0,
    "1_000": "1_000",  # 1.1: 1000
    "0b11": "0b11",  # 1.1: 3
    "2001-01-01": "2001-01-01",  # 1.1: a date
    "null": None,
    "~": None,
    "NULL": None,
    "nULL": "nULL",
    ".inf": math.inf,
    "-.INF": -math.inf,
    "inf": "inf",
    "nan": "nan",
    ".": ".",
    "e3": "e3",
    "=": "=",
    "'010'": "010",
    '"yes"': "yes",
    "''": "",
    "MMMA": "MMMA",
}


@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    for read in (yaml_file.parse(f"[{text}]", "f")[0], yaml_file.parse(f"a: {text}\n", "f")["a"]):
        assert read == value and type(read) is type(value)


def test_nan_is_read_and_integers_stay_integers() -> None:
    assert math.isnan(yaml_file.parse(".nan", "f"))
    assert yaml_file.parse("123456789012345678901234567890", "f") == 123456789012345678901234567890


def test_mappings_lists_and_blocks() -> None:
    text = "a:\n  b: [1, {c: 2}]\n  d: |\n    two\n    lines\n  'e f':\n  - x\n  -\n"
    assert yaml_file.parse(text, "f") == {"a": {"b": [1, {"c": 2}], "d": "two\nlines\n", "e f": ["x", None]}}
    assert yaml_file.parse("%YAML 1.2\n---\na: 1\n...\n", "f") == {"a": 1}


def test_an_alias_is_a_copy() -> None:
    read = yaml_file.parse("a: &x {n: [1]}\nb: *x\nc: [*x]\n", "f")
    read["a"]["n"].append(2)
    assert read["b"] == {"n": [1]} and read["c"] == [{"n": [1]}]


REFUSED = {
    "a: 1\nb: 2\na: 3": "f.yaml:3: the key 'a' stands twice, first in line 1; remove one",
    "a:\n  b: {c: 1, c: 2}": "f.yaml:2: a.b: the key 'c' stands twice, first in line 2",
    "a: 1\n'a': 2": "f.yaml:2: the key 'a' stands twice",
    "&k a: 1\n*k : 2": "f.yaml:2: the key 'a' stands twice",
    "1: a": "f.yaml:1: the key 1 is no text; put it in quotes",
    "x: {true: a}": "f.yaml:1: x: the key True is no text",
    "null: a": "f.yaml:1: the key None is no text",
    "? \n: a": "f.yaml:1: an empty key; put it in quotes",
    "? [a]\n: b": "f.yaml:1: a key is a list or a mapping",
    "{a: 1}: b": "f.yaml:1: a key is a list or a mapping",
    "<<: {a: 1}": "f.yaml:1: the merge key << is not YAML 1.2",
    "a: !!str 1": "f.yaml:1: a: the tag tag:yaml.org,2002:str is not read",
    "a: ! 1": "f.yaml:1: a: the tag ! is not read",
    "a: !x [1]": "f.yaml:1: a: the tag !x is not read",
    "!!map {a: 1}": "f.yaml:1: the tag",
    "!x a: 1": "f.yaml:1: the tag !x is not read",
    "a: *b": "f.yaml:1: a: \\*b refers to nothing that stands before it",
    "a: &a [*a]": "f.yaml:1: a.0: \\*a refers to nothing",
    "a: 1\n--- \nb: 2": "f.yaml:2: a second document starts \\(---\\); keep one",
    "%YAML 1.1\n---\na: 1": "f.yaml:1: %YAML names another version than 1.2",
    "": "f.yaml: is empty",
    "---\n": "f.yaml: is empty",
    "# only\n\n": "f.yaml: is empty",
    "a:\n\tb: 1": "f.yaml:2: not YAML: a tab stands where only spaces may",
    "a:\tb: c": "f.yaml:1: not YAML: a tab",
    "a: [1, 2": "f.yaml:1: not YAML: ",
    "a: 'x": "f.yaml:1: not YAML: ",
    "a: b: c": "f.yaml:1: not YAML: a second colon in one line",
    "a: 1\n b: 2": "f.yaml:2: not YAML: a second colon in one line, or a line indented too far",
    "- a\nb: 1": "f.yaml:2: not YAML: ",
    "a: @x": "f.yaml:1: not YAML: ",
    "a: 1\nb: \x00": "f.yaml:2: not YAML: the character 0x0 is not text",
    "a: \x07": "f.yaml:1: not YAML: the character 0x7 is not text",
    f"a: {'9' * 5000}": "f.yaml:1: a: a number of 5000 digits",
    "[" * 10_000: "f.yaml:1: .*nested more than 50 levels deep",
    "{a: " * 60: "f.yaml:1: .*nested more than 50 levels deep",
}


@pytest.mark.parametrize(("text", "told"), REFUSED.items(), ids=[str(n) for n in range(len(REFUSED))])
def test_what_is_refused_names_file_line_and_key(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}") as caught:
        yaml_file.parse(text, "f.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_fifty_levels_are_enough_and_fifty_one_too_many() -> None:
    assert yaml_file.parse("[" * 50 + "]" * 50, "f")
    with pytest.raises(ConfigError, match="nested more"):
        yaml_file.parse("[" * 51 + "]" * 51, "f")


def test_aliases_do_not_multiply_beyond_reason() -> None:
    """Each level holds the one before twice: 2^17 values of the last are fine, 2^40 are not, and cost no time."""

    def nested(levels: int) -> str:
        return "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, levels))

    assert len(yaml_file.parse(nested(10), "f")) == 10
    with pytest.raises(ConfigError, match="more than 200000 values, aliases written out"):
        yaml_file.parse(nested(40), "f")


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    with pytest.raises(ConfigError, match=r"f\.yaml: no such file; make it$"):
        yaml_file.load(path, "make it")
    with pytest.raises(ConfigError, match=r"f\.yaml: no such file$"):
        yaml_file.mapping(path)
    path.write_text("[a, b]", encoding="utf-8")
    assert yaml_file.load(path) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"f\.yaml: needs a mapping, key: value on each line \(got \['a', 'b'\]\)"):
        yaml_file.mapping(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: |\r\n  x\r\n  y\r\n")
    assert yaml_file.mapping(path) == {"a": 1, "b": "x\ny\n"}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_subnormal=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a machine that does other things too
@given(VALUES)
@example(list(PLAIN))
@example(
    {
        key: key
        for key in [*PLAIN, "<<", "%", "---", "...", "? a", "- a", "a: b", "#", " x", "x ", "a\tb", "\ufeff", "\x85", "\u2028"]
    }
)
@example({"a" * 200: "b " * 100, "tuple": [1e-5, 1e16, 1e300, -0.0, 5e-3, 123456789.123]})
def test_what_is_written_is_read_back(value: Any) -> None:
    text = yaml_file.dump(value)
    if text == "''\n" or text.startswith("null"):
        assert yaml_file.parse(text, "f") == value
        return
    read = yaml_file.parse(text, "f")
    assert read == value and repr(read) == repr(value)


@pytest.mark.parametrize("text", [*PLAIN, "null", "0o7", "1e5", "+.5"])
def test_text_that_looks_like_something_else_is_quoted_for_readers_of_both_versions(text: str) -> None:
    written = yaml_file.dump({text: [text]})
    assert yaml.safe_load(written) == {text: [text]}
    assert yaml_file.parse(written, "f") == {text: [text]}


def test_numbers_are_written_as_both_versions_read_them() -> None:
    values = [10, 1e-3, 1e-5, 1e16, 2.0, -7, 0.1, True, None, 1e300]
    for read in (yaml.safe_load(yaml_file.dump(values)), yaml_file.parse(yaml_file.dump(values), "f")):
        assert read == values and [type(v) for v in read] == [type(v) for v in values]


def test_repeated_values_are_written_out() -> None:
    shared = [1, 2]
    assert "&" not in yaml_file.dump({"a": shared, "b": shared})
    assert yaml_file.dump({"b": 1, "a": (1, 2)}) == "b: 1\na:\n- 1\n- 2\n"


VALUES_OF_A_RUN = {"training": {"steps": 5, "lr": 0.1}, "seeds": [1, 2, [3]], "mlp": None, "name": "x"}


@pytest.mark.parametrize(
    ("item", "path", "value"),
    [
        ("training.steps=10", ("training", "steps"), 10),
        ("training.steps=010", ("training", "steps"), 10),
        ("training.lr=1e-3", ("training", "lr"), 0.001),
        (" training.lr =1e-3", ("training", "lr"), 0.001),
        ("training.new.deep=[a, b]", ("training", "new", "deep"), ["a", "b"]),
        ("seeds.0=9", ("seeds", 0), 9),
        ("seeds[1]=9", ("seeds", 1), 9),
        ("seeds[2][0]=9", ("seeds", 2, 0), 9),
        ("seeds=[7]", ("seeds",), [7]),
        ("mlp.expand=2", ("mlp", "expand"), 2),
        ("mlp=null", ("mlp",), None),
        ("name='null'", ("name",), "null"),
        ("name=yes", ("name",), "yes"),
        ("name=a=b", ("name",), "a=b"),
    ],
)
def test_an_override_sets_what_it_names_and_nothing_else(item: str, path: tuple, value: Any) -> None:
    before = yaml_file.dump(VALUES_OF_A_RUN)
    result: Any = yaml_file.override(VALUES_OF_A_RUN, [item], "f.yaml")
    assert yaml_file.dump(VALUES_OF_A_RUN) == before
    found: Any = result
    for key in path:
        found = found[key]
    assert found == value
    holder: Any = result
    for key in path[:-1]:
        holder = holder[key]
    if len(path) == 1 or path[:2] == ("training", "steps"):
        assert {k: v for k, v in result.items() if k != path[0]} == {k: v for k, v in VALUES_OF_A_RUN.items() if k != path[0]}


def test_overrides_are_laid_in_their_order() -> None:
    assert yaml_file.override({"a": {"b": 1}}, ["a.b=2", "a={}", "a.c=3"], "f")["a"] == {"c": 3}


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("training.steps", "--set training.steps: write it as key=value, such as training.steps=10"),
        ("=1", "--set =1: write it as key=value"),
        ("training..steps=1", "write it as key=value"),
        ("trainin.steps=1", "--set trainin.steps=1: f.yaml has no trainin; did you mean 'training'?"),
        ("new=1", "f.yaml has no new; there is: training, seeds, mlp, name"),
        ("seeds.3=1", "f.yaml has no seeds.3; the list has items 0 to 2"),
        ("seeds.x=1", "f.yaml has no seeds.x; the list has items 0 to 2"),
        ("seeds.-1=1", "f.yaml has no seeds.-1; the list has items 0 to 2"),
        ("training.steps.x=1", "training.steps of f.yaml is 5 and holds no keys"),
        ("name.x.y=1", "name of f.yaml is 'x' and holds no keys"),
        ("seeds=[1", "--set seeds=[1:1: not YAML"),
        ("seeds=", "--set seeds=: is empty"),
        ("name={a: 1, a: 2}", "the key 'a' stands twice"),
        ("name=!!python/name:os.system", "the tag tag:yaml.org,2002:python/name:os.system is not read"),
    ],
)
def test_an_override_that_cannot_be_is_named(item: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        yaml_file.override(VALUES_OF_A_RUN, [item], "f.yaml")
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_else_reads_or_writes_yaml() -> None:
    source = Path(yaml_file.__file__).parent
    others = [p for p in source.rglob("*.py") if "import yaml\n" in p.read_text(encoding="utf-8") and p.name != "yaml_file.py"]
    assert others == []


def test_a_key_without_a_value_is_no_null() -> None:
    """`training:` whose lines were commented out would train nothing."""
    with pytest.raises(ConfigError, match="f.yaml:1: training: has no value; write one, or null"):
        yaml_file.parse("training:\nseeds: [0]\n", "f.yaml")
    assert yaml_file.parse("training: null\nsource: ''\n", "f.yaml") == {"training": None, "source": ""}
