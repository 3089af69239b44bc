"""`ProcessProducer`: the API of a producer, in a process that can really be ended."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from instruments import (
    Frozen,
    Instrument,
    Interrupted,
    LateStart,
    NoStart,
    Unpicklable,
    hanging_factory,
    leaving_factory,
    no_factory,
    no_producer,
)

from ate_dispatcher import (
    AgentState,
    ATEDispatcher,
    InvalidArgumentError,
    InvalidTypeError,
    Observer,
    Outcome,
    OutcomeStatus,
    ProcessLostError,
    RequestStatus,
)
from ate_dispatcher._messages import Cancel
from ate_dispatcher.supervision import ProcessProducer, Supervisor, _link
from ate_dispatcher.supervision._child import _Child
from ate_dispatcher.supervision._dialogue import (
    PIECE,
    Answer,
    Call,
    CancelAll,
    Skipped,
    heading,
    pack,
    unpack,
)
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
LONG = 60_000  # a TTL in milliseconds that no test reaches


def alive(pid):
    """Whether a process runs; one that has ended and was not yet reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def child(dispatcher):
    """A producer in a process, ready."""
    producer = dispatcher.add(ProcessProducer(Instrument, name="dmm", site=3), "t")
    assert dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND).values == {"dmm": 1}
    return producer


@pytest.fixture
def ask(dispatcher, child):
    """Ask it for something and give its outcome."""

    def ask(*args, ttl=LONG, **kwargs):
        request = dispatcher.send_request("t", *args, ttl=ttl, **kwargs).gather(BOUND)
        (outcome,) = request.outcomes
        return outcome

    return ask


# ---- the same API --------------------------------------------------------------------------------


def test_it_works_elsewhere_with_what_was_sent(ask, child):
    """Arguments and results are the caller's; the work is done in the child, on one thread."""
    assert ask("echo", 1, [2], ttl=LONG, uuid="mine").value == ((1, [2]), {"uuid": "mine"})
    assert ask("pid").value == child.pid != os.getpid()
    assert ask("thread").value is True
    assert ask("coroutine").value == 7
    assert ask("number").value == 6
    assert ask("number").site == 3


def test_an_answer_whose_last_piece_is_empty_comes_whole(ask):
    """The length of the answer as it is sent is what counts."""
    overhead = len(pack(Answer(((bytes(3 * PIECE),), {})))) - 3 * PIECE
    value = os.urandom(3 * PIECE - overhead)
    assert len(pack(Answer(((value,), {})))) == 3 * PIECE
    assert ask("echo", value).value == ((value,), {})


def test_an_error_is_the_same_error_with_its_traceback_over_there(ask):
    """C2: an exception is an ERROR outcome of its own type; the process goes on."""
    outcome = ask("fail")
    assert outcome.status is OutcomeStatus.ERROR
    assert type(outcome.exception) is KeyError
    assert outcome.reason == "KeyError: 'missing'"
    assert "instruments.py" in outcome.traceback
    assert 'return {}["missing"]' in outcome.traceback
    assert ask("number").value == 3


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("call_off", asyncio.CancelledError, "CancelledError: called off"),
        ("leave_stream", GeneratorExit, "GeneratorExit: left"),
        ("freeze", Frozen, "Frozen: "),
    ],
)
def test_an_unusual_error_is_the_same_error_and_the_process_goes_on(ask, child, what, kind, said):
    """C5: only SystemExit and KeyboardInterrupt end anything."""
    pid = child.pid
    outcome = ask(what)
    assert (outcome.status, type(outcome.exception)) == (OutcomeStatus.ERROR, kind)
    assert outcome.reason == said
    assert "instruments.py" in outcome.traceback
    assert ask("number").value == 3
    assert child.pid == pid


def test_a_mistake_is_worded_where_it_was_made(ask):
    """A TypeError in the hook is no wrong signature; a wrong signature is told as one."""
    assert ask("mistype").reason.startswith("TypeError: unsupported operand")
    assert "produce_dispatcher_output(topic, what" in ask().reason


def test_an_error_that_cannot_be_sent_is_named(ask):
    """What does not survive the way is told by type and text."""
    outcome = ask("strange")
    assert outcome.reason == "ArgumentError: 3: out of range"
    assert str(outcome.exception) == "ArgumentError: 3: out of range"


def test_declining_is_a_rejection(ask):
    """`WorkRejectedError` means the same as on a thread."""
    outcome = ask("decline")
    assert (outcome.status, outcome.reason) == (OutcomeStatus.REJECTED, "not calibrated")


def test_what_cannot_be_pickled_is_an_error_of_that_request_alone(ask):
    """Arguments on the way there, results on the way back."""
    outcome = ask("unpicklable")
    assert "the result cannot be used: no pickled form of it: a handle" in outcome.reason
    outcome = ask("echo", Unpicklable())
    assert (outcome.status, type(outcome.exception)) == (OutcomeStatus.ERROR, InvalidTypeError)
    assert ask("number").value == 3


def test_the_request_is_known_over_there(dispatcher, child):
    """The child has the remaining time, the tags and the topic."""
    view = dispatcher.with_options(tags={"lot": 7})
    request = view.send_request("t", "remaining", ttl=5000).gather(BOUND)
    remaining, tags, topic = request.values["dmm"]
    assert 0 < remaining < 5
    assert (tags, topic) == ({"lot": 7}, "t")


def test_a_stream_is_relayed_as_it_comes(dispatcher, child):
    """C14: values, then the return value."""
    log = dispatcher.add(RecordingListener(), "t")
    request = dispatcher.send_request("t", "stream", 3, ttl=LONG)
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"dmm": [0, 1, 2, 3]}
    assert log.values == [0, 1, 2, 3]


def test_a_large_call_and_a_large_answer(ask):
    """Far more than a pipe holds, both ways."""
    data = bytes(3_000_000)
    assert ask("echo", data).value == ((data,), {})


@pytest.fixture
def no_timer(monkeypatch):
    """As at the end of the script in Python 3.12.1, where no thread can be started."""

    def start(timer):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_link.threading.Timer, "start", start)


def test_a_large_call_needs_no_thread(ask, no_timer):
    """Results of a script that forgot to stop are wanted as well."""
    data = bytes(3_000_000)
    assert ask("echo", data).value == ((data,), {})


def test_nor_does_one_that_is_not_read(dispatcher, child, no_timer):
    """The child is killed at the limit, and the next request is answered."""
    pid = child.pid
    os.kill(pid, signal.SIGSTOP)
    request = dispatcher.send_request("t", "echo", bytes(3_000_000), ttl=500)
    assert dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND).values == {"dmm": 1}
    assert request.outcomes[0].status is OutcomeStatus.TIMEOUT
    assert not alive(pid)


def begun(dispatcher, folder, what, ttl=LONG):
    """Send a request and give it once the child's hook is at it."""
    pipe = folder / "begun"
    os.mkfifo(pipe)
    request = dispatcher.send_request("t", what, str(pipe), ttl=ttl)
    assert pipe.read_text() == "begun"
    return request


needs_pipes = pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="needs Windows's absence: it has no named pipes"
)


# ---- being called off ----------------------------------------------------------------------------


def journaling(tmp_path, **options):
    journal = tmp_path / "journal"
    factory = functools.partial(Instrument, str(journal))
    return journal, ProcessProducer(factory, name="dmm", **options)


@needs_pipes
def test_a_cancel_reaches_the_hook_over_there(dispatcher, tmp_path):
    """C13: `sleep` returns early, `cancelled` is true, and the process is kept."""
    journal, producer = journaling(tmp_path, grace=BOUND)
    dispatcher.add(producer, "t")
    pid = dispatcher.send_request("t", "pid", ttl=LONG).gather(BOUND).values["dmm"]
    begun(dispatcher, tmp_path, "nap").cancel()
    assert dispatcher.send_request("t", "pid", ttl=LONG).gather(BOUND).values == {"dmm": pid}
    assert "slept False True" in journal.read_text()


def test_a_hook_can_cancel_its_request_for_everybody(dispatcher, child):
    """The handle over there is the request's: `cancel` ends it, here and there."""
    request = dispatcher.send_request("t", "cancel", ttl=LONG).gather(BOUND)
    assert request.status is RequestStatus.CANCELLED
    assert dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND).values == {"dmm": 3}


def test_a_request_ends_over_there_with_its_answer(ask):
    """Cancelled by whoever still has it, it is no other's end; waits and callbacks are told."""
    assert ask("keep").value == ("OPEN", False)
    outcome = ask("cancel_kept")
    assert outcome.status is OutcomeStatus.OK
    assert outcome.value == ("COMPLETE", True, 0.0, True, ["COMPLETE"])


def test_a_request_cancelled_over_there_ends_cancelled_there(dispatcher, child, ask):
    """Even if its hook comes back before the parent has said a word."""
    request = dispatcher.send_request("t", "cancel_and_keep", ttl=LONG).gather(BOUND)
    assert request.status is RequestStatus.CANCELLED
    assert ask("cancel_kept").value == ("CANCELLED", True, 0.0, True, ["CANCELLED"])


def test_a_cancel_of_a_request_that_is_answered_is_not_said():
    """The parent would hear it while it waits for another."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = _Child(theirs, 1.0)
        child._producer = Instrument()  # never started: nothing is answered meanwhile
        requests = []
        for number in (1, 2):
            child._begin(Call("t", ("number",), {}, 60.0, {}), number)
            requests.append(child._current[1])
        child._put(Cancel(requests[0]))
        assert not ours.poll()
        child._put(Cancel(requests[1]))
        data = ours.recv_bytes()
        assert (heading(data), unpack(data)) == ((2, False), CancelAll())


def test_a_request_that_is_answered_late_ends_expired_over_there():
    """As it does here; the answer is sent all the same, and judged by the parent."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = _Child(theirs, 1.0)
        child._producer = producer = Instrument()  # never started
        child._begin(Call("t", ("number",), {}, 60.0, {}), 1)
        _, request = child._current
        now = time.monotonic()
        assert request.claim(producer._ate_address, now)
        child._put(Outcome(request, producer._ate_address, 1, now, request.deadline + 1.0))
        assert unpack(ours.recv_bytes()) == Answer(1)
        assert request.wait(0)
        assert request.status is RequestStatus.EXPIRED
        assert request.outcomes[0].status is OutcomeStatus.TIMEOUT


def test_a_hook_that_would_wait_for_itself_is_told(ask):
    """C7: over there as well."""
    assert "would wait for its own part" in ask("wait").reason


@needs_pipes
def test_on_cancel_is_called_over_there(dispatcher, tmp_path):
    """C13: for work that something else can interrupt."""
    journal, producer = journaling(tmp_path, grace=BOUND)
    dispatcher.add(producer, "t")
    begun(dispatcher, tmp_path, "told").cancel()
    assert dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND).values == {"dmm": 2}
    assert "told True" in journal.read_text()


def test_a_stream_is_closed_over_there_at_a_cancel(dispatcher, tmp_path):
    """C14: by the thread that runs it, before the next request."""
    journal, producer = journaling(tmp_path, grace=BOUND)
    dispatcher.add(producer, "t")
    request = dispatcher.send_request("t", "endless", ttl=LONG)
    for _ in request:
        request.cancel()
    assert dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND).values == {"dmm": 2}
    assert "closed" in journal.read_text()


def test_an_error_on_the_way_out_of_a_stream_is_not_told_of_the_next_request(dispatcher, child):
    """What a closed stream raises has nobody left to go to."""
    request = dispatcher.send_request("t", "sulky", ttl=LONG)
    for _ in request:
        request.cancel()
    (outcome,) = dispatcher.send_request("t", "echo", Unpicklable()).gather(BOUND).outcomes
    assert outcome.reason.startswith("InvalidTypeError: no pickled form of it: a handle")


@pytest.mark.parametrize("count", [0, 2])
def test_a_value_that_does_not_come_back_ends_its_stream_alone(dispatcher, tmp_path, count):
    """The error of that request; the next ones get their own answers, from the same process."""
    journal, producer = journaling(tmp_path, grace=BOUND)
    dispatcher.add(producer, "t")
    pid = dispatcher.send_request("t", "pid", ttl=LONG).gather(BOUND).values["dmm"]
    garbled = dispatcher.send_request("t", "garbled", count, ttl=LONG)
    after = [dispatcher.send_request("t", "echo", number, ttl=LONG) for number in range(3)]
    (outcome,) = garbled.gather(BOUND).outcomes
    assert (outcome.status, type(outcome.exception)) == (OutcomeStatus.ERROR, InvalidTypeError)
    assert "what another process sent cannot be read here: TypeError: " in outcome.reason
    assert garbled.values == ({"dmm": list(range(count))} if count else {})
    for number, request in enumerate(after):
        assert request.gather(BOUND).values == {"dmm": ((number,), {})}
    assert producer.pid == pid
    assert "closed" in journal.read_text()


@pytest.mark.parametrize("what", ["garbled_answer", "garbled_to_the_end"])
def test_an_answer_that_does_not_come_back_is_the_last_word(ask, child, what):
    """Nothing more is waited for: the process is kept."""
    pid = child.pid
    outcome = ask(what)
    assert (outcome.status, type(outcome.exception)) == (OutcomeStatus.ERROR, InvalidTypeError)
    assert ask("number").value == 3
    assert child.pid == pid


def test_what_is_said_of_an_earlier_call_is_dropped(ask):
    """Be it an answer, an error, or its being cancelled."""
    assert ask("belated").value == "in time"
    assert ask("number").value == 3


def test_what_is_said_of_an_earlier_call_does_not_count_as_made_safe(child):
    """Nor is it the word that the safe state waits for."""
    link = child._ate_link
    child._ate_number += 1
    link.say(Call("t", ("number",), {}, 60.0, {}), BOUND, child._ate_number)
    child._ate_grace = BOUND
    child.safe_state()
    assert not link._pipe.poll()


@pytest.mark.parametrize("ttl", [3e9, 1e15, float("inf")])
def test_a_deadline_may_be_further_than_the_platform_can_wait(ask, ttl):
    """Months, ages, none."""
    assert ask("number", ttl=ttl).value == 2


def test_what_arrives_too_late_over_there_is_skipped():
    """C4: the child's own claim fails, and it says so, so that it is not taken for hanging."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        child = _Child(theirs, 1.0)
        child._producer = producer = Instrument()
        producer.start()
        said = []
        for seconds in (1e-12, 60.0):
            child._begin(Call("t", ("number",), {}, seconds, {}), 1)
            assert ours.poll(BOUND)
            said.append(unpack(ours.recv_bytes()))
        assert said == [Skipped(), Answer(1)]
        producer.stop()
        producer.join(BOUND)


def test_wakes_that_nobody_waits_for_do_not_add_up(ask, child):
    """C10: or their pipe would fill in the end, and whoever ends a request would block on it."""
    for _ in range(3):
        child._ate_wake()
    assert child._ate_ears.recv_bytes() == b"!"
    assert not child._ate_ears.poll()
    child._ate_wakes.send_bytes(b"!")  # as it was
    assert ask("number").value == 2


# ---- hanging and crashing ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hang", "hold_the_lock", "stubborn", "half"])
def test_what_hangs_is_dead_by_deadline_plus_grace_and_the_next_is_answered(
    dispatcher, child, ask, how, caplog
):
    """The promise of the class, whatever it hangs in: Python, its lock, a stream, an answer."""
    pid = child.pid
    request = dispatcher.send_request("t", how, ttl=300)
    after = dispatcher.send_request("t", "pid", ttl=LONG)
    (outcome,) = request.gather(BOUND).outcomes
    assert outcome.status is OutcomeStatus.TIMEOUT
    answered = after.gather(BOUND).values["dmm"]
    assert answered not in (pid, os.getpid())
    assert not alive(pid)
    (begun,) = (o.started for o in after.outcomes)
    assert begun <= request.deadline + 0.5 + 1.5  # the grace, and what a busy machine needs
    assert "its process was killed" in caplog.text


@needs_pipes
def test_cancelled_work_that_does_not_end_is_ended_after_the_grace(dispatcher, child, tmp_path):
    """A request without a deadline, too."""
    pid = child.pid
    request = begun(dispatcher, tmp_path, "hang", float("inf"))
    request.cancel()
    assert dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND).status.name == "COMPLETE"
    assert request.status is RequestStatus.CANCELLED
    assert not alive(pid)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (("leave", 3), "ended with exit code 3 while it worked on 't'"),
        (("exit", 4), "ended with exit code 4 while it worked on 't'"),
        (("kill", signal.SIGSEGV), "was killed by SIGSEGV (signal 11) while it worked on 't'"),
        (("kill", signal.SIGKILL), "was killed by SIGKILL (signal 9) while it worked on 't'"),
    ],
)
def test_a_crash_is_an_error_that_says_how(ask, child, what, said):
    """At once, not at the deadline; the agent lives on and the next request finds a new child."""
    pid = child.pid
    outcome = ask(*what)
    assert outcome.status is OutcomeStatus.ERROR
    assert type(outcome.exception) is ProcessLostError
    assert said in outcome.reason
    assert f"pid {pid}" in outcome.reason
    assert ask("number").value == 1
    assert child.pid != pid


def test_a_child_that_died_idle_costs_no_request(ask, child, caplog):
    """It is noticed before the next call is sent, and said."""
    os.kill(child.pid, signal.SIGKILL)
    multiprocessing.connection.wait([child._ate_link._process.sentinel], BOUND)
    assert ask("number").value == 1
    assert "was killed by SIGKILL (signal 9) while it was idle" in caplog.text


def test_expired_work_never_starts_over_there(dispatcher, child, tmp_path):
    """C4: what waited behind a hang until its own deadline is not sent."""
    file = tmp_path / "begun"
    dispatcher.send_request("t", "hang", ttl=300)
    second = dispatcher.send_request("t", "hang", str(file), ttl=300)
    assert second.gather(BOUND).outcomes[0].phase.value == "queued"
    assert dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND).values == {"dmm": 1}
    assert not file.exists()


def test_a_restart_that_hangs_costs_the_request_and_is_ended(dispatcher, tmp_path):
    """`start_within` bounds every start; the request that waits for it fails with the reason."""
    factory = functools.partial(LateStart, str(tmp_path / "started"))
    producer = dispatcher.add(ProcessProducer(factory, name="dmm"), "t")
    first = dispatcher.send_request("t", "leave", 1, ttl=LONG).gather(BOUND)
    assert "exit code 1" in first.outcomes[0].reason
    producer._ate_start_within = 1.0  # from the beginning, a slow machine's first start could fail
    second = dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND)
    assert "was not ready within 1 s and was killed" in second.outcomes[0].reason


# ---- starting and stopping -----------------------------------------------------------------------


class States(Observer):
    def __init__(self):
        self.seen = []
        self.ended = threading.Event()

    def on_agent(self, name, state):
        self.seen.append((name, state))
        if state in (AgentState.FAILED, AgentState.STOPPED):
            self.ended.set()


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        (NoStart, OSError, "no such device"),
        (no_producer, InvalidTypeError, "the factory must make a Producer, it made 5"),
        (no_factory, LookupError, "no bench"),
        (leaving_factory, ProcessLostError, "exit code 9 while it was being started"),
    ],
)
def test_a_start_that_fails_fails_the_agent(dispatcher, factory, error, said):
    """C5: as for any producer whose `on_start` raises, with the error from over there."""
    observer = States()
    dispatcher.add_observer(observer)
    producer = dispatcher.add(ProcessProducer(factory, name="dmm"), "t")
    assert observer.ended.wait(BOUND)
    assert observer.seen == [("dmm", AgentState.STARTING), ("dmm", AgentState.FAILED)]
    assert type(producer._ate_failure) is error
    assert said in str(producer._ate_failure)
    assert producer.pid is None


def test_a_start_that_hangs_is_ended(dispatcher):
    """Even the making of the producer."""
    observer = States()
    dispatcher.add_observer(observer)
    producer = dispatcher.add(ProcessProducer(hanging_factory, start_within=0.5), "t")
    assert observer.ended.wait(BOUND)
    assert "was not ready within 0.5 s" in str(producer._ate_failure)


def test_it_stops_well(tmp_path):
    """`on_stop` runs over there, and neither process nor thread nor descriptor is left."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    journal, producer = journaling(tmp_path, grace=BOUND)
    with ATEDispatcher(grace=BOUND) as dispatcher:
        dispatcher.add(producer, "t")
        pid = dispatcher.send_request("t", "pid", ttl=LONG).gather(BOUND).values["dmm"]
    assert not alive(pid)
    assert journal.read_text().split() == ["start", "safe", "stop"]
    assert producer.pid is None
    if before:
        # multiprocessing keeps one descriptor for its resource tracker from the first spawn on
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_its_safe_state_is_that_of_the_child(dispatcher, tmp_path):
    """Called on the parent's side it runs over there, once."""
    journal, producer = journaling(tmp_path, grace=BOUND)
    dispatcher.add(producer, "t")
    dispatcher.send_request("t", "number", ttl=LONG).gather(BOUND)
    dispatcher.producer("safe")(lambda topic: producer.safe_state())
    assert dispatcher.send_request("safe", ttl=LONG).gather(BOUND).failed == ()
    assert journal.read_text().split() == ["start", "safe"]


def test_a_keyboard_interrupt_is_the_parents(dispatcher):
    """Ctrl-C reaches every process of a terminal; the child leaves it to its parent."""
    dispatcher.add(ProcessProducer(Interrupted, name="dmm"), "t")
    assert dispatcher.send_request("t", ttl=LONG).gather(BOUND).values == {"dmm": True}


def test_one_that_is_abandoned_takes_its_process_along(timed, clock, gate):
    """What the process holds (the instrument) is needed by whoever takes its place."""
    supervisor = Supervisor(timed)
    factory = functools.partial(ProcessProducer, Instrument, name="dmm")
    ward = supervisor.run(factory, "t", stall_after=1000.0)
    hung = ward.producer
    pid = timed.send_request("t", "pid", ttl=LONG * 1000).gather(BOUND).values["dmm"]
    timed.add(ScriptedProducer(gate, name="other"), "t")
    request = timed.send_request("t", "hang", ttl=LONG * 1000)
    while not request.outcomes:  # it may not be at work yet, or not be looked at
        clock.advance(500.0)
        threading.Event().wait(0.01)
    (outcome,) = request.outcomes
    assert outcome.status is OutcomeStatus.REJECTED
    assert "stalled" in outcome.reason
    hung.join(BOUND)
    assert request.status is RequestStatus.OPEN  # nothing else would have ended the process
    assert not alive(pid)


# ---- bad input -----------------------------------------------------------------------------------


def test_a_factory_that_cannot_be_named_is_refused_at_once():
    """With the reason and what to do."""
    with pytest.raises(InvalidTypeError, match="a class or a function at the top of a module"):
        ProcessProducer(lambda: Instrument())
    with pytest.raises(InvalidTypeError, match="must be callable"):
        ProcessProducer(5)


@pytest.mark.parametrize("name", ["grace", "start_within"])
def test_seconds_are_checked(name):
    """A number, finite, not negative."""
    with pytest.raises(InvalidTypeError, match=f"{name} must be a number of seconds"):
        ProcessProducer(Instrument, **{name: "1"})
    with pytest.raises(InvalidArgumentError, match=f"{name} must be finite"):
        ProcessProducer(Instrument, **{name: float("inf")})


def test_a_forked_process_does_not_hold_the_pipe(dispatcher, child):
    """The child would not notice the end of its parent, were a copy of its pipe left open."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork, so not Windows; needs Windows to be absent")
    descriptor = child._ate_link._pipe.fileno()
    pipe = os.fstat(descriptor).st_ino
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_look, args=(descriptor, pipe, theirs))
    process.start()
    try:
        assert ours.poll(BOUND)
        assert ours.recv() == "closed"
    finally:
        process.join(BOUND)
        process.close()
        ours.close()
        theirs.close()


def _look(descriptor, pipe, answer):
    try:
        answer.send("open" if os.fstat(descriptor).st_ino == pipe else "closed")
    except OSError:
        answer.send("closed")


def test_what_it_logs_has_its_name(ask, caplog):
    """A process that is killed is a warning that names agent and topic."""
    with caplog.at_level(logging.WARNING, logger="ate_dispatcher"):
        ask("hang", ttl=100)
        ask("number")
    assert "'dmm' was still at work on 't'" in caplog.text


def test_a_call_costs_no_start(ask):
    """The child lives from call to call: many of them are quick."""
    begun = time.monotonic()
    pids = {ask("pid").value for _ in range(100)}
    assert len(pids) == 1
    assert time.monotonic() - begun < BOUND
