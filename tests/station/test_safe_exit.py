"""Safe states as a shell sees them: real processes, real signals, each supply made safe once.

A child says on its standard output when it is ready for a signal and which supply is made safe. An
interpreter may lose sight of a signal that comes right before it waits, so the signal is repeated
if nothing comes of it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap

import pytest

BOUND = 60
MADE_SAFE = ["safe three", "safe two", "safe one"]

needs_signals = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs signals that can be sent to a process"
)

PRELUDE = """
import signal, sys, threading
from ate_dispatcher import ATEDispatcher, Producer, _lifetime, current_request

MINUTE = 60_000
ready = threading.Barrier(4)

def say(words):
    sys.stdout.write(f"{words}\\n")  # one call: lines of two threads stay whole
    sys.stdout.flush()

class Supply(Producer):
    def produce_dispatcher_output(self, topic):
        ready.wait(30)
        current_request().sleep(60)

    def safe_state(self):
        say(f"safe {self.name}")

def begin(dispatcher, kind=Supply):
    # Three supplies in the middle of a request, one more request behind it.
    if dispatcher.ident is None:
        dispatcher.start()
    for name in ("one", "two", "three"):
        dispatcher.add(kind(name=name), "t")
    request = dispatcher.send_request("t", ttl=MINUTE)
    dispatcher.send_request("t", ttl=MINUTE)
    ready.wait(30)
    return request

def wait(request):
    say("ready")
    request.wait()
"""


def run(script, number=None):
    """Run a script, send it a signal when it is ready; its exit code, what it said, its errors."""
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            if number is not None:
                assert child.stdout.readline() == "ready\n"
                os.kill(child.pid, number)
                while not select.select([child.stdout], [], [], 2)[0]:
                    os.kill(child.pid, number)
            said, errors = child.communicate(timeout=BOUND)
        finally:
            child.kill()
    return child.returncode, said.splitlines(), errors


IN_THE_BLOCK = """
with ATEDispatcher() as dispatcher:
    {prepare}
    wait(begin(dispatcher))
"""
FORGOTTEN = """
_lifetime.EXIT_SECONDS = 0.2
dispatcher = ATEDispatcher()
{prepare}
wait(begin(dispatcher))
"""
STOPPING = """
_lifetime.EXIT_SECONDS = 0.2
dispatcher = ATEDispatcher()
{prepare}
request = begin(dispatcher)
endless = dispatcher.send_request("t", ttl=float("inf"))
endless.add_done_callback(lambda request: say("ready"))  # the stop has begun
dispatcher.stop()
"""
EXITING = """
_lifetime.EXIT_SECONDS = 60.0  # what ends the drain is the signal
dispatcher = ATEDispatcher()
{prepare}
begin(dispatcher)
endless = dispatcher.send_request("t", ttl=float("inf"))
endless.add_done_callback(lambda request: say("ready"))
"""
PLACES = {
    "in the block": IN_THE_BLOCK,
    "forgotten stop": FORGOTTEN,
    "in the stop": STOPPING,
    "in the exit": EXITING,
}


@needs_signals
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_on_signals_makes_everything_safe_once_and_says_so(place, number):
    """C9: 128 + the signal's number, wherever it comes in the middle of requests."""
    script = PLACES[place].format(
        prepare="dispatcher.stop_on_signals(signal.SIGTERM, signal.SIGINT)"
    )
    assert run(script, number) == (128 + number, MADE_SAFE, "")


@needs_signals
@pytest.mark.parametrize("place", ["in the block", "forgotten stop", "in the stop"])
def test_ctrl_c_makes_everything_safe_once(place):
    """C9: the process ends by it, as without the library."""
    code, said, errors = run(PLACES[place].format(prepare="pass"), signal.SIGINT)
    assert (code, said) == (-signal.SIGINT, MADE_SAFE)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


@needs_signals
def test_ctrl_c_at_the_end_of_the_script_makes_everything_safe_once():
    """C9: it ends the drain, not the safe states, and is no success."""
    code, said, errors = run(EXITING.format(prepare="pass"), signal.SIGINT)
    assert (code, said) == (128 + signal.SIGINT, MADE_SAFE)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


@needs_signals
def test_a_second_signal_changes_nothing():
    """C9: who is impatient does not leave a supply on."""
    code, said, errors = run(
        """
        class Patient(Supply):
            def safe_state(self):
                if self.name == "three":
                    signal.raise_signal(signal.SIGTERM)  # the main thread waits in its stop
                super().safe_state()

        with ATEDispatcher() as dispatcher:
            dispatcher.stop_on_signals()
            wait(begin(dispatcher, Patient))
        """,
        signal.SIGTERM,
    )
    assert (code, said, errors) == (143, MADE_SAFE, "")


@pytest.mark.parametrize(
    ("leave", "expected"),
    [
        ("sys.exit(7)", 7),
        ("raise ZeroDivisionError", 1),
        ("dispatcher.abort('smoke')", 0),
        ("dispatcher.stop(drain=False)", 0),
    ],
)
@pytest.mark.parametrize("place", ["in the block", "outside"])
def test_every_other_way_out_makes_everything_safe_once(place, leave, expected):
    """C9: exit code and traceback are the script's own."""
    script = """
        _lifetime.EXIT_SECONDS = 0.2
        dispatcher = ATEDispatcher()
        """
    script += (
        f"with dispatcher:\n            begin(dispatcher)\n            {leave}\n"
        if place == "in the block"
        else f"begin(dispatcher)\n        {leave}\n"
    )
    code, said, errors = run(script)
    assert (code, said) == (expected, MADE_SAFE)
    assert bool(errors) is leave.startswith("raise")


def test_a_forgotten_stop_makes_everything_safe_once():
    """C9: after the drain, which is bounded; what is made safe has time of its own."""
    code, said, errors = run(
        """
        class Slow(Supply):
            def safe_state(self):
                threading.Event().wait(0.2)  # longer than all that is left of the drain's time
                super().safe_state()

        _lifetime.EXIT_SECONDS = 0.1
        begin(ATEDispatcher(), Slow)
        """
    )
    assert (code, said, errors) == (0, MADE_SAFE, "")


def test_one_that_no_dispatcher_has_any_more_is_made_safe_before_the_process_ends():
    """Removed, or never registered: its thread is not cut off before."""
    code, said, errors = run(
        """
        with ATEDispatcher() as dispatcher:
            supply = dispatcher.add(Supply(name="removed"), "t")
            dispatcher.deregister_result_producer(supply, "t")
        Supply(name="alone").start()
        """
    )
    assert (code, sorted(said), errors) == (0, ["safe alone", "safe removed"], "")


def test_safe_states_may_take_for_ever():
    """Also where nobody has called `stop`: infinity is longer than the platform can wait."""
    code, said, errors = run(
        """
        _lifetime.EXIT_SECONDS = 0.2
        begin(ATEDispatcher(safe_within=float("inf")))
        """
    )
    assert (code, said, errors) == (0, MADE_SAFE, "")


def test_a_supply_that_hangs_does_not_keep_the_process():
    """It is named on the way out, the others are safe, and the process ends."""
    code, said, errors = run(
        """
        class Hung(Supply):
            def produce_dispatcher_output(self, topic):
                ready.wait(30)
                if self.name == "two":
                    threading.Event().wait()
                current_request().sleep(60)

        begin(ATEDispatcher(grace=0.05, safe_within=2.0), Hung)
        _lifetime.EXIT_SECONDS = 0.2
        """
    )
    assert (code, said) == (0, ["safe three", "safe one"])
    assert "'two' could not be made safe: " in errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_in_the_child_of_a_fork_nobody_is_made_safe():
    """The supplies are the parent's, and so is what they are connected to."""
    code, said, errors = run(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        with ATEDispatcher() as dispatcher:
            begin(dispatcher)
            pid = os.fork()
            if not pid:
                sys.exit(3)
            say(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
            dispatcher.abort("enough")
        """
    )
    assert (code, said, errors) == (0, ["3", *MADE_SAFE], "")
