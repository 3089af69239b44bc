"""C12: an idle station uses no CPU, and an ended request leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import subprocess
import sys
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

import ate_dispatcher
from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    Observer,
    Producer,
    RequestStatus,
    TopicFilter,
    current_request,
)
from ate_dispatcher.testing import Delay, RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches

# ---- idle ----------------------------------------------------------------------------------------


class Watched(SimpleQueue):
    """A mailbox that notes with what time-out it was waited at."""

    waits = []

    def get(self, block=True, timeout=None):
        if block:
            self.waits.append(timeout)
        return super().get(block, timeout)


@pytest.fixture
def waits(monkeypatch):
    """With what time-out every thread of the library has waited at its mailbox so far."""
    monkeypatch.setattr(Watched, "waits", [])
    for module in ("_agent", "_callbacks", "_membership"):
        monkeypatch.setattr(f"ate_dispatcher.{module}.SimpleQueue", Watched)
    return Watched


class Turning(ATEDispatcher):
    """Counts the turns of its thread."""

    turns = 0

    def _turn(self):
        self.turns += 1
        return super()._turn()


def station(dispatcher):
    """Everything there is: agents of all kinds, an observer, a bounded mailbox, a request."""
    dispatcher.add_observer(Observer())
    for number in range(5):
        dispatcher.add(ScriptedProducer(number), "t")
        dispatcher.add(RecordingListener(), "t")
    dispatcher.add(ScriptedProducer(0, capacity=3), "t")
    dispatcher.add(ExecutorProducer(str, ThreadPoolExecutor, 1), "t")
    for _ in range(10):
        assert dispatcher.send_request("t", ttl=math.inf).wait(BOUND, delivered=True)


def test_c12_nobody_polls(waits):
    """C12: idle, every thread waits for its next message without a time-out.

    The number of turns that the dispatcher's thread took is bounded by the messages it got.
    """
    with Turning() as dispatcher:
        station(dispatcher)
        so_far, turns = list(waits.waits), dispatcher.turns
    registrations, sent, answered, flushes = 12, 10, 10 * 7, 10
    assert len(so_far) > sent + answered
    assert set(so_far) == {None}
    assert turns <= registrations + sent + answered + flushes + 5


def test_c12_an_open_request_is_waited_for_in_one_piece(waits):
    """C12: with requests open, the dispatcher's thread sleeps until the first deadline."""
    with Turning(grace=30) as dispatcher:
        producer = ScriptedProducer(1)
        dispatcher.register_result_producer(producer, "t")  # never started: they stay open
        for minutes in (3, 1, 2):
            dispatcher.send_request("t", ttl=60_000 * minutes)
        dispatcher.send_request("t", ttl=math.inf)
        for _ in range(20):
            assert dispatcher.send_request("nobody", ttl=FOR_EVER).wait(BOUND)
        timeouts = [timeout for timeout in waits.waits if timeout is not None]
        assert dispatcher.turns <= 30
        assert timeouts
        assert [timeout for timeout in timeouts if not 50 < timeout <= 180.1] == []
        producer.start()


IDLE = """
import math, sys, time
sys.path.insert(0, {root!r})
from ate_dispatcher import ATEDispatcher, Observer
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

with ATEDispatcher() as dispatcher, Gate(timeout=60) as gate:
    dispatcher.add_observer(Observer())
    dispatcher.add(ScriptedProducer(gate), "open")
    for number in range(19):
        dispatcher.add(ScriptedProducer(number, capacity=5 if number % 2 else None), "t")
    for number in range(30):
        dispatcher.add(RecordingListener(capacity=5 if number % 2 else None), "t", "open")
    assert dispatcher.send_request("t").wait(10, delivered=True)
    request = dispatcher.send_request("open", ttl=60_000)
    gate.wait_parked()
    before = time.process_time()
    assert not request.wait(10)
    print(time.process_time() - before)
    gate.open()
"""


@pytest.mark.slow
def test_c12_an_idle_station_uses_no_cpu():
    """C12: 50 agents with one open request use less than 10 ms of CPU in ten seconds."""
    root = str(Path(ate_dispatcher.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", IDLE.format(root=root)], stdout=subprocess.PIPE, timeout=50
    )
    assert done.returncode == 0
    assert float(done.stdout) < 0.010


# ---- memory: thousands of ended requests ---------------------------------------------------------


def sends(topic="t", **options):
    """Make a function that sends `count` requests, one after the other, and waits for them all."""

    def send(dispatcher, clock, count):
        for _ in range(count):
            dispatcher.send_request(topic, **options)
        assert dispatcher.flush(BOUND)

    return send


def distinct_ttls(dispatcher, clock, count):
    for number in range(count):
        dispatcher.send_request("t", ttl=1e6 + next(serial) + number / 7)
    assert dispatcher.flush(BOUND)


def distinct_ttls_that_end_early(dispatcher, clock, count):
    """The longest first, so that every request is a head of its own among the deadlines."""
    for number in range(count):
        dispatcher.send_request("nobody", ttl=1e9 - next(serial) - number / 7)
    assert dispatcher.flush(BOUND)


def expiring(dispatcher, clock, count):
    for _ in range(count):
        dispatcher.send_request("t", ttl=1000 + next(serial) % 7)
    clock.advance(2)
    assert dispatcher.flush(BOUND)


def cancelled(dispatcher, clock, count):
    for _ in range(count):
        dispatcher.send_request("t", ttl=math.inf).cancel()
    assert dispatcher.flush(BOUND)


def waited(dispatcher, clock, count):
    for _ in range(count // 10):
        request = dispatcher.send_request("t")
        assert not request.wait(0) or request.status is not RequestStatus.OPEN
        assert request.wait(BOUND, delivered=True)
        assert list(request)


def waited_in_vain(dispatcher, clock, count):
    """Waits that time out on a request that stays open."""
    if "open" not in dispatcher.tested:
        dispatcher.register_result_producer(ScriptedProducer(name="never"), "open")
        dispatcher.tested["open"] = dispatcher.send_request("open", ttl=math.inf)
    for _ in range(count):
        assert not dispatcher.tested["open"].wait(0)


def with_options(dispatcher, clock, count):
    view = dispatcher.with_options(until=1, tags={"lot": 1}, copy="deep")
    for number in range(count // 2):
        view.send_request("t", [number])
    assert dispatcher.flush(BOUND)


def registrations(dispatcher, clock, count):
    """Agents that come and go, each under a name and on a topic of its own."""
    for _ in range(count // 50):
        producer = ScriptedProducer(1)
        listener = RecordingListener()
        for agent in (producer, listener):
            dispatcher.add(agent, f"topic {next(serial)}", TopicFilter(f"a.{next(serial)}"))
            assert dispatcher.remove(agent, wait=True, timeout=BOUND)
            agent.join(BOUND)
    assert dispatcher.flush(BOUND)


serial = itertools.count()

WAYS = {
    "answered": sends(),
    "without producers": sends("nobody"),
    "huge ttl": sends(ttl=1e300),
    "no deadline": sends(ttl=math.inf),
    "streams": sends("stream"),
    "errors": sends("error"),
    "distinct ttls": distinct_ttls,
    "distinct ttls that end early": distinct_ttls_that_end_early,
    "expiring": expiring,
    "cancelled": cancelled,
    "waited": waited,
    "waited in vain": waited_in_vain,
    "with options": with_options,
    "registrations": registrations,
}


class Counting(RecordingListener):
    """Keeps nothing of what it is told, but how much it was."""

    def process_dispatcher_result(self, topic, response):
        pass

    def process_dispatcher_outcome(self, outcome):
        pass

    def process_dispatcher_end(self, request):
        pass


@pytest.fixture
def quick_gc():
    """Leave what is there already out of every collection and count: they are quick then."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def busy(timed, quick_gc):
    """A station on the fake clock whose agents keep nothing themselves."""

    def stream(topic):
        yield 1
        yield 2

    def fail(topic):
        raise ValueError("every time")

    timed.tested = {}
    timed.producer("t")(lambda topic, *args: args)
    timed.producer("t", "more", name="another")(lambda topic, *args: [1, 2])
    timed.producer("stream")(stream)
    timed.producer("error")(fail)
    for _ in range(2):
        timed.add(Counting(), "t", "stream", "error", "nobody")
    yield timed
    timed.tested.clear()


def settle(dispatcher):
    """See every agent past what it was sent: its mailbox is in order."""
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    gc.collect()


def objects(dispatcher):
    settle(dispatcher)
    return len(gc.get_objects())


@pytest.mark.parametrize("way", WAYS)
def test_c12_no_object_is_left_of_ended_requests(busy, clock, way):
    """C12: the number of objects is what it was, after hundreds of requests more than before."""
    WAYS[way](busy, clock, 100)
    before = objects(busy)
    WAYS[way](busy, clock, 500)
    assert objects(busy) - before < 100


@pytest.mark.parametrize("way", WAYS)
def test_c12_memory_returns_to_its_baseline(busy, clock, way):
    """C12: so is the memory.

    What leaks grows in every round. What a queue or a table keeps of its greatest depth so far,
    which depends on how the threads took turns, grows in some of them only; and without a global
    interpreter lock what a thread has not let go of yet.
    """
    levels = []
    tracemalloc.start()
    try:
        for _ in range(20):
            WAYS[way](busy, clock, 100)
            settle(busy)
            levels.append(tracemalloc.get_traced_memory()[0])
            if len(levels) > 3 and levels[-1] - levels[-2] < 100 * 20:
                break
    finally:
        tracemalloc.stop()
    assert levels[-1] - levels[-2] < 100 * 20, levels


def test_c12_expired_work_is_forgotten_once_its_producer_has_passed_it(
    timed, clock, gate, quick_gc
):
    """C12, C4: a backlog that expired behind a hung producer is gone when it has come back."""
    producer = timed.add(ScriptedProducer(gate, None), "t")
    first = timed.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    backlog = [weakref.ref(timed.send_request("t", ttl=100)) for _ in range(500)]
    clock.advance(1)
    gate.open()
    assert first.wait(BOUND)
    assert timed.flush(BOUND)
    assert timed.send_request("t").wait(BOUND)
    gc.collect()
    assert [ref for ref in backlog if ref() is not None] == []
    assert len(producer.calls) == 2


# ---- memory: distinct topics ---------------------------------------------------------------------


def test_c12_distinct_topics_leave_nothing(busy, clock):
    """C12: 20,000 topics that nobody registered are not remembered."""
    sends("nobody")(busy, clock, 100)
    before = objects(busy)
    for number in range(20_000):
        busy.send_request(f"topic {number}")
    assert busy.flush(BOUND)
    assert objects(busy) - before < 100


def test_c12_distinct_topics_under_a_filter_are_remembered_up_to_a_bound(dispatcher):
    """C12: the cache of matches is bounded, whether the topics match a filter or none."""
    dispatcher.add(Counting(), TopicFilter("site.#"))
    for number in range(10_000):
        dispatcher.send_request(f"site.{number}")
        dispatcher.send_request(f"elsewhere.{number}")
    assert dispatcher.flush(BOUND)
    assert dispatcher.statistics().ended[RequestStatus.NO_PRODUCERS] == 20_000
    assert 0 < len(dispatcher._routes.known) <= 16_384


# ---- memory: one request -------------------------------------------------------------------------


@pytest.fixture
def everything(timed, gate):
    """A station with a topic for every kind of work, each with a single worker."""

    def fails(topic):
        raise ValueError("as told")

    def stream(topic):
        yield 1
        return 2

    def broken_stream(topic):
        yield 1
        raise ValueError("in the middle")

    async def coroutine(topic):
        await asyncio.sleep(0)
        return 1

    async def failing_coroutine(topic):
        await asyncio.sleep(0)
        raise ValueError("as told")

    async def async_stream(topic):
        yield 1

    def attentive(topic):
        current_request().on_cancel(list)
        current_request().sleep(0)
        current_request().check()

    for function in (
        fails, stream, broken_stream, coroutine, failing_coroutine, async_stream, attentive,
    ):  # fmt: skip
        timed.producer(function.__name__)(function)
    timed.add(ScriptedProducer(1), "value", "both")
    timed.add(ScriptedProducer(KeyError, name="raises"), "both")
    timed.add(ScriptedProducer(Delay(1e6)), "slow")
    timed.add(ExecutorProducer(lambda topic: 1, ThreadPoolExecutor, 1), "pooled")
    timed.add(ExecutorProducer(fails, ThreadPoolExecutor, 1), "failing pooled")
    timed.add(Counting(), TopicFilter("#"))
    timed.add_observer(Observer())
    return timed


def plain(topic):
    return lambda dispatcher, clock: dispatcher.send_request(topic)


def optioned(topic, **options):
    return lambda dispatcher, clock: dispatcher.with_options(**options).send_request(topic)


def expired(dispatcher, clock):
    request = dispatcher.send_request("slow", ttl=100)
    assert dispatcher.send_request("nobody").wait(BOUND)
    clock.advance(1)
    return request


def called_off(topic):
    def send(dispatcher, clock):
        request = dispatcher.send_request(topic, ttl=math.inf)
        assert dispatcher.send_request("nobody").wait(BOUND)
        request.cancel()
        return request

    return send


def read(use):
    def send(dispatcher, clock):
        request = dispatcher.send_request("both")
        use(request)
        return request

    return send


async def awaits(request):
    await request
    async for _ in request:
        pass


KINDS = {
    "value": plain("value"),
    "value and error": plain("both"),
    "error": plain("fails"),
    "nobody": plain("no such topic"),
    "stream": plain("stream"),
    "broken stream": plain("broken_stream"),
    "coroutine": plain("coroutine"),
    "failing coroutine": plain("failing_coroutine"),
    "async stream": plain("async_stream"),
    "attentive": plain("attentive"),
    "pooled": plain("pooled"),
    "failing pooled": plain("failing pooled"),
    "tagged": optioned("value", tags={"a": 1}),
    "tagged error": optioned("fails", tags={"a": 1}),
    "tagged broken stream": optioned("broken_stream", copy="deep"),
    "copied": optioned("both", copy="deep"),
    "early": optioned("both", until=1),
    "not there": optioned("both", to=["raises", "not there"]),
    "expired": expired,
    "cancelled": called_off("slow"),
    "cancelled, nobody": called_off("no such topic"),
    "waited": read(lambda request: request.wait(BOUND, delivered=True)),
    "gathered": read(lambda request: request.gather(BOUND)),
    "future": read(lambda request: request.future().result(BOUND)),
    "called back": read(lambda request: request.add_done_callback(lambda request: None)),
    "iterated": read(list),
    "abandoned reader": read(lambda request: next(iter(request))),
    "awaited": read(lambda request: asyncio.run(awaits(request))),
}


def see_past(dispatcher):
    """See every thread past what it was sent, and what came of it: late answers, callbacks."""
    for agent in dispatcher.agents.values():
        if isinstance(agent, Producer):
            assert dispatcher.deregister_result_producer(agent, "-", wait=True, timeout=BOUND)
    assert dispatcher.flush(BOUND)
    called = threading.Event()
    dispatcher.send_request("-").add_done_callback(lambda request: called.set())
    assert called.wait(BOUND)
    assert dispatcher.flush(BOUND)


@pytest.mark.parametrize("kind", KINDS)
def test_c12_an_ended_request_dies_when_it_is_let_go(everything, clock, kind):
    """C12: at once, without the garbage collector: neither thread nor cycle keeps it.

    A second one of the same kind sees the threads of pools and event loops past the first.
    """
    gc.disable()
    try:
        requests = []
        for _ in range(2):
            requests.append(KINDS[kind](everything, clock))
            assert requests[-1].wait(BOUND, delivered=True)
            see_past(everything)
        kept = weakref.ref(requests.pop(0))
        assert kept() is None
    finally:
        gc.enable()


def test_c12_an_outcome_does_not_keep_its_request(everything):
    """C12: neither on purpose nor by a cycle, so outcomes may be collected for long."""
    request = everything.send_request("both").gather(BOUND)
    outcomes = request.outcomes
    see_past(everything)
    kept = weakref.ref(request)
    del request
    assert kept() is None
    assert [outcome.topic for outcome in outcomes] == ["both", "both"]
