"""What every driver must show when its broker, or the network before it, goes away and comes back.

Messages are numbered, and those whose publish returned are counted. Each test has a private broker.
"""

from __future__ import annotations

import contextlib
import threading

import pytest
from brokers import BROKERS

from ate_dispatcher import BusError, StateError
from ate_dispatcher.bus import Distributer, drivers_at_hand

BOUND = 40.0
EACH = 30
"""Messages published before an outage, and again after it."""


class Numbers:
    """A callback that keeps numbers and wakes whoever waits for one."""

    def __init__(self):
        self.found = []
        self._changed = threading.Condition()

    def __call__(self, number):
        with self._changed:
            self.found.append(number)
            self._changed.notify_all()

    def wait_for(self, numbers, timeout=BOUND):
        """Wait until all these have come; give those that have not."""
        with self._changed:
            self._changed.wait_for(lambda: numbers <= set(self.found), timeout)
            return numbers - set(self.found)


class Publisher(threading.Thread):
    """Publishes numbers, one after the other, and keeps those whose publish returned."""

    def __init__(self, bus, topic):
        super().__init__(daemon=True)
        self.bus, self.topic = bus, topic
        self.accepted, self.refused = [], []
        self.enough = threading.Event()
        self._changed = threading.Condition()

    def run(self):
        number = 0
        while not self.enough.is_set():
            try:
                self.bus.publish(number, self.topic)
            except BusError:
                outcome = self.refused
                self.enough.wait(0.02)  # as a script would, before it tries the next
            else:
                outcome = self.accepted
            with self._changed:
                outcome.append(number)
                self._changed.notify_all()
            number += 1

    def wait_accepted(self, count):
        """Wait until so many more were accepted; give all so far."""
        with self._changed:
            target = len(self.accepted) + count
            assert self._changed.wait_for(lambda: len(self.accepted) >= target, BOUND), (
                f"{len(self.accepted)} accepted, {len(self.refused)} refused"
            )
            return set(self.accepted)


CASES = [
    # broker, group, kind of outage, whether nothing at all may be lost
    ("mqtt", "", "cut", True),
    ("amqp", "workers", "cut", True),
    ("kafka", "workers", "cut", True),
    ("kafka", "", "cut", True),
    ("redis", "workers", "cut", True),
    ("mqtt", "workers", "cut", False),
    ("nats", "", "cut", False),
    ("nats", "workers", "cut", False),
    ("redis", "", "cut", False),
    ("amqp", "", "cut", False),
    ("mqtt", "", "kill", False),
    ("nats", "", "kill", False),
    ("redis", "", "kill", False),
    ("redis", "workers", "kill", True),
    ("amqp", "workers", "kill", True),
]


@pytest.mark.parametrize(
    ("name", "group", "kind", "lossless"), [case for case in CASES if case[0] in drivers_at_hand()]
)
def test_an_outage_in_the_middle(outage, name, group, kind, lossless):
    """Outages: reconnected and resubscribed; nothing lost that `Capabilities` promises to keep."""
    broken = outage(name, kind)
    numbers = Numbers()
    with Distributer(broken.url) as publishing, Distributer(broken.url) as listening:
        listening.subscribe(numbers, "outage.test", subscriber_group=group)
        publisher = Publisher(publishing, "outage.test")
        publisher.start()
        before = publisher.wait_accepted(EACH)
        assert not numbers.wait_for(before)
        broken.begin()
        publisher.enough.wait(1.0)  # so long does the outage last
        broken.end()
        publisher.wait_accepted(1)
        if not lossless:  # what is published until the subscriber is back may be lost
            reached = len(numbers.found)
            with numbers._changed:
                assert numbers._changed.wait_for(lambda: len(numbers.found) > reached, BOUND)
        mark = len(publisher.accepted)
        publisher.wait_accepted(EACH)
        publisher.enough.set()
        publisher.join(BOUND)
        after = set(publisher.accepted if lossless else publisher.accepted[mark:])
        assert numbers.wait_for(after) == set()
        capabilities = listening.capabilities
        delivery = capabilities.group_delivery if group else capabilities.delivery
        if delivery == "at most once":
            assert len(set(numbers.found)) == len(numbers.found)


@pytest.mark.parametrize("name", [name for name in BROKERS if name in drivers_at_hand()])
def test_closing_wakes_every_publish_that_waits(outage, name):
    """Life: whoever publishes while the broker is away is told of `close` at once."""
    broken = outage(name, "cut")
    bus = Distributer(f"{broken.url}{'&' if '?' in broken.url else '?'}timeout=60").connect()
    bus.publish(0, "closing.test")
    told = []

    def publish():
        try:
            while True:
                with contextlib.suppress(BusError):
                    bus.publish(1, "closing.test")
        except StateError:
            told.append(True)

    publishers = [threading.Thread(target=publish, daemon=True) for _ in range(4)]
    broken.begin()
    try:
        for publisher in publishers:
            publisher.start()
        publishers[0].join(0.2)  # whatever they have come to: it must end
        bus.close()
        for publisher in publishers:
            publisher.join(30)
        assert told == [True] * 4
    finally:
        broken.end()
