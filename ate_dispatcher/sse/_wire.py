"""What an event stream is made of: ``text/event-stream``, written and read.

The rules are those of the event-stream section of the HTML standard. Nothing here has a clock, a
socket or a thread.
"""

from __future__ import annotations

import codecs
import re
from typing import List, NamedTuple, Optional

from .._checks import check_whole
from .._exceptions import InvalidArgumentError, InvalidTypeError, PayloadTooLargeError

__all__ = ["EventParser", "ServerSentEvent", "encode_comment", "encode_event", "parse_events"]

LONGEST = 16 * 1024 * 1024
"""Characters of an event that a reader takes, if nothing else is said."""

_LINE_END = re.compile("\r\n|\r|\n")
_DIGITS = re.compile("[0-9]+")


class ServerSentEvent(NamedTuple):
    """One event, as a browser hands it to a page.

    Attributes
    ----------
    type : str
        ``"message"`` where the stream names none.
    data : str
        Its lines, joined by a line feed.
    id : str
        The last id that the stream had given by then, which is what ``Last-Event-ID`` will hold.
    """

    type: str
    data: str
    id: str


def encode_event(
    data: str = "",
    event: Optional[str] = None,
    id: Optional[str] = None,
    retry: Optional[int] = None,
) -> bytes:
    r"""Write one event.

    Parameters
    ----------
    data : str
        Any text. Each of its lines becomes a line of the event; a reader gets them joined by
        ``\n``, whatever ended them here.
    event : str, optional
        Its type: one line.
    id : str, optional
        One line without a NUL, which would make readers ignore it. Empty resets the reader's.
    retry : int, optional
        Milliseconds after which a reader that was cut off should come again.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        It has no form on the wire, or would end up as something else.
    """
    lines = []
    if id is not None:
        lines.append(f"id: {_one_line('id', id, forbidden=_NOT_IN_ID)}")
    if event is not None:
        lines.append(f"event: {_one_line('event', event)}")
    if retry is not None:
        lines.append(f"retry: {_whole('retry', retry)}")
    lines += [f"data: {line}" for line in _lines("data", data)]
    return _utf8("\n".join(lines) + "\n\n")


def encode_comment(text: str = "") -> bytes:
    """Write a comment, which readers skip: it keeps a quiet connection alive."""
    lines = [f": {line}" if line else ":" for line in _lines("a comment", text)]
    return _utf8("\n".join(lines) + "\n\n")


def parse_events(data: bytes) -> List[ServerSentEvent]:
    """Read a whole stream. An event that the stream ends within is none, as the standard has it."""
    return EventParser(longest=None).feed(data)


class EventParser:
    """Reads a stream piece by piece, wherever it may be cut.

    Parameters
    ----------
    longest : int, optional
        Characters that the lines of one event, or of what stands between two, may have together;
        None for as many as there are. Whoever writes the stream could fill our memory otherwise.

    Attributes
    ----------
    last_event_id : str
        What a reader that comes again should send as ``Last-Event-ID``.
    retry : int or None
        Milliseconds to wait before coming again, if the stream has said so.
    """

    def __init__(self, longest: Optional[int] = LONGEST) -> None:
        if longest is not None:
            check_whole(longest, "longest")
        self._longest = longest
        self._size = 0  # of the event that has not ended yet
        self._broken = False
        self.last_event_id = ""
        self.retry: Optional[int] = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = True
        self._after_cr = False
        self._pieces: List[str] = []  # of a line that has not ended yet
        self._id = self._type = ""
        self._data: List[str] = []

    def feed(self, data: bytes) -> List[ServerSentEvent]:
        """Give the events that end within this piece.

        Raises
        ------
        PayloadTooLargeError
            An event has more than `longest` characters. Those that ended before it in this piece
            are given first, and the next call raises; nothing can be read after it.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidTypeError(f"a stream is bytes, not {type(data).__name__}")
        if self._broken:
            raise self._too_large()
        text = self._decoder.decode(bytes(data))
        if not text:
            return []
        if self._at_start:
            self._at_start = False
            text = text[1:] if text[0] == "\ufeff" else text
        if self._after_cr and text[0] == "\n":  # not at the start, so there is text
            text = text[1:]
        self._after_cr = text.endswith("\r")  # a line feed to come belongs to it
        *ended, rest = _LINE_END.split(text)
        events = []
        for line in ended:
            if self._exceeds(len(line)):
                break
            whole = "".join([*self._pieces, line])
            self._pieces = []
            if not whole:
                self._size = 0
            event = self._line(whole)
            if event is not None:
                events.append(event)
        else:
            if rest and not self._exceeds(len(rest)):
                self._pieces.append(rest)
        if self._broken and not events:
            raise self._too_large()
        return events

    def _exceeds(self, more: int) -> bool:
        """Count characters; whether there are too many: then all that was kept is let go."""
        self._size += more
        if self._longest is not None and self._size > self._longest:
            self._broken = True
            self._pieces, self._data = [], []
        return self._broken

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"an event has more than {self._longest} characters: the stream is not read any "
            "further; EventParser(longest=…) says how many may be"
        )

    def _line(self, line: str) -> Optional[ServerSentEvent]:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")  # a comment is a field without a name
        value = value[1:] if value[:1] == " " else value
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and _DIGITS.fullmatch(value) and len(value) < 16:
            self.retry = int(value)
        return None

    def _dispatch(self) -> Optional[ServerSentEvent]:
        self.last_event_id = self._id
        data, self._data = self._data, []
        kind, self._type = self._type, ""
        return ServerSentEvent(kind or "message", "\n".join(data), self._id) if data else None


_NOT_IN_LINE = re.compile("[\r\n]")
_NOT_IN_ID = re.compile("[\r\n\0]")


def _one_line(name: str, value: object, forbidden: "re.Pattern[str]" = _NOT_IN_LINE) -> str:
    if not isinstance(value, str):
        raise InvalidTypeError(f"{name} must be a string, not {value!r}")
    wrong = forbidden.search(value)
    if wrong is not None:
        raise InvalidArgumentError(f"{name} must not contain {wrong[0]!r}: {value!r}")
    return value


def _lines(name: str, text: object) -> List[str]:
    if not isinstance(text, str):
        raise InvalidTypeError(f"{name} must be a string, not {text!r}")
    return _LINE_END.split(text)


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTypeError(f"{name} must be a whole number of milliseconds, not {value!r}")
    if value < 0:
        raise InvalidArgumentError(f"{name} must not be negative: {value}")
    return value


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"half a surrogate pair has no place in an event stream: {text[error.start]!r} "
            f"in {text[max(0, error.start - 20) : error.end + 20]!r}"
        ) from None
