"""C10 to C14: bounds, the caller's arguments, idleness and memory, calling off, streams."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import subprocess
import sys
import threading
import weakref

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    NoCurrentRequestError,
    OutcomeStatus,
    OverloadedError,
    Producer,
    RequestStatus,
    ResultListener,
    TopicFilter,
    WorkCalledOffError,
    WorkExpiredError,
    current_request,
)
from ate_dispatcher.testing import Delay, Gate, RecordingListener, ScriptedProducer

BOUND = 5
REJECTED = OutcomeStatus.REJECTED


# ---- C10 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overflow", "done"),
    [("reject", [0, 1, 2]), ("drop_oldest", [0, 4, 5]), ("latest", [0, 5])],
)
def test_c10_a_bounded_producer(dispatcher, gate, overflow, done):
    """C10: who gives way is named by the policy; every drop is a REJECTED outcome and counted."""
    producer = dispatcher.add(
        ScriptedProducer(gate, "ok", name="p", capacity=2, overflow=overflow), "t"
    )
    requests = [dispatcher.send_request("t", 0, ttl=math.inf)]
    gate.wait_parked()
    requests += [dispatcher.send_request("t", number, ttl=60_000) for number in range(1, 6)]
    assert dispatcher.send_request("fence").wait(BOUND)
    gate.open()
    assert all(request.wait(BOUND) for request in requests)
    assert [call.args[0] for call in producer.calls] == done
    rejected = [r.args[0] for r in requests if r.outcomes[0].status is REJECTED]
    assert rejected == [number for number in range(6) if number not in done]
    assert all("mailbox full" in r.failed[0].reason for r in requests if r.failed)
    assert dispatcher.statistics().producers["p"].rejected == len(rejected)


def test_c10_work_that_expired_in_a_full_mailbox_does_not_count(timed, clock, gate):
    """C10: only work not yet claimed counts against the bound, control messages never."""
    producer = timed.add(ScriptedProducer(gate, "ok", name="p", capacity=1), "t")
    timed.send_request("t", "running", ttl=1e6)
    gate.wait_parked()
    stale = timed.send_request("t", "stale", ttl=100)
    clock.advance(0.2)
    assert stale.wait(BOUND)
    fresh = timed.send_request("t", "fresh", ttl=1e6)
    assert timed.send_request("nobody").wait(BOUND)  # so `fresh` has met the full mailbox
    assert not timed.deregister_result_producer(producer, "t", wait=True, timeout=0)
    gate.open()
    assert fresh.gather(BOUND).values == {"p": "ok"}
    producer.stop()


def test_c10_a_bounded_listener_drops_and_counts(dispatcher, gate):
    """C10: a slow screen sees the newest; what it did not see is counted; nobody waits for it."""

    class Screen(ResultListener):
        def __init__(self):
            super().__init__(name="screen", capacity=1, overflow="latest")
            self.seen = []

        def process_dispatcher_result(self, topic, response):
            self.seen.append(response)
            gate.park()

    screen = dispatcher.add(Screen(), "t")
    dispatcher.add(ScriptedProducer(lambda topic, number: number), "t")
    dispatcher.send_request("t", 0).wait(BOUND)
    gate.wait_parked()
    for number in range(1, 5):
        assert dispatcher.send_request("t", number).wait(BOUND)
    gate.open()
    assert dispatcher.flush(BOUND)
    assert screen.seen == [0, 4]
    seen = dispatcher.statistics().listeners["screen"]
    assert (seen.delivered, seen.dropped) == (2, 3)


def test_c10_an_unbounded_mailbox_warns_once_at_its_high_water_mark(gate, caplog):
    """C10: an agent that cannot keep up is named in the log, once."""
    with ATEDispatcher(high_water=10) as dispatcher:
        dispatcher.add(ScriptedProducer(gate, 1, name="slow"), "t")
        with caplog.at_level(logging.WARNING, "ate_dispatcher"):
            requests = [dispatcher.send_request("t", ttl=60_000) for _ in range(3000)]
            assert dispatcher.send_request("fence").wait(BOUND)
        gate.open()
        assert requests[-1].wait(BOUND)
    assert [record.getMessage().count("'slow'") for record in caplog.records] == [1]


def test_c10_max_open_waits_in_the_callers_thread_then_raises(gate):
    """C10: a sender over the limit waits until one ends, at most until its deadline."""
    with ATEDispatcher(max_open=1) as dispatcher:
        dispatcher.add(ScriptedProducer(gate, 2, name="p"), "t")
        first = dispatcher.send_request("t", ttl=math.inf)
        gate.wait_parked()
        with pytest.raises(OverloadedError, match="max_open"):
            dispatcher.send_request("t", ttl=10)
        assert dispatcher.statistics().requests == 1
        gate.open()
        assert dispatcher.send_request("t", ttl=60_000).gather(BOUND).values == {"p": 2}
        assert first.wait(BOUND)


# ---- C11 -----------------------------------------------------------------------------------------


def test_c11_any_keyword_but_ttl_and_topic_reaches_the_producers(dispatcher):
    """C11: arguments arrive untouched, whatever they are called."""
    producer = dispatcher.add(ScriptedProducer(), "t")
    wanted = dict.fromkeys(
        ("self_", "uuid", "reply_to", "priority", "args", "kwargs", "name", "timeout", "to", "copy")
    )
    value = object()
    dispatcher.send_request("t", value, 2, **wanted).wait(BOUND)
    assert producer.calls[0].args == (value, 2)
    assert producer.calls[0].args[0] is value
    assert producer.calls[0].kwargs == wanted
    assert dispatcher.send_request("nobody", self=1).kwargs == {"self": 1}


def test_c11_a_subclass_may_use_any_attribute(dispatcher):
    """C11: private state of agents is prefixed, so a subclass's own names are free."""

    class Own(Producer):
        def __init__(self):
            super().__init__(name="own")
            self.site = self.state = self.queue = self.mailbox = self.address = self.lock = "mine"
            self.topics = self.dispatcher = self.running = self.hook = self.clock = "mine"

        def produce_dispatcher_output(self, topic):
            return self.site

    dispatcher.add(Own(), "t")
    request = dispatcher.send_request("t").gather(BOUND)
    assert request.values == {"own": "mine"}
    assert request.outcomes[0].site is None


@pytest.fixture
def four(dispatcher):
    for site in range(4):
        dispatcher.add(ScriptedProducer(site, name=f"p{site}", site=site), "t")
    return dispatcher


def test_c11_to_and_sites_narrow_the_roster(four):
    """C11: options choose among the registered; a named one that lacks is a row of its own."""
    assert four.with_options(to="p1").send_request("t").gather(BOUND).values == {"p1": 1}
    by_site = four.with_options(sites=[0, 2]).send_request("t").gather(BOUND)
    assert by_site.roster == ("p0", "p2")
    assert set(by_site.by_site()) == {0, 2}
    some = four.with_options(to=["p3", "gone"]).send_request("t").gather(BOUND)
    assert some.values == {"p3": 3}
    assert [(o.producer, o.status) for o in some.failed] == [("gone", REJECTED)]
    nobody = four.with_options(sites=[9]).send_request("t").gather(BOUND)
    assert nobody.status is RequestStatus.NO_PRODUCERS
    assert "9" in nobody.reason
    assert "'p0'" in nobody.reason


def test_c11_until_a_number_or_a_predicate(four, gate):
    """C11: the request ends when the rule is met; the others are NOT_NEEDED."""
    four.add(ScriptedProducer(gate, name="slow"), "t")
    two = four.with_options(until=2).send_request("t", ttl=60_000).gather(BOUND)
    assert two.status is RequestStatus.SATISFIED
    assert len(two.succeeded) == 2
    assert two.outcomes[-1].status is OutcomeStatus.NOT_NEEDED
    two.raise_for_status()
    three = four.with_options(until=lambda o: o.value == 3, to=["p3", "slow"])
    assert three.send_request("t", ttl=60_000).gather(BOUND).values == {"p3": 3}


def test_c11_tags_go_with_the_outcomes(four):
    """C11: tags are kept with the request and each outcome."""
    request = four.with_options(tags={"lot": 7}).send_request("t").gather(BOUND)
    assert request.tags == {"lot": 7}
    assert {outcome.tags["lot"] for outcome in request.outcomes} == {7}


def test_c11_deep_copies_isolate_everybody(dispatcher):
    """C11: with copy="deep" no producer and no listener shares an object with another."""

    def spoil(topic, data):
        data.append("spoiled")
        return data

    class Spoiler(RecordingListener):
        def process_dispatcher_result(self, topic, response):
            response.append("listened")
            super().process_dispatcher_result(topic, response)

    listeners = [dispatcher.add(Spoiler(), "t") for _ in range(2)]
    for name in ("a", "b"):
        dispatcher.add(ScriptedProducer(spoil, name=name), "t")
    data = ["mine"]
    request = dispatcher.with_options(copy="deep").send_request("t", data)
    assert request.wait(BOUND, delivered=True)
    assert data == ["mine"]
    assert request.values == {"a": ["mine", "spoiled"], "b": ["mine", "spoiled"]}
    for listener in listeners:
        assert listener.values == [["mine", "spoiled", "listened"]] * 2


# ---- C12 -----------------------------------------------------------------------------------------


def test_c12_an_idle_station_takes_no_turn(dispatcher, gate):
    """C12: no polling: with a request open and nothing happening, the thread just waits."""
    turns = []
    turn = dispatcher._turn
    dispatcher._turn = lambda: turns.append(1) or turn()
    dispatcher.add(ScriptedProducer(gate), "t")
    dispatcher.send_request("t", ttl=3_600_000)
    gate.wait_parked()
    assert dispatcher.send_request("nobody").wait(BOUND)
    before = len(turns)
    assert not gate_never_comes().wait(0.2)
    assert len(turns) - before <= 2


def gate_never_comes():
    return threading.Event()


IDLE = """
import sys, time
from ate_dispatcher import ATEDispatcher
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer
with Gate(60) as gate, ATEDispatcher() as dispatcher:
    for number in range(25):
        dispatcher.add(ScriptedProducer(gate), f"t{number}")
        dispatcher.add(RecordingListener(), f"t{number}")
    dispatcher.send_request("t0", ttl=60_000)
    gate.wait_parked()
    before = time.process_time()
    time.sleep(float(sys.argv[1]))
    print((time.process_time() - before) * 1000)
    gate.open()
"""


def test_c12_fifty_idle_agents_use_no_cpu():
    """C12: 50 agents with one open request use less than 1 ms of CPU in a second."""
    done = subprocess.run(
        [sys.executable, "-c", IDLE, "1"], capture_output=True, text=True, timeout=30, check=True
    )
    assert float(done.stdout) < 1.0


@pytest.mark.parametrize("kind", ["answered", "nobody", "expired", "raising"])
def test_c12_an_ended_request_leaves_nothing_and_needs_no_collector(timed, clock, kind):
    """C12: dropped by its sender, it dies by reference count, whatever its TTL was."""
    step = {"answered": 1, "expired": Delay(1e6), "raising": ValueError("x"), "nobody": 0}[kind]
    producer = ScriptedProducer(step)
    if kind != "nobody":
        timed.add(producer, "t")
    timed.add(RecordingListenerOfValues(), "t")
    gc.collect()
    gc.disable()
    try:
        request = timed.send_request("t", object(), ttl=3_600_000)
        if kind == "expired":
            clock.advance(4_000)
        assert request.wait(BOUND, delivered=True)
        gone = weakref.ref(request)
        outcomes = request.outcomes
        del request
        assert timed.flush(BOUND)
        if kind != "nobody":  # what is late has been handled, too
            assert timed.remove(producer, wait=True, timeout=BOUND)
        assert timed.send_request("u").wait(BOUND)
        assert gone() is None
        assert len(outcomes) == (kind != "nobody")
    finally:
        gc.enable()


class RecordingListenerOfValues(ResultListener):
    def process_dispatcher_result(self, topic, response):
        """Keep nothing."""


def test_c12_nothing_grows_with_ended_requests_or_topics(dispatcher):
    """C12: the number of objects is the same after thousands more of requests, TTLs and topics."""
    dispatcher.add(Echo(), "t")

    def work():
        for number in range(1000):
            dispatcher.send_request("t", number, ttl=60_000 + number)
            dispatcher.send_request(f"topic {number}", ttl=60_000 + number)
        assert dispatcher.flush(BOUND)
        gc.collect()
        return len(gc.get_objects())

    work()
    before = work()
    assert work() - before < 100


class Echo(Producer):
    def produce_dispatcher_output(self, topic, number):
        return number


def test_c12_the_cache_of_filtered_topics_is_bounded():
    """C12: any number of distinct topics under a filter keeps a bounded number of routes."""
    from ate_dispatcher._address import Address
    from ate_dispatcher._routes import Routes

    routes = Routes(bound=100)
    routes.add_producer(Address("a"), TopicFilter("site.#"))
    for number in range(1000):
        assert len(routes.route(f"site.{number}").roster) == 1
    assert len(routes.known) <= 100


# ---- C13 -----------------------------------------------------------------------------------------


def test_c13_running_work_is_told(dispatcher):
    """C13: cancelled, remaining, check, sleep and on_cancel inside a producer."""
    seen = {}
    called, begun = threading.Event(), Gate()

    def work(topic):
        request = current_request()
        seen["before"] = (request.cancelled, request.remaining() > 50)
        request.on_cancel(called.set)
        begun.open()
        seen["slept"] = request.sleep(60)
        seen["after"] = (request.cancelled, request.remaining())
        request.check()

    producer = dispatcher.add(ScriptedProducer(work, name="p"), "t")
    request = dispatcher.send_request("t", ttl=60_000)
    begun.park()
    request.cancel()
    assert request.wait(BOUND)
    assert called.wait(BOUND)
    assert dispatcher.remove(producer, wait=True, timeout=BOUND)
    assert request.status is RequestStatus.CANCELLED
    assert seen["before"] == (False, True)
    assert seen["slept"] is False


@pytest.mark.parametrize("way", ["cancel", "deadline"])
def test_c13_check_raises_and_says_which(timed, clock, gate, way):
    """C13: WorkExpiredError past the deadline, WorkCalledOffError after a cancel."""
    raised = []

    def work(topic):
        gate.park()
        try:
            current_request().check()
        except WorkCalledOffError as error:
            raised.append(type(error))
            raise

    producer = timed.add(ScriptedProducer(work), "t")
    request = timed.send_request("t", ttl=1000)
    gate.wait_parked()
    if way == "cancel":
        request.cancel()
    else:
        clock.advance(2)
    assert request.wait(BOUND)
    gate.open()
    assert timed.remove(producer, wait=True, timeout=BOUND)
    assert raised == [WorkCalledOffError if way == "cancel" else WorkExpiredError]


def test_c13_on_cancel_is_not_called_after_an_answer(dispatcher):
    """C13: work that answered was not called off."""
    called = []
    dispatcher.add(
        ScriptedProducer(lambda topic: current_request().on_cancel(lambda: called.append(1))), "t"
    )
    done = threading.Event()
    request = dispatcher.send_request("t")
    request.add_done_callback(lambda _: done.set())
    assert done.wait(BOUND)
    assert called == []


def test_c13_sleep_lasts_until_its_time_on_the_dispatchers_clock(timed, clock):
    """C13: a full sleep is True; one cut by the deadline False."""
    slept = []

    def work(topic, seconds, begun):
        begun.open()
        slept.append(current_request().sleep(seconds))

    producer = timed.add(ScriptedProducer(work), "t")
    for seconds, advance in ((5, 6), (60, 20)):
        begun = Gate()
        request = timed.send_request("t", seconds, begun, ttl=10_000)
        begun.park()
        clock.wait_sleeping()
        clock.advance(advance)
        assert request.wait(BOUND)
    assert timed.remove(producer, wait=True, timeout=BOUND)
    assert slept == [True, False]


def test_c13_current_request_in_every_kind_of_producer(dispatcher):
    """C13: a context variable: in generators, coroutines and pool threads too; nowhere else."""
    from concurrent.futures import ThreadPoolExecutor

    class Stream(Producer):
        def produce_dispatcher_output(self, topic):
            yield current_request().topic

    class Coroutine(Producer):
        async def produce_dispatcher_output(self, topic):
            await asyncio.sleep(0)
            return current_request().topic

    def function(topic):
        return current_request().topic

    dispatcher.add(Stream(name="stream"), "t")
    dispatcher.add(Coroutine(name="coroutine"), "t")
    dispatcher.add(ExecutorProducer(function, ThreadPoolExecutor, 2, name="pool"), "t")
    values = dispatcher.send_request("t").gather(BOUND).values
    assert values == {"stream": ["t"], "coroutine": "t", "pool": "t"}
    with pytest.raises(NoCurrentRequestError):
        current_request()


def test_c13_a_coroutine_is_cancelled(dispatcher):
    """C13: an `async def` hook is told by the cancellation of its task, at an await."""
    begun, ended = threading.Event(), threading.Event()

    class Patient(Producer):
        async def produce_dispatcher_output(self, topic):
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

    dispatcher.add(Patient(), "t")
    request = dispatcher.send_request("t", ttl=60_000)
    assert begun.wait(BOUND)
    request.cancel()
    assert ended.wait(BOUND)
    assert request.gather(BOUND).status is RequestStatus.CANCELLED


# ---- C14 -----------------------------------------------------------------------------------------


class Scope(Producer):
    """Yields, parks, yields again, and says on which thread it was closed."""

    def __init__(self, gate):
        super().__init__(name="scope")
        self.gate = gate
        self.closed_by = None
        self.went_on = False

    def produce_dispatcher_output(self, topic):
        try:
            yield 1
            self.gate.park()
            yield 2
            self.went_on = True
            return 3
        finally:
            self.closed_by = threading.current_thread()


def test_c14_values_come_as_they_are_yielded(dispatcher, gate):
    """C14: PARTIAL as it comes, the return value as the final one, values a list."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.add(Scope(gate), "t")
    request = dispatcher.send_request("t")
    gate.wait_parked()
    reader = iter(request)
    assert next(reader).value == 1
    assert request.status is RequestStatus.OPEN
    gate.open()
    assert [(o.status.name, o.value) for o in reader] == [("PARTIAL", 2), ("OK", 3)]
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"scope": [1, 2, 3]}
    assert listener.values == [1, 2, 3]


@pytest.mark.parametrize("way", ["cancel", "deadline"])
def test_c14_closed_by_its_own_thread_between_yields(timed, clock, gate, way):
    """C14: at deadline or cancel the owning thread closes it; what came in time is kept."""
    scope = timed.add(Scope(gate), "t")
    listener = timed.add(RecordingListener(), "t")
    request = timed.send_request("t", ttl=1000)
    gate.wait_parked()
    if way == "cancel":
        request.cancel()
    else:
        clock.advance(2)
    assert request.wait(BOUND)
    gate.open()
    assert timed.deregister_result_producer(scope, "t", wait=True)
    assert scope.closed_by is scope
    assert not scope.went_on
    assert timed.flush(BOUND)
    assert request.values == {"scope": [1]}
    assert listener.values == [1]
    scope.stop()


def test_c14_an_error_in_the_middle_keeps_what_came(dispatcher):
    """C14, C2: the row is an ERROR, the values before it stay."""

    class Breaks(Producer):
        def produce_dispatcher_output(self, topic):
            yield 1
            raise OSError("cable")

    class AsyncStream(Producer):
        async def produce_dispatcher_output(self, topic):
            yield "a"
            await asyncio.sleep(0)
            yield "b"

    dispatcher.add(Breaks(name="breaks"), "t")
    dispatcher.add(AsyncStream(name="async"), "t")
    request = dispatcher.send_request("t").gather(BOUND)
    assert [outcome.status.name for outcome in request.outcomes] == ["ERROR", "OK"]
    assert request.values == {"breaks": [1], "async": ["a", "b"]}
