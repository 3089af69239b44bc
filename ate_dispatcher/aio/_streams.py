"""Streams that a thread reads, as async iterators."""

from __future__ import annotations

import asyncio
import threading
import weakref
from queue import SimpleQueue
from typing import Any, Callable, Generic, Optional, TypeVar

from .._exceptions import StateError
from ._threads import in_thread

__all__ = ["AsyncStream"]

Item = TypeVar("Item")

_END: Any = object()
_OPEN: Any = object()
_NEXT: Any = object()


class AsyncStream(Generic[Item]):
    """An async iterator over a stream, which a thread of its own reads as it is asked to.

    The thread is there from the first use until the end, or until a stream that was given up while
    it was opened is open, and closed. An item is taken only when it is awaited;
    a cancelled wait loses none, the next one gets it. If it is closed before that, a message waits
    for its listener's next stream. ``async with`` opens it on entering, and closes it; so does
    reading it to its end, or to an error.

    Parameters
    ----------
    stream : iterator or callable
        What is read, or what opens it: called on that thread.
    cut : callable
        Called with the stream, on any thread: who waits for an item of it is to be woken.
    give_back : callable
        Called with the stream, before it is closed, if nobody was given its last item.

    Notes
    -----
    Used on one event loop, by one task at a time. What listeners and channels do with a message
    (``on_message``, ``adapt``) is done on the thread.
    """

    def __init__(
        self,
        stream: Any,
        cut: Callable[[Any], Any] = lambda stream: stream.close(),
        give_back: Callable[[Any], Any] = lambda stream: None,
    ) -> None:
        self._shared = _Shared(stream, cut, give_back)
        self._thread: Optional[threading.Thread] = None
        self._pending: Optional[asyncio.Future[Any]] = None
        self._reading = self._closed = False
        self._forgotten: Any = None

    @property
    def reason(self) -> str:
        """Why it has ended; empty as long as it has not."""
        stream = self._shared.stream
        return "" if stream is None else str(stream.reason)

    def __aiter__(self) -> AsyncStream[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._closed:
            raise StopAsyncIteration
        item: Any = await self._ask(_NEXT)
        if item is _OPEN:  # of an `async with` that was cancelled on entering
            item = await self._ask(_NEXT)
        if item is _END:
            await self.aclose()
            raise StopAsyncIteration
        result: Item = item
        return result

    async def aclose(self) -> None:
        """End it; who waits for an item gets the end. Closing twice is once."""
        self._closed = True
        pending, self._pending = self._pending, None
        if pending is not None:
            if pending.done():
                pending.exception()  # nobody else will look at it
            else:
                pending.set_result(_END)
        thread = self._thread
        if thread is None:
            await in_thread(self._shared.let_go)
        else:
            if await in_thread(self._shared.stop):
                await in_thread(thread.join)

    async def __aenter__(self) -> AsyncStream[Item]:
        try:
            if self._pending is None:  # else a wait that was cancelled has opened it
                await self._ask(_OPEN)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncStream {'closed' if self._closed else 'open'}>"

    async def _ask(self, what: Any) -> Any:
        if self._reading:
            raise StateError("another task waits for this stream already")
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._shared.run, name="reading a stream", daemon=True
            )
            self._thread.start()
            self._forgotten = weakref.finalize(self, self._shared.forget)
            self._forgotten.atexit = False
        if self._pending is None:
            loop = asyncio.get_running_loop()
            self._pending = loop.create_future()
            self._shared.owing = True
            self._shared.orders.put((what, loop, self._pending))
        pending = self._pending
        self._reading = True
        try:
            await asyncio.wait([pending])  # cancelled, it leaves the future as it is
        finally:
            self._reading = False
        if self._pending is not pending:  # it was closed meanwhile, and the item is given back
            return _END
        self._pending = None
        self._shared.owing = False
        if pending.exception() is not None:
            await self.aclose()
        return pending.result()


class _Shared:
    """What the thread of a stream knows; it holds nothing of who awaits.

    Attributes
    ----------
    owing : bool
        Whether an item was asked for that nobody was given yet. Written by who awaits, and never
        after the end was ordered.
    """

    def __init__(
        self, stream: Any, cut: Callable[[Any], Any], give_back: Callable[[Any], Any]
    ) -> None:
        self.orders: SimpleQueue[Any] = SimpleQueue()
        self.stream: Any = None if callable(stream) else stream
        self._opened = stream
        self._cut, self._give_back = cut, give_back
        self.owing = False
        self._lock = threading.Lock()  # of what follows: whoever is second sees the first
        self._stopped = self._opening = False
        self._stream_to_cut: Any = self.stream

    def run(self) -> None:
        """Do what is ordered, one after the other, until the end is."""
        try:
            while True:
                order = self.orders.get()
                if order is None:
                    return
                what, loop, future = order
                result, error = self._do(what)
                try:
                    loop.call_soon_threadsafe(_settle, future, result, error)
                except RuntimeError:  # the loop is closed, so nobody awaits any more
                    return
                del order, future, result, error
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Close the stream, by the thread that reads it, or instead of it."""
        with self._lock:
            self._stream_to_cut = None
        if self.stream is not None:
            if self.owing:
                self._give_back(self.stream)
            self.stream.close()

    def stop(self) -> bool:
        """End the thread; any other may call it.

        False if it is opening the stream, which nobody can cut short: it ends after that.
        """
        self.orders.put(None)
        with self._lock:
            self._stopped = True
            opening = self._opening
            stream = self._stream_to_cut
        if stream is not None:
            self._cut(stream)
        return not opening

    def forget(self) -> None:
        """End the thread, from wherever the garbage collector happens to be."""
        threading.Thread(target=self.stop, daemon=True).start()

    def _do(self, what: Any) -> Any:
        try:
            if self.stream is None and not self._open():
                return _END, None
            return (_OPEN if what is _OPEN else next(self.stream)), None
        except StopIteration:
            return _END, None
        except BaseException as error:  # whatever it is: it is raised where it is awaited
            return None, error

    def _open(self) -> bool:
        """Open the stream; False if that is not wanted any more."""
        with self._lock:
            if self._stopped:
                return False
            self._opening = True
        try:
            self.stream = self._opened()
        finally:
            with self._lock:
                self._opening = False
                self._stream_to_cut = self.stream
                stopped = self._stopped
        return not stopped


def _settle(future: asyncio.Future[Any], result: Any, error: Optional[BaseException]) -> None:
    if future.done():  # closed, or its loop is ending
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
