"""The demo on PyVISA-sim."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("pyvisa", reason="needs the extra demo (pyvisa)")
pytest.importorskip("pyvisa_sim", reason="needs the extra demo (pyvisa-sim)")
pytest.importorskip("rich", reason="needs the extra demo (rich)")

import pyvisa
from rich.console import Console

from ate_dispatcher import ATEDispatcher
from ate_dispatcher.cli import main
from ate_dispatcher.demo import _instruments, _places, _run
from ate_dispatcher.demo._bench import BENCH, places, write_bench
from ate_dispatcher.demo._display import Display, adds_up
from ate_dispatcher.demo._instruments import COMMANDS
from ate_dispatcher.demo._script import Script
from ate_dispatcher.testing import ScriptedProducer

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


@pytest.fixture
def patient(monkeypatch):
    """No measurement but a slow one misses its deadline, however busy the machine is."""
    monkeypatch.setattr(_run, "TTL", 30_000)


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
    assert "6 requests, 7 rows in their rosters, 7 outcomes in results.csv" in said
    assert "every one accounted for" in said
    assert "round 1 current: psu0 missed its deadline of 250 ms: " in said
    assert "latency of an answer: p50 " in said
    # Two identities, three topics of a multimeter, two of a supply.
    assert len(rows()) == 2 + 3 + 2
    late = [row for row in rows() if row["status"] == "TIMEOUT"]
    assert ("psu0", "current") in [(row["producer"], row["topic"]) for row in late]


@pytest.mark.usefixtures("patient")
def test_what_fails_is_the_seed_s_choice_and_nothing_else(capsys):
    """Every measurement ends as the script has it, with its value or the instrument's answer."""
    assert main(["demo", *ONE_ROUND, FAILING]) == 0
    found = {(row["producer"], row["topic"]): row for row in rows() if row["round"] == "1"}
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
    assert names == {f"dmm{site}" for site in range(6)} | {f"psu{site}" for site in range(5)}
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

    assert resources(BENCH) == {place.resource for place in places(8)}
    write_bench(tmp_path / "bench.yaml", places(20))
    assert resources(tmp_path / "bench.yaml") == {place.resource for place in places(20)}


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
    assert "5/5" in seen
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


def test_an_output_that_cannot_be_written_is_told_at_once(tmp_path, capsys):
    """A path that cannot be opened is one sentence, before any instrument is touched."""
    assert main(["demo", "--output", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert str(tmp_path) in err
    assert len(err.splitlines()) == 1
    assert "instruments said" not in out


@pytest.mark.skipif(os.name == "nt", reason="needs a system where SIGINT can be sent")
def test_ctrl_c_ends_it_with_the_summary_so_far():
    """C9: Ctrl-C is no traceback: the open request ends, all adds up, the file is whole."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ate_dispatcher.cli import main\n"
        "sys.exit(main(['demo', '--devices', '2', '--rounds', '100000']))"
    )
    command = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            for line in child.stdout:
                if "said who they are" in line:  # it is measuring now
                    break
            child.send_signal(signal.SIGINT)
            said, wrong = child.communicate(timeout=30)
        finally:
            child.kill()
    assert wrong == ""
    assert child.returncode == 130
    assert "interrupted; the summary so far" in said
    assert "every one accounted for" in said
    assert f"{len(rows())} outcomes in results.csv" in said


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
