"""An event loop on a thread of its own, for ``async def`` hooks and functions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from concurrent.futures import Future
from functools import partial
from typing import Any, Callable, Coroutine, Optional

from ._callbacks import local

__all__ = ["LoopThread"]

logger = logging.getLogger("ate_dispatcher")


class LoopThread:
    """An event loop on a daemon thread of its own. Any thread may hand it coroutines.

    The loop goes on between them, so background tasks that one has started stay alive. It also goes
    on when one raises ``SystemExit`` or ``KeyboardInterrupt``: who waits for it is to be told.

    Parameters
    ----------
    name : str
        Whose it is.
    role : object, optional
        What ``local.role`` is on the thread, if it is that of an agent.
    """

    def __init__(self, name: str, role: Any = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._role = role
        self._closing = False
        self.thread = threading.Thread(target=self._run, name=f"{name}-loop", daemon=True)
        self.thread.start()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Make a task of a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(
        self, coroutine: Any, calling_off: Optional[Callable[[Callable[[], None]], None]] = None
    ) -> Any:
        """See one coroutine through and give its result; blocks the calling thread.

        `calling_off`, if given, is handed a function that cancels the coroutine from any thread.
        The caller's context (its current request) reaches the coroutine.
        """
        return self.start(self._supervise(coroutine, calling_off)).result()

    async def _supervise(self, coroutine: Any, calling_off: Any) -> Any:
        if calling_off is not None:
            # The task must not be a local here: with an error's traceback that would be a cycle.
            calling_off(partial(self._cancel, asyncio.current_task()))
        return await coroutine

    def _cancel(self, task: Any) -> None:
        self.call(task.cancel)

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have a function called on the loop soon; nothing if the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def close(self) -> None:
        """End the loop and its thread, cancelling the tasks that are left."""
        # Set before the loop is told to stop: an error may make it forget that, but not the flag.
        self._closing = True
        self.call(self._loop.stop)
        self.thread.join(1.0)  # a task that refuses to end is left behind, a daemon

    def _run(self) -> None:
        if self._role is not None:
            local.role = self._role
        asyncio.set_event_loop(self._loop)
        try:
            while not self._closing:
                self._guarded(self._loop.run_forever)
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._see_out(asyncio.gather(*tasks, return_exceptions=True))
            self._see_out(self._loop.create_task(self._loop.shutdown_asyncgens()))
        finally:
            self._loop.close()

    def _see_out(self, future: asyncio.Future[Any]) -> None:
        while not future.done():
            self._guarded(self._loop.run_until_complete, future)

    def _guarded(self, run: Callable[..., Any], *args: Any) -> None:
        """Run the loop until it stops; asyncio lets these two through, and stops it for them."""
        try:
            run(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            logger.warning("%s goes on after %r", self.thread.name, error)
