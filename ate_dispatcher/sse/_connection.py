"""What waits for one listener, and the one stream that reads it."""

from __future__ import annotations

import threading
from collections import deque
from threading import TIMEOUT_MAX
from time import monotonic
from typing import TYPE_CHECKING, Any, Deque, Iterable, List, Optional

from .._checks import check_whole
from ._message import Envelope

if TYPE_CHECKING:
    from ._listener import MessageQueueListener

__all__ = ["CAPACITY", "NOTHING_YET", "Connection", "ConnectionsFactory"]

CAPACITY = 1000
"""Messages that a listener may be behind, and that a channel keeps for who comes again."""

NOTHING_YET: Any = object()
"""What `Connection.take` gives when its time has passed."""


class Connection:
    """The messages that wait for one listener, never more than `capacity`.

    Parameters
    ----------
    listener : MessageQueueListener or None
        None for who watches the whole channel.
    capacity : int
        How many messages may wait.

    Attributes
    ----------
    lost : int
        Messages that gave way to newer ones while nobody read them fast enough.
    slow : int
        Streams that were ended because their reader was `capacity` messages behind.
    errors : int
        How often ``on_message`` has raised.

    Notes
    -----
    Senders push, one reader takes, and both look at the queue, the stream in charge and the end
    together: hence the lock, held for a few instructions and never while user code runs. Readers
    wait on its condition, so waiting costs nothing. `keep`, `forget` and `removed` are for
    subclasses that store messages elsewhere; they are called without the lock.
    """

    durable = False
    """Whether `keep`, `forget` and `removed` do anything."""

    def __init__(self, listener: Optional[MessageQueueListener], capacity: int = CAPACITY) -> None:
        self.listener = listener
        self.capacity = check_whole(capacity, "capacity")
        self.lost = self.slow = self.errors = 0
        self._ready = threading.Condition(threading.Lock())
        self._waiting: Deque[Envelope] = deque()
        self._stream: Any = None
        self._end = ""

    # ---- for those who store messages elsewhere --------------------------------------------------

    def keep(self, envelope: Envelope) -> None:
        """Store a message that waits from now on."""

    def forget(self, envelope: Envelope) -> None:
        """Let go of a message that was read, or has given way. It may have been let go before."""

    def removed(self) -> None:
        """Let go of the listener and of all that waits for it."""

    # ---- senders (any thread) --------------------------------------------------------------------

    def push(self, envelope: Envelope) -> Optional[Envelope]:
        """Add a message; give the one that gave way to it, if any. Never blocks."""
        with self._ready:
            if self._end:
                return None
            oldest = None
            if len(self._waiting) >= self.capacity:
                if self._stream is not None:
                    self.slow += 1
                    self._leave(f"its reader was {self.capacity} messages behind")
                oldest = self._waiting.popleft()
                self.lost += 1
            self._waiting.append(envelope)
            self._ready.notify_all()
            return oldest

    def stored(self, envelope: Envelope) -> None:
        """Undo a `keep` that came too late: the message was read, or gave way, meanwhile.

        A reader takes the message away first and has it forgotten then, a sender has it kept first
        and looks for it then: whoever comes second forgets it.
        """
        with self._ready:
            first = self._waiting[0].number if self._waiting else None
            waits = first is not None and first <= envelope.number
            waits = waits or (self._stream is not None and envelope is self._stream.in_hand)
        if not waits:
            self.forget(envelope)

    def end(self, reason: str, at_once: bool) -> List[Envelope]:
        """Take no more; the stream ends, after what waits unless `at_once`. Give what was left."""
        with self._ready:
            self._end = self._end or reason
            left: List[Envelope] = []
            if at_once:
                left = list(self._waiting)
                self._waiting.clear()
            self._ready.notify_all()
            return left

    # ---- streams ---------------------------------------------------------------------------------

    def attach(self, stream: Any, replay: Iterable[Envelope], last: int) -> None:
        """Put a stream in charge, in place of any other, and have it begin with `replay`.

        `last` is the number of the channel's last message.
        """
        with self._ready:
            if self._stream is not None:
                self._leave("another stream was opened for the listener")
            self._stream = stream
            numbered = {envelope.number: envelope for envelope in (*replay, *self._waiting)}
            merged = [numbered[number] for number in sorted(numbered)]
            self._waiting = deque(merged[-self.capacity :])
            stream.after = self._waiting[0].number - 1 if self._waiting else last

    def detach(self, reason: str, stream: Any = None) -> None:
        """End the stream in charge (only if it is `stream`, where one is named)."""
        with self._ready:
            if self._stream is not None and stream in (None, self._stream):
                self._leave(reason)

    def take(self, stream: Any, limit: Optional[float]) -> Optional[Envelope]:
        """Take the oldest message for `stream`, waiting for one until `limit` at most.

        Gives None at the end of the stream, `NOTHING_YET` when the time has passed.
        """
        self.handled(stream)
        with self._ready:
            while True:
                if self._stream is not stream:
                    return None
                if self._waiting:
                    stream.in_hand = self._waiting.popleft()
                    return stream.in_hand  # type: ignore[no-any-return]
                if self._end:
                    self._leave(self._end)
                    return None
                if not self._wait(limit):
                    return NOTHING_YET  # type: ignore[no-any-return]

    def handled(self, stream: Any) -> None:
        """Forget what the stream was given last: asking for more says that it was handled."""
        with self._ready:
            handled, stream.in_hand = stream.in_hand, None
        if handled is not None and self.durable:
            self.forget(handled)

    def pause(self, stream: Any, limit: float) -> None:
        """Wait until `limit`, or until the stream has ended."""
        with self._ready:
            while self._stream is stream and not (self._end and not self._waiting):
                if not self._wait(limit):
                    return

    def select(self, stream: Any, ready: Any) -> Optional[Envelope]:
        """Wait until `ready()` says what to do: True for a message, False for something else.

        It is asked under the lock, whenever something has changed; None stands for waiting on.
        Gives None where there is no message to take, for whatever reason.
        """
        with self._ready:
            while True:
                can_take = self._stream is stream and bool(self._waiting)
                over = self._stream is not stream or (bool(self._end) and not self._waiting)
                what = ready(can_take, over)
                if what:
                    return self._waiting.popleft()
                if what is not None:
                    return None
                self._ready.wait()

    def wake(self) -> None:
        """Have a reader look again."""
        with self._ready:
            self._ready.notify_all()

    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._waiting)

    @property
    def attached(self) -> bool:
        """Whether a stream is in charge."""
        return self._stream is not None

    def _wait(self, limit: Optional[float]) -> bool:
        if limit is None:
            self._ready.wait()
            return True
        left = limit - monotonic()
        if left <= 0:
            return False
        self._ready.wait(min(left, TIMEOUT_MAX))
        return True

    def _leave(self, reason: str) -> None:
        """End the stream in charge; with the lock held."""
        self._stream.reason = reason
        self._stream = None
        self._ready.notify_all()


class ConnectionsFactory:
    """Makes a channel's connections, one for each listener. Subclass it to make others.

    Parameters
    ----------
    capacity : int
        How many messages may wait for a listener. Then the stream that does not read them is ended,
        and where there is none the oldest message gives way; both are counted. The channel keeps as
        many of its last messages for readers that come again with a ``Last-Event-ID``.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = check_whole(capacity, "capacity")

    def create(self, listener: Optional[MessageQueueListener]) -> Connection:
        """Make the connection of a listener, or of who watches the channel (None)."""
        return Connection(listener, self.capacity)
