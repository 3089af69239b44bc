"""C13: work can be called off, and finds out by asking; it is never interrupted."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ate_dispatcher
from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    InvalidArgumentError,
    InvalidTypeError,
    NoCurrentRequestError,
    OutcomeStatus,
    Producer,
    RequestStatus,
    WorkCalledOffError,
    WorkExpiredError,
    current_request,
)
from ate_dispatcher.testing import FakeClock, Gate, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches


def handled(dispatcher):
    """See the dispatcher's thread past everything that was sent to it so far."""
    assert dispatcher.send_request("nobody", ttl=FOR_EVER).wait(BOUND)


def work_ended(dispatcher):
    """Wait until the producer named ``work`` has done with what it was sent."""
    return dispatcher.remove(dispatcher.agents["work"], wait=True, timeout=BOUND)


# ---- cancel --------------------------------------------------------------------------------------


def test_c13_cancel_ends_the_request_though_the_work_goes_on(dispatcher, gate):
    """C13, C1: the caller is free at once; what began is CANCELLED, with how far it had come."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=math.inf)
    gate.wait_parked()
    request.cancel()
    assert request.wait(BOUND)
    assert request.status is RequestStatus.CANCELLED
    (outcome,) = request.missing
    assert outcome.status is OutcomeStatus.CANCELLED
    assert outcome.started is not None
    assert outcome.ended is None
    assert "cancelled" in outcome.reason


def test_c13_cancel_keeps_what_was_answered(dispatcher, gate):
    """C13, C2: a row that is final stays so."""
    dispatcher.add(ScriptedProducer(7, name="quick"), "t")
    dispatcher.add(ScriptedProducer(gate, name="slow"), "t")
    request = dispatcher.send_request("t", ttl=math.inf)
    assert next(iter(request)).producer == "quick"
    request.cancel()
    assert request.gather(BOUND).values == {"quick": 7}
    assert [outcome.producer for outcome in request.missing] == ["slow"]


def test_c13_cancel_of_an_ended_request_does_nothing(dispatcher):
    """C13: neither its status nor its values change."""
    dispatcher.add(ScriptedProducer(7, name="dmm"), "t")
    request = dispatcher.send_request("t").gather(BOUND)
    request.cancel()
    handled(dispatcher)
    assert request.status is RequestStatus.COMPLETE
    assert request.values == {"dmm": 7}


def test_c13_cancel_before_start():
    """C13: a request that was kept until `start` can be called off before it is scattered."""
    dispatcher = ATEDispatcher()
    producer = dispatcher.add(ScriptedProducer(1), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    request.cancel()
    dispatcher.start()
    assert request.wait(BOUND)
    dispatcher.stop()
    assert request.status is RequestStatus.CANCELLED
    assert producer.calls == []


def test_c13_work_that_notices_the_cancel_first_does_not_complete_the_request(dispatcher, gate):
    """C13, C1: a cancelled request ends CANCELLED, whichever message the dispatcher gets first.

    The caller stands between its two steps, flag and message, while the producer's `check` raises.
    """
    working, seen = Gate(), threading.Event()
    put = dispatcher._home.put

    def slow_put(message):
        if threading.current_thread() is canceller:
            gate.park()
        put(message)

    def work(topic):
        working.park()
        while True:
            try:
                current_request().check()
            except WorkCalledOffError:
                seen.set()
                raise

    dispatcher.producer("t", name="dmm")(work)
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    working.wait_parked()
    dispatcher._home.put = slow_put
    canceller = threading.Thread(target=request.cancel)
    canceller.start()
    gate.wait_parked()
    working.open()
    seen.wait(0.02)  # either is right: the flag may be up before the message, or after it
    gate.open()
    canceller.join(BOUND)
    assert request.wait(BOUND)
    assert request.status is RequestStatus.CANCELLED
    assert request.outcomes[0].status is OutcomeStatus.CANCELLED


# ---- current_request: everywhere -----------------------------------------------------------------


class Plain(Producer):
    def produce_dispatcher_output(self, topic):
        return current_request()


class Generator(Producer):
    def produce_dispatcher_output(self, topic):
        first = current_request()
        yield first
        yield current_request()
        return current_request()


class Coroutine(Producer):
    async def produce_dispatcher_output(self, topic):
        before = current_request()
        await asyncio.sleep(0)
        inside = await asyncio.ensure_future(self.deeper())
        return [before, current_request(), inside]

    async def deeper(self):
        await asyncio.sleep(0)
        return current_request()


class AsyncGenerator(Producer):
    async def produce_dispatcher_output(self, topic):
        yield current_request()
        await asyncio.sleep(0)
        yield current_request()


def pooled(**options):
    return ExecutorProducer(lambda topic: current_request(), ThreadPoolExecutor, 2, **options)


@pytest.mark.parametrize("kind", [Plain, Generator, Coroutine, AsyncGenerator, pooled])
@pytest.mark.parametrize("options", [False, True])
def test_c13_current_request_is_there_in_every_kind_of_hook(dispatcher, kind, options):
    """C13: the same handle that the caller holds, before, between and after what is awaited."""
    dispatcher.add(kind(name="dmm"), "t")
    view = dispatcher.with_options(tags={"a": 1}) if options else dispatcher
    requests = [view.send_request("t") for _ in range(3)]
    for request in requests:
        value = request.gather(BOUND).values["dmm"]
        assert {id(seen) for seen in (value if isinstance(value, list) else [value])} == {
            id(request)
        }


def test_c13_two_workers_of_a_pool_have_a_request_each(dispatcher):
    """C13: ``current_request`` tells apart the calls that run at once in one producer."""
    meet = threading.Barrier(2)

    def work(topic, number):
        meet.wait(BOUND)
        seen = current_request()
        meet.wait(BOUND)
        return seen.args == (number,) and seen is current_request()

    dispatcher.add(ExecutorProducer(work, ThreadPoolExecutor, 2, name="pool"), "t")
    requests = [dispatcher.send_request("t", number) for number in range(2)]
    assert [request.gather(BOUND).values for request in requests] == [{"pool": True}] * 2


def test_c13_there_is_no_current_request_elsewhere(dispatcher):
    """C13: not on the caller's thread, in a listener, a callback, `on_start`, or after the work."""
    found = []

    def look(*_):
        try:
            found.append(current_request())
        except NoCurrentRequestError as error:
            found.append(type(error))

    class Looks(Producer):
        def on_start(self):
            look()

        def produce_dispatcher_output(self, topic):
            return None

        on_stop = on_start

    looks = dispatcher.add(Looks(), "t")
    dispatcher.listener("t")(look)
    request = dispatcher.send_request("t")
    called = threading.Event()
    request.add_done_callback(lambda request: (look(), called.set()))
    assert request.wait(BOUND, delivered=True)
    assert called.wait(BOUND)
    look()
    assert dispatcher.remove(looks, wait=True, timeout=BOUND)
    looks.join(BOUND)
    assert found == [NoCurrentRequestError] * 5
    assert issubclass(NoCurrentRequestError, LookupError)


def test_c13_the_request_tells_what_is_asked(dispatcher):
    """C13: beside calling off, the handle has topic, arguments, tags and deadline for the work."""

    def work(topic, *args, **kwargs):
        mine = current_request()
        return (mine.topic, mine.args, dict(mine.kwargs), dict(mine.tags), mine.ttl, mine.status)

    dispatcher.producer("t", name="dmm")(work)
    request = dispatcher.with_options(tags={"n": 1}).send_request("t", 1, ttl=999, x=2)
    assert request.gather(BOUND).values == {
        "dmm": ("t", (1,), {"x": 2}, {"n": 1}, 999, RequestStatus.OPEN)
    }


# ---- remaining, cancelled, check -----------------------------------------------------------------


def test_c13_remaining_counts_down_to_nought(timed, clock):
    """C13: seconds to the deadline on the dispatcher's clock, 0.0 from there on."""
    seen = []

    def work(topic):
        for seconds in (0, 0.3, 0.7, 5):
            clock.advance(seconds)
            seen.append(current_request().remaining())

    timed.producer("t")(work)
    assert timed.send_request("t", ttl=1000).wait(BOUND)
    assert seen[:2] == pytest.approx([1.0, 0.7])
    assert seen[2] == pytest.approx(0.0, abs=1e-9)
    assert seen[3] == 0.0


def test_c13_remaining_without_a_deadline(dispatcher):
    """C13: infinite, until the request is called off."""
    seen = []

    def work(topic):
        seen.append(current_request().remaining())
        current_request().cancel()
        seen.append(current_request().remaining())

    dispatcher.producer("t")(work)
    assert dispatcher.send_request("t", ttl=math.inf).wait(BOUND)
    assert dispatcher.flush(BOUND)
    assert seen == [math.inf, 0.0]


def test_c13_cancelled_and_check_before_and_after_the_cancel(dispatcher, gate):
    """C13: False and silent while wanted; then True, and `check` raises."""
    seen = []

    def work(topic):
        mine = current_request()
        mine.check()
        seen.append(mine.cancelled)
        gate.park()
        seen.append(mine.cancelled)
        with pytest.raises(WorkCalledOffError, match="'t' is no longer wanted"):
            mine.check()
        done.set()

    done = threading.Event()
    dispatcher.producer("t")(work)
    request = dispatcher.send_request("t", ttl=math.inf)
    gate.wait_parked()
    request.cancel()
    gate.open()
    assert done.wait(BOUND)
    assert seen == [False, True]


def test_c13_cancelled_and_check_after_the_deadline(timed, clock, gate):
    """C13: `check` raises at a deadline that has passed, whether or not the dispatcher has seen it.

    The error is a `TimeoutError`, too, and work may catch both kinds as one.
    """
    raised = []

    def work(topic):
        clock.advance(1)
        current_request().check()  # at the deadline itself is in time
        clock.advance(0.1)
        try:
            current_request().check()
        except WorkCalledOffError as error:
            raised.append(error)
        gate.park()
        raised.append(current_request().cancelled)

    timed.producer("t")(work)
    request = timed.send_request("t", ttl=1000)
    assert request.wait(BOUND)
    gate.open()
    assert timed.flush(BOUND)
    assert work_ended(timed)
    assert isinstance(raised[0], WorkExpiredError)
    assert isinstance(raised[0], TimeoutError)
    assert "deadline" in str(raised[0])
    assert raised[1] is True


@pytest.mark.parametrize("how", ["cancel", "satisfied", "stop"])
def test_c13_work_learns_of_every_way_a_request_ends(how, gate):
    """C13: cancelled by its caller, not needed any more, or ended by a stop: all the same to it."""
    seen = []
    dispatcher = ATEDispatcher()
    dispatcher.start()

    def work(topic):
        gate.park()
        seen.append((current_request().cancelled, current_request().remaining()))

    dispatcher.producer("t")(work)
    if how == "satisfied":
        dispatcher.add(ScriptedProducer(lambda topic: gate.wait_parked()), "t")
    request = dispatcher.with_options(until=1).send_request("t", ttl=math.inf)
    gate.wait_parked()
    if how == "cancel":
        request.cancel()
    elif how == "satisfied":
        assert request.gather(BOUND).status is RequestStatus.SATISFIED
    stopping = threading.Thread(target=dispatcher.stop, kwargs={"drain": how != "stop"})
    stopping.start()
    assert request.wait(BOUND)
    gate.open()
    stopping.join(BOUND)
    assert seen == [(True, 0.0)]


def test_c13_work_that_stops_itself_by_check_is_no_error(dispatcher, gate):
    """C13: nobody is told of an error when `check` did what it is for; the row stays CANCELLED."""

    def work(topic):
        gate.park()
        current_request().check()

    dispatcher.producer("t", name="dmm")(work)
    request = dispatcher.send_request("t", ttl=math.inf)
    gate.wait_parked()
    request.cancel()
    assert request.wait(BOUND)
    gate.open()
    assert dispatcher.remove(dispatcher.agents["dmm"], wait=True, timeout=BOUND)
    assert request.failed == ()
    assert [outcome.status for outcome in request.outcomes] == [OutcomeStatus.CANCELLED]


# ---- sleep ---------------------------------------------------------------------------------------


def sleeper(dispatcher, seconds):
    """Register work that sleeps; give an event set just before it does, and what sleep said."""
    log, begun = [], threading.Event()

    def work(topic):
        begun.set()
        log.append(current_request().sleep(seconds))

    dispatcher.producer("t")(work)
    return begun, log


class NotingClock(FakeClock):
    """Tells when somebody has gone to sleep on it."""

    def __init__(self):
        super().__init__()
        self.asleep = threading.Event()

    def call_after(self, seconds, function):
        super().call_after(seconds, function)
        self.asleep.set()


def test_c13_sleep_sleeps_its_time():
    """C13: on the dispatcher's clock; True if the whole time was slept, and not a second less."""
    clock = NotingClock()
    with ATEDispatcher(clock=clock) as dispatcher:
        _, log = sleeper(dispatcher, 3)
        request = dispatcher.send_request("t", ttl=FOR_EVER)
        assert clock.asleep.wait(BOUND)
        clock.advance(2.9)
        handled(dispatcher)
        assert request.status is RequestStatus.OPEN
        assert log == []
        clock.advance(0.2)
        assert request.wait(BOUND)
        assert log == [True]


def test_c13_sleep_in_real_time(dispatcher):
    """C13: the same on the real clock; no time at all needs nobody to wake it."""
    slept = []

    def work(topic):
        before = time.monotonic()
        slept.append(current_request().sleep(0))
        slept.append(current_request().sleep(0.01))
        slept.append(time.monotonic() - before)

    dispatcher.producer("t")(work)
    assert dispatcher.send_request("t", ttl=FOR_EVER).wait(BOUND)
    assert slept[:2] == [True, True]
    assert slept[2] >= 0.01


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda request: request.sleep(-1), InvalidArgumentError, "not be negative, it is -1"),
        (lambda request: request.sleep(math.nan), InvalidArgumentError, "nan"),
        (lambda request: request.sleep("1"), InvalidTypeError, "number of seconds, not '1'"),
        (lambda request: request.on_cancel("no"), InvalidTypeError, "callable, not 'no'"),
    ],
)
def test_c13_what_cannot_be_slept_or_called(dispatcher, call, error, said):
    """Bad input: told at the call, in the producer."""
    dispatcher.producer("t")(lambda topic: call(current_request()))
    (row,) = dispatcher.send_request("t").gather(BOUND).failed
    assert type(row.exception) is error
    assert said in row.reason


def test_c13_a_cancel_wakes_a_sleeper(dispatcher):
    """C13: at once, with False; it does not matter whether the sleep had begun."""
    begun, log = sleeper(dispatcher, 3600)
    request = dispatcher.send_request("t", ttl=math.inf)
    assert begun.wait(BOUND)
    request.cancel()
    assert work_ended(dispatcher)
    assert log == [False]


def test_c13_a_cancel_wakes_a_sleeper_on_a_manual_clock():
    """C13: the same while the fake clock stands still."""
    clock = NotingClock()
    with ATEDispatcher(clock=clock) as dispatcher:
        _, log = sleeper(dispatcher, 3600)
        request = dispatcher.send_request("t", ttl=math.inf)
        assert clock.asleep.wait(BOUND)
        request.cancel()
        assert work_ended(dispatcher)
        assert log == [False]


@pytest.mark.parametrize("seconds", [3600, math.inf, 1e300])
def test_c13_the_deadline_wakes_a_sleeper(dispatcher, seconds):
    """C13: in real time, not past the deadline, whatever was asked for."""
    _, log = sleeper(dispatcher, seconds)
    request = dispatcher.send_request("t", ttl=10)
    assert request.wait(BOUND)
    assert request.status is RequestStatus.EXPIRED
    assert work_ended(dispatcher)
    assert log == [False]


def test_c13_the_deadline_on_a_manual_clock_wakes_a_sleeper(timed, clock):
    """C13: the same by the fake clock."""
    begun, log = sleeper(timed, 10)
    request = timed.send_request("t", ttl=1000)
    assert begun.wait(BOUND)
    clock.advance(2)
    assert request.wait(BOUND)
    assert work_ended(timed)
    assert log == [False]


def test_c13_sleep_in_a_called_off_work_does_not_sleep(dispatcher, gate):
    """C13: work that sleeps again and again after the cancel is not held up again and again."""
    log = []

    def work(topic):
        gate.park()
        for _ in range(100):
            log.append(current_request().sleep(3600))

    dispatcher.producer("t")(work)
    request = dispatcher.send_request("t", ttl=math.inf)
    gate.wait_parked()
    request.cancel()
    assert request.wait(BOUND)
    gate.open()
    assert work_ended(dispatcher)
    assert log == [False] * 100


# ---- on_cancel -----------------------------------------------------------------------------------


class Blocking(Producer):
    """Blocks in a call that only its `on_cancel` function can interrupt."""

    def __init__(self, **options):
        super().__init__(**options)
        self.interrupt = threading.Event()
        self.registered = threading.Event()
        self.threads = []

    def produce_dispatcher_output(self, topic):
        current_request().on_cancel(self.abort)
        self.registered.set()
        assert self.interrupt.wait(BOUND)
        return "interrupted"

    def abort(self):
        self.threads.append(threading.current_thread())
        self.interrupt.set()


def by_cancel(request, clock):
    request.cancel()


def by_deadline(request, clock):
    clock.advance(2)


@pytest.mark.parametrize("end", [by_cancel, by_deadline])
def test_c13_on_cancel_can_interrupt_a_call_that_blocks(timed, clock, end):
    """C13, C5: it is called at cancel and at the deadline, once, on the callback thread."""
    producer = timed.add(Blocking(), "t")
    request = timed.send_request("t", ttl=1000)
    assert producer.registered.wait(BOUND)
    end(request, clock)
    assert producer.interrupt.wait(BOUND)
    assert timed.remove(producer, wait=True, timeout=BOUND)
    (thread,) = producer.threads
    assert thread not in (producer, timed, threading.current_thread())
    assert thread.name == "timed-callbacks"


def test_c13_on_cancel_of_work_called_off_already(dispatcher, gate):
    """C13: registered after the cancel it is called all the same, so no cancel is missed."""
    called = threading.Event()

    def work(topic):
        gate.park()
        current_request().on_cancel(called.set)
        assert called.wait(BOUND)

    dispatcher.producer("t")(work)
    request = dispatcher.send_request("t", ttl=math.inf)
    gate.wait_parked()
    request.cancel()
    assert request.wait(BOUND)
    gate.open()
    assert called.wait(BOUND)


def test_c13_on_cancel_is_not_called_for_work_that_answered(dispatcher, gate):
    """C13: neither when the request completes, nor when others of it are called off later.

    Proven by a later callback through the same thread.
    """
    called = []

    def quick(topic):
        current_request().on_cancel(lambda: called.append("aborted"))
        return 1

    dispatcher.producer("t", "u")(quick)
    dispatcher.add(ScriptedProducer(gate), "u")
    assert dispatcher.send_request("t").wait(BOUND)
    request = dispatcher.send_request("u", ttl=math.inf)
    assert next(iter(request)).producer == "quick"
    request.cancel()
    done = threading.Event()
    request.add_done_callback(lambda request: done.set())
    assert done.wait(BOUND)
    assert called == []


def test_c13_on_cancel_in_a_pool(dispatcher):
    """C13: the function belongs to the call that registered it, also where several run at once."""
    ready, called = threading.Barrier(3), []
    released = threading.Event()

    def work(topic, number):
        current_request().on_cancel(lambda: (called.append(number), released.set()))
        ready.wait(BOUND)
        assert released.wait(BOUND)
        return number

    dispatcher.add(ExecutorProducer(work, ThreadPoolExecutor, 2, name="pool"), "t")
    requests = [dispatcher.send_request("t", number, ttl=math.inf) for number in range(2)]
    ready.wait(BOUND)
    requests[1].cancel()
    assert requests[0].gather(BOUND).values == {"pool": 0}
    assert called == [1]


def test_c13_on_cancel_elsewhere_is_refused(dispatcher):
    """C13: only the work itself may register, on the request it works on."""
    dispatcher.add(ScriptedProducer(1), "t")
    request = dispatcher.send_request("t")
    with pytest.raises(NoCurrentRequestError, match="on_cancel"):
        request.on_cancel(list)


# ---- coroutines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [by_cancel, by_deadline])
def test_c13_a_coroutine_is_cancelled_where_it_awaits(timed, clock, end):
    """C13: an ``async def`` hook is called off in asyncio's own way, and may tidy up."""
    awaiting, tidied = threading.Event(), threading.Event()

    async def work(topic, wait=True):
        if not wait:
            return "next"
        try:
            awaiting.set()
            await asyncio.Event().wait()
        finally:
            tidied.set()

    timed.producer("t")(work)
    request = timed.send_request("t", ttl=1000)
    assert awaiting.wait(BOUND)
    end(request, clock)
    assert tidied.wait(BOUND)
    assert timed.send_request("t", wait=False).gather(BOUND).values == {"work": "next"}


# ---- never by force ------------------------------------------------------------------------------


def test_c13_plain_work_is_never_interrupted(dispatcher, gate):
    """C13: a hook that does not ask runs to its end, undisturbed, in its own thread."""
    steps = []

    def work(topic):
        gate.park()
        for step in range(1000):
            steps.append(step)
        return "done"

    dispatcher.producer("t")(work)
    request = dispatcher.send_request("t", ttl=math.inf)
    gate.wait_parked()
    request.cancel()
    assert request.wait(BOUND)
    gate.open()
    assert work_ended(dispatcher)
    assert steps == list(range(1000))
    assert request.values == {}


def test_c13_no_asynchronous_exceptions_anywhere():
    """C13: the source neither raises in other threads nor reaches for what could."""
    for path in Path(ate_dispatcher.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for means in ("ctypes", "SetAsyncExc", "pthread_kill"):
            assert means not in source, path
