"""Where a server is found: a path, whether what lies there is a socket or says where one is.

Where the platform has Unix sockets the path is one. Where it has none the server listens on the
loopback, and the path is a file with port and token. Both are open to their owner alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import stat
import time
from typing import Any, Iterator, NamedTuple, Optional, Tuple, Union

from .._exceptions import (
    ControlConnectionError,
    ControlTimeoutError,
    InvalidArgumentError,
    InvalidTypeError,
    StateError,
)

__all__ = ["TRANSPORTS", "AnyPath", "Place", "check_path", "connect"]

AnyPath = Union[str, "os.PathLike[str]"]

TRANSPORTS = ("unix", "tcp")

BACKLOG = 128
PROBE = 2.0
"""Seconds for a server that may be there to answer."""

TURN = 5.0
"""Seconds to wait for another server that is just beginning in the same folder."""

LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    """What the file of a TCP server says."""

    port: int
    token: str


class Place:
    """One server's place, from `take` to `leave`.

    Attributes
    ----------
    token : str or None
        What every command must have, where the transport does not know who is asking.
    """

    def __init__(self, path: str, transport: Optional[str]) -> None:
        has_unix = hasattr(socket, "AF_UNIX")
        self.path = path
        self.transport = transport or ("unix" if has_unix else "tcp")
        if self.transport == "unix" and not has_unix:
            raise InvalidArgumentError("this platform has no Unix sockets: use transport='tcp'")
        self.token = secrets.token_hex(16) if self.transport == "tcp" else None
        self._mark: Any = None

    def take(self) -> socket.socket:
        """Listen there. What a server that is gone has left is put out of the way.

        Raises
        ------
        StateError
            A server listens there, or something else is there, which is left as it is.
        InvalidArgumentError
            The path is too long for a socket.
        OSError
            There is no such folder, or no right to write to it.
        """
        with _turn(os.path.dirname(self.path) or "."):
            self._clear()
            listener = self._unix() if self.transport == "unix" else self._tcp()
        listener.setblocking(False)
        return listener

    def leave(self) -> None:
        """Take away what was put there, if it still is ours."""
        try:
            if _mark(self.path) == self._mark:
                os.unlink(self.path)
        except OSError:
            pass  # it is gone, or the folder is

    def _clear(self) -> None:
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode) and not (stat.S_ISREG(mode) and _address(self.path)):
            raise StateError(f"{self.path!r} is something else than a control socket: it is kept")
        if _listens(self.path):
            raise StateError(f"a server listens at {self.path!r} already")
        os.unlink(self.path)

    def _unix(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:
                listener.bind(self.path)
            except OSError as error:
                if error.errno is not None:
                    raise
                raise InvalidArgumentError(
                    f"{self.path!r} cannot be the path of a socket: {error}; "
                    f"it has {len(os.fsencode(self.path))} bytes, some 100 may be"
                ) from None
            self._mark = _mark(self.path)
            os.chmod(self.path, 0o600)  # before anybody can connect
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            if self._mark is not None:
                self.leave()
            raise
        return listener

    def _tcp(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind((LOOPBACK, 0))
            listener.listen(BACKLOG)
            text = json.dumps({"port": listener.getsockname()[1], "token": self.token})
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self.path, flags, 0o600)
            self._mark = _mark(self.path)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        except BaseException:
            listener.close()
            if self._mark is not None:
                self.leave()
            raise
        return listener


def check_path(path: Any) -> str:
    """Give a path as text, absolute, or raise: it is a string or a path, and not empty."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise InvalidTypeError(f"the path of a control socket must be a path, not {path!r}")
    text = os.fspath(path)
    if not text or "\0" in text:
        raise InvalidArgumentError(f"the path of a control socket cannot be {text!r}")
    return os.path.abspath(text)


def connect(path: str, timeout: float) -> Tuple[socket.socket, Optional[str]]:
    """Reach the server of a path; give the socket, which waits `timeout` seconds, and the token.

    Raises
    ------
    ControlConnectionError
        There is none.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISSOCK(mode):
            return _reach_unix(path, timeout), None
        address = _address(path) if stat.S_ISREG(mode) else None
        if address is None:
            raise ControlConnectionError(f"{path!r} is no control socket")
        return socket.create_connection((LOOPBACK, address.port), timeout), address.token
    except FileNotFoundError:
        raise ControlConnectionError(f"there is no control socket at {path!r}") from None
    except ConnectionRefusedError:
        raise ControlConnectionError(f"nobody listens at {path!r} any more") from None
    except socket.timeout:
        raise ControlTimeoutError(f"{path!r} took no connection within {timeout:g} s") from None
    except PermissionError:
        raise ControlConnectionError(f"{path!r} belongs to somebody else") from None


def _reach_unix(path: str, timeout: float) -> socket.socket:
    limit = time.monotonic() + timeout
    reached = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reached.settimeout(timeout)
        while True:
            try:
                reached.connect(path)
                return reached
            except BlockingIOError:  # its backlog is full, which Linux has no way to wait for
                if time.monotonic() > limit:
                    raise socket.timeout from None
                time.sleep(0.01)
    except BaseException:
        reached.close()
        raise


def _listens(path: str) -> bool:
    """Whether a server is there: for TCP one that knows the token, for ports are given anew."""
    try:
        reached, token = connect(path, PROBE)
    except ControlTimeoutError:
        return True  # it is too busy to take us
    except ControlConnectionError as error:
        return isinstance(error.__context__, PermissionError)  # somebody else's is not ours to take
    except OSError:
        return False
    with reached:
        if token is None:
            return True
        try:
            reached.sendall(json.dumps({"v": "ping", "token": token}).encode() + b"\n")
            return b'"result"' in reached.recv(4096)
        except socket.timeout:
            return True
        except OSError:
            return False


def _address(path: str) -> Optional[Address]:
    """Read where a TCP server is; None if the file is none of ours."""
    with open(path, "rb") as file:
        text = file.read(4096)
    try:
        data = json.loads(text)
        port, token = data["port"], data["token"]
    except (ValueError, LookupError, TypeError):
        return None
    well = isinstance(port, int) and 0 < port < 65536 and isinstance(token, str)
    return Address(port, token) if well else None


def _mark(path: str) -> Tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _turn(folder: str) -> Iterator[None]:
    """Have one server at a time look whether a place is free, and take it."""
    try:
        import fcntl
    except ImportError:  # no Unix: then it is the creation of the file that only one can do
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        limit = time.monotonic() + TURN
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise StateError(f"somebody keeps {folder!r} locked: try again") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)  # and unlocks it
