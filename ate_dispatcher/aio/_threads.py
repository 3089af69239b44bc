"""Have a thread do what blocks, and await it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Optional, TypeVar

__all__ = ["Lane", "in_thread"]

T = TypeVar("T")


async def in_thread(
    function: Callable[..., T],
    *arguments: Any,
    undo: Optional[Callable[[T], Any]] = None,
    **named: Any,
) -> T:
    """Await what blocks.

    Each call has a thread of its own, for as long as it lasts: there is no pool that many waiting
    calls could fill, and none that delays the end of the program.

    Parameters
    ----------
    function : callable
        What blocks; called with the arguments given.
    undo : callable, optional
        Called ``(result)``, in a thread too, if whoever awaits was cancelled meanwhile: nobody else
        would know of the result.

    Notes
    -----
    A cancelled wait ends at once; what runs goes on to its end. Who was cancelled is decided on the
    loop's thread alone, where the result arrives.
    """
    loop = asyncio.get_running_loop()
    name = getattr(function, "__name__", "call")
    awaited: asyncio.Future[T] = loop.create_future()

    def abandon(result: Any) -> None:
        if undo is not None:
            threading.Thread(target=undo, args=(result,), daemon=True).start()

    def arrive(result: Any, error: Optional[BaseException]) -> None:  # on the loop
        if awaited.cancelled():
            if error is None:
                abandon(result)
        elif error is None:
            awaited.set_result(result)
        else:
            awaited.set_exception(error)

    def work() -> None:
        result: Any = None
        problem: Optional[BaseException] = None
        try:
            result = function(*arguments, **named)
        except StopIteration as error:  # which no future takes, and no coroutine may raise
            problem = RuntimeError(f"{name} raised StopIteration")
            problem.__cause__ = error
        except BaseException as error:  # whatever it is: it is raised where it is awaited
            problem = error
        try:
            loop.call_soon_threadsafe(partial(arrive, result, problem))
        except RuntimeError:  # the loop is closed, so nobody awaits any more
            if problem is None and undo is not None:
                undo(result)

    threading.Thread(target=work, name=f"awaiting {name}", daemon=True).start()
    try:
        return await awaited
    except asyncio.CancelledError:
        # It may have arrived, and the cancellation between that and our turn.
        if awaited.done() and not awaited.cancelled() and awaited.exception() is None:
            abandon(awaited.result())
        raise


class Lane:
    """One thread for calls that are to be done in the order in which they were awaited.

    It is there from the first call until `close`, or until nobody holds the lane any more; after
    `open` there is another, which begins when the one before is through. Used on one event loop.
    """

    def __init__(self) -> None:
        self._executor: Optional[ThreadPoolExecutor] = None
        self._former: Optional[ThreadPoolExecutor] = None
        self._closed = False

    async def run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Await what blocks; cancelled before its turn, it is not done at all."""
        if self._closed:  # what it was for is closed too, and will say so
            return await in_thread(function, *arguments, **named)
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "awaiting in order")
            if self._former is not None:
                self._executor.submit(self._former.shutdown)
                self._former = None
        call = partial(function, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def open(self) -> None:
        """Do later calls in order again, if it was closed."""
        if self._closed:
            self._closed = False
            self._former, self._executor = self._executor or self._former, None

    def close(self) -> None:
        """End the thread once it is through; a later call has a thread of its own."""
        self._closed = True
        if self._executor is not None:
            self._executor.shutdown(wait=False)
