"""Open requests by deadline, and what is a TTL."""

from __future__ import annotations

import inspect
import random
import sys
import warnings
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from math import inf, nan

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError
from ate_dispatcher._deadlines import Deadlines, check_ttl

# ---- what is a TTL -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [
        (1.0, 1.0),
        (250.5, 250.5),
        (inf, inf),
        (1, 1.0),
        (1000, 1000.0),
        (Fraction(5, 2), 2.5),
        (timedelta(milliseconds=1), 1.0),
        (timedelta(seconds=1.5), 1500.0),
        (timedelta(days=1), 86_400_000.0),
        (10**400, inf),
    ],
)
def test_a_ttl_is_a_float_of_milliseconds(ttl, milliseconds):
    """Numbers are milliseconds, a `timedelta` says its own unit, what no float holds is endless."""
    found = check_ttl(ttl)
    assert type(found) is float
    assert found == milliseconds


@pytest.mark.parametrize(
    "ttl", [0, 0.0, -0.0, -1, -0.5, -inf, nan, -(10**400), timedelta(0), timedelta(seconds=-1)]
)
def test_a_ttl_must_be_positive(ttl):
    """Nothing is due at once or in the past; the message shows what was given."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_ttl(ttl)
    assert str(caught.value) == f"ttl must be a positive number of milliseconds, not {ttl!r}"


@pytest.mark.parametrize("ttl", [None, "1000", True, False, [1], 1j, Decimal(5)])
def test_a_ttl_must_be_a_number_or_a_timedelta(ttl):
    """A truth value is no number here."""
    with pytest.raises(InvalidTypeError) as caught:
        check_ttl(ttl)
    assert str(caught.value) == (
        f"ttl must be a number of milliseconds or a timedelta, not {type(ttl).__name__}: {ttl!r}"
    )


@pytest.mark.parametrize("ttl", [0.5, 0.999, Fraction(1, 2), timedelta(microseconds=500)])
def test_less_than_a_millisecond_is_taken_with_a_warning(ttl):
    """Somebody meant seconds."""
    with pytest.warns(UserWarning, match="^ttl=") as told:
        found = check_ttl(ttl)
    assert 0.0 < found < 1.0
    (warning,) = told
    assert str(warning.message) == (
        f"ttl={ttl!r} is less than a millisecond; a TTL is in milliseconds, not seconds"
    )


def test_the_warning_points_at_the_call_of_our_caller():
    """That is where the seconds stand."""

    def send_request():
        return check_ttl(0.5)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        line = inspect.currentframe().f_lineno + 1
        send_request()
    (warning,) = told
    assert (warning.filename, warning.lineno) == (__file__, line)


# ---- open requests -------------------------------------------------------------------------------


class Open:
    """As much of a request as `Deadlines` looks at."""

    _line = None

    def __init__(self, ttl, sent=0.0):
        self.ttl = float(ttl)
        self.deadline = sent + self.ttl * 0.001

    def __repr__(self):
        return f"<{self.ttl:g} ms, due {self.deadline:g}>"


def expire(deadlines, now):
    """Remove what is due, as the dispatcher does, and give it."""
    due = deadlines.due(now)
    for request in due:
        deadlines.remove(request)
    return due


@pytest.fixture
def deadlines():
    return Deadlines()


def test_nothing_is_due_at_first(deadlines):
    """Without requests there is nothing to wake for."""
    assert deadlines.wake == inf
    assert deadlines.due(1e9) == []
    assert (len(deadlines), list(deadlines)) == (0, [])


def test_due_means_past_the_deadline(deadlines):
    """An answer stamped at the deadline is in time, so only after it a request is due."""
    request = Open(1000)
    deadlines.add(request)
    assert deadlines.wake == 1.0
    assert deadlines.due(0.999) == []
    assert deadlines.due(1.0) == []
    assert deadlines.wake == 1.0
    assert deadlines.due(1.001) == [request]


def test_due_requests_stay_until_they_are_removed(deadlines):
    """Whoever expires them removes them; nothing is scheduled for them any more."""
    request = Open(1000)
    deadlines.add(request)
    deadlines.due(2.0)
    assert list(deadlines) == [request]
    assert deadlines.wake == inf
    deadlines.remove(request)
    assert list(deadlines) == []


def test_requests_of_one_ttl_fall_due_one_after_the_other(deadlines):
    """Of a line only those past their deadline, and the next one is scheduled."""
    requests = [Open(1000, sent) for sent in (0.0, 1.0, 1.0, 5.0)]
    for request in requests:
        deadlines.add(request)
    assert deadlines.wake == 1.0
    assert deadlines.due(2.5) == requests[:3]
    assert deadlines.wake == 6.0
    for request in requests[:3]:
        deadlines.remove(request)
    assert deadlines.due(6.0) == []
    assert deadlines.wake == 6.0
    assert deadlines.due(6.5) == requests[3:]


def test_requests_of_several_ttls_fall_due_earliest_first(deadlines):
    """Whatever line they stand in."""
    slow, quick, later, middle = Open(4000), Open(1000), Open(1000, 4.0), Open(2000, 1.0)
    for request in (slow, quick, later, middle):
        deadlines.add(request)
    assert deadlines.wake == 1.0
    assert expire(deadlines, 4.5) == [quick, middle, slow]
    assert deadlines.wake == 5.0
    assert deadlines.due(100.0) == [later]


def test_several_of_several_lines_fall_due_earliest_first(deadlines):
    """A slow reader of the clock finds the lines interleaved."""
    requests = [Open(1000), Open(1500, 0.25), Open(1000, 1.0), Open(1500, 1.0)]
    for request in requests:
        deadlines.add(request)
    assert deadlines.due(9.0) == requests


def test_who_stands_behind_an_overdue_one_is_judged_by_itself(deadlines):
    """At its own deadline it is not due, however late its line was looked at."""
    first, second = Open(1000), Open(1000, 1.0)
    deadlines.add(first)
    deadlines.add(second)
    assert expire(deadlines, 2.0) == [first]
    assert deadlines.wake == 2.0
    assert expire(deadlines, 2.5) == [second]


def test_lines_of_one_deadline_fall_due_together(deadlines):
    """In the order in which they were taken up."""
    requests = [Open(ttl, 4.0 - ttl / 1000) for ttl in (3000, 1000, 4000, 2000)]
    for request in requests:
        deadlines.add(request)
    assert {request.deadline for request in requests} == {4.0}
    assert deadlines.due(5.0) == requests


def test_a_later_deadline_does_not_move_the_waking(deadlines):
    """`wake` is the earliest of all."""
    deadlines.add(Open(1000))
    deadlines.add(Open(9000))
    assert deadlines.wake == 1.0
    deadlines.add(Open(500))
    assert deadlines.wake == 0.5


def test_a_request_without_a_deadline_is_kept_and_never_due(deadlines):
    """A TTL of `inf` is never scheduled."""
    endless, others = Open(inf), Open(1000)
    deadlines.add(endless)
    assert deadlines.wake == inf
    deadlines.add(others)
    assert deadlines.due(1e300) == [others]
    assert deadlines.wake == inf
    assert list(deadlines) == [endless, others]
    deadlines.remove(endless)
    assert list(deadlines) == [others]
    assert deadlines._heads == []


def test_a_request_heard_out_of_order_still_falls_due_in_time(deadlines):
    """Two threads stamped in one order and were heard in the other."""
    first, second, third = Open(1000, 1.0), Open(1000, 0.0), Open(1000, 2.0)
    for request in (first, second, third):
        deadlines.add(request)
    assert deadlines.wake == 1.0
    assert len(deadlines) == 3
    assert set(deadlines) == {first, second, third}
    assert deadlines.due(1.5) == [second]
    deadlines.remove(second)
    assert list(deadlines) == [first, third]
    assert deadlines.due(2.5) == [first]
    deadlines.remove(first)
    assert deadlines.due(3.5) == [third]


def test_the_last_of_a_line_says_who_is_out_of_order(deadlines):
    """After a newer request one between the two is out of order too, even if the newest is gone."""
    oldest, newest, between = Open(1000, 0.0), Open(1000, 2.0), Open(1000, 1.0)
    deadlines.add(oldest)
    deadlines.add(newest)
    deadlines.add(between)
    assert expire(deadlines, 2.5) == [oldest, between]
    assert deadlines.due(3.5) == [newest]


def test_requests_of_one_deadline_share_a_line(deadlines):
    """The same stamp twice is in order, so it costs nothing in the heap."""
    deadlines.add(Open(1000))
    deadlines.add(Open(1000))
    assert len(deadlines._heads) == 1


def test_an_ended_request_is_forgotten_at_once(deadlines):
    """It is neither listed nor due; the next of its line falls due in its own time."""
    ended, goes_on = Open(1000), Open(1000, 1.0)
    deadlines.add(ended)
    deadlines.add(goes_on)
    deadlines.remove(ended)
    assert (len(deadlines), list(deadlines)) == (1, [goes_on])
    assert deadlines.due(1.5) == []
    assert deadlines.wake == 2.0
    assert deadlines.due(2.5) == [goes_on]


def test_a_ttl_may_come_back_after_its_line_was_emptied(deadlines):
    """What is left of the old line in the heap is passed over."""
    old, new = Open(1000), Open(1000, 0.5)
    deadlines.add(old)
    deadlines.remove(old)
    assert list(deadlines) == []
    deadlines.add(new)
    assert deadlines.due(1.2) == []
    assert deadlines.wake == 1.5
    assert deadlines.due(2.0) == [new]


def test_removing_one_that_was_out_of_order_leaves_the_others(deadlines):
    """And the other way round: the line of its TTL may go first."""
    for gone in (0, 1):
        requests = [Open(1000, 1.0), Open(1000, 0.0)]
        for request in requests:
            deadlines.add(request)
        deadlines.remove(requests.pop(gone))
        assert list(deadlines) == requests
        assert deadlines.due(5.0) == requests
        deadlines.remove(requests[0])
        assert (len(deadlines), list(deadlines)) == (0, [])
        assert (deadlines._lines, deadlines._strays) == ({}, {})


def test_open_requests_may_be_removed_while_they_are_gone_through(deadlines):
    """A stop ends them one by one."""
    requests = [Open(1000), Open(1000, 1.0), Open(2000), Open(1000, 0.5)]
    for request in requests:
        deadlines.add(request)
    met = []
    for request in deadlines:
        deadlines.remove(request)
        met.append(request)
    assert met == requests
    assert len(deadlines) == 0


def test_lines_that_emptied_leave_the_heap(deadlines):
    """C12: when they are the majority, and `wake` is exact again."""
    for count in range(17):
        request = Open(1000 + count)
        deadlines.add(request)
        deadlines.remove(request)
        assert len(deadlines._heads) == (count + 1) % 17
    assert deadlines.wake == inf
    kept = [Open(9000), Open(8000, 3.0), Open(9000, -1.0)]
    for request in kept:
        deadlines.add(request)
    for count in range(2 * 3 + 16 - 3):
        request = Open(1000 + count)
        deadlines.add(request)
        deadlines.remove(request)
        assert len(deadlines._heads) == 3 + count + 1
    assert deadlines.wake == 1.0
    request = Open(500)
    deadlines.add(request)
    deadlines.remove(request)
    assert len(deadlines._heads) == 3
    assert deadlines.wake == 8.0
    assert deadlines.due(20.0) == [kept[2], kept[0], kept[1]]


def test_the_heap_is_still_one_after_the_tidying(deadlines):
    """Every deadline is met, however many lines were emptied in between."""
    requests = [Open(ttl) for ttl in range(1000, 1100)]
    random.Random(5).shuffle(requests)
    for request in requests:
        deadlines.add(request)
    kept = requests[::5]
    for request in requests:
        if request not in kept:
            deadlines.remove(request)
    assert len(deadlines._heads) < 60
    kept.sort(key=lambda request: request.deadline)
    for request in kept:
        assert deadlines.wake <= request.deadline
        assert deadlines.due(request.deadline) == []
        assert deadlines.due(request.deadline + 0.0005) == [request]
        deadlines.remove(request)
    assert deadlines.due(10.0) == []
    assert deadlines._heads == []


def test_an_emptied_line_keeps_no_room(deadlines):
    """C12: what a line once held is not what it costs, even while it stands in the heap."""
    requests = [Open(1000) for _ in range(100)]
    for request in requests:
        deadlines.add(request)
    held = requests[0]._line.requests
    for request in requests:
        deadlines.remove(request)
    assert requests[0]._line.requests is not held
    assert requests[0]._line.requests == {}


def test_deadlines_agree_with_a_sorted_list():
    """Any history of adding, removing and time passing gives what a sorted list would give."""
    pytest.importorskip("hypothesis", reason="property tests need hypothesis (extra dev)")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    ttls = st.sampled_from((1000.0, 2000.0, 3000.0, inf))
    steps = st.lists(
        st.one_of(
            st.tuples(st.just("add"), ttls, st.integers(0, 2)),
            st.tuples(st.just("remove"), st.integers(0, 9), st.none()),
            st.tuples(st.just("pass"), st.integers(0, 2), st.none()),
        ),
        max_size=40,
    )

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(steps)
    def agrees(steps):
        deadlines, model, now = Deadlines(), [], 0.0
        for what, amount, ago in steps:
            if what == "add":
                model.append(Open(amount, now - 0.5 * ago))
                deadlines.add(model[-1])
            elif what == "remove" and model:
                deadlines.remove(model.pop(amount % len(model)))
            elif what == "pass":
                now += 0.5 * amount
                due = sorted((r for r in model if r.deadline < now), key=lambda r: r.deadline)
                given = deadlines.due(now)
                assert [r.deadline for r in given] == [r.deadline for r in due]
                assert set(given) == set(due)
                for request in given:
                    deadlines.remove(request)
                    model.remove(request)
            assert deadlines.wake <= min((r.deadline for r in model), default=inf)
            assert len(deadlines) == len(model)
            assert set(deadlines) == set(model)

    agrees()


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_whole_number_beyond_every_float(digits):
    """It is no deadline at all, or no TTL, which is shown if it has a repr."""
    assert check_ttl(10**digits) == inf
    with pytest.raises(InvalidArgumentError) as caught:
        check_ttl(-(10**digits))
    shown = "-1" + "0" * digits
    if digits > 4300 and hasattr(sys, "get_int_max_str_digits"):
        shown = "a negative number of thousands of digits"
    assert str(caught.value) == f"ttl must be a positive number of milliseconds, not {shown}"


def test_a_snapshot_has_every_open_request_and_stays_as_it_is():
    """Strays and those without a deadline too; what ends afterwards changes nothing in it."""
    deadlines = Deadlines()
    requests = [Open(100, 5.0), Open(100, 4.0), Open(100, 6.0), Open(200, 9.0), Open(inf)]
    for request in requests:
        deadlines.add(request)
    snapshot = deadlines.snapshot()
    for request in requests:
        deadlines.remove(request)
    assert set(snapshot) == set(requests)
    assert len(snapshot) == 5
    assert deadlines.snapshot() == []
