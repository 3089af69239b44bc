"""The waits between attempts: they double up to a cap, with a share left to chance."""

from __future__ import annotations

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError
from ate_dispatcher.supervision import Backoff


def never():
    """Draw 0: nothing is taken away from a wait."""
    return 0.0


def half():
    return 0.5


def waits(backoff, count):
    return [backoff.next() for _ in range(count)]


def test_the_waits_double_up_to_the_cap():
    """No wait exceeds it, the last one before it included."""
    backoff = Backoff(1.0, 6.0, draw=never)
    assert waits(backoff, 5) == [1.0, 2.0, 4.0, 6.0, 6.0]


def test_without_arguments():
    """Half a second, doubling up to thirty seconds, and up to half of each wait is left out."""
    plain = Backoff()
    assert (plain.first, plain.cap, plain.factor, plain.jitter) == (0.5, 30.0, 2.0, 0.5)
    for whole in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        assert whole / 2 <= plain.next() <= whole


@pytest.mark.parametrize(
    ("factor", "expected"), [(1, [2.0, 2.0, 2.0]), (1.5, [2.0, 3.0, 4.5]), (10, [2.0, 9.0, 9.0])]
)
def test_the_factor(factor, expected):
    """One means that all waits are the same."""
    assert waits(Backoff(2.0, 9.0, factor=factor, draw=never), 3) == expected


@pytest.mark.parametrize(
    ("jitter", "expected"), [(0, [4.0, 8.0]), (0.5, [3.0, 6.0]), (1, [2.0, 4.0])]
)
def test_the_jitter_takes_its_share_away(jitter, expected):
    """Of the wait at hand alone: the following one doubles the whole."""
    assert waits(Backoff(4.0, 60.0, jitter=jitter, draw=half), 2) == expected


def test_after_a_success_the_waits_begin_again():
    """With the first, or with the one that is asked for; that one doubles too, under the cap."""
    backoff = Backoff(1.0, 6.0, draw=never)
    waits(backoff, 3)
    backoff.reset()
    assert waits(backoff, 2) == [1.0, 2.0]
    backoff.reset(2.5)
    assert waits(backoff, 2) == [2.5, 5.0]
    backoff.reset(100.0)
    assert waits(backoff, 2) == [6.0, 6.0]
    backoff.reset()
    assert waits(backoff, 1) == [1.0]


def test_the_first_wait_may_be_the_cap():
    """Then all waits are the same."""
    assert waits(Backoff(3.0, 3.0, draw=never), 2) == [3.0, 3.0]


NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        *(
            (
                waits,
                {},
                "the first wait must be positive and not above the cap: "
                f"first={waits[0]}, cap={waits[1]}",
            )
            for waits in ((0, 1.0), (-1.0, 1.0), (2.0, 1.5), (NAN, 1.0), (1.0, NAN))
        ),
        *(
            ((), {"factor": factor}, f"factor must be at least 1, not {factor}")
            for factor in (0.99, 0, -2, NAN)
        ),
        *(
            ((), {"jitter": jitter}, f"jitter must be between 0 and 1, not {jitter}")
            for jitter in (-0.01, 1.01, 2, NAN)
        ),
    ],
)
def test_waits_that_cannot_be_meant_are_refused(arguments, options, said):
    """When it is made, with what was given."""
    with pytest.raises(InvalidArgumentError) as caught:
        Backoff(*arguments, **options)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": "1"}, "first must be a number of seconds, not '1'"),
        ({"cap": None}, "cap must be a number of seconds, not None"),
        ({"factor": True}, "factor must be a number, not True"),
        ({"jitter": [0]}, r"jitter must be a number, not \[0\]"),
        ({"draw": 0.5}, "draw must be callable, not 0.5"),
    ],
)
def test_what_is_no_wait_at_all_is_refused(options, said):
    """When it is made, with what was given."""
    with pytest.raises(InvalidTypeError, match=said):
        Backoff(**options)
