"""One client of a server: its socket, and the thread that reads its commands and answers."""

from __future__ import annotations

import logging
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING, Optional

from .._callbacks import local
from .._exceptions import (
    ATEDispatcherError,
    ControlConnectionError,
    ControlTimeoutError,
    PayloadTooLargeError,
)
from ._protocol import KEEP_ALIVE, Command, Lines, error_line, line, read_command
from ._sources import NOTHING_YET, Source
from ._verbs import STREAMS

if TYPE_CHECKING:
    from ._server import SocketServer

__all__ = ["ClientThread"]

logger = logging.getLogger("ate_dispatcher")

PATIENCE = 16
"""How many times the longest line a client may send without an end before it is cut off."""


class _GoneError(Exception):
    """The client has gone, or takes nothing any more."""


class ClientThread(threading.Thread):
    """Answers one client's commands in their order, until it goes.

    Only this thread reads and writes the socket. `end` may be called by any.
    """

    def __init__(self, client: socket.socket, server: SocketServer, number: int) -> None:
        super().__init__(name=f"control client {number}", daemon=True)
        self._socket = client
        self._server = server
        self._lines = Lines(server.max_line)
        self._at_end = False
        # Over TCP anybody on this machine can connect: a place is for who has the token.
        self._unknown_until = None if server._token is None else monotonic() + server.stall_seconds
        # Written by any thread that ends us, read by ours: hence the lock. It is also what keeps
        # the descriptor from being closed, and given to another, while `end` uses it.
        self._lock = threading.Lock()
        self._source: Optional[Source] = None
        self._ending = ""
        self._closed = False

    @property
    def descriptor(self) -> int:
        """The socket's."""
        return self._socket.fileno()

    def end(self, reason: str, at_once: bool) -> None:
        """Have it end: after what it is saying, or at once. Never blocks."""
        with self._lock:
            self._ending = self._ending or reason
            source = self._source
            if not self._closed:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR if at_once else socket.SHUT_RD)
                except OSError:
                    pass  # the client was faster
        if source is not None:
            source.cut(reason)

    def run(self) -> None:
        """Read commands and answer them."""
        try:
            while not self._ending:
                try:
                    text = self._read()
                except PayloadTooLargeError as error:
                    self._write(error_line(error))
                    continue
                if text is None:
                    break
                if text.strip():
                    self._answer(text)
        except _GoneError as error:
            logger.debug("%s: %s", self.name, error)
        finally:
            with self._lock:
                self._closed = True
                self._socket.close()
            self._server._left(self)

    def _read(self) -> Optional[bytes]:
        """Give the next line; None at the end."""
        while True:
            text = self._lines.take()
            if text is not None:
                return text
            if self._at_end or self._ending:
                return None
            if self._lines.skipped > PATIENCE * self._server.max_line:
                raise _GoneError("it sends without an end")
            try:
                self._socket.settimeout(self._patience())
                data = self._socket.recv(65536)
            except socket.timeout:
                self._write(error_line(self._too_late()))
                raise _GoneError("it has not said who it is") from None
            except OSError as error:
                raise _GoneError(str(error)) from None
            if data:
                self._lines.feed(data)
            else:
                self._at_end = True
                return None if self._ending else self._lines.rest()  # it is ours, not its end

    def _patience(self) -> Optional[float]:
        """Give the seconds for what it says next, if there are any; None once it is known."""
        if self._unknown_until is None:
            return None
        left = self._unknown_until - monotonic()
        if left <= 0:
            raise socket.timeout
        return left

    def _too_late(self) -> ControlTimeoutError:
        return ControlTimeoutError(
            f"no command with the token came within {self._server.stall_seconds:g} s"
        )

    def _write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._server.stall_seconds)
            self._socket.sendall(data)
        except OSError as error:
            raise _GoneError(str(error)) from None

    def _answer(self, text: bytes) -> None:
        try:
            command = read_command(text, self._server._token)
            self._unknown_until = None
        except ControlConnectionError as error:
            self._write(error_line(error))
            raise _GoneError("it has not the token") from None
        except ATEDispatcherError as error:
            self._write(error_line(error))
            return
        try:
            if command.verb in STREAMS:
                with self._server._one_more_stream():
                    self._stream(command)
            else:
                self._do(command)
        except _GoneError:
            raise
        except ATEDispatcherError as error:
            self._write(error_line(error))
        except Exception as error:  # of a channel's own code: its client has to know
            logger.exception("%s: %r failed", self.name, command.verb)
            self._write(error_line(error))

    def _do(self, command: Command) -> None:
        result = self._server._verbs.do(command)
        try:
            self._write(line({"result": result}))
        finally:
            if command.verb == "stop":  # whether they have waited for the answer or not
                self._server._begin_shutdown()

    def _stream(self, command: Command) -> None:
        self._server._watch(self, True)
        try:
            source = self._opened(command)
            try:
                self._give(source)
            finally:
                with self._lock:
                    self._source = None
                source.close()
        finally:
            self._server._watch(self, False)

    def _opened(self, command: Command) -> Source:
        """Do what gives a source; a request may wait for its turn, but not for a client gone."""
        said = monotonic()

        def look() -> None:
            nonlocal said
            if self._ending:
                raise ControlConnectionError(f"nothing was sent: {self._ending}")
            if monotonic() >= said + self._server.keep_alive_seconds:
                self._write(KEEP_ALIVE)
                said = monotonic()

        local.look = look
        try:
            return self._server._verbs.do(command)
        finally:
            del local.look

    def _give(self, source: Source) -> None:
        with self._lock:
            self._source = source
            ending = self._ending
        if ending:  # it came before there was anything to cut
            source.cut(ending)
        self._write(line({"stream": "open"}))
        while True:
            try:
                item = source.take(monotonic() + self._server.keep_alive_seconds)
            except StopIteration:
                self._write(line({"end": source.reason}))
                return
            self._write(KEEP_ALIVE if item is NOTHING_YET else line({"message": item}))
