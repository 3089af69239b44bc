"""Named things that only one piece of work may use at a time: a GPIB bus, a power supply, a chuck.

Names are known to the whole process, whatever the dispatcher. A producer made with ``resources=``
holds them from just before its work begins until it has ended. They are taken one after the other
in sorted order, the same for everybody, so two producers never wait for each other in a circle.

Who waits stands in the resource's line and sleeps on a bell. It is rung by whoever hands the
resource on, by the end of the request (cancelled, expired, aborted), and by the producer's being
told to end: nobody looks again and again.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from queue import SimpleQueue
from typing import Any, Callable, Deque, Dict, Iterable, Optional, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["Hold", "Resources", "Wait", "check_resources"]


def check_resources(resources: Iterable[str]) -> Tuple[str, ...]:
    """Give the names of resources in the order in which they are taken, each once.

    Raises
    ------
    InvalidTypeError
        A string where a list of names belongs, or a name that is no string.
    InvalidArgumentError
        An empty name.
    """
    if isinstance(resources, str):
        raise InvalidTypeError(
            f"resources must be a list of names, not the string {resources!r}: "
            f"write ({resources!r},)"
        )
    try:
        names = tuple(resources)
    except TypeError:
        raise InvalidTypeError(f"resources must be a list of names, not {resources!r}") from None
    for name in names:
        if not isinstance(name, str):
            raise InvalidTypeError(f"the name of a resource must be a string, not {name!r}")
        if not name:
            raise InvalidArgumentError("the name of a resource must not be empty")
    return tuple(sorted(set(names)))


class Wait:
    """What a producer's thread waits for, for the others to read. Never changes."""

    __slots__ = ("_resources", "request", "resource", "since")

    def __init__(self, resources: Resources, request: Any, resource: str, since: float) -> None:
        self._resources = resources
        self.request = request
        self.resource = resource
        self.since = since

    def describe(self) -> str:
        """Say in words what is waited for and who has it."""
        holder = self._resources.holder(self.resource)
        held = "" if holder is None else f", held by {holder.name!r}"
        return f"waiting for resource {self.resource!r}{held}"


class Hold:
    """What one piece of work holds, or waits for. Made for it, and used once.

    Parameters
    ----------
    owner : Address
        The producer it is for.
    names : tuple of str
        As `check_resources` gives them.
    """

    __slots__ = ("_bell", "held", "names", "owner", "waited")

    def __init__(self, owner: Any, names: Tuple[str, ...]) -> None:
        self.owner = owner
        self.names = names
        self.held = 0
        """How many of them it has, from the first. Written under the lock of the resources."""
        self.waited: Optional[Tuple[float, str]] = None
        """Since when it had to wait, and for what: see `Outcome.waited`. Its owner's thread's."""
        self._bell: SimpleQueue[None] = SimpleQueue()

    def has_waited(self, wait: Wait) -> None:
        """Note one more resource that was not free."""
        if self.waited is None:
            self.waited = (wait.since, wait.describe())
        else:
            since, words = self.waited
            self.waited = (since, f"{words}; {wait.describe()}")

    def ring(self) -> None:
        """Wake whoever waits for it, to look at how things stand. Any thread; never blocks."""
        self._bell.put(None)

    def sleep(self) -> None:
        """Wait until it is rung; a ring that came before counts."""
        self._bell.get()


class Resources:
    """Who has what, and who waits for it in which order.

    Several threads share it, and "is it free, else stand in line" must be one step, so there is a
    lock. It is held for a few instructions, only by work that uses resources, and never while user
    code runs. `holder` takes none: one ``dict.get`` on names and one read of an attribute.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: Dict[str, Hold] = {}
        self._lines: Dict[str, Deque[Hold]] = {}

    def take(self, hold: Hold) -> Optional[str]:
        """Take what is free, in order; give the first that is not, and stand in its line.

        To be called again after each ring; None once it has all of them.
        """
        names, holders = hold.names, self._holders
        with self._lock:
            while hold.held < len(names):
                name = names[hold.held]
                if holders.setdefault(name, hold) is not hold:
                    line = self._lines.setdefault(name, deque())
                    if hold not in line:
                        line.append(hold)
                    return name
                hold.held += 1
        return None

    def release(self, hold: Hold) -> None:
        """Hand on all it has, and leave the line that it may stand in.

        Any thread; only the first time does something.
        """
        heirs = []
        with self._lock:
            for name in hold.names[: hold.held + 1]:
                line = self._lines.get(name)
                if self._holders.get(name) is not hold:  # the one it waited for
                    if line is not None and hold in line:
                        line.remove(hold)
                elif line:
                    heir = self._holders[name] = line.popleft()
                    heirs.append(heir)
                else:
                    del self._holders[name]
                if line is not None and not line:
                    del self._lines[name]
        for heir in heirs:
            heir.ring()

    def holder(self, name: str) -> Any:
        """Give the address of whoever has a resource now, None if it is free. Any thread."""
        hold = self._holders.get(name)
        return None if hold is None else hold.owner

    def acquire(
        self,
        hold: Hold,
        request: Any,
        called_off: Callable[[], bool],
        clock: Callable[[], float],
    ) -> bool:
        """Take all, waiting as long as the request is open; on the producer's own thread.

        `called_off` tells whether they are wanted no more. False if so; then it has none of them.
        """
        name = self.take(hold)
        if name is None:
            return True
        owner, waiter = hold.owner, request._waiter()
        try:
            if waiter.add(hold.ring):
                while name is not None and not called_off():
                    wait = owner.waiting
                    if wait is None or wait.resource != name:
                        owner.waiting = wait = Wait(self, request, name, clock())
                        hold.has_waited(wait)
                    hold.sleep()
                    name = self.take(hold)
        finally:
            owner.waiting = None
            waiter.discard(hold.ring)
            if name is not None:
                self.release(hold)
        return name is None

    def forget(self) -> None:
        """Start anew, for the child of a fork: whoever had something is not here."""
        self.__init__()  # type: ignore[misc]


RESOURCES = Resources()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RESOURCES.forget)
