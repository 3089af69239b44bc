"""What goes to the browsers: drawn together a few times a second, sent as server-sent events."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Tuple

from ..dispatcher import ATEDispatcher
from ..sse import ByteStream, ConnectionsFactory, Message, SSEChannel, encode_event
from ..timeline import trace_of
from ._picture import Picture
from ._station import Look, look
from ._watch import Watch

__all__ = ["Feed"]

logger = logging.getLogger("ate_dispatcher")

OUTCOMES_EVERY = 0.1
"""Seconds between two messages of outcomes, at least; as long as all of them are shown."""

LOOK_EVERY = 0.25
"""Seconds between two looks at the dispatcher, at least."""

SHARE = 0.01
"""Of a core that looking may take: it is done less often where there are many agents."""

KEPT = 300
"""Messages that a browser may be behind, and that are kept for one that comes again."""

KEEP_ALIVE = 5.0
"""Seconds of silence after which a comment is sent: a browser that has gone is noticed so."""

RETRY = 1000
"""Milliseconds after which a browser that was cut off comes again."""


class Feed:
    """Turns what a `Watch` notes into the messages of a channel, on a thread of its own.

    Notes
    -----
    The lock makes one step of drawing and sending, so that a browser that is given the whole
    picture gets every later message and none twice. It is held while a message is made and put to
    the browsers' queues, never while anybody is waited for; the dispatcher knows nothing of it.
    Without a browser and without anything happening the thread sleeps.
    """

    def __init__(self, dispatcher: ATEDispatcher) -> None:
        self._dispatcher = dispatcher
        self._offset = time.time() - dispatcher.clock()
        self._bell = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._clients = 0
        self._picture = Picture(self._offset)
        self._watch = Watch(dispatcher.clock, self._bell, dispatcher._allow)
        self._channel = SSEChannel(
            retry_timeout_milliseconds=RETRY, connections_factory=ConnectionsFactory(KEPT)
        )
        self._next_look = 0.0
        self._sampled = False
        self._sampled_until = 0.0
        self._looked = (0.0, 0)  # when, and what had happened by then
        self._happening = 0.0  # in a second
        self._thread = threading.Thread(
            target=self._run, name=f"{dispatcher.name}-monitor", daemon=True
        )

    # ---- any thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Watch, and send what is seen."""
        self._beat()
        self._dispatcher.add_observer(self._watch)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more, and end all streams."""
        self._dispatcher.remove_observer(self._watch)
        self._over.set()
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._channel.close()

    @property
    def clients(self) -> int:
        """Browsers that are given the stream now."""
        return self._clients

    @property
    def slow(self) -> int:
        """Browsers whose stream was ended because they were too far behind."""
        return self._channel.statistics().slow

    @contextmanager
    def stream(self, last_event_id: Optional[str]) -> Iterator[Tuple[bytes, ByteStream]]:
        """Open a stream for one browser: what it begins with, and what comes then."""
        begin, stream = self._opened(last_event_id)
        with self._lock:
            self._clients += 1
        self._bell.set()  # from now on it is worth looking
        try:
            with stream:
                yield begin, stream
        finally:
            with self._lock:
                self._clients -= 1

    def trace(self) -> Dict[str, Any]:
        """Give the trace of the last minute, as far as it was noted."""
        with self._lock:
            records = self._picture.records(self._now())
        return trace_of(records, self._dispatcher.name)

    def _opened(self, last_event_id: Optional[str]) -> Tuple[bytes, ByteStream]:
        if last_event_id:
            stream = self._channel.watch_events(last_event_id, KEEP_ALIVE)
            begin = next(stream)
            # The id before the first event is the one we were given: nothing is missing between.
            if begin == b"id: %s\n\n" % last_event_id.encode("utf-8", "replace"):
                return begin, stream
            stream.close()
        with self._lock:
            stream = self._channel.watch_events(None, KEEP_ALIVE)
            snapshot = self._picture.snapshot(self._now())
        return next(stream) + encode_event(snapshot, "snapshot"), stream

    def _now(self) -> float:
        return self._dispatcher.clock() + self._offset

    # ---- its thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        patience: Optional[float] = None
        while True:
            self._bell.wait(patience)
            # At full speed each thread that wakes takes its turn from those that do the work.
            if self._over.wait(LOOK_EVERY if self._sampled else OUTCOMES_EVERY):
                return
            self._bell.clear()  # before looking: what is noted from here on rings again
            try:
                patience = self._beat()
            except Exception:
                logger.exception("the monitor of %r could not draw", self._dispatcher.name)
                patience = LOOK_EVERY

    def _beat(self) -> Optional[float]:
        """Send what is new; give for how long nothing but the bell can bring more."""
        began = time.monotonic()
        if self._watch.used_up and self._dispatcher.is_alive():  # else nobody renews it
            self._sampled_until = began + 2.0
        noted = self._watch.take(began, self._happening)
        self._sampled = sampled = began < self._sampled_until
        with self._lock:
            self._send("outcomes", self._picture.add(noted))
        if began >= self._next_look:
            spent = time.thread_time()
            seen = look(self._dispatcher, self._offset)
            with self._lock:
                self._send("station", self._picture.look(seen, sampled, self._now()))
            spent = time.thread_time() - spent
            self._next_look = began + max(LOOK_EVERY, spent / SHARE)
            self._keep_pace(began, seen)
        if self._clients or noted or sampled:
            return max(0.0, self._next_look - time.monotonic())
        return None

    def _keep_pace(self, now: float, seen: Look) -> None:
        then, had = self._looked
        happened = sum(seen.station["ended"].values())
        happened += sum(answers for answers, _ in seen.answers.values())
        self._happening = max(0, happened - had) / max(now - then, LOOK_EVERY)
        self._looked = (now, happened)

    def _send(self, kind: str, text: str) -> None:
        if text:
            self._channel.broadcast(Message(kind, text))
