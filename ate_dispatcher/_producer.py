"""Producers: the agents that do the work of a request."""

from __future__ import annotations

import contextlib
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Callable

from ._agent import Agent
from ._exceptions import InvalidTypeError, WorkCalledOffError
from ._mailbox import STOP
from ._outcomes import CopiedOutcome, Failure, Outcome, OutcomeStatus, Partial, StreamEnd
from ._request import Request, working_for

__all__ = ["FunctionProducer", "Producer"]

_DEFERRED = frozenset((AsyncGeneratorType, CoroutineType, GeneratorType))


class Producer(Agent):
    """Subclass it and implement `produce_dispatcher_output`.

    A thread: an instrument opened in `on_start` and used in the hook never crosses threads.

    Parameters
    ----------
    name, site, capacity, overflow
        See `Agent`; all keyword-only and optional.
    """

    def produce_dispatcher_output(self, /, topic: str, *args: Any, **kwargs: Any) -> Any:
        """Do the work of one request. Runs on the producer's own thread.

        Parameters
        ----------
        topic : str
            The topic of the request.
        *args, **kwargs
            What ``send_request`` was given, untouched.

        Returns
        -------
        object
            The answer. A generator relays each value it yields as it comes, and its return value
            at the end; a coroutine function runs on an event loop that the producer owns.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has not implemented produce_dispatcher_output"
        )

    def _ate_check_hooks(self) -> None:
        hook = self.produce_dispatcher_output
        if getattr(hook, "__func__", None) is Producer.produce_dispatcher_output:
            raise InvalidTypeError(
                f"{type(self).__qualname__} must implement "
                "produce_dispatcher_output(self, topic, *args, **kwargs)"
            )

    def _ate_serve(self) -> None:
        # The hot loop of the producing side: one look at the type, the clock twice, one claim.
        address = self._ate_address
        get = self._ate_mailbox.get
        hook = self.produce_dispatcher_output
        working_for.set(address)
        while True:
            request = get()
            if type(request) is not Request:
                if request is STOP:
                    return
                request.passed()
                continue
            home = request._home
            clock = home.clock
            now = clock()
            # `Ledger.claim`, written out.
            if (
                now > request.deadline
                or request._cancelled
                or request._rows.setdefault(address, now) is not now
            ):
                continue
            address.running = request
            outcome: Outcome
            try:
                if request._options is not None:
                    outcome = self._ate_with_options(request, hook, now)
                else:
                    if request._kwargs is None:
                        value = hook(request.topic, *request.args)
                    else:
                        value = hook(request.topic, *request.args, **request._kwargs)
                    if type(value) in _DEFERRED:
                        outcome = self._ate_see_through(request, value, now)
                    else:
                        outcome = Outcome(request, address, value, now, clock())
            except BaseException as error:
                home.put(self._ate_error(request, error, now))
                address.running = None
                if not isinstance(error, Exception):
                    raise
            else:
                home.put(outcome)
            # Nothing of an ended request is kept while waiting for the next.
            address.running = request = value = outcome = None  # type: ignore[assignment]

    def _ate_with_options(
        self, request: Request, hook: Callable[..., Any], started: float
    ) -> Outcome:
        """Do the work of a request that has options: ``copy=`` touches arguments and result."""
        value = self._ate_with_copies(hook, request)
        if type(value) in _DEFERRED:
            return self._ate_see_through(request, value, started)
        ended = request._home.clock()
        value = self._ate_copy_result(request, value)
        return CopiedOutcome(request, self._ate_address, value, started, ended)

    def _ate_with_copies(self, hook: Callable[..., Any], request: Request) -> Any:
        if request._options is None:
            return hook(request.topic, *request.args, **request.kwargs)
        args, kwargs = request._options.copy_call(request.args, request.kwargs)
        return hook(request.topic, *args, **(kwargs or {}))

    def _ate_copy_result(self, request: Request, value: Any) -> Any:
        if request._options is None:
            return value
        try:
            return request._options.copy_value(value)
        except Exception as error:
            raise InvalidTypeError(
                f"the result of {self.name!r} cannot be copied (copy={request._options.copy!r}): "
                f"{value!r}"
            ) from error

    # ---- streams and coroutines -----------------------------------------------------------------

    def _ate_see_through(self, request: Request, work: Any, started: float) -> Outcome:
        """See a generator, coroutine or asynchronous generator through to its final outcome."""
        home = request._home
        if type(work) is CoroutineType:
            value = self._ate_await_work(request, work)
            value = self._ate_copy_result(request, value)
            kind = Outcome if request._options is None else CopiedOutcome
            return kind(request, self._ate_address, value, started, home.clock())
        if type(work) is GeneratorType:
            value = self._ate_relay(request, work.__next__, work.close, started)
        else:
            value = self._ate_relay_async(request, work, started)
        return StreamEnd(request, self._ate_address, value, started, home.clock())

    def _ate_await_work(self, request: Request, coroutine: Any) -> Any:
        loop = self._ate_loop_thread()
        call_offs = []

        def calling_off(cancel: Callable[[], None]) -> None:
            call_offs.append(cancel)
            if not request._waiter().add(cancel):
                cancel()

        try:
            return loop.run(coroutine, calling_off)
        finally:
            for cancel in call_offs:
                request._waiter().discard(cancel)
            call_offs.clear()

    def _ate_relay(
        self,
        request: Request,
        step: Callable[[], Any],
        close: Callable[[], Any],
        started: float,
    ) -> Any:
        """Post each value as it comes; close the generator when it is no longer wanted.

        Runs on the thread that runs the generator, so closing it needs no luck.
        """
        home = request._home
        try:
            while True:
                value = self._ate_copy_result(request, step())
                now = home.clock()
                home.put(Partial(request, self._ate_address, value, started, now))
                request.check()
        except StopIteration as end:
            return end.value
        finally:
            close()

    def _ate_relay_async(self, request: Request, generator: Any, started: float) -> Any:
        def step() -> Any:
            value = self._ate_await_work(request, _anext(generator))
            if value is _EXHAUSTED:
                raise StopIteration(None)
            return value

        def close() -> None:
            self._ate_await(generator.aclose())

        return self._ate_relay(request, step, close, started)

    # ---- what goes wrong -----------------------------------------------------------------------

    def _ate_error(self, request: Request, error: BaseException, started: float) -> Failure:
        ended = request._home.clock()
        reason = _worded(error)
        error.__traceback__ = _users_part(error.__traceback__)
        if error.__traceback__ is None and type(error) is TypeError:
            reason = f"{self._ate_signature()} cannot be called with what was sent: {error}"
        status = OutcomeStatus.ERROR
        if isinstance(error, WorkCalledOffError) and request.cancelled:
            status = OutcomeStatus.CANCELLED
        return Failure(request, self._ate_address, status, reason, started, ended, error)

    def _ate_signature(self) -> str:
        from inspect import signature  # a large module, needed only to word this mistake

        hook = self.produce_dispatcher_output
        try:
            parameters = str(signature(hook))
        except ValueError:  # some built-in functions do not tell
            parameters = "(…)"
        return f"{getattr(hook, '__qualname__', 'the hook')}{parameters}"

    def _ate_leave(self) -> None:
        request = self._ate_address.running
        if request is not None:  # the loop itself failed: not even an error was reported
            reason = f"{self.name!r} {self._ate_why_gone()}"
            status, now = OutcomeStatus.REJECTED, request._home.clock()
            request._home.put(Failure(request, self._ate_address, status, reason, None, now))
            self._ate_address.running = None
        super()._ate_leave()

    def _ate_waits(self, message: Any) -> bool:
        return self._ate_address not in message._rows and not message.cancelled

    def _ate_refuse(self, message: Any, reason: str) -> None:
        message._refuse(self._ate_address, reason)


def _worded(error: BaseException) -> str:
    """Say what was raised; an error whose own wording fails must not end its reporting."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception as failure:
        return f"{name} (its str() raised {type(failure).__name__})"


def _users_part(traceback: Any) -> Any:
    """Take our own frames off the top of a traceback.

    They say nothing to the user, and with the request among their locals they would make a
    reference cycle of every error; they are cleared as well, because a frame keeps its caller.
    """
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        if not module.startswith(("ate_dispatcher._", "concurrent.futures", "asyncio")):
            break
        with contextlib.suppress(RuntimeError):  # still running: it lets go by itself
            traceback.tb_frame.clear()
        traceback = traceback.tb_next
    return traceback


_EXHAUSTED = object()


async def _anext(generator: Any) -> Any:
    try:
        return await generator.__anext__()
    except StopAsyncIteration:  # caught here: carried to another thread it would be kept in a cycle
        return _EXHAUSTED


class FunctionProducer(Producer):
    """A producer made of a plain function ``function(topic, *args, **kwargs)``."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        if not callable(function):
            raise InvalidTypeError(f"a producer function must be callable, not {function!r}")
        super().__init__(**options)
        self._ate_function = function

    @property
    def produce_dispatcher_output(self) -> Callable[..., Any]:
        """The function itself."""
        return self._ate_function
