"""An agent's inbox, unbounded or bounded.

The default is a bare `queue.SimpleQueue`: ``put`` never blocks and takes no Python-level lock, and
nothing of ours stands between it and the threads. `BoundedMailbox` is for agents with ``capacity=``
and, because counting and dropping must be one step, holds a lock for a few instructions (never
while user code runs).
"""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty
from typing import Any, Callable, Deque, List, Optional, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["OVERFLOWS", "STOP", "BoundedMailbox", "Fence"]

OVERFLOWS = ("reject", "drop_oldest", "latest")

LOOK = 64
"""Pieces of work that a newcomer to a full mailbox may have looked at."""


class _Stop:
    """The message that ends an agent's loop, after everything queued before it."""

    def __repr__(self) -> str:
        return "<STOP>"


STOP = _Stop()


class Fence:
    """A control message: `passed` is called by the agent's thread once all before it is done.

    An agent that leaves calls it from its last act, so a fence never waits for ever.
    """

    __slots__ = ("passed",)

    def __init__(self, passed: Callable[[], None]) -> None:
        self.passed = passed


class BoundedMailbox:
    """A mailbox that holds at most `capacity` pieces of work; control messages never count.

    Parameters
    ----------
    capacity : int
        How much work may wait.
    overflow : {"reject", "drop_oldest", "latest"}
        Who gives way when it is full: the newcomer, the oldest, or all that waits.
    waits : callable or None
        Whether a piece of work in the mailbox still is to be done (it may have expired there); None
        if it always is.
    dropped : callable
        Told of each piece of work that gave way, with the reason; never under the lock.

    Notes
    -----
    Thread-safe. `get` blocks on a condition, so waiting costs nothing.
    """

    def __init__(
        self,
        capacity: int,
        overflow: str,
        waits: Optional[Callable[[Any], bool]],
        dropped: Callable[[Any, str], None],
    ) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise InvalidTypeError(f"capacity must be a whole number, not {capacity!r}")
        if capacity < 1:
            raise InvalidArgumentError(f"capacity must be at least 1, not {capacity}")
        if overflow not in OVERFLOWS:
            raise InvalidArgumentError(
                f"overflow must be one of {', '.join(OVERFLOWS)}, not {overflow!r}"
            )
        self.capacity = capacity
        self.overflow = overflow
        self._waits = waits
        self._dropped = dropped
        self._messages: Deque[Tuple[bool, Any]] = deque()
        self._work = 0
        self._unpruned = capacity  # newcomers since it was looked through
        # Set by the thread that reads, and only read by it.
        self.rank: Optional[Callable[[Any], int]] = None
        """Gives the priority of a piece of work, the higher the sooner; None: first come."""
        self._ready = threading.Condition(threading.Lock())

    def renew_lock(self) -> None:
        """Forget who holds the lock; for the child of a fork, where that thread does not exist."""
        self._ready = threading.Condition(threading.Lock())

    def put(self, message: Any) -> None:
        """Add a control message. Never blocks."""
        with self._ready:
            self._messages.append((False, message))
            self._ready.notify()

    def deliver(self, work: Any) -> None:
        """Add a piece of work, letting somebody give way if the mailbox is full. Never blocks."""
        casualties: List[Any] = []
        with self._ready:
            if self._work >= self.capacity:
                casualties = self._make_room()
            if self._work < self.capacity:
                self._messages.append((True, work))
                self._work += 1
                self._ready.notify()
            else:
                casualties = [work]
        for casualty in casualties:
            self._dropped(casualty, f"mailbox full ({self.capacity}, overflow={self.overflow})")

    def get(self, block: bool = True) -> Any:
        """Take the next message, waiting for one unless told not to."""
        with self._ready:
            while not self._messages:
                if not block:
                    raise Empty
                self._ready.wait()
            if self.rank is None:
                is_work, message = self._messages.popleft()
            else:
                is_work, message = self._pop_most_urgent(self.rank)
            self._work -= is_work
            return message

    def get_nowait(self) -> Any:
        """Take the next message, or raise `queue.Empty`."""
        return self.get(block=False)

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._messages

    def _pop_most_urgent(self, rank: Callable[[Any], int]) -> Tuple[bool, Any]:
        """Take the oldest of the most urgent work; a fence or `STOP` only when it has come up."""
        best, highest = 0, None
        for position, (is_work, message) in enumerate(self._messages):
            if message is STOP or (not position and not is_work):
                break
            if is_work and (highest is None or rank(message) > highest):
                best, highest = position, rank(message)
        entry = self._messages[best]
        del self._messages[best]
        return entry

    def _make_room(self) -> List[Any]:
        """Forget what need not be done any more, then let go of what the policy says; give that."""
        if self._waits is not None:
            self._prune(self._waits)
        if self._work < self.capacity or self.overflow == "reject":
            return []
        number = self._work if self.overflow == "latest" else 1
        victims: List[Any] = []
        passed_over: List[Tuple[bool, Any]] = []
        while len(victims) < number:
            entry = self._messages.popleft()
            if entry[0]:
                victims.append(entry[1])
            else:
                passed_over.append(entry)
        self._messages.extendleft(reversed(passed_over))
        self._work -= number
        return victims

    def _prune(self, waits: Callable[[Any], bool]) -> None:
        """Forget what need not be done any more: what is oldest at once, the rest now and then.

        Looking through a full mailbox for every newcomer would take the longer the larger it is, so
        it is done once for so many of them that each stands for `LOOK` looks.
        """
        messages = self._messages
        while messages and messages[0][0] and not waits(messages[0][1]):
            messages.popleft()
            self._work -= 1
        self._unpruned += 1
        if self._work >= self.capacity and self._unpruned * LOOK >= self.capacity:
            self._messages = deque(m for m in messages if not m[0] or waits(m[1]))
            self._work = sum(is_work for is_work, _ in self._messages)
            self._unpruned = self.capacity - self._work  # so many come in without a look
