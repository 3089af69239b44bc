"""The control socket while threads give way at any bytecode: clients come and go as it ends."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading

import pytest
from noise import noise

from ate_dispatcher import ATEDispatcher, ATEDispatcherError
from ate_dispatcher.control import SocketClient, SocketServer
from ate_dispatcher.testing import ScriptedProducer, no_thread_leaks

BOUND = 60.0
SEEDS = range(12)


@pytest.fixture
def path():
    folder = tempfile.mkdtemp(prefix="ate")
    yield os.path.join(folder, "bench.sock")
    shutil.rmtree(folder)


def hurried(path):
    """Connect, say something, and be gone."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(BOUND)
        client.connect(path)
        client.sendall(b'{"v": "w", "c": "c"}\n')


def visit(path, number):
    """Do what clients do, until the server is there no more."""
    client = SocketClient(path, timeout=BOUND)
    try:
        while True:
            listener = client.register("c")
            with client.stream("c", listener) as stream:
                client.dispatch("c", listener, "m", number)
                for _ in stream:
                    client.remove_listener("c", listener)
            hurried(path)
            with client.send_request("t", ttl=60_000) as stream:
                next(stream, None)
    except (ATEDispatcherError, OSError):
        pass  # it has ended


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shutdown_while_clients_come_and_go(path, seed):
    """It comes to its end, at any moment; no thread, descriptor or stream is left."""
    before = len(os.listdir("/proc/self/fd"))
    with no_thread_leaks(10), ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(lambda topic: 1, name="p"), "t")
        with noise(seed, share=0.01) as chance:
            server = SocketServer(path, dispatcher=dispatcher)
            server.open()
            SocketClient(path, timeout=BOUND).send_payload({"v": "c", "c": "c"})
            visitors = [threading.Thread(target=visit, args=(path, n)) for n in range(4)]
            for visitor in visitors:
                visitor.start()
            threading.Event().wait(chance.random())
            assert server.shutdown(BOUND) is True
            for visitor in visitors:
                visitor.join(BOUND)
                assert not visitor.is_alive()
        assert (server.clients, server.streams) == (0, 0)
        assert server.container.get("c").statistics().watchers == 0
        assert not os.path.lexists(path)
    assert len(os.listdir("/proc/self/fd")) <= before
