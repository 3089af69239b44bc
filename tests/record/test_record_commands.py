"""The commands ``show`` and ``replay``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from runs import run

from ate_dispatcher import ATEDispatcher
from ate_dispatcher.cli import main
from ate_dispatcher.record import JSONLinesRecorder
from ate_dispatcher.testing import ScriptedProducer


@pytest.fixture
def recording(kind, path):
    run(kind(path), 2)
    return str(path)


def shown(capsys, *arguments, code=0):
    assert main(["show", *arguments]) == code
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["TIME", "TOPIC", "PRODUCER", "SITE", "OUTCOME", "MS", "VALUE"]
    return lines


def test_show_prints_a_table(recording, capsys):
    """A line an event, its columns below their headings."""
    lines = shown(capsys, recording)
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  "
    assert all(re.match(pattern, line) for line in lines)
    assert any(re.search(r"  v +a +0 +OK +\d+\.\d +5\.01$", line) for line in lines)
    assert any(re.search(r"  v +b +left +ERROR +\d+\.\d +KeyError: 'no'$", line) for line in lines)
    assert any(re.search(r"  v +COMPLETE +1 of 2 answered well$", line) for line in lines)
    assert len(lines) == 2 * 3 + 4 + 2 + 1


def test_a_recording_lets_nobody_drive_the_terminal(kind, path, capsys):
    """show, replay: what instruments said is printed, its control characters spelled out."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(kind(path), "t\x1b")
        dispatcher.add(ScriptedProducer(ValueError("\x1b[2J\x9b"), name="p\x1b"), "t\x1b")
        dispatcher.send_request("t\x1b", ttl=60_000).wait(60, delivered=True)
    lines = shown(capsys, str(path))
    (row,) = (line for line in lines if "ERROR" in line)
    assert re.search(r"  t\\u001b +p\\u001b +ERROR .* ValueError: \\u001b\[2J\\u009b$", row)
    assert main(["replay", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "t\\u001b p\\u001b: ERROR ValueError: \\u001b[2J\\u009b",
        "t\\u001b ended: COMPLETE",
    ]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["--topic", "v"], 6),
        (["--topic", "#"], 13),
        (["--topic", "stream", "--topic", "nobody"], 5),
        (["--site", "0"], 2),
        (["--site", "left"], 2),
        (["--outcome", "error"], 2),
        (["--outcome", "COMPLETE", "--topic", "v"], 2),
        (["--outcome", "timeout", "--outcome", "partial"], 3),
        (["--site", "9"], 0),
    ],
)
def test_show_filters(recording, filters, count, capsys):
    """Words of one kind are alternatives, kinds narrow each other."""
    assert len(shown(capsys, recording, *filters)) == count


def test_show_refuses_what_is_no_outcome(recording, capsys):
    """Bad input: a misspelt status would show an empty table."""
    assert main(["show", recording, "--outcome", "timout"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ate-dispatcher: no outcome 'TIMOUT': there are OK, ")
    assert "TIMEOUT" in error
    assert "EXPIRED" in error


def test_show_tells_of_gaps(tmp_path, capsys):
    """Whatever the filter: what is missing might have matched. The exit code tells, too."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path), 1)
    path.write_bytes(path.read_bytes()[:-3])
    first = shown(capsys, str(path), "--site", "9", code=1)[0]
    assert re.fullmatch(r"--- line \d+ is cut off after \d+ bytes ---", first)


@pytest.mark.parametrize("command", ["show", "replay"])
def test_a_file_that_is_none_is_one_sentence(command, tmp_path, capsys):
    """No traceback, exit code 1."""
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    assert main([command, str(path)]) == 1
    assert "is no recording: it begins with b'hello" in capsys.readouterr().err
    assert main([command, str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_replay_prints_the_events(recording, capsys):
    """In the recorded order; a speed is for seeing them as they came."""
    assert main(["replay", recording, "--speed", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13
    assert "v a: OK 5.01" in lines
    assert "v ended: COMPLETE" in lines
    assert "stream s: PARTIAL 1" in lines
    assert main(["replay", recording, "--speed", "0"]) == 1
    assert "speed must be positive" in capsys.readouterr().err


def test_replay_tells_what_is_missing(tmp_path, capsys):
    """On the other stream, and by its exit code."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path), 1)
    path.write_bytes(path.read_bytes()[:-3])
    assert main(["replay", str(path)]) == 1
    assert "is cut off" in capsys.readouterr().err


LISTENERS = """
from ate_dispatcher import ResultListener

class Keeps(ResultListener):
    heard = []
    def process_dispatcher_result(self, topic, response):
        self.heard.append((topic, response))

class Raises(ResultListener):
    def process_dispatcher_end(self, request):
        raise ValueError(request.topic)

class Demands(ResultListener):
    def __init__(self, path):
        super().__init__()
    process_dispatcher_result = print
"""


@pytest.fixture
def listeners(tmp_path, monkeypatch):
    """A module of listeners in the current folder."""
    (tmp_path / "listeners_of_a_test.py").write_text(LISTENERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "listeners_of_a_test"
    del sys.modules["listeners_of_a_test"]


def test_replay_to_a_listener(recording, listeners, capsys):
    """Instead of the terminal, each class once."""
    assert main(["replay", recording, "--to", f"{listeners}:Keeps"]) == 0
    assert capsys.readouterr().out == ""
    heard = sys.modules[listeners].Keeps.heard
    once = len(heard)
    assert ("v", 5.01) in heard
    assert main(["replay", recording, *2 * ["--to", f"{listeners}:Keeps"]]) == 0
    assert len(heard) == 3 * once


def test_replay_to_a_listener_that_raises(recording, listeners, capsys):
    """All events are played; how often it raised is said, and the exit code tells."""
    assert main(["replay", recording, "--to", f"{listeners}:Raises"]) == 1
    assert "listeners raised 5 times" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("listeners", "a ResultListener is named as module:Class, not 'listeners'"),
        ("no_such_module_here:Log", "no module 'no_such_module_here'"),
        ("json:Log", "module 'json' has no 'Log'"),
        ("json:JSONDecoder", "json:JSONDecoder is no ResultListener class"),
    ],
)
def test_replay_to_what_is_no_listener(recording, target, said, capsys, monkeypatch):
    """Bad input: one sentence, and nothing is played."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["replay", recording, "--to", target]) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert (out, len(err.splitlines())) == ("", 1)


def test_replay_to_a_listener_that_needs_arguments(recording, listeners, capsys):
    """Bad input: said of the class, not as a traceback."""
    assert main(["replay", recording, "--to", f"{listeners}:Demands"]) == 1
    err = capsys.readouterr().err
    assert f"{listeners}:Demands cannot be made without arguments" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes that break")
@pytest.mark.parametrize("command", ["show", "replay"])
def test_it_ends_quietly_when_nobody_reads_on(command, tmp_path):
    """As in ``ate-dispatcher show run.jsonl | head``."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path, durable="never"), 600)
    command = [sys.executable, "-m", "ate_dispatcher", command, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline().startswith((b"TIME", b"v "))
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 0
