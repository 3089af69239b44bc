"""A dispatcher's outcomes as an event stream."""

from __future__ import annotations

import json
import time

import pytest

from ate_dispatcher import InvalidTypeError, TopicFilter
from ate_dispatcher.sse import ChannelFeed, SSEChannel, parse_events


def events_of(stream):
    return [(e.type, json.loads(e.data)) for e in parse_events(b"".join(stream))]


def test_three_lines(dispatcher):
    """Every outcome and every end arrives, as JSON, with the number of its request."""
    dispatcher.producer("v", name="good")(lambda topic, channel: 4.2)
    dispatcher.producer("v", name="bad")(lambda topic, channel: 1 // 0)
    channel = SSEChannel()
    dispatcher.add(ChannelFeed(channel), TopicFilter("#"))
    stream = channel.watch_events()
    began = time.time()
    for _ in range(2):
        assert dispatcher.send_request("v", 3).wait(10, delivered=True)
    assert dispatcher.flush(30)
    channel.close()
    events = events_of(stream)
    assert [kind for kind, _ in events] == ["outcome", "outcome", "end"] * 2
    assert [row["request"] for _, row in events] == [1, 1, 1, 2, 2, 2]
    rows = {row.get("producer", "end"): row for _, row in events[:3]}
    assert (rows["good"]["status"], rows["good"]["value"]) == ("OK", 4.2)
    assert rows["bad"]["status"] == "ERROR"
    assert rows["bad"]["exception"][0] == "ZeroDivisionError"
    assert (rows["end"]["status"], rows["end"]["args"]) == ("COMPLETE", [3])
    assert abs(rows["good"]["ended"] - began) < 5


def test_any_value_goes(dispatcher, caplog):
    """What JSON has no form for is described, and said to be."""
    dispatcher.producer("v")(lambda topic: {1: object(), "nan": float("nan"), "raw": b"\0"})
    channel = SSEChannel()
    dispatcher.add(ChannelFeed(channel), "v")
    stream = channel.watch_events()
    assert dispatcher.send_request("v").wait(10, delivered=True)
    assert dispatcher.flush(30)
    channel.close()
    (_, row), _ = events_of(stream)
    assert row["inexact"] is True
    assert "object object" in json.dumps(row["value"])
    assert caplog.text == ""


def test_a_closed_channel_is_no_error(dispatcher, caplog):
    """The dispatcher goes on without it."""
    dispatcher.producer("v")(lambda topic: 1)
    channel = SSEChannel()
    feed = dispatcher.add(ChannelFeed(channel), "v")
    assert feed.channel is channel
    channel.close()
    assert dispatcher.send_request("v").wait(10, delivered=True)
    assert dispatcher.flush(30)
    assert caplog.text == ""


def test_it_needs_a_channel():
    with pytest.raises(InvalidTypeError, match="a feed needs a channel"):
        ChannelFeed("channel")
