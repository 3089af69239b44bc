"""What a control socket and its clients say to each other: JSON objects, one a line.

A command has these keys, as eric-sse documents them, and two more::

    v  the verb          c  a channel's id     t  a message's type, or a request's topic
    p  the payload       r  a listener's id    o  options (an object)
    token                only where the server is reached over TCP

Every command is answered by one line, or by several where it opens a stream::

    {"result": ...}                             done
    {"error": {"type": ..., "message": ...}}    not done, or a stream that broke
    {"stream": "open"}                          what follows are lines of the stream:
    {"message": ...}                                what it gives
    {}                                              nothing yet: is the client still there?
    {"end": reason}                                 its end, after which commands are read again

``{}`` may also come before the answer to ``send``, while the request waits for its turn.

The messages of ``send`` are rows as in a recording: each has ``"event": "outcome"``, the last one
``"end"``. A client that reads too slowly misses the oldest of those that wait (10 000 may, beyond
what the socket takes), and is told so, of all of them before the end, by
``{"event": "lost", "request": number, "count": how many}``.

Nothing here has a socket, a thread or a clock.
"""

from __future__ import annotations

import hmac
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from .. import _exceptions
from .._codec import decode, encode
from .._exceptions import (
    ATEDispatcherError,
    ControlConnectionError,
    InvalidArgumentError,
    InvalidTypeError,
    PayloadTooLargeError,
    RecordedError,
    RemoteError,
    RequestFailedError,
)
from .._wording import short

__all__ = ["KEEP_ALIVE", "Command", "Lines", "error_line", "line", "raised", "read_command"]

KEEP_ALIVE = b"{}\n"

KEYS: Dict[str, Tuple[str, ...]] = {
    "d": ("c", "r", "t"),
    "b": ("c", "t"),
    "c": (),
    "r": ("c",),
    "l": ("c", "r"),
    "w": ("c",),
    "rl": ("c", "r"),
    "rc": ("c",),
    "ping": (),
    "send": ("t",),
    "statistics": (),
    "stop": (),
}
"""The verbs, and which keys each must have."""

MEANING = {"c": "a channel's id", "r": "a listener's id", "t": "a type or a topic"}


class Command(NamedTuple):
    """A command whose keys are there and of the right type; those left out are empty."""

    verb: str
    channel: str
    type: str
    receiver: str
    payload: Any
    options: Mapping[str, Any]


def read_command(text: bytes, token: Optional[str] = None) -> Command:
    """Read one command.

    Parameters
    ----------
    text : bytes
        One line, without its end.
    token : str, optional
        What it must have as ``token``.

    Raises
    ------
    UndecodableMessageError
        It is no JSON.
    InvalidTypeError, InvalidArgumentError
        It is no object, has no verb that is known, or lacks a key; or one has the wrong type.
    ControlConnectionError
        The token is wrong.
    """
    data = decode(text)
    if not isinstance(data, dict):
        raise InvalidTypeError(f"a command must be a JSON object, not {short(data)}")
    if token is not None:
        given = data.get("token")
        if not isinstance(given, str) or not hmac.compare_digest(
            given.encode("utf-8", "replace"), token.encode("utf-8")
        ):
            raise ControlConnectionError("the command has no token, or a wrong one")
    verb = data.get("v")
    if verb is None:
        raise InvalidArgumentError('a command must have a verb, as in {"v": "c"}')
    if not isinstance(verb, str):
        raise InvalidTypeError(f"'v' must be a string, not {short(verb)}")
    if verb not in KEYS:
        raise InvalidArgumentError(f"the verb {short(verb)} is none of {', '.join(KEYS)}")
    found = {name: _text(verb, name, data.get(name)) for name in MEANING}
    options = data.get("o")
    if options is None:
        options = {}
    if not isinstance(options, dict):
        raise InvalidTypeError(f"'o' must be an object, not {short(options)}")
    return Command(verb, found["c"], found["t"], found["r"], data.get("p"), options)


def _text(verb: str, name: str, value: Any) -> str:
    needed = name in KEYS[verb]
    if value is None:
        if needed:
            raise InvalidArgumentError(f"the verb {verb!r} needs {name!r}, {MEANING[name]}")
        return ""
    if not isinstance(value, str):
        raise InvalidTypeError(f"{name!r} must be a string, {MEANING[name]}, not {short(value)}")
    if needed and not value:
        raise InvalidArgumentError(f"{name!r}, {MEANING[name]}, must not be empty")
    return value


def line(answer: Mapping[str, Any]) -> bytes:
    """Write an answer or a command; raises `NotJSONError` where JSON has no form for it."""
    return encode(answer) + b"\n"


def error_line(error: BaseException) -> bytes:
    """Write what went wrong."""
    try:
        message = str(error)
    except Exception as worse:
        message = f"its text cannot be had: {type(worse).__name__}"
    return line({"error": {"type": type(error).__name__, "message": message}})


def raised(answer: Mapping[str, Any]) -> ATEDispatcherError:
    """Give the exception that an answer tells of: the library's own, or a `RemoteError`."""
    told = answer.get("error")
    told = told if isinstance(told, dict) else {}
    name, message = str(told.get("type", "")), str(told.get("message", ""))
    kind: Any = getattr(_exceptions, name) if name in _exceptions.__all__ else RemoteError
    if issubclass(kind, (RequestFailedError, RecordedError, RemoteError)):
        return RemoteError(name, message)  # these are made of more than a text
    error: ATEDispatcherError = kind(message)
    return error


class Lines:
    """Cuts what comes in into lines, none longer than a bound.

    Parameters
    ----------
    longest : int
        Bytes of a line. What is longer is skipped, up to its end.

    Attributes
    ----------
    skipped : int
        Bytes of the line that is being skipped.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._buffer = bytearray()
        self._searched = 0
        self._skipping = False
        self.skipped = 0

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        self._buffer += data

    def take(self) -> Optional[bytes]:
        """Give the next whole line, without its end; None if there is none yet.

        Raises
        ------
        PayloadTooLargeError
            The line is too long, whether its end has come or not. Told once for each such line.
        """
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if self._skipping:
                self._skip(end)
                if self._skipping:
                    return None
            elif end < 0:
                self._searched = len(self._buffer)
                if self._searched > self._longest:
                    self._skipping = True
                    self._skip(end)
                    raise self._too_long()
                return None
            else:
                text = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                if len(text) > self._longest:
                    raise self._too_long()
                return text

    def rest(self) -> bytes:
        """Give what is left at the end of input: the last line may have no end of its own."""
        rest = b"" if self._skipping else bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return rest

    def _skip(self, end: int) -> None:
        """Forget what belongs to the line that is too long."""
        self._searched = 0
        if end < 0:
            self.skipped += len(self._buffer)
            self._buffer.clear()
        else:
            del self._buffer[: end + 1]
            self._skipping = False
            self.skipped = 0

    def _too_long(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(f"a line must not have more than {self._longest} bytes")
