"""The demo on PyVISA-sim."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest

pytest.importorskip("pyvisa_sim", reason="needs the extra demo (pyvisa-sim)")
pytest.importorskip("rich", reason="needs the extra demo (rich)")

pytestmark = pytest.mark.filterwarnings("ignore")  # of third-party libraries, on import


def demo(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ate_dispatcher", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with open(folder / "results.csv", newline="") as file:
        return done.stdout, list(csv.DictReader(file))


SMALL = ("--devices", "2", "--rounds", "3", "--seed", "2")


def test_it_adds_up_and_names_faults(tmp_path):
    """Outcomes = rosters for every request, in the summary and in the file; faults are named."""
    said, rows = demo(tmp_path, *SMALL)
    assert "every one accounted for" in said
    # One site, three topics of a multimeter and two of a supply, three rounds.
    assert len(rows) == 5 * 3
    bad = {row["producer"]: row for row in rows if row["status"] != "OK"}
    assert set(bad) == {"dmm0", "psu0"}
    assert bad["dmm0"]["status"] == "ERROR"
    assert "NONSENSE" in bad["dmm0"]["reason"]
    assert bad["psu0"]["status"] == "TIMEOUT"
    assert "still running" in said
    assert "\x1b" not in said


def test_a_seed_fixes_values_and_faults(tmp_path):
    """The same seed gives the same run."""

    def run():
        key = ("round", "topic", "producer", "status", "value")
        return sorted(tuple(row[name] for name in key) for row in demo(tmp_path, *SMALL)[1])

    assert run() == run()


def test_a_path_that_cannot_be_written_is_said_before_anything_runs(tmp_path):
    """An output that cannot be opened ends the demo with one sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "ate_dispatcher", "demo", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr


def test_the_live_table_on_a_terminal(tmp_path):
    """On a terminal it shows every instrument and the progress while it runs."""
    import io

    from rich.console import Console

    from ate_dispatcher import ATEDispatcher
    from ate_dispatcher.demo._bench import places
    from ate_dispatcher.demo._display import Display
    from ate_dispatcher.testing import ScriptedProducer

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ATEDispatcher() as dispatcher, Display(console, places(2), 1) as display:
        dispatcher.add(ScriptedProducer(5.5, name="dmm0"), "voltage")
        for outcome in dispatcher.send_request("voltage"):
            display.outcome(outcome)
        display.ended()
    assert "dmm0" in screen.getvalue()
    assert "5.5" in screen.getvalue()
    assert "1/1" in screen.getvalue()
