"""The monitor over real HTTP, without a browser."""

from __future__ import annotations

import errno
import http.client
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from monitor_work import BOUND, Page, get, wait_until

from ate_dispatcher import (
    ATEDispatcher,
    InvalidArgumentError,
    InvalidTypeError,
    Observer,
    StateError,
    TopicFilter,
)
from ate_dispatcher.monitor import Monitor, _feed, _server, _watch
from ate_dispatcher.testing import ScriptedProducer

TOKEN = "a token that-nobody-guesses".replace(" ", "-")


@pytest.fixture
def monitor(dispatcher):
    with Monitor(dispatcher) as monitor:
        yield monitor


def test_a_port_in_use_is_named(dispatcher, monitor):
    """Bad input: the error says which address, and what to do."""
    port = int(monitor.url.rpartition(":")[2].strip("/"))
    with pytest.raises(
        OSError, match=rf"'127\.0\.0\.1', port {port}: choose another port"
    ) as caught:
        Monitor(dispatcher, port=port)
    assert caught.value.errno == errno.EADDRINUSE


def ask(dispatcher, *values, topic="voltage"):
    """Send so many requests; they are done when it returns."""
    for value in values:
        assert dispatcher.send_request(topic, value, ttl=60_000).wait(BOUND)


@pytest.fixture
def echo(dispatcher):
    dispatcher.add(ScriptedProducer(lambda topic, value: value, name="dmm0", site=1), "voltage")


def open_files():
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


# ---- what it shows -------------------------------------------------------------------------------


def test_a_page_that_is_open_is_told_what_happens(dispatcher, monitor, echo):
    """Outcomes as they come, in order; then counts, states and routing."""
    dispatcher.listener(TopicFilter("#"), name="log")(lambda topic, value: None)
    with Page(monitor) as page:
        ask(dispatcher, 1, 2, 3)
        page.take(3)
        page.read_until(lambda page: page.station["ended"]["COMPLETE"] == 3)
    assert page.kinds[0] == "snapshot"
    assert page.values() == ["1", "2", "3"]
    assert [row[1:5] for row in page.rows] == [["voltage", "dmm0", 1, "OK"]] * 3
    (producer,) = page.station["producers"]
    assert (producer["name"], producer["site"], producer["ok"]) == ("dmm0", 1, 3)
    assert [each["name"] for each in page.station["listeners"]] == ["log"]
    assert page.station["topics"] == [
        {"topic": "voltage", "filter": False, "producers": ["dmm0"], "listeners": []},
        {"topic": "#", "filter": True, "producers": [], "listeners": ["log"]},
    ]


def test_a_page_that_is_opened_later_is_told_what_has_happened(dispatcher, monitor, echo):
    """In its snapshot, and nothing of it twice."""
    with Page(monitor) as first:
        ask(dispatcher, 1, 2)
        first.take(2)
        with Page(monitor) as second:
            second.take(2)
            ask(dispatcher, 3)
            assert len(second.take(3)) == 3
        assert second.values() == ["1", "2", "3"]
        assert [row[0] for row in second.rows] == [1, 2, 3]


def test_a_page_that_was_cut_off_gets_what_it_missed(dispatcher, monitor, echo):
    """By `Last-Event-ID`: no snapshot, nothing lost, nothing twice."""
    with Page(monitor) as witness, Page(monitor) as first:
        ask(dispatcher, 1, 2)
        first.take(2)
        last = first.parser.last_event_id
        first.close()
        ask(dispatcher, 3, 4)
        witness.take(4)
        with Page(monitor, last=last) as again:
            again.take(2)
            ask(dispatcher, 5)
            again.take(3)
        assert again.values() == ["3", "4", "5"]
        assert "snapshot" not in again.kinds


@pytest.mark.parametrize(
    "last", ["", "x", "00000000-3", "-1", "ÿ", "deadbeef-99999999999999999999"]
)
def test_an_id_that_is_not_known_is_told_everything(dispatcher, monitor, echo, last):
    """An id of a server before this one, or of nobody."""
    with Page(monitor) as page:
        ask(dispatcher, 1, 2)
        page.take(2)
    with Page(monitor, last=last) as again:
        again.take(2)
    assert again.kinds[0] == "snapshot"
    assert again.values() == ["1", "2"]


def test_what_a_producer_is_busy_with(dispatcher, monitor, gate):
    """The topic and since when; who waits for a resource says for what and who has it."""
    for name in ("dmm0", "dmm1"):
        dispatcher.add(ScriptedProducer(gate, name=name, resources=("monitor-bus",)), "voltage")
    dispatcher.send_request("voltage", ttl=60_000)

    def told(page):
        busy = [each["busy"] for each in page.station.get("producers", ())]
        return len(busy) == 2 and all(busy) and sum(bool(each[2]) for each in busy) == 1

    with Page(monitor) as page:
        page.read_until(told)
        works, waits = sorted((e["busy"] for e in page.station["producers"]), key=lambda b: b[2])
    assert works[0] == waits[0] == "voltage"
    assert "waiting for resource 'monitor-bus', held by" in waits[2]
    assert isinstance(works[1], float)
    gate.open()


def test_a_producer_that_failed_is_still_named(dispatcher, monitor):
    """Though it has left the dispatcher."""
    dispatcher.add(ScriptedProducer(SystemExit, name="dmm0"), "voltage")
    with Page(monitor) as page:
        dispatcher.send_request("voltage", ttl=60_000)
        page.read_until(lambda page: page.station.get("gone"))
    assert page.station["gone"][0][:2] == ["dmm0", "failed"]


def test_a_request_to_nobody_is_shown(dispatcher, monitor):
    """With the reason, in place of an outcome."""
    with Page(monitor) as page:
        dispatcher.send_request("volts")
        ((*_, status, _, reason),) = (row[:7] for row in page.take(1))
    assert status == "NO_PRODUCERS"
    assert reason


def test_a_dispatcher_that_has_stopped_is_still_shown():
    """What it did stays to be looked at."""
    with ATEDispatcher() as dispatcher:
        dispatcher.producer("t")(lambda topic: 1)
        monitor = Monitor(dispatcher)
        assert dispatcher.send_request("t").wait(BOUND)
    with monitor, Page(monitor) as page:
        page.read_until(lambda page: page.station["state"] == "stopped" and page.rows)


def test_the_trace_can_be_downloaded(dispatcher, monitor, echo):
    """A file in Chrome's format of what happened in the last minute."""
    with Page(monitor) as page:
        ask(dispatcher, 1)
        page.take(1)
    status, headers, body = get(monitor, "/trace.json")
    assert status == 200
    assert headers["Content-Disposition"] == 'attachment; filename="trace.json"'
    events = json.loads(body)["traceEvents"]
    assert any(event["name"] == "voltage" and event.get("cat") == "running" for event in events)


def test_above_its_allowance_it_looks_away_and_says_so(dispatcher, echo, monkeypatch):
    """A dispatcher at full speed keeps it: outcomes are a sample then, counts are exact."""
    monkeypatch.setattr(_watch, "RATE", 0.001)
    monkeypatch.setattr(_watch, "SAMPLE", 0.001)
    monkeypatch.setattr(_watch, "BURST", 10)
    with Monitor(dispatcher) as monitor, Page(monitor) as page:
        ask(dispatcher, *range(200))
        page.read_until(
            lambda page: page.station["ended"]["COMPLETE"] == 200 and page.station["sampled"]
        )
        assert monitor._feed._watch.used_up
        assert 1 <= len(page.rows) <= 10


def test_looking_goes_on_when_the_allowance_is_back(dispatcher, echo, monkeypatch):
    """After a burst it does not stay away."""
    monkeypatch.setattr(_watch, "RATE", 500.0)
    monkeypatch.setattr(_watch, "BURST", 10)
    with Monitor(dispatcher) as monitor, Page(monitor) as page:
        ask(dispatcher, *range(100))
        wait_until(lambda: monitor._feed._watch._ate_left == 10, "an allowance")
        ask(dispatcher, "last")
        page.read_until(lambda page: page.values()[-1:] == ["'last'"])


def test_an_idle_monitor_sleeps(dispatcher, echo, monkeypatch):
    """Without a page and without anything happening its thread sleeps until it is rung."""
    monkeypatch.setattr(_feed, "KEEP_ALIVE", 0.05)
    with Monitor(dispatcher) as monitor:
        with Page(monitor) as page:
            ask(dispatcher, 1)
            page.take(1)
        wait_until(lambda: monitor.clients == 0, "the page's departure")
        slept = threading.Event()
        wait = monitor._feed._bell.wait

        def noted(patience=None):
            if patience is None:
                slept.set()
            return wait(patience)

        monitor._feed._bell.wait = noted
        ask(dispatcher, 2)  # wakes it, and it goes to sleep again
        assert slept.wait(BOUND)


# ---- observers, as they are now ------------------------------------------------------------------


def test_a_monitor_of_a_dispatcher_that_has_ended_sleeps():
    """C12: also one whose allowance was used up at the end, which nobody renews any more."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    feed = _feed.Feed(dispatcher)
    feed._watch._ate_left = 0
    assert feed._beat() is not None
    dispatcher.stop()
    feed._watch._ate_left = 0
    feed._sampled_until = 0.0
    assert feed._beat() is None


def test_who_accepts_sleeps_until_somebody_comes(dispatcher, monkeypatch):
    """It wakes once for each connection, and once to end, unless it was awake just then."""
    woken = []
    handle = _server.Server.handle_request

    def counted(server):
        handle(server)
        woken.append(threading.current_thread().name)

    monkeypatch.setattr(_server.Server, "handle_request", counted)
    with Monitor(dispatcher) as monitor:
        for _ in range(2):
            assert get(monitor, "/")[0] == 200
    assert woken[:2] == ["monitor-accept"] * 2
    assert len(woken) <= 3


def test_a_monitor_leaves_no_thread_that_has_let_go_of_its_connection(dispatcher, monkeypatch):
    """It is waited for until its very end."""
    forget, gone = _server.Server.shutdown_request, threading.Event()

    def slowly(server, request):
        forget(server, request)
        gone.set()
        threading.Event().wait(0.2)

    monkeypatch.setattr(_server.Server, "shutdown_request", slowly)
    with Monitor(dispatcher) as monitor:
        assert get(monitor, "/")[0] == 200
        assert gone.wait(BOUND)
    assert "monitor-client" not in {thread.name for thread in threading.enumerate()}


def test_a_monitor_that_cannot_be_woken_ends_all_the_same(dispatcher, monkeypatch):
    """Where the process has no descriptor left, say: a little later."""
    monkeypatch.setattr(_server.Server, "timeout", 0.05)
    with Monitor(dispatcher) as monitor:
        monkeypatch.setattr(_server.Server, "_reached_at", ("127.0.0.1", 0))
    assert not monitor._server._thread.is_alive()


def test_an_observer_costs_only_what_it_overrides(dispatcher, echo):
    """Its other hooks are not even called; set on the object they count as well."""
    calls = []

    class Ends(Observer):
        def on_end(self, request):
            calls.append(request.topic)

    observer, own = Ends(), Observer()
    own.on_outcome = lambda outcome: calls.append(outcome.value)
    dispatcher.add_observer(observer)
    dispatcher.add_observer(own)
    ask(dispatcher, 7)
    told = threading.Event()
    dispatcher._callbacks.post(told.set)
    assert told.wait(BOUND)
    assert calls == [7, "voltage"]
    assert dispatcher._tell_request is None


# ---- who may ask what ----------------------------------------------------------------------------


def test_the_page_and_its_parts(monitor):
    """Each with its type, each told not to be guessed at, embedded, referred from or kept."""
    for path, kind in (
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/app.css", "text/css"),
    ):
        status, headers, body = get(monitor, path)
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert body
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
    assert get(monitor, "/favicon.ico")[0] == 204


def test_the_page_needs_nobody_else():
    """No address of anybody, no inline script or style, nothing that makes text into markup."""
    for path in _server.PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        for word in ("http:", "https:", "//cdn", "innerHTML", "outerHTML", "insertAdjacent",
                     "document.write", "eval(", "style=\"", "onclick="):  # fmt: skip
            assert word not in text, (path.name, word)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_it_is_only_for_looking(monitor, method):
    """Any method that could mean a change is refused, with what is allowed."""
    status, headers, body = get(monitor, "/", method, body=b"x")
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert b"only for looking" in body


def test_heads(monitor):
    """HEAD gives the headers alone, of the stream as well."""
    for path in ("/", "/events", "/nothing"):
        assert get(monitor, path, "HEAD")[2] == b""


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/../setup.cfg", "/app.js/", "/%2e%2e/x", "*"],
)
def test_pages_that_are_not_there(monitor, path):
    """No path leads to a file; what is unknown is plain 404."""
    assert get(monitor, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1:1", ""])
def test_a_name_that_is_not_ours(monitor, host):
    """A page elsewhere that has its name point to us gets nothing."""
    for path in ("/", "/events", "/trace.json"):
        assert get(monitor, path, headers={"Host": host})[0] == 421


def raw(monitor, data):
    """Send bytes, and give all that comes back."""
    with socket.create_connection(("127.0.0.1", monitor._server.port), BOUND) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:  # it was closed before we had said everything
            return b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET /?token=xxxx and more HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / xxxx\r\n\r\n", b"400"),
        (b"xxxx /\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"501"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"", b""),
        (b"GET / HT", b"400"),
    ],
)
def test_requests_that_are_none(monitor, data, status):
    """A clear status, in plain text that quotes nothing, and the next one is served."""
    answer = raw(monitor, data)
    if answer:
        assert answer.split(b" ")[1] == status
        assert b"<" not in answer
        assert b"xxxx" not in answer
        assert b"nosniff" in answer
    assert get(monitor)[0] == 200


def test_a_token_is_asked_for(dispatcher):
    """Without it nothing is given; opened once with it, the browser has a cookie."""
    with Monitor(dispatcher, token=TOKEN) as monitor:
        for path in ("/", "/app.js", "/events", "/trace.json", "/?token=wrong", "/?" + "a&" * 50):
            status, headers, body = get(monitor, path)
            assert status == 401
            assert headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN.encode() not in body
        status, headers, _ = get(monitor, f"/?token={TOKEN}")
        assert (status, headers["Location"]) == (303, "/")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert get(monitor, headers={"Cookie": cookie.split(";")[0]})[0] == 200
        with Page(monitor, headers={"Authorization": f"Bearer {TOKEN}"}) as page:
            page.read_until(lambda page: page.kinds)
        assert TOKEN not in repr(monitor) + monitor.url


def test_beyond_this_machine_a_token_is_demanded(dispatcher):
    """By the constructor, before anything listens; with one it does."""
    with pytest.raises(InvalidArgumentError, match="needs token="):
        Monitor(dispatcher, host="0.0.0.0")
    with Monitor(dispatcher, host="0.0.0.0", token=TOKEN) as monitor:
        assert get(monitor)[0] == 401


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"dispatcher": None}, InvalidTypeError, "of an ATEDispatcher"),
        ({"host": None}, InvalidTypeError, "a host must be a string"),
        ({"host": ""}, InvalidArgumentError, "must not be empty"),
        ({"port": "80"}, InvalidTypeError, "a port must be a whole number"),
        ({"port": True}, InvalidTypeError, "a port must be a whole number"),
        ({"port": 70_000}, InvalidArgumentError, "from 0 to 65535"),
        ({"token": 5}, InvalidTypeError, "a token must be a string"),
    ],
)
def test_mistakes_are_told_at_the_call(dispatcher, given, error, words):
    """What is wrong, and what to do."""
    with pytest.raises(error, match=words):
        Monitor(**{"dispatcher": dispatcher, **given})


def test_a_port_that_is_taken(dispatcher, monitor):
    """The system's own error, and nothing is left running."""
    with pytest.raises(OSError):  # noqa: PT011  (its words are the system's)
        Monitor(dispatcher, port=monitor._server.port)


@needs_proc
@pytest.mark.parametrize("refused", ["monitor-accept", "-monitor"])
def test_a_monitor_that_cannot_begin_leaves_nothing(dispatcher, monkeypatch, refused):
    """The system has no thread to give: the port is free again, nobody observes."""
    real = threading.Thread.start

    def start(thread):
        if thread.name.endswith(refused):
            raise RuntimeError("can't start new thread")
        real(thread)

    before = open_files()
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="new thread") as raised:
        Monitor(dispatcher)
    assert open_files() == before, raised
    assert dispatcher._observers == ()


# ---- clients that do not behave ------------------------------------------------------------------


@needs_proc
def test_everything_is_released(dispatcher, echo):
    """Stopped with pages open: no thread, file or observer is left; stopping twice is once."""
    before = open_files(), threading.active_count()
    monitor = Monitor(dispatcher)
    pages = [Page(monitor) for _ in range(5)]
    ask(dispatcher, 1)
    for page in pages:
        page.take(1)
    monitor.stop()
    monitor.stop()
    for page in pages:
        while page.read():
            pass
        page.close()
    assert monitor.clients == 0
    assert open_files() == before[0]
    assert threading.active_count() <= before[1] + 1  # the dispatcher's callback thread
    assert dispatcher._observers == ()


def test_a_monitor_that_was_stopped_is_not_entered_again(dispatcher):
    """Its page is gone: who enters it again is told to make another one."""
    with Monitor(dispatcher) as monitor:
        pass
    with pytest.raises(StateError, match="make another one"), monitor:
        pass


@pytest.mark.parametrize("part", ["_feed", "_server"])
def test_a_stop_that_is_interrupted_is_done_by_the_next(dispatcher, monkeypatch, part):
    """Ctrl-C while it waits for a thread, and then once more: nobody is served any longer."""
    monitor = Monitor(dispatcher)

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(getattr(monitor, part)._thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            monitor.stop()
    monitor.stop()
    assert "stopped" in repr(monitor)
    with pytest.raises(ConnectionRefusedError):
        get(monitor)
    assert not monitor._feed._thread.is_alive()


def test_a_hundred_idle_clients_disturb_nobody(dispatcher, monitor, echo):
    """They are served nothing, others everything; they end with the monitor."""
    idle = [
        socket.create_connection(("127.0.0.1", monitor._server.port), BOUND) for _ in range(100)
    ]
    with Page(monitor) as page:
        ask(dispatcher, *range(20))
        page.take(20)
    assert get(monitor)[0] == 200
    monitor.stop()
    assert monitor._server.connections() == 0
    for connection in idle:
        connection.close()


def test_who_says_nothing_is_shown_the_door(dispatcher, monkeypatch):
    """After a while of patience."""
    monkeypatch.setattr(_server.Handler, "timeout", 0.05)
    with Monitor(dispatcher) as monitor, socket.create_connection(
        ("127.0.0.1", monitor._server.port), BOUND
    ) as connection:
        assert connection.recv(100) == b""


@pytest.mark.parametrize(
    "begin", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "]
)
def test_who_takes_for_ever_to_say_what_it_wants_is_shown_the_door(dispatcher, monkeypatch, begin):
    """Each byte comes in time, but the request as a whole does not."""
    monkeypatch.setattr(_server.Handler, "timeout", 0.5)
    with Monitor(dispatcher) as monitor, socket.create_connection(
        ("127.0.0.1", monitor._server.port), BOUND
    ) as connection:
        connection.sendall(begin)
        connection.settimeout(0.02)
        limit, end = time.monotonic() + BOUND, None
        while end is None:
            assert time.monotonic() < limit, "it is still listened to"
            try:
                connection.sendall(b"x")
                end = connection.recv(100)
            except socket.timeout:
                pass
            except ConnectionError:
                end = b""
        assert end == b""
        wait_until(lambda: monitor._server.connections() == 0, "its place")


def test_the_time_for_a_request_is_not_that_for_an_answer():
    """Reading leaves the socket as patient with what is written as it was."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(7.0)
        theirs.sendall(b"GET")
        head = _server.Head(ours, time.monotonic() + 2 * BOUND)
        assert head.read(3) == b"GET"
        assert ours.gettimeout() == 7.0
        theirs.sendall(b" /")
        with pytest.raises(socket.timeout):
            _server.Head(ours, time.monotonic()).read(2)


def test_too_many_connections_are_told_so(dispatcher, monkeypatch):
    """With a status, at once; when others leave there is room again."""
    monkeypatch.setattr(_feed, "KEEP_ALIVE", 0.05)
    monkeypatch.setattr(_server, "MOST", 2)
    with Monitor(dispatcher) as monitor:
        with Page(monitor), Page(monitor):
            assert get(monitor)[0] == 503
        wait_until(lambda: monitor._server.connections() < 2, "room")
        assert get(monitor)[0] == 200


def test_without_descriptors_it_pauses(monitor, monkeypatch):
    """Who waits to be taken in would have it ask again and again, with a core of its own."""
    pauses = []

    class Ending:
        wait, set = pauses.append, lambda self: None

    def fail(server):
        raise OSError(errors.pop(0), "planted")

    errors = [errno.EMFILE, errno.ECONNABORTED]
    monkeypatch.setattr(_server.TCPServer, "get_request", fail)
    monkeypatch.setattr(monitor._server, "_ending", Ending(), raising=False)
    for _ in range(2):
        with pytest.raises(OSError, match="planted"):
            monitor._server.get_request()
    assert pauses == [1.0]


def test_who_leaves_while_all_are_cut_is_not_closed_meanwhile(monitor):
    """Its descriptor could be somebody else's by the time that it is cut."""
    happened = []
    leaving = threading.Thread(target=lambda: monitor._server.shutdown_request(connection))

    class Connection:
        def shutdown(self, how):
            if how == socket.SHUT_RDWR:
                leaving.start()
                leaving.join(0.2)  # it can get as far as it may, and must not get through
                happened.append("cut")

        def close(self):
            happened.append("closed")

    connection = Connection()
    with monitor._server._lock:
        monitor._server._connections[connection] = None
    monitor._server.cut()
    leaving.join(BOUND)
    assert happened == ["cut", "closed"]


def stalled_client(monitor):
    """Ask for the stream and never read it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", monitor._server.port))
    host = f"127.0.0.1:{monitor._server.port}".encode()
    connection.sendall(b"GET /events HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    return connection


def test_a_stalled_browser_is_dropped_and_counted(dispatcher, echo, monkeypatch):
    """Its buffer is bounded, the others miss nothing, the dispatcher knows nothing of it."""
    monkeypatch.setattr(_feed, "KEPT", 5)
    monkeypatch.setattr(_feed, "OUTCOMES_EVERY", 0.001)
    monkeypatch.setattr(_server, "SEND_BUFFER", 4096)
    with Monitor(dispatcher) as monitor, Page(monitor) as page:
        monkeypatch.setattr(monitor._feed, "_picture", Wide(monitor._feed._picture))
        stalled = [stalled_client(monitor) for _ in range(3)]
        wait_until(lambda: monitor.clients == 4, "four clients")
        asked = 0
        while monitor.dropped < 3:
            ask(dispatcher, asked)
            asked += 1
            page.take(asked)  # it keeps up, whatever the others do
            assert asked < 5000
        assert page.values() == [str(number) for number in range(asked)]
        for connection in stalled:
            connection.close()
        wait_until(lambda: monitor.clients == 1, "the departure of the stalled")


class Wide:
    """A picture whose messages are wide, so that sockets fill soon."""

    def __init__(self, picture):
        self._picture = picture

    def add(self, noted):
        text = self._picture.add(noted)
        return text and f"{text[:-1]},{json.dumps('wide')}:{json.dumps('x' * 30_000)}}}"

    def __getattr__(self, name):
        return getattr(self._picture, name)


def test_who_does_not_take_in_a_piece_is_dropped(dispatcher, echo, monkeypatch):
    """A write has a bound in time as well."""
    monkeypatch.setattr(_server.Handler, "timeout", 0.2)
    monkeypatch.setattr(_server, "SEND_BUFFER", 4096)
    with Monitor(dispatcher) as monitor:
        monkeypatch.setattr(monitor._feed, "_picture", Wide(monitor._feed._picture))
        with stalled_client(monitor):
            wait_until(lambda: monitor.clients == 1, "the client")

            def dropped():
                ask(dispatcher, 1)
                return monitor._server.stalled == 1

            wait_until(dropped, "its being dropped")


def test_no_stalled_client_is_missed_in_the_count(dispatcher, echo, monkeypatch):
    """Their threads count together: adding one is a step that no other comes between."""
    monkeypatch.setattr(_server.Handler, "timeout", 0.2)
    monkeypatch.setattr(_server, "SEND_BUFFER", 4096)
    alone = []

    class Count(int):
        def __add__(self, more):
            alone.append(monitor._server._lock.locked())
            return Count(int(self) + more)

    with Monitor(dispatcher) as monitor:
        monitor._server.stalled = Count(0)
        monkeypatch.setattr(monitor._feed, "_picture", Wide(monitor._feed._picture))
        with stalled_client(monitor), stalled_client(monitor):
            wait_until(lambda: monitor.clients == 2, "the clients")

            def dropped():
                ask(dispatcher, 1)
                return monitor._server.stalled == 2

            wait_until(dropped, "their being dropped")
    assert alone == [True, True]


def test_a_fault_of_ours_is_logged_and_survived(dispatcher, monitor, echo, monkeypatch, caplog):
    """The feed goes on with the next look."""
    real, faults = _feed.look, iter([RuntimeError("planted")])

    def look(*given):
        for fault in faults:
            raise fault
        return real(*given)

    monkeypatch.setattr(_feed, "look", look)
    with caplog.at_level(logging.ERROR, "ate_dispatcher"), Page(monitor) as page:
        ask(dispatcher, 1)
        page.read_until(lambda page: page.station["ended"]["COMPLETE"] == 1)
    assert "planted" in caplog.text


def test_a_connection_that_is_reset(dispatcher, monitor, echo):
    """A browser that was killed is noticed, without a word to standard error."""
    connection = stalled_client(monitor)
    wait_until(lambda: monitor.clients == 1, "the client")
    reset = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    connection.close()

    def noticed():
        ask(dispatcher, 1)
        return monitor.clients == 0

    wait_until(noticed, "the client's departure")


def test_a_keep_alive_says_that_we_are_there(dispatcher, monkeypatch):
    """A quiet stream has comments, so that who has gone is noticed."""
    monkeypatch.setattr(_feed, "KEEP_ALIVE", 0.05)
    with Monitor(dispatcher) as monitor:
        connection = http.client.HTTPConnection("127.0.0.1", monitor._server.port, timeout=BOUND)
        connection.request("GET", "/events")
        answer, read = connection.getresponse(), b""
        while not read.endswith(b"\n\n:\n\n"):
            read += answer.read1(65536)
        answer.close()
        connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_the_child_of_a_fork_cuts_nobody_off():
    """Life: it lets go of the port, and the pages stay the parent's."""
    code = """
import os, urllib.request, warnings
from ate_dispatcher import ATEDispatcher
from ate_dispatcher.monitor import Monitor
warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
with ATEDispatcher() as dispatcher, Monitor(dispatcher) as monitor:
    dispatcher.producer("t")(lambda topic, value: value)
    with urllib.request.urlopen(monitor.url + "events", timeout=30) as stream:
        assert any(b"snapshot" in line for line in stream)
        child = os.fork()
        if not child:
            monitor.stop()
            os._exit(3)
        print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
        dispatcher.send_request("t", "after the fork").gather(30)
        print(any(b"after the fork" in line for line in stream))
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=BOUND
    )
    assert (told.returncode, told.stdout.split(), told.stderr) == (0, ["3", "True"], "")
