"""The defects of eric-sse that FEATURES.md lists, one test each: none of them may return."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time

import pytest

from ate_dispatcher import InvalidArgumentError
from ate_dispatcher._codec import decode
from ate_dispatcher.control import SocketServer
from ate_dispatcher.sse import (
    ConnectionsFactory,
    Message,
    SimpleDistributedApplicationListener,
    SSEChannel,
    SSEChannelRepository,
    parse_events,
)

BOUND = 20.0


@pytest.fixture
def ask():
    """Send bytes to a server; give what it answers."""
    folder = tempfile.mkdtemp(prefix="ate")
    path = os.path.join(folder, "bench.sock")

    def exchange(data):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(BOUND)
            client.connect(path)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as file:
                return file.read()

    with SocketServer(path):
        yield exchange
    shutil.rmtree(folder)


def test_polling_at_100_percent():
    """Streams that wait use no CPU: ten of them, next to nothing of a second."""
    channel = SSEChannel()
    streams = [channel.message_stream(channel.add_listener()) for _ in range(5)]
    streams += [channel.watch_events() for _ in range(5)]
    readers = [threading.Thread(target=lambda own=own: list(own)) for own in streams]
    for reader in readers:
        reader.start()
    begin, used = time.monotonic(), time.process_time()
    threading.Event().wait(1.0)
    used, waited = time.process_time() - used, time.monotonic() - begin
    channel.close()
    for reader in readers:
        reader.join(BOUND)
    assert used < waited / 5


def test_a_removed_listener_floods_its_stream_with_errors():
    """It ends, once, without any."""
    channel = SSEChannel()
    listener = channel.add_listener()
    with channel.message_stream(listener) as stream:
        channel.broadcast(Message("m", 1))
        assert next(stream)["data"] == 1
        channel.remove_listener(listener.id)
        assert list(stream) == []
        assert stream.reason == "the listener was removed"


def test_no_id_no_keep_alive_no_replay():
    """Each event has an id, a quiet stream says something, and what was missed is given again."""
    channel = SSEChannel()
    with channel.watch_events(keep_alive_seconds=0.01) as stream:
        assert next(stream).startswith(b"id: ")
        assert next(stream) == b":\n\n"
        channel.broadcast(Message("m", 1))
        piece = next(stream)
        while piece == b":\n\n":
            piece = next(stream)
        (event,) = parse_events(piece)
    channel.broadcast(Message("m", 2))
    channel.close()
    with channel.watch_events(event.id) as again:
        assert [missed.data for missed in parse_events(b"".join(again))] == ["2"]


def test_unbounded_abandoned_queues():
    """What nobody reads gives way to what is newer, and is counted."""
    channel = SSEChannel(connections_factory=ConnectionsFactory(10))
    channel.add_listener()
    for number in range(1000):
        channel.broadcast(Message("m", number))
    statistics = channel.statistics()
    assert (statistics.waiting, statistics.lost) == (10, 990)


@pytest.mark.parametrize("data", [b"nonsense", b'{"v": "r", "c": "none"}', b"[]", b"\xff"])
def test_error_replies_that_are_bare_repr_text(ask, data):
    """They are JSON objects that say of what type the error is, and what is wrong."""
    error = decode(ask(data))["error"]
    assert set(error) == {"type", "message"}
    assert error["type"].endswith("Error")
    assert error["message"]


def test_an_empty_reply_to_an_unknown_verb(ask):
    """It is an error like any other, and names the verbs."""
    error = decode(ask(b'{"v": "nothing"}'))["error"]
    assert error["type"] == "InvalidArgumentError"
    assert "'nothing' is none of d, b, c, r, l, w, rl, rc" in error["message"]


@pytest.mark.parametrize("name", ["start", "stop"])
def test_reserved_action_names_are_silently_overridden(name):
    """They are refused, at the call."""
    with pytest.raises(InvalidArgumentError, match=f"'{name}' is reserved"):
        SimpleDistributedApplicationListener().set_action(name, lambda msg: None)


def test_the_repository_mixes_channels_1_and_10():
    """What one has is not the other's, and goes alone."""
    repository = SSEChannelRepository()
    one, ten = (repository.create({"channel_id": name}) for name in ("1", "10"))
    one.add_listener()
    theirs = ten.add_listener()
    ten.broadcast(Message("m", 10))
    repository.delete("1")
    again = SSEChannelRepository(repository._storage)
    assert again.get_all_ids() == ("10",)
    channel = again.load("10")
    assert channel.get_listeners_ids() == (theirs.id,)
    with channel.message_stream(theirs.id) as stream:
        assert next(stream)["data"] == 10
