"""C10: bounds are named, what they drop is counted, and nothing slow blocks the dispatcher."""

from __future__ import annotations

import logging
import threading

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    DeadlockError,
    OutcomeStatus,
    OverloadedError,
    RequestStatus,
    ResultListener,
    StateError,
)
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches

OK, REJECTED = OutcomeStatus.OK, OutcomeStatus.REJECTED


class Held(ResultListener):
    """Parked at its first result; then keeps what it is told."""

    def __init__(self, gate, **options):
        super().__init__(**options)
        self.gate = gate
        self.heard = []

    def process_dispatcher_result(self, topic, response):
        self.gate.park()
        self.heard.append(response)


def parked_producer(dispatcher, gate, **options):
    """Give a producer whose thread works on a request already, with an empty mailbox behind it."""
    first = [True]

    def work(topic, number=None):
        if first:
            first.clear()
            gate.park()
        return number

    producer = dispatcher.add(ScriptedProducer(work, **options), "t")
    dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    return producer


def parked_listener(dispatcher, gate, **options):
    """Give a listener that is handling the result ``"first"``, with an empty mailbox behind it."""
    listener = dispatcher.add(Held(gate, **options), "t")
    dispatcher.add(ScriptedProducer(lambda topic, value: value, name="source"), "t")
    assert dispatcher.send_request("t", "first").wait(BOUND)
    gate.wait_parked()
    return listener


def single_outcomes(requests):
    return [request.outcomes[0].status for request in requests]


# ---- unbounded, with a warning -------------------------------------------------------------------


def test_c10_mailboxes_are_unbounded_by_default(dispatcher, gate):
    """C10: without ``capacity`` nothing is refused or dropped, however much waits."""
    parked_producer(dispatcher, gate, name="dmm")
    listener = dispatcher.add(RecordingListener(), "t")
    requests = [dispatcher.send_request("t", number, ttl=FOR_EVER) for number in range(2000)]
    gate.open()
    assert dispatcher.flush(BOUND)
    assert [request.values["dmm"] for request in requests] == list(range(2000))
    assert listener.values[-2000:] == list(range(2000))


@pytest.mark.parametrize("who", ["producer", "listener"])
def test_c10_the_high_water_mark_warns_once(gate, caplog, who):
    """C10: a mailbox that grows past ``high_water`` is warned about once, naming agent and cure."""
    with ATEDispatcher(high_water=100) as dispatcher:
        (parked_producer if who == "producer" else parked_listener)(dispatcher, gate, name="slow")
        for number in range(4000):
            dispatcher.send_request("t", number, ttl=FOR_EVER)
        if who == "listener":
            assert dispatcher.send_request("t", "last", ttl=FOR_EVER).wait(BOUND)
        assert dispatcher.send_request("nobody").wait(BOUND)
        gate.open()
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    (about_it,) = [warning for warning in warnings if "'slow'" in warning]
    assert "capacity=" in about_it


def test_c10_the_high_water_mark_is_silent_below(dispatcher, gate, caplog):
    """C10: what stays below the mark (10,000 if not given) is not worth a word."""
    parked_producer(dispatcher, gate)
    for number in range(3000):
        dispatcher.send_request("t", number, ttl=FOR_EVER)
    assert dispatcher.send_request("nobody").wait(BOUND)
    gate.open()
    assert dispatcher.flush(BOUND)
    assert caplog.records == []


# ---- bounded producers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overflow", "kept"),
    [("reject", [0, 1]), ("drop_oldest", [3, 4]), ("latest", [4])],
)
def test_c10_a_full_producer(dispatcher, gate, overflow, kept):
    """C10: the newcomer, the oldest, or all that waits gives way; who does is REJECTED, with why.

    The request that runs does not count. Of five more, two find room.
    """
    producer = parked_producer(
        dispatcher, gate, name="dmm", capacity=1 if overflow == "latest" else 2, overflow=overflow
    )
    requests = [dispatcher.send_request("t", number, ttl=FOR_EVER) for number in range(5)]
    dropped = [request for number, request in enumerate(requests) if number not in kept]
    assert all(request.wait(BOUND) for request in dropped)
    gate.open()
    assert all(request.wait(BOUND) for request in requests)
    expected = [OK if number in kept else REJECTED for number in range(5)]
    assert single_outcomes(requests) == expected
    assert [call.args[0] for call in producer.calls[1:]] == kept
    for request in dropped:
        (failure,) = request.failed
        assert "mailbox full" in failure.reason
        assert overflow in failure.reason
        assert request.status is RequestStatus.COMPLETE


def test_c10_latest_keeps_only_the_newest(dispatcher, gate):
    """C10: ``latest`` clears all that waits once it is full, whatever the capacity."""
    producer = parked_producer(dispatcher, gate, capacity=3, overflow="latest")
    requests = [dispatcher.send_request("t", number, ttl=FOR_EVER) for number in range(4)]
    assert all(request.wait(BOUND) for request in requests[:3])
    gate.open()
    assert requests[3].wait(BOUND)
    assert [call.args[0] for call in producer.calls[1:]] == [3]


def test_c10_what_a_full_producer_refuses_is_counted(dispatcher, gate, caplog):
    """C10: every refusal is in the statistics and heard by listeners of outcomes; the log says so.

    The log says it once an agent, not once a message.
    """
    caplog.set_level(logging.INFO, logger="ate_dispatcher")
    listener = dispatcher.add(RecordingListener(), "t")
    parked_producer(dispatcher, gate, name="dmm", capacity=1)
    requests = [dispatcher.send_request("t", number, ttl=FOR_EVER) for number in range(4)]
    assert all(request.wait(BOUND) for request in requests[1:])
    assert dispatcher.statistics().producers["dmm"].rejected == 3
    gate.open()
    assert dispatcher.flush(BOUND)
    assert [o.status for o in listener.outcomes].count(REJECTED) == 3
    assert [r.getMessage() for r in caplog.records if "'dmm'" in r.getMessage()] == [
        "'dmm' lets messages go: mailbox full (1, overflow=reject)"
    ]


def test_c10_only_one_producer_gives_way(dispatcher, gate):
    """C10, C2: that one producer is full costs the others' values nothing."""
    parked_producer(dispatcher, gate, name="full", capacity=1)
    dispatcher.add(ScriptedProducer("good", name="free"), "t")
    waiting = dispatcher.send_request("t", ttl=FOR_EVER)
    refused = dispatcher.send_request("t", ttl=FOR_EVER).gather(BOUND)
    assert refused.values == {"free": "good"}
    assert [outcome.producer for outcome in refused.failed] == ["full"]
    assert waiting.status is RequestStatus.OPEN


def test_c10_expired_work_in_a_full_mailbox_does_not_count(timed, clock, gate):
    """C10: what expired while it waited has left its place to a newcomer."""
    producer = parked_producer(timed, gate, capacity=2)
    stale = [timed.send_request("t", "stale", ttl=100) for _ in range(2)]
    assert timed.send_request("t", "too many", ttl=FOR_EVER).gather(BOUND).failed
    clock.advance(0.2)
    assert all(request.wait(BOUND) for request in stale)
    fresh = [timed.send_request("t", "fresh", ttl=FOR_EVER) for _ in range(2)]
    assert timed.send_request("nobody").wait(BOUND)  # so they have met the full mailbox
    gate.open()
    assert all(request.wait(BOUND) for request in fresh)
    assert single_outcomes(fresh) == [OK, OK]
    assert [call.args for call in producer.calls[1:]] == [("fresh",), ("fresh",)]


def test_c10_cancelled_work_in_a_full_mailbox_does_not_count(dispatcher, gate):
    """C10: the same for what was cancelled, and for the oldest that would have to give way."""
    producer = parked_producer(dispatcher, gate, capacity=2, overflow="drop_oldest")
    kept = dispatcher.send_request("t", "kept", ttl=FOR_EVER)
    cancelled = dispatcher.send_request("t", "cancelled", ttl=FOR_EVER)
    cancelled.cancel()
    assert cancelled.wait(BOUND)
    fresh = dispatcher.send_request("t", "fresh", ttl=FOR_EVER)
    gate.open()
    assert fresh.wait(BOUND)
    assert kept.wait(BOUND)
    assert [call.args for call in producer.calls[1:]] == [("kept",), ("fresh",)]


# ---- bounded listeners ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overflow", "heard"),
    [("reject", [0, 1]), ("drop_oldest", [3, 4]), ("latest", [4])],
)
def test_c10_a_full_listener(dispatcher, gate, overflow, heard):
    """C10: the same three rules for events; what a listener lets go is counted, nobody else's."""
    listener = parked_listener(
        dispatcher, gate, name="screen", capacity=len(heard), overflow=overflow
    )
    other = dispatcher.add(RecordingListener(name="log"), "t")
    for number in range(5):
        assert dispatcher.send_request("t", number).wait(BOUND)
    statistics = dispatcher.statistics().listeners
    assert statistics["screen"].dropped == 5 - len(heard)
    assert statistics["log"].dropped == 0
    gate.open()
    assert dispatcher.flush(BOUND)
    assert listener.heard == ["first", *heard]
    assert other.values == list(range(5))
    assert dispatcher.statistics().listeners["screen"].delivered == 1 + len(heard)


def test_c10_results_that_are_sent_directly_are_bounded_too(dispatcher, gate):
    """C10: ``send_result`` goes through the same mailbox, so the same rule holds."""
    listener = parked_listener(dispatcher, gate, name="screen", capacity=1, overflow="latest")
    for number in range(3):
        listener.send_result("t", number)
    gate.open()
    assert dispatcher.flush(BOUND)
    assert listener.heard == ["first", 2]
    assert dispatcher.statistics().listeners["screen"].dropped == 2


# ---- control messages ----------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", ["reject", "drop_oldest", "latest"])
def test_c10_control_messages_never_count_and_are_never_dropped(gate, overflow):
    """C10: fences and the stop get into a full mailbox, take no place there and are not let go."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    listener = parked_listener(dispatcher, gate, name="screen", capacity=1, overflow=overflow)
    assert dispatcher.send_request("t", "second").wait(BOUND)
    assert not any(dispatcher.flush(0) for _ in range(3))
    assert dispatcher.send_request("t", "third").wait(BOUND)
    stopping = threading.Thread(target=dispatcher.stop)
    stopping.start()
    gate.open()
    stopping.join(BOUND)
    assert not stopping.is_alive()
    assert not listener.is_alive()
    assert listener.heard == ["first", "second" if overflow == "reject" else "third"]


def test_c10_fences_take_no_place(dispatcher, gate):
    """C10: a mailbox with room for one has it still when three fences wait there."""
    listener = parked_listener(dispatcher, gate, name="screen", capacity=1)
    assert not any(dispatcher.flush(0) for _ in range(3))
    assert dispatcher.send_request("t", "second").wait(BOUND)
    gate.open()
    assert dispatcher.flush(BOUND)
    assert listener.heard == ["first", "second"]


def test_c10_an_agent_with_a_full_mailbox_can_be_deregistered_and_stopped(dispatcher, gate):
    """C10: deregistering waits for its full mailbox, then the agent's own stop ends it."""
    producer = parked_producer(dispatcher, gate, capacity=1)
    waiting = dispatcher.send_request("t", "waits", ttl=FOR_EVER)
    assert dispatcher.send_request("t", "too many", ttl=FOR_EVER).gather(BOUND).failed
    gate.open()
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert waiting.wait(BOUND)
    producer.stop()
    producer.join(BOUND)
    assert not producer.is_alive()


# ---- max_open ------------------------------------------------------------------------------------


@pytest.fixture
def narrow(clock):
    """A started dispatcher on the fake clock that has at most one request open."""
    dispatcher = ATEDispatcher(max_open=1, clock=clock)
    dispatcher.start()
    yield dispatcher
    dispatcher.stop(drain=False, timeout=BOUND)


def in_thread(function, *args, **kwargs):
    """Call in a thread of its own; give the thread and where its result will be."""
    results = []

    def call():
        try:
            results.append(function(*args, **kwargs))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, results


def waits_for_room(dispatcher, monkeypatch):
    """Give an event that is set when a sender has found ``max_open`` reached."""
    waiting = threading.Event()
    admission = dispatcher._admission
    acquire = admission.acquire

    def spied(blocking=True, timeout=None):
        if acquire(blocking=False):
            return True
        waiting.set()
        return acquire(blocking, timeout)

    monkeypatch.setattr(admission, "acquire", spied)
    return waiting


def end_by_answer(request, gate, clock):
    gate.open()


def end_by_cancel(request, gate, clock):
    request.cancel()


def end_by_expiry(request, gate, clock):
    clock.advance(3601)


@pytest.mark.parametrize("end", [end_by_answer, end_by_cancel, end_by_expiry])
@pytest.mark.parametrize("options", [False, True])
def test_c10_max_open_waits_in_the_senders_thread(narrow, clock, gate, monkeypatch, end, options):
    """C10: the sender waits, and goes on when an open request ends, in whatever way it does."""
    waiting = waits_for_room(narrow, monkeypatch)
    narrow.add(ScriptedProducer(gate, "second", name="dmm"), "t")
    first = narrow.send_request("t", ttl=3_600_000)
    gate.wait_parked()
    view = narrow.with_options(tags={"n": 2}) if options else narrow
    sender, sent = in_thread(view.send_request, "t", ttl=FOR_EVER)
    assert waiting.wait(BOUND)
    assert sent == []
    assert first.status is RequestStatus.OPEN
    end(first, gate, clock)
    assert first.wait(BOUND)
    sender.join(BOUND)
    gate.open()
    assert sent[0].gather(BOUND).values == {"dmm": "second"}


def test_c10_max_open_raises_at_the_deadline(narrow, gate):
    """C10: at most until its own deadline; then `OverloadedError`, and nothing was sent."""
    producer = narrow.add(ScriptedProducer(gate), "t")
    narrow.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    for send in (narrow.send_request, narrow.with_options(to=producer.name).send_request):
        with pytest.raises(OverloadedError, match=r"'t'.*max_open.*TTL of 5 ms") as caught:
            send("t", "never sent", ttl=5)
        assert isinstance(caught.value, TimeoutError)
    gate.open()
    assert narrow.flush(BOUND)
    assert narrow.statistics().requests == 1
    assert len(producer.calls) == 1


def test_c10_max_open_counts_open_requests_only(narrow):
    """C10: any number may be sent one after the other, those without a producer too."""
    narrow.add(ScriptedProducer(1), "t")
    for _ in range(50):
        assert narrow.send_request("t", ttl=FOR_EVER).wait(BOUND)
        assert narrow.send_request("nobody", ttl=FOR_EVER).wait(BOUND)
    assert narrow.statistics().requests == 100


def test_c10_a_request_that_was_not_sent_takes_no_room(narrow):
    """C10: a call that raised (a bad TTL) has not used up the one place."""
    with pytest.raises(ValueError, match="ttl"):
        narrow.send_request("t", ttl=-1)
    assert narrow.send_request("t", ttl=FOR_EVER).wait(BOUND)


def test_c10_a_stop_ends_the_wait_for_room(narrow, gate, monkeypatch):
    """C10, C9: senders that wait when the dispatcher stops are told so; none waits for ever."""
    waiting = waits_for_room(narrow, monkeypatch)
    narrow.add(ScriptedProducer(gate), "t")
    narrow.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    senders = [in_thread(narrow.send_request, "t", ttl=FOR_EVER) for _ in range(3)]
    assert waiting.wait(BOUND)
    stopper, _ = in_thread(narrow.stop, drain=False)
    for thread, results in senders:
        thread.join(BOUND)
        assert isinstance(results[0], StateError)
    gate.open()
    stopper.join(BOUND)


def test_c10_the_dispatchers_own_thread_never_waits_for_room(narrow):
    """C10: a predicate that sends would block the dispatcher's thread; it gets an error instead."""
    errors = []

    def send(outcome):
        try:
            narrow.send_request("t")
        except DeadlockError as error:
            errors.append(error)
        return True

    narrow.add(ScriptedProducer(1), "t")
    request = narrow.with_options(until=send).send_request("t").gather(BOUND)
    assert request.status is RequestStatus.SATISFIED
    assert len(errors) == 1


# ---- nothing slow blocks the dispatcher ----------------------------------------------------------


@pytest.mark.parametrize("overflow", [None, "reject", "drop_oldest", "latest"])
def test_c10_a_slow_agent_never_blocks_the_dispatcher(dispatcher, overflow):
    """C10: with a producer and a listener that hang, full or not, everybody else is served."""
    bound = {} if overflow is None else {"capacity": 1, "overflow": overflow}
    with Gate() as producing, Gate() as listening:
        dispatcher.add(ScriptedProducer(producing, name="hangs", **bound), "t")
        dispatcher.add(Held(listening, name="hears nothing", **bound), "t", "quick")
        listener = dispatcher.add(RecordingListener(), "quick")
        dispatcher.add(ScriptedProducer("done", name="quick"), "t", "quick")
        slow = dispatcher.send_request("t", ttl=FOR_EVER)
        producing.wait_parked()
        listening.wait_parked()
        for _ in range(20):
            dispatcher.send_request("t", ttl=FOR_EVER)
        for _ in range(20):
            request = dispatcher.send_request("quick").gather(BOUND)
            assert request.values == {"quick": "done"}
        assert slow.status is RequestStatus.OPEN
    assert dispatcher.flush(BOUND)
    assert listener.values == ["done"] * 20
