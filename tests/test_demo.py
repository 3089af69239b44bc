"""The demo on PyVISA-sim."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip("pyvisa", reason="needs the extra demo (pyvisa)")
pytest.importorskip("pyvisa_sim", reason="needs the extra demo (pyvisa-sim)")
pytest.importorskip("rich", reason="needs the extra demo (rich)")

import pyvisa
from rich.console import Console
from trace_rules import validated

from ate_dispatcher import ATEDispatcher, StateError
from ate_dispatcher._resources import Hold
from ate_dispatcher.cli import main
from ate_dispatcher.demo import _chamber, _display, _instruments, _places, _run
from ate_dispatcher.demo._bench import BENCH, CHAMBER, places, write_bench
from ate_dispatcher.demo._display import Display, adds_up
from ate_dispatcher.demo._instruments import COMMANDS
from ate_dispatcher.demo._script import Script
from ate_dispatcher.record import RecordedOutcome, RecordedRequest, read, replay
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

ONE_SITE = places(2)
ONE_ROUND = ("--devices", "2", "--rounds", "1", "--seed")
FAILING, SLOW_AND_FAILING = "1", "19"
"""Seeds whose script has in that one round one failing measurement, and a slow one as well."""

RICH_READS = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    for name in RICH_READS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_instruments, "SETTLING", 0.001)
    monkeypatch.setattr(_chamber, "SOAKING", 0.001)


@pytest.fixture
def patient(monkeypatch):
    """No measurement but a slow one misses its deadline, however busy the machine is."""
    monkeypatch.setattr(_run, "TTL", 30_000)


@pytest.fixture
def faultless(patient, monkeypatch):
    """As `patient`, and what is too slow is not so for long."""
    monkeypatch.setattr(_instruments, "STUCK", 0.001)


def rows(path="results.csv"):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def faults(seed):
    """What the script of one round has in store: {(instrument, topic): fault}."""
    script = Script(seed, ONE_SITE)
    asked = [(place.name, topic) for place in ONE_SITE for topic in COMMANDS[place.kind]]
    return {key: script.turn(*key, 1).fault for key in asked}


def test_it_adds_up_and_names_every_fault(capsys):
    """It ends well; the summary says of each fault whose it was, and why; the file has it all."""
    assert main(["demo", *ONE_ROUND, SLOW_AND_FAILING]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 instruments said who they are" in said
    assert "7 requests, 8 rows in their rosters, 8 outcomes in results.csv" in said
    assert "every one accounted for" in said
    assert "round 1 current: psu0 missed its deadline of 250 ms: " in said
    assert "latency of an answer: p50 " in said
    # Two identities, three topics of a multimeter, two of a supply, one soak of the only site.
    assert len(rows()) == 2 + 3 + 2 + 1
    late = [row for row in rows() if row["status"] == "TIMEOUT"]
    assert ("psu0", "current") in [(row["producer"], row["topic"]) for row in late]


@pytest.mark.usefixtures("patient")
def test_what_fails_is_the_seed_s_choice_and_nothing_else(capsys):
    """Every measurement ends as the script has it, with its value or the instrument's answer."""
    assert main(["demo", *ONE_ROUND, FAILING]) == 0
    found = {(row["producer"], row["topic"]): row for row in rows() if row["round"] == "1"}
    assert found.pop(("slot0", "soak"))["value"] == "25.0"
    expected = faults(int(FAILING))
    assert found.keys() == expected.keys()
    for key, row in found.items():
        assert row["status"] == ("ERROR" if expected[key] else "OK")
        assert row["site"] == "0"
    failed = found["dmm0", "resistance"]
    assert failed["value"] == ""
    assert "'MEAS:NONSENSE?' was answered with 'ERROR'" in failed["reason"]
    assert "round 1 resistance: dmm0 ERROR: InstrumentError: " in capsys.readouterr().out


@pytest.mark.usefixtures("patient")
def test_a_seed_fixes_values_and_faults():
    """The same seed gives the same run, another one other values."""

    def run(seed):
        assert main(["demo", *ONE_ROUND, seed]) == 0
        keys = ("round", "topic", "producer", "status", "value")
        return sorted(tuple(row[key] for key in keys) for row in rows())

    first = run(FAILING)
    assert run(FAILING) == first
    assert run("8") != first


def test_who_is_slow_and_who_fails():
    """The last instrument is now and then slow, the first sometimes fails, nobody else does."""
    bench = places(8)
    script = Script(1, bench)
    seen = set()
    for place in bench:
        for number in range(50):
            seen.add((place.name, script.turn(place.name, "voltage", number).fault))
    expected = {(place.name, None) for place in bench}
    assert seen == expected | {("psu3", "slow"), ("dmm0", "failing")}


@pytest.mark.usefixtures("patient")
def test_devices_and_output(tmp_path, capsys):
    """--devices gives as many instruments, two a site; --output says where the file goes."""
    path = tmp_path / "here.csv"
    arguments = ("--devices", "11", "--rounds", "1", "--seed", "2", "--output", str(path))
    assert main(["demo", *arguments]) == 0
    assert "11 instruments, 6 sites, 1 rounds, seed 2" in capsys.readouterr().out
    names = {row["producer"] for row in rows(path)}
    slots = {f"slot{site}" for site in range(6)}
    dmms = {f"dmm{site}" for site in range(6)}
    assert names == dmms | {f"psu{site}" for site in range(5)} | slots
    assert {row["site"] for row in rows(path)} == set("012345")
    assert not (tmp_path / "results.csv").exists()


def test_the_bench_file_stands_for_itself(tmp_path):
    """The bench of the package is a four-site one as it is; what is written has every place."""

    def resources(path):
        manager = pyvisa.ResourceManager(f"{path}@sim")
        try:
            return set(manager.list_resources("?*"))
        finally:
            manager.close()

    assert resources(BENCH) == {CHAMBER, *(place.resource for place in places(8))}
    write_bench(tmp_path / "bench.yaml", places(20))
    assert resources(tmp_path / "bench.yaml") == {
        CHAMBER,
        *(place.resource for place in places(20)),
    }


@pytest.mark.usefixtures("patient")
def test_it_is_plain_and_quiet_without_a_terminal(capsys):
    """Without a terminal there are plain lines alone: no table that moves, frame or colour."""
    assert main(["demo", *ONE_ROUND, FAILING]) == 0
    out, err = capsys.readouterr()
    assert out.isascii()
    assert out.isprintable() or set(filter(lambda c: not c.isprintable(), out)) == {"\n"}
    assert "timeouts" not in out  # a heading of the live table
    assert err == ""


def on_terminal(*arguments):
    """Run the demo on a terminal of its own and give what it has written there."""
    pty = pytest.importorskip("pty", reason="needs a system with pseudo-terminals")
    master, slave = pty.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "ate_dispatcher", "demo", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        written = io.BytesIO()
        try:
            while True:
                some = os.read(master, 65536)
                if not some:
                    break
                written.write(some)
        except OSError:  # what Linux says when the other end is closed
            pass
        assert child.wait(timeout=30) == 0
    finally:
        os.close(master)
    return written.getvalue().decode()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d)(?:;\d+)*m")


def test_on_a_terminal_it_is_live_and_coloured():
    """On a terminal there is the live table with its progress, in colours, and the cursor again."""
    seen = on_terminal(*ONE_ROUND, FAILING)
    assert "timeouts" in seen
    assert "6/6" in seen
    assert "chamber at 25 degrees" in seen
    assert COLOUR.search(seen)
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert "every one accounted for" in seen


def test_no_color():
    """--no-color is the same without any colour."""
    seen = on_terminal(*ONE_ROUND, FAILING, "--no-color")
    assert "timeouts" in seen
    assert not COLOUR.search(seen)


def test_the_live_table():
    """The table has each instrument's last outcome and its counts."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ATEDispatcher() as dispatcher, Display(console, ONE_SITE, 2) as display:
        dispatcher.add(ScriptedProducer(5.5, name="dmm0"), "voltage")
        dispatcher.add(ScriptedProducer(ValueError("[red]"), name="psu0"), "voltage")
        for outcome in dispatcher.send_request("voltage"):
            display.outcome(outcome)
        display.ended()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert re.search(r"dmm0\W+voltage 5\.5\W+1\W+0\W+0\W", shown)
    assert re.search(r"psu0\W+voltage ERROR\W+0\W+1\W+0\W", shown)
    assert "1/2" in shown


def test_what_does_not_add_up_is_seen(gate):
    """The check of the sum is one: an open request, or an outcome not written, fails it."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(ScriptedProducer(gate, name="dmm0"), "voltage")
        request = dispatcher.send_request("voltage", ttl=30_000)
        assert not adds_up([request], 0)
        gate.open()
        assert request.wait(30)
        assert adds_up([request], 1)
        assert not adds_up([request], 0)


def test_a_sum_that_is_wrong_is_said(monkeypatch, capsys):
    """An exit code of its own, and a sentence that cannot be overlooked."""
    monkeypatch.setattr(_run, "adds_up", lambda requests, rows: False)
    assert main(["demo", *ONE_ROUND, FAILING]) == 1
    assert "THEY DO NOT ADD UP" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--output", "--record", "--timeline"])
def test_an_output_that_cannot_be_written_is_told_at_once(option, tmp_path, capsys):
    """A path that cannot be opened is one sentence, before any instrument is touched."""
    assert main(["demo", option, str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert str(tmp_path) in err
    assert len(err.splitlines()) == 1
    assert "instruments said" not in out


# ---- sites, resources and safe states ------------------------------------------------------------


@pytest.fixture
def switched(monkeypatch):
    """What was done to the outputs of the supplies, and how each was in the end."""
    done = []

    class Noted(_instruments.PowerSupply):
        def on_start(self):
            super().on_start()
            done.append((self.name, self._session.query("OUTP?")))

        def on_stop(self):
            done.append((self.name, self._session.query("OUTP?")))
            super().on_stop()

    monkeypatch.setattr(_places, "PowerSupply", Noted)
    return done


@pytest.mark.usefixtures("faultless")
def test_every_supply_is_switched_off_in_the_end(switched, capsys):
    """On while it is used; off, last of all first, when all is over: and it is said."""
    assert main(["demo", "--devices", "6", "--rounds", "1"]) == 0
    supplies = ["psu0", "psu1", "psu2"]
    assert sorted(switched[:3]) == [(name, "1") for name in supplies]
    assert sorted(switched[3:]) == [(name, "0") for name in supplies]
    assert "outputs switched off: psu2, psu1, psu0\n" in capsys.readouterr().out


@pytest.mark.usefixtures("faultless")
def test_a_supply_that_cannot_be_switched_off_is_named(monkeypatch, capsys):
    """Nobody is to touch it: it is said, whatever else went well."""

    def broken(self):
        raise OSError("no answer")

    monkeypatch.setattr(_instruments.PowerSupply, "safe_state", broken)
    assert main(["demo", *ONE_ROUND, FAILING]) == 0
    said = capsys.readouterr().out
    assert "psu0 IS NOT KNOWN TO BE SAFE\n" in said
    assert "outputs switched off" not in said


@pytest.mark.usefixtures("faultless")
def test_the_chamber_is_moved_once_for_all_sites(monkeypatch, capsys):
    """All slots have the same answer, of one move a round."""
    moved = []
    move = _chamber.Chamber._move

    def noted(self, celsius):
        moved.append(celsius)
        return move(self, celsius)

    monkeypatch.setattr(_chamber.Chamber, "_move", noted)
    assert main(["demo", "--devices", "6", "--rounds", "4"]) == 0
    assert moved == [25, -40, 85, 25]
    soaked = [(row["round"], row["value"]) for row in rows() if row["topic"] == "soak"]
    values = [(str(n), f"{celsius:.1f}") for n, celsius in enumerate(moved, start=1)]
    assert soaked == [value for value in values for _ in range(3)]
    said = capsys.readouterr().out
    assert "the chamber was moved 4 times, each time once for all its sites (3)\n" in said


def test_two_multimeters_share_a_bus(monkeypatch, capsys):
    """One measures while the other is at its door; who had to wait, and how long, is said."""
    at_the_door = threading.Semaphore(0)
    sleep, read = Hold.sleep, _instruments.Instrument._read
    order = []

    def told(hold):
        at_the_door.release()
        sleep(hold)

    def noted(self, command, factor):
        order.append(f"{self.name} begins")
        if len(order) == 1:
            assert at_the_door.acquire(timeout=30)
        value = read(self, command, factor)
        order.append(f"{self.name} ends")
        return value

    monkeypatch.setattr(Hold, "sleep", told)
    monkeypatch.setattr(_instruments.Instrument, "_read", noted)
    pair = [place for place in places(8) if place.shares]
    assert [place.name for place in pair] == ["dmm0", "dmm1"]
    script = Script(1, places(8))
    with _places._opened(pair) as manager, ATEDispatcher() as dispatcher:
        for place in pair:
            dispatcher.add(_instruments.Instrument(place, manager, script), "voltage")
        request = dispatcher.send_request("voltage", 1, ttl=60_000).gather(30)
        dispatcher.stop()
    first, second = (entry.split()[0] for entry in order[::2])
    assert order == [f"{name} {what}" for name in (first, second) for what in ("begins", "ends")]
    _display.print_summary(Console(), [request])
    assert f"1 measurements of {second} waited for GPIB0, p50 " in capsys.readouterr().out


# ---- recording and timeline ----------------------------------------------------------------------


def events_of(path):
    """Give what a recording has, as far as it is to be the same when it is played again."""
    return [
        (
            event.topic,
            event.producer,
            event.site,
            event.status.value,
            event.value,
        )
        if isinstance(event, RecordedOutcome)
        else (event.topic, event.status.value)
        for event in read(path)
    ]


def heard_of(path):
    """Give the same of what a listener hears when it is played."""
    heard = []

    class Keeps(RecordingListener):
        def process_dispatcher_outcome(self, outcome):
            heard.append(
                (
                    outcome.topic,
                    outcome.producer,
                    outcome.site,
                    outcome.status.value,
                    outcome.value,
                )
            )

        def process_dispatcher_end(self, request):
            heard.append((request.topic, request.status.value))

    report = replay(path, [Keeps()])
    assert (report.gaps, report.errors) == ((), 0)
    return heard


def kept_rules(path):
    return validated(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.usefixtures("faultless")
def test_it_is_recorded_and_drawn(tmp_path, capsys):
    """The recording has every row of the file, and replays; the picture keeps the rules."""
    record, timeline = tmp_path / "run.jsonl", tmp_path / "run.json"
    files = ("--record", str(record), "--timeline", str(timeline))
    assert main(["demo", "--devices", "4", "--rounds", "2", *files]) == 0
    said = capsys.readouterr().out
    recorded = events_of(record)
    outcomes = [event for event in recorded if len(event) == 5]
    assert f"{len(recorded)} events in {record}: " in said
    assert f"timeline in {timeline}: " in said
    assert len(outcomes) == len(rows())
    assert heard_of(record) == recorded
    events = kept_rules(timeline)
    lanes = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"dmm0", "psu1", "slot0", "slot1"} <= lanes
    requests = [e for e in events if e["ph"] == "b" and e["cat"] == "request"]
    assert len(requests) == len(recorded) - len(outcomes)


INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from ate_dispatcher.cli import main\n"
    "sys.exit(main(sys.argv[1:]))"
)


def interrupted(*arguments):
    """Run the demo, send it a SIGINT in the middle of its rounds, give what it has said."""
    command = [sys.executable, "-u", "-c", INTERRUPTIBLE, "demo", "--rounds", "100000", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            for line in child.stdout:
                if "said who they are" in line:  # it is measuring now
                    break
            child.send_signal(signal.SIGINT)
            said, wrong = child.communicate(timeout=60)
        finally:
            child.kill()
    assert wrong == ""
    assert child.returncode == 130
    return said


@pytest.mark.skipif(os.name == "nt", reason="needs sessions")
def test_no_ctrl_c_comes_to_the_processes_of_the_sites(tmp_path, monkeypatch, capsys):
    """They have a session of their own: one that comes while they begin would be a traceback."""
    serve = (
        "import os, sys; sys.stdin.readline()\n"
        "with open(f'{os.getpid()}.pid', 'w') as file: file.write(str(os.getsid(0)))"
    )
    monkeypatch.setattr(_places, "SERVE", serve)
    monkeypatch.setattr(_places, "ARRIVAL", 0.001)
    assert main(["demo", "--devices", "2", "--bus", "memory://"]) == 1
    assert "had been found on the bus" in capsys.readouterr().err
    (file,) = tmp_path.glob("*.pid")
    assert file.read_text() == file.stem


def test_a_site_whose_parent_ends_while_it_begins_ends_quietly(monkeypatch):
    """Its host is stopped before it has begun; nothing is wrong with that."""

    class Host:
        def __init__(self, *args, **kwargs):
            self.stopped = threading.Event()
            self.stop = self.stopped.set

        def __enter__(self):
            assert self.stopped.wait(60)
            raise StateError("closed meanwhile")

        def __exit__(self, *error):
            raise AssertionError("it has not begun")

    task = {"bus": "memory://", "namespace": "n", "seed": 1, "site": 0, "devices": 2}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(task) + "\n"))
    monkeypatch.setattr(_places, "AgentHost", Host)
    handler = signal.getsignal(signal.SIGINT)
    try:
        _places.serve()
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.skipif(os.name == "nt", reason="needs a system where SIGINT can be sent")
def test_ctrl_c_ends_it_with_the_summary_so_far(tmp_path):
    """C9: no traceback: the open request ends, outputs are off, all adds up, files are whole."""
    record, timeline = tmp_path / "run.jsonl", tmp_path / "run.json"
    files = ("--record", str(record), "--timeline", str(timeline))
    said = interrupted("--devices", "4", *files)
    assert "outputs switched off: psu1, psu0\n" in said
    assert "interrupted; the summary so far" in said
    assert "every one accounted for" in said
    assert f"{len(rows())} outcomes in results.csv" in said
    recorded = events_of(record)
    assert len([event for event in recorded if len(event) == 5]) == len(rows())
    assert f"{len(recorded)} events in {record}: " in said
    assert heard_of(record) == recorded
    assert all(isinstance(event, (RecordedOutcome, RecordedRequest)) for event in read(record))
    assert kept_rules(timeline)


@pytest.mark.skipif(os.name == "nt", reason="needs a system where SIGINT can be sent")
def test_ctrl_c_switches_off_what_is_in_other_processes_too(tmp_path):
    """Each process makes its own instruments safe when the first one ends, and says so."""
    said = interrupted("--devices", "4", "--bus", f"file://{tmp_path}/bus/")
    for site in (0, 1):
        assert f"site {site}: outputs switched off: psu{site}\n" in said
    assert "every one accounted for" in said


@pytest.mark.usefixtures("patient")
def test_over_a_bus_it_is_the_same_bench(tmp_path, capsys, monkeypatch):
    """Each site in a process of its own, the same values and faults, and no process is left."""
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(_places.subprocess, "Popen", Noted)
    arguments = ["demo", "--devices", "4", "--rounds", "1", "--seed", "8"]  # one of them fails
    assert main(arguments) == 0
    before = {(row["producer"], row["topic"]): (row["status"], row["value"]) for row in rows()}
    capsys.readouterr()
    assert main([*arguments, "--bus", f"file://{tmp_path}/bus/"]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 instruments said who they are" in said
    assert "every one accounted for" in said
    after = {(row["producer"], row["topic"]): (row["status"], row["value"]) for row in rows()}
    assert after == before
    assert any(status == "ERROR" for status, _ in after.values())
    assert [process.returncode for process in started] == [0, 0]


def test_what_is_said_drives_no_terminal():
    """What an agent on a bus has said is spelled out, as by the other commands."""
    screen = io.StringIO()
    _display.say(Console(file=screen, force_terminal=True), "bad \x1b]0;owned\x9b µ")
    assert screen.getvalue() == "bad \\u001b]0;owned\\u009b µ\n"
