"""Signals that are put off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from hardscale.runtime.signals import noted_signals, signals_held_back


@pytest.fixture
def delivered() -> Iterator[list[int]]:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: seen.append(signum))
    yield seen
    signal.signal(signal.SIGTERM, before)


def test_a_signal_comes_after_the_lines(delivered: list[int]) -> None:
    with signals_held_back():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert not delivered
    assert delivered == [signal.SIGTERM]


def test_a_signal_comes_after_an_error_too(delivered: list[int]) -> None:
    with pytest.raises(ValueError, match="bad"), signals_held_back():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("bad")
    assert delivered == [signal.SIGTERM]


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_held_back():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_may_hold_back_too() -> None:
    done = []

    def work() -> None:
        with signals_held_back():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_noted_signals_are_collected_and_the_handlers_restored(delivered: list[int]) -> None:
    with noted_signals() as told:
        signal.raise_signal(signal.SIGTERM)
    assert told == [signal.SIGTERM] and not delivered
    signal.raise_signal(signal.SIGTERM)
    assert delivered == [signal.SIGTERM]
