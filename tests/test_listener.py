"""Result listeners: which events reach them, on which thread, in which order."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from ate_dispatcher import ATEDispatcher, OutcomeStatus, RequestStatus, ResultListener
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches

RESULT, OUTCOME, END = (
    "process_dispatcher_result",
    "process_dispatcher_outcome",
    "process_dispatcher_end",
)


def listener_with(*hooks):
    """Make a listener that overrides just these hooks and notes what they were called with."""
    told = []

    def hook(name):
        def note(self, *args):
            told.append((name, *args))

        return note

    kind = type("Some", (ResultListener,), {name: hook(name) for name in hooks})
    agent = kind(name="some")
    agent.told = told
    return agent


@pytest.fixture
def busy(dispatcher):
    """A dispatcher whose ``t`` gives a value, an error and a stream of two."""
    dispatcher.add(ScriptedProducer(1, name="value"), "t")
    dispatcher.add(ScriptedProducer(KeyError("x"), name="error"), "t")
    dispatcher.producer("t", name="stream")(lambda topic: (number for number in (8, 9)))
    return dispatcher


# ---- which events --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hooks", "events"),
    [
        ((RESULT,), 4),
        ((OUTCOME,), 5),
        ((END,), 1),
        ((RESULT, END), 5),
        ((OUTCOME, END), 6),
        ((RESULT, OUTCOME, END), 6),
    ],
)
def test_a_listener_is_woken_only_for_the_hooks_it_has(busy, hooks, events):
    """Listener hooks: which are overridden is read at registration.

    Results and values of streams: three, and the end of the stream; one error; one end.
    """
    agent = busy.add(listener_with(*hooks), "t")
    assert busy.send_request("t").wait(BOUND, delivered=True)
    counted = busy.statistics().listeners["some"]
    assert counted.delivered == events
    assert counted.errors == 0
    assert {name for name, *_ in agent.told} == set(hooks)


def test_what_each_hook_is_called_with(busy):
    """Listener hooks: ``(topic, response)``, ``(outcome)``, ``(request)``."""
    agent = busy.add(listener_with(RESULT, OUTCOME, END), "t")
    request = busy.send_request("t")
    assert request.wait(BOUND, delivered=True)
    results = [call[1:] for call in agent.told if call[0] == RESULT]
    assert sorted(results) == [("t", 1), ("t", 8), ("t", 9)]
    outcomes = [call[1] for call in agent.told if call[0] == OUTCOME]
    assert sorted(o.status.name for o in outcomes) == ["ERROR", "OK", "OK", "PARTIAL", "PARTIAL"]
    assert agent.told[-1] == (END, request)


def test_a_result_comes_before_its_outcome_and_the_end_last(dispatcher):
    """C6: one event, both hooks, in this order."""
    dispatcher.add(ScriptedProducer(1), "t")
    agent = dispatcher.add(listener_with(RESULT, OUTCOME, END), "t")
    for _ in range(2):
        dispatcher.send_request("t")
    assert dispatcher.flush(BOUND)
    assert [name for name, *_ in agent.told] == [RESULT, OUTCOME, END] * 2


def test_outcome_hooks_hear_of_time_outs_and_cancels(timed, clock, gate):
    """C2: every kind; results only of the good ones."""
    listener = timed.add(RecordingListener(), "t")
    timed.add(ScriptedProducer(gate), "t")
    late = timed.send_request("t", ttl=100)
    gate.wait_parked()
    clock.advance(1)
    assert late.wait(BOUND)
    cancelled = timed.send_request("t", ttl=FOR_EVER)
    cancelled.cancel()
    assert cancelled.wait(BOUND, delivered=True)
    assert [outcome.status for outcome in listener.outcomes] == [
        OutcomeStatus.TIMEOUT,
        OutcomeStatus.CANCELLED,
    ]
    assert listener.results == []
    assert [r.status for r in listener.ends] == [RequestStatus.EXPIRED, RequestStatus.CANCELLED]


def test_hooks_may_be_set_on_the_instance(dispatcher):
    """Listener hooks: they are looked up at registration as any attribute is."""

    class Configured(ResultListener):
        def __init__(self, function):
            super().__init__()
            self.process_dispatcher_end = function

    ends = []
    dispatcher.add(Configured(ends.append), "t")
    request = dispatcher.send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert ends == [request]


def test_a_listener_hears_of_its_topics_only(dispatcher):
    """Routing: and of each event once."""
    dispatcher.add(ScriptedProducer(lambda topic: topic), "a", "b", "c")
    agent = dispatcher.add(RecordingListener(), "a", "b")
    for topic in "abcab":
        dispatcher.send_request(topic)
    assert dispatcher.flush(BOUND)
    assert agent.values == ["a", "b", "a", "b"]


# ---- on which thread -----------------------------------------------------------------------------


def test_every_hook_runs_on_the_listeners_own_thread(dispatcher):
    """All agents: `on_start` and `on_stop` included; on_start first, on_stop after all events."""
    entries = []

    class Diary(ResultListener):
        def note(self, what):
            entries.append((what, threading.current_thread()))

        def on_start(self):
            self.note("start")

        def process_dispatcher_result(self, topic, response):
            self.note(response)

        def process_dispatcher_end(self, request):
            self.note("end")

        def on_stop(self):
            self.note("stop")

    dispatcher.add(ScriptedProducer(1, 2), "t")
    diary = dispatcher.add(Diary(), "t")
    for _ in range(2):
        dispatcher.send_request("t")
    assert dispatcher.stop().clean
    assert [what for what, _ in entries] == ["start", 1, "end", 2, "end", "stop"]
    assert {thread for _, thread in entries} == {diary}


def test_async_hooks_run_one_at_a_time_in_order(dispatcher):
    """Adding agents: on a loop thread of the listener; delivered means that they have ended."""
    log = []

    class Uploads(ResultListener):
        async def on_start(self):
            self.loop_thread = threading.current_thread()

        async def process_dispatcher_result(self, topic, response):
            log.append(("begun", response))
            await asyncio.sleep(0)
            log.append(("done", response))

        async def process_dispatcher_outcome(self, outcome):
            await asyncio.sleep(0)
            log.append(("outcome", threading.current_thread() is self.loop_thread))

        async def process_dispatcher_end(self, request):
            await asyncio.sleep(0)
            log.append(("end", request.status.name))

    dispatcher.add(ScriptedProducer(1, 2), "t")
    dispatcher.add(Uploads(), "t")
    for _ in range(2):
        assert dispatcher.send_request("t").wait(BOUND, delivered=True)
        assert log[-1] == ("end", "COMPLETE")
    assert log == [
        entry
        for number in (1, 2)
        for entry in (
            ("begun", number),
            ("done", number),
            ("outcome", True),
            ("end", "COMPLETE"),
        )
    ]


def test_an_async_function_may_be_decorated(dispatcher):
    """Adding agents: plain functions and coroutine functions alike."""
    heard = []

    @dispatcher.listener("t")
    async def upload(topic, response):
        await asyncio.sleep(0)
        heard.append(response)

    dispatcher.add(ScriptedProducer(5), "t")
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    assert heard == [5]


def test_an_async_hook_that_raises_is_logged_and_counted(dispatcher, caplog):
    """C5: as a plain one; the next event is handled."""
    heard = []

    @dispatcher.listener("t")
    async def upload(topic, response):
        await asyncio.sleep(0)
        if response == 1:
            raise OSError("offline")
        heard.append(response)

    dispatcher.add(ScriptedProducer(1, 2), "t")
    for _ in range(2):
        assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    assert heard == [2]
    assert dispatcher.statistics().listeners["upload"].errors == 1
    assert "offline" in caplog.text


@pytest.mark.parametrize("hook", [RESULT, OUTCOME, END])
def test_any_hook_may_raise(hook, caplog):
    """C5: logged with the listener's name, counted, handed to ``on_listener_error``; on it goes."""
    told = []
    with ATEDispatcher(
        on_listener_error=lambda name, event, error: told.append((name, type(error)))
    ) as dispatcher:

        def fail(self, *args):
            raise ZeroDivisionError

        agent = type("Fails", (ResultListener,), {hook: fail})(name="fails")
        dispatcher.add(agent, "t")
        dispatcher.add(ScriptedProducer(1), "t")
        for _ in range(2):
            assert dispatcher.send_request("t").wait(BOUND, delivered=True)
        assert dispatcher.statistics().listeners["fails"].errors == 2
    assert told == [("fails", ZeroDivisionError)] * 2
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(records) == 2
    assert "'fails'" in records[0].getMessage()
    assert records[0].exc_info is not None


# ---- send_result ---------------------------------------------------------------------------------


def test_send_result_needs_no_dispatcher():
    """0.1.0: `send_result` stays public; a listener may be fed by hand."""
    listener = RecordingListener()
    listener.start()
    listener.send_result("t", 1)
    listener.send_result("u", 2)
    listener.stop()
    listener.join(BOUND)
    assert listener.results == [("t", 1), ("u", 2)]
    assert listener.outcomes == []


def test_send_result_is_in_order_with_what_the_dispatcher_relays(dispatcher):
    """C6: one mailbox; and `flush` covers it."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.add(ScriptedProducer("relayed"), "t")
    listener.send_result("t", "before")
    assert dispatcher.send_request("t").wait(BOUND)
    listener.send_result("t", "after")
    assert dispatcher.flush(BOUND)
    assert listener.values == ["before", "relayed", "after"]


def test_send_result_takes_several_responses_as_the_hook_does(caplog):
    """0.1.0: ``send_result(topic, *response)``; a hook that takes fewer says so in the log."""
    heard = []

    class Several(ResultListener):
        def process_dispatcher_result(self, topic, *response):
            heard.append((topic, response))

    listener = Several()
    listener.start()
    listener.send_result("t", 1, 2)
    listener.send_result("t")
    listener.stop()
    listener.join(BOUND)
    assert heard == [("t", (1, 2)), ("t", ())]


# ---- membership ----------------------------------------------------------------------------------


def test_a_listener_of_two_dispatchers_hears_both():
    """C9: and is stopped by the last of them."""
    with ATEDispatcher() as first, ATEDispatcher() as second:
        listener = first.add(RecordingListener(), "t")
        second.add(listener, "t")
        for number, dispatcher in enumerate((first, second)):
            dispatcher.add(ScriptedProducer(number), "t")
            assert dispatcher.send_request("t").wait(BOUND, delivered=True)
        first.stop()
        assert listener.is_alive()
        assert second.send_request("t").wait(BOUND, delivered=True)
    assert not listener.is_alive()
    assert listener.values == [0, 1, 1]


def test_a_listener_that_was_never_started_holds_up_no_wait(dispatcher):
    """C7: what nobody can deliver is not waited for until it is there; started, it gets it all."""
    listener = RecordingListener(name="idle")
    dispatcher.register_result_listener(listener, "t")
    assert dispatcher.flush(BOUND)
    dispatcher.add(ScriptedProducer(1), "t")
    request = dispatcher.send_request("t")
    assert request.wait(BOUND)
    assert not request.wait(0.001, delivered=True)
    assert request.laggards() == ("idle",)
    listener.start()
    assert request.wait(BOUND, delivered=True)
    assert listener.values == [1]
