"""The dispatcher as its users see it: agents, names, decorators, counts, observers, life."""

from __future__ import annotations

import logging
import signal
import threading
from datetime import timedelta

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    DeadlockError,
    NameTakenError,
    Observer,
    OutcomeStatus,
    RequestStatus,
    StateError,
    TopicFilter,
)
from ate_dispatcher._messages import Register
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches


# ---- add and remove ------------------------------------------------------------------------------


def test_add_registers_starts_and_gives_the_agent_back(dispatcher):
    """Adding agents: one call, several topics, the agent for a chain."""
    producer = ScriptedProducer(1, name="dmm")
    assert dispatcher.add(producer, "a", "b", TopicFilter("c.*")) is producer
    assert producer.is_alive()
    for topic in ("a", "b", "c.1"):
        assert dispatcher.send_request(topic).gather(BOUND).values == {"dmm": 1}


def test_add_takes_an_agent_that_runs_already(dispatcher):
    """Adding agents: it is not started twice; more topics may be added any time."""
    producer = ScriptedProducer(1, name="dmm")
    producer.start()
    dispatcher.add(producer, "a")
    dispatcher.add(producer, "b")
    assert dispatcher.send_request("b").gather(BOUND).values == {"dmm": 1}


def test_the_four_documented_verbs(dispatcher):
    """0.1.0: register and deregister, agents started and stopped by their owner."""
    producer, listener = ScriptedProducer(1, name="dmm"), RecordingListener()
    producer.start()
    listener.start()
    assert dispatcher.register_result_producer(producer, "t") is None
    assert dispatcher.register_result_listener(listener, "t") is None
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    dispatcher.deregister_result_listener(listener, "t")
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    dispatcher.deregister_result_producer(producer, "t")
    assert dispatcher.send_request("t").gather(BOUND).status is RequestStatus.NO_PRODUCERS
    assert listener.values == [1]
    producer.stop()
    listener.stop()


def test_remove_is_the_opposite_of_add(dispatcher, gate):
    """Adding agents: out of all topics, stopped after the work it has, the name free again."""
    producer = dispatcher.add(ScriptedProducer(gate, "second", name="dmm"), "a", "b")
    running = dispatcher.send_request("a", ttl=FOR_EVER)
    gate.wait_parked()
    queued = dispatcher.send_request("b", ttl=FOR_EVER)
    assert dispatcher.remove(producer, wait=True, timeout=0.01) is False
    assert dispatcher.send_request("a").gather(BOUND).status is RequestStatus.NO_PRODUCERS
    gate.open()
    assert running.gather(BOUND).values == {"dmm": None}
    assert queued.gather(BOUND).values == {"dmm": "second"}
    producer.join(BOUND)
    assert not producer.is_alive()
    assert dispatcher.agents == {}
    dispatcher.add(ScriptedProducer(3, name="dmm"), "a")
    assert dispatcher.send_request("a").gather(BOUND).values == {"dmm": 3}


def test_remove_at_a_dispatcher_that_has_stopped(gate):
    """C9: an agent that no dispatcher has is stopped all the same, after what it has."""
    stopped = ATEDispatcher()
    stopped.start()
    stopped.stop()
    with ATEDispatcher() as other:
        producer = ScriptedProducer(gate, name="dmm")
        other.register_result_producer(producer, "t")
        assert stopped.remove(producer, wait=True, timeout=BOUND)  # it never began: no work of ours
        producer.start()
        running = other.send_request("t", ttl=FOR_EVER)
        gate.wait_parked()
        other.deregister_result_producer(producer, "t", wait=True, timeout=0.01)
        assert stopped.remove(producer, wait=True, timeout=0.01) is False
        gate.open()
        assert running.wait(BOUND)
        producer.join(BOUND)
        assert not producer.is_alive()


def test_remove_of_what_another_dispatcher_has_too():
    """C9: it is taken out of the one and goes on in the other."""
    with ATEDispatcher() as first, ATEDispatcher() as second:
        producer = first.add(ScriptedProducer(1, name="dmm"), "t")
        second.add(producer, "t")
        assert first.remove(producer, wait=True, timeout=BOUND)
        assert second.send_request("t").gather(BOUND).values == {"dmm": 1}


def test_agents_is_a_copy(dispatcher):
    """Adding agents: by name; changing what was given changes nothing."""
    dmm = dispatcher.add(ScriptedProducer(name="dmm"), "t")
    log = dispatcher.add(RecordingListener(name="log"), "t")
    assert dispatcher.agents == {"dmm": dmm, "log": log}
    dispatcher.agents.clear()
    assert list(dispatcher.agents) == ["dmm", "log"]


# ---- names ---------------------------------------------------------------------------------------


def test_names_are_the_class_and_a_number():
    """Words: the default name of an agent and of a dispatcher tells what it is."""

    class Dmm(ScriptedProducer):
        pass

    first, second = Dmm().name, Dmm().name
    assert first.startswith("Dmm-")
    assert second.startswith("Dmm-")
    assert first != second
    assert ATEDispatcher().name.startswith("ATEDispatcher-")
    assert ATEDispatcher(name="bench").name == "bench"


def test_a_name_is_one_agents(dispatcher):
    """Bad input: the second agent of a name is refused, and nothing of it stays registered."""
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    other = ScriptedProducer(2, name="dmm")
    with pytest.raises(NameTakenError, match=r"'dmm' is taken.*name="):
        dispatcher.add(other, "t", "u")
    with pytest.raises(NameTakenError, match="'dmm'"):
        dispatcher.add(RecordingListener(name="dmm"), "t")
    assert other.ident is None
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm": 1}
    assert dispatcher.send_request("u").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_the_same_name_in_two_dispatchers_is_fine():
    """Words: unique in a dispatcher, not in the process."""
    with ATEDispatcher() as first, ATEDispatcher() as second:
        first.add(ScriptedProducer(1, name="dmm"), "t")
        second.add(ScriptedProducer(2, name="dmm"), "t")
        assert first.send_request("t").gather(BOUND).values == {"dmm": 1}
        assert second.send_request("t").gather(BOUND).values == {"dmm": 2}


# ---- decorators ----------------------------------------------------------------------------------


def test_functions_are_agents_by_decoration(dispatcher):
    """Adding agents: the function stays what it was, its name is the agent's."""
    heard = []

    @dispatcher.producer("a", "b", site=3)
    def measure(topic, channel):
        return topic, channel

    @dispatcher.listener("a")
    def log(topic, response):
        heard.append((topic, response))

    request = dispatcher.send_request("a", 7)
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"measure": ("a", 7)}
    assert request.outcomes[0].site == 3
    assert heard == [("a", ("a", 7))]
    assert measure("x", 1) == ("x", 1)
    assert dispatcher.send_request("b", channel=8).gather(BOUND).values == {"measure": ("b", 8)}


def test_a_decorated_function_may_have_a_name_of_its_own(dispatcher):
    """Adding agents: given, or else the function's, numbered when it is taken already."""
    for _ in range(3):
        dispatcher.producer("t")(lambda topic: 1)
    dispatcher.producer("t", name="dmm")(lambda topic: 1)
    assert dispatcher.send_request("t").gather(BOUND).roster == (
        "<lambda>",
        "<lambda>-2",
        "<lambda>-3",
        "dmm",
    )


def test_options_of_the_decorators_are_the_agents(dispatcher, gate):
    """Adding agents: ``capacity`` and ``overflow`` as in the classes."""
    dispatcher.producer("t", capacity=1)(lambda topic: gate.park())
    dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    dispatcher.send_request("t", ttl=FOR_EVER)
    refused = dispatcher.send_request("t", ttl=FOR_EVER).gather(BOUND)
    assert refused.outcomes[0].status is OutcomeStatus.REJECTED


# ---- topics --------------------------------------------------------------------------------------


def test_a_plain_string_is_never_a_pattern(dispatcher):
    """Words: topics match exactly; only a `TopicFilter` is a filter. A warning says so."""
    with pytest.warns(UserWarning, match=r"register 'star' with TopicFilter\('site\.\*'\)") as told:
        dispatcher.add(ScriptedProducer(1, name="star"), "site.*")
    assert told[0].filename == __file__
    dispatcher.add(ScriptedProducer(2, name="filter"), TopicFilter("site.*"))
    assert dispatcher.send_request("site.1").gather(BOUND).values == {"filter": 2}
    assert dispatcher.send_request("site.*").gather(BOUND).values == {"star": 1, "filter": 2}
    assert dispatcher.send_request("site").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_an_agent_that_matches_twice_is_asked_once(dispatcher):
    """C2, C8: one row a producer, however many of its registrations match."""
    producer = dispatcher.add(
        ScriptedProducer(1, name="dmm"), "a.b", TopicFilter("a.*"), TopicFilter("#")
    )
    listener = dispatcher.add(RecordingListener(), "a.b", TopicFilter("#"))
    request = dispatcher.send_request("a.b")
    assert request.wait(BOUND, delivered=True)
    assert request.roster == ("dmm",)
    assert len(producer.calls) == len(listener.results) == 1


def test_deregistering_a_filter_takes_back_that_filter_alone(dispatcher):
    """C8: by value: an equal filter, whichever separator it was written with, is the same one."""
    dispatcher.add(ScriptedProducer(1, name="dmm"), TopicFilter("a.*"), TopicFilter("b.#"))
    producer = dispatcher.agents["dmm"]
    assert dispatcher.send_request("a.x").gather(BOUND).values == {"dmm": 1}
    dispatcher.deregister_result_producer(producer, TopicFilter("a.+"))
    assert dispatcher.send_request("a.x").gather(BOUND).status is RequestStatus.NO_PRODUCERS
    assert dispatcher.send_request("b.x").gather(BOUND).values == {"dmm": 1}


# ---- ttl -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [(250, 250.0), (2.5, 2.5), (timedelta(seconds=2), 2000.0), (True + 1, 2.0)],
)
def test_a_ttl_is_milliseconds_or_a_timedelta(timed, ttl, milliseconds):
    """Words: TTL in milliseconds; a `timedelta` says its unit itself."""
    request = timed.send_request("t", ttl=ttl)
    assert request.ttl == milliseconds
    assert request.deadline == pytest.approx(request.sent + milliseconds / 1000)


def test_the_ttl_is_five_seconds_if_not_given(timed):
    """0.1.0: ``ttl=5000``."""
    assert timed.send_request("t").ttl == 5000


# ---- statistics ----------------------------------------------------------------------------------


def test_statistics_add_up(timed, clock, gate):
    """Statistics: a producer's every outcome, a listener's every event, every end."""
    listener = timed.add(RecordingListener(name="log"), "t")
    timed.add(ScriptedProducer(1, KeyError("x"), gate, 4, name="dmm"), "t")
    for _ in range(2):
        assert timed.send_request("t").wait(BOUND, delivered=True)
    late = timed.send_request("t", ttl=1000)
    gate.wait_parked()
    assert timed.statistics().open == 1
    assert timed.statistics().producers["dmm"].busy
    clock.advance(2)
    assert late.wait(BOUND)
    cancelled = timed.send_request("t", ttl=FOR_EVER)
    cancelled.cancel()
    assert cancelled.wait(BOUND)
    assert timed.send_request("nobody").wait(BOUND)
    gate.open()
    assert timed.send_request("t").wait(BOUND, delivered=True)

    counted = timed.statistics()
    dmm = counted.producers["dmm"]
    assert (dmm.ok, dmm.errors, dmm.timeouts, dmm.cancelled, dmm.lates) == (2, 1, 1, 1, 1)
    assert dmm.requests == 5
    assert not dmm.busy
    assert counted.lates == 1
    assert counted.open == 0
    assert counted.ended == {
        RequestStatus.COMPLETE: 3,
        RequestStatus.EXPIRED: 1,
        RequestStatus.CANCELLED: 1,
        RequestStatus.NO_PRODUCERS: 1,
    }
    assert counted.requests == 6
    log = counted.listeners["log"]
    assert log.delivered == len(listener.outcomes) + len(listener.ends) == 10
    assert (log.errors, log.dropped, log.depth, log.busy) == (0, 0, 0, False)


def test_statistics_show_what_waits(dispatcher, gate):
    """Statistics: the depth of a mailbox, and who is busy."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    for _ in range(4):
        dispatcher.send_request("t", ttl=FOR_EVER)
    assert dispatcher.send_request("nobody").wait(BOUND)
    dmm = dispatcher.statistics().producers["dmm"]
    assert (dmm.depth, dmm.busy, dmm.requests) == (4, True, 0)


def test_statistics_are_frozen(dispatcher):
    """Statistics: a record of an instant; what happens later does not change it."""
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    before = dispatcher.statistics()
    assert dispatcher.send_request("t").wait(BOUND)
    assert before.requests == 0
    assert before.producers["dmm"].ok == 0
    with pytest.raises(AttributeError):
        before.lates = 7


# ---- observers -----------------------------------------------------------------------------------


class Notes(Observer):
    def __init__(self):
        self.told = []
        self.ended = threading.Event()

    def on_request(self, request):
        self.told.append(("request", request.topic, request.roster))

    def on_outcome(self, outcome):
        self.told.append((outcome.status.name, outcome.producer, outcome.value))

    def on_end(self, request):
        self.told.append(("end", request.topic, request.status.name))
        if request.topic == "last":
            self.ended.set()

    def on_listener_error(self, listener, event, error):
        self.told.append(("listener error", listener, type(error)))


def test_an_observer_is_told_of_everything_in_order(dispatcher):
    """Observers: requests, outcomes of every kind, ends and listeners' errors, on any topic."""
    notes = Notes()
    dispatcher.add_observer(notes)
    dispatcher.add_observer(notes)  # twice is once

    @dispatcher.producer("t")
    def stream(topic):
        yield 1
        raise KeyError

    def fail(topic, response):
        raise OSError

    dispatcher.listener("t", name="log")(fail)
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    dispatcher.send_request("last")
    assert notes.ended.wait(BOUND)
    assert notes.told.count(("listener error", "log", OSError)) == 1
    notes.told.remove(("listener error", "log", OSError))
    assert notes.told == [
        ("request", "t", ("stream",)),
        ("PARTIAL", "stream", 1),
        ("ERROR", "stream", None),
        ("end", "t", "COMPLETE"),
        ("request", "last", ()),
        ("end", "last", "NO_PRODUCERS"),
    ]


def test_an_observer_that_was_removed_is_told_no_more(dispatcher):
    """Observers: from the removal on, in the caller's order; the others stay."""
    gone, stays = Notes(), Notes()
    dispatcher.add_observer(gone)
    dispatcher.add_observer(stays)
    dispatcher.send_request("first")
    dispatcher.remove_observer(gone)
    dispatcher.remove_observer(Notes())  # it was never added: no error
    dispatcher.send_request("last")
    assert stays.ended.wait(BOUND)
    assert [topic for kind, topic, _ in gone.told if kind == "end"] == ["first"]
    assert [topic for kind, topic, _ in stays.told if kind == "end"] == ["first", "last"]


@pytest.mark.parametrize("others", [0, 1])
def test_an_observer_is_told_of_as_much_as_it_is_allowed(dispatcher, others):
    """Observers: then it costs nothing until it is allowed more; the others are told of all."""
    everything = [Notes() for _ in range(others)]
    sample = Notes()
    sample._ate_left = 3
    for notes in (sample, *everything):
        dispatcher.add_observer(notes)
    for topic in ("first", "second", "third"):
        assert dispatcher.send_request(topic).wait(BOUND)
    assert (dispatcher._tell_end is None) == (not others)
    dispatcher._allow(sample, 2)
    dispatcher.send_request("last")
    assert sample.ended.wait(BOUND)
    assert [topic for _, topic, _ in sample.told] == ["first", "first", "second", "last", "last"]
    for notes in everything:
        assert notes.ended.wait(BOUND)
        assert len(notes.told) == 8


def test_an_observer_that_raises_is_logged(dispatcher, caplog):
    """Observers, C5: nobody else hears less because of it."""
    notes = Notes()

    class Raises(Observer):
        def on_request(self, request):
            raise ZeroDivisionError

    dispatcher.add_observer(Raises())
    dispatcher.add_observer(notes)
    dispatcher.send_request("last")
    assert notes.ended.wait(BOUND)
    assert "ZeroDivisionError" in caplog.text
    assert notes.told[0] == ("request", "last", ())


# ---- flush ---------------------------------------------------------------------------------------


def test_flush_of_nothing_is_true(dispatcher):
    """C7: of an idle dispatcher, at once, again and again."""
    assert dispatcher.flush(BOUND)
    assert dispatcher.flush(BOUND)
    assert dispatcher.laggards() == ()


def test_flush_after_the_stop_is_true():
    """C7, C9: everything has been delivered, or was reported; nothing hangs."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(1), "t")
        dispatcher.send_request("t")
    assert dispatcher.flush(BOUND)


def test_flush_on_the_dispatchers_own_thread_raises(dispatcher):
    """C7: in a predicate it could only wait for itself."""
    errors = []

    def flushes(outcome):
        with pytest.raises(DeadlockError) as caught:
            dispatcher.flush()
        errors.append(caught.value)
        return True

    dispatcher.add(ScriptedProducer(1), "t")
    assert dispatcher.with_options(until=flushes).send_request("t").wait(BOUND)
    assert len(errors) == 1
    assert "not in a hook or a callback" in str(errors[0])


# ---- life ----------------------------------------------------------------------------------------


def test_a_with_block_starts_and_stops():
    """C9: the block is the dispatcher's life; one that was started before is taken as it is."""
    with ATEDispatcher() as dispatcher:
        assert dispatcher.is_alive()
    assert not dispatcher.is_alive()
    started = ATEDispatcher()
    started.start()
    with started as same:
        assert same is started
    assert not started.is_alive()


def test_a_second_start_is_refused(dispatcher):
    """Bad input: a thread starts once; the error says so."""
    with pytest.raises(StateError, match="'dispatcher' was started before"):
        dispatcher.start()


def test_a_stopped_dispatcher_cannot_start():
    """Bad input: neither after a stop without a start."""
    dispatcher = ATEDispatcher(name="bench")
    dispatcher.stop()
    with pytest.raises(StateError, match="'bench'"):
        dispatcher.start()


def test_stop_says_what_was_delivered():
    """C9: the report counts events, and is clean."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(1), "t")
        dispatcher.listener("t")(lambda topic, response: None)
        for _ in range(3):
            dispatcher.send_request("t")
        report = dispatcher.stop()
    assert report.delivered == 3
    assert report.undelivered == {}
    assert report.alive == ()
    assert report.finished
    assert report.clean


def test_a_signal_stops_the_dispatcher_and_ends_the_process(gate):
    """C9: as a shell would report it; requests end STOPPED, listeners keep what they have."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught, ATEDispatcher() as dispatcher:  # noqa: PT012
            dispatcher.stop_on_signals()
            listener = dispatcher.add(RecordingListener(), "t")
            dispatcher.add(ScriptedProducer(1, gate), "t")
            assert dispatcher.send_request("t").wait(BOUND)
            request = dispatcher.send_request("t", ttl=FOR_EVER)
            gate.wait_parked()
            request.add_done_callback(lambda request: gate.open())
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 128 + signal.SIGTERM
    assert request.status is RequestStatus.STOPPED
    assert listener.values == [1]
    assert not dispatcher.is_alive()


def test_other_signals_may_be_named():
    """C9: only those asked for are handled."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    dispatcher = ATEDispatcher()
    try:
        dispatcher.stop_on_signals(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
        assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_logger_is_silent_when_nothing_is_lost(dispatcher, caplog):
    """The logger `ate_dispatcher` says nothing of an ordinary run, down to the level of INFO."""
    caplog.set_level(logging.INFO, logger="ate_dispatcher")
    dispatcher.add(ScriptedProducer(1, KeyError("seen"), 3), "t")
    dispatcher.add(RecordingListener(), "t")
    for _ in range(3):
        assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    assert dispatcher.send_request("nobody").wait(BOUND)
    assert dispatcher.stop().clean
    assert caplog.records == []


def test_the_clock_of_a_dispatcher_can_be_read(timed, clock):
    """Words: deadlines and stamps are taken from it."""
    assert timed.clock is clock
    assert timed.send_request("t").sent == clock()


# ---- what cannot start, and what cannot come back ------------------------------------------------


@pytest.fixture
def refused(monkeypatch):
    """Threads that the operating system refuses to start, as long as they are in this list."""
    threads, start_thread = [], threading.Thread.start

    def start(thread):
        if thread in threads:
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return threads


def test_a_dispatcher_that_got_no_thread_can_be_stopped_or_started_again(refused):
    """C9: after a failed start nothing hangs: what was sent ends, or is done after a second try."""
    first, second = refused[:] = ATEDispatcher(), ATEDispatcher()
    for dispatcher in (first, second):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            dispatcher.start()
    request = first.send_request("t")
    assert first.stop().finished
    assert request.status is RequestStatus.NO_PRODUCERS
    refused.clear()
    with second:
        assert second.send_request("t").wait(BOUND)


def test_a_stop_that_waits_for_a_start_that_fails_returns(monkeypatch):
    """C9: a thread in `stop()` while another's `start()` fails is not left waiting."""
    dispatcher = ATEDispatcher()
    stopping = threading.Thread(target=dispatcher.stop)
    start_thread, posted = threading.Thread.start, threading.Event()

    def start(thread):
        if thread is not dispatcher:
            return start_thread(thread)
        stopping.start()
        assert posted.wait(BOUND)
        raise RuntimeError("can't start new thread")

    put = dispatcher._home.put
    monkeypatch.setattr(dispatcher._home, "put", lambda message: (put(message), posted.set()))
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        dispatcher.start()
    stopping.join(BOUND)
    assert not stopping.is_alive()


def test_an_agent_that_got_no_thread_can_be_started_again(dispatcher, refused):
    """Adding agents: a failed start is told, and may be tried again."""
    producer = ScriptedProducer(1, name="dmm")
    refused.append(producer)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        dispatcher.add(producer, "t")
    refused.clear()
    dispatcher.add(producer, "t")
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm": 1}


def test_add_calls_a_start_of_the_subclass(dispatcher):
    """Adding agents: `start` is a public method, so a subclass's own is the one that is called."""

    class Instrument(ScriptedProducer):
        opened = 0

        def start(self):
            self.opened += 1
            super().start()

    instrument = dispatcher.add(Instrument(1, name="dmm"), "t")
    dispatcher.add(instrument, "u")
    assert instrument.opened == 1
    assert dispatcher.send_request("u").gather(BOUND).values == {"dmm": 1}


@pytest.mark.parametrize("way", ["remove", "stop"])
def test_what_was_told_to_stop_cannot_be_added_again(dispatcher, gate, way):
    """Bad input: a thread stops once, so the answer does not depend on whether it has yet."""
    busy = dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    dispatcher.send_request("t")
    gate.wait_parked()
    if way == "remove":
        dispatcher.remove(busy)
    else:
        busy.stop()
    with pytest.raises(StateError, match="'dmm' was told to stop"):
        dispatcher.add(busy, "t")


def test_what_another_dispatcher_still_has_can_be_added_again(dispatcher):
    """C9: an agent of two dispatchers that one has removed is not stopped, and may come back."""
    shared = ScriptedProducer(1, 2, name="dmm")
    with ATEDispatcher() as other:
        other.add(shared, "t")
        dispatcher.add(shared, "t")
        dispatcher.remove(shared, wait=True, timeout=BOUND)
        dispatcher.add(shared, "t")
        assert dispatcher.send_request("t").gather(BOUND).values == {"dmm": 1}
        assert other.send_request("t").gather(BOUND).values == {"dmm": 2}


def test_observers_may_come_and_go_at_the_very_end(dispatcher):
    """Observers: no deadlock with a registration that a dispatcher left behind as it ended."""
    dispatcher.stop()
    producer = ScriptedProducer(1)
    dispatcher._home.put(Register(producer, "t", None))  # its caller is about to look after it
    observer = Observer()

    def come_and_go():
        dispatcher.add_observer(observer)
        dispatcher._home.put(Register(producer, "t", None))
        dispatcher.remove_observer(observer)

    thread = threading.Thread(target=come_and_go, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
