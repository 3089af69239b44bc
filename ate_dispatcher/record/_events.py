"""What is read from a recording: outcomes and ended requests as listeners get them, and gaps."""

from __future__ import annotations

import time
from math import inf
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Union

from .._address import Address
from .._delivery import Barrier
from .._exceptions import NotARecordingError, RecordedError
from .._ledger import STREAM_VALUES_KEPT
from .._messages import Attach
from .._options import Options
from .._outcomes import Failure, OutcomeStatus, Phase, RequestStatus
from .._request import Request
from ._rows import VERSION, Row
from ._values import decode

__all__ = ["Event", "Events", "Gap", "RecordedOutcome", "RecordedRequest"]


class Gap(NamedTuple):
    """A place in a recording where something is known to be missing."""

    reason: str
    lost: Optional[int] = None
    """How many events; None if that is not known."""
    missing: Tuple[Tuple[str, str, int], ...] = ()
    """Of whom: topic, producer (empty for ends of requests) and how many."""
    time: Optional[float] = None
    """When the recorder could write again, in seconds since the epoch."""


class RecordedOutcome(Failure):
    """An outcome from a recording, of whatever status.

    Its times are seconds since the epoch, and its exception, if it has one, a `RecordedError`.

    Attributes
    ----------
    time : float
        When it was recorded, in seconds since the epoch.
    exact : bool
        False if a part of the value or of the tags had no form in the recording: `Unserialised`.
    """

    __slots__ = ("exact", "streamed", "time")

    streamed: bool

    def __init__(self, row: Row, address: Address) -> None:
        self._request = None
        self._address = address
        self._options = _options(row)
        self.topic = _text(row, "topic")
        self.status = OutcomeStatus(row["status"])
        self.value = decode(row.get("value"))
        self.reason = row.get("reason") or ""
        phase = row.get("phase")
        self.phase = None if phase is None else Phase(phase)
        error = row.get("exception")
        self.exception = None if error is None else RecordedError(*error)
        self.time = _number(row, "time")
        self.sent = _number(row, "sent")
        self.queued = _number(row, "queued")
        self.started = row.get("started")
        self.ended = row.get("ended")
        self.since = row.get("since")
        self.streamed = bool(row.get("streamed"))
        self.exact = not row.get("inexact")

    @property
    def traceback(self) -> str:
        """The traceback of what the producer raised, as text; empty without an exception."""
        error = self.exception
        return error.traceback if isinstance(error, RecordedError) else ""


class RecordedRequest(Request):
    """An ended request from a recording, with the outcomes that were recorded of it.

    Everything that can be asked of an ended request can be asked of it; waits return at once.

    Attributes
    ----------
    time : float
        When its end was recorded, in seconds since the epoch; `sent` and `deadline` likewise.
    exact : bool
        False if a part of its arguments or tags had no form in the recording: `Unserialised`.
    """

    __slots__ = ("_addresses", "exact", "time")

    def __init__(self, topic: str, sent: float) -> None:
        super().__init__(topic, inf, sent, home=_PAST)
        self._addresses: Dict[str, Address] = {}

    def _address(self, name: str, site: Any) -> Address:
        return self._addresses.setdefault(name, Address(name, site))

    def _take(self, outcome: RecordedOutcome) -> None:
        """Enter one outcome."""
        outcome.sent = self.sent  # the same object, as with the outcomes of any request
        if outcome.status is not OutcomeStatus.PARTIAL:
            self._rows[outcome._address] = outcome
            return
        extra = self.extra()
        if extra.streams is None:
            extra.streams = {}
        values = extra.streams.setdefault(outcome._address, [])
        values.append(outcome)
        if len(values) > STREAM_VALUES_KEPT:
            del values[0]
            extra.dropped += 1

    def _end(self, row: Row) -> None:
        """Close it, as the row of its end says."""
        self.time = _number(row, "time")
        self.queued = _number(row, "queued")
        self.exact = not row.get("inexact")
        self.ttl = inf if row.get("ttl") is None else _number(row, "ttl")
        self.deadline = self.sent + self.ttl * 0.001
        self.args = tuple(decode(row.get("args") or []))
        self._kwargs = decode(row.get("kwargs"))
        self._options = _options(row)
        self._reason = row.get("reason") or ""
        self.scatter(tuple(self._address(*pair) for pair in row["roster"]), self.queued)
        self.status = RequestStatus(row["status"])
        self._told()


class _Past:
    """Stands in for the dispatcher of recorded requests, where everything has happened."""

    clock = staticmethod(time.time)
    begun = True

    @property
    def callbacks(self) -> _Past:
        return self

    def start(self) -> None:
        """Need no thread: callbacks are called at once."""

    def post(self, message: Any, *args: Any) -> None:
        """Answer a message to the dispatcher, or call a callback."""
        if isinstance(message, Attach):
            for outcome in message.request._accepted():
                message.reader.push(outcome)
            message.reader.finish()
        elif isinstance(message, Barrier):
            message.send(())
        elif callable(message):
            message(*args)


_PAST: Any = _Past()

Event = Union[RecordedOutcome, RecordedRequest, Gap]


class Events:
    """Makes the events of a recording from its rows, one after another.

    It keeps the requests that have not ended yet, until another recorder went on with the file.
    """

    def __init__(self) -> None:
        self._session: Any = None
        self._open: Dict[int, RecordedRequest] = {}

    def event(self, row: Row) -> Optional[Event]:
        """Make the event of one row; None if the row only tells which recorder wrote.

        Raises
        ------
        ValueError
            The row is none that a recorder writes.
        NotARecordingError
            A later version of the library wrote it.
        """
        make = self._MAKERS.get(row.get("event", ""))
        if make is None:
            raise ValueError(f"there is no event {row.get('event')!r}")
        try:
            return make(self, row)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    def _recording(self, row: Row) -> None:
        value = row["value"]
        if value["format"] != "ate-dispatcher":
            raise NotARecordingError(
                f"this is a recording of another kind: {value['format']!r:.60}"
            )
        if value["version"] > VERSION:
            raise NotARecordingError(
                f"the recording is of version {value['version']}, this library reads up to "
                f"{VERSION}: install a later one"
            )
        if value["session"] != self._session:
            self._session = value["session"]
            self._open.clear()

    def _outcome(self, row: Row) -> RecordedOutcome:
        number = row["request"]
        request = self._open.get(number)
        if request is None:
            request = RecordedRequest(_text(row, "topic"), _number(row, "sent"))
        outcome = RecordedOutcome(row, request._address(_text(row, "producer"), row.get("site")))
        request._take(outcome)
        self._open[number] = request
        return outcome

    def _ended(self, row: Row) -> RecordedRequest:
        request = self._open.pop(row["request"], None)
        if request is None:
            request = RecordedRequest(_text(row, "topic"), _number(row, "sent"))
        request._end(row)
        return request

    def _gap(self, row: Row) -> Gap:
        missing = tuple((topic, producer, count) for topic, producer, count in row["value"])
        return Gap(row["reason"], sum(part[2] for part in missing), missing, _number(row, "time"))

    _MAKERS: Dict[str, Callable[[Any, Row], Optional[Event]]] = {
        "recording": _recording,
        "outcome": _outcome,
        "end": _ended,
        "gap": _gap,
    }


def _options(row: Row) -> Optional[Options]:
    tags = row.get("tags")
    return None if not tags else Options(tags=decode(tags))


def _text(row: Row, name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {value!r:.60}")
    return value


def _number(row: Row, name: str) -> float:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, not {value!r:.60}")
    return value
