"""What is said of accepted digests: one sentence a reason, with its studies."""

from __future__ import annotations

from ripstop.accepted import Acceptance, Accepted


def entry(study: str, now: str, reason: str = "Moved.", scale: str = "cpu", time: str = "10:00:00") -> Acceptance:
    return Acceptance(
        scale=scale, study=study, stage="train", made="m", now=now, reason=reason, date=f"2026-01-02T{time}", commit="c0ffee"
    )


def test_one_sentence_a_reason_counts_by_study() -> None:
    found = Accepted(
        [
            entry("one", "a"),
            entry("two", "b"),
            entry("one", "c", time="11:00:00"),
            entry("one", "d", "Renamed."),
            entry("one", "e", scale="h100"),
        ]
    )
    said = "digests of earlier code whose results are kept: "
    assert found.sentences("cpu", ["two", "three"]) == [said + "1 of two (accepted on 2026-01-02 at c0ffee: Moved.)"]
    assert found.sentences("cpu") == [
        said + "2 of one, 1 of two (accepted on 2026-01-02 at c0ffee: Moved.)",
        said + "1 of one (accepted on 2026-01-02 at c0ffee: Renamed.)",
    ]
