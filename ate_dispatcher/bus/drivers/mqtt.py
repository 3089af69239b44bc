"""``mqtt://`` and ``mqtts://``: MQTT 5, with paho-mqtt."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
from time import monotonic, sleep
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence, Type

from paho.mqtt.client import (
    MQTT_ERR_CONN_LOST,
    MQTT_ERR_NO_CONN,
    MQTT_ERR_SUCCESS,
    Client,
    MQTTMessageInfo,
    MQTTv5,
)
from paho.mqtt.enums import CallbackAPIVersion, MessageState
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ..._exceptions import (
    BusConnectionError,
    BusTimeoutError,
    BusURLError,
    InvalidArgumentError,
    PayloadTooLargeError,
    UndecodableMessageError,
)
from ..._topics import TopicFilter
from .._correlation import unique_word
from .._driver import Capabilities, Driver, Inbox
from .._grammar import Spelling, Words
from .._tls import TLS_OPTIONS, refuse_tls, tls_context
from .._url import BusURL, OptionType, choice, text, whole

__all__ = ["MqttDriver"]

SPELLING = Spelling("/", "+", "#", forbidden="+#", first="$")
GROUP = Spelling("/", forbidden="+#")  # a group's name is one word of a topic

SESSION = 3600
"""Seconds for which the broker keeps what comes for a subscriber that was cut off."""

LARGEST = 268_435_455
"""Bytes that the length of an MQTT packet can say."""

LONGEST = 65_535
"""Bytes that the length of an MQTT topic can say."""

GRACE = 1.0
"""Seconds that the broker is given to take our farewell."""


def _keepalive(value: str) -> int:
    """Take seconds as MQTT counts them."""
    number: int = whole(1)(value)
    if number > 65_535:
        raise ValueError(f"must be at most 65535 seconds, not {value!r}")
    return number


class _Connection:
    """One client of paho's, with a network thread of its own, that reconnects by itself.

    Attributes
    ----------
    up, answered : threading.Event
        Whether the broker has let us in; whether the first attempt came to something, good or bad.
        Written by the network thread.
    closing : bool
        Set once, before `up` is set for the last time by who closes.
    refusal : str
        What the broker said last when it refused or dropped us. Written by the network thread.
    largest : int
        Bytes of a packet that the broker takes; written by the network thread before `up` is set.
    refused : dict
        What the broker had against a message, by its number. The network thread enters it before
        paho wakes the publisher, and the publisher takes it out; each is one dict operation.
    sending : threading.Lock
        Held while a message is given to paho, and while the sockets that this writes to are closed.
    """

    def __init__(self, driver: MqttDriver, client_id: str, session: int) -> None:
        self._driver = driver
        self._session = session
        self.up, self.answered = threading.Event(), threading.Event()
        self._down = threading.Event()
        self.closing = False
        self.refusal = ""
        self.largest = LARGEST
        self.refused: Dict[int, ReasonCode] = {}
        self.sending = threading.Lock()
        self.restore: Callable[[Any], None] = lambda properties: None
        self.turned_away: Callable[[str], None] = lambda why: None
        self.lost: Callable[[], None] = lambda: None
        self.client = client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5
        )
        url = driver.url
        if url.user or url.password:
            client.username_pw_set(url.user, url.password or None)
        if url.scheme == "mqtts":
            context = tls_context(driver.settings)
            context.sslsocket_class = _bounded(driver.timeout)
            client.tls_set_context(context)
        client.connect_timeout = driver.timeout
        # It doubles the wait each time; where it begins is left to chance, so that many clients of
        # one broker do not all come back at once.
        client.reconnect_delay_set(random.uniform(0.1, 0.2), 5)  # type: ignore[arg-type]
        client.on_pre_connect = self._on_pre_connect
        client.on_socket_open = _without_delay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish

    def open(self, limit: float) -> None:
        """Connect, or raise, until that point in time."""
        driver = self._driver
        host, port = driver.place()
        try:
            self.client.connect(
                host,
                port,
                driver.settings.get("keepalive", 60),
                clean_start=not self._session,
                properties=_properties(PacketTypes.CONNECT, SessionExpiryInterval=self._session),
            )
        except (OSError, ValueError) as error:
            raise driver.failed(f"connecting to {host}", error) from None
        problem = None
        try:
            self.client.loop_start()
        except (OSError, RuntimeError) as error:  # the system has no descriptor or thread to give
            problem = driver.failed(f"connecting to {host}", error)
        if problem is not None:  # not in there: the error's traceback holds sockets of paho's
            self.client._reset_sockets()
            raise problem
        self.answered.wait(max(0.0, limit - monotonic()))
        if not self.up.is_set():
            closed = "it closed the connection" if self.answered.is_set() else "it does not answer"
            why = self.refusal or f"{closed}: is there an MQTT 5 broker, and TLS on both sides?"
            self.close()
            raise driver.failed(f"connecting to {host}", why)

    def close(self) -> None:
        """Leave, the session too, and end the thread."""
        client, self.closing = self.client, True
        self._down.clear()
        sent = client.disconnect(
            properties=_properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0)
        )
        if sent == MQTT_ERR_SUCCESS and self._down.wait(GRACE):
            self._end_thread()
        else:
            self._cut_off()
        self._forget(lambda state: True)
        self.up.set()  # the network thread has ended; who waits for it sees that we are closing
        # Else the pair that woke the thread stays open until the garbage collector finds the
        # client, which is in a cycle; paho 2.1 has no public way.
        with self.sending:
            client._reset_sockets(sockpair_only=True)

    def _end_thread(self) -> None:
        try:
            self.client.loop_stop()
        except AttributeError:
            if self.client._thread is not None:  # else it forgot itself while paho looked at it
                raise

    def _cut_off(self) -> None:
        """The broker is away or takes nothing from us, and paho may wait for it: cut the line."""
        stopping = threading.Thread(target=self._end_thread, name="leaving MQTT", daemon=True)
        stopping.start()
        while stopping.is_alive():
            line: Any = self.client.socket()
            if line is not None:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
            stopping.join(0.1)

    # ---- on the network thread -------------------------------------------------------------------

    def _on_pre_connect(self, client: Any, data: Any) -> None:
        self._forget(lambda state: True)

    def _forget(self, which: Callable[[MessageState], bool]) -> None:
        """Wake publishers whose messages were cut off, and send none of them again.

        Sent again, a message that the broker had taken would come twice, one whose publisher has
        given up would come late, and one for which the broker drops us would do so for ever.
        """
        messages = self.client._out_messages  # paho 2.1 has no public way
        with self.client._out_message_mutex:
            for mid in [mid for mid, own in messages.items() if which(own.state)]:
                info = messages.pop(mid).info
                info.rc = MQTT_ERR_CONN_LOST
                info._set_as_published()  # as paho does for QoS 0

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self.closing:  # it was connecting when it was told to leave
            client.disconnect()
        elif reason.is_failure:
            if self.refusal != f"the broker says {reason}":
                self.refusal = f"the broker says {reason}"
                self.turned_away(self.refusal)
        else:
            self.refusal = ""
            self.largest = getattr(properties, "MaximumPacketSize", LARGEST)
            # Even if the session is there: it may have been cut off before it was subscribed.
            self.restore(properties)
            # What was given to paho while it connected; its publisher knows and tries again.
            self._forget(lambda state: state == MessageState.MQTT_MS_PUBLISH)
            self.up.set()
        self.answered.set()

    def _on_disconnect(
        self, client: Any, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self.up.clear()
        if flags.is_disconnect_packet_from_server:
            self.refusal = f"the broker says {reason}"
        self.answered.set()
        self._down.set()
        self.lost()

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self.refused[mid] = reason
        elif self.refused:  # by somebody who did not wait for it; the number is used again
            self.refused.pop(mid, None)


class MqttDriver(Driver):
    """One connection for publishing, and one for each subscription.

    Published with QoS 1, so `publish` returns with the broker's acknowledgement; with ``?qos=0`` it
    returns once the message is on its way. A subscriber without a group that is cut off finds what
    came meanwhile in its session, kept for an hour and as far as the broker's own queue limit goes.
    The members of a group have no session: what was on its way to one that is lost is lost with it,
    and nothing comes twice.

    Options: ``qos`` (0 or 1), ``keepalive`` (seconds), ``client_id`` (of the publishing
    connection), and for ``mqtts`` ``tls_ca``, ``tls_cert``, ``tls_key``, ``tls_verify``.
    """

    scheme = "mqtt mqtts"
    capabilities: ClassVar[Capabilities] = Capabilities(
        delivery="at least once", group_delivery="at most once", order="publisher", retained=True
    )
    options: ClassVar[Mapping[str, OptionType]] = {
        "qos": choice("0", "1"),
        "keepalive": _keepalive,
        "client_id": text,
        **TLS_OPTIONS,
    }

    def __init__(self, url: BusURL) -> None:
        super().__init__(url)
        self.place()
        if url.path.strip("/"):
            raise BusURLError(f"an {url.scheme}:// URL has no path, {url} has one")
        if url.scheme != "mqtts":
            refuse_tls(url, self.settings, "mqtts")
        self._qos = int(self.settings.get("qos", 1))
        # Set by `connect`, before anything else is called.
        self._publisher: Optional[_Connection] = None

    def place(self) -> Any:
        """Give host and port."""
        return self.url.place(8883 if self.url.scheme == "mqtts" else 1883)

    def connect(self) -> None:
        """Connect for publishing."""
        connection = _Connection(self, self.settings.get("client_id", ""), 0)
        connection.open(monotonic() + self.timeout)
        self._publisher = connection

    def close(self) -> None:
        """Leave the broker."""
        if self._publisher is not None:
            self._publisher.close()

    def publish(self, words: Words, payload: bytes) -> None:
        """Publish, and wait for the acknowledgement that the QoS has."""
        self._publish(words, payload, retain=False)

    def publish_retained(self, words: Words, payload: bytes) -> None:
        """Publish, and have the broker keep it."""
        self._publish(words, payload, retain=True)

    def _publish(self, words: Words, payload: bytes, retain: bool) -> None:
        connection = self._publisher
        assert connection is not None
        topic = _fitting(SPELLING.topic(words))
        limit = monotonic() + self.timeout
        message = self._send(connection, topic, payload, retain, limit)
        try:
            message.wait_for_publish(max(0.0, limit - monotonic()))
            published = message.is_published()
        except (RuntimeError, ValueError) as error:
            raise BusConnectionError(
                f"publishing at {self.url} was cut off ({error}), "
                f"it may or may not have arrived{self._because(connection)}"
            ) from None
        if not published:
            raise BusTimeoutError(
                f"publishing at {self.url}: no acknowledgement within {self.timeout:g} s, "
                "it may or may not have arrived"
            )
        reason = connection.refused.pop(message.mid, None) if connection.refused else None
        if reason is not None:
            raise self.failed("publishing", f"the broker says {reason}")

    def _send(
        self, connection: _Connection, topic: str, payload: bytes, retain: bool, limit: float
    ) -> MQTTMessageInfo:
        while connection.up.wait(max(0.0, limit - monotonic())):
            # A packet is its kind, length, topic, number and (no) properties, and the payload.
            room = connection.largest - len(topic.encode()) - 10
            if len(payload) > room:
                raise PayloadTooLargeError(
                    f"the message has {len(payload)} bytes, {self.url} takes {room} on this topic"
                )
            with connection.sending:
                if connection.closing:
                    raise self.failed("publishing", "it was closed meanwhile")
                message = connection.client.publish(topic, payload, self._qos, retain)
            if message.rc != MQTT_ERR_NO_CONN:
                return message
            sleep(0.005)  # the network thread is about to clear `up`, or is connecting
        raise BusTimeoutError(
            f"publishing at {self.url} failed: not connected for {self.timeout:g} s"
            + self._because(connection)
        )

    def _because(self, connection: _Connection) -> str:
        return f"; {connection.refusal}" if connection.refusal else ""

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Subscribe on a connection of its own, each filter with an identifier of its own."""
        share = f"$share/{GROUP.topic((group,))}/" if group else ""
        wanted = [_fitting(f"{share}{SPELLING.filter(pattern)}") for pattern in filters]
        what = f"subscribing to {', '.join(wanted)}"
        connection = _Connection(self, f"ate{unique_word()}", 0 if group else SESSION)
        client = connection.client
        # Filters without an answer; the network thread takes them out, and enters them again when
        # it has reconnected. `live` and `left` it only sets.
        open_filters: Dict[int, str] = {}
        live, left = threading.Event(), threading.Event()
        refused: List[str] = []

        def restore(properties: Any) -> None:
            open_filters.clear()
            # Reading them costs time, and not every broker has them.
            known: int = getattr(properties, "SubscriptionIdentifierAvailable", 1)
            numbered = len(wanted) > 1 and known
            for number, topic in enumerate(wanted, 1):
                # Retained messages only for a subscription that is new, so none comes twice.
                _, mid = client.subscribe(
                    topic,
                    options=SubscribeOptions(1, retainHandling=1),
                    properties=_properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=number)
                    if numbered
                    else None,
                )
                open_filters[mid or 0] = topic

        def on_subscribe(client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
            topic = open_filters.pop(mid, "")
            for reason in reasons:
                if reason.is_failure and live.is_set():
                    inbox.report(self.failed(f"subscribing again to {topic}", reason))
                elif reason.is_failure:
                    refused.append(f"the broker says {reason} to {topic}")
            if not open_filters:
                _at_once(client.socket())
                live.set()
                inbox.report_connection(True)

        def on_message(client: Any, data: Any, message: Any) -> None:
            if group and message.retain:
                return  # some brokers send them to every new member
            try:
                words = SPELLING.words(message.topic)
            except UnicodeDecodeError as error:  # raised here, it would end paho's thread
                inbox.report(UndecodableMessageError(f"on a topic that is no UTF-8: {error}"))
                return
            # A copy for each filter, or one that names all of them.
            numbers = getattr(message.properties, "SubscriptionIdentifier", None)
            inbox.put(words, message.payload, min(numbers) - 1 if numbers else None)

        def turned_away(why: str) -> None:
            if live.is_set():
                inbox.report(self.failed("connecting again", why))

        connection.restore = restore
        connection.turned_away = turned_away
        connection.lost = lambda: inbox.report_connection(False)
        client.on_subscribe = on_subscribe
        client.on_message = on_message
        client.on_unsubscribe = lambda *event: left.set()
        limit = monotonic() + self.timeout
        try:
            connection.open(limit)
            if not live.wait(max(0.0, limit - monotonic())):
                refused.append(connection.refusal or "the broker does not answer")
        except KeyboardInterrupt:
            connection.close()
            raise
        if refused:
            connection.close()
            raise self.failed(what, refused[0])

        def leave() -> None:
            # First so that the broker gives us no more: what is on its way to us would be lost.
            if group and connection.up.is_set() and client.unsubscribe(wanted)[0] == 0:
                left.wait(GRACE)
            connection.close()

        return leave


def _fitting(topic: str) -> str:
    """Give a topic back that MQTT has room for."""
    size = len(topic.encode())
    if size > LONGEST:
        raise InvalidArgumentError(f"an MQTT topic has {LONGEST} bytes at most, this one {size}")
    return topic


def _without_delay(client: Any, data: Any, line: Any) -> None:
    """Send small packets at once: Nagle's algorithm would hold each back for 40 ms."""
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _at_once(line: Any) -> None:
    """Acknowledge what has come (Linux): the broker's Nagle holds back all else until we do."""
    if line is not None and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _bounded(timeout: float) -> Type[ssl.SSLSocket]:
    """Give sockets whose handshake ends in time, and which are closed if it fails.

    paho (2.1) gives it the keepalive's time, and leaves a failed one to the garbage collector.
    """

    class Line(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            self.settimeout(timeout)
            try:
                super().do_handshake(block)
            except BaseException:
                self.close()
                raise

    return Line


def _properties(kind: int, **values: Any) -> Properties:
    properties = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
