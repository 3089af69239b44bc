"""What is left of the child processes of a script, however the script ends: nothing.

Each test runs a script in a process of its own. The script's children hold its standard output
open, so reading that to its end waits for the last of them, and only then their ids are looked at.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from test_process_producer import alive, needs_pipes

BOUND = 60  # seconds that anything may take before a test gives up on it

PRELUDE = """
import os, signal, sys, threading, time
from ate_dispatcher import ATEDispatcher, ResultListener
from ate_dispatcher.supervision import ProcessProducer
from instruments import Instrument, hanging_factory, LateStart

LONG = 60_000

def say(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def script(tmp_path):
    """Start a script, in which `main` is what is given, and end it with the test."""
    started = []

    def start(body):
        file = tmp_path / "script.py"
        main = textwrap.indent(textwrap.dedent(body), "    ")
        file.write_text(f"{PRELUDE}\n\nif __name__ == '__main__':\n{main}")
        paths = [str(Path(__file__).parent), *sys.path]
        process = subprocess.Popen(
            [sys.executable, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


HANGS = {
    "idle": "",
    "hanging": "dispatcher.send_request('t', 'stubborn', ttl=LONG).__iter__().__next__()",
    "calling": "dispatcher.send_request('t', 'endless', ttl=LONG).__iter__().__next__()",
}


@pytest.mark.parametrize("state", HANGS)
def test_no_orphan_is_left_by_a_parent_that_is_killed(script, state, tmp_path):
    """SIGKILL of the parent: the child notices the closed pipe, whatever its producer is at."""
    process = script(
        f"""
        dispatcher = ATEDispatcher()
        dispatcher.start()
        producer = dispatcher.add(ProcessProducer(Instrument), "t")
        dispatcher.send_request("t", "number", ttl=LONG).gather()
        {HANGS[state]}
        say(producer.pid)
        threading.Event().wait()
        """
    )
    pid = int(process.stdout.readline())
    assert alive(pid)
    process.kill()
    process.communicate(timeout=BOUND)  # to the end of what the last of them holds open
    assert not alive(pid)


@needs_pipes
def test_a_child_that_is_left_alone_stops_its_producer(script, tmp_path):
    """Where it can: `on_stop` still runs, so that the instrument is let go."""
    process = script(
        """
        import functools
        dispatcher = ATEDispatcher()
        dispatcher.start()
        factory = functools.partial(Instrument, "journal")
        dispatcher.add(ProcessProducer(factory, grace=20.0), "t")
        dispatcher.send_request("t", "number", ttl=LONG).gather()
        os.mkfifo("begun")
        say("made")
        dispatcher.send_request("t", "nap", "begun", ttl=LONG)
        threading.Event().wait()
        """
    )
    assert process.stdout.readline() == "made\n"
    assert (tmp_path / "begun").read_text() == "begun"
    process.kill()
    process.communicate(timeout=BOUND)
    assert (tmp_path / "journal").read_text().split("\n")[:4] == [
        "start",
        "slept False True",
        "safe",
        "stop",
    ]


def test_no_orphan_is_left_while_the_producer_is_made(script):
    """The pipe is listened to from the first moment, not only once the producer is there."""
    process = script(
        """
        dispatcher = ATEDispatcher()
        dispatcher.start()
        dispatcher.add(ProcessProducer(hanging_factory), "t")
        threading.Event().wait()
        """
    )
    assert process.stdout.readline() == "making\n"  # said by the child
    process.kill()
    process.communicate(timeout=BOUND)


def test_a_script_that_forgets_to_stop_gets_its_results_from_the_child(script):
    """C9: what is in flight at the end of the script is answered, and the child ends after it."""
    process = script(
        """
        class Printing(ResultListener):
            def process_dispatcher_result(self, topic, response):
                say(response)

        dispatcher = ATEDispatcher()
        dispatcher.start()
        producer = dispatcher.add(ProcessProducer(Instrument), "t")
        dispatcher.add(Printing(), "t")
        dispatcher.send_request("t", "number", ttl=LONG).wait(delivered=True)
        say(producer.pid)
        for _ in range(20):
            dispatcher.send_request("t", "number", ttl=LONG)
        """
    )
    output, errors = process.communicate(timeout=BOUND)
    lines = output.split()
    assert lines[0] == "1"
    assert lines[2:] == [str(number) for number in range(2, 22)]
    assert (process.returncode, errors) == (0, "")
    assert not alive(int(lines[1]))


@needs_pipes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_ends_the_child_well(script, number, tmp_path):
    """`stop_on_signals` and Ctrl-C: the child's `on_stop` runs and nothing is left."""
    process = script(
        """
        import functools
        with ATEDispatcher(grace=10.0) as dispatcher:
            dispatcher.stop_on_signals(signal.SIGTERM)
            factory = functools.partial(Instrument, "journal")
            producer = dispatcher.add(ProcessProducer(factory, grace=10.0), "t")
            dispatcher.send_request("t", "number", ttl=LONG).gather()
            os.mkfifo("begun")
            say(producer.pid)
            dispatcher.send_request("t", "nap", "begun", ttl=LONG).wait()
        """
    )
    pid = int(process.stdout.readline())
    assert (tmp_path / "begun").read_text() == "begun"
    process.send_signal(number)
    process.communicate(timeout=BOUND)
    assert process.returncode in (128 + number, -number)
    assert not alive(pid)
    assert (tmp_path / "journal").read_text().rstrip().endswith("stop")


def test_a_script_without_its_guard_is_told(tmp_path):
    """Without ``if __name__ == "__main__"`` the child would run the script again: it says so."""
    file = tmp_path / "script.py"
    file.write_text(
        PRELUDE
        + textwrap.dedent(
            """
            with ATEDispatcher() as dispatcher:
                producer = ProcessProducer(Instrument)
                dispatcher.add(producer, "t")
                producer.join(20)
                say(repr(producer._ate_failure))
            """
        )
    )
    paths = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=False,
    )
    assert "ended with exit code 1 while it was being started" in done.stdout
    assert 'under `if __name__ == "__main__":`' in done.stderr
