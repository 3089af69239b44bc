"""C1 to C4: every request ends once, with one outcome a producer, judged where the work ended."""

from __future__ import annotations

import math
import threading

import pytest

from ate_dispatcher import ATEDispatcher, Observer, OutcomeStatus, Phase, Producer, RequestStatus
from ate_dispatcher.testing import FakeClock, Gate, RecordingListener, ScriptedProducer

OK, ERROR, TIMEOUT = OutcomeStatus.OK, OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT


def statuses(request):
    return [outcome.status for outcome in request.outcomes]


# ---- C1 ------------------------------------------------------------------------------------------


def test_c1_complete_when_the_whole_roster_has_answered(dispatcher):
    """C1: OPEN, then COMPLETE, whether the answers are values or errors."""
    dispatcher.add(ScriptedProducer(1, name="good"), "t")
    dispatcher.add(ScriptedProducer(ValueError("no"), name="bad"), "t")
    request = dispatcher.send_request("t")
    assert request.wait(5)
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
    assert request.wait(5)
    assert request.status is RequestStatus.EXPIRED
    assert statuses(request) == [TIMEOUT, TIMEOUT]


def test_c1_nobody_registered_ends_at_once(dispatcher):
    """C1: a topic with no producer ends at once and says so."""
    request = dispatcher.send_request("nowhere", ttl=math.inf)
    assert request.wait(5)
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
    assert first.wait(5)
    gate.open()
    second = dispatcher.send_request("t").gather(5)
    second.cancel()
    assert dispatcher.flush(5)
    assert first.status is RequestStatus.CANCELLED
    assert second.status is RequestStatus.COMPLETE
    assert listener.ends == [first, second]


def test_c1_satisfied_and_stopped(gate):
    """C1: an early-finish rule ends a request SATISFIED, a stop that does not drain STOPPED."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(1, name="quick"), "t")
        dispatcher.add(ScriptedProducer(gate, name="slow"), "t")
        early = dispatcher.with_options(until=1).send_request("t").gather(5)
        left = dispatcher.send_request("t")
        gate.wait_parked()
        stopping = threading.Thread(target=dispatcher.stop, kwargs={"drain": False, "timeout": 5})
        stopping.start()
        assert left.wait(5)
        gate.open()
        stopping.join(5)
    assert early.status is RequestStatus.SATISFIED
    assert statuses(early) == [OK, OutcomeStatus.NOT_NEEDED]
    assert left.status is RequestStatus.STOPPED


def test_c1_thousands_of_distinct_ttls_all_expire(timed, clock, gate):
    """C1: every request ends at its own deadline, however many different TTLs there are."""
    timed.add(ScriptedProducer(gate), "t")
    requests = [timed.send_request("t", ttl=100 + number / 7) for number in range(3000)]
    clock.advance(0.1 + 1500 / 7000)
    assert requests[1499].wait(5)
    assert requests[2999].status is RequestStatus.OPEN
    clock.advance(1.0)
    assert all(request.wait(5) for request in requests)
    assert {request.status for request in requests} == {RequestStatus.EXPIRED}


def test_c1_no_deadline_and_a_huge_one(timed, clock):
    """C1, details: an infinite TTL is never scheduled; a huge one is waited for all the same."""
    with Gate() as gate:
        timed.add(ScriptedProducer(gate), "t")
        requests = [timed.send_request("t", ttl=ttl) for ttl in (math.inf, 1e300, 10**400)]
        gate.wait_parked()
        clock.advance(1e9)
        assert timed.send_request("nobody").wait(5)
        assert [request.status for request in requests] == [RequestStatus.OPEN] * 3
    assert all(request.wait(5) for request in requests)


def test_c1_requests_before_start_keep_their_deadline(clock):
    """C1, details: before `start` requests are kept, their deadline running."""
    dispatcher = ATEDispatcher(clock=clock)
    producer = dispatcher.add(ScriptedProducer("done"), "t")
    overdue = dispatcher.send_request("t", ttl=100)
    clock.advance(0.2)
    in_time = dispatcher.send_request("t", ttl=100)
    dispatcher.start()
    assert in_time.wait(5)
    assert overdue.wait(5)
    dispatcher.stop()
    assert overdue.status is RequestStatus.EXPIRED
    assert in_time.values == {producer.name: "done"}
    assert len(producer.calls) == 1


# ---- C2 ------------------------------------------------------------------------------------------


def test_c2_one_final_outcome_each_and_they_add_up(timed, clock, gate):
    """C2: value, error, timeout and rejection side by side; the good value is not lost."""
    timed.add(ScriptedProducer(42, name="good"), "t")
    timed.add(ScriptedProducer(KeyError("lost"), name="bad"), "t")
    timed.add(ScriptedProducer(gate, name="hung"), "t")
    timed.add(ScriptedProducer(gate, name="full", capacity=1), "t")
    timed.send_request("t", ttl=1e6)
    gate.wait_parked(2)  # both stand at the gate with the first request
    timed.send_request("t", ttl=1e6)
    request = timed.send_request("t", ttl=1e6)
    answers = iter(request)
    assert {next(answers).producer for _ in range(3)} == {"good", "bad", "full"}
    clock.advance(2e3)
    assert request.wait(5)
    assert request.roster == ("good", "bad", "hung", "full")
    assert [o.producer for o in request.outcomes] == list(request.roster)
    assert statuses(request) == [OK, ERROR, TIMEOUT, OutcomeStatus.REJECTED]
    assert request.values == {"good": 42}
    bad = request.failed[0]
    assert isinstance(bad.exception, KeyError)
    assert "_perform" in bad.traceback
    assert "lost" in bad.reason


def test_c2_a_timeout_says_how_far_the_work_had_come(timed, clock, gate):
    """C2: not started, queued or running, and since when."""
    running = timed.add(ScriptedProducer(gate, name="running"), "t", "busy")
    never = ScriptedProducer(name="never")
    timed.register_result_producer(never, "t")
    first = timed.send_request("busy", ttl=1e6)
    gate.wait_parked()
    second = timed.send_request("t", ttl=100)
    clock.advance(0.5)
    assert second.wait(5)
    clock.advance(1e4)
    assert first.wait(5)
    by_name = {outcome.producer: outcome for outcome in second.outcomes}
    assert by_name["running"].phase is Phase.QUEUED
    assert by_name["running"].since == second.queued
    assert "busy" in by_name["running"].reason
    assert by_name["never"].phase is Phase.NOT_STARTED
    assert first.outcomes[0].phase is Phase.RUNNING
    assert first.outcomes[0].since == first.outcomes[0].started is not None
    never.start()
    never.stop()
    never.join(5)
    assert running.is_alive()


# ---- C3 ------------------------------------------------------------------------------------------


class Lates(Observer):
    def __init__(self):
        self.seen = []
        self.told = threading.Event()

    def on_late(self, outcome, in_time):
        self.seen.append((outcome.value, in_time))
        self.told.set()


def test_c3_an_answer_stamped_past_the_deadline_is_late(timed, clock):
    """C3: late answers are counted, shown to observers, never delivered; the row stays closed."""
    gate = Gate()
    lates = Lates()
    timed.add_observer(lates)
    listener = timed.add(RecordingListener(), "t")
    producer = timed.add(ScriptedProducer(lambda topic: gate.park() or "late", "next"), "t")
    request = timed.send_request("t", ttl=100)
    gate.wait_parked()
    clock.advance(0.2)
    assert request.wait(5)
    closed = request.outcomes
    gate.open()
    assert timed.send_request("t", ttl=1000).wait(5, delivered=True)
    assert lates.told.wait(5)
    assert lates.seen == [("late", False)]
    assert listener.values == ["next"]
    assert request.outcomes == closed
    assert timed.statistics().lates == 1
    assert timed.statistics().producers[producer.name].lates == 1


def test_c3_the_dispatchers_own_backlog_never_expires_good_data(timed, clock):
    """C3: what was stamped in time and is in the mailbox when the deadline is noticed, counts."""
    busy, answered = Gate(), Gate()

    def park(outcome):
        busy.park()
        return False

    class Answers(Producer):
        def produce_dispatcher_output(self, topic):
            return "in time"

    timed.add(Answers(), "t")
    fence = timed.add(ScriptedProducer(lambda topic: answered.open(), name="after"), "t")
    timed.add(ScriptedProducer(0), "park")
    timed.with_options(until=park).send_request("park", ttl=1e6)
    busy.wait_parked()  # the dispatcher's thread stands in the predicate
    busy.open()
    request = timed.send_request("t", ttl=100)
    answered.park()  # the work was done, by the clock before its deadline
    assert request.wait(5)
    assert statuses(request) == [OK, OK]
    assert fence.calls


def test_c3_backlog_is_handled_before_expiry():
    """C3: an outcome put before the deadline is noticed is accepted, however late that is."""
    clock = FakeClock()
    dispatcher = ATEDispatcher(clock=clock)
    producer = ScriptedProducer("good")
    dispatcher.register_result_producer(producer, "t")
    request = dispatcher.send_request("t", ttl=100)
    assert dispatcher._turn()  # scatter, on this thread: the dispatcher was not started
    producer.start()
    producer.stop()
    producer.join(5)  # its answer is in the dispatcher's mailbox now, stamped in time
    clock.advance(10)
    dispatcher._turn()
    assert request.status is RequestStatus.COMPLETE
    assert statuses(request) == [OK]
    dispatcher.stop()


def test_c3_exactly_at_the_deadline_is_in_time(timed, clock):
    """C3: in time means stamped at or before the deadline."""
    gate = Gate()
    timed.add(ScriptedProducer(lambda topic: gate.park() or 1, name="a"), "t")
    request = timed.send_request("t", ttl=1000)
    gate.wait_parked()
    clock.advance(request.deadline - clock())
    gate.open()
    assert request.wait(5)
    assert statuses(request) == [OK]


# ---- C4 ------------------------------------------------------------------------------------------


def test_c4_expired_work_never_starts(timed, clock, gate):
    """C4: a backlog cannot send stale commands to an instrument."""
    producer = timed.add(ScriptedProducer(gate, "fresh"), "t")
    timed.send_request("t", "running", ttl=1e6)
    gate.wait_parked()
    stale = [timed.send_request("t", "stale", ttl=100) for _ in range(5)]
    clock.advance(0.2)
    assert all(request.wait(5) for request in stale)
    gate.open()
    assert timed.send_request("t", "fresh", ttl=100).gather(5).values == {producer.name: "fresh"}
    assert [call.args[0] for call in producer.calls] == ["running", "fresh"]


def test_c4_the_producer_itself_looks_at_the_clock(clock):
    """C4: even if the dispatcher has not noticed the deadline yet, the work does not start."""
    dispatcher = ATEDispatcher(clock=clock)
    producer = ScriptedProducer()
    dispatcher.register_result_producer(producer, "t")
    dispatcher.send_request("t", ttl=100)
    dispatcher._turn()
    clock.advance(0.2)
    producer.start()
    producer.stop()
    producer.join(5)
    assert producer.calls == []
    dispatcher.stop()


def test_c4_cancelled_work_never_starts(dispatcher, gate):
    """C4: after `cancel` returned nothing of the request starts, at once."""
    producer = dispatcher.add(ScriptedProducer(gate, "fresh"), "t")
    dispatcher.send_request("t", "running")
    gate.wait_parked()
    cancelled = dispatcher.send_request("t", "cancelled")
    cancelled.cancel()
    gate.open()
    assert dispatcher.send_request("t", "fresh").wait(5)
    assert [call.args[0] for call in producer.calls] == ["running", "fresh"]
    assert cancelled.wait(5)
    assert cancelled.missing[0].status is OutcomeStatus.CANCELLED


def test_c4_the_producer_looks_at_the_cancel_flag_itself():
    """C4: the flag alone stops the work, before the dispatcher has handled the cancel."""
    dispatcher = ATEDispatcher()
    producer = ScriptedProducer()
    dispatcher.register_result_producer(producer, "t")
    request = dispatcher.send_request("t")
    dispatcher._turn()
    request.cancel()
    producer.start()
    producer.stop()
    producer.join(5)
    assert producer.calls == []
    dispatcher.stop()


@pytest.mark.parametrize("winner", ["start", "close"])
def test_c4_a_claim_has_one_winner(winner):
    """C4: start and close contest one row; who comes second gets nothing."""
    dispatcher = ATEDispatcher()
    producer = ScriptedProducer(name="a")
    dispatcher.register_result_producer(producer, "t")
    request = dispatcher.send_request("t")
    dispatcher._turn()
    address = producer._ate_address
    if winner == "start":
        assert request.claim(address, dispatcher.clock())
        assert not request.claim(address, dispatcher.clock())
        request._refuse(address, "too late")
        assert dispatcher._mailbox.qsize() == 0
    else:
        request._refuse(address, "first")
        assert not request.claim(address, dispatcher.clock())
        dispatcher._turn()
        assert request.outcomes[0].reason == "first"
    dispatcher.stop(drain=False)
