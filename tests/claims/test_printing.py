"""Claims as they are printed, whatever they say."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from claims.made_up import LOSS, NUMBERS, OTHERS, claim

from ripstop.claims.printing import claims_json, claims_tex, failure_sentence
from ripstop.claims.registration import Registration
from ripstop.claims.verdicts import failed_controls, verdicts

COMMITS = {"mqar_cliff": ["abc"]}


def rows(tex: str) -> list[str]:
    return [line for line in tex.splitlines() if " & hypothesis & " in line]


def test_claims_are_printed_whatever_they_say():
    given = [claim("a"), claim("b", below=0.5), claim("c", above=0.7), claim("d", LOSS)]
    judged = verdicts(given, NUMBERS, "cpu")
    tex = claims_tex(judged, "cpu", NUMBERS)
    measured = r"\ripstoplink{number.mqar_cliff.recall_hybrid_max_pairs}{}{0.70 {[}0.60, 0.80{]}}"
    assert rows(tex)[0] == rf"a \& 100 \% of it & hypothesis & \textgreater{{}} 0.5 & {measured} & supported \\"
    found = [row.rsplit(" & ", 1)[1] for row in rows(tex)]
    assert found == [r"supported \\", r"refuted \\", r"inconclusive \\", r"not measured \\"]
    counts = {"total": 4, "supported": 1, "refuted": 1, "inconclusive": 1, "not_measured": 1, "undecided": 0, "controls": 0}
    for name, count in counts.items():
        assert rf"\ripstopnumber{{claims.{name}}}{{{count}}}{{{count}}}" in tex
    content = json.loads(claims_json(judged, "cpu", COMMITS))
    assert content["scale"] == "cpu" and content["failed_controls"] == []
    assert [(c["id"], c["verdict"], c["value"]) for c in content["claims"][:2]] == [
        ("a", "supported", pytest.approx(0.7)), ("b", "refuted", pytest.approx(0.7)),
    ]  # fmt: skip
    assert content["claims"][0]["criterion"] == {"above": 0.5} and content["claims"][3]["value"] is None
    assert content["claims"][0]["digest"] == claim("a").digest and content["claims"][0]["commits"] == COMMITS


def test_a_section_ends_with_what_its_verdicts_say():
    given = [claim("a"), claim("b", below=0.5), claim("c", above=0.7), claim("d", LOSS), claim("e", role="control")]
    tex = claims_tex(verdicts(given, NUMBERS, "cpu"), "cpu", NUMBERS)
    measured = r"0.70 {[}0.60, 0.80{]}, claimed"
    wanted = [
        r"\ripstoptakeaway{mqar_cliff}{%",
        r"\paragraph{What the claims came to.}",
        r"\emph{Supported.} a \& 100 \% of it",
        rf"\emph{{Refuted.}} b \& 100 \% of it ({measured} \textless{{}} 0.5).",
        rf"\emph{{Inconclusive.}} c \& 100 \% of it ({measured} \textgreater{{}} 0.7).",
        "}",
    ]
    assert "\n".join(wanted) in tex
    assert "\\ripstoptakeaway{hybrid_ratio}{%\n\\paragraph{What the claims came to.}\n\\emph{Not measured.} d" in tex


def test_what_git_says_is_printed_under_the_verdict_and_counted():
    (judged,) = verdicts([claim("a")], NUMBERS, "cpu")
    for status, counted in (("registered", 1), ("exploratory", 0), ("registration unknown", 0)):
        tex = claims_tex([replace(judged, registration=Registration(status, "why"))], "cpu", NUMBERS)
        assert rows(tex)[0].endswith(rf"& supported \par{{\normalfont\scriptsize {status}}} \\")
        assert rf"{{claims.registered}}{{{counted}}}" in tex


def test_a_failed_control_is_told_everywhere():
    given = [claim("c_1", role="control", above=0.9), claim("a", LOSS, needs=("c_1",))]
    judged = verdicts(given, NUMBERS | OTHERS, "cpu")
    tex = claims_tex(judged, "cpu", NUMBERS | OTHERS)
    told = r"c\_1 \& 100 \% of it (refuted: 0.70 {[}0.60, 0.80{]}, needed \textgreater{} 0.9)"
    sentence = r"\\newcommand\{\\failedcontrols\}\{%\nA control failed at this scale:\n(.*)\.%\n\}"
    assert re.search(sentence, tex)[1] == told
    for study in ("mqar_cliff", "hybrid_ratio"):  # its own, and that of the claim that needs it
        assert f"\\ripstopcontrols{{{study}}}{{%\n\\space\\textbf{{A control of this study failed}} (Table" in tex
    takeaway = "\\ripstoptakeaway{hybrid_ratio}{%\n\\paragraph{What the claims came to.}\n\\emph{Control failed.} "
    assert f"{takeaway}{told}.\n\\emph{{Undecided" in tex
    assert "\\ripstopverdict{a}{undecided: control failed}" in tex
    control, claim_ = rows(tex)
    assert r"{\scriptsize\ttfamily c\_\nolinebreak[3]1} & " in control
    assert claim_.endswith(r"undecided: control failed {\normalfont\scriptsize\ttfamily c\_\nolinebreak[3]1} \\")
    assert "{claims.total}{1}" in tex and "{claims.undecided}{1}" in tex and "{claims.controls_failed}{1}" in tex
    content = json.loads(claims_json(judged, "cpu", {"mqar_cliff": [], "hybrid_ratio": []}))
    failed = {"id": "c_1", "verdict": "refuted", "studies": ["mqar_cliff", "hybrid_ratio"], "undecided": 1}
    assert content["failed_controls"] == [failed] and content["claims"][1]["failed"] == ["c_1"]
    (one,) = failed_controls(judged, "cpu", NUMBERS | OTHERS)
    assert failure_sentence(one).endswith("; it puts mqar_cliff, hybrid_ratio in doubt and leaves 1 claim undecided")


def test_nothing_is_said_of_controls_that_hold():
    judged = verdicts([claim("c", role="control"), claim("a", needs=("c",))], NUMBERS, "cpu")
    tex = claims_tex(judged, "cpu", NUMBERS)
    assert "\\newcommand{\\failedcontrols}{%\n}" in tex and "ripstopcontrols" not in tex and "failed at" not in tex


def test_a_statement_cannot_be_latex():
    evil = claim("a").replace(statement=r"\input{x} [red]$_1", origin=r"\write18{rm}")
    tex = claims_tex(verdicts([evil], NUMBERS, "cpu"), "cpu", NUMBERS)
    assert r"\textbackslash{}input\{x\} {[}red{]}\$\_1 & \textbackslash{}write18\{rm\}" in tex
