"""C9: stopping, within a process; what becomes of the process itself has its own file."""

from __future__ import annotations

import threading
import weakref

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    RequestStatus,
    ResultListener,
    StateError,
    _callbacks,
    _lifetime,
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
    dispatcher = ATEDispatcher(grace=0.5)
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


@pytest.mark.parametrize(
    ("ttl", "stop"),
    [
        (60_000, lambda dispatcher: dispatcher.stop(drain=False)),
        (60_000, lambda dispatcher: dispatcher.stop(timeout=0.0)),
        (float("inf"), ATEDispatcher.stop),
    ],
)
def test_c9_whom_a_stop_sets_free_begins_nothing_else(gate, ttl, stop):
    """C9: a producer whose request ends first does not begin one that is about to end."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    producer = dispatcher.add(ScriptedProducer(gate, 2), "t")
    first, second = (dispatcher.send_request("t", ttl=ttl) for _ in range(2))
    gate.wait_parked()
    passed = threading.Event()

    def first_has_ended():  # on the dispatcher's thread, which has not ended the second yet
        gate.open()
        producer._ate_fence(passed.set)
        passed.wait(BOUND)

    assert first._waiter().add(first_has_ended)
    stop(dispatcher)
    assert passed.is_set()
    assert not first.succeeded
    assert not second.succeeded
    assert len(producer.calls) == 1


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


def test_c9_an_idle_agent_is_no_straggler_of_a_limit(gate):
    """C9: when the limit ends the requests, who stands idle is not reported as hanging."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    dispatcher.add(ScriptedProducer(gate, name="stuck"), "t")
    dispatcher.add(ScriptedProducer(1, name="idle"), "u")
    listener = dispatcher.add(RecordingListener(name="log"), "u")
    dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    report = dispatcher.stop(timeout=0)
    assert [straggler.name for straggler in report.alive] == ["stuck"]
    assert report.undelivered == {}
    assert not listener.is_alive()


def test_c9_a_grace_without_end():
    """C9: it may be infinite, which is longer than the platform can wait."""
    dispatcher = ATEDispatcher(grace=float("inf"))
    dispatcher.start()
    request = dispatcher.send_request("t")
    told = threading.Event()
    request.add_done_callback(lambda request: told.set())  # so there is a callback thread
    assert told.wait(60)
    assert dispatcher.stop().clean


def test_c9_a_dispatcher_made_while_the_others_are_listed(monkeypatch):
    """C9: the way out does not stumble over another thread that makes one just then."""
    one, other = ATEDispatcher(), ATEDispatcher()

    class Known(weakref.WeakSet):
        def __iter__(self):
            for dispatcher in super().__iter__():
                self.add(other)
                yield dispatcher

    monkeypatch.setattr(_lifetime, "_dispatchers", Known([one]))
    assert set(_lifetime._all()) == {one, other}


@pytest.mark.parametrize("way", ["stop", "abort"])
def test_c9_an_agent_stops_a_dispatcher_that_was_never_started(way):
    """C9: a self test may; what was sent ends, and a later stop waits for nothing."""
    dispatcher = ATEDispatcher()
    begun = []

    class SelfTest(ScriptedProducer):
        def on_start(self):
            begun.append(getattr(dispatcher, way)().finished)

    request = dispatcher.send_request("t", ttl=60_000)
    agent = dispatcher.add(SelfTest(name="dmm"), "t")
    assert request.wait(BOUND)
    assert dispatcher.stop(timeout=BOUND).finished
    agent.join(BOUND)
    assert begun == [False]
    assert not dispatcher.is_alive()
    with pytest.raises(StateError):
        dispatcher.start()


class Interrupted(threading.Event):
    """Of a thread that has begun, while Ctrl-C interrupts whoever waits for it to say so."""

    def wait(self, timeout=None):
        super().wait(BOUND)
        if timeout is None:
            raise KeyboardInterrupt
        return True


def test_c9_ctrl_c_while_the_dispatcher_is_started():
    """C9: its thread is there, so a stop ends it."""
    dispatcher = ATEDispatcher()
    dispatcher._started = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        dispatcher.start()
    assert dispatcher.stop(timeout=BOUND).finished
    assert not dispatcher.is_alive()


def test_c9_ctrl_c_while_an_agent_is_started():
    """C9: its thread is there, so a stop makes it safe and waits for it as for the others."""
    asked = []

    class Supply(ScriptedProducer):
        def safe_state(self):
            asked.append(self.name)

        def _ate_halt(self):
            asked.append("in its turn")
            super()._ate_halt()

    agent = Supply(1, name="supply")
    agent._started = Interrupted()
    dispatcher = ATEDispatcher()
    with pytest.raises(KeyboardInterrupt), dispatcher:
        dispatcher.add(agent, "t")
    assert asked == ["in its turn", "supply"]
    assert not agent.is_alive()


def test_c9_ctrl_c_while_the_callback_thread_is_started(monkeypatch):
    """C9: there is one, and it ends with its dispatcher."""

    class Slow(threading.Thread):
        def __init__(self, **options):
            super().__init__(**options)
            self._started = Interrupted()

    monkeypatch.setattr(_callbacks.threading, "Thread", Slow)
    callbacks = _callbacks.Callbacks("callbacks")
    with pytest.raises(KeyboardInterrupt):
        callbacks.start()
    thread = callbacks.thread
    callbacks.start()
    assert callbacks.thread is thread
    callbacks.end()
    thread.join(BOUND)
    assert not thread.is_alive()


def test_c9_ctrl_c_just_before_the_last_turn_of_a_dispatcher_never_started():
    """C9: the next stop takes the turn."""
    dispatcher = ATEDispatcher()
    request = dispatcher.send_request("t")

    def interrupted():
        raise KeyboardInterrupt

    dispatcher.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        dispatcher.stop()
    del dispatcher.run
    assert dispatcher.stop().finished
    assert request.wait(0)


@pytest.mark.parametrize("waits", ["delivered", "flush"])
def test_c9_a_callback_may_wait_for_the_dispatcher_that_stops(waits):
    """C9: it is answered while the stop waits for it, and is nobody who hangs."""
    gate, answers = Gate(), []
    dispatcher = ATEDispatcher(grace=BOUND)
    dispatcher.start()
    dispatcher.add(ScriptedProducer(1), "t")
    dispatcher.add(RecordingListener(), "t")

    def done(request):
        gate.park()
        if waits == "flush":
            answers.append(dispatcher.flush(BOUND / 2))
        else:
            answers.append(request.wait(BOUND / 2, delivered=True))

    dispatcher.send_request("t").add_done_callback(done)
    gate.wait_parked()
    end, ending = dispatcher._callbacks.end, threading.Event()

    def noted(*arguments):
        end(*arguments)
        ending.set()

    dispatcher._callbacks.end = noted
    stopping = threading.Thread(target=dispatcher.stop)
    stopping.start()
    assert ending.wait(BOUND)  # all agents have come back, the callback is the last
    gate.open()
    stopping.join(BOUND / 4)
    assert answers == [True]
    assert dispatcher.stop().alive == ()
