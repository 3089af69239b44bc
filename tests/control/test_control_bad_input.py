"""Nonsense: a clear error to who sent it, nobody else disturbed, nothing left of it."""

from __future__ import annotations

import os
import socket

import pytest
from control_work import Plain, until

from ate_dispatcher.control import SocketServer


@pytest.fixture
def neighbour(server):
    """Another client, with a stream open, which notices nothing."""
    with Plain(server.path) as commands, Plain(server.path) as reader:
        commands.result({"v": "c", "c": "theirs"})
        reader.ask({"v": "w", "c": "theirs"})
        yield commands
        commands.result({"v": "b", "c": "theirs", "t": "m", "p": "well"})
        assert reader.hear()["message"]["data"] == "well"


BAD = [
    (b"not json\n", "UndecodableMessageError", "is no JSON"),
    (b'{"v": "c"\n', "UndecodableMessageError", "is no JSON"),
    (b"\x00\xff\xfe\x80\n", "UndecodableMessageError", "is no JSON"),
    (b"GET / HTTP/1.1\r\n", "UndecodableMessageError", "is no JSON"),
    (b'["v", "c"]\n', "InvalidTypeError", "must be a JSON object"),
    (b'"c"\n', "InvalidTypeError", "must be a JSON object"),
    (b"{}\n", "InvalidArgumentError", "must have a verb"),
    (b'{"v": "x"}\n', "InvalidArgumentError", "the verb 'x' is none of"),
    (b'{"v": ["c"]}\n', "InvalidTypeError", "'v' must be a string"),
    (b'{"v": "d", "c": "theirs", "t": "m"}\n', "InvalidArgumentError", "needs 'r'"),
    (b'{"v": "b", "c": "theirs"}\n', "InvalidArgumentError", "needs 't'"),
    (b'{"v": "b", "c": {}, "t": "m"}\n', "InvalidTypeError", "'c' must be a string"),
    (b'{"v": "b", "c": "theirs", "t": "two\\nlines"}\n', "InvalidArgumentError", "one line"),
    (b'{"v": "b", "c": "theirs", "t": "m", "p": "\\ud800"}\n', "InvalidArgumentError", "surrogate"),
    (b'{"v": "c", "c": "theirs"}\n', "NameTakenError", "there already is a channel 'theirs'"),
    (b'{"v": "r", "c": "none"}\n', "UnknownIdError", "there is no channel 'none'"),
    (b'{"v": "w", "c": "none"}\n', "UnknownIdError", "there is no channel 'none'"),
    (b'{"v": "rc", "c": "none"}\n', "UnknownIdError", "there is no channel 'none'"),
    (b'{"v": "l", "c": "theirs", "r": "n"}\n', "UnknownIdError", "'theirs' has no listener 'n'"),
    (b'{"v": "rl", "c": "theirs", "r": "n"}\n', "UnknownIdError", "has no listener 'n'"),
    (
        b'{"v": "d", "c": "theirs", "r": "n", "t": "m"}\n',
        "UnknownIdError",
        "'theirs' has no listener 'n'",
    ),
    (b'{"v": "send", "t": "m"}\n', "StateError", "no dispatcher, which 'send' needs"),
    (b'{"v": "statistics"}\n', "StateError", "no dispatcher, which 'statistics' needs"),
    (b'{"v": "stop", "o": {"drian": true}}\n', "InvalidArgumentError", "not 'drian'"),
    (b'{"v": "stop", "o": {"drain": 1}}\n', "InvalidTypeError", "'drain' must be true or false"),
    (b'{"v": "stop", "o": {"timeout": "1"}}\n', "InvalidTypeError", "a number of seconds"),
    (b'{"v": "stop", "o": {"timeout": -1}}\n', "InvalidArgumentError", "zero or more"),
]


@pytest.mark.parametrize(("data", "error", "says"), BAD, ids=[str(bad[0])[2:40] for bad in BAD])
def test_nonsense_is_answered(server, plain, neighbour, data, error, says):
    """With an object, never a bare text or nothing (as eric-sse does); the client may go on."""
    for _ in range(2):
        plain.raw(data)
        answer = plain.hear()
        assert set(answer) == {"error"}
        assert answer["error"]["type"] == error
        assert says in answer["error"]["message"]
    assert plain.result({"v": "ping"}) is None
    assert server.container.get_all_ids() == ("theirs",)


def pour(client, data):
    """Send until the other side has had enough."""
    try:
        for _ in range(100_000):
            client.raw(data)
    except (BrokenPipeError, ConnectionResetError):
        return
    raise AssertionError("the server takes whatever comes")


def test_megabytes_without_a_newline(server, plain, neighbour):
    """They are answered as soon as they are too many, and not kept; what follows is read again."""
    plain.raw(b"x" * (server.max_line + 70_000))
    assert plain.hear()["error"] == {
        "type": "PayloadTooLargeError",
        "message": f"a line must not have more than {server.max_line} bytes",
    }
    plain.raw(b"x" * 4_000_000 + b'\n{"v": "ping"}\n')
    assert plain.hear() == {"result": None}


def test_who_never_ends_a_line_is_cut_off(path):
    """After sixteen times what a line may have."""
    with SocketServer(path, max_line=1000) as server, Plain(path) as plain:
        pour(plain, b"x" * 1000)
        assert plain.hear()["error"]["type"] == "PayloadTooLargeError"
        until(lambda: server.clients == 0)


def test_the_longest_line_that_may_be(path):
    """One byte more is too many."""
    command = b'{"v": "ping"}'
    with SocketServer(path, max_line=len(command)), Plain(path) as plain:
        plain.raw(command + b"\n" + command + b" \n" + command + b"\n")
        assert plain.hear() == {"result": None}
        assert plain.hear()["error"]["type"] == "PayloadTooLargeError"
        assert plain.hear() == {"result": None}


def test_binary(server, plain, neighbour):
    """Any bytes: an error a line, and then on."""
    noise = os.urandom(20_000).replace(b"\n", b"x").replace(b"\r", b"x")
    plain.raw(noise + b"\n")
    assert plain.hear()["error"]["type"] == "UndecodableMessageError"
    assert plain.result({"v": "ping"}) is None


def test_a_command_cut_off_by_the_end_of_input(server, neighbour):
    """It is answered like any other that is no JSON."""
    with Plain(server.path) as client:
        client.raw(b'{"v": "c", "c": "ha')
        client.socket.shutdown(socket.SHUT_WR)
        assert client.hear()["error"]["type"] == "UndecodableMessageError"
        assert client.hear() is None


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"v": "c"', b'{"v": "ping"}\n' * 2000, b"x" * 500_000]
)
def test_clients_that_go_in_the_middle(server, neighbour, data):
    """With half a command said, or many answers not taken."""
    before = server.clients
    for _ in range(5):
        client = Plain(server.path)
        client.raw(data)
        client.close()
    until(lambda: server.clients == before)
    assert neighbour.result({"v": "ping"}) is None


def test_commands_whose_answers_nobody_takes(path):
    """The client that does not read is cut off; its commands do not fill our memory."""
    with SocketServer(path, stall_seconds=0.3) as server, Plain(path) as deaf, Plain(path) as good:
        deaf.socket.settimeout(20)
        pour(deaf, b'{"v": "ping"}\n' * 1000)
        until(lambda: server.clients == 1)
        assert good.result({"v": "ping"}) is None
