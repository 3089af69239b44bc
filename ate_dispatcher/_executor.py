"""A producer whose work is spread over a pool of threads or processes."""

from __future__ import annotations

import os
import threading
from time import monotonic
from typing import Any, Callable, Optional, Tuple

from ._callbacks import local
from ._checks import check_whole
from ._exceptions import InvalidTypeError
from ._mailbox import STOP
from ._outcomes import CopiedOutcome, Failure, Outcome
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
        How many calls may run at once; the number of processors if not given.
    **options
        As for `Producer`.

    Notes
    -----
    Order is promised for the start of the calls only. A call takes its turn when a worker is free:
    until then the request counts as queued and can expire or be cancelled without ever starting.
    The worker stamps the end. In a pool of threads ``current_request()`` works; in a pool of
    processes function, arguments and result must be picklable, and stamps are comparable where the
    monotonic clock is one for all processes (it is on Linux, macOS and Windows), so not with a
    manual clock.
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
        self._ate_workers = max_workers or os.cpu_count() or 1
        self._ate_free = threading.Semaphore(self._ate_workers)

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
                    self._ate_settle()
                    message.passed()
                message = None
        finally:
            self._ate_settle()
            if own:
                pool.shutdown()

    def _ate_begin(self, request: Request, submit: Callable[[Request], Any]) -> None:
        """Claim it and hand it to the worker that is free; the claim comes last (C4)."""
        hold = None
        if self._ate_resources:
            hold = self._ate_take_resources(request)
            if hold is None:
                self._ate_free.release()
                return
        now = request._home.clock()
        if not request.claim(self._ate_address, now):
            self._ate_let_go(hold)
            return
        self._ate_address.running = request
        try:
            future = submit(request)
        except BaseException as error:
            self._ate_post(request, self._ate_error(request, error, now), hold)
            return
        future.add_done_callback(lambda done: self._ate_done(request, now, hold, done))

    def _ate_done(
        self, request: Request, started: float, hold: Optional[Hold], future: Any
    ) -> None:
        """On a thread of the pool: turn its result into the row's outcome."""
        outcome: Outcome
        try:
            value, ended = future.result()
            if request._options is None:
                outcome = Outcome(request, self._ate_address, value, started, ended)
            else:
                value = self._ate_copy_result(request, value)
                outcome = CopiedOutcome(request, self._ate_address, value, started, ended)
        except BaseException as error:
            outcome = self._ate_error(request, error, started)
        self._ate_post(request, outcome, hold)

    def _ate_post(self, request: Request, outcome: Outcome, hold: Optional[Hold]) -> None:
        if isinstance(outcome, Failure) and outcome.ended is None:
            outcome.ended = request._home.clock()
        if self._ate_address.running is request:
            self._ate_address.running = None
        if hold is not None and hold.waited is not None:
            outcome._waited = hold.waited
        request._home.put(outcome)
        self._ate_let_go(hold)

    def _ate_let_go(self, hold: Optional[Hold]) -> None:
        """Give resources and worker back."""
        if hold is not None:
            RESOURCES.release(hold)
        self._ate_free.release()

    def _ate_settle(self) -> None:
        """Wait until no call runs."""
        for _ in range(self._ate_workers):
            self._ate_free.acquire()
        for _ in range(self._ate_workers):
            self._ate_free.release()

    def _ate_submitter(self, pool: Any) -> Callable[[Request], Any]:
        from concurrent.futures import ThreadPoolExecutor

        if isinstance(pool, ThreadPoolExecutor):
            return lambda request: pool.submit(_in_thread, self, request)
        return lambda request: pool.submit(
            _in_process,
            self._ate_function,
            request.topic,
            request.args,
            dict(request.kwargs),
        )


class _Worker:
    """Stands in for an address where several calls of one producer run at once."""

    __slots__ = ("address", "running")

    def __init__(self, address: Any, running: Request) -> None:
        self.address = address
        self.running: Optional[Request] = running


def _in_thread(producer: ExecutorProducer, request: Request) -> Tuple[Any, float]:
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
    function: Callable[..., Any], topic: str, args: Tuple[Any, ...], kwargs: Any
) -> Tuple[Any, float]:
    value = function(topic, *args, **kwargs)
    return value, monotonic()
