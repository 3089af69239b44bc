"""Waiting where signals come: nothing that arrives at a bad moment is waited past."""

from __future__ import annotations

import threading
from math import inf
from threading import TIMEOUT_MAX
from time import monotonic

import pytest

from ate_dispatcher._waiting import LOOK, acquire, wait_for_signals


class Lock:
    """Says how long it was waited for; it is there at the third time."""

    def __init__(self):
        self.waits = []

    def acquire(self, blocking, timeout):
        self.waits.append(timeout)
        return len(self.waits) == 3


@pytest.mark.parametrize("limit", [None, inf])
def test_the_main_thread_looks_for_signals_while_it_waits(limit):
    """A request, a flush, a stop: each wait without a bound is made of short ones."""
    lock = Lock()
    assert acquire(lock, limit)
    assert lock.waits == [LOOK] * 3


def test_other_threads_wait_in_one_go():
    """C12: no signal is handled there, so there is nothing to wake for."""
    lock = Lock()
    thread = threading.Thread(target=acquire, args=(lock, None))
    thread.start()
    thread.join(30)
    assert lock.waits == [TIMEOUT_MAX] * 3


def test_a_limit_is_kept():
    """The last wait is as long as what is left; when it has passed, that was all."""
    lock = Lock()
    assert not acquire(lock, monotonic() - 1)
    assert lock.waits == [0.0]


def test_a_wait_for_signals_lets_the_interpreter_look():
    """One that came just before a wait without a bound would go unnoticed until the next."""
    waits = []

    class Event:
        def wait(self, timeout=None):
            waits.append(timeout)
            return len(waits) == 3

    wait_for_signals(Event())
    assert waits == [LOOK] * 3
