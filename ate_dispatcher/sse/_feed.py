"""A dispatcher's outcomes as an event stream."""

from __future__ import annotations

import time
from typing import Any, Callable

from .._exceptions import InvalidTypeError
from .._listener import ResultListener
from .._outcomes import Outcome
from .._request import Request
from ..record._numbers import Numbers
from ..record._rows import Row, end_row, outcome_row
from ._channel import AbstractChannel
from ._message import Message

__all__ = ["ChannelFeed"]


class ChannelFeed(ResultListener):
    """A result listener that broadcasts what it is told to a channel.

    Each outcome is a message of the type ``"outcome"``, each ended request one of the type
    ``"end"``. Their payloads are the rows of a recording: JSON, whatever the producers returned
    (what JSON lacks is described), with times in seconds since the epoch, and a number that is the
    same for all that belongs to one request.

    Parameters
    ----------
    channel : AbstractChannel
        Once it is closed, nothing is broadcast any more.
    clock : callable
        The dispatcher's clock.
    **options
        As for `ResultListener`.

    Examples
    --------
    >>> channel = SSEChannel()
    >>> dispatcher.add(ChannelFeed(channel), TopicFilter("#"))
    >>> for piece in channel.watch_events():
    ...     socket.sendall(piece)
    """

    def __init__(
        self,
        channel: AbstractChannel,
        *,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        if not isinstance(channel, AbstractChannel):
            raise InvalidTypeError(f"a feed needs a channel, such as SSEChannel(), not {channel!r}")
        super().__init__(**options)
        self._ate_channel = channel
        self._ate_clock = clock
        self._ate_offset = time.time() - clock()
        self._ate_numbers = Numbers()

    @property
    def channel(self) -> AbstractChannel:
        """Where it broadcasts."""
        return self._ate_channel

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Broadcast one outcome, whatever its status."""
        number = self._ate_numbers.of(outcome)
        self._ate_broadcast(outcome_row(outcome, number, self._ate_now(), self._ate_offset))

    def process_dispatcher_end(self, request: Request) -> None:
        """Broadcast the end of a request."""
        number = self._ate_numbers.ended(request)
        self._ate_broadcast(end_row(request, number, self._ate_now(), self._ate_offset))

    def _ate_now(self) -> float:
        return self._ate_clock() + self._ate_offset

    def _ate_broadcast(self, row: Row) -> None:
        if not self._ate_channel.closed:
            self._ate_channel.broadcast(Message(row["event"], row))
