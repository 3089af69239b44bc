"""Producers: the agents that do the work of a request."""

from __future__ import annotations

import contextlib
import logging
from operator import attrgetter
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Callable, Iterable, Optional, Union

from ._agent import FATAL, Agent
from ._exceptions import InvalidTypeError, WorkCalledOffError, WorkRejectedError
from ._mailbox import STOP, BoundedMailbox
from ._messages import TICK
from ._outcomes import CopiedOutcome, Failure, Outcome, OutcomeStatus, Partial, StreamEnd
from ._ranked import Ranked
from ._request import Request, working_for
from ._resources import RESOURCES, Hold, check_resources

__all__ = ["FunctionProducer", "Producer"]

logger = logging.getLogger("ate_dispatcher")

_COROUTINE_FLAG = 0x80
"""CO_COROUTINE of `inspect`, a large module."""

_priority = attrgetter("priority")

_DEFERRED = frozenset((AsyncGeneratorType, CoroutineType, GeneratorType))


class Producer(Agent):
    """Subclass it and implement `produce_dispatcher_output`.

    A thread: an instrument opened in `on_start` and used in the hook never crosses threads.

    Parameters
    ----------
    name, site, capacity, overflow
        See `Agent`; all keyword-only and optional.
    resources : iterable of str
        Names of what its work needs for itself alone, in the whole process: a bus, a power supply.
        All of them are held while the work of a request runs, and waiting for them is part of its
        TTL. A hook must not wait for another request that needs one of them. Those of a producer
        that hangs and is given up by its supervisor are handed on.
    """

    def __init__(
        self,
        *,
        name: Optional[str] = None,
        site: Union[int, str, None] = None,
        capacity: Optional[int] = None,
        overflow: str = "reject",
        resources: Iterable[str] = (),
    ) -> None:
        names = check_resources(resources)
        super().__init__(name=name, site=site, capacity=capacity, overflow=overflow)
        self._ate_resources = names
        self._ate_hold: Optional[Hold] = None
        # What the work in progress holds: written by the own thread, read by who gives it up.
        self._ate_held: Optional[Hold] = None
        self._ate_ranked: Optional[Ranked] = None
        self._ate_halted = False
        self._ate_made_safe = False
        self._ate_safe_error: Optional[BaseException] = None
        self._ate_restarts = 0
        """How many lives it had before, under a supervisor, who sets it before `start`."""

    def safe_state(self) -> Any:
        """Bring the instrument into a state in which it may be left alone: output off, arm parked.

        On the producer's own thread, once, after its last work and before `on_stop`, on every way
        out: `stop`, `abort`, an exception in the script, a signal, a forgotten `stop`, and a
        failure of the producer itself, be it in `on_start`. The dispatcher's producers are made
        safe in the reverse order of their registration, each when the one before it is. It does not
        wait for the producer's `resources`. One that hung and was given up does it when its hook
        comes back, although a new producer may be at work with that instrument by then.
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
        if not callable(self.safe_state):
            raise InvalidTypeError(
                f"{type(self).__qualname__}.safe_state must be a method that brings the instrument "
                f"into its safe state, not {self.safe_state!r}"
            )

    def _ate_serve(self) -> None:
        if self._ate_resources:
            self._ate_serve_holding()
            return
        # The hot loop of the producing side: one look at the type, the clock twice, one claim.
        address = self._ate_address
        get = self._ate_mailbox.get
        hook = self.produce_dispatcher_output
        working_for.set(address)
        while True:
            if address.alert:
                get = self._ate_reader()
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
                if isinstance(error, FATAL):
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

    # ---- priorities and resources ---------------------------------------------------------------

    def _ate_reader(self) -> Callable[[], Any]:
        """Give what the next message is to be read with, once the producer was alerted."""
        get: Callable[[], Any]
        mailbox = self._ate_mailbox
        if isinstance(mailbox, BoundedMailbox):
            mailbox.rank = _priority
            get = mailbox.get
        else:
            if self._ate_ranked is None:
                self._ate_ranked = Ranked(mailbox, _priority)
            get = self._ate_ranked.get
        # The heap is shown before the flag is looked at, and whoever gives this producer up sets
        # the flag before it looks for a heap to empty: one of the two sees the other.
        return _halt if self._ate_halted or self._ate_abandoned else get

    def _ate_next(self) -> Any:
        """Give the next message, waiting for one."""
        return self._ate_reader()() if self._ate_address.alert else self._ate_mailbox.get()

    def _ate_serve_holding(self) -> None:
        """Serve as above, each piece of work with all its resources in hand (C4: claimed last)."""
        address = self._ate_address
        hook = self.produce_dispatcher_output
        working_for.set(address)
        while True:
            request = self._ate_next()
            if type(request) is not Request:
                if request is STOP:
                    return
                request.passed()
                continue
            hold = self._ate_held = self._ate_take_resources(request)
            if hold is None:
                continue
            fatal = None
            try:
                now = request._home.clock()
                if not request.claim(address, now):
                    continue
                address.running = request
                outcome: Outcome
                try:
                    outcome = self._ate_with_options(request, hook, now)
                except BaseException as error:
                    outcome = self._ate_error(request, error, now)
                    fatal = error if isinstance(error, FATAL) else None
            finally:
                RESOURCES.release(hold)
                self._ate_held = None
            if hold.waited is not None:
                outcome._waited = hold.waited
            request._home.put(outcome)
            address.running = request = hold = outcome = None  # type: ignore[assignment]
            if fatal is not None:
                raise fatal

    def _ate_take_resources(self, request: Request) -> Optional[Hold]:
        """Wait for everything that work needs; None if it is not wanted any more."""
        address, clock = self._ate_address, request._home.clock

        def called_off() -> bool:
            return self._ate_halted or request.cancelled

        if request.cancelled or clock() > request.deadline:
            return None
        # The hold is shown before the flag is looked at, and whoever halts sets the flag before it
        # looks for a hold to ring: one of the two sees the other.
        hold = self._ate_hold = Hold(address, self._ate_resources)
        try:
            if RESOURCES.acquire(hold, request, called_off, clock):
                return hold
        finally:
            self._ate_hold = None
        if self._ate_halted:
            self._ate_answer(request)
        return None

    def _ate_depth(self) -> int:
        ranked = self._ate_ranked
        return super()._ate_depth() + (0 if ranked is None else len(ranked))

    # ---- the safe state -------------------------------------------------------------------------

    def _ate_has_safe_state(self) -> bool:
        return getattr(self.safe_state, "__func__", None) is not Producer.safe_state

    def _ate_halt(self) -> None:
        """Let it end right after the work it is at: what is in its mailbox is refused. Any thread.

        It tells its dispatchers when it has been made safe.
        """
        self._ate_dismissed = True
        self._ate_halted = True
        self._ate_address.alert = True
        self._ate_address.control(STOP)  # in case that it waits for a message
        hold = self._ate_hold
        if hold is not None:
            hold.ring()

    def _ate_prepare(self) -> None:
        code = getattr(self.safe_state, "__code__", None)
        if code is not None and code.co_flags & _COROUTINE_FLAG:
            self._ate_loop_thread()  # now: at the end of the script no thread can be started

    def _ate_make_safe(self) -> None:
        if self._ate_made_safe or not self._ate_has_safe_state():
            return
        try:
            self._ate_call(self.safe_state)
        except BaseException as error:  # whatever it is, the others are still to be made safe
            self._ate_safe_error = error
            logger.error("safe_state of %r raised: it may be unsafe", self.name, exc_info=error)
        self._ate_made_safe = True
        for home in self._ate_dispatchers():
            home.put(TICK)

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
                now = self._ate_progress = home.clock()
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
        error.with_traceback(_users_part(error.__traceback__))  # some let nothing be assigned
        if error.__traceback__ is None and type(error) is TypeError:
            reason = f"{self._ate_signature()} cannot be called with what was sent: {error}"
        status = OutcomeStatus.ERROR
        if isinstance(error, WorkCalledOffError) and request.cancelled:
            status = OutcomeStatus.CANCELLED
        elif isinstance(error, WorkRejectedError):
            status, reason = OutcomeStatus.REJECTED, str(error)
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
        self._ate_reject_running()  # if the loop itself failed, not even an error was reported
        self._ate_address.running = None
        super()._ate_leave()

    def _ate_abandon(self, reason: str) -> None:
        self._ate_abandoned = reason
        self._ate_address.alert = True  # should its hook come back, it begins nothing more
        self._ate_reject_running()
        held = self._ate_held
        if held is not None:  # its own thread may be about to: only the first time does something
            RESOURCES.release(held)
        super()._ate_abandon(reason)

    def _ate_forked(self) -> None:
        super()._ate_forked()
        self._ate_ranked = None  # with its lock; what was in it has ended here

    def _ate_refuse_mailbox(self) -> None:
        ranked = self._ate_ranked
        for message in () if ranked is None else ranked.rest():
            self._ate_answer(message)
        super()._ate_refuse_mailbox()

    def _ate_reject_running(self) -> None:
        """Answer in place of the hook; if its own answer comes first, this one is late."""
        request = self._ate_address.running
        if request is not None:
            reason = f"{self.name!r} {self._ate_why_gone()}"
            status, now = OutcomeStatus.REJECTED, request._home.clock()
            request._home.put(Failure(request, self._ate_address, status, reason, None, now))

    def _ate_thread_at_work(self) -> Optional[int]:
        """Give the identifier of the thread that its work runs on."""
        return self.ident

    def _ate_waits(self, message: Any) -> bool:
        return self._ate_address not in message._rows and not message.cancelled

    def _ate_refuse(self, message: Any, reason: str) -> None:
        message._refuse(self._ate_address, reason)


def _halt() -> Any:
    return STOP


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
        if not module.startswith(_OURS):
            break
        with contextlib.suppress(RuntimeError):  # still running: it lets go by itself
            traceback.tb_frame.clear()
        traceback = traceback.tb_next
    return traceback


_OURS = ("ate_dispatcher._", "ate_dispatcher.supervision.", "concurrent.futures", "asyncio")
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
