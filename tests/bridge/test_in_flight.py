"""What is in flight when hosts, agents and bridges come, go and fail: each forced step by step."""

from __future__ import annotations

import threading
from math import inf
from time import monotonic

from ate_dispatcher import OutcomeStatus, Producer, RequestStatus, current_request
from ate_dispatcher._listener import FunctionListener
from ate_dispatcher.bridge import AgentHost, Bridge, _host
from ate_dispatcher.bridge._remote import RemoteListener
from ate_dispatcher.testing import ScriptedProducer

BOUND = 60
NEVER = 3600  # a heartbeat in seconds: what waits for one waits too long


class Patient(Producer):
    """Works until it is called off."""

    def __init__(self, **options):
        super().__init__(**options)
        self.running, self.woken = threading.Event(), threading.Event()

    def produce_dispatcher_output(self, topic):
        self.running.set()
        current_request().sleep(NEVER)
        self.woken.set()


def test_a_stream_with_a_value_that_is_no_json_ends(dispatcher, host, bridge):
    """C14: its row is an ERROR here, so the generator over there is closed, deadline or not."""
    closed = threading.Event()

    class Endless(Producer):
        def produce_dispatcher_output(self, topic):
            try:
                yield 1
                while True:
                    yield {2}
                    current_request().sleep(0.001)
            finally:
                closed.set()

    host.add(Endless(name="endless"), "t")
    assert bridge.wait_for("endless", timeout=BOUND)
    request = dispatcher.send_request("t", ttl=inf).gather(BOUND)
    assert [outcome.status for outcome in request.outcomes][-1] is OutcomeStatus.ERROR
    assert closed.wait(BOUND)


def test_an_agent_added_again_keeps_its_topics(dispatcher, host, bridge):
    """Hosts: as in a dispatcher, a second `add` adds topics to those of the first."""
    agent = host.add(ScriptedProducer(1, 2, 3, name="dmm0"), "a")
    host.add(agent, "b")
    host.add(ScriptedProducer(4, name="last"), "c")
    assert bridge.wait_for("dmm0", "last", timeout=BOUND)
    assert dispatcher.send_request("a").gather(BOUND).values == {"dmm0": 1}
    assert dispatcher.send_request("b").gather(BOUND).values == {"dmm0": 2}


def test_a_host_lets_go_of_what_ended_quickly(dispatcher, host, bridge):
    """C12: a request that ends before its sender has its handle is not kept over there."""
    host.add(ScriptedProducer(1, 2, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    with_options = host._dispatcher.with_options

    class Slow:
        """A view whose `send_request` returns when all is over."""

        def __init__(self, **options):
            self.view = with_options(**options)

        def send_request(self, *args, **kwargs):
            request = self.view.send_request(*args, **kwargs)
            assert request.wait(BOUND, delivered=True)
            return request

    host._dispatcher.with_options = Slow
    dispatcher.send_request("t").gather(BOUND)
    dispatcher.send_request("t").gather(BOUND)
    first = next(iter(host._jobs.values()))
    assert first.request is None


def test_a_host_forgets_nothing_that_it_is_working_on(
    dispatcher, host, bridge, stranger, monkeypatch
):
    """C13: however many requests came after it, one that runs can be called off."""
    monkeypatch.setattr(_host, "HEARD", 3)
    patient = host.add(Patient(name="patient"), "long")
    host.add(ScriptedProducer(*range(20), name="quick"), "short")
    assert bridge.wait_for("patient", "quick", timeout=BOUND)
    request = dispatcher.send_request("long", ttl=inf)
    assert patient.running.wait(BOUND)
    for number in range(20):
        assert dispatcher.send_request("short").gather(BOUND).values == {"quick": number}
    assert len(host._jobs) <= 5
    request.cancel()
    assert patient.woken.wait(BOUND)


def test_what_expired_on_the_way_never_starts(dispatcher, host, bridge, gate):
    """C4: not even if the bus was away and took the request after its deadline."""
    hook = host.add(ScriptedProducer("stale", "last", name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    publish = bridge._bus.publish

    def held_up(data, topic):
        if data["kind"] == "cancel":
            return  # lost: it could have come in time
        if data.get("args") == ("stale",):
            gate.park()
        publish(data, topic)

    bridge._bus.publish = held_up
    stale = dispatcher.send_request("t", "stale", ttl=50)
    gate.wait_parked()
    assert stale.gather(BOUND).status is RequestStatus.EXPIRED
    gate.open()
    assert dispatcher.send_request("t", "last").gather(BOUND).status is RequestStatus.COMPLETE
    assert [args for _, args, _ in hook.calls] == [("last",)]


def test_closing_a_bridge_calls_off_what_it_asked_for(dispatcher, host, url):
    """Life: its rows are REJECTED here, so the work over there is told that nobody wants it."""
    patient = host.add(Patient(name="patient"), "t")
    with Bridge(dispatcher, url, name="bridge") as bridge:
        assert bridge.wait_for("patient", timeout=BOUND)
        request = dispatcher.send_request("t", ttl=inf)
        assert patient.running.wait(BOUND)
    (row,) = request.gather(BOUND).failed
    assert (row.status, row.reason) == (OutcomeStatus.REJECTED, "bridge was closed")
    assert patient.woken.wait(BOUND)


def test_hosts_are_watched_after_the_dispatcher_stopped(dispatcher, url, stranger):
    """Loss: an expected agent with other topics than expected is lost like any other."""
    with Bridge(dispatcher, url, expect={"t": ["dmm0"]}) as bridge:
        host = AgentHost(url, heartbeat=NEVER)
        host.add(ScriptedProducer(1, name="dmm0"), "u")
        host.start()
        assert bridge.wait_for("dmm0", timeout=BOUND)
        assert dispatcher.send_request("u").gather(BOUND).values == {"dmm0": 1}
        dispatcher.stop()
        bridge._hosts[host._id].seen = -inf  # three heartbeats have not come
        with bridge._lock:
            bridge._lock.notify_all()
            limit = monotonic() + BOUND
            while bridge._present["dmm0"].host and monotonic() < limit:
                bridge._lock.wait(0.01)  # nobody says that this has happened
            assert not bridge._present["dmm0"].host
        assert bridge._watch.is_alive()
        assert bridge.agents == {}
        host.stop()


def test_a_callback_may_wait_for_the_same_remote_producer(dispatcher, host, bridge, gate):
    """C2: its row is let go by the end of the request, whatever the users' callbacks do."""
    running, answered = threading.Event(), threading.Event()

    def called_off(topic):
        running.set()
        current_request().sleep(NEVER)

    host.add(ScriptedProducer(lambda topic: gate.park(), called_off, 2, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    dispatcher.send_request("t", ttl=inf)
    request = dispatcher.send_request("t", ttl=inf)  # begins when its callback is registered
    values = []

    def again(request):
        try:
            values.append(dispatcher.send_request("t", ttl=inf).gather(BOUND).values)
        finally:
            answered.set()

    request.add_done_callback(again)
    gate.open()
    assert running.wait(BOUND)
    request.cancel()
    assert answered.wait(BOUND)
    assert values == [{"dmm0": 2}]


def test_a_ttl_that_no_clock_knows(host, bridge, stranger, dispatcher):
    """Bad input: counted as a stranger's, not raised."""
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    request = {"v": 1, "kind": "request", "id": "1", "reply": "ab", "agent": "dmm0", "topic": "t"}
    stranger.publish(
        {**request, "args": [], "kwargs": {}, "ttl": 10**400, "until": None}, f"ate.host.{host._id}"
    )
    stranger.publish(
        {**request, "id": "2", "agent": "", "args": [], "kwargs": {}, "ttl": 9, "until": None},
        f"ate.host.{host._id}",
    )
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}
    assert host.strangers == 2


def test_a_lost_host_is_told_what_nobody_waits_for(dispatcher, host, bridge):
    """Loss: if it still hears, as when only its heartbeats were held up, it ends the work."""
    patient = host.add(Patient(name="patient"), "t")
    assert bridge.wait_for("patient", timeout=BOUND)
    request = dispatcher.send_request("t", ttl=inf)
    assert patient.running.wait(BOUND)
    with bridge._lock:
        bridge._hosts[host._id].seen = -inf  # three heartbeats have not come
        bridge._lock.notify_all()
    (row,) = request.gather(BOUND).failed
    assert row.status is OutcomeStatus.REJECTED
    assert patient.woken.wait(BOUND)


def test_a_request_sent_while_its_host_is_lost_is_called_off(dispatcher, host, bridge, gate):
    """Loss: one that was about to be sent arrives behind what calls it off, so it is said again."""
    patient = host.add(Patient(name="patient"), "t")
    assert bridge.wait_for("patient", timeout=BOUND)
    publish, called_off = bridge._bus.publish, threading.Event()

    def held_up(data, topic):
        if data["kind"] == "request":
            gate.park()
        elif data["kind"] == "cancel" and called_off.is_set():
            assert patient.running.wait(BOUND)
        publish(data, topic)
        if data["kind"] == "cancel":
            called_off.set()

    bridge._bus.publish = held_up
    request = dispatcher.send_request("t", ttl=inf)
    gate.wait_parked()
    with bridge._lock:
        bridge._hosts[host._id].seen = -inf  # three heartbeats have not come
        bridge._lock.notify_all()
    assert called_off.wait(BOUND)
    gate.open()
    (row,) = request.gather(BOUND).failed
    assert row.status is OutcomeStatus.REJECTED
    assert patient.woken.wait(BOUND)


def test_a_listener_of_a_name_that_is_a_producer_s(dispatcher, host, url, caplog):
    """Bad input: it is refused where a producer is expected, so that no row waits for it."""
    with Bridge(dispatcher, url, expect={"t": ["dmm0"]}) as bridge:
        told, refuse = threading.Event(), bridge._refuse
        bridge._refuse = lambda *arguments: (refuse(*arguments), told.set())
        host.add(FunctionListener(print, name="dmm0"), "t")
        assert told.wait(BOUND)
        assert "agent 'dmm0' of host 'rack2' is refused: it is expected to be a producer" in (
            caplog.text
        )
        assert bridge.agents == {}
        (row,) = dispatcher.send_request("t").gather(BOUND).failed
        assert row.reason == "'dmm0' has not announced itself yet"


def test_a_listener_takes_a_producer_s_place(dispatcher, bridge, stranger):
    """Discovery: an agent that failed may be followed by one of its name and of another kind."""

    def announce(kind):
        agent = {"name": "a", "kind": kind, "site": None, "topics": ["t"], "filters": []}
        said = {"v": 1, "kind": "agents", "host": "rack3", "id": "ab", "every": NEVER, "now": 0}
        stranger.publish({**said, "agents": [agent]}, "ate.agents")

    announce("producer")
    assert bridge.wait_for("a", timeout=BOUND)
    announce("listener")
    pause = threading.Event()
    for _ in range(BOUND * 100):  # there is room for it as soon as the producer's row is gone
        if isinstance(dispatcher.agents.get("a"), RemoteListener):
            break
        announce("listener")
        pause.wait(0.01)
    assert isinstance(dispatcher.agents["a"], RemoteListener)
