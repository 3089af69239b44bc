"""What a dispatcher counted: plain integers, each written by one thread, read by anybody."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Tuple

from ._outcomes import OutcomeStatus, RequestStatus

__all__ = [
    "ListenerStatistics",
    "ProducerStatistics",
    "Statistics",
    "StopReport",
    "Straggler",
    "Tally",
]


class Tally:
    """Counts of one producer's rows in one dispatcher. Its thread is the only writer."""

    __slots__ = ("closed", "lates", "ok", "partials")

    def __init__(self) -> None:
        self.ok = 0
        self.partials = 0
        self.lates = 0
        self.closed: Dict[OutcomeStatus, int] = {}

    def add(self, status: OutcomeStatus) -> None:
        """Count one row that was closed with another status than OK."""
        self.closed[status] = self.closed.get(status, 0) + 1


class ProducerStatistics(NamedTuple):
    """Counts of one producer: final outcomes by status, and what waits now."""

    ok: int
    partials: int
    errors: int
    timeouts: int
    cancelled: int
    rejected: int
    not_needed: int
    lates: int
    depth: int
    """Messages in its mailbox."""
    busy: bool

    @property
    def requests(self) -> int:
        """Rows with a final outcome."""
        closed = self.errors + self.timeouts + self.cancelled + self.rejected + self.not_needed
        return self.ok + closed


class ListenerStatistics(NamedTuple):
    """Counts of one listener, over all dispatchers it belongs to, and what waits now."""

    delivered: int
    errors: int
    dropped: int
    depth: int
    busy: bool


class Statistics(NamedTuple):
    """What `ATEDispatcher.statistics` gives: a frozen record.

    Each number is exact at some instant; together they are a snapshot only of an idle dispatcher.
    """

    open: int
    ended: Mapping[RequestStatus, int]
    lates: int
    producers: Mapping[str, ProducerStatistics]
    listeners: Mapping[str, ListenerStatistics]

    @property
    def requests(self) -> int:
        """Requests that were scattered or had nobody to go to."""
        return self.open + sum(self.ended.values())


def producer_statistics(tally: Tally, depth: int, busy: bool) -> ProducerStatistics:
    """Freeze a tally."""
    closed = tally.closed.get
    return ProducerStatistics(
        ok=tally.ok,
        partials=tally.partials,
        errors=closed(OutcomeStatus.ERROR, 0),
        timeouts=closed(OutcomeStatus.TIMEOUT, 0),
        cancelled=closed(OutcomeStatus.CANCELLED, 0),
        rejected=closed(OutcomeStatus.REJECTED, 0),
        not_needed=closed(OutcomeStatus.NOT_NEEDED, 0),
        lates=tally.lates,
        depth=depth,
        busy=busy,
    )


class Straggler(NamedTuple):
    """A thread that did not come back within the grace of a stop, and where it stood."""

    name: str
    where: str


class StopReport(NamedTuple):
    """What `ATEDispatcher.stop` gives.

    `undelivered` maps listeners to how many events they did not handle; `alive` are the threads
    that did not end; `finished` is False where the stop was only begun (on a library thread).
    """

    delivered: int
    undelivered: Mapping[str, int]
    alive: Tuple[Straggler, ...]
    finished: bool

    @property
    def clean(self) -> bool:
        """Whether everything was delivered and every thread has ended."""
        return self.finished and not self.undelivered and not self.alive
