"""Following a request's outcomes as they come, from a thread or a coroutine."""

from __future__ import annotations

import logging
from queue import Empty, SimpleQueue
from typing import Any, Optional

from ._messages import Attach
from ._outcomes import Outcome

__all__ = ["AsyncReader", "Reader"]

logger = logging.getLogger("ate_dispatcher")

BOUND = 10_000
"""Outcomes that a reader may be behind; then the oldest are dropped, with a warning."""


class Reader:
    """One thread's view of a request's outcomes as they come; the buffer is bounded, its own.

    `push` and `finish` run on the dispatcher's thread, ``next`` on the reader's.
    """

    __slots__ = ("_queue", "_request", "dropped")

    def __init__(self, request: Any) -> None:
        self._request = request
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self.dropped = 0
        request._home.post(Attach(request, self))

    def push(self, outcome: Outcome) -> None:
        if self._queue.qsize() >= BOUND:
            try:
                self._queue.get_nowait()
            except Empty:
                pass  # the reader took it first: there is room now
            else:
                self._drop()
        self._put(outcome)

    def finish(self) -> None:
        self._put(None)

    def _put(self, item: Optional[Outcome]) -> None:
        self._queue.put(item)

    def _drop(self) -> None:
        if not self.dropped:
            logger.warning(
                "a reader of %r is %d outcomes behind: the oldest are dropped",
                self._request,
                BOUND,
            )
        self.dropped += 1

    def take(self, timeout: Optional[float]) -> Optional[Outcome]:
        """Give the next outcome, None at the end; raise `queue.Empty` after `timeout` seconds."""
        outcome: Optional[Outcome] = self._queue.get(timeout=timeout)
        if outcome is None:
            self._queue.put(None)  # a reader asked again after the end gets the end again
        return outcome

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Outcome:
        outcome = self.take(None)
        if outcome is None:
            raise StopIteration
        return outcome


class AsyncReader(Reader):
    """The same for a coroutine: woken through its event loop."""

    __slots__ = ("_loop", "_ready")

    def __init__(self, request: Any) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        super().__init__(request)

    def _put(self, item: Optional[Outcome]) -> None:
        self._queue.put(item)
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:
            logger.debug("a reader of %r closed its event loop", self._request)

    def __aiter__(self) -> AsyncReader:
        return self

    async def __anext__(self) -> Outcome:
        while True:
            try:
                outcome: Optional[Outcome] = self._queue.get_nowait()
            except Empty:
                self._ready.clear()
                if self._queue.empty():
                    await self._ready.wait()
                continue
            if outcome is None:
                self._queue.put(None)
                raise StopAsyncIteration
            return outcome
