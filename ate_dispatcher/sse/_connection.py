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

    A stream that was ended because its reader was too far behind keeps those `capacity` ones, and
    as many may wait anew.

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
    acted_on : Envelope or None
        What was given back last: its listener has acted on it, and is not asked to once more.

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
        self.acted_on: Optional[Envelope] = None
        self._ready = threading.Condition(threading.Lock())
        self._waiting: Deque[Envelope] = deque()
        self._stream: Any = None
        self._end = ""
        # The last stream that was ended because it was too slow, and what had waited for it: its
        # reader still gets that, unless another stream is opened first, which gets it then.
        self._behind: Any = None
        self._rest: Deque[Envelope] = deque()
        self._former: Any = None  # the stream that ended last; it may have a message in hand

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
                stream = self._stream
                if stream is not None:
                    self.slow += 1
                    stream.dropped = True
                    self._leave(f"its reader was {self.capacity} messages behind")
                if stream is None or stream.comes_again:
                    oldest = self._waiting.popleft()
                    self.lost += 1
                else:
                    self._behind, self._rest, self._waiting = stream, self._waiting, deque()
            self._waiting.append(envelope)
            self._ready.notify_all()
            return oldest

    def stored(self, envelope: Envelope) -> None:
        """Undo a `keep` that came too late: the message was read, or gave way, meanwhile.

        A reader takes the message away first and has it forgotten then, a sender has it kept first
        and looks for it then: whoever comes second forgets it.
        """
        with self._ready:
            left = self._rest or self._waiting  # the rest is older
            waits = bool(left) and left[0].number <= envelope.number
            waits = waits or any(
                stream is not None and envelope is stream.in_hand
                for stream in (self._stream, self._behind, self._former)
            )
        if not waits:
            self.forget(envelope)

    def end(self, reason: str, at_once: bool) -> List[Envelope]:
        """Take no more; the stream ends, after what waits unless `at_once`. Give what was left."""
        with self._ready:
            self._end = self._end or reason
            left: List[Envelope] = []
            if at_once:
                left = [*self._rest, *self._waiting]
                self._rest.clear()
                self._waiting.clear()
                self._give_up(reason)
            self._ready.notify_all()
            return left

    # ---- streams ---------------------------------------------------------------------------------

    def attach(self, stream: Any, replay: Iterable[Envelope], last: int) -> List[Envelope]:
        """Put a stream in charge, in place of any other, and have it begin with `replay`.

        `last` is the number of the channel's last message. Gives what of it all is too much.
        """
        with self._ready:
            other = "another stream was opened for the listener"
            if self._stream is not None:
                self._leave(other)
            self._give_up(other)
            self._stream = stream
            kept = (*self._rest, *self._waiting)
            self._rest.clear()
            numbered = {envelope.number: envelope for envelope in (*replay, *kept)}
            merged = [numbered[number] for number in sorted(numbered)]
            self._waiting = deque(merged[-self.capacity :])
            stream.after = self._waiting[0].number - 1 if self._waiting else last
            gave_way = [envelope for envelope in kept if envelope.number <= stream.after]
            self.lost += len(gave_way)
            return gave_way

    def detach(self, reason: str, stream: Any = None) -> None:
        """End the stream in charge (only if it is `stream`, where one is named)."""
        with self._ready:
            if self._stream is not None and stream in (None, self._stream):
                self._leave(reason)
            if stream in (None, self._behind):
                self._give_up(reason)

    def take(self, stream: Any, limit: Optional[float]) -> Optional[Envelope]:
        """Take the oldest message for `stream`, waiting for one until `limit` at most.

        Gives None at the end of the stream, `NOTHING_YET` when the time has passed.
        """
        self.handled(stream)
        with self._ready:
            while True:
                waiting = self._waiting_for(stream)
                if waiting is None:
                    return None
                if waiting:
                    stream.in_hand = waiting.popleft()
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

    def give_back(self, stream: Any) -> None:
        """Have what the stream was given last wait again, as the oldest: nobody has handled it."""
        with self._ready:
            envelope, stream.in_hand = stream.in_hand, None
            if envelope is None:
                return
            if self._stream not in (None, stream) and envelope.number > self._stream.after:
                return  # the stream that is open now was given it too
            left = self._rest or self._waiting  # the rest is older
            room = len(left) < self.capacity
            if room:
                left.appendleft(envelope)
                self.acted_on = envelope
                self._ready.notify_all()
            else:
                self.lost += 1
        if not room and self.durable:
            self.forget(envelope)

    def pause(self, stream: Any, limit: float) -> bool:
        """Wait until `limit`, or until the stream has ended; tell whether it has."""
        with self._ready:
            while not self._over(self._waiting_for(stream)):
                if not self._wait(limit):
                    return False
            return True

    def select(self, stream: Any, ready: Any) -> Optional[Envelope]:
        """Wait until `ready()` says what to do: True for a message, False for something else.

        It is asked under the lock, whenever something has changed; None stands for waiting on.
        Gives None where there is no message to take, for whatever reason.
        """
        with self._ready:
            while True:
                waiting = self._waiting_for(stream)
                what = ready(bool(waiting), self._over(waiting))
                if what and waiting:
                    return waiting.popleft()
                if what is not None:
                    return None
                self._ready.wait()

    def wake(self) -> None:
        """Have a reader look again."""
        with self._ready:
            self._ready.notify_all()

    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._rest) + len(self._waiting)

    @property
    def attached(self) -> bool:
        """Whether a stream is in charge."""
        return self._stream is not None

    def _waiting_for(self, stream: Any) -> Optional[Deque[Envelope]]:
        """Give what a stream takes from, None where it has ended; with the lock held."""
        if self._stream is stream:
            return self._waiting
        if self._behind is not stream:
            return None
        if not self._rest:  # it has all that is for it
            self._behind = None
            return None
        return self._rest

    def _over(self, waiting: Optional[Deque[Envelope]]) -> bool:
        return waiting is None or (bool(self._end) and not waiting)

    def _wait(self, limit: Optional[float]) -> bool:
        if limit is None:
            self._ready.wait()
            return True
        left = limit - monotonic()
        if left <= 0:
            return False
        self._ready.wait(min(left, TIMEOUT_MAX))
        return True

    def _give_up(self, reason: str) -> None:
        """End the stream that was too slow before it has all that is for it; with the lock held."""
        if self._behind is not None:
            self._behind.reason, self._behind.dropped = reason, False
            self._former, self._behind = self._behind, None
            self._ready.notify_all()

    def _leave(self, reason: str) -> None:
        """End the stream in charge; with the lock held."""
        self._stream.reason = reason
        self._former, self._stream = self._stream, None
        self._ready.notify_all()


class ConnectionsFactory:
    """Makes a channel's connections, one for each listener. Subclass it to make others.

    Parameters
    ----------
    capacity : int
        How many messages may wait for a listener. Then the stream that does not read them is ended,
        and where there is none the oldest message gives way; both are counted. A reader in this
        process still gets what waited, and then `OverloadedError`; what comes meanwhile waits for
        its listener's next stream. The channel keeps as many of its last messages for readers that
        come again with a ``Last-Event-ID``.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = check_whole(capacity, "capacity")

    def create(self, listener: Optional[MessageQueueListener]) -> Connection:
        """Make the connection of a listener, or of who watches the channel (None)."""
        return Connection(listener, self.capacity)
