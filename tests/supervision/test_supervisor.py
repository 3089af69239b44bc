"""`Supervisor`: producers that are made again when they fail, and replaced when they hang."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from ate_dispatcher import (
    AgentState,
    ATEDispatcher,
    ExecutorProducer,
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    Observer,
    OutcomeStatus,
    Producer,
    RequestStatus,
    StateError,
    current_request,
)
from ate_dispatcher._backoff import Backoff
from ate_dispatcher._waiting import acquire
from ate_dispatcher.supervision import Restart, Supervisor, _supervisor
from ate_dispatcher.supervision._supervisor import Supervised
from ate_dispatcher.testing import FakeClock, Gate, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
LONG = 60_000_000  # a TTL in milliseconds that no test reaches
STARTING, READY, STALLED = AgentState.STARTING, AgentState.READY, AgentState.STALLED
FAILED, STOPPED = AgentState.FAILED, AgentState.STOPPED


class States(Observer):
    """Keeps what observers are told of agents, and lets a test wait for it."""

    def __init__(self):
        self.seen = []
        self._queue = SimpleQueue()

    def on_agent(self, name, state):
        self.seen.append(state)
        self._queue.put((name, state))

    def until(self, state, name="dmm"):
        while self._queue.get(timeout=BOUND) != (name, state):
            pass


class Faulty(Producer):
    """Starts, or does not; does what it is told."""

    def __init__(self, *faults, name="dmm", safe=None, **options):
        super().__init__(name=name, **options)
        self.faults = list(faults)
        self.safe = safe

    def on_start(self):
        for fault in self.faults:
            if isinstance(fault, Gate):
                fault.park()
            else:
                raise fault

    def produce_dispatcher_output(self, topic, what=None):
        if isinstance(what, Gate):
            what.park()
        elif isinstance(what, BaseException):
            raise what
        return what

    def safe_state(self):
        self.safe()


def policy(attempts=3, per=60.0):
    return Restart(attempts, per, Backoff(1.0, 8.0, jitter=0))


@pytest.fixture
def states(timed):
    observer = States()
    timed.add_observer(observer)
    return observer


@pytest.fixture
def supervisor(timed):
    with Supervisor(timed) as supervisor:
        yield supervisor


def settled(supervisor):
    """Wait until the supervisor has handled everything so far, what factories make too."""
    for _ in range(2):
        heard(supervisor)
        for thread in factories():
            thread.join(BOUND)


def heard(supervisor):
    """Wait until the supervisor has handled what it has been told so far."""
    fence = threading.Event()
    supervisor._mailbox.put(fence.set)
    assert fence.wait(BOUND)


def factories():
    """The threads on which factories are at it."""
    return [thread for thread in threading.enumerate() if thread.name.endswith("-factory")]


def ended(supervisor, ward):
    """Wait until the present life has ended, and the supervisor knows."""
    ward.producer.join(BOUND)
    settled(supervisor)


# ---- restarts ------------------------------------------------------------------------------------


def test_one_that_fails_is_made_again_after_a_wait(timed, clock, supervisor, states):
    """A new producer of the same name takes over; requests in between find nobody."""
    ward = supervisor.run(Faulty, "t", restart=policy())
    states.until(READY)
    first = ward.producer
    request = timed.send_request("t", SystemExit("bus gone"), ttl=LONG).gather(BOUND)
    assert request.outcomes[0].status is OutcomeStatus.ERROR
    ended(supervisor, ward)
    assert (ward.state, ward.restarts) == (FAILED, 0)
    assert "bus gone" in ward.report
    assert timed.send_request("t", ttl=LONG).gather(BOUND).status is RequestStatus.NO_PRODUCERS
    clock.advance(1.0)
    states.until(READY)
    assert ward.producer is not first
    assert timed.send_request("t", 5, ttl=LONG).gather(BOUND).values == {"dmm": 5}
    assert (ward.state, ward.restarts, ward.given_up) == (READY, 1, False)
    assert states.seen == [STARTING, READY, FAILED, STARTING, READY]


def test_what_is_told_of_an_earlier_life_is_not_taken_for_the_present(
    timed, clock, supervisor, states
):
    """A failure that was on its way when the next life began."""
    ward = supervisor.run(Faulty, "t", restart=policy())
    first = ward.producer
    timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
    ended(supervisor, ward)
    clock.advance(1.0)
    for _ in range(2):
        states.until(READY)
    supervisor._mailbox.put(lambda: supervisor._changed(ward, first, FAILED))
    settled(supervisor)
    assert (ward.state, ward.restarts, ward._due) == (READY, 1, None)


def test_one_that_does_not_start_is_tried_again_until_it_does(clock, supervisor, states):
    """The instrument is switched on while we wait."""
    faults = [[OSError("off")], [OSError("still off")], []]
    ward = supervisor.run(lambda: Faulty(*faults.pop(0)), "t", restart=policy())
    for wait in (1.0, 2.0):
        states.until(FAILED)
        ended(supervisor, ward)
        clock.advance(wait)
    states.until(READY)
    assert ward.restarts == 2


@pytest.mark.parametrize("making", [False, True])
def test_one_that_never_starts_is_given_up(timed, clock, supervisor, states, caplog, making):
    """Bounded and reported, whether ``on_start`` raises or the factory itself."""
    made = []

    def factory():
        made.append(1)
        if making:
            raise OSError("no such device")
        return Faulty(OSError("no such device"))

    ward = supervisor.run(factory, "t", name="dmm", restart=policy())
    for _ in range(10):
        if ward.producer is not None:
            ward.producer.join(BOUND)
        settled(supervisor)
        settled(supervisor)
        clock.advance(8.0)
        settled(supervisor)
        if ward.wait(0):
            break
    assert ward.wait(BOUND)
    assert len(made) == 4
    assert (ward.state, ward.restarts, ward.given_up) == (FAILED, 3, True)
    assert "no such device" in ward.report
    assert "'dmm' is given up after 3 restarts (Restart(attempts=3, per=60)" in caplog.text
    assert supervisor.states == {"dmm": FAILED}
    assert timed.send_request("t", ttl=LONG).gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_an_exception_is_an_answer_and_no_failure(timed, supervisor, states):
    """C5: the same producer goes on."""
    ward = supervisor.run(Faulty, "t", restart=policy())
    first = ward.producer
    timed.send_request("t", ValueError("range"), ttl=LONG).gather(BOUND)
    assert timed.send_request("t", 5, ttl=LONG).gather(BOUND).values == {"dmm": 5}
    assert (ward.producer, ward.restarts) == (first, 0)


@pytest.mark.parametrize("how", ["stop", "remove"])
def test_one_that_is_stopped_is_let_go(timed, supervisor, states, how):
    """It was meant to end."""
    ward = supervisor.run(Faulty, "t", restart=policy())
    states.until(READY)
    if how == "stop":
        ward.producer.stop()
    else:
        timed.remove(ward.producer)
    assert ward.wait(BOUND)
    assert (ward.state, ward.given_up, ward.restarts) == (STOPPED, False, 0)


def test_the_name_of_the_first_stays(timed, clock, supervisor, states):
    """A factory need not name what it makes."""
    ward = supervisor.run(lambda: ScriptedProducer(SystemExit, None), "t", restart=policy())
    name = ward.producer.name
    timed.send_request("t", ttl=LONG).gather(BOUND)
    ended(supervisor, ward)
    clock.advance(1.0)
    states.until(READY, name)
    states.until(READY, name)
    assert ward.name == ward.producer.name == name
    assert list(timed.agents) == [name]


def test_what_makes_no_producer_the_second_time_is_given_up_at_once(
    timed, clock, supervisor, states, caplog
):
    """No further restart would help: the same instance, or something else altogether."""
    only = Faulty()
    ward = supervisor.run(lambda: only, "t", restart=policy())
    timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
    ended(supervisor, ward)
    clock.advance(1.0)
    assert ward.wait(BOUND)
    assert ward.given_up
    assert "the factory must make a new producer" in ward.report


def test_a_factory_that_hangs_at_a_restart_keeps_nobody_else_down(
    timed, clock, supervisor, states, gate
):
    """Nor the end of supervision; what it gives after that is thrown away."""
    made = []

    def factory():
        if made:
            gate.park()
        made.append(Faulty())
        return made[-1]

    ward = supervisor.run(factory, "t", restart=policy())
    other = supervisor.run(lambda: Faulty(name="psu"), "u", restart=policy())
    timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
    ended(supervisor, ward)
    clock.advance(1.0)
    gate.wait_parked(1)
    timed.send_request("u", SystemExit(), ttl=LONG).gather(BOUND)
    other.producer.join(BOUND)
    heard(supervisor)
    clock.advance(1.0)
    for _ in range(2):
        states.until(READY, "psu")
    assert (ward.state, other.restarts) == (FAILED, 1)
    assert supervisor.stop(BOUND)
    (thread,) = factories()
    gate.open()
    thread.join(BOUND)
    assert [producer._ate_begun for producer in made] == [True, False]
    assert (ward.producer, ward.wait(BOUND)) == (made[0], True)


def test_what_a_factory_gives_at_the_very_end_is_thrown_away(timed, supervisor, states):
    """Supervision ended between its coming and its being looked at."""
    ward = supervisor.run(Faulty, "t", restart=policy())
    states.until(READY)
    first, late = ward.producer, Faulty(name="late")
    assert supervisor.stop(BOUND)
    supervisor._made(ward, late)
    assert (ward.producer, late._ate_begun) == (first, False)


# ---- stalls --------------------------------------------------------------------------------------


def hang_here(gate):
    gate.park()


def test_one_that_hangs_is_replaced(timed, clock, supervisor, states, gate, caplog):
    """What it works on and what waits for it is REJECTED; the stack says where it stands."""
    ward = supervisor.run(
        lambda: ScriptedProducer(lambda *_: hang_here(gate), name="dmm"),
        "t",
        restart=policy(),
        stall_after=5.0,
    )
    states.until(READY)
    first = ward.producer
    running = timed.send_request("t", ttl=LONG)
    gate.wait_parked(1)
    waiting = timed.send_request("t", ttl=LONG)
    clock.advance(4.9)
    settled(supervisor)
    assert ward.state is AgentState.BUSY
    clock.advance(0.2)
    outcomes = [r.gather(BOUND).outcomes[0] for r in (running, waiting)]
    assert [o.status for o in outcomes] == [OutcomeStatus.REJECTED] * 2
    assert all("'dmm' stalled: it has been at work on 't' for 5.1 s" in o.reason for o in outcomes)
    settled(supervisor)
    assert (ward.state, first._ate_state()) == (STALLED, STALLED)
    assert "in hang_here" in ward.report
    assert "in hang_here" in caplog.text
    clock.advance(1.0)
    states.until(READY)
    assert ward.producer is not first
    assert timed.states() == {"dmm": READY}
    assert states.seen == [STARTING, READY, STALLED, STARTING, READY]


@pytest.mark.parametrize("what", ["workers", "line", "resource"])
def test_a_pool_with_a_call_that_hangs_is_replaced(timed, clock, supervisor, states, gate, what):
    """The oldest call counts; all are REJECTED, whatever they wait for, and all is given back."""
    begun = []

    def work(topic, number):
        begun.append(number)
        if number < 4:
            hang_here(gate)
        return number

    with ThreadPoolExecutor(1) as one:
        options = {
            "workers": lambda: (ThreadPoolExecutor, 3),  # 3 begin, one waits in the mailbox
            "line": lambda: (one, 3),  # one begins, 2 wait in the pool's line
            "resource": lambda: (ThreadPoolExecutor, 3),  # one begins, one waits for the resource
        }[what]
        resources = ("GPIB0",) if what == "resource" else ()
        ward = supervisor.run(
            lambda: ExecutorProducer(work, *options(), name="dmm", resources=resources),
            "t",
            restart=policy(),
            stall_after=5.0,
        )
        states.until(READY)
        first = ward.producer
        assert timed.send_request("t", 9).wait(BOUND)
        settled(supervisor)
        requests = [timed.send_request("t", 0, ttl=LONG)]
        gate.wait_parked(1)
        clock.advance(4.0)
        settled(supervisor)
        requests += [timed.send_request("t", number, ttl=LONG) for number in range(1, 4)]
        hang = 3 if what == "workers" else 1
        gate.wait_parked(hang)
        clock.advance(1.1)
        outcomes = [request.gather(BOUND).outcomes[0] for request in requests]
        assert [o.status for o in outcomes] == [OutcomeStatus.REJECTED] * 4
        reason = "'dmm' stalled: it has been at work on 't' for 5.1 s"
        assert all(reason in o.reason for o in outcomes)
        settled(supervisor)
        assert "in hang_here" in ward.report
        passed = threading.Event()
        first._ate_fence(passed.set)  # it is gone, for everybody else
        assert passed.wait(BOUND)
        clock.advance(1.0)
        states.until(STALLED)
        states.until(READY)
        last = timed.send_request("t", 5, ttl=LONG)
        if what == "line":  # the caller's one thread hangs still
            gate.open()
        assert last.gather(BOUND).values == {"dmm": 5}
        gate.open()
        first.join(BOUND)
    assert sorted(begun) == [*range(hang), 5, 9]


def test_a_fence_that_met_a_hanging_call_passes_when_the_pool_is_given_up(
    timed, clock, supervisor, states, gate
):
    """C8: who waits for it waits no longer than for any producer that is given up."""
    ward = supervisor.run(
        lambda: ExecutorProducer(lambda topic, hang: hang and gate.park(), ThreadPoolExecutor, 2),
        "t",
        restart=Restart(0),
        stall_after=5.0,
    )
    producer, passed = ward.producer, threading.Event()
    timed.send_request("t", True, ttl=LONG)
    gate.wait_parked(1)
    producer._ate_fence(passed.set)
    assert timed.send_request("t", False).wait(BOUND)  # behind the fence: it has been met
    assert not passed.is_set()
    settled(supervisor)
    clock.advance(5.0)
    assert passed.wait(BOUND)
    assert ward.wait(BOUND)
    gate.open()
    producer.join(BOUND)


def test_a_hang_that_ends_after_all_changes_nothing(timed, clock, supervisor, states, gate):
    """Its answer is late, its thread tidies up and ends; the new one is not touched."""
    stopped = []

    class Hanging(ScriptedProducer):
        def on_stop(self):
            stopped.append(self)

    scripts = [[gate], [5]]
    ward = supervisor.run(
        lambda: Hanging(*scripts.pop(0), name="dmm"), "t", restart=policy(), stall_after=5.0
    )
    first = ward.producer
    request = timed.send_request("t", ttl=LONG)
    gate.wait_parked(1)
    settled(supervisor)
    clock.advance(6.0)
    request.gather(BOUND)
    settled(supervisor)
    clock.advance(1.0)
    states.until(STALLED)
    states.until(READY)
    gate.open()
    first.join(BOUND)
    assert stopped == [first]
    assert timed.send_request("t", ttl=LONG).gather(BOUND).values == {"dmm": 5}
    assert timed.statistics().lates == 1
    assert request.outcomes[0].status is OutcomeStatus.REJECTED
    assert ward.state is READY


def test_a_start_that_hangs_is_a_stall(timed, clock, supervisor, states, gate):
    """``on_start`` is a hook like the others."""
    faults = [[gate], []]
    ward = supervisor.run(lambda: Faulty(*faults.pop(0)), "t", restart=policy(), stall_after=5.0)
    gate.wait_parked(1)
    settled(supervisor)
    clock.advance(5.0)
    states.until(STALLED)
    settled(supervisor)
    assert "it has been in on_start for 5 s" in ward.report
    clock.advance(1.0)
    states.until(READY)


def test_a_stream_that_gives_values_is_no_stall(timed, clock, supervisor, states):
    """The time counts from its last value."""

    def stream(topic):
        for number in range(3):
            yield number
            current_request().sleep(4.0)

    supervisor.run(lambda: ScriptedProducer(stream, name="dmm"), "t", stall_after=5.0)
    request = timed.send_request("t", ttl=LONG)
    for _ in range(3):
        clock.wait_sleeping()
        settled(supervisor)
        clock.advance(4.0)
    assert request.gather(BOUND).values == {"dmm": [0, 1, 2]}
    assert request.outcomes[0].status is OutcomeStatus.OK


def test_one_that_is_idle_is_not_looked_at(timed, clock, supervisor, states):
    """C12: nothing falls due until it is given work, and then it does again."""
    ward = supervisor.run(Faulty, "t", stall_after=5.0)
    states.until(READY)
    clock.advance(5.0)
    settled(supervisor)  # it has asked
    answered = threading.Event()
    ward.producer._ate_fence(answered.set)
    assert answered.wait(BOUND)
    settled(supervisor)
    assert ward._due is None
    gate = Gate()
    with gate:
        timed.send_request("t", gate, ttl=LONG)
        gate.wait_parked(1)
        settled(supervisor)
        assert ward._due is not None
        clock.advance(5.0)
        states.until(STALLED)


@pytest.mark.parametrize("priority", [0, 1])
def test_one_that_waited_for_a_resource_may_hang(timed, clock, supervisor, states, priority):
    """It was in no hook for long, but not idle: it is looked at still when its work begins."""
    bus, meter = Gate(), Gate()
    timed.add(ScriptedProducer(bus, name="bus", resources=("GPIB0",)), "scan")
    ward = supervisor.run(
        lambda: Faulty(resources=("GPIB0",)), "t", restart=policy(), stall_after=5.0
    )
    states.until(READY)
    with meter, bus:
        timed.send_request("scan", ttl=LONG)
        bus.wait_parked(1)
        timed.with_options(priority=priority).send_request("t", meter, ttl=LONG)
        address, pause = ward.producer._ate_address, threading.Event()
        assert any(address.waiting or pause.wait(0.001) for _ in range(BOUND * 1000))
        for _ in range(3):
            clock.advance(5.0)
            settled(supervisor)
        assert ward.state is READY
        assert ward._due is not None
        bus.open()
        meter.wait_parked(1)
        clock.advance(5.0)
        settled(supervisor)
        clock.advance(5.0)
        states.until(STALLED)


def test_what_is_not_watched_may_take_its_time(timed, clock, supervisor, gate):
    """Without `stall_after` a long measurement is nobody's business."""
    ward = supervisor.run(Faulty, "t")
    timed.send_request("t", gate, ttl=LONG)
    gate.wait_parked(1)
    clock.advance(1e6)
    settled(supervisor)
    assert ward.state is AgentState.BUSY


def test_a_thread_that_cannot_be_started_is_told_and_tried_again(timed, clock, states, monkeypatch):
    """Nothing is added without supervision, and the next call is supervised as ever."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    with Supervisor(timed) as supervisor:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="new thread"):
                supervisor.run(Faulty, "t", restart=policy())
        assert supervisor.supervised == {}
        ward = supervisor.run(Faulty, "t", restart=policy())
        states.until(READY)
        timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
        ended(supervisor, ward)
        clock.advance(1.0)
        states.until(READY)
    assert ward.wait(BOUND)


def test_a_stall_in_real_time(dispatcher, gate):
    """The same with the clock that users have."""
    with Supervisor(dispatcher) as supervisor:
        scripts = [[gate], [5]]
        supervisor.run(
            lambda: ScriptedProducer(*scripts.pop(0), name="dmm"),
            "t",
            restart=Restart(backoff=Backoff(0.01, 0.01)),
            stall_after=0.05,
        )
        observer = States()
        dispatcher.add_observer(observer)
        (outcome,) = dispatcher.send_request("t", ttl=60_000).gather(BOUND).outcomes
        assert outcome.status is OutcomeStatus.REJECTED
        observer.until(READY)
        assert dispatcher.send_request("t").gather(BOUND).values == {"dmm": 5}


def test_an_abandoned_producer_is_not_kept(timed, clock, supervisor, states):
    """C12: once its thread has come back, nothing of it is left."""
    gate = Gate()
    scripts = [[gate], [5]]
    ward = supervisor.run(
        lambda: ScriptedProducer(*scripts.pop(0), name="dmm"),
        "t",
        restart=policy(),
        stall_after=5.0,
    )
    first = weakref.ref(ward.producer)
    with gate:
        timed.send_request("t", ttl=LONG)
        gate.wait_parked(1)
        settled(supervisor)
        clock.advance(5.0)
        states.until(STALLED)
        settled(supervisor)
        clock.advance(1.0)
        states.until(READY)
    thread = first()
    if thread is not None:  # it has not come back yet
        thread.join(BOUND)
    del thread
    assert timed.send_request("t", ttl=LONG).gather(BOUND).values == {"dmm": 5}
    settled(supervisor)
    gc.collect()
    assert first() is None


# ---- giving up -----------------------------------------------------------------------------------


def test_what_is_given_up_is_made_safe(timed, supervisor, states):
    """If it has a ``safe_state``: it is called once, when no restart will follow."""
    made_safe = threading.Event()
    ward = supervisor.run(lambda: Faulty(safe=made_safe.set), "t", restart=Restart(0))
    timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
    assert ward.wait(BOUND)
    assert made_safe.is_set()


def test_a_safe_state_that_raises_is_reported(timed, supervisor, states, caplog):
    """And ends nothing."""

    def raises():
        raise OSError("no answer")

    ward = supervisor.run(lambda: Faulty(safe=raises), "t", restart=Restart(0))
    timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
    assert ward.wait(BOUND)
    assert "safe_state of 'dmm' raised: it may be unsafe" in caplog.text


def test_one_that_hangs_and_is_given_up_is_reported_as_unsafe(
    timed, clock, supervisor, states, gate, caplog
):
    """Its own thread cannot be had, and the instrument must not be used from another."""
    made_safe = threading.Event()
    ward = supervisor.run(
        lambda: Faulty(safe=made_safe.set), "t", restart=Restart(0), stall_after=5.0
    )
    timed.send_request("t", gate, ttl=LONG)
    gate.wait_parked(1)
    settled(supervisor)
    clock.advance(5.0)
    assert ward.wait(BOUND)
    assert ward.state is STALLED
    assert "'dmm' hangs: it could not be made safe" in caplog.text
    assert not made_safe.is_set()


# ---- its own life --------------------------------------------------------------------------------


def test_it_ends_with_the_dispatcher_whatever_it_waits_for():
    """No thread is left, no restart follows: not even one that is due in an hour."""
    clock = FakeClock()
    with ATEDispatcher(clock=clock) as dispatcher:
        supervisor = Supervisor(dispatcher)
        ward = supervisor.run(lambda: Faulty(OSError()), "t", restart=policy())
        ended(supervisor, ward)
        thread = supervisor._thread
    thread.join(BOUND)
    assert not thread.is_alive()
    assert ward.wait(0)
    clock.advance(3600)
    assert (ward.restarts, ward.state) == (0, FAILED)
    with pytest.raises(StateError, match="has ended, or its dispatcher has"):
        supervisor.run(Faulty, "t")


def test_the_state_is_read_in_one_look(timed, supervisor, states):
    """Started again at that very moment, it is told as it stood before, or as it stands now."""
    ward = supervisor.run(Faulty, "t")
    states.until(READY)
    looks = [FAILED]

    class Restarted(Supervised):
        _down = property(lambda self: looks.pop() if looks else None)

    ward.__class__ = Restarted
    try:
        assert [ward.state, ward.state] == [FAILED, READY]
    finally:
        ward.__class__ = Supervised


def test_stopping_it_leaves_the_producers(timed, clock, states):
    """They are the dispatcher's; only nobody sees to them any more."""
    supervisor = Supervisor(timed)
    ward = supervisor.run(Faulty, "t", restart=policy())
    assert supervisor.stop(BOUND)
    assert timed.send_request("t", 5, ttl=LONG).gather(BOUND).values == {"dmm": 5}
    timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
    ward.producer.join(BOUND)
    clock.advance(3600)
    assert ward.restarts == 0
    assert timed._closing == []


@pytest.mark.parametrize(
    ("timeout", "error"), [("x", InvalidTypeError), (float("nan"), InvalidArgumentError)]
)
def test_a_timeout_that_is_none_ends_nothing(timed, clock, supervisor, states, timeout, error):
    """It is refused before anything is done: supervision goes on."""
    ward = supervisor.run(Faulty, "t", restart=policy())
    with pytest.raises(error, match="a timeout must"):
        supervisor.stop(timeout)
    timed.send_request("t", SystemExit(), ttl=LONG).gather(BOUND)
    ended(supervisor, ward)
    clock.advance(1.0)
    for _ in range(2):
        states.until(READY)
    assert supervisor.stop(float("inf"))


def test_it_supervises_many(timed, clock, supervisor, states):
    """Each with its own count; what is well is not touched by what is not."""
    well = supervisor.run(lambda: Faulty(name="well"), "t", restart=policy())
    ill = supervisor.run(Faulty, "u", restart=policy())
    timed.send_request("u", SystemExit(), ttl=LONG).gather(BOUND)
    ended(supervisor, ill)
    clock.advance(1.0)
    states.until(READY)
    states.until(READY)
    assert (well.restarts, ill.restarts) == (0, 1)
    assert supervisor.supervised == {"well": well, "dmm": ill}
    assert set(supervisor.states) == {"well", "dmm"}


def test_its_end_may_be_told_twice(timed, states):
    """Of a producer that stopped by itself, and again as the supervisor ends."""
    supervisor = Supervisor(timed)
    ward = supervisor.run(Faulty, "t")
    states.until(READY)
    ward.producer.stop()
    assert ward.wait(BOUND)
    assert supervisor.stop(BOUND)
    assert ward.wait(0)


def test_a_wait_that_is_interrupted_takes_nothing_from_others(timed, monkeypatch):
    """Ctrl-C at the very moment at which supervision is over."""
    supervisor = Supervisor(timed)
    ward = supervisor.run(Faulty, "t")

    def interrupted(lock, limit):
        assert supervisor.stop(BOUND)
        assert acquire(lock, limit)
        raise KeyboardInterrupt

    assert not ward.wait(0)
    monkeypatch.setattr(_supervisor, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ward.wait(BOUND)
    monkeypatch.undo()
    assert ward.wait(0)


# ---- bad input -----------------------------------------------------------------------------------


def test_what_cannot_be_supervised_is_refused_at_the_call(timed, supervisor):
    """With what was wrong; nothing is added."""
    for factory, said in (
        (5, "a factory must be callable, not 5"),
        (Faulty(), "a factory must be callable, not <Faulty"),
        (lambda: 5, "the factory must make a Producer, it made 5"),
        (lambda: Producer(), "must implement"),
    ):
        with pytest.raises(InvalidTypeError, match=said):
            supervisor.run(factory, "t")
    with pytest.raises(InvalidArgumentError, match="needs at least one topic"):
        supervisor.run(Faulty)
    with pytest.raises(InvalidTypeError, match="restart must be a Restart, not 3"):
        supervisor.run(Faulty, "t", restart=3)
    with pytest.raises(InvalidTypeError, match="a name must be a non-empty string"):
        supervisor.run(Faulty, "t", name="")
    with pytest.raises(InvalidArgumentError, match="stall_after must be positive"):
        supervisor.run(Faulty, "t", stall_after=0)
    with pytest.raises(InvalidTypeError, match="a Supervisor needs an ATEDispatcher"):
        Supervisor(5)
    assert timed.agents == {}
    assert supervisor.supervised == {}


def test_a_name_that_is_taken_is_refused_at_the_call(timed, supervisor):
    """As by ``add``."""
    timed.add(ScriptedProducer(name="dmm"), "t")
    with pytest.raises(NameTakenError, match="'dmm'"):
        supervisor.run(Faulty, "t")


def test_a_supervisor_that_never_had_anything_to_do_leaves_nothing(timed):
    """Its dispatcher does not keep it."""
    for _ in range(3):
        with Supervisor(timed):
            pass
    assert timed._closing == []
