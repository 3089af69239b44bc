"""What was wrong in the published 0.1.0 and must never come back, defect by defect."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from math import inf

import pytest

import ate_dispatcher
from ate_dispatcher import ATEDispatcher, OutcomeStatus, Phase, RequestStatus, StateError
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it


def test_a_producer_that_raised_answers_the_next_request(dispatcher):
    """C5: in 0.1.0 the first exception of a producer was the end of its thread."""
    dispatcher.add(ScriptedProducer(ValueError("no signal"), "5.01 V", name="dmm"), "voltage")

    first = dispatcher.send_request("voltage").gather(BOUND)
    second = dispatcher.send_request("voltage").gather(BOUND)

    (failure,) = first.failed
    assert str(failure.exception) == "no signal"
    assert second.values == {"dmm": "5.01 V"}


def test_a_listener_that_raised_hears_of_the_next_result(dispatcher):
    """C5: in 0.1.0 the first exception of a listener was the end of its thread."""
    heard = []

    @dispatcher.listener("voltage")
    def log(topic, response):
        heard.append(response)
        if response == 1:
            raise OSError("disk full")

    dispatcher.add(ScriptedProducer(1, 2, name="dmm"), "voltage")
    for _ in range(2):
        dispatcher.send_request("voltage")

    assert dispatcher.flush(BOUND)
    assert heard == [1, 2]
    assert dispatcher.statistics().listeners["log"].errors == 1


@pytest.mark.parametrize("keyword", ["uuid", "reply_to"])
def test_a_keyword_that_0_1_0_used_itself_is_the_callers(dispatcher, keyword):
    """C11: in 0.1.0 a request with such a keyword killed the dispatcher."""
    dmm = dispatcher.add(ScriptedProducer("first", "second", name="dmm"), "voltage")

    first = dispatcher.send_request("voltage", 3, **{keyword: "mine"}).gather(BOUND)
    second = dispatcher.send_request("voltage").gather(BOUND)

    assert first.values == {"dmm": "first"}
    assert second.values == {"dmm": "second"}
    assert dmm.calls[0] == ("voltage", (3,), {keyword: "mine"})


def test_a_topic_without_producers_leaves_nothing(dispatcher):
    """C1, C12: 0.1.0 kept every request that nobody answered, for ever."""
    dispatcher.add(RecordingListener(), "something else")
    requests = [dispatcher.send_request("nobody", ttl=inf) for _ in range(20)]
    assert dispatcher.flush(BOUND)
    assert {request.status for request in requests} == {RequestStatus.NO_PRODUCERS}

    kept = [weakref.ref(request) for request in requests]
    requests.clear()
    gc.collect()

    assert [ref() for ref in kept if ref() is not None] == []
    assert dispatcher.statistics().open == 0


def test_registrations_while_requests_are_routed(dispatcher):
    """C8: in 0.1.0 registering changed the sets that the dispatcher was iterating, and killed it.

    Four threads register, send and deregister on one topic at once. Each finds its own producer in
    the roster of its own request and its own listener told of it, whatever the others do.
    """
    rounds = 25
    start = threading.Barrier(4)
    wrong = []

    def take_turns(number):
        producer = ScriptedProducer(lambda topic, sender: (sender, number), name=f"dmm{number}")
        listener = RecordingListener(name=f"log{number}")
        producer.start()
        listener.start()
        start.wait(BOUND)
        for _ in range(rounds):
            dispatcher.register_result_producer(producer, "voltage")
            dispatcher.register_result_listener(listener, "voltage")
            request = dispatcher.send_request("voltage", number)
            dispatcher.deregister_result_producer(producer, "voltage")
            if not request.wait(BOUND) or len(request.outcomes) != len(request.roster):
                wrong.append(request)
            if request.values.get(producer.name) != (number, number):
                wrong.append(request)
            dispatcher.deregister_result_listener(listener, "voltage", wait=True, timeout=BOUND)
        if listener.values.count((number, number)) != rounds:
            wrong.append(listener.results)
        producer.stop()
        listener.stop()

    threads = [threading.Thread(target=take_turns, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * BOUND)

    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)
    assert dispatcher.is_alive()
    assert dispatcher.statistics().ended[RequestStatus.COMPLETE] == 4 * rounds


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
def test_a_jump_of_the_wall_clock_changes_no_deadline(dispatcher, monkeypatch, hours):
    """C3: 0.1.0 measured by ``time.time()``, so that setting the clock lost good results."""
    readings = itertools.count(1.7e9, hours * 3600.0)
    monkeypatch.setattr(time, "time", lambda: next(readings))
    listener = dispatcher.add(RecordingListener(), "voltage")
    dispatcher.add(ScriptedProducer("5.01 V", name="dmm"), "voltage")

    before = time.monotonic()
    request = dispatcher.send_request("voltage", ttl=60_000)
    after = time.monotonic()

    assert request.wait(BOUND, delivered=True)
    assert request.status is RequestStatus.COMPLETE
    assert listener.values == ["5.01 V"]
    assert before <= request.sent <= after
    assert request.deadline == request.sent + 60.0


def test_the_ttl_counts_from_the_call(timed, clock, gate):
    """C3: 0.1.0 counted from when the dispatcher got round to the request."""
    dmm = timed.add(ScriptedProducer(name="dmm"), "voltage")

    def busy(outcome):
        gate.park()
        return True

    first = timed.with_options(until=busy).send_request("voltage", 1)
    gate.wait_parked()  # the dispatcher's thread is held up
    second = timed.send_request("voltage", 2, ttl=100)
    clock.advance(0.2)
    gate.open()

    assert first.wait(BOUND)
    assert second.wait(BOUND)
    assert second.status is RequestStatus.EXPIRED
    assert second.deadline == second.sent + 0.1
    assert timed.send_request("voltage", 3).gather(BOUND).status is RequestStatus.COMPLETE
    assert [call.args for call in dmm.calls] == [(1,), (3,)]


def test_expired_work_never_reaches_the_instrument(timed, clock, gate):
    """C4: 0.1.0 went through its backlog and sent every stale command to the instrument."""
    psu = timed.add(ScriptedProducer(gate, "set", name="psu"), "set")
    running = timed.send_request("set", "3.3 V", ttl=60_000)
    gate.wait_parked()
    stale = [timed.send_request("set", "12 V", ttl=100) for _ in range(3)]
    clock.advance(0.2)
    assert all(request.wait(BOUND) for request in stale)
    gate.open()

    assert running.wait(BOUND)
    assert timed.send_request("set", "5 V").gather(BOUND).values == {"psu": "set"}
    assert [call.args for call in psu.calls] == [("3.3 V",), ("5 V",)]
    for request in stale:
        (outcome,) = request.outcomes
        assert outcome.status is OutcomeStatus.TIMEOUT
        assert outcome.phase is Phase.QUEUED


def test_stop_delivers_what_is_in_flight_and_joins():
    """C9: 0.1.0's ``stop`` overtook the answers of running work, and left threads alive."""
    dispatcher = ATEDispatcher()

    def work(topic, number):
        if number == 0:
            dispatcher.stop()  # begun while this request runs and two more wait behind it
        return number

    dmm = dispatcher.add(ScriptedProducer(work, name="dmm"), "voltage")
    listener = dispatcher.add(RecordingListener(), "voltage")
    requests = [dispatcher.send_request("voltage", number) for number in range(3)]
    dispatcher.start()
    assert requests[0].wait(BOUND)  # its hook, and so the first stop, is through
    report = dispatcher.stop()

    assert listener.values == [0, 1, 2]
    assert {request.status for request in requests} == {RequestStatus.COMPLETE}
    assert report.clean
    assert not any(thread.is_alive() for thread in (dispatcher, dmm, listener))


def test_a_finished_script_that_stopped_nothing_exits_with_its_results():
    """C9: the threads of 0.1.0 were no daemons, so that such a script hung for ever."""
    script = """
from ate_dispatcher import ATEDispatcher, Producer, ResultListener

class Dmm(Producer):
    def produce_dispatcher_output(self, topic, channel):
        return 5.0 + channel

class Screen(ResultListener):
    def process_dispatcher_result(self, topic, response):
        print(topic, response, flush=True)

dispatcher = ATEDispatcher()
dispatcher.start()
for agent, register in (
    (Dmm(), dispatcher.register_result_producer),
    (Screen(), dispatcher.register_result_listener),
):
    agent.start()
    register(agent, "voltage")
dispatcher.send_request("voltage", 1)
"""
    package = os.path.dirname(os.path.dirname(ate_dispatcher.__file__))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": package},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "voltage 6.0\n", "")


def test_a_request_after_stop_is_refused(dispatcher):
    """C9: 0.1.0 took it silently, and nothing ever came of it."""
    dmm = dispatcher.add(ScriptedProducer("5.01 V", name="dmm"), "voltage")
    dispatcher.stop()

    with pytest.raises(StateError, match="has stopped"):
        dispatcher.send_request("voltage")
    with pytest.raises(StateError, match="has stopped"):
        dispatcher.with_options(to="dmm").send_request("voltage")
    assert dmm.calls == []
