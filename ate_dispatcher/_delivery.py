"""Knowing that every listener has finished: behind ``wait(delivered=True)`` and ``flush``."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterable, Tuple

from ._outcomes import RequestStatus

__all__ = ["Barrier"]


class Barrier:
    """A message to the dispatcher's thread, which lets a fence through every listener's mailbox.

    Mailboxes are in order, so a fence that has passed proves that all before it was processed, or
    raised, or was dropped. Parts of it are told from many threads; the lock makes removing a name
    and finding the set empty one step. No user code runs under it.

    Parameters
    ----------
    after_requests : bool
        Whether the requests that are open when the dispatcher gets this must end first.
    """

    __slots__ = ("_done", "_lock", "_pending", "after_requests", "ended", "requests")

    def __init__(self, after_requests: bool = False) -> None:
        self.after_requests = after_requests
        self.requests: Tuple[Any, ...] = ()
        self.ended: Any = None
        """What each of the requests calls when it has ended."""
        self._pending: Dict[Any, str] = {}
        self._lock = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()

    def send(self, listeners: Iterable[Any]) -> None:
        """Put the fences: on the dispatcher's thread, or on any once that has ended."""
        targets = tuple(listeners)
        self.requests = ()  # they have ended, and nothing of them is kept
        with self._lock:
            self._pending = {agent: agent._ate_address.name for agent in targets}
        for agent in targets:
            agent._ate_fence(self._passer(agent))
        if not targets:
            self._done.release()

    def withdraw(self) -> None:
        """Nobody waits any more: leave nothing with the requests. On the dispatcher's thread."""
        for request in self.requests:
            request._waiter().discard(self.ended)

    def _passer(self, agent: Any) -> Callable[[], None]:
        def passed() -> None:
            with self._lock:
                del self._pending[agent]
                last = not self._pending
            if last:
                self._done.release()

        return passed

    @property
    def done(self) -> Any:
        """A lock that is released once, when the last fence has passed."""
        return self._done

    def laggards(self) -> Tuple[str, ...]:
        """Name who is behind: producers of requests still open, else listeners. Any thread."""
        names: Dict[str, None] = {}
        for request in self.requests:
            if request.status is RequestStatus.OPEN:
                names.update(dict.fromkeys(request.laggards()))
        with self._lock:
            names.update(dict.fromkeys(self._pending.values()))
        return tuple(names)
