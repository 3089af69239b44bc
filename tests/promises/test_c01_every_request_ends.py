"""C1: every request ends, once."""

from __future__ import annotations

import math
import threading

from ate_dispatcher import ATEDispatcher, OutcomeStatus, RequestStatus
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

OK, ERROR, TIMEOUT = OutcomeStatus.OK, OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT


def statuses(request):
    return [outcome.status for outcome in request.outcomes]


def test_c1_complete_when_the_whole_roster_has_answered(dispatcher):
    """C1: OPEN, then COMPLETE, whether the answers are values or errors."""
    dispatcher.add(ScriptedProducer(1, name="good"), "t")
    dispatcher.add(ScriptedProducer(ValueError("no"), name="bad"), "t")
    request = dispatcher.send_request("t")
    assert request.wait(30)
    assert request.status is RequestStatus.COMPLETE
    assert request.values == {"good": 1}
    assert [outcome.producer for outcome in request.failed] == ["bad"]


def test_c1_ends_at_its_deadline_even_if_every_producer_hangs(timed, clock, gate):
    """C1: nothing a producer does keeps a request open past its deadline."""
    for name in ("a", "b"):
        timed.add(ScriptedProducer(gate, name=name), "t")
    request = timed.send_request("t", ttl=100)
    gate.wait_parked(2)
    assert request.status is RequestStatus.OPEN
    clock.advance(0.2)
    assert request.wait(30)
    assert request.status is RequestStatus.EXPIRED
    assert statuses(request) == [TIMEOUT, TIMEOUT]


def test_c1_nobody_registered_ends_at_once(dispatcher):
    """C1: a topic with no producer ends at once and says so."""
    request = dispatcher.send_request("nowhere", ttl=math.inf)
    assert request.wait(30)
    assert request.status is RequestStatus.NO_PRODUCERS
    assert "nowhere" in request.reason


def test_c1_ends_once(dispatcher, gate):
    """C1: a cancel after the end, and an end after a cancel, change nothing."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.add(ScriptedProducer(gate, 2, name="a"), "t")
    first = dispatcher.send_request("t")
    gate.wait_parked()
    first.cancel()
    first.cancel()
    assert first.wait(30)
    gate.open()
    second = dispatcher.send_request("t").gather(30)
    second.cancel()
    assert dispatcher.flush(30)
    assert first.status is RequestStatus.CANCELLED
    assert second.status is RequestStatus.COMPLETE
    assert listener.ends == [first, second]


def test_c1_satisfied_and_stopped(gate):
    """C1: an early-finish rule ends a request SATISFIED, a stop that does not drain STOPPED."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(1, name="quick"), "t")
        dispatcher.add(ScriptedProducer(gate, name="slow"), "t")
        early = dispatcher.with_options(until=1).send_request("t").gather(30)
        left = dispatcher.send_request("t")
        gate.wait_parked()
        stopping = threading.Thread(target=dispatcher.stop, kwargs={"drain": False, "timeout": 5})
        stopping.start()
        assert left.wait(30)
        gate.open()
        stopping.join(30)
    assert early.status is RequestStatus.SATISFIED
    assert statuses(early) == [OK, OutcomeStatus.NOT_NEEDED]
    assert left.status is RequestStatus.STOPPED


def test_c1_thousands_of_distinct_ttls_all_expire(timed, clock, gate):
    """C1: every request ends at its own deadline, however many different TTLs there are."""
    timed.add(ScriptedProducer(gate), "t")
    requests = [timed.send_request("t", ttl=100 + number / 7) for number in range(3000)]
    clock.advance(0.1 + 1500 / 7000)
    assert requests[1499].wait(30)
    assert requests[2999].status is RequestStatus.OPEN
    clock.advance(1.0)
    assert all(request.wait(30) for request in requests)
    assert {request.status for request in requests} == {RequestStatus.EXPIRED}


def test_c1_no_deadline_and_a_huge_one(timed, clock):
    """C1, details: an infinite TTL is never scheduled; a huge one is waited for all the same."""
    with Gate() as gate:
        timed.add(ScriptedProducer(gate), "t")
        requests = [timed.send_request("t", ttl=ttl) for ttl in (math.inf, 1e300, 10**400)]
        gate.wait_parked()
        clock.advance(1e9)
        assert timed.send_request("nobody").wait(30)
        assert [request.status for request in requests] == [RequestStatus.OPEN] * 3
    assert all(request.wait(30) for request in requests)


def test_c1_requests_before_start_keep_their_deadline(clock):
    """C1, details: before `start` requests are kept, their deadline running."""
    dispatcher = ATEDispatcher(clock=clock)
    producer = dispatcher.add(ScriptedProducer("done"), "t")
    overdue = dispatcher.send_request("t", ttl=100)
    clock.advance(0.2)
    in_time = dispatcher.send_request("t", ttl=100)
    dispatcher.start()
    assert in_time.wait(30)
    assert overdue.wait(30)
    dispatcher.stop()
    assert overdue.status is RequestStatus.EXPIRED
    assert in_time.values == {producer.name: "done"}
    assert len(producer.calls) == 1
