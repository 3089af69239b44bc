"""What the tests of the control socket share: places, and a client that is not ours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time

BOUND = 20.0


@contextlib.contextmanager
def folder():
    """A folder whose name leaves room for that of a socket."""
    path = tempfile.mkdtemp(prefix="ate")
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Plain:
    """A few lines of socket: what anybody would write who has only read the document."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(BOUND)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.file = self.socket.makefile("rb")

    def say(self, command):
        self.raw(json.dumps(command).encode() + b"\n")

    def raw(self, data):
        self.socket.sendall(data)

    def hear(self):
        text = self.file.readline()
        return json.loads(text) if text else None

    def ask(self, command):
        self.say(command)
        return self.hear()

    def result(self, command):
        answer = self.ask(command)
        assert "result" in answer, answer
        return answer["result"]

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def descriptors():
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def until(condition, what="it"):
    """Wait for what another thread is about to do and tells nobody of."""
    limit = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < limit, f"{what} did not come about"
        time.sleep(0.005)
