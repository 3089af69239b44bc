"""When a producer counts as stalled, and when to look next: no thread, no clock."""

from __future__ import annotations

import math

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError
from ate_dispatcher.supervision._stalls import StallWatch


def test_work_is_stalled_once_it_has_taken_so_long():
    """Not a moment before; the next look is when it would be."""
    watch = StallWatch(5.0)
    assert watch.look(12.0, 10.0) == 15.0
    assert watch.look(14.9, 10.0) == 15.0
    assert watch.look(15.0, 10.0) is None
    assert watch.look(15.1, 10.0) is None


def test_the_next_piece_of_work_has_its_own_time():
    """A busy producer is no stalled one."""
    assert StallWatch(5.0).look(15.0, 14.0) == 19.0


def test_what_is_in_no_hook_is_never_stalled():
    """It may be about to begin, so it is looked at again."""
    watch = StallWatch(5.0)
    assert [watch.look(now, None) for now in (10.0, 15.0, 20.0)] == [15.0, 20.0, 25.0]


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
