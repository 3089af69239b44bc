"""C9 as a shell sees it: whatever a script forgets, raises or is sent, its process ends, and well.

Each test runs a script in a process of its own, with warnings as errors. What has to happen while
the process ends is held back by a `Gate` that only the ending opens. Waits in the scripts would
last a minute, a script may take `BOUND` seconds: one that comes back was not waiting.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

BOUND = 60

needs_signals = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs signals that can be sent to a thread"
)

PRELUDE = """
import atexit, os, signal, sys, threading, time
HOOKS = []
atexit.register(lambda: [hook() for hook in HOOKS])  # before the import: it runs after the library
import ate_dispatcher
from ate_dispatcher import ATEDispatcher, Observer, ResultListener, StateError, _lifetime
from ate_dispatcher.testing import Delay, Gate, ScriptedProducer

MINUTE = 60_000
gate = Gate(60)

class Held(ResultListener):
    def process_dispatcher_result(self, topic, response):
        gate.park()
        print(response)
"""

SIGNALS = """
MAIN = threading.main_thread()
INSIDE = os.path.dirname(ate_dispatcher.__file__)
due = 0
taken = threading.Event()

def spot():
    # The instruction that the main thread stands at, if it is the library that waits there.
    frame = top = sys._current_frames()[MAIN.ident]
    while frame is not None and not frame.f_code.co_filename.startswith(INSIDE):
        frame = frame.f_back
    return None if frame is None else (top, top.f_lasti)

def send(number, times):
    # The interpreter may lose sight of a signal that comes right before it waits, so it is repeated
    # until it was seen; the handler counts only those that are due.
    global due
    due = times
    handler = signal.getsignal(number)

    def once(number, frame):
        global due
        if due:
            due -= 1
            taken.set()
            handler(number, frame)

    def sender():
        seen = None
        while due:
            before, seen = seen, spot()
            if seen is not None and seen == before:
                taken.clear()
                signal.pthread_kill(MAIN.ident, number)
                taken.wait(0.5)
            time.sleep(0.001)

    signal.signal(number, once)
    thread = threading.Thread(target=sender, daemon=True)
    thread.start()
    return thread
"""


def run(*parts):
    """Run a script made of these parts; its exit code, its lines of output, its errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(textwrap.dedent(part) for part in parts)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_script_that_forgets_to_stop_gets_all_its_results_and_ends():
    """C9: what is in flight is delivered, printed and called back; no thread starts on the way."""
    code, lines, errors = run(
        PRELUDE,
        """
        class Printing(ResultListener):
            async def on_start(self):
                up.set()  # its loop thread runs from here on

            async def process_dispatcher_result(self, topic, response):
                print(response)

        class Watching(Observer):
            def on_end(self, request):
                told.append("observer")

        def begin_to_end():
            # The last hook registered is the first to run: the script's own code has ended.
            start = threading.Thread.start

            def recorded(thread):
                started.append(thread.name)
                start(thread)

            threading.Thread.start = recorded
            print("ends")
            gate.open()

        up, told, started = threading.Event(), [], []
        dispatcher, second = ATEDispatcher(), ATEDispatcher(max_open=100)
        dispatcher.start()
        second.start()
        dispatcher.add_observer(Watching())
        dispatcher.add(ScriptedProducer(lambda topic, number: gate.park() or number), "t")
        dispatcher.add(Printing(), "t")
        assert up.wait(30)
        requests = [dispatcher.send_request("t", number, ttl=MINUTE) for number in range(50)]
        requests[0].add_done_callback(lambda request: told.append("callback"))
        future = requests[0].future()
        second.add(ScriptedProducer(gate), "t")
        requests.append(second.send_request("t", ttl=MINUTE))
        gate.wait_parked(2)
        HOOKS.append(lambda: print(
            [request.status.name for request in requests] == ["COMPLETE"] * 51,
            future.result(0) is requests[0], sorted(set(told)), started,
        ))
        atexit.register(begin_to_end)
        """,
    )
    assert lines == [
        "ends",
        *(str(number) for number in range(50)),
        "True True ['callback', 'observer'] []",
    ]
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("pool", ["ThreadPoolExecutor", "ThreadPoolExecutor(1)"])
def test_pools_finish_what_a_script_leaves_behind(pool):
    """C9: the interpreter closes pools early; work that is queued for one is done before."""
    code, lines, errors = run(
        PRELUDE,
        f"""
        from concurrent.futures import ThreadPoolExecutor
        from ate_dispatcher import ExecutorProducer

        def slow(topic, number):
            time.sleep(0.01)
            return number

        class Printed(ResultListener):
            def process_dispatcher_result(self, topic, response):
                print(response)

        dispatcher = ATEDispatcher()
        dispatcher.start()
        dispatcher.add(ExecutorProducer(slow, {pool}, max_workers=1), "a")
        dispatcher.add(Printed(), "a")
        for number in range(20):
            dispatcher.send_request("a", number, ttl=MINUTE)
        """,
    )
    assert (code, errors) == (0, "")
    assert lines == [str(number) for number in range(20)]


def test_a_listener_that_prints_slowly_to_the_end_leaves_no_trace_on_stderr():
    """C9: its thread has ended before the interpreter takes stdout away, or stands still for it."""
    code, lines, errors = run(
        PRELUDE,
        """
        dispatcher = ATEDispatcher()
        dispatcher.start()
        dispatcher.add(ScriptedProducer(*("x" * 10_000 for _ in range(200))), "t")
        dispatcher.add(Held(), "t")
        for _ in range(200):
            request = dispatcher.send_request("t", ttl=MINUTE)
        assert request.wait(30)
        HOOKS.append(lambda: print(dispatcher.is_alive(), threading.active_count()))
        atexit.register(gate.open)
        """,
    )
    assert lines == ["x" * 10_000] * 200 + ["False 1"]
    assert (code, errors) == (0, "")


def test_a_script_that_forgets_to_stop_ends_although_agents_hang():
    """C9: within the limit for exits, and it is said who hangs, where, and what is lost by it."""
    code, lines, errors = run(
        PRELUDE,
        """
        _lifetime.EXIT_SECONDS = 0.3
        endless = ATEDispatcher(grace=0.05)  # ends by its grace
        endless.start()
        endless.add(ScriptedProducer(1, gate, name="hung producer"), "t")
        endless.add(Held(name="hung listener"), "t")
        assert endless.send_request("t").wait(30)
        cancelled = endless.send_request("t", ttl=float("inf"))
        draining = ATEDispatcher()  # ends by the limit: its request is open for a minute
        draining.start()
        draining.add(ScriptedProducer(gate, name="other producer"), "t")
        stopped = draining.send_request("t", ttl=MINUTE)
        gate.wait_parked(3)
        HOOKS.append(lambda: print(
            cancelled.status.name, stopped.status.name, time.monotonic() - begun < 30
        ))
        begun = time.monotonic()
        """,
    )
    assert lines == ["CANCELLED STOPPED True"]
    assert code == 0
    said = errors.splitlines()
    for name in ("hung producer", "hung listener", "other producer"):
        own = [line for line in said if f"'{name}' did not stop within the grace" in line]
        assert len(own) == 1
        assert "threading.py:" in own[0]  # where it stands
    assert "1 events for 'hung listener' were not delivered" in said
    assert len(said) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_in_the_child_of_a_fork_the_dispatcher_has_stopped():
    """C9: nothing there waits for threads that do not exist; the parent goes on as if nothing."""
    code, lines, errors = run(
        PRELUDE,
        """
        import warnings
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads

        with ATEDispatcher(max_open=10) as dispatcher:
            producer = dispatcher.add(ScriptedProducer(gate, 2), "t")
            listener = dispatcher.add(Held(), "t", "quick")
            dispatcher.add(ScriptedProducer("quick"), "quick")
            told = []
            request = dispatcher.send_request("t", ttl=MINUTE)
            request.add_done_callback(lambda request: told.append(os.getpid()))
            undelivered = dispatcher.send_request("quick", ttl=MINUTE).gather(30)
            gate.wait_parked(2)
            pid = os.fork()
            if not pid:
                signal.alarm(15)
                for refused in (
                    lambda: dispatcher.send_request("t"),
                    lambda: dispatcher.with_options(tags={"a": 1}).send_request("t"),
                    lambda: dispatcher.add(ScriptedProducer(), "t"),
                    dispatcher.start,
                ):
                    try:
                        refused()
                    except StateError:
                        print("refused")
                print(request.wait(), request.gather().status.name, len(list(request)))
                print(undelivered.wait(delivered=True), dispatcher.flush(), dispatcher.laggards())
                request.add_done_callback(lambda request: print("called back"))
                dispatcher.deregister_result_producer(producer, "t", wait=True)
                dispatcher.remove(listener, wait=True)
                print(dispatcher.stop().finished, dispatcher.is_alive(), told)
                with ATEDispatcher() as new:
                    new.add(ScriptedProducer("new"), "t")
                    print(*new.send_request("t", ttl=MINUTE).gather(30).values.values())
                sys.exit(3)
            print("child:", os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
            print(request.status.name)
            gate.open()
            print(request.gather(30).status.name, dispatcher.flush(30))
            assert dispatcher.send_request("t", ttl=MINUTE).wait(10, delivered=True)
        print(told == [os.getpid()])
        """,
    )
    assert lines == [
        *["refused"] * 4,
        "True STOPPED 1",
        "True True ()",
        "called back",
        "True False []",
        "new",
        "child: 3",
        "OPEN",
        "quick",
        "None",
        "COMPLETE True",
        "2",
        "True",
    ]
    assert (code, errors) == (0, "")


WAITS = (
    "wait",
    "wait with a timeout",
    "wait for the delivery",
    "gather",
    "iterate",
    "flush",
    "flush with a timeout",
    "send above max_open",
    "deregister a producer",
    "deregister a listener",
    "remove",
    "quick",  # what the removed listener was held up with
    "stop",
    "stop with a timeout",
)


@needs_signals
def test_ctrl_c_works_in_every_wait():
    """C9: it reaches the script at once, breaks nothing, and in the end the process ends."""
    code, lines, errors = run(
        PRELUDE,
        SIGNALS,
        """
        _lifetime.EXIT_SECONDS = 0.2

        def interrupted(title, call, *args, **kwargs):
            sender = send(signal.SIGINT, 1)
            try:
                print(title, "gave", call(*args, **kwargs))
            except KeyboardInterrupt:
                print(title)
            sender.join(30)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        dispatcher, narrow = ATEDispatcher(grace=60), ATEDispatcher(max_open=1, grace=60)
        dispatcher.start()
        narrow.start()
        producer = dispatcher.add(ScriptedProducer(gate, 2), "t")
        dispatcher.add(ScriptedProducer("quick"), "quick")
        listener = dispatcher.add(Held(), "quick")
        narrow.add(ScriptedProducer(gate, 2), "t")
        undelivered = dispatcher.send_request("quick", ttl=MINUTE).gather(30)
        request = dispatcher.send_request("t", ttl=MINUTE)
        admitted = narrow.send_request("t", ttl=MINUTE)
        gate.wait_parked(3)

        interrupted("wait", request.wait)
        interrupted("wait with a timeout", request.wait, 60)
        interrupted("wait for the delivery", undelivered.wait, 60, delivered=True)
        interrupted("gather", request.gather)
        interrupted("iterate", lambda: [outcome for outcome in request])
        interrupted("flush", dispatcher.flush)
        interrupted("flush with a timeout", dispatcher.flush, 60)
        interrupted("send above max_open", narrow.send_request, "t", ttl=MINUTE)
        interrupted("deregister a producer",
                    dispatcher.deregister_result_producer, producer, "t", wait=True)
        interrupted("deregister a listener",
                    dispatcher.deregister_result_listener, listener, "quick", wait=True, timeout=60)
        interrupted("remove", dispatcher.remove, listener, wait=True)

        assert request.status.name == admitted.status.name == "OPEN"
        gate.open()
        assert request.gather(30).status.name == "COMPLETE" and dispatcher.flush(30)
        listener.join(30)
        assert admitted.wait(30)
        for _ in range(3):  # whoever gave up waiting to be admitted took no place
            assert list(narrow.send_request("t").gather(30).values.values()) == [2]
        assert narrow.stop().clean

        gate = Gate(60)
        dispatcher.add(ScriptedProducer(gate), "stop")
        last = dispatcher.send_request("stop", ttl=MINUTE)
        gate.wait_parked()
        interrupted("stop", dispatcher.stop)
        interrupted("stop with a timeout", dispatcher.stop, timeout=60)
        assert last.status.name == "OPEN"
        HOOKS.append(lambda: print(last.status.name, opened.status.name))

        gate = Gate(60)
        with ATEDispatcher(grace=60) as dispatcher:
            dispatcher.add(ScriptedProducer(gate, name="hung"), "t")
            opened = dispatcher.send_request("t", ttl=MINUTE)
            gate.wait_parked()
            send(signal.SIGINT, 2)  # the second one in the block's own stop
            opened.wait()
        """,
    )
    assert lines == [*WAITS, "STOPPED STOPPED"]
    assert code == -signal.SIGINT
    assert errors.count("Traceback (most recent call last)") == 2  # during one, the other
    assert "'hung' did not stop within the grace" in errors


HELD = """
def finish(request):
    print(request.status.name)
    gate.open()

def begin(dispatcher):
    # Three results that the listener is behind with, and a request that stays open until the end.
    global request
    dispatcher.add(Held(), "t")
    dispatcher.add(ScriptedProducer(1, 2, 3, Delay(60)), "t")
    for _ in range(3):
        assert dispatcher.send_request("t", ttl=MINUTE).wait(30)
    request = dispatcher.send_request("t", ttl=MINUTE)
    request.add_done_callback(finish)
    gate.wait_parked()
"""
DRAINED = ["STOPPED", "1", "2", "3"]


@needs_signals
@pytest.mark.parametrize(
    "script",
    [
        """
        with ATEDispatcher() as dispatcher:
            dispatcher.stop_on_signals()
            begin(dispatcher)
            send(signal.SIGTERM, 1)
            request.wait()
            print("not reached")
        """,
        """
        dispatcher = ATEDispatcher()
        dispatcher.start()
        dispatcher.stop_on_signals(signal.SIGINT, signal.SIGTERM)
        begin(dispatcher)
        send(signal.SIGTERM, 1)
        request.wait()
        print("not reached")
        """,
        """
        dispatcher = ATEDispatcher()
        dispatcher.start()
        dispatcher.stop_on_signals()
        begin(dispatcher)
        send(signal.SIGTERM, 1)
        dispatcher.stop()  # which would let the open request take its minute
        print("not reached")
        """,
    ],
    ids=["in the block", "stop forgotten", "in the stop"],
)
def test_a_signal_stops_ends_and_says_so_in_the_exit_code(script):
    """C9: 128 + 15 as a shell reports it; open requests end STOPPED, listeners get their events."""
    code, lines, errors = run(PRELUDE, SIGNALS, HELD, script)
    assert lines == DRAINED
    assert (code, errors) == (143, "")


@pytest.mark.parametrize(
    ("leave", "expected"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit()", 0),
        ("raise ZeroDivisionError('my own')", 1),
        pytest.param("signal.raise_signal(signal.SIGINT)", -signal.SIGINT, marks=needs_signals),
    ],
)
def test_leaving_the_block_by_an_exception_ends_the_process_as_without_it(leave, expected):
    """C9: open requests end STOPPED, listeners drain; code and traceback are the script's own."""
    code, lines, errors = run(
        PRELUDE,
        HELD,
        f"""
        with ATEDispatcher() as dispatcher:
            begin(dispatcher)
            {leave}
        """,
    )
    assert lines == DRAINED
    assert code == expected
    if leave.startswith("sys.exit"):
        assert errors == ""
    else:
        own = [line for line in errors.splitlines() if not line.startswith("    ")]
        assert own[0] == "Traceback (most recent call last):"
        assert own[-1] in ("ZeroDivisionError: my own", "KeyboardInterrupt")
        assert [line.split(",")[0] for line in own[1:-1]] == ['  File "<string>"']


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("lock", ["waiter", "admission", "mailbox", "names", "dispatcher", "half"])
def test_a_fork_while_another_thread_holds_a_lock(lock):
    """C9: that thread is not in the child, which goes on all the same; so does the parent."""
    code, lines, errors = run(
        PRELUDE,
        f"LOCK = {lock!r}",
        """
        import warnings
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        from ate_dispatcher import _agent

        idle, dispatcher = ATEDispatcher(max_open=2), ATEDispatcher()
        request = idle.send_request("t")
        with dispatcher:
            listener = dispatcher.add(Held(capacity=2), "quiet")
            dispatcher.add(ScriptedProducer(gate), "t")
            held = dispatcher.send_request("t", ttl=MINUTE)
            gate.wait_parked()
            locks = {
                "waiter": request._waiter()._lock,
                "admission": idle._admission._cond,
                "mailbox": listener._ate_mailbox._ready,
                "names": _agent._numbers_lock,
                "dispatcher": dispatcher._lock,
            }
            if LOCK == "half":  # its thread was about to note the request's place
                place, held._line = held._line, None
            else:
                locks[LOCK].acquire()
            pid = os.fork()
            if not pid:
                signal.alarm(15)
                print(dispatcher.flush(10), idle.flush(10), request.wait(10))
                print(dispatcher.stop().finished, idle.stop().finished)
                print(request.status.name, held.status.name, type(ATEDispatcher()).__name__)
                sys.stdout.flush()
                os._exit(3)
            print("child:", os.WEXITSTATUS(os.waitpid(pid, 0)[1]), flush=True)
            if LOCK == "half":
                held._line = place
            else:
                locks[LOCK].release()
            gate.open()
            print(held.gather(30).status.name)
        """,
    )
    stopped = ["True True True", "True True", "STOPPED STOPPED ATEDispatcher"]
    assert lines == [*stopped, "child: 3", "COMPLETE"]
    assert (code, errors) == (0, "")
