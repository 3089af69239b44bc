"""Races of the bus that were found by reading, each forced here step by step."""

from __future__ import annotations

import threading
import uuid

import pytest

from ate_dispatcher import StateError
from ate_dispatcher.bus import Distributer, _subscription

BOUND = 60


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def bus(url):
    with Distributer(url) as bus:
        yield bus


def test_a_message_just_taken_is_not_handled_after_a_cancel(bus, gate):
    """Subscriptions: no callback begins after `cancel`, not even if it waits for nothing."""
    heard = []
    subscription = bus.subscribe(heard.append, "t", subscriber_group="g")
    queue = subscription._queue

    class Slow:
        """A queue that its reader comes back from when the gate opens."""

        put, qsize = queue.put, queue.qsize

        @staticmethod
        def get():
            item = queue.get()
            gate.park()
            return item

    swapped = threading.Event()
    subscription._callback = lambda data: (setattr(subscription, "_queue", Slow), swapped.set())
    bus.publish("first", "t")  # brings the worker back from the true queue
    assert swapped.wait(BOUND)
    subscription._callback = heard.append
    bus.publish("second", "t")
    gate.wait_parked()
    assert not subscription.cancel(timeout=0)
    gate.open()
    assert subscription.join(BOUND)
    assert heard == []
    other = threading.Event()
    bus.subscribe(lambda data: data == "second" and other.set(), "t", subscriber_group="g")
    assert other.wait(BOUND)  # it is another member's


def test_channels_are_followed_again_after_the_bus_was_closed(bus):
    """PubSub: a subscription that has ended is none, so subscribing makes another."""
    heard, pubsub = threading.Event(), bus.pubsub()
    pubsub.add_client(lambda channel, message: heard.set())
    pubsub.subscribe("a")
    bus.close()
    bus.connect()
    pubsub.subscribe("a")
    pubsub.publish("a", 1)
    assert heard.wait(BOUND)


def test_subscribing_while_the_bus_is_closed_is_told(bus, gate):
    """Subscriptions: one that was ended before it began is not given to anybody as live."""
    driver = bus._driver()
    subscribe = driver.subscribe

    def slow(filters, group, inbox):
        leave = subscribe(filters, group, inbox)
        gate.park()
        return leave

    driver.subscribe = slow
    found = []

    def make():
        try:
            found.append(bus.subscribe(print, "t"))
        except StateError as error:
            found.append(error)

    maker = threading.Thread(target=make)
    maker.start()
    gate.wait_parked()
    bus.close()
    gate.open()
    maker.join(BOUND)
    assert isinstance(found[0], StateError)
    assert driver.count(("t",)) == 0


def test_a_subscription_without_a_thread_leaves_nothing(bus, monkeypatch):
    """Subscriptions: the system has no thread to give, so there is none."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as context:
        context.setattr(_subscription.threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            bus.subscribe(print, "t")
    assert not bus._subscriptions
    assert bus._driver().count(("t",)) == 0
