"""`Distributer`, `Subscription` and `PubSub` for asyncio."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Union

from .._exceptions import InvalidTypeError
from .._topics import TopicFilter
from ..bus import Capabilities
from ..bus import Distributer as ThreadedDistributer
from ..bus import Subscription as ThreadedSubscription
from ..bus._pubsub import NOTHING
from ._loop_calls import OnLoop, in_callback
from ._threads import Lane, in_thread

__all__ = ["Distributer", "PubSub", "Subscription"]

Callback = Callable[..., Any]


def on_loop(callback: Callback, what: str = "a callback") -> OnLoop:
    """Have a callback called on the loop that runs now."""
    if not callable(callback):
        raise InvalidTypeError(f"{what} must be callable, not {callback!r}")
    return OnLoop(callback)


def patience(timeout: float) -> float:
    """Give the seconds to wait for callbacks: none in a callback, which would wait for itself."""
    return 0.0 if in_callback() else timeout


class Subscription:
    """A live subscription; see `ate_dispatcher.bus.Subscription`. An async context manager."""

    def __init__(self, threaded: ThreadedSubscription) -> None:
        self.threaded = threaded

    @property
    def active(self) -> bool:
        """Whether messages still reach the callback."""
        return self.threaded.active

    @property
    def connected(self) -> bool:
        """Whether messages can come, as far as the driver knows."""
        return self.threaded.connected

    async def cancel(self, timeout: float = 5.0) -> bool:
        """End it: no callback begins after this; False if one still runs after `timeout` s."""
        return await in_thread(self.threaded.cancel, patience(timeout))

    async def join(self, timeout: Optional[float] = None) -> bool:
        """Wait until it has ended; False if `timeout` (seconds) ran out first."""
        return await in_thread(self.threaded.join, timeout)

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.cancel()

    def __repr__(self) -> str:
        return repr(self.threaded)


class Distributer:
    """`ate_dispatcher.bus.Distributer` with coroutines; callbacks run on the event loop.

    Callbacks may be plain or ``async def``. One subscription's messages come one at a time: the
    next is handed over when the callback for the last has ended. What is published goes out in the
    order in which it was awaited; a cancelled `publish` may or may not have published, a cancelled
    `subscribe` is undone.

    Parameters
    ----------
    url : str
        Such as ``memory://bench``, ``mqtt://127.0.0.1``.
    on_error : callable, optional
        Called ``(subscription, error)``, on a library thread, as in the thread-based form.
    """

    def __init__(
        self,
        url: str,
        *,
        on_error: Optional[Callable[[ThreadedSubscription, BaseException], Any]] = None,
    ) -> None:
        self.threaded = ThreadedDistributer(url, on_error=on_error)
        self.lane = Lane()

    @property
    def url(self) -> str:
        """The URL without its password."""
        return self.threaded.url

    @property
    def capabilities(self) -> Capabilities:
        """What this bus promises."""
        return self.threaded.capabilities

    async def connect(self) -> Distributer:
        """Reach the broker now instead of on first use."""
        self.lane.open()
        await in_thread(self.threaded.connect)
        return self

    async def close(self, timeout: float = 5.0) -> None:
        """End every subscription and leave the broker; wait `timeout` seconds for callbacks."""
        self.lane.close()
        await in_thread(self.threaded.close, patience(timeout))

    async def __aenter__(self) -> Distributer:
        self.lane.open()
        await in_thread(self.threaded.connect, undo=lambda threaded: threaded.close())
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self.threaded)

    async def publish(self, data: Any, topic: str, *, retain: bool = False) -> None:
        """Publish data to a topic; return when the broker has taken it."""
        await self.lane.run(self.threaded.publish, data, topic, retain=retain)

    async def subscribe(
        self,
        callback: Callback,
        *topics: Union[str, TopicFilter],
        subscriber_group: str = "",
        with_topic: bool = False,
    ) -> Subscription:
        """Have a callback called with everything published to some topics; live on return."""
        threaded = await in_thread(
            self.threaded.subscribe,
            on_loop(callback),
            *topics,
            subscriber_group=subscriber_group,
            with_topic=with_topic,
            undo=lambda threaded: threaded.cancel(),
        )
        return Subscription(threaded)

    def pubsub(self, protocol: Any = None) -> PubSub:
        """Give a publish/subscribe handler for many clients."""
        return PubSub(self, protocol)

    async def publish_server(self, data: Mapping[str, Any]) -> None:
        """Publish user information or a snapshot, whichever `data` is."""
        await self.lane.run(self.threaded.publish_server, data)

    async def publish_user(self, data: Mapping[str, Any]) -> None:
        """Publish a user to the topic ``user``."""
        await self.lane.run(self.threaded.publish_user, data)

    async def publish_raw_snapshot(self, data: Mapping[str, Any]) -> None:
        """Publish each part that a snapshot has to ``raw.<part>``."""
        await self.lane.run(self.threaded.publish_raw_snapshot, data)

    async def publish_parsed_topic(self, parsed_topic_data: Any, topic: str) -> None:
        """Publish data to ``parsed.<topic>``."""
        await self.lane.run(self.threaded.publish_parsed_topic, parsed_topic_data, topic)

    async def subscribe_raw_topic(
        self, callback: Callback, topic: str, subscriber_group: str = ""
    ) -> Subscription:
        """Subscribe to ``raw.<topic>``."""
        return await self.subscribe(callback, f"raw.{topic}", subscriber_group=subscriber_group)

    async def subscribe_parsed_topic(
        self, callback: Callback, topic: str, subscriber_group: str = ""
    ) -> Subscription:
        """Subscribe to ``parsed.<topic>``."""
        return await self.subscribe(callback, f"parsed.{topic}", subscriber_group=subscriber_group)


class PubSub:
    """`ate_dispatcher.bus.PubSub` with coroutines; made by ``Distributer.pubsub()``.

    Clients are callables ``client(channel, message)``, plain or ``async def``, called on the event
    loop that ran when they were added.
    """

    def __init__(self, store: Distributer, protocol: Any = None) -> None:
        self.threaded = store.threaded.pubsub(protocol)
        self._lane = store.lane

    @property
    def protocol(self) -> Any:
        """What encodes and decodes messages, or None."""
        return self.threaded.protocol

    def add_client(self, client: Callback) -> None:
        """Have a client called with every message. Adding it twice is once."""
        self.threaded.add_client(on_loop(client, "a client"))

    def remove_client(self, client: Callback) -> None:
        """Call a client no more; no error if it was not added."""
        self.threaded.remove_client(on_loop(client, "a client"))

    async def subscribe(self, channel: str, *channels: str) -> None:
        """Follow these channels; live when it returns."""
        await in_thread(self.threaded.subscribe, channel, *channels)

    async def unsubscribe(self, *channels: str, timeout: float = 5.0) -> None:
        """Follow these channels no more; all of them if none is named."""
        await in_thread(self.threaded.unsubscribe, *channels, timeout=patience(timeout))

    async def psubscribe(self, pattern: str, *patterns: str) -> None:
        """Follow the channels that match a glob."""
        await in_thread(self.threaded.psubscribe, pattern, *patterns)

    async def punsubscribe(self, *patterns: str, timeout: float = 5.0) -> None:
        """Follow these globs no more; all of them if none is named."""
        await in_thread(self.threaded.punsubscribe, *patterns, timeout=patience(timeout))

    async def publish(self, channel: str, message: Any) -> None:
        """Publish a message on a channel."""
        await self._lane.run(self.threaded.publish, channel, message)

    async def publish_event(self, channel: str, event: str, data: Any = NOTHING) -> None:
        """Publish ``{"event", "channel"[, "data"]}`` on a channel."""
        await self._lane.run(self.threaded.publish_event, channel, event, data)

    async def count(self, *channels: str) -> Dict[str, int]:
        """Count the subscribers of each channel, those of patterns left out."""
        return await in_thread(self.threaded.count, *channels)

    async def channels(self, pattern: Optional[str] = None) -> Tuple[str, ...]:
        """List the channels with at least one subscriber, sorted; those that match a glob."""
        return await in_thread(self.threaded.channels, pattern)

    async def close(self, timeout: float = 5.0) -> None:
        """Follow nothing any more; the bus stays open."""
        await in_thread(self.threaded.close, patience(timeout))
