"""Waiting for signals: nothing that comes at a bad moment is waited past."""

from __future__ import annotations

from ate_dispatcher._waiting import LOOK, wait_for_signals


def test_a_wait_for_signals_lets_the_interpreter_look():
    """One that came just before a wait without a bound would go unnoticed until the next."""
    waits = []

    class Event:
        def wait(self, timeout=None):
            waits.append(timeout)
            return len(waits) == 3

    wait_for_signals(Event())
    assert waits == [LOOK] * 3
