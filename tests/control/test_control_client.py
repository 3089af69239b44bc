"""SocketClient and its streams."""

from __future__ import annotations

import json
import threading

import pytest
from control_work import BOUND, until

from ate_dispatcher import (
    ControlConnectionError,
    InvalidArgumentError,
    InvalidTypeError,
    NotJSONError,
    OverloadedError,
    PayloadTooLargeError,
    StateError,
    UnknownIdError,
)
from ate_dispatcher.control import ControlStream, SocketClient, SocketServer
from ate_dispatcher.sse import Message


def test_the_documented_methods(server, client):
    """In the order in which a script would use them."""
    channel = client.create_channel()
    first, second = client.register(channel), client.register(channel)
    client.dispatch(channel, first, "mine", {"volts": 5.01})
    client.broadcast_message(channel, "all", "done")
    client.broadcast_message(channel, "_closed", None)
    with client.stream(channel, first) as stream:
        texts = list(stream)
    assert [json.loads(text) for text in texts] == [
        {"event": "mine", "retry": 5, "data": {"volts": 5.01}},
        {"event": "all", "retry": 5, "data": "done"},
    ]
    assert all(isinstance(text, str) for text in texts)
    assert stream.reason == "'_closed' has come"
    assert "ended: '_closed' has come" in repr(stream)
    client.remove_listener(channel, second)
    with pytest.raises(UnknownIdError, match=f"has no listener '{second}'"):
        client.dispatch(channel, second, "m", 1)
    client.remove_channel(channel)
    with pytest.raises(UnknownIdError, match=f"there is no channel '{channel}'"):
        client.register(channel)
    assert client.send_payload({"v": "c", "c": "bench"}) == "bench"
    assert server.container.get_all_ids() == ("bench",)


@pytest.mark.parametrize("payload", [0, "", None, [], {}, False, "two\nlines", 1.5, {"a": [None]}])
def test_payloads_arrive_as_they_went(client, payload):
    """Falsy ones too."""
    channel = client.create_channel()
    listener = client.register(channel)
    client.dispatch(channel, listener, "m", payload)
    with client.stream(channel, listener) as stream:
        assert json.loads(next(stream))["data"] == payload


def test_watch(client):
    """Beyond the document: the stream of a whole channel."""
    channel = client.create_channel()
    listener = client.register(channel)
    with client.watch(channel) as stream:
        client.dispatch(channel, listener, "m", 1)
        assert json.loads(next(stream))["data"] == 1


def test_errors_are_the_librarys_own(client):
    """Caught as if the channel were here; what cannot be sent is told before it is."""
    with pytest.raises(UnknownIdError, match="there is no channel 'x'") as caught:
        client.remove_channel("x")
    assert isinstance(caught.value, LookupError)
    with pytest.raises(NotJSONError, match="set"):
        client.broadcast_message("x", "m", {1})
    with pytest.raises(InvalidTypeError, match="'c' must be a string"):
        client.register(7)
    with pytest.raises(InvalidArgumentError, match="the verb 'x' is none of"):
        client.send_payload({"v": "x"})
    with pytest.raises(InvalidTypeError, match="a payload must be a mapping"):
        client.send_payload("c")
    with pytest.raises(PayloadTooLargeError, match="more than 1048576 bytes"):
        client.broadcast_message("x", "m", "x" * 3_000_000)
    with pytest.raises(StateError, match="no dispatcher"):
        client.statistics()


def test_a_payload_that_opens_a_stream_is_refused(server, client):
    """There are methods for these; the stream is closed again."""
    channel = client.create_channel()
    with pytest.raises(
        InvalidArgumentError, match=r"'w' opens a stream: use stream\(\), watch\(\)"
    ):
        client.send_payload({"v": "w", "c": channel})
    until(lambda: server.streams == 0)


def test_closing_wakes_who_reads(server, client):
    """From another thread; it ends without an error, and the server notices."""
    channel = client.create_channel()
    stream = client.watch(channel)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(list(stream)))
    thread.start()
    until(lambda: stream._conversation._hearing)
    stream.close()
    stream.close()
    thread.join(BOUND)
    assert ended == [[]]
    assert list(stream) == []
    until(lambda: server.streams == 0)


def test_an_interrupt_goes_through_a_stream_that_was_closed():
    """Ctrl-C is no end of a stream, whoever has closed that meanwhile."""

    class Conversation:
        def hear(self, timeout):
            stream.close()
            raise KeyboardInterrupt

        def close(self):
            pass

    stream = ControlStream(Conversation(), str)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert list(stream) == []


def test_a_listener_that_was_removed_is_unknown_from_then_on(client):
    """A stream of it ends once; opening another is an error (eric-sse floods it for ever)."""
    channel = client.create_channel()
    listener = client.register(channel)
    with client.stream(channel, listener) as stream:
        client.remove_listener(channel, listener)
        assert list(stream) == []
        assert stream.reason == "the listener was removed"
    with pytest.raises(UnknownIdError):
        client.stream(channel, listener)


def test_the_shutdown_of_the_server_ends_a_stream(server, client):
    """As an end with its reason, not as an error."""
    stream = client.watch(client.create_channel())
    assert server.shutdown(BOUND)
    assert list(stream) == []
    assert stream.reason == "the server was shut down"


def test_a_server_that_is_lost_is_an_error(server, client):
    """A stream that just stops has not ended."""
    stream = client.watch(client.create_channel())
    until(lambda: server.clients == 1)
    (thread,) = server._clients
    with thread._lock:
        thread._socket.shutdown(2)
    with pytest.raises(ControlConnectionError, match="was lost: it hung up"):
        next(stream)
    assert list(stream) == []


def test_one_client_in_many_threads(server, client):
    """Each command has a connection of its own."""
    channel = client.create_channel()
    listener = client.register(channel)

    def work(number):
        for count in range(25):
            client.dispatch(channel, listener, "m", [number, count])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with client.stream(channel, listener) as stream:
        got = [json.loads(next(stream))["data"] for _ in range(100)]
    assert sorted(got) == [[number, count] for number in range(4) for count in range(25)]
    assert [count for number, count in got if number == 0] == list(range(25))


def test_a_reader_that_is_too_slow_is_told_so(path):
    """Its stream ends with an error that says so, after what waited for it."""
    with SocketServer(path) as server:
        client = SocketClient(path)
        channel = client.create_channel()
        stream = client.watch(channel)
        sender = server.container.get(channel)
        for _ in range(2000):
            sender.broadcast(Message("m", "x" * 1000))
        got = []
        with pytest.raises(OverloadedError, match="1000 messages behind"):
            got.extend(message for message in stream)
        assert 1000 <= len(got) < 2000


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), "1", None, True])
def test_a_timeout_that_cannot_be(path, timeout):
    with pytest.raises((InvalidArgumentError, InvalidTypeError), match="timeout must be"):
        SocketClient(path, timeout=timeout)
