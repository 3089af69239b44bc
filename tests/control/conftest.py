"""A place for a socket, a server there, and clients of it."""

from __future__ import annotations

import os

import pytest
from control_work import Plain, descriptors, folder, until

from ate_dispatcher.control import SocketClient, SocketServer


@pytest.fixture(autouse=True)
def _no_descriptor_left():
    before = descriptors()
    yield
    until(lambda: descriptors() <= before, "descriptors back to what they were")


@pytest.fixture
def path(_no_descriptor_left):
    with folder() as place:
        yield os.path.join(place, "bench.sock")


@pytest.fixture
def server(path):
    with SocketServer(path) as server:
        yield server


@pytest.fixture
def client(server):
    return SocketClient(server.path, timeout=20)


@pytest.fixture
def plain(server):
    with Plain(server.path) as plain:
        yield plain
