"""Have an event loop call what a library thread would call."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from concurrent.futures import wait
from typing import Any, Callable, Optional

__all__ = ["OnLoop", "in_callback"]

LOOK = 1.0
"""Seconds between two looks at whether the loop is closed, while its callback is waited for."""

_inside: contextvars.ContextVar[Optional[asyncio.Future[Any]]] = contextvars.ContextVar(
    "the task of a callback", default=None
)


def in_callback() -> bool:
    """Whether this runs in a callback that a library thread waits for.

    So does a task begun in it, which it may await, but not one that has outlived it.
    """
    task = _inside.get()
    return task is not None and not task.done()


class OnLoop:
    """A callback, plain or ``async def``, that runs on an event loop whichever thread calls it.

    The calling thread waits for it, so that what it is called with keeps its order, and gets what
    it returns or raises. Two of the same callback on the same loop are equal.
    """

    def __init__(self, callback: Callable[..., Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._callback = callback

    def __call__(self, *arguments: Any) -> Any:
        call = self._run(arguments)
        try:
            running = asyncio.run_coroutine_threadsafe(call, self._loop)
        except RuntimeError:  # the loop is closed
            call.close()
            raise
        while not wait((running,), LOOK).done:
            if self._loop.is_closed():  # what was under way on it never ends: one attribute is read
                if inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
                    call.close()
                raise RuntimeError("the event loop was closed before its callback had ended")
        return running.result()

    async def _run(self, arguments: Any) -> Any:
        _inside.set(asyncio.current_task())  # in this task's own context
        result = self._callback(*arguments)
        return await result if inspect.isawaitable(result) else result

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OnLoop)
            and self._callback == other._callback
            and self._loop is other._loop
        )

    def __hash__(self) -> int:
        return hash(self._callback)

    def __repr__(self) -> str:
        return repr(self._callback)
