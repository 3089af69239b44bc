"""How a dispatcher ends: by `stop`, at the end of the script, in the child of a fork."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from math import inf
from time import monotonic
from typing import Any, Dict, List

from ._mailbox import STOP
from ._messages import TICK, Stop
from ._outcomes import OutcomeStatus, RequestStatus
from ._statistics import StopReport, Straggler

__all__ = ["Shutdown", "keep_until_exit"]

logger = logging.getLogger("ate_dispatcher")

EXIT_SECONDS = 5.0
"""How long a script that forgot `stop` may take to hand out its results."""


class Shutdown:
    """The steps of a stop, taken by the dispatcher's thread between its messages.

    First the open requests end. Then no event can come any more, so all agents are told to stop at
    once, each after what it has in its mailbox. They are waited for, but no longer than the grace
    (for all of them together) without a single event being delivered, and not past the limit of any
    `Stop`. The callback thread, which others post to, ends last. Grace and limit are real time,
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
        self._put: Dict[Any, int] = {}
        self._fenced: Dict[Any, None] = {}
        self.accepting = True
        """Whether requests that were sent before the stop are still scattered."""

    @property
    def alarm(self) -> float:
        """When, on the real clock, the next step is due without anything having happened."""
        return min(self._limit, self._patience)

    def due(self) -> bool:
        """Whether `proceed` should be called although no message came."""
        return monotonic() >= self.alarm

    def ask(self, stop: Stop) -> None:
        """Take up a call of `stop`; a later one can only make it sooner."""
        self._limit = min(self._limit, stop.limit)
        requests = tuple(self._dispatcher._deadlines)
        if not stop.drain:
            self._end(requests)
        for request in requests:
            if request.deadline == inf and request.status is RequestStatus.OPEN:
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
            self._dismiss()
        if not self._waited_enough():
            return True
        self._end_callbacks()
        return False

    def report(self) -> StopReport:
        """Say what became of everything; the last thing that the dispatcher's thread does."""
        alive = []
        undelivered = {}
        patience = monotonic() + 1.0
        for agent in self._agents:
            address = agent._ate_address
            if agent._ate_gone:
                # Its last act is done, its thread is returning.
                agent.join(max(0.0, patience - monotonic()))
            elif agent.is_alive() and address not in self._fenced:
                alive.append(Straggler(address.name, _where(agent)))
            if hasattr(agent, "_ate_hooks"):
                left = address.refused
                if not agent._ate_gone and address not in self._fenced:
                    # What `_dismiss` put is in the mailbox still, and is no event.
                    depth = agent._ate_mailbox.qsize() - self._put[address]
                    left += max(0, depth) + (address.running is not None)
                if left:
                    undelivered[address.name] = left
        thread = self._dispatcher._callbacks.thread
        if thread is not None and thread.is_alive():
            alive.append(Straggler(thread.name, _where(thread)))
        for name, where in alive:
            logger.warning("%r did not stop within the grace: %s", name, where)
        for name, count in undelivered.items():
            logger.warning("%d events for %r were not delivered", count, name)
        return StopReport(self._delivered(), undelivered, tuple(alive), finished=True)

    def _end(self, requests: Any) -> None:
        for request in requests:
            self._dispatcher._call_off(
                request,
                RequestStatus.STOPPED,
                OutcomeStatus.CANCELLED,
                "the dispatcher stopped",
            )

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

    def _is_back(self, agent: Any) -> bool:
        return agent._ate_gone or agent._ate_address in self._fenced

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
        for address, agent in agents.items():
            ours = dispatcher._home in agent._ate_dispatchers()
            dispatcher._release(agent, None)
            if ours and not agent._ate_dispatchers():
                # Its loop ends at STOP; the fence behind it is passed by its last act.
                address.control(STOP)
                self._put[address] = 1
            self._put[address] = self._put.get(address, 0) + 1
            agent._ate_fence(self._passer(address))
            if agent.is_alive():
                self._waiting.append(agent)

    def _passer(self, address: Any) -> Any:
        put = self._dispatcher._home.put

        def passed() -> None:  # on the agent's thread; one assignment, then a message to wake us
            self._fenced[address] = None
            put(TICK)

        return passed

    def _end_callbacks(self) -> None:
        callbacks = self._dispatcher._callbacks
        callbacks.end()
        if callbacks.thread is not None:
            left = min(self._limit, self._patience) - monotonic()
            callbacks.thread.join(max(0.1, left))


def _where(thread: Any) -> str:
    frame = sys._current_frames().get(thread.ident)
    if frame is None:
        return "between two instructions"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


_dispatchers: weakref.WeakSet[Any] = weakref.WeakSet()


def keep_until_exit(dispatcher: Any) -> None:
    """Have a dispatcher stopped at the end of the script, and forgotten in the child of a fork."""
    _dispatchers.add(dispatcher)


def _stop_all() -> None:
    """Let scripts that forgot `stop` have their results; starts no thread."""
    limit = monotonic() + EXIT_SECONDS
    running = [dispatcher for dispatcher in tuple(_dispatchers) if dispatcher.is_alive()]
    for dispatcher in running:
        dispatcher._close()
        dispatcher._home.post(Stop(True, limit))
    for dispatcher in running:
        dispatcher.join(max(0.0, limit - monotonic()) + 0.2)


def _after_fork() -> None:
    for dispatcher in tuple(_dispatchers):
        dispatcher._abandon()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
