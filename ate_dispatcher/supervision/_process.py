"""A producer that runs in a process of its own, which can really be ended."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import threading
from math import inf
from multiprocessing.process import current_process
from time import monotonic
from typing import Any, Callable, Generator, Optional

from .._checks import check_seconds
from .._exceptions import (
    InvalidArgumentError,
    InvalidTypeError,
    ProcessLostError,
    StateError,
    WorkCalledOffError,
)
from .._outcomes import Failure
from .._producer import Producer
from .._request import Request, current_request
from ._dialogue import (
    Answer,
    Call,
    CallOff,
    CancelAll,
    MakeSafe,
    Raised,
    Ready,
    Skipped,
    Unready,
    heading,
    unpack,
)
from ._link import Link

__all__ = ["ProcessProducer"]

logger = logging.getLogger("ate_dispatcher")


class ProcessProducer(Producer):
    """Runs the producer that `factory` makes in a child process.

    For drivers that hang, crash or hold the interpreter's lock: what a thread cannot be freed from,
    a process can. Every hook of the real producer runs over there, on one thread, and
    ``current_request()`` works in it; arguments, results and errors must be picklable. Work that
    is still going on `grace` seconds after its request has ended is ended with its process, and so
    is a process that ends by itself noticed; the next request finds a new one.

    Parameters
    ----------
    factory : callable
        Called without arguments in the child; gives the `Producer`. A class, a function at the top
        of a module, or a `functools.partial` of one: it is pickled by name.
    grace : float
        Seconds that work may take to end once its request has, and the producer once told to stop.
    start_within : float
        Seconds that making the producer and its ``on_start`` may take.
    **options
        As for `Producer`.

    Raises
    ------
    InvalidTypeError
        The factory cannot be pickled.

    Notes
    -----
    A script that makes one needs ``if __name__ == "__main__":`` around what it does, as always with
    processes that are spawned. The child ends when its parent does, however that ends.
    """

    def __init__(
        self,
        factory: Callable[[], Producer],
        *,
        grace: float = 0.5,
        start_within: float = 30.0,
        **options: Any,
    ) -> None:
        if getattr(current_process(), "_inheriting", False):
            raise StateError(
                "a ProcessProducer is made while its script is imported by a child process: put "
                'what the script does under `if __name__ == "__main__":`'
            )
        if not callable(factory):
            raise InvalidTypeError(f"a factory must be callable, not {factory!r}")
        for what, seconds in (("grace", grace), ("start_within", start_within)):
            if not 0 <= check_seconds(seconds, what) < inf:
                raise InvalidArgumentError(f"{what} must be finite and not negative: {seconds!r}")
        try:
            pickled = pickle.dumps(factory)
        except Exception as error:
            raise InvalidTypeError(
                f"the factory {factory!r} cannot be sent to a child process: it must be a class or "
                f"a function at the top of a module, or a functools.partial of one ({error})"
            ) from error
        super().__init__(**options)
        self._ate_factory = pickled
        self._ate_grace = float(grace)
        self._ate_start_within = float(start_within)
        self._ate_link: Optional[Link] = None
        self._ate_safe_over_there = False
        # The number of the present call; what the child says of an earlier one is dropped.
        self._ate_number = 0
        self._ate_called_off = False
        self._ate_limit = inf
        # What ends a wait for the child; written by whoever ends a request, under the lock, which
        # keeps the descriptor from being closed in between. The flag: one is in the pipe.
        self._ate_wake_lock = threading.Lock()
        self._ate_woken = False
        self._ate_wakes: Any = None
        self._ate_ears: Any = None

    @property
    def pid(self) -> Optional[int]:
        """Process id of the child, None while there is none."""
        link = self._ate_link
        return None if link is None else link.pid

    # ---- hooks, on the own thread --------------------------------------------------------------

    def on_start(self) -> None:
        """Start the child and wait until its producer is ready."""
        self._ate_ears, self._ate_wakes = multiprocessing.Pipe(duplex=False)
        try:
            self._ate_begin()
            self._ate_await_ready(None)
        except BaseException:
            self._ate_end(0.0)
            raise

    def on_stop(self) -> None:
        """Let the child's producer stop, and end the child."""
        self._ate_end(self._ate_grace)

    def produce_dispatcher_output(self, /, topic: str, *args: Any, **kwargs: Any) -> Any:
        """Have the work of one request done by the child."""
        request = current_request()
        if not request._waiter().add(self._ate_wake):
            request.check()
        link = self._ate_await_ready(request)
        request.check()
        remaining = request.remaining()
        self._ate_number += 1
        self._ate_called_off = False
        self._ate_limit = monotonic() + remaining + self._ate_grace
        call = Call(topic, args, kwargs, remaining, dict(request.tags))
        try:
            link.say(call, remaining + self._ate_grace, self._ate_number)
        except ProcessLostError:
            self._ate_replace()
            raise
        answer = self._ate_hear_answer(request)
        return self._ate_stream(request, answer) if answer.partial else answer.value

    def safe_state(self) -> None:
        """Have the child's producer run its ``safe_state``, if it has one, within the grace."""
        link = self._ate_link
        if link is None or not link.ready or link.ended():
            raise ProcessLostError(f"{self.name!r} has no process that could be made safe")
        self._ate_number += 1
        link.say(MakeSafe(), self._ate_grace, self._ate_number)
        limit = monotonic() + self._ate_grace
        while monotonic() < limit:
            data = link.hear(limit - monotonic(), self._ate_ears, "it was made safe")
            if data is None or heading(data).call != self._ate_number:
                self._ate_drain_wakes()
                continue
            message = unpack(data)
            if isinstance(message, Raised):
                raise _with_trace(message.error, message.trace, message.reason)
            return
        raise ProcessLostError(f"{self.name!r} was not safe within {self._ate_grace:g} s")

    def _ate_has_safe_state(self) -> bool:
        return self._ate_safe_over_there

    def _ate_stream(self, request: Request, answer: Answer) -> Generator[Any, None, Any]:
        """Yield what the child yields; told to close, have it close its own."""
        while answer.partial:
            try:
                yield answer.value
            except GeneratorExit:
                self._ate_call_off()
                try:
                    while self._ate_hear_answer(request).partial:
                        pass
                except Exception as error:  # its own error has nobody left to go to
                    logger.debug("the stream of %r ended with %r", self.name, error)
                raise
            answer = self._ate_hear_answer(request)
        return answer.value

    # ---- the conversation ----------------------------------------------------------------------

    def _ate_hear_answer(self, request: Request) -> Answer:
        """Wait for what the child answers: the result, or one value of a stream.

        A value that cannot be read here ends the stream. The child is called off and heard to its
        last word, so that the next call finds it idle.
        """
        unread: Optional[InvalidTypeError] = None
        try:
            while True:
                data = self._ate_hear(request)
                last = heading(data).last
                if unread is not None:
                    if last:
                        raise unread
                    continue
                try:
                    message = unpack(data)
                except InvalidTypeError as error:
                    if last:
                        raise
                    unread = error
                    self._ate_call_off()
                    continue
                if isinstance(message, Answer):
                    return message
                if isinstance(message, Raised):
                    raise _with_trace(message.error, message.trace, message.reason)
                if isinstance(message, CancelAll):
                    request.cancel()
                elif isinstance(message, Skipped):
                    request.check()
                    topic = request.topic
                    raise WorkCalledOffError(f"the time for {topic!r} had passed over there")
        finally:
            unread = None  # its traceback leads back to this frame: a cycle

    def _ate_hear(self, request: Request) -> bytes:
        """Wait for a message of this call; pass on that it is called off; end it in the end."""
        link = self._ate_link
        assert link is not None
        while True:
            if request.cancelled:
                self._ate_call_off()
            left = self._ate_limit - monotonic()
            if left <= 0:
                self._ate_replace()
                logger.warning(
                    "%r was still at work on %r %g s after the end of the request: "
                    "its process was killed",
                    self.name,
                    request.topic,
                    self._ate_grace,
                )
                raise ProcessLostError(
                    f"the process of {self.name!r} was killed: it was still at work on "
                    f"{request.topic!r} {self._ate_grace:g} s after the end of the request"
                )
            try:
                data = link.hear(left, self._ate_ears, f"it worked on {request.topic!r}")
            except Exception:  # whatever it is, nobody knows any more what the child is at
                self._ate_replace()
                raise
            if data is not None and heading(data).call == self._ate_number:
                return data
            self._ate_drain_wakes()

    def _ate_call_off(self) -> None:
        """Tell the child, once a call, that its work is no longer wanted."""
        if self._ate_called_off or self._ate_link is None:
            return
        self._ate_called_off = True
        self._ate_limit = min(self._ate_limit, monotonic() + self._ate_grace)
        try:
            self._ate_link.say(CallOff(), self._ate_grace, self._ate_number)
        except ProcessLostError:
            pass  # the next look at the pipe says so

    def _ate_await_ready(self, request: Optional[Request]) -> Link:
        """Wait until the child takes calls; while a request is wanted, if it is for one."""
        link = self._ate_link
        if link is not None and link.ready and link.ended():
            logger.warning("%s; a new one is started", link.lost("it was idle"))
            self._ate_close_link()
            link = None
        if link is None:
            link = self._ate_begin()
        try:
            while not link.ready:
                left = link.begun + self._ate_start_within - monotonic()
                if left <= 0:
                    raise ProcessLostError(
                        f"the process of {self.name!r} was not ready within "
                        f"{self._ate_start_within:g} s and was killed"
                    )
                data = link.hear(left, self._ate_ears, "it was being started")
                message = None if data is None else unpack(data)
                if isinstance(message, Ready):
                    link.ready = True
                    self._ate_safe_over_there = message.has_safe_state
                elif isinstance(message, Unready):
                    raise _with_trace(message.error, message.trace)
                else:
                    self._ate_drain_wakes()
                    if request is not None and request.cancelled:
                        break
        except BaseException:
            self._ate_close_link()
            raise
        return link

    # ---- the child -----------------------------------------------------------------------------

    def _ate_begin(self) -> Link:
        self._ate_link = link = Link(repr(self.name), self._ate_factory, self._ate_grace)
        if self._ate_abandoned:  # in between: who abandons looks for the link after saying so
            link.kill()
        return link

    def _ate_replace(self) -> None:
        """End this child; the next one is on its way before the next request comes."""
        self._ate_close_link()
        if not self._ate_dismissed:
            self._ate_begin()

    def _ate_close_link(self) -> None:
        link, self._ate_link = self._ate_link, None
        if link is not None:
            link.close()

    def _ate_end(self, grace: float) -> None:
        link, self._ate_link = self._ate_link, None
        if link is not None:
            link.leave(grace)
        with self._ate_wake_lock:
            ears, wakes = self._ate_ears, self._ate_wakes
            self._ate_ears = self._ate_wakes = None
        for end in (ears, wakes):
            if end is not None:
                end.close()

    def _ate_abandon(self, reason: str) -> None:
        super()._ate_abandon(reason)
        link = self._ate_link
        if link is not None:  # what it holds is needed by whoever takes its place
            link.kill()

    # ---- being woken ---------------------------------------------------------------------------

    def _ate_wake(self) -> None:
        """End a wait for the child, on whatever thread ended the request.

        One is in the pipe at most, be it that of an earlier request: it never fills, so that the
        dispatcher's thread never waits here. Flag and pipe change together, under the lock.
        """
        with self._ate_wake_lock:
            if self._ate_wakes is not None and not self._ate_woken:
                self._ate_wakes.send_bytes(b"!")
                self._ate_woken = True

    def _ate_drain_wakes(self) -> None:
        """Make room for the next; whoever wakes has ended the request before, so look at it now."""
        with self._ate_wake_lock:
            if self._ate_woken:
                self._ate_ears.recv_bytes()
                self._ate_woken = False

    def _ate_error(self, request: Request, error: BaseException, started: float) -> Failure:
        failure = super()._ate_error(request, error, started)
        cause = error.__cause__
        if isinstance(cause, _ChildTraceback) and cause.reason:
            failure.reason = cause.reason  # worded where the hook's signature is known
        return failure


class _ChildTraceback(Exception):
    """The traceback of an error as text, shown as its cause."""

    def __init__(self, trace: str, reason: str) -> None:
        super().__init__(trace)
        self.reason = reason

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _with_trace(error: BaseException, trace: str, reason: str = "") -> BaseException:
    # Not by the error's own class: that of a frozen dataclass lets nothing be set.
    BaseException.__setattr__(error, "__cause__", _ChildTraceback(trace, reason))
    return error
