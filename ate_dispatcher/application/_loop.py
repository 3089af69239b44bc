"""What an application keeps on its event loop for functions that run beside it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from .._loop_thread import LoopThread

__all__ = ["Held"]


class Held:
    """An asynchronous context manager as a plain one: one task of a loop enters and leaves it."""

    def __init__(self, loop: LoopThread, manager: Any) -> None:
        self._loop = loop
        self._manager = manager

    def __enter__(self) -> Any:
        entered: Future[Any] = Future()
        self._left = self._loop.start(self._hold(entered))
        # Entering fails where the task ends, which is then told by its own result.
        self._left.add_done_callback(lambda left: _pass_on(left, entered))
        return entered.result()

    def __exit__(self, *error: Any) -> None:
        self._loop.call(self._leave.set)
        self._left.result()

    async def _hold(self, entered: Future[Any]) -> None:
        self._leave = asyncio.Event()
        async with self._manager as value:
            entered.set_result(value)
            await self._leave.wait()


def _pass_on(left: Future[Any], entered: Future[Any]) -> None:
    if not entered.done():
        error = None if left.cancelled() else left.exception()
        entered.set_exception(error or RuntimeError("the loop ended meanwhile"))
