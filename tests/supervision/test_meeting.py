"""Which sites a barrier waits for, and whether they agree: no thread, no clock."""

from __future__ import annotations

import pytest

from ate_dispatcher import InvalidArgumentError, SiteBarrierError
from ate_dispatcher.supervision._meeting import Arrival, Rendezvous, missing_words


def come(rendezvous, *sites, args=(), **options):
    for site in sites:
        rendezvous.arrive(Arrival(site, args, **options))


def test_a_meeting_is_complete_when_all_sites_have_come():
    """In whatever order; one caller gets it, and the next one has begun."""
    rendezvous = Rendezvous([0, 1, 2])
    come(rendezvous, 2, 0)
    assert rendezvous.take() is None
    assert rendezvous.missing() == {1}
    come(rendezvous, 1)
    meeting = rendezvous.take()
    assert list(meeting.arrivals) == [2, 0, 1]
    assert rendezvous.take() is None
    assert rendezvous.missing() == {0, 1, 2}


def test_nobody_is_waited_for_but_those_named():
    """An empty meeting is none, even with everybody disabled."""
    rendezvous = Rendezvous([0])
    rendezvous.disable(0)
    assert rendezvous.take() is None


def test_without_sites_those_of_the_requests_take_part():
    """All that those who have come know of, together."""
    rendezvous = Rendezvous()
    come(rendezvous, 0, there=[0, 1])
    assert rendezvous.missing() == {1}
    come(rendezvous, 1, there=[0, 1, 7])
    assert rendezvous.missing() == {7}


def test_a_disabled_site_leaves_this_meeting_and_all_later_ones():
    """Until it is enabled again; if it waits, it is given back to be told."""
    rendezvous = Rendezvous([0, 1])
    come(rendezvous, 0)
    assert rendezvous.disable(1) is None
    assert list(rendezvous.take().arrivals) == [0]
    come(rendezvous, 0)
    assert rendezvous.disable(0).site == 0
    assert rendezvous.take() is None
    rendezvous.enable(1)
    assert rendezvous.missing() == {1}


def test_a_site_that_left_is_expected_at_the_next_meeting():
    """It had no more producer at work on the request; the next request is another."""
    rendezvous = Rendezvous([0, 1])
    come(rendezvous, 0)
    rendezvous.leave(rendezvous.meeting, 1, "dmm1: ERROR")
    assert rendezvous.take().left == {1: "dmm1: ERROR"}
    come(rendezvous, 0)
    assert rendezvous.take() is None


def test_who_leaves_a_meeting_that_is_over_leaves_no_other():
    """What is told late does not count for the present one; nor does who has come."""
    rendezvous = Rendezvous([0, 1])
    come(rendezvous, 0)
    over = rendezvous.close()
    rendezvous.leave(over, 1, "late")
    come(rendezvous, 0)
    rendezvous.leave(rendezvous.meeting, 0, "it is here")
    assert rendezvous.missing() == {1}


@pytest.mark.parametrize(
    ("site", "said"),
    [
        (None, "only a producer with a site="),
        (5, "site 5 is none of this barrier's, which are 0, 1, 'left'"),
        ("left", "site 'left' is disabled at this barrier"),
        (0, "site 0 waits at this barrier already"),
    ],
)
def test_who_has_no_business_here_is_told(site, said):
    """At once, not at the deadline."""
    rendezvous = Rendezvous([0, 1, "left"])
    come(rendezvous, 0)
    rendezvous.disable("left")
    with pytest.raises(SiteBarrierError, match=said):
        come(rendezvous, site)


def test_a_site_that_is_unknown_cannot_be_disabled():
    """A misspelt site would otherwise go on being waited for."""
    rendezvous = Rendezvous([0, 1])
    with pytest.raises(InvalidArgumentError, match="site 2 is none of this barrier's"):
        rendezvous.disable(2)
    with pytest.raises(InvalidArgumentError, match="site 2 is none of this barrier's"):
        rendezvous.enable(2)


def test_equal_arguments_are_the_same_whatever_they_are():
    """Compared by ``==``, positional and by keyword."""
    rendezvous = Rendezvous([0, 1])
    come(rendezvous, 0, args=([1, 2],), kwargs={"soak": 30})
    come(rendezvous, 1, args=([1, 2.0],), kwargs={"soak": 30})
    assert rendezvous.take().differing() == ""


def test_differing_arguments_are_told_with_who_came_with_them():
    """Grouped, so that the odd one out is seen."""
    rendezvous = Rendezvous([0, 1, 2])
    come(rendezvous, 0, 2, args=(85,))
    come(rendezvous, 1, args=(25,), kwargs={"soak": 30})
    assert rendezvous.take().differing() == (
        "the arguments differ: sites 0, 2 with (85), site 1 with (25, soak=30)"
    )


def test_who_is_missing_is_told_with_who_left():
    """In words."""
    assert missing_words({3, 1}, {}) == "sites 1, 3 did not come"
    assert missing_words((), {2: "dmm2: ERROR"}) == "site 2 had left (dmm2: ERROR)"
