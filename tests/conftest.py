"""What every test of the suite has: no thread left behind, no unhandled exception in a thread.

``pytest -m "not system"`` is the unit suite, of some seconds: without real brokers, hunts for
races, the demo, and the scenarios of 0.1.0, which sleep as its document does.
"""

from __future__ import annotations

import os

import pytest

from ate_dispatcher import ATEDispatcher
from ate_dispatcher.testing import FakeClock, Gate, no_thread_leaks

SYSTEM = (
    "contract",
    "races",
    "test_application_live.py",
    "test_chaos.py",
    "test_demo.py",
    "test_monitor_page.py",
    "test_published.py",
    "test_scenario.py",
)
"""Folders and files of tests that take long by what they are."""


def pytest_configure(config):
    config.addinivalue_line("markers", "system: takes long: real brokers, hunts, sleeps")
    config.addinivalue_line("markers", "slow: takes seconds by its nature; run with ATE_SLOW=1")


def pytest_collection_modifyitems(items):
    for item in items:
        in_memory = "[memory" in item.name
        if not in_memory and any(name in item.path.parts for name in SYSTEM):
            item.add_marker(pytest.mark.system)
        if item.get_closest_marker("slow") and os.environ.get("ATE_SLOW") != "1":
            item.add_marker(pytest.mark.skip(reason="takes its time: set ATE_SLOW=1"))


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
    dispatcher.stop(drain=False, timeout=30)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def timed(clock):
    """A started dispatcher whose time is `clock`."""
    dispatcher = ATEDispatcher(name="timed", clock=clock)
    dispatcher.start()
    yield dispatcher
    dispatcher.stop(drain=False, timeout=30)


@pytest.fixture
def gate():
    """A gate that opens at the end of the test, so that nobody stays parked."""
    with Gate() as gate:
        yield gate
