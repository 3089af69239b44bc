"""A browser of a few lines, for tests without one."""

from __future__ import annotations

import http.client
import json
import threading
import time

from ate_dispatcher.sse import EventParser

BOUND = 30.0


def wait_until(true, what="it"):
    """Wait until something polled is so, generously; for numbers that no event tells of."""
    limit = time.monotonic() + BOUND
    while not true():
        assert time.monotonic() < limit, f"{what} did not come about within {BOUND:g} s"
        threading.Event().wait(0.01)


def get(monitor, path="/", method="GET", headers=None, body=None):
    """Give status, headers and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", monitor._server.port, timeout=BOUND)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class Page:
    """Reads the stream as the page does: a snapshot, then what is new."""

    def __init__(self, monitor, last="", headers=None):
        self.parser = EventParser()
        self.kinds = []
        self.rows = []
        self.station = {}
        self.connection = http.client.HTTPConnection(
            "127.0.0.1", monitor._server.port, timeout=BOUND
        )
        headers = {**(headers or {}), **({"Last-Event-ID": last} if last else {})}
        self.connection.request("GET", "/events", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200

    def read(self):
        """Take in one piece; False at the end."""
        piece = self.answer.read1(65536)
        for event in self.parser.feed(piece):
            self.kinds.append(event.type)
            said = json.loads(event.data)
            self.rows += said.get("rows", [])
            self.station.update(said.get("station", {}))
        return bool(piece)

    def read_until(self, true):
        while not (self.kinds and true(self)):
            assert self.read(), "the stream has ended"
        return self

    def take(self, count):
        return self.read_until(lambda page: len(page.rows) >= count).rows

    def values(self):
        return [row[5] for row in self.rows]

    def close(self):
        self.answer.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
