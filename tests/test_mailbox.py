"""The bounded mailbox: who gives way when it is full."""

from __future__ import annotations

import threading
from queue import Empty

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError
from ate_dispatcher._mailbox import LOOK, OVERFLOWS, STOP, BoundedMailbox, Fence

BOUND = 60  # seconds that anything may take before a test gives up on it


class Box(BoundedMailbox):
    """A mailbox that keeps what gave way, in which work can expire."""

    def __init__(self, capacity, overflow="reject"):
        self.expired = set()
        self.dropped = []
        super().__init__(capacity, overflow, self.still_waits, self.drop)

    def still_waits(self, work):
        return work not in self.expired

    def drop(self, work, reason):
        self.dropped.append((work, reason))

    def rest(self):
        """Take everything out."""
        return [self.get_nowait() for _ in range(self.qsize())]


def filled(capacity, overflow, *work):
    """Make a mailbox with some work in it."""
    box = Box(capacity, overflow)
    for piece in work:
        box.deliver(piece)
    assert box.dropped == []
    return box


# ---- making one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", ["reject", "drop_oldest", "latest"])
def test_a_mailbox_has_a_capacity_and_a_policy(overflow):
    """Both can be read, and it begins empty."""
    assert overflow in OVERFLOWS
    assert len(OVERFLOWS) == 3
    box = Box(1, overflow)
    assert (box.capacity, box.overflow) == (1, overflow)
    assert (box.qsize(), box.empty()) == (0, True)


@pytest.mark.parametrize("capacity", [None, 1.0, "1", True, False])
def test_a_capacity_must_be_a_whole_number(capacity):
    """A truth value is no number here."""
    with pytest.raises(InvalidTypeError) as caught:
        Box(capacity)
    assert str(caught.value) == f"capacity must be a whole number, not {capacity!r}"


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_must_have_room(capacity):
    """A mailbox that takes no work is a mistake."""
    with pytest.raises(InvalidArgumentError) as caught:
        Box(capacity)
    assert str(caught.value) == f"capacity must be at least 1, not {capacity}"


@pytest.mark.parametrize("overflow", ["block", "", None, "Reject"])
def test_a_policy_must_be_known(overflow):
    """The message names those there are."""
    with pytest.raises(InvalidArgumentError) as caught:
        Box(1, overflow)
    assert str(caught.value) == (
        f"overflow must be one of reject, drop_oldest, latest, not {overflow!r}"
    )


# ---- in and out ----------------------------------------------------------------------------------


def test_messages_come_out_in_the_order_they_went_in():
    """C6: work and control messages alike."""
    box = Box(3)
    box.deliver("one")
    box.put(STOP)
    box.deliver("two")
    assert (box.qsize(), box.empty()) == (3, False)
    assert [box.get(), box.get_nowait(), box.get(block=False)] == ["one", STOP, "two"]
    assert (box.qsize(), box.empty()) == (0, True)


def test_an_empty_mailbox_says_so_to_who_will_not_wait():
    """As `queue.SimpleQueue` does, so that either can be an agent's."""
    box = Box(1)
    with pytest.raises(Empty):
        box.get_nowait()
    with pytest.raises(Empty):
        box.get(block=False)
    box.put(None)
    assert box.get_nowait() is None


def test_control_messages_never_count():
    """C10: neither do they fill the mailbox, nor are they dropped."""
    for overflow in OVERFLOWS:
        box = Box(1, overflow)
        for number in range(3):
            box.put(number)
        box.deliver("work")
        box.put(3)
        assert box.dropped == []
        assert box.rest() == [0, 1, 2, "work", 3]


def test_what_was_taken_makes_room():
    """C10: work that waits counts, not work that was begun; a control message makes none."""
    box = filled(2, "reject", "one", "two")
    box.put(STOP)
    assert box.get() == "one"
    box.deliver("three")
    assert box.dropped == []
    assert [box.get(), box.get()] == ["two", STOP]
    box.deliver("four")
    assert box.dropped == []
    box.deliver("five")
    assert [work for work, _ in box.dropped] == ["five"]
    assert box.rest() == ["three", "four"]


# ---- who gives way -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overflow", "gone", "left"),
    [
        ("reject", ["new"], ["one", "two", "three"]),
        ("drop_oldest", ["one"], ["two", "three", "new"]),
        ("latest", ["one", "two", "three"], ["new"]),
    ],
)
def test_who_gives_way_when_it_is_full(overflow, gone, left):
    """C10: the newcomer, the oldest, or all that waits; each is told of with the reason."""
    box = filled(3, overflow, "one", "two", "three")
    box.deliver("new")
    reason = f"mailbox full (3, overflow={overflow})"
    assert box.dropped == [(work, reason) for work in gone]
    assert box.qsize() == len(left)
    assert box.rest() == left


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_control_messages_keep_their_place_when_work_gives_way(overflow):
    """C10: a fence is passed when all before it is done, whatever became of that."""
    box = Box(2, overflow)
    box.put("first")
    box.deliver("one")
    box.put("middle")
    box.deliver("two")
    box.put("last")
    box.deliver("new")
    assert (
        box.rest()
        == {
            "reject": ["first", "one", "middle", "two", "last"],
            "drop_oldest": ["first", "middle", "two", "last", "new"],
            "latest": ["first", "middle", "last", "new"],
        }[overflow]
    )


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_a_mailbox_stays_full_as_long_as_nobody_reads(overflow):
    """C10: every newcomer has somebody give way, and nothing is lost without a word."""
    box = Box(2, overflow)
    for number in range(10):
        box.deliver(number)
    gone = [work for work, _ in box.dropped]
    left = box.rest()
    assert sorted(gone + left) == list(range(10))
    assert left == {"reject": [0, 1], "drop_oldest": [8, 9], "latest": [8, 9]}[overflow]
    assert gone == sorted(gone)


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_a_mailbox_of_one(overflow):
    """The smallest there is; the count is right again after each overflow."""
    box = filled(1, overflow, "one")
    box.deliver("two")
    box.deliver("three")
    assert box.rest() == (["one"] if overflow == "reject" else ["three"])
    box.deliver("four")
    assert len(box.dropped) == 2
    assert box.rest() == ["four"]


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_work_that_needs_no_doing_makes_room_first(overflow):
    """What expired in the mailbox leaves without a word, and nobody else gives way."""
    box = filled(3, overflow, "one", "two", "three")
    box.put(STOP)
    box.expired = {"one", "three"}
    box.deliver("four")
    assert box.dropped == []
    box.deliver("five")
    assert box.dropped == []
    assert box.rest() == ["two", STOP, "four", "five"]


def test_work_that_needs_no_doing_waits_while_there_is_room():
    """Only a full mailbox is gone through; who takes such work passes over it."""
    box = filled(2, "reject", "one")
    box.expired = {"one"}
    box.deliver("two")
    assert box.rest() == ["one", "two"]


def test_control_messages_are_not_asked_whether_they_wait():
    """Only work can be over; a message that looks like some stays."""
    box = filled(1, "latest", "one")
    box.put("two")
    box.expired = {"one", "two"}
    box.deliver("three")
    assert box.dropped == []
    assert box.rest() == ["two", "three"]


@pytest.mark.parametrize("overflow", ["drop_oldest", "latest"])
def test_a_control_message_is_never_a_casualty(overflow):
    """Even if the same thing waits as work, too."""
    box = filled(1, overflow, "same")
    box.put("same")
    box.deliver("new")
    assert [work for work, _ in box.dropped] == ["same"]
    assert box.rest() == ["same", "new"]


def test_who_gave_way_is_told_of_outside_the_lock():
    """User code may be behind it, and may look into the mailbox or put something there."""
    box = Box(1, "latest")

    def tell(work, reason):
        assert box._ready.acquire(blocking=False)
        box._ready.release()
        box.put(f"{work} is gone")

    box._dropped = tell
    box.deliver("one")
    box.deliver("two")
    assert box.rest() == ["two", "one is gone"]


# ---- threads -------------------------------------------------------------------------------------


def in_thread(call):
    """Start a thread that does something; joined by who started it."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


class Telling(threading.Condition):
    """A condition that tells, still under its lock, that somebody is about to wait on it."""

    def __init__(self):
        super().__init__(threading.Lock())
        self.somebody = threading.Event()

    def wait(self, timeout=None):
        self.somebody.set()
        return super().wait(timeout)


@pytest.mark.parametrize("how", ["put", "deliver"])
def test_who_waits_is_woken_by_a_message(how):
    """C12: it costs nothing until then, as it sleeps on a condition."""
    box, got = Box(1), []
    box._ready = Telling()
    thread = in_thread(lambda: got.append(box.get()))
    assert box._ready.somebody.wait(BOUND)
    getattr(box, how)("message")
    thread.join(BOUND)
    assert not thread.is_alive()
    assert got == ["message"]


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_several_writers_lose_nothing_without_a_word(overflow):
    """C10: each piece of work is read or told of, once; the bound holds, and so does the order."""
    box, writers, each = Box(3, overflow), 4, 200
    got, begin = [], threading.Barrier(writers + 1)

    def write(own):
        begin.wait(BOUND)
        for number in range(each):
            box.deliver((own, number))
            if number % 50 == 0:
                box.put(("control", own, number))

    def read():
        begin.wait(BOUND)
        for message in iter(box.get, STOP):
            got.append(message)

    reader = in_thread(read)
    threads = [in_thread(lambda own=own: write(own)) for own in range(writers)]
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    with box._ready:  # the reader may be at it still
        assert sum(is_work for is_work, _ in box._messages) <= 3
    box.put(STOP)
    reader.join(BOUND)
    assert not reader.is_alive()
    work = [message for message in got if message[0] != "control"]
    control = [message for message in got if message[0] == "control"]
    dropped = [piece for piece, _ in box.dropped]
    everything = [(own, number) for own in range(writers) for number in range(each)]
    assert sorted(work + dropped) == everything
    for own in range(writers):
        mine = [number for writer, number in work if writer == own]
        assert mine == sorted(mine)
        assert [m[2] for m in control if m[1] == own] == list(range(0, each, 50))
    assert (box.qsize(), box._work) == (0, 0)


# ---- messages ------------------------------------------------------------------------------------


def test_messages_to_an_agent_are_small():
    """A fence carries what is to be called, the stop says what it is."""
    called = []
    fence = Fence(lambda: called.append(1))
    assert not hasattr(fence, "__dict__")
    fence.passed()
    assert called == [1]
    assert repr(STOP) == "<STOP>"


def test_work_that_looks_alike_gives_way_one_by_one():
    """What is let go is counted by its place, not by what it equals."""
    gone = []
    mailbox = BoundedMailbox(
        2, "drop_oldest", lambda work: True, lambda work, why: gone.append(work)
    )
    for _ in range(3):
        mailbox.deliver([1])
    assert gone == [[1]]
    assert [mailbox.get_nowait(), mailbox.get_nowait()] == [[1], [1]]


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_a_newcomer_to_a_large_full_mailbox_has_little_looked_at(overflow):
    """However much waits: `LOOK` pieces of work for each, taken over many of them."""
    looks, capacity, many = [], 50 * LOOK, 500

    def waits(work):
        looks.append(work)
        return True

    mailbox = BoundedMailbox(capacity, overflow, waits, lambda work, why: None)
    for number in range(capacity):
        mailbox.deliver(number)
    assert looks == []
    for number in range(many):
        mailbox.deliver(number)
    assert len(looks) <= capacity + many * (LOOK + 1)


def test_a_large_full_mailbox_forgets_what_has_expired():
    """What is oldest at once; of the rest what was found the last time makes room for as many."""
    done, refused = set(), []
    capacity = 50 * LOOK
    mailbox = BoundedMailbox(
        capacity, "reject", lambda work: work not in done, lambda work, why: refused.append(work)
    )
    for number in range(capacity):
        mailbox.deliver(number)
    done.update(range(10))
    for number in range(10):
        mailbox.deliver(("in place of the oldest", number))
    assert refused == []
    done.update(range(100, capacity))
    for number in range(capacity - 100 + 1):
        mailbox.deliver(("in place of all others", number))
    assert refused == [("in place of all others", capacity - 100)]


def test_what_controls_keeps_its_place_when_work_gives_way():
    """A fence is passed over, and stays before what came behind it."""
    mailbox = BoundedMailbox(2, "drop_oldest", None, lambda work, why: None)
    mailbox.deliver(1)
    for control in ("first", "second"):
        mailbox.put(control)
    for number in (2, 3, 4):
        mailbox.deliver(number)
    assert [mailbox.get_nowait() for _ in range(4)] == ["first", "second", 3, 4]
