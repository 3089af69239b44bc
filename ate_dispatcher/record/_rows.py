"""Events as rows: the same fields, of JSON values, in every format. A field of None is left out."""

from __future__ import annotations

from math import inf
from typing import Any, Dict, Mapping, Tuple

from .._outcomes import Outcome, OutcomeStatus
from .._request import Request
from ._values import encode, encode_exception

__all__ = ["FIELDS", "Row", "end_row", "gap_row", "outcome_row", "recording_row"]

VERSION = 1

FIELDS = (
    "event",
    "time",
    "request",
    "topic",
    "producer",
    "site",
    "status",
    "value",
    "reason",
    "phase",
    "since",
    "sent",
    "queued",
    "started",
    "ended",
    "streamed",
    "inexact",
    "tags",
    "ttl",
    "args",
    "kwargs",
    "roster",
    "exception",
)
"""Times are seconds since the epoch; what the clock said is moved there by a fixed offset."""

Row = Dict[str, Any]


def recording_row(session: str, part: int, time: float) -> Row:
    """Begin a file, or go on with one: the format, and which recorder writes from here on.

    The number of the part tells a file that begins a recording (0) from one that goes on with it.
    """
    value = {"format": "ate-dispatcher", "version": VERSION, "session": session, "part": part}
    return {"event": "recording", "time": round(time, 6), "value": value}


def outcome_row(outcome: Outcome, request: int, time: float, offset: float) -> Row:
    """Describe one outcome of the request of that number.

    Parameters
    ----------
    time : float
        When it is recorded, in seconds since the epoch.
    offset : float
        What makes a reading of the clock seconds since the epoch.
    """
    address = outcome._address
    row: Row = {
        "event": "outcome",
        "time": round(time, 6),
        "request": request,
        "topic": outcome.topic,
        "producer": address.name,
    }
    if address.site is not None:
        row["site"] = address.site
    status = outcome.status
    row["status"] = status.value
    value, exact = encode(outcome.value)
    if value is not None:
        row["value"] = value
    row["sent"] = round(outcome.sent + offset, 6)
    row["queued"] = round(outcome.queued + offset, 6)
    if outcome.started is not None:
        row["started"] = round(outcome.started + offset, 6)
    if outcome.ended is not None:
        row["ended"] = round(outcome.ended + offset, 6)
    if status is not OutcomeStatus.OK:
        if outcome.reason:
            row["reason"] = outcome.reason
        if outcome.phase is not None:
            row["phase"] = outcome.phase.value
        if outcome.since is not None:
            row["since"] = round(outcome.since + offset, 6)
        if outcome.exception is not None:
            row["exception"] = encode_exception(outcome.exception)
    if outcome.streamed:
        row["streamed"] = True
    if outcome.tags:
        row["tags"], well = encode(dict(outcome.tags))
        exact = exact and well
    if not exact:
        row["inexact"] = True
    return row


def end_row(request: Request, number: int, time: float, offset: float) -> Row:
    """Describe the end of a request."""
    row: Row = {
        "event": "end",
        "time": round(time, 6),
        "request": number,
        "topic": request.topic,
        "status": request.status.value,
        "sent": round(request.sent + offset, 6),
        "queued": round(request.queued + offset, 6),
        "roster": [[address.name, address.site] for address in request._roster],
    }
    if request.reason:
        row["reason"] = request.reason
    if request.ttl != inf:
        row["ttl"] = request.ttl
    parts = (("args", list(request.args)), ("kwargs", dict(request.kwargs)))
    for name, part in (*parts, ("tags", dict(request.tags))):
        if part:
            row[name], exact = encode(part)
            if not exact:
                row["inexact"] = True
    return row


def gap_row(reason: str, missing: Mapping[Tuple[str, str], int], time: float) -> Row:
    """Say what was not written: how many events, and of whom (an end has no producer)."""
    lost = [[topic, producer, count] for (topic, producer), count in missing.items()]
    return {"event": "gap", "time": round(time, 6), "value": lost, "reason": reason}
