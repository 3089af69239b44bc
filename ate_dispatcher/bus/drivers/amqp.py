"""``amqp://``, ``amqps://`` and ``rabbitmq://``: RabbitMQ, with pika on the loop of one thread."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from functools import partial
from typing import Any, Callable, ClassVar, Dict, List, Optional, Sequence

import pika
import pika.exceptions
from pika.adapters.select_connection import IOLoop

from ..._backoff import Backoff
from ..._exceptions import BusTimeoutError, InvalidArgumentError
from ..._topics import TopicFilter
from .._driver import Capabilities, Driver, Inbox
from .._grammar import Spelling, Words
from .._outbox import Outbox, Outgoing, Pending
from .._tls import TLS_OPTIONS, refuse_tls, tls_context
from .._url import BusURL, seconds, text, whole

__all__ = ["AmqpDriver"]

logger = logging.getLogger("ate_dispatcher")

SPELLING = Spelling(".", "*", "#", forbidden="*#")

LONGEST = 255
"""Bytes of a routing key, and of a queue's name."""

FAREWELL = 1.0
"""Seconds that leaving may take if the broker does not answer."""

CLOSED = "it was closed"
PERSISTENT = pika.BasicProperties(delivery_mode=2)


class AmqpDriver(Driver):
    """One connection for publishing and one, once needed, for subscriptions; one thread for both.

    `publish` returns with the broker's confirm; the publishers of all threads have theirs under way
    at the same time. While the connection is away, or blocked by the broker, they wait for it, and
    nothing is sent later whose `publish` has raised before.

    Messages go to a durable topic exchange, and are kept on disk in the queues of groups. Each
    subscription has its own channel. One without a group has a queue that goes with the connection,
    so what is published while it is cut off is lost to it. A group has a durable queue for each of
    its filters, which keeps what is published while nobody is there, for ever unless
    ``queue_expires`` says otherwise. A member has one message of each filter in hand at a time and
    acknowledges it when it is handled. RabbitMQ confirms also what comes for a queue that is not up
    yet after its own restart, or has crashed, and loses it (its issue 1877).

    Options: ``exchange`` (``ate.bus``), ``queue_expires`` (seconds without a member after which a
    group's queue is deleted), ``heartbeat`` (seconds, 30), ``tls_ca``, ``tls_cert``, ``tls_key``,
    ``tls_verify``. The path is the virtual host. User and password are guest if not given.
    """

    scheme = "amqp amqps rabbitmq"
    capabilities: ClassVar[Capabilities] = Capabilities(
        delivery="at most once",
        group_delivery="at least once",
        backlog=True,
        order="publisher",
        persistent=True,
    )
    options: ClassVar[Dict[str, Any]] = {
        "exchange": text,
        "queue_expires": seconds,
        "heartbeat": whole(),
        **TLS_OPTIONS,
    }

    def __init__(self, url: BusURL) -> None:
        super().__init__(url)
        url.place(5672)
        if url.scheme != "amqps":
            refuse_tls(url, self.settings, "amqps")
        # Guards what follows; held for a step, never while anything waits.
        self._lock = threading.Lock()
        self._outbox = Outbox()
        self._pending: Dict[Pending, None] = {}
        self._closed = False

    # ---- life ------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Start the thread, reach the broker, and declare the exchange."""
        parameters = self._parameters()
        self._loop = IOLoop()
        self._links = (_Link(self, self._loop, parameters), _Link(self, self._loop, parameters))
        self._publisher = _Publisher(self, self._links[0])
        self._thread = threading.Thread(target=self._spin, name=str(self.url), daemon=True)
        self._thread.start()
        try:
            self._call("connecting", self._publisher, self._publisher.enter, self.timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connections and the thread; whoever still waits is told."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._loop.add_callback_threadsafe(self._shut)
        self._thread.join(3 * FAREWELL)

    def _parameters(self) -> pika.ConnectionParameters:
        secure = self.url.scheme == "amqps"
        host, port = self.url.place(5671 if secure else 5672)
        return pika.ConnectionParameters(
            host=host,
            port=port,
            virtual_host=self.url.path[1:] or "/",
            credentials=pika.PlainCredentials(
                self.url.user or "guest", self.url.password or "guest", erase_on_connect=False
            ),
            ssl_options=pika.SSLOptions(tls_context(self.settings), host) if secure else None,
            heartbeat=self.settings.get("heartbeat", 30),
            socket_timeout=self.timeout,
            stack_timeout=2 * self.timeout,  # who waits gives up before
        )

    def _spin(self) -> None:
        while True:
            try:
                self._loop.start()
                break
            except Exception:  # of one step; the others go on
                logger.exception("the connection to %s", self.url)
        self._loop.close()

    def _shut(self) -> None:
        with self._lock:
            pending = tuple(self._pending)
        for own in (*pending, *self.taken()):
            own.finish(CLOSED)
        self._publisher.lost(CLOSED)
        for link in self._links:
            link.end()
        self._loop.call_later(2 * FAREWELL, self._loop.stop)  # whatever pika does
        self.rest()

    def rest(self) -> None:
        """End the loop once the last connection is closed; on its thread."""
        if not any(link.connection for link in self._links):
            self._loop.stop()

    def _call(
        self, what: str, channel: _Channel, work: Callable[[Pending], None], timeout: float
    ) -> None:
        """Have the loop's thread do something, and wait until it has finished what is pending."""
        pending = Pending()
        with self._lock:
            if self._closed:
                raise self.failed(what, CLOSED)
            self._pending[pending] = None
        self._loop.add_callback_threadsafe(partial(work, pending))
        try:
            answered = pending.wait(timeout)
        finally:
            with self._lock:
                del self._pending[pending]
        if not answered:
            raise self._late(what, channel, timeout)
        if pending.error:
            raise self.failed(what, pending.error)

    def _late(self, what: str, channel: _Channel, timeout: float) -> BusTimeoutError:
        why = f"{channel.why or 'no answer'} for {timeout:g} s"
        return BusTimeoutError(str(self.failed(what, why)))

    # ---- publishing and subscribing --------------------------------------------------------------

    def publish(self, words: Words, payload: bytes) -> None:
        """Have it sent, and wait for the broker's confirm."""
        message = Outgoing(_checked(SPELLING.topic(words)), payload)
        with self._lock:
            if self._closed:
                raise self.failed("publishing", CLOSED)
            kick = self._outbox.add(message)
        if kick:
            self._loop.add_callback_threadsafe(self._publisher.send)
        if not message.wait(self.timeout):
            with self._lock:
                unsent = self._outbox.withdraw(message)
            if unsent:
                raise self._late("publishing", self._publisher, self.timeout)
            why = f"no confirm within {self.timeout:g} s; it may yet arrive"
            raise BusTimeoutError(str(self.failed("publishing", why)))
        if message.error:
            raise self.failed("publishing", message.error)

    def taken(self) -> List[Outgoing]:
        """Empty the outbox; the next one has to kick the loop."""
        with self._lock:
            return self._outbox.take()

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Consume from a queue of one's own, or from those of a group."""
        keys = [_checked(SPELLING.filter(pattern)) for pattern in filters]
        consumer = _Consumer(self, self._links[1], keys, group, inbox)
        try:
            self._call("subscribing", consumer, consumer.enter, self.timeout)
        except BaseException:
            self._loop.add_callback_threadsafe(partial(consumer.leave, Pending()))
            raise
        # It waits for the broker's answer, so that a group's next message is not ours.
        return partial(self._call, "leaving", consumer, consumer.leave, FAREWELL)


# ---- what follows is the loop's thread's, but for `_Channel.why`, which others read --------------


class _Connection(pika.SelectConnection):  # type: ignore[misc]
    """pika's, which sends a message in one piece and can be abandoned."""

    def _output_marshaled_frames(self, frames: Sequence[bytes]) -> None:
        super()._output_marshaled_frames([b"".join(frames)])  # each is a system call and a packet

    def _on_connection_workflow_done(self, result: Any) -> None:
        # pika gives the class instead of an error where it was closed in mid-handshake.
        super()._on_connection_workflow_done(result() if isinstance(result, type) else result)

    def abandon(self) -> None:
        """Close it without waiting for a broker that may be gone."""
        if self.is_closing and self._opened:
            self._terminate_stream(pika.exceptions.StreamLostError("no answer to the farewell"))


class _Link:
    """A connection that is made, once a channel needs it, and again whenever it is lost."""

    def __init__(self, driver: AmqpDriver, loop: IOLoop, parameters: Any) -> None:
        self.driver = driver
        self.loop = loop
        self.connection: Optional[_Connection] = None
        self.channels: Dict[_Channel, None] = {}
        self._parameters = parameters
        self._backoff = Backoff(0.05, 5.0)
        self._begun = self._ended = False

    def enter(self, channel: _Channel) -> None:
        """Have a channel opened on this connection and the next."""
        self.channels[channel] = None
        if self._begun:
            channel.open()
        else:
            self._begun = True
            self._dial()

    def end(self) -> None:
        """Close the connection and make no other; `AmqpDriver.rest` is told."""
        self._ended = True
        connection = self.connection
        if connection is not None and not (connection.is_closing or connection.is_closed):
            connection.close()
            self.loop.call_later(FAREWELL, connection.abandon)

    def _dial(self) -> None:
        if not self._ended:
            self.connection = _Connection(
                self._parameters, self._up, self._down, self._down, custom_ioloop=self.loop
            )

    def _up(self, connection: _Connection) -> None:
        self._backoff.reset()
        connection.add_on_connection_blocked_callback(self._blocked)
        connection.add_on_connection_unblocked_callback(self._unblocked)
        for channel in tuple(self.channels):
            channel.open()

    def _down(self, connection: _Connection, error: BaseException) -> None:
        self.connection = None
        why = _worded(error)
        for channel in tuple(self.channels):
            channel.lost(f"not connected: {why}")
        if self._ended:
            self.driver.rest()
        else:
            logger.info("reconnecting to %s: %s", self.driver.url, why)
            self.loop.call_later(self._backoff.next(), self._dial)

    def _blocked(self, connection: _Connection, frame: Any) -> None:
        for channel in self.channels:
            channel.why = f"blocked by the broker: {frame.method.reason}"
            logger.warning("%s: %s", self.driver.url, channel.why)

    def _unblocked(self, connection: _Connection, frame: Any) -> None:
        for channel in self.channels:
            if channel.live:
                channel.resume()


class _Channel:
    """A channel that is opened again after whatever closes it. Subclasses `prepare` it."""

    def __init__(self, driver: AmqpDriver, link: _Link) -> None:
        self.driver = driver
        self.link = link
        self.exchange: str = driver.settings.get("exchange", "ate.bus")
        self.channel: Any = None
        self.live = False
        self.why = "not connected"
        """Why it cannot be used; empty if it can."""
        self._backoff = Backoff(0.05, 5.0)
        self._first: Optional[Pending] = None
        self._gone: Optional[Pending] = None

    def enter(self, first: Pending) -> None:
        """Begin, and tell what becomes of the first attempt."""
        self._first = first
        self.link.enter(self)

    def leave(self, gone: Pending) -> None:
        """Close it for good, and tell when the broker knows."""
        self.link.channels.pop(self, None)
        self._gone = gone
        if self.channel is None:
            gone.finish()
        elif not self.channel.is_closing:
            self.channel.close()

    def open(self) -> None:
        """Open it, unless it is, or there is no connection or no need."""
        connection = self.link.connection
        if self.channel or self._gone or not (connection and connection.is_open):
            return
        try:
            self.channel = connection.channel(on_open_callback=self.prepare)
        except pika.exceptions.AMQPError as error:  # there are too many
            self._closed(None, error)
            return
        self.channel.add_on_close_callback(self._closed)

    def prepare(self, channel: Any) -> None:
        """Ask for all at once, `begun` last: what is refused closes the channel."""
        raise NotImplementedError

    def begun(self, frame: Any) -> None:
        """Go live: the broker has answered everything."""
        self.live = True
        self._backoff.reset()
        self.resume()
        if self._first is not None:
            self._first.finish()
            self._first = None

    def resume(self) -> None:
        """Go on, now that it can be used."""
        self.why = ""

    def lost(self, why: str) -> None:
        """Note why it cannot be used; if it never could, that is the end of it."""
        self.live = False
        self.why = why
        if self._first is not None:
            self.link.channels.pop(self, None)
            self._first.finish(why)
            self._first = None

    def _closed(self, channel: Any, reason: BaseException) -> None:
        self.channel = None
        self.lost(_worded(reason))
        connection = self.link.connection
        if self._gone is not None:
            self._gone.finish()
        elif self in self.link.channels and connection and connection.is_open:
            logger.info("a channel to %s is closed: %s", self.driver.url, self.why)
            self.link.loop.call_later(self._backoff.next(), self.open)


class _Publisher(_Channel):
    """The channel for publishing, and who waits for its confirms."""

    def __init__(self, driver: AmqpDriver, link: _Link) -> None:
        super().__init__(driver, link)
        self._tag = 0
        self._unconfirmed: Dict[int, Outgoing] = {}

    def prepare(self, channel: Any) -> None:
        """Declare the exchange, and have every message confirmed."""
        self._tag = 0
        channel.exchange_declare(self.exchange, "topic", durable=True)
        channel.confirm_delivery(self._confirm, callback=self.begun)

    def resume(self) -> None:
        """Send what has waited."""
        super().resume()
        self.send()

    def send(self) -> None:
        """Send what is in the outbox, unless that is not possible: then it stays there."""
        if self.why:
            return
        for message in self.driver.taken():
            try:
                self.channel.basic_publish(
                    self.exchange, message.topic, message.payload, PERSISTENT
                )
            except Exception as error:
                message.finish(_worded(error))
            else:
                self._tag += 1
                self._unconfirmed[self._tag] = message

    def lost(self, why: str) -> None:
        """Tell whoever waits for a confirm that none will come."""
        super().lost(why)
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for message in unconfirmed.values():
            message.finish(why)

    def _confirm(self, frame: Any) -> None:
        taken = isinstance(frame.method, pika.spec.Basic.Ack)
        tags = [frame.method.delivery_tag]
        if frame.method.multiple:
            tags = [tag for tag in self._unconfirmed if tag <= tags[0]]
        for tag in tags:
            self._unconfirmed.pop(tag).finish("" if taken else "the broker did not take it")


class _Consumer(_Channel):
    """The channel of one subscription."""

    def __init__(
        self, driver: AmqpDriver, link: _Link, keys: Sequence[str], group: str, inbox: Inbox
    ) -> None:
        super().__init__(driver, link)
        self._keys = keys
        self._group = group
        self._inbox = inbox

    def prepare(self, channel: Any) -> None:
        """Declare, bind and consume."""
        channel.add_on_cancel_callback(self._cancelled)
        channel.exchange_declare(self.exchange, "topic", durable=True)
        if not self._group:
            channel.queue_declare("", exclusive=True, auto_delete=True)
            for key in self._keys:  # "" is the queue just declared
                channel.queue_bind("", self.exchange, key)
            channel.basic_consume("", self._take(None), auto_ack=True, callback=self.begun)
            return
        channel.basic_qos(prefetch_count=1)
        expires: Optional[float] = self.driver.settings.get("queue_expires")
        arguments = {} if expires is None else {"x-expires": int(expires * 1000)}
        for via, key in enumerate(self._keys):
            queue = _group_queue(self._group, key)
            channel.queue_declare(queue, durable=True, arguments=arguments)
            channel.queue_bind(queue, self.exchange, key)
            callback = self.begun if key == self._keys[-1] else None
            channel.basic_consume(queue, self._take(via), callback=callback)

    def resume(self) -> None:
        """Tell that messages come (again)."""
        super().resume()
        self._inbox.report_connection(True)

    def lost(self, why: str) -> None:
        """Tell that none can come."""
        super().lost(why)
        self._inbox.report_connection(False)

    def _take(self, via: Optional[int]) -> Callable[..., None]:
        def take(channel: Any, method: Any, head: Any, body: bytes) -> None:
            done = None
            if via is not None:
                # Behind a lost connection it comes to nothing: the broker gives it again.
                ack = partial(_ack, channel, method.delivery_tag)
                done = partial(self.link.loop.add_callback_threadsafe, ack)
            key = method.routing_key
            if isinstance(key, bytes):  # pika's way with what is no text
                key = key.decode("utf-8", "replace")
            self._inbox.put(SPELLING.words(key), body, via, done)

        return take

    def _cancelled(self, frame: Any) -> None:
        """Begin anew: somebody has deleted the queue."""
        self._inbox.report(self.driver.failed("consuming", "its queue was deleted"))
        if self.channel is not None and self.channel.is_open:
            self.channel.close()

    def _closed(self, channel: Any, reason: BaseException) -> None:
        if self.live and isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            self._inbox.report(self.driver.failed("consuming", _worded(reason)))
        super()._closed(channel, reason)


def _checked(key: str) -> str:
    if len(key.encode("utf-8")) > LONGEST:
        raise InvalidArgumentError(f"RabbitMQ takes {LONGEST} bytes of topic, not {key!r}")
    return key


def _group_queue(group: str, key: str) -> str:
    with contextlib.suppress(UnicodeEncodeError):  # half a character
        name = f"ate.{SPELLING.topic((group,))}.{key}"
        if len(name.encode("utf-8")) <= LONGEST:
            return name
    return f"ate.{hashlib.sha256(ascii((group, key)).encode()).hexdigest()}"


def _ack(channel: Any, tag: int) -> None:
    if channel.is_open:
        channel.basic_ack(tag)


def _worded(error: BaseException) -> str:
    """Say what pika means: some of its errors say nothing, others are one inside another."""
    inner: Any = error
    while isinstance(inner, BaseException):
        error = inner
        inner = getattr(error, "exceptions", None) or [getattr(error, "exception", None)]
        inner = inner[-1] or (error.args[0] if error.args else None)
    if isinstance(error, pika.exceptions.IncompatibleProtocolError):
        return f"what listens there does not speak AMQP: {error}"
    if isinstance(error, pika.exceptions.ProbableAuthenticationError):
        return "the broker refuses the user or the password"
    if isinstance(error, pika.exceptions.ProbableAccessDeniedError):
        return f"the broker refuses the virtual host: {error}"
    if isinstance(error, OSError):
        return str(error)
    said = [str(part) for part in error.args if not isinstance(part, (bytes, int))]
    return ", ".join(said) or type(error).__name__
