"""When a producer counts as stalled, and when to look at it next."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple, Optional

from .._checks import check_seconds
from .._exceptions import InvalidArgumentError

__all__ = ["Look", "StallWatch"]


class Look(NamedTuple):
    """What a look at a producer said."""

    stalled: bool
    again: Optional[float]
    """When to look again; None for not before it is given work."""


class StallWatch:
    """Judges one producer by how long it has been in one hook. No thread, no clock.

    Parameters
    ----------
    after : float
        Seconds in one call, or since a stream gave its last value, after which it is stalled.

    Notes
    -----
    Looks are made `after` seconds apart at most, and only while there is work: a producer found
    idle twice in a row is left alone. Twice, because between taking a request out of its mailbox
    and marking itself busy it looks idle for some instructions.
    """

    def __init__(self, after: float) -> None:
        if not 0 < check_seconds(after, "stall_after") < inf:
            raise InvalidArgumentError(f"stall_after must be positive and finite, it is {after}")
        self.after = float(after)
        self._idle = 0

    def look(self, now: float, since: Optional[float], waiting: Any) -> Look:
        """Judge: `since` when it is in a hook (None if it is not), whether work waits for it."""
        if since is not None:
            self._idle = 0
            due = since + self.after
            return Look(True, None) if due <= now else Look(False, due)
        self._idle = 0 if waiting else self._idle + 1
        return Look(False, None if self._idle >= 2 else now + self.after)
