"""The HTTP server: the standard library's, a thread for each connection."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import socket
import sys
import threading
import time
from errno import EADDRINUSE
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Dict, List, Optional, Tuple

from ._feed import Feed
from ._requests import HEADERS, Door

__all__ = ["Server"]

logger = logging.getLogger("ate_dispatcher")

PAGE = Path(__file__).with_name("page")

FILES: Dict[str, Tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
}

PATIENCE = 10.0
"""Seconds that a client may take to say all of what it wants, or to take in a piece of what it is
sent."""

MOST = 512
"""Connections at a time."""

SEND_BUFFER = 64 * 1024
"""Bytes that the system keeps for a client that does not read."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

PAUSE = 1.0
"""Seconds without taking connections after the process has run out of descriptors."""

GRACE = 5.0
"""Seconds that the connections' threads have to end, all together."""


class Server(ThreadingHTTPServer):
    """Serves one monitor.

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 is a free one.
    token : str, optional
        What clients must show.
    feed : Feed
        What they get.

    Raises
    ------
    OSError
        The address cannot be bound.

    Notes
    -----
    The set of connections is shared by the thread that accepts, those that serve, and the one that
    stops, under a lock that is held for one look or change; `stalled` is counted under it by those
    that serve, and read by anybody. The threads are listed by the one that accepts, and joined by
    the one that stops, behind the end of that.
    """

    daemon_threads = True
    block_on_close = False  # they are joined in `close`, within a bound
    request_queue_size = 128
    timeout = GRACE  # between two looks at whether it is to end, if it could not be woken
    allow_reuse_address = sys.platform != "win32"  # there it would let two servers share a port

    def __init__(self, host: str, port: int, token: Optional[str], feed: Feed) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.feed = feed
        self.stalled = 0
        self._lock = threading.Lock()
        self._closed = False
        self._ending = threading.Event()
        self._connections: Dict[Any, None] = {}
        self._serving: List[threading.Thread] = []  # those of connections that have gone, too
        super().__init__((host, port), Handler)
        self.port: int = self.server_address[1]
        self.door = Door(host, self.port, token)
        self._thread = threading.Thread(target=self._accept, name="monitor-accept", daemon=True)

    def server_bind(self) -> None:
        """Bind, without asking the network for our name as the base class does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # inherited
        try:
            TCPServer.server_bind(self)
        except OSError as error:
            host, port = self.server_address[:2]
            text = f"{error.strerror}: the monitor cannot listen at {host!r}, port {port}"
            if error.errno == EADDRINUSE:
                text += ": choose another port, 0 takes a free one"
            raise type(error)(error.errno, text) from error
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def close(self) -> None:
        """Accept no more, cut every connection, and wait for their threads."""
        self._ending.set()
        if self._thread.is_alive():  # else the port may be somebody else's by now
            with contextlib.suppress(OSError):  # it looks by itself, a little later
                socket.create_connection(self._reached_at, PAUSE).close()
            self._thread.join()
        self.server_close()
        with self._lock:
            self._closed = True
        self.cut()
        limit = time.monotonic() + GRACE
        for thread in self._serving:  # who adds to it has ended
            thread.join(max(0.0, limit - time.monotonic()))

    def cut(self) -> None:
        """Cut every connection; who comes again is served."""
        with self._lock:  # who is in it is not closed yet, and its descriptor nobody else's
            for connection in self._connections:
                _shut(connection)

    def count_stalled(self) -> None:
        """Count a client that did not take in what it was sent; any thread."""
        with self._lock:
            self.stalled += 1

    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    @property
    def _reached_at(self) -> Tuple[str, int]:
        """Where this process itself can connect to."""
        host = str(self.server_address[0])
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), self.port

    # ---- the thread that accepts -----------------------------------------------------------------

    def _accept(self) -> None:
        """Take connections; asleep until one comes, where `serve_forever` would look all day."""
        while not self._ending.is_set():
            self.handle_request()

    def get_request(self) -> Any:
        """Take a connection; pause where the process has no descriptor for it."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._ending.wait(PAUSE)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, unless there are too many."""
        with self._lock:
            full = self._closed or len(self._connections) >= MOST
            if not full:
                self._connections[request] = None
        if full:
            _refuse(request)
            self.shutdown_request(request)
            return
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="monitor-client",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # the system has no thread to give
            self.shutdown_request(request)
        else:
            self._serving = [each for each in (*self._serving, thread) if each.is_alive()]

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that have gone; the rest is a fault of ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            logger.error("the monitor failed to answer", exc_info=error)


class Head(io.RawIOBase):
    """What a client says, read until a limit in time, however slowly it comes.

    Parameters
    ----------
    connection : socket
        Its own timeout, which is for writing, is as before after each read.
    limit : float
        On `time.monotonic`.
    """

    def __init__(self, connection: socket.socket, limit: float) -> None:
        self._connection = connection
        self._limit = limit

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come; raises `socket.timeout` at the limit."""
        patience = self._connection.gettimeout()
        left = self._limit - time.monotonic()
        if left <= 0:
            raise socket.timeout("the request took too long")
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(patience)


class Handler(BaseHTTPRequestHandler):
    """Answers one request of one connection, on the thread of that connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Begin the time that the whole request may take to come."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(Head(self.connection, time.monotonic() + self.timeout))

    def version_string(self) -> str:
        """Name the server, not its versions."""
        return "ate-dispatcher"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a request may hold a token."""

    def do_GET(self) -> None:
        """Answer, if it is for us and from somebody who may ask."""
        if self.request_version == "HTTP/0.9":
            self._deny(HTTPStatus.BAD_REQUEST, "this is HTTP/1.1")
            return
        path, _, query = self.path.partition("?")
        door = self.server.door
        hosts = self.headers.get_all("Host", [])
        if not door.knows_host(hosts):
            status = HTTPStatus.MISDIRECTED_REQUEST if hosts else HTTPStatus.BAD_REQUEST
            self._deny(status, "the Host header does not name this monitor")
        elif path == "/" and self._has_key(query):
            self._let_in()
        elif not door.admits(
            self.headers.get_all("Cookie", []), self.headers.get("Authorization", "")
        ):
            self._deny(
                HTTPStatus.UNAUTHORIZED, "open the monitor with /?token=… first, or send the token"
            )
        elif path in FILES:
            name, kind = FILES[path]
            self._answer(HTTPStatus.OK, kind, (PAGE / name).read_bytes())
        elif path == "/events":
            self._events()
        elif path == "/trace.json":
            self._trace()
        elif path == "/favicon.ico":
            self._answer(HTTPStatus.NO_CONTENT, "", b"")
        else:
            self._deny(HTTPStatus.NOT_FOUND, "there is no such page here")

    def _not_allowed(self) -> None:
        self._deny(HTTPStatus.METHOD_NOT_ALLOWED, "this monitor is only for looking: GET")

    def _has_key(self, query: str) -> bool:
        try:
            return self.server.door.has_key(query)
        except ValueError:  # more fields than anybody would send
            return False

    def _let_in(self) -> None:
        """Give the cookie, and have the browser forget the address with the token in it."""
        door = self.server.door
        cookie = f"{door.cookie_name}={door.cookie}; Path=/; HttpOnly; SameSite=Strict"
        headers = (("Location", "/"), ("Set-Cookie", cookie))
        self._answer(HTTPStatus.SEE_OTHER, "", b"", headers)

    def _events(self) -> None:
        with self.server.feed.stream(self._last_event_id()) as (begin, stream):
            self._head(HTTPStatus.OK, "text/event-stream", None)
            if self.command == "HEAD":
                return
            try:
                self.wfile.write(begin)
                for piece in stream:
                    self.wfile.write(piece)
            except socket.timeout:  # an OSError of its own up to Python 3.9
                self.server.count_stalled()
            except OSError:
                pass  # it has gone

    def _last_event_id(self) -> Optional[str]:
        last = self.headers.get("Last-Event-ID")
        return None if last is None else str(last)

    def _trace(self) -> None:
        trace = json.dumps(self.server.feed.trace(), separators=(",", ":")).encode()
        named = (("Content-Disposition", 'attachment; filename="trace.json"'),)
        self._answer(HTTPStatus.OK, "application/json", trace, named)

    # ---- answers ---------------------------------------------------------------------------------

    def send_error(
        self, code: int, message: Optional[str] = None, explain: Optional[str] = None
    ) -> None:
        """Say what the base class could not read, without its message: that may quote it."""
        self._deny(HTTPStatus(code))

    def _deny(self, status: HTTPStatus, why: str = "") -> None:
        """Say in one line of plain text what is wrong, without quoting the request."""
        more = {
            HTTPStatus.METHOD_NOT_ALLOWED: (("Allow", "GET, HEAD"),),
            HTTPStatus.UNAUTHORIZED: (("WWW-Authenticate", "Bearer"),),
        }.get(status, ())
        said = f"{status.value} {status.phrase}" + (f": {why}" if why else "") + "\n"
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"  # it is answered with a status all the same
        if not hasattr(self, "command") or self.command is None:
            self.command = "GET"
        self._answer(status, "text/plain; charset=utf-8", said.encode(), more)

    def _answer(
        self, status: HTTPStatus, kind: str, body: bytes, more: Tuple[Tuple[str, str], ...] = ()
    ) -> None:
        self._head(status, kind, len(body), more)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(
        self,
        status: HTTPStatus,
        kind: str,
        length: Optional[int],
        more: Tuple[Tuple[str, str], ...] = (),
    ) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        if length is not None and status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        for name, value in (*HEADERS, *more):
            self.send_header(name, value)
        self.end_headers()


Handler.do_HEAD = Handler.do_GET  # type: ignore[attr-defined]
for _method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
    setattr(Handler, f"do_{_method}", Handler._not_allowed)


def _refuse(connection: socket.socket) -> None:
    """Say that there are too many, if that can be said at once."""
    said = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
    try:
        connection.setblocking(False)
        connection.send(said + b"Connection: close\r\n\r\n")
    except OSError:
        pass


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
