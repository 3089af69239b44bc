"""What a dispatcher counted: plain integers, each written by one thread, read by anybody."""

from __future__ import annotations

from math import ceil, frexp, inf, ldexp
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from ._outcomes import Outcome, OutcomeStatus, RequestStatus

__all__ = [
    "Backlog",
    "Histogram",
    "ListenerStatistics",
    "Percentiles",
    "ProducerStatistics",
    "Statistics",
    "StopReport",
    "Straggler",
    "Tally",
    "producer_statistics",
]

STRIDES = (1, 13, 61)
"""Of how many plain answers one is measured, by pace. They fall in with no rhythm of 2, 4 or 8."""

PACE = 0.004
"""Seconds between measured answers, under which the next longer stride is taken."""

ROUND = 16
"""Measured answers after which the pace is looked at."""


class Histogram:
    """How long things took: a count for each sixteenth of a power of two.

    What it reads is the middle of a bucket, so within 3.2 % of the truth. Between a nanosecond and
    a day there are some 750 buckets, however much is counted, and only those that are needed are
    there. One thread adds; anybody may read, who copies the counts first: one call on a dict of
    numbers, which is atomic under the global interpreter lock, and without it under the dict's own.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, seconds: float, weight: int = 1) -> None:
        """Count a duration, as often as `weight` says."""
        if seconds > 0.0:
            fraction, exponent = frexp(seconds)
            bucket = (exponent << 4) + int(fraction * 32) - 16
        else:  # two clocks may disagree by a little: less than nothing is nothing
            bucket = _NOTHING
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + weight

    def percentile(self, percent: float) -> Optional[float]:
        """Give what so many percent of the durations did not exceed; None without any."""
        counts = self._counts.copy()
        left = ceil(sum(counts.values()) * percent / 100)
        for bucket in sorted(counts):
            left -= counts[bucket]
            if left <= 0:
                return _middle(bucket)
        return None

    def percentiles(self) -> Percentiles:
        """Give those that are reported."""
        return Percentiles(self.percentile(50), self.percentile(99))


_NOTHING = -1 << 20


def _middle(bucket: int) -> float:
    return 0.0 if bucket == _NOTHING else ldexp(16.5 + (bucket & 15), (bucket >> 4) - 5)


class Tally:
    """Counts of one producer's rows in one dispatcher. Its thread is the only writer.

    How long a plain answer took is measured at the one with number `due`: at each one as long as
    they come at the pace of instruments, and at every 13th or 61st, which then stands for those
    since the last, when they come so fast that measuring each would be felt.
    """

    __slots__ = ("_left", "_since", "_stride", "closed", "due", "lates", "ok", "partials",
                 "services", "waits")  # fmt: skip

    def __init__(self) -> None:
        self.ok = 0
        self.partials = 0
        self.lates = 0
        self.closed: Dict[OutcomeStatus, int] = {}
        self.waits = Histogram()
        self.services = Histogram()
        self.due = 1
        self._stride = STRIDES[0]
        self._left = 1  # the first only tells when the first round began
        self._since = -inf

    def answered(self, outcome: Outcome) -> None:
        """Count one good answer; measure it if its turn has come."""
        self.ok += 1
        if self.ok >= self.due:
            self.measure(outcome)

    def add(self, failure: Outcome) -> None:
        """Count one row that was closed with another status than OK, and measure what was done."""
        self.closed[failure.status] = self.closed.get(failure.status, 0) + 1
        self._measure_alone(failure)

    def late(self, outcome: Outcome) -> None:
        """Count and measure what came after its row was closed."""
        self.lates += 1
        self._measure_alone(outcome)

    def measure(self, outcome: Outcome) -> None:
        """Measure a good answer for its like, and say which is due next."""
        started: float = outcome.started  # type: ignore[assignment]
        ended: float = outcome.ended  # type: ignore[assignment]
        stride = self._stride
        self.waits.add(started - outcome.queued, stride)
        self.services.add(ended - started, stride)
        self._left -= 1
        if not self._left:
            self._keep_pace(ended)
        self.due = self.ok + self._stride

    def _keep_pace(self, now: float) -> None:
        level = STRIDES.index(self._stride)
        took = now - self._since
        if took < ROUND * PACE:
            level = min(level + 1, len(STRIDES) - 1)
        elif took > 16 * ROUND * PACE:  # the shorter stride will not be too short at once
            level = max(level - 1, 0)
        self._stride, self._left, self._since = STRIDES[level], ROUND, now

    def _measure_alone(self, outcome: Outcome) -> None:
        started, ended = outcome.started, outcome.ended
        if started is not None and ended is not None:
            self.waits.add(started - outcome.queued)
            self.services.add(ended - started)


class Percentiles(NamedTuple):
    """What half and all but one in a hundred did not exceed, in seconds; None if nothing was."""

    p50: Optional[float] = None
    p99: Optional[float] = None


class ProducerStatistics(NamedTuple):
    """Counts of one producer: final outcomes by status, what waits now, and how long it took.

    `wait` and `service` are of everything that the producer was asked in this dispatcher, within
    3.2 % of the truth. Where more than some 250 answers come in a second, only every 13th
    or 61st of the good ones is measured, and stands for those before it.
    """

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
    wait: Percentiles = Percentiles()
    """Seconds between being scattered and being started, of all that was started and answered."""
    service: Percentiles = Percentiles()
    """Seconds between start and end of the same: errors, streams and late answers are among it."""
    restarts: int = 0
    """How often a supervisor made it anew."""
    waiting: Mapping[int, int] = {}
    """Work of this dispatcher that has not begun, by priority."""
    oldest: float = 0.0
    """Seconds since the oldest of it was sent: what grows is starving."""

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


class Backlog:
    """What of one producer's work waits to begin, gone through request by request."""

    __slots__ = ("since", "waiting")

    def __init__(self) -> None:
        self.waiting: Dict[int, int] = {}
        self.since = inf

    def add(self, priority: int, sent: float) -> None:
        """Count one request."""
        self.waiting[priority] = self.waiting.get(priority, 0) + 1
        self.since = min(self.since, sent)


def producer_statistics(
    tally: Tally,
    depth: int,
    busy: bool,
    backlog: Optional[Backlog] = None,
    now: float = 0.0,
    restarts: int = 0,
) -> ProducerStatistics:
    """Freeze a tally, and a backlog if there is one."""
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
        wait=tally.waits.percentiles(),
        service=tally.services.percentiles(),
        restarts=restarts,
        waiting={} if backlog is None else backlog.waiting,
        oldest=0.0 if backlog is None else max(0.0, now - backlog.since),
    )


class Straggler(NamedTuple):
    """A thread that did not come back within the grace of a stop, and where it stood."""

    name: str
    where: str


class StopReport(NamedTuple):
    """What `ATEDispatcher.stop` gives.

    `undelivered` maps listeners to how many events they did not handle; `alive` are the threads
    that did not end; `finished` is False where the stop was only begun (on a library thread).
    `unsafe` names the producers not known to be safe, in the order of their turns: their
    ``safe_state`` was not reached in time, or raised what `safe_errors` has under their name.
    """

    delivered: int
    undelivered: Mapping[str, int]
    alive: Tuple[Straggler, ...]
    finished: bool
    unsafe: Tuple[str, ...] = ()
    safe_errors: Mapping[str, BaseException] = {}

    @property
    def clean(self) -> bool:
        """Whether everything was delivered, every thread has ended and every producer is safe."""
        return self.finished and not (self.undelivered or self.alive or self.unsafe)
