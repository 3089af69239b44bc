"""`SocketServer` and `SocketClient` for asyncio."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Union

from .._exceptions import ATEDispatcherError
from ..control import SocketClient as ThreadedClient
from ..control import SocketServer as ThreadedServer
from ..control._place import AnyPath
from ..sse import ChannelContainer
from ._streams import AsyncStream
from ._threads import in_thread

__all__ = ["SocketClient", "SocketServer"]


class SocketServer:
    """`ate_dispatcher.control.SocketServer`, served and shut down by coroutines.

    Parameters
    ----------
    file_descriptor_path, **options
        As in the thread-based form.
    """

    def __init__(self, file_descriptor_path: AnyPath, **options: Any) -> None:
        self.threaded = ThreadedServer(file_descriptor_path, **options)

    @staticmethod
    def start(file_descriptor_path: AnyPath) -> None:
        """Serve channels at a path until Ctrl-C, SIGTERM or the verb ``stop``; it is no coroutine.

        As documented, for scripts that have no event loop of their own.
        """
        ThreadedServer.start(file_descriptor_path)

    @property
    def container(self) -> ChannelContainer:
        """The channels."""
        return self.threaded.container

    async def main(self) -> None:
        """Serve until `shutdown`, or a client says ``stop``; cancelled, it shuts down."""
        try:
            await in_thread(self.threaded.main)
        finally:
            await self.shutdown()

    async def shutdown(self, timeout: float = 5.0) -> bool:
        """End; whether all threads have ended within `timeout` seconds."""
        return await in_thread(self.threaded.shutdown, timeout)

    async def __aenter__(self) -> SocketServer:
        await in_thread(self.threaded.open, undo=lambda _: self.threaded.shutdown())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.shutdown()

    def __repr__(self) -> str:
        return repr(self.threaded)


class SocketClient:
    """`ate_dispatcher.control.SocketClient` with coroutines; streams are async iterators.

    A stream is opened when it is first read, or on entering it with ``async with``. A cancelled
    `create_channel` or `register` is undone; whether any other cancelled command was carried out is
    not known.

    Parameters
    ----------
    file_descriptor_path, timeout
        As in the thread-based form.
    """

    def __init__(self, file_descriptor_path: AnyPath, *, timeout: float = 10.0) -> None:
        self.threaded = ThreadedClient(file_descriptor_path, timeout=timeout)

    def __repr__(self) -> str:
        return repr(self.threaded)

    async def send_payload(self, payload: Mapping[str, Any]) -> Any:
        """Send a command as it stands; give the ``result`` of its answer."""
        return await in_thread(self.threaded.send_payload, payload)

    async def create_channel(self) -> str:
        """Have the server create a channel; give its id."""
        return await in_thread(
            self.threaded.create_channel, undo=_at_best(self.threaded.remove_channel)
        )

    async def register(self, channel_id: str) -> str:
        """Add a listener to a channel; give its id."""
        undo = partial(self.threaded.remove_listener, channel_id)
        return await in_thread(self.threaded.register, channel_id, undo=_at_best(undo))

    def stream(self, channel_id: str, listener_id: str) -> AsyncStream[str]:
        """Stream the messages of a listener, each as the channel adapts it, as JSON text."""
        return AsyncStream(lambda: self.threaded.stream(channel_id, listener_id))

    def watch(self, channel_id: str) -> AsyncStream[str]:
        """Stream everything that is sent on a channel from its opening on, as JSON text."""
        return AsyncStream(lambda: self.threaded.watch(channel_id))

    async def broadcast_message(self, channel_id: str, message_type: str, payload: Any) -> None:
        """Send a message to all listeners of a channel."""
        await in_thread(self.threaded.broadcast_message, channel_id, message_type, payload)

    async def dispatch(
        self, channel_id: str, receiver_id: str, message_type: str, payload: Any
    ) -> None:
        """Send a message to one listener of a channel."""
        await in_thread(self.threaded.dispatch, channel_id, receiver_id, message_type, payload)

    async def remove_listener(self, channel_id: str, listener_id: str) -> None:
        """Remove a listener; its stream ends."""
        await in_thread(self.threaded.remove_listener, channel_id, listener_id)

    async def remove_channel(self, channel_id: str) -> None:
        """Remove a channel; its streams end after what waits."""
        await in_thread(self.threaded.remove_channel, channel_id)

    def with_options(
        self,
        *,
        to: Union[str, Iterable[str], None] = None,
        sites: Optional[Iterable[Union[int, str]]] = None,
        priority: int = 0,
    ) -> SocketClient:
        """Give a client whose requests have options; see ``ATEDispatcher.with_options``."""
        view = SocketClient(self.threaded.path, timeout=self.threaded.timeout)
        view.threaded = self.threaded.with_options(to=to, sites=sites, priority=priority)
        return view

    def send_request(
        self, /, topic: str, *args: Any, ttl: Any = 5000, **kwargs: Any
    ) -> AsyncStream[Dict[str, Any]]:
        """Send a request when this is first read, and stream what becomes of it."""
        return AsyncStream(lambda: self.threaded.send_request(topic, *args, ttl=ttl, **kwargs))

    async def statistics(self) -> Dict[str, Any]:
        """Give the dispatcher's statistics, as nested dicts."""
        return await in_thread(self.threaded.statistics)

    async def stop(
        self, drain: bool = True, timeout: Optional[float] = None
    ) -> Optional[Dict[str, Any]]:
        """Stop the dispatcher, and the server then; give the report."""
        return await in_thread(self.threaded.stop, drain, timeout)


def _at_best(undo: Callable[[str], None]) -> Callable[[str], None]:
    """Have something undone that may be gone already, as the whole server may be."""

    def tried(name: str) -> None:
        with suppress(ATEDispatcherError):
            undo(name)

    return tried
