"""Event streams over real HTTP: the standard library's server, clients that come, go and stall."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
from contextlib import contextmanager

from ate_dispatcher.sse import ConnectionsFactory, EventParser, Message, SSEChannel

BOUND = 60.0


@contextmanager
def served(channel):
    """Serve a channel's watch stream; give the port and a queue of ended handlers."""
    ended = threading.Semaphore(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            last = self.headers.get("Last-Event-ID")
            with channel.watch_events(last, keep_alive_seconds=0.02) as stream:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for piece in stream:
                        self.wfile.write(piece)
                except OSError:
                    pass  # the client has gone
            ended.release()

        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = False

        def get_request(self):
            connection, address = super().get_request()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return connection, address

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], ended
    finally:
        channel.close()
        server.shutdown()
        thread.join()
        server.server_close()


class Client:
    """Reads events, and comes again where it was cut off."""

    def __init__(self, port, last=""):
        self.parser = EventParser()
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
        headers = {"Last-Event-ID": last} if last else {}
        self.connection.request("GET", "/", headers=headers)
        self.answer = self.connection.getresponse()

    def take(self, count):
        events = []
        while len(events) < count:
            piece = self.answer.read1(65536)
            assert piece, f"the stream ended after {len(events)} events"
            events += self.parser.feed(piece)
        return [event.data for event in events]

    def close(self):
        self.answer.close()
        self.connection.close()


def test_a_client_that_comes_again_has_everything():
    """With the id of the last whole event that it had."""
    channel = SSEChannel()
    with served(channel) as (port, _):
        first = Client(port)
        for payload in range(5):
            channel.broadcast(Message("m", payload))
        got = first.take(5)
        first.close()
        for payload in range(5, 10):
            channel.broadcast(Message("m", payload))
        second = Client(port, last=first.parser.last_event_id)
        assert got + second.take(5) == [str(number) for number in range(10)]
        second.close()


def test_a_client_that_is_gone_is_noticed():
    """By the comments that keep a quiet stream alive; nothing of it is left."""
    channel = SSEChannel()
    with served(channel) as (port, ended):
        client = Client(port)
        assert channel.statistics().watchers == 1
        client.close()
        assert ended.acquire(timeout=BOUND)
        assert channel.statistics().watchers == 0


def test_stalled_clients_disturb_nobody():
    """They are dropped and counted, memory stays bounded, and the others miss nothing."""
    channel = SSEChannel(connections_factory=ConnectionsFactory(50))
    text = "x" * 4000
    with served(channel) as (port, ended):
        stalled = [Client(port) for _ in range(3)]
        good = [Client(port) for _ in range(5)]
        for number in range(500):
            channel.broadcast(Message("m", text))
            if number % 25 == 24:  # they keep up; the stalled ones' buffers fill
                for client in good:
                    assert client.take(25) == [text] * 25
        statistics = channel.statistics()
        assert statistics.slow == 3
        assert statistics.watchers == 5
        assert statistics.waiting <= 5 * 50
        for client in (*stalled, *good):
            client.close()
        for _ in range(8):
            assert ended.acquire(timeout=BOUND)
        assert channel.statistics().watchers == 0
