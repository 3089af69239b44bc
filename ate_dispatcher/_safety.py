"""Making producers safe one after the other: whose turn it is, and for how long."""

from __future__ import annotations

from typing import Any, Iterable, List

__all__ = ["SafeTurns"]


class SafeTurns:
    """The turns of producers that have a safe state, all within one limit.

    Each gets an equal share of the time that is left when its turn comes, so one that hangs costs
    the others no more than its share, and one that is quick leaves the rest of it to them. Whoever
    missed its turn may still come back until the limit.

    No thread, no clock: the dispatcher's thread alone calls this, and hands in `now`.

    Parameters
    ----------
    producers : iterable of Producer
        In the order of their turns. `_ate_halt` lets one end, and `_ate_made_safe` tells that it
        has run its safe state.
    now : float
    seconds : float
        How long all of them may take.
    """

    def __init__(self, producers: Iterable[Any], now: float, seconds: float) -> None:
        self.producers = tuple(producers)
        self._to_come = list(self.producers)
        self._asked: List[Any] = []
        self._limit = now + seconds
        self.alarm = now
        """When the next step is due without anything having happened."""

    def proceed(self, now: float) -> bool:
        """Take the steps that are due; True when nobody is to be waited for any more."""
        while now >= self.alarm or not self._asked or self._asked[-1]._ate_made_safe:
            if not self._to_come:
                self.alarm = self._limit
                return now >= self._limit or not self.unsafe()
            share = max(0.0, self._limit - now) / len(self._to_come)
            producer = self._to_come.pop(0)
            self._asked.append(producer)
            self.alarm = now + share
            producer._ate_halt()
        return False

    def unsafe(self) -> List[Any]:
        """Give those that have not run their safe state, in the order of their turns."""
        return [producer for producer in self.producers if not producer._ate_made_safe]
