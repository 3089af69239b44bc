"""``redis://`` and ``rediss://``: Redis, with redis-py; channels, and a stream for groups."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from time import monotonic
from typing import Any, Callable, ClassVar, Deque, Dict, Iterable, List, Optional, Sequence, Tuple

import redis

from ..._backoff import Backoff
from ..._exceptions import BusConnectionError, BusTimeoutError, BusURLError
from ..._topics import REST, TopicFilter
from .._correlation import unique_word
from .._driver import Capabilities, Driver, Inbox
from .._grammar import Spelling, Words, first_match, is_exact
from .._tls import TLS_OPTIONS, refuse_tls, tls_context
from .._url import BusURL, seconds, text, whole

__all__ = ["RedisDriver"]

logger = logging.getLogger("ate_dispatcher")

SPELLING = Spelling(".", forbidden="*?[]\\")
"""Of channels; what would be special in a glob is encoded."""
NAMING = Spelling(".", forbidden=" ")
"""Of a filter in the name of a consumer group, which goes on with a space."""
KEEPALIVE = 15.0
"""Seconds of silence after which a reader asks whether the server is still there."""
FAREWELL = 2.0
"""Seconds that the server may take to notice that a reader leaves."""
FORGOTTEN = 10 * KEEPALIVE
"""Seconds after which a consumer that owns nothing and says nothing is deleted. One that leaves is
not, lest a message on its way to a connection that was cut off be deleted with it."""
AT_ONCE = 16
"""Entries of the stream that a member reads at once while none is for it; otherwise it is one."""
LEFT = "left"
"""The consumer of a group that owns what members have handed back."""

ERRORS = (redis.RedisError, OSError, UnicodeError)  # the last by a host's name that cannot be one

Connection = Any  # a redis.Connection, whose methods have no types
Message = Tuple[bytes, Words, bytes]
Reply = Any  # as Redis says it: bytes, numbers, None, and lists of these


class RedisDriver(Driver):
    """Connections for publishing, and for each subscription a connection and a thread.

    A message goes, in one transaction, to the channel of its topic and, once there is a group, to
    one stream of all topics. Subscribers without a group follow channels; what is published while
    one is cut off is lost to it. The members of a group and filter read the stream, one message at
    a time, which costs time for those of other topics, too. What a member did not handle goes to
    another: at once if it left, after ``claim_after`` seconds if it died. Outside clients may
    publish to the channels, but not to a group. Redis 6.2 or later.

    Options: ``stream`` (its key, ``ate:bus``), ``stream_maxlen`` (about how many messages it keeps,
    100000; a group that is further behind loses them), ``claim_after`` (seconds, 60), and for
    ``rediss`` ``tls_ca``, ``tls_cert``, ``tls_key``, ``tls_verify``. The path is the number of the
    database: of the stream, that is, for the channels of a server are the same in all of them.
    """

    scheme = "redis rediss"
    capabilities: ClassVar[Capabilities] = Capabilities(
        delivery="at most once",
        group_delivery="at least once",
        backlog=True,
        order="publisher",
        persistent=True,
        introspection=True,
    )
    options: ClassVar[Dict[str, Any]] = {
        "stream": text,
        "stream_maxlen": whole(1),
        "claim_after": seconds,
        **TLS_OPTIONS,
    }

    def __init__(self, url: BusURL) -> None:
        super().__init__(url)
        url.place(6379)
        if url.scheme != "rediss":
            refuse_tls(url, self.settings, "rediss")
        database = url.path.strip("/") or "0"
        if not (database.isascii() and database.isdigit()):
            raise BusURLError(f"the path of a {url.scheme}:// URL is a database's number")
        self._database = int(database)
        self.stream: str = self.settings.get("stream", "ate:bus")
        self.maxlen: int = self.settings.get("stream_maxlen", 100_000)
        self.claim_after: float = self.settings.get("claim_after", 60.0)
        # Connections that nobody uses: any thread takes and gives back; both are atomic.
        self._idle: Deque[Connection] = deque()
        self._closed = False

    # ---- life ------------------------------------------------------------------------------------

    def connection(self, timeout: float) -> Connection:
        """Make a connection. It belongs to one thread, and nothing reconnects it unasked."""
        kind: Any = redis.Connection
        options: Dict[str, Any] = {}
        if self.url.scheme == "rediss":
            verify = self.settings.get("tls_verify", True)
            kind = redis.SSLConnection
            options = {
                "ssl_ca_certs": self.settings.get("tls_ca"),
                "ssl_certfile": self.settings.get("tls_cert"),
                "ssl_keyfile": self.settings.get("tls_key"),
                "ssl_cert_reqs": "required" if verify else "none",
                "ssl_check_hostname": verify,
            }
        host, port = self.url.place(6379)
        made: Connection = kind(
            host=host,
            port=port,
            db=self._database,
            username=self.url.user or None,
            password=self.url.password or None,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            protocol=2,  # replies of one form, whatever version the library prefers
            **options,
        )
        try:
            made.connect()
        except BaseException:
            made.disconnect()
            raise
        return made

    def connect(self) -> None:
        """Reach the server."""
        if self.url.scheme == "rediss":
            tls_context(self.settings)  # the files that it names, told as a mistake of the URL
        self._ask("connecting", ("PING",))  # one without the password it needs is told only now

    def close(self) -> None:
        """Close what is idle; what is in use is closed by whoever uses it."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().disconnect()
            except IndexError:  # another thread was quicker
                break

    def translated(self, what: str, error: BaseException) -> BusConnectionError:
        """Say an error of the client library in the library's own words."""
        failed = self.failed(what, error)
        if isinstance(error, redis.TimeoutError):
            return BusTimeoutError(str(failed))
        return failed

    def _ask(self, what: str, *commands: Tuple[Any, ...]) -> List[Reply]:
        """Send commands in one go, on a connection that is ours meanwhile, and give the replies."""
        if self._closed:
            raise self.failed(what, "it is closed")
        connection = None
        try:
            connection = self._unused() or self.connection(self.timeout)
            replies = exchange(connection, *commands)
        except BaseException as error:
            if connection is not None:
                connection.disconnect()  # replies that are still to come are nobody's
            if not isinstance(error, ERRORS):
                raise
            raise self.translated(what, error) from None
        self._idle.append(connection)
        if self._closed:  # meanwhile: `close` may have come before it was there
            self._close_idle()
        return replies

    def _unused(self) -> Optional[Connection]:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            try:
                # After a fork it is the parent's; once ended by the server it has that to read.
                if connection.pid == os.getpid() and not connection.can_read():
                    return connection
            except ERRORS:
                pass
            connection.disconnect()
        return None

    # ---- publish and subscribe -------------------------------------------------------------------

    def publish(self, words: Words, payload: bytes) -> None:
        """Publish to the channel and to the stream, in one transaction."""
        topic = SPELLING.topic(words)
        *_, done = self._ask(
            "publishing",
            ("MULTI",),
            ("PUBLISH", topic, payload),
            ("XADD", self.stream, "NOMKSTREAM", "MAXLEN", "~", self.maxlen)
            + ("*", "t", topic, "d", payload),
            ("EXEC",),
        )
        for reply in done:
            if isinstance(reply, redis.RedisError):  # such as a key that is no stream
                raise self.translated("publishing", reply)

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Follow channels, or share a group's messages."""
        readers: List[_Reader] = [_Channels(self, inbox, filters)]
        if group:  # a reader can wait for one group only, and there is one for each filter
            readers = [_Member(self, inbox, group, *each) for each in enumerate(filters)]

        def leave() -> None:
            for reader in readers:
                reader.end()

        try:
            for reader in readers:
                reader.begin()
            if self._closed:
                raise self.failed("subscribing", "it was closed")
        except BaseException as error:
            leave()
            if not isinstance(error, ERRORS) or isinstance(error, BusConnectionError):
                raise
            raise self.translated("subscribing", error) from None
        return leave

    def count(self, words: Words) -> int:
        """Ask the server how many follow the topic's channel."""
        ((_, count),) = self._ask("counting", ("PUBSUB", "NUMSUB", SPELLING.topic(words)))
        return int(count)

    def topics(self) -> Iterable[Words]:
        """Ask the server which channels are followed."""
        (names,) = self._ask("listing channels", ("PUBSUB", "CHANNELS"))
        return [SPELLING.words(str(name, "utf-8", "replace")) for name in names]


def exchange(connection: Connection, *commands: Tuple[Any, ...]) -> List[Reply]:
    """Send commands in one go and give the replies; the first one that is an error is raised."""
    connection.send_packed_command(connection.pack_commands(commands))
    return [connection.read_response() for _ in commands]


class _Reader:
    """A connection and the thread that it belongs to, which reconnects until it is ended.

    The thread alone writes `_connection` (the one that begins it does so before); whoever ends it
    writes `_ended`, then reads `_connection`; the thread does it the other way round, so that one
    of them sees the other. What is ended is woken by closing our half of its connection: the server
    then closes the other, having sent us the last that it had.
    """

    def __init__(self, driver: RedisDriver, inbox: Inbox) -> None:
        self.driver = driver
        self.inbox = inbox
        self._ended = threading.Event()
        self._connection: Optional[Connection] = None
        self._silent = False
        self._told = ""
        self._thread = threading.Thread(target=self._run, name=f"{driver.url}", daemon=True)

    def begin(self) -> None:
        """Return once messages come; raise if the server is not there or refuses."""
        self._connect()
        self._thread.start()

    def end(self) -> None:
        """End the thread; in bounded time, whatever the server does."""
        self._ended.set()
        if self._thread.ident is None:  # `begin` failed
            self._disconnect()
            return
        self._shut(socket.SHUT_WR)
        self._thread.join(FAREWELL)
        if self._thread.is_alive():
            self._silent = True
            self._shut(socket.SHUT_RDWR)
            self._thread.join(self.driver.timeout)

    def _shut(self, how: int) -> None:
        # The library has no way to wake a reader. Its `disconnect` would close what is being read.
        own: Optional[socket.socket] = getattr(self._connection, "_sock", None)
        if own is not None:
            try:
                socket.socket.shutdown(own, how)  # a TLS socket's own would change its state
            except OSError:
                pass  # it is gone already

    def _run(self) -> None:
        backoff = Backoff(0.05, 5.0)
        while not self._ended.is_set():
            begun = monotonic()
            try:
                if self._connection is None:
                    self._connect()
                    self.inbox.report_connection(True)
                assert self._connection is not None
                self.serve(self._connection)
            except Exception as error:  # whatever it is: a subscription lives on
                if not self._ended.is_set():
                    self._lost(error)
            self._disconnect()
            if monotonic() - begun > backoff.cap:
                backoff.reset()
                self._told = ""
            self._ended.wait(backoff.next())
        if not self._silent:
            try:
                self.leave()
            except Exception as error:
                logger.debug("%s", self.driver.failed("leaving a group", error))
            self._disconnect()

    def _connect(self) -> None:
        self._connection = self.driver.connection(self.driver.timeout)
        if not self._ended.is_set():
            self.enter(self._connection)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _lost(self, error: Exception) -> None:
        failed = self.driver.translated("reading", error)
        logger.info("reconnecting: %s", failed)
        self.inbox.report_connection(False)
        # The server is there and refuses: that does not go away by itself.
        refused = isinstance(error, (redis.ResponseError, redis.AuthenticationError))
        gone = str(error).startswith(("NOGROUP", "UNBLOCKED"))  # the stream: it is made again
        if refused and not gone and str(failed) != self._told:
            self._told = str(failed)
            self.inbox.report(failed)

    def enter(self, connection: Connection) -> None:
        """Begin at a new connection; return once messages come."""
        raise NotImplementedError

    def serve(self, connection: Connection) -> None:
        """Read until ended; raise once cut off."""
        raise NotImplementedError

    def leave(self) -> None:
        """Tell the server that it was the last."""


class _Channels(_Reader):
    """Follows the channels of filters; those with wildcards as globs, which are coarser."""

    def __init__(self, driver: RedisDriver, inbox: Inbox, filters: Sequence[TopicFilter]) -> None:
        super().__init__(driver, inbox)
        self._filters = filters
        self._keys = [_channel_key(pattern) for pattern in filters]

    def enter(self, connection: Connection) -> None:
        """Subscribe, and wait until all of it is confirmed."""
        commands = []
        for command, kind in (("SUBSCRIBE", b"message"), ("PSUBSCRIBE", b"pmessage")):
            names = {name for own, name in self._keys if own == kind}
            if names:
                commands.append((command, *names))
        connection.send_packed_command(connection.pack_commands(commands))
        missing = len(set(self._keys))
        while missing:
            missing -= self._take(connection.read_response())

    def serve(self, connection: Connection) -> None:
        """Take what comes."""
        asked = False
        while not self._ended.is_set():
            if connection.can_read(KEEPALIVE):
                self._take(connection.read_response())
                asked = False
            elif asked:
                raise redis.TimeoutError("the server has fallen silent")
            else:
                connection.send_command("PING")
                asked = True

    def _take(self, reply: Reply) -> bool:
        """Put a message into the inbox; tell whether it was none but a confirmation."""
        kind, key, *_, payload = reply
        if kind not in (b"message", b"pmessage"):
            return kind in (b"subscribe", b"psubscribe")
        words = SPELLING.words(str(reply[-2], "utf-8", "replace"))
        # It comes once for each key that matches: the one of the first filter counts.
        first = first_match(self._filters, words)
        if first >= 0 and self._keys[first] == (kind, key):
            self.inbox.put(words, payload)
        return False


def _channel_key(pattern: TopicFilter) -> Tuple[bytes, bytes]:
    """Say what to subscribe to for a filter, and as what its messages come."""
    name = SPELLING.filter(pattern)
    if is_exact(pattern):
        return b"message", name.encode("utf-8")
    if pattern.words[-1] == REST:
        name = name[: -len(".#")] + "*"  # "a.#" is "a", too
    return b"pmessage", name.encode("utf-8")


class _Member(_Reader):
    """A member of the group of one filter: a consumer of the stream, with one message in hand.

    Its thread alone writes what is here, but for `_handled`, which is the worker's.
    """

    def __init__(
        self, driver: RedisDriver, inbox: Inbox, group: str, via: int, pattern: TopicFilter
    ) -> None:
        super().__init__(driver, inbox)
        self._pattern = pattern
        self._via = via
        name = f"{NAMING.filter(pattern)} {group}"
        self._names = (driver.stream, name.encode("utf-8", "surrogatepass"))
        self._consumer = unique_word()
        self._batch: Deque[Message] = deque()
        """Read, and not yet put into the inbox."""
        self._in_hand: Optional[bytes] = None
        """What is in the inbox or its callback; `_handled` is the last that the worker has done."""
        self._handled: Optional[bytes] = None
        self._wake = threading.Event()
        self._to_acknowledge: List[bytes] = []
        self._count = 1
        self._look_at = 0.0
        """When to look for what others have left behind."""

    def enter(self, connection: Connection) -> None:
        """Make the group, unless it is there, and take again what was lost on the way to us."""
        try:  # a new group begins with what comes from now on
            exchange(connection, ("XGROUP", "CREATE", *self._names, "$", "MKSTREAM"))
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        (consumers,) = exchange(connection, ("XINFO", "CONSUMERS", *self._names))
        for consumer in consumers:
            known = dict(zip(consumer[::2], consumer[1::2]))
            if not known[b"pending"] and known[b"idle"] > FORGOTTEN * 1000:
                exchange(connection, ("XGROUP", "DELCONSUMER", *self._names, known[b"name"]))
        self._batch.clear()
        self._sort(self._read(connection, "0"))
        self._look_at = 0.0

    def serve(self, connection: Connection) -> None:
        """Give one message after the other, each once the one before is handled."""
        while not self._ended.is_set():
            if self._in_hand is not None:
                self._wait(connection)
            elif self._batch:
                self._give(*self._batch.popleft())
            else:
                self._fetch(connection)

    def _give(self, identifier: bytes, words: Words, payload: bytes) -> None:
        def done() -> None:  # by the worker
            self._handled = identifier
            self._wake.set()

        self._wake.clear()
        self._in_hand = identifier
        self.inbox.put(words, payload, self._via, done)

    def _wait(self, connection: Connection) -> None:
        """Wait for the worker; one that takes long is not to be taken for dead."""
        if not self._wake.wait(self.driver.claim_after / 3):
            held = [self._in_hand, *(identifier for identifier, *_ in self._batch)]
            self._ask(connection, "XCLAIM", *self._names, self._consumer, 0, *held, "JUSTID")
        self._settle()

    def _settle(self) -> None:
        if self._in_hand is not None and self._handled == self._in_hand:
            self._to_acknowledge.append(self._in_hand)
            self._in_hand = None

    def _fetch(self, connection: Connection) -> None:
        """Get what others have left behind, or wait for what comes."""
        now = monotonic()
        if now >= self._look_at:
            abandoned = self._abandoned(connection)
            if abandoned:
                self._sort(abandoned)
                return  # there may be more
            self._look_at = now + min(KEEPALIVE, self.driver.claim_after / 2)
        found = self._sort(self._read(connection, ">", max(0.001, self._look_at - monotonic())))
        # Those of other topics are passed over quickly; of ours, others shall have their part.
        self._count = 1 if found else min(2 * self._count, AT_ONCE)

    def _abandoned(self, connection: Connection) -> Sequence[Reply]:
        start, entries = b"0-0", ()
        idle = int(self.driver.claim_after * 1000)
        while not entries:
            start, entries, *_ = self._ask(
                connection,
                *("XAUTOCLAIM", *self._names, self._consumer, idle, start, "COUNT", 1),
            )
            if start == b"0-0":
                break
        return [entry for entry in entries if entry]

    def _read(self, connection: Connection, start: str, wait: float = 0.0) -> Sequence[Reply]:
        stream, group = self._names
        # Redis passes over COUNT and BLOCK where we ask for what we already have.
        limits = ("COUNT", self._count, "BLOCK", int(wait * 1000) or 1) if start == ">" else ()
        reply = self._ask(
            connection,
            *("XREADGROUP", "GROUP", group, self._consumer, *limits, "STREAMS", stream, start),
            wait=wait,
        )
        return reply[0][1] if reply else ()

    def _sort(self, entries: Sequence[Reply]) -> bool:
        """Keep what is for us, and acknowledge the rest; tell whether there was any of ours."""
        for identifier, pairs in entries:
            if identifier == self._in_hand or identifier in self._to_acknowledge:
                continue
            fields = dict(zip(pairs[::2], pairs[1::2])) if pairs else {}  # none if trimmed
            words = SPELLING.words(str(fields.get(b"t", b""), "utf-8", "replace"))
            if b"d" in fields and self._pattern.matches_words(words):
                self._batch.append((identifier, words, fields[b"d"]))
            else:
                self._to_acknowledge.append(identifier)
            if b"left" in fields:
                self._look_at = 0.0
        return bool(self._batch)

    def _ask(self, connection: Connection, *command: Any, wait: float = 0.0) -> Reply:
        """Send one command, and what is to be acknowledged with it; it may wait in the server."""
        acknowledged = self._to_acknowledge[:]
        commands = [("XACK", *self._names, *acknowledged), command] if acknowledged else [command]
        connection.send_packed_command(connection.pack_commands(commands))
        if acknowledged:  # kept until it is confirmed
            connection.read_response()
            del self._to_acknowledge[: len(acknowledged)]
        if not connection.can_read(wait + self.driver.timeout):
            raise redis.TimeoutError("the server has fallen silent")
        return connection.read_response()

    def end(self) -> None:
        """Leave the group, and hand back what was not handled."""
        self._ended.set()
        self._wake.set()
        super().end()

    def leave(self) -> None:
        """Hand back what was not handled, and wake a member that waits, if there is one."""
        self._settle()
        connection = self._connection = self.driver.connection(min(FAREWELL, self.driver.timeout))
        pending = self._ask(connection, "XPENDING", *self._names, "-", "+", 1000, self._consumer)
        if pending:
            held = [identifier for identifier, *_ in pending]
            # As if it had been idle since 1970.
            self._ask(connection, *("XCLAIM", *self._names, LEFT, 0, *held, "TIME", 1, "JUSTID"))
        if pending or not self._look_at:  # we were to look what another had left, and did not
            # To whoever waits in a group this comes as a message, which makes it look around.
            self._ask(
                connection,
                *("XADD", self.driver.stream, "NOMKSTREAM", "MAXLEN", "~", self.driver.maxlen),
                *("*", "left", ""),
            )
