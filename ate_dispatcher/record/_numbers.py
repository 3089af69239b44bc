"""Which outcomes belong to one request: a number for each."""

from __future__ import annotations

from typing import Dict, Tuple

from .._outcomes import Outcome
from .._request import Request

__all__ = ["Numbers"]

OPEN_KEPT = 100_000
"""Requests whose end is awaited; a listener that was registered too late never hears of some."""


class Numbers:
    """Numbers the requests of one recording.

    An outcome does not know its request, but both hold the same reading of the clock: the same
    object, which no other request has while it is kept here.
    """

    def __init__(self) -> None:
        self._last = 0
        self._open: Dict[Tuple[str, int], Tuple[int, float]] = {}

    def of(self, outcome: Outcome) -> int:
        """Give the number of an outcome's request."""
        key = (outcome.topic, id(outcome.sent))
        found = self._open.get(key)
        if found is None:
            if len(self._open) >= OPEN_KEPT:
                del self._open[next(iter(self._open))]
            self._last += 1
            found = self._open[key] = (self._last, outcome.sent)
        return found[0]

    def ended(self, request: Request) -> int:
        """Give the number of a request that has ended, and forget it."""
        found = self._open.pop((request.topic, id(request.sent)), None)
        if found is not None:
            return found[0]
        self._last += 1
        return self._last
