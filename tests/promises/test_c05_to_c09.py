"""C5 to C9: nothing dies silently, order, delivery, routing, and the end of it all."""

from __future__ import annotations

import logging
import threading

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    DeadlockError,
    Observer,
    OutcomeStatus,
    Producer,
    RequestStatus,
    ResultListener,
    StateError,
)
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

BOUND = 5


# ---- C5 ------------------------------------------------------------------------------------------


def test_c5_a_producer_that_raises_goes_on(dispatcher):
    """C5: an exception becomes an ERROR outcome with its traceback; the thread lives on."""
    dispatcher.add(ScriptedProducer(OSError("unplugged"), "back", name="dmm"), "t")
    failed = dispatcher.send_request("t").gather(BOUND).failed[0]
    assert isinstance(failed.exception, OSError)
    assert "unplugged" in failed.traceback
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm": "back"}


def test_c5_a_listener_that_raises_goes_on(caplog):
    """C5: logged, counted and handed to on_listener_error; the next event is handled."""
    told = []
    heard = threading.Event()

    def on_error(name, event, error):
        told.append((name, event.value, error))
        heard.set()

    class Fussy(ResultListener):
        good = 0

        def process_dispatcher_result(self, topic, response):
            if response == "bad":
                raise ValueError("no")
            self.good += 1

    with ATEDispatcher(on_listener_error=on_error) as dispatcher:
        fussy = dispatcher.add(Fussy(name="fussy"), "t")
        dispatcher.add(ScriptedProducer("bad", "good"), "t")
        with caplog.at_level(logging.ERROR, "ate_dispatcher"):
            dispatcher.send_request("t").wait(BOUND, delivered=True)
            assert dispatcher.send_request("t").wait(BOUND, delivered=True)
        assert heard.wait(BOUND)
        assert fussy.good == 1
        assert dispatcher.statistics().listeners["fussy"].errors == 1
    assert [(name, value) for name, value, _ in told] == [("fussy", "bad")]
    assert "fussy" in caplog.text


@pytest.mark.parametrize("crash", [SystemExit, KeyboardInterrupt])
def test_c5_system_exit_fails_that_agent_alone(dispatcher, crash, gate):
    """C5: its rows that wait become REJECTED, it leaves the routing, the others go on."""
    dispatcher.add(
        ScriptedProducer(lambda topic: gate.park() or (_ for _ in ()).throw(crash()), name="a"), "t"
    )
    dispatcher.add(ScriptedProducer("ok", name="b"), "t")
    first = dispatcher.send_request("t", ttl=60_000)

    gate.wait_parked()
    second = dispatcher.send_request("t", ttl=60_000)
    gate.open()
    assert first.wait(BOUND)
    assert second.wait(BOUND)
    third = dispatcher.send_request("t").gather(BOUND)
    assert third.roster == ("b",)
    assert "a" not in dispatcher.agents
    assert second.failed[0].status is OutcomeStatus.REJECTED
    assert "failed" in second.failed[0].reason
    assert second.values == third.values == {"b": "ok"}


def test_c5_an_agent_that_stops_answers_for_what_still_reaches_it(dispatcher, gate):
    """C5: work queued behind a stop is REJECTED, never lost; the agent leaves the routing."""
    producer = dispatcher.add(ScriptedProducer(gate, name="a"), "t")
    running = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    producer.stop()
    queued = dispatcher.send_request("t", ttl=60_000)
    assert dispatcher.send_request("elsewhere").wait(BOUND)  # so `queued` was scattered before
    gate.open()
    assert queued.wait(BOUND)
    assert running.wait(BOUND)
    assert queued.failed[0].status is OutcomeStatus.REJECTED
    assert running.status is RequestStatus.COMPLETE
    producer.join(BOUND)
    assert dispatcher.send_request("t").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_c5_on_start_that_raises_fails_the_agent(dispatcher, caplog):
    """C5: what reaches an agent whose on_start raised is REJECTED, with the reason."""

    class Unplugged(Producer):
        def on_start(self):
            raise OSError("no instrument")

        def produce_dispatcher_output(self, topic):
            return 1

    producer = Unplugged()
    dispatcher.register_result_producer(producer, "t")
    request = dispatcher.send_request("t", ttl=60_000)
    assert dispatcher.send_request("elsewhere").wait(BOUND)  # so `request` is scattered
    producer.start()
    assert request.wait(BOUND)
    assert request.failed[0].status is OutcomeStatus.REJECTED
    assert "no instrument" in request.failed[0].reason


def test_c5_users_code_runs_on_the_callback_thread_never_on_the_dispatchers(dispatcher):
    """C5: observers, done-callbacks, futures and on_cancel share one thread of their own."""
    threads = {}
    done = threading.Event()

    class Watcher(Observer):
        def on_end(self, request):
            threads["observer"] = threading.current_thread()

    def finished(request):
        threads["done"] = threading.current_thread()
        done.set()

    dispatcher.add_observer(Watcher())
    dispatcher.add(ScriptedProducer(1), "t")
    request = dispatcher.send_request("t")
    future = request.future()
    future.add_done_callback(lambda _: threads.setdefault("future", threading.current_thread()))
    request.add_done_callback(finished)
    assert future.result(BOUND) is request
    assert done.wait(BOUND)
    assert dispatcher.flush(BOUND)
    assert len(set(threads.values())) == 1
    assert threads["done"] not in (dispatcher, threading.current_thread())


def test_c5_a_predicate_that_raises_is_logged_and_disabled(dispatcher, caplog):
    """C5: `until` runs on the dispatcher's thread; an error there harms nobody."""
    dispatcher.add(ScriptedProducer(1, name="a"), "t")
    dispatcher.add(ScriptedProducer(2, name="b"), "t")
    request = dispatcher.with_options(until=lambda outcome: 1 / 0).send_request("t").gather(BOUND)
    assert request.status is RequestStatus.COMPLETE
    assert request.values == {"a": 1, "b": 2}
    assert caplog.text.count("is disabled") == 1


def test_c5_an_error_nobody_looked_at_is_logged(dispatcher):
    """C5: fire and forget does not lose an exception; a request looked at says nothing."""
    logged, records = threading.Event(), []

    class Tell(logging.Handler):
        def emit(self, record):
            records.append(record)
            logged.set()

    handler = Tell()
    logging.getLogger("ate_dispatcher").addHandler(handler)
    try:
        dispatcher.add(ScriptedProducer(ValueError("unseen")), "t")
        assert dispatcher.send_request("t").gather(BOUND).failed
        assert dispatcher.flush(BOUND)
        assert not logged.is_set()
        dispatcher.send_request("t")
        assert dispatcher.flush(BOUND)
        assert logged.wait(BOUND)
    finally:
        logging.getLogger("ate_dispatcher").removeHandler(handler)
    assert "unseen" in repr(records[0].exc_info)


# ---- C6 ------------------------------------------------------------------------------------------


def test_c6_all_listeners_see_one_order_and_a_producer_works_in_order(dispatcher):
    """C6: the order of acceptance is everybody's order."""
    listeners = [dispatcher.add(RecordingListener(), "t") for _ in range(3)]
    producers = [dispatcher.add(ScriptedProducer(lambda topic, n: n), "t") for _ in range(3)]
    requests = [dispatcher.send_request("t", number) for number in range(200)]
    assert requests[-1].wait(BOUND)
    assert dispatcher.flush(BOUND)
    orders = [[(o.producer, o.value) for o in listener.outcomes] for listener in listeners]
    assert len(orders[0]) == 600
    assert orders[0] == orders[1] == orders[2]
    for producer in producers:
        assert [call.args[0] for call in producer.calls] == list(range(200))


# ---- C7 ------------------------------------------------------------------------------------------


class Slow(ResultListener):
    def __init__(self, gate, **options):
        super().__init__(**options)
        self.gate = gate
        self.handled = 0

    def process_dispatcher_result(self, topic, response):
        self.gate.park()
        self.handled += 1


def test_c7_delivered_means_handled_by_every_listener(dispatcher, gate):
    """C7: False while a listener is behind, naming it; True when it has finished."""
    slow = dispatcher.add(Slow(gate, name="slow"), "t")
    dispatcher.add(RecordingListener(name="quick"), "t")
    dispatcher.add(ScriptedProducer(1), "t")
    request = dispatcher.send_request("t")
    assert request.wait(BOUND)
    gate.wait_parked()
    assert not request.wait(0, delivered=True)
    assert not dispatcher.flush(0.01)
    assert "slow" in request.laggards()
    assert dispatcher.laggards() == ("slow",)
    gate.open()
    assert request.wait(BOUND, delivered=True)
    assert slow.handled == 1
    assert request.laggards() == ()
    assert dispatcher.flush(BOUND)
    assert dispatcher.laggards() == ()


def test_c7_a_listener_that_was_deregistered_still_counts(dispatcher, gate):
    """C7: its events were accepted for it; they are not delivered until it has handled them."""
    slow = dispatcher.add(Slow(gate, name="slow"), "t")
    dispatcher.add(ScriptedProducer(1), "t")
    request = dispatcher.send_request("t")
    gate.wait_parked()
    dispatcher.deregister_result_listener(slow, "t")
    for _ in range(2):  # so that the dispatcher has done all that the deregistration entails
        assert dispatcher.send_request("elsewhere").wait(BOUND)
    assert not request.wait(0.01, delivered=True)
    gate.open()
    assert request.wait(BOUND, delivered=True)
    assert slow.handled == 1
    slow.stop()


def test_c7_flush_waits_for_open_requests(dispatcher, gate):
    """C7: a request sent before is part of what is flushed; its producer is the laggard."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t")
    gate.wait_parked()
    assert not dispatcher.flush(0.01)
    assert dispatcher.laggards() == ("dmm",)
    assert request.laggards() == ("dmm",)
    gate.open()
    assert dispatcher.flush(BOUND)
    assert request.status is RequestStatus.COMPLETE


def test_c7_a_library_thread_may_not_wait_for_itself(dispatcher):
    """C7: such a wait raises at once instead of hanging until the deadline."""
    errors = []

    def caught(wait):
        with pytest.raises(DeadlockError) as caught:
            wait()
        errors.append(caught.value)

    class Nested(Producer):
        def produce_dispatcher_output(self, topic, inner=False):
            if not inner:
                caught(lambda: dispatcher.send_request("t", inner=True).wait())
                caught(dispatcher.flush)
            return 1

    class Listening(ResultListener):
        def process_dispatcher_end(self, request):
            if not request.kwargs.get("inner"):
                caught(lambda: request.wait(delivered=True))

    dispatcher.add(Nested(), "t")
    dispatcher.add(Listening(), "t")
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    assert dispatcher.flush(BOUND)
    assert len(errors) == 3


def test_c7_a_producer_may_wait_for_another(dispatcher):
    """C7: only a wait for oneself is refused."""
    dispatcher.add(ScriptedProducer(20, name="inner"), "inner")
    dispatcher.add(
        ScriptedProducer(lambda topic: dispatcher.send_request("inner").gather(BOUND).values),
        "outer",
    )
    request = dispatcher.send_request("outer").gather(BOUND)
    assert list(request.values.values()) == [{"inner": 20}]


# ---- C8 ------------------------------------------------------------------------------------------


def test_c8_each_callers_order_of_sends_and_registrations_holds(dispatcher, gate):
    """C8: what is registered after a send is not in its roster, before it is; also before start."""
    first = ScriptedProducer(1, name="first")
    second = ScriptedProducer(2, name="second")
    dispatcher.add(first, "t")
    before = dispatcher.send_request("t")
    dispatcher.add(second, "t")
    both = dispatcher.send_request("t")
    dispatcher.deregister_result_producer(first, "t")
    after = dispatcher.send_request("t")
    assert dispatcher.flush(BOUND)
    assert [r.roster for r in (before, both, after)] == [
        ("first",),
        ("first", "second"),
        ("second",),
    ]
    first.stop()


def test_c8_registering_twice_is_once_and_deregistering_nothing_is_no_error(dispatcher):
    """C8: both are idempotent."""
    producer, listener = ScriptedProducer(1), RecordingListener()
    dispatcher.deregister_result_producer(producer, "t")
    for _ in range(2):
        dispatcher.add(producer, "t")
        dispatcher.add(listener, "t")
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    assert len(producer.calls) == len(listener.results) == 1
    for _ in range(2):
        dispatcher.deregister_result_producer(producer, "t")
        dispatcher.deregister_result_listener(listener, "t")
    assert dispatcher.send_request("t").gather(BOUND).status is RequestStatus.NO_PRODUCERS
    assert producer.name not in dispatcher.agents
    producer.stop()
    listener.stop()


def test_c8_listeners_are_those_registered_when_an_outcome_is_accepted(dispatcher, gate):
    """C8: a listener registered while the work runs gets its result."""
    dispatcher.add(ScriptedProducer(lambda topic: gate.park() or 1), "t")
    request = dispatcher.send_request("t")
    gate.wait_parked()
    late = dispatcher.add(RecordingListener(), "t")
    assert dispatcher.send_request("elsewhere").wait(BOUND)
    gate.open()
    assert request.wait(BOUND, delivered=True)
    assert late.values == [1]


def test_c8_deregister_can_wait_for_the_work(dispatcher, gate):
    """C8: True once queued and running work has ended; False at the time-out; False on a hook."""
    answers = []
    producer = dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    listener = dispatcher.add(RecordingListener(), "t")
    request = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    assert not dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=0.01)
    gate.open()
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert request.wait(BOUND)

    def on_a_library_thread(topic):
        answers.append(dispatcher.deregister_result_listener(listener, "t", wait=True))

    dispatcher.add(ScriptedProducer(on_a_library_thread), "u")
    assert dispatcher.send_request("u").wait(BOUND)
    assert answers == [False]
    producer.stop()
    listener.stop()


# ---- C9 ------------------------------------------------------------------------------------------


def test_c9_stop_drains(gate):
    """C9: new requests are refused, the open ones end, listeners get everything, all is joined."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    listener = dispatcher.add(RecordingListener(), "t")
    producer = dispatcher.add(ScriptedProducer(lambda topic: gate.park() or "kept"), "t")
    request = dispatcher.send_request("t", ttl=60_000)
    endless = dispatcher.send_request("t", ttl=float("inf"))
    gate.wait_parked()
    reports = []
    stopping = threading.Thread(target=lambda: reports.append(dispatcher.stop()))
    stopping.start()
    assert endless.wait(BOUND)  # the stop has begun, and `request` is still open
    with pytest.raises(StateError, match="stopped"):
        dispatcher.send_request("t")
    assert request.status is RequestStatus.OPEN
    gate.open()
    stopping.join(BOUND)
    assert endless.status is RequestStatus.CANCELLED
    assert request.status is RequestStatus.COMPLETE
    assert listener.values == ["kept"]
    assert reports[0].clean
    assert not any(thread.is_alive() for thread in (dispatcher, listener, producer))


def test_c9_what_hangs_is_reported_not_waited_for(gate):
    """C9: a hung producer and a hung listener cost one grace in all and are named, with places."""
    dispatcher = ATEDispatcher(grace=0.05)
    dispatcher.start()
    dispatcher.add(ScriptedProducer(1, gate, name="hung producer"), "t")
    dispatcher.add(Slow(gate, name="hung listener"), "t")
    assert dispatcher.send_request("t").wait(BOUND)
    dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked(2)
    report = dispatcher.stop(drain=False)
    assert sorted(straggler.name for straggler in report.alive) == [
        "hung listener",
        "hung producer",
    ]
    assert all(
        "testing.py" in straggler.where or "threading" in straggler.where
        for straggler in report.alive
    )
    assert report.undelivered == {"hung listener": 1}
    assert not report.clean
    gate.open()


def test_c9_a_stop_has_a_time_limit(gate):
    """C9: `timeout` bounds the drain; what is open then ends STOPPED."""
    dispatcher = ATEDispatcher(grace=0.05)
    dispatcher.start()
    dispatcher.add(ScriptedProducer(gate), "t")
    request = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    dispatcher.stop(timeout=0.01)
    assert request.status is RequestStatus.STOPPED
    gate.open()


def test_c9_leaving_the_block_by_an_exception_does_not_drain_requests(gate):
    """C9: open requests end STOPPED, listeners still handle what they have."""
    listener, requests = RecordingListener(), []

    def script():
        with ATEDispatcher() as dispatcher:
            dispatcher.add(listener, "t")
            dispatcher.add(ScriptedProducer("first", gate), "t")
            dispatcher.send_request("t").wait(BOUND)
            requests.append(dispatcher.send_request("t", ttl=60_000))
            gate.wait_parked()
            requests[0].add_done_callback(lambda request: gate.open())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        script()
    assert requests[0].status is RequestStatus.STOPPED
    assert listener.values == ["first"]


def test_c9_stopping_twice_is_once_and_a_stopped_dispatcher_stays_so():
    """C9: the second stop gives the same report; nothing starts again."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    first = dispatcher.stop()
    assert dispatcher.stop() is first
    with pytest.raises(StateError):
        dispatcher.start()
    with pytest.raises(StateError):
        dispatcher.add(ScriptedProducer(), "t")


def test_c9_stop_on_a_library_thread_never_blocks(gate):
    """C9: a producer may stop the dispatcher that it works for."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    reports = []
    dispatcher.add(ScriptedProducer(lambda topic: reports.append(dispatcher.stop()) or 7), "t")
    request = dispatcher.send_request("t")
    assert request.wait(BOUND)
    dispatcher.join(BOUND)
    assert list(request.values.values()) == [7]
    assert not reports[0].finished


def test_c9_an_agent_of_two_dispatchers_stops_with_the_last():
    """C9, details: the first stop leaves it to the other."""
    first, second = ATEDispatcher(), ATEDispatcher()
    first.start()
    second.start()
    producer = first.add(ScriptedProducer(1, name="shared"), "t")
    second.add(producer, "t")
    assert first.send_request("t").wait(BOUND)
    assert first.stop().clean
    assert second.send_request("t").gather(BOUND).values == {"shared": 1}
    assert second.stop().clean
    assert not producer.is_alive()


def test_c9_stop_before_start_ends_what_was_sent():
    """C9: a dispatcher that was never started stops all the same; nothing is left waiting."""
    dispatcher = ATEDispatcher()
    producer = dispatcher.add(ScriptedProducer(), "t")
    request = dispatcher.send_request("t")
    dispatcher.stop(drain=False)
    assert request.status is RequestStatus.STOPPED
    producer.join(BOUND)


def test_c9_a_send_that_meets_the_stop_is_never_lost():
    """C9: who passed the check before the stop, and puts after the last look, gets STOPPED."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    gate = Gate()
    put = dispatcher._home.put

    def slow_put(message):
        gate.park()
        put(message)

    sent = []
    dispatcher._home.put = slow_put
    sender = threading.Thread(target=lambda: sent.append(dispatcher.send_request("t")))
    sender.start()
    gate.wait_parked()
    dispatcher._home.put = put
    dispatcher.stop()
    gate.open()
    sender.join(BOUND)
    assert sent[0].wait(BOUND)
    assert sent[0].status is RequestStatus.STOPPED
