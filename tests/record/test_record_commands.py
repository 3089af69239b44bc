"""The commands ``show`` and ``replay``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from runs import run

from ate_dispatcher.cli import main
from ate_dispatcher.record import JSONLinesRecorder


@pytest.fixture
def recording(kind, path):
    run(kind(path), 2)
    return str(path)


def shown(capsys, *arguments):
    assert main(["show", *arguments]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["TIME", "TOPIC", "PRODUCER", "SITE", "OUTCOME", "MS", "VALUE"]
    return lines


def test_show_prints_a_table(recording, capsys):
    """A line an event, its columns below their headings."""
    lines = shown(capsys, recording)
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  "
    assert all(re.match(pattern, line) for line in lines)
    assert any(re.search(r"  v +a +0 +OK +\d+\.\d  5\.01$", line) for line in lines)
    assert any(re.search(r"  v +b +left +ERROR +\d+\.\d  KeyError: 'no'$", line) for line in lines)
    assert any(re.search(r"  v +COMPLETE +1 of 2 answered well$", line) for line in lines)
    assert len(lines) == 2 * 3 + 4 + 2 + 1


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


def test_show_tells_of_gaps(tmp_path, capsys):
    """Whatever the filter: what is missing might have matched."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path), 1)
    path.write_bytes(path.read_bytes()[:-3])
    assert re.fullmatch(
        r"--- line \d+ is cut off after \d+ bytes ---", shown(capsys, str(path), "--site", "9")[0]
    )


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


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes that break")
def test_show_ends_quietly_when_nobody_reads_on(tmp_path):
    """As in ``ate-dispatcher show run.jsonl | head``."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path, durable="never"), 600)
    command = [sys.executable, "-m", "ate_dispatcher", "show", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline().startswith(b"TIME")
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 0
