"""Named resources: their names, who has what, and who is next; no thread waits here."""

from __future__ import annotations

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError, Producer
from ate_dispatcher._address import Address
from ate_dispatcher._resources import Hold, Resources, Wait, check_resources


def hold(owner, *names):
    return Hold(Address(owner), check_resources(names))


def test_names_are_sorted_and_each_is_taken_once():
    """The order is the same for everybody: nobody waits in a circle."""
    assert check_resources(("b", "a", "b")) == ("a", "b")
    assert check_resources(name for name in ("GPIB0",)) == ("GPIB0",)
    assert check_resources([]) == ()


@pytest.mark.parametrize(
    ("resources", "error", "said"),
    [
        ("GPIB0", InvalidTypeError, r"not the string 'GPIB0': write \('GPIB0',\)"),
        ((7,), InvalidTypeError, "must be a string, not 7"),
        ((b"GPIB0",), InvalidTypeError, "must be a string, not b'GPIB0'"),
        (("",), InvalidArgumentError, "must not be empty"),
        (7, InvalidTypeError, "a list of names, not 7"),
        (None, InvalidTypeError, "a list of names, not None"),
    ],
)
def test_what_is_no_list_of_names_is_refused(resources, error, said):
    """A string is not taken for a list of letters; the producer says so when it is made."""
    with pytest.raises(error, match=said):
        check_resources(resources)
    with pytest.raises(error, match=said):
        Producer(resources=resources)


def test_what_is_free_is_taken_and_what_is_not_is_named():
    """In order, up to the first that somebody else has."""
    resources = Resources()
    one, other = hold("one", "b"), hold("other", "a", "b", "c")
    assert resources.take(one) is None
    assert resources.take(other) == "b"
    assert resources.holder("a") is other.owner
    assert resources.holder("b") is one.owner
    assert resources.holder("c") is None
    assert resources.take(other) == "b"  # looked again: still not, and in line once
    resources.release(one)
    assert resources.holder("b") is other.owner
    assert resources.take(other) is None
    resources.release(other)
    assert (resources._holders, resources._lines) == ({}, {})


def test_who_came_first_is_next():
    """Handed on in the order of the line, to one at a time, who is told."""
    resources = Resources()
    first, second, third = (hold(name, "a") for name in ("first", "second", "third"))
    assert [resources.take(h) for h in (first, second, third)] == [None, "a", "a"]
    resources.release(first)
    assert resources.holder("a") is second.owner
    second.sleep()  # it was rung, or this would never return
    assert third._bell.empty()
    assert resources.take(third) == "a"
    assert resources.take(second) is None
    resources.release(second)
    assert resources.take(third) is None
    resources.release(third)
    assert (resources._holders, resources._lines) == ({}, {})


def test_who_gives_up_leaves_the_line_and_hands_on_what_it_has():
    """Be it in line, or given what it waited for in the very moment."""
    resources = Resources()
    holder, quitter, late, last = (hold(n, "a", "b") for n in ("holder", "quitter", "late", "last"))
    only_a = hold("only a", "a")
    for each in (holder, quitter, late, last):
        resources.take(each)
    assert resources.take(only_a) == "a"
    resources.release(quitter)
    resources.release(holder)
    assert resources.holder("a") is late.owner
    resources.release(late)  # without having looked
    assert resources.holder("a") is last.owner
    resources.release(last)
    assert resources.take(only_a) is None
    resources.release(only_a)
    assert (resources._holders, resources._lines) == ({}, {})


def test_a_wait_says_for_what_and_who_has_it():
    """The holder is looked up when it is asked for; it may have gone."""
    resources = Resources()
    one = hold("scope", "GPIB0")
    resources.take(one)
    wait = Wait(resources, object(), "GPIB0", 5.0)
    assert wait.describe() == "waiting for resource 'GPIB0', held by 'scope'"
    resources.release(one)
    assert wait.describe() == "waiting for resource 'GPIB0'"
