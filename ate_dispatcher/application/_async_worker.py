"""`AsyncWorker`: runs an ``async def`` function on the application's loop, as one task."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from queue import Empty
from typing import Any, Callable, Optional

from .._exceptions import StateError
from ._async_socket import AsyncSocket
from ._function import check_result
from ._worker import Worker

__all__ = ["AsyncWorker"]


class AsyncWorker(Worker):
    """The same life, suspended where a `Worker` blocks. One message at a time, in order."""

    _task: Optional[asyncio.Task[Any]] = None
    _calling = False
    _called_off = False
    _wake: Optional[asyncio.Event] = None

    # These are read and written on the loop's thread alone.

    def _begin(self) -> None:
        assert self._loop is not None
        self._loop.start(self._live_here())

    async def _live_here(self) -> None:
        self._task, self._wake = asyncio.current_task(), asyncio.Event()
        self._sockets = AsyncSocket(self.socket)
        await self._live()

    def _put(self, item: Any) -> None:
        super()._put(item)
        assert self._loop is not None
        self._loop.call(self._woken)

    def _woken(self) -> None:
        if self._wake is not None:
            self._wake.set()

    async def _next(self) -> Any:
        assert self._wake is not None
        while True:
            try:
                return self._items.get_nowait()
            except Empty:
                self._wake.clear()  # on this thread, as is `_woken`: nothing comes in between
            if self._items.empty():
                await self._wake.wait()

    async def _call(self, *args: Any, **kwargs: Any) -> None:
        if self._called_off:
            raise asyncio.CancelledError
        self._calling = True
        try:
            result = await self.function.call(*args, **kwargs)
            if result is not None:
                check_result(self.function.name, result)
        finally:
            self._calling = False

    async def _enter_one(self, stack: AsyncExitStack, manager: Any) -> Any:
        if isinstance(manager, AbstractAsyncContextManager):
            return await stack.enter_async_context(manager)
        return stack.enter_context(manager)

    async def _say(self, call: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(StateError):  # the socket is closed: it would say the same
            await self._sockets._start(self._sockets._publishing, call, *args)

    def _handle(self) -> Any:
        return self._sockets

    def _call_off(self) -> None:
        assert self._loop is not None
        self._loop.call(self._cancel)

    def _cancel(self) -> None:
        """Cancel the function, but not the leaving of its resources."""
        self._called_off = True
        if self._calling and self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Leave nothing behind, the socket's threads neither."""
        super().close()
        if hasattr(self, "_sockets"):
            self._sockets._shut()
