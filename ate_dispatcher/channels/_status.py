"""In which state the channels are, and when to try again: decisions only."""

from __future__ import annotations

import enum
from typing import Optional

from .._backoff import Backoff

__all__ = ["Link", "StatusType"]


class StatusType(enum.Enum):
    """How far channels have come.

    ::

        initialised --> connecting <--> disconnected
                            |                ^
                            v                |
                        connected -----------+        any of them --> closed
    """

    initialised = 1
    connecting = 2
    connected = 3
    disconnected = 4
    closed = 5


class Link:
    """The state of one connection, and when the next attempt is due.

    Parameters
    ----------
    backoff : Backoff
        How long to wait after each attempt that failed. It begins anew once one has succeeded.

    Attributes
    ----------
    status : StatusType
    due : float or None
        The time of the next attempt, None if none is wanted.

    Notes
    -----
    Not thread-safe: one thread decides. Others may read `status`, one reference.
    """

    def __init__(self, backoff: Backoff) -> None:
        self.status = StatusType.initialised
        self.due: Optional[float] = None
        self._backoff = backoff

    def trying(self) -> None:
        """An attempt begins."""
        self.status = StatusType.connecting
        self.due = None

    def succeeded(self) -> None:
        """The attempt came to something, or the broker is back by itself."""
        self.status = StatusType.connected
        self.due = None
        self._backoff.reset()

    def failed(self, now: float) -> float:
        """The attempt, or the connection, came to nothing; give the seconds until the next."""
        wait = self._backoff.next()
        self.status = StatusType.disconnected
        self.due = now + wait
        return wait

    def closed(self) -> None:
        """No more attempts."""
        self.status = StatusType.closed
        self.due = None
