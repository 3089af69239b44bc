"""The handle of one scatter, for the caller and for the producers that work on it."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from queue import SimpleQueue
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Optional,
    Tuple,
)

from ._callbacks import Callbacks, local
from ._checks import check_seconds
from ._delivery import Barrier
from ._exceptions import (
    DeadlockError,
    InvalidArgumentError,
    InvalidTypeError,
    NoCurrentRequestError,
    WaitTimeoutError,
    WorkCalledOffError,
    WorkExpiredError,
)
from ._ledger import OPEN, Ledger
from ._messages import Cancel, Probe
from ._outcomes import Failure, Outcome, OutcomeStatus
from ._readers import AsyncReader, Reader
from ._waiting import END, ENDED, Waiter, acquire, get_within, limit_of

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Request", "ReturnAddress", "current_request", "working_for"]

logger = logging.getLogger("ate_dispatcher")

_NO_KWARGS: Mapping[str, Any] = MappingProxyType({})

working_for: ContextVar[Any] = ContextVar("ate_dispatcher_working_for")
"""The address (or stand-in) whose ``running`` is the current request of this context."""


def current_request() -> Request:
    """Give the request that the calling producer hook is working on.

    It has ``remaining()``, ``cancelled``, ``check()``, ``sleep(seconds)`` and ``on_cancel(fn)`` for
    work that should notice its deadline, beside the topic, the tags and ``cancel()``.

    Raises
    ------
    NoCurrentRequestError
        The caller is not inside a producer's hook.
    """
    worker = working_for.get(None)
    request: Optional[Request] = None if worker is None else worker.running
    if request is None:
        raise NoCurrentRequestError("current_request() works only inside a producer's hook")
    return request


class ReturnAddress:
    """What a request and its outcomes need of their dispatcher (EIP: Return Address).

    `put` is the dispatcher's mailbox. `gone` is set once, by the dispatcher's thread, before its
    last look into the mailbox; `post` puts first and reads the flag after, so that one of the two
    sees every message (the mailbox's own lock orders them). `begun` is set once,
    by the thread that starts the dispatcher, and is only there to be told of: whoever reads it too
    early warns without need, no more.
    """

    __slots__ = (
        "agent_changed",
        "agent_left",
        "begun",
        "callbacks",
        "clock",
        "gone",
        "listener_raised",
        "put",
        "refuse",
    )

    def __init__(self, put: Any, clock: Callable[[], float], callbacks: Callbacks) -> None:
        self.put = put
        self.clock = clock
        self.callbacks = callbacks
        self.begun = True
        self.gone = False
        self.refuse: Callable[[], None] = lambda: None
        self.agent_left: Callable[[Any], None] = lambda agent: None
        self.agent_changed: Callable[[Any, Any], None] = lambda *_: None
        self.listener_raised: Callable[[Any, Any, BaseException], None] = lambda *_: None

    def post(self, message: Any) -> None:
        """Put a message from any thread; a dispatcher that has ended refuses it at once."""
        self.put(message)
        if self.gone:
            self.refuse()


class Request(Ledger):
    """What ``send_request`` returns.

    Every method may be called from any thread. Times are seconds, of the monotonic clock.

    Attributes
    ----------
    status : RequestStatus
    topic : str
    args : tuple
    ttl : float
        Milliseconds; `math.inf` for no deadline.
    sent, deadline : float
        When ``send_request`` was called, and that plus the TTL.
    """

    __slots__ = ("__weakref__", "_barrier")

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The keyword arguments given to ``send_request``."""
        return self._kwargs or _NO_KWARGS

    # ---- waiting -----------------------------------------------------------------------------

    def wait(self, timeout: Optional[float] = None, *, delivered: bool = False) -> bool:
        """Wait for the end.

        Parameters
        ----------
        timeout : float, optional
            Seconds; for ever if not given (a deadline ends the request anyhow).
        delivered : bool
            Wait on until every listener has finished with every event accepted so far.

        Returns
        -------
        bool
            False if the time ran out, which changes nothing; ``laggards()`` says who is behind.

        Raises
        ------
        DeadlockError
            The calling thread is one of the library's and would wait for itself.
        """
        limit = limit_of(timeout)
        self._seen_soon()
        self._guard_wait(delivered, limit)
        self._warn_if_idle()
        if not self._wait_end(limit):
            return False
        if not delivered:
            return True
        self._barrier = Barrier()
        self._home.post(self._barrier)
        return acquire(self._barrier.done, limit)

    def gather(self, timeout: Optional[float] = None) -> Request:
        """Wait for the end and give this request itself, ended.

        Raises
        ------
        WaitTimeoutError
            After `timeout` seconds it was still open; it goes on.
        """
        if not self.wait(timeout):
            raise WaitTimeoutError(f"{self!r} was still open after {timeout} s{self._idle()}")
        return self

    def laggards(self) -> Tuple[str, ...]:
        """Name who has not finished.

        Producers of an open request, or else the listeners that the last ``wait(delivered=True)``
        still waits for.
        """
        if self.status is OPEN:
            done = {outcome._address for outcome in self._final()}
            return tuple(a.name for a in self._roster if a not in done)
        barrier: Optional[Barrier] = getattr(self, "_barrier", None)
        return () if barrier is None else barrier.laggards()

    def _idle(self) -> str:
        """Say so if nobody can end it, because its dispatcher does not run yet."""
        return "" if self._home.begun else ": its dispatcher was not started, call start()"

    def _warn_if_idle(self) -> None:
        """Say why the wait that follows may be a long one."""
        if self.status is OPEN and not self._home.begun:
            logger.warning("a thread waits for %r%s", self, self._idle())

    def _wait_end(self, limit: Optional[float]) -> bool:
        if self.status is not OPEN:
            return True
        lock = threading.Lock()
        lock.acquire()
        waiter = self._waiter()
        if not waiter.add(lock.release):
            return True
        try:
            if acquire(lock, limit):
                return True
        finally:
            waiter.discard(lock.release)
        return self.status is not OPEN

    def _waiter(self) -> Waiter:
        waiter: Waiter = self._rows.get(END) or self._rows.setdefault(END, Waiter())
        return waiter

    @property
    def awaited(self) -> bool:
        """Whether a user waits for the end."""
        return END in self._rows and self._waiter().watched

    def _told(self) -> None:
        """Release whoever waits; once, after the status is final, by the thread that made it so."""
        waiter = self._rows.setdefault(END, ENDED)
        if waiter is not ENDED:
            waiter.finish()

    def _guard_wait(self, delivered: bool, limit: Optional[float]) -> None:
        """Refuse a wait that could only end by the waiting thread's own doing."""
        role = getattr(local, "role", None)
        if role is None:
            return
        home = self._home
        if isinstance(role, ReturnAddress):
            raise DeadlockError("a predicate on a dispatcher's thread must not wait for requests")
        if isinstance(role, Callbacks):
            return
        if delivered and home in role._ate_dispatchers():
            raise DeadlockError(f"{role.name!r} would wait for events that it must handle itself")
        if self.status is not OPEN:
            return
        scattered = threading.Lock()
        scattered.acquire()
        home.post(Probe(scattered.release))
        if not acquire(scattered, limit):
            return
        address = role._ate_address
        row = self._rows.get(address)
        if address in self._roster and not isinstance(row, Outcome) and self.status is OPEN:
            raise DeadlockError(
                f"{role.name!r} would wait for its own part in the request on {self.topic!r}"
            )

    # ---- calling off ---------------------------------------------------------------------------

    def cancel(self) -> None:
        """End the request: what has not begun never will, what runs is told (`current_request`).

        Returns at once; cancelling an ended request does nothing.
        """
        if self.status is OPEN:
            self._cancelled = True  # read by producers right before they claim a row
            self._home.post(Cancel(self))

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether work on it is no longer wanted: cancelled, or ended in another way."""
        return self._cancelled or self.status is not OPEN

    def remaining(self) -> float:
        """Give the seconds left until the deadline, 0.0 when it has passed or the end has come."""
        if self.cancelled:
            return 0.0
        left: float = self.deadline - self._home.clock()
        return max(0.0, left)

    def check(self) -> None:
        """Raise if the work on this request is no longer wanted; for loops inside a producer.

        Raises
        ------
        WorkExpiredError
            The deadline has passed.
        WorkCalledOffError
            It was cancelled, or has ended in another way.
        """
        if self.deadline < self._home.clock():
            raise WorkExpiredError(f"the deadline of the request on {self.topic!r} has passed")
        if self.cancelled:
            raise WorkCalledOffError(f"the request on {self.topic!r} is no longer wanted")

    def sleep(self, seconds: float) -> bool:
        """Sleep inside a producer, but not past the deadline or the request's being called off.

        Returns
        -------
        bool
            True if the full time was slept, False if it was cut short.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError
            `seconds` is no number, or negative.
        """
        if not check_seconds(seconds, "seconds") >= 0:
            raise InvalidArgumentError(f"seconds must not be negative, it is {seconds}")
        whole = seconds <= self.remaining()
        woken: SimpleQueue[bool] = SimpleQueue()

        def call_off() -> None:
            woken.put(True)

        waiter = self._waiter()
        if not waiter.add(call_off):
            return False
        try:
            duration = min(seconds, self.remaining())
            timer = getattr(self._home.clock, "call_after", None)
            if timer is not None:  # a manual clock
                timer(duration, lambda: woken.put(False))
                called_off = woken.get()
            else:
                called_off = get_within(woken, duration)
        finally:
            waiter.discard(call_off)
        return whole and not called_off and not self.cancelled

    def on_cancel(self, function: Callable[[], Any]) -> None:
        """Have `function` called, on the callback thread, if this work is called off while it runs.

        For work that blocks in a call which something else can interrupt: abort the measurement,
        close the socket. It is not called when the producer answers first.
        """
        if not callable(function):
            raise InvalidTypeError(f"a callback must be callable, not {function!r}")
        worker = working_for.get(None)
        if worker is None or worker.running is not self:
            raise NoCurrentRequestError("on_cancel() works only inside the hook working on it")
        address = worker.address if hasattr(worker, "address") else worker
        callbacks = self._home.callbacks
        callbacks.start()

        def ended() -> None:
            if self._rows[address].ended is None:  # closed by the dispatcher, not by an answer
                callbacks.post(function)

        if not self._waiter().add(ended):
            ended()

    # ---- other ways to wait ----------------------------------------------------------------------

    def add_done_callback(self, function: Callable[[Request], Any]) -> None:
        """Have ``function(request)`` called on the callback thread once it has ended."""
        if not callable(function):
            raise InvalidTypeError(f"a callback must be callable, not {function!r}")
        callbacks = self._home.callbacks
        callbacks.start()
        self._seen_soon()
        if not self._waiter().add(lambda: callbacks.post(function, self)):
            callbacks.post(function, self)

    def future(self) -> Future[Request]:
        """Give a `concurrent.futures.Future` whose result is this request, ended.

        Each call gives a new one. Cancelling it gives up waiting and leaves the request alone.
        """
        from concurrent.futures import Future

        future: Future[Request] = Future()

        def complete(request: Request) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(request)

        self.add_done_callback(complete)
        return future

    def __await__(self) -> Generator[Any, None, Request]:
        import asyncio

        self._guard_wait(False, None)
        self._warn_if_idle()
        return asyncio.wrap_future(self.future()).__await__()

    def __iter__(self) -> Iterator[Outcome]:
        """Yield the outcomes as they come, partial ones too, until the end."""
        self._seen_soon()
        self._guard_wait(False, None)
        self._warn_if_idle()
        return Reader(self)

    def __aiter__(self) -> AsyncIterator[Outcome]:
        self._seen_soon()
        self._guard_wait(False, None)
        self._warn_if_idle()
        return AsyncReader(self)

    def _seen_soon(self) -> None:
        """A user waits, so whatever fails will be looked at."""
        self._waiter().watched = True
        extra = self._extra
        if extra is not None and extra.unseen is not None:
            extra.unseen.seen()

    def _refuse(self, address: Any, reason: str) -> None:
        """Reject one row that has not begun; any thread, contested like every other claim."""
        now = self._home.clock()
        token = now + 0.0  # a float of our own, whatever the clock hands out
        if self._rows.setdefault(address, token) is token:
            ended = min(token, self.deadline)
            status = OutcomeStatus.REJECTED
            self._home.post(Failure(self, address, status, reason, None, ended))
