"""What every test of the suite has: no thread left behind, no unhandled exception in a thread."""

from __future__ import annotations

import pytest

from ate_dispatcher import ATEDispatcher
from ate_dispatcher.testing import FakeClock, Gate, no_thread_leaks


@pytest.fixture(autouse=True)
def _no_thread_left():
    with no_thread_leaks():
        yield


@pytest.fixture
def dispatcher():
    """A started dispatcher, stopped after the test."""
    dispatcher = ATEDispatcher(name="dispatcher")
    dispatcher.start()
    yield dispatcher
    dispatcher.stop(drain=False, timeout=5)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def timed(clock):
    """A started dispatcher whose time is `clock`."""
    dispatcher = ATEDispatcher(name="timed", clock=clock)
    dispatcher.start()
    yield dispatcher
    dispatcher.stop(drain=False, timeout=5)


@pytest.fixture
def gate():
    """A gate that opens at the end of the test, so that nobody stays parked."""
    with Gate() as gate:
        yield gate
