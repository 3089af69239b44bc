"""Reading a mailbox by priority, unbounded and bounded: what comes next."""

from __future__ import annotations

from operator import itemgetter
from queue import Empty, SimpleQueue

import pytest

from ate_dispatcher._mailbox import STOP, BoundedMailbox, Fence
from ate_dispatcher._ranked import Ranked

FENCE, OTHER = Fence(lambda: None), Fence(lambda: None)
rank = itemgetter(0)


def unbounded():
    mailbox = SimpleQueue()
    return mailbox.put, mailbox.put, Ranked(mailbox, rank).get


def bounded():
    mailbox = BoundedMailbox(100, "reject", lambda work: True, lambda work, why: None)
    mailbox.rank = rank
    return mailbox.deliver, mailbox.put, mailbox.get


@pytest.fixture(params=[unbounded, bounded])
def reader(request):
    """Put these messages, then give them as they are read."""
    deliver, control, get = request.param()

    def read(*messages):
        for message in messages:
            (deliver if isinstance(message, tuple) else control)(message)
        return [get() for _ in messages]

    return read


@pytest.mark.parametrize(
    ("arriving", "read"),
    [
        ([(0, "a"), (0, "b"), (0, "c")], [(0, "a"), (0, "b"), (0, "c")]),
        ([(0, "a"), (5, "b"), (-1, "c"), (5, "d")], [(5, "b"), (5, "d"), (0, "a"), (-1, "c")]),
        ([(0, "z"), (0, "a")], [(0, "z"), (0, "a")]),
    ],
)
def test_the_most_urgent_first_and_in_order_within_one_priority(reader, arriving, read):
    """C6: work of one priority keeps its order; what the work is like is not looked at."""
    assert reader(*arriving) == read


def test_work_is_never_compared(reader):
    """Two pieces of the same priority need have no order among themselves."""
    one, other = (1, object()), (1, object())
    assert reader(one, other) == [one, other]


def test_a_fence_passes_when_all_before_it_is_done(reader):
    """What is more urgent overtakes it from behind; nothing that came before it is left."""
    assert reader((0, "a"), FENCE, (5, "b"), (0, "c"), OTHER) == [
        *((5, "b"), (0, "a"), FENCE, (0, "c"), OTHER)
    ]
    assert reader(FENCE, (5, "b")) == [FENCE, (5, "b")]


def test_stop_comes_after_everything_before_it(reader):
    """And what came behind it, however urgent, comes before nothing."""
    assert reader((0, "a"), (5, "b"), FENCE, STOP, (9, "late"))[:4] == [
        *((5, "b"), (0, "a"), FENCE, STOP)
    ]


def test_stop_stays_the_last_word_and_leaves_the_rest_in_the_mailbox():
    """Whoever answers for what is left finds it there."""
    mailbox = SimpleQueue()
    ranked = Ranked(mailbox, rank)
    mailbox.put(STOP)
    mailbox.put((9, "late"))
    assert (ranked.get(), ranked.get()) == (STOP, STOP)
    assert mailbox.get_nowait() == (9, "late")


def test_the_rest_is_what_was_taken_in_and_not_given():
    """In order of arrival; it is given once."""
    mailbox = SimpleQueue()
    ranked = Ranked(mailbox, rank)
    for message in ((9, "done"), (0, "a"), FENCE, (5, "b"), OTHER):
        mailbox.put(message)
    assert ranked.get() == (9, "done")
    assert len(ranked) == 2
    assert ranked.rest() == [(0, "a"), FENCE, (5, "b"), OTHER]
    assert ranked.rest() == []
    assert len(ranked) == 0


def test_the_rest_may_have_fences_side_by_side():
    """They keep their order and are never compared, nor is work."""
    mailbox = SimpleQueue()
    ranked = Ranked(mailbox, rank)
    work = [(9, "done"), *((0, object()) for _ in range(2))]
    for message in (work[0], work[1], FENCE, OTHER, work[2], OTHER, FENCE):
        mailbox.put(message)
    assert ranked.get() is work[0]
    assert ranked.rest() == [work[1], FENCE, OTHER, work[2], OTHER, FENCE]


def test_after_the_rest_nothing_is_given():
    """Whoever gives the agent up has answered: its thread, should it come back, finds the end."""
    mailbox = SimpleQueue()
    ranked = Ranked(mailbox, rank)
    for message in ((9, "done"), (0, "a"), FENCE):
        mailbox.put(message)
    assert ranked.get() == (9, "done")
    assert ranked.rest() == [(0, "a"), FENCE]
    mailbox.put((0, "late"))
    assert ranked.get() is STOP
    assert mailbox.get_nowait() == (0, "late")


def test_what_was_waited_for_meanwhile_is_in_the_next_rest():
    """The rest was taken by another thread while this one was given a message by the mailbox."""

    class Given(Late):
        def get(self):
            assert ranked.rest() == []
            return super().get()

    ranked = Ranked(Given((0, "a")), rank)
    assert ranked.get() is STOP
    assert ranked.rest() == [(0, "a")]


class Late:
    """A mailbox that is empty whenever it is looked into, and has a message for who waits."""

    def __init__(self, *messages):
        self.messages = list(messages)

    def get_nowait(self):
        raise Empty

    def get(self):
        return self.messages.pop(0)


def test_an_empty_mailbox_is_waited_for():
    """What comes then is given, be it work, a fence or the end."""
    ranked = Ranked(Late((0, "a"), FENCE, STOP), rank)
    assert [ranked.get() for _ in range(4)] == [(0, "a"), FENCE, STOP, STOP]


def test_a_full_mailbox_lets_the_oldest_go_whatever_its_priority():
    """C10: priorities say what begins first, not who gives way."""
    dropped = []
    mailbox = BoundedMailbox(
        2, "drop_oldest", lambda work: True, lambda work, why: dropped.append(work)
    )
    mailbox.rank = rank
    for work in ((9, "a"), (0, "b"), (5, "c")):
        mailbox.deliver(work)
    assert dropped == [(9, "a")]
    assert [mailbox.get(), mailbox.get()] == [(5, "c"), (0, "b")]
    mailbox.deliver((0, "d"))
    mailbox.deliver((0, "e"))
    assert dropped == [(9, "a")]  # what was read has made room
    assert (mailbox.get(), mailbox.qsize(), mailbox._work) == ((0, "d"), 1, 1)
