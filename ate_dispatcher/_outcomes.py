"""What became of one producer's part in one request."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

if TYPE_CHECKING:
    from ._address import Address

__all__ = ["Outcome", "OutcomeStatus", "Phase", "RequestStatus"]


class RequestStatus(enum.Enum):
    """How a request stands. `OPEN` at first; every other one is final."""

    OPEN = "OPEN"
    COMPLETE = "COMPLETE"
    """The whole roster answered, each with a value or an error."""
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    SATISFIED = "SATISFIED"
    """The ``until`` rule was met; who had not answered was not needed."""
    NO_PRODUCERS = "NO_PRODUCERS"
    STOPPED = "STOPPED"


class OutcomeStatus(enum.Enum):
    """What became of one row. Every one but `PARTIAL` is final."""

    OK = "OK"
    PARTIAL = "PARTIAL"
    """One value of a stream; the row stays open."""
    ERROR = "ERROR"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    """Not done: mailbox full, declined, or the agent stopped, failed or was lost, be it midway."""
    NOT_NEEDED = "NOT_NEEDED"


class Phase(enum.Enum):
    """How far the work had come when its row was closed without an answer."""

    NOT_STARTED = "not started"
    """The agent's thread was never started."""
    QUEUED = "queued"
    RESOURCE = "waiting for a resource"
    RUNNING = "running"


NO_TAGS: Mapping[str, Any] = {}


class Outcome:
    """One producer's final answer (or one value of its stream). Treat as read-only.

    Attributes
    ----------
    topic : str
    value : object
        What the producer returned; None unless the status is OK or PARTIAL.
    sent, queued : float
        `time.monotonic` seconds: the call of ``send_request``, and its being scattered.
    started, ended : float or None
        `time.monotonic` seconds, stamped by the producer's own thread around the work.
    exception : BaseException or None
        What the producer raised, with its traceback, for ERROR.
    reason : str
        In words why there is no value; empty for OK and PARTIAL.
    phase, since : Phase or None, float or None
        For a row closed without an answer: how far the work had come, and since when it was there.
    streamed : bool
        Whether this is the end of a stream.
    waited : tuple of (float, str) or None
        Of work that had to wait for a resource before it began: since when, and for which that was
        held by whom.

    Notes
    -----
    An instance of exactly this class is a plain OK answer, the common case, kept as small as it can
    be; every other status is a subclass. It is written by the producer's thread before it is posted
    and by nobody after, except `_request`, which the dispatcher's thread clears on acceptance so
    that a request and its outcomes never form a reference cycle. `_waited` is set only where there
    is something to say.
    """

    __slots__ = (
        "_address",
        "_options",
        "_request",
        "_waited",
        "ended",
        "queued",
        "sent",
        "started",
        "topic",
        "value",
    )

    status: OutcomeStatus = OutcomeStatus.OK
    exception: Optional[BaseException] = None
    reason: str = ""
    phase: Optional[Phase] = None
    since: Optional[float] = None
    streamed = False
    topic: str
    sent: float
    queued: float
    _waited: Tuple[float, str]

    def __init__(
        self,
        request: Any,
        address: Address,
        value: Any,
        started: Optional[float],
        ended: Optional[float],
    ) -> None:
        self._request = request
        self._address = address
        self._options = request._options
        self.topic = request.topic
        self.sent = request.sent
        self.queued = request.queued
        self.value = value
        self.started = started
        self.ended = ended

    @property
    def producer(self) -> str:
        """Name of the producer."""
        return self._address.name

    @property
    def site(self) -> Any:
        """Site of the producer, None if it has none."""
        return self._address.site

    @property
    def tags(self) -> Mapping[str, Any]:
        """Tags given with ``with_options(tags=…)``."""
        return NO_TAGS if self._options is None else self._options.tags

    @property
    def waited(self) -> Optional[Tuple[float, str]]:
        """Since when, and for what, its work had to wait for a resource; None if it had not."""
        return getattr(self, "_waited", None)

    @property
    def traceback(self) -> str:
        """The exception's traceback as text, empty without an exception."""
        if self.exception is None:
            return ""
        from traceback import format_exception

        error = self.exception
        return "".join(format_exception(type(error), error, error.__traceback__))

    def copied(self) -> Outcome:
        """Give the outcome one listener gets: this one, or a copy of its own under ``copy=``."""
        return self

    def as_dict(self) -> Dict[str, Any]:
        """Give what a log or a table needs of it as a dict, status and phase by name."""
        return {
            "topic": self.topic,
            "producer": self.producer,
            "site": self.site,
            "status": self.status.value,
            "value": self.value,
            "exception": self.exception,
            "reason": self.reason,
            "phase": None if self.phase is None else self.phase.value,
            "tags": dict(self.tags),
            "sent": self.sent,
            "queued": self.queued,
            "started": self.started,
            "ended": self.ended,
        }

    def __repr__(self) -> str:
        what = repr(self.value) if self.exception is None else repr(self.exception)
        if self.reason:
            what = self.reason
        return f"<Outcome {self.status.value} {self.topic!r} from {self.producer!r}: {what}>"


class CopiedOutcome(Outcome):
    """An OK answer of a request with ``copy=``: every listener gets a copy of its own."""

    __slots__ = ()

    def copied(self) -> Outcome:
        """Give a new outcome with a copy of the value; runs on the listener's thread."""
        return _with_own_value(self)


class StreamEnd(Outcome):
    """The final OK of a stream; listeners of results hear of it only if it has a value."""

    __slots__ = ()
    streamed = True

    def copied(self) -> Outcome:
        """As `CopiedOutcome.copied`, if the request asked for copies."""
        return _with_own_value(self)


class Partial(Outcome):
    """One value of a stream."""

    __slots__ = ()
    status = OutcomeStatus.PARTIAL

    def copied(self) -> Outcome:
        """As `CopiedOutcome.copied`, if the request asked for copies."""
        return _with_own_value(self)


class Failure(Outcome):
    """Every outcome that has no value: an error, or work that did not run or end in time."""

    __slots__ = ("exception", "phase", "reason", "since", "status")

    status: OutcomeStatus
    exception: Optional[BaseException]
    reason: str
    phase: Optional[Phase]
    since: Optional[float]

    def __init__(
        self,
        request: Any,
        address: Address,
        status: OutcomeStatus,
        reason: str,
        started: Optional[float] = None,
        ended: Optional[float] = None,
        exception: Optional[BaseException] = None,
        phase: Optional[Phase] = None,
        since: Optional[float] = None,
    ) -> None:
        super().__init__(request, address, None, started, ended)
        self.status = status
        self.reason = reason
        self.exception = exception
        self.phase = phase
        self.since = since


def _with_own_value(outcome: Outcome) -> Outcome:
    options = outcome._options
    if options is None or options.copy is None:
        return outcome
    kind = type(outcome)
    clone = kind.__new__(kind)
    for slot in Outcome.__slots__:
        if hasattr(outcome, slot):
            setattr(clone, slot, getattr(outcome, slot))
    clone.value = options.copy_value(outcome.value)
    return clone
