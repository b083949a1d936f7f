"""A storm over a study on this machine: processes of all kinds are killed, and the same command is given again."""

from __future__ import annotations

from pathlib import Path

import pytest
from storm.kills import SIGNALS, by_signal, is_command, is_driver, is_log, storm
from storm.study import assert_same, checkout, made

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_what_survives_a_storm_is_what_would_have_been(tmp_path: Path) -> None:
    calm, stormy = (checkout(tmp_path / name, steps=600, seeds=2) for name in ("calm", "stormy"))
    kills = [
        by_signal(stormy, is_command, *SIGNALS, "SIGHUP", "SIGINT"),
        by_signal(stormy, is_command, *SIGNALS),
        by_signal(stormy, is_log, "SIGKILL", "SIGTERM", "SIGUSR1", "SIGUSR2"),
        by_signal(stormy, is_driver, "SIGKILL", "SIGINT", "SIGTERM"),
    ]
    storm(stormy, kills, n=25, seed=11, pause=(0.5, 7))
    made(calm)
    assert_same(stormy, calm)
