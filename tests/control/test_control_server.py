"""The documented verbs, spoken by a client of a few lines, and what else goes on at a server."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

import pytest
from control_work import BOUND, Plain, descriptors, until

from ate_dispatcher import InvalidArgumentError, InvalidTypeError, StateError
from ate_dispatcher.control import SocketServer
from ate_dispatcher.control._place import Place
from ate_dispatcher.sse import (
    ChannelContainer,
    ConnectionsFactory,
    DataProcessingChannel,
    Message,
    SSEChannel,
)

# ---- verbs ---------------------------------------------------------------------------------------


def test_the_documented_verbs(plain):
    """c, r, d, b, l, rl, rc, as the document lists them, over plain socket code."""
    channel = plain.result({"v": "c"})
    listener = plain.result({"v": "r", "c": channel})
    other = plain.result({"v": "r", "c": channel})
    assert listener != other
    assert (
        plain.result({"v": "d", "c": channel, "r": listener, "t": "mine", "p": {"a": [1]}}) is None
    )
    assert plain.result({"v": "b", "c": channel, "t": "all", "p": "text"}) is None
    assert plain.result({"v": "b", "c": channel, "t": "_closed"}) is None
    assert plain.ask({"v": "l", "c": channel, "r": listener}) == {"stream": "open"}
    assert plain.hear() == {"message": {"event": "mine", "retry": 5, "data": {"a": [1]}}}
    assert plain.hear() == {"message": {"event": "all", "retry": 5, "data": "text"}}
    assert plain.hear() == {"end": "'_closed' has come"}
    assert plain.result({"v": "rl", "c": channel, "r": listener}) is None
    assert plain.ask({"v": "l", "c": channel, "r": listener})["error"]["type"] == "UnknownIdError"
    assert plain.result({"v": "rc", "c": channel}) is None
    assert plain.ask({"v": "r", "c": channel})["error"] == {
        "type": "UnknownIdError",
        "message": f"there is no channel {channel!r}",
    }


def test_watch_gives_everything_from_then_on(server, plain):
    """w: what goes to one listener and to all, sent by another client."""
    channel = plain.result({"v": "c"})
    listener = plain.result({"v": "r", "c": channel})
    plain.result({"v": "b", "c": channel, "t": "before"})
    with Plain(server.path) as watcher:
        assert watcher.ask({"v": "w", "c": channel}) == {"stream": "open"}
        plain.result({"v": "d", "c": channel, "r": listener, "t": "one", "p": 0})
        plain.result({"v": "b", "c": channel, "t": "all", "p": None})
        assert watcher.hear()["message"]["event"] == "one"
        assert watcher.hear()["message"] == {"event": "all", "retry": 5, "data": None}


def test_a_command_may_end_with_the_input(server):
    """No newline, as clients do that send one object and shut down their side: streams too."""
    with Plain(server.path) as client:
        channel = client.result({"v": "c", "c": "bench"})
    with Plain(server.path) as client:
        client.raw(b'{"v": "r", "c": "bench"}')
        client.socket.shutdown(socket.SHUT_WR)
        listener = client.hear()["result"]
        assert client.hear() is None
    with Plain(server.path) as reader, Plain(server.path) as sender:
        reader.raw(json.dumps({"v": "l", "c": channel, "r": listener}).encode())
        reader.socket.shutdown(socket.SHUT_WR)  # it is not gone
        assert reader.hear() == {"stream": "open"}
        for number in range(3):
            sender.result({"v": "b", "c": channel, "t": "m", "p": number})
            assert reader.hear()["message"]["data"] == number
        sender.result({"v": "rc", "c": channel})
        assert reader.hear() == {"end": "the channel was closed"}
        assert reader.hear() is None


def test_commands_in_one_piece_are_answered_in_their_order(plain):
    """Blank lines between them are skipped."""
    plain.raw(b'{"v": "c", "c": "a"}\n\r\n\n{"v": "c", "c": "b"}\n{"v": "c", "c": "a"}\n')
    assert plain.hear() == {"result": "a"}
    assert plain.hear() == {"result": "b"}
    assert plain.hear()["error"]["type"] == "NameTakenError"


def test_a_command_in_single_bytes(plain):
    """However it is cut on its way, and whatever is in it."""
    for byte in '{"v": "c", "c": "Prüfplatz ☃"}\n'.encode():
        plain.raw(bytes([byte]))
    assert plain.hear() == {"result": "Prüfplatz ☃"}


def test_channels_of_the_script_itself(path):
    """A container that is shared: what the script sends, clients get, and the other way round."""
    container, channel = ChannelContainer(), SSEChannel(channel_id="mine")
    container.register(channel)
    with SocketServer(path, container=container) as server, Plain(path) as client:
        assert server.container is container
        assert client.ask({"v": "w", "c": "mine"}) == {"stream": "open"}
        channel.broadcast(Message("m", 1))
        assert client.hear()["message"]["data"] == 1
    assert not channel.closed


class Picky(DataProcessingChannel):
    def adapt(self, msg):
        if msg.type == "set":
            return {1, 2}
        return 1 // msg.payload


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [("set", 1, "NotJSONError"), ("m", 0, "ZeroDivisionError")],
)
def test_a_channel_whose_adapt_fails(path, kind, payload, error, caplog):
    """Its client is told, by an error that ends the stream, and can go on with commands."""
    container, channel = ChannelContainer(), Picky(1)
    container.register(channel)
    with SocketServer(path, container=container) as server, Plain(path) as client:
        assert client.ask({"v": "w", "c": channel.id}) == {"stream": "open"}
        channel.broadcast(Message("m", 1))
        assert client.hear() == {"message": 1}
        channel.broadcast(Message(kind, payload))
        assert client.hear()["error"]["type"] == error
        assert client.result({"v": "ping"}) is None
        assert (server.streams, channel.statistics().watchers) == (0, 0)


# ---- clients that come and go --------------------------------------------------------------------


def test_a_client_that_has_gone_is_noticed_at_once(server, plain):
    """By its closed socket, long before the next keep-alive; nothing of its stream is left."""
    channel = plain.result({"v": "c"})
    with Plain(server.path) as watcher:
        watcher.ask({"v": "w", "c": channel})
        assert server.container.get(channel).statistics().watchers == 1
    until(lambda: server.streams == 0)
    until(lambda: server.clients == 1)
    assert server.container.get(channel).statistics().watchers == 0
    assert plain.result({"v": "ping"}) is None


@pytest.mark.parametrize("sees", [True, False])
def test_a_client_that_has_gone_is_noticed_by_the_keep_alive(path, sees, monkeypatch):
    """Where the platform does not tell; a client that is there gets an empty object."""
    monkeypatch.setattr("ate_dispatcher.control._watch.SEES_THE_GONE", sees)
    with SocketServer(path, keep_alive_seconds=0.05) as server, Plain(path) as client:
        channel = client.result({"v": "c"})
        with Plain(path) as watcher:
            watcher.ask({"v": "w", "c": channel})
            assert watcher.hear() == {}
            assert watcher.hear() == {}
        until(lambda: server.streams == 0)


def test_what_a_gone_client_did_not_read_stays_with_its_listener(server, plain):
    """The next stream of the listener has it."""
    channel = plain.result({"v": "c"})
    listener = plain.result({"v": "r", "c": channel})
    with Plain(server.path) as reader:
        reader.ask({"v": "l", "c": channel, "r": listener})
    until(lambda: server.streams == 0)
    plain.result({"v": "b", "c": channel, "t": "m", "p": 1})
    plain.ask({"v": "l", "c": channel, "r": listener})
    assert plain.hear()["message"]["data"] == 1


def test_a_channel_removed_while_streamed(server, plain):
    """Its streams end, each client may go on."""
    channel = plain.result({"v": "c"})
    listener = plain.result({"v": "r", "c": channel})
    with Plain(server.path) as reader, Plain(server.path) as watcher:
        reader.ask({"v": "l", "c": channel, "r": listener})
        watcher.ask({"v": "w", "c": channel})
        plain.result({"v": "b", "c": channel, "t": "m"})
        plain.result({"v": "rc", "c": channel})
        for client in (reader, watcher):
            assert client.hear()["message"]["event"] == "m"
            assert client.hear() == {"end": "the channel was closed"}
            assert client.result({"v": "ping"}) is None
    assert plain.ask({"v": "w", "c": channel})["error"]["type"] == "UnknownIdError"


def test_a_listener_removed_while_streamed(server, plain):
    """Its stream ends once, without an error (eric-sse floods it with errors for ever)."""
    channel = plain.result({"v": "c"})
    listener = plain.result({"v": "r", "c": channel})
    with Plain(server.path) as reader:
        reader.ask({"v": "l", "c": channel, "r": listener})
        plain.result({"v": "rl", "c": channel, "r": listener})
        assert reader.hear() == {"end": "the listener was removed"}
        assert reader.result({"v": "ping"}) is None


def test_a_second_stream_of_a_listener_takes_over(server, plain):
    """The first is told why it has ended."""
    channel = plain.result({"v": "c"})
    listener = plain.result({"v": "r", "c": channel})
    with Plain(server.path) as first:
        first.ask({"v": "l", "c": channel, "r": listener})
        plain.ask({"v": "l", "c": channel, "r": listener})
        assert first.hear() == {"end": "another stream was opened for the listener"}


def test_a_client_that_stalls_disturbs_nobody(path):
    """It is cut off, and all of it let go of; the others miss nothing, memory stays bounded."""
    container = ChannelContainer()
    channel = SSEChannel(channel_id="c", connections_factory=ConnectionsFactory(50))
    container.register(channel)
    text = "x" * 20_000
    server = SocketServer(path, container=container, stall_seconds=0.5)
    with server, Plain(path) as stalled, Plain(path) as good:
        stalled.ask({"v": "w", "c": "c"})
        good.ask({"v": "w", "c": "c"})
        for _ in range(200):
            channel.broadcast(Message("m", text))
            assert good.hear()["message"]["data"] == text
        assert channel.statistics().waiting <= 50
        until(lambda: server.clients == 1, "the stalled client's end")
        assert (server.streams, channel.statistics().watchers) == (1, 1)
        channel.broadcast(Message("m", "last"))
        assert good.hear()["message"]["data"] == "last"


def test_a_hundred_idle_clients(server, plain):
    """They cost nothing but their threads, which go with them."""
    assert plain.result({"v": "ping"}) is None  # our own thread is there
    threads, open_files = threading.active_count(), descriptors()
    idle = [Plain(server.path) for _ in range(100)]
    until(lambda: server.clients == 101)
    assert plain.result({"v": "c", "c": "still"}) == "still"
    half = idle[::2]
    for client in half:
        client.ask({"v": "w", "c": "still"})
    assert server.streams == 50
    plain.result({"v": "b", "c": "still", "t": "m", "p": 5})
    assert [client.hear()["message"]["data"] for client in half] == [5] * 50
    for client in idle:
        client.close()
    until(lambda: server.clients == 1)
    until(lambda: threading.active_count() == threads)
    until(lambda: descriptors() == open_files)
    assert server.streams == 0
    assert server.container.get("still").statistics().watchers == 0


def test_too_many_clients_are_told_so(path):
    """Who is there already is not disturbed, and a place that gets free is given away."""
    with SocketServer(path, max_clients=2) as server, Plain(path) as first:
        with Plain(path) as second, Plain(path) as third:
            assert second.result({"v": "ping"}) is None
            until(lambda: server.clients == 2)
            assert third.hear()["error"] == {
                "type": "ControlConnectionError",
                "message": "2 clients are connected, which are as many as may be",
            }
            assert third.hear() is None
            assert first.result({"v": "ping"}) is None
        until(lambda: server.clients == 1)
        with Plain(path) as fourth:
            assert fourth.result({"v": "ping"}) is None


def test_too_many_streams_are_told_so(path):
    """An error for the command; the client may go on, and try again."""
    with SocketServer(path, max_streams=1) as server, Plain(path) as first, Plain(path) as second:
        first.result({"v": "c", "c": "c"})
        first.ask({"v": "w", "c": "c"})
        error = second.ask({"v": "w", "c": "c"})["error"]
        assert error["type"] == "ControlConnectionError"
        assert "1 streams are open" in error["message"]
        second.result({"v": "b", "c": "c", "t": "_closed"})
        assert first.hear() == {"end": "'_closed' has come"}
        until(lambda: server.streams == 0)
        assert second.ask({"v": "w", "c": "c"}) == {"stream": "open"}


def test_too_many_channels_are_told_so(path):
    """Whoever created them; what is there works on, and a place that gets free is given away."""
    container = ChannelContainer()
    container.register(SSEChannel(channel_id="script"))
    with SocketServer(path, container=container, max_channels=2), Plain(path) as client:
        assert client.result({"v": "c", "c": "a"}) == "a"
        for _ in range(2):
            assert client.ask({"v": "c", "c": "b"})["error"] == {
                "type": "StateError",
                "message": "there are 2 channels, 2 may be: remove some first",
            }
        assert container.get_all_ids() == ("script", "a")
        client.result({"v": "rc", "c": "a"})
        assert client.result({"v": "c", "c": "b"}) == "b"
        container.register(SSEChannel(channel_id="more"))  # the script itself is free


def test_too_many_listeners_are_told_so(path):
    """Those of all channels are counted together."""
    with SocketServer(path, max_listeners=2) as server, Plain(path) as client:
        first, second = (client.result({"v": "c"}) for _ in range(2))
        listener = client.result({"v": "r", "c": first})
        client.result({"v": "r", "c": second})
        for channel in (first, second):
            assert client.ask({"v": "r", "c": channel})["error"] == {
                "type": "StateError",
                "message": "there are 2 listeners, 2 may be: remove some first",
            }
        assert len(server.container.get(first).get_listeners_ids()) == 1
        client.result({"v": "rl", "c": first, "r": listener})
        client.result({"v": "r", "c": second})
        client.result({"v": "rc", "c": second})  # and its listeners with it
        client.result({"v": "r", "c": first})
        client.result({"v": "r", "c": first})


def test_clients_cannot_pass_a_limit_together(path, gate, monkeypatch):
    """Counting and adding are one step: the second waits until the first is there."""
    container = ChannelContainer()
    register = container.register

    def slow(channel):
        gate.park()
        register(channel)

    monkeypatch.setattr(container, "register", slow)
    server = SocketServer(path, container=container, max_channels=1)
    with server, Plain(path) as first, Plain(path) as second:
        first.say({"v": "c", "c": "a"})
        gate.wait_parked()
        assert server._verbs._adding.locked()
        second.say({"v": "c", "c": "b"})
        gate.open()
        asked = [first.hear(), second.hear()]
        assert asked[0] == {"result": "a"}
        assert asked[1]["error"]["type"] == "StateError"


def test_an_idle_stream_uses_no_cpu(server, plain):
    """Nobody polls (eric-sse uses a whole core for each stream)."""
    channel = plain.result({"v": "c"})
    clients = [Plain(server.path) for _ in range(10)]
    for client in clients:
        client.ask({"v": "w", "c": channel})
    begin, used = time.monotonic(), time.process_time()
    threading.Event().wait(1.0)
    used = time.process_time() - used
    waited = time.monotonic() - begin
    for client in clients:
        client.close()
    assert used < waited / 5


def test_many_clients_at_once(server):
    """Each gets its own answers, and every message in the order in which it was accepted."""
    results = []

    def work(name):
        with Plain(server.path) as commands, Plain(server.path) as reader:
            commands.result({"v": "c", "c": name})
            listener = commands.result({"v": "r", "c": name})
            reader.ask({"v": "l", "c": name, "r": listener})
            for number in range(100):
                commands.result({"v": "d", "c": name, "r": listener, "t": name, "p": number})
            got = [reader.hear()["message"] for _ in range(100)]
        results.append([m["data"] for m in got] == list(range(100)) and got[0]["event"] == name)

    threads = [threading.Thread(target=work, args=(f"c{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [True] * 8


# ---- the end -------------------------------------------------------------------------------------


def test_shutdown_with_streams_open(path):
    """Streams are told, idle clients hung up on; threads, descriptors and the path are gone."""
    threads = threading.active_count()
    server = SocketServer(path)
    server.open()
    with Plain(path) as idle, Plain(path) as reader, Plain(path) as watcher:
        idle.result({"v": "c", "c": "c"})
        reader.ask({"v": "l", "c": "c", "r": idle.result({"v": "r", "c": "c"})})
        watcher.ask({"v": "w", "c": "c"})
        idle.result({"v": "b", "c": "c", "t": "m", "p": 1})
        assert reader.hear()["message"]["data"] == 1
        assert watcher.hear()["message"]["data"] == 1
        assert server.shutdown(BOUND) is True
        for client in (reader, watcher):
            assert client.hear() == {"end": "the server was shut down"}
            assert client.hear() is None
        assert idle.hear() is None
        assert threading.active_count() == threads
        assert (server.clients, server.streams) == (0, 0)
        with pytest.raises(FileNotFoundError):
            Plain(path)
    assert server.shutdown() is True
    assert "ended" in repr(server)
    with pytest.raises(StateError, match="serves once"):
        server.open()


def test_a_shutdown_is_no_end_of_input(path):
    """A command whose sender has not ended it is not done because the server ends."""
    with SocketServer(path) as server, Plain(path) as plain:
        plain.raw(b'{"v": "c", "c": "late"}')
        until(lambda: any(client._lines._buffer for client in tuple(server._clients)))
        assert server.shutdown(BOUND)
        assert server.container.get_all_ids() == ()
        assert plain.hear() is None


def test_shutdown_cuts_off_who_does_not_listen(path):
    """A client that takes nothing any more is not waited for longer than was said."""
    with SocketServer(path, stall_seconds=60) as server, Plain(path) as stalled:
        stalled.result({"v": "c", "c": "c"})
        stalled.ask({"v": "w", "c": "c"})
        channel = server.container.get("c")
        for _ in range(50):
            channel.broadcast(Message("m", "x" * 50_000))
        assert server.shutdown(0.1) is True
        assert channel.statistics().watchers == 0


def test_shutdown_from_a_thread_of_the_server_only_begins(path):
    """As a channel's own code may do; it would wait for itself."""
    ended = []

    class Ends(DataProcessingChannel):
        def adapt(self, msg):
            ended.append(server.shutdown())
            return "last"

    container, channel = ChannelContainer(), Ends(1)
    container.register(channel)
    with SocketServer(path, container=container) as server, Plain(path) as client:
        client.ask({"v": "w", "c": channel.id})
        channel.broadcast(Message("m"))
        assert client.hear() == {"message": "last"}
        assert client.hear() == {"end": "the server was shut down"}
    assert ended == [False]


def test_main_serves_until_shutdown(path):
    """The documented form: it returns when somebody shuts down."""
    server = SocketServer(path)
    thread = threading.Thread(target=server.main)
    thread.start()
    until(lambda: server._door is not None)
    with Plain(path) as client:
        assert client.result({"v": "ping"}) is None
    assert server.shutdown(BOUND)
    thread.join(BOUND)
    assert not thread.is_alive()


@pytest.mark.parametrize("fails", [False, True])
def test_a_shutdown_while_it_begins_is_waited_for(path, gate, monkeypatch, fails):
    """When it returns nothing is there any more, whether the beginning went well or not."""
    take = Place.take

    def slow(place):
        gate.park()
        if fails:
            raise PermissionError(place.path)
        return take(place)

    monkeypatch.setattr(Place, "take", slow)
    server, ended = SocketServer(path), []

    def main():
        try:
            server.main()
        except PermissionError as error:
            ended.append(error)

    def stop():
        ended.append((server.shutdown(BOUND), os.path.lexists(path)))

    threads = [threading.Thread(target=main), threading.Thread(target=stop)]
    threads[0].start()
    gate.wait_parked()
    threads[1].start()
    until(lambda: server._stopping)
    gate.open()
    for thread in threads:
        thread.join(BOUND)
    assert (True, False) in ended
    assert len(ended) == 1 + fails


def test_a_server_that_was_shut_down_before_it_began(path):
    """It never will serve; nobody waits."""
    server = SocketServer(path)
    assert server.shutdown() is True
    with pytest.raises(StateError):
        server.main()


def test_the_shortcut_ends_with_the_verb_stop(path):
    """SocketServer.start: a server of channels, which has no dispatcher to stop."""
    thread = threading.Thread(target=SocketServer.start, args=(path,))
    thread.start()

    def there():
        try:
            return Plain(path)
        except OSError:
            return None

    clients = []
    until(lambda: clients.append(there()) or clients[-1])
    with clients[-1] as client:
        assert client.result({"v": "stop"}) is None
        assert client.hear() is None
    thread.join(BOUND)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"container": []}, InvalidTypeError, "container must be a ChannelContainer"),
        ({"dispatcher": 1}, InvalidTypeError, "dispatcher must be an ATEDispatcher"),
        ({"transport": "udp"}, InvalidArgumentError, "one of unix, tcp, not 'udp'"),
        ({"max_line": 0}, InvalidArgumentError, "max_line must be at least 1"),
        ({"max_streams": "1"}, InvalidTypeError, "max_streams must be a whole number"),
        ({"max_clients": True}, InvalidTypeError, "max_clients must be a whole number"),
        ({"max_channels": 0}, InvalidArgumentError, "max_channels must be at least 1"),
        ({"max_listeners": 1.5}, InvalidTypeError, "max_listeners must be a whole number"),
        (
            {"keep_alive_seconds": 0},
            InvalidArgumentError,
            "keep_alive_seconds must be a time above",
        ),
        ({"stall_seconds": float("inf")}, InvalidArgumentError, "stall_seconds must be a time"),
        ({"stall_seconds": "1"}, InvalidTypeError, "stall_seconds must be a number"),
    ],
)
def test_a_server_that_cannot_be_meant(options, error, says):
    with pytest.raises(error, match=says):
        SocketServer("/tmp/x.sock", **options)


@pytest.mark.parametrize("path", [None, 5, b"/tmp/x", "", "a\0b"])
def test_a_path_that_is_none(path):
    with pytest.raises((InvalidTypeError, InvalidArgumentError), match="path of a control socket"):
        SocketServer(path)
