"""The child's end of a `ProcessProducer`: one real producer, served over a pipe.

The producer runs as anywhere else, on its own thread, with real requests; only their return address
is the pipe instead of a dispatcher. A second thread listens to the pipe from the first moment, so
that the process ends with its parent whatever the producer is at.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import sys
import threading
from time import monotonic
from typing import Any, Optional, Tuple

from .._agent import FATAL
from .._callbacks import Callbacks
from .._exceptions import InvalidTypeError
from .._mailbox import Fence
from .._messages import Cancel, Probe
from .._options import Options
from .._outcomes import Failure, Outcome, OutcomeStatus, RequestStatus
from .._producer import Producer
from .._request import Request, ReturnAddress
from .._states import AgentState
from ._dialogue import (
    Answer,
    Call,
    CallOff,
    CancelAll,
    Incoming,
    Leave,
    MakeSafe,
    Raised,
    Ready,
    Skipped,
    Unready,
    heading,
    pack,
    pieces,
    raised,
    unpack,
)

__all__ = ["serve"]

logger = logging.getLogger("ate_dispatcher")


def serve(pipe: Any, factory: bytes, grace: float) -> None:
    """Be the child: make the producer and serve it until told to leave or left alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the parent decides
    sys.exit(_Child(pipe, grace).run(factory))


class _Child:
    """One producer and the pipe.

    `_current`, the number of the call and its request, is written by the listening thread (a call
    comes) and by the producer's (it is answered), never both at once: the parent sends the next
    call after the answer to the last.
    """

    def __init__(self, pipe: Any, grace: float) -> None:
        self._pipe = pipe
        self._grace = grace
        self._saying = threading.Lock()  # a message is written whole; no user code runs under it
        self._ending = threading.Lock()  # answered and called off at once, a request ends once
        self._callbacks = Callbacks("callbacks")
        self._home = ReturnAddress(self._put, monotonic, self._callbacks)
        self._producer: Optional[Producer] = None
        self._current: Optional[Tuple[int, Request]] = None

    def run(self, factory: bytes) -> int:
        threading.Thread(target=self._listen, name="pipe", daemon=True).start()
        try:
            self._producer = producer = _made(factory)
            producer._ate_watcher = self._changed
        except BaseException as error:
            self._say_unready(error)
            return 1
        producer.start()
        producer.join()
        self._callbacks.end()
        failure = producer._ate_failure
        if failure is None:
            return 0
        code = getattr(failure, "code", 1)
        return code if isinstance(code, int) else 1

    def _changed(self, agent: Any, state: AgentState) -> None:
        if state is AgentState.READY:
            self._say(Ready(agent._ate_has_safe_state()))
        elif state is AgentState.FAILED and not agent._ate_ready:
            self._say_unready(agent._ate_failure)

    # ---- to the parent -------------------------------------------------------------------------

    def _say(self, message: Any, call: int = 0, last: bool = True) -> None:
        data = pack(message, call, last)
        with self._saying, contextlib.suppress(
            OSError
        ):  # the parent has gone: `_listen` sees to it
            for start, length in pieces(data):
                self._pipe.send_bytes(data, start, length)

    def _say_unready(self, error: BaseException) -> None:
        from traceback import format_exception

        trace = "".join(format_exception(type(error), error, error.__traceback__))
        self._say(Unready(raised(error), trace))

    def _put(self, message: Any) -> None:
        """Take what the producer puts into the mailbox of a dispatcher, on its own thread."""
        if isinstance(message, Outcome):
            self._answer(message)
        elif isinstance(message, Cancel):
            current = self._current
            if current is not None and message.request is current[1]:
                self._say(CancelAll(), current[0], last=False)
                self._end(current[1])
        elif isinstance(message, Probe):
            message.answer()

    def _answer(self, outcome: Outcome) -> None:
        current = self._current
        if current is None or outcome._request is not current[1]:
            return
        call, request = current
        final = outcome.status is not OutcomeStatus.PARTIAL
        if final:
            self._current = None
        self._say_outcome(outcome, call, final)
        if final:
            self._end(request, outcome)

    def _end(self, request: Request, outcome: Optional[Outcome] = None) -> None:
        """End a request as a dispatcher does: it is answered, or called off. Any thread."""
        closed = []
        with self._ending:
            if request.status is not RequestStatus.OPEN:
                return
            if outcome is None:
                status, row, reason = RequestStatus.CANCELLED, OutcomeStatus.CANCELLED, "called off"
                request._cancelled = True
            else:
                status, row, reason = RequestStatus.EXPIRED, OutcomeStatus.TIMEOUT, "late"
                if request.accept(outcome):
                    status = RequestStatus.COMPLETE
                    closed = [outcome]
            if status is not RequestStatus.COMPLETE:
                closed += request.close_rows(
                    lambda address, started: Failure(request, address, row, reason, started)
                )
            for each in closed:
                each._request = None  # or request and outcomes would form a cycle
            request.status = status
        request._told()

    def _say_outcome(self, outcome: Outcome, call: int, final: bool) -> None:
        if isinstance(outcome, Failure):
            error = outcome.exception
            if error is not None and not isinstance(error, FATAL):
                self._say(Raised(raised(error), outcome.reason, outcome.traceback), call)
            return  # what fails the producer ends this process, whose exit code says it
        try:
            self._say(Answer(outcome.value, not final, outcome.streamed), call, final)
        except InvalidTypeError as error:
            if not final:
                raise  # out of the loop over the stream, which ends it
            self._say(Raised(error, f"the result cannot be used: {error}", ""), call)

    # ---- from the parent -----------------------------------------------------------------------

    def _listen(self) -> None:
        incoming = Incoming()
        while True:
            try:
                data = incoming.add(self._pipe.recv_bytes())
            except (EOFError, OSError):
                self._leave_alone()
                return
            if data is None:
                continue
            call = heading(data).call
            try:
                self._handle(unpack(data), call)
            except InvalidTypeError as error:
                self._say(Raised(error, str(error), ""), call)

    def _handle(self, message: Any, call: int) -> None:
        if isinstance(message, Call):
            self._begin(message, call)
        elif isinstance(message, CallOff):
            self._call_off(call)
        elif isinstance(message, MakeSafe) and self._producer is not None:
            self._producer._ate_address.control(Fence(lambda: self._make_safe(call)))
        elif isinstance(message, Leave) and self._producer is not None:
            self._producer.stop()

    def _begin(self, call: Call, number: int) -> None:
        assert self._producer is not None  # a call comes after `Ready`
        address = self._producer._ate_address
        options = Options(tags=call.tags) if call.tags else None
        now = monotonic()
        request = Request(
            call.topic,
            call.seconds * 1000.0,
            now,
            options,
            self._home,
            call.args,
            call.kwargs or None,
        )
        request.scatter((address,), now)
        self._current = (number, request)
        address.deliver(request)
        address.control(Fence(lambda: self._done(number)))

    def _done(self, number: int) -> None:
        """On the producer's thread, behind the request: it has answered, or never began."""
        current = self._current
        if current is not None and current[0] == number:
            self._current = None
            self._say(Skipped(), number)

    def _call_off(self, call: Optional[int] = None) -> None:
        """End the request of that call, or whichever there is."""
        current = self._current
        if current is None or call not in (None, current[0]):
            return
        self._end(current[1])

    def _make_safe(self, call: int) -> None:
        """On the producer's thread, which does it once."""
        assert self._producer is not None
        self._producer._ate_make_safe()
        error = self._producer._ate_safe_error
        if error is None:
            self._say(Answer(None), call)
        else:
            self._say(Raised(raised(error), f"{type(error).__name__}: {error}", ""), call)

    def _leave_alone(self) -> None:
        """The parent has gone: end, well if the producer can, but end."""
        self._call_off()
        if self._producer is not None and self._producer._ate_begun:
            self._producer.stop()
            self._producer.join(self._grace)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(1)


def _made(factory: bytes) -> Producer:
    """Make the producer, and check that it is one that can be run here."""
    producer = pickle.loads(factory)()
    if not isinstance(producer, Producer) or not hasattr(producer, "_ate_address"):
        raise InvalidTypeError(f"the factory must make a Producer, it made {producer!r}")
    if producer._ate_begun:
        raise InvalidTypeError(f"the factory must not start the producer: {producer!r}")
    producer._ate_check_hooks()
    return producer
