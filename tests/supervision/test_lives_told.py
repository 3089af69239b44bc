"""What statistics and the report of a stop tell of supervised producers."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from ate_dispatcher import AgentState, Observer
from ate_dispatcher._backoff import Backoff
from ate_dispatcher._producer import FunctionProducer
from ate_dispatcher._resources import RESOURCES
from ate_dispatcher.supervision import Restart, Supervisor
from ate_dispatcher.testing import ScriptedProducer

BOUND = 30  # seconds that anything may take before a test gives up on it
AT_ONCE = Restart(backoff=Backoff(0.001, 0.001))


class States(Observer):
    """Lets a test wait for a state."""

    def __init__(self):
        self._told = SimpleQueue()

    def on_agent(self, name, state):
        self._told.put(state)

    def until(self, state):
        while self._told.get(timeout=BOUND) is not state:
            pass


@pytest.fixture
def states(dispatcher):
    observer = States()
    dispatcher.add_observer(observer)
    return observer


def test_statistics_count_the_restarts(dispatcher, states):
    """Of the producer with that name; one that nobody supervises has none."""
    dispatcher.add(ScriptedProducer(1, name="alone"), "other")
    states.until(AgentState.READY)
    scripts = [SystemExit(), SystemExit(), 5]
    with Supervisor(dispatcher) as supervisor:
        supervisor.run(lambda: ScriptedProducer(scripts.pop(0), name="dmm"), "t", restart=AT_ONCE)
        for restarts in range(3):
            states.until(AgentState.READY)
            counted = dispatcher.statistics().producers
            assert (counted["dmm"].restarts, counted["alone"].restarts) == (restarts, 0)
            dispatcher.send_request("t", ttl=60_000).gather(BOUND)


def hang_here(gate):
    gate.park()


@pytest.fixture
def stalled(timed, clock, gate):
    """A producer that was given up and hangs at the gate; another has its name."""
    states = States()
    timed.add_observer(states)
    scripts = [lambda *_: hang_here(gate), 5]
    with Supervisor(timed) as supervisor:
        ward = supervisor.run(
            lambda: ScriptedProducer(scripts.pop(0), name="dmm"),
            "t",
            restart=Restart(backoff=Backoff(1.0, 1.0, jitter=0)),
            stall_after=5.0,
        )
        states.until(AgentState.READY)
        hanging = ward.producer
        request = timed.send_request("t", ttl=60_000_000)
        gate.wait_parked(1)
        settled(supervisor)
        clock.advance(6.0)
        request.gather(BOUND)
        states.until(AgentState.STALLED)
        settled(supervisor)
        clock.advance(1.0)
        states.until(AgentState.READY)
        yield hanging
        gate.open()
        hanging.join(BOUND)


def settled(supervisor):
    """Wait until the supervisor has handled everything so far."""
    fence = threading.Event()
    supervisor._mailbox.put(fence.set)
    assert fence.wait(BOUND)


def test_a_producer_that_was_given_up_hands_on_its_resources(timed, clock, gate):
    """Else whoever takes its place could do no work; nothing happens should it come back."""
    states = States()
    timed.add_observer(states)
    with Supervisor(timed) as supervisor:
        ward = supervisor.run(
            lambda: FunctionProducer(hang_or(gate), name="dmm", resources=("GPIB0",)),
            "t",
            restart=Restart(backoff=Backoff(1.0, 1.0, jitter=0)),
            stall_after=5.0,
        )
        states.until(AgentState.READY)
        hanging = ward.producer
        request = timed.send_request("t", "hang", ttl=60_000_000)
        gate.wait_parked(1)
        settled(supervisor)
        clock.advance(6.0)
        request.gather(BOUND)
        settled(supervisor)
        clock.advance(1.0)
        states.until(AgentState.STALLED)
        states.until(AgentState.READY)
        assert timed.send_request("t", 5, ttl=60_000_000).gather(BOUND).values == {"dmm": 5}
        assert hanging.is_alive()
        gate.open()
        hanging.join(BOUND)
        assert timed.send_request("t", 6, ttl=60_000_000).gather(BOUND).values == {"dmm": 6}
    assert (RESOURCES._holders, RESOURCES._lines) == ({}, {})


def hang_or(gate):
    def work(topic, what):
        if what == "hang":
            gate.park()
        return what

    return work


@pytest.mark.usefixtures("stalled")
def test_a_thread_that_was_given_up_and_hangs_is_in_the_report(timed):
    """By name and with where it stands; its successor has ended well."""
    report = timed.stop()
    (straggler,) = report.alive
    assert straggler.name == "dmm"
    assert ".py:" in straggler.where
    assert not report.clean


def test_a_thread_that_was_given_up_and_came_back_is_not(timed, stalled, gate):
    """What hangs no more is no news."""
    gate.open()
    stalled.join(BOUND)
    assert timed.stop().alive == ()
