"""``kafka://``: Kafka, with confluent-kafka."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import logging
import queue
import re
import string
import threading
from collections import deque
from time import monotonic
from typing import (
    Any,
    Callable,
    ClassVar,
    Deque,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from ..._backoff import Backoff
from ..._exceptions import BusConnectionError, BusTimeoutError, BusURLError, InvalidArgumentError
from ..._topics import ONE_WORD, REST, TopicFilter
from .._correlation import unique_word
from .._driver import Capabilities, Driver, Inbox
from .._grammar import Spelling, Words, is_exact
from .._tls import TLS_OPTIONS, tls_context
from .._url import BusURL, flag, seconds, text

__all__ = ["KafkaDriver"]

logger = logging.getLogger("ate_dispatcher")

SPELLING = Spelling(".", allowed=string.ascii_letters + string.digits + "-", escape="_")
LONGEST = 249  # characters of a topic's name

LOOK = 0.1
"""Seconds after which a reader that waits for messages looks whether it is to end."""

BATCH = 500
"""Messages that a reader takes at once, of those that have come."""

PATIENCE = 1.0
"""Seconds of a callback after which a member of a group begins to ask for more meanwhile."""

REFRESH = 0.5
"""Seconds between two looks for topics that a filter matches and that are new."""

REMEMBERED = 16
"""Topics whose last message a publisher's next one is said to come after."""

MAYBE = "it may yet have arrived"

AFTER = "ate-after"
"""The header that says what a message comes after, as ``topic:partition:offset;...``."""

PLACES = re.compile(r"([^:;]+):(\d{1,9}):(\d{1,18})(?:;|$)")

REFUSALS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
)

_END: Any = object()

Future = concurrent.futures.Future
Place = Tuple[str, int]


class KafkaDriver(Driver):
    """One producer, and one consumer and thread for each subscription.

    Messages are spread over the partitions of their topic, so that the work of one publisher is
    shared in a group. Each says, in a header, which of its publisher's (one thread of one
    distributer) it comes after, on the last sixteen topics; a subscriber without a group holds it
    back until those have come. Within a group there is no order. A group is known by its name and
    its filters, so members that share work must ask for the same topics; it takes some seconds to
    join. Topics are made by publishing or subscribing, if the broker allows it; what a filter
    matches is found within half a second, from its first message on.

    Options: ``client_id``, ``fetch_wait`` (seconds that a broker may hold back an empty answer,
    0.1), ``session_timeout`` (seconds of silence after which a member of a group is taken for
    dead, 10; brokers have bounds for it), ``tls`` (yes or no), ``tls_ca``, ``tls_cert``,
    ``tls_key``, ``tls_verify``. A user and password are used for SASL PLAIN. Several hosts may be
    named.
    """

    scheme = "kafka"
    capabilities: ClassVar[Capabilities] = Capabilities(
        delivery="at least once",
        group_delivery="at least once",
        backlog=True,
        order="publisher",
        persistent=True,
        max_payload=1_000_000,
    )
    options: ClassVar[Dict[str, Any]] = {
        "client_id": text,
        "fetch_wait": seconds,
        "session_timeout": seconds,
        "tls": flag,
        **TLS_OPTIONS,
    }

    def __init__(self, url: BusURL) -> None:
        super().__init__(url)
        if url.path.strip("/"):
            raise BusURLError(f"a kafka:// URL has no path, not {url.path!r}: topics are published")
        if url.password and not url.user:
            raise BusURLError("this kafka:// URL has a password without a user")
        needing = [name for name in TLS_OPTIONS if name in self.settings]
        self.tls: bool = self.settings.get("tls", bool(needing))
        if needing and not self.tls:
            raise BusURLError(f"the option 'tls=no' of kafka:// contradicts {needing[0]!r}")
        self._said = ""  # the client library's last word about its connections
        self._publisher = _Publisher()
        # Each publisher enters and leaves its own report, each reader itself: one dict operation
        # each, and so is the tuple that others take of them.
        self._waiting: Dict[_Report, None] = {}
        self.readers: Dict[_Reader, None] = {}
        self._serving = threading.Lock()  # who has it serves the producer's callbacks
        self.closed = False  # set once, by close()

    def configuration(self, **more: Any) -> Dict[str, Any]:
        """Say to the client library what the URL says."""
        settings, url = self.settings, self.url
        hosts = url.hosts or (("127.0.0.1", None),)
        found: Dict[str, Any] = {
            "bootstrap.servers": ",".join(
                f"{f'[{host}]' if ':' in host else host}:{port or 9092}" for host, port in hosts
            ),
            "client.id": settings.get("client_id", "ate-dispatcher"),
            "security.protocol": f"{'SASL_' * bool(url.user)}{'SSL' if self.tls else 'PLAINTEXT'}",
            "error_cb": self.on_error,
            "log_level": 0,  # else the library writes to standard error by itself
            "socket.timeout.ms": max(1000, int(self.timeout * 1000)),
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 2000,
            **more,
        }
        if url.user:
            found["sasl.mechanism"] = "PLAIN"
            found["sasl.username"], found["sasl.password"] = url.user, url.password
        for name, what in (("tls_ca", "ca"), ("tls_cert", "certificate"), ("tls_key", "key")):
            if name in settings:
                found[f"ssl.{what}.location"] = settings[name]
        if not settings.get("tls_verify", True):
            found["enable.ssl.certificate.verification"] = False
        return found

    # ---- life ------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach a broker."""
        if self.tls:
            tls_context(self.settings)  # tells of files that cannot be used
        asked = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "sticky.partitioning.linger.ms": 0,  # else messages go in lots to one partition
            "message.timeout.ms": int(self.timeout * 1000),
            "message.max.bytes": 1_200_000,
        }
        try:
            self.producer = Producer(self.configuration(**asked))
            self.producer.list_topics(timeout=self.timeout)
        except KafkaException as error:
            if hasattr(self, "producer"):
                self.producer.poll(0)  # for what it has to say
            failed = self.translated("connecting", error)
            raise type(failed)(f"{failed} ({self._said})" if self._said else str(failed)) from None

    def on_error(self, error: KafkaError) -> None:
        """Keep what the client library says of its connections."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # which says less than what came before
            self._said = error.str()
        logger.debug("kafka: %s", error.str())

    def close(self) -> None:
        """End the readers, and every publish that still waits."""
        self.closed = True
        self.producer.purge()  # which confirms all that is open, as purged
        readers = tuple(self.readers)
        for reader in readers:
            reader.end()
        for reader in readers:
            reader.join()

    def translated(self, what: str, error: Exception) -> BusConnectionError:
        """Say an error of the client library in the library's own words."""
        reason = error.args[0] if error.args else error
        if self.closed:
            reason = f"the distributer was closed; {MAYBE}"
        told = reason.str() if isinstance(reason, KafkaError) else str(reason)
        failed = self.failed(what, told)
        if isinstance(reason, KafkaError) and reason.code() == KafkaError._MSG_TIMED_OUT:
            return BusTimeoutError(f"{failed}; {MAYBE}")
        return failed

    # ---- publishing ------------------------------------------------------------------------------

    def publish(self, words: Words, payload: bytes) -> None:
        """Publish, and wait until the broker has it."""
        topic, last, report = _topic(words), self._publisher.last, _Report()
        headers: Any = {AFTER: ";".join(last.values())}
        if self.closed:
            raise self.failed("publishing", "the distributer is closed")
        try:
            self.producer.produce(topic, payload, headers=headers, on_delivery=report)
            if self.closed:
                self.producer.purge()  # close() may have looked before this was produced
            self._wait(report)
            if report.error is not None:
                raise KafkaException(report.error)
        except (KafkaException, BufferError) as error:
            raise self.translated("publishing", error) from None
        last.pop(topic, None)
        last[topic] = f"{topic}:{report.partition}:{report.offset}"
        if len(last) > REMEMBERED:
            del last[next(iter(last))]

    def _wait(self, report: _Report) -> None:
        """Wait for a message's report. One of those who wait serves the callbacks of all.

        Whoever finds nobody serving does it himself: with one publisher no thread hands over to
        another. Who leaves wakes one who still waits if nobody serves; as everybody enters before
        trying to serve, and the server is one of those who leave, none waits unserved.
        """
        limit = monotonic() + self.timeout + 1.0
        self._waiting[report] = None
        try:
            while not report.known:
                left = limit - monotonic()
                if left <= 0:
                    raise BusTimeoutError(f"publishing at {self.url}: no answer; {MAYBE}")
                if self._serving.acquire(False):
                    try:
                        self.producer.poll(left)
                    finally:
                        self._serving.release()
                else:
                    with contextlib.suppress(queue.Empty):
                        report.woken.get(timeout=left)
        finally:
            del self._waiting[report]
            if self._waiting and not self._serving.locked():
                for other in tuple(self._waiting):
                    if not other.known:
                        other.woken.put(None)
                        break

    # ---- subscribing -----------------------------------------------------------------------------

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Follow the topics from where they end now, or share them in a group."""
        for pattern in filters:
            if is_exact(pattern):
                self._make(_topic(pattern.words))
        reader = (_Member if group else _Follower)(self, filters, group, inbox)
        reader.begin()
        return reader.leave

    def _make(self, topic: str) -> None:
        """Ask about a topic: a broker that allows it makes one that is not there."""
        limit = monotonic() + self.timeout
        while True:
            try:
                found = self.producer.list_topics(topic, timeout=self.timeout).topics[topic]
            except KafkaException as error:
                raise self.translated("subscribing", error) from None
            if found.error is None and found.partitions:
                return
            if monotonic() > limit:
                raise self.failed("subscribing", f"there is no topic {topic!r}: {found.error}")


@functools.lru_cache(1024)
def _topic(words: Words) -> str:
    topic = SPELLING.topic(words)
    if len(topic) > LONGEST:
        raise InvalidArgumentError(f"Kafka takes {LONGEST} characters of topic, not {topic!r}")
    return topic


_words = functools.lru_cache(1024)(SPELLING.words)


class _Publisher(threading.local):
    """Where a thread's last messages are, by topic, the oldest first."""

    def __init__(self) -> None:
        self.last: Dict[str, str] = {}


class _Report:
    """What became of a message, told by whoever serves the producer."""

    __slots__ = ("error", "known", "offset", "partition", "woken")

    def __init__(self) -> None:
        self.known = False  # set last, once
        self.error: Optional[KafkaError] = None
        self.woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __call__(self, error: Optional[KafkaError], message: Any) -> None:
        self.error = error
        self.partition, self.offset = message.partition(), message.offset()
        self.known = True
        self.woken.put(None)  # after it is known, so that who wakes sees it


class _Reader:
    """A consumer and the thread that alone uses it."""

    def __init__(
        self, driver: KafkaDriver, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> None:
        self.driver = driver
        self.filters = filters
        self.inbox = inbox
        self.group = group
        self.ended = threading.Event()
        self._live: Future[None] = Future()
        self._look_again = 0.0
        """When to ask whether the brokers, all lost, are back; 0 if they are not lost."""
        self._told: Set[int] = set()
        """Refusals that the subscriber knows of; the thread's."""
        self._thread = threading.Thread(target=self._run, name=f"{driver.url} reader", daemon=True)

    def begin(self) -> None:
        """Return once messages come."""
        self._thread.start()
        try:
            self._live.result(max(30.0, 2 * self.driver.timeout))
        except KafkaException as error:
            raise self.driver.translated("subscribing", error) from None
        except concurrent.futures.TimeoutError:
            self.end()
            raise BusTimeoutError(f"subscribing at {self.driver.url}: no answer") from None

    def end(self) -> None:
        """Have the thread end, whatever it waits for."""
        self.ended.set()

    def join(self) -> None:
        """Wait until the thread has ended, and the consumer with it."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def leave(self) -> None:
        """End; a member of a group has left it when this returns."""
        self.end()
        if self.group:
            self.join()

    def live(self) -> None:
        """Messages come from here on; on the thread."""
        if not self._live.done():
            self._live.set_result(None)

    def consumer(self, group: str, **more: Any) -> Consumer:
        """Make a consumer."""
        asked = {
            "group.id": group,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": int(self.driver.settings.get("fetch_wait", 0.1) * 1000),
            "fetch.error.backoff.ms": 50,
            "error_cb": self._on_error,
        }
        return Consumer(self.driver.configuration(**asked, **more))

    def _run(self) -> None:
        self.driver.readers[self] = None
        if self.driver.closed:  # close() may have looked before
            self.end()
        backoff = Backoff(0.1, 5.0)
        while not self.ended.is_set():
            consumer = None
            try:
                consumer = self.open()
                while not self.ended.is_set():
                    self.step(consumer)
                    backoff.reset()
            except KafkaException as error:
                if not self._live.done():
                    self._live.set_exception(error)
                    self.end()
                else:
                    self.inbox.report(self.driver.translated("reading", error))
                    self.ended.wait(backoff.next())
            finally:
                if consumer is not None:
                    with contextlib.suppress(KafkaException):  # nobody there to say goodbye to
                        consumer.close()
        del self.driver.readers[self]
        if not self._live.done():
            self._live.set_exception(KafkaException("it was ended"))

    def open(self) -> Consumer:
        """Make the consumer, ready to be read."""
        raise NotImplementedError

    def step(self, consumer: Consumer) -> None:
        """Read, for no longer than `LOOK` if nothing comes."""
        raise NotImplementedError

    def take(self, consumer: Consumer) -> Any:
        """Give the next message, or None. Outages are the library's to bridge."""
        message = consumer.poll(LOOK)
        error = None if message is None else message.error()
        if error is not None and error.code() in REFUSALS:
            self._refused(error)
        if message is None or error is not None:
            if self._look_again and monotonic() >= self._look_again:
                self._ask(consumer)
            return None
        self._found()
        self._told.clear()
        return message

    def _refused(self, error: KafkaError) -> None:
        """Tell of what does not go away by itself, once until something comes again."""
        if error.code() not in self._told:
            self._told.add(error.code())
            self.inbox.report(self.driver.translated("reading", KafkaException(error)))

    def _on_error(self, error: KafkaError) -> None:
        self.driver.on_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._look_again = monotonic() + PATIENCE
            self.inbox.report_connection(False)

    def _ask(self, consumer: Consumer) -> None:
        try:
            consumer.list_topics(timeout=PATIENCE)
        except KafkaException:
            self._look_again = monotonic() + PATIENCE
        else:
            self._found()

    def _found(self) -> None:
        if self._look_again:
            self._look_again = 0.0
            self.inbox.report_connection(True)


class _Follower(_Reader):
    """Reads all partitions of the topics that its filters match, and restores publishers' order."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._wild = not all(is_exact(pattern) for pattern in self.filters)
        self._give_up = 0.0
        """When messages that wait for others are handed on all the same."""
        self._positions: Dict[Place, int] = {}
        """Where the next message to be handed on is, of each partition that is followed."""

    def open(self) -> Consumer:
        """Begin where each partition ends now; where it was, if it has been read before."""
        consumer = self.consumer(f"ate-{unique_word()}")
        self._held: Dict[Place, Deque[Any]] = {}
        for place in self._places(consumer) if not self._live.done() else ():
            _, end = consumer.get_watermark_offsets(
                TopicPartition(*place), timeout=self.driver.timeout
            )
            self._positions[place] = end
        consumer.assign([TopicPartition(*place, at) for place, at in self._positions.items()])
        self._refresh = monotonic() + REFRESH
        self.live()
        return consumer

    def _places(self, consumer: Consumer) -> Iterable[Place]:
        """Give the partitions of every topic that a filter matches."""
        topics: Dict[str, Any] = {}
        if self._wild:
            topics = consumer.list_topics(timeout=self.driver.timeout).topics
        else:
            for pattern in self.filters:
                topic = _topic(pattern.words)
                topics.update(consumer.list_topics(topic, timeout=self.driver.timeout).topics)
        for name, topic in topics.items():
            if self._wanted(name):
                for number in topic.partitions:
                    yield name, number

    def _wanted(self, topic: str) -> bool:
        words = _words(topic)
        return not topic.startswith("__") and any(p.matches_words(words) for p in self.filters)

    def step(self, consumer: Consumer) -> None:
        """Take what has come, and hand on whatever it lets go."""
        if self._wild and monotonic() >= self._refresh:
            self._look_for_new(consumer)
        first = self.take(consumer)
        if first is None:
            if self._held and not self._look_again and monotonic() > self._give_up:
                self._let_go()
            return
        for message in (first, *consumer.consume(BATCH, 0)):
            if message.error() is None:
                self._arrive(message)

    def _arrive(self, message: Any) -> None:
        place = message.topic(), message.partition()
        if (self._held and place in self._held) or not self._due(message):
            self._held.setdefault(place, deque()).append(message)
            self._give_up = monotonic() + self.driver.timeout
        else:
            self._put(place, message)
            if self._held:
                self._hand_on()

    def _put(self, place: Place, message: Any) -> None:
        self._positions[place] = message.offset() + 1
        self.inbox.put(_words(place[0]), message.value() or b"")

    def _look_for_new(self, consumer: Consumer) -> None:
        """Follow topics that are new from their first message on."""
        try:
            places = [place for place in self._places(consumer) if place not in self._positions]
        except KafkaException as error:
            logger.debug("kafka: looking for topics: %s", error)
            places = []
        if places:
            self._positions.update(dict.fromkeys(places, 0))
            consumer.incremental_assign(
                [TopicPartition(*place, OFFSET_BEGINNING) for place in places]
            )
        self._refresh = monotonic() + REFRESH

    def _hand_on(self) -> None:
        """Put every message that waits for no other, until none is left that does not."""
        moved = True
        while moved:
            moved = False
            for place, waiting in tuple(self._held.items()):
                while waiting and self._due(waiting[0]):
                    self._put(place, waiting.popleft())
                    moved = True
                if not waiting:
                    del self._held[place]

    def _let_go(self) -> None:
        """Hand on what waits for something that does not come: retention may have deleted it."""
        logger.warning("%s: messages come without those before them", self.driver.url)
        for place, waiting in self._held.items():
            for message in waiting:
                self._put(place, message)
        self._held.clear()

    def _due(self, message: Any) -> bool:
        """Whether everything that it comes after has come.

        What it comes after was confirmed before it was sent, so it is in the log and will come,
        unless it is deleted there: nothing waits in a circle.
        """
        for name, value in message.headers() or ():
            if name != AFTER or not value:
                continue
            for topic, partition, offset in PLACES.findall(value.decode("ascii", "replace")):
                position = self._positions.get((topic, int(partition)))
                if position is None:
                    if self._wild and self._wanted(topic):
                        return False  # a topic that is to be found yet
                elif position <= int(offset):
                    return False
        return True


class _Member(_Reader):
    """A member of a group; has one message in hand, and commits it when it is done."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # Messages that were handled, the newest last, and what ends the wait for one.
        self._handled: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def end(self) -> None:
        """Have the thread end, whatever it waits for."""
        super().end()
        self._handled.put(_END)

    def open(self) -> Consumer:
        """Join the group; a new one begins where its partitions end now."""
        patterns = [_topic(p.words) if is_exact(p) else _regex(p) for p in self.filters]
        name = f"{self.group}\0{' '.join(sorted(patterns))}".encode("utf-8", "surrogatepass")
        session = int(self.driver.settings.get("session_timeout", 10.0) * 1000)
        asked = {
            "auto.offset.reset": "earliest",  # for a topic that appears later
            "topic.metadata.refresh.interval.ms": int(REFRESH * 1000),
            "session.timeout.ms": session,
            "heartbeat.interval.ms": min(500, session // 3),
        }
        consumer = self.consumer(f"ate-{hashlib.sha256(name).hexdigest()[:32]}", **asked)
        self._failure: Optional[KafkaException] = None
        consumer.subscribe(patterns, on_assign=self._on_assign)
        return consumer

    def _on_assign(self, consumer: Consumer, partitions: List[TopicPartition]) -> None:
        """Read on where the group was; what it has never read, from the end if it is new."""
        timeout = self.driver.timeout
        try:
            committed = consumer.committed(partitions, timeout=timeout) if partitions else []
            new = [place for place in committed if place.offset < 0]
            if new and not self._live.done():
                for place in new:
                    _, place.offset = consumer.get_watermark_offsets(place, timeout=timeout)
                consumer.commit(offsets=new, asynchronous=False)
            consumer.assign(committed)
            self.live()
        except KafkaException as error:  # through the library it would come out unreadable
            self._failure = error

    def step(self, consumer: Consumer) -> None:
        """Take one message, and see it through."""
        message = self.take(consumer)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if message is None:
            return
        done = functools.partial(self._handled.put, message)
        self.inbox.put(_words(message.topic()), message.value() or b"", done=done)
        paused: List[TopicPartition] = []
        handled: Any = None
        while handled is not message and handled is not _END:
            try:
                handled = self._handled.get(timeout=LOOK if paused else PATIENCE)
            except queue.Empty:
                paused = self._hold(consumer)
        if handled is message:
            try:
                consumer.commit(message=message, asynchronous=False)
            except KafkaException as error:  # another member will do it again
                logger.info("committing at %s: %s", self.driver.url, error)
        here = consumer.assignment()
        if paused:
            consumer.resume([place for place in paused if place in here])

    def _hold(self, consumer: Consumer) -> List[TopicPartition]:
        """Stay in the group, which only who goes on asking does; what is paused is not given."""
        consumer.pause(consumer.assignment())
        paused: List[TopicPartition] = consumer.assignment()
        stray: Any = consumer.poll(0)
        if stray is not None and stray.error() is None:
            consumer.seek(TopicPartition(stray.topic(), stray.partition(), stray.offset()))
        return paused


def _regex(pattern: TopicFilter) -> str:
    words = [
        r"[^.]+" if word in ONE_WORD else re.escape(SPELLING.topic((word,)))
        for word in pattern.words
        if word != REST
    ]
    last = pattern.words[-1] == REST
    if not words:
        return "^[^_].*"
    return "^" + r"\.".join(words) + (r"(\..+)?" if last else "") + "$"
