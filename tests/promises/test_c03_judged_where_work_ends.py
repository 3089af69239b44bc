"""C3: the deadline is judged where the work ends."""

from __future__ import annotations

import threading

from ate_dispatcher import ATEDispatcher, Observer, OutcomeStatus, Producer, RequestStatus
from ate_dispatcher.testing import FakeClock, Gate, RecordingListener, ScriptedProducer

OK, ERROR, TIMEOUT = OutcomeStatus.OK, OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT


def statuses(request):
    return [outcome.status for outcome in request.outcomes]


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
    assert request.wait(30)
    closed = request.outcomes
    gate.open()
    assert timed.send_request("t", ttl=1000).wait(5, delivered=True)
    assert lates.told.wait(30)
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
    assert request.wait(30)
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
    producer.join(30)  # its answer is in the dispatcher's mailbox now, stamped in time
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
    assert request.wait(30)
    assert statuses(request) == [OK]
