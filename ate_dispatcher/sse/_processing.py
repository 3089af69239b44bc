"""Processing a listener's messages in parallel, in a pool of any kind."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Deque, Dict, Optional, Set, Tuple

from .._checks import check_whole
from .._exceptions import InvalidTypeError
from ._channel import AbstractChannel, ListenerOrId
from ._connection import Connection, ConnectionsFactory
from ._message import MESSAGE_TYPE_CLOSED, Envelope, MessageContract
from ._stream import Reading, hand_over

__all__ = ["DataProcessingChannel", "ResultStream"]

logger = logging.getLogger("ate_dispatcher")


class DataProcessingChannel(AbstractChannel):
    """A channel that processes messages in parallel: override `adapt` to say how.

    Parameters
    ----------
    max_workers : int
        How many are processed at once.
    stream_delay_seconds : float
        The least time between two messages of a `message_stream`; `process_queue` knows none.
    executor_class : type
        Called as ``executor_class(max_workers=…)`` for each `process_queue`. With processes, the
        subclass is defined at the top of a module, `adapt` works on a copy of the channel without
        its listeners, and messages and results can be pickled.
    connections_factory : ConnectionsFactory, optional
        Makes what keeps the messages of each listener, and says how many.

    Examples
    --------
    >>> class Squares(DataProcessingChannel):
    ...     def adapt(self, msg):
    ...         return {"event": msg.type, "data": msg.payload ** 2}
    """

    def __init__(
        self,
        max_workers: int,
        stream_delay_seconds: float = 0,
        executor_class: Callable[..., Executor] = ThreadPoolExecutor,
        *,
        connections_factory: Optional[ConnectionsFactory] = None,
    ) -> None:
        super().__init__(stream_delay_seconds, connections_factory=connections_factory)
        check_whole(max_workers, "max_workers")
        if not callable(executor_class):
            raise InvalidTypeError(
                f"executor_class must be a class of executors, not {executor_class!r}"
            )
        self._ate_workers = max_workers
        self._ate_executor_class = executor_class

    def adapt(self, msg: MessageContract) -> Any:
        """Process a message; as it stands, give ``{"event": type, "data": payload}``."""
        return {"event": msg.type, "data": msg.payload}

    def process_queue(self, listener: ListenerOrId) -> ResultStream:
        """Process what comes for a listener, and give the results as they are ready.

        Ends once `MESSAGE_TYPE_CLOSED` has come, the listener was stopped or removed, or the
        channel closed, and the last result was given. A message whose `adapt` raises gives
        ``{"event": type, "data": None, "error": {"type", "message"}}``, and the others go on.

        Parameters
        ----------
        listener : MessageQueueListener or str
            A listener of this channel, or its id. Any stream that is open for it ends.

        Returns
        -------
        ResultStream
            An iterator. No more than twice ``max_workers`` messages are taken before their results
            were asked for; where too many wait, it ends with `OverloadedError` after those.
        """
        connection = self._ate_connection(listener)
        stream = ResultStream(self, connection, self._ate_executor_class, self._ate_workers)
        self._ate_open(connection, stream, None)
        return stream

    def __getstate__(self) -> Dict[str, Any]:
        """Give what `adapt` may need in another process: what a subclass has put here."""
        return {name: own for name, own in vars(self).items() if not name.startswith("_ate_")}


class ResultStream(Reading):
    """An iterator over the results of messages, in the order in which they are ready.

    Made by `DataProcessingChannel.process_queue`; read by one thread. It waits on one condition for
    whatever comes first, a message to take on or a result to give, so it never polls. Leaving a
    ``with`` block closes it. `reason` says why it takes no more messages.
    """

    def __init__(
        self,
        channel: DataProcessingChannel,
        connection: Connection,
        executor_class: Callable[..., Executor],
        workers: int,
    ) -> None:
        super().__init__()
        self._channel = channel
        self._connection = connection
        self._make: Callable[[], Executor] = partial(executor_class, max_workers=workers)
        self._executor: Optional[Executor] = self._make()
        self._limit = 2 * workers
        # Futures: this thread adds, workers append to the ready ones, one atomic step each; the
        # condition of the connection is told after that, and looked at before waiting.
        self._running: Set[Future[Any]] = set()
        self._ready: Deque[Tuple[Future[Any], Envelope]] = deque()

    def __iter__(self) -> ResultStream:
        return self

    def __next__(self) -> Any:
        while True:
            envelope = self._connection.select(self, self._what_next)
            if envelope is not None:
                self._take_on(envelope)
            elif self._ready:
                return self._result(*self._ready.popleft())
            else:
                self.close()
                raise self.ending()

    def cut(self) -> None:
        """Take no more messages; what was taken on is still given. Thread-safe."""
        self._connection.detach("it was closed", self)

    def close(self) -> None:
        """End it: what has not begun is not done, what runs is waited for. Closing twice is once.

        To be called by the thread that reads it.
        """
        self.cut()
        executor, self._executor = self._executor, None
        for future in tuple(self._running):
            future.cancel()
        if executor is not None:
            executor.shutdown(wait=True)
        self._running.clear()
        self._ready.clear()

    def __enter__(self) -> ResultStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _what_next(self, can_take: bool, over: bool) -> Optional[bool]:
        """Say whether to take a message on, or not, or to wait (None); see `Connection.select`."""
        if can_take and len(self._running) < self._limit and self._executor is not None:
            return True
        if self._ready or (over and not self._running) or self._executor is None:
            return False
        return None

    def _take_on(self, envelope: Envelope) -> None:
        if envelope.message.type == MESSAGE_TYPE_CLOSED:
            self._connection.detach(f"{MESSAGE_TYPE_CLOSED!r} has come", self)
            return
        hand_over(self._connection, envelope)
        future = self._submitted(envelope.message)
        self._running.add(future)
        future.add_done_callback(lambda done: self._done(done, envelope))

    def _submitted(self, message: MessageContract) -> Future[Any]:
        """Hand a message to the pool, to a new one if a worker's death has broken it."""
        for _ in range(2):
            assert self._executor is not None
            try:
                return self._executor.submit(self._channel.adapt, message)
            except BrokenExecutor as error:
                logger.warning("%r: its pool broke: %s; a new one is made", self._channel, error)
                self._executor.shutdown(wait=True)
                self._executor = self._make()
        failed: Future[Any] = Future()
        failed.set_exception(BrokenExecutor("a new pool broke at once"))
        return failed

    def _done(self, future: Future[Any], envelope: Envelope) -> None:
        self._ready.append((future, envelope))
        self._connection.wake()

    def _result(self, future: Future[Any], envelope: Envelope) -> Any:
        self._running.discard(future)
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            return future.result()
        self._connection.errors += 1  # by the one thread that reads
        logger.error("processing %r failed", envelope.message, exc_info=error)
        return {
            "event": envelope.message.type,
            "data": None,
            "error": {"type": type(error).__name__, "message": str(error)},
        }
