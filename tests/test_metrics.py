"""Units: what a value can be, at the ends and just beyond them."""

from __future__ import annotations

import math

import pytest

from ripstop.metrics import METRICS, UNITS, refusal


@pytest.mark.parametrize(
    ("metric", "unit", "value"),
    [
        ("accuracy", "fraction", 0),
        ("accuracy", "fraction", 1),
        ("bleu", "points", 100.0),
        ("chrf++", "points", 0.0),
        ("loss", "nats", 0.0),
        ("loss", "nats", 1e9),
        ("state_bytes", "bytes", 262144),
        ("parameters", "parameters", 12.0),
        ("comet", "score", -0.25),
        ("something_new", "seconds", 0.001),
    ],
)
def test_what_can_be(metric: str, unit: str, value: float) -> None:
    assert refusal(metric, unit, value) == ""


@pytest.mark.parametrize(
    ("metric", "unit", "value", "sentence"),
    [
        ("accuracy", "fraction", 1.0000001, "accuracy is 1.0000001 fraction, which has to be a number from 0 to 1"),
        ("accuracy", "fraction", -1e-9, "from 0 to 1"),
        ("accuracy", "points", 50, "accuracy is given in points, but is measured in fraction"),
        ("bleu", "points", 100.5, "from 0 to 100"),
        ("chrf++", "points", -1, "from 0 to 100"),
        ("loss", "nats", -0.1, "a number from 0 on"),
        ("loss", "nats", math.nan, "loss is nan nats"),
        ("loss", "nats", math.inf, "loss is inf nats"),
        ("comet", "score", -math.inf, "any number"),
        ("state_bytes", "bytes", 10.5, "a whole number from 0 on"),
        ("state_bytes", "bytes", -8, "a whole number from 0 on"),
        ("latency", "secnds", 1.0, "unknown unit 'secnds'; did you mean 'seconds'?"),
        ("accuracy", "", 0.5, "unknown unit ''"),
    ],
)
def test_what_cannot(metric: str, unit: str, value: float, sentence: str) -> None:
    assert sentence in refusal(metric, unit, value)


def test_every_metric_has_a_unit_that_exists() -> None:
    assert set(METRICS.values()) <= set(UNITS)
