"""Named resources: their names, who has what, and who is next; no thread waits here."""

from __future__ import annotations

from operator import attrgetter

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError, Producer
from ate_dispatcher._address import Address
from ate_dispatcher._resources import Hold, Resources, Wait, check_resources
from ate_dispatcher._waiting import Waiter


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
        (("",), InvalidArgumentError, "^the name of a resource must not be empty$"),
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


def test_a_wait_is_read_by_others():
    """For whose request, for what, and since when."""
    request = object()
    wait = Wait(Resources(), request, "GPIB0", 5.0)
    assert (wait.request, wait.resource, wait.since) == (request, "GPIB0", 5.0)


def test_in_the_child_of_a_fork_everything_is_free():
    """Whoever had something is not here; the one thread that is gives back what it had in peace."""
    resources = Resources()
    mine, other, waiting = hold("mine", "a"), hold("other", "b"), hold("waiting", "a", "b")
    for each in (mine, other, waiting):
        resources.take(each)
    resources.forget()
    assert (resources.holder("a"), resources.holder("b")) == (None, None)
    resources.release(waiting)
    resources.release(mine)
    assert resources.take(hold("anew", "a", "b")) is None


# ---- waiting, step by step -----------------------------------------------------------------------


class Request:
    """As much of a request as somebody who waits looks at."""

    def __init__(self):
        self.waiter = Waiter()

    def _waiter(self):
        return self.waiter


class Scripted(Hold):
    """Its sleep is a step of the test's story, which must ring it: no thread waits."""

    __slots__ = ("story",)

    def sleep(self):
        next(self.story)
        self._bell.get_nowait()


class Bench:
    """Somebody who acquires "a", "b" and "c", and others who have some of them."""

    def __init__(self, *names):
        self.resources = Resources()
        self.request = Request()
        self.mine = Scripted(Address("mine"), check_resources(names))
        self.others = {}
        self.off = False
        self.time = 5.0

    def held(self, owner, *names):
        other = self.others[owner] = hold(owner, *names)
        assert self.resources.take(other) is None

    def release(self, owner):
        self.resources.release(self.others.pop(owner))

    def clock(self):
        self.time += 1.0
        return self.time

    def acquire(self, story=None):
        self.mine.story = story
        return self.resources.acquire(self.mine, self.request, lambda: self.off, self.clock)

    def owners(self):
        found = (self.resources.holder(name) for name in self.mine.names)
        return [None if address is None else address.name for address in found]

    def is_left_in_peace(self):
        """Nobody is shown to wait, and the end of the request rings no bell."""
        self.request.waiter.finish()
        return self.mine.owner.waiting is None and self.mine._bell.empty()


WAIT = attrgetter("request", "resource", "since")


def test_what_is_free_is_acquired_at_once():
    """Nobody waits, even if the work is wanted no more: whoever does it asks again."""
    bench = Bench("a", "b")
    bench.off = True
    bench.request = None
    assert bench.acquire() is True
    assert bench.owners() == ["mine", "mine"]
    assert (bench.time, bench.mine.owner.waiting) == (5.0, None)


def test_what_is_not_free_is_waited_for_one_after_the_other():
    """Everybody can read for what, and since when; in the end nobody is shown to wait."""
    bench = Bench("a", "b", "c")
    bench.held("one", "a")
    bench.held("two", "c")

    def story():
        waiting = bench.mine.owner.waiting
        assert WAIT(waiting) == (bench.request, "a", 6.0)
        assert waiting.describe() == "waiting for resource 'a', held by 'one'"
        bench.mine.ring()  # whatever rang: it is looked again, and waited on
        yield
        assert WAIT(bench.mine.owner.waiting) == (bench.request, "a", 6.0)
        bench.release("one")
        yield
        assert WAIT(bench.mine.owner.waiting) == (bench.request, "c", 7.0)
        assert bench.owners() == ["mine", "mine", "two"]
        bench.release("two")
        yield

    assert bench.acquire(story()) is True
    assert bench.owners() == ["mine", "mine", "mine"]
    assert bench.is_left_in_peace()


def test_the_end_of_the_request_wakes_who_waits():
    """It gets nothing, hands on what it had, and leaves the line."""
    bench = Bench("a", "b")
    bench.held("one", "b")

    def story():
        assert bench.owners() == ["mine", "one"]
        bench.off = True
        bench.request.waiter.finish()
        yield

    assert bench.acquire(story()) is False
    assert bench.owners() == [None, "one"]
    assert bench.mine.owner.waiting is None
    assert bench.resources._lines == {}
    bench.release("one")
    assert bench.owners() == [None, None]


@pytest.mark.parametrize("ended", [True, False])
def test_work_that_is_wanted_no_more_does_not_wait(ended):
    """Be it that its request has ended, or that the producer is told to end."""
    bench = Bench("a", "b")
    bench.held("one", "b")
    if ended:
        bench.request.waiter.finish()
    else:
        bench.off = True
    assert bench.acquire() is False
    assert bench.owners() == [None, "one"]
    assert bench.time == 5.0
    assert bench.resources._lines == {}
    assert bench.is_left_in_peace()


def test_what_was_handed_on_in_the_last_moment_is_kept():
    """It has all of them, so it is for whoever does the work to ask whether it is wanted."""
    bench = Bench("a")
    bench.held("one", "a")

    def story():
        bench.off = True
        bench.release("one")
        yield

    assert bench.acquire(story()) is True
    assert bench.owners() == ["mine"]
    assert bench.is_left_in_peace()


def test_an_interrupted_wait_leaves_nothing_behind():
    """Whatever is raised, the others get what it had, and it stands in no line."""
    bench = Bench("a", "b")
    bench.held("one", "b")

    def story():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        bench.acquire(story())
    assert bench.owners() == [None, "one"]
    assert bench.resources._lines == {}
    assert bench.is_left_in_peace()


def test_what_had_to_wait_says_since_when_and_for_what():
    """The first wait tells since when; each of them for what, and who had it."""
    resources = Resources()
    first, second, own = hold("smu", "a"), hold("dmm", "b"), hold("me", "a", "b")
    assert own.waited is None
    resources.take(first)
    resources.take(second)
    own.has_waited(Wait(resources, None, "a", 3.0))
    assert own.waited == (3.0, "waiting for resource 'a', held by 'smu'")
    own.has_waited(Wait(resources, None, "b", 4.0))
    assert own.waited == (
        3.0,
        "waiting for resource 'a', held by 'smu'; waiting for resource 'b', held by 'dmm'",
    )
