"""Every example runs, as a user would run it."""

from __future__ import annotations

import csv
import pathlib
import subprocess
import sys

import pytest
from brokers import BROKERS, needed

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(name, folder, *arguments):
    return ran(name, folder, *arguments).stdout


def ran(name, folder, *arguments):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_first(tmp_path):
    """The shortest one prints what the README says it does."""
    assert run("first.py", tmp_path).splitlines() == [
        "voltage: 5.01 V",
        "voltage: 5.01 V",
        "COMPLETE {'dmm0': 5.01, 'dmm1': 5.01} missing: ()",
    ]


def test_the_readme_shows_the_first_example():
    """One text, in two places: the README's first block is examples/first.py."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```python\n", 1)[1].split("```", 1)[0]
    code = (EXAMPLES / "first.py").read_text(encoding="utf-8").split('"""\n\n', 1)[1]
    assert shown == code


def test_bench(tmp_path):
    """The one to copy measures on four sites, names who is missing, and fills its file."""
    pytest.importorskip("pyvisa", reason="needs the extra demo (pyvisa)")
    pytest.importorskip("pyvisa_sim", reason="needs the extra demo (pyvisa-sim)")
    said = run("bench.py", tmp_path)
    assert "voltage COMPLETE {'dmm0': 5.003, 'dmm1': 5.003" in said
    assert "EXPIRED missing: dmm0, dmm1, dmm2, dmm3" in said
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 4 + 4 + 2 + 4
    assert {row[2] for row in rows} == {"OK", "TIMEOUT"}
    assert len((EXAMPLES / "bench.py").read_text(encoding="utf-8").splitlines()) < 100


def test_status_board(tmp_path):
    """Stations tell a board how far they are, over channels."""
    assert run("status_board.py", tmp_path).splitlines() == [
        "station0 done: 2 good",
        "station1 done: 3 good",
        "station2 done: 2 good",
    ]


def test_calibration_service(tmp_path):
    """Request and reply with a state and a database; what was never calibrated is told."""
    assert run("calibration_service.py", tmp_path).splitlines() == [
        "stored",
        "channel 3: 5.000 V, asked 1 times",
        "LookupError: channel 4 was never calibrated",
    ]


def test_supervised_station(tmp_path):
    """A crash, a hang, a lost slot: each costs its own answer and nothing else."""
    done = ran("supervised_station.py", tmp_path)
    assert done.stdout.splitlines() == [
        "measure OK 5.01",
        "crash ERROR None",
        "hang TIMEOUT None",
        "measure OK 5.01",
        "chamber at 85 degrees",
        "['slot0', 'slot1', 'slot3']",
        "chamber at 25 degrees",
        "['slot0', 'slot1']",
        "{'dmm': 'ready', 'slot0': 'ready', 'slot1': 'ready', 'slot2': 'ready', 'slot3': 'failed'}",
    ]
    assert "slot3 failed" in done.stderr


@pytest.mark.parametrize(
    "name",
    ["memory", *(pytest.param(bus, marks=pytest.mark.system) for bus in ("mqtt", "kafka"))],
)
def test_same_application(tmp_path, name):
    """The same file on three buses says the same."""
    needed(BROKERS[name])
    with BROKERS[name]() as broker:
        said = run("same_application.py", tmp_path, broker.url)
    assert said.splitlines() == ["5.01 V: pass", "5.03 V: fail"]


def test_record_and_replay(tmp_path):
    """A limit that came too late for the run is checked on its recording."""
    assert run("record_and_replay.py", tmp_path).splitlines() == [
        "8 events recorded, 0 lost",
        "limit 5.05: 8 events, passed on sites [0, 1]",
        "limit 5.2: 8 events, passed on sites [0, 0, 1, 1]",
    ]
    assert (tmp_path / "run.jsonl").is_file()


def test_remote_station(tmp_path):
    """Two processes: requests, a watcher, statistics and stop over the control socket."""
    assert run("remote_station.py", tmp_path).splitlines() == [
        "dmm0 OK 5.2",
        "dmm1 OK 6.2",
        "seen by the watcher: outcome outcome end",
        "site 1 alone: 6.0",
        "stopped: True",
        "the station has ended with 0",
    ]


@pytest.mark.parametrize("name", ["memory", pytest.param("mqtt", marks=pytest.mark.system)])
def test_whole_station(tmp_path, name):
    """A recorder, an event stream, a status channel and a bridge tell the same of two requests."""
    needed(BROKERS[name])
    with BROKERS[name]() as broker:
        assert run("whole_station.py", tmp_path, broker.url).splitlines() == [
            "recorded: 6.0 7.0",
            "streamed: outcome end outcome end",
            "told:",
            "  floor.station7 done: voltage COMPLETE",
            "  floor.station7 done: voltage COMPLETE",
        ]
