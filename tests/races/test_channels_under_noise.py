"""Channels under scheduling noise: registered from many threads while the broker comes and goes."""

from __future__ import annotations

import logging
import queue
import threading
from functools import partial

import pytest
from flaky import FlakyBroker
from noise import noise
from scenarios import together

from ate_dispatcher._backoff import Backoff
from ate_dispatcher.bus import Distributer, _distributer
from ate_dispatcher.channels import Channels, StatusType

BOUND = 60.0
NAMES = [f"c{number}" for number in range(4)]


class Status:
    """Waits until the channels are connected, and stay so when the broker is there."""

    def __init__(self):
        self._changed = threading.Condition()
        self._last = None

    def __call__(self, status):
        with self._changed:
            self._last = status
            self._changed.notify_all()

    def wait_connected(self):
        with self._changed:
            assert self._changed.wait_for(lambda: self._last is StatusType.connected, BOUND)


def session(chance):
    """Register and unregister from three threads during outages; then look what is left."""
    broker, status = FlakyBroker(), Status()
    heard = queue.Queue()
    wanted = set()

    def keep(who, channel, event, data):
        heard.put((who, channel.name, data))

    keepers = {who: partial(keep, who) for who in "ab"}

    def come_and_go(who):
        for _ in range(4):
            for name in NAMES:
                channels.register(name, "*", keepers[who])
            for name in NAMES[:2] if who == "a" else NAMES[1:3]:
                assert channels.unregister(name, "*", keepers[who]) is not None
        for name in NAMES[2:] if who == "a" else (NAMES[0], NAMES[3]):
            wanted.add((who, name))

    def fail():
        for _ in range(40):
            broker.lose()
            broker.come_back()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_distributer, "driver_class", lambda url: broker.driver)
        with Distributer("memory://") as bus:
            channels = Channels(bus, on_status=status, backoff=Backoff(0.0005, 0.002))
            channels.connect()
            together(partial(come_and_go, "a"), partial(come_and_go, "b"), fail)
            channels.register("fence", "*", keepers["a"])
            pause = threading.Event()
            for _ in range(1000):  # by itself, with no further outage that would mend it
                status.wait_connected()
                if channels._is_live():
                    break
                pause.wait(0.01)
            assert channels._is_live()
            for name in (*NAMES, "fence"):
                channels.publish(name, "e", 1)
            found = [heard.get(timeout=BOUND) for _ in range(len(wanted) + 1)]
            live = [own for own in bus._subscriptions if own.active]
            assert len({own.topics for own in live}) == len(live) == len(channels.channels) + 1
            channels.close()
        assert heard.empty()
    assert sorted(found) == sorted([*((who, name, 1) for who, name in wanted), ("a", "fence", 1)])


def test_registrations_survive_under_noise(caplog):
    """Channels: every registration is live once, and only those; the seed reproduces it."""
    caplog.set_level(logging.CRITICAL, "ate_dispatcher")
    for seed in range(4):
        with noise(seed) as chance:
            session(chance)
