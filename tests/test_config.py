"""Strict configurations: what is accepted, and the sentence that says what is not."""

from __future__ import annotations

from typing import Annotated

import pytest

from ripstop.config import ConfigError, Kinds, Strict, nearest, walk
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
        ({"inner": {"mixer": {"kind": "mamba3"}}}, "unknown kind 'mamba3'; did you mean 'mamba2'?"),
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
