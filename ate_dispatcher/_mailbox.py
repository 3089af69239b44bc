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
from typing import Any, Callable, Deque, List, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["OVERFLOWS", "BoundedMailbox", "Fence", "STOP"]

OVERFLOWS = ("reject", "drop_oldest", "latest")


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
    waits : callable
        Whether a piece of work in the mailbox still is to be done (it may have expired there).
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
        waits: Callable[[Any], bool],
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
                casualties = self._make_room(work)
            if work not in casualties:
                self._messages.append((True, work))
                self._work += 1
                self._ready.notify()
        for casualty in casualties:
            self._dropped(casualty, f"mailbox full ({self.capacity}, overflow={self.overflow})")

    def get(self, block: bool = True) -> Any:
        """Take the oldest message, waiting for one unless told not to."""
        with self._ready:
            while not self._messages:
                if not block:
                    raise Empty
                self._ready.wait()
            is_work, message = self._messages.popleft()
            self._work -= is_work
            return message

    def get_nowait(self) -> Any:
        """Take the oldest message, or raise `queue.Empty`."""
        return self.get(block=False)

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._messages

    def _make_room(self, newcomer: Any) -> List[Any]:
        self._messages = deque(m for m in self._messages if not m[0] or self._waits(m[1]))
        waiting = [message for is_work, message in self._messages if is_work]
        if len(waiting) < self.capacity:
            victims: List[Any] = []
        elif self.overflow == "reject":
            victims = [newcomer]
        elif self.overflow == "drop_oldest":
            victims = waiting[: len(waiting) - self.capacity + 1]
        else:
            victims = waiting
        self._messages = deque(m for m in self._messages if not (m[0] and m[1] in victims))
        self._work = sum(is_work for is_work, _ in self._messages)
        return victims
