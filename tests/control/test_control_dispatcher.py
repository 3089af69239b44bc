"""A dispatcher driven from elsewhere: requests, statistics, stop; from Python and from a shell."""

from __future__ import annotations

import datetime
import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from control_work import BOUND, Plain, until

import ate_dispatcher
from ate_dispatcher import (
    ATEDispatcher,
    InvalidArgumentError,
    InvalidTypeError,
    OverloadedError,
    StateError,
    current_request,
)
from ate_dispatcher._messages import Probe
from ate_dispatcher._words import arguments
from ate_dispatcher.cli import main
from ate_dispatcher.control import SocketClient, SocketServer
from ate_dispatcher.control._sources import RequestSource
from ate_dispatcher.testing import ScriptedProducer

HOME = str(pathlib.Path(ate_dispatcher.__file__).parent.parent)


@pytest.fixture
def station(path, dispatcher):
    with SocketServer(path, dispatcher=dispatcher) as server:
        yield server


@pytest.fixture
def remote(station):
    return SocketClient(station.path, timeout=20)


def echo(topic, *args, **kwargs):
    return [topic, list(args), kwargs]


# ---- send ----------------------------------------------------------------------------------------


def test_send_streams_the_outcomes(dispatcher, remote):
    """One row a producer as it answers, and one of the end."""
    dispatcher.add(ScriptedProducer(echo, name="dmm0", site=0), "t")
    dispatcher.add(ScriptedProducer(ValueError("no signal"), name="dmm1", site=1), "t")
    with remote.send_request("t", 1, {"a": None}, ttl=60_000, k=[2]) as stream:
        *outcomes, end = list(stream)
    by_name = {row["producer"]: row for row in outcomes}
    assert by_name["dmm0"]["value"] == ["t", [1, {"a": None}], {"k": [2]}]
    assert (by_name["dmm0"]["status"], by_name["dmm0"]["site"]) == ("OK", 0)
    assert by_name["dmm1"]["status"] == "ERROR"
    assert by_name["dmm1"]["exception"][:2] == ["ValueError", "no signal"]
    assert (end["event"], end["status"]) == ("end", "COMPLETE")
    assert end["roster"] == [["dmm0", 0], ["dmm1", 1]]
    assert {row["request"] for row in (*outcomes, end)} == {1}
    assert stream.reason == "the request is COMPLETE"


def test_outcomes_come_as_they_come(dispatcher, remote, gate):
    """The first is read while the second is still being worked on."""
    dispatcher.add(ScriptedProducer(1, name="fast"), "t")
    dispatcher.add(ScriptedProducer(lambda topic: gate.park(), name="slow"), "t")
    with remote.send_request("t", ttl=math.inf) as stream:
        assert next(stream)["producer"] == "fast"
        gate.wait_parked()
        gate.open()
        assert [row.get("producer") for row in stream] == ["slow", None]


def test_partial_values_come_too(dispatcher, remote):
    """C14: a generator's values, one by one."""

    @dispatcher.producer("t", name="sweep")
    def sweep(topic):
        yield 1
        yield 2

    rows = list(remote.send_request("t", ttl=60_000))
    assert [(row["status"], row.get("value")) for row in rows[:2]] == [
        ("PARTIAL", 1),
        ("PARTIAL", 2),
    ]


def test_what_is_no_json_is_described(dispatcher, remote):
    """As a recording has it: nothing is lost, nothing breaks the stream."""
    dispatcher.add(ScriptedProducer({1, 2}, b"\x00", object(), float("nan"), name="p"), "t")
    for form in ("~set", "~bytes", "~repr", "~float"):
        with remote.send_request("t", ttl=60_000) as stream:
            assert form in next(stream)["value"]


def test_options(dispatcher, remote):
    """to, sites, priority, and a TTL of any kind."""
    seen = []
    for name, site in (("a", 0), ("b", 1), ("c", "aux")):
        work = lambda topic, name=name: seen.append((name, current_request().ttl))  # noqa: E731
        dispatcher.add(ScriptedProducer(*[work] * 10, name=name, site=site), "t")
    for options, ttl, names in (
        ({"to": "b"}, 60_000, ["b"]),
        ({"to": ["a", "c"]}, 60_000, ["a", "c"]),
        ({"sites": [0, "aux"]}, datetime.timedelta(minutes=1), ["a", "c"]),
        ({"priority": 5}, math.inf, ["a", "b", "c"]),
    ):
        rows = list(remote.with_options(**options).send_request("t", ttl=ttl))
        assert sorted(row["producer"] for row in rows[:-1]) == names
        expected = ttl.total_seconds() * 1000 if isinstance(ttl, datetime.timedelta) else ttl
        assert {ttl for _, ttl in seen} == {expected}
        seen.clear()


def test_nobody_there_and_nobody_in_time(dispatcher, remote):
    """A topic without producers, and one whose producer does not answer."""
    (end,) = remote.send_request("nobody")
    assert (end["status"], end["roster"]) == ("NO_PRODUCERS", [])
    dispatcher.add(ScriptedProducer(lambda topic: current_request().sleep(60), name="slow"), "t")
    outcome, end = remote.send_request("t", ttl=20)
    assert (outcome["status"], end["status"]) == ("TIMEOUT", "EXPIRED")


def test_a_client_that_leaves_cancels_its_request(dispatcher, station, remote):
    """As leaving a `with` block here does; a killed shell does not keep an instrument busy."""
    cancelled, begun = threading.Event(), threading.Event()

    def work(topic):
        begun.set()
        current_request().sleep(60)
        if current_request().cancelled:
            cancelled.set()

    dispatcher.add(ScriptedProducer(work, name="slow"), "t")
    with remote.send_request("t", ttl=math.inf):
        assert begun.wait(BOUND)
    assert cancelled.wait(BOUND)
    until(lambda: station.streams == 0)
    until(lambda: dispatcher.statistics().open == 0)


def test_shutdown_with_a_request_open(dispatcher, path, gate):
    """Its stream ends, whatever the producer does."""
    dispatcher.add(ScriptedProducer(lambda topic: gate.park(), name="stuck"), "t")
    server = SocketServer(path, dispatcher=dispatcher)
    server.open()
    stream = SocketClient(path).send_request("t", ttl=math.inf)
    gate.wait_parked()
    assert server.shutdown(BOUND)
    assert list(stream) == []
    assert stream.reason == "the server was shut down"


def test_a_cut_after_the_end_takes_nothing_away(gate):
    """All was answered, but the outcomes have not reached who reads: they come before the end."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(lambda topic: 5, name="p"), "t")
        request = dispatcher.send_request("t", ttl=math.inf).gather(BOUND)
        dispatcher._home.put(Probe(gate.park))
        gate.wait_parked()
        source = RequestSource(request, 1, dispatcher.clock)
        source.cut("the server was shut down")
        gate.open()
        rows = [source.take(time.monotonic() + BOUND) for _ in range(2)]
        assert [(row["event"], row["status"]) for row in rows] == [
            ("outcome", "OK"),
            ("end", "COMPLETE"),
        ]


def test_a_dispatcher_that_never_started(path):
    """Its requests are kept; the client may go, and the server may end."""
    dispatcher = ATEDispatcher()
    with SocketServer(path, dispatcher=dispatcher) as server:
        with SocketClient(path).send_request("t", ttl=math.inf):
            assert server.streams == 1
        until(lambda: server.streams == 0)
        stream = SocketClient(path).send_request("t", ttl=math.inf)
        assert server.shutdown(BOUND)
        assert list(stream) == []
    dispatcher.stop(drain=False, timeout=5)


def test_a_dispatcher_that_is_full(path, gate):
    """`max_open` makes the one who sends wait, as here: nobody else."""
    with ATEDispatcher(max_open=1) as dispatcher, SocketServer(path, dispatcher=dispatcher):
        dispatcher.add(ScriptedProducer(lambda topic: gate.park(), name="p"), "t")
        client = SocketClient(path, timeout=20)
        with client.send_request("t", ttl=math.inf):
            gate.wait_parked()
            with pytest.raises(OverloadedError, match="max_open"):
                client.send_request("t", ttl=20)
            assert client.statistics()["open"] == 1
            gate.open()


def test_who_reads_too_slowly_is_told_what_is_lost(dispatcher, path, monkeypatch):
    """Every outcome comes, in its order, or is counted, before the end."""
    monkeypatch.setattr("ate_dispatcher._readers.BOUND", 10)
    count, wide = 300, "x" * 20_000  # more than any socket takes

    @dispatcher.producer("t", name="sweep")
    def sweep(topic):
        for number in range(count):
            yield [number, wide]

    with SocketServer(path, dispatcher=dispatcher, stall_seconds=60) as server, Plain(path) as slow:
        slow.say({"v": "send", "t": "t", "o": {"ttl": None}})
        assert slow.hear() == {"stream": "open"}
        until(lambda: dispatcher.statistics().ended, "the end of the request")
        rows = []
        while not rows or rows[-1]["event"] != "end":
            rows.append(slow.hear()["message"])
        assert slow.hear() == {"end": "the request is COMPLETE"}
        told = [row for row in rows if row["event"] == "lost"]
        lost = sum(row["count"] for row in told)
        assert told == [{"event": "lost", "request": 1, "count": row["count"]} for row in told]
        assert lost > 0
        assert len(rows) - 1 - len(told) + lost == count + 1  # with the end of the generator
        values = [row["value"][0] for row in rows if row.get("status") == "PARTIAL"]
        assert values == sorted(set(values))
        until(lambda: server.streams == 0)


def test_ctl_says_that_something_is_lost(station, dispatcher, capsys, monkeypatch):
    """And that all is not well."""
    dispatcher.add(ScriptedProducer(5, name="dmm0"), "t")
    init = RequestSource.__init__

    def lossy(self, *given):
        init(self, *given)
        self._reader.dropped = 3

    monkeypatch.setattr(RequestSource, "__init__", lossy)
    assert main(["ctl", station.path, "send", "t", "--ttl", "60000"]) == 1
    assert capsys.readouterr() == ("dmm0: 5\n", "ate-dispatcher: 3 outcomes were lost\n")


SEND = {"v": "send", "t": "t", "p": {"args": ["second"]}, "o": {"ttl": None}}


def full(dispatcher, gate):
    """Have the one request that may be open stay open until the gate is; give the producer."""
    producer = dispatcher.add(ScriptedProducer(gate, 2, 3, name="p"), "t")
    dispatcher.send_request("t", ttl=math.inf)
    gate.wait_parked()
    return producer


@pytest.fixture
def narrow():
    with ATEDispatcher(max_open=1) as dispatcher:
        yield dispatcher


@pytest.fixture
def at_the_door(narrow, monkeypatch):
    """An event set when a sender has found ``max_open`` reached."""
    waiting = threading.Event()
    acquire = narrow._admission.acquire

    def spied(blocking=True, timeout=None):
        if acquire(blocking=False):
            return True
        waiting.set()
        return acquire(blocking, timeout)

    monkeypatch.setattr(narrow._admission, "acquire", spied)
    return waiting


@pytest.mark.parametrize("sees", [True, False])
def test_a_client_that_goes_while_its_request_waits(
    path, narrow, gate, at_the_door, sees, monkeypatch
):
    """Its thread and its place are free while the dispatcher still is full; nothing is sent."""
    monkeypatch.setattr("ate_dispatcher.control._watch.SEES_THE_GONE", sees)
    keep_alive = 600 if sees else 0.05
    with SocketServer(path, dispatcher=narrow, keep_alive_seconds=keep_alive) as server:
        producer = full(narrow, gate)
        with Plain(path) as plain:
            plain.say(SEND)
            assert at_the_door.wait(BOUND)
            assert server.streams == 1
        until(lambda: (server.streams, server.clients) == (0, 0), "the end of who is gone")
        gate.open()
        assert narrow.flush(BOUND)
        assert [call[1] for call in producer.calls] == [()]
        assert narrow.send_request("t", ttl=math.inf).gather(BOUND).values == {"p": 2}


def test_a_turn_that_comes_when_the_client_has_gone(path, narrow, gate, monkeypatch):
    """It is given back: the request is not sent, and the next one is."""
    with SocketServer(path, dispatcher=narrow) as server:
        full(narrow, gate)
        acquire = narrow._admission.acquire

        def late(blocking=True, timeout=None):
            (client,) = server._clients
            client.end("the client has gone", at_once=True)
            gate.open()
            return acquire(blocking)

        monkeypatch.setattr(narrow._admission, "acquire", late)
        with Plain(path) as plain:
            plain.say(SEND)
            until(lambda: server.clients == 0)
        monkeypatch.undo()
        assert narrow.send_request("t", ttl=math.inf).gather(BOUND).values == {"p": 2}
        assert narrow.statistics().requests == 2


def test_a_shutdown_while_a_request_waits(path, narrow, gate, at_the_door):
    """Who waits is told why nothing was sent."""
    with SocketServer(path, dispatcher=narrow) as server, Plain(path) as plain:
        full(narrow, gate)
        plain.say(SEND)
        assert at_the_door.wait(BOUND)
        assert server.shutdown(BOUND) is True
        assert plain.hear()["error"] == {
            "type": "ControlConnectionError",
            "message": "nothing was sent: the server was shut down",
        }
        gate.open()


def test_who_waits_for_a_turn_is_asked_whether_it_is_there(path, narrow, gate):
    """By empty objects, as in a stream; a `SocketClient` takes them for no answer."""
    server = SocketServer(path, dispatcher=narrow, keep_alive_seconds=0.05)
    with server, Plain(path) as plain:
        full(narrow, gate)
        streams = []

        def open_stream():
            streams.append(SocketClient(path, timeout=60).send_request("t", ttl=math.inf))

        plain.say(SEND)
        assert plain.hear() == {}
        thread = threading.Thread(target=open_stream)
        thread.start()
        until(lambda: server.streams == 2)
        assert plain.hear() == {}
        assert streams == []
        gate.open()
        thread.join(BOUND)
        with streams[0] as stream:
            assert [row["event"] for row in stream] == ["outcome", "end"]
        answer = {}
        while not answer:
            answer = plain.hear()
        assert answer == {"stream": "open"}


@pytest.mark.parametrize(
    ("command", "error", "says"),
    [
        ({"p": [1]}, InvalidTypeError, "'p' must be an object"),
        ({"p": {"args": 1}}, InvalidTypeError, "'args' must be an array"),
        ({"p": {"kwargs": [1]}}, InvalidTypeError, "'kwargs' must be an object"),
        ({"p": {"arg": []}}, InvalidArgumentError, "'arg', which is none of args, kwargs"),
        ({"p": {"kwargs": {"ttl": 1}}}, InvalidArgumentError, "'ttl' is no keyword"),
        ({"p": {"kwargs": {"topic": 1}}}, InvalidArgumentError, "'topic' is no keyword"),
        ({"o": {"prio": 1}}, InvalidArgumentError, "'prio', which is none of ttl, priority"),
        ({"o": {"ttl": "5"}}, InvalidTypeError, "ttl"),
        ({"o": {"ttl": -5}}, InvalidArgumentError, "ttl"),
        ({"o": {"priority": 1.5}}, InvalidTypeError, "priority must be a whole number"),
        ({"o": {"sites": 3}}, InvalidTypeError, "sites"),
        ({"o": {"sites": "01"}}, InvalidTypeError, "'sites' must be an array"),
        ({"o": {"to": 3}}, InvalidTypeError, "to"),
    ],
)
def test_a_request_that_cannot_be_meant(remote, dispatcher, command, error, says):
    """A clear error, nothing sent, and the server goes on."""
    with pytest.raises(error, match=says):
        remote._opened({"v": "send", "t": "t", **command}, str, 20)
    assert remote.statistics()["open"] == 0
    assert dispatcher.statistics().requests == 0


# ---- statistics and stop -------------------------------------------------------------------------


def test_statistics(dispatcher, remote):
    """What `dispatcher.statistics()` says, as JSON."""
    dispatcher.add(ScriptedProducer(1, name="dmm0"), "t")
    list(remote.send_request("t", ttl=60_000))
    told = remote.statistics()
    assert told["ended"] == {"COMPLETE": 1}
    assert told["producers"]["dmm0"]["ok"] == 1
    assert told["producers"]["dmm0"]["service"]["p50"] >= 0
    assert json.loads(json.dumps(told)) == told


def test_stop_stops_both(path):
    """The dispatcher, whose report comes back, and then the server, so that a script ends."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    dispatcher.add(ScriptedProducer(1, name="dmm0"), "t")
    server = SocketServer(path, dispatcher=dispatcher)
    server.open()
    client = SocketClient(path, timeout=20)
    report = client.stop()
    assert (report["finished"], report["undelivered"], report["alive"]) == (True, {}, [])
    with pytest.raises(StateError):
        dispatcher.send_request("t")
    server.main()  # it has nothing to wait for
    assert not os.path.lexists(path)


def test_stop_without_draining_ends_what_is_open(path):
    """Who reads the outcomes of a request is told how it ended."""
    begun = threading.Event()

    def work(topic):
        begun.set()
        current_request().sleep(60)

    dispatcher = ATEDispatcher()
    dispatcher.start()
    dispatcher.add(ScriptedProducer(work, name="slow"), "t")
    with SocketServer(path, dispatcher=dispatcher):
        client = SocketClient(path, timeout=20)
        stream = client.send_request("t", ttl=math.inf)
        assert begun.wait(BOUND)
        assert client.stop(drain=False)["finished"]
        rows = list(stream)
        assert [row["status"] for row in rows] == ["CANCELLED", "STOPPED"]
        assert stream.reason == "the request is STOPPED"


def test_a_stop_that_is_wrong_stops_nothing(dispatcher, station, remote):
    with pytest.raises(InvalidArgumentError):
        remote.stop(timeout=-1)
    assert remote.statistics()["open"] == 0


def test_a_plain_client_sends_a_request(dispatcher, station):
    """As the document's other verbs, by a few lines of socket."""
    dispatcher.add(ScriptedProducer(echo, name="dmm0"), "dc.voltage")
    with Plain(station.path) as plain:
        plain.say({"v": "send", "t": "dc.voltage", "p": {"args": [3]}, "o": {"ttl": 60_000}})
        assert plain.hear() == {"stream": "open"}
        assert plain.hear()["message"]["value"] == ["dc.voltage", [3], {}]
        assert plain.hear()["message"]["event"] == "end"
        assert plain.hear() == {"end": "the request is COMPLETE"}
        assert plain.result({"v": "statistics"})["ended"] == {"COMPLETE": 1}


# ---- the command line ----------------------------------------------------------------------------


def test_ctl_send(dispatcher, station, capsys):
    """A line an outcome; 0 only if all have answered well."""
    dispatcher.add(ScriptedProducer(echo, echo, name="dmm0", site=0), "t")
    arguments = ["ctl", station.path, "send", "t", "1", "two", "k=[3]", "--ttl", "60000"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == 'dmm0: ["t", [1, "two"], {"k": [3]}]\n'
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["producer"] == "dmm0"
    dispatcher.add(ScriptedProducer(ValueError("no signal"), name="dmm1", site="aux"), "t")
    more = ["--site", "aux", "--to", "dmm1", "--priority", "3"]
    assert main([*arguments, *more]) == 1
    assert capsys.readouterr().out == "dmm1: ERROR ValueError: no signal\n"
    assert main([*arguments, "--site", "7"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("ate-dispatcher: ")


EVIL = "\x1b]0;owned\x07 \x9b2J µ"
SPELLED = "\\u001b]0;owned\\u0007 \\u009b2J µ"


def test_ctl_lets_nobody_drive_the_terminal(dispatcher, station, capsys):
    """What came from the bench is printed, its control characters spelled out."""
    dispatcher.add(ScriptedProducer(EVIL, name="good\x9b"), "t")
    dispatcher.add(ScriptedProducer(ValueError(EVIL), name="bad"), "u")
    send = ["ctl", station.path, "send"]
    assert main([*send, "t", "--ttl", "60000"]) == 0
    assert capsys.readouterr().out == f'good\\u009b: "{SPELLED}"\n'
    assert main([*send, "u", "--ttl", "60000"]) == 1
    assert capsys.readouterr().out == f"bad: ERROR ValueError: {SPELLED}\n"
    assert main([*send, EVIL]) == 1
    assert not set(EVIL) - {"µ"} & set("\x1b\x07\x9b") & set(capsys.readouterr().err)
    assert main([*send, "t", "--ttl", "60000", "--json"]) == 0
    out = capsys.readouterr().out
    assert "\x9b" not in out
    assert json.loads(out)["value"] == EVIL
    assert main(["ctl", station.path, "statistics"]) == 0
    out = capsys.readouterr().out
    assert "\x9b" not in out
    assert "good\x9b" in json.loads(out)["producers"]


def test_an_error_of_the_server_lets_nobody_drive_the_terminal(path, capsys):
    """Whatever is said by who listens there."""
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(path)
        listener.listen()

        def answer():
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                error = {"error": {"type": "StateError", "message": EVIL}}
                client.sendall(json.dumps(error).encode() + b"\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["ctl", path, "statistics"]) == 1
        thread.join(BOUND)
    assert capsys.readouterr().err == f"ate-dispatcher: {SPELLED}\n"


@pytest.mark.parametrize("word", ["NaN", "-Infinity", "[1, NaN]", "[" * 100_000])
def test_a_word_that_is_no_json_is_text(word):
    """What Python's reader takes and JSON has no form for could not be sent."""
    assert arguments([word, f"name={word}"]) == ([word], {"name": word})


def test_ctl_says_what_is_wrong(path, capsys):
    """One sentence, no traceback."""
    assert main(["ctl", path, "statistics"]) == 1
    assert capsys.readouterr().err == f"ate-dispatcher: there is no control socket at {path!r}\n"
    with SocketServer(path):
        assert main(["ctl", path, "statistics"]) == 1
        assert "no dispatcher" in capsys.readouterr().err
        assert main(["ctl", path, "send", "t", "ttl=5"]) == 1
        assert "--ttl" in capsys.readouterr().err
        assert main(["ctl", path, "stop"]) == 0
        assert capsys.readouterr().out == "stopped; there was no dispatcher\n"
    with pytest.raises(SystemExit):
        main(["ctl", path])


STATION = """
import sys
from ate_dispatcher import ATEDispatcher, current_request
from ate_dispatcher.control import SocketServer

with ATEDispatcher() as dispatcher:
    @dispatcher.producer("dc.voltage", name="dmm0", site=0)
    def measure(topic, channel=0):
        return 5.0 + channel

    @dispatcher.producer("wait", name="slow")
    def wait(topic):
        current_request().sleep(60)
        if current_request().cancelled:
            print("cancelled", flush=True)

    server = SocketServer(sys.argv[1], dispatcher=dispatcher)
    server.open()
    print("ready", flush=True)
    server.main()
print("ended", flush=True)
"""


def shell(*arguments, **options):
    """Start a real process that finds the package."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": HOME},
        **options,
    )


def ctl(path, *arguments):
    """Run ``ate-dispatcher ctl PATH …`` to its end."""
    with shell("-m", "ate_dispatcher", "ctl", path, *arguments) as process:
        out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def test_a_station_driven_from_a_shell(path):
    """Two processes: send, statistics, Ctrl-C in the middle of a request, and stop."""
    with shell("-c", STATION, path) as station:
        try:
            assert station.stdout.readline() == "ready\n"
            assert ctl(path, "send", "dc.voltage", "channel=2") == (0, "dmm0: 7.0\n", "")
            code, out, _ = ctl(path, "statistics")
            assert (code, json.loads(out)["producers"]["dmm0"]["ok"]) == (0, 1)
            with shell(
                "-m", "ate_dispatcher", "ctl", path, "send", "wait", "--ttl", "60000"
            ) as waits:
                client = SocketClient(path, timeout=20)
                until(lambda: client.statistics()["producers"]["slow"]["busy"])
                waits.send_signal(signal.SIGINT)
                waits.communicate(timeout=50)
            assert station.stdout.readline() == "cancelled\n"
            code, out, err = ctl(path, "stop")
            assert (code, out.split(";")[0], err) == (0, "stopped", "")
            assert station.communicate(timeout=50) == ("ended\n", "")
            assert station.returncode == 0
        finally:
            station.kill()
    assert not os.path.lexists(path)


def test_a_station_that_is_killed_leaves_a_place_that_can_be_taken(path):
    """kill -9: the next one begins as if nothing had been."""
    for _ in range(2):
        with shell("-c", STATION, path) as station:
            try:
                assert station.stdout.readline() == "ready\n"
                assert SocketClient(path).send_payload({"v": "ping"}) is None
            finally:
                station.kill()
    assert os.path.lexists(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_shortcut_ends_with_a_signal(path, number):
    """SocketServer.start: cleanly, and the path is gone."""
    code = f"from ate_dispatcher.control import SocketServer; SocketServer.start({path!r})"
    with shell("-c", code) as process:
        try:
            client = SocketClient(path)

            def there():
                try:
                    return client.create_channel()
                except ConnectionError:
                    return None

            until(there)
            process.send_signal(number)
            assert process.communicate(timeout=50) == ("", "")
            assert process.returncode == 0
        finally:
            process.kill()
    assert not os.path.lexists(path)
