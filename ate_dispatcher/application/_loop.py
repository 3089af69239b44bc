"""The event loop of an application with ``async def`` functions: one thread that it owns."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import Any, Coroutine

__all__ = ["Held", "Loop"]


class Loop:
    """An event loop on a thread of its own. Any thread may hand it coroutines."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=f"{name}-loop", daemon=True)
        self.thread.start()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Make a task of a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call(self, function: Any, *args: Any) -> None:
        """Have a function called on the loop soon; nothing if the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def close(self) -> None:
        """End the loop and its thread, cancelling the tasks that are left."""
        self.call(self.loop.stop)
        self.thread.join(1.0)  # a task that refuses to end is left behind, a daemon

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


class Held:
    """An asynchronous context manager as a plain one: one task of a loop enters and leaves it."""

    def __init__(self, loop: Loop, manager: Any) -> None:
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
