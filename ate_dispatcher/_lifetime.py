"""How a dispatcher ends: by `stop`, at the end of the script, in the child of a fork."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import weakref
from math import inf
from threading import TIMEOUT_MAX
from time import monotonic
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ._messages import TICK, Stop
from ._outcomes import OutcomeStatus, RequestStatus
from ._producer import Producer
from ._safety import SafeTurns
from ._statistics import StopReport, Straggler
from ._waiting import acquire

__all__ = ["Shutdown", "finish_before_pools", "keep_until_exit", "safe_producers"]

logger = logging.getLogger("ate_dispatcher")

EXIT_SECONDS = 5.0
"""How long a script that forgot `stop` may take to hand out its results."""

LAST_WORDS = 2.0
"""How much longer a dispatcher may take to say what did not stop, on a machine that is busy."""

MOMENT = 0.1
"""How long agents have to come back even where a limit was reached before they were told to."""


class Shutdown:
    """The steps of a stop, taken by the dispatcher's thread between its messages.

    First the open requests end. Then the producers that have a safe state are made safe, one after
    the other, within a time of their own. Then no event can come any more, so all agents are told
    to stop at once, each after what it has in its mailbox. They are waited for, but no longer than
    the grace (for all of them together) without a single event being delivered, and not past the
    limit of any `Stop`. The callback thread, which others post to, ends last. It is real time,
    whatever clock the dispatcher has.
    """

    def __init__(self, dispatcher: Any, grace: float) -> None:
        self._dispatcher = dispatcher
        self._grace = grace
        self._limit = inf
        self._patience = inf
        self._progress = -1
        self._agents: List[Any] = []
        self._waiting: List[Any] = []
        self._told: Dict[Any, None] = {}
        self._fenced: Dict[Any, None] = {}
        self._abort = False
        self._turns: Optional[SafeTurns] = None
        self._turns_began = 0.0
        self._safe = False
        self._callbacks_end = self._callbacks_over = False
        self.accepting = True
        """Whether requests that were sent before the stop are still scattered."""

    @property
    def alarm(self) -> float:
        """When, on the real clock, the next step is due without anything having happened."""
        if self._turns is not None and not self._safe:
            return self._turns.alarm
        return min(self._limit, self._patience)

    def due(self) -> bool:
        """Whether `proceed` should be called although no message came."""
        return monotonic() >= self.alarm

    def ask(self, stop: Stop) -> None:
        """Take up a call of `stop`; a later one can only make it sooner."""
        self._limit = min(self._limit, stop.limit)
        self._abort = self._abort or stop.abort
        requests = tuple(self._dispatcher._deadlines)
        if not stop.drain:
            self._end(requests)
        endless = [r for r in requests if r.deadline == inf and r.status is RequestStatus.OPEN]
        for request in self._called_off(endless):
            self._dispatcher._call_off(
                request,
                RequestStatus.CANCELLED,
                OutcomeStatus.CANCELLED,
                "the dispatcher stops, and the request has no deadline",
            )

    def proceed(self) -> bool:
        """Take whatever steps are due; False when all are taken."""
        if self.accepting:
            if monotonic() >= self._limit:
                self._end(tuple(self._dispatcher._deadlines))
            if len(self._dispatcher._deadlines):
                return True
            self.accepting = False
        if not self._safe:
            if not self._made_safe():
                return True
            self._dismiss()
        if not self._callbacks_end and not self._waited_enough():
            return True
        return not self._callbacks_ended()

    def report(self) -> StopReport:
        """Say what became of everything; the last thing that the dispatcher's thread does."""
        alive = []
        undelivered = {}
        patience = monotonic() + 1.0
        for agent in self._agents:
            address = agent._ate_address
            if agent._ate_abandoned:
                continue  # see `_given_up`
            if agent._ate_gone:
                # Its last act is done, its thread is returning.
                agent.join(max(0.0, patience - monotonic()))
            elif agent._ate_begun and address not in self._fenced:
                alive.append(Straggler(address.name, _where(agent)))
            if hasattr(agent, "_ate_hooks"):
                left = address.refused
                if not agent._ate_gone and address not in self._fenced:
                    # The STOP of `_dismiss` is in the mailbox still, and is no event.
                    depth = agent._ate_depth() - (address in self._told)
                    left += max(0, depth) + (address.running is not None)
                if left:
                    undelivered[address.name] = left
        alive.extend(
            Straggler(agent._ate_address.name, _where(agent)) for agent in self._given_up()
        )
        thread = self._dispatcher._callbacks.thread
        if thread is not None and thread.is_alive():
            alive.append(Straggler(thread.name, _where(thread)))
        for name, where in alive:
            logger.warning("%r did not stop within the grace: %s", name, where)
        for name, count in undelivered.items():
            logger.warning("%d events for %r were not delivered", count, name)
        unsafe, errors = self._unsafe()
        return StopReport(self._delivered(), undelivered, tuple(alive), True, tuple(unsafe), errors)

    def _given_up(self) -> List[Any]:
        """Give the agents that were given up, before the stop or during it, and still hang."""
        referred = [ref() for ref in self._dispatcher._given_up]
        found = [agent for agent in (*referred, *self._agents) if agent is not None]
        return [a for a in dict.fromkeys(found) if a._ate_abandoned and a.is_alive()]

    def _called_off(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Call them all off before the first ends: whom that sets free must not begin another."""
        for request in requests:
            request._cancelled = True  # read by producers right before they claim a row
        return requests

    def _end(self, requests: Sequence[Any]) -> None:
        for request in self._called_off(requests):
            if self._dispatcher._aborted is not None:
                self._dispatcher._cancel(request)
                continue
            self._dispatcher._call_off(
                request,
                RequestStatus.STOPPED,
                OutcomeStatus.CANCELLED,
                "the dispatcher stopped",
            )

    def _made_safe(self) -> bool:
        """Let the producers be made safe; True once nobody is to be waited for any more."""
        now = monotonic()
        if self._turns is None:
            producers = reversed(safe_producers(self._dispatcher, self._abort))
            self._turns = SafeTurns(producers, now, self._dispatcher._safe_within)
            self._turns_began = now
        if not self._turns.proceed(now):
            return False
        self._safe = True
        self._limit += now - self._turns_began
        return True

    def _unsafe(self) -> Tuple[List[str], Dict[str, BaseException]]:
        """Name those not known to be safe, and give what their safe states raised."""
        names = []
        errors = dict(self._dispatcher._safe_errors)
        for producer in () if self._turns is None else self._turns.producers:
            name = producer._ate_address.name
            if not producer._ate_made_safe:
                logger.error("%r could not be made safe: %s", name, _where(producer))
                names.append(name)
            elif producer._ate_safe_error is not None:
                errors[name] = producer._ate_safe_error
                names.append(name)
        return [*(name for name in errors if name not in names), *names], errors

    def _waited_enough(self) -> bool:
        """Whether everybody waited for has come back, or has stood still for the whole grace."""
        self._waiting = [agent for agent in self._waiting if not self._is_back(agent)]
        if not self._waiting:
            return True
        if monotonic() >= self._limit:
            return True
        if monotonic() >= self._patience:
            progress = self._delivered()
            if progress == self._progress:
                return True
            self._progress = progress
            self._patience = monotonic() + self._grace
        return False

    def let_go(self) -> None:
        """Have agents that go on, with another dispatcher or hanging, forget this one."""
        for agent in self._agents:
            agent._ate_forget(self._dispatcher._home)

    def _is_back(self, agent: Any) -> bool:
        # Its thread passes the fence only once it has told its last state to the observers.
        return agent._ate_abandoned or agent._ate_address in self._fenced

    def _delivered(self) -> int:
        return sum(agent._ate_address.delivered for agent in self._agents)

    def _dismiss(self) -> None:
        """Stop each agent, or, if another dispatcher has it too, fence off what is ours."""
        dispatcher = self._dispatcher
        agents = {**dispatcher._listeners}
        agents.update((a._ate_address, a) for a in dispatcher.agents.values())
        self._agents = list(agents.values())
        self._progress = self._delivered()
        self._patience = monotonic() + self._grace
        # Who stands idle comes back at once, and is not to be blamed for a limit just reached.
        self._limit = max(self._limit, monotonic() + MOMENT)
        for address, agent in agents.items():
            ours = dispatcher._home in agent._ate_dispatchers()
            dispatcher._release(agent, None)
            if ours and not agent._ate_dispatchers():
                # Its loop ends at STOP; the fence behind it is passed by its last act.
                agent._ate_dismiss()
                self._told[address] = None
            agent._ate_fence(self._passer(address))
            if agent._ate_begun:
                self._waiting.append(agent)

    def _passer(self, address: Any) -> Any:
        put = self._dispatcher._home.put

        def passed() -> None:  # on the agent's thread; one assignment, then a message to wake us
            self._fenced[address] = None
            put(TICK)

        return passed

    def _callbacks_ended(self) -> bool:
        """Whether all callbacks were called, or have taken too long; one may wait for us."""
        callbacks = self._dispatcher._callbacks
        if not self._callbacks_end:
            self._callbacks_end = True
            self._limit = max(monotonic() + MOMENT, min(self._limit, self._patience))
            self._patience = inf
            callbacks.end(self._callbacks_are_over)
        if callbacks.thread is None:
            return True
        if self._callbacks_over:
            callbacks.thread.join(1.0)  # it is returning
        return self._callbacks_over or monotonic() >= self._limit

    def _callbacks_are_over(self) -> None:
        """Note it, then have it seen; the last act of the callback thread."""
        self._callbacks_over = True
        self._dispatcher._home.put(TICK)


def safe_producers(dispatcher: Any, shared: bool) -> List[Any]:
    """Give a dispatcher's producers that are to be made safe, in the order of registration.

    One that another dispatcher has too goes on, unless `shared` says that these count as well.
    """
    return [
        agent
        for agent in dispatcher.agents.values()
        if isinstance(agent, Producer)
        and agent._ate_begun
        and not agent._ate_gone
        and agent._ate_has_safe_state()
        and (shared or agent._ate_dispatchers() == (dispatcher._home,))
    ]


def _where(thread: Any) -> str:
    frame = sys._current_frames().get(thread.ident)
    if frame is None:
        return "between two instructions"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


_dispatchers: weakref.WeakSet[Any] = weakref.WeakSet()


def keep_until_exit(dispatcher: Any) -> None:
    """Have a dispatcher stopped at the end of the script, and forgotten in the child of a fork."""
    _dispatchers.add(dispatcher)


def _all() -> Tuple[Any, ...]:
    """Give every dispatcher there is."""
    while True:
        try:
            return tuple(_dispatchers)
        except RuntimeError:  # another thread made one meanwhile: walking such a set is many steps
            continue


_limit = inf
"""When the end of the process waits for results no longer; set by the first hook that runs."""


_pools: Tuple[str, ...] = ()
"""Modules of pools that our hook comes before."""


def finish_before_pools() -> None:
    """Have open requests finished, at exit, before the pools that exist by now refuse work.

    `concurrent.futures` closes its pools in a hook, from 3.9 on before those of `atexit` run. Hooks
    run in the reverse order of their registration: ours, registered once the module of a pool is
    loaded, comes first. Nothing is stopped yet: other threads may still be at work.
    """
    global _pools
    register: Callable[..., Any] = getattr(threading, "_register_atexit", atexit.register)
    names = ("concurrent.futures.thread", "concurrent.futures.process")
    pools = tuple(name for name in names if name in sys.modules)
    if pools != _pools:
        _pools = pools  # two threads at once register two hooks: the second finds nothing to do
        register(_finish_all)


def _exit_limit() -> float:
    global _limit
    _limit = min(_limit, monotonic() + EXIT_SECONDS)
    return _limit


def _finish_all() -> None:
    limit = _exit_limit()
    for dispatcher in _all():
        if dispatcher.is_alive():
            dispatcher.flush(max(0.0, limit - monotonic()))


def _stop_all() -> None:
    """Let scripts that forgot `stop` have their results; starts no thread.

    What interrupts it (Ctrl-C, `stop_on_signals`) only ends the drain: the rest is bounded anyway,
    and no producer is to be left as it is. The process then ends as the interruption says.
    """
    limit = _exit_limit()
    running = [d for d in _all() if d._begun and not d._over.is_set()]
    patience = dict.fromkeys(running, limit + LAST_WORDS)
    for dispatcher in running:
        if safe_producers(dispatcher, True):
            patience[dispatcher] += dispatcher._safe_within
    drain = True
    interruption: Optional[BaseException] = None
    rest: Optional[List[Any]] = None
    while True:
        try:
            for dispatcher in running:
                dispatcher._close()
                dispatcher._home.post(Stop(drain, limit))
            for dispatcher in running:
                # Not by `join`: some versions take a thread for ended whose join was interrupted.
                left = max(0.0, patience[dispatcher] - monotonic())
                if dispatcher._over.wait(min(left, TIMEOUT_MAX)):
                    dispatcher.join(MOMENT)
            rest = _halt_the_rest() if rest is None else rest
            for gone in rest:
                acquire(gone, max(limit, monotonic() + MOMENT))
            break
        except (KeyboardInterrupt, SystemExit) as error:
            drain, interruption = False, interruption or error
    if interruption is not None:
        _exit(interruption)


def _halt_the_rest() -> List[Any]:
    """Let producers that no dispatcher has any more be made safe before their threads are cut.

    Gives a lock for each, released when it has gone.
    """
    rest = [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, Producer)
        and not thread._ate_halted
        and thread._ate_has_safe_state()
        and not thread._ate_made_safe
    ]
    locks = []
    for producer in rest:
        gone = threading.Lock()
        gone.acquire()
        locks.append(gone)
        producer._ate_halt()
        producer._ate_fence(gone.release)
    return locks


def _exit(interruption: BaseException) -> None:
    """End the process as an exception says that is raised too late to end it by itself.

    The interpreter would only print it, and report success. Hooks registered with `atexit` before
    this package was imported do not run.
    """
    code = 128 + signal.SIGINT if isinstance(interruption, KeyboardInterrupt) else 1
    if isinstance(interruption, SystemExit) and isinstance(interruption.code, (int, type(None))):
        code = interruption.code or 0
    else:
        sys.excepthook(type(interruption), interruption, interruption.__traceback__)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(Exception):
                stream.flush()
    os._exit(code)


def _after_fork() -> None:
    for dispatcher in _all():
        try:
            dispatcher._abandon()
        except Exception:  # the others still have to be told
            logger.exception("%r could not be stopped after a fork", dispatcher)


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
