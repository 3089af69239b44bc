"""Priorities: what a producer begins first, what they leave alone, and what they cost others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from math import inf

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    InvalidTypeError,
    OutcomeStatus,
    RequestStatus,
)
from ate_dispatcher._messages import Probe
from ate_dispatcher._producer import _halt
from ate_dispatcher.testing import Gate, ScriptedProducer

BOUND = 60
MINUTE = 60_000


def park_first(gate, done):
    """Give a hook that parks on its first call and notes the argument of every other."""

    def hook(topic, label):
        if label == "first":
            gate.park()
        else:
            done.append(label)
        return label

    return hook


def send(dispatcher, label, priority=0, **kwargs):
    kwargs.setdefault("ttl", MINUTE)
    view = dispatcher.with_options(priority=priority) if priority else dispatcher
    return view.send_request("t", label, **kwargs)


KINDS = {
    "unbounded": lambda hook: ScriptedProducer(hook, name="p"),
    "bounded": lambda hook: ScriptedProducer(hook, name="p", capacity=100),
    "pool": lambda hook: ExecutorProducer(hook, ThreadPoolExecutor, 1, name="p"),
}


@pytest.fixture(params=KINDS)
def bench(request, dispatcher):
    """A producer busy with its first request; what it did afterwards; how to let it go on."""
    gate, done = Gate(), []
    dispatcher.add(KINDS[request.param](park_first(gate, done)), "t")
    send(dispatcher, "first")
    gate.wait_parked()
    with gate:
        yield dispatcher, gate, done


def test_the_more_urgent_begins_first_and_one_priority_keeps_its_order(bench):
    """C6: within one priority work begins as it was accepted; 0 is the priority of all others."""
    dispatcher, gate, done = bench
    requests = [
        send(dispatcher, label, priority)
        for label, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 0), ("e", 5), ("f", 9))
    ]
    assert dispatcher.send_request("nobody").wait(BOUND)  # all of that has been scattered
    gate.open()
    for request in requests:
        request.gather(BOUND).raise_for_status()
    assert done == ["f", "b", "e", "a", "d", "c"]


def test_urgent_work_that_has_expired_or_was_cancelled_never_begins(bench):
    """C4: a high priority is no licence."""
    dispatcher, gate, done = bench
    cancelled = send(dispatcher, "cancelled", 9)
    expired = send(dispatcher, "expired", 9, ttl=1)
    last = send(dispatcher, "last")
    cancelled.cancel()
    assert expired.wait(BOUND)
    gate.open()
    assert last.gather(BOUND).values == {"p": "last"}
    assert done == ["last"]


def test_deregistering_waits_for_less_urgent_work_as_well(bench):
    """C8: the fence has passed when everything before it is done, and what overtakes it is done."""
    dispatcher, gate, done = bench
    for label, priority in (("a", 0), ("b", 5), ("c", -3)):
        send(dispatcher, label, priority)
    assert dispatcher.send_request("nobody").wait(BOUND)
    producer = dispatcher.agents["p"]
    gate.open()
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert done == ["b", "a", "c"]
    producer.stop()
    producer.join(BOUND)


def test_stopping_comes_after_everything_queued(bench):
    """C9: `agent.stop` keeps its meaning, whatever the priorities."""
    dispatcher, gate, done = bench
    requests = [send(dispatcher, "low", -5), send(dispatcher, "high", 5)]
    assert dispatcher.send_request("nobody").wait(BOUND)
    producer = dispatcher.agents["p"]
    producer.stop()
    behind = send(dispatcher, "behind", 9)
    gate.open()
    for request in requests:
        request.gather(BOUND).raise_for_status()
    assert behind.gather(BOUND).outcomes[0].status is OutcomeStatus.REJECTED
    assert done == ["high", "low"]


def test_what_a_failing_producer_has_not_begun_is_rejected(dispatcher, gate):
    """C5: nothing that it had sorted already is lost, and whoever waits for it is told."""

    def hook(topic, label):
        if label == "first":
            gate.park()
        elif label == "exit":
            raise SystemExit("gone")

    dispatcher.add(ScriptedProducer(hook), "t")
    send(dispatcher, "first")
    gate.wait_parked()
    lost = [send(dispatcher, "low"), send(dispatcher, "low", -1)]
    exiting = send(dispatcher, "exit", 5)
    assert dispatcher.send_request("nobody").wait(BOUND)
    gate.open()
    assert exiting.gather(BOUND).outcomes[0].status is OutcomeStatus.ERROR
    for request in lost:
        (outcome,) = request.gather(BOUND).outcomes
        assert outcome.status is OutcomeStatus.REJECTED
        assert "failed" in outcome.reason


def test_abort_passes_everything_queued(bench):
    """What is most urgent does not begin either."""
    dispatcher, gate, done = bench
    urgent = send(dispatcher, "urgent", 10**9)
    urgent.add_done_callback(lambda request: gate.open())  # the producer goes on only then
    dispatcher.abort("smoke")
    assert urgent.status is RequestStatus.CANCELLED
    assert done == []


def test_capacity_counts_what_has_not_begun(dispatcher, gate):
    """C10: a producer that sorts by priority takes nothing out before it begins it."""
    done = []
    dispatcher.add(ScriptedProducer(park_first(gate, done), name="p", capacity=2), "t")
    send(dispatcher, "first", 1)
    gate.wait_parked()
    kept = [send(dispatcher, "a"), send(dispatcher, "b", 5)]
    rejected = send(dispatcher, "c", 9).gather(BOUND)
    assert rejected.outcomes[0].status is OutcomeStatus.REJECTED
    gate.open()
    for request in kept:
        request.gather(BOUND).raise_for_status()
    assert done == ["b", "a"]


def test_statistics_show_what_waits_by_priority_and_for_how_long(timed, clock, gate):
    """No starvation goes unnoticed: how much waits, and since when the oldest of it."""
    timed.add(ScriptedProducer(park_first(gate, []), name="p"), "t")
    idle = timed.statistics().producers["p"]
    assert (idle.waiting, idle.oldest) == ({}, 0.0)
    send(timed, "first", ttl=1e9)
    gate.wait_parked()
    requests = [send(timed, "low", -1, ttl=1e9)]
    clock.advance(30)
    requests += [send(timed, "high", 5, ttl=1e9) for _ in range(3)]
    cancelled = send(timed, "cancelled", 7, ttl=1e9)
    cancelled.cancel()
    assert cancelled.wait(BOUND)
    clock.advance(12)
    starving = timed.statistics().producers["p"]
    assert (starving.waiting, starving.oldest) == ({-1: 1, 5: 3}, 42.0)
    gate.open()
    for request in requests:
        assert request.wait(BOUND)
    after = timed.statistics().producers["p"]
    assert (after.waiting, after.oldest, after.depth) == ({}, 0.0, 0)


def test_depth_counts_what_was_sorted_already(dispatcher, gate):
    """`depth` is what waits, wherever it waits; so is what the high-water warning looks at."""
    done = []
    second = Gate()

    def hook(topic, label):
        if label == "second":
            second.park()
        else:
            park_first(gate, done)(topic, label)

    producer = dispatcher.add(ScriptedProducer(hook, name="p"), "t")
    send(dispatcher, "first")
    gate.wait_parked()
    last = [send(dispatcher, "a"), send(dispatcher, "b")]
    send(dispatcher, "second", 5)
    assert dispatcher.send_request("nobody").wait(BOUND)
    gate.open()
    with second:
        second.wait_parked()
        assert dispatcher.statistics().producers["p"].depth == 2
        assert producer._ate_mailbox.qsize() == 0
    for request in last:
        assert request.wait(BOUND)


def test_priority_zero_is_no_priority(dispatcher):
    """Who is never sent another one keeps its plain mailbox."""
    producer = dispatcher.add(ScriptedProducer(1), "t")
    dispatcher.with_options(priority=0, tags={"a": 1}).send_request("t").gather(BOUND)
    assert producer._ate_address.alert is False
    dispatcher.with_options(priority=-1).send_request("t").gather(BOUND)
    assert producer._ate_address.alert is True


def test_the_callers_own_keyword_named_priority_is_theirs(dispatcher):
    """C11: an option is given with `with_options` and nowhere else."""
    producer = dispatcher.add(ScriptedProducer(lambda topic, priority: priority), "t")
    view = dispatcher.with_options(priority=3)
    request = view.send_request("t", priority="mine").gather(BOUND)
    assert (request.values, request.priority) == ({producer.name: "mine"}, 3)


@pytest.mark.parametrize("priority", [1.5, "high", None, True])
def test_a_priority_is_a_whole_number(priority):
    """Said at the call."""
    with pytest.raises(InvalidTypeError, match=r"priority must be a whole number, not"):
        ATEDispatcher().with_options(priority=priority)


def test_what_waits_by_priority_is_refused_when_its_producer_is_given_up(dispatcher):
    """C2, C8: and so is a fence among it; nothing of it is begun when the hook comes back."""
    first, hang, done = Gate(), Gate(), []

    def hook(topic, label):
        done.append(label)
        if label in gates:
            gates[label].park()

    gates = {"first": first, "hang": hang}
    producer = dispatcher.add(ScriptedProducer(hook, name="p"), "t", "u")
    with first, hang:
        send(dispatcher, "first", 1)
        first.wait_parked()
        hanging = send(dispatcher, "hang", 2, ttl=inf)
        behind = [send(dispatcher, "behind", ttl=inf) for _ in range(3)]
        passed, scattered = threading.Event(), threading.Event()
        dispatcher._home.put(Probe(scattered.set))
        assert scattered.wait(BOUND)
        producer._ate_fence(passed.set)
        first.open()
        hang.wait_parked()
        producer._ate_abandon("hangs")
        assert passed.wait(BOUND)
        for request in (hanging, *behind):
            (outcome,) = request.gather(BOUND).outcomes
            assert (outcome.status, outcome.reason) == (OutcomeStatus.REJECTED, "'p' hangs")
    producer.join(BOUND)
    assert done == ["first", "hang"]


def test_who_is_given_up_while_it_turns_to_priorities_begins_nothing(dispatcher):
    """Its heap is shown before the flag is looked at, which is set before a heap is looked for."""
    with Gate() as gate:
        producer = dispatcher.add(ScriptedProducer(gate, name="p"), "t")
        send(dispatcher, "first")
        gate.wait_parked()
        producer._ate_abandon("hangs")
        assert producer._ate_reader() is _halt
        assert producer._ate_ranked is not None
    producer.join(BOUND)


def test_in_the_child_of_a_fork_nobody_waits_for_the_heap():
    """Its lock may be held by the producer's thread, which is not there."""
    producer = ScriptedProducer(name="p")
    producer._ate_reader()
    with producer._ate_ranked._lock:
        producer._ate_forked()
        assert producer._ate_ranked is None
        producer._ate_refuse_mailbox()
