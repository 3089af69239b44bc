"""One subscription: a thread that takes what comes and calls the subscriber."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import Any, Callable, Optional, Sequence, Tuple

from .._codec import decode
from .._exceptions import BusError, UndecodableMessageError
from .._topics import TopicFilter
from ._driver import Driver, Inbox
from ._grammar import Words, first_match, speller

__all__ = ["Subscription"]

logger = logging.getLogger("ate_dispatcher")

HIGH_WATER = 10_000
"""Messages waiting for a callback, above which the subscription warns, once."""

_END: Any = object()


class Subscription(Inbox):
    """A live subscription, made by ``Distributer.subscribe``. A context manager; thread-safe.

    Its callback runs on a thread of its own, one message at a time; one that raises is logged,
    counted and handed to ``on_error``, and the subscription lives on.

    Attributes
    ----------
    topics : tuple of str
        What it was made for.
    group : str
        Empty for no group.
    received, errors, undecodable : int
        Messages handed to the callback; callbacks that raised; messages that were no JSON.
    """

    def __init__(
        self,
        callback: Callable[..., Any],
        filters: Sequence[TopicFilter],
        group: str,
        with_topic: bool,
        on_error: Optional[Callable[[Subscription, BaseException], Any]],
        on_end: Callable[[Subscription], None],
        on_connection: Optional[Callable[[bool], Any]] = None,
    ) -> None:
        self.topics: Tuple[str, ...] = tuple(pattern.pattern for pattern in filters)
        self.group = group
        self.received = self.errors = self.undecodable = 0
        self._callback = callback
        self._filters = tuple(filters)
        self._spell = tuple(speller(pattern) for pattern in filters)
        self._with_topic = with_topic
        self._on_error = on_error
        self._on_end = on_end
        self._on_connection = on_connection
        self._connected = True  # written by the driver alone
        # Drivers' threads put, the worker gets. `put` and `get` are each one atomic step.
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._warned = False
        # Set once, by whoever cancels first; the worker looks at it before every message.
        self._cancelled = False
        # Under the lock: who comes second, the driver's answer or the worker's end, leaves.
        self._handover = threading.Lock()
        self._leave: Optional[Callable[[], None]] = None
        self._over = False
        self._worker = threading.Thread(
            target=self._work, name=f"subscription {', '.join(self.topics)}", daemon=True
        )

    # ---- for users -------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether messages still reach the callback."""
        return not self._cancelled

    @property
    def connected(self) -> bool:
        """Whether messages can come, as far as the driver knows."""
        return self._connected and not self._cancelled

    def cancel(self, timeout: Optional[float] = 5.0) -> bool:
        """End it: no callback begins after this. Cancelling twice is once.

        Messages of a group that were not handled go to its other members, where the bus's
        ``capabilities.group_delivery`` is "at least once". Elsewhere, and without a group, what
        waits here is lost.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a callback that is running; None for as long as it takes.

        Returns
        -------
        bool
            Whether it has ended; False at once when called by its own callback, after which it
            ends.
        """
        self._cancelled = True
        self._queue.put(_END)
        if threading.current_thread() is self._worker:
            return False
        return self.join(timeout)

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait until it has ended, for a script that only listens. Ctrl-C gets through.

        Returns
        -------
        bool
            False if `timeout` (seconds) ran out first.
        """
        if self._worker.ident is not None:
            self._worker.join(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        return not self._worker.is_alive()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *error: Any) -> None:
        self.cancel()

    def __repr__(self) -> str:
        group = f" in group {self.group!r}" if self.group else ""
        state = "active" if self.active else "cancelled"
        return f"<Subscription to {', '.join(self.topics)}{group}, {state}>"

    # ---- for the driver (any thread) -------------------------------------------------------------

    def put(
        self,
        words: Words,
        payload: bytes,
        via: Optional[int] = None,
        done: Optional[Callable[[], None]] = None,
    ) -> None:
        """Take one message; see `Inbox.put`."""
        if not self._cancelled:
            self._queue.put((words, payload, via, done))

    def report(self, error: BaseException) -> None:
        """Log what went wrong, count nothing, and hand it to ``on_error`` on the worker."""
        self._queue.put(error)

    def report_connection(self, up: bool) -> None:
        """Take note of whether messages can come, and tell whoever asked to be told."""
        if self._connected == up or self._cancelled:
            return
        self._connected = up
        if self._on_connection is not None:
            try:
                self._on_connection(up)
            except Exception:
                logger.exception("on_connection of %r raised", self)

    # ---- the worker ------------------------------------------------------------------------------

    def _begin(self, driver: Driver) -> None:
        """Go live; the subscriber's thread, once. Raises what the driver raises."""
        try:
            self._worker.start()
        except BaseException:  # the system has no thread to give
            self._on_end(self)
            raise
        try:
            leave = driver.subscribe(self._filters, self.group, self)
        except BaseException:
            self.cancel(timeout=0)
            raise
        with self._handover:
            self._leave = leave
            over = self._over
        if over:  # it was cancelled in the meantime
            self._part()

    def _work(self) -> None:
        try:
            while not self._cancelled:
                item = self._queue.get()
                if self._cancelled:  # meanwhile, so it is another's; or it is the end
                    break
                if isinstance(item, BaseException):
                    self._told(item)
                    continue
                self._handle(*item)
                del item  # nothing of a message is kept while waiting for the next
                if not self._warned and self._queue.qsize() > HIGH_WATER:
                    self._warned = True
                    logger.warning("more than %d messages wait for %r", HIGH_WATER, self)
        finally:
            self._cancelled = True
            with self._handover:
                self._over = True
            self._part()
            self._on_end(self)

    def _part(self) -> None:
        """Have the driver bring no more, once."""
        with self._handover:
            leave, self._leave = self._leave, None
        if leave is not None:
            try:
                leave()
            except BusError as error:
                logger.debug("leaving %r: %s", self, error)  # the broker is gone anyhow
            except Exception:
                logger.exception("leaving %r", self)

    def _handle(
        self, words: Words, payload: bytes, via: Optional[int], done: Optional[Callable[[], None]]
    ) -> None:
        first = first_match(self._filters, words)
        # Every filter that matches may bring a copy of its own: the first one's counts.
        if first >= 0 and (via is None or via == first):
            self._call(words, payload, first)
        if done is not None:
            done()

    def _call(self, words: Words, payload: bytes, first: int) -> None:
        try:
            data = decode(payload)
        except UndecodableMessageError as error:
            self.undecodable += 1
            self._told(
                UndecodableMessageError(f"on {self._spell[first](words)!r}: {error}"), known=True
            )
            return
        self.received += 1
        try:
            if self._with_topic:
                self._callback(data, self._spell[first](words))
            else:
                self._callback(data)
        except Exception as error:
            self.errors += 1
            self._told(error)
        except BaseException as error:  # SystemExit, KeyboardInterrupt: this subscription alone
            self.errors += 1
            self._cancelled = True
            self._told(error)

    def _told(self, error: BaseException, known: bool = False) -> None:
        """Log an error and hand it on."""
        if known or isinstance(error, BusError):
            logger.warning("%r: %s", self, error)
        else:
            logger.error("the callback of %r raised", self, exc_info=error)
        if self._on_error is None:
            return
        try:
            self._on_error(self, error)
        except Exception:
            logger.exception("on_error of %r raised", self)
