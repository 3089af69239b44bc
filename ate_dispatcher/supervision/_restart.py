"""When a failed producer is started again, and when it is given up."""

from __future__ import annotations

import copy
from math import inf
from typing import List, Optional

from .._backoff import Backoff
from .._checks import check_seconds
from .._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["Failures", "Restart"]


class Restart:
    """A policy: how often, within what time, and after which waits. Immutable, freely shared.

    Parameters
    ----------
    attempts : int
        How many restarts there may be within any `per` seconds, and how many in a row of which
        none got as far as the end of ``on_start``; 0 for none at all.
    per : float
        Seconds; after as long without a failure the waits begin again with the first.
    backoff : Backoff, optional
        The waits before the restarts; half a second, doubling up to 30, if not given.
    """

    def __init__(
        self, attempts: int = 5, per: float = 60.0, backoff: Optional[Backoff] = None
    ) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int):
            raise InvalidTypeError(f"attempts must be a whole number, not {attempts!r}")
        if attempts < 0:
            raise InvalidArgumentError(f"attempts must not be negative, it is {attempts}")
        if not 0 < check_seconds(per, "per") < inf:
            raise InvalidArgumentError(f"per must be positive and finite, it is {per}")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise InvalidTypeError(f"backoff must be a Backoff, not {backoff!r}")
        self.attempts = attempts
        self.per = float(per)
        self._backoff = Backoff() if backoff is None else backoff

    def begin(self) -> Failures:
        """Give the count of one producer's failures, which this policy judges."""
        return Failures(self, copy.copy(self._backoff))

    def __repr__(self) -> str:
        return f"Restart(attempts={self.attempts}, per={self.per:g})"


class Failures:
    """One producer's failures so far. No thread, no clock: its supervisor hands in `now`."""

    def __init__(self, policy: Restart, backoff: Backoff) -> None:
        self._policy = policy
        self._backoff = backoff
        self._times: List[float] = []
        self._unready = 0

    def add(self, now: float, was_ready: bool) -> Optional[float]:
        """Count a failure, and give when to start again; None to give up."""
        policy = self._policy
        self._times = [time for time in self._times if now - time < policy.per]
        self._unready = 0 if was_ready else self._unready + 1
        if not self._times and self._unready <= 1:
            self._backoff.reset()
        self._times.append(now)
        if max(len(self._times), self._unready) > policy.attempts:
            return None
        return now + self._backoff.next()
