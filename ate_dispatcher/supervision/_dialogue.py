"""What a `ProcessProducer` and its child process say to each other, and in which form.

Both ends are one program on one machine, joined by a pipe that nobody else holds: pickle is the
form. A message that cannot be pickled is refused where it is made, with the reason. In front of it
stands to which call it belongs, which can be read even if the message does not come back.
"""

from __future__ import annotations

import pickle
import struct
from multiprocessing.reduction import ForkingPickler
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from .._exceptions import InvalidTypeError, RemoteError
from .._wording import text_of

__all__ = [
    "PIECE",
    "Answer",
    "Call",
    "CallOff",
    "CancelAll",
    "Heading",
    "Incoming",
    "Leave",
    "MakeSafe",
    "Raised",
    "Ready",
    "Skipped",
    "Unready",
    "heading",
    "pack",
    "pieces",
    "raised",
    "unpack",
]


PIECE = 16_384
"""Bytes of a message that are sent together, as many as a `Connection` writes in one go: there
whole, or not yet."""


class Heading(NamedTuple):
    """What stands in front of a message: its call, and whether nothing more comes of that.

    Calls are counted from 1; what belongs to none has 0. What does not belong to the present call
    came too late, and is dropped.
    """

    call: int
    last: bool


_HEADING = struct.Struct("<Q?")


class Call(NamedTuple):
    """To the child: do the work of one request, within so many seconds."""

    topic: str
    args: Tuple[Any, ...]
    kwargs: Dict[str, Any]
    seconds: float
    tags: Mapping[str, Any]


class CallOff(NamedTuple):
    """To the child: the work that it is at is no longer wanted."""


class MakeSafe(NamedTuple):
    """To the child: run ``safe_state``."""


class Leave(NamedTuple):
    """To the child: stop the producer, and end."""


class Ready(NamedTuple):
    """From the child: ``on_start`` has come back; whether there is a ``safe_state``."""

    has_safe_state: bool


class Unready(NamedTuple):
    """From the child: there is no producer, and this is why."""

    error: BaseException
    trace: str


class Answer(NamedTuple):
    """From the child: a result, one value of a stream (`partial`), or its end (`streamed`)."""

    value: Any
    partial: bool = False
    streamed: bool = False


class Raised(NamedTuple):
    """From the child: the hook raised."""

    error: BaseException
    reason: str
    trace: str


class CancelAll(NamedTuple):
    """From the child: the hook has cancelled the request that it works on, for everybody."""


class Skipped(NamedTuple):
    """From the child: it had been called off, or its time had passed, before it began."""


def pack(message: Any, call: int = 0, last: bool = True) -> bytes:
    """Pickle a message and put its heading in front, or say what in it cannot be pickled.

    Copied out of the pickler's buffer: a view of that, kept in a cycle by some traceback, makes
    Python 3.13 complain when both are collected.

    Raises
    ------
    InvalidTypeError
        It holds something that has no pickled form.
    """
    try:
        return _HEADING.pack(call, last) + ForkingPickler.dumps(message)
    except Exception as error:
        raise InvalidTypeError(f"no pickled form of it: {error}") from error


def pieces(data: bytes) -> Iterator[Tuple[int, int]]:
    """Give where each piece of a message begins, and how long it is.

    The first that is shorter than `PIECE`, be it empty, is the last. So each end has every message
    piece by piece, and is never at the mercy of one who stops in the middle of it.
    """
    for start in range(0, len(data) + 1, PIECE):
        yield start, min(PIECE, len(data) - start)


class Incoming:
    """Puts messages together from their pieces."""

    def __init__(self) -> None:
        self._pieces: List[bytes] = []

    def add(self, piece: bytes) -> Optional[bytes]:
        """Take the next piece; give the message if that was its last."""
        self._pieces.append(piece)
        if len(piece) == PIECE:
            return None
        whole, self._pieces = b"".join(self._pieces), []
        return whole


def heading(data: bytes) -> Heading:
    """Give what stands in front of a message."""
    return Heading(*_HEADING.unpack_from(data))


def unpack(data: bytes) -> Any:
    """Give the message back.

    Raises
    ------
    InvalidTypeError
        It holds something that does not come back from its pickled form here.
    """
    try:
        return pickle.loads(memoryview(data)[_HEADING.size :])
    except Exception as error:
        raise InvalidTypeError(
            f"what another process sent cannot be read here: {type(error).__name__}: {error}"
        ) from error


def raised(error: BaseException) -> BaseException:
    """Give an error that survives the way: itself, or what it was called and said."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        pass
    return RemoteError(type(error).__name__, text_of(error))
