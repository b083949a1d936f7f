"""What is recorded of a verdict, and how it drifts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from claims.made_up import CAPACITY, LOSS, NUMBERS, OTHERS, RECALL, claim

from ripstop.claims.recorded import drift, entry, record, recorded_verdicts
from ripstop.claims.registration import Registration
from ripstop.claims.verdicts import verdicts
from ripstop.config import ConfigError
from ripstop.statistics import Estimate

COMMITS = {"mqar_cliff": ["abc"]}


def entries(**verdicts: str) -> dict:
    return {name: {"verdict": verdict} for name, verdict in verdicts.items()}


def test_drift_names_flips_and_removals_but_not_news():
    judged = verdicts([claim("a"), claim("b", below=0.5), claim("new")], NUMBERS, "cpu")
    assert drift(judged, entries(a="supported", b="refuted")) == []
    found = drift(judged, entries(a="refuted", b="refuted", gone="refuted"))
    assert found == [
        f"claim a was recorded as refuted and is now supported: {RECALL} is 0.70 [0.60, 0.80], the criterion is > 0.5",
        "claim gone was recorded as refuted and is no longer in the registry",
    ]


def test_a_criterion_that_moved_is_drift_whatever_the_verdict():
    judged = verdicts([claim("a")], NUMBERS, "cpu")
    before = {"a": {"verdict": "supported", "criterion": judged[0].claim.digest}}
    assert drift(judged, before) == []
    for other in (claim("a", above=0.4), claim("a", CAPACITY), claim("a", below=0.9), claim("a", role="control")):
        assert drift(verdicts([other], NUMBERS, "cpu"), before) == [
            "claim a was recorded as supported by another criterion than it has now: the record's criterion has digest "
            f"{judged[0].claim.digest}, that of the registry {other.digest}"
        ]


def test_drift_names_the_control_that_failed():
    given = [claim("c", role="control", above=0.9), claim("a", needs=("c",))]
    (sentence,) = drift(verdicts(given, NUMBERS, "cpu"), entries(a="supported"))
    assert "was recorded as supported and is now undecided: control failed: " in sentence and sentence.endswith(
        ", and c failed"
    )


def test_a_study_that_is_not_at_hand_is_no_drift():
    judged = verdicts([claim("a", LOSS)], NUMBERS, "cpu")
    assert drift(judged, entries(a="supported")) == []
    dropped = {"hybrid_ratio": {"loss_mamba2": Estimate.missing("nats")}}
    judged = verdicts([claim("a", LOSS)], dropped, "cpu")
    assert "is now not measured" in drift(judged, entries(a="supported"))[0]


def recorded(path: Path) -> dict[str, str]:
    return {name: entry["verdict"] for name, entry in recorded_verdicts(path, "cpu").items()}


def test_a_claim_that_left_the_registry_leaves_the_record(tmp_path):
    for name in "ab":
        record(tmp_path / "v.json", "cpu", verdicts([claim(name)], NUMBERS, "cpu"), COMMITS)
    assert recorded(tmp_path / "v.json") == {"b": "supported"}


def test_what_is_not_at_hand_stays_as_it_was(tmp_path):
    given = [claim("a"), claim("z", LOSS)]
    assert record(tmp_path / "v.json", "cpu", verdicts(given, NUMBERS | OTHERS, "cpu"), COMMITS) == []
    assert record(tmp_path / "v.json", "cpu", verdicts(given, NUMBERS, "cpu"), COMMITS) == ["z"]
    assert recorded(tmp_path / "v.json") == {"a": "supported", "z": "supported"}


def test_a_record_holds_the_number_the_criterion_and_what_git_said(tmp_path):
    (judged,) = verdicts([claim("a")], NUMBERS, "cpu")
    asked = replace(judged, registration=Registration("exploratory", "of some reason"))
    record(tmp_path / "v.json", "cpu", [asked], COMMITS)
    assert json.loads((tmp_path / "v.json").read_text())["cpu"]["a"] == {
        "verdict": "supported", "criterion": claim("a").digest, "registration": "exploratory", "reason": "of some reason",
        "commits": {"mqar_cliff": ["abc"]}, "value": pytest.approx(0.7), "low": 0.6, "high": 0.8, "n": 3, "unit": "",
    }  # fmt: skip


def test_a_record_names_the_controls_that_failed():
    judged = verdicts([claim("c", role="control", above=0.9), claim("a", needs=("c",))], NUMBERS, "cpu")
    assert [entry(item, COMMITS).get("failed") for item in judged] == [None, ["c"]]


def test_recording_one_scale_leaves_the_others(tmp_path):
    path = tmp_path / "v.json"
    record(path, "cpu", verdicts([claim("a")], NUMBERS, "cpu"), COMMITS)
    record(path, "h100", verdicts([claim("a", below=0.5)], NUMBERS, "cpu"), COMMITS)
    assert recorded(path) == {"a": "supported"}
    assert recorded_verdicts(path, "h100")["a"]["verdict"] == "refuted"
    assert recorded_verdicts(path, "smoke") == {}


def test_a_folder_in_the_place_of_the_record_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not a file of verdicts"):
        recorded_verdicts(tmp_path, "cpu")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"cpu": []}', '{"cpu": {"a": "supported"}}', '{"cpu": {"a": {"verdict": "yes"}}}']
)
def test_a_damaged_record_is_refused_and_left(content, tmp_path):
    path = tmp_path / "verdicts.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="verdicts.json: not a file of verdicts; restore it with git"):
        recorded_verdicts(path, "cpu")
    with pytest.raises(ConfigError, match="verdicts.json: not a file of verdicts; restore it with git"):
        record(path, "cpu", [], COMMITS)
    assert path.read_text() == content
