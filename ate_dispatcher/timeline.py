"""A picture of what happened: who waited, who worked, what came too late.

::

    with ATEDispatcher() as dispatcher:
        timeline = Timeline(dispatcher)
        ...
    timeline.save("run.json")

The file is in Chrome's trace format; https://ui.perfetto.dev opens it. The dispatcher's lane shows
when requests were scattered, each producer's lane what it worked on, with an arrow from the one to
the other. What lies across each other is drawn beside the lanes: requests from their sending to
their end, and rows that were queued or waited for a resource.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from math import inf
from typing import (
    Any,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ._callbacks import local
from ._checks import check_whole
from ._exceptions import InvalidTypeError
from ._observer import Observer
from ._outcomes import Outcome, OutcomeStatus, Phase, RequestStatus
from ._request import Request
from .dispatcher import ATEDispatcher

__all__ = ["Timeline", "trace_of"]

_PATIENCE = 5.0
"""Seconds that reading waits for observers to have been told what has happened so far."""

_SLICE = 0.000_001
"""Seconds that a scatter is drawn wide, so that an arrow can begin in it."""

OK, PARTIAL = OutcomeStatus.OK.value, OutcomeStatus.PARTIAL.value
TIMEOUT = OutcomeStatus.TIMEOUT.value
OPEN, COMPLETE = RequestStatus.OPEN.value, RequestStatus.COMPLETE.value
EXPIRED = RequestStatus.EXPIRED.value

_MARKS = {TIMEOUT: "timed out"}


class Sent(NamedTuple):
    """A request was scattered. `sent` tells it from all others: see `trace_of`."""

    topic: str
    sent: float
    queued: float
    ttl: Optional[float]
    roster: int


class Row(NamedTuple):
    """An outcome, late ones too, without its value; `seen` is when the timeline heard of it."""

    topic: str
    producer: str
    site: Any
    status: str
    reason: str
    phase: Optional[Phase]
    since: Optional[float]
    sent: float
    queued: float
    started: Optional[float]
    ended: Optional[float]
    seen: float
    late: str = ""
    waited: Optional[Tuple[float, str]] = None


class End(NamedTuple):
    """A request ended."""

    topic: str
    sent: float
    status: str
    seen: float


class Mishap(NamedTuple):
    """A listener raised."""

    listener: str
    error: str
    seen: float


Record = Union[Sent, Row, End, Mishap]
Event = Dict[str, Any]


class Timeline(Observer):
    """Watches a dispatcher and draws what happened. Made, it is attached.

    Parameters
    ----------
    dispatcher : ATEDispatcher
    limit : int
        How many happenings (a request, an outcome, an end) are kept; of more, the oldest are
        dropped and counted. Values and arguments are not kept.

    Notes
    -----
    Thread-safe. It is told on the callback thread and read on others, under a lock of its own: no
    message ever waits for it. Leaving ``with Timeline(dispatcher) as timeline:`` detaches it.
    """

    def __init__(self, dispatcher: ATEDispatcher, limit: int = 100_000) -> None:
        if not isinstance(dispatcher, ATEDispatcher):
            raise InvalidTypeError(f"a Timeline is of an ATEDispatcher, not of {dispatcher!r}")
        check_whole(limit, "limit")
        self._dispatcher = dispatcher
        self._clock = dispatcher.clock
        self._lock = threading.Lock()
        self._records: Deque[Record] = deque(maxlen=limit)
        self._dropped = 0
        self.attach()

    # ---- reading ---------------------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """How many happenings were dropped for newer ones."""
        return self._dropped

    def __len__(self) -> int:
        return len(self._records)

    def trace(self) -> Dict[str, Any]:
        """Give what `save` writes: everything that the dispatcher has handled by now."""
        self._catch_up()
        with self._lock:
            records, dropped = tuple(self._records), self._dropped
        return trace_of(records, self._dispatcher.name, dropped)

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the trace to a file, replacing what is there. It may go on being recorded.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        text = json.dumps(self.trace(), allow_nan=False, separators=(",", ":"))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def _catch_up(self) -> None:
        """Wait until this thread's past has been told; a callback that hangs is not waited for."""
        callbacks = self._dispatcher._callbacks
        if getattr(local, "role", None) is not callbacks:
            told = threading.Event()
            callbacks.post(told.set)
            told.wait(_PATIENCE)

    # ---- life ------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Watch from now on. Twice is once."""
        self._dispatcher.add_observer(self)

    def detach(self) -> None:
        """Watch no more, and keep what was seen; no error if it did not watch."""
        self._dispatcher.remove_observer(self)

    def clear(self) -> None:
        """Forget what was seen and dropped so far."""
        with self._lock:
            self._records.clear()
            self._dropped = 0

    def __enter__(self) -> Timeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    # ---- being told (the callback thread) --------------------------------------------------------

    def on_request(self, request: Request) -> None:
        """Keep that it was scattered."""
        ttl = None if request.ttl == inf else request.ttl
        roster = len(request.roster)
        self._keep(Sent(request.topic, request.sent, request.queued, ttl, roster))

    def on_outcome(self, outcome: Outcome) -> None:
        """Keep what became of a row."""
        self._keep(row_of(outcome, self._clock()))

    def on_late(self, outcome: Outcome, in_time: bool) -> None:
        """Keep what came too late, and how."""
        late = "late, though stamped in time" if in_time else "late"
        self._keep(row_of(outcome, self._clock(), late))

    def on_end(self, request: Request) -> None:
        """Keep that it ended."""
        self._keep(End(request.topic, request.sent, request.status.value, self._clock()))

    def on_listener_error(self, listener: str, event: Any, error: BaseException) -> None:
        """Keep that a listener raised, and what kind of error."""
        self._keep(Mishap(listener, type(error).__name__, self._clock()))

    def _keep(self, record: Record) -> None:
        with self._lock:
            if len(self._records) == self._records.maxlen:
                self._dropped += 1
            self._records.append(record)


def row_of(outcome: Outcome, seen: float, late: str = "") -> Row:
    """Describe an outcome without keeping it or its value."""
    return Row(
        outcome.topic,
        outcome.producer,
        outcome.site,
        outcome.status.value,
        outcome.reason,
        outcome.phase,
        outcome.since,
        outcome.sent,
        outcome.queued,
        outcome.started,
        outcome.ended,
        seen,
        late,
        outcome.waited,
    )


# ---- from what happened to a trace ---------------------------------------------------------------


class Bar(NamedTuple):
    """One row as it is drawn, with what came late of it taken in."""

    row: Row
    late: Optional[Row]
    end: float
    """When it left the producer: answered, however late, or was closed."""
    number: int
    """Of its request."""
    lane: Event
    """Where it was worked on, or would have been."""


def trace_of(records: Iterable[Record], name: str = "dispatcher", dropped: int = 0) -> Event:
    """Draw what happened, as a trace in Chrome's format. Reads no clock and changes nothing.

    Which outcomes belong to which request is told by `sent`: not the number, which two requests may
    share, but the very object, which no two do; each record holds its own reference to it.

    Parameters
    ----------
    records : iterable of Record
        In the order in which they were seen.
    name : str
        Name of the dispatcher.
    dropped : int
        How many records are missing at the beginning; told in the trace.
    """
    records = tuple(records)
    numbers: Dict[int, int] = {}
    for record in records:
        if not isinstance(record, Mishap):
            numbers.setdefault(id(record.sent), len(numbers) + 1)
    lanes = _Lanes(name)
    bars = _bars(records, numbers, lanes)
    events = [
        *_requests(records, numbers),
        *_waiting(bars),
        *_scatters(records, lanes),
        *_working(bars),
        *_arrows(bars, lanes),
        *_marks(bars, records, lanes),
    ]
    _to_microseconds(events)
    events.sort(key=lambda event: event["ts"])  # stable: what begins stands before what ends
    return {
        "traceEvents": [*lanes.named(), *events],
        "displayTimeUnit": "ms",
        "otherData": {"dropped": dropped},
    }


def _bars(records: Sequence[Record], numbers: Dict[int, int], lanes: _Lanes) -> List[Bar]:
    """Join what came late with the row that was closed without it, and give each row its lane."""
    deadlines: Dict[int, float] = {}
    firsts: Dict[Tuple[int, str], Row] = {}
    lates: Dict[Tuple[int, str], Row] = {}
    for record in records:
        if isinstance(record, Sent):
            deadlines[id(record.sent)] = _deadline(record)
        elif isinstance(record, Row) and record.status != PARTIAL:
            rows = lates if record.late else firsts
            rows.setdefault((id(record.sent), record.producer), record)
    ended = []
    for key in {**firsts, **lates}:
        late = lates.get(key)
        row = firsts.get(key) or lates[key]
        ends = [each.ended for each in (row, late) if each is not None and each.ended is not None]
        closed = min(row.seen, deadlines.get(key[0], inf)) if row.status == TIMEOUT else row.seen
        begun = row.queued if row.started is None else row.started
        ended.append((begun, max(max(ends, default=closed), row.queued, begun), row, late))
    ended.sort(key=lambda each: each[:2])  # lanes are handed out in the order of time
    return [
        Bar(row, late, end, numbers[id(row.sent)], lanes.free(row.producer, row.started, end))
        for _, end, row, late in ended
    ]


def _requests(records: Sequence[Record], numbers: Dict[int, int]) -> Iterator[Event]:
    """Draw each request from its sending to its end, an open one to the end of the picture."""
    ends = {id(record.sent): record for record in records if isinstance(record, End)}
    answered: Dict[int, float] = {}
    for record in records:
        if isinstance(record, Row) and record.ended is not None and not record.late:
            key = id(record.sent)
            answered[key] = max(record.ended, answered.get(key, record.ended))
    last = max((_moment(record) for record in records), default=0.0)
    for record in records:
        if isinstance(record, Sent):
            key = id(record.sent)
            end = ends.get(key)
            until, status = (last, OPEN) if end is None else (end.seen, end.status)
            if status == COMPLETE:  # the timeline hears of it later, how much depends on the load
                until = answered.get(key, until)
            elif status == EXPIRED:
                until = min(until, _deadline(record))
            said = {
                "request": numbers[key],
                "ttl_ms": record.ttl,
                "roster": record.roster,
                "status": status,
            }
            label = f"request {record.topic}"
            yield from _across(label, "request", str(numbers[key]), record.sent, until, said)


def _deadline(record: Sent) -> float:
    return inf if record.ttl is None else record.sent + record.ttl * 0.001


def _moment(record: Record) -> float:
    return record.queued if isinstance(record, Sent) else record.seen


def _waiting(bars: Sequence[Bar]) -> Iterator[Event]:
    """Draw how long each row was queued, and how long it waited for a resource."""
    for bar in bars:
        row = bar.row
        begun = bar.end if row.started is None else max(row.started, row.queued)
        turn = begun
        said = {"request": bar.number, "topic": row.topic}
        ident = f"{bar.number}/{row.producer}"
        waited = _waited(bar)
        if waited is not None:
            since, reason = waited
            turn = min(max(since, row.queued), begun)
            label = f"{row.producer} waits for a resource"
            because = {**said, "reason": reason}
            yield from _across(label, "resource", ident, turn, begun, because)
        yield from _across(f"{row.producer} queued", "queued", ident, row.queued, turn, said)


def _waited(bar: Bar) -> Optional[Tuple[float, str]]:
    """Say since when, and for what, a row waited for a resource; None if it did not."""
    row, late = bar.row, bar.late
    if row.phase is Phase.RESOURCE and row.since is not None:
        return row.since, row.reason
    return late.waited if row.waited is None and late is not None else row.waited


def _across(
    label: str, category: str, ident: str, begin: float, end: float, said: Event
) -> Iterator[Event]:
    """Draw a bar that may lie across others of its kind: a pair of asynchronous events."""
    common = {"name": label, "cat": category, "id": ident, **_Lanes.dispatcher}
    yield {**common, "ph": "b", "ts": begin, "args": said}
    yield {**common, "ph": "e", "ts": end}


def _scatters(records: Sequence[Record], lanes: _Lanes) -> Iterator[Event]:
    """Draw on the dispatcher's lane what was scattered, together what was so in one turn."""
    turns: Dict[float, Dict[int, str]] = {}
    for record in records:
        if isinstance(record, (Sent, Row)):
            turns.setdefault(record.queued, {})[id(record.sent)] = record.topic
    moments = sorted(turns)
    for moment, following in zip(moments, [*moments[1:], inf]):
        topics = list(turns[moment].values())
        label = topics[0] if len(topics) == 1 else f"{len(topics)} requests"
        end = min(moment + _SLICE, following)
        yield {**_slice(label, "scatter", moment, end), **lanes.dispatcher}


def _working(bars: Sequence[Bar]) -> Iterator[Event]:
    """Draw what each producer worked on."""
    for bar in bars:
        row = bar.row
        if row.started is not None:
            said = {
                "request": bar.number,
                "site": row.site,
                "status": row.status,
                "reason": row.reason,
                "late": "" if bar.late is None else bar.late.late,
            }
            event = {**_slice(row.topic, "running", row.started, bar.end), **bar.lane, "args": said}
            if row.status != OK or bar.late is not None:
                event["cname"] = "terrible" if row.status == TIMEOUT else "bad"
            yield event


def _slice(label: str, category: str, begin: float, end: float) -> Event:
    return {"ph": "X", "name": label, "cat": category, "ts": begin, "end": end}


def _arrows(bars: Sequence[Bar], lanes: _Lanes) -> Iterator[Event]:
    """Draw an arrow from where a request was scattered to each outcome that was worked on."""
    for number, bar in enumerate(bars, start=1):
        started, queued = bar.row.started, bar.row.queued
        if started is not None:
            common = {"name": "request", "cat": "flow", "id": number}
            yield {**common, "ph": "s", "ts": queued, **lanes.dispatcher}
            yield {**common, "ph": "f", "bp": "e", "ts": started, **bar.lane}


def _marks(bars: Sequence[Bar], records: Sequence[Record], lanes: _Lanes) -> Iterator[Event]:
    """Mark what did not end well, values of streams, and listeners that raised."""
    for bar in bars:
        row, late = bar.row, bar.late
        if row.status != OK and row is not late:
            at = row.ended if row.ended is not None else min(row.seen, bar.end)
            said = {"request": bar.number, "topic": row.topic, "reason": row.reason}
            yield _mark(_MARKS.get(row.status, row.status), at, bar.lane, said)
        if late is not None:
            at = late.seen if late.ended is None else late.ended
            yield _mark(late.late, at, bar.lane, {"request": bar.number, "topic": row.topic})
    for record in records:
        if isinstance(record, Row) and record.status == PARTIAL and record.ended is not None:
            lane = lanes.lane(record.producer)
            yield _mark(record.late or "partial", record.ended, lane, {"topic": record.topic})
        elif isinstance(record, Mishap):
            lane = lanes.lane(record.listener)
            yield _mark(f"raised {record.error}", record.seen, lane, {})


def _mark(label: str, at: float, lane: Event, said: Event) -> Event:
    return {"ph": "i", "s": "t", "name": label, "cat": "mark", "ts": at, **lane, "args": said}


def _to_microseconds(events: Sequence[Event]) -> None:
    """Count from the first event, in whole nanoseconds, so that what touches does not overlap."""
    origin = min((event["ts"] for event in events), default=0.0)
    for event in events:
        begin = round((event["ts"] - origin) * 1e9)
        event["ts"] = begin / 1000
        if "end" in event:
            event["dur"] = (round((event.pop("end") - origin) * 1e9) - begin) / 1000


class _Lanes:
    """Hands out the lanes: the dispatcher's, one an agent, more if it works on several at once."""

    dispatcher: Event = {"pid": 1, "tid": 1}

    def __init__(self, name: str) -> None:
        self._names = [name]
        self._busy: Dict[str, List[Tuple[Event, float]]] = {}

    def lane(self, agent: str) -> Event:
        """Give an agent's first lane."""
        return self._of(agent)[0][0]

    def free(self, agent: str, begin: Optional[float], end: float) -> Event:
        """Give a lane on which nothing reaches past `begin`; to be asked in the order of time."""
        lanes = self._of(agent)
        if begin is None:
            return lanes[0][0]
        for number, (lane, until) in enumerate(lanes):
            if until <= begin:
                lanes[number] = (lane, end)
                return lane
        lanes.append((self._new(f"{agent} {len(lanes) + 1}"), end))
        return lanes[-1][0]

    def named(self) -> Iterator[Event]:
        """Tell the lanes' names."""
        yield {
            **self.dispatcher,
            "ph": "M",
            "name": "process_name",
            "args": {"name": self._names[0]},
        }
        lanes = list(enumerate(self._names, start=1))
        in_order = [lanes[0], *sorted(lanes[1:], key=lambda lane: lane[1])]
        for place, (tid, name) in enumerate(in_order):
            lane = {"pid": 1, "tid": tid}
            yield {**lane, "ph": "M", "name": "thread_name", "args": {"name": name}}
            yield {**lane, "ph": "M", "name": "thread_sort_index", "args": {"sort_index": place}}

    def _of(self, agent: str) -> List[Tuple[Event, float]]:
        if agent not in self._busy:
            self._busy[agent] = [(self._new(agent), -inf)]
        return self._busy[agent]

    def _new(self, name: str) -> Event:
        self._names.append(name)
        return {"pid": 1, "tid": len(self._names)}
