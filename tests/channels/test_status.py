"""The state of a connection and when to try again: decisions, given `now`."""

from __future__ import annotations

from ate_dispatcher.channels import Backoff, StatusType
from ate_dispatcher.channels._status import Link


def link(**options):
    return Link(Backoff(2.0, 60.0, **{"draw": lambda: 0.0, **options}))


def test_the_first_attempt():
    """Status: initialised, connecting, connected."""
    own = link()
    assert own.status is StatusType.initialised
    own.trying()
    assert (own.status, own.due) == (StatusType.connecting, None)
    own.succeeded()
    assert (own.status, own.due) == (StatusType.connected, None)


def test_waits_double_up_to_a_cap():
    """Old defect: "exponential" back-off that is linear."""
    own, now, waits = link(), 100.0, []
    for _ in range(8):
        own.trying()
        waits.append(own.failed(now))
        assert own.status is StatusType.disconnected
        assert own.due == now + waits[-1]
        now = own.due
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_success_begins_anew():
    """Back-off: the wait after a loss is the first one again."""
    own = link()
    own.failed(0.0)
    own.failed(2.0)
    own.succeeded()
    assert own.failed(50.0) == 2.0


def test_chance_takes_away():
    """Back-off: many clients of one broker do not all come back at once."""
    own = link(jitter=0.5, draw=lambda: 0.5)
    assert [own.failed(0.0) for _ in range(3)] == [1.5, 3.0, 6.0]


def test_closed():
    """Status: nothing is tried any more."""
    own = link()
    own.failed(0.0)
    own.closed()
    assert (own.status, own.due) == (StatusType.closed, None)
