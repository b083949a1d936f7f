"""Claims: every verdict by hand, drift, and a registry that cannot be misread."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from ripstop import claims
from ripstop.claims import Claim, Criterion, judge
from ripstop.config import ConfigError
from ripstop.paper.numbers import StudyNumbers, write_numbers_json
from ripstop.statistics import Estimate

INF = math.inf
ROOT = Path(__file__).parents[1]


def estimate(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 3)


@pytest.mark.parametrize(
    ("criterion", "low", "high", "verdict"),
    [
        ({"above": 0.5}, 0.51, 0.9, "supported"),
        ({"above": 0.5}, 0.5, 0.9, "inconclusive"),
        ({"above": 0.5}, 0.1, 0.49, "refuted"),
        ({"above": 0.5}, 0.1, 0.5, "inconclusive"),
        ({"above": 0.0}, 0.0, 0.0, "inconclusive"),
        ({"below": 0.5}, 0.1, 0.49, "supported"),
        ({"below": 0.5}, 0.51, 0.9, "refuted"),
        ({"below": 0.5}, 0.4, 0.6, "inconclusive"),
        ({"within": [0.8, 1.25]}, 0.8, 1.25, "supported"),
        ({"within": [0.8, 1.25]}, 0.7, 1.2, "inconclusive"),
        ({"within": [0.8, 1.25]}, 0.5, 0.79, "refuted"),
        ({"within": [0.8, 1.25]}, 1.26, 2.0, "refuted"),
        ({"within": [0.8, 1.25]}, 0.5, 2.0, "inconclusive"),
        # a capacity beyond the measured range is open to one side
        ({"above": 32}, 40, INF, "supported"),
        ({"below": 32}, 40, INF, "refuted"),
        ({"within": [8, 32]}, 40, INF, "refuted"),
        ({"above": 32}, 20, INF, "inconclusive"),
        ({"above": 32}, -INF, 4, "refuted"),
        ({"above": 32}, math.nan, math.nan, "inconclusive"),
    ],
)
def test_judge(criterion, low, high, verdict):
    assert judge(Estimate(0.5, low, high, 3), Criterion.parse(criterion, "test")) == verdict


def test_what_was_not_run_is_not_measured():
    assert judge(None, Criterion(above=1)) == "not measured"
    assert judge(Estimate.missing(), Criterion(above=1)) == "not measured"


@pytest.mark.parametrize(
    "criterion",
    [{}, {"above": 1, "below": 2}, {"within": [2, 1]}, {"within": [1, 1]}, {"over": 1}, {"above": math.nan}],
)
def test_a_criterion_is_exactly_one(criterion):
    with pytest.raises(ConfigError):
        Criterion.parse(criterion, "criterion")


def claim(name: str, measure: str, study: str = "cliff", scales: tuple[str, ...] = ("cpu",), **criterion: float) -> Claim:
    values = {"id": name, "statement": f"{name} & 100 % of it", "source": "hypothesis", "study": study}
    return Claim.parse({**values, "measure": measure, "criterion": criterion or {"above": 0.5}, "scales": list(scales)}, name)


NUMBERS = {"cliff": {"recall": estimate(0.6, 0.8), "capacity": estimate(10, 20)}}


def test_verdicts_by_scale_and_study():
    judged = claims.verdicts(
        [
            claim("a", "recall"),
            claim("b", "recall", below=0.5),
            claim("c", "recall", scales=("h100",)),
            claim("d", "anything", study="not_run"),
        ],
        NUMBERS,
        "cpu",
    )
    assert [j.verdict for j in judged] == ["supported", "refuted", "not measured", "not measured"]


def test_a_wrong_measure_names_the_nearest_right_one():
    with pytest.raises(ConfigError, match=r"claim 'a': study cliff has no number 'recal'; did you mean 'recall'\?"):
        claims.verdicts([claim("a", "recal")], NUMBERS, "cpu")
    # even where the claim does not hold at this scale: a misspelt one would be "not measured" for ever
    with pytest.raises(ConfigError, match="did you mean"):
        claims.verdicts([claim("a", "recal", scales=("h100",))], NUMBERS, "cpu")


def test_drift_names_flips_and_removals_but_not_news():
    judged = claims.verdicts([claim("a", "recall"), claim("b", "recall", below=0.5), claim("new", "recall")], NUMBERS, "cpu")
    same = {"a": "supported", "b": "refuted"}
    assert claims.drift(judged, same) == []
    found = claims.drift(judged, {"a": "refuted", "b": "refuted", "gone": "refuted"})
    assert found == [
        "claim a was recorded as refuted and is now supported: recall is 0.70 [0.60, 0.80], the criterion is > 0.5.",
        "claim gone was recorded as refuted and is no longer in the registry.",
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    registry = {"claims": [claim("a", "recall").model_dump(exclude_none=True, mode="json")]}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(registry))
    write_numbers_json(tmp_path / "numbers.json", StudyNumbers("cliff", "cpu", 3, ["cpu"], NUMBERS["cliff"]))
    return tmp_path


def verify(project: Path, scale: str = "cpu", update: bool = False) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=120)
    paths = [project / "numbers.json"]
    status = claims.verify(project / "claims.yaml", paths, scale, project / "verdicts.json", update, console)
    return status, console.file.getvalue()


def test_verify_records_then_reports_a_flip(project):
    status, text = verify(project)
    assert status == 0 and "nothing is recorded" in text and "supported" in text and "0.70 [0.60, 0.80]" in text
    assert verify(project, update=True)[0] == 0
    assert verify(project)[0] == 0
    flipped = NUMBERS["cliff"] | {"recall": estimate(0.1, 0.2)}
    write_numbers_json(project / "numbers.json", StudyNumbers("cliff", "cpu", 3, ["cpu"], flipped))
    status, text = verify(project)
    assert status == 1 and "claim a was recorded as supported and is now refuted" in text


def test_recording_one_scale_leaves_the_others(project):
    path = project / "verdicts.json"
    judged = claims.verdicts([claim("a", "recall")], NUMBERS, "cpu")
    claims.record(path, "cpu", judged)
    claims.record(path, "h100", claims.verdicts([claim("a", "recall")], {}, "h100"))
    assert claims.recorded_verdicts(path, "cpu") == {"a": "supported"}
    assert claims.recorded_verdicts(path, "h100") == {"a": "not measured"}
    assert claims.recorded_verdicts(path, "smoke") == {}
    path.write_text("{")
    with pytest.raises(ConfigError, match="not a file of verdicts"):
        claims.record(path, "cpu", judged)
    assert path.read_text() == "{"


def test_claims_are_written_whatever_they_say(project):
    claims.write_claims(project / "claims.yaml", [project / "numbers.json"], "cpu", project / "c.json", project / "c.tex")
    (row,) = json.loads((project / "c.json").read_text())["claims"]
    assert (row["id"], row["verdict"], row["value"]) == ("a", "supported", pytest.approx(0.7))
    tex = (project / "c.tex").read_text()
    assert r"a \& 100 \% of it & hypothesis & \textgreater{} 0.5 & 0.70 {[}0.60, 0.80{]} & supported \\" in tex
    assert r"\ripstopnumber{claims.supported}{1}{1}" in tex and r"\ripstopnumber{claims.refuted}{0}{0}" in tex


def test_every_verdict_looks_alike_in_the_paper():
    three = [claim("a", "recall"), claim("b", "recall", below=0.5), claim("c", "recall", above=0.7)]
    lines = claims.claims_tex(claims.verdicts(three, NUMBERS, "cpu")).splitlines()
    rows = [line for line in lines if "hypothesis" in line]
    ends = [row.rsplit(" & ", 1)[1] for row in rows]
    assert ends == [r"supported \\", r"refuted \\", r"inconclusive \\"]


def test_numbers_of_another_scale_are_refused(project):
    with pytest.raises(ConfigError, match="scale 'cpu', not 'h100'"):
        verify(project, scale="h100")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: [", "not YAML"),
        ("claims: []\nclaim: 1", "claim: unknown key; did you mean 'claims'"),
        ("", "claims.yaml"),
        ("claims: [{id: a}]", "claims.0.statement: missing"),
    ],
)
def test_a_bad_registry_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        claims.load(path)


def test_an_id_is_given_once(tmp_path):
    path = tmp_path / "claims.yaml"
    one = claim("a", "recall").model_dump(exclude_none=True, mode="json")
    path.write_text(yaml.safe_dump({"claims": [one, one]}))
    with pytest.raises(ConfigError, match="two claims have the id 'a'"):
        claims.load(path)
    with pytest.raises(ConfigError, match="no such file"):
        claims.load(tmp_path / "none.yaml")


def test_the_shipped_registry_parses():
    assert len(claims.load(ROOT / "paper" / "claims.yaml")) > 10
