"""Fakes for testing a station without hardware and without waiting.

They go through the same seams as the real thing: a `FakeClock` is given to the dispatcher as its
``clock``, a `ScriptedProducer` and a `RecordingListener` are added like any other agent, a `Gate`
parks a thread where a test wants it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from typing import Any, Callable, Iterator, List, Mapping, NamedTuple, Tuple

from ._checks import check_seconds
from ._exceptions import InvalidArgumentError
from ._listener import ResultListener
from ._outcomes import Outcome
from ._producer import Producer
from ._request import Request, current_request

__all__ = [
    "Call",
    "Delay",
    "FakeClock",
    "Gate",
    "GateTimeoutError",
    "RecordingListener",
    "ScriptedProducer",
    "no_thread_leaks",
]


class FakeClock:
    """A clock that stands still until a test moves it on.

    Give it to a dispatcher: ``ATEDispatcher(clock=FakeClock())``. Deadlines, stamps and
    ``current_request().sleep()`` then follow it, and `advance` wakes whoever is due. Waits with a
    timeout of their own (``request.wait(timeout)``, ``stop(timeout=…)``) stay in real time.

    Parameters
    ----------
    start : float
        The first reading, in seconds.

    Notes
    -----
    Thread-safe. Every reading is a float of its own, as with `time.monotonic`.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = float(start)
        self._lock = threading.Condition(threading.Lock())
        self._serial = itertools.count()
        self._timers: List[Tuple[float, int, Callable[[], Any]]] = []
        self._wakes: List[Callable[[], Any]] = []

    def __call__(self) -> float:
        """Read the clock, in seconds."""
        return self._now + 0.0

    def advance(self, seconds: float) -> None:
        """Move the clock on and wake whoever is due."""
        if seconds < 0:
            raise InvalidArgumentError(f"a monotonic clock cannot go back ({seconds} s)")
        with self._lock:
            self._now += seconds
            due = []
            while self._timers and self._timers[0][0] <= self._now:
                due.append(heapq.heappop(self._timers)[2])
            wakes = tuple(self._wakes)
        for call in (*due, *wakes):
            call()

    def call_after(self, seconds: float, function: Callable[[], Any]) -> None:
        """Have `function` called by the `advance` that reaches that time; now, if it is reached."""
        with self._lock:
            if seconds > 0:
                entry = (self._now + seconds, next(self._serial), function)
                heapq.heappush(self._timers, entry)
                self._lock.notify_all()
                return
        function()

    def wait_sleeping(self, count: int = 1, timeout: float = 30.0) -> None:
        """Wait until so many sleeps are going on, so that `advance` reaches them.

        For `timeout` seconds of real time at most; then it raises `GateTimeoutError`.
        """
        with self._lock:
            patience = min(timeout, threading.TIMEOUT_MAX)
            if not self._lock.wait_for(lambda: len(self._timers) >= count, patience):
                raise GateTimeoutError(
                    f"{len(self._timers)} of {count} threads slept on the clock within {timeout} s"
                )

    def attach(self, wake: Callable[[], Any]) -> None:
        """Have `wake` called at every `advance`; a dispatcher does this by itself."""
        with self._lock:
            self._wakes.append(wake)


class GateTimeoutError(AssertionError):
    """Nobody came to a gate, opened it, or slept on a clock, within the bound."""


class Gate:
    """Parks threads until a test opens it.

    Parameters
    ----------
    timeout : float
        Seconds after which any wait at the gate fails the test instead of hanging it.

    Examples
    --------
    >>> gate = Gate()
    >>> class Parked(Producer):
    ...     def produce_dispatcher_output(self, topic):
    ...         gate.park()
    """

    def __init__(self, timeout: float = 30.0) -> None:
        self._timeout = min(timeout, threading.TIMEOUT_MAX)
        self._condition = threading.Condition()
        self._arrived = 0
        self._opened = False

    def park(self) -> None:
        """Announce oneself and wait until the gate is open."""
        with self._condition:
            self._arrived += 1
            self._condition.notify_all()
            if not self._condition.wait_for(lambda: self._opened, self._timeout):
                raise GateTimeoutError(f"the gate was not opened within {self._timeout} s")

    def wait_parked(self, count: int = 1) -> None:
        """Wait until `count` threads have come to the gate since it was made."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._arrived >= count, self._timeout):
                raise GateTimeoutError(
                    f"{self._arrived} of {count} threads came to the gate within {self._timeout} s"
                )

    def open(self) -> None:
        """Let everybody through, now and from now on."""
        with self._condition:
            self._opened = True
            self._condition.notify_all()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()


class Delay(NamedTuple):
    """A step of a `ScriptedProducer`: take so many seconds (of the dispatcher's clock), then go on.

    The delay is ``current_request().sleep``: it ends early at the deadline or a cancel.
    """

    seconds: float
    then: Any = None


class Call(NamedTuple):
    """What a `ScriptedProducer` was asked."""

    topic: str
    args: Tuple[Any, ...]
    kwargs: Mapping[str, Any]


class ScriptedProducer(Producer):
    """A producer that does what a test tells it to, one step a request.

    Parameters
    ----------
    *script : object
        Per request: an exception (instance or class) is raised, a `Delay` is slept, a `Gate` is
        parked at (a hang, until the test opens it), a function is called as the hook would be,
        anything else is returned. The last step is repeated; without any, None is returned.
    **options
        As for `Producer`.

    Attributes
    ----------
    calls : list of Call
        What it was asked, in order; appended by its own thread.
    """

    def __init__(self, *script: Any, **options: Any) -> None:
        super().__init__(**options)
        self._ate_script = list(script) or [None]
        self.calls: List[Call] = []

    def produce_dispatcher_output(self, /, topic: str, *args: Any, **kwargs: Any) -> Any:
        """Do the next step."""
        position = min(len(self.calls), len(self._ate_script) - 1)
        call = Call(topic, args, kwargs)
        self.calls.append(call)
        return _perform(self._ate_script[position], call)


def _perform(step: Any, call: Call) -> Any:
    if isinstance(step, BaseException) or (
        isinstance(step, type) and issubclass(step, BaseException)
    ):
        # An instance is raised again and again: each time without the traceback of the last.
        raise step.with_traceback(None) if isinstance(step, BaseException) else step
    if isinstance(step, Delay):
        current_request().sleep(step.seconds)
        return _perform(step.then, call)
    if isinstance(step, Gate):
        step.park()
        return None
    if callable(step):
        return step(call.topic, *call.args, **call.kwargs)
    return step


class RecordingListener(ResultListener):
    """Keeps everything it is told, in order.

    Attributes
    ----------
    results : list of (str, object)
        Topic and value of every good result.
    outcomes : list of Outcome
    ends : list of Request

    Notes
    -----
    Appended to by its own thread; read after ``request.wait(delivered=True)`` or ``flush()``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.results: List[Tuple[str, Any]] = []
        self.outcomes: List[Outcome] = []
        self.ends: List[Request] = []

    @property
    def values(self) -> List[Any]:
        """The values of the results, in order."""
        return [value for _, value in self.results]

    def process_dispatcher_result(self, topic: str, response: Any) -> None:
        """Keep a result."""
        self.results.append((topic, response))

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.outcomes.append(outcome)

    def process_dispatcher_end(self, request: Request) -> None:
        """Keep an ended request."""
        self.ends.append(request)


@contextlib.contextmanager
def no_thread_leaks(within: float = 2.0) -> Iterator[None]:
    """Check that every thread started inside the block has ended when it is left.

    Parameters
    ----------
    within : float
        Seconds that threads which are just ending may take, all together.

    Raises
    ------
    AssertionError
        Names the threads still alive.
    """
    check_seconds(within, "within")
    before = set(threading.enumerate())
    yield
    limit = time.monotonic() + within
    started = [thread for thread in threading.enumerate() if thread not in before]
    for thread in started:
        if thread is not threading.current_thread():
            thread.join(max(0.0, limit - time.monotonic()))
    alive = [thread.name for thread in started if thread.is_alive()]
    if alive:
        raise AssertionError(f"threads left running: {', '.join(sorted(alive))}")
