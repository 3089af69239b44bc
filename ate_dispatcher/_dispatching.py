"""The dispatcher's thread: its turns, and what it does with requests and outcomes."""

from __future__ import annotations

import logging
import threading
from math import inf
from queue import Empty
from threading import TIMEOUT_MAX
from time import monotonic
from typing import Any, Callable, Dict, List, Optional, Tuple

from ._address import Address
from ._callbacks import local
from ._deadlines import Deadlines
from ._delivery import Barrier
from ._ledger import OPEN, STREAM_VALUES_KEPT, Extra
from ._lifetime import Shutdown, safe_producers
from ._membership import Membership
from ._messages import (
    TICK,
    Allow,
    Attach,
    Cancel,
    Departed,
    Deregister,
    Detach,
    Gone,
    Observe,
    Probe,
    Register,
    Sites,
    Stop,
    Tick,
)
from ._options import Options
from ._outcomes import (
    CopiedOutcome,
    Failure,
    Outcome,
    OutcomeStatus,
    Partial,
    RequestStatus,
    StreamEnd,
)
from ._request import Request
from ._routes import Route
from ._statistics import StopReport
from ._unseen import UnseenFailures
from ._waiting import END, ENDED

__all__ = ["Dispatching"]

logger = logging.getLogger("ate_dispatcher")

COMPLETE = RequestStatus.COMPLETE
_HIGH_WATER_EVERY = 1024


class Dispatching(Membership):
    """The part of a dispatcher that runs on its thread.

    Everything here does, except `_close`, `_refuse_mailbox` and `_abandon`, which say where they
    run. The ledgers' ends, the deadlines and the counts have this thread as their only writer.
    """

    def __init__(
        self,
        name: Optional[str],
        clock: Callable[[], float],
        high_water: int,
        on_listener_error: Optional[Callable[[str, Any, BaseException], Any]],
        max_open: Optional[int],
        grace: float,
        safe_within: float,
    ) -> None:
        super().__init__(name, clock, high_water, on_listener_error)
        self._manual = hasattr(clock, "attach")
        if self._manual:
            put = self._mailbox.put
            clock.attach(lambda: put(TICK))  # type: ignore[attr-defined]
        self._admission = None if max_open is None else threading.Semaphore(max_open)
        # What a new request must pass before it is sent; None, the common case, costs one look.
        self._hurdle: Optional[Callable[[Request], None]] = None
        self._grace = grace
        self._safe_within = safe_within
        self._begun = False
        # Whether requests still are scattered; set to False by `abort` on any thread, or by `Stop`.
        self._scattering = True
        self._aborted: Optional[str] = None
        self._over = threading.Event()
        # Reentrant, because a signal handler may post in the middle of it.
        self._refusing = threading.RLock()
        self._ended: Dict[RequestStatus, int] = {}
        self._lates = 0
        self._requests = 0
        self._completed = 0
        self._handled = 0
        self._shutdown: Optional[Shutdown] = None
        # Told of each `_close`, be it in a signal handler: each may do no more than put a message.
        self._closing: List[Callable[[], Any]] = []
        self._report: Optional[StopReport] = None
        self._handlers: Dict[type, Callable[[Any, float], None]] = {
            Outcome: self._on_answer,
            CopiedOutcome: self._on_answer,
            StreamEnd: self._on_answer,
            Failure: self._on_failure,
            Partial: self._on_partial,
            Request: self._on_request,
            Cancel: self._on_cancel,
            Attach: self._on_attach,
            Detach: self._on_detach,
            Barrier: self._on_barrier,
            Probe: self._on_probe,
            Stop: self._on_stop,
            Tick: self._on_tick,
            Register: self._on_register,
            Deregister: self._on_deregister,
            Gone: self._on_gone,
            Departed: self._on_departed,
            Observe: self._on_observe,
            Allow: self._on_allow,
            Sites: self._on_sites,
        }

    def _turn_away(self, request: Request) -> None:
        raise NotImplementedError  # said by ATEDispatcher

    def run(self) -> None:
        """Serve the mailbox until stopped. Not to be called or overridden."""
        outer = getattr(local, "role", None)
        local.role = self._home
        try:
            while self._turn():
                pass
        finally:
            self._finish()
            self._over.set()
            if outer is None:
                del local.role
            else:
                local.role = outer

    def _turn(self) -> bool:
        """Handle what is in the mailbox, or wait for it; then what is due. False at the end.

        The clock is read before the mailbox is measured: an outcome stamped by a deadline that
        `now` has passed, and put before this turn, is handled before the request expires (C3).
        """
        deadlines = self._deadlines
        mailbox = self._mailbox
        now = self._clock()
        count = mailbox.qsize()
        if count:
            self._serve(mailbox.get(), count - 1, now)
            self._handled += count
            if self._handled >= _HIGH_WATER_EVERY:
                self._handled = 0
                self._watch_levels()
        elif now <= deadlines.wake and (self._shutdown is None or not self._shutdown.due()):
            message = self._next_message(now)
            if message is not None:
                self._serve(message, 0, self._clock())
            return self._shutdown is None or self._shutdown.proceed()
        if now > deadlines.wake:
            for request in deadlines.due(now):
                self._expire(request, now)
        return self._shutdown is None or self._shutdown.proceed()

    def _serve(self, message: Any, more: int, now: float) -> None:
        """Handle a message and so many more: the hot loop of the dispatching side.

        Plain requests and plain answers, the common case, are handled right here: `_on_request`,
        `_on_answer`, `Ledger.accept` and `_end` written out without what only others need, which
        is a third faster in every shape of the benchmark. Everything else, and whatever is late,
        goes the general way; both say the same.
        """
        get = self._mailbox.get
        known = self._known
        while True:
            kind = type(message)
            if kind is Outcome:
                request = message._request
                rows = request._rows
                address = message._address
                if (
                    request._extra is None
                    and message.ended <= request.deadline
                    and rows.get(address) is message.started
                ):
                    rows[address] = message
                    message._request = None
                    tally = self._tallies.get(address)
                    if tally is not None:
                        tally.ok = ok = tally.ok + 1
                        if ok >= tally.due:
                            tally.measure(message)
                    topic = request.topic
                    route = known.get(topic) or self._routes.route(topic)
                    for deliver in route.values:
                        deliver(message)
                    if self._tell_outcome is not None:
                        self._tell_outcome(message)
                    request._missing = missing = request._missing - 1
                    if not missing:
                        request.status = COMPLETE
                        self._completed += 1
                        self._deadlines.remove(request)
                        for deliver in route.ends:
                            deliver(request)
                        if self._tell_end is not None:
                            self._tell_end(request)
                        if rows.setdefault(END, ENDED) is not ENDED:
                            rows[END].finish()
                        if self._admission is not None:
                            self._admission.release()
                else:
                    self._on_answer(message, now)
            elif kind is Request and message._options is None and self._scattering:
                topic = message.topic
                route = known.get(topic) or self._routes.route(topic)
                if route.roster:
                    message.scatter(route.roster, now)
                    self._deadlines.add(message)
                    self._requests += 1
                    if self._tell_request is not None:
                        self._tell_request(message)
                    for deliver in route.scatter:
                        deliver(message)
                else:
                    self._on_request(message, now)
            else:
                self._handlers[kind](message, now)
            if not more:
                return
            more -= 1
            message = get()

    def _next_message(self, now: float) -> Any:
        """Wait for a message; None when something falls due instead."""
        wait = inf if self._manual else self._deadlines.wake - now
        if self._shutdown is not None:
            wait = min(wait, self._shutdown.alarm - monotonic())
        if wait == inf:
            return self._mailbox.get()
        try:
            # Past the deadline by the clock's least step, so that waking means that it is due.
            return self._mailbox.get(True, min(max(wait, 0.0) + 1e-6, TIMEOUT_MAX))
        except Empty:
            return None

    def _on_request(self, request: Request, now: float) -> None:
        if not self._scattering:  # it was put behind the Stop
            request.scatter((), now)
            self._deadlines.add(request)
            self._requests += 1
            self._end(request, self._last_status(request))
            return
        topic = request.topic
        route = self._known.get(topic) or self._routes.route(topic)
        roster, scatter = route.roster, route.scatter
        missing: Tuple[Address, ...] = ()
        if request._options is not None:
            roster, missing = self._select(request, roster)
            scatter = tuple(address.deliver for address in roster if address not in missing)
            if request._options.priority:
                for address in roster:
                    address.alert = True  # before the request is delivered
        request.scatter(roster, now)
        self._deadlines.add(request)
        self._requests += 1
        if self._tell_request is not None:
            self._tell_request(request)
        if not scatter:
            if not roster:
                request._reason = getattr(request, "_reason", "") or (
                    f"no producer is registered for {request.topic!r}{self._unless_disabled()}"
                )
            self._end(request, RequestStatus.NO_PRODUCERS)
            return
        for deliver in scatter:
            deliver(request)
        for address in missing:
            request._refuse(address, f"no producer {address.name!r} on {request.topic!r}")

    def _select(
        self, request: Request, roster: Tuple[Address, ...]
    ) -> Tuple[Tuple[Address, ...], Tuple[Address, ...]]:
        """Narrow the roster to what the options ask for; named ones not there get a row too."""
        options: Options = request._options
        rule = options.early_finish()
        if rule is not None:
            request.extra().until = rule
        chosen, names = options.select(roster)
        if not chosen and (options.to is not None or options.sites is not None):
            there = ", ".join(repr(address.name) for address in roster) or "nobody"
            request._reason = (
                f"no producer on {request.topic!r} with {options.describe()}; "
                f"registered: {there}{self._unless_disabled()}"
            )
            return (), ()
        ghosts = tuple(Address(name) for name in names)
        return chosen + ghosts, ghosts

    def _unless_disabled(self) -> str:
        sites = ", ".join(sorted(map(repr, self._disabled)))
        return f" (disabled sites: {sites})" if sites else ""

    def _on_answer(self, outcome: Outcome, now: float) -> None:
        request = outcome._request
        if not request.accept(outcome):
            self._late(request, outcome)
            return
        outcome._request = None
        tally = self._tallies.get(outcome._address)
        if tally is not None:
            tally.answered(outcome)
        topic = request.topic
        route = self._known.get(topic) or self._routes.route(topic)
        for deliver in route.values:
            deliver(outcome)
        if self._tell_outcome is not None:
            self._tell_outcome(outcome)
        if request._extra is not None:
            self._attend(request, outcome, request._extra)
        if not request._missing and request.status is OPEN:
            self._end(request, COMPLETE, route)

    def _on_partial(self, outcome: Partial, now: float) -> None:
        request = outcome._request
        had_all = not request.dropped
        if not request.accept_partial(outcome):
            self._late(request, outcome)
            return
        if had_all and request.dropped:
            logger.warning(
                "%r streamed more than %d values: request.values keeps the last of them, "
                "request.dropped counts the others",
                outcome.producer,
                STREAM_VALUES_KEPT,
            )
        outcome._request = None
        tally = self._tallies.get(outcome._address)
        if tally is not None:
            tally.partials += 1
        for deliver in self._routes.route(request.topic).values:
            deliver(outcome)
        if self._tell_outcome is not None:
            self._tell_outcome(outcome)
        self._attend(request, outcome, request.extra())

    def _on_failure(self, failure: Failure, now: float) -> None:
        request = failure._request
        if not request.accept(failure):
            self._late(request, failure)
            return
        self._relay_failure(request, failure)
        if request.status is not OPEN:
            return
        if failure.status is OutcomeStatus.CANCELLED:
            # The producer saw the flag of a `cancel` whose message is still on its way.
            self._cancel(request)
        elif not request._missing:
            self._end(request, COMPLETE)

    def _relay_failure(self, request: Request, failure: Failure) -> None:
        failure._request = None
        tally = self._tallies.get(failure._address)
        if tally is not None:
            tally.add(failure)
        route = self._routes.route(request.topic)
        for deliver in route.outcomes:
            deliver(failure)
        if self._tell_outcome is not None:
            self._tell_outcome(failure)
        seen = route.outcomes or route.ends or self._failures_observed
        if failure.status is OutcomeStatus.ERROR and not seen:
            UnseenFailures.note(request, failure)
        if request._extra is not None:
            self._attend(request, failure, request._extra)

    def _attend(self, request: Request, outcome: Outcome, extra: Extra) -> None:
        """Serve a request's readers and its early-finish rule."""
        for reader in extra.readers:
            reader.push(outcome)
        if extra.until is None or request.status is not OPEN or isinstance(outcome, Failure):
            return
        try:
            satisfied = extra.until(outcome)
        except BaseException:  # even SystemExit: it is not this thread that it may end
            logger.exception("the until= predicate of %r raised and is disabled", request)
            extra.until = None
            return
        if satisfied and request._missing:
            self._call_off(request, RequestStatus.SATISFIED, OutcomeStatus.NOT_NEEDED, "")
        elif satisfied:
            self._end(request, RequestStatus.SATISFIED)

    def _late(self, request: Request, outcome: Outcome) -> None:
        """Count an answer that came too late, and show it to observers; nobody else gets it."""
        outcome._request = None
        self._lates += 1
        tally = self._tallies.get(outcome._address)
        if tally is not None:
            tally.late(outcome)
        in_time = outcome.ended is not None and outcome.ended <= request.deadline
        logger.debug("late answer of %r on %r", outcome.producer, outcome.topic)
        for observer in self._watching:
            self._callbacks.post(observer.on_late, outcome, in_time)

    def _expire(self, request: Request, now: float) -> None:
        for failure in request.close_rows(
            lambda address, started: request.expired_row(address, started, now)
        ):
            self._relay_failure(request, failure)
        self._end(request, RequestStatus.EXPIRED)

    def _call_off(
        self, request: Request, status: RequestStatus, row_status: OutcomeStatus, reason: str
    ) -> None:
        """End an open request early; whatever of it has not begun never will."""
        request._cancelled = True
        for failure in request.close_rows(
            lambda address, started: Failure(request, address, row_status, reason, started)
        ):
            self._relay_failure(request, failure)
        self._end(request, status)

    def _end(self, request: Request, status: RequestStatus, route: Optional[Route] = None) -> None:
        """Let an open request's status become final, and tell everybody, in this order."""
        request.status = status
        self._deadlines.remove(request)
        if status is COMPLETE:
            self._completed += 1
        else:
            self._ended[status] = self._ended.get(status, 0) + 1
        if route is None:
            route = self._routes.route(request.topic)
        for deliver in route.ends:
            deliver(request)
        if self._tell_end is not None:
            self._tell_end(request)
        request._told()
        if request._extra is not None:
            for reader in request._extra.readers:
                reader.finish()
            request._extra.readers = ()
        if self._admission is not None:
            self._admission.release()

    def _on_cancel(self, message: Cancel, now: float) -> None:
        if message.request.status is OPEN:
            self._cancel(message.request)

    def _cancel(self, request: Request) -> None:
        reason = "the request was cancelled"
        if self._aborted is not None:
            reason = request._reason = self._aborted
        self._call_off(request, RequestStatus.CANCELLED, OutcomeStatus.CANCELLED, reason)

    def _on_attach(self, message: Attach, now: float) -> None:
        """Let a reader follow: first what is there already, then everything as it comes."""
        request, reader = message.request, message.reader
        for outcome in request._accepted():
            reader.push(outcome)
        if request.status is OPEN:
            extra = request.extra()
            extra.readers = (*extra.readers, reader)
        else:
            reader.finish()

    def _on_detach(self, message: Detach, now: float) -> None:
        extra = message.request._extra
        if extra is not None:
            extra.readers = tuple(each for each in extra.readers if each is not message.reader)

    def _on_barrier(self, barrier: Barrier, now: float) -> None:
        if barrier.after_requests:
            barrier.requests = tuple(self._deadlines)
        barrier.ended = self._after_end(barrier.requests, lambda: barrier.send(self._audience()))

    def _on_probe(self, probe: Probe, now: float) -> None:
        probe.answer()

    def _on_tick(self, tick: Tick, now: float) -> None:
        """Nothing to handle: the turn that got it looks at the clock, and whether to end."""

    def _on_stop(self, message: Stop, now: float) -> None:
        self._scattering = False
        if self._shutdown is None:
            self._shutdown = Shutdown(self, self._grace)
        self._shutdown.ask(message)

    def _finish(self) -> None:
        """The thread's last act: nothing that arrives from here on is lost, it is refused."""
        shutdown = self._shutdown
        self._home.gone = True
        if shutdown is None:  # only if the loop itself failed
            for producer in safe_producers(self, shared=False):
                producer._ate_halt()
        for request in tuple(self._deadlines):  # the same
            self._call_off(request, RequestStatus.STOPPED, OutcomeStatus.CANCELLED, "stopped")
        self._refuse_mailbox()
        with self._lock:
            self._agents.clear()
        if shutdown is not None:
            self._report = shutdown.report()
            shutdown.let_go()

    def _refuse_mailbox(self) -> None:
        """Answer whoever posts to a dispatcher that has ended. Any thread, each message once."""
        with self._refusing:  # one at a time, or a message could be answered before one ahead of it
            self._refuse_messages()

    def _refuse_messages(self, tell: Callable[[Request], None] = Request._told) -> None:
        while True:
            try:
                message = self._mailbox.get_nowait()
            except Empty:
                return
            if isinstance(message, Request):
                if message.status is OPEN:
                    message.status = self._last_status(message)
                    tell(message)
                    if self._admission is not None:
                        self._admission.release()
            elif isinstance(message, Barrier):
                message.send(self._audience())
            elif isinstance(message, Probe):
                message.answer()
            elif isinstance(message, Deregister):
                agent = message.agent
                if message.stop and (agent._ate_dismissed or not agent._ate_dispatchers()):
                    agent._ate_dismiss()
                if message.stop and agent._ate_begun:
                    agent._ate_fence(message.passed)
                else:
                    message.passed()
            elif isinstance(message, Register):
                self._release(message.agent)
                message.agent._ate_forget(self._home)
            elif isinstance(message, Attach):
                self._on_attach(message, 0.0)

    def _last_status(self, request: Request) -> RequestStatus:
        """Say how a request ends that came too late to be scattered."""
        if self._aborted is None:
            return RequestStatus.STOPPED
        request._reason = self._aborted
        return RequestStatus.CANCELLED

    def _abandon(self) -> None:
        """In the child of a fork: none of the threads exists here, so everything has stopped.

        Any lock may be held by a thread that is not here, and any structure half changed by one.
        """
        self._begun = self._home.gone = True
        self._admission = None  # nobody is admitted any more
        self._close()
        self._lock = threading.Lock()
        self._refusing = threading.RLock()
        self._over = threading.Event()
        self._over.set()
        self._callbacks.abandon()
        for agent in self._agents.values():
            agent._ate_forked()
        self._report = StopReport(0, {}, (), finished=True)
        requests, self._deadlines = tuple(self._deadlines), Deadlines()
        for request in requests:
            request.close_rows(
                lambda address, started, request=request: Failure(
                    request, address, OutcomeStatus.CANCELLED, "the process forked", started
                )
            )
            request.status = RequestStatus.STOPPED
            self._ended[RequestStatus.STOPPED] = self._ended.get(RequestStatus.STOPPED, 0) + 1
            self._forsake(request)
        self._refuse_messages(self._forsake)

    def _forsake(self, request: Request) -> None:
        """Tell nobody of its end: who waited was another thread, which is not here."""
        request._rows[END] = ENDED

    def _close(self) -> None:
        """Refuse new requests and registrations from here on."""
        self._closed = True
        self._hurdle = self._turn_away
        for tell in tuple(self._closing):
            tell()
