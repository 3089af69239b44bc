"""Noting what happens, on the dispatcher's callback thread."""

from __future__ import annotations

import threading
from collections import deque
from math import inf
from typing import Any, Callable, Deque, List, NamedTuple, Union

from .._observer import Observer
from .._outcomes import Outcome, RequestStatus
from .._request import Request
from .._states import AgentState
from ..timeline import End, Mishap, Row, Sent, row_of
from ._allowance import Allowance
from ._text import brief

__all__ = ["Change", "Ended", "Noted", "Seen", "Watch"]

RATE = 2500.0
"""Outcomes and ends in a second, up to which all are noted."""

SAMPLE = 100.0
"""How many are noted in a second when there are more."""

BURST = 500
"""How many are noted at once."""

MOST_LATE = 10_000
"""Late answers that wait to be drawn; they are not within the allowance."""

_LEFT = (AgentState.FAILED, AgentState.STALLED, AgentState.STOPPED)


class Seen(NamedTuple):
    """An outcome and, in a few words, its value."""

    row: Row
    text: str


class Ended(NamedTuple):
    """A request that has ended, and why if it did not go to anybody."""

    sent: Sent
    end: End
    reason: str


class Change(NamedTuple):
    """An agent that has left."""

    name: str
    state: str
    seen: float


Noted = Union[Seen, Ended, Change, Mishap]


class Watch(Observer):
    """Notes outcomes, ends and departures for another thread to `take`.

    Parameters
    ----------
    clock : callable
        The dispatcher's.
    ring : threading.Event
        Set when there is something to take.
    allow : callable
        ``allow(watch, left)`` has it told of so many more.

    Notes
    -----
    The callback thread appends to the queue, the thread of the feed takes from its other end: both
    are single calls of a `collections.deque`, which are atomic, with and without the global
    interpreter lock. Beyond the allowance the dispatcher's thread does not even tell the callback
    thread (`Observer._ate_left`), so that a dispatcher at full speed keeps it; from other threads
    that number is looked at only, which may be a little early or late.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        ring: threading.Event,
        allow: Callable[[Observer, int], None],
    ) -> None:
        self._clock = clock
        self._ring = ring
        self._allow = allow
        self._queue: Deque[Noted] = deque()
        self._allowance = Allowance(RATE, SAMPLE, BURST)
        self._ate_left = BURST

    @property
    def used_up(self) -> bool:
        """Whether it looks away until the allowance is renewed."""
        return self._ate_left == 0

    # ---- the callback thread ---------------------------------------------------------------------

    def on_outcome(self, outcome: Outcome) -> None:
        """Note it, and what its value looks like now."""
        self._put(Seen(row_of(outcome, self._clock()), brief(outcome.value)))

    def on_late(self, outcome: Outcome, in_time: bool) -> None:
        """Note it as late."""
        if len(self._queue) < MOST_LATE:
            row = row_of(outcome, self._clock(), "late")
            self._put(Seen(row, brief(outcome.value)))

    def on_end(self, request: Request) -> None:
        """Note how it ended."""
        ttl = None if request.ttl == inf else request.ttl
        sent = Sent(request.topic, request.sent, request.queued, ttl, len(request.roster))
        end = End(request.topic, request.sent, request.status.value, self._clock())
        nobody = request.status is RequestStatus.NO_PRODUCERS
        self._put(Ended(sent, end, request.reason if nobody else ""))

    def on_agent(self, name: str, state: AgentState) -> None:
        """Note that an agent has left."""
        if state in _LEFT:
            self._put(Change(name, state.value, self._clock()))
        self._ring.set()

    def on_listener_error(self, listener: str, event: Any, error: BaseException) -> None:
        """Note what kind of error a listener raised, for the trace."""
        if len(self._queue) < MOST_LATE:
            self._put(Mishap(listener, type(error).__name__, self._clock()))

    def _put(self, noted: Noted) -> None:
        self._queue.append(noted)
        if not self._ring.is_set():
            self._ring.set()

    # ---- the thread of the feed ------------------------------------------------------------------

    def take(self, now: float, happening: float) -> List[Noted]:
        """Take what was noted, and renew the allowance, `happening` so much in a second.

        Where it is used up something was told, and so will be noted and ring: there is always
        another call, should it be too early for this one to renew it.
        """
        taken = []
        queue = self._queue
        for _ in range(len(queue)):
            taken.append(queue.popleft())
        left = self._ate_left or 0
        renewed = self._allowance.renew(now, left, happening)
        if renewed != left:
            self._allow(self, renewed)
        return taken
