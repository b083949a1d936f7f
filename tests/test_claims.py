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


def test_what_was_dropped_is_not_measured():
    assert judge(None, Criterion(above=1)) == "not measured"
    assert judge(Estimate.missing(), Criterion(above=1)) == "not measured"
    assert judge(Estimate.unknown(3), Criterion(above=1)) == "inconclusive"


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


SCALES = ["smoke", "cpu", "h100"]
RECALL, CAPACITY, LOSS = "mqar_cliff.recall_hybrid_max_pairs", "mqar_cliff.capacity_mamba2", "hybrid_ratio.loss_mamba2"
NUMBERS = {"mqar_cliff": {"recall_hybrid_max_pairs": estimate(0.6, 0.8), "capacity_mamba2": estimate(10, 20)}}
OTHERS = {"hybrid_ratio": {"loss_mamba2": Estimate(4.0, 3.5, 4.5, 2, "nats"), "ratio_spread": Estimate(1, 0.5, 1.5, 2, "nats")}}


def claim(name: str, measure: str = RECALL, scales: tuple[str, ...] = ("cpu",), **criterion: float) -> Claim:
    values = {"id": name, "statement": f"{name} & 100 % of it", "origin": "hypothesis"}
    return Claim.parse({**values, "measure": measure, "criterion": criterion or {"above": 0.5}, "scales": list(scales)}, name)


def test_verdicts_by_scale_and_study():
    given = [claim("a"), claim("b", below=0.5), claim("c", scales=("h100",)), claim("d", LOSS)]
    judged = claims.verdicts(given, NUMBERS, "cpu")
    assert [j.verdict for j in judged] == ["supported", "refuted", "not measured", "not measured"]
    assert [j.at_hand for j in judged] == [True, True, True, False]
    assert [j.estimate is None for j in judged] == [False, False, True, True]


def test_a_number_that_a_study_at_hand_lacks_is_an_error():
    with pytest.raises(ConfigError, match=r"claim 'a': study mqar_cliff has no number 'chance'; there is: recall_hybrid"):
        claims.verdicts([claim("a", "mqar_cliff.chance")], NUMBERS, "cpu")
    # even where the claim does not hold at this scale
    with pytest.raises(ConfigError, match="has no number 'chance'"):
        claims.verdicts([claim("a", "mqar_cliff.chance", scales=("h100",))], NUMBERS, "cpu")


@pytest.mark.parametrize(
    ("measure", "value", "low", "high", "unit"),
    [
        (f"{LOSS} - hybrid_ratio.ratio_spread", 3.0, 2.0, 4.0, "nats"),
        (f"{LOSS} / hybrid_ratio.ratio_spread", 4.0, 3.5 / 1.5, 9.0, ""),
        (f"{CAPACITY} / {LOSS}", 15 / 4, 10 / 4.5, 20 / 3.5, ""),
        (f"{RECALL} - mqar_cliff.recall_hybrid_max_pairs", 0.0, -0.2, 0.2, ""),
        (LOSS, 4.0, 3.5, 4.5, "nats"),
    ],
)
def test_a_claim_may_rest_on_two_numbers(measure, value, low, high, unit):
    (judged,) = claims.verdicts([claim("a", measure, above=1.0)], NUMBERS | OTHERS, "cpu")
    found = judged.estimate
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-12) and found.unit == unit
    assert judged.verdict == ("refuted" if high < 1 else "supported")


def test_a_claim_on_two_studies_needs_both():
    both = claim("a", f"{CAPACITY} / {LOSS}")
    (judged,) = claims.verdicts([both], NUMBERS, "cpu")
    assert (judged.verdict, judged.at_hand) == ("not measured", False)
    with pytest.raises(ConfigError, match="takes a plain number and nats apart; compare what has one unit"):
        claims.verdicts([claim("a", f"{CAPACITY} - {LOSS}")], NUMBERS | OTHERS, "cpu")


@pytest.mark.parametrize(
    "measure",
    ["recall", "a.b.c", "a.b + c.d", "a.b-c.d", "a.b / c.d / e.f", "__import__('os')", "", "A.b", "a.b - ", "2 * a.b", "a.b\n"],
)
def test_a_measure_is_one_number_or_two(measure):
    with pytest.raises(ConfigError, match="is none; write `study.number`"):
        claim("a", measure)


def entries(**verdicts: str) -> dict:
    return {name: {"verdict": verdict} for name, verdict in verdicts.items()}


def test_drift_names_flips_and_removals_but_not_news():
    judged = claims.verdicts([claim("a"), claim("b", below=0.5), claim("new")], NUMBERS, "cpu")
    assert claims.drift(judged, entries(a="supported", b="refuted")) == []
    found = claims.drift(judged, entries(a="refuted", b="refuted", gone="refuted"))
    assert found == [
        f"claim a was recorded as refuted and is now supported: {RECALL} is 0.70 [0.60, 0.80], the criterion is > 0.5.",
        "claim gone was recorded as refuted and is no longer in the registry.",
    ]


def test_a_criterion_that_moved_is_drift_whatever_the_verdict():
    judged = claims.verdicts([claim("a")], NUMBERS, "cpu")
    recorded = {"a": {"verdict": "supported", "criterion": judged[0].claim.digest}}
    assert claims.drift(judged, recorded) == []
    for other in (claim("a", above=0.4), claim("a", CAPACITY), claim("a", below=0.9)):
        now = claims.verdicts([other], NUMBERS, "cpu")
        assert claims.drift(now, recorded) == [
            "claim a was recorded as supported by another measure or criterion than it has now."
        ]


def test_a_study_that_is_not_at_hand_is_no_drift():
    judged = claims.verdicts([claim("a", LOSS)], NUMBERS, "cpu")
    assert claims.drift(judged, entries(a="supported")) == []
    dropped = {"hybrid_ratio": {"loss_mamba2": Estimate.missing("nats")}}
    judged = claims.verdicts([claim("a", LOSS)], dropped, "cpu")
    assert "is now not measured" in claims.drift(judged, entries(a="supported"))[0]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    registry = {"claims": [claim(n, m).model_dump(exclude_none=True, mode="json") for n, m in (("a", RECALL), ("z", LOSS))]}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(registry))
    write_numbers(tmp_path, NUMBERS)
    return tmp_path


def write_numbers(project: Path, numbers: dict) -> None:
    for study, found in numbers.items():
        write_numbers_json(project / study / "numbers.json", StudyNumbers(study, "cpu", 3, ["cpu"], found))


def verify(project: Path, scale: str = "cpu", update: bool = False) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=140)
    paths = sorted(project.glob("*/numbers.json"))
    status = claims.verify(project / "claims.yaml", paths, scale, SCALES, project / "verdicts.json", update, console)
    return status, console.file.getvalue()


def recorded(project: Path) -> dict[str, str]:
    return {name: e["verdict"] for name, e in claims.recorded_verdicts(project / "verdicts.json", "cpu").items()}


def test_verify_records_then_reports_a_flip(project):
    status, text = verify(project)
    assert status == 0 and "nothing is recorded" in text and "supported" in text and "0.70 [0.60, 0.80]" in text
    assert not (project / "verdicts.json").exists()
    assert verify(project, update=True)[0] == 0
    assert verify(project)[0] == 0
    write_numbers(project, {"mqar_cliff": NUMBERS["mqar_cliff"] | {"recall_hybrid_max_pairs": estimate(0.1, 0.2)}})
    status, text = verify(project)
    assert status == 1 and "drift: claim a was recorded as supported and is now refuted" in text


def test_recording_after_one_study_leaves_the_record_of_the_others(project):
    write_numbers(project, OTHERS)
    assert "2 verdicts of scale cpu recorded" in verify(project, update=True)[1]
    before = claims.recorded_verdicts(project / "verdicts.json", "cpu")["z"]
    (project / "hybrid_ratio" / "numbers.json").unlink()
    write_numbers(project, {"mqar_cliff": NUMBERS["mqar_cliff"] | {"recall_hybrid_max_pairs": estimate(0.1, 0.2)}})
    status, text = verify(project)
    assert status == 1 and "the study is not at hand, so the record is not compared: z" in text
    status, text = verify(project, update=True)
    assert (
        status == 0 and "1 verdicts of scale cpu" in text and "the study was not at hand, so what is recorded stays: z" in text
    )
    assert recorded(project) == {"a": "refuted", "z": "supported"}
    assert claims.recorded_verdicts(project / "verdicts.json", "cpu")["z"] == before


def test_what_was_never_measured_is_not_recorded(project):
    verify(project, update=True)
    assert recorded(project) == {"a": "supported"}


def test_a_claim_that_left_the_registry_leaves_the_record(project):
    verify(project, update=True)
    claims.record(project / "verdicts.json", "cpu", claims.verdicts([claim("b")], NUMBERS, "cpu"))
    assert recorded(project) == {"b": "supported"}


def test_a_record_holds_the_number_and_the_criterion(project):
    claims.record(project / "v.json", "cpu", claims.verdicts([claim("a")], NUMBERS, "cpu"))
    entry = json.loads((project / "v.json").read_text())["cpu"]["a"]
    assert entry == {
        "verdict": "supported", "criterion": claim("a").digest, "value": pytest.approx(0.7), "low": 0.6, "high": 0.8, "n": 3,
        "unit": "",
    }  # fmt: skip
    assert len({c.digest for c in (claim("a"), claim("a", above=0.6), claim("a", below=0.5), claim("a", CAPACITY))}) == 4


def test_recording_one_scale_leaves_the_others(project):
    path = project / "verdicts.json"
    judged = claims.verdicts([claim("a")], NUMBERS, "cpu")
    claims.record(path, "cpu", judged)
    claims.record(path, "h100", claims.verdicts([claim("a", below=0.5)], NUMBERS, "cpu"))
    assert recorded(project) == {"a": "supported"}
    assert claims.recorded_verdicts(path, "h100")["a"]["verdict"] == "refuted"
    assert claims.recorded_verdicts(path, "smoke") == {}


def test_a_folder_in_the_place_of_the_record_is_refused(project):
    (project / "verdicts.json").mkdir()
    with pytest.raises(ConfigError, match="verdicts.json: not a file of verdicts"):
        claims.recorded_verdicts(project / "verdicts.json", "cpu")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"cpu": []}', '{"cpu": {"a": "supported"}}', '{"cpu": {"a": {"verdict": "yes"}}}']
)
def test_a_damaged_record_is_refused_and_left(content, project):
    (project / "verdicts.json").write_text(content)
    for update in (False, True):
        with pytest.raises(ConfigError, match="verdicts.json: not a file of verdicts; restore it with git"):
            verify(project, update=update)
    assert (project / "verdicts.json").read_text() == content


def test_claims_are_printed_whatever_they_say():
    three = [claim("a"), claim("b", below=0.5), claim("c", above=0.7), claim("d", LOSS)]
    judged = claims.verdicts(three, NUMBERS, "cpu")
    tex = claims.claims_tex(judged)
    rows = [line for line in tex.splitlines() if "hypothesis" in line]
    assert rows[0] == (r"a \& 100 \% of it & hypothesis & \textgreater{} 0.5 & 0.70 {[}0.60, 0.80{]} & supported \\")
    assert [row.rsplit(" & ", 1)[1] for row in rows] == [r"supported \\", r"refuted \\", r"inconclusive \\", r"not measured \\"]
    for name, count in (("total", 4), ("supported", 1), ("refuted", 1), ("inconclusive", 1), ("not_measured", 1)):
        assert rf"\ripstopnumber{{claims.{name}}}{{{count}}}{{{count}}}" in tex
    content = json.loads(claims.claims_json(judged, "cpu"))
    assert content["scale"] == "cpu"
    assert [(c["id"], c["verdict"], c["value"]) for c in content["claims"][:2]] == [
        ("a", "supported", pytest.approx(0.7)), ("b", "refuted", pytest.approx(0.7)),
    ]  # fmt: skip
    assert content["claims"][0]["criterion"] == {"above": 0.5} and content["claims"][3]["value"] is None


def test_a_statement_cannot_be_latex_or_markup(project):
    evil = claim("a").replace(statement=r"\input{x} [red]$_1", origin=r"\write18{rm}")
    tex = claims.claims_tex(claims.verdicts([evil], NUMBERS, "cpu"))
    assert r"\textbackslash{}input\{x\} {[}red{]}\$\_1 & \textbackslash{}write18\{rm\}" in tex
    console = Console(file=io.StringIO(), width=140)
    claims._say(console, "[red]a[/red] [/]", "drift: ")
    assert console.file.getvalue() == "drift: [red]a[/red] [/]\n"


@pytest.mark.parametrize("name", ["a}b", "A", "a b", "a-b", "", "1a", r"a\input{x}"])
def test_an_id_is_a_plain_name(name):
    with pytest.raises(ConfigError, match="id: "):
        claim(name)


def test_numbers_of_another_scale_are_refused(project):
    with pytest.raises(ConfigError, match="scale 'cpu', not 'h100'"):
        verify(project, scale="h100")


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
        claims.load(path, SCALES)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        claims.load(path, SCALES)


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
        claims.load(path, SCALES)


def test_every_mistake_is_told_at_once(tmp_path):
    path = tmp_path / "claims.yaml"
    values = [claim(n, m, ("tiny",)).model_dump(exclude_none=True, mode="json") for n, m in (("a", "x.y"), ("b", LOSS))]
    path.write_text(yaml.safe_dump({"claims": values}))
    with pytest.raises(ConfigError, match="'a': scale 'tiny'.*'a': study 'x'.*'b': scale 'tiny'"):
        claims.load(path, SCALES)


def test_an_id_is_given_once(tmp_path):
    path = tmp_path / "claims.yaml"
    one = claim("a").model_dump(exclude_none=True, mode="json")
    path.write_text(yaml.safe_dump({"claims": [one, one]}))
    with pytest.raises(ConfigError, match="two claims have the id 'a'"):
        claims.load(path, SCALES)
    with pytest.raises(ConfigError, match="no such file"):
        claims.load(tmp_path / "none.yaml", SCALES)


def test_the_shipped_registry_is_about_what_exists():
    found = claims.load(ROOT / "paper" / "claims.yaml", SCALES)
    assert len(found) > 10
    assert {study for c in found for study, _ in c.numbers} == {"mqar_cliff", "d_state_scaling", "blind_start", "hybrid_ratio"}
