"""`SiteBarrier`: sites that come together for what is done once for all of them."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import weakref

import pytest

from ate_dispatcher import (
    InvalidArgumentError,
    InvalidTypeError,
    NoCurrentRequestError,
    Producer,
    RequestStatus,
    SiteBarrierError,
)
from ate_dispatcher._messages import Probe
from ate_dispatcher.supervision import SiteBarrier
from ate_dispatcher.testing import Gate

BOUND = 60  # seconds that anything may take before a test gives up on it
LONG = 60_000_000  # a TTL in milliseconds that no test reaches


class Slot(Producer):
    """One site: does what it is told for its site, or comes to the barrier."""

    def __init__(self, barrier, site, orders=None, **options):
        super().__init__(name=f"slot{site}", site=site, **options)
        self.barrier = barrier
        self.orders = orders or {}

    def produce_dispatcher_output(self, topic, *args, **kwargs):
        order = self.orders.get(self._ate_address.site)
        if callable(order):
            return order()
        return self.barrier(*(args if order is None else order), **kwargs)


def add(dispatcher, barrier, *sites, **orders):
    return [dispatcher.add(Slot(barrier, site, **orders), "t") for site in sites]


def wait_until(barrier, count):
    """Wait until so many sites wait at the barrier."""
    arrived = threading.Event()
    arrive = barrier._rendezvous.arrive
    if len(barrier.waiting) >= count:
        return

    def watched(arrival):
        meeting = arrive(arrival)
        if len(meeting.arrivals) >= count:
            arrived.set()
        return meeting

    barrier._rendezvous.arrive = watched
    assert len(barrier.waiting) >= count or arrived.wait(BOUND)


def test_the_action_runs_once_and_all_get_its_result(dispatcher):
    """With the arguments that all came with, on the thread of one of them."""
    ran = []

    def action(*args, **kwargs):
        ran.append((threading.current_thread().name, args, kwargs))
        return "soaked"

    barrier = SiteBarrier(action, sites=range(4))
    add(dispatcher, barrier, 0, 1, 2, 3)
    request = dispatcher.send_request("t", 85, soak=30, ttl=LONG).gather(BOUND)
    assert request.values == {f"slot{site}": "soaked" for site in range(4)}
    ((thread, args, kwargs),) = ran
    assert thread in request.roster
    assert (args, kwargs) == ((85,), {"soak": 30})


def test_it_is_used_again_and_again(dispatcher):
    """Each meeting is a new one."""
    count = []
    barrier = SiteBarrier(count.append)
    add(dispatcher, barrier, 0, 1, 2)
    for number in range(50):
        assert not dispatcher.send_request("t", number, ttl=LONG).gather(BOUND).failed
    assert count == list(range(50))


def test_the_last_to_come_runs_it(dispatcher):
    """So that nobody waits for a thread that is not there yet."""
    ran = []
    barrier = SiteBarrier(lambda: ran.append(threading.current_thread().name), sites=[0, 1])
    with Gate() as gate:
        add(dispatcher, barrier, 0, 1, orders={1: lambda: (gate.park(), barrier())})
        request = dispatcher.send_request("t", ttl=LONG)
        gate.wait_parked(1)
        wait_until(barrier, 1)
    assert not request.gather(BOUND).failed
    assert ran == ["slot1"]


def test_its_error_is_everybodys(dispatcher):
    """Each raises an error of its own, of the same type and text."""

    def action():
        raise OSError("chamber door is open")

    barrier = SiteBarrier(action)
    add(dispatcher, barrier, 0, 1, 2)
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    assert [str(o.exception) for o in request.failed] == ["chamber door is open"] * 3
    assert len({id(o.exception) for o in request.failed}) == 3
    assert all(type(o.exception) is OSError for o in request.failed)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Lets nothing be set."""


@pytest.mark.parametrize("kind", [asyncio.CancelledError, Frozen])
def test_an_unusual_error_is_everybodys_too(dispatcher, kind):
    """C5: one that ends no thread, or that lets nothing be set."""

    def action():
        raise kind

    barrier = SiteBarrier(action)
    add(dispatcher, barrier, 0, 1, 2)
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    assert [type(o.exception) for o in request.failed] == [kind] * 3


def test_an_error_of_the_action_is_no_cycle(dispatcher):
    """C12: nothing of an ended request is kept for the garbage collector."""

    faults = []

    class FaultError(Exception):
        def __init__(self):
            faults.append(weakref.ref(self))

    def action():
        raise FaultError

    barrier = SiteBarrier(action)
    add(dispatcher, barrier, 0)
    gc.collect()
    gc.disable()
    try:
        request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
        assert request.failed[0].exception is faults[0]()
        del request
        assert dispatcher.remove(dispatcher.agents["slot0"], wait=True, timeout=BOUND)
        assert dispatcher.flush(BOUND)
        assert faults[0]() is None
    finally:
        gc.enable()


def test_what_ends_a_thread_ends_that_one_alone(dispatcher):
    """C5: a SystemExit in the action fails the agent it ran on; the others get an error."""
    barrier = SiteBarrier(exit_now)
    agents = add(dispatcher, barrier, 0, 1)
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    kinds = sorted(type(o.exception).__name__ for o in request.failed)
    assert kinds == ["SiteBarrierError", "SystemExit"]
    gone = [agent for agent in agents if agent.name not in dispatcher.agents]
    assert len(gone) <= 1


def exit_now():
    raise SystemExit(3)


# ---- who is missing, who differs -----------------------------------------------------------------


def test_missing_sites_are_named_before_the_deadline(timed, clock):
    """All that wait get an error that says who did not come, instead of a mere timeout."""
    barrier = SiteBarrier(lambda: None, sites=[0, 1, 2, 3], margin=0.1)
    add(timed, barrier, 0, 1)
    request = timed.send_request("t", ttl=10_000)
    wait_until(barrier, 2)
    clock.wait_sleeping(2)
    clock.advance(9.8)
    assert request.status is RequestStatus.OPEN
    clock.advance(0.15)
    request.gather(BOUND)
    assert [o.reason for o in request.failed] == [
        "SiteBarrierError: the sites did not come together; sites 2, 3 did not come"
    ] * 2


def test_a_mismatch_is_told_as_soon_as_all_have_come(dispatcher):
    """Nobody can come with other arguments any more; the action does not run."""
    ran = []
    barrier = SiteBarrier(ran.append)
    add(dispatcher, barrier, 0, 1, 2, orders={1: (25,)})
    request = dispatcher.send_request("t", 85, ttl=LONG).gather(BOUND)
    (reason,) = {o.reason for o in request.failed}
    assert reason.startswith("SiteBarrierError: the arguments differ: ")
    assert "sites 0, 2 with (85)" in reason
    assert "site 1 with (25)" in reason
    assert ran == []


def test_mismatch_and_missing_are_told_together(timed, clock):
    """At the deadline, everything that was wrong."""
    barrier = SiteBarrier(lambda: None, sites=[0, 1, 2], margin=0.1)
    add(timed, barrier, 0, 1, orders={0: (85,), 1: (25,)})
    request = timed.send_request("t", ttl=10_000)
    wait_until(barrier, 2)
    clock.wait_sleeping(2)
    clock.advance(9.95)
    for outcome in request.gather(BOUND).failed:
        assert "site 2 did not come; the arguments differ: site" in outcome.reason


def test_two_that_give_up_at_once_both_say_why(timed, clock):
    """Whoever comes second does not take the meeting for one that is held."""
    barrier = SiteBarrier(lambda what: None, sites=[0, 1, 2], margin=0.1)
    both = threading.Barrier(2)

    class Met:
        """Equal, once both sites compare."""

        def __eq__(self, other):
            both.wait(BOUND)
            return True

        __hash__ = None

    add(timed, barrier, 0, 1, orders={0: (Met(),), 1: (Met(),)})
    request = timed.send_request("t", ttl=10_000)
    wait_until(barrier, 2)
    clock.wait_sleeping(2)
    clock.advance(9.95)
    assert [o.reason for o in request.gather(2 * BOUND).failed] == [
        "SiteBarrierError: the sites did not come together; site 2 did not come"
    ] * 2


def test_arguments_that_cannot_be_compared_are_an_error(dispatcher):
    """Their ``==`` is the user's, and may raise."""

    class Strange:
        def __eq__(self, other):
            raise ValueError("ambiguous")

        __hash__ = None

    barrier = SiteBarrier(lambda what: None)
    add(dispatcher, barrier, 0, 1, orders={0: (Strange(),), 1: (Strange(),)})
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    assert [o.reason for o in request.failed] == ["ValueError: ambiguous"] * 2


def test_an_action_that_outlives_the_deadline_holds_nobody(timed, clock, gate):
    """Who waits is free at the deadline; the one whose thread it runs on is not."""
    barrier = SiteBarrier(gate.park, sites=[0, 1], margin=0.1)
    add(timed, barrier, 0, 1)
    request = timed.send_request("t", ttl=10_000)
    gate.wait_parked(1)
    clock.wait_sleeping(1)
    clock.advance(9.95)
    (first,) = [next(iter(request))]
    assert "the action was still running when the deadline came" in first.reason
    clock.advance(1.0)
    assert len(request.gather(BOUND).missing) == 1


# ---- who leaves ----------------------------------------------------------------------------------


def test_a_site_that_fails_leaves(dispatcher):
    """Before or after the others have come: they go on without it."""

    def fail():
        raise OSError("no device in the socket")

    barrier = SiteBarrier(lambda: "soaked")
    add(dispatcher, barrier, 0, 1, 2, orders={1: fail})
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    assert request.values == {"slot0": "soaked", "slot2": "soaked"}
    with Gate() as gate:
        for slot in dispatcher.agents.values():
            slot.orders = {1: lambda: (gate.park(), fail())}
        request = dispatcher.send_request("t", ttl=LONG)
        gate.wait_parked(1)
        wait_until(barrier, 2)
    assert request.gather(BOUND).values == {"slot0": "soaked", "slot2": "soaked"}


def test_a_site_with_another_producer_at_work_may_still_come(dispatcher):
    """One instrument's error is not its site's end."""
    ran = []
    barrier = SiteBarrier(lambda: ran.append("soaked") or "soaked")
    with Gate() as gate:
        add(dispatcher, barrier, 0, 1, orders={1: lambda: (gate.park(), barrier())[1]})

        @dispatcher.producer("t", site=1)
        def fan(topic):
            raise OSError("stuck")

        request = dispatcher.send_request("t", ttl=LONG)
        outcome = next(iter(request))
        wait_until(barrier, 1)
        barrier._one_less(request, barrier._rendezvous.meeting, outcome)  # now, if not before
        assert barrier.waiting == (0,)
        assert request.status is RequestStatus.OPEN
    assert request.gather(BOUND).values == {"slot0": "soaked", "slot1": "soaked"}
    assert ran == ["soaked"]


def test_a_disabled_site_is_not_waited_for(dispatcher):
    """From the present meeting on, until it is enabled again."""
    barrier = SiteBarrier(lambda: "soaked", sites=[0, 1, 2])
    add(dispatcher, barrier, 0, 1)
    request = dispatcher.send_request("t", ttl=LONG)
    wait_until(barrier, 2)
    barrier.disable(2)
    assert request.gather(BOUND).values == {"slot0": "soaked", "slot1": "soaked"}
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    assert request.values == {"slot0": "soaked", "slot1": "soaked"}
    barrier.enable(2)
    assert "did not come" in dispatcher.send_request("t", ttl=200).gather(BOUND).failed[0].reason


def test_a_site_that_is_disabled_while_it_waits_is_told(dispatcher):
    """It gets an error, the others their result."""
    barrier = SiteBarrier(lambda: "soaked", sites=[0, 1, 2])
    add(dispatcher, barrier, 0, 1)
    request = dispatcher.send_request("t", ttl=LONG)
    wait_until(barrier, 2)
    barrier.disable(1)
    barrier.disable(2)
    assert request.gather(BOUND).values == {"slot0": "soaked"}
    assert "site 1 was disabled while it waited" in request.failed[0].reason


def test_a_site_disabled_at_the_dispatcher_is_not_waited_for(dispatcher):
    """Without `sites`, who takes part is who got the request."""
    barrier = SiteBarrier(lambda: "soaked")
    add(dispatcher, barrier, 0, 1, 2)
    dispatcher.disable_site(1)
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    assert request.values == {"slot0": "soaked", "slot2": "soaked"}
    request = dispatcher.with_options(sites=[0]).send_request("t", ttl=LONG).gather(BOUND)
    assert request.values == {"slot0": "soaked"}


def test_a_cancel_ends_the_meeting(dispatcher):
    """C13: nobody waits on, and the next meeting is not touched."""
    barrier = SiteBarrier(lambda: "soaked", sites=[0, 1, 2])
    add(dispatcher, barrier, 0, 1)
    request = dispatcher.send_request("t", ttl=LONG)
    wait_until(barrier, 2)
    request.cancel()
    assert request.gather(BOUND).status is RequestStatus.CANCELLED
    add(dispatcher, barrier, 2)
    values = dispatcher.send_request("t", ttl=LONG).gather(BOUND).values
    assert set(values.values()) == {"soaked"}
    assert len(values) == 3


def test_sites_may_come_by_requests_of_their_own(dispatcher):
    """A script a site: the first whose time is up ends the meeting for all."""
    barrier = SiteBarrier(lambda: "soaked", sites=[0, 1])
    add(dispatcher, barrier, 0, 1)
    to = [dispatcher.with_options(sites=[site]) for site in (0, 1)]
    requests = [view.send_request("t", ttl=LONG) for view in to]
    assert [r.gather(BOUND).values for r in requests] == [{"slot0": "soaked"}, {"slot1": "soaked"}]


# ---- bad input -----------------------------------------------------------------------------------


def test_what_has_no_business_at_it_is_refused(dispatcher):
    """At once, with the reason."""
    barrier = SiteBarrier(lambda: None, sites=[0])
    with pytest.raises(NoCurrentRequestError):
        barrier()

    @dispatcher.producer("t")
    def nowhere(topic):
        barrier()

    add(dispatcher, barrier, 7)
    request = dispatcher.send_request("t", ttl=LONG).gather(BOUND)
    assert [str(o.exception) for o in request.failed] == [
        "only a producer with a site= can come to a SiteBarrier",
        "site 7 is none of this barrier's, which are 0",
    ]
    assert all(type(o.exception) is SiteBarrierError for o in request.failed)


def test_what_cannot_be_meant_is_refused_at_the_call():
    """With the value."""
    with pytest.raises(InvalidTypeError, match="the action must be callable, not 5"):
        SiteBarrier(5)
    with pytest.raises(InvalidTypeError, match="not the string '012'"):
        SiteBarrier(print, sites="012")
    with pytest.raises(InvalidTypeError, match="sites must be a list, not 5"):
        SiteBarrier(print, sites=5)
    with pytest.raises(InvalidTypeError, match=r"a site must be a number or a string, not 1\.5"):
        SiteBarrier(print, sites=[1.5])
    with pytest.raises(InvalidArgumentError, match="needs at least one site"):
        SiteBarrier(print, sites=[])
    with pytest.raises(InvalidArgumentError, match="margin must not be negative, it is -1"):
        SiteBarrier(print, margin=-1)
    with pytest.raises(InvalidTypeError, match="margin must be a number of seconds"):
        SiteBarrier(print, margin="1")


def test_what_waited_does_not_follow_the_request_any_more(dispatcher, gate):
    """C12: a request that meets again and again keeps nothing of the meetings it has had."""
    barrier = SiteBarrier(lambda: None)

    def order():
        for _ in range(3):
            barrier()
        gate.park()

    add(dispatcher, barrier, 0, 1, orders={0: order, 1: order})
    request = dispatcher.send_request("t", ttl=LONG)
    gate.wait_parked(2)
    handled = threading.Event()
    dispatcher._home.put(Probe(handled.set))
    assert handled.wait(BOUND)
    assert request._extra.readers == ()
