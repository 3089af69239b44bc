"""Which broker the contract is run over, and what its tests share."""

from __future__ import annotations

import contextlib
import queue
import uuid

import pytest
from brokers import BROKERS, Proxy, needed

from ate_dispatcher.bus import Distributer, drivers_at_hand

BOUND = 60.0
"""Seconds that anything may take before a test gives up on it."""


def pytest_generate_tests(metafunc):
    if "broker" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("brokers")
        at_hand = drivers_at_hand()
        names = [name for name in (marker.args if marker else BROKERS) if name in at_hand]
        metafunc.parametrize("broker", names, indirect=True, scope="session")


def pytest_configure(config):
    config.addinivalue_line("markers", "brokers(*names): the brokers that a test is for")


@pytest.fixture(scope="session")
def broker(request):
    """A running broker, the same one for all tests of its driver."""
    kind = BROKERS[request.param]
    needed(kind)
    with kind() as running:
        yield running


@pytest.fixture
def distributer(broker):
    """Make distributers for the broker, all closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(url=broker.url, **options):
            return stack.enter_context(Distributer(url, **options))

        yield make


@pytest.fixture
def bus(distributer):
    """A connected distributer."""
    return distributer()


@pytest.fixture
def root():
    """A word that no other test's topics begin with."""
    return f"t{uuid.uuid4().hex[:10]}"


class Basket:
    """A callback that keeps what it is given, and can be waited on."""

    def __init__(self):
        self._queue = queue.Queue()
        self.taken = []

    def __call__(self, *arguments):
        self._queue.put(arguments[0] if len(arguments) == 1 else arguments)

    def take(self, count, timeout=BOUND):
        """Wait for so many more, and give them in their order."""
        found = []
        for _ in range(count):
            try:
                found.append(self._queue.get(timeout=timeout))
            except queue.Empty:
                raise AssertionError(
                    f"{len(found)} of {count} came within {timeout} s: {found[-3:]}"
                ) from None
        self.taken += found
        return found

    def left(self):
        """Give what has come and was not taken; use a fence before, to be sure it is all."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        return found


@pytest.fixture
def basket():
    """A callback that keeps what it is given."""
    return Basket()


@pytest.fixture
def baskets():
    """Make several of them."""
    return Basket


class Outage:
    """A private broker, the URL to use, and a way to take it away and give it back."""

    def __init__(self, name, kind, stack):
        self.kind = kind
        self.broker = stack.enter_context(BROKERS[name]())
        self.url = self.broker.url
        if kind == "cut" and name != "kafka":
            self.proxy = stack.enter_context(Proxy(self.broker.port))
            self.url = self.url.replace(f":{self.broker.port}", f":{self.proxy.port}")
        # Kafka's clients ask the broker for its address, past any proxy: it is frozen instead.
        self.frozen = kind == "cut" and name == "kafka"

    def begin(self):
        if self.frozen:
            self.broker.freeze()
        elif self.kind == "cut":
            self.proxy.cut()
        else:
            self.broker.kill()

    def end(self):
        if self.frozen:
            self.broker.thaw()
        elif self.kind == "cut":
            self.proxy.restore()
        else:
            self.broker.restart()


@pytest.fixture
def outage():
    """Make an `Outage`; everything is ended after the test."""
    with contextlib.ExitStack() as stack:

        def make(name, kind):
            needed(BROKERS[name])
            return Outage(name, kind, stack)

        yield make
