"""Resources that producers share: one at a time, waited for within the TTL, handed on, named."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    OutcomeStatus,
    Phase,
    Producer,
    RequestStatus,
)
from ate_dispatcher._resources import RESOURCES, Hold
from ate_dispatcher.testing import Gate, ScriptedProducer

BOUND = 60
MINUTE = 60_000


class Instrument(ScriptedProducer):
    """A scripted producer with resources."""

    def __init__(self, *script, resources=("GPIB0",), **options):
        Producer.__init__(self, resources=resources, **options)
        self._ate_script = list(script) or [None]
        self.calls = []


@pytest.fixture(autouse=True)
def nothing_held_after():
    yield
    assert (RESOURCES._holders, RESOURCES._lines) == ({}, {})


@pytest.fixture
def waiting(monkeypatch):
    """Give a function that returns once another producer waits for a resource."""
    came = SimpleQueue()
    sleep = Hold.sleep

    def told(hold):
        came.put(hold.owner.name)
        sleep(hold)

    monkeypatch.setattr(Hold, "sleep", told)
    return lambda: came.get(timeout=BOUND)


@pytest.fixture
def other():
    """A second dispatcher of the process."""
    with ATEDispatcher(name="other") as other:
        yield other


class Bus:
    """Notices when two use it at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self.clashes = 0

    def use(self, *_):
        if not self._lock.acquire(blocking=False):
            self.clashes += 1
            return
        threading.Event().wait(0.0005)  # long enough for another to come in, if it can
        self._lock.release()


def test_one_at_a_time_in_the_whole_process(dispatcher, other):
    """Whatever the dispatcher, the producer or its kind: who works with the bus has it alone."""
    bus = Bus()
    pool = ExecutorProducer(bus.use, ThreadPoolExecutor, 3, resources=("GPIB0",))
    for station in (dispatcher, other):
        for _ in range(2):
            station.add(Instrument(bus.use), "t")
    dispatcher.add(pool, "t")
    requests = [
        each.send_request("t", ttl=MINUTE) for _ in range(20) for each in (dispatcher, other)
    ]
    for request in requests:
        request.gather(BOUND).raise_for_status()
    assert bus.clashes == 0


def test_other_names_do_not_wait(dispatcher, gate):
    """Two buses are two buses, and who needs none waits for none."""
    dispatcher.add(Instrument(gate, name="held"), "held")
    held = dispatcher.send_request("held", ttl=MINUTE)
    gate.wait_parked()
    dispatcher.add(Instrument(1, resources=("GPIB1",), name="there"), "t")
    dispatcher.add(ScriptedProducer(2, name="none"), "t")
    assert dispatcher.send_request("t", ttl=MINUTE).gather(BOUND).values == {"there": 1, "none": 2}
    gate.open()
    assert held.gather(BOUND).status is RequestStatus.COMPLETE


def test_a_timeout_names_the_resource_and_who_has_it(timed, clock, gate, waiting):
    """C2: waiting counts in the TTL; since when it waited is said, and what stands behind it."""
    timed.add(Instrument(gate, name="scope"), "held")
    late = timed.add(Instrument("late", name="dmm"), "t")
    held = timed.send_request("held", ttl=1e6)
    gate.wait_parked()
    began = clock()
    request = timed.send_request("t", ttl=500)
    assert waiting() == "dmm"
    behind = timed.send_request("t", ttl=500)
    clock.advance(1)
    (outcome,) = request.gather(BOUND).missing
    assert (outcome.status, outcome.phase) == (OutcomeStatus.TIMEOUT, Phase.RESOURCE)
    assert outcome.reason == "still waiting for resource 'GPIB0', held by 'scope', after 1.000 s"
    assert (outcome.since, outcome.started) == (began, None)
    (outcome,) = behind.gather(BOUND).missing
    assert outcome.phase is Phase.QUEUED
    assert "behind work on 't' waiting for resource 'GPIB0', held by 'scope'" in outcome.reason
    gate.open()
    assert held.gather(BOUND).status is RequestStatus.COMPLETE
    assert timed.send_request("t", ttl=1e6).gather(BOUND).values == {"dmm": "late"}
    assert len(late.calls) == 1  # C4: what expired while it waited never began


@pytest.mark.parametrize("kind", ["thread", "copying", "failing", "stream", "pool"])
def test_an_outcome_tells_that_its_work_had_to_wait(timed, clock, gate, waiting, kind):
    """Since when, for what and held by whom; of what did not wait there is nothing to tell."""

    def stream(topic):
        yield 1
        return 2

    options = {"name": "dmm", "resources": ("GPIB1", "GPIB0")}
    if kind == "pool":
        timed.add(ExecutorProducer(lambda topic: 5, ThreadPoolExecutor, 1, **options), "t")
    elif kind == "stream":
        timed.producer("t", **options)(stream)
    else:
        timed.add(Instrument(OSError() if kind == "failing" else [5], **options), "t")
    timed.add(Instrument(gate, name="scope"), "held")
    held = timed.send_request("held", ttl=1e6)
    gate.wait_parked()
    began = clock()
    request = timed.with_options(copy="shallow" if kind == "copying" else None).send_request(
        "t", ttl=1e6
    )
    assert waiting() == "dmm"
    clock.advance(1)
    gate.open()
    (outcome,) = request.gather(BOUND).outcomes
    assert outcome.waited == (began, "waiting for resource 'GPIB0', held by 'scope'")
    assert outcome.copied().waited == outcome.waited
    assert outcome.started == began + 1
    assert held.gather(BOUND).outcomes[0].waited is None
    assert timed.send_request("t", ttl=1e6).gather(BOUND).outcomes[0].waited is None


def test_an_outcome_tells_of_every_resource_that_was_waited_for(timed, clock, waiting):
    """One after the other, from the first wait on."""
    gates = {"GPIB0": Gate(), "GPIB1": Gate()}
    with gates["GPIB0"], gates["GPIB1"]:
        for name, gate in gates.items():
            timed.add(Instrument(gate, name=f"has {name}", resources=(name,)), name)
            timed.send_request(name, ttl=1e6)
            gate.wait_parked()
        timed.add(Instrument(5, name="dmm", resources=("GPIB0", "GPIB1")), "t")
        began = clock()
        request = timed.send_request("t", ttl=1e6)
        assert waiting() == "dmm"
        gates["GPIB0"].open()
        assert waiting() == "dmm"
        clock.advance(1)
        gates["GPIB1"].open()
        (outcome,) = request.gather(BOUND).outcomes
    since, words = outcome.waited
    assert (since, outcome.started) == (began, began + 1)
    assert words == (
        "waiting for resource 'GPIB0', held by 'has GPIB0'; "
        "waiting for resource 'GPIB1', held by 'has GPIB1'"
    )


@pytest.mark.parametrize(
    "end",
    [
        lambda dispatcher, request, clock: request.cancel(),
        lambda dispatcher, request, clock: clock.advance(1),
        lambda dispatcher, request, clock: dispatcher.abort("test"),
        lambda dispatcher, request, clock: dispatcher.stop(drain=False),
    ],
    ids=["cancel", "expiry", "abort", "stop"],
)
def test_whoever_waits_is_woken_by_the_end_of_its_request(timed, clock, other, gate, waiting, end):
    """C4, C12: it leaves the line at once, though the resource is still held, and never begins."""
    other.add(Instrument(gate), "held")
    held = other.send_request("held", ttl=MINUTE)
    gate.wait_parked()
    dmm = timed.add(Instrument(), "t")
    request = timed.send_request("t", ttl=500)
    waiting()
    end(timed, request, clock)
    assert request.wait(BOUND)
    # The fence passes once the producer's thread is done with all that it had.
    timed.deregister_result_producer(dmm, "t", wait=True, timeout=BOUND)
    dmm.stop()
    dmm.join(BOUND)
    assert not dmm.is_alive()
    assert RESOURCES._lines == {}
    assert dmm.calls == []
    gate.open()
    assert held.gather(BOUND).status is RequestStatus.COMPLETE


def test_what_it_has_already_is_handed_on_when_it_gives_up(timed, clock, other, gate, waiting):
    """A producer that needs two and gets one leaves none of them behind."""
    other.add(Instrument(gate, resources=("b",)), "held")
    held = other.send_request("held", ttl=MINUTE)
    gate.wait_parked()
    timed.add(Instrument(resources=("b", "a"), name="both"), "both")
    timed.add(Instrument("a", resources=("a",), name="only a"), "a")
    both = timed.send_request("both", ttl=500)
    assert waiting() == "both"
    request = timed.send_request("a", ttl=1e6)
    assert waiting() == "only a"
    clock.advance(1)
    assert both.gather(BOUND).outcomes[0].phase is Phase.RESOURCE
    assert request.gather(BOUND).values == {"only a": "a"}
    assert not held.wait(0)
    gate.open()
    assert held.gather(BOUND).status is RequestStatus.COMPLETE


def test_nobody_waits_in_a_circle(dispatcher, other):
    """Taken in one order, however they are named; a producer of two dispatchers is no exception."""
    names = ("a", "b", "c")
    shared = Instrument(resources=names)
    for station in (dispatcher, other):
        station.add(shared, "t")
        for first in range(3):
            station.add(Instrument(resources=names[first:] + names[:first]), "t")
    requests = [
        each.send_request("t", ttl=MINUTE) for _ in range(50) for each in (dispatcher, other)
    ]
    for request in requests:
        assert len(request.gather(BOUND).succeeded) == 4
    shared.stop()


def fails(topic):
    raise ValueError("broken")


def leaves(topic):
    raise SystemExit("gone")


def streams(topic):
    yield 1
    yield 2


class Exploding:
    def __deepcopy__(self, memo):
        raise ValueError("not to be copied")


@pytest.mark.parametrize("script", [fails, leaves, streams, Exploding(), 7])
def test_it_is_given_back_however_the_work_ends(dispatcher, script):
    """By an error, the thread's end, a stream, a result that cannot be copied, and an answer."""
    dispatcher.add(Instrument(script), "t")
    free = dispatcher.add(Instrument("free"), "free")
    assert dispatcher.with_options(copy="deep").send_request("t", ttl=MINUTE).wait(BOUND)
    assert dispatcher.send_request("free", ttl=MINUTE).gather(BOUND).values == {free.name: "free"}


def test_a_stream_holds_it_to_its_end(dispatcher, gate, waiting):
    """Between two values too: the instrument is in the middle of something."""

    def stream(topic):
        yield 1
        gate.park()
        yield 2

    dispatcher.add(Instrument(stream, name="stream"), "stream")
    dispatcher.add(Instrument("next", name="next"), "t")
    streamed = dispatcher.send_request("stream", ttl=MINUTE)
    gate.wait_parked()
    request = dispatcher.send_request("t", ttl=MINUTE)
    assert waiting() == "next"
    gate.open()
    assert streamed.gather(BOUND).values == {"stream": [1, 2]}
    assert request.gather(BOUND).values == {"next": "next"}


def test_when_the_answer_is_there_the_resource_is_free(dispatcher):
    """Given back first, then answered: who sees the answer may use the resource."""
    dispatcher.add(Instrument(), "t")
    for _ in range(50):
        assert dispatcher.send_request("t", ttl=MINUTE).wait(BOUND)
        assert RESOURCES.holder("GPIB0") is None


def test_coroutines_hold_it_until_they_are_done(dispatcher):
    """An ``async def`` hook has its resources as any other."""

    class Asynchronous(Producer):
        async def produce_dispatcher_output(self, topic):
            return RESOURCES.holder("GPIB0").name

    dispatcher.add(Asynchronous(name="asynchronous", resources=("GPIB0",)), "t")
    values = dispatcher.send_request("t", ttl=MINUTE).gather(BOUND).values
    assert values == {"asynchronous": "asynchronous"}


def test_decorated_functions_take_resources_too(dispatcher):
    """As every other option of a producer."""
    dispatcher.producer("t", resources=("GPIB0",))(lambda topic: RESOURCES.holder("GPIB0").name)
    request = dispatcher.send_request("t", ttl=MINUTE).gather(BOUND)
    assert list(request.values.values()) == list(request.roster)


def test_a_producer_told_to_stop_while_it_waits_answers_first(dispatcher, other, waiting):
    """C9: `stop` of an agent takes effect after everything queued, so it goes on waiting."""
    with Gate() as gate:
        other.add(Instrument(gate), "held")
        other.send_request("held", ttl=MINUTE)
        gate.wait_parked()
        dmm = dispatcher.add(Instrument("answer"), "t")
        request = dispatcher.send_request("t", ttl=MINUTE)
        waiting()
        dmm.stop()
    assert request.gather(BOUND).values == {dmm.name: "answer"}


def test_in_the_child_of_a_fork_everything_is_free():
    """C9: whoever had something is not there."""
    hold = Hold(object(), ("GPIB0",))
    assert RESOURCES.take(hold) is None
    before = RESOURCES._holders, RESOURCES._lines, RESOURCES._lock
    try:
        RESOURCES.forget()
        assert RESOURCES.holder("GPIB0") is None
    finally:
        RESOURCES._holders, RESOURCES._lines, RESOURCES._lock = before
    RESOURCES.release(hold)
