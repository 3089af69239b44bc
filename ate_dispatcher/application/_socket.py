"""`Socket`: how a function, or a script, speaks with others over one bus."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Callable, Optional, Tuple

from .._codec import check_json
from .._exceptions import (
    InvalidArgumentError,
    InvalidTypeError,
    NoReplyError,
    StateError,
    UndecodableMessageError,
)
from .._topics import TopicFilter
from ..bus import Distributer, Subscription
from ..bus._correlation import Correlations, unique_word
from ._configuration import Topics, topics_of
from ._message import Message, pack, pack_error, unpack, unpack_answer

__all__ = ["REQUEST_TIMEOUT", "Socket"]

logger = logging.getLogger("ate_dispatcher")

REQUEST_TIMEOUT = 10.0
"""Seconds that a request waits for its answer if nothing else is said."""

CLOSED: Any = object()


class _Feed:
    """What one call of `subscribe` brings. `filters` is replaced whole: readers need no lock."""

    def __init__(self, filters: Tuple[TopicFilter, ...]) -> None:
        self.filters = filters
        self.subscription: Optional[Subscription] = None


class Socket:
    """Publishes, subscribes, asks and answers. Thread-safe; a context manager.

    Functions are given theirs; scripts get one from ``SocketProvider.socket()``.

    Attributes
    ----------
    name : str
        Who we are in the messages that we send.
    late : int
        Answers that nobody waited for any more, dropped.
    malformed : int
        Messages that were none, logged and skipped.
    """

    def __init__(
        self,
        bus: Distributer,
        name: str,
        *,
        group: str = "",
        retain: bool = False,
        deliver: Optional[Callable[[Message], Any]] = None,
        strange: Optional[Callable[[Any, BaseException], Any]] = None,
    ) -> None:
        self.name = name
        self.late = 0  # written by the thread of the reply subscription alone
        self._bus = bus
        self._group = group
        self._retain = retain
        self._deliver = deliver
        self._strange = strange
        self._owned: Optional[Distributer] = None
        self._first: Tuple[TopicFilter, ...] = ()
        self._counting = threading.Lock()
        self._malformed = 0
        self._correlations = Correlations()
        # Guards the feeds and the reply subscription, and is held while the broker is asked for
        # them; never while user code runs. Who only reads the tuple of feeds needs no lock.
        self._lock = threading.Lock()
        self._feeds: Tuple[_Feed, ...] = ()
        self._replies: Optional[Subscription] = None
        self._reply_topic = f"ate.reply.{unique_word()}"
        self._closed = threading.Event()

    # ---- publish and subscribe -------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """Publish a message; return when the broker has taken it.

        Raises
        ------
        InvalidTypeError
            It is no `Message`.
        NotJSONError, PayloadTooLargeError, BusConnectionError
            As ``Distributer.publish``.
        StateError
            The socket is closed, or its application stops.
        """
        message = self._named(message)
        self._check_open()
        # A question that were kept would be asked again of everybody who comes.
        kept = self._retain and message.reply_topic is None
        self._bus.publish(pack(message), message.topic, retain=kept)

    def subscribe(self, topics: Topics) -> None:
        """Have messages on these topics too; live when it returns. Asked for twice is once.

        Parameters
        ----------
        topics : str, TopicFilter or list of these
            May be filters. A message that several match comes once.

        Raises
        ------
        StateError
            There is nobody to give them to: a producer's socket, or one made without a callback.
        InvalidTypeError, InvalidArgumentError, BusConnectionError
            As ``Distributer.subscribe``.
        """
        wanted = topics_of(topics)
        if self._deliver is None:
            raise StateError(f"the socket {self.name!r} has no callback to give messages to")
        with self._lock:
            self._check_open()
            known = {pattern for feed in self._feeds for pattern in feed.filters}
            self._follow(tuple(pattern for pattern in wanted if pattern not in known))

    def _follow(self, filters: Tuple[TopicFilter, ...]) -> None:
        if not filters:
            return
        feed = _Feed(filters)
        self._feeds = (*self._feeds, feed)  # before the first message can come
        try:
            feed.subscription = self._bus.subscribe(
                partial(self._arrived, feed),
                *filters,
                subscriber_group=self._group,
                with_topic=True,
            )
        except BaseException:
            self._drop(feed)
            raise

    def _drop(self, feed: _Feed) -> None:
        self._feeds = tuple(own for own in self._feeds if own is not feed)
        if feed.subscription is not None:
            # Without waiting: its thread may be waiting for the very function that calls us.
            feed.subscription.cancel(timeout=0)

    def unsubscribe(self, topics: Topics) -> None:
        """Have messages on these topics no more; no error for one that was not subscribed to.

        What a group's other members shall have instead goes to them.
        """
        unwanted = set(topics_of(topics))
        with self._lock:
            for feed in self._feeds:
                left = tuple(own for own in feed.filters if own not in unwanted)
                if left == feed.filters:
                    continue
                if left and not self._group:
                    feed.filters = left  # the rest goes on without a gap; we drop what comes
                else:
                    self._drop(feed)
                    self._follow(left)

    def _arrived(self, feed: _Feed, data: Any, topic: str) -> None:
        """Take a message; on the feed's thread. Only the first feed that matches hands it on."""
        first = next(
            (own for own in self._feeds if any(one.matches(topic) for one in own.filters)), None
        )
        if first is not feed:
            return
        try:
            message = unpack(data, topic)
        except UndecodableMessageError as error:
            with self._counting:
                self._malformed += 1
            logger.warning("%r skips a message on %r: %s", self.name, topic, error)
            if self._strange is not None:
                self._strange(data, UndecodableMessageError(f"on {topic!r}: {error}"))
            return
        deliver = self._deliver
        assert deliver is not None
        deliver(message)

    # ---- request and reply -----------------------------------------------------------------------

    def request(self, message: Message, timeout: float = REQUEST_TIMEOUT) -> Message:
        """Publish a question and wait for its answer: the first one, if several come.

        Parameters
        ----------
        message : Message
            The question.
        timeout : float
            Seconds until the answer must be here; positive and finite. The publishing itself is
            bounded by the URL's ``timeout``.

        Returns
        -------
        Message
            The answer.

        Raises
        ------
        NoReplyError
            Nobody answered in time; a `TimeoutError` that says topic and time.
        RemoteError
            Who was asked raised; its type and text.
        InvalidArgumentError
            The message has a reply topic already; the answer could not come to us.
        StateError
            The socket is closed, or its application stops.
        """
        limit = monotonic() + check_timeout(timeout)
        answers: SimpleQueue[Any] = SimpleQueue()
        with_answer = self._question(message)
        identifier = self._correlations.open(answers.put)
        try:
            self._ask(with_answer, identifier)
            answer = answers.get(timeout=max(0.0, limit - monotonic()))
        except Empty:
            raise no_reply(message, timeout) from None
        finally:
            self._correlations.close(identifier)
        return self._read(answer)

    def _question(self, message: Message) -> Message:
        message = self._named(message)
        if message.reply_topic is not None or message.correlation is not None:
            raise InvalidArgumentError(
                "request() has the answer come to itself, but this message for "
                f"{message.topic!r} has a reply topic or correlation of its own: publish() it"
            )
        check_json(message.payload, "payload")
        return replace(message, reply_topic=self._reply_topic)

    def _ask(self, message: Message, identifier: str) -> None:
        """Publish a question that is open already, so that its answer finds it."""
        self._listen()
        self._check_open()  # after the question was opened: `close` either sees it or is seen
        self._send(pack(replace(message, correlation=identifier)), message.topic)

    def _read(self, answer: Any) -> Message:
        """Give the answer, or raise what it is instead."""
        if answer is CLOSED:
            raise StateError(f"the socket {self.name!r} was closed while it waited for an answer")
        message, error = answer
        if error is not None:
            raise error
        found: Message = message
        return found

    def _listen(self) -> None:
        """Be reachable for answers, from the first question on."""
        if self._replies is None:
            with self._lock:
                self._check_open()
                if self._replies is None:
                    self._replies = self._bus.subscribe(
                        self._answered, self._reply_topic, with_topic=True
                    )

    def _answered(self, data: Any, topic: str) -> None:
        """Hand an answer to who asked; on the thread of the reply subscription."""
        try:
            identifier, message, error = unpack_answer(data, topic)
        except UndecodableMessageError as strange:
            with self._counting:
                self._malformed += 1
            logger.warning("%r skips an answer: %s", self.name, strange)
            return
        if not self._correlations.answer(identifier, (message, error)):
            self.late += 1
            logger.info("%r drops an answer of %r: too late", self.name, message.client_name)

    def reply(self, message: Message, payload: Any) -> None:
        """Answer a message.

        Raises
        ------
        InvalidArgumentError
            It wants no answer: it was published, not asked.
        NotJSONError, PayloadTooLargeError, BusConnectionError, StateError
            As `publish`.
        """
        answer = self._answer_to(message, payload)
        self._check_open()
        self._send(pack(answer), answer.topic)

    def _reply_error(self, message: Message, error: BaseException) -> None:
        """Tell who asked that it will get no answer."""
        answer = self._answer_to(message, None)
        self._send(pack_error(answer, error), answer.topic)

    def _answer_to(self, message: Message, payload: Any) -> Message:
        check_message(message)
        if message.reply_topic is None:
            raise InvalidArgumentError(
                f"the message on {message.topic!r} wants no reply: it was published, "
                "reply() answers what came by request()"
            )
        return Message(
            payload, message.reply_topic, None, message.correlation, client_name=self.name
        )

    # ---- life ------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether the socket is closed, or its application stops."""
        return self._closed.is_set()

    def sleep(self, seconds: float) -> bool:
        """Wait; False as soon as the application stops, for producers that go on for ever.

        >>> while socket.sleep(1.0):  # doctest: +SKIP
        ...     socket.publish(Message(read(), "site.0.temperature"))
        """
        return not self._closed.wait(min(seconds, threading.TIMEOUT_MAX))

    @property
    def malformed(self) -> int:
        """Messages that were none, logged and skipped."""
        feeds = [feed.subscription for feed in self._feeds]
        return self._malformed + sum(
            subscription.undecodable
            for subscription in (*feeds, self._replies)
            if subscription is not None
        )

    def close(self) -> None:
        """Leave; who still waits for an answer is told. Closing twice is once."""
        self._end()
        with self._lock:
            subscriptions = [feed.subscription for feed in self._feeds] + [self._replies]
        for subscription in subscriptions:
            if subscription is not None:
                subscription.cancel(timeout=0)
        if self._owned is not None:
            self._owned.close()

    def _end(self) -> None:
        """Do nothing any more, and wake who waits for an answer."""
        self._closed.set()
        self._correlations.answer_all(CLOSED)

    def _own_bus(self, topics: Tuple[TopicFilter, ...]) -> None:
        """Close the bus with the socket; subscribe to these when it is entered."""
        self._owned, self._first = self._bus, topics

    def __enter__(self) -> Socket:
        try:
            self._bus.connect()
            if self._first:
                self.subscribe(self._first)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Socket {self.name!r} at {self._bus.url}>"

    def _named(self, message: Message) -> Message:
        check_message(message)
        return message if message.client_name else replace(message, client_name=self.name)

    def _send(self, data: Any, topic: str) -> None:
        self._bus.publish(data, topic)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StateError(f"the socket {self.name!r} is closed")


def check_message(message: Any) -> None:
    """Raise unless it is a `Message`."""
    if not isinstance(message, Message):
        raise InvalidTypeError(
            f"a message must be a Message(payload, topic), not {type(message).__name__}"
        )


def check_timeout(timeout: Any) -> float:
    """Give a request's timeout back if it is one: a request without end never tells of a loss."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise InvalidTypeError(f"a request's timeout must be a number of seconds, not {timeout!r}")
    if not 0 < timeout < inf:
        raise InvalidArgumentError(
            f"a request's timeout must be positive and finite, not {timeout!r}"
        )
    return float(timeout)


def no_reply(message: Message, timeout: float) -> NoReplyError:
    """Word the error for a question that nobody answered."""
    return NoReplyError(f"no answer to the request on {message.topic!r} within {timeout:g} s")
