"""The fakes in `ate_dispatcher.testing`, which users' tests and our own rely on."""

from __future__ import annotations

import threading

import pytest

import ate_dispatcher.testing
from ate_dispatcher import (
    ATEDispatcher,
    InvalidArgumentError,
    InvalidTypeError,
    RequestStatus,
    current_request,
)
from ate_dispatcher.testing import (
    Call,
    Delay,
    FakeClock,
    Gate,
    GateTimeoutError,
    RecordingListener,
    ScriptedProducer,
    no_thread_leaks,
)

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches


# ---- FakeClock -----------------------------------------------------------------------------------


def test_a_fake_clock_stands_still_until_it_is_moved():
    """It reads what it was set to, plus what it was advanced by."""
    clock = FakeClock(start=50)
    assert clock() == clock() == 50.0
    clock.advance(1.5)
    clock.advance(0)
    assert clock() == 51.5
    assert FakeClock()() == 1000.0


def test_each_reading_is_a_float_of_its_own():
    """As with `time.monotonic`: the identity of a reading marks a claim (C4)."""
    clock = FakeClock()
    first, second = clock(), clock()
    assert first is not second


def test_a_fake_clock_cannot_go_back():
    """It is monotonic; the error names the step."""
    clock = FakeClock()
    with pytest.raises(InvalidArgumentError, match=r"-0\.5"):
        clock.advance(-0.5)
    assert clock() == 1000.0


def test_call_after_is_called_by_the_advance_that_reaches_it():
    """In the order of the times, equal ones in the order of the calls; never twice."""
    clock = FakeClock()
    called = []
    for seconds, name in ((2, "c"), (1, "a"), (1, "b"), (5, "d")):
        clock.call_after(seconds, lambda name=name: called.append(name))
    clock.advance(0.9)
    assert called == []
    clock.advance(0.1)
    assert called == ["a", "b"]
    clock.advance(3)
    assert called == ["a", "b", "c"]
    clock.advance(10)
    assert called == ["a", "b", "c", "d"]


@pytest.mark.parametrize("seconds", [0, -1])
def test_call_after_no_time_calls_at_once(seconds):
    """What is reached already needs no advance."""
    called = []
    FakeClock().call_after(seconds, lambda: called.append(1))
    assert called == [1]


def test_attached_functions_are_called_by_every_advance():
    """A dispatcher has itself woken so; after the timers that fell due."""
    clock = FakeClock()
    called = []
    clock.attach(lambda: called.append("wake"))
    clock.call_after(1, lambda: called.append("timer"))
    clock.advance(0)
    clock.advance(1)
    assert called == ["wake", "timer", "wake"]


def test_deadlines_follow_the_fake_clock(timed, clock, gate):
    """The dispatcher takes its time from it: no deadline passes by itself."""
    timed.add(ScriptedProducer(gate), "t")
    request = timed.send_request("t", ttl=1)
    gate.wait_parked()
    assert timed.send_request("nobody").wait(BOUND)
    assert request.status is RequestStatus.OPEN
    assert request.sent == clock()
    clock.advance(0.0011)
    assert request.wait(BOUND)
    assert request.status is RequestStatus.EXPIRED


def test_time_outs_of_waits_stay_in_real_time(timed, gate):
    """Nobody would advance the clock while the test itself waits."""
    timed.add(ScriptedProducer(gate), "t")
    request = timed.send_request("t")
    assert not request.wait(0.001)
    assert not timed.flush(0.001)
    gate.open()
    assert timed.stop(timeout=BOUND).clean


# ---- Gate ----------------------------------------------------------------------------------------


def test_a_gate_parks_threads_until_it_is_opened():
    """`wait_parked` counts those that came; once open it lets everybody through at once."""
    gate = Gate()
    passed = []
    threads = [threading.Thread(target=lambda: passed.append(gate.park())) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.wait_parked(3)
    assert passed == []
    gate.open()
    for thread in threads:
        thread.join(BOUND)
    assert passed == [None] * 3
    gate.park()
    gate.wait_parked(4)


def test_a_gate_fails_a_test_instead_of_hanging_it():
    """Nobody came, or nobody opened: an `AssertionError` that says so, after its bound."""
    gate = Gate(timeout=0.001)
    with pytest.raises(GateTimeoutError, match=r"0 of 2 threads came to the gate within 0\.001 s"):
        gate.wait_parked(2)
    with pytest.raises(GateTimeoutError, match=r"not opened within 0\.001 s") as caught:
        gate.park()
    assert isinstance(caught.value, AssertionError)


def test_a_gate_and_a_clock_may_wait_for_ever(timed, clock):
    """Infinity is longer than the platform can wait."""
    gate = Gate(timeout=float("inf"))
    producer = ScriptedProducer(lambda topic: current_request().sleep(5.0), gate)
    timed.add(producer, "t")
    sleeper, parked = (timed.send_request("t", ttl=60_000) for _ in range(2))
    clock.wait_sleeping(timeout=float("inf"))
    clock.advance(5.0)
    gate.wait_parked()
    gate.open()
    assert sleeper.gather(60).succeeded
    assert parked.gather(60).succeeded


def test_leaving_the_block_opens_a_gate():
    """So that a test that fails leaves nobody parked."""
    with pytest.raises(KeyError), Gate() as gate:  # noqa: PT012
        thread = threading.Thread(target=gate.park)
        thread.start()
        raise KeyError
    thread.join(BOUND)
    assert not thread.is_alive()


# ---- ScriptedProducer ----------------------------------------------------------------------------


def test_one_step_a_request_and_the_last_again_and_again(dispatcher):
    """Values, functions, exceptions as instances and as classes."""
    producer = ScriptedProducer(
        1, lambda topic, *args, **kwargs: (topic, args, kwargs), OSError("off"), KeyError, "last",
        name="dmm",
    )  # fmt: skip
    dispatcher.add(producer, "t")
    requests = [dispatcher.send_request("t", n, key=n).gather(BOUND) for n in range(6)]
    assert [request.values.get("dmm") for request in requests] == [
        1,
        ("t", (1,), {"key": 1}),
        None,
        None,
        "last",
        "last",
    ]
    assert [type(outcome.exception) for r in requests for outcome in r.failed] == [
        OSError,
        KeyError,
    ]


def test_without_a_script_it_answers_none(dispatcher):
    """The shortest fake: it only keeps what it was asked."""
    producer = dispatcher.add(ScriptedProducer(name="dmm"), "t")
    assert dispatcher.send_request("t", 1, key=2).gather(BOUND).values == {"dmm": None}
    assert producer.calls == [Call("t", (1,), {"key": 2})]
    call = producer.calls[0]
    assert (call.topic, call.args, call.kwargs) == ("t", (1,), {"key": 2})


def test_any_keyword_reaches_the_script(dispatcher):
    """C11: ``self`` is the caller's, too."""
    producer = dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    assert dispatcher.send_request("t", self=1, name=2).gather(BOUND).values == {"dmm": 1}
    assert producer.calls == [Call("t", (), {"self": 1, "name": 2})]


def test_a_delay_takes_time_of_the_dispatchers_clock(timed, clock):
    """`Delay` sleeps, then goes on with its second part; the deadline cuts it short."""
    listener = timed.add(RecordingListener(), "t")
    timed.add(ScriptedProducer(Delay(0, "at once"), Delay(5, OSError("too slow")), name="dmm"), "t")
    assert timed.send_request("t").gather(BOUND).values == {"dmm": "at once"}
    request = timed.send_request("t", ttl=1000)
    clock.advance(2)
    assert request.wait(BOUND, delivered=True)
    assert request.status is RequestStatus.EXPIRED
    assert listener.values == ["at once"]


def test_a_delay_that_is_over_goes_on(timed):
    """What follows may be any step: here a function, after a delay within a delay."""
    timed.add(ScriptedProducer(Delay(0, Delay(0, lambda topic: topic * 2)), name="dmm"), "t")
    assert timed.send_request("t").gather(BOUND).values == {"dmm": "tt"}


def test_a_gate_in_the_script_is_a_hang(dispatcher, gate):
    """Until the test opens it; the answer is None."""
    dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    request = dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    assert request.status is RequestStatus.OPEN
    gate.open()
    assert request.gather(BOUND).values == {"dmm": None}


def test_an_exception_that_is_raised_again_and_again_does_not_grow(dispatcher):
    """C12: one instance, raised for each request, has the traceback of one raise."""
    error = OSError("off")
    dispatcher.add(ScriptedProducer(error, name="dmm"), "t")
    lengths = []
    for _ in range(20):
        (failure,) = dispatcher.send_request("t").gather(BOUND).failed
        assert failure.exception is error
        lengths.append(len(failure.traceback))
    assert lengths[-1] == lengths[0]


def test_options_are_those_of_every_producer():
    """``name``, ``site``, ``capacity``, ``overflow`` go on to `Producer`."""
    producer = ScriptedProducer(1, name="dmm", site=2, capacity=3, overflow="latest")
    assert producer.name == "dmm"
    with pytest.raises(InvalidArgumentError, match="'newest'"):
        ScriptedProducer(capacity=3, overflow="newest")


# ---- RecordingListener ---------------------------------------------------------------------------


def test_a_recording_listener_keeps_everything_in_order(dispatcher):
    """Results with their topics, outcomes of every kind, ended requests."""
    listener = dispatcher.add(RecordingListener(name="log"), "a", "b")
    dispatcher.add(ScriptedProducer(1, KeyError("x"), 3), "a", "b")
    requests = [dispatcher.send_request(topic) for topic in "aba"]
    assert dispatcher.flush(BOUND)
    assert listener.results == [("a", 1), ("a", 3)]
    assert listener.values == [1, 3]
    assert [outcome.status.name for outcome in listener.outcomes] == ["OK", "ERROR", "OK"]
    assert listener.ends == requests


# ---- no_thread_leaks -----------------------------------------------------------------------------


def test_no_thread_leaks_is_silent_when_all_have_ended():
    """Threads from before are nobody's business; those that are just ending get their time."""
    with Gate() as gate:
        before = threading.Thread(target=gate.park)
        before.start()
        with no_thread_leaks():
            thread = threading.Thread(target=str)
            thread.start()
            with ATEDispatcher() as dispatcher:
                dispatcher.add(ScriptedProducer(1), "t")
        assert not thread.is_alive()
    before.join(BOUND)


def test_no_thread_leaks_names_those_left_running():
    """All of them, sorted."""
    with Gate() as gate:
        threads = [threading.Thread(target=gate.park, name=name) for name in ("b", "a")]
        with pytest.raises(AssertionError, match="left running: a, b"), no_thread_leaks(0.001):
            [thread.start() for thread in threads]
    for thread in threads:
        thread.join(BOUND)


def test_no_thread_leaks_lets_the_tests_own_error_through():
    """What failed in the block is what is told."""
    with pytest.raises(KeyError), no_thread_leaks():
        raise KeyError


def test_no_thread_leaks_wants_a_number():
    """Bad input: the commonest slip is to forget the brackets of the decorator."""
    with pytest.raises(InvalidTypeError, match="'soon'"), no_thread_leaks("soon"):
        pass


# ---- all of it -----------------------------------------------------------------------------------


def test_the_public_names_of_testing():
    """Each fake is public, and each public name is tested here."""
    assert ate_dispatcher.testing.__all__ == [
        "Call",
        "Delay",
        "FakeClock",
        "Gate",
        "GateTimeoutError",
        "RecordingListener",
        "ScriptedProducer",
        "no_thread_leaks",
    ]
    assert all(hasattr(ate_dispatcher.testing, name) for name in ate_dispatcher.testing.__all__)
