"""A station over a real broker while everything breaks, one after the other."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from brokers import BROKERS, Proxy, needed

from ate_dispatcher import ATEDispatcher, RequestStatus
from ate_dispatcher.bridge import Bridge
from ate_dispatcher.bus import drivers_at_hand

BOUND = 60
NAMES = ("a0", "a1", "a2")

AGENT = """
import sys
from ate_dispatcher.bridge import AgentHost
from ate_dispatcher.testing import ScriptedProducer

url, name = sys.argv[1:]
with AgentHost(url, name=f"host of {name}", heartbeat=0.2) as host:
    host.add(ScriptedProducer(lambda topic, number: number, name=name), "t")
    sys.stdin.read()
"""


class Agents:
    """Agent processes, ended by their ids."""

    def __init__(self, url):
        self.url = url
        self.processes = {}

    def start(self, name):
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-c", AGENT, self.url, name],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def kill(self, name):
        process = self.processes.pop(name)
        process.kill()
        process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for name in tuple(self.processes):
            self.kill(name)


class Requests(threading.Thread):
    """Sends numbered requests, one after the other, and keeps them all."""

    def __init__(self, dispatcher):
        super().__init__(daemon=True)
        self.dispatcher = dispatcher
        self.sent = []
        self.enough = False
        self._whole = threading.Condition()

    def run(self):
        while not self.enough:
            request = self.dispatcher.send_request("t", len(self.sent), ttl=1000)
            request.wait()
            with self._whole:
                self.sent.append(request)
                self._whole.notify_all()

    def wait_whole(self):
        """Wait for a request, sent from now on, that all three have answered."""
        with self._whole:
            begin = len(self.sent) + 1
            assert self._whole.wait_for(
                lambda: any(len(request.values) == len(NAMES) for request in self.sent[begin:]),
                BOUND,
            ), [request.outcomes for request in self.sent[-2:]]

    def wait_broken(self):
        """Wait for a request, sent from now on, that somebody has not answered."""
        with self._whole:
            begin = len(self.sent) + 1
            assert self._whole.wait_for(
                lambda: any(len(request.values) < len(NAMES) for request in self.sent[begin:]),
                BOUND,
            )


@pytest.mark.parametrize(
    "name", [name for name in ("mqtt", "nats", "redis", "amqp") if name in drivers_at_hand()]
)
def test_a_station_recovers_by_itself(name):
    """Chaos: agent killed, broker restarted, network cut: one outcome a producer, every time."""
    needed(BROKERS[name])
    with BROKERS[name]() as broker, Proxy(broker.port) as proxy:
        near = broker.url.replace(str(broker.port), str(proxy.port)) + "?timeout=1"
        expect = {"t": NAMES}
        with Agents(broker.url) as agents, ATEDispatcher() as dispatcher, Bridge(
            dispatcher, near, expect=expect
        ) as bridge:
            for agent in NAMES:
                agents.start(agent)
            assert bridge.wait_for(*NAMES, timeout=BOUND)
            requests = Requests(dispatcher)
            requests.start()
            requests.wait_whole()

            agents.kill("a0")
            requests.wait_broken()
            agents.start("a0")
            requests.wait_whole()

            broker.kill()
            requests.wait_broken()
            broker.restart()
            requests.wait_whole()

            proxy.cut()
            requests.wait_broken()
            proxy.restore()
            requests.wait_whole()

            requests.enough = True
            requests.join(BOUND)
        assert not requests.is_alive()
    for number, request in enumerate(requests.sent):
        assert request.status in (RequestStatus.COMPLETE, RequestStatus.EXPIRED)
        assert request.roster == NAMES
        assert tuple(outcome.producer for outcome in request.outcomes) == NAMES
        assert all(value == number for value in request.values.values())
