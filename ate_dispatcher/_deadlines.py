"""The open requests, found again at their deadlines.

Requests of one TTL fall due in the order they were sent, so each distinct TTL has one line of its
own and only the heads of the lines go into a heap: adding and removing a request costs a dict
operation, whatever their number, and thousands of distinct TTLs stay cheap. An ended request leaves
at once, so nothing of it is kept until its TTL has passed.

No thread, no clock: the dispatcher's thread alone calls this, and hands in `now`.
"""

from __future__ import annotations

import heapq
from math import inf, isnan
from numbers import Real
from typing import Any, Dict, Iterator, List, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["Deadlines", "check_ttl"]


def check_ttl(ttl: Any) -> float:
    """Give a TTL as a positive number of milliseconds.

    Raises
    ------
    InvalidTypeError
        It is neither a number nor a `timedelta`.
    InvalidArgumentError
        It is not positive, or no number (NaN).
    """
    if type(ttl) is float and ttl >= 1.0:
        return ttl
    from datetime import timedelta

    if isinstance(ttl, timedelta):
        milliseconds = ttl.total_seconds() * 1000.0
    elif isinstance(ttl, Real) and not isinstance(ttl, bool):
        try:
            milliseconds = float(ttl)
        except OverflowError:  # a whole number beyond every float
            milliseconds = inf if ttl > 0 else -inf  # type: ignore[operator]
    else:
        raise InvalidTypeError(
            "ttl must be a number of milliseconds or a timedelta, "
            f"not {type(ttl).__name__}: {ttl!r}"
        )
    if isnan(milliseconds) or milliseconds <= 0:
        try:
            shown = repr(ttl)
        except ValueError:  # from 3.11 on a whole number of thousands of digits has none
            shown = "a negative number of thousands of digits"
        raise InvalidArgumentError(f"ttl must be a positive number of milliseconds, not {shown}")
    if milliseconds < 1:
        import warnings

        warnings.warn(
            f"ttl={ttl!r} is less than a millisecond; a TTL is in milliseconds, not seconds",
            stacklevel=3,
        )
    return milliseconds


class _Line:
    """Open requests of one TTL, each deadline at or after the one before it."""

    __slots__ = ("latest", "requests")

    def __init__(self, request: Any) -> None:
        self.requests: Dict[Any, None] = {request: None}
        self.latest: float = request.deadline
        request._line = self


class Deadlines:
    """Open requests by deadline.

    A request has `ttl` (milliseconds, the key of its line), `deadline` (seconds) and a place,
    `_line`, for the line it stands in.
    """

    def __init__(self) -> None:
        self._lines: Dict[float, _Line] = {}
        self._strays: Dict[_Line, None] = {}
        self._heads: List[Tuple[float, int, _Line]] = []
        self._serial = 0
        self.wake = inf
        """No open request falls due before this. It may be early, never late."""

    def add(self, request: Any) -> None:
        """Take up an open request; one without a deadline (infinite) is kept, never scheduled."""
        line = self._lines.get(request.ttl)
        if line is None:
            line = self._lines[request.ttl] = _Line(request)
            self._schedule(request.deadline, line)
        elif request.deadline >= line.latest:
            line.latest = request.deadline
            line.requests[request] = None
            request._line = line
        else:
            # Two threads stamped in one order and were heard in the other: a line of its own.
            line = _Line(request)
            self._strays[line] = None
            self._schedule(request.deadline, line)

    def remove(self, request: Any) -> None:
        """Let go of an ended request."""
        line = request._line
        requests = line.requests
        del requests[request]
        if not requests:
            self._drop(line, request.ttl)

    def _drop(self, line: _Line, ttl: float) -> None:
        """Forget an empty line; its entry in the heap goes when such entries are the majority."""
        line.requests = {}  # an emptied dict would keep the room of all that it ever held
        if self._lines.get(ttl) is line:
            del self._lines[ttl]
        else:
            del self._strays[line]
        if len(self._heads) > 2 * (len(self._lines) + len(self._strays)) + 16:
            self._heads = [head for head in self._heads if head[2].requests]
            heapq.heapify(self._heads)
            self.wake = self._heads[0][0] if self._heads else inf

    def due(self, now: float) -> List[Any]:
        """Give the requests whose deadline has passed, earliest first. They stay until removed."""
        late: List[Any] = []
        heads = self._heads
        while heads and heads[0][0] < now:
            line = heapq.heappop(heads)[2]
            for request in line.requests:
                if request.deadline >= now:
                    self._schedule(request.deadline, line)
                    break
                late.append(request)
        self.wake = heads[0][0] if heads else inf
        late.sort(key=lambda request: request.deadline)
        return late

    def snapshot(self) -> List[Any]:
        """Copy the open requests. Any thread: each ``copy`` of a dict is one atomic call."""
        lines = [*self._lines.copy().values(), *self._strays.copy()]
        return [request for line in lines for request in line.requests.copy()]

    def __iter__(self) -> Iterator[Any]:
        """All open requests."""
        for line in (*self._lines.values(), *self._strays):
            yield from tuple(line.requests)

    def __len__(self) -> int:
        return sum(len(line.requests) for line in (*self._lines.values(), *self._strays))

    def _schedule(self, deadline: float, line: _Line) -> None:
        if deadline < inf:
            self._serial += 1
            heapq.heappush(self._heads, (deadline, self._serial, line))
            if deadline < self.wake:
                self.wake = deadline
