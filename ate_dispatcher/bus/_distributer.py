"""`Distributer`: publish and subscribe on whatever bus a URL names."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from .._codec import encode
from .._exceptions import InvalidArgumentError, InvalidTypeError, PayloadTooLargeError, StateError
from .._topics import TopicFilter
from ._driver import Capabilities, Driver
from ._grammar import words_of_filter, words_of_topic
from ._pubsub import PubSub
from ._registry import driver_class
from ._subscription import Subscription
from ._url import BusURL

__all__ = ["Distributer"]

SNAPSHOT_PARTS = ("pose", "color_image", "depth_image", "feelings")


class Distributer:
    """Distribute JSON data between the parts of a system, over the broker that a URL names.

    Parameters
    ----------
    url : str
        Such as ``memory://bench``, ``mqtt://127.0.0.1``, ``amqp://user:password@host/vhost``.
    on_error : callable, optional
        Called ``(subscription, error)``, on the subscription's thread, for a callback that raised
        and a message that was no JSON. Both are logged and counted anyhow.

    Raises
    ------
    BusURLError, UnknownSchemeError, MissingExtraError
        The URL is wrong, or what it needs is not installed. Nothing is connected yet.

    Notes
    -----
    All methods are thread-safe. It connects on first use; use it as a context manager, or `close`
    it. In the child of a fork it connects anew, and the subscriptions made before are the parent's
    alone.

    Examples
    --------
    >>> with Distributer("memory://bench") as bus:
    ...     with bus.subscribe(print, "site.*.voltage"):
    ...         bus.publish({"volts": 5.01}, "site.2.voltage")
    """

    def __init__(
        self,
        url: str,
        *,
        on_error: Optional[Callable[[Subscription, BaseException], Any]] = None,
    ) -> None:
        if on_error is not None and not callable(on_error):
            raise InvalidTypeError(f"on_error must be callable, not {on_error!r}")
        self._url = BusURL(url)
        self._class = driver_class(self._url)
        self._class(self._url)  # reads the options, so that a mistake is told here
        self._on_error = on_error
        # Guards what follows, and connecting; never held while a callback runs.
        self._lock = threading.Lock()
        self._connected: Optional[Driver] = None
        self._closed = False
        self._subscriptions: Dict[Subscription, None] = {}
        _distributers.add(self)

    @property
    def url(self) -> str:
        """The URL without its password."""
        return str(self._url)

    @property
    def capabilities(self) -> Capabilities:
        """What this bus promises."""
        return self._class.capabilities

    # ---- life ------------------------------------------------------------------------------------

    def connect(self) -> Distributer:
        """Reach the broker now instead of on first use; connected already, do nothing.

        Returns
        -------
        Distributer
            This one.

        Raises
        ------
        BusConnectionError
            It cannot be reached, or refuses; within the URL's ``timeout``.
        """
        with self._lock:
            self._closed = False
            self._connect()
        return self

    def _connect(self) -> Driver:
        if self._connected is None:
            driver = self._class(self._url)
            driver.connect()
            self._connected = driver
        return self._connected

    def _driver(self) -> Driver:
        driver = self._connected  # one read, atomic; set under the lock and only once connected
        if driver is not None:
            return driver
        with self._lock:
            if self._closed:
                raise StateError(f"the distributer of {self._url} is closed: connect() it again")
            return self._connect()

    def close(self, timeout: float = 5.0) -> None:
        """End every subscription and leave the broker. Closing twice is once.

        Parameters
        ----------
        timeout : float
            Seconds to wait for callbacks that are running, all together.
        """
        with self._lock:
            self._closed = True
            driver, self._connected = self._connected, None
            subscriptions = tuple(self._subscriptions)
        _cancel_all(subscriptions, timeout)
        if driver is not None:
            driver.close()

    def __enter__(self) -> Distributer:
        return self.connect()

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Distributer {self._url}>"

    # ---- publish and subscribe -------------------------------------------------------------------

    def publish(self, data: Any, topic: str, *, retain: bool = False) -> None:
        """Publish data to a topic; return when the broker has taken it.

        Parameters
        ----------
        data : object
            Whatever JSON has a form for.
        topic : str
            Words separated by ``.`` or ``/``, without wildcards.
        retain : bool
            Whether it is kept, in place of the one before, for those who subscribe later without a
            group.

        Raises
        ------
        NotJSONError
            The message names the path to the offending value.
        InvalidTypeError, InvalidArgumentError
            The topic is no string, empty, has an empty word or a wildcard.
        PayloadTooLargeError
            The broker takes no message of that size.
        UnsupportedByDriverError
            This broker retains nothing; see ``capabilities.retained``.
        BusConnectionError
            The broker is not there, or does not answer in time (`BusTimeoutError`); nothing is
            known to have been published.
        StateError
            The distributer was closed.
        """
        words = words_of_topic(topic)
        payload = encode(data)
        limit = self._class.capabilities.max_payload
        if limit is not None and len(payload) > limit:
            raise PayloadTooLargeError(
                f"the message for {topic!r} has {len(payload)} bytes as JSON, "
                f"{self._url.scheme}:// takes {limit} at most"
            )
        driver = self._driver()
        (driver.publish_retained if retain else driver.publish)(words, payload)

    def subscribe(
        self,
        callback: Callable[..., Any],
        *topics: Union[str, TopicFilter],
        subscriber_group: str = "",
        with_topic: bool = False,
        on_connection: Optional[Callable[[bool], Any]] = None,
    ) -> Subscription:
        """Have a callback called with everything published to some topics.

        Parameters
        ----------
        callback : callable
            Called ``(data)``, or ``(data, topic)``, on a thread of the subscription.
        *topics : str or TopicFilter
            May be filters: ``*`` or ``+`` is one word, a last ``#`` the rest.
        subscriber_group : str
            Subscribers of one group share the messages, each goes to one of them; without a group
            every subscriber gets every message.
        with_topic : bool
            Whether the callback gets the topic too, spelled as the filter was.
        on_connection : callable, optional
            Called ``(connected)``: with False when the broker is lost, with True when messages can
            come again. It runs on a thread of the driver's and must not block.

        Returns
        -------
        Subscription
            Live: what is published from now on arrives.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError
            No callable, no topic, or one that cannot be.
        BusConnectionError
            The broker is not there, or refuses.
        StateError
            The distributer was closed.
        """
        if not callable(callback):
            raise InvalidTypeError(f"a callback must be callable, not {callback!r}")
        if on_connection is not None and not callable(on_connection):
            raise InvalidTypeError(f"on_connection must be callable, not {on_connection!r}")
        if not topics:
            raise InvalidArgumentError("subscribe() needs at least one topic")
        if not isinstance(subscriber_group, str):
            raise InvalidTypeError(f"a group's name must be a string, not {subscriber_group!r}")
        # The same filter twice is once.
        filters = tuple(dict.fromkeys(words_of_filter(topic) for topic in topics))
        driver = self._driver()
        subscription = Subscription(
            callback,
            filters,
            subscriber_group,
            with_topic,
            self._on_error,
            self._ended,
            on_connection,
        )
        with self._lock:
            self._check_still(driver)
            self._subscriptions[subscription] = None
        subscription._begin(driver)
        self._check_still(driver)
        return subscription

    def _check_still(self, driver: Driver) -> None:
        if self._connected is not driver:
            raise StateError(f"the distributer of {self._url} was closed meanwhile")

    def _forked(self) -> None:
        """Begin anew in the child of a fork: what there is of a connection is the parent's."""
        self._lock = threading.Lock()  # a thread that is not here may have held it
        if self._connected is not None:
            _inherited.append(self._connected)
            self._connected = None
        for subscription in self._subscriptions:
            subscription._cancelled = True
        self._subscriptions.clear()

    def _ended(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.pop(subscription, None)

    def pubsub(
        self, protocol: Any = None, *, on_connection: Optional[Callable[[bool], Any]] = None
    ) -> PubSub:
        """Give a publish/subscribe handler for many clients; see `PubSub`."""
        return PubSub(self, protocol, on_connection)

    # ---- the documented helpers ------------------------------------------------------------------

    def publish_server(self, data: Mapping[str, Any]) -> None:
        """Publish user information or a snapshot, whichever `data` is.

        Raises
        ------
        InvalidArgumentError
            It is neither, or lacks what is required; the message says which. Nothing is published.
        """
        if isinstance(data, Mapping) and not data:
            raise InvalidArgumentError(
                "nothing was published: the mapping is empty; "
                "a user has 'id', a snapshot's message 'user' and 'snapshot'"
            )
        if isinstance(data, Mapping) and (
            "snapshot" in data or ("user" in data and "id" not in data)
        ):
            self.publish_raw_snapshot(data)
        else:
            self.publish_user(data)

    def publish_user(self, data: Mapping[str, Any]) -> None:
        """Publish a user, ``{"id", …}``, to the topic ``user``."""
        user_id = _required(data, "user", "id")
        metadata = {"user_id": user_id, "topic": "user"}
        self.publish({"metadata": metadata, "data": data}, "user")

    def publish_raw_snapshot(self, data: Mapping[str, Any]) -> None:
        """Publish each part that a snapshot has to ``raw.<part>``.

        Parameters
        ----------
        data : mapping
            ``{"user": {"id", …}, "snapshot": {"datetime", pose, color_image, depth_image,
            feelings}}``; absent parts are left out.
        """
        user_id = _required(_required(data, "message", "user"), "user", "id")
        snapshot = _required(data, "message", "snapshot")
        datetime = _required(snapshot, "snapshot", "datetime")
        for part in SNAPSHOT_PARTS:
            if part in snapshot:
                metadata = {"user_id": user_id, "datetime": datetime, "topic": part}
                self.publish({"metadata": metadata, "data": snapshot[part]}, f"raw.{part}")

    def publish_parsed_topic(self, parsed_topic_data: Any, topic: str) -> None:
        """Publish data to ``parsed.<topic>``."""
        self.publish(parsed_topic_data, f"parsed.{topic}")

    def subscribe_raw_topic(
        self, callback: Callable[..., Any], topic: str, subscriber_group: str = ""
    ) -> Subscription:
        """Subscribe to ``raw.<topic>``."""
        return self.subscribe(callback, f"raw.{topic}", subscriber_group=subscriber_group)

    def subscribe_parsed_topic(
        self, callback: Callable[..., Any], topic: str, subscriber_group: str = ""
    ) -> Subscription:
        """Subscribe to ``parsed.<topic>``."""
        return self.subscribe(callback, f"parsed.{topic}", subscriber_group=subscriber_group)


def _required(data: Any, what: str, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise InvalidTypeError(f"a {what} must be a mapping, not {type(data).__name__}: {data!r}")
    if data.get(key) is None:
        has = f"only {', '.join(map(str, data))}" if data else "it is empty"
        found = "it is None" if key in data else has
        raise InvalidArgumentError(f"nothing was published: the {what} has no {key!r}, {found}")
    return data[key]


def _cancel_all(subscriptions: Tuple[Subscription, ...], timeout: float) -> None:
    """Cancel them all at once, then wait for all of them together."""
    from time import monotonic

    limit = monotonic() + timeout
    for subscription in subscriptions:
        subscription.cancel(timeout=0)
    for subscription in subscriptions:
        if threading.current_thread() is not subscription._worker:
            subscription.join(max(0.0, limit - monotonic()))


_distributers: weakref.WeakSet[Distributer] = weakref.WeakSet()
_inherited: List[Driver] = []
"""Kept for as long as the process lives: to throw a connection away could be to close it, and it is
the parent's."""


def _after_fork() -> None:
    for distributer in tuple(_distributers):
        distributer._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
