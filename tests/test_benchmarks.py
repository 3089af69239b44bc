"""The benchmarks measure what they say: every contestant does the whole job, every figure is one.

The published 0.1.0 is left out: it is installed from the network, and runs the contestant that
ours runs too.
"""

from __future__ import annotations

import builtins
import importlib.util
import json
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import brokers
import pytest

from ate_dispatcher import ATEDispatcher
from ate_dispatcher.testing import Gate, ScriptedProducer

FOLDER = Path(__file__).parent.parent / "benchmarks"
PRODUCERS, LISTENERS, REQUESTS = 2, 2, 25


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", str(FOLDER / f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run():
    return load("run")


@pytest.fixture
def footprint(monkeypatch):
    """The module, with every repetition cut down to a look."""
    module = load("footprint")
    microseconds = module.microseconds
    monkeypatch.setattr(
        module,
        "microseconds",
        lambda dispatcher, topics, deliveries=0: microseconds(dispatcher, topics, 100),
    )
    monkeypatch.setattr(module, "range", lambda n: builtins.range(min(n, 10)), raising=False)
    yield module
    tracemalloc.stop()


WITNESSED = """
import collections, json, os, sys
sys.path.insert(0, sys.argv[1])
import contestants

shape = [int(word) for word in sys.argv[2:5]]
count = contestants.Listen.process_dispatcher_result

def witnessed(self, topic, response):
    heard[self].append((topic, response))
    count(self, topic, response)

contestants.Produce.produce_dispatcher_output = lambda self, topic, number: number
contestants.Listen.process_dispatcher_result = witnessed
for name in sys.argv[5:]:
    heard = collections.defaultdict(list)
    seconds = contestants.throughput(name, *shape)
    print(json.dumps([name, seconds, list(heard.values())]), flush=True)
os._exit(0)  # the threads of some never end
"""


@pytest.fixture(scope="module")
def deliveries(run):
    """What each contestant's listeners heard in one small run, all in a process of their own."""
    names = [name for name in run.NAMES if name not in (run.OLD, "pykka")]
    if importlib.util.find_spec("pykka"):
        names.append("pykka")
    shape = map(str, (PRODUCERS, LISTENERS, REQUESTS))
    done = subprocess.run(
        [sys.executable, "-c", WITNESSED, str(FOLDER), *shape, *names],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize(
    "name", ["ate-dispatcher", "SimpleQueue", "asyncio", "thread pools", "pykka"]
)
def test_every_contestant_delivers_everything(name, deliveries):
    """Each listener hears each producer's answer to each request, once, and then the clock stops.

    The clock stops at the number of deliveries, so a repeated one would show as another missing.
    """
    if name == "pykka":
        pytest.importorskip("pykka", reason="needs the extra bench (pykka)")
    seconds, heard = deliveries[name]
    assert 0 < seconds < 10
    assert len(heard) == LISTENERS
    each = sorted(["t", number] for number in range(REQUESTS) for _ in range(PRODUCERS))
    assert [sorted(own) for own in heard] == [each] * LISTENERS


def test_the_contestants_that_run_names_are_those_there_are(run):
    """Every column of the tables has its contestant, and none is forgotten."""
    contestants = load("contestants")
    assert sorted(run.NAMES) == sorted([*contestants.CONTESTANTS, run.LOOP])


def test_a_measurement_in_a_process_of_its_own(run, capsys):
    """A run gives the numbers that the scripts print; a table shows them, plain and as Markdown."""
    bench = run.Bench(1, 0.01, False, "")
    found = bench.interleaved([run.OURS, run.FLOOR], "contestants.py", "roundtrip", 10)
    for times in found.values():
        (p50, p99) = times[0]
        assert 0 < p50 <= p99
    assert run.median_ratio(found, run.OURS, run.FLOOR) > 0
    (seconds,) = bench.run("contestants.py", run.OURS, "throughput", 1, 1, 20)
    assert 0 < seconds < 10
    bench.table("Title", ["shape", "figure"], [["1x1", "20"]])
    bench.markdown = True
    bench.table("Title", ["shape", "figure"], [["1x1", "20"]])
    assert capsys.readouterr().out == (
        "\nTitle\nshape  figure\n  1x1      20\n"
        "\n**Title**\n\n| shape | figure |\n|---|---:|\n| 1x1 | 20 |\n"
    )


def test_the_verdicts_compare_in_the_right_direction(run):
    """Faster is more for a throughput and less for a latency; ratios are taken turn by turn."""
    assert run.verdict(10.0, 10) == "reached"
    assert run.verdict(9.5, 10) == "missed (9.50 of 10)"
    assert run.verdict(1.2, 1.2, at_most=True) == "reached"
    assert run.verdict(1.3, 1.2, at_most=True) == "missed (1.30 of 1.2)"
    found = {"a": [[2.0], [30.0], [8.0]], "b": [[1.0], [10.0], [2.0]]}
    assert run.median_ratio(found, "a", "b") == 3.0


def test_the_machine_is_described_in_a_line(run):
    """What the figures are worth depends on it."""
    assert "processors" in run.machine()
    assert len(run.machine().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("bytes_per_open", ""),
        ("growth", "answered"),
        ("growth", "nobody"),
        ("growth", "expiring"),
        ("topics", "3"),
        ("filters", "3"),
        ("idle", "0.01"),
    ],
)
def test_every_footprint_is_one_number(name, argument, footprint):
    """Each measure runs to its end on a small scale, and gives a figure that can be one."""
    figure = footprint.MEASURES[name](argument)
    assert isinstance(figure, (int, float))
    if name == "growth":  # in bytes, of a hundred requests of some hundreds each
        assert abs(figure) < 1_000_000
    else:
        assert 0 <= figure < 100_000


def test_every_footprint_is_covered(footprint):
    """A measure that is added is tested too."""
    assert set(footprint.MEASURES) == {"bytes_per_open", "growth", "topics", "filters", "idle"}


def test_recording_is_measured_for_every_format_and_durability(tmp_path, capsys):
    """A line each, after that of a listener that writes nothing; it asserts that all was read."""
    load("record").main(20, tmp_path)
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("nothing written: ")
    kinds = [line[:22].split() for line in lines]
    assert [kind[-1] for kind in kinds] == ["never", "request", "event"] * 3
    assert [" ".join(kind[:-1]) for kind in kinds[::3]] == ["JSON Lines", "CSV", "SQLite"]
    assert list(tmp_path.iterdir()) == []


# ---- the soak ------------------------------------------------------------------------------------


@pytest.fixture
def soak():
    """The module, as far as it can be had: it needs the client of a bus."""
    brokers.needed(brokers.Mosquitto)
    return load("soak")


@pytest.mark.slow
def test_the_soak_finds_nothing():
    """Some seconds of it: everything it watches is at work."""
    brokers.needed(brokers.Mosquitto)
    command = [sys.executable, str(FOLDER / "soak.py"), "--minutes", "0.2", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout
    assert "violations: 0" in done.stdout
    assert "lost 0" in done.stdout


def test_the_soak_sees_what_is_wrong(soak, dispatcher):
    """A value that is not the number sent, and a number that was confirmed and never came."""
    books = soak.Books()
    dispatcher.add(ScriptedProducer(2, name="dmm"), "t")
    books.enter(dispatcher.send_request("t", "ok", 2).gather(30))
    assert not books.wrong
    books.enter(dispatcher.send_request("t", "ok", 3).gather(30))
    assert "dmm gave 2 for 3" in books.wrong[0]
    numbers = soak.Numbers()
    numbers.confirmed(1)
    numbers.arrived(0)
    assert numbers.tally() == {"confirmed": 1, "lost": 1, "unconfirmed": 1}


def test_the_soak_sees_what_is_left(soak, tmp_path):
    """A thread, a descriptor, a file and a request that outlive the station."""
    before = soak.Baseline(tmp_path)
    with Gate() as gate, open(tmp_path / "left", "w"), ATEDispatcher() as dispatcher:
        thread = threading.Thread(target=gate.park)
        thread.start()
        request = dispatcher.send_request("nobody").gather(30)
        told = " ".join(soak.Baseline(tmp_path).differences(before))
        for name in ("threads", "descriptors", "files", "requests"):
            assert f"{name}: " in told
        gate.open()
        thread.join(30)
    assert request.roster == ()
