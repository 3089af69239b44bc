"""The event loop of an agent with ``async def`` hooks: one daemon thread that the agent owns."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import Any, Callable, Optional

from ._callbacks import local

__all__ = ["LoopThread"]


class LoopThread:
    """An event loop on a thread of its own; only the owning agent's thread hands it work.

    The loop goes on between hooks, so background tasks that a hook started stay alive.
    """

    def __init__(self, owner: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._owner = owner
        self._thread = threading.Thread(target=self._run, name=f"{owner.name}-loop", daemon=True)
        self._thread.start()

    def run(
        self, coroutine: Any, calling_off: Optional[Callable[[Callable[[], None]], None]] = None
    ) -> Any:
        """See one coroutine through and give its result; blocks the agent's thread.

        `calling_off`, if given, is handed a function that cancels the coroutine from any thread.
        The agent's context (its current request) reaches the coroutine.
        """
        return asyncio.run_coroutine_threadsafe(
            self._supervise(coroutine, calling_off), self._loop
        ).result()

    async def _supervise(self, coroutine: Any, calling_off: Any) -> Any:
        if calling_off is not None:
            # The task must not be a local here: with an error's traceback that would be a cycle.
            calling_off(partial(self._cancel, asyncio.current_task()))
        return await coroutine

    def _cancel(self, task: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing to cancel
            self._loop.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End the loop and its thread, cancelling the tasks that are left."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)  # a task that refuses to end is left behind, a daemon

    def _run(self) -> None:
        local.role = self._owner
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
