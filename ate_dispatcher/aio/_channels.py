"""`Channels` for asyncio."""

from __future__ import annotations

import logging
from typing import Any, Callable, ClassVar, Optional, Tuple, Type, Union

from .._backoff import Backoff
from ..bus import Distributer as ThreadedDistributer
from ..channels import Channel, StatusType
from ..channels import Channels as ThreadedChannels
from ._bus import Distributer, on_loop, patience
from ._threads import Lane, in_thread

__all__ = ["Channels"]


class Channels:
    """`ate_dispatcher.channels.Channels` with coroutines; callbacks run on the event loop.

    Callbacks may be plain or ``async def``; they are called on the loop that ran when they were
    registered. What is published goes out in the order in which it was awaited. A cancelled
    `register` is undone.

    Parameters
    ----------
    store : str or Distributer
        A bus URL, or a bus, thread-based or of `aio`.
    namespace, status_channel, logger, backoff
        As in the thread-based form.
    on_status : callable, optional
        Called ``(status)`` at every change, on a library thread.
    """

    statusType: ClassVar[Type[StatusType]] = StatusType  # noqa: N815 - the documented name

    def __init__(
        self,
        store: Union[str, ThreadedDistributer, Distributer],
        namespace: Optional[str] = None,
        status_channel: Optional[str] = None,
        logger: Optional[logging.Logger] = None,
        *,
        on_status: Optional[Callable[[StatusType], Any]] = None,
        backoff: Optional[Backoff] = None,
    ) -> None:
        self._own_lane = Lane()
        self._lane = store.lane if isinstance(store, Distributer) else self._own_lane
        self.threaded = ThreadedChannels(
            store.threaded if isinstance(store, Distributer) else store,
            namespace,
            status_channel,
            logger,
            on_status=on_status,
            backoff=backoff,
        )

    @property
    def status(self) -> StatusType:
        """How far it has come."""
        return self.threaded.status

    @property
    def channels(self) -> Tuple[Channel, ...]:
        """The channels with something registered."""
        return self.threaded.channels

    @property
    def namespace(self) -> str:
        """What stands before every channel's name."""
        return self.threaded.namespace

    async def connect(self, next_time: Optional[float] = None) -> StatusType:
        """Connect, and from now on reconnect; the status after the first attempt."""
        return await in_thread(self.threaded.connect, next_time)

    async def close(self, timeout: float = 5.0) -> None:
        """End all registrations, for good; wait `timeout` seconds for callbacks that run."""
        await in_thread(self.threaded.close, patience(timeout))
        self._own_lane.close()

    async def __aenter__(self) -> Channels:
        await in_thread(self.threaded.connect, undo=lambda status: self.threaded.close())
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self.threaded)

    async def register(self, channel: str, event: str, callback: Callable[..., Any]) -> Channel:
        """Have a callback ``(channel, event, data)`` called with the events of a channel."""
        wrapped = on_loop(callback)

        def undo(registered: Channel) -> None:
            self.threaded.unregister(channel, event, wrapped)

        return await in_thread(self.threaded.register, channel, event, wrapped, undo=undo)

    async def unregister(
        self, channel: str, event: str, callback: Callable[..., Any]
    ) -> Optional[Channel]:
        """Take a callback away; None if it was not registered."""
        return await in_thread(self.threaded.unregister, channel, event, on_loop(callback))

    async def publish(self, channel: str, event: str, data: Any = None) -> None:
        """Publish an event on a channel; return when the broker has taken it."""
        await self._lane.run(self.threaded.publish, channel, event, data)
