"""Signals that ask to stop are noted once; the next one acts as it did before."""

from __future__ import annotations

import os
import signal

import pytest

from ripstop.training.interruption import ASKING, Interruption


@pytest.mark.parametrize("number", ASKING)
def test_the_first_is_noted_and_the_second_acts_as_before(number: signal.Signals):
    acted: list[int] = []
    before = signal.signal(number, lambda n, frame: acted.append(n))
    try:
        with Interruption() as interruption:
            assert interruption.signal is None
            os.kill(os.getpid(), number)
            assert (interruption.signal, acted) == (number, [])
            os.kill(os.getpid(), number)
            assert acted == ([] if number == signal.SIGXCPU else [number])  # the kernel repeats that one by itself
        os.kill(os.getpid(), number)
        assert acted[-1:] == [number]
    finally:
        signal.signal(number, before)


def test_the_first_is_the_one_that_counts():
    before = signal.signal(signal.SIGTERM, lambda n, frame: None)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGXCPU)
            os.kill(os.getpid(), signal.SIGXCPU)
            os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.signal == signal.SIGXCPU
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_others_ask_though_they_were_ignored():
    """A program inherits what whoever starts it ignores for itself."""
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert interruption.signal == signal.SIGUSR2
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_of_several_processes_nothing_acts_after_the_first_until_the_end():
    """torchrun sends on what its processes were sent by others, too."""
    acted: list[int] = []
    before = {number: signal.getsignal(number) for number in ASKING}
    signal.signal(signal.SIGTERM, lambda n, frame: acted.append(n))
    try:
        with Interruption(repeated=True) as interruption:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
        assert acted == []
        signal.signal(signal.SIGTERM, lambda n, frame: acted.append(n))
        with Interruption(repeated=True):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert acted == [signal.SIGTERM]  # as before, where none came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
