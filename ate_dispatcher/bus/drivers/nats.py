"""``nats://`` and ``tls://``: NATS, with nats-py on the event loop of a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import random
import threading
from collections import deque
from typing import Any, Callable, ClassVar, Coroutine, Deque, Dict, List, Optional, Sequence

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from ..._backoff import Backoff
from ..._exceptions import (
    BusConnectionError,
    BusError,
    BusTimeoutError,
    BusURLError,
    InvalidArgumentError,
    PayloadTooLargeError,
)
from ..._topics import REST, TopicFilter
from .._driver import Capabilities, Driver, Inbox
from .._grammar import Spelling, Words, is_exact
from .._outbox import Outbox, Outgoing
from .._tls import TLS_OPTIONS, tls_context
from .._url import BusURL, flag, seconds, text

__all__ = ["NatsDriver"]

logger = logging.getLogger("ate_dispatcher")

# "$" begins the server's own subjects: "$JS.API" would be an order to it.
SPELLING = Spelling(".", "*", ">", forbidden="*> ", first="$")
QUEUE = Spelling(" ", forbidden="|")

LONGEST = 4000
"""Bytes of a subject or queue: the server ends connections whose lines exceed 4096."""

FAREWELL = 1.0
"""Seconds that leaving may take if the broker does not answer."""


class NatsDriver(Driver):
    """One connection, on the event loop of one thread, for everything.

    `publish` returns once the server has answered a PING sent after the message; publishers that
    wait at the same time share one. While the connection is away they wait for it, and nothing is
    sent later whose `publish` has raised before. What was on its way when it was lost is lost. The
    members of a group are a queue of its name; for filters with wildcards, of its name, ``|`` and
    the filter: queues of one name share even what comes for different filters. A ``#`` is two
    subjects: ``a.>`` does not match ``a``.

    The user alone, without a password, is a token. Several hosts are servers of one cluster; those
    that it tells of are used too. Options: ``tls`` (demand it; ``tls_ca``, ``tls_cert``,
    ``tls_key``, ``tls_verify`` and ``tls://`` do so too), ``credentials`` (a file), ``name`` (of
    the connection), ``ping_interval`` (seconds, 5; a server that has not answered two is lost).
    """

    scheme = "nats tls"
    capabilities: ClassVar[Capabilities] = Capabilities(
        delivery="at most once",
        group_delivery="at most once",
        order="publisher",
        max_payload=1_048_576,
    )
    options: ClassVar[Dict[str, Any]] = {
        "tls": flag,
        "credentials": text,
        "name": text,
        "ping_interval": seconds,
        **TLS_OPTIONS,
    }

    def __init__(self, url: BusURL) -> None:
        if url.user and not url.password:  # a token, which is a secret: shown as a password is
            url.user, url.password = "", url.user
        super().__init__(url)
        if url.path.strip("/"):
            raise BusURLError(f"a {url.scheme}:// URL has no path, not {url.path!r}")
        implied = url.scheme == "tls" or any(name in self.settings for name in TLS_OPTIONS)
        self._tls: bool = self.settings.get("tls", implied)
        if implied and not self._tls:
            raise BusURLError(f"tls=no contradicts the rest of this {url.scheme}:// URL")
        hosts = url.hosts or (("127.0.0.1", None),)
        self._servers = [
            f"nats://{f'[{host}]' if ':' in host else host}:{port or 4222}" for host, port in hosts
        ]
        self._ping: float = self.settings.get("ping_interval", 5.0)
        # Guards the outbox and `_closed`; held for a step, never while anything waits.
        self._lock = threading.Lock()
        self._outbox = Outbox()
        self._closed = False
        # All that follows is the loop's thread's.
        self._parts: Dict[_Part, None] = {}
        """What is subscribed to, on this connection and the next."""
        self._client: Optional[_Client] = None
        """The connection; None while there is none, or while it is not fully restored."""
        self._why: object = "not connected yet"
        self._discovered: List[str] = []

    # ---- life ------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Start the thread and reach a server."""
        url = self.url
        self._options: Dict[str, Any] = {
            "allow_reconnect": False,  # `_keep` does: the library gives up after some errors
            "name": self.settings.get("name"),
            "ping_interval": self._ping,
            "user_credentials": self.settings.get("credentials"),
            "tls": tls_context(self.settings) if self._tls else None,
        }
        if url.user:
            self._options.update(user=url.user, password=url.password)
        elif url.password:
            self._options.update(token=url.password)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._spin, name=str(url), daemon=True)
        self._thread.start()
        try:
            self._call("connecting", self._open(), self.timeout + 2 * FAREWELL)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection and the thread; whoever still waits is told."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        self._thread.join(5 * FAREWELL)

    def _spin(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _open(self) -> None:
        self._up = asyncio.Event()
        await self._reach()
        self._keeper = self._loop.create_task(self._keep())

    async def _shut(self) -> None:
        try:
            client, self._client = self._client, None
            for message in self._taken():
                message.finish("it was closed")
            others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=FAREWELL)
            if client is not None:
                await client.end()
        finally:
            self._loop.stop()

    def _call(self, what: str, work: Coroutine[Any, Any, None], timeout: float) -> None:
        """Have the loop do something, and wait for it; any thread but the loop's."""
        with self._lock:
            if self._closed:
                work.close()
                raise self.failed(what, "it is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(timeout)
        except BusError:
            raise
        except (Exception, concurrent.futures.CancelledError) as error:
            raise self._translated(what, error) from None

    def _translated(self, what: str, error: object) -> BusConnectionError:
        """Say an error of the client library in the library's own words."""
        if isinstance(error, (asyncio.TimeoutError, concurrent.futures.TimeoutError)):
            why = f"the broker does not answer within {self.timeout:g} s"
            return BusTimeoutError(str(self.failed(what, why)))
        if isinstance(error, concurrent.futures.CancelledError):
            error = "it was closed"
        return self.failed(what, error)

    def _away(self, what: str) -> BusTimeoutError:
        why = f"not connected for {self.timeout:g} s ({self._why})"
        return BusTimeoutError(str(self.failed(what, why)))

    # ---- the connection (the loop's thread, like everything with a `_` below) --------------------

    async def _keep(self) -> None:
        """Wait until the connection is lost, make another, and so on."""
        while True:
            client = self._client
            assert client is not None
            # It may close itself without telling, if it cannot even say farewell.
            while not client.lost.done() and client.is_connected:
                await asyncio.wait({client.lost}, timeout=self._ping)
            self._client = None
            self._up.clear()
            self._tell(False)
            self._discovered = [f"nats://{uri.netloc}" for uri in client.discovered_servers]
            self._why = client.lost.result() if client.lost.done() else "the connection was lost"
            await client.end()
            backoff = Backoff(0.05, 5.0)
            while self._client is None:
                logger.info("reconnecting to %s: %s", self.url, self._why)
                await asyncio.sleep(backoff.next())
                try:
                    await self._reach()
                except Exception as error:
                    self._why = error

    async def _reach(self) -> None:
        """Connect to one of the servers and restore all subscriptions, or raise."""
        servers = list(dict.fromkeys(self._servers + self._discovered))
        random.shuffle(servers)
        problem: Exception = errors.NoServersError()
        for server in servers:
            client = _Client()
            try:
                await self._dial(client, server, self.timeout / len(servers))
                await self._restore(client)
            except Exception as error:
                problem = error
                await client.end()
                continue
            except BaseException:
                await client.end()
                raise
            self._client = client
            self._up.set()
            self._send()
            self._tell(True)
            return
        raise problem

    async def _dial(self, client: _Client, server: str, patience: float) -> None:
        opening = self._loop.create_task(
            client.connect(
                [server],
                error_cb=client.heard,
                closed_cb=client.closed,
                **{**self._options, "connect_timeout": patience},
            )
        )
        # It would try a server that is not there for ever: the first complaint ends it.
        try:
            await _either(opening, client.lost, patience)
            if opening.done():
                opening.result()
            if client.lost.done():
                raise client.lost.result()
            if not opening.done():
                raise asyncio.TimeoutError
        finally:
            if not opening.done():
                opening.cancel()

    async def _restore(self, client: _Client) -> None:
        parts = tuple(self._parts)
        for part in parts:
            await part.begin(client)
        for part in parts:
            if part not in self._parts:  # left meanwhile
                await part.end(client)
        await client.answer(self.timeout)
        for part in parts:
            if client.refusal("subscription", part.subject):
                part.inbox.report(self.failed(f"subscribing to {part.subject!r}", "refused"))

    def _tell(self, up: bool) -> None:
        for inbox in {part.inbox for part in self._parts}:
            inbox.report_connection(up)

    # ---- publishing ------------------------------------------------------------------------------

    def publish(self, words: Words, payload: bytes) -> None:
        """Have it sent, and wait for the answer."""
        message = Outgoing(_checked(SPELLING.topic(words)), payload)
        with self._lock:
            if self._closed:
                raise self.failed("publishing", "it is closed")
            kick = self._outbox.add(message)
        if kick:
            with contextlib.suppress(RuntimeError):  # closed since: `_shut` has told us
                self._loop.call_soon_threadsafe(self._send)
        if not message.wait(self.timeout):
            with self._lock:
                unsent = self._outbox.withdraw(message)
            if unsent:
                raise self._away("publishing")
            raise self._translated("publishing", asyncio.TimeoutError())
        if isinstance(message.error, errors.MaxPayloadError):
            raise PayloadTooLargeError(
                f"the message for {SPELLING.topic(words)!r} has {len(payload)} bytes as JSON, "
                f"more than {self.url} takes"
            )
        if message.error is not None:
            raise self._translated("publishing", message.error)

    def _taken(self) -> List[Outgoing]:
        """Empty the outbox; the next one has to kick us."""
        with self._lock:
            return self._outbox.take()

    def _send(self) -> None:
        """Send what is in the outbox, unless there is no connection: then it waits for one."""
        if self._client is not None:
            self._client.send(self._taken())

    # ---- subscribing -----------------------------------------------------------------------------

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Subscribe to the subjects of each filter."""
        parts: List[_Part] = []
        for via, pattern in enumerate(filters):
            subjects = [_checked(SPELLING.filter(pattern))]
            queue = QUEUE.topic((group,))
            if group and not is_exact(pattern):
                queue += f"|{subjects[0]}"
            _checked(queue)
            if pattern.words[-1] == REST and len(pattern.words) > 1:  # the parent, too
                subjects.append(subjects[0][:-2])
            parts += [_Part(subject, queue, via, inbox) for subject in subjects]

        def leave() -> None:
            # The server's answer, so that a group's next message is not ours.
            self._call("leaving", self._leave(parts), FAREWELL)

        try:
            self._call("subscribing", self._enter(parts), self.timeout + FAREWELL)
        except KeyboardInterrupt:  # it may be live by now, or soon
            for part in parts:
                part.wanted = False
            with contextlib.suppress(BusError):
                leave()
            raise
        return leave

    async def _enter(self, parts: Sequence[_Part]) -> None:
        limit = self._loop.time() + self.timeout
        try:
            await asyncio.wait_for(self._up.wait(), self.timeout)
        except asyncio.TimeoutError:
            raise self._away("subscribing") from None
        client = self._client
        if client is None:  # lost again
            raise self.failed("subscribing", self._why)
        try:
            for part in parts:
                await part.begin(client)
            await client.answer(limit - self._loop.time())
            for part in parts:
                refusal = client.refusal("subscription", part.subject)
                if refusal:
                    raise self.failed(f"subscribing to {part.subject!r}", refusal)
            if self._client is not client or not all(part.wanted for part in parts):
                raise self.failed("subscribing", self._why)
        except BaseException:
            for part in parts:
                await part.end(client)
            raise
        self._parts.update(dict.fromkeys(parts))

    async def _leave(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            self._parts.pop(part, None)
        client = self._client
        if client is not None:
            for part in parts:
                await part.end(client)
            await client.answer(self.timeout)


async def _either(one: asyncio.Future[Any], other: asyncio.Future[Any], timeout: float) -> None:
    """Wait for one of two; neither is cancelled."""
    await asyncio.wait({one, other}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def _checked(name: str) -> str:
    if len(name.encode()) > LONGEST:
        raise InvalidArgumentError(
            f"a topic or group on NATS has {LONGEST} bytes at most, {name[:50]!r}… has more"
        )
    return name


class _Batch:
    """Messages that wait for one answer. To nats-py it looks like the future of a PING."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self.messages: List[Outgoing] = []

    def set_result(self, answered: bool) -> None:
        """Take the server's answer: it has them all."""
        client = self._client
        del client.unanswered[self]
        for message in self.messages:
            message.finish(client.refusal("publish", message.topic))


class _Part:
    """One subject of a subscription, for as long as that lasts.

    To nats-py it looks like a future that waits for one message; it takes them all, in the reader,
    without the queue and the task that a callback costs.
    """

    def __init__(self, subject: str, queue: str, via: int, inbox: Inbox) -> None:
        self.subject = subject
        self.queue = queue
        self.via = via
        self.inbox = inbox
        self.wanted = True
        """Whether somebody waits for it or has it; cleared once, by whoever asked for it."""
        self._client: Optional[_Client] = None
        self._held: Any = None

    def cancelled(self) -> bool:
        """Say that a message is wanted."""
        return False

    def set_result(self, message: Msg) -> None:
        """Take a message."""
        self.inbox.put(SPELLING.words(message.subject), message.data, self.via)

    async def begin(self, client: _Client) -> None:
        """Subscribe."""
        future: Any = self
        self._held = await client.subscribe(self.subject, self.queue, future=future)
        self._client = client

    async def end(self, client: _Client) -> None:
        """Unsubscribe, if it was this client's."""
        if self._client is client:
            self._client = None
            with contextlib.suppress(errors.Error, OSError):
                await self._held.unsubscribe()


class _Client(Client):
    """nats-py's client for one connection, with what it lacks. The loop's thread's."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        """Done, with the reason, as soon as this connection is of no more use."""
        self.unanswered: Dict[_Batch, None] = {}
        self._complaints: Deque[str] = deque(maxlen=100)

    def lose(self, error: Exception) -> None:
        """Say that it is of no more use."""
        if not self.lost.done():
            self.lost.set_result(error)

    async def heard(self, error: Exception) -> None:
        """Take the library's complaints: after all but one kind it closes the connection."""
        if "permissions violation" in str(error):
            logger.warning("%s", error)
            self._complaints.append(str(error))
        else:
            self.lose(error)

    async def closed(self) -> None:
        """Take the library's word that it has closed the connection."""
        self.lose(self.last_error or errors.ConnectionClosedError())

    def refusal(self, what: str, subject: str) -> Optional[str]:
        """Give the server's complaint about a subject, once; it comes before the answer."""
        for complaint in self._complaints:
            if f'{what} to "{subject.lower()}"' in complaint:
                self._complaints.remove(complaint)
                return complaint
        return None

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Write messages and a PING, in one piece.

        Past the library: its `flush` sends the PING ahead of what it has not written yet.
        """
        lines: List[bytes] = []
        batch = _Batch(self)
        for message in messages:
            size = len(message.payload)
            if size > self.max_payload:
                message.finish(errors.MaxPayloadError())
                continue
            batch.messages.append(message)
            lines += (b"PUB %b %d\r\n" % (message.topic.encode(), size), message.payload, b"\r\n")
        if lines:
            self.unanswered[batch] = None
            self._ping(batch, lines)

    def _ping(self, future: Any, lines: Sequence[bytes] = ()) -> None:
        """Have the future's result set by the server's answer, which comes after all before it."""
        if self._transport is None or not self.is_connected:
            self.lose(errors.ConnectionClosedError())
            return
        self._pongs.append(future)
        self._transport.write(b"".join((*lines, b"PING\r\n")))

    async def answer(self, timeout: float) -> None:
        """Return once the server has taken all that was asked of it."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + timeout
        await asyncio.sleep(0)  # the library's writer comes first
        while self.pending_data_size and self.is_connected and loop.time() < limit:
            await asyncio.sleep(0.001)
        # Never cancelled: the library's reader would fall over an answer that comes late.
        answer: asyncio.Future[bool] = loop.create_future()
        self._ping(answer)
        await _either(answer, self.lost, max(0.0, limit - loop.time()))
        if not answer.done():
            raise self.lost.result() if self.lost.done() else asyncio.TimeoutError()

    async def end(self) -> None:
        """Close it, without waiting for a server that may be gone."""
        self.lose(errors.ConnectionClosedError())
        unanswered, self.unanswered = self.unanswered, {}
        self._pongs = []  # no answer is taken from now on
        for batch in unanswered:
            for message in batch.messages:
                message.finish(self.lost.result())
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        with contextlib.suppress(Exception):
            # It ends its tasks at once; after a handshake that failed it then waits for nothing.
            await asyncio.wait_for(self.close(), FAREWELL / 10)

    def _connect_command(self) -> bytes:
        # The library would go on in the clear, password and all.
        if "tls" in self.options and not self._server_info.get("tls_required"):
            raise errors.Error("TLS is demanded, and this server does without")
        return super()._connect_command()

    def _build_message(self, *arguments: Any, **named: Any) -> Any:
        # Subjects may be any bytes; the error would end the reader, without a word.
        try:
            return super()._build_message(*arguments, **named)
        except UnicodeDecodeError:
            return None
