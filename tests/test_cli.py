"""The command line."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

import ate_dispatcher
from ate_dispatcher.cli import main


def test_version(capsys):
    """`--version` prints the package's version."""
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"ate-dispatcher {ate_dispatcher.__version__}\n"


def test_no_command_prints_the_help(capsys):
    """Without a command it says which there are, and fails."""
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["0", "-3", "many"])
def test_a_number_that_cannot_be_meant_is_refused(argument, capsys):
    """A mistake in the arguments is named."""
    with pytest.raises(SystemExit) as end:
        main(["demo", "--devices", argument])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert argument in said
    assert re.search("must be (at least 1|a whole number), not ", said)


@pytest.mark.parametrize("library", ["pyvisa", "pyvisa_sim", "rich"])
def test_a_missing_extra_is_one_sentence(library, monkeypatch, capsys):
    """Without one of the extra's libraries the demo says which, and what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["demo"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        rf'ate-dispatcher: the demo needs .*{library}.*: pip install "ate-dispatcher\[demo\]"\n',
        err,
    )


def test_a_missing_extra_in_a_process_of_its_own():
    """The same as a user meets it: the import blocked, no traceback, exit code 1."""
    code = (
        "import sys; sys.modules['pyvisa'] = None\n"
        "from ate_dispatcher.cli import main\n"
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert 'pip install "ate-dispatcher[demo]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_line_needs_no_extra():
    """Importing it, and asking for help, imports nothing of a subcommand."""
    code = (
        "import sys; from ate_dispatcher.cli import main\n"
        "assert main([]) == 2\n"
        "assert not {'pyvisa', 'rich', 'ate_dispatcher.demo'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command():
    """`python -m ate_dispatcher` is the same."""
    done = subprocess.run(
        [sys.executable, "-m", "ate_dispatcher", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ate_dispatcher.__version__ in done.stdout


@pytest.mark.parametrize("command", [["send", "memory://"], ["ctl", "bench.sock", "send"]])
def test_only_what_is_required_is_called_so(command, capsys):
    """Arguments of a request are none of it: the topic is."""
    with pytest.raises(SystemExit):
        main(command)
    assert capsys.readouterr().err.rstrip().endswith("arguments are required: TOPIC")


@pytest.mark.parametrize(
    ("work", "command"),
    [
        ("control._commands.send", ["ctl", "bench.sock", "send", "v"]),
        ("bridge._commands.send", ["send", "memory://", "v"]),
        ("record._commands.replay", ["replay", "run.jsonl", "--speed", "1"]),
    ],
)
def test_ctrl_c_ends_a_command_without_a_traceback(work, command, monkeypatch, capsys):
    """It exits as shells know it of an interrupted process."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    module, name = work.rsplit(".", 1)
    monkeypatch.setattr(importlib.import_module(f"ate_dispatcher.{module}"), name, interrupted)
    assert main(command) == 130
    assert capsys.readouterr() == ("", "")
