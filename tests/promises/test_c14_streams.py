"""C14: a producer that yields relays each value as it comes, and is closed when nobody waits."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from ate_dispatcher import ATEDispatcher, Observer, OutcomeStatus, RequestStatus, current_request
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches

OK, PARTIAL, ERROR = OutcomeStatus.OK, OutcomeStatus.PARTIAL, OutcomeStatus.ERROR
TIMEOUT, CANCELLED = OutcomeStatus.TIMEOUT, OutcomeStatus.CANCELLED


def counts(topic, *values):
    yield from values


def counts_and_returns(topic, *values):
    yield from values
    return "the end"


async def counts_slowly(topic, *values):
    for value in values:
        yield value
        await asyncio.sleep(0)


def ended(dispatcher, name="stream"):
    """Wait until the producer of that name has done with what it was sent, closing included."""
    return dispatcher.remove(dispatcher.agents[name], wait=True, timeout=BOUND)


def shape(outcomes):
    return [(outcome.status, outcome.value) for outcome in outcomes]


# ---- each value as it comes ----------------------------------------------------------------------


def test_c14_each_value_is_relayed_as_it_comes(dispatcher, gate):
    """C14: listeners and the caller have the first value while the producer is at the second."""
    heard = threading.Event()

    class Hears(RecordingListener):
        def process_dispatcher_result(self, topic, response):
            super().process_dispatcher_result(topic, response)
            heard.set()

    def stream(topic):
        yield "first"
        gate.park()
        yield "second"

    listener = dispatcher.add(Hears(), "t")
    dispatcher.producer("t")(stream)
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    assert heard.wait(BOUND)
    outcome = next(iter(request))
    assert (outcome.status, outcome.value) == (PARTIAL, "first")
    assert request.status is RequestStatus.OPEN
    assert request.values == {"stream": ["first"]}
    assert request.outcomes == ()
    gate.open()
    assert request.wait(BOUND, delivered=True)
    assert listener.values == ["first", "second"]


@pytest.mark.parametrize("function", [counts, counts_slowly])
def test_c14_a_stream_of_values_ends_with_a_final_ok(dispatcher, function):
    """C14, C2: PARTIALs and then one final outcome; results are the values and nothing else."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.producer("t", name="stream")(function)
    request = dispatcher.send_request("t", 1, 2, 3)
    assert request.wait(BOUND, delivered=True)
    assert request.status is RequestStatus.COMPLETE
    assert request.values == {"stream": [1, 2, 3]}
    assert shape(request.outcomes) == [(OK, None)]
    assert request.outcomes[0].streamed
    assert shape(listener.outcomes) == [(PARTIAL, 1), (PARTIAL, 2), (PARTIAL, 3), (OK, None)]
    assert listener.values == [1, 2, 3]
    assert listener.ends == [request]


def test_c14_the_return_value_is_the_final_one(dispatcher):
    """C14: if it is not None it is a result like the others, and the last of the values."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.producer("t", name="stream")(counts_and_returns)
    request = dispatcher.send_request("t", 1)
    assert request.wait(BOUND, delivered=True)
    assert shape(request.outcomes) == [(OK, "the end")]
    assert request.values == {"stream": [1, "the end"]}
    assert listener.values == [1, "the end"]


@pytest.mark.parametrize("function", [counts, counts_slowly])
def test_c14_an_empty_stream(dispatcher, function):
    """C14: no value is an empty list, and COMPLETE."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.producer("t", name="stream")(function)
    request = dispatcher.send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert request.status is RequestStatus.COMPLETE
    assert request.values == {"stream": []}
    assert listener.values == []


@pytest.mark.parametrize("function", [counts, counts_slowly])
def test_c14_falsy_values_are_values(dispatcher, function):
    """C14: None, 0 and "" that are yielded arrive."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.producer("t", name="stream")(function)
    request = dispatcher.send_request("t", None, 0, "", [])
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"stream": [None, 0, "", []]}
    assert listener.values == [None, 0, "", []]


def test_c14_a_falsy_return_value_is_one(dispatcher):
    """C14: only None is none."""
    listener = dispatcher.add(RecordingListener(), "t")

    @dispatcher.producer("t")
    def stream(topic):
        yield 1
        return 0

    request = dispatcher.send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"stream": [1, 0]}
    assert listener.values == [1, 0]


def test_c14_streams_and_plain_answers_side_by_side(dispatcher):
    """C14, C2: each producer has its row; a stream does not mix with its neighbours."""
    dispatcher.producer("t", name="a")(counts)
    dispatcher.producer("t", name="b")(lambda topic, *values: list(values))
    dispatcher.producer("t", name="c")(counts_and_returns)
    request = dispatcher.send_request("t", 1, 2).gather(BOUND)
    assert request.values == {"a": [1, 2], "b": [1, 2], "c": [1, 2, "the end"]}
    assert [outcome.streamed for outcome in request.outcomes] == [True, False, True]


def test_c14_the_caller_iterates_over_all_of_it(dispatcher):
    """C14: ``for outcome in request`` gives PARTIALs and the end, in order, early and late."""
    dispatcher.producer("t", name="stream")(counts_and_returns)
    request = dispatcher.send_request("t", 1, 2)
    expected = [(PARTIAL, 1), (PARTIAL, 2), (OK, "the end")]
    assert shape(request) == expected
    assert request.wait(BOUND)
    assert shape(request) == expected


def test_c14_every_partial_is_stamped_by_itself(timed, clock):
    """C14, C3: when the work began, and when this value was ready."""

    @timed.producer("t")
    def stream(topic):
        for _ in range(3):
            clock.advance(1)
            yield clock()

    listener = timed.add(RecordingListener(), "t")
    request = timed.send_request("t", ttl=FOR_EVER)
    assert request.wait(BOUND, delivered=True)
    partials = listener.outcomes[:3]
    assert [outcome.ended for outcome in partials] == [outcome.value for outcome in partials]
    assert {outcome.started for outcome in listener.outcomes} == {request.sent}
    assert [outcome.producer for outcome in partials] == ["stream"] * 3


def test_c14_the_statistics_count_values_and_streams(dispatcher):
    """C14: partial values beside answers, so that rows still add up."""
    dispatcher.producer("t", name="stream")(counts)
    for _ in range(2):
        assert dispatcher.send_request("t", 1, 2, 3).wait(BOUND)
    counted = dispatcher.statistics().producers["stream"]
    assert (counted.ok, counted.partials, counted.requests) == (2, 6, 2)


def test_c14_values_kept_by_a_request_are_bounded(dispatcher):
    """C14, C12: a stream that goes on for long does not fill the memory; listeners get it all."""
    heard = [0]
    dispatcher.listener("t")(lambda topic, value: heard.__setitem__(0, heard[0] + 1))
    dispatcher.producer("t", name="stream")(lambda topic, n: (number for number in range(n)))
    request = dispatcher.send_request("t", 10_050, ttl=FOR_EVER)
    assert request.wait(BOUND, delivered=True)
    assert request.values["stream"] == list(range(50, 10_050))
    assert heard == [10_050]


def test_c14_until_counts_answers_and_sees_values(dispatcher, gate):
    """C14: a number counts whole answers; a predicate may end the request at a single value."""

    def stream(topic):
        yield 1
        yield 2
        yield 3

    dispatcher.producer("t")(stream)
    counted = dispatcher.with_options(until=1).send_request("t").gather(BOUND)
    assert counted.values == {"stream": [1, 2, 3]}
    assert counted.status is RequestStatus.SATISFIED

    enough = dispatcher.with_options(until=lambda outcome: outcome.value == 2)
    request = enough.send_request("t").gather(BOUND)
    assert request.status is RequestStatus.SATISFIED
    assert request.values == {"stream": [1, 2]}
    assert request.outcomes[0].status is OutcomeStatus.NOT_NEEDED


# ---- an error in the middle ----------------------------------------------------------------------


def breaks(topic, *values):
    yield from values
    raise ValueError("the cable came off")


async def breaks_slowly(topic, *values):
    for value in values:
        yield value
    await asyncio.sleep(0)
    raise ValueError("the cable came off")


@pytest.mark.parametrize("function", [breaks, breaks_slowly])
def test_c14_an_error_in_the_middle_keeps_what_came(dispatcher, function):
    """C14, C2: the values stay, beside an ERROR with its traceback; the producer goes on."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.producer("t", name="stream")(function)
    for _ in range(2):
        request = dispatcher.send_request("t", 1, 2)
        assert request.wait(BOUND, delivered=True)
        assert request.status is RequestStatus.COMPLETE
        (failure,) = request.failed
        assert failure.status is ERROR
        assert isinstance(failure.exception, ValueError)
        assert "the cable came off" in failure.reason
        assert function.__name__ in failure.traceback
        assert request.values == {"stream": [1, 2]}
    assert listener.values == [1, 2] * 2
    assert [outcome.status for outcome in listener.outcomes] == [PARTIAL, PARTIAL, ERROR] * 2


@pytest.mark.parametrize("function", [breaks, breaks_slowly])
def test_c14_an_error_before_the_first_value(dispatcher, function):
    """C14: an ERROR like any other."""
    dispatcher.producer("t", name="stream")(function)
    request = dispatcher.send_request("t").gather(BOUND)
    assert [outcome.status for outcome in request.failed] == [ERROR]
    assert request.values == {}


def test_c14_stop_iteration_raised_by_hand_is_an_error(dispatcher):
    """C14: it does not pass for the end of the stream (Python makes it a RuntimeError)."""

    @dispatcher.producer("t")
    def stream(topic):
        yield 1
        next(iter(()))

    request = dispatcher.send_request("t").gather(BOUND)
    assert isinstance(request.failed[0].exception, RuntimeError)
    assert request.values == {"stream": [1]}


# ---- judged by the deadline ----------------------------------------------------------------------


class Lates(Observer):
    def __init__(self):
        self.values = []

    def on_late(self, outcome, in_time):
        self.values.append((outcome.value, in_time))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_c14_each_value_is_judged_by_the_deadline(timed, clock, asynchronous):
    """C14, C3: what was ready in time counts, what came after is late and delivered to nobody."""
    closed = threading.Event()
    lates = Lates()
    timed.add_observer(lates)
    listener = timed.add(RecordingListener(), "t")

    def stream(topic):
        try:
            yield "in time"
            clock.advance(1)
            yield "at the deadline"
            clock.advance(1)
            yield "late"
            raise AssertionError("it was asked for another one")
        finally:
            closed.set()

    async def async_stream(topic):
        for value in stream(topic):
            yield value

    timed.producer("t", name="stream")(async_stream if asynchronous else stream)
    request = timed.send_request("t", ttl=1000)
    assert request.wait(BOUND, delivered=True)
    assert closed.wait(BOUND)
    assert request.status is RequestStatus.EXPIRED
    assert [outcome.status for outcome in request.missing] == [TIMEOUT]
    assert request.values == {"stream": ["in time", "at the deadline"]}
    assert listener.values == ["in time", "at the deadline"]
    assert ended(timed)
    assert timed.flush(BOUND)
    assert timed.stop().clean  # the callback thread has ended, so the observer has heard it all
    assert ("late", False) in lates.values


def test_c14_a_value_in_time_counts_though_the_stream_expires(timed, clock, gate):
    """C14: the row is a TIMEOUT that says it was running; what came before stays."""

    def stream(topic):
        yield 1
        gate.park()
        yield 2

    timed.producer("t")(stream)
    request = timed.send_request("t", ttl=1000)
    gate.wait_parked()
    clock.advance(2)
    assert request.wait(BOUND)
    (outcome,) = request.missing
    assert outcome.status is TIMEOUT
    assert "running" in outcome.reason
    assert request.values == {"stream": [1]}
    gate.open()
    assert ended(timed)
    assert request.values == {"stream": [1]}


# ---- closed by its own thread --------------------------------------------------------------------


def by_deadline(dispatcher, request, clock):
    clock.advance(2)
    assert request.wait(BOUND)
    return RequestStatus.EXPIRED


def by_cancel(dispatcher, request, clock):
    request.cancel()
    assert request.wait(BOUND)
    return RequestStatus.CANCELLED


@pytest.mark.parametrize("end", [by_deadline, by_cancel])
def test_c14_closed_between_yields_on_its_own_thread(timed, clock, gate, end):
    """C14: at deadline or cancel ``finally`` runs, on the thread that ran the generator."""
    threads = []

    def stream(topic):
        threads.append(threading.current_thread())
        try:
            yield 1
            gate.park()
            yield 2
            yield 3
        except GeneratorExit:
            threads.append(threading.current_thread())
            raise

    timed.producer("t")(stream)
    producer = timed.agents["stream"]
    request = timed.send_request("t", ttl=1000)
    gate.wait_parked()
    status = end(timed, request, clock)
    assert len(threads) == 1  # it is at work: nobody closes it under its hands
    gate.open()
    assert ended(timed)
    assert threads == [producer, producer]
    assert request.status is status
    assert request.values == {"stream": [1]}


@pytest.mark.parametrize("end", [by_deadline, by_cancel])
def test_c14_an_async_stream_is_closed_on_its_loop(timed, clock, end):
    """C14: where it awaits, and on the loop's thread, so that it may await in ``finally``."""
    threads, awaiting = [], threading.Event()

    async def stream(topic):
        threads.append(threading.current_thread())
        try:
            yield 1
            awaiting.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            threads.append(threading.current_thread())

    timed.producer("t")(stream)
    request = timed.send_request("t", ttl=1000)
    assert awaiting.wait(BOUND)
    status = end(timed, request, clock)
    assert ended(timed)
    assert len(threads) == 2
    assert threads[0] is threads[1]
    assert threads[0].name == "stream-loop"
    assert request.status is status
    assert request.values == {"stream": [1]}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_c14_a_stream_nobody_needs_any_more_is_closed(dispatcher, asynchronous):
    """C14: an ``until`` rule that is met closes it, too; it would go on for ever."""
    closed = threading.Event()

    def numbers():
        number = 0
        while True:
            yield number
            number += 1

    def stream(topic):
        try:
            yield from numbers()
        finally:
            closed.set()

    async def async_stream(topic):
        try:
            for number in numbers():
                yield number
        finally:
            closed.set()

    dispatcher.producer("t", name="stream")(async_stream if asynchronous else stream)
    view = dispatcher.with_options(until=lambda outcome: outcome.value == 5)
    request = view.send_request("t", ttl=FOR_EVER).gather(BOUND)
    assert request.values == {"stream": [0, 1, 2, 3, 4, 5]}
    assert closed.wait(BOUND)
    assert ended(dispatcher)


def test_c14_a_stop_closes_streams(gate):
    """C14, C9: an endless stream without a deadline does not keep a station from stopping."""
    closed = threading.Event()

    def stream(topic):
        try:
            while True:
                yield 1
                gate.open()
        finally:
            closed.set()

    with ATEDispatcher() as dispatcher:
        dispatcher.producer("t")(stream)
        dispatcher.send_request("t", ttl=math.inf)
        gate.park()
    assert closed.is_set()
    assert not dispatcher.is_alive()


def test_c14_the_producer_goes_on_after_a_closed_stream(dispatcher, gate):
    """C14, C5: what closing raises harms nobody; the next request is served."""

    def stream(topic, first=False):
        try:
            yield 1
            if first:
                gate.park()
            yield 2
        finally:
            if first:
                raise OSError("cannot be closed")

    dispatcher.producer("t")(stream)
    request = dispatcher.send_request("t", first=True, ttl=FOR_EVER)
    gate.wait_parked()
    request.cancel()
    assert request.wait(BOUND)
    gate.open()
    assert dispatcher.send_request("t").gather(BOUND).values == {"stream": [1, 2]}


def test_c14_a_finished_stream_is_not_closed_again(dispatcher):
    """C14: ``finally`` runs once, at its own end."""
    ends = []

    def stream(topic):
        try:
            yield 1
        finally:
            ends.append(current_request().status)

    dispatcher.producer("t")(stream)
    assert dispatcher.send_request("t").wait(BOUND)
    assert ended(dispatcher)
    assert ends == [RequestStatus.OPEN]


def test_c14_the_work_itself_may_cancel(dispatcher):
    """C14, C13: a stream that calls its own request off is closed at its next value."""
    went_on = []

    def stream(topic):
        yield 1
        current_request().cancel()
        yield 2
        went_on.append(True)
        yield 3

    dispatcher.producer("t")(stream)
    request = dispatcher.send_request("t").gather(BOUND)
    assert request.status is RequestStatus.CANCELLED
    assert ended(dispatcher)
    assert went_on == []
    assert request.values == {"stream": [1]}


# ---- with copies ---------------------------------------------------------------------------------


def test_c14_a_stream_may_reuse_its_buffer_under_copy(dispatcher):
    """C14, C11: with ``copy=`` each value is copied as it comes."""

    def stream(topic):
        buffer = []
        for number in range(3):
            buffer.append(number)
            yield buffer
        return buffer

    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.producer("t")(stream)
    expected = [[0], [0, 1], [0, 1, 2], [0, 1, 2]]
    request = dispatcher.with_options(copy="shallow").send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"stream": expected}
    assert listener.values == expected


def test_c14_a_bounded_producer_may_stream(dispatcher):
    """C14, C10: values are not work that waits: a capacity of one bounds requests, not them."""
    producer = ScriptedProducer(counts, name="stream", capacity=1)
    dispatcher.add(producer, "t")
    assert dispatcher.send_request("t", *range(50)).gather(BOUND).values == {
        "stream": list(range(50))
    }


def test_c14_a_stream_that_stands_still_holds_up_nobody(dispatcher, gate):
    """C14, C10: between its values the others' flow."""

    def stands(topic, *values):
        yield 1
        gate.park()

    dispatcher.producer("t")(stands)
    dispatcher.producer("t", name="flows")(counts)
    request = dispatcher.send_request("t", 2, 3, ttl=FOR_EVER)
    gate.wait_parked()
    other = dispatcher.with_options(to="flows").send_request("t", 4).gather(BOUND)
    assert other.values == {"flows": [4]}
    assert request.status is RequestStatus.OPEN
    assert request.values == {"stands": [1], "flows": [2, 3]}


def test_c14_what_a_request_keeps_of_a_long_stream(dispatcher, gate, caplog):
    """C14: listeners get all of it; the request keeps the end, counts the rest and says so once."""
    listener = dispatcher.add(RecordingListener(), "long")

    def scope(topic):
        yield from range(10_001)
        gate.open()  # what the other gives comes behind all that

    def other(topic):
        gate.park()
        yield 1
        yield 2

    dispatcher.producer("long", name="scope")(scope)
    dispatcher.producer("long", name="other")(other)
    request = dispatcher.send_request("long", ttl=FOR_EVER).gather(BOUND)
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"scope": list(range(1, 10_001)), "other": [1, 2]}
    assert request.dropped == 1
    assert len(listener.outcomes) >= 10_003
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "streamed more than 10000 values" in text]) == 1
    assert dispatcher.send_request("none").gather(BOUND).dropped == 0
