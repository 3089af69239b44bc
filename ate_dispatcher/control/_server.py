"""The server of a control socket."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
from collections import deque
from math import isfinite
from time import monotonic
from typing import Any, Deque, Iterator, Optional, Set, Tuple

from .._exceptions import (
    ControlConnectionError,
    InvalidArgumentError,
    InvalidTypeError,
    StateError,
)
from .._waiting import ended_by_signal, wait_for_signals
from ..dispatcher import ATEDispatcher
from ..sse import ChannelContainer
from ._client_thread import ClientThread
from ._place import TRANSPORTS, AnyPath, Place, check_path
from ._protocol import error_line
from ._verbs import Verbs
from ._watch import Watch

__all__ = ["SocketServer"]

logger = logging.getLogger("ate_dispatcher")

PAUSE = 1.0
"""Seconds without taking clients after the process has run out of descriptors."""

LAST_GRACE = 1.0
"""Seconds for threads to end after their sockets were cut."""


class SocketServer:
    """Lets other processes of this user drive channels, and a dispatcher, over a socket.

    Commands are JSON objects, each ended by a newline or by the end of input; each is answered, a
    wrong one with ``{"error": {"type", "message"}}``::

        {"v": "verb", "c": "channel id", "t": "message type", "p": payload, "r": "listener id"}

    ``d`` dispatch, ``b`` broadcast, ``c`` create a channel, ``r`` add a listener, ``l`` listen and
    ``w`` watch (both open a stream), ``rl`` remove a listener, ``rc`` remove a channel. Beyond
    these ``send`` sends a request and streams its outcomes, ``statistics`` counts, ``stop`` stops
    the dispatcher and then this server, ``ping`` does nothing. See ``control/_protocol.py``.

    Parameters
    ----------
    file_descriptor_path : str or path
        Where the socket is to be, with mode 0600. What a server that is gone has left there is
        taken over.
    container : ChannelContainer, optional
        The channels; with it a script has the same ones at hand.
    dispatcher : ATEDispatcher, optional
        For ``send``, ``statistics`` and ``stop``. Whoever may write to the socket may use it.
    transport : {"unix", "tcp"}, optional
        A Unix socket where there are any, by default. With ``"tcp"`` it is a port of the loopback,
        and the path a file with that port and a token that commands must have.
    max_line : int
        Bytes that a command may have.
    max_streams, max_clients : int
        How many may be open at once. Each client has a thread.
    max_channels, max_listeners : int
        Channels of the container, and listeners of all of them together, at which clients can add
        no more; the script that has the container can.
    keep_alive_seconds : float
        After so long without anything else a stream says ``{}``, to notice a client that is gone.
    stall_seconds : float
        A client that does not take an answer within this time is cut off; and so is one over TCP
        that has not said a first command, with the token, within it. Who has may be idle for ever.

    Notes
    -----
    Thread-safe. A server serves once: between `open` (or `main`, or entering a ``with`` block) and
    `shutdown`. One thread takes clients in and notices those that go; each client has one that
    reads its commands and answers them, and reads for it the stream that it has opened. While its
    request waits for a turn (the dispatcher's ``max_open``) that thread waits too, and looks once a
    second whether the client has gone or the server ends; then nothing is sent. Each look puts it
    behind the other threads that wait for a turn.

    Examples
    --------
    >>> with ATEDispatcher() as dispatcher:
    ...     SocketServer("/run/bench.sock", dispatcher=dispatcher).main()
    """

    def __init__(
        self,
        file_descriptor_path: AnyPath,
        *,
        container: Optional[ChannelContainer] = None,
        dispatcher: Optional[ATEDispatcher] = None,
        transport: Optional[str] = None,
        max_line: int = 1024 * 1024,
        max_streams: int = 100,
        max_clients: int = 200,
        max_channels: int = 1000,
        max_listeners: int = 1000,
        keep_alive_seconds: float = 15.0,
        stall_seconds: float = 10.0,
    ) -> None:
        self.path = check_path(file_descriptor_path)
        if container is not None and not isinstance(container, ChannelContainer):
            raise InvalidTypeError(f"container must be a ChannelContainer, not {container!r}")
        if dispatcher is not None and not isinstance(dispatcher, ATEDispatcher):
            raise InvalidTypeError(f"dispatcher must be an ATEDispatcher, not {dispatcher!r}")
        if transport is not None and transport not in TRANSPORTS:
            raise InvalidArgumentError(
                f"transport must be one of {', '.join(TRANSPORTS)}, not {transport!r}"
            )
        self.container = ChannelContainer() if container is None else container
        self.max_line = _count("max_line", max_line)
        self.max_streams = _count("max_streams", max_streams)
        self.max_clients = _count("max_clients", max_clients)
        self.max_channels = _count("max_channels", max_channels)
        self.max_listeners = _count("max_listeners", max_listeners)
        self.keep_alive_seconds = _time("keep_alive_seconds", keep_alive_seconds)
        self.stall_seconds = _time("stall_seconds", stall_seconds)
        self._verbs = Verbs(self.container, dispatcher, self.max_channels, self.max_listeners)
        self._place = Place(self.path, transport)
        self._token = self._place.token
        self._numbers = itertools.count(1)
        # The lock is for what follows; nothing waits while it is held.
        self._lock = threading.Lock()
        self._door: Optional[threading.Thread] = None
        self._begun = self._stopping = False
        self._clients: Set[ClientThread] = set()
        self._streams = 0
        self._watcher: Optional[Watch] = None
        # Appended by any client's thread, popped by the door's: each is one atomic step.
        self._posted: Deque[Tuple[bool, int, ClientThread]] = deque()
        self._over = threading.Event()

    # ---- what users call -------------------------------------------------------------------------

    @staticmethod
    def start(file_descriptor_path: AnyPath) -> None:
        """Serve channels at a path until Ctrl-C, SIGTERM or the verb ``stop``."""
        server = SocketServer(file_descriptor_path)
        with ended_by_signal():
            server.main()

    def open(self) -> None:
        """Begin to serve, on threads of its own; clients can connect when it returns.

        Raises
        ------
        StateError
            A server listens there already, something else is there, or this one has served.
        InvalidArgumentError
            The path is too long for a socket.
        OSError
            There is no such folder, or no right to write to it.
        """
        with self._lock:
            if self._begun:
                raise StateError(f"{self!r} serves once: make another one")
            self._begun = True
        with contextlib.ExitStack() as undo:
            undo.callback(self._not_begun)
            listener = self._place.take()
            undo.callback(listener.close)
            undo.callback(self._place.leave)
            watcher = Watch(listener)
            undo.callback(watcher.close)
            door = threading.Thread(
                target=self._serve, args=(listener, watcher), name="control door", daemon=True
            )
            with self._lock:
                self._watcher, self._door = watcher, door
            door.start()
            undo.pop_all()

    def _not_begun(self) -> None:
        with self._lock:
            self._begun, self._watcher, self._door = self._stopping, None, None
            if self._stopping:
                self._over.set()

    def main(self) -> None:
        """Serve until `shutdown` is called, a client says ``stop``, or Ctrl-C.

        It raises as `open` does; if that was called already, it only waits.
        """
        try:
            if self._door is None:
                self.open()
            wait_for_signals(self._over)
        finally:
            if self._door is not None:
                self.shutdown()

    def shutdown(self, timeout: float = 5.0) -> bool:
        """End: take nobody in any more, tell the streams that are open, let answers be written.

        Parameters
        ----------
        timeout : float
            Seconds for clients to take what is said to them. Then they are cut off.

        Returns
        -------
        bool
            Whether all threads have ended. Shutting down twice is once. On a thread of the server
            it only begins, and gives False.
        """
        limit = monotonic() + timeout
        with self._lock:
            inside = threading.current_thread() in self._clients
        self._begin_shutdown()
        if inside:
            return False
        if not self._over.wait(timeout):  # it may be just about to begin, on another thread
            return False
        with self._lock:
            threads = (*self._clients, *(() if self._door is None else (self._door,)))
        _join(threads, limit)
        with self._lock:
            clients = tuple(self._clients)
        for client in clients:
            client.end("the server was shut down", at_once=True)
        _join((*threads, *clients), monotonic() + LAST_GRACE)
        return not any(thread.is_alive() for thread in (*threads, *clients))

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._streams

    def __enter__(self) -> SocketServer:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        state = "ended" if self._over.is_set() else f"{len(self._clients)} clients"
        return f"<SocketServer {self.path!r}, {state}>"

    # ---- for its clients' threads ----------------------------------------------------------------

    def _begin_shutdown(self) -> None:
        with self._lock:
            self._stopping = True
            if not self._begun:
                self._begun = True  # it never will serve
                self._over.set()
            watcher = self._watcher
        if watcher is not None:
            watcher.wake()

    def _left(self, client: ClientThread) -> None:
        with self._lock:
            self._clients.discard(client)

    def _watch(self, client: ClientThread, watched: bool) -> None:
        # Said before its socket is closed, so before anybody else can have its descriptor.
        self._posted.append((watched, client.descriptor, client))
        assert self._watcher is not None
        self._watcher.wake()

    @contextlib.contextmanager
    def _one_more_stream(self) -> Iterator[None]:
        with self._lock:
            if self._streams >= self.max_streams:
                raise ControlConnectionError(
                    f"{self.max_streams} streams are open, which are as many as may be"
                )
            self._streams += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams -= 1

    # ---- the door's thread -----------------------------------------------------------------------

    def _serve(self, listener: socket.socket, watcher: Watch) -> None:
        try:
            pause = None
            while not self._stopping:
                gone = watcher.wait(pause)
                self._look_out(watcher)
                for client in gone:
                    assert isinstance(client, ClientThread)
                    client.end("the client has gone", at_once=True)
                if not self._stopping:
                    pause = self._take_in(listener)
                    watcher.mute(pause is not None)
        finally:
            self._place.leave()
            listener.close()
            watcher.close()
            with self._lock:
                clients = tuple(self._clients)
            for client in clients:
                client.end("the server was shut down", at_once=False)
            self._over.set()

    def _look_out(self, watcher: Watch) -> None:
        while self._posted:
            watched, descriptor, client = self._posted.popleft()
            if watched:
                watcher.add(descriptor, client)
            else:
                watcher.forget(descriptor)

    def _take_in(self, listener: socket.socket) -> Optional[float]:
        """Take in everybody who waits; give seconds to pause if that is not possible."""
        while True:
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return None
            except ConnectionError:
                continue  # it has gone already
            except OSError as error:
                logger.warning("%r takes nobody in for %g s: %s", self, PAUSE, error)
                return PAUSE
            with self._lock:
                full = len(self._clients) >= self.max_clients
            if full:
                self._turn_away(client)
                continue
            client.setblocking(True)
            thread = ClientThread(client, self, next(self._numbers))
            with self._lock:
                self._clients.add(thread)
            try:
                thread.start()
            except RuntimeError as error:  # there can be no more threads
                logger.warning("%r turns a client away: %s", self, error)
                self._left(thread)
                client.close()

    def _turn_away(self, client: socket.socket) -> None:
        error = ControlConnectionError(
            f"{self.max_clients} clients are connected, which are as many as may be"
        )
        client.setblocking(False)
        with client, contextlib.suppress(OSError):
            client.send(error_line(error))


def _join(threads: Any, limit: float) -> None:
    for thread in threads:
        thread.join(max(0.0, limit - monotonic()))


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise InvalidArgumentError(f"{name} must be at least 1, not {value}")
    return value


def _time(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(f"{name} must be a number of seconds, not {value!r}")
    if not (value > 0 and isfinite(value)):
        raise InvalidArgumentError(f"{name} must be a time above zero, not {value!r}")
    return value
