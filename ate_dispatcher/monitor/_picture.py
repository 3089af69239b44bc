"""What the page shows, drawn together from what was noted: messages of JSON."""

from __future__ import annotations

import json
from collections import deque
from math import ceil
from typing import Any, Deque, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._outcomes import RequestStatus
from ..timeline import Record, Row, Sent
from ._station import NAME, STOPPED, Look, Station
from ._text import shortened
from ._watch import Change, Ended, Noted, Seen

__all__ = ["Picture"]

ROWS = 2000
"""Outcomes that a page is given when it is opened."""

SECONDS = 120
"""That the plots reach back."""

RECORDS = 60_000
"""Happenings kept for the trace."""

MINUTE = 60.0
"""Seconds that the trace reaches back."""

GONE = 30
"""Agents that have left and are still listed."""

REASON = 240
"""Characters of a reason that are shown."""

LATENCIES = 4000
"""Latencies of one second that are kept until it is over."""

_MEMBERS = ("topics", "topic_count", "producer_count", "listener_count", "producers", "listeners")
_NOBODY = RequestStatus.NO_PRODUCERS.value
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Second:
    """What the plots show of one second."""

    __slots__ = ("answers", "bad", "latencies")

    def __init__(self) -> None:
        self.answers = self.bad = 0
        self.latencies: List[float] = []

    def shown(self, time: int) -> List[Any]:
        """Give time, answers, those that are not good, and p50 and p99 of the latency (s)."""
        ordered = sorted(self.latencies)
        return [time, self.answers, self.bad, _percentile(ordered, 50), _percentile(ordered, 99)]


def _percentile(ordered: Sequence[float], percent: int) -> Optional[float]:
    if not ordered:
        return None
    return round(ordered[max(0, ceil(len(ordered) * percent / 100) - 1)], 6)


class Picture:
    """The state of one monitor. No thread, no clock; its user sees to it that one calls at a time.

    Parameters
    ----------
    offset : float
        What makes a reading of the dispatcher's clock seconds since the epoch. Every `now` here is
        already moved.
    """

    def __init__(self, offset: float) -> None:
        self._offset = offset
        self._number = 0
        self._rows: Deque[str] = deque(maxlen=ROWS)
        self._records: Deque[Record] = deque(maxlen=RECORDS)
        self._seconds: Dict[int, Second] = {}
        self._gone: Dict[str, Tuple[str, float]] = {}
        self._station: Station = {}
        self._answers: Mapping[str, Tuple[int, int]] = {}

    # ---- what has happened -----------------------------------------------------------------------

    def add(self, noted: Iterable[Noted]) -> str:
        """Take in what was noted; give the message that tells of its outcomes, or nothing."""
        rows = []
        for each in noted:
            if isinstance(each, Seen):
                self._records.append(each.row)
                self._measure(each.row)
                rows.append(self._shown(each.row, each.text))
            elif isinstance(each, Ended):
                self._records += (each.sent, each.end)
                if each.end.status == _NOBODY:
                    rows.append(self._shown(_nobody(each), ""))
            elif isinstance(each, Change):
                self._gone.pop(each.name, None)
                self._gone[each.name] = (each.state, each.seen + self._offset)
                while len(self._gone) > GONE:
                    del self._gone[next(iter(self._gone))]
            else:
                self._records.append(each)
        self._rows += rows
        return f'{{"rows":[{",".join(rows)}]}}' if rows else ""

    def look(self, look: Look, sampled: bool, now: float) -> str:
        """Take in a look at the dispatcher; give the message of what has changed, or nothing."""
        second = self._second(now)
        changed = False
        for name, (answers, bad) in look.answers.items():
            before, bad_before = self._answers.get(name, (0, 0))
            if answers < before:  # another agent of the same name
                before = bad_before = 0
            second.answers += answers - before
            second.bad += bad - bad_before
            changed = changed or answers != before
        self._answers = look.answers
        for name in look.answers:
            self._gone.pop(name, None)
        gone = [[shortened(name, NAME), *how] for name, how in self._gone.items()]
        station = {**look.station, "gone": gone, "sampled": sampled}
        if station.get("state") == STOPPED:  # everybody has left: show who was there
            station.update(_as_last_seen(self._station))
        news = {key: value for key, value in station.items() if self._station.get(key) != value}
        self._station = station
        if not (news or changed):
            return ""
        return _encode({"now": round(now, 3), "station": news, "seconds": self._plotted(now, 2)})

    def snapshot(self, now: float) -> str:
        """Give the message that a page begins with: everything."""
        rest = _encode(
            {
                "now": round(now, 3),
                "station": self._station,
                "seconds": self._plotted(now, SECONDS),
            }
        )
        return f'{rest[:-1]},"rows":[{",".join(self._rows)}]}}'

    def records(self, now: float) -> Tuple[Record, ...]:
        """Give what a trace of the last minute is drawn from."""
        since = now - self._offset - MINUTE
        return tuple(record for record in self._records if _moment(record) >= since)

    # ---- how -------------------------------------------------------------------------------------

    def _measure(self, row: Row) -> None:
        if row.ended is None:
            return
        latencies = self._second(row.seen + self._offset).latencies
        if len(latencies) < LATENCIES:
            latencies.append(row.ended - row.sent)

    def _second(self, now: float) -> Second:
        time = int(now)
        second = self._seconds.get(time)
        if second is None:
            second = self._seconds[time] = Second()
            for old in [each for each in self._seconds if each <= time - SECONDS]:
                del self._seconds[old]
        return second

    def _plotted(self, now: float, count: int) -> List[List[Any]]:
        since = int(now) - count
        return [self._seconds[time].shown(time) for time in sorted(self._seconds) if time > since]

    def _shown(self, row: Row, text: str) -> str:
        self._number += 1
        return _encode(
            [
                self._number,
                shortened(row.topic, NAME),
                shortened(row.producer, NAME),
                row.site,
                row.status,
                text,
                shortened(row.reason, REASON),
                self._moved(row.sent),
                self._moved(row.queued),
                self._moved(row.started),
                self._moved(row.ended),
                self._moved(row.seen),
                row.late,
            ]
        )

    def _moved(self, time: Optional[float]) -> Optional[float]:
        return None if time is None else round(time + self._offset, 6)


def _as_last_seen(station: Station) -> Station:
    kept = {key: station[key] for key in _MEMBERS if key in station}
    for kind in ("producers", "listeners"):
        over = {"state": STOPPED, "depth": 0}
        if kind == "producers":
            over["busy"] = None
        kept[kind] = [{**each, **over} for each in kept.get(kind, ())]
    return {**kept, "gone": station.get("gone", [])}


def _nobody(ended: Ended) -> Row:
    """Describe a request that had nobody to go to like an outcome."""
    sent, end = ended.sent, ended.end
    return Row(
        topic=sent.topic,
        producer="",
        site=None,
        status=_NOBODY,
        reason=ended.reason,
        phase=None,
        since=None,
        sent=sent.sent,
        queued=sent.queued,
        started=None,
        ended=None,
        seen=end.seen,
    )


def _moment(record: Record) -> float:
    return record.queued if isinstance(record, Sent) else record.seen
