"""`Channels`: register callbacks for events, whether the broker is there just now or not."""

from __future__ import annotations

import copy
import logging
import queue
import threading
from functools import partial
from time import monotonic
from typing import Any, Callable, ClassVar, Dict, List, Optional, Tuple, Type, Union

from .._backoff import Backoff
from .._exceptions import (
    BusConnectionError,
    BusError,
    CallbackError,
    InvalidArgumentError,
    InvalidTypeError,
    StateError,
    UsageError,
)
from .._topics import split_topic
from ..bus import Distributer, Subscription
from ..bus._correlation import unique_word
from ..bus._grammar import Words, words_of_topic
from ._channel import Callback, Channel, prefixed
from ._status import Link, StatusType

__all__ = ["Channels"]

FIRST, CAP = 2.0, 60.0
"""Seconds before the first repeated attempt, and at most between two."""

_CLOSE, _LOOK, _UP = "close", "look", "up"


class Channels:
    """Callbacks for the events of channels, kept alive over a broker that comes and goes.

    An event is published as JSON, ``{"event", "channel"[, "data"]}``. One channel is one
    subscription, however many events it has. What is registered while the broker is away is live
    once it is back, like all that was registered before.

    Parameters
    ----------
    store : str or Distributer
        A bus URL, or the bus. One made from a URL is closed with the channels.
    namespace : str, optional
        Words put before every channel's name, unless they are there already.
    status_channel : str, optional
        A channel on which the channels tell of themselves: the events ``connected`` and ``closed``,
        without data. Anybody may register there; `publish` refuses it.
    logger : logging.Logger, optional
        ``ate_dispatcher`` if not given.
    on_status : callable, optional
        Called ``(status)`` at every change, on the channels' own thread; on that of who closes
        them if they were never connected. It may `close`.
    backoff : Backoff, optional
        The waits between attempts: 2 seconds, doubling to a minute, up to half of it by chance.
    clock : callable, optional
        Gives seconds, as `time.monotonic`.

    Raises
    ------
    BusURLError, UnknownSchemeError, MissingExtraError
        The URL is wrong, or what it needs is not installed. Nothing is connected yet.
    InvalidTypeError, InvalidArgumentError
        What was given cannot be meant.

    Notes
    -----
    All methods are thread-safe. Callbacks run on the thread of their channel's subscription, one
    event at a time. One that raises is logged and stays; one that raises `CallbackError` is taken
    away quietly, one that raises `SystemExit` or `KeyboardInterrupt` with a log entry.

    Examples
    --------
    >>> channels = Channels("memory://bench", namespace="rack2")
    >>> channels.connect()
    <StatusType.connected: 3>
    >>> channel = channels.register("cells", "voltage.*", print)
    >>> channels.publish("cells", "voltage.high", 4.3)
    >>> channels.close()
    """

    statusType: ClassVar[Type[StatusType]] = StatusType  # noqa: N815 - the documented name

    def __init__(
        self,
        store: Union[str, Distributer],
        namespace: Optional[str] = None,
        status_channel: Optional[str] = None,
        logger: Optional[logging.Logger] = None,
        *,
        on_status: Optional[Callable[[StatusType], Any]] = None,
        backoff: Optional[Backoff] = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not isinstance(store, (str, Distributer)):
            raise InvalidTypeError(f"a store is a bus URL or a Distributer, not {store!r}")
        if on_status is not None and not callable(on_status):
            raise InvalidTypeError(f"on_status must be callable, not {on_status!r}")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise InvalidTypeError(f"backoff must be a Backoff, not {backoff!r}")
        for name in (namespace, status_channel):
            if name is not None and name != "":
                words_of_topic(name)
        self.namespace = namespace or ""
        self.logger = logger or logging.getLogger("ate_dispatcher")
        self.status_channel = self._named(status_channel) if status_channel else ""
        self._owns = isinstance(store, str)
        self._store = Distributer(store) if isinstance(store, str) else store
        self._on_status = on_status
        self._backoff = Backoff(FIRST, CAP) if backoff is None else copy.copy(backoff)
        self._link = Link(self._backoff)  # the thread writes; others read its status
        # Guards the tables, and all that is subscribed to; never held while a callback runs. The
        # broker may take its time under it, so events look into `_channels` without it: a channel
        # is found by one dict operation.
        self._lock = threading.Lock()
        self._channels: Dict[Words, Channel] = {}
        self._subscriptions: Dict[Words, Subscription] = {}
        # Subscribed to in any case, so that a loss is noticed even if nothing is registered.
        self._own = split_topic(self.status_channel or self._named(f"ate-{unique_word()}"))
        # Anybody puts, the thread gets; each is one atomic step.
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._clock = clock
        attach = getattr(clock, "attach", None)  # a clock that stands still wakes us itself
        self._ticks = attach is None
        if attach is not None:
            attach(partial(self._news.put, _LOOK))
        self._closed = False  # set once, under the lock
        self._inside = threading.local()
        self._tried = threading.Event()
        self._problem: Optional[Exception] = None  # written before `_tried` is set
        self._thread = threading.Thread(
            target=self._keep, name=f"channels at {self._store.url}", daemon=True
        )

    # ---- knowing ---------------------------------------------------------------------------------

    @property
    def status(self) -> StatusType:
        """How far it has come."""
        return StatusType.closed if self._closed else self._link.status

    @property
    def channels(self) -> Tuple[Channel, ...]:
        """The channels with something registered."""
        with self._lock:
            return tuple(self._channels.values())

    def __repr__(self) -> str:
        return f"<Channels at {self._store.url}, {self.status.name}>"

    def _named(self, channel: str) -> str:
        words_of_topic(channel)
        return prefixed(self.namespace, channel)

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"{self!r} stay closed: make new ones")

    # ---- life ------------------------------------------------------------------------------------

    def connect(self, next_time: Optional[float] = None) -> StatusType:
        """Connect, and from now on reconnect. Connected already, do nothing.

        Parameters
        ----------
        next_time : float, optional
            Seconds to wait before the second attempt, should the first one fail; each further wait
            is longer.

        Returns
        -------
        StatusType
            After the first attempt: connected, or disconnected if the broker is not there. It goes
            on trying by itself.

        Raises
        ------
        StateError
            It was closed.
        BusError, UsageError
            The first attempt failed for another reason than the broker's absence. It goes on
            trying, except with a channel that the broker does not take: that one is taken away, and
            the others are live.
        """
        if next_time is not None:
            if isinstance(next_time, bool) or not isinstance(next_time, (int, float)):
                raise InvalidTypeError(f"next_time must be seconds, not {next_time!r}")
            if not next_time > 0:
                raise InvalidArgumentError(f"next_time must be above zero, not {next_time!r}")
        with self._lock:
            self._check_open()
            first = self._thread.ident is None
            if first:
                if next_time is not None:
                    self._backoff.reset(next_time)
                self._thread.start()
        if threading.current_thread() is not self._thread:
            self._tried.wait()
        if first and self._problem is not None:
            raise self._problem
        return self.status

    def close(self, timeout: float = 5.0) -> None:
        """End all registrations, for good. Closing twice is once.

        Parameters
        ----------
        timeout : float
            Seconds to wait until callbacks that are running have ended, and the broker knows. A
            callback that closes its own channels does not wait.
        """
        with self._lock:
            first, self._closed = not self._closed, True
            connected = self._thread.ident is not None
        if not connected:  # so there is no thread that would do it
            if first:
                self._leave()
            return
        self._news.put(_CLOSE)
        if threading.current_thread() is not self._thread and not self._is_callback():
            self._thread.join(min(timeout, threading.TIMEOUT_MAX))

    def __enter__(self) -> Channels:
        self.connect()
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    # ---- registering -----------------------------------------------------------------------------

    def register(self, channel: str, event: str, callback: Callback) -> Channel:
        """Have a callback called with the events of a channel. Registering twice is once.

        Parameters
        ----------
        channel : str
            Its name; the namespace is put before it unless it is there.
        event : str
            The event's name, or a glob: ``*``, ``?``, ``[ab]``, all else literal.
        callback : callable
            Called ``(channel, event, data)``: the `Channel`, the event's name, and what came with
            it, None if nothing did.

        Returns
        -------
        Channel
            Live if the channels are connected, otherwise as soon as they are. If the broker does
            not take it then, that is logged and the channel is taken away, with all that was
            registered there.

        Raises
        ------
        StateError
            The channels are closed.
        InvalidTypeError, InvalidArgumentError
            No callable, no name, or none that the broker takes. Nothing is registered.
        """
        name = self._named(channel)
        _check_event(event)
        if not callable(callback):
            raise InvalidTypeError(f"a callback must be callable, not {callback!r}")
        words = split_topic(name)
        with self._lock:
            self._check_open()
            own = self._channels.setdefault(words, Channel(name))
            own._add(event, callback)
            if self._link.status is StatusType.connected:
                try:
                    self._follow(words)
                except BusConnectionError as error:
                    self.logger.info("registering at %s later: %s", name, error)
                    self._news.put(_LOOK)
                except BaseException:
                    self._forget(words, event, callback)
                    raise
        return own

    def unregister(self, channel: str, event: str, callback: Callback) -> Optional[Channel]:
        """Take a callback away; no error if it was not there.

        Parameters
        ----------
        channel, event, callback
            As they were registered.

        Returns
        -------
        Channel or None
            None if it was not registered. No event goes to it any more; it may still be running.

        Raises
        ------
        StateError
            The channels are closed.
        """
        words = split_topic(self._named(channel))
        with self._lock:
            self._check_open()
            return self._forget(words, event, callback)

    def _forget(self, words: Words, event: str, callback: Callback) -> Optional[Channel]:
        """Take a callback away, and the channel with its last; under the lock."""
        channel = self._channels.get(words)
        if channel is None or not channel._remove(event, callback):
            return None
        if not channel.events:
            del self._channels[words]
            if words != self._own and words in self._subscriptions:
                # Without waiting: the callback that runs may be waiting for the lock.
                self._subscriptions.pop(words).cancel(timeout=0)
        return channel

    def _follow(self, words: Words) -> None:
        """Subscribe to a channel unless that is done; under the lock."""
        subscription = self._subscriptions.get(words)
        if subscription is None or not subscription.active:
            channel = self._channels.get(words)
            name = channel.name if channel else "/".join(words)
            self._subscriptions[words] = self._store.subscribe(
                partial(self._arrived, words), name, on_connection=self._connection_changed
            )

    # ---- events (on the threads of the subscriptions) --------------------------------------------

    def _is_callback(self) -> bool:
        return getattr(self._inside, "depth", 0) > 0

    def _arrived(self, words: Words, message: Any) -> None:
        channel = self._channels.get(words)
        if channel is None:  # only we listen, or it was unregistered just now
            return
        event = message.get("event") if isinstance(message, dict) else None
        if not isinstance(event, str):
            channel.malformed += 1
            self.logger.warning("on channel %s came what is no event: %.200r", channel, message)
            return
        self._inside.depth = 1
        try:
            for pattern, callback in channel.callbacks(event):
                self._call(channel, pattern, callback, event, message.get("data"))
        finally:
            self._inside.depth = 0

    def _call(
        self, channel: Channel, pattern: str, callback: Callback, event: str, data: Any
    ) -> None:
        try:
            callback(channel, event, data)
        except CallbackError:
            with self._lock:
                self._forget(split_topic(channel.name), pattern, callback)
        except Exception:
            channel.errors += 1
            self.logger.exception(
                "a callback of event %r on channel %s raised: %r", event, channel, callback
            )
        except BaseException:  # SystemExit, KeyboardInterrupt: that callback alone ends
            channel.errors += 1
            self.logger.exception(
                "a callback of event %r on channel %s is taken away: %r", event, channel, callback
            )
            with self._lock:
                self._forget(split_topic(channel.name), pattern, callback)

    def publish(self, channel: str, event: str, data: Any = None) -> None:
        """Publish an event on a channel; return when the broker has taken it.

        Parameters
        ----------
        channel : str
            Its name; the namespace is put before it unless it is there.
        event : str
            The event's name.
        data : object, optional
            Whatever JSON has a form for; None is not sent.

        Raises
        ------
        StateError
            The channels are not connected yet, or closed.
        InvalidArgumentError
            It is the status channel: there only the channels themselves publish.
        NotJSONError, PayloadTooLargeError, BusConnectionError
            As `Distributer.publish` raises them.
        """
        name = self._named(channel)
        _check_event(event)
        self._check_open()
        if self._thread.ident is None:
            raise StateError(f"{self!r} are not connected: call connect() first")
        if self.status_channel and split_topic(name) == self._own:
            raise InvalidArgumentError(
                f"{name!r} is the status channel: only the channels themselves publish there"
            )
        self._send(name, event, data)

    def _send(self, name: str, event: str, data: Any) -> None:
        message = {"event": event, "channel": name}
        if data is not None:
            message["data"] = data
        self._store.publish(message, name)

    # ---- staying connected (on the channels' thread) ---------------------------------------------

    def _connection_changed(self, up: bool) -> None:
        """Pass on what a driver says; on a thread of the driver's."""
        self._news.put(_UP if up else _LOOK)

    def _keep(self) -> None:
        try:
            self._attempt()
            self._tried.set()
            while True:
                news = self._next_news()
                if news is _CLOSE:
                    break
                if not self._closed:
                    self._look(news)
        finally:
            self._leave()
            self._tried.set()

    def _next_news(self) -> str:
        due = self._link.due
        if due is None:
            return self._news.get()
        wait = due - self._clock()
        if wait <= 0:
            return _LOOK
        try:
            return self._news.get(timeout=min(wait, threading.TIMEOUT_MAX) if self._ticks else None)
        except queue.Empty:
            return _LOOK

    def _look(self, news: str) -> None:
        if self._link.status is StatusType.connected:
            if not self._is_live():
                self._failed("the broker is away")
            return
        due = self._link.due
        # Whatever reconnects by itself says so, and is not kept waiting.
        back = news is _UP and self._are_connected()
        if back or (due is not None and due <= self._clock()):
            self._attempt()

    def _attempt(self) -> None:
        self._link.trying()
        self._tell()
        refused: List[Tuple[Channel, Exception]] = []
        try:
            with self._lock:
                self._follow(self._own)
                for words in tuple(self._channels):
                    try:
                        self._follow(words)
                    except (BusConnectionError, StateError):  # that is not this channel's fault
                        raise
                    except (BusError, UsageError) as error:
                        self._subscriptions.pop(words, None)
                        refused.append((self._channels.pop(words), error))
                live = self._are_connected()
                if live and not self._closed:
                    self._link.succeeded()
        except Exception as error:
            if not self._tried.is_set() and not isinstance(error, BusConnectionError):
                self._problem = error
            self._failed(error)
            return
        finally:
            for channel, why in refused:
                if not self._tried.is_set():
                    self._problem = self._problem or why
                self.logger.warning("%r: channel %s is taken away: %s", self, channel, why)
        if not live:
            self._failed("the broker is away")
        elif not self._closed:
            self._tell()
            self._say(StatusType.connected)

    def _is_live(self) -> bool:
        with self._lock:
            followed = self._channels.keys() <= self._subscriptions.keys()
        return followed and self._are_connected()

    def _are_connected(self) -> bool:
        # Another thread may be registering. `copy` is one step with the global lock and without it,
        # where a tuple of the values would be many.
        return all(own.connected for own in self._subscriptions.copy().values())

    def _failed(self, why: Any) -> None:
        wait = self._link.failed(self._clock())
        if not self._closed:
            self.logger.warning("%r: %s; trying again in %.3g s", self, why, wait)
            self._tell()

    def _tell(self) -> None:
        if self._on_status is not None:
            try:
                self._on_status(self.status)
            except Exception:
                self.logger.exception("on_status of %r raised", self)

    def _say(self, status: StatusType) -> None:
        """Tell others of it, on the status channel."""
        if self.status_channel:
            try:
                self._send(self.status_channel, status.name, None)
            except (BusError, StateError) as error:
                self.logger.info("%s at %s: %s", status.name, self.status_channel, error)

    def _leave(self) -> None:
        if self._link.status is StatusType.connected:
            self._say(StatusType.closed)
        self._link.closed()
        with self._lock:
            self._closed = True
            subscriptions = tuple(self._subscriptions.values())
            self._channels, self._subscriptions = {}, {}
        for subscription in subscriptions:
            subscription.cancel(timeout=0)
        for subscription in subscriptions:
            subscription.join(5.0)
        if self._owns:
            self._store.close()
        self._tell()


def _check_event(event: str) -> None:
    if not isinstance(event, str):
        raise InvalidTypeError(f"an event must be a string, not {event!r}")
    if not event:
        raise InvalidArgumentError("an event must not be empty")
