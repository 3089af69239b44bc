"""A producer whose work is spread over a pool of threads or processes."""

from __future__ import annotations

import os
import threading
from math import inf
from operator import attrgetter
from time import monotonic
from typing import Any, Callable, Dict, Optional, Tuple

from ._callbacks import local
from ._checks import check_whole
from ._exceptions import InvalidTypeError
from ._mailbox import STOP, Fence
from ._outcomes import CopiedOutcome, Failure, Outcome, OutcomeStatus
from ._producer import Producer
from ._request import Request, working_for
from ._resources import RESOURCES, Hold

__all__ = ["ExecutorProducer"]


_DEFERRED_FLAGS = 0x20 | 0x80 | 0x200
"""CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR of `inspect`, a large module."""


class ExecutorProducer(Producer):
    """One producer, many workers: spreads a function's calls over a `concurrent.futures` pool.

    Parameters
    ----------
    function : callable
        Called ``function(topic, *args, **kwargs)`` in a worker.
    executor : concurrent.futures.Executor or its class
        A class is instantiated with `max_workers` when the producer starts and shut down when it
        stops; an instance is the caller's.
    max_workers : int, optional
        How many calls may run at once; if not given as many as the executor has workers, or the
        number of processors where it does not tell.
    **options
        As for `Producer`.

    Notes
    -----
    Order is promised for the start of the calls only. A call takes its turn when a worker is free:
    until then the request counts as queued and can expire or be cancelled without ever starting.
    So it does in the line of a pool that has fewer workers, or others to serve. The worker stamps
    the end. In a pool of threads ``current_request()`` works; in a pool of processes function,
    arguments and result must be picklable, and stamps are comparable where the monotonic clock is
    one for all processes (it is on Linux, macOS and Windows), so not with a manual clock.

    For a `Supervisor` the call that has run longest counts: if it hangs, the producer is given up
    with all its calls.

    A pool of processes does not tell when a call begins: it counts as begun once the pool has it.
    In the pool's own line it is told as running, and does not start after its end all the same.
    What the pool has taken out of that line ahead of time does not start past its deadline, unless
    the clock is a manual one; if it was cancelled, it does.
    """

    _ate_uses_pool = True

    def __init__(
        self,
        function: Callable[..., Any],
        executor: Any,
        max_workers: Optional[int] = None,
        **options: Any,
    ) -> None:
        if not callable(function):
            raise InvalidTypeError(f"an ExecutorProducer needs a callable, not {function!r}")
        flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
        if flags & _DEFERRED_FLAGS:
            raise InvalidTypeError(
                f"{function.__qualname__} is a generator or coroutine function: a pool "
                "cannot see it through, use a Producer"
            )
        if not hasattr(executor, "submit"):
            raise InvalidTypeError(f"{executor!r} is neither an Executor nor a class of one")
        if max_workers is not None:
            check_whole(max_workers, "max_workers")
        super().__init__(**options)
        self._ate_function = function
        self._ate_executor = executor
        self._ate_workers = max_workers or _workers_of(executor) or os.cpu_count() or 1
        self._ate_free = threading.Semaphore(self._ate_workers)
        # The calls that are taken up and have not ended. The own thread adds, who ends one takes it
        # out, any thread looks and copies: one call on a dict each, which is atomic.
        self._ate_calls: Dict[_Call, None] = {}
        # The fences met, each with the calls that were there then. The own thread adds; who finds
        # that they have ended takes the fence out: ``pop`` is atomic too, and gives it to one only.
        self._ate_met: Dict[Fence, Tuple[_Call, ...]] = {}

    @property
    def produce_dispatcher_output(self) -> Callable[..., Any]:
        """The function itself."""
        return self._ate_function

    def _ate_serve(self) -> None:
        own = isinstance(self._ate_executor, type)
        pool = self._ate_executor(max_workers=self._ate_workers) if own else self._ate_executor
        submit = self._ate_submitter(pool)
        try:
            while True:
                # A worker first: which message is most urgent is judged when it can begin.
                self._ate_free.acquire()
                message = self._ate_next()
                if isinstance(message, Request):
                    self._ate_begin(message, submit)
                else:
                    self._ate_free.release()
                    if message is STOP:
                        return
                    self._ate_meet(message)
                message = None
        finally:
            self._ate_settle()
            if own:
                pool.shutdown()

    def _ate_begin(self, request: Request, submit: Callable[[_Call], Any]) -> None:
        """Hand it to the worker that is free, who claims it where it can: last of all (C4)."""
        hold = None
        if self._ate_resources:
            hold = self._ate_take_resources(request)
            if hold is None:
                self._ate_free.release()
                return
        call = _Call(request, hold)
        # Shown before the flag is looked at, and who gives this producer up sets the flag before it
        # looks at the calls: one of the two refuses it.
        self._ate_calls[call] = None
        if self._ate_halted:
            self._ate_answer(request)
            self._ate_let_go(call)
            return
        try:
            future = submit(call)
        except BaseException as error:
            try:
                self._ate_post(call, self._ate_failed(call, error))
            finally:
                self._ate_let_go(call)
            return
        if future is None:
            self._ate_let_go(call)
            return
        # Whatever ends the request takes it out of the pool's line, if it stands there.
        if not request._waiter().add(future.cancel):
            future.cancel()
        future.add_done_callback(lambda done: self._ate_done(call, done))

    def _ate_claim(self, call: _Call) -> bool:
        """Contest the right to begin; on the pool's thread, on our own for a pool of processes."""
        request = call.request
        if self._ate_halted:
            self._ate_answer(request)
            return False
        now = request._home.clock()
        if not request.claim(self._ate_address, now):
            return False
        call.thread = threading.get_ident()
        call.started = now
        self._ate_show()
        return True

    def _ate_done(self, call: _Call, future: Any) -> None:
        """Turn what came of a call into the row's outcome.

        On a thread of the pool, or on the dispatcher's, which has ended the request meanwhile.
        """
        call.request._waiter().discard(future.cancel)
        try:
            try:
                outcome = self._ate_result(call, future)
            except BaseException as error:
                outcome = self._ate_failed(call, error)
            self._ate_post(call, outcome)
        finally:  # the worker comes back even if the error cannot be told
            self._ate_let_go(call)

    def _ate_result(self, call: _Call, future: Any) -> Optional[Outcome]:
        """Give the answer; None if the call was not begun, because nobody wants it any more."""
        request = call.request
        result = None if future.cancelled() and request.cancelled else future.result()
        if result is None:
            return None
        value, ended = result
        if request._options is None:
            return Outcome(request, self._ate_address, value, call.started, ended)
        value = self._ate_copy_result(request, value)
        return CopiedOutcome(request, self._ate_address, value, call.started, ended)

    def _ate_failed(self, call: _Call, error: BaseException) -> Optional[Outcome]:
        """Give what the row gets for an error, as above; the pool's own come before it is begun."""
        if call.started is None and not self._ate_claim(call):
            return None
        assert call.started is not None
        return self._ate_error(call.request, error, call.started)

    def _ate_post(self, call: _Call, outcome: Optional[Outcome]) -> None:
        if outcome is not None:
            if call.hold is not None and call.hold.waited is not None:
                outcome._waited = call.hold.waited
            call.request._home.put(outcome)

    def _ate_let_go(self, call: _Call) -> None:
        """It has ended: give resources and worker back."""
        self._ate_calls.pop(call, None)
        self._ate_show()
        if call.hold is not None:
            RESOURCES.release(call.hold)
        if self._ate_met:
            self._ate_pass_fences()
        self._ate_free.release()

    # ---- all calls at once (any thread) --------------------------------------------------------

    def _ate_oldest(self) -> Optional[_Call]:
        """Give the call that has run longest, None if none has begun."""
        begun = [call for call in self._ate_calls.copy() if call.started is not None]
        return min(begun, key=attrgetter("started"), default=None)

    def _ate_show(self) -> None:
        """Show what the oldest call works on, whenever one has begun or ended.

        Several threads may be at it: each looks again after it has written, so that the last one to
        write has seen how things stand.
        """
        while True:
            oldest = self._ate_oldest()
            self._ate_address.running = None if oldest is None else oldest.request
            if self._ate_oldest() is oldest:
                return

    def _ate_meet(self, fence: Fence) -> None:
        """Let a fence pass once the calls before it have ended; the own thread goes on."""
        self._ate_fences.pop(fence, None)  # it waits in the mailbox no more
        self._ate_met[fence] = tuple(self._ate_calls.copy())
        self._ate_pass_fences()

    def _ate_pass_fences(self) -> None:
        """Pass the fences met whose calls have ended, or are given up.

        Who ends a call takes it out and then looks for fences; a fence is entered before its calls
        are looked for: one of the two finds that it was the last.
        """
        for fence, calls in self._ate_met.copy().items():
            if not self._ate_gone and any(call in self._ate_calls for call in calls):
                continue
            if self._ate_met.pop(fence, None) is not None:
                fence.passed()

    def _ate_abandon(self, reason: str) -> None:
        self._ate_abandoned = reason
        self._ate_halted = True  # what has not begun never will
        hold = self._ate_hold
        if hold is not None:
            hold.ring()
        for call in self._ate_calls.copy():
            if call.hold is not None:
                RESOURCES.release(call.hold)
        super()._ate_abandon(reason)
        self._ate_pass_fences()

    def _ate_reject_running(self) -> None:
        """Answer in place of every call; one that has not begun never will."""
        reason = f"{self.name!r} {self._ate_why_gone()}"
        for call in self._ate_calls.copy():
            request = call.request
            now = request._home.clock() + 0.0  # a float of our own, whatever the clock hands out
            row = request._rows.setdefault(self._ate_address, now)
            if type(row) is float:
                ended = min(now, request.deadline) if row is now else now
                status = OutcomeStatus.REJECTED
                request._home.put(Failure(request, self._ate_address, status, reason, None, ended))

    def _ate_thread_at_work(self) -> Optional[int]:
        oldest = self._ate_oldest()
        return self.ident if oldest is None else oldest.thread

    def _ate_settle(self) -> None:
        """Wait until no call runs."""
        for _ in range(self._ate_workers):
            self._ate_free.acquire()
        for _ in range(self._ate_workers):
            self._ate_free.release()

    def _ate_submitter(self, pool: Any) -> Callable[[_Call], Any]:
        """Give what hands a call to the pool, for a future; None if it was not to begin."""
        from concurrent.futures import ThreadPoolExecutor

        if isinstance(pool, ThreadPoolExecutor):
            return lambda call: pool.submit(_in_thread, self, call)

        def submit(call: _Call) -> Any:
            if not self._ate_claim(call):
                return None
            request = call.request
            deadline = request.deadline if request._home.clock is monotonic else inf
            kwargs = dict(request.kwargs)
            function = self._ate_function
            return pool.submit(_in_process, function, request.topic, request.args, kwargs, deadline)

        return submit


class _Call:
    """One call on its way through the pool.

    `started`, and before it `thread`, on which it runs, are set once, by who claims it.
    """

    __slots__ = ("hold", "request", "started", "thread")

    def __init__(self, request: Request, hold: Optional[Hold]) -> None:
        self.request = request
        self.hold = hold
        self.started: Optional[float] = None
        self.thread: Optional[int] = None


class _Worker:
    """Stands in for an address where several calls of one producer run at once."""

    __slots__ = ("address", "running")

    def __init__(self, address: Any, running: Request) -> None:
        self.address = address
        self.running: Optional[Request] = running


def _workers_of(executor: Any) -> Optional[int]:
    """Give how many workers an executor has, None if it does not tell; a class does not."""
    workers = getattr(executor, "_max_workers", None)
    return workers if isinstance(workers, int) and workers > 0 else None


def _in_thread(producer: ExecutorProducer, call: _Call) -> Optional[Tuple[Any, float]]:
    """Do the work, unless it is not wanted any more: then None."""
    if not producer._ate_claim(call):
        return None
    request = call.request
    worker = _Worker(producer._ate_address, request)
    token = working_for.set(worker)
    local.role = producer  # for as long as it works for us, a thread of the pool is one of ours
    try:
        value = producer._ate_with_copies(producer._ate_function, request)
        return value, request._home.clock()
    finally:
        worker.running = None
        working_for.reset(token)
        del local.role


def _in_process(
    function: Callable[..., Any], topic: str, args: Tuple[Any, ...], kwargs: Any, deadline: float
) -> Optional[Tuple[Any, float]]:
    """Do the work, unless its time has passed: then None."""
    if monotonic() > deadline:
        return None
    value = function(topic, *args, **kwargs)
    return value, monotonic()
