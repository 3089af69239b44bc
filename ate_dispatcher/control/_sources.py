"""What the lines of a stream are made of: a channel's messages, or a request's outcomes."""

from __future__ import annotations

import abc
import time
from math import inf
from queue import Empty
from threading import TIMEOUT_MAX
from typing import Any, Callable

from .._exceptions import InvalidArgumentError, InvalidTypeError
from .._outcomes import RequestStatus
from .._readers import Reader
from .._request import Request
from ..dispatcher import ATEDispatcher
from ..record._rows import end_row, outcome_row
from ..sse import MessageStream
from ..sse._connection import NOTHING_YET
from ._protocol import Command

__all__ = ["NOTHING_YET", "ChannelSource", "RequestSource", "Source", "request_of"]


class Source(abc.ABC):
    """Items for one stream. One thread takes them; any may cut it."""

    @property
    @abc.abstractmethod
    def reason(self) -> str:
        """Why it has ended."""

    @abc.abstractmethod
    def take(self, limit: float) -> Any:
        """Give an item, or `NOTHING_YET` once `time.monotonic` is `limit`; raise at the end.

        Raises
        ------
        StopIteration
            There will be no more.
        """

    @abc.abstractmethod
    def cut(self, reason: str) -> None:
        """End it, from any thread: who waits for an item is woken. Never blocks."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of it, by the thread that takes."""


class ChannelSource(Source):
    """What a channel's stream gives."""

    def __init__(self, stream: MessageStream[Any]) -> None:
        self._stream = stream
        self._cut = ""  # written once, by whoever cuts, before the stream ends

    @property
    def reason(self) -> str:
        """Why it has ended."""
        return self._cut or self._stream.reason

    def take(self, limit: float) -> Any:
        """Give a message as the channel adapts it."""
        return self._stream.within(limit)

    def cut(self, reason: str) -> None:
        """End it; what was not read stays with its listener."""
        self._cut = self._cut or reason
        self._stream.close()

    def close(self) -> None:
        """Let go of it."""
        self._stream.close()


class RequestSource(Source):
    """The outcomes of a request as they come, and its end: rows as a recording has them.

    Where outcomes are missing because they were not taken in time, a row says how many.

    Parameters
    ----------
    request : Request
        It is cancelled if it is still open when this is cut or closed.
    number : int
        What all rows of the request have as ``request``.
    clock : callable
        The dispatcher's.
    """

    def __init__(self, request: Request, number: int, clock: Callable[[], float]) -> None:
        self._request = request
        self._number = number
        self._clock = clock
        self._offset = time.time() - clock()
        reader = iter(request)
        assert isinstance(reader, Reader)
        self._reader = reader
        self._lost = 0  # of what the reader has dropped: what was told
        self._kept: Any = None  # the row that comes after what was lost
        self._ended = False
        self._cut = ""

    @property
    def reason(self) -> str:
        """Why it has ended."""
        return self._cut or f"the request is {self._request.status.value}"

    def take(self, limit: float) -> Any:
        """Give the row of an outcome, of a loss, and that of the end as the last one."""
        if self._kept is not None:
            row, self._kept = self._kept, None
            return row
        row = self._row(limit)
        # The dispatcher's thread alone adds to the count, one attribute: it may be a few ahead of
        # what was just taken, or behind, but has added all before it puts the end.
        lost = self._reader.dropped - self._lost
        if not lost:
            return row
        self._lost += lost
        self._kept = None if row is NOTHING_YET else row
        return {"event": "lost", "request": self._number, "count": lost}

    def _row(self, limit: float) -> Any:
        if self._ended:
            raise StopIteration
        timeout = min(max(0.0, limit - time.monotonic()), TIMEOUT_MAX)
        try:
            outcome = self._reader.take(timeout)
        except Empty:
            return NOTHING_YET
        now = self._clock() + self._offset
        if outcome is not None:
            return outcome_row(outcome, self._number, now, self._offset)
        self._ended = True
        if self._cut:
            raise StopIteration
        return end_row(self._request, self._number, now, self._offset)

    def cut(self, reason: str) -> None:
        """Cancel an open request, and do not wait for what becomes of it.

        One that has ended gives its reader the end by itself, after the outcomes.
        """
        if self._request.status is RequestStatus.OPEN:
            self._cut = self._cut or reason
            self._request.cancel()
            self._reader.finish()

    def close(self) -> None:
        """Cancel the request if it is still open."""
        self._request.cancel()


def request_of(dispatcher: ATEDispatcher, command: Command) -> Request:
    """Send the request that a command describes.

    Its payload is an object of ``args`` (an array) and ``kwargs`` (an object), its options are
    ``ttl`` (milliseconds; null for no deadline), ``priority``, ``sites``, ``to``.

    Raises
    ------
    UsageError
        Something of it has the wrong type, or cannot be.
    """
    payload = _known("p", {} if command.payload is None else command.payload, ("args", "kwargs"))
    args, kwargs = payload.get("args") or [], payload.get("kwargs") or {}
    if not isinstance(args, list):
        raise InvalidTypeError(f"'args' must be an array, not {args!r:.60}")
    if not isinstance(kwargs, dict):
        raise InvalidTypeError(f"'kwargs' must be an object, not {kwargs!r:.60}")
    for name in ("topic", "ttl"):
        if name in kwargs:
            raise InvalidArgumentError(f"{name!r} is no keyword of the work: it is an option")
    options = dict(_known("o", command.options, ("ttl", "priority", "sites", "to")))
    ttl = options.pop("ttl", 5000)
    if isinstance(options.get("sites"), str):
        raise InvalidTypeError(f"'sites' must be an array, not {options['sites']!r}")
    named = {name: value for name, value in options.items() if value is not None}
    sender = dispatcher.with_options(**named)
    return sender.send_request(command.type, *args, ttl=inf if ttl is None else ttl, **kwargs)


def _known(name: str, value: Any, keys: Any) -> Any:
    if not isinstance(value, dict):
        raise InvalidTypeError(f"{name!r} must be an object, not {value!r:.60}")
    for key in value:
        if key not in keys:
            raise InvalidArgumentError(f"{name!r} has {key!r}, which is none of {', '.join(keys)}")
    return value
