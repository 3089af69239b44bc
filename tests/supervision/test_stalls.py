"""When a producer counts as stalled, and when to look next: no thread, no clock."""

from __future__ import annotations

import math

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError
from ate_dispatcher.supervision._stalls import Look, StallWatch


def test_work_is_stalled_once_it_has_taken_so_long():
    """Not a moment before; the next look is when it would be."""
    watch = StallWatch(5.0)
    assert watch.look(12.0, 10.0, 0) == Look(False, 15.0)
    assert watch.look(14.9, 10.0, 0) == Look(False, 15.0)
    assert watch.look(15.0, 10.0, 0) == Look(True, None)


def test_the_next_piece_of_work_has_its_own_time():
    """A busy producer is no stalled one."""
    watch = StallWatch(5.0)
    assert watch.look(15.0, 14.0, 3) == Look(False, 19.0)


def test_an_idle_producer_is_left_alone_after_a_second_look():
    """No polling while nothing runs."""
    watch = StallWatch(5.0)
    assert watch.look(10.0, None, 0) == Look(False, 15.0)
    assert watch.look(15.0, None, 0) == Look(False, None)


def test_work_in_the_mailbox_or_in_between_is_looked_at_again():
    """What it is given between two looks starts the count anew."""
    watch = StallWatch(5.0)
    assert watch.look(10.0, None, 0).again == 15.0
    assert watch.look(15.0, None, 1).again == 20.0
    assert watch.look(20.0, None, 0).again == 25.0
    assert watch.look(25.0, 24.0, 0).again == 29.0
    assert watch.look(29.0, None, 0).again == 34.0
    assert watch.look(34.0, None, 0).again is None


@pytest.mark.parametrize("after", [0, -1, math.inf, math.nan])
def test_a_time_that_cannot_be_meant_is_refused(after):
    """At the call, with the value."""
    with pytest.raises(InvalidArgumentError, match="stall_after must be positive and finite"):
        StallWatch(after)


@pytest.mark.parametrize("after", ["1", True, None])
def test_a_time_that_is_no_number_is_refused(after):
    """The same."""
    with pytest.raises(InvalidTypeError, match="stall_after must be a number of seconds"):
        StallWatch(after)
