"""Strict configurations: what is accepted, and the sentence that says what is not."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from ripstop.config import ArmName, ConfigError, Kinds, Strict, check_name, nearest, shown, walk
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig


class Inner(Strict):
    seeds: int = 1
    mixer: Annotated[MixerConfig, MIXERS] | None = None


class Outer(Strict):
    inner: Inner
    table: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"inner": {"seedz": 1}}, "f.yaml: inner.seedz: unknown key; did you mean 'seeds'?"),
        ({"inner": {}, "table": {"M": {"sedes": 2}}}, "f.yaml: table.M.sedes: unknown key; did you mean 'seeds'?"),
        ({}, "f.yaml: inner: missing, add it"),
        ({"inner": {"mixer": {"kind": "mamba22"}}}, "unknown kind 'mamba22'; did you mean 'mamba2'?"),
        (
            {"inner": {"mixer": {"kind": "mamba2", "d_sate": 4}}},
            "inner.mixer.d_sate: unknown key; did you mean 'd_state'?",
        ),
        ({"inner": {"mixer": {"d_state": 4}}}, "needs a mapping with a 'kind'"),
    ],
)
def test_a_bad_key_is_named_with_the_nearest_right_one(values: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.parse(values, "f.yaml")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.parse({"inner": {"seedz": 1}, "tabel": {}}, "f.yaml")
    assert "seedz" in str(caught.value) and "tabel" in str(caught.value)


def test_configurations_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().seeds = 2  # type: ignore[misc]


def test_kinds_round_trip_through_their_dump() -> None:
    inner = Inner.parse({"mixer": {"kind": "mamba2", "d_state": 8}}, "f.yaml")
    assert Inner.parse(inner.model_dump(mode="json"), "f.yaml") == inner
    assert type(inner.mixer).__module__ == "ripstop.mixers.mamba2"


def test_every_kind_of_a_package_is_found_by_its_own_name() -> None:
    for package in ("ripstop.mixers", "ripstop.models", "ripstop.data"):
        kinds = Kinds(package)
        assert kinds.names()
        for name in kinds.names():
            assert kinds.config(name).model_fields["kind"].default == name


def test_walk_meets_nested_configurations() -> None:
    outer = Outer.parse({"inner": {"mixer": {"kind": "mamba2"}}, "table": {"a": {}}}, "f.yaml")
    assert [type(part).__name__ for part in walk(outer)] == ["Outer", "Inner", "Mamba2Config", "Inner"]


def test_nearest_lists_what_there_is_when_nothing_is_near() -> None:
    assert nearest("zzz", ["alpha", "beta"]) == "; there is: alpha, beta"


class Values(Strict):
    """One field of each type that configurations have."""

    whole: int = Field(1, ge=0)
    number: float = 0.5
    text: str = "a"
    truth: bool = True
    pair: tuple[int, float] = (1, 2.0)
    pairs: list[tuple[int, int]] = []
    table: dict[str, float] = {}
    maybe: int | None = None
    choice: Literal["x", "y"] = "x"
    several: list[int] | Literal["all"] = "all"
    arms: dict[ArmName, str] = {}

    @model_validator(mode="after")
    def _not_seven(self) -> Values:
        if self.whole == 7:
            raise ValueError("whole is 7, which {braces} do not like")
        return self


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"whole": "1"}, "f: whole: needs a whole number (got '1')"),
        ({"whole": True}, "f: whole: needs a whole number (got True)"),
        ({"whole": 1.0}, "f: whole: needs a whole number (got 1.0)"),
        ({"whole": None}, "f: whole: needs a whole number (got None)"),
        ({"whole": -1}, "f: whole: input should be greater than or equal to 0 (got -1)"),
        ({"whole": 7}, "f: whole is 7, which {braces} do not like"),
        ({"number": "0.5"}, "f: number: needs a number (got '0.5')"),
        ({"number": False}, "f: number: needs a number (got False)"),
        ({"number": math.inf}, "f: number: needs a finite number (got inf)"),
        ({"number": -math.inf}, "f: number: needs a finite number (got -inf)"),
        ({"number": math.nan}, "f: number: needs a finite number (got nan)"),
        ({"text": 1}, "f: text: needs text; put it in quotes (got 1)"),
        ({"text": True}, "f: text: needs text; put it in quotes (got True)"),
        ({"truth": 1}, "f: truth: needs true or false (got 1)"),
        ({"truth": "yes"}, "f: truth: needs true or false (got 'yes')"),
        ({"pair": [1, "2"]}, "f: pair.1: needs a number (got '2')"),
        ({"pair": [1.0, 2]}, "f: pair.0: needs a whole number (got 1.0)"),
        ({"pair": [1]}, "f: pair.1: missing, add it"),
        ({"pair": [1, 2, 3]}, "f: pair: tuple should have at most 2 items"),
        ({"pair": 3}, "f: pair: needs a list (got 3)"),
        ({"pairs": [[1, 2], [1, True]]}, "f: pairs.1.1: needs a whole number (got True)"),
        ({"pairs": {"a": 1}}, "f: pairs: needs a list (got {'a': 1})"),
        ({"table": {"a": math.nan}}, "f: table.a: needs a finite number (got nan)"),
        ({"table": [1]}, "f: table: needs a mapping (got [1])"),
        ({"maybe": "1"}, "f: maybe: needs a whole number (got '1')"),
        ({"choice": "z"}, "f: choice: input should be 'x' or 'y' (got 'z')"),
        ({"several": "some"}, "f: several: needs a list (got 'some'), or input should be 'all' (got 'some')"),
        ({"several": [1, "2"]}, "f: several.1: needs a whole number (got '2'); f: several: input should be 'all'"),
        ({"arms": {"a b": "M"}}, "f: arms.a b: 'a b' is no name of an arm; write a letter or digit, then letters"),
        ({"whole": 7, "texd": 1}, "f: texd: unknown key; did you mean 'text'?"),
        ({"x": 1}, "f: x: unknown key; there is: arms, choice, maybe, number, pair, pairs, several, table, text, truth, whole"),
        ([1], "f: needs a mapping (got [1])"),
        (None, "f: needs a mapping (got None)"),
        ("text", "f: needs a mapping (got 'text')"),
    ],
)
def test_a_value_of_another_type_is_refused(values: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Values.parse(values, "f")
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_lists_do_for_tuples_and_whole_numbers_for_numbers() -> None:
    parsed = Values.parse(
        {"pair": [1, 2], "pairs": [[1, 2]], "number": 3, "several": [1], "maybe": 2, "arms": {"1_7": "M"}}, "f"
    )
    assert (parsed.pair, parsed.pairs, parsed.number, parsed.several) == ((1, 2.0), [(1, 2)], 3.0, [1])
    assert type(parsed.pair[1]) is float and type(parsed.number) is float and type(parsed.pairs[0]) is tuple
    assert Values(pair=(1, 2)) == Values()


def test_strictness_reaches_through_kinds_mappings_and_lists() -> None:
    mixer = {"kind": "bidirectional", "mixer": {"kind": "mamba2", "d_state": "16"}}
    for values, told in (
        ({"inner": {"mixer": mixer}}, "f.yaml: inner.mixer.mixer.d_state: needs a whole number (got '16')"),
        ({"inner": {}, "table": {"M": {"mixer": mixer}}}, "f.yaml: table.M.mixer.mixer.d_state: needs a whole number"),
        ({"inner": {"mixer": [1]}}, "f.yaml: inner.mixer: needs a mapping with a 'kind', one of: attention, bidirectional,"),
        ({"inner": {"mixer": {"kind": 5}}}, "f.yaml: inner.mixer: unknown kind 5; there is: attention, bidirectional,"),
        ({"inner": {"mixer": {"kind": "base"}}}, "f.yaml: inner.mixer: unknown kind 'base'; "),
        ({"inner": {"mixer": {"kind": "../x"}}}, "f.yaml: inner.mixer: unknown kind '../x'; there is: "),
    ):
        with pytest.raises(ConfigError) as caught:
            Outer.parse(values, "f.yaml")
        assert str(caught.value).startswith(told)


def test_where_that_names_a_block_goes_on_with_a_dot() -> None:
    with pytest.raises(ConfigError, match=r"^params.yaml: studies.s.inner.seedz: unknown key; did you mean 'seeds'\?$"):
        Outer.parse({"inner": {"seedz": 1}}, "params.yaml: studies.s")


def test_a_change_is_validated_as_a_whole() -> None:
    values = Values(whole=3, text="kept")
    assert values.replace(whole=4) == Values(whole=4, text="kept") and values.whole == 3
    assert values.replace() == values
    for changes, told in (
        ({"whole": -1}, r"^whole: input should be greater than or equal to 0 \(got -1\)$"),
        ({"whole": "4"}, r"^whole: needs a whole number"),
        ({"whole": 7}, r"^whole is 7"),
        ({"wole": 4}, r"^wole: unknown key; did you mean 'whole'\?$"),
    ):
        with pytest.raises(ConfigError, match=told):
            values.replace(**changes)
    with pytest.raises(TypeError, match=r"skips validation; write Values.replace"):
        values.model_copy(update={"whole": -1})
    assert values.model_copy() == values


def test_a_change_keeps_the_configurations_inside() -> None:
    inner = Inner.parse({"mixer": {"kind": "mamba2", "d_state": 8}}, "f")
    changed = inner.replace(seeds=5)
    assert changed.seeds == 5 and changed.mixer == inner.mixer and type(changed.mixer).__name__ == "Mamba2Config"


def test_constructors_are_as_strict() -> None:
    with pytest.raises(ValidationError):
        Values(whole="1")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Values(number=math.nan)


def test_a_hundred_mistakes_are_a_sentence_that_can_be_read() -> None:
    with pytest.raises(ConfigError) as caught:
        Values.parse({"table": {f"k{n}": "x" * 10_000 for n in range(100)}}, "f")
    assert len(str(caught.value)) < 4000
    assert str(caught.value).endswith("and 80 more mistakes")


def test_kinds_are_found_by_their_files_and_none_is_imported(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "base": "class Base:\n    kind: str\n",
        "tea": 'import sys\nsys.exit(\'imported\')\nclass Tea:\n    kind: Literal["tea"] = "tea"\n',
        "cup": '"""Not `kind: Literal["cup"]`, which stands in a docstring alone."""\nX = 1\n',
        "other": 'class Other:\n    kind: Literal["tea"] = "tea"\n',
    }.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    (package / "pot").mkdir()
    (package / "pot" / "__init__.py").write_text('class Pot:\n    kind: Literal["pot"] = "pot"\n', encoding="utf-8")
    (package / ".DS_Store").write_bytes(b"\0")
    (package / "notes.txt").write_bytes(b"\xff")
    script = (
        "import sys\nfrom ripstop.config import Kinds\nassert Kinds('shop').names() == ['pot', 'tea'], Kinds('shop').names()\n"
        "names = Kinds('ripstop.mixers').names()\nassert 'mamba2' in names and 'base' not in names\n"
        "sys.exit('torch' in sys.modules)"
    )
    source = str(Path(sys.modules["ripstop.config"].__file__ or "").parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": f"{source}:{tmp_path}", "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_kind_whose_class_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "emptyshop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tea.py").write_text('from typing import Literal\nclass Tea:\n    kind: Literal["tea"] = "tea"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r'tea\.py: no configuration has `kind: Literal\["tea"\] = "tea"`; add it'):
        Kinds("emptyshop").config("tea")


def test_kinds_parse_says_where() -> None:
    with pytest.raises(ConfigError, match=r"^c.yaml: d_sate: unknown key; did you mean 'd_state'\?$"):
        MIXERS.parse({"kind": "mamba2", "d_sate": 1}, "c.yaml")
    with pytest.raises(ConfigError, match=r"^c.yaml: unknown kind 'mamba22'; did you mean 'mamba2'\?$"):
        MIXERS.parse({"kind": "mamba22"}, "c.yaml")
    with pytest.raises(ConfigError, match=r"^mamba2: d_sate: unknown key"):
        MIXERS.parse({"kind": "mamba2", "d_sate": 1})
    mixer = MIXERS.parse({"kind": "mamba2"})
    assert MIXERS.parse(mixer) is mixer


@pytest.mark.parametrize("name", ["a", "mqar_cliff", "h100", "a_", "x9"])
def test_names_that_may_become_folders_and_words_of_a_shell(name: str) -> None:
    check_name(name, "f")


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "_a", "a-b", "a b", "a\n", "a;b", "../a", "a/b", "a$b", "ä", "a.b", 5, None, "${a}"]
)
def test_names_that_may_not(name: Any) -> None:
    with pytest.raises(ConfigError, match="^f: .* is no name"):
        check_name(name, "f")


@pytest.mark.parametrize("name", ["a\n", "", "_a", "a b", "a/b", "a;b", "ä", "a-b"])
def test_names_that_may_not_be_arms(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of an arm"):
        Values.parse({"arms": {name: "M"}}, "f")


def test_values_are_shown_in_a_short_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 10**6)) < 80 and len(shown(10**4000)) < 80 and len(shown([["x" * 100] * 100] * 100)) <= 120


def test_nearest_says_that_there_is_none() -> None:
    assert nearest("x", []) == "; there is none"
    assert nearest("stepz", ["steps", "seeds"]) == "; did you mean 'steps'?"
