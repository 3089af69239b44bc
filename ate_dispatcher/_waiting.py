"""Waiting for the end of a request: who is told, and how long is waited."""

from __future__ import annotations

import contextlib
import signal
import threading
from math import inf
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from typing import Any, Callable, Iterator, List, Optional

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = [
    "END",
    "ENDED",
    "Waiter",
    "acquire",
    "began_anyhow",
    "ended_by_signal",
    "get_within",
    "limit_of",
    "wait_for_signals",
]

LOOK = 1.0
"""Seconds between two looks of the main thread for signals, while it waits for something else."""


class Waiter:
    """Who is to be told that a request has ended. Made only when somebody waits.

    The lock orders a registration against the end; user code never runs under it.
    """

    __slots__ = ("_lock", "_tell", "watched")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tell: Optional[List[Callable[[], Any]]] = []
        self.watched = False
        """Whether it is a user who waits, and will see what went wrong."""

    def add(self, tell: Callable[[], Any]) -> bool:
        """Have `tell` called at the end, on the dispatcher's thread; False if it has passed."""
        with self._lock:
            if self._tell is None:
                return False
            self._tell.append(tell)
            return True

    def discard(self, tell: Callable[[], Any]) -> None:
        """Forget a registration, so that a wait that timed out leaves nothing behind."""
        with self._lock:
            if self._tell is not None and tell in self._tell:
                self._tell.remove(tell)

    def finish(self) -> None:
        """Tell everybody, once."""
        with self._lock:
            told, self._tell = self._tell, None
        for tell in told or ():
            tell()


ENDED: Any = Waiter()
ENDED.finish()

END = "end"
"""Key beside the addresses in a request's rows under which its waiter is contested: who waits
inserts a `Waiter`, who ends it `ENDED`, and one ``dict.setdefault`` decides who was first."""


def limit_of(timeout: Optional[float]) -> Optional[float]:
    """Turn a timeout in seconds into a point on the real monotonic clock."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise InvalidTypeError(f"a timeout must be a number of seconds or None, not {timeout!r}")
    if timeout != timeout:
        raise InvalidArgumentError("a timeout must not be NaN")
    return None if timeout == inf else monotonic() + timeout


def acquire(lock: Any, limit: Optional[float], look: Optional[Callable[[], Any]] = None) -> bool:
    """Acquire within a limit, in waits no longer than the platform can wait.

    On the main thread they are short. A signal that arrives when the interpreter has last looked
    for one, and the wait has not begun, would go unnoticed until the next: so it looks again. They
    are short with `look` too, which is called before each and ends the waiting by raising.
    """
    main = threading.get_ident() == threading.main_thread().ident
    longest = LOOK if main or look is not None else TIMEOUT_MAX
    while True:
        if look is not None:
            look()
        left = inf if limit is None else max(0.0, limit - monotonic())
        if lock.acquire(True, min(left, longest)):
            return True
        if left <= longest:
            return False


def began_anyhow(thread: threading.Thread, error: BaseException) -> bool:
    """Whether a `Thread.start` that raised has made a thread for all that.

    It waits for the new thread to say that it runs, and Ctrl-C may interrupt it there.
    """
    if isinstance(error, RuntimeError):  # the system has no thread to give
        return False
    return thread._started.wait(1.0)  # type: ignore[attr-defined, no-any-return]


def get_within(queue: SimpleQueue[bool], seconds: float) -> bool:
    try:
        return queue.get(timeout=min(seconds, TIMEOUT_MAX))
    except Empty:
        return False


def wait_for_signals(event: threading.Event) -> None:
    """Wait, on the main thread, for what a signal's handler sets, or for what it raises.

    In short waits, for the reason that `acquire` gives.
    """
    while not event.wait(LOOK):
        pass


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM as Ctrl-C does, end well what runs inside; for commands.

    On another thread than the main one, where no signal comes, it changes nothing.
    """
    if threading.get_ident() != threading.main_thread().ident:
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
