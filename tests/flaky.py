"""A broker inside this process that comes and goes as a test wants it."""

from __future__ import annotations

import queue

from ate_dispatcher import BusConnectionError, InvalidArgumentError
from ate_dispatcher.bus.drivers.memory import MemoryDriver

__all__ = ["FlakyBroker"]


class FlakyBroker:
    """What the drivers of one test ask: is the broker there? `driver` is their class.

    While it is away connecting, publishing and subscribing fail, as with a driver that does not
    wait; subscriptions are told of its going and coming.
    """

    def __init__(self):
        self.away = False
        self.refused = None
        self.attempts = 0
        self.tried = queue.Queue()
        self.inboxes = []
        broker = self

        class Flaky(MemoryDriver):
            def connect(self):
                broker.attempts += 1
                broker.tried.put(broker.attempts)
                broker.check()
                super().connect()

            def publish(self, words, payload):
                broker.check()
                super().publish(words, payload)

            def subscribe(self, filters, group, inbox):
                broker.check()
                if broker.refused == filters[0].pattern:
                    raise InvalidArgumentError(f"{broker.refused!r} is refused")
                leave = super().subscribe(filters, group, inbox)
                broker.inboxes.append(inbox)
                return leave

        self.driver = Flaky

    def check(self):
        if self.away:
            raise BusConnectionError("no broker")

    def lose(self):
        """Go, as a broker does: the drivers notice, one subscription after the other."""
        self.away = True
        for inbox in tuple(self.inboxes):
            inbox.report_connection(False)

    def come_back(self):
        self.away = False
        for inbox in tuple(self.inboxes):
            inbox.report_connection(True)
