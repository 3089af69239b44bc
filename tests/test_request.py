"""The handle that ``send_request`` returns: waiting, reading, and every way to be told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import re
import threading
import traceback

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    NoProducersError,
    OutcomeStatus,
    Phase,
    RequestCancelledError,
    RequestExpiredError,
    RequestFailedError,
    RequestStatus,
    StateError,
    WaitTimeoutError,
)
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches

OK, ERROR, TIMEOUT = OutcomeStatus.OK, OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT
CANCELLED, REJECTED = OutcomeStatus.CANCELLED, OutcomeStatus.REJECTED


@pytest.fixture
def mixed(timed, clock, gate):
    """An ended request with a value, an error, a refusal and a time-out, in this order."""
    timed.add(ScriptedProducer(5.0, name="good", site=0), "t")
    timed.add(ScriptedProducer(ValueError("no signal"), name="bad", site=1), "t")
    full = timed.add(ScriptedProducer(gate, name="full", site=1, capacity=1), "t", "other")
    timed.add(ScriptedProducer(gate, name="hung"), "t")
    timed.send_request("other", ttl=FOR_EVER)
    gate.wait_parked()
    timed.send_request("other", ttl=FOR_EVER)
    request = timed.with_options(tags={"lot": 7}).send_request("t", 1, ttl=1000, channel=2)
    gate.wait_parked(2)
    coming = iter(request)
    assert {next(coming).producer for _ in range(3)} == {"good", "bad", "full"}
    clock.advance(1.5)
    assert request.wait(BOUND)
    assert full.is_alive()
    return request


# ---- reading -------------------------------------------------------------------------------------


def names(outcomes):
    return [outcome.producer for outcome in outcomes]


def test_outcomes_are_sorted_by_what_became_of_them(mixed):
    """Handle, C2: tuples in roster order; together they are the roster."""
    assert mixed.status is RequestStatus.EXPIRED
    assert mixed.roster == ("good", "bad", "full", "hung")
    assert names(mixed.outcomes) == list(mixed.roster)
    assert [outcome.status for outcome in mixed.outcomes] == [OK, ERROR, REJECTED, TIMEOUT]
    assert names(mixed.succeeded) == ["good"]
    assert names(mixed.failed) == ["bad", "full"]
    assert names(mixed.missing) == ["hung"]
    for part in (mixed.outcomes, mixed.succeeded, mixed.failed, mixed.missing):
        assert isinstance(part, tuple)


def test_values_and_by_site(mixed):
    """Handle: good values by name; all outcomes by site, None for those of no site."""
    assert mixed.values == {"good": 5.0}
    assert {site: names(outcomes) for site, outcomes in mixed.by_site().items()} == {
        0: ["good"],
        1: ["bad", "full"],
        None: ["hung"],
    }


def test_a_request_says_what_was_asked(mixed):
    """Handle: topic, arguments, tags, TTL and times."""
    assert (mixed.topic, mixed.args, dict(mixed.kwargs)) == ("t", (1,), {"channel": 2})
    assert dict(mixed.tags) == {"lot": 7}
    assert mixed.ttl == 1000
    assert mixed.deadline == mixed.sent + 1.0
    assert mixed.cancelled
    assert mixed.remaining() == 0.0


def test_an_outcome_tells_its_whole_story(mixed):
    """C2: who, where, what, why and when, also as a dict."""
    good, bad, full, hung = mixed.outcomes
    assert good.sent == mixed.sent <= good.queued <= good.started <= good.ended
    assert (good.value, good.site, good.exception, good.reason) == (5.0, 0, None, "")
    assert (good.phase, good.since, good.traceback) == (None, None, "")
    assert isinstance(bad.exception, ValueError)
    assert bad.reason == "ValueError: no signal"
    assert "in _perform" in bad.traceback
    assert (full.started, full.value) == (None, None)
    assert (hung.phase, hung.since, hung.ended) == (Phase.RUNNING, hung.started, None)
    assert {dict(outcome.tags)["lot"] for outcome in mixed.outcomes} == {7}
    assert bad.as_dict() == {
        "topic": "t",
        "producer": "bad",
        "site": 1,
        "status": "ERROR",
        "value": None,
        "exception": bad.exception,
        "reason": "ValueError: no signal",
        "phase": None,
        "tags": {"lot": 7},
        "sent": bad.sent,
        "queued": bad.queued,
        "started": bad.started,
        "ended": bad.ended,
    }
    assert hung.as_dict()["phase"] == "running"


def test_what_is_printed_can_be_read(mixed, dispatcher):
    """The representation of a request and of its outcomes says what a log should."""
    assert repr(mixed) == "<Request 't' EXPIRED, 4 of 4 rows final, ttl=1000 ms>"
    assert repr(mixed.outcomes[0]) == "<Outcome OK 't' from 'good': 5.0>"
    assert repr(mixed.outcomes[1]) == "<Outcome ERROR 't' from 'bad': ValueError: no signal>"
    assert "no TTL" in repr(dispatcher.send_request("t", ttl=math.inf))


def test_an_open_request_shows_what_it_has(dispatcher, gate):
    """Handle: everything may be read at any time; what is final so far is there."""
    dispatcher.add(ScriptedProducer(1, name="quick"), "t")
    dispatcher.add(ScriptedProducer(gate, name="slow"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    assert next(iter(request)).producer == "quick"
    assert request.status is RequestStatus.OPEN
    assert request.roster == ("quick", "slow")
    assert request.values == {"quick": 1}
    assert names(request.outcomes) == ["quick"]
    assert request.missing == ()
    assert request.laggards() == ("slow",)
    assert not request.cancelled
    assert request.remaining() > 0


# ---- wait and gather -----------------------------------------------------------------------------


def test_wait_that_times_out_changes_nothing(dispatcher, gate):
    """C7: False, and the request goes on."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    for timeout in (0, -1, 0.001):
        assert request.wait(timeout) is False
        assert request.wait(timeout, delivered=True) is False
    assert request.status is RequestStatus.OPEN
    gate.open()
    assert request.wait() is True
    assert request.wait(0) is True
    assert request.wait(math.inf) is True
    assert request.wait(1e12, delivered=True) is True


def test_many_threads_may_wait(dispatcher, gate):
    """C7: whoever waits is released, and nobody twice."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(request.wait(BOUND))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    gate.wait_parked()
    gate.open()
    for thread in threads:
        thread.join(BOUND)
    assert results == [True] * 8


def test_gather_gives_the_request_itself(dispatcher):
    """Handle: so that sending, waiting and reading fit in one line."""
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    request = dispatcher.send_request("t")
    assert request.gather() is request
    assert request.gather(timeout=0) is request


def test_a_wait_says_that_the_dispatcher_was_not_started(caplog, gate):
    """Handle: the call that a script forgot is named in the log and the error."""
    said = "its dispatcher was not started, call start()"
    dispatcher = ATEDispatcher()
    request = dispatcher.send_request("t")
    with pytest.raises(WaitTimeoutError, match=re.escape(said)):
        request.gather(timeout=0.001)
    assert [record.getMessage().endswith(said) for record in caplog.records] == [True]
    caplog.clear()
    with dispatcher:
        assert request.gather(BOUND).status is RequestStatus.NO_PRODUCERS
        dispatcher.add(ScriptedProducer(gate), "slow")
        with pytest.raises(WaitTimeoutError) as caught:
            dispatcher.send_request("slow", ttl=60_000).gather(timeout=0.001)
        assert said not in str(caught.value)
        gate.open()
    assert not caplog.records


@pytest.mark.parametrize("way", ["iterate", "iterate asynchronously", "await", "flush"])
def test_every_wait_says_that_the_dispatcher_was_not_started(caplog, way):
    """Handle: iterating, awaiting and flushing too name the call that a script forgot."""
    dispatcher = ATEDispatcher()
    request = dispatcher.send_request("t")

    async def begin():
        if way == "await":
            request.__await__().send(None)
        else:
            request.__aiter__()

    if way == "iterate":
        iter(request)
    elif way == "flush":
        assert not dispatcher.flush(0)
    else:
        asyncio.run(begin())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1, said
    assert "not started" in said[0]
    assert said[0].endswith("call start()")
    dispatcher.stop()
    caplog.clear()
    assert request.wait(BOUND)
    assert len(list(request)) == 0
    assert dispatcher.flush(BOUND)
    assert not caplog.records


def test_gather_raises_when_the_time_is_up(dispatcher, gate):
    """Handle: `WaitTimeoutError`, a `TimeoutError`, says which request and how long; it goes on."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    with pytest.raises(WaitTimeoutError, match=r"'t' OPEN.*after 0\.001 s") as caught:
        request.gather(0.001)
    assert isinstance(caught.value, TimeoutError)
    assert request.status is RequestStatus.OPEN
    gate.open()
    assert request.gather(BOUND).values == {"dmm": None}


# ---- futures, callbacks --------------------------------------------------------------------------


def test_future_resolves_to_the_ended_request(dispatcher, gate):
    """Handle: a `concurrent.futures.Future`, also one that is asked for after the end."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    early, other = request.future(), request.future()
    assert early is not other
    assert not early.done()
    gate.open()
    assert early.result(BOUND) is request
    assert other.result(BOUND) is request
    assert request.future().result(BOUND) is request
    assert request.status is RequestStatus.COMPLETE


def test_futures_fit_in_with_the_standard_library(dispatcher):
    """Handle: `concurrent.futures.wait` and `as_completed` take them."""
    dispatcher.add(ScriptedProducer(lambda topic, n: n, name="dmm"), "t")
    requests = [dispatcher.send_request("t", number) for number in range(5)]
    done, pending = concurrent.futures.wait([r.future() for r in requests], timeout=BOUND)
    assert {future.result() for future in done} == set(requests)
    assert pending == set()
    first = next(concurrent.futures.as_completed([requests[0].future()], timeout=BOUND))
    assert first.result().values == {"dmm": 0}


def test_cancelling_a_future_leaves_the_request_alone(dispatcher, gate):
    """Handle: it only gives up waiting."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    future = request.future()
    assert future.cancel()
    gate.open()
    assert request.gather(BOUND).status is RequestStatus.COMPLETE
    assert dispatcher.flush(BOUND)
    assert future.cancelled()


def test_a_future_of_an_expired_request_is_no_exception(timed, clock, gate):
    """Handle: the result is the request, whatever became of it; its status says so."""
    timed.add(ScriptedProducer(gate), "t")
    future = timed.send_request("t", ttl=100).future()
    gate.wait_parked()
    clock.advance(1)
    assert future.result(BOUND).status is RequestStatus.EXPIRED


def test_done_callbacks_are_called_once_in_order_on_the_callback_thread(dispatcher, gate):
    """Handle, C5: before and after the end alike; one that raises is logged and stops nobody."""
    called, threads, last = [], set(), threading.Event()

    def note(number):
        def callback(request):
            called.append((number, request))
            threads.add(threading.current_thread().name)

        return callback

    dispatcher.add(ScriptedProducer(gate), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    for number in range(3):
        request.add_done_callback(note(number))
    assert called == []
    gate.open()
    assert request.wait(BOUND)
    request.add_done_callback(note(3))
    request.add_done_callback(lambda request: last.set())
    assert last.wait(BOUND)
    assert called == [(number, request) for number in range(4)]
    assert threads == {"dispatcher-callbacks"}


def test_a_done_callback_that_raises_is_logged(dispatcher, caplog):
    """C5: and the next one is called all the same."""
    last = threading.Event()
    request = dispatcher.send_request("nobody")
    request.add_done_callback(lambda request: 1 / 0)
    request.add_done_callback(lambda request: last.set())
    assert last.wait(BOUND)
    assert "ZeroDivisionError" in caplog.text


# ---- iterating -----------------------------------------------------------------------------------


def test_outcomes_can_be_followed_as_they_come(dispatcher):
    """Handle: ``for outcome in request`` yields each at its time, and ends with the request."""
    gates = [Gate(), Gate()]
    for number, gate in enumerate(gates):
        dispatcher.add(ScriptedProducer(lambda topic, g=gate: g.park() or 1, name=f"{number}"), "t")
    dispatcher.add(ScriptedProducer(KeyError("x"), name="bad"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    outcomes = iter(request)
    order = [next(outcomes).producer]
    for gate in reversed(gates):
        gate.open()
        order.append(next(outcomes).producer)
    assert order == ["bad", "1", "0"]
    assert list(outcomes) == []
    assert list(outcomes) == []  # an ended iterator stays ended
    assert request.status is RequestStatus.COMPLETE


@pytest.mark.parametrize("end", ["expired", "cancelled", "nobody"])
def test_following_ends_with_the_request_however_it_ends(timed, clock, gate, end):
    """Handle: nobody is left hanging in a ``for``."""
    if end != "nobody":
        timed.add(ScriptedProducer(gate, name="dmm"), "t")
    request = timed.send_request("t", ttl=1000)
    outcomes = iter(request)
    if end != "nobody":
        gate.wait_parked()
    if end == "expired":
        clock.advance(2)
    else:
        request.cancel()
    assert [outcome.status for outcome in outcomes] == {
        "expired": [TIMEOUT],
        "cancelled": [CANCELLED],
        "nobody": [],
    }[end]


def test_an_ended_request_can_be_followed_again(dispatcher):
    """Handle: each ``for`` has a buffer of its own, and gets everything."""
    for number in range(3):
        dispatcher.add(ScriptedProducer(number, name=f"dmm{number}"), "t")
    request = dispatcher.send_request("t")
    first, second = iter(request), iter(request)
    assert [sorted(o.value for o in outcomes) for outcomes in (first, second)] == [[0, 1, 2]] * 2
    assert request.wait(BOUND)
    assert sorted(outcome.value for outcome in request) == [0, 1, 2]


def test_a_request_can_be_followed_after_the_stop():
    """Handle, C9: of a dispatcher that has ended, too."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(1), "t")
        request = dispatcher.send_request("t").gather(BOUND)
    assert [outcome.value for outcome in request] == [1]
    assert request.future().result(BOUND) is request


def test_a_reader_that_is_far_behind_loses_the_oldest_with_a_warning(dispatcher, caplog):
    """Handle: the buffer is bounded, so that a forgotten reader does not fill the memory."""
    dispatcher.producer("t", name="stream")(lambda topic: (number for number in range(10_020)))
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    outcomes = iter(request)
    assert request.wait(BOUND)
    values = [outcome.value for outcome in outcomes]
    assert len(values) <= 10_001
    assert values[-2:] == [10_019, None]
    assert outcomes.dropped > 0
    assert caplog.text.count("behind") == 1


# ---- async ---------------------------------------------------------------------------------------


def test_await_gives_the_ended_request(dispatcher, gate):
    """Handle: ``await`` before and after the end; the event loop goes on meanwhile."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")

    async def main():
        request = dispatcher.send_request("t", ttl=FOR_EVER)
        waiting = asyncio.ensure_future(asyncio.wait_for(request, BOUND))
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.open()
        assert await waiting is request
        assert await request is request
        return request

    assert asyncio.run(main()).values == {"dmm": None}


def test_a_cancelled_await_leaves_the_request_alone(dispatcher, gate):
    """Handle: as `asyncio.wait_for` does at its time-out."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")

    async def main():
        request = dispatcher.send_request("t", ttl=FOR_EVER)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(request, 0.001)
        assert request.status is RequestStatus.OPEN
        gate.open()
        return await request

    assert asyncio.run(main()).status is RequestStatus.COMPLETE


def test_many_requests_can_be_gathered_at_once(dispatcher):
    """Handle: `asyncio.gather` takes them as they are."""
    dispatcher.add(ScriptedProducer(lambda topic, n: n, name="dmm"), "t")

    async def main():
        return await asyncio.gather(*(dispatcher.send_request("t", n) for n in range(10)))

    assert [request.values["dmm"] for request in asyncio.run(main())] == list(range(10))


def test_async_for_yields_outcomes_as_they_come(dispatcher, gate):
    """Handle: values of streams too, without blocking the loop; late readers get it all."""

    @dispatcher.producer("t")
    def stream(topic):
        yield 1
        gate.park()
        yield 2

    async def main():
        request = dispatcher.send_request("t", ttl=FOR_EVER)
        values = []
        async for outcome in request:
            values.append((outcome.status.name, outcome.value))
            if outcome.value == 1:
                await asyncio.sleep(0)
                gate.open()
        return values, [outcome.value async for outcome in request]

    values, again = asyncio.run(main())
    assert values == [("PARTIAL", 1), ("PARTIAL", 2), ("OK", None)]
    assert again == [1, 2, None]


def test_an_async_reader_whose_loop_is_gone_harms_nobody(dispatcher, gate):
    """Handle, C5: a coroutine that left in the middle does not hold up the dispatcher."""
    dispatcher.add(ScriptedProducer(gate, name="slow"), "t")
    dispatcher.add(ScriptedProducer(1, name="quick"), "t")

    async def main():
        request = dispatcher.send_request("t", ttl=FOR_EVER)
        async for _ in request:
            break
        return request

    request = asyncio.run(main())
    gate.open()
    assert request.gather(BOUND).status is RequestStatus.COMPLETE
    assert dispatcher.flush(BOUND)


# ---- raise_for_status ----------------------------------------------------------------------------


def test_raise_for_status_is_silent_when_everybody_answered_well(dispatcher):
    """Handle: nothing to raise, nothing returned."""
    dispatcher.add(ScriptedProducer(1), "t")
    assert dispatcher.send_request("t").gather(BOUND).raise_for_status() is None


def test_raise_for_status_names_who_did_not_and_keeps_the_good_values(mixed):
    """Handle: one sentence with every failure; values, failed and missing on the error."""
    with pytest.raises(RequestExpiredError) as caught:
        mixed.raise_for_status()
    error = caught.value
    assert isinstance(error, TimeoutError)
    text = str(error)
    assert text.startswith("request on 't' ended EXPIRED, 1 of 4 producers answered well: ")
    for part in ("bad: ValueError: no signal", "full: mailbox full", "hung: still running"):
        assert part in text
    assert error.request is mixed
    assert error.values == {"good": 5.0}
    assert error.failed == mixed.failed
    assert error.missing == mixed.missing
    assert error.__cause__ is mixed.failed[0].exception
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "no signal" in shown


def test_raise_for_status_after_an_error_only(dispatcher):
    """Handle: everybody answered, one with an error: `RequestFailedError` itself."""
    dispatcher.add(ScriptedProducer(OSError("gone"), name="dmm"), "t")
    request = dispatcher.send_request("t").gather(BOUND)
    with pytest.raises(RequestFailedError, match="dmm: OSError: gone") as caught:
        request.raise_for_status()
    assert type(caught.value) is RequestFailedError
    assert "ended COMPLETE, 0 of 1 producers answered well" in str(caught.value)


def test_raise_for_status_after_a_cancel(dispatcher, gate):
    """Handle: `RequestCancelledError`; the same after a stop."""
    dispatcher.add(ScriptedProducer(gate), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    request.cancel()
    with pytest.raises(RequestCancelledError, match="CANCELLED"):
        request.gather(BOUND).raise_for_status()
    other = ATEDispatcher()
    other.register_result_producer(ScriptedProducer(), "t")
    stopped = other.send_request("t")
    other.stop(drain=False)
    with pytest.raises(RequestCancelledError, match="STOPPED"):
        stopped.raise_for_status()


def test_raise_for_status_without_producers(dispatcher):
    """Handle: `NoProducersError`, a `LookupError`, names the topic."""
    request = dispatcher.send_request("volatge").gather(BOUND)
    with pytest.raises(NoProducersError, match="no producer is registered for 'volatge'") as caught:
        request.raise_for_status()
    assert isinstance(caught.value, LookupError)


def test_raise_for_status_of_an_open_request_is_a_mistake(dispatcher, gate):
    """Handle: it says to wait first, instead of passing for good."""
    dispatcher.add(ScriptedProducer(gate), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    with pytest.raises(StateError, match=r"'t' is still open: wait\(\)"):
        request.raise_for_status()


# ---- with ----------------------------------------------------------------------------------------


def test_leaving_the_block_cancels_what_is_open(dispatcher, gate):
    """Handle: by its end and by an exception; the exception goes on."""
    dispatcher.add(ScriptedProducer(gate), "t")
    with dispatcher.send_request("t", ttl=FOR_EVER) as request:
        assert request.status is RequestStatus.OPEN
    assert request.gather(BOUND).status is RequestStatus.CANCELLED
    with pytest.raises(KeyError), dispatcher.send_request("t", ttl=FOR_EVER) as request:
        raise KeyError
    assert request.gather(BOUND).status is RequestStatus.CANCELLED


def test_leaving_the_block_of_an_ended_request_changes_nothing(dispatcher):
    """Handle: it was complete, and stays so."""
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    with dispatcher.send_request("t") as request:
        assert request.wait(BOUND)
    assert request.status is RequestStatus.COMPLETE
    assert request.values == {"dmm": 1}


# ---- laggards ------------------------------------------------------------------------------------


def test_laggards_of_a_request(dispatcher, gate):
    """C7: producers while it is open, then the listeners a delivered wait is held up by."""
    dispatcher.add(ScriptedProducer(1, gate, name="dmm"), "t")
    request = dispatcher.send_request("t")
    assert request.wait(BOUND)
    assert request.laggards() == ()
    listener = dispatcher.add(RecordingListener(name="log"), "t")
    held = dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    assert held.laggards() == ("dmm",)
    gate.open()
    assert held.wait(BOUND, delivered=True)
    assert held.laggards() == ()
    assert listener.values == [None]
