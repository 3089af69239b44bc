"""C7: "delivered" is knowable."""

from __future__ import annotations

import pytest

from ate_dispatcher import (
    DeadlockError,
    Producer,
    RequestStatus,
    ResultListener,
)
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer

BOUND = 60


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


def test_c7_a_listener_that_came_back_and_went_again_is_waited_for(dispatcher):
    """C7: the fence of its first farewell says nothing about what it was sent after it."""
    first, second = Gate(), Gate()

    class Twice(ResultListener):
        def process_dispatcher_result(self, topic, response):
            (first, second)[response].park()

    dispatcher.add(ScriptedProducer(lambda topic, number: number), "t")
    twice = dispatcher.add(Twice(name="twice"), "t")
    with first, second:
        for number in range(2):
            dispatcher.register_result_listener(twice, "t")
            request = dispatcher.send_request("t", number)
            assert request.wait(BOUND)
            dispatcher.deregister_result_listener(twice, "t")
            dispatcher.send_request("nobody").gather(BOUND)  # it has handled that
        first.wait_parked()
        first.open()
        second.wait_parked()  # the first fence is passed, and the dispatcher's mailbox knows of it
        assert not request.wait(0.05, delivered=True)
        assert not dispatcher.flush(0.05)
        assert dispatcher.laggards() == ("twice",)
        second.open()
        assert dispatcher.flush(BOUND)
    dispatcher.remove(twice)


def test_c7_a_wait_that_timed_out_leaves_nothing_behind(dispatcher, gate):
    """C7: neither with the requests it waited for, nor, as messages, with a listener that hangs."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    for _ in range(50):
        assert not dispatcher.flush(0)
    dispatcher.send_request("nobody").gather(BOUND)  # it has handled all that
    assert dispatcher.laggards() == ("dmm",)
    assert request._waiter()._tell == []
    slow = dispatcher.add(Slow(gate, name="slow"), "u")
    dispatcher.add(ScriptedProducer(1), "u")
    handed = dispatcher.send_request("u").gather(BOUND)
    gate.wait_parked(2)
    for _ in range(7):
        assert not handed.wait(0, delivered=True)
    dispatcher.send_request("nobody").gather(BOUND)
    assert dispatcher.statistics().listeners["slow"].depth == 0
    report = dispatcher.stop(drain=False, timeout=0)
    assert report.undelivered == {"slow": 1}
    gate.open()
    slow.join(BOUND)
    assert slow._ate_fences == {}
