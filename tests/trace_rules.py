"""The rules of Chrome's trace format, for whatever test has a trace at hand."""

from __future__ import annotations

import json
from collections import defaultdict

REQUIRED = {
    "X": {"name", "ts", "dur", "pid", "tid"},
    "M": {"name", "pid", "args"},
    "b": {"name", "cat", "id", "ts", "pid"},
    "e": {"name", "cat", "id", "ts", "pid"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
    "i": {"name", "ts", "pid", "tid", "s"},
}


def validated(trace):
    """Hold a trace against the rules of Chrome's format, give its events.

    Known phases with their fields; numbers that JSON has; in order of time; what begins ends, once
    and not before; bars of one lane apart or nested; arrows from a bar to a bar, forward; every
    lane named.
    """
    trace = json.loads(json.dumps(trace, allow_nan=False))
    events = trace["traceEvents"]
    timed = [event for event in events if event["ph"] != "M"]
    for event in events:
        assert event["ph"] in REQUIRED, event
        assert REQUIRED[event["ph"]] <= event.keys(), event
    for event in timed:
        assert event["ts"] >= 0, event
        assert event.get("dur", 0) >= 0, event
    assert [e["ts"] for e in timed] == sorted(e["ts"] for e in timed)
    _check_lanes(events, timed)
    _check_pairs(timed)
    _check_arrows(timed)
    return events


def nanoseconds(microseconds):
    return round(microseconds * 1000)


def span(event):
    return nanoseconds(event["ts"]), nanoseconds(event["ts"]) + nanoseconds(event["dur"])


def _check_lanes(events, timed):
    names = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert {(e["pid"], e["tid"]) for e in timed} <= names
    lanes = defaultdict(list)
    for event in timed:
        if event["ph"] == "X":
            lanes[event["pid"], event["tid"]].append(span(event))
    for bars in lanes.values():
        open_bars = []
        for begin, end in bars:
            while open_bars and open_bars[-1] <= begin:
                open_bars.pop()
            assert not open_bars or end <= open_bars[-1], "bars lie across each other"
            open_bars.append(end)


def _check_pairs(timed):
    begun = set()
    for event in timed:
        if event["ph"] in "be":
            key = event["cat"], event["id"], event["name"], event["pid"]
            if event["ph"] == "b":
                assert key not in begun, f"begun twice: {event}"
                begun.add(key)
            else:
                assert key in begun, f"ended without having begun: {event}"
                begun.remove(key)
    assert not begun, f"never ended: {begun}"


def _check_arrows(timed):
    bars = defaultdict(list)
    for event in timed:
        if event["ph"] == "X":
            bars[event["tid"]].append(span(event))

    def in_a_bar(event):
        at = nanoseconds(event["ts"])
        return any(begin <= at <= end for begin, end in bars[event["tid"]])

    starts = {}
    for event in timed:
        if event["ph"] == "s":
            assert event["id"] not in starts
            starts[event["id"]] = event
    ends = [event for event in timed if event["ph"] == "f"]
    assert sorted(e["id"] for e in ends) == sorted(starts)
    for end in ends:
        assert starts[end["id"]]["ts"] <= end["ts"]
        assert in_a_bar(starts[end["id"]])
        assert in_a_bar(end)
