"""C5: nothing dies silently."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    Observer,
    OutcomeStatus,
    Producer,
    RequestStatus,
    ResultListener,
)
from ate_dispatcher._loop_thread import LoopThread
from ate_dispatcher.testing import Gate, ScriptedProducer

BOUND = 60


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


class Leaving(ScriptedProducer):
    """Notes, when work that waits for it is refused, who still counts on it."""

    def _ate_refuse(self, message, reason):
        self.counting = self._ate_dispatchers()
        super()._ate_refuse(message, reason)


@pytest.mark.parametrize("crash", [SystemExit, KeyboardInterrupt])
def test_c5_system_exit_fails_that_agent_alone(dispatcher, crash, gate):
    """C5: its rows that wait become REJECTED, it leaves the routing, the others go on."""
    leaving = Leaving(lambda topic: gate.park() or (_ for _ in ()).throw(crash()), name="a")
    dispatcher.add(leaving, "t")
    dispatcher.add(ScriptedProducer("ok", name="b"), "t")
    first = dispatcher.send_request("t", ttl=60_000)

    gate.wait_parked()
    second = dispatcher.send_request("t", ttl=60_000)
    gate.open()
    assert first.wait(BOUND)
    assert second.wait(BOUND)
    third = dispatcher.send_request("t").gather(BOUND)
    assert leaving.counting == ()
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
        # Without a global interpreter lock a thread lets go of its own objects only when it runs.
        assert any(logged.wait(0.1) or not dispatcher.flush(BOUND) for _ in range(10 * BOUND))
        assert logged.is_set()
    finally:
        logging.getLogger("ate_dispatcher").removeHandler(handler)
    assert "unseen" in repr(records[0].exc_info)


@pytest.mark.parametrize("way", ["stop", "remove", "deregister"])
def test_c5_errors_of_a_listener_that_is_on_its_way_out_are_told(way):
    """C5: what it raises on the events that it still has goes to whoever asked for it."""
    told, watched, gate = [], [], Gate()

    class Watch(Observer):
        def on_listener_error(self, listener, event, error):
            watched.append(error.args[0])

    class Raising(ResultListener):
        def process_dispatcher_result(self, topic, response):
            gate.park()
            raise ValueError(response)

    with ATEDispatcher(on_listener_error=lambda *what: told.append(what[2].args[0])) as dispatcher:
        dispatcher.add_observer(Watch())
        dispatcher.add(ScriptedProducer(lambda topic, number: number), "t")
        listener = dispatcher.add(Raising(name="log"), "t")
        for number in range(3):
            assert dispatcher.send_request("t", number).wait(BOUND)
        gate.wait_parked()
        if way == "deregister":
            dispatcher.deregister_result_listener(listener, "t")
            dispatcher.send_request("nobody").gather(BOUND)  # it has handled that
            gate.open()
        else:
            dismiss = listener._ate_dismiss
            listener._ate_dismiss = lambda: (dismiss(), gate.open())
            if way == "remove":
                dispatcher.remove(listener)
    assert told == watched == [0, 1, 2]
    listener.stop()
    listener.join(BOUND)
    assert listener._ate_hearers == {}


LEAVING = [SystemExit, KeyboardInterrupt]


@pytest.mark.parametrize("leave", LEAVING)
def test_c5_a_coroutine_that_leaves_fails_its_agent_alone(dispatcher, leave, caplog):
    """C5: the event loop, which asyncio ends for these, answers for the hook all the same."""

    class Leaving(Producer):
        async def produce_dispatcher_output(self, topic):
            raise leave("out")

    producer = dispatcher.add(Leaving(name="a"), "t")
    dispatcher.add(ScriptedProducer("ok", name="b"), "t")
    request = dispatcher.send_request("t", ttl=20_000)
    assert request.wait(BOUND)
    assert request.values == {"b": "ok"}
    assert isinstance(request.failed[0].exception, leave)
    producer.join(BOUND)
    assert not producer.is_alive()
    assert "agent 'a' failed and leaves" in caplog.text


@pytest.mark.parametrize("leave", LEAVING)
def test_c5_a_background_task_that_leaves_holds_up_nobody(dispatcher, leave, caplog):
    """C5: the hook that began it comes to its end, and so do those after it."""

    class Busy(Producer):
        async def produce_dispatcher_output(self, topic):
            task = asyncio.ensure_future(self.leave())
            await asyncio.wait([task])
            return type(task.exception()).__name__

        async def leave(self):
            raise leave

    dispatcher.add(Busy(name="a"), "t")
    for _ in range(2):
        assert dispatcher.send_request("t", ttl=20_000).gather(BOUND).values == {
            "a": leave.__name__
        }
    assert "goes on after" in caplog.text


def test_c5_on_start_as_a_coroutine_that_leaves_fails_the_agent(dispatcher):
    """C5: and it is made safe."""
    made_safe = threading.Event()

    class Unplugged(Producer):
        async def on_start(self):
            raise SystemExit(2)

        def safe_state(self):
            made_safe.set()

        def produce_dispatcher_output(self, topic):
            return 1

    producer = dispatcher.add(Unplugged(name="a"), "t")
    assert made_safe.wait(BOUND)
    producer.join(BOUND)
    assert not producer.is_alive()


def test_c5_a_listeners_coroutine_that_leaves_is_not_waited_for(dispatcher):
    """C5: nothing is delivered to it any more, and everybody is told so."""

    class Leaving(ResultListener):
        async def process_dispatcher_result(self, topic, response):
            raise SystemExit

    dispatcher.add(Leaving(name="l"), "t")
    dispatcher.add(ScriptedProducer("ok", name="p"), "t")
    assert dispatcher.send_request("t").wait(20, delivered=True)


def test_c5_a_loop_that_is_told_to_stop_stops_whatever_is_raised_meanwhile():
    """C5: an exit in the very turn in which the loop was told does not make it forget that."""
    loop = LoopThread("a")
    told = threading.Event()
    call = loop.call

    def watched(function, *args):
        call(function, *args)
        told.set()

    loop.call = watched
    ending = threading.Thread(target=loop.close)

    def leave():
        raise SystemExit

    async def leaving():
        ending.start()
        assert told.wait(BOUND)
        asyncio.get_running_loop().call_soon(leave)  # in the same turn, behind the stop

    loop.run(leaving())
    ending.join(BOUND)
    loop.thread.join(BOUND)
    assert not loop.thread.is_alive()


def test_c5_a_loop_ends_although_what_it_cancels_leaves(caplog):
    """C5: a task, and an asynchronous generator, that answer the end with an exit."""
    loop = LoopThread("a")
    seen = []

    async def values():
        try:
            yield 1
        finally:
            seen.append("generator")
            raise SystemExit

    async def stays():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("task")
            raise SystemExit

    async def began():
        await generator.__anext__()

    begun = threading.Event()
    generator = values()
    loop.run(began())
    left = loop.start(stays())
    assert begun.wait(BOUND)
    loop.close()
    loop.thread.join(BOUND)
    assert not loop.thread.is_alive()
    assert seen == ["task", "generator"]
    assert isinstance(left.exception(BOUND), SystemExit)


class Unshowable(Exception):
    """As one made with an instrument whose session is closed."""

    def __repr__(self):
        raise OSError("the session is closed")


@pytest.mark.parametrize("kind", [Producer, ResultListener])
def test_c5_an_error_that_cannot_be_shown_ends_nothing(kind, gate):
    """C5: what waits for the agent that failed is refused, and the dispatcher goes on."""

    class Failing(kind):
        def on_start(self):
            gate.park()
            raise Unshowable

        def produce_dispatcher_output(self, topic):
            raise AssertionError("never begins")

        def process_dispatcher_result(self, topic, response):
            raise AssertionError("never begins")

    with ATEDispatcher() as dispatcher:
        failing = dispatcher.add(Failing(name="failing"), "t")
        dispatcher.add(ScriptedProducer(1, 2, name="other"), "t")
        requests = [dispatcher.send_request("t", ttl=60_000) for _ in range(2)]
        dispatcher.statistics()  # they are in the mailbox
        gate.open()
        failing.join(BOUND)
        assert [request.gather(BOUND).values["other"] for request in requests] == [1, 2]
        for request in requests if kind is Producer else ():
            (refused,) = request.gather(BOUND).failed
            assert refused.status is OutcomeStatus.REJECTED
            assert "failed: Unshowable (its repr() raised OSError)" in refused.reason
        assert dispatcher.flush(BOUND)


@dataclass(frozen=True)
class FrozenError(Exception):
    """An error to which nothing can be assigned, not even what Python notes on every error."""

    code: int


def test_c5_an_error_that_nothing_can_be_assigned_to(dispatcher):
    """C5: it becomes an ERROR outcome as any other, without frames of ours; the thread lives on."""
    dispatcher.add(ScriptedProducer(FrozenError(7), "back", name="dmm"), "t")
    failed = dispatcher.send_request("t").gather(BOUND).failed[0]
    assert failed.exception == FrozenError(7)
    assert "_producer.py" not in failed.traceback
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm": "back"}


@pytest.mark.parametrize("options", [{}, {"resources": ("GPIB0",)}])
@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()])
def test_c5_only_what_ends_a_program_fails_an_agent(dispatcher, error, options):
    """C5: any other `BaseException`, as of a task that was cancelled, is that one work's alone."""
    heard = []

    class Fussy(ResultListener):
        def process_dispatcher_result(self, topic, response):
            heard.append(response)
            raise error

    dispatcher.add(Fussy(), "t")
    dispatcher.add(ScriptedProducer(error, 1, 2, name="dmm", **options), "t")
    assert dispatcher.send_request("t").gather(BOUND).failed[0].exception is error
    for value in (1, 2):
        request = dispatcher.send_request("t")
        assert request.wait(BOUND, delivered=True)
        assert request.values == {"dmm": value}
    assert heard == [1, 2]


def test_c5_producers_are_made_safe_although_the_dispatcher_fails(monkeypatch):
    """C5, C9: the fault of a dispatcher's thread leaves no output switched on."""
    made_safe = threading.Event()

    class Supply(ScriptedProducer):
        def safe_state(self):
            made_safe.set()

    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    dispatcher = ATEDispatcher()
    dispatcher.start()
    supply = dispatcher.add(Supply(1), "t")
    assert dispatcher.send_request("t").wait(BOUND)

    def fail(request, now):
        raise RuntimeError("a fault of ours")

    dispatcher._on_request = fail
    dispatcher.send_request("nobody")
    dispatcher.join(BOUND)
    assert made_safe.wait(BOUND)
    supply.join(BOUND)
    assert not supply.is_alive()


def test_c5_a_listener_function_may_return_what_can_be_awaited(dispatcher, gate):
    """C5: a request that it has sent is not waited for; only what `async def` gives is."""
    dispatcher.add(ScriptedProducer(gate, name="slow"), "slow")
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    dispatcher.listener("t")(lambda topic, response: dispatcher.send_request("slow", ttl=60_000))
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    gate.open()
