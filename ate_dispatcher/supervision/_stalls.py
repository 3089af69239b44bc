"""When a producer counts as stalled, and when to look at it next."""

from __future__ import annotations

from math import inf
from typing import Optional

from .._checks import check_seconds
from .._exceptions import InvalidArgumentError

__all__ = ["StallWatch"]


class StallWatch:
    """Judges one producer by how long it has been in one hook. No thread, no clock.

    Parameters
    ----------
    after : float
        Seconds in one call, or since a stream gave its last value, after which it is stalled.
    """

    def __init__(self, after: float) -> None:
        if not 0 < check_seconds(after, "stall_after") < inf:
            raise InvalidArgumentError(f"stall_after must be positive and finite, it is {after}")
        self.after = float(after)

    def look(self, now: float, since: Optional[float]) -> Optional[float]:
        """Give when to look again, None if it is stalled: `since` when it is in a hook, if it is.

        One that is in none may be about to begin: looks go on until it has nothing to do.
        """
        due = (now if since is None else since) + self.after
        return due if due > now else None
