"""Races and their like that were found by noise or by reading, each forced here step by step."""

from __future__ import annotations

import math
import threading

import pytest

from ate_dispatcher import ATEDispatcher, OutcomeStatus, Request, RequestStatus
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60


class Unwordable(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.parametrize("drain", [True, False])
def test_a_request_put_behind_the_stop_ends_stopped(dispatcher, gate, drain):
    """C9: a sender that was past the check when the stop came does not keep it from ending.

    The dispatcher's thread is parked in a predicate while the stop, and behind it a request without
    a deadline for a producer that hangs, come into its mailbox.
    """
    hanging = dispatcher.add(ScriptedProducer(gate), "t")
    dispatcher.add(ScriptedProducer(1), "u")
    dispatcher.with_options(until=lambda outcome: gate.park()).send_request("u")
    gate.wait_parked()
    dispatcher._close()
    stopper = threading.Thread(target=dispatcher.stop, args=(drain,))
    put, stop_is_in = dispatcher._home.put, threading.Event()

    def watched_put(message):
        put(message)
        if type(message).__name__ == "Stop":
            stop_is_in.set()

    dispatcher._home.put = watched_put
    stopper.start()
    assert stop_is_in.wait(BOUND)
    request = Request("t", math.inf, dispatcher.clock(), None, dispatcher._home, (), None)
    put(request)
    gate.open()
    stopper.join(BOUND)
    assert not stopper.is_alive()
    assert request.status is RequestStatus.STOPPED
    assert request.roster == ()
    assert hanging.calls == []


def test_a_flush_tells_listeners_of_one_name_apart(dispatcher, gate):
    """C7: a listener that was deregistered and still is busy counts beside its name's successor."""

    class Parked(RecordingListener):
        def process_dispatcher_result(self, topic, response):
            gate.park()
            super().process_dispatcher_result(topic, response)

    dispatcher.add(ScriptedProducer(1), "t")
    first = dispatcher.add(Parked(name="screen"), "t")
    assert dispatcher.send_request("t").wait(BOUND)
    gate.wait_parked()
    dispatcher.deregister_result_listener(first, "t")
    assert dispatcher.send_request("nobody").wait(BOUND)  # the name is free now
    second = dispatcher.add(RecordingListener(name="screen"), "t")
    assert dispatcher.send_request("t").wait(BOUND)
    assert not dispatcher.flush(0)
    assert dispatcher.send_request("nobody").wait(BOUND)  # its fences are out
    assert dispatcher.deregister_result_listener(second, "t", wait=True, timeout=BOUND)
    assert dispatcher.laggards() == ("screen",)  # the second has passed its fence, not the first
    gate.open()
    assert dispatcher.flush(BOUND)
    assert (first.values, second.values) == ([1], [1])
    first.stop()
    second.stop()
    first.join(BOUND)
    assert first._ate_failure is None


@pytest.mark.parametrize(
    ("work", "words"), [(Unwordable(), "Unwordable"), (range, "range")], ids=["error", "builtin"]
)
def test_an_error_that_cannot_be_worded_is_an_error_all_the_same(dispatcher, work, words):
    """C5: neither an exception without words nor a hook without a signature ends a producer."""
    if work is range:
        dispatcher.producer("t", name="p")(range)
    else:
        dispatcher.add(ScriptedProducer(work, name="p"), "t")
    for _ in range(2):
        request = dispatcher.send_request("t")
        assert request.wait(BOUND)
        (outcome,) = request.outcomes
        assert outcome.status is OutcomeStatus.ERROR
        assert words in outcome.reason


def test_a_dispatcher_that_never_started_stops_twice():
    """C9: stopping twice is once, without a start too."""
    dispatcher = ATEDispatcher()
    request = dispatcher.send_request("t")
    assert dispatcher.stop().clean
    assert dispatcher.stop().clean
    assert request.status is RequestStatus.NO_PRODUCERS  # sent before the stop, so heard


def test_a_predicate_that_exits_ends_nothing_but_itself(dispatcher, caplog):
    """C5: SystemExit from a predicate does not end the dispatcher's thread."""

    def leave(outcome):
        raise SystemExit

    dispatcher.add(ScriptedProducer(1, 2), "t")
    request = dispatcher.with_options(until=leave).send_request("t")
    assert request.gather(BOUND).status is RequestStatus.COMPLETE
    assert list(dispatcher.send_request("t").gather(BOUND).values.values()) == [2]
    assert "predicate" in caplog.text


def test_a_fence_behind_an_agents_last_look_passes(dispatcher):
    """C8: deregistering with wait=True an agent that has ended, and belongs to nobody, returns."""
    producer = dispatcher.add(ScriptedProducer(), "t")
    assert dispatcher.remove(producer, wait=True, timeout=BOUND)
    producer.join(BOUND)
    assert not producer.is_alive()
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert dispatcher.remove(producer, wait=True, timeout=BOUND)
