"""Where a server is: stale and live sockets, modes, strange files, and TCP elsewhere."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import pathlib
import socket
import stat
import sys
import threading
import time

import pytest
from control_work import BOUND, until

from ate_dispatcher import (
    ATEDispatcherError,
    ControlConnectionError,
    ControlTimeoutError,
    InvalidArgumentError,
    StateError,
)
from ate_dispatcher.control import SocketClient, SocketServer, _place
from ate_dispatcher.control._place import connect

TRANSPORTS = ["unix", "tcp"]


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def abandoned(path):
    """What a server that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_only_the_owner_may_use_it(path, transport):
    """Mode 0600, whatever the umask says, and gone after the end."""
    before = os.umask(0)
    try:
        with SocketServer(path, transport=transport):
            assert mode(path) == 0o600
    finally:
        os.umask(before)
    assert not os.path.lexists(path)


def test_a_stale_socket_is_taken_over(path):
    """What a killed server has left does not need to be removed by hand."""
    abandoned(path)
    with pytest.raises(ControlConnectionError, match=r"nobody listens at .* any more"):
        SocketClient(path).create_channel()
    with SocketServer(path):
        assert mode(path) == 0o600
        assert SocketClient(path).send_payload({"v": "ping"}) is None


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("second", TRANSPORTS)
def test_a_live_server_is_not_pushed_aside(path, transport, second):
    """The second one is refused, and the first serves on."""
    with SocketServer(path, transport=transport):
        with pytest.raises(StateError, match=r"a server listens at .* already"):
            SocketServer(path, transport=second).open()
        assert SocketClient(path).send_payload({"v": "ping"}) is None


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_of_many_that_begin_at_once_one_serves(path, transport):
    """Over something stale, too: no two think that they have it."""
    abandoned(path)
    start, opened, refused = threading.Barrier(8), [], []

    def begin():
        server = SocketServer(path, transport=transport)
        start.wait(BOUND)
        try:
            server.open()
        except StateError as error:
            refused.append(error)
        else:
            opened.append(server)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert (len(opened), len(refused)) == (1, 7)
    assert SocketClient(path).send_payload({"v": "ping"}) is None
    assert opened[0].shutdown()


def test_what_is_no_socket_is_kept(path):
    """A file, a folder, a link: nobody's data is deleted because of a wrong path."""
    pathlib.Path(path).write_text("results")
    for transport in TRANSPORTS:
        with pytest.raises(StateError, match="is something else than a control socket: it is kept"):
            SocketServer(path, transport=transport).open()
    assert pathlib.Path(path).read_text() == "results"
    folder = os.path.dirname(path)
    with pytest.raises(StateError, match="is kept"):
        SocketServer(folder).open()
    link = f"{path}.link"
    os.symlink(path, link)
    with pytest.raises(StateError, match="is kept"):
        SocketServer(link).open()
    with pytest.raises(ControlConnectionError, match="is no control socket"):
        SocketClient(path).create_channel()
    with pytest.raises(ControlConnectionError, match="is no control socket"):
        SocketClient(folder).create_channel()


def test_a_path_that_cannot_be(path):
    """Too long for a socket, in a folder that is not there: told at once, and tried again."""
    folder = os.path.dirname(path)
    with pytest.raises(InvalidArgumentError, match=r"cannot be the path of a socket.*bytes"):
        SocketServer(os.path.join(folder, "x" * 120)).open()
    server = SocketServer(os.path.join(folder, "later", "bench.sock"))
    with pytest.raises(FileNotFoundError):
        server.open()
    os.mkdir(os.path.join(folder, "later"))
    server.open()
    assert server.shutdown()


def test_a_folder_without_rights(path):
    """The operating system's own error, with the path."""
    os.chmod(os.path.dirname(path), 0o500)
    me = os.geteuid()
    if me == 0:  # who may write anywhere
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            SocketServer(path).open()
    finally:
        os.seteuid(me)
        os.chmod(os.path.dirname(path), 0o700)


def test_a_file_that_cannot_be_written_is_not_left(path, monkeypatch):
    """Such as on a full disk: half a file would be taken for somebody's own, and kept for ever."""

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "no space left")

    def opened(descriptor, *options, **more):
        os.close(descriptor)
        return Full()

    with monkeypatch.context() as patch:
        patch.setattr(_place, "open", opened, raising=False)
        with pytest.raises(OSError, match="no space left"):
            SocketServer(path, transport="tcp").open()
    with SocketServer(path, transport="tcp"):
        assert SocketClient(path).send_payload({"v": "ping"}) is None


def test_what_somebody_else_put_there_is_not_removed(path):
    """At the end, if the path is no longer the server's own."""
    with SocketServer(path):
        os.unlink(path)
        pathlib.Path(path).write_text("new")
    assert pathlib.Path(path).read_text() == "new"


def test_nobody_there(path):
    """A path without anything, and a server that has ended."""
    client = SocketClient(path)
    with pytest.raises(ControlConnectionError, match="there is no control socket at") as caught:
        client.statistics()
    assert isinstance(caught.value, ConnectionError)
    with SocketServer(path):
        client.create_channel()
    with pytest.raises(ControlConnectionError, match="there is no control socket at"):
        client.create_channel()


def fill(path, held):
    """Connect until there is no room."""
    for _ in range(50):
        held.append(connect(path, 0.05)[0])


def test_a_server_that_does_not_answer(path):
    """The client gives up in its own time, and says so; also if nobody accepts any more."""
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen(0)
        client = SocketClient(path, timeout=0.05)
        with pytest.raises(ControlTimeoutError, match=r"no answer from .* within 0.05 s"):
            client.create_channel()
        held = []
        with pytest.raises(ControlTimeoutError, match=r"took no connection within 0.05 s"):
            fill(path, held)
        with pytest.raises(StateError, match=r"listens at .* already"):
            SocketServer(path).open()
        for one in held:
            one.close()


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (b"", "hung up"),
        (b"hello\n", "is no JSON"),
        (b"[1]\n", "speaks another language"),
        (b'{"result": 1', "hung up"),
    ],
)
def test_a_server_that_is_none(path, says, error):
    """Whatever answers there: an error of ours."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(5)

        def answer():
            client, _ = other.accept()
            with client:
                client.recv(1000)
                client.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ATEDispatcherError, match=error):
            SocketClient(path).create_channel()
        thread.join(BOUND)


# ---- TCP -----------------------------------------------------------------------------------------


def tcp(path):
    """Connect as the file says."""
    told = json.loads(pathlib.Path(path).read_text())
    return socket.create_connection(("127.0.0.1", told["port"]), BOUND), told["token"]


def test_tcp_works_the_same(path):
    """The path says where: client and commands need not know."""
    with SocketServer(path, transport="tcp", keep_alive_seconds=0.05) as server:
        client = SocketClient(path)
        channel = client.create_channel()
        listener = client.register(channel)
        client.dispatch(channel, listener, "m", {"a": 1})
        with client.stream(channel, listener) as stream:
            assert json.loads(next(stream)) == {"event": "m", "retry": 5, "data": {"a": 1}}
            assert server.streams == 1
        until(lambda: server.streams == 0)  # noticed by what is written to it
        until(lambda: server.clients == 0)


def test_tcp_without_the_token_is_refused(path):
    """And hung up on: nothing is done, nothing is told; the token is nowhere to be seen."""
    with SocketServer(path, transport="tcp") as server:
        for extra in ({}, {"token": "guess"}, {"token": None}, {"token": ["x"]}):
            reached, token = tcp(path)
            with reached, reached.makefile("rb") as file:
                reached.sendall(json.dumps({"v": "c", **extra}).encode() + b"\n")
                told = json.loads(file.readline())
                assert told["error"]["type"] == "ControlConnectionError"
                assert token not in told["error"]["message"]
                assert file.readline() == b""
        assert server.container.get_all_ids() == ()
        assert token not in repr(server)
        assert server._place.transport == "tcp"


def ping(reached, token):
    """Say something proper; give the answer."""
    reached.sendall(json.dumps({"v": "ping", "token": token}).encode() + b"\n")
    return json.loads(reached.recv(65536))


def test_tcp_does_not_wait_for_ever_for_who_has_no_token(path):
    """It is told so and hung up on; who has said something proper may be idle."""
    with SocketServer(path, transport="tcp", stall_seconds=60) as server:
        known, token = tcp(path)
        with known:
            assert ping(known, token) == {"result": None}
            server.stall_seconds = 0.2  # for who comes from now on
            silent, _ = tcp(path)
            with silent, silent.makefile("rb") as file:
                assert json.loads(file.readline())["error"] == {
                    "type": "ControlTimeoutError",
                    "message": "no command with the token came within 0.2 s",
                }
                assert file.readline() == b""
            until(lambda: server.clients == 1)
            assert ping(known, token) == {"result": None}


@pytest.mark.parametrize("says", [b"x", b"\n", b"nonsense\n"])
def test_tcp_gives_no_time_to_who_says_something_else(path, says):
    """However often it does."""
    with SocketServer(path, transport="tcp", stall_seconds=0.2):
        other, _ = tcp(path)
        with other:
            other.settimeout(0.02)
            limit, heard = time.monotonic() + BOUND, b"anything"
            while heard:
                assert time.monotonic() < limit, "it still has its place"
                try:
                    other.sendall(says)
                    heard = other.recv(65536)
                except socket.timeout:
                    pass
                except ConnectionError:
                    break


def test_tcp_says_so_when_all_places_are_taken(path):
    """To who comes too late, whether those who came first have the token or not."""
    with SocketServer(path, transport="tcp", stall_seconds=60, max_clients=2) as server:
        known, token = tcp(path)
        silent, _ = tcp(path)
        with known, silent:
            assert ping(known, token) == {"result": None}
            until(lambda: server.clients == 2)
            with pytest.raises(ControlConnectionError, match="2 clients are connected, which are"):
                SocketClient(path).create_channel()


def test_tcp_listens_on_the_loopback_only(path):
    """Never anywhere else."""
    with SocketServer(path, transport="tcp"):
        reached, _ = tcp(path)
        with reached:
            assert reached.getpeername()[0] == "127.0.0.1"


@pytest.mark.parametrize("who", ["nobody", "another"])
def test_a_stale_file_is_taken_over(path, who):
    """Nobody is at its port, or somebody who does not know the token."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        thread = None
        if who == "another":
            other.listen(1)

            def hang_up():
                other.accept()[0].close()

            thread = threading.Thread(target=hang_up)
            thread.start()
        pathlib.Path(path).write_text(json.dumps({"port": port, "token": "old"}))
        with SocketServer(path, transport="tcp"):
            assert SocketClient(path).send_payload({"v": "ping"}) is None
        if thread is not None:
            thread.join(BOUND)


def test_where_there_are_no_unix_sockets(path, monkeypatch):
    """TCP is taken by itself, and asking for the other is refused."""
    pair = functools.partial(socket.socketpair, socket.AF_UNIX)  # how it is done there is not ours
    monkeypatch.setattr(socket, "socketpair", pair)
    monkeypatch.delattr(socket, "AF_UNIX")
    monkeypatch.setattr("ate_dispatcher.control._watch.SEES_THE_GONE", False)
    with pytest.raises(InvalidArgumentError, match="no Unix sockets: use transport='tcp'"):
        SocketServer(path, transport="unix")
    with SocketServer(path) as server:
        assert server._place.transport == "tcp"
        assert SocketClient(path).create_channel()
        assert server.shutdown(BOUND)
    assert not os.path.exists(path)


def test_without_fcntl(path, monkeypatch):
    """Where the platform has no locks of that kind: one server is one all the same."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with SocketServer(path, transport="tcp"), pytest.raises(StateError, match="already"):
        SocketServer(path, transport="tcp").open()
