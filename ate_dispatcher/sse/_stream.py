"""Reading a channel's messages as they come."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, Callable, Generic, Optional, TypeVar

from .._exceptions import OverloadedError
from ._connection import NOTHING_YET, Connection
from ._message import MESSAGE_TYPE_CLOSED, Envelope
from ._wire import encode_comment

__all__ = ["ByteStream", "MessageStream", "Reading", "hand_over"]

logger = logging.getLogger("ate_dispatcher")

Item = TypeVar("Item")


class Reading:
    """What a connection and its stream know of each other. Written under the connection's lock.

    Attributes
    ----------
    reason : str
        Why the stream has ended; empty as long as it has not.
    in_hand : Envelope or None
        What its reader is handling.
    after : int
        The number of the last message before its first one.
    dropped : bool
        Whether it has ended because its reader was too far behind.
    """

    comes_again = False
    """Whether what it missed is for its reader to ask for, as a client does that was cut off."""

    def __init__(self) -> None:
        self.reason = ""
        self.in_hand: Optional[Envelope] = None
        self.after = 0
        self.dropped = False

    def ending(self) -> Exception:
        """Give what to raise at the end: nobody is to take what was cut short for all there was."""
        if not self.dropped:
            return StopIteration()
        return OverloadedError(
            f"the stream was cut short: {self.reason}. Another one gives what was kept since; "
            "connections_factory=ConnectionsFactory(capacity=…) lets more wait"
        )


class MessageStream(Reading, Generic[Item]):
    """An iterator over messages that waits for the next one, until there can be none.

    Made by a channel. It ends after `MESSAGE_TYPE_CLOSED`, when its listener is stopped or removed,
    when its channel is closed (after what waited then), when another stream is opened for its
    listener, and when its reader is too far behind. `reason` says which; in the last case
    `OverloadedError` is raised after what waited. Leaving a ``with`` block closes it. Asking for
    the next message says that the last one was handled.
    """

    def __init__(
        self,
        connection: Connection,
        give: Callable[[Envelope], Item],
        delay: float = 0,
        left: Optional[Callable[[Connection], Any]] = None,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._give = give
        self._delay = delay
        self._left = left
        self._last = -delay

    def __iter__(self) -> MessageStream[Item]:
        return self

    def __next__(self) -> Item:
        item: Item = self.within(None)
        return item

    def within(self, limit: Optional[float]) -> Any:
        """Give what ``next`` gives, or `NOTHING_YET` once the clock shows `limit`."""
        envelope = self._take(limit)
        if envelope is NOTHING_YET:
            return NOTHING_YET
        if envelope is None or envelope.message.type == MESSAGE_TYPE_CLOSED:
            self._over(envelope)
            raise StopIteration if envelope is not None else self.ending()
        return self._give(envelope)

    def close(self) -> None:
        """End it. Thread-safe: a reader that waits in another thread is woken."""
        self._connection.handled(self)
        self.cut()
        if self._left is not None:
            self._left(self._connection)

    def cut(self) -> None:
        """Take no more messages; what was taken is still in hand. Thread-safe."""
        self._connection.detach("it was closed", self)

    def give_back(self) -> None:
        """Keep the last message for the listener's next stream: nobody was given it."""
        self._connection.give_back(self)

    def __enter__(self) -> MessageStream[Item]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {f'ended: {self.reason}' if self.reason else 'open'}>"

    def _take(self, limit: Optional[float]) -> Any:
        """Give an envelope, None at the end, or `NOTHING_YET`."""
        if self._delay:
            self._connection.handled(self)
            due = self._last + self._delay
            until = due if limit is None else min(due, limit)
            if not self._connection.pause(self, until) and until < due:
                return NOTHING_YET
        envelope = self._connection.take(self, limit)
        if envelope is None or envelope is NOTHING_YET:
            return envelope
        hand_over(self._connection, envelope)
        if self._delay:
            self._last = monotonic()
        return envelope

    def _over(self, envelope: Optional[Envelope]) -> None:
        if envelope is not None:
            self._connection.handled(self)
            self._connection.detach(f"{MESSAGE_TYPE_CLOSED!r} has come", self)
        if self._left is not None:
            self._left(self._connection)


class ByteStream(MessageStream[bytes]):
    """The same as ``text/event-stream``, with a comment whenever nothing else was to be said.

    The first piece is an id without an event: a client that is cut off before its first event can
    say then where it was. A client that is gone is noticed when something is written to it: hence
    the comments. The event `MESSAGE_TYPE_CLOSED` is given too, as the last one, so that a page
    knows not to come again. For a client that is too far behind it just ends: the client comes
    again.
    """

    comes_again = True

    def __init__(
        self,
        connection: Connection,
        give: Callable[[Envelope], bytes],
        id_line: Callable[[int], bytes],
        delay: float,
        left: Optional[Callable[[Connection], Any]],
        keep_alive: Optional[float],
    ) -> None:
        super().__init__(connection, give, delay, left)
        self._keep_alive = keep_alive
        self._id_line = id_line
        self._begun = self._over_now = False

    def __next__(self) -> bytes:
        if not self._begun:
            self._begun = True
            return self._id_line(self.after) + b"\n"
        if self._over_now:
            raise StopIteration
        limit = None if self._keep_alive is None else monotonic() + self._keep_alive
        envelope = self._take(limit)
        if envelope is NOTHING_YET:
            return KEEP_ALIVE
        if envelope is None:
            self._over(None)
            raise StopIteration
        piece = self._give(envelope)
        if envelope.message.type == MESSAGE_TYPE_CLOSED:
            self._over_now = True
            self._over(envelope)
        return piece


KEEP_ALIVE = encode_comment()


def hand_over(connection: Connection, envelope: Envelope) -> None:
    """Have the listener act on a message; what it raises is logged and counted."""
    listener = connection.listener
    if listener is None or envelope.message.type == MESSAGE_TYPE_CLOSED:
        return
    if envelope is connection.acted_on:
        return
    try:
        listener.on_message(envelope.message)
    except Exception:
        connection.errors += 1  # by the one thread that reads
        logger.exception("%r raised on %r", listener, envelope.message)
