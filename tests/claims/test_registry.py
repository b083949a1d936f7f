"""A registry that cannot be misread."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from claims.made_up import CAPACITY, LOSS, RECALL, SCALES, claim

from ripstop import studies
from ripstop.claims.registry import Criterion, load, stood
from ripstop.config import ConfigError

INF = math.inf
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "criterion",
    [
        {},
        {"above": 1, "below": 2},
        {"within": [2, 1]},
        {"within": [1, 1]},
        {"within": [1]},
        {"over": 1},
        {"above": math.nan},
        {"above": -INF},
        {"below": INF},
        {"within": [0, INF]},
        {"within": [-INF, 0]},
        {"within": [math.nan, 1]},
    ],
)
def test_a_criterion_is_exactly_one_and_finite(criterion):
    with pytest.raises(ConfigError, match="criterion: "):
        Criterion.parse(criterion, "criterion")


@pytest.mark.parametrize(
    "measure",
    ["recall", "a.b.c", "a.b + c.d", "a.b-c.d", "a.b / c.d / e.f", "__import__('os')", "", "A.b", "a.b - ", "2 * a.b", "a.b\n"],
)
def test_a_measure_is_one_number_or_two(measure):
    with pytest.raises(ConfigError, match="is none; write `study.number`"):
        claim("a", measure)


@pytest.mark.parametrize("name", ["a}b", "A", "a b", "a-b", "", "1a", r"a\input{x}"])
def test_an_id_is_a_plain_name(name):
    with pytest.raises(ConfigError, match="id: "):
        claim(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: [", "claims.yaml"),
        ("claims: []\nclaim: 1", "claim: unknown key; did you mean 'claims'"),
        ("", "claims.yaml"),
        ("claims: [{id: a}]", "claims.0.statement: missing"),
    ],
)
def test_a_bad_registry_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path, SCALES)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path, SCALES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure": "mqar_clif.chance"}, "claim 'a': study 'mqar_clif' does not exist; did you mean 'mqar_cliff'"),
        ({"measure": "mqar_cliff.chanc"}, "claim 'a': study mqar_cliff has no number 'chanc'; did you mean 'chance'"),
        ({"measure": f"{RECALL} / blind_start.chanse"}, "study blind_start has no number 'chanse'; did you mean 'chance'"),
        ({"scales": ["cpu", "h10"]}, "claim 'a': scale 'h10' does not exist; did you mean 'h100'"),
        ({"scales": []}, "scales"),
        ({"study": "mqar_cliff"}, "study: unknown key"),
        ({"criterion": {"above": INF}}, "criterion.above: .*finite"),
    ],
)
def test_a_claim_about_nothing_is_an_error(changes, message, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [claim("a").model_dump(exclude_none=True, mode="json") | changes]}))
    with pytest.raises(ConfigError, match=message):
        load(path, SCALES)


def test_every_mistake_is_told_at_once(tmp_path):
    path = tmp_path / "claims.yaml"
    values = [claim(n, m, ("tiny",)).model_dump(exclude_none=True, mode="json") for n, m in (("a", "x.y"), ("b", LOSS))]
    path.write_text(yaml.safe_dump({"claims": values}))
    with pytest.raises(ConfigError, match="'a': scale 'tiny'.*'a': study 'x'.*'b': scale 'tiny'"):
        load(path, SCALES)


def test_an_id_is_given_once(tmp_path):
    path = tmp_path / "claims.yaml"
    one = claim("a").model_dump(exclude_none=True, mode="json")
    path.write_text(yaml.safe_dump({"claims": [one, one]}))
    with pytest.raises(ConfigError, match="two claims have the id 'a'"):
        load(path, SCALES)
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.yaml", SCALES)


def test_the_shipped_registry_is_about_what_exists():
    found = load(ROOT / "paper" / "claims.yaml", SCALES)
    assert len(found) > 10
    assert {study for c in found for study, _ in c.numbers} == set(studies.names())
    assert all(c.role == "control" or c.needs or c.studies == ["residual_init"] for c in found)


CONTROL = claim("c", role="control", scales=("cpu", "h100")).model_dump(exclude_none=True, mode="json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needs": ["d"]}, "claim 'a': needs: there is no control 'd'; there is: c"),
        ({"needs": ["b"]}, "claim 'a': needs: 'b' is no control; give it `role: control`, or need another"),
        ({"needs": ["a"]}, "claim 'a': needs: 'a' is no control"),
        ({"needs": ["c", "c"]}, "claim 'a': needs: names a control twice"),
        ({"needs": ["c"], "scales": ["smoke", "cpu"]}, "needs: control 'c' is not meant for scale smoke; add the scale to it"),
        ({"needs": ["c"], "role": "control"}, "claim 'a': needs: a control needs nothing"),
        ({"needs": "c"}, "needs: needs a list"),
        ({"role": "kontrol"}, "role: "),
    ],
)
def test_needs_name_controls_of_the_same_scales(changes, message, tmp_path):
    path = tmp_path / "claims.yaml"
    a, b = (claim(name).model_dump(exclude_none=True, mode="json") for name in "ab")
    path.write_text(yaml.safe_dump({"claims": [a | changes, b, CONTROL]}))
    with pytest.raises(ConfigError, match=message):
        load(path, SCALES)
    path.write_text(yaml.safe_dump({"claims": [a | {"needs": ["c"]}, b, CONTROL]}))
    assert load(path, SCALES)[0].needs == ["c"]


def test_the_digest_is_of_what_decides():
    one = claim("a", above=1)
    others = [claim("b", above=1), claim("a", above=1.5), claim("a", below=1), claim("a", CAPACITY, above=1)]
    others += [claim("a", above=1, role="control"), claim("a", above=1, needs=("c",))]
    assert len({c.digest for c in [one, *others]}) == 7
    same = [one.replace(statement="x"), one.replace(origin="x"), one.replace(scales=["h100"])]
    assert {c.digest for c in same} == {one.digest}
    assert claim("a", needs=("c", "d")).digest == claim("a", needs=("d", "c")).digest


def test_what_stood_in_an_older_registry():
    """Formats change: an entry without role and needs is a claim that needs nothing; what cannot be read held nothing."""
    text = """
claims:
  - {id: a, statement: x, origin: y, measure: mqar_cliff.recall_hybrid_max_pairs, criterion: {above: 1}, scales: [cpu, h100]}
  - {id: b, study: mqar_cliff, number: chance, above: 3}
  - {id: c, measure: mqar_cliff.chance, criterion: {over: 3}, scales: [cpu]}
  - 3
"""
    assert stood(text, "test") == {(claim("a", above=1).digest, scale) for scale in ("cpu", "h100")}
    for broken in ("claims: [", "", "claims: 3", "- 1", "claims: [{id: a}]"):
        assert stood(broken, "test") == set()
