"""Producers and listeners elsewhere, as rows of the roster: the bridge over a bus in memory."""

from __future__ import annotations

import logging
import re
import threading
from types import SimpleNamespace

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    BusConnectionError,
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    NotJSONError,
    OutcomeStatus,
    Producer,
    RemoteError,
    RequestStatus,
    ResultListener,
    StateError,
    TopicFilter,
    WorkRejectedError,
    current_request,
)
from ate_dispatcher.bridge import AgentHost, Bridge, _bridge, _host
from ate_dispatcher.bridge._remote import RemoteListener, RemoteProducer
from ate_dispatcher.testing import ScriptedProducer

BOUND = 60
QUICK = 0.02  # a heartbeat in seconds: what waits for one waits little
NEVER = 3600  # a heartbeat in seconds: no pause of this machine makes a host look lost

OK, ERROR = OutcomeStatus.OK, OutcomeStatus.ERROR


# ---- discovery -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["host", "bridge"])
def test_whoever_comes_first_they_meet(dispatcher, url, first):
    """Discovery: a bridge asks who is there, a host says so by itself."""

    def make_host():
        host = AgentHost(url, heartbeat=60)
        host.add(ScriptedProducer(5.0, name="dmm0"), "dc.voltage")
        host.start()
        return host

    host = make_host() if first == "host" else None
    with Bridge(dispatcher, url) as bridge:
        host = host or make_host()
        assert bridge.wait_for("dmm0", timeout=BOUND)
        request = dispatcher.send_request("dc.voltage").gather(BOUND)
        assert request.values == {"dmm0": 5.0}
        assert request.roster == ("dmm0",)
        host.stop()


def test_remote_and_local_rows_side_by_side(dispatcher, host, bridge):
    """Bridge: a remote producer is a row like any other, with its site."""
    dispatcher.add(ScriptedProducer("here", name="local", site=0), "t")
    host.add(ScriptedProducer("there", name="remote", site=1), "t")
    assert bridge.wait_for("remote", timeout=BOUND)
    assert bridge.agents == {"remote": "rack2"}
    request = dispatcher.send_request("t").gather(BOUND)
    assert request.values == {"local": "here", "remote": "there"}
    assert set(request.by_site()) == {0, 1}
    only = dispatcher.with_options(sites=[1]).send_request("t")
    assert only.gather(BOUND).roster == ("remote",)


def test_filters_are_registered_as_filters(dispatcher, host, bridge):
    """Bridge: a `TopicFilter` over there matches the topics over here."""
    host.add(ScriptedProducer(lambda topic: topic, name="any"), TopicFilter("site.*.v"))
    assert bridge.wait_for("any", timeout=BOUND)
    assert dispatcher.send_request("site.3.v").gather(BOUND).values == {"any": "site.3.v"}
    assert dispatcher.send_request("site.3.a").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_arguments_and_results_are_json(dispatcher, host, bridge):
    """Bridge: args and kwargs arrive, whatever their names; tuples arrive as lists."""

    class Echo(Producer):
        def produce_dispatcher_output(self, /, topic, *args, **kwargs):
            return [topic, args, kwargs]

    host.add(Echo(name="echo"), "t")
    assert bridge.wait_for("echo", timeout=BOUND)
    request = dispatcher.send_request("t", 1, (2, None), self="s", id=0, uuid="u", reply="r")
    assert request.gather(BOUND).values == {
        "echo": ["t", [1, [2, None]], {"self": "s", "id": 0, "uuid": "u", "reply": "r"}]
    }


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_falsy_results_are_results(dispatcher, host, bridge, value):
    """Bridge: what is falsy arrives as it was."""
    host.add(ScriptedProducer(value, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": value}


# ---- what goes wrong -----------------------------------------------------------------------------


def test_an_exception_over_there_is_an_error_here(dispatcher, host, bridge):
    """Bridge: an ERROR outcome has type and text of the exception."""
    host.add(ScriptedProducer(ValueError("no signal"), 2, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    (failed,) = dispatcher.send_request("t").gather(BOUND).failed
    assert failed.status is ERROR
    assert failed.reason == "ValueError: no signal"
    assert isinstance(failed.exception, RemoteError)
    assert (failed.exception.type_name, failed.exception.text) == ("ValueError", "no signal")
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 2}


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, {2}), {}, r"args\[1\] is of type set"),
        ((), {"limits": {"low": float("nan")}}, r"kwargs\['limits'\]\['low'\]"),
        (({"a": [1, {3: 4}]},), {}, r"args\[0\]\['a'\]\[1\] has a key of type int"),
    ],
)
def test_arguments_that_are_no_json(dispatcher, host, bridge, args, kwargs, path):
    """Bad input: told at the sender, with the path to the value; nothing is sent."""
    hook = host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    (failed,) = dispatcher.send_request("t", *args, **kwargs).gather(BOUND).failed
    assert isinstance(failed.exception, NotJSONError)
    assert re.search(path, failed.reason)
    assert hook.calls == []


def test_a_result_that_is_no_json(dispatcher, host, bridge):
    """Bad input: an ERROR that names the path, and the agent goes on."""
    host.add(ScriptedProducer({"v": {1}}, 2, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    (failed,) = dispatcher.send_request("t").gather(BOUND).failed
    assert "NotJSONError" in failed.reason
    assert "['v'] is of type set" in failed.reason
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 2}


def test_a_producer_may_reject(dispatcher, host, bridge):
    """Bridge: WorkRejectedError over there, or here, is a REJECTED outcome with its text."""
    host.add(ScriptedProducer(WorkRejectedError("calibrating"), name="dmm0"), "t")
    dispatcher.add(ScriptedProducer(WorkRejectedError("busy"), name="local"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    failed = dispatcher.send_request("t").gather(BOUND).failed
    assert {(o.producer, o.status, o.reason) for o in failed} == {
        ("dmm0", OutcomeStatus.REJECTED, "calibrating"),
        ("local", OutcomeStatus.REJECTED, "busy"),
    }


# ---- deadlines, cancelling, streams --------------------------------------------------------------


def test_the_remaining_time_goes_along(dispatcher, host, bridge):
    """Bridge: the work over there sees the same deadline, less what has passed."""
    host.add(
        ScriptedProducer(lambda topic: min(current_request().remaining(), 1e9), name="dmm0"), "t"
    )
    assert bridge.wait_for("dmm0", timeout=BOUND)
    (left,) = dispatcher.send_request("t", ttl=60_000).gather(BOUND).values.values()
    assert 0 < left <= 60
    (left,) = dispatcher.send_request("t", ttl=float("inf")).gather(BOUND).values.values()
    assert left == 1e9  # there is none


@pytest.mark.parametrize("way", ["cancel", "deadline"])
def test_calling_off_reaches_the_other_side(dispatcher, host, bridge, way):
    """C13: cancel and deadline wake work that runs over there."""
    woken = threading.Event()
    running = threading.Event()

    class Patient(Producer):
        def produce_dispatcher_output(self, topic):
            running.set()
            current_request().sleep(60)
            woken.set()

    host.add(Patient(name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    request = dispatcher.send_request("t", ttl=100 if way == "deadline" else 60_000)
    assert running.wait(BOUND)
    if way == "cancel":
        request.cancel()
    request.gather(BOUND)
    assert request.status is (RequestStatus.CANCELLED if way == "cancel" else RequestStatus.EXPIRED)
    assert woken.wait(BOUND)


def test_what_expired_in_the_queue_is_never_sent(dispatcher, host, bridge, gate):
    """C4: a backlog for a remote producer sends nothing stale."""
    hook = host.add(ScriptedProducer(gate, 2, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    first = dispatcher.send_request("t", "first", ttl=60_000)
    gate.wait_parked()
    stale = dispatcher.send_request("t", "stale", ttl=20)
    assert stale.gather(BOUND).status is RequestStatus.EXPIRED
    gate.open()
    first.gather(BOUND)
    dispatcher.send_request("t", "last").gather(BOUND)
    assert [args for _, args, _ in hook.calls] == [("first",), ("last",)]


def test_streams(dispatcher, host, bridge):
    """C14: values of a generator over there are partial outcomes here, as they come."""

    class Sweep(Producer):
        def produce_dispatcher_output(self, topic, count):
            yield from range(count)
            return "done"

    host.add(Sweep(name="sweep"), "t")
    assert bridge.wait_for("sweep", timeout=BOUND)
    request = dispatcher.send_request("t", 3)
    assert [(o.status, o.value) for o in request] == [
        (OutcomeStatus.PARTIAL, 0),
        (OutcomeStatus.PARTIAL, 1),
        (OutcomeStatus.PARTIAL, 2),
        (OK, "done"),
    ]


def test_a_cancelled_stream_is_closed_over_there(dispatcher, host, bridge):
    """C14: nobody wants it any more, so the generator is closed."""
    closed = threading.Event()

    class Endless(Producer):
        def produce_dispatcher_output(self, topic):
            try:
                while True:
                    yield 1
                    current_request().sleep(0.001)
            finally:
                closed.set()

    host.add(Endless(name="endless"), "t")
    assert bridge.wait_for("endless", timeout=BOUND)
    request = dispatcher.send_request("t", ttl=60_000)
    next(iter(request))
    request.cancel()
    assert closed.wait(BOUND)
    assert request.gather(BOUND).status is RequestStatus.CANCELLED


# ---- leaving and loss ----------------------------------------------------------------------------


def test_an_agent_leaves_with_its_host(dispatcher, url, bridge):
    """Leaving: without the host its agents are no rows any more, unless they are expected."""
    with AgentHost(url, heartbeat=60) as host:
        host.add(ScriptedProducer(1, name="dmm0"), "t")
        assert bridge.wait_for("dmm0", timeout=BOUND)
    assert wait_until(lambda: bridge.agents == {})
    assert dispatcher.send_request("t").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_an_expected_agent_keeps_its_row(dispatcher, url):
    """Loss: REJECTED at once, with the reason, before it came and after it was lost."""
    with Bridge(dispatcher, url, expect={"t": ["dmm0"]}) as bridge:
        (row,) = dispatcher.send_request("t").gather(BOUND).failed
        assert (row.producer, row.status) == ("dmm0", OutcomeStatus.REJECTED)
        assert row.reason == "'dmm0' has not announced itself yet"
        with AgentHost(url, name="rack2", heartbeat=60) as host:
            host.add(ScriptedProducer(1, name="dmm0"), "t")
            assert bridge.wait_for("dmm0", timeout=BOUND)
            assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}
        assert wait_until(lambda: bridge.agents == {})
        (row,) = dispatcher.send_request("t").gather(BOUND).failed
        assert row.reason == "'dmm0' has left with host 'rack2'"
        with AgentHost(url, name="rack2", heartbeat=60) as host:
            host.add(ScriptedProducer(2, name="dmm0"), "t")
            assert bridge.wait_for("dmm0", timeout=BOUND)
            assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 2}


def test_a_host_that_falls_silent_is_lost(dispatcher, url, bridge, gate):
    """Loss: without a heartbeat what is in progress ends REJECTED, and says since when."""
    host = AgentHost(url, name="rack2", heartbeat=NEVER)
    host.add(ScriptedProducer(gate, name="dmm0"), "t")
    host.start()
    assert bridge.wait_for("dmm0", timeout=BOUND)
    request = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    publish, host._every, said = host._bus.publish, QUICK, []

    def publish_once(data, topic):
        if not said:
            said.append(data)
            publish(data, topic)

    host._bus.publish = publish_once  # it promises another sign of life soon, and is killed
    host._beat.set()
    (row,) = request.gather(BOUND).failed
    assert row.status is OutcomeStatus.REJECTED
    assert "was lost: host 'rack2' was last heard of " in row.reason
    host._bus.publish = publish  # it was only the network
    assert bridge.wait_for("dmm0", timeout=BOUND)
    gate.open()
    host.stop()


def test_an_agent_that_fails_leaves(dispatcher, host, bridge):
    """Leaving: SystemExit fails that agent alone; the host goes on without it."""
    host.add(ScriptedProducer(SystemExit(), name="weak"), "t")
    host.add(ScriptedProducer(1, 2, name="steady"), "t")
    assert bridge.wait_for("weak", "steady", timeout=BOUND)
    request = dispatcher.send_request("t").gather(BOUND)
    assert request.values == {"steady": 1}
    assert wait_until(lambda: "weak" not in host._dispatcher.agents)
    host._beat.set()
    assert wait_until(lambda: bridge.agents == {"steady": "rack2"})


def wait_until(condition):
    """Poll what has no event to wait for, for so long and no longer."""
    pause = threading.Event()
    for _ in range(BOUND * 100):
        if condition():
            return True
        pause.wait(0.01)
    return False


def test_the_bridge_closes(dispatcher, host, url):
    """Life: a closed bridge takes its rows along; a second one finds them again."""
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    with Bridge(dispatcher, url) as bridge:
        assert bridge.wait_for("dmm0", timeout=BOUND)
    bridge.close()
    assert not bridge.wait_for("dmm0", timeout=0)
    assert dispatcher.send_request("t").gather(BOUND).status is RequestStatus.NO_PRODUCERS
    with Bridge(dispatcher, url) as bridge:
        assert bridge.wait_for("dmm0", timeout=BOUND)
        assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}


def test_a_close_that_is_interrupted_is_done_by_the_next(dispatcher, host, url, monkeypatch):
    """Life: Ctrl-C while it waits, and then once more: no thread or subscription is left."""
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    bridge = Bridge(dispatcher, url)
    assert bridge.wait_for("dmm0", timeout=BOUND)

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bridge._watch, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bridge.close()
    bridge.close()
    assert not bridge._watch.is_alive()
    with pytest.raises(StateError):
        bridge._bus.publish(1, "t")


def test_wait_for_gives_up(bridge):
    """Discovery: waiting for who never comes is bounded."""
    assert not bridge.wait_for("nobody", timeout=0.01)


# ---- names ---------------------------------------------------------------------------------------


def test_two_agents_of_one_name(dispatcher, host, bridge, url, caplog):
    """Bad input: the second is refused, both sides say so, the first works on."""
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    with AgentHost(url, name="rack3", heartbeat=NEVER) as other:
        other.add(ScriptedProducer(2, name="dmm0"), "t")
        other.add(ScriptedProducer(3, name="psu0"), "u")
        assert bridge.wait_for("psu0", timeout=BOUND)
        assert wait_until(lambda: "'rack3': agent 'dmm0' is refused" in caplog.text)
        assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}
    assert "host 'rack2' has an agent 'dmm0' already" in caplog.text


def test_a_remote_agent_with_a_local_name(dispatcher, host, bridge, caplog):
    """Bad input: the dispatcher's own agent keeps its name."""
    dispatcher.add(ScriptedProducer("here", name="dmm0"), "t")
    host.add(ScriptedProducer("there", name="dmm0"), "t")
    assert wait_until(lambda: "agent 'dmm0' is refused" in caplog.text)
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": "here"}


def test_an_expected_name_that_is_taken(dispatcher, url):
    """Bad input: told at once, and nothing is left behind."""
    dispatcher.add(ScriptedProducer(1, name="dmm0"), "t")
    with pytest.raises(NameTakenError, match="'dmm0'"):
        Bridge(dispatcher, url, expect={"t": ["dmm0"]})


# ---- listeners -----------------------------------------------------------------------------------


def test_a_listener_over_there_hears_of_results(dispatcher, host, bridge):
    """Listeners: results arrive with their topic, those of remote producers too."""

    class Log(ResultListener):
        def __init__(self, **options):
            super().__init__(**options)
            self.heard = []
            self.enough = threading.Event()

        def process_dispatcher_result(self, topic, response):
            self.heard.append((topic, response))
            if len(self.heard) == 3:
                self.enough.set()

    log = host.add(Log(name="log"), "t", TopicFilter("u.#"))
    dispatcher.add(ScriptedProducer(1, ValueError("not a result"), 2, name="local"), "t", "u.x")
    host.add(ScriptedProducer(3, name="remote"), "u.y")
    assert bridge.wait_for("log", "remote", timeout=BOUND)
    for topic in ("t", "t", "u.x", "u.y", "v"):
        dispatcher.send_request(topic).gather(BOUND)
    assert log.enough.wait(BOUND)
    assert log.heard == [("t", 1), ("u.x", 2), ("u.y", 3)]


def test_a_listener_over_there_hears_of_outcomes(dispatcher, host, bridge):
    """Listeners: every kind of outcome, with producer, site, tags and reason."""
    log = host.add(RecordingOutcomes(name="log"), "t")
    dispatcher.add(ScriptedProducer(1, ValueError("no"), name="dmm0", site=2), "t")
    assert bridge.wait_for("log", timeout=BOUND)
    view = dispatcher.with_options(tags={"lot": "A1"})
    for _ in range(2):
        view.send_request("t").gather(BOUND)
    assert log.enough.wait(BOUND)
    good, bad = log.outcomes
    assert (good.topic, good.producer, good.site, good.value) == ("t", "dmm0", 2, 1)
    assert dict(good.tags) == {"lot": "A1"}
    assert (bad.status, bad.reason, bad.exception.type_name) == (
        ERROR,
        "ValueError: no",
        "ValueError",
    )


class RecordingOutcomes(ResultListener):
    def __init__(self, **options):
        super().__init__(**options)
        self.outcomes = []
        self.enough = threading.Event()

    def process_dispatcher_outcome(self, outcome):
        self.outcomes.append(outcome)
        if len(self.outcomes) == 2:
            self.enough.set()


def test_a_listener_of_ends_stays_at_home(host):
    """Bad input: a request cannot leave its process."""

    class Ends(ResultListener):
        def process_dispatcher_end(self, request):
            raise NotImplementedError

    with pytest.raises(InvalidTypeError, match="process_dispatcher_end"):
        host.add(Ends(), "t")


# ---- strangers -----------------------------------------------------------------------------------

STRANGE = [
    None,
    [],
    "hello",
    {},
    {"v": 2, "kind": "agents"},
    {"v": 1, "kind": "shutdown"},
    {"v": 1, "kind": ["agents"]},
    {"v": 1, "kind": "agents", "host": "x", "id": "0", "every": 1, "now": 0},
    {"v": 1, "kind": "agents", "host": "x", "id": "a.b", "every": 1, "now": 0, "agents": []},
    {"v": 1, "kind": "agents", "host": "x", "id": "0", "every": -1, "now": 0, "agents": []},
    {"v": 1, "kind": "agents", "host": "x", "id": "0", "every": True, "now": 0, "agents": []},
    {"v": 1, "kind": "agents", "host": "x", "id": "0", "every": 1, "now": 0, "agents": [5]},
    {
        "v": 1,
        "kind": "agents",
        "host": "x",
        "id": "0",
        "every": 1,
        "now": 0,
        "agents": [
            {"name": "a", "kind": "producer", "topics": [], "filters": ["#.#"], "site": None}
        ],
    },
    {
        "v": 1,
        "kind": "agents",
        "host": "x",
        "id": "0",
        "every": 1,
        "now": 0,
        "agents": [{"name": "a", "kind": "boss", "topics": ["t"], "filters": [], "site": None}],
    },
    {"v": 1, "kind": "value", "id": 7, "seq": 0},
    {"v": 1, "kind": "value", "id": "x", "seq": "0"},
]


def test_strangers_on_the_bridges_topics(dispatcher, host, bridge, stranger, caplog):
    """Bad input: counted, reported, never fatal."""
    deep = "x"
    for _ in range(400):
        deep = [deep]
    for data in [*STRANGE, {"v": 1, "kind": deep}, "x" * 1_000_000]:
        stranger.publish(data, "ate.agents")
    stranger._driver().publish(("ate", "agents"), b"\xff\xfe")
    stranger._driver().publish(("ate", "agents"), b"[" * 100_000)
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}
    assert bridge.strangers == len(STRANGE) + 2
    assert "none of ours" in caplog.text


def test_strangers_on_a_hosts_topics(dispatcher, host, bridge, stranger):
    """Bad input: a host counts and survives them too."""
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    request = {"v": 1, "kind": "request", "id": "1", "reply": "ab", "agent": "dmm0", "topic": "t"}
    full = {**request, "args": [], "kwargs": {}, "ttl": 1000, "until": None}
    strange = [
        *STRANGE,
        {**full, "args": "x"},
        {**full, "reply": "a.b"},
        {**full, "topic": ""},
        {**full, "kwargs": {"ttl": 1}},
        {**full, "ttl": "soon"},
        {**full, "ttl": 10**400},
        {**full, "until": True},
        {"v": 1, "kind": "event", "agent": "dmm0", "outcome": 3},
    ]
    harmless = [
        {**full, "id": "2", "agent": "nobody"},
        {**full, "id": "3", "ttl": -5},
        {"v": 1, "kind": "cancel", "id": "unknown"},
        {"v": 1, "kind": "event", "agent": "nobody", "outcome": {}},
    ]
    for data in (*strange, *harmless):
        stranger.publish(data, f"ate.host.{host._id}")
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}
    assert host.strangers == len(strange)


def test_answers_to_nothing_are_late(dispatcher, host, bridge, stranger):
    """Bridge: an answer that outlives its request is counted and dropped."""
    stranger.publish(
        {"v": 1, "kind": "value", "id": "gone-1", "seq": 0, "value": 1}, f"ate.bridge.{bridge._id}"
    )
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}
    assert bridge.late == 1


def test_duplicates_are_dropped(dispatcher, host, bridge):
    """Bridge: on a bus that delivers twice, work is done once and values come once."""
    for bus in (host._bus, bridge._bus):
        publish = bus.publish

        def twice(data, topic, publish=publish):
            publish(data, topic)
            publish(data, topic)

        bus.publish = twice

    class Sweep(Producer):
        def produce_dispatcher_output(self, topic):
            yield from (1, 2)
            return 3

    hook = host.add(ScriptedProducer(1, 2, name="dmm0"), "t")
    host.add(Sweep(name="sweep"), "t")
    assert bridge.wait_for("dmm0", "sweep", timeout=BOUND)
    for number in (1, 2):
        request = dispatcher.send_request("t").gather(BOUND)
        assert request.values == {"dmm0": number, "sweep": [1, 2, 3]}
    assert len(hook.calls) == 2


def test_a_stream_with_a_hole_is_an_error(dispatcher, host, bridge):
    """Bridge: a value that a bus has lost is missed; what came stays."""
    publish = host._bus.publish
    host._bus.publish = lambda data, topic: (
        None if data["kind"] == "partial" and data["seq"] == 1 else publish(data, topic)
    )

    class Sweep(Producer):
        def produce_dispatcher_output(self, topic):
            yield from (1, 2, 3)

    host.add(Sweep(name="sweep"), "t")
    assert bridge.wait_for("sweep", timeout=BOUND)
    request = dispatcher.send_request("t").gather(BOUND)
    assert [o.reason for o in request.failed] == [
        "BusError: 1 values of the stream were lost on the bus"
    ]
    assert request.values == {"sweep": [1]}


# ---- life, namespaces, bad input -----------------------------------------------------------------


def test_namespaces_keep_apart(dispatcher, url, bridge):
    """Bridge: stations of different namespaces on one broker do not meet."""
    lab = {"namespace": "lab/two"}
    with ATEDispatcher() as other, Bridge(other, url, **lab) as second, AgentHost(
        url, **lab
    ) as host:
        host.add(ScriptedProducer(1, name="dmm0"), "t")
        assert second.wait_for("dmm0", timeout=BOUND)
        assert other.send_request("t").gather(BOUND).values == {"dmm0": 1}
        assert bridge.agents == {}


@pytest.mark.parametrize("leave", [AgentHost.run, AgentHost.stop])
def test_whoever_stops_a_host_finds_its_agents_stopped(url, gate, leave):
    """Life: also who comes second, while another thread is at it; what they use may be closed."""
    stopped = []

    class Closing(ScriptedProducer):
        def on_stop(self):
            gate.park()
            stopped.append(self.name)

    host = AgentHost(url, name="rack3", heartbeat=NEVER)
    host._dispatcher._grace = BOUND
    host.add(Closing(1, name="dmm"), "t")
    host.start()
    stopper = threading.Thread(target=host.stop)
    stopper.start()
    gate.wait_parked(1)
    stop = host._dispatcher.stop

    def waits(drain):
        gate.open()
        return stop(drain)

    host._dispatcher.stop = waits
    leave(host)
    assert stopped == ["dmm"]
    stopper.join(BOUND)


def test_an_agent_may_stop_its_host(dispatcher, url, bridge, gate):
    """Life: it only begins it; `run` returns when all agents have stopped and are safe."""
    begun, over, order = threading.Event(), threading.Event(), []

    class Closing(Producer):
        def produce_dispatcher_output(self, topic):
            host.stop()
            begun.set()
            gate.park()
            order.append("worked")

        def safe_state(self):
            order.append("safe")

    host = AgentHost(url, name="rack3", heartbeat=NEVER)
    host._dispatcher._grace = BOUND
    host.add(Closing(name="dmm0"), "t")

    def run():
        host.run()
        order.append("run returned")
        over.set()

    stopping = host._dispatcher._over.wait
    host._dispatcher._over.wait = lambda *limit: gate.open() or stopping(*limit)
    threading.Thread(target=run).start()
    assert bridge.wait_for("dmm0", timeout=BOUND)
    dispatcher.send_request("t", ttl=60_000)
    assert begun.wait(BOUND)
    assert over.wait(BOUND)
    assert order == ["worked", "safe", "run returned"]
    assert wait_until(lambda: not bridge.agents)


def test_a_stop_that_a_signal_interrupts(url):
    """Life: a handler that stops the host once more does not wait; after Ctrl-C one waits again."""
    host = AgentHost(url, name="rack3", heartbeat=NEVER)
    host.start()
    stop, calls = host._dispatcher.stop, []

    def interrupted(drain):
        if threading.current_thread() is host._heart:
            return stop(drain)
        calls.append(drain)
        if len(calls) == 1:
            host.stop()  # the handler
            raise KeyboardInterrupt
        return stop(drain)

    host._dispatcher.stop = interrupted
    with pytest.raises(KeyboardInterrupt):
        host.stop()
    assert len(calls) == 1
    host.stop()
    assert len(calls) == 2
    assert not host._heart.is_alive()


def test_a_host_that_cannot_begin_leaves_nothing(url, monkeypatch):
    """Life: where the system has no thread for its heartbeat, the rest of it is stopped again."""
    host = AgentHost(url, name="rack3", heartbeat=NEVER)
    agent = host.add(ScriptedProducer(1, name="dmm0"), "t")

    def refused():
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(host._heart, "start", refused)
    with pytest.raises(RuntimeError, match="can't start"):
        host.start()
    assert not agent.is_alive()
    with pytest.raises(StateError):
        host._bus.publish(1, "t")


def test_a_stop_does_not_wait_long_for_a_broker_that_is_away(host, monkeypatch):
    """Life: the goodbye is given up, by closing the bus, which wakes whoever waits for it."""
    monkeypatch.setattr(_host, "FAREWELL", 0.01)
    closed, close = threading.Event(), host._bus.close

    def close_and_tell():
        close()
        closed.set()

    def publish(data, topic):
        assert closed.wait(BOUND), "nobody gave it up"
        raise BusConnectionError("closed")

    monkeypatch.setattr(host._bus, "publish", publish)
    monkeypatch.setattr(host._bus, "close", close_and_tell)
    stopping = threading.Thread(target=host.stop)
    stopping.start()
    stopping.join(BOUND / 2)
    assert not stopping.is_alive()
    assert not host._heart.is_alive()


def test_a_bridge_that_has_lost_its_broker_calls_nothing_off(host, bridge, dispatcher, gate):
    """Life: closing it would wait for the broker, once for each host with work of ours."""
    host.add(ScriptedProducer(gate, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    request = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    said = []
    bridge._send = lambda host, data: said.append(data)
    bridge._hearing.report_connection(False)
    bridge.close()
    assert request.gather(BOUND).failed[0].status is OutcomeStatus.REJECTED
    assert said == []


def test_the_child_of_a_fork_says_nothing_for_its_parent(dispatcher, host, bridge, monkeypatch):
    """Life: leaving the `with` blocks over there stops neither the agents nor host or bridge."""
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    with monkeypatch.context() as patched:
        for module in (_host, _bridge):
            patched.setattr(module, "os", SimpleNamespace(getpid=lambda: -1))
        host.stop()
        bridge.close()
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}


@pytest.mark.parametrize("kind", [RemoteProducer, RemoteListener])
def test_what_has_no_thread_is_taken_in_at_the_next_heartbeat(
    dispatcher, host, bridge, monkeypatch, caplog, kind
):
    """Robust: where the system had no thread to give, once, no row is left that nobody works on."""
    refused, start = threading.Event(), kind.start

    def refuse_once(self):
        if refused.is_set():
            return start(self)
        refused.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(kind, "start", refuse_once)
    if kind is RemoteProducer:
        host.add(ScriptedProducer(1, name="dmm0"), "t")
    else:
        host.add(RecordingOutcomes(name="dmm0"), "t")
    assert refused.wait(BOUND)
    warning = "'dmm0' waits for another heartbeat: can't start new thread"
    assert wait_until(lambda: warning in caplog.text)
    host._beat.set()
    assert bridge.wait_for("dmm0", timeout=BOUND)
    assert dispatcher.agents["dmm0"].is_alive()


def test_a_host_stops_once_and_starts_once(url):
    """Life: a second start is told, a second stop does nothing, run() ends with stop()."""
    host = AgentHost(url)
    runner = threading.Thread(target=host.run)
    runner.start()
    assert wait_until(lambda: host._heart.is_alive())
    with pytest.raises(StateError, match="was started before"):
        host.start()
    host.stop()
    host.stop()
    runner.join(BOUND)
    assert not runner.is_alive()
    with pytest.raises(StateError, match="was started before"):
        host.start()


def test_a_stopping_host_ends_what_is_in_progress(dispatcher, url, bridge):
    """Life: work that runs when the host stops is REJECTED, not lost."""
    running = threading.Event()

    class Patient(Producer):
        def produce_dispatcher_output(self, topic):
            running.set()
            current_request().sleep(60)

    with AgentHost(url, name="rack2") as host:
        host.add(Patient(name="dmm0"), "t")
        assert bridge.wait_for("dmm0", timeout=BOUND)
        request = dispatcher.send_request("t", ttl=60_000)
        assert running.wait(BOUND)
    (row,) = request.gather(BOUND).failed
    assert (row.status, row.reason) == (OutcomeStatus.REJECTED, "the dispatcher stopped")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda d: Bridge(None, "memory://x"), InvalidTypeError),
        (lambda d: Bridge(d, "memory://x", expect=["dmm0"]), InvalidTypeError),
        (lambda d: Bridge(d, "memory://x", expect={"t": [5]}), InvalidArgumentError),
        (lambda d: Bridge(d, "memory://x", expect={"": ["dmm0"]}), InvalidArgumentError),
        (lambda d: Bridge(d, "memory://x", namespace="a.*"), InvalidArgumentError),
        (lambda d: AgentHost("memory://x", name=""), InvalidTypeError),
        (lambda d: AgentHost("memory://x", heartbeat=0), InvalidArgumentError),
        (lambda d: AgentHost("memory://x", heartbeat=1e6), InvalidArgumentError),
        (lambda d: AgentHost("memory://x", heartbeat="1"), InvalidTypeError),
        (lambda d: AgentHost("memory://x").add(ScriptedProducer(1)), InvalidArgumentError),
        (lambda d: AgentHost("memory://x").add("dmm0", "t"), InvalidTypeError),
    ],
)
def test_what_cannot_be(dispatcher, make, error):
    """Bad input: each a clear error at the call, nothing left behind."""
    with pytest.raises(error):
        make(dispatcher)


def test_the_logger_says_nothing_of_an_ordinary_run(dispatcher, url, caplog):
    """Bridge: discovery, work and goodbye are no news."""
    caplog.set_level(logging.WARNING, "ate_dispatcher")
    with Bridge(dispatcher, url) as bridge, AgentHost(url) as host:
        host.add(ScriptedProducer(1, name="dmm0"), "t")
        host.add(RecordingOutcomes(name="log"), "t")
        assert bridge.wait_for("dmm0", "log", timeout=BOUND)
        assert dispatcher.send_request("t").gather(BOUND).values == {"dmm0": 1}
    assert caplog.records == []


def test_reprs(bridge, host):
    """Kindness: they say where they are and who is there."""
    host.add(ScriptedProducer(1, name="dmm0"), "t")
    assert bridge.wait_for("dmm0", timeout=BOUND)
    assert repr(bridge).endswith("dmm0>")
    assert "'rack2' at memory://" in repr(host)
