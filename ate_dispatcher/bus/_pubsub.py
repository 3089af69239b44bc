"""`PubSub`: many clients, called with everything on the channels that were subscribed to."""

from __future__ import annotations

import fnmatch
import logging
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple, Union

from .._exceptions import InvalidArgumentError, InvalidTypeError, StateError
from .._topics import TopicFilter, check_topic, split_topic
from ._grammar import speller, words_of_topic
from ._subscription import Subscription

if TYPE_CHECKING:
    from ._distributer import Distributer

__all__ = ["NOTHING", "PubSub", "glob_filter"]

logger = logging.getLogger("ate_dispatcher")

Client = Callable[[str, Any], Any]


class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Any = _Nothing()
"""What an event has that carries no data: None is data."""


class PubSub:
    """A publish/subscribe handler; made by ``Distributer.pubsub()``, never directly.

    Clients are callables ``client(channel, message)``, called on threads of the bus, messages of
    one channel in their order. One that raises is logged and stays. Thread-safe.

    Parameters
    ----------
    store : Distributer
        The bus.
    protocol : object, optional
        With ``encode(message)``, giving what is published, and ``decode(data)``, its opposite; what
        `encode` gives must be JSON. Without it messages are JSON themselves.
    on_connection : callable, optional
        Called ``(connected)`` when a subscription loses its broker, and when messages can come
        again; on a thread of the driver's. It must not block.

    Attributes
    ----------
    protocol : object or None
    """

    def __init__(
        self,
        store: Distributer,
        protocol: Any = None,
        on_connection: Optional[Callable[[bool], Any]] = None,
    ) -> None:
        for verb in ("encode", "decode") if protocol is not None else ():
            if not callable(getattr(protocol, verb, None)):
                raise InvalidTypeError(
                    f"a protocol needs the method {verb}(), {protocol!r} has none"
                )
        self.protocol = protocol
        self._store = store
        self._on_connection = on_connection
        # Guards the two tables and what is replaced below; never held while a client runs.
        self._lock = threading.RLock()
        self._clients: Tuple[Client, ...] = ()
        self._channels: Dict[str, Subscription] = {}
        self._patterns: Dict[str, Subscription] = {}
        self._closed = False

    # ---- clients ---------------------------------------------------------------------------------

    def add_client(self, client: Client) -> None:
        """Have a client called with every message. Adding it twice is once."""
        if not callable(client):
            raise InvalidTypeError(f"a client must be callable, not {client!r}")
        with self._lock:
            if client not in self._clients:
                self._clients = (*self._clients, client)  # replaced whole: readers need no lock

    def remove_client(self, client: Client) -> None:
        """Call a client no more; no error if it was not added."""
        with self._lock:
            self._clients = tuple(own for own in self._clients if own != client)

    # ---- channels --------------------------------------------------------------------------------

    def subscribe(self, channel: str, *channels: str) -> None:
        """Follow these channels; live when it returns."""
        for name in (channel, *channels):
            words_of_topic(name)
            self._follow(self._channels, name, name, None)

    def unsubscribe(self, *channels: str, timeout: float = 5.0) -> None:
        """Follow these channels no more; all of them if none is named.

        Each waits `timeout` seconds for a client that is running.
        """
        self._unfollow(self._channels, channels, timeout)

    def psubscribe(self, pattern: str, *patterns: str) -> None:
        """Follow the channels that match a glob: ``*``, ``?`` and ``[ab]``, all else literal."""
        for name in (pattern, *patterns):
            self._follow(self._patterns, name, *glob_filter(name))

    def punsubscribe(self, *patterns: str, timeout: float = 5.0) -> None:
        """Follow these globs no more; all of them if none is named. As `unsubscribe`."""
        self._unfollow(self._patterns, patterns, timeout)

    def _follow(
        self,
        table: Dict[str, Subscription],
        name: str,
        topic: Union[str, TopicFilter],
        matches: Optional[Callable[[str], Any]],
    ) -> None:
        with self._lock:
            self._check_open()
            if name not in table or not table[name].active:  # the bus was closed in between
                callback = partial(self._arrived, name, matches)
                table[name] = self._store.subscribe(
                    callback, topic, with_topic=True, on_connection=self._on_connection
                )

    def _check_open(self) -> None:
        if self._closed:  # one flag, set once
            raise StateError("this publish/subscribe handler is closed")

    def _unfollow(
        self, table: Dict[str, Subscription], names: Tuple[str, ...], timeout: float
    ) -> None:
        with self._lock:
            left = [table.pop(name) for name in names or tuple(table) if name in table]
        for subscription in left:
            subscription.cancel(timeout)

    def _arrived(
        self, name: str, matches: Optional[Callable[[str], Any]], data: Any, channel: str
    ) -> None:
        if matches is None:
            channel = name
        elif not matches(channel):
            return
        message = data if self.protocol is None else self.protocol.decode(data)
        for client in self._clients:
            try:
                client(channel, message)
            except Exception:
                logger.exception("a client of channel %r raised: %r", channel, client)

    # ---- publishing ------------------------------------------------------------------------------

    def publish(self, channel: str, message: Any) -> None:
        """Publish a message on a channel.

        Raises
        ------
        StateError
            The handler was closed.
        """
        self._check_open()
        data = message if self.protocol is None else self.protocol.encode(message)
        self._store.publish(data, channel)

    def publish_event(self, channel: str, event: str, data: Any = NOTHING) -> None:
        """Publish ``{"event", "channel"[, "data"]}`` on a channel; falsy data is data."""
        if not isinstance(event, str) or not event:
            raise InvalidArgumentError(f"an event must be a non-empty string, not {event!r}")
        message = {"event": event, "channel": channel}
        if data is not NOTHING:
            message["data"] = data
        self.publish(channel, message)

    # ---- knowing ---------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether everything that was subscribed to can come, as far as the driver knows."""
        with self._lock:
            subscriptions = (*self._channels.values(), *self._patterns.values())
        return all(subscription.connected for subscription in subscriptions)

    def count(self, *channels: str) -> Dict[str, int]:
        """Count the subscribers of each channel, those of patterns left out.

        Raises
        ------
        UnsupportedByDriverError
            The broker does not tell; the message names the driver.
        """
        driver = self._store._driver()
        return {channel: driver.count(words_of_topic(channel)) for channel in channels}

    def channels(self, pattern: Optional[str] = None) -> Tuple[str, ...]:
        """List the channels with at least one subscriber, sorted; those that match a glob.

        Raises
        ------
        UnsupportedByDriverError
            The broker does not tell; the message names the driver.
        """
        matches: Optional[Callable[[str], Any]] = None
        subject = TopicFilter("#")
        if pattern is not None:
            subject, matches = glob_filter(pattern)
        spell = speller(subject)
        found = sorted(spell(words) for words in self._store._driver().topics())
        return tuple(channel for channel in found if matches is None or matches(channel))

    def close(self, timeout: float = 5.0) -> None:
        """Follow nothing any more; the bus stays open. Closing twice is once.

        As `unsubscribe`.
        """
        with self._lock:
            self._closed = True
        self.unsubscribe(timeout=timeout)
        self.punsubscribe(timeout=timeout)


def glob_filter(pattern: str) -> Tuple[TopicFilter, Callable[[str], Any]]:
    """Give a filter for the bus that brings all channels of a glob, and what tells them apart.

    The filter is the words before the first with a wildcard, and everything behind them.
    """
    check_topic(pattern)
    plain = []
    words = split_topic(pattern)
    for word in words:
        if any(sign in word for sign in "*?["):
            break
        plain.append(word)
    separator = "/" if "/" in pattern else "."
    # A filter says by its own separator how the topics are spelled that it brings.
    first = ["+"] if separator == "/" and not plain else []
    rest = [] if len(plain) == len(words) else [*first, "#"]
    matches = re.compile(fnmatch.translate(pattern)).match
    return TopicFilter(separator.join([*plain, *rest])), matches
