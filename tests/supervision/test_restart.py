"""When a failed producer is started again, and when it is given up: no thread, no clock."""

from __future__ import annotations

import math

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError
from ate_dispatcher._backoff import Backoff
from ate_dispatcher.supervision import Restart


def policy(attempts=3, per=60.0, first=1.0, cap=8.0):
    return Restart(attempts, per, Backoff(first, cap, jitter=0))


def test_the_waits_double_up_to_the_cap():
    """The back-off is the library's one."""
    failures = policy(attempts=9).begin()
    assert [failures.add(now, True) - now for now in (0.0, 10.0, 20.0, 30.0, 40.0)] == [
        1.0,
        2.0,
        4.0,
        8.0,
        8.0,
    ]


def test_more_failures_than_attempts_within_the_period_give_up():
    """Three restarts in a minute; the fourth failure within it is the last."""
    failures = policy().begin()
    assert [failures.add(now, True) for now in (0.0, 10.0, 20.0)] == [1.0, 12.0, 24.0]
    assert failures.add(59.9, True) is None


def test_failures_of_an_earlier_period_do_not_count():
    """The window slides: what is older than the period is forgotten, one by one."""
    failures = policy().begin()
    for now in (0.0, 10.0, 20.0):
        failures.add(now, True)
    assert failures.add(60.0, True) is not None
    assert failures.add(65.0, True) is None


def test_after_a_quiet_period_the_waits_begin_again():
    """A producer that had been well is started again soon."""
    failures = policy(attempts=9).begin()
    for now in (0.0, 1.0, 2.0, 3.0):
        failures.add(now, True)
    assert failures.add(100.0, True) == 101.0


def test_starts_that_never_succeed_are_bounded_however_slow_they_are():
    """An instrument that is not there: each attempt may take longer than the period."""
    failures = policy().begin()
    waits = [failures.add(now, False) for now in (0.0, 100.0, 200.0, 300.0)]
    assert waits[:3] == [1.0, 102.0, 204.0]
    assert waits[3] is None


def test_a_start_that_succeeds_ends_the_row_of_those_that_did_not():
    """Only failures in a row count without regard to the period."""
    failures = policy().begin()
    for now, ready in ((0.0, False), (100.0, False), (200.0, True), (300.0, False)):
        assert failures.add(now, ready) is not None


def test_one_slow_start_after_a_quiet_period_begins_with_the_first_wait():
    """It is the first failure in a row, and no other lies within the period."""
    failures = policy(attempts=9).begin()
    for now in (0.0, 1.0, 2.0):
        failures.add(now, True)
    assert failures.add(100.0, False) == 101.0


def test_a_failure_after_a_good_start_is_none_of_the_row():
    """Only those count that did not get as far as the end of their start."""
    failures = policy(attempts=1).begin()
    assert failures.add(0.0, True) == 1.0
    assert failures.add(100.0, False) == 101.0
    assert failures.add(200.0, False) is None


def test_without_arguments():
    """Five restarts a minute, after the library's usual waits."""
    plain = Restart()
    assert (plain.attempts, plain.per) == (5, 60.0)
    assert repr(plain) == "Restart(attempts=5, per=60)"
    failures = plain.begin()
    for whole in (0.5, 1.0, 2.0, 4.0, 8.0):
        assert whole / 2 <= failures.add(0.0, True) <= whole
    assert failures.add(0.0, True) is None


def test_a_period_may_be_short():
    """Any number of seconds above nothing."""
    failures = policy(attempts=1, per=0.5).begin()
    assert [failures.add(now, True) for now in (0.0, 0.5, 0.75)] == [1.0, 1.5, None]


def test_no_attempts_is_no_restart():
    """0 means: watch it, report it, do not start it again."""
    assert policy(attempts=0).begin().add(0.0, True) is None


def test_one_policy_serves_many():
    """Each producer has its own count and its own waits."""
    shared = policy(attempts=1)
    first, second = shared.begin(), shared.begin()
    assert first.add(0.0, True) == 1.0
    assert second.add(0.0, True) == 1.0
    assert first.add(1.0, True) is None
    assert repr(shared) == "Restart(attempts=1, per=60)"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"attempts": -1}, InvalidArgumentError, "attempts must not be negative, it is -1"),
        ({"attempts": 1.5}, InvalidTypeError, "attempts must be a whole number, not 1.5"),
        ({"attempts": True}, InvalidTypeError, "attempts must be a whole number"),
        ({"per": 0}, InvalidArgumentError, "per must be positive and finite, it is 0"),
        ({"per": math.nan}, InvalidArgumentError, "per must be positive"),
        ({"per": math.inf}, InvalidArgumentError, "per must be positive and finite, it is inf"),
        ({"per": True}, InvalidTypeError, "per must be a number of seconds, not True"),
        ({"per": "1"}, InvalidTypeError, "per must be a number of seconds, not '1'"),
        ({"backoff": 2.0}, InvalidTypeError, "backoff must be a Backoff, not 2.0"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(options, error, said):
    """At the call, with the value."""
    with pytest.raises(error, match=said):
        Restart(**options)
