"""Safe states and `abort`, within a process: once each, in order, in time, whatever happens."""

from __future__ import annotations

import logging
import threading

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    InvalidArgumentError,
    InvalidTypeError,
    NoCurrentRequestError,
    OutcomeStatus,
    Producer,
    RequestCancelledError,
    RequestStatus,
    StateError,
    current_request,
)
from ate_dispatcher._resources import RESOURCES
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

BOUND = 60
MINUTE = 60_000


class Supply(ScriptedProducer):
    """Notes in a journal of its own or of all when it is made safe, and on which thread."""

    def __init__(self, *script, journal=None, safe=None, **options):
        super().__init__(*script, **options)
        self.journal = [] if journal is None else journal
        self.safe = safe
        self.threads = []

    def safe_state(self):
        self.journal.append(self.name)
        self.threads.append(threading.current_thread())
        if self.safe is not None:
            self.safe()

    def on_stop(self):
        self.journal.append(f"{self.name} stops")


def raises():
    raise ValueError("no answer from the supply")


def leave(dispatcher, how):
    """Leave a dispatcher in one of its ways."""
    if how == "stop":
        dispatcher.stop()
    elif how == "stop at once":
        dispatcher.stop(drain=False)
    elif how == "abort":
        dispatcher.abort("test")
    elif how == "leaving":
        with dispatcher:
            pass
    else:
        with pytest.raises(how), dispatcher:
            raise how


WAYS = [
    "stop",
    "stop at once",
    "abort",
    "leaving",
    ZeroDivisionError,
    KeyboardInterrupt,
    SystemExit,
]


@pytest.mark.parametrize("how", WAYS)
def test_once_on_every_way_out_in_reverse_order_of_registration(how):
    """On its own thread, after its work, before its `on_stop`, and before the next one's turn."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    journal = []
    supplies = [
        dispatcher.add(Supply(journal=journal, name=name), "t") for name in ("one", "two", "three")
    ]
    dispatcher.add(ScriptedProducer(), "t")
    assert dispatcher.send_request("t").wait(BOUND)
    leave(dispatcher, how)
    assert [word for word in journal if "stops" not in word] == ["three", "two", "one"]
    assert all(journal.index(f"{s.name} stops") > journal.index(s.name) for s in supplies)
    assert [supply.threads for supply in supplies] == [[supply] for supply in supplies]
    report = dispatcher.stop()
    assert report.clean
    assert dispatcher.abort("again") is report
    assert len(journal) == 6


def test_one_after_the_other(dispatcher):
    """The next is made safe when the one before it is, not before."""
    journal = []
    with Gate() as gate:
        dispatcher.add(Supply(journal=journal, name="first"), "t")
        dispatcher.add(Supply(journal=journal, name="last", safe=gate.park), "t")
        stopping = threading.Thread(target=dispatcher.stop)
        stopping.start()
        gate.wait_parked()
        assert journal == ["last"]
    stopping.join(BOUND)
    assert [word for word in journal if "stops" not in word] == ["last", "first"]


def test_after_the_work_has_ended(dispatcher, gate):
    """The stop that drains lets the work end first; nothing of it is cut short."""
    journal = []

    def work(topic):
        gate.park()
        journal.append("work")

    dispatcher.add(Supply(work, journal=journal, name="supply"), "t")
    request = dispatcher.send_request("t", ttl=MINUTE)
    gate.wait_parked()
    stopping = threading.Thread(target=dispatcher.stop)
    stopping.start()
    gate.open()
    stopping.join(BOUND)
    assert request.status is RequestStatus.COMPLETE
    assert journal == ["work", "supply", "supply stops"]


@pytest.mark.parametrize("how", ["stop at once", "abort"])
def test_work_that_runs_is_called_off_first(dispatcher, how):
    """It is told through `current_request`, and the safe state waits for it to come back."""
    journal, told, began = [], threading.Event(), threading.Event()

    def work(topic):
        request = current_request()
        request.on_cancel(told.set)
        began.set()
        assert told.wait(BOUND)
        journal.append(request.cancelled)

    dispatcher.add(Supply(work, journal=journal, name="supply"), "t")
    request = dispatcher.send_request("t", ttl=MINUTE)
    assert began.wait(BOUND)
    leave(dispatcher, how)
    assert journal == [True, "supply", "supply stops"]
    assert request.outcomes[0].status is OutcomeStatus.CANCELLED


def test_who_hangs_is_named_and_costs_the_others_nothing(gate, caplog):
    """Within its bound the stop goes on; the log says where it hangs; later it is made safe yet."""
    dispatcher = ATEDispatcher(grace=0.05, safe_within=2.0)
    dispatcher.start()
    journal = []
    dispatcher.add(Supply(journal=journal, name="first"), "t")
    hung = dispatcher.add(Supply(gate, journal=journal, name="hung"), "hang")
    dispatcher.add(Supply(journal=journal, name="last"), "t")
    dispatcher.send_request("hang", ttl=MINUTE)
    gate.wait_parked()
    report = dispatcher.abort("smoke")
    assert report.unsafe == ("hung",)
    assert [straggler.name for straggler in report.alive] == ["hung"]
    assert (report.clean, report.finished, report.safe_errors) == (False, True, {})
    assert [word for word in journal if "stops" not in word] == ["last", "first"]
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(said) == 1
    assert "'hung' could not be made safe: " in said[0]
    assert "threading.py:" in said[0]
    gate.open()
    hung.join(BOUND)
    assert journal[-2:] == ["hung", "hung stops"]


def test_a_safe_state_that_hangs_is_unsafe_as_well():
    """It has begun, but nobody knows what it has done."""
    dispatcher = ATEDispatcher(grace=0.05, safe_within=2.0)
    dispatcher.start()
    with Gate() as gate:
        dispatcher.add(Supply(name="first"), "t")
        hung = dispatcher.add(Supply(safe=gate.park, name="hung"), "t")
        assert dispatcher.stop().unsafe == ("hung",)
    hung.join(BOUND)
    assert hung.journal == ["hung", "hung stops"]


@pytest.mark.parametrize("error", [ValueError("no answer"), SystemExit(3), KeyboardInterrupt()])
def test_a_safe_state_that_raises_is_reported_and_the_others_go_on(error, caplog):
    """Its name is in `unsafe`, what it raised in `safe_errors`, both in the log."""

    def fails():
        raise error

    dispatcher = ATEDispatcher()
    dispatcher.start()
    first = dispatcher.add(Supply(name="first"), "t")
    dispatcher.add(Supply(safe=fails, name="broken"), "t")
    report = dispatcher.stop()
    assert (report.unsafe, report.alive) == (("broken",), ())
    assert report.safe_errors == {"broken": error}
    assert report.clean is False
    assert first.journal == ["first", "first stops"]
    (record,) = caplog.records
    assert "safe_state of 'broken' raised" in record.getMessage()
    assert record.exc_info[1] is error


def test_a_producer_that_ends_by_itself_is_made_safe(dispatcher):
    """By its own `stop`, by being removed, by a failure of its thread: before it has gone."""
    stopped = dispatcher.add(Supply(), "stopped")
    stopped.stop()
    removed = dispatcher.add(Supply(), "removed")
    assert dispatcher.remove(removed, wait=True, timeout=BOUND)
    failed = dispatcher.add(Supply(SystemExit("gone")), "failed")
    assert dispatcher.send_request("failed").wait(BOUND)
    for supply in (stopped, removed, failed):
        supply.join(BOUND)
        assert supply.journal == [supply.name, f"{supply.name} stops"]
    assert dispatcher.stop().unsafe == ()


def test_one_that_could_not_begin_is_made_safe_too(dispatcher):
    """An `on_start` that raised half way may have switched something on already."""

    class Half(Supply):
        def on_start(self):
            raise ConnectionError("lost it half way")

    half = dispatcher.add(Half(), "t")
    half.join(BOUND)
    assert half.journal == [half.name]  # and `on_stop` is for those that began


def test_what_the_safe_state_of_one_that_left_raised_is_in_the_report(dispatcher):
    """It left long before the stop; it is as unsafe as it was then."""
    broken = dispatcher.add(Supply(SystemExit("gone"), safe=raises, name="broken"), "t")
    assert dispatcher.send_request("t").wait(BOUND)
    broken.join(BOUND)
    report = dispatcher.stop()
    assert report.unsafe == ("broken",)
    assert str(report.safe_errors["broken"]) == "no answer from the supply"


def test_one_that_was_never_started_has_nothing_to_make_safe():
    """There is no thread to do it on, and nothing was done on it."""
    dispatcher = ATEDispatcher()
    supply = Supply()
    dispatcher.register_result_producer(supply, "t")
    assert dispatcher.stop().clean
    assert supply.journal == []


def test_a_dispatcher_that_was_never_started_makes_its_producers_safe():
    """They may run, whatever it does."""
    dispatcher = ATEDispatcher()
    supply = dispatcher.add(Supply(), "t")
    assert dispatcher.stop().clean
    supply.join(BOUND)
    assert supply.journal == [supply.name, f"{supply.name} stops"]


def test_a_thread_that_only_seems_dead_is_made_safe(dispatcher):
    """Some versions take a thread for ended once Ctrl-C has interrupted a `join` of it."""

    class SeemsDead(Supply):
        def is_alive(self):
            return False

    supply = dispatcher.add(SeemsDead(), "t")
    assert dispatcher.send_request("t").wait(BOUND)
    assert dispatcher.stop().clean
    assert supply.journal == [supply.name, f"{supply.name} stops"]


def test_one_of_two_dispatchers_is_made_safe_with_the_last(dispatcher):
    """A stop leaves to others what is theirs."""
    other = ATEDispatcher()
    other.start()
    supply = Supply()
    for station in (dispatcher, other):
        station.add(supply, "t")
    dispatcher.stop()
    assert supply.journal == []
    assert other.send_request("t").gather(BOUND).status is RequestStatus.COMPLETE
    other.stop()
    assert supply.journal == [supply.name, f"{supply.name} stops"]


def test_an_abort_makes_safe_what_others_have_too(dispatcher, gate):
    """It passes what they have queued: that is rejected, as by any agent that has gone."""
    with ATEDispatcher() as other:
        journal = []
        supply = Supply(lambda topic: gate.park() or journal.append("work"), journal=journal)
        for station in (dispatcher, other):
            station.add(supply, "t")
        running = other.send_request("t", ttl=MINUTE)
        gate.wait_parked()
        queued = other.send_request("t", ttl=MINUTE)
        assert other.send_request("nobody").wait(BOUND)
        aborting = threading.Thread(target=dispatcher.abort, args=("smoke",))
        supply._ate_address.control = lambda put, old=supply._ate_address.control: (
            old(put),
            gate.open(),
        )
        aborting.start()
        aborting.join(BOUND)
        assert running.gather(BOUND).status is RequestStatus.COMPLETE
        assert queued.gather(BOUND).outcomes[0].status is OutcomeStatus.REJECTED
        assert journal == ["work", supply.name, f"{supply.name} stops"]


def test_it_does_not_wait_for_resources(dispatcher):
    """Whoever holds them may be what hangs."""

    class Sharing(Supply):
        def __init__(self):
            Producer.__init__(self, resources=("GPIB0",))
            self.journal, self.threads, self.safe = [], [], None

    with ATEDispatcher() as other, Gate() as gate:
        other.producer("t", resources=("GPIB0",))(lambda topic: gate.park())
        held = other.send_request("t", ttl=MINUTE)
        gate.wait_parked()
        supply = dispatcher.add(Sharing(), "t")
        assert dispatcher.stop().clean
        assert supply.journal == [supply.name, f"{supply.name} stops"]
        assert held.status is RequestStatus.OPEN
    assert RESOURCES._holders == {}


def test_a_coroutine_function_is_seen_through(dispatcher):
    """Its loop is there beforehand: at the end of a script no thread can be started."""

    class Asynchronous(Producer):
        made_safe = 0

        async def produce_dispatcher_output(self, topic):
            return 1

        async def safe_state(self):
            self.made_safe += 1

    supply = dispatcher.add(Asynchronous(), "t")
    assert dispatcher.send_request("t").wait(BOUND)
    assert supply._ate_loop is not None
    assert dispatcher.stop().clean
    assert supply.made_safe == 1


def test_a_pool_is_made_safe_when_its_calls_have_ended(dispatcher, gate):
    """None of them is cut off."""
    from concurrent.futures import ThreadPoolExecutor

    journal = []

    class Pool(ExecutorProducer):
        def safe_state(self):
            journal.append("safe")

    def work(topic):
        gate.park()
        journal.append("work")

    dispatcher.add(Pool(work, ThreadPoolExecutor, 2), "t")
    requests = [dispatcher.send_request("t", ttl=MINUTE) for _ in range(2)]
    gate.wait_parked(2)
    stopping = threading.Thread(target=dispatcher.stop, args=(False,))
    stopping.start()
    assert all(request.wait(BOUND) for request in requests)
    gate.open()
    stopping.join(BOUND)
    assert journal == ["work", "work", "safe"]


def test_no_request_is_current_in_a_safe_state(dispatcher):
    """It belongs to none, and sends none."""
    errors = []

    def safe():
        for attempt in (current_request, lambda: dispatcher.send_request("t")):
            try:
                attempt()
            except Exception as error:
                errors.append(type(error))

    dispatcher.add(Supply(safe=safe), "t")
    dispatcher.stop()
    assert errors == [NoCurrentRequestError, StateError]


def test_the_listeners_time_is_not_spent_by_it():
    """``timeout`` bounds the rest; what is made safe has seconds of its own."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    with Gate() as gate:
        listener = dispatcher.add(RecordingListener(), "t")
        supply = dispatcher.add(Supply(1, safe=gate.park), "t")
        assert dispatcher.send_request("t").wait(BOUND)
        reports = []
        stopping = threading.Thread(target=lambda: reports.append(dispatcher.stop(timeout=0)))
        stopping.start()
        gate.wait_parked()
    stopping.join(BOUND)
    assert reports[0].clean
    assert (supply.journal[0], listener.values) == (supply.name, [1])


def test_an_attribute_of_that_name_is_noticed_at_registration(dispatcher):
    """Not when it is too late."""

    class Mistaken(ScriptedProducer):
        safe_state = "off"

    with pytest.raises(
        InvalidTypeError, match=r"Mistaken.safe_state must be a method .* not 'off'"
    ):
        dispatcher.add(Mistaken(), "t")


@pytest.mark.parametrize(
    ("seconds", "error"),
    [("5", InvalidTypeError), (True, InvalidTypeError), (-1, InvalidArgumentError)],
)
def test_the_bound_is_a_number_of_seconds(seconds, error):
    """Said at the call."""
    with pytest.raises(error, match="safe_within must"):
        ATEDispatcher(safe_within=seconds)


# ---- abort ---------------------------------------------------------------------------------------


def test_abort_ends_everything_open_with_the_reason(dispatcher, gate):
    """Open requests end CANCELLED, what is queued never begins, no more is taken."""
    listener = dispatcher.add(RecordingListener(), "t")
    supply = dispatcher.add(Supply(gate, name="supply"), "t")
    requests = [dispatcher.send_request("t", ttl=MINUTE) for _ in range(3)]
    requests[-1].add_done_callback(lambda request: gate.open())
    gate.wait_parked()
    report = dispatcher.abort("smoke in the chamber")
    for request in requests:
        assert request.status is RequestStatus.CANCELLED
        assert request.reason == "aborted: smoke in the chamber"
        assert [o.status for o in request.outcomes] == [OutcomeStatus.CANCELLED]
        assert request.outcomes[0].reason == "aborted: smoke in the chamber"
    assert len(supply.calls) == 1
    assert supply.journal == ["supply", "supply stops"]
    assert [r.status for r in listener.ends] == [RequestStatus.CANCELLED] * 3
    assert (report.clean, report.unsafe) == (True, ())
    with pytest.raises(StateError, match="aborted: smoke in the chamber"):
        dispatcher.send_request("t")
    with pytest.raises(StateError):
        dispatcher.add(Supply(), "t")
    assert not dispatcher.is_alive()


def test_abort_passes_what_is_queued_at_the_dispatcher():
    """What it has not scattered yet ends in the same way, and reaches nobody."""
    dispatcher = ATEDispatcher()
    supply = dispatcher.add(Supply(), "t")
    requests = [dispatcher.send_request("t", ttl=MINUTE) for _ in range(3)]
    requests.append(dispatcher.with_options(tags={}).send_request("t", ttl=MINUTE))
    dispatcher.abort("never started")
    for request in requests:
        assert request.status is RequestStatus.CANCELLED
        assert (request.reason, request.roster) == ("aborted: never started", ())
        with pytest.raises(RequestCancelledError, match="aborted: never started"):
            request.raise_for_status()
    assert supply.calls == []


def test_abort_ends_a_drain_that_goes_on(dispatcher, gate):
    """It can only make a stop sooner."""
    supply = dispatcher.add(Supply(gate), "t")
    request = dispatcher.send_request("t", ttl=MINUTE)
    request.add_done_callback(lambda request: gate.open())
    endless = dispatcher.send_request("t", ttl=float("inf"))
    gate.wait_parked()
    stopping = threading.Thread(target=dispatcher.stop)
    stopping.start()
    assert endless.wait(BOUND)  # the stop has begun
    dispatcher.abort("no patience")
    stopping.join(BOUND)
    assert request.reason == "aborted: no patience"
    assert supply.journal == [supply.name, f"{supply.name} stops"]


def test_abort_on_a_library_thread_returns_at_once(dispatcher):
    """A producer that sees the smoke may say so; the work it is at is called off."""
    reports = []

    def sees_smoke(topic):
        reports.append(dispatcher.abort("smoke"))
        reports.append(current_request().cancelled)
        return "too late"

    supply = dispatcher.add(Supply(sees_smoke), "t")
    request = dispatcher.send_request("t", ttl=MINUTE)
    assert request.wait(BOUND)
    dispatcher.join(BOUND)
    assert (reports[0].finished, reports[1]) == (False, True)
    assert (request.status, request.reason) == (RequestStatus.CANCELLED, "aborted: smoke")
    assert supply.journal == [supply.name, f"{supply.name} stops"]
    assert dispatcher.abort("again").clean


def test_work_that_checks_ends_cancelled_with_the_reason(dispatcher):
    """Even where the producer saw the flag before the dispatcher got the message."""
    gone_on = threading.Event()

    def checks(topic):
        gone_on.set()
        while True:
            current_request().sleep(BOUND)
            current_request().check()

    dispatcher.add(ScriptedProducer(checks), "t")
    request = dispatcher.send_request("t", ttl=MINUTE)
    assert gone_on.wait(BOUND)
    dispatcher.abort("smoke")
    assert request.outcomes[0].reason == "aborted: smoke"


class Unspeakable:
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (ValueError("too hot"), "aborted: too hot"),
        (None, "aborted: None"),
        (Unspeakable(), r"aborted: Unspeakable (its str() raised ValueError)"),
    ],
)
def test_no_reason_is_refused(dispatcher, reason, said):
    """An emergency is no time to complain about an argument."""
    with Gate() as gate:
        dispatcher.add(ScriptedProducer(gate), "t")
        request = dispatcher.send_request("t", ttl=MINUTE)
        request.add_done_callback(lambda request: gate.open())
        dispatcher.abort(reason)
    assert request.reason == said


def test_the_first_reason_counts(dispatcher):
    """Aborting twice is once."""
    first = dispatcher.abort("first")
    assert dispatcher.abort("second") is first
    with pytest.raises(StateError, match="first"):
        dispatcher.send_request("t")
    assert dispatcher.stop() is first
