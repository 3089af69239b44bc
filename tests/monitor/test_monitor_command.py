"""``ate-dispatcher monitor``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from ate_dispatcher.cli import main

STATION = """
from ate_dispatcher import ATEDispatcher

def make():
    dispatcher = ATEDispatcher(name="mine")
    dispatcher.producer("t")(lambda topic: 1)
    return dispatcher

wrong = 5
"""

needs_signals = pytest.mark.skipif(
    os.name == "nt", reason="needs a system where SIGINT can be sent"
)


MADE = "from monitored_station import make; made = make()"


@pytest.fixture(autouse=True)
def _station(tmp_path, monkeypatch):
    (tmp_path / "monitored_station.py").write_text(STATION, encoding="utf-8")
    (tmp_path / "made_station.py").write_text(MADE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "monitored_station", raising=False)


def run(*arguments, number=signal.SIGINT, **environment):
    """Run the command, ask for its page, end it; give what it said, the status and its code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ate_dispatcher", "monitor", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        said = process.stdout.readline()
        url = said.split(" is shown at ")[1].split()[0]
        try:
            with urllib.request.urlopen(url.replace("0.0.0.0", "127.0.0.1"), timeout=30) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        process.send_signal(number)
        process.communicate(timeout=30)
        return said, status, process.returncode
    finally:
        process.kill()
        process.communicate()


@needs_signals
@pytest.mark.parametrize("target", ["monitored_station:make", "made_station:made"])
def test_a_dispatcher_of_a_module_is_shown(target):
    """Given by a function or by itself; found in the current folder; until Ctrl-C."""
    said, status, code = run(target)
    assert said.startswith("'mine' is shown at http://127.0.0.1:")
    assert (status, code) == (200, 0)


@needs_signals
def test_beyond_this_machine_a_token_is_made_up():
    """And printed; one from the environment is not printed. SIGTERM ends it too."""
    said, status, code = run("monitored_station:make", "--host", "0.0.0.0", number=signal.SIGTERM)
    assert "/?token=" in said
    assert (status, code) == (401, 0)  # without cookies the redirection leads to a closed door
    said, status, code = run("monitored_station:make", ATE_MONITOR_TOKEN="0123456789abcdef")
    assert "token" not in said
    assert (status, code) == (401, 0)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("monitored_station", "a dispatcher is named as module:name"),
        ("no_such_station:make", "there is no module 'no_such_station'"),
        ("monitored_station:nothing", "has no 'nothing'"),
        ("monitored_station:wrong", "is and gives no ATEDispatcher, but 5"),
    ],
)
def test_what_cannot_be_shown(target, words, capsys):
    """One sentence, exit code 1."""
    assert main(["monitor", target]) == 1
    assert words in capsys.readouterr().err
