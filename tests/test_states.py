"""How agents stand, for whoever asks and for observers; sites that are passed over."""

from __future__ import annotations

import threading
import timeit
from queue import SimpleQueue

import pytest

from ate_dispatcher import (
    AgentState,
    ATEDispatcher,
    InvalidTypeError,
    NameTakenError,
    Observer,
    OutcomeStatus,
    Producer,
    RequestStatus,
    StateError,
    TopicFilter,
)
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
LONG = 60_000  # a TTL in milliseconds that no test reaches


class States(Observer):
    def __init__(self):
        self.queue = SimpleQueue()

    def on_agent(self, name, state):
        self.queue.put((name, state))

    def next(self):
        return self.queue.get(timeout=BOUND)


class Gated(Producer):
    """Parks in ``on_start``."""

    def __init__(self, gate, **options):
        super().__init__(**options)
        self.gate = gate
        self.state = "the user's own"

    def on_start(self):
        self.gate.park()

    def produce_dispatcher_output(self, topic, what=None):
        if isinstance(what, Gate):
            what.park()
        elif what is not None:
            raise what


def test_the_states_of_a_life(dispatcher):
    """New, starting, ready, busy: read off when somebody asks."""
    start, work = Gate(), Gate()
    with start, work:
        agent = Gated(start, name="dmm")
        dispatcher.register_result_producer(agent, "t")
        assert dispatcher.states() == {"dmm": AgentState.NEW}
        agent.start()
        start.wait_parked(1)
        assert dispatcher.states() == {"dmm": AgentState.STARTING}
        start.open()
        dispatcher.send_request("t", ttl=LONG).gather(BOUND)
        request = dispatcher.send_request("t", work, ttl=LONG)
        work.wait_parked(1)
        assert dispatcher.states() == {"dmm": AgentState.BUSY}
        work.open()
        request.gather(BOUND)
    assert dispatcher.remove(agent, wait=True, timeout=BOUND)
    agent.join(BOUND)
    assert (dispatcher.states(), agent._ate_state()) == ({}, AgentState.STOPPED)
    assert agent.state == "the user's own"  # C11


@pytest.mark.parametrize("last", [AgentState.FAILED, AgentState.STOPPED])
def test_observers_are_told_of_each_change(dispatcher, last):
    """In order; of listeners as of producers; what happens request by request is not told."""
    observer = States()
    dispatcher.add_observer(observer)
    agent = dispatcher.add(ScriptedProducer(1, SystemExit, name="dmm"), "t")
    dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    if last is AgentState.FAILED:
        dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    else:
        agent.stop()
    told = [observer.next() for _ in range(3)]
    assert told == [("dmm", s) for s in (AgentState.STARTING, AgentState.READY, last)]
    dispatcher.add(RecordingListener(name="log"), "t")
    assert observer.next() == ("log", AgentState.STARTING)


def test_observers_hear_of_agents_that_start_before_the_dispatcher():
    """They are told as soon as they were added."""
    dispatcher, observer = ATEDispatcher(), States()
    dispatcher.add_observer(observer)
    dispatcher.add(ScriptedProducer(name="dmm"), "t")
    assert observer.next() == ("dmm", AgentState.STARTING)
    dispatcher.stop()


def test_a_name_is_free_as_soon_as_its_agent_has_ended(dispatcher):
    """Whoever takes its place can have its name, and gets what is sent from then on."""
    for number in range(20):
        agent = dispatcher.add(ScriptedProducer(number, SystemExit, name="dmm"), "t")
        request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
        assert request.values == {"dmm": number}
        dispatcher.send_request("t", ttl=LONG).gather(BOUND)
        agent.join(BOUND)
    with pytest.raises(StateError, match="failed"):
        dispatcher.add(agent, "t")


def test_what_is_abandoned_is_gone_for_everybody(dispatcher, gate):
    """C5: what it works on and what waits are REJECTED with the reason; fences pass; name free."""
    observer = States()
    dispatcher.add_observer(observer)
    agent = dispatcher.add(ScriptedProducer(gate, name="dmm"), "t", "u")
    requests = [dispatcher.send_request("t", ttl=LONG) for _ in range(3)]
    gate.wait_parked(1)
    with pytest.raises(NameTakenError):
        dispatcher.add(ScriptedProducer(name="dmm"), "t")
    waits = threading.Thread(
        target=dispatcher.deregister_result_producer, args=(agent, "u"), kwargs={"wait": True}
    )
    waits.start()
    agent._ate_abandon("hangs")
    for request in requests:
        (outcome,) = request.gather(BOUND).outcomes
        assert (outcome.status, outcome.reason) == (OutcomeStatus.REJECTED, "'dmm' hangs")
    waits.join(BOUND)
    assert not waits.is_alive()
    dispatcher.add(ScriptedProducer(5, name="dmm"), "t")
    assert dispatcher.send_request("t", ttl=LONG).gather(BOUND).values == {"dmm": 5}
    gate.open()
    agent.join(BOUND)
    assert not agent.is_alive()
    assert dispatcher.states() == {"dmm": AgentState.READY}
    dispatcher.add(RecordingListener(name="log"), "t")
    told = [state for name, state in iter(observer.next, ("log", AgentState.STARTING))]
    begun = [AgentState.STARTING, AgentState.READY]
    assert told == [*begun, AgentState.STALLED, *begun]  # and nothing of its end, under that name


def test_what_is_abandoned_does_not_hold_up_a_stop(gate):
    """C9: it is reported with where it stands, and not waited for."""
    with ATEDispatcher(grace=BOUND) as dispatcher:
        agent = dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
        request = dispatcher.send_request("t", ttl=LONG)
        gate.wait_parked(1)
        agent._ate_abandon("hangs")
        request.gather(BOUND)
        begun = timeit.default_timer()
        report = dispatcher.stop()
        assert [straggler.name for straggler in report.alive] == ["dmm"]
        assert timeit.default_timer() - begun < BOUND / 2


# ---- sites ---------------------------------------------------------------------------------------


@pytest.fixture
def sites(dispatcher):
    for site in (0, 1, "left"):
        dispatcher.add(ScriptedProducer(site, name=f"dmm{site}", site=site), "t")
    dispatcher.add(ScriptedProducer("bus", name="bus"), TopicFilter("#"))
    return dispatcher


def roster(dispatcher, **options):
    view = dispatcher.with_options(**options) if options else dispatcher
    return view.send_request("t", ttl=LONG).gather(BOUND).roster


def test_a_disabled_site_is_passed_over_until_it_is_enabled(sites):
    """From the next request on, in the caller's own order."""
    everybody = ("dmm0", "dmm1", "dmmleft", "bus")
    assert roster(sites) == everybody
    sites.disable_site(1)
    assert roster(sites) == ("dmm0", "dmmleft", "bus")
    sites.disable_site("left")
    assert roster(sites) == ("dmm0", "bus")
    sites.disable_site("left")
    sites.enable_site(1)
    sites.enable_site(1)
    assert roster(sites) == ("dmm0", "dmm1", "bus")
    sites.enable_site("left")
    assert roster(sites) == everybody


def test_what_a_disabled_site_has_goes_on(sites, gate):
    """Disabling is no cancel."""
    sites.add(ScriptedProducer(gate, name="slow", site=2), "slow")
    request = sites.send_request("slow", ttl=LONG)
    gate.wait_parked(1)
    sites.disable_site(2)
    assert sites.send_request("slow", ttl=LONG).gather(BOUND).roster == ("bus",)
    gate.open()
    assert request.gather(BOUND).status is RequestStatus.COMPLETE


def test_a_request_for_disabled_sites_alone_says_so(sites):
    """NO_PRODUCERS, with the reason."""
    sites.disable_site(1)
    request = sites.with_options(sites=[1]).send_request("t", ttl=LONG).gather(BOUND)
    assert request.status is RequestStatus.NO_PRODUCERS
    assert "with sites=1" in request.reason
    assert request.reason.endswith("(disabled sites: 1)")


@pytest.mark.parametrize("site", [None, True, 1.5, ["0"]])
def test_what_is_no_site_is_refused(dispatcher, site):
    """With the value."""
    with pytest.raises(InvalidTypeError, match="a site must be a number or a string"):
        dispatcher.disable_site(site)
    with pytest.raises(InvalidTypeError, match="a site must be a number or a string"):
        dispatcher.enable_site(site)


@pytest.mark.parametrize("way", ["remove", "stop"])
def test_observers_are_told_that_an_agent_was_stopped(way):
    """By its removal, or with its dispatcher; on the thread that tells everything else."""
    threads = set()

    class Threads(States):
        def on_agent(self, name, state):
            threads.add(threading.get_ident())
            super().on_agent(name, state)

    observer = Threads()
    with ATEDispatcher() as dispatcher:
        dispatcher.add_observer(observer)
        agents = [dispatcher.add(ScriptedProducer(name=f"dmm{n}"), "t") for n in range(4)]
        agents.append(dispatcher.add(RecordingListener(name="log"), "t"))
        if way == "remove":
            for agent in agents:
                assert dispatcher.remove(agent, wait=True, timeout=BOUND)
    told = [observer.queue.get_nowait() for _ in range(3 * len(agents))]
    assert observer.queue.empty()
    for agent in agents:
        states = [state for name, state in told if name == agent.name]
        assert states == [AgentState.STARTING, AgentState.READY, AgentState.STOPPED]
        assert agent._ate_hearers == {}
    assert len(threads) == 1


def test_an_agent_of_two_dispatchers_forgets_the_one_that_stopped(dispatcher):
    """What a dispatcher had of it is not kept by an agent that another has, too."""
    agent = RecordingListener(name="log")
    with ATEDispatcher() as other:
        other.add(agent, "t")
        dispatcher.add(agent, "t")
    assert list(agent._ate_hearers) == [dispatcher._home]
