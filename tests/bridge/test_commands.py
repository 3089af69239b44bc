"""The commands ``agent``, ``send`` and ``listen``."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import pytest

import ate_dispatcher
from ate_dispatcher import ATEDispatcher
from ate_dispatcher.bridge import AgentHost, Bridge
from ate_dispatcher.bridge._commands import _Printer
from ate_dispatcher.cli import main
from ate_dispatcher.testing import ScriptedProducer

BOUND = 60
HOME = str(pathlib.Path(ate_dispatcher.__file__).parent.parent)

AGENT = """
from ate_dispatcher import Producer, current_request

class Dmm(Producer):
    def produce_dispatcher_output(self, topic, channel=0, offset=0.0):
        return 5.0 + channel + offset

class Needs(Producer):
    def __init__(self, address):
        super().__init__()

not_a_class = 5
"""


def fails(capsys, *arguments):
    assert main(list(arguments)) == 1
    return capsys.readouterr().err


# ---- send ----------------------------------------------------------------------------------------


def test_send_prints_each_outcome(url, host, capsys):
    """send: one line an outcome; well if all have answered well."""
    host.add(ScriptedProducer(lambda topic, *a, **k: [a, k], name="echo", site=1), "t")
    arguments = ["send", url, "t", "1", "two", '{"a": [null]}', "k=3", 'w="x"', "--expect", "echo"]
    assert main([*arguments, "--wait", str(BOUND)]) == 0
    out = capsys.readouterr().out
    assert out == 'echo: [[1, "two", {"a": [null]}], {"k": 3, "w": "x"}]\n'
    assert main([*arguments[:3], "--expect", "echo", "--wait", str(BOUND), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["producer"], told["site"], told["status"]) == ("echo", 1, "OK")
    assert told["value"] == [[], {}]


def test_send_says_what_failed(url, host, capsys):
    """send: a failed row is said with its reason, and so is a topic without anybody."""
    host.add(ScriptedProducer(ValueError("no signal"), name="dmm0"), "t")
    wait = ("--wait", str(BOUND))
    assert main(["send", url, "t", "--expect", "dmm0", *wait]) == 1
    assert capsys.readouterr().out == "dmm0: ERROR ValueError: no signal\n"
    assert main(["send", url, "u", "--expect", "psu0", "--wait", "0.01"]) == 1
    assert capsys.readouterr().out == "psu0: REJECTED 'psu0' has not announced itself yet\n"
    assert main(["send", url, "nobody", "--wait", "0.01"]) == 1
    error = capsys.readouterr().err
    assert "no producer is registered for 'nobody' (memory:// ends with this process)" in error


def test_send_lets_nobody_drive_the_terminal(url, host, capsys):
    """What came over the bus is printed, its control characters spelled out."""
    evil, spelled = "\x1b[2J\x9b µ", "\\u001b[2J\\u009b µ"
    host.add(ScriptedProducer(evil, ValueError(evil), evil, name="p"), "t")
    send = ["send", url, "t", "--expect", "p", "--wait", str(BOUND)]
    assert main(send) == 0
    assert main(send) == 1
    assert capsys.readouterr().out == f'p: "{spelled}"\np: ERROR ValueError: {spelled}\n'
    assert main([*send, "--json"]) == 0
    out = capsys.readouterr().out
    assert "\x9b" not in out
    assert json.loads(out)["value"] == evil


def test_listen_lets_nobody_drive_the_terminal(url, capsys):
    """As send does, with the topic."""
    with ATEDispatcher() as dispatcher, AgentHost(url) as host:
        dispatcher.add(_Printer(False, host), "t\x1b")
        dispatcher.add(ScriptedProducer("\x9b", name="p"), "t\x1b")
        dispatcher.send_request("t\x1b", ttl=60_000).wait(BOUND, delivered=True)
    assert capsys.readouterr().out == 't\\u001b p: "\\u009b"\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["t", "ttl=5"], "ttl is no keyword"),
        (["t", "--ttl", "0"], "ttl must be a positive number"),
        (["t", "--namespace", "a.*"], "no wildcards"),
    ],
)
def test_send_refuses(url, capsys, arguments, said):
    """Bad input: a mistake in the arguments is one sentence."""
    assert said in fails(capsys, "send", url, *arguments)


# ---- agent ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("dmm_of_a_test", "module:Class"),
        ("no_such_module_here:Dmm", "no module 'no_such_module_here'"),
        ("json.nothing:Dmm", "no module 'json.nothing'"),
        ("json:Dmm", "module 'json' has no 'Dmm'"),
        ("json:loads", "no Producer class"),
        ("json:JSONDecoder", "no Producer class"),
    ],
)
def test_an_agent_that_is_none(url, capsys, target, said):
    """Bad input: what does not exist, or is no producer, is named."""
    assert said in fails(capsys, "agent", url, target, "--topic", "t")


def test_an_agent_that_needs_more_than_the_command_gives(url, capsys):
    """Bad input: one sentence with what was given and what is missing, no traceback."""
    target = "ate_dispatcher:ExecutorProducer"
    error = fails(capsys, "agent", url, target, "--topic", "t", "--name", "dmm0")
    assert f"{target} cannot be made with name=: " in error
    assert "'function'" in error
    assert "with no arguments" in fails(capsys, "agent", url, target, "--topic", "t")


@pytest.mark.parametrize("command", [["agent", "dmm_alone:Dmm", "--topic"], ["listen"]])
def test_a_bus_that_nobody_else_can_reach(tmp_path, monkeypatch, capsys, command):
    """agent, listen: in a bus in memory they would wait for ever, and in silence."""
    (tmp_path / "dmm_alone.py").write_text(AGENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(AgentHost, "start", lambda host: pytest.fail("it begins"))
    error = fails(capsys, command[0], "Memory://bench", *command[1:], "t")
    assert error == "ate-dispatcher: memory:// ends with this process: nobody else could reach it\n"


@pytest.mark.parametrize(
    ("hook", "code", "said"),
    [
        (
            "raise OSError('no such port')",
            1,
            ["ate-dispatcher: 'fs' failed: OSError('no such port')"],
        ),
        ("self.stop()", 0, []),
    ],
)
def test_an_agent_that_ends_by_itself(tmp_path, hook, code, said):
    """agent: it does not live on for nobody; why it failed is one line, and the exit code."""
    (tmp_path / "fs.py").write_text(
        "from ate_dispatcher import Producer\n"
        "class Fs(Producer):\n"
        f"    def on_start(self): {hook}\n"
        "    def produce_dispatcher_output(self, topic): return 1\n"
    )
    command = ("agent", f"file://{tmp_path}/bus/", "fs:Fs", "--topic", "t", "--name", "fs")
    ended = subprocess.run(
        [sys.executable, "-m", "ate_dispatcher", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": HOME},
        text=True,
        capture_output=True,
        timeout=BOUND,
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.splitlines()[-1:] == said


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="needs signals, which Windows lacks")
def test_an_agent_in_a_process_of_its_own(tmp_path):
    """agent, listen: two processes on one bus; SIGTERM ends each well, and their work is done."""
    (tmp_path / "dmm.py").write_text(AGENT)
    url = f"file://{tmp_path}/bus/"
    environment = {**os.environ, "PYTHONPATH": HOME}

    def run(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "ate_dispatcher", *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    agent = run("agent", url, "dmm:Dmm", "--topic", "volts", "--site", "3", "--name", "dmm3")
    listener = run("listen", url, "#")
    try:
        with ATEDispatcher() as dispatcher, Bridge(dispatcher, url) as bridge:
            assert bridge.wait_for("dmm3", timeout=BOUND)
            machine, _, process = bridge.agents["dmm3"].rpartition(":")
            assert machine == socket.gethostname()
            assert process.isdigit()
            heard = threading.Event()
            waiter = threading.Thread(
                target=lambda: (wait_for_listener(bridge), heard.set()), daemon=True
            )
            waiter.start()
            assert heard.wait(BOUND)
            request = dispatcher.send_request("volts", 1, offset=0.5).gather(BOUND)
            assert request.values == {"dmm3": 6.5}
            assert list(request.by_site()) == [3]
            assert listener.stdout.readline() == "volts dmm3: 6.5\n"
    finally:
        for process in (agent, listener):
            process.terminate()
        said = [process.communicate(timeout=BOUND) for process in (agent, listener)]
    assert said[0] == ("'dmm3' serves volts (Ctrl-C ends it)\n", "")
    assert said[1] == ("", "listening to # (Ctrl-C ends it)\n")
    assert (agent.returncode, listener.returncode) == (0, 0)


def wait_for_listener(bridge):
    """Wait for the agent whose name only its process knows."""
    pause = threading.Event()
    while len(bridge.agents) < 2:
        pause.wait(0.01)
