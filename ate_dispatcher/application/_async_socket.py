"""`AsyncSocket`: the verbs of a `Socket` as coroutines."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from ._configuration import Topics
from ._message import Message
from ._socket import REQUEST_TIMEOUT, Socket, check_timeout, no_reply

__all__ = ["AsyncSocket"]

_EXPIRED: Any = object()


class AsyncSocket:
    """A `Socket` for one event loop: the same verbs, which never block the loop.

    Each can be cancelled: what has not reached the bus by then does not, an answer that comes is
    dropped and counted as late. Use it on one loop; what it shares with other threads is in the
    `Socket` below it.

    Parameters
    ----------
    socket : Socket
        What it is a form of.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        # One thread publishes, so that messages go out in the order in which they were awaited;
        # another waits for subscriptions, so that these hold up no message.
        self._publishing = ThreadPoolExecutor(1, f"{socket.name}-publishing")
        self._asking = ThreadPoolExecutor(1, f"{socket.name}-subscribing")

    async def publish(self, message: Message) -> None:
        """Publish a message; see `Socket.publish`."""
        await self._start(self._publishing, self._socket.publish, message)

    async def subscribe(self, topics: Topics) -> None:
        """Have messages on these topics too; see `Socket.subscribe`."""
        await self._start(self._asking, self._socket.subscribe, topics)

    async def unsubscribe(self, topics: Topics) -> None:
        """Have messages on these topics no more; see `Socket.unsubscribe`."""
        await self._start(self._asking, self._socket.unsubscribe, topics)

    async def reply(self, message: Message, payload: Any) -> None:
        """Answer a message; see `Socket.reply`."""
        await self._start(self._publishing, self._socket.reply, message, payload)

    async def request(self, message: Message, timeout: float = REQUEST_TIMEOUT) -> Message:
        """Publish a question and wait for its answer; see `Socket.request`.

        `timeout` bounds the publishing too.
        """
        check_timeout(timeout)
        socket = self._socket
        question = socket._question(message)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(found: Any) -> None:
            if not answer.done():
                answer.set_result(found)

        def answered(found: Any) -> None:  # on a thread of the bus
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, found)

        def sent(done: asyncio.Future[Any]) -> None:
            error = None if done.cancelled() else done.exception()
            if error is not None and not answer.done():
                answer.set_exception(error)

        identifier = socket._correlations.open(answered)
        expiry = loop.call_later(timeout, settle, _EXPIRED)
        try:
            sending = self._start(self._publishing, socket._ask, question, identifier)
            sending.add_done_callback(sent)
            try:
                found = await answer
            finally:
                sending.cancel()  # nothing, if it has been sent
        finally:
            expiry.cancel()
            socket._correlations.close(identifier)
        if found is _EXPIRED:
            raise no_reply(message, timeout)
        return socket._read(found)

    async def sleep(self, seconds: float) -> bool:
        """Wait; False if the application stops, which also cancels producers."""
        await asyncio.sleep(seconds)
        return not self._socket.stopping

    @property
    def name(self) -> str:
        """Who we are in the messages that we send."""
        return self._socket.name

    @property
    def late(self) -> int:
        """Answers that nobody waited for any more, dropped."""
        return self._socket.late

    @property
    def malformed(self) -> int:
        """Messages that were none, logged and skipped."""
        return self._socket.malformed

    @property
    def stopping(self) -> bool:
        """Whether the socket is closed, or its application stops."""
        return self._socket.stopping

    async def close(self) -> None:
        """Leave; who still waits for an answer is told. Closing twice is once."""
        closing = ThreadPoolExecutor(1)  # the two others may be at work for somebody else
        try:
            await asyncio.get_running_loop().run_in_executor(closing, self._close)
        finally:
            closing.shutdown(wait=False)

    def _close(self) -> None:
        self._socket.close()
        self._shut()

    def _shut(self) -> None:
        """End the threads; what waited for them is not done any more."""
        self._socket._end()
        for executor in (self._publishing, self._asking):
            executor.shutdown(wait=True)

    def _start(
        self, executor: ThreadPoolExecutor, call: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self._socket._check_open()
        return asyncio.get_running_loop().run_in_executor(executor, call, *args)

    async def __aenter__(self) -> AsyncSocket:
        entering = self._start(self._asking, self._socket.__enter__)
        try:
            await entering
        except BaseException:  # cancelled, say: nobody will leave it, so it is closed behind that
            self._socket._end()
            self._asking.submit(self._socket.close)
            for executor in (self._publishing, self._asking):
                executor.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._socket).replace("<Socket", "<AsyncSocket", 1)
