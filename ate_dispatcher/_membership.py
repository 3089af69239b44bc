"""Who belongs to a dispatcher: names, registrations, departures, observers."""

from __future__ import annotations

import itertools
import logging
import threading
import warnings
import weakref
from functools import partial
from queue import SimpleQueue
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple

from ._address import Address
from ._agent import Agent, default_name
from ._callbacks import Callbacks, local
from ._deadlines import Deadlines
from ._exceptions import InvalidTypeError, NameTakenError, StateError
from ._lifetime import finish_before_pools
from ._listener import ResultListener
from ._messages import Allow, Departed, Deregister, Gone, Observe, Register, Sites
from ._observer import Observer
from ._outcomes import Outcome
from ._producer import Producer
from ._request import Request, ReturnAddress
from ._routes import Routes, Subject
from ._states import AgentState
from ._statistics import Tally
from ._topics import check_subject, looks_like_a_filter
from ._waiting import acquire, limit_of

__all__ = ["Membership"]

logger = logging.getLogger("ate_dispatcher")

Tell = Callable[[Any], None]


class Membership(threading.Thread):
    """The part of a dispatcher that knows its agents.

    Methods named ``_on_…`` and those documented so run on the dispatcher's thread, which alone
    writes the routes, the tallies and the set of listeners. Callers' threads share the names and
    the life cycle, under `_lock`.
    """

    def __init__(
        self,
        name: Optional[str],
        clock: Callable[[], float],
        high_water: int,
        on_listener_error: Optional[Callable[[str, Any, BaseException], Any]],
    ) -> None:
        super().__init__(name=name or default_name("ATEDispatcher"), daemon=True)
        self._mailbox: SimpleQueue[Any] = SimpleQueue()
        self._callbacks = Callbacks(f"{self.name}-callbacks")
        self._home = home = ReturnAddress(self._mailbox.put, clock, self._callbacks)
        home.begun = False
        home.refuse = self._refuse_mailbox
        home.agent_left = self._agent_left
        home.agent_changed = self._agent_changed
        home.listener_raised = self._listener_raised
        self._clock = clock
        self._high_water = high_water
        self._on_listener_error = on_listener_error
        # What callers' threads share, under the lock; never held while user code runs.
        self._lock = threading.Lock()
        self._agents: Dict[str, Agent] = {}
        self._observers: Tuple[Observer, ...] = ()
        self._closed = False
        self._disabled: FrozenSet[Any] = frozenset()
        # From here on written by the dispatcher's thread alone.
        self._routes = routes = Routes()
        self._known = routes.known
        self._deadlines = Deadlines()
        self._tallies: Dict[Address, Tally] = {}
        self._listeners: Dict[Address, Agent] = {}
        # How many fences of a listener have not been passed. The dispatcher's thread's.
        self._leaving: Dict[Address, int] = {}
        self._watching: Tuple[Observer, ...] = ()
        # What tells the observers; None while none wants to be told, which costs one look.
        self._tell_request: Optional[Tell] = None
        self._tell_outcome: Optional[Tell] = None
        self._tell_end: Optional[Tell] = None
        self._failures_observed = False  # told or not just now: somebody looks at what fails
        self._warned: Dict[Address, None] = {}
        # Agents that hang and were given up. A thread that runs is kept by the interpreter, so
        # whatever is not there any more has ended.
        self._given_up: List[weakref.ref[Agent]] = []
        # What the safe states of producers raised that left by themselves, by name.
        self._safe_errors: Dict[str, BaseException] = {}

    def _refuse_mailbox(self) -> None:
        raise NotImplementedError  # said by Dispatching, which knows every kind of message

    def _after_end(
        self, requests: Tuple[Request, ...], then: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `then` when these open requests have ended; both on the dispatcher's thread.

        Gives what each of them calls.
        """
        left = [len(requests)]

        def ended() -> None:
            left[0] -= 1
            if not left[0]:
                then()

        for request in requests:
            request._waiter().add(ended)
        if not requests:
            then()
        return ended

    def _check_agent(self, agent: Any, kind: type) -> None:
        if isinstance(agent, Agent) and not hasattr(agent, "_ate_address"):
            raise InvalidTypeError(
                f"{type(agent).__qualname__}.__init__ must call super().__init__() first"
            )
        if not isinstance(agent, kind):
            article = "an agent" if kind is Agent else f"a {kind.__name__}"
            raise InvalidTypeError(
                f"{agent!r} is not {article}, but {type(agent).__name__}{_instead(agent, kind)}"
            )

    def _check_methods(self, agent: Agent) -> None:
        """Refuse an agent that has hidden what everybody calls on it behind a value of its own."""
        for name in ("start", "run", "join", "stop"):
            if not callable(getattr(agent, name)):
                raise InvalidTypeError(
                    f"{agent.name!r} has set its attribute {name!r} to {getattr(agent, name)!r}, "
                    f"but {name}() is a method of every agent: call that attribute something else"
                )

    def _register(self, agent: Agent, subject: Subject) -> None:
        check_subject(subject)
        if looks_like_a_filter(subject):
            warnings.warn(
                f"{subject!r} is one topic, spelled so; for every topic that matches it register "
                f"{agent.name!r} with TopicFilter({subject!r})",
                stacklevel=3,
            )
        self._check_methods(agent)
        hooks = None
        agent._ate_check_hooks()  # type: ignore[attr-defined]
        if isinstance(agent, ResultListener):
            hooks = agent._ate_hooks()
        if agent._ate_dismissed or agent._ate_gone:
            raise StateError(f"{agent.name!r} {agent._ate_why_gone()}: it cannot be registered")
        with self._lock:
            if self._closed:
                raise StateError(f"{self.name!r} has stopped: nothing can be registered")
            address = agent._ate_address
            if not agent._ate_dispatchers():
                address.name = agent.name
            holder = self._agents.setdefault(address.name, agent)
            if holder is not agent:
                raise NameTakenError(
                    f"the name {address.name!r} is taken by another agent of this dispatcher: "
                    "give one of them name=…"
                )
            agent._ate_join(self._home)
            if agent._ate_uses_pool:
                finish_before_pools()
            self._home.put(Register(agent, subject, hooks))
        self._refuse_if_gone()

    def _refuse_if_gone(self) -> None:
        """See to what was put under the lock; without it, since refusing may take it."""
        if self._home.gone:
            self._refuse_mailbox()

    def _deregister(
        self,
        agent: Agent,
        subject: Optional[Subject],
        wait: bool,
        timeout: Optional[float],
        stop: bool = False,
    ) -> bool:
        if subject is not None:
            check_subject(subject)
        limit = limit_of(timeout)
        ended = threading.Lock()
        ended.acquire()
        self._home.post(Deregister(agent, subject, ended.release, stop))
        if stop and agent._ate_dismissed:
            with self._lock:  # who takes its name is entered into the routes after this message
                self._free(agent)
        if not wait or hasattr(local, "role"):
            return False
        if self.ident is None and not self._home.gone:
            return True  # never started: nothing has been scattered yet
        return acquire(ended, limit)

    def _free_name(self, stem: str) -> str:
        names = itertools.chain((stem,), (f"{stem}-{n}" for n in itertools.count(2)))
        return next(name for name in names if name not in self._agents)

    def _release(self, agent: Agent, times: Optional[int] = 1) -> int:
        """Take back what `_register` noted, the last frees the name; give how many are left."""
        with self._lock:
            left = agent._ate_part(self._home, times)
            if not left:
                self._free(agent)
        return left

    def _free(self, agent: Agent) -> None:
        """Let another agent have the name of one that leaves; with the lock held."""
        if self._agents.get(agent._ate_address.name) is agent:
            del self._agents[agent._ate_address.name]

    def _agent_left(self, agent: Agent) -> None:
        """An agent's last act, on its own thread, or on that of its supervisor.

        The name is free at once: whoever takes it is entered into the routes after this `Gone`.
        """
        self._home.post(Gone(agent))
        self._release(agent, None)

    def _allow(self, observer: Observer, left: int) -> None:
        """Have an observer told of so many more requests, outcomes and ends. Any thread."""
        self._home.post(Allow(observer, left))

    def _agent_changed(self, agent: Agent, state: AgentState) -> None:
        """On the thread that changes it: tell the observers how an agent stands."""
        for observer in self._observers:  # a tuple, replaced as a whole
            self._callbacks.post(observer.on_agent, agent._ate_address.name, state)

    def _listener_raised(self, listener: Agent, event: Any, error: BaseException) -> None:
        """On the listener's thread: hand an error on to whoever asked for it."""
        name = listener._ate_address.name
        if self._on_listener_error is not None:
            self._callbacks.post(self._on_listener_error, name, event, error)
        for observer in self._watching:
            self._callbacks.post(observer.on_listener_error, name, event, error)

    def _on_register(self, message: Register, now: float) -> None:
        agent = message.agent
        address = agent._ate_address
        if message.hooks is not None:
            new = self._routes.add_listener(address, message.subject, message.hooks)
            self._listeners[address] = agent
        else:
            new = self._routes.add_producer(address, message.subject)
            self._tallies.setdefault(address, Tally())
        if not new:
            self._release(agent)
        if agent._ate_gone:
            # It left between the caller's check and now. It was joined before it could see us, or
            # it saw us and its `Gone` is on its way: doing it twice changes nothing.
            self._on_gone(Gone(agent), now)

    def _on_deregister(self, message: Deregister, now: float) -> None:
        agent = message.agent
        address = agent._ate_address
        subjects = self._routes.subjects(address) if message.subject is None else (message.subject,)
        for subject in subjects:
            if self._routes.remove(address, subject):
                self._depart(agent)
        if message.stop and (agent._ate_dismissed or not agent._ate_dispatchers()):
            agent._ate_dismiss()
        if address not in self._listeners and not (agent._ate_dismissed and agent._ate_begun):
            agent._ate_forget(self._home)
        if agent._ate_begun:
            agent._ate_fence(message.passed)
        else:
            self._when_ended(agent, message.passed)

    def _when_ended(self, agent: Agent, passed: Callable[[], None]) -> None:
        """Call `passed` when no open request has a row of an agent that was never started."""
        address = agent._ate_address
        waiting = tuple(
            request
            for request in self._deadlines
            if address in request._roster and not isinstance(request._rows.get(address), Outcome)
        )
        self._after_end(waiting, passed)

    def _depart(self, agent: Agent) -> None:
        """One registration of an agent is gone; with the last one the dispatcher forgets it."""
        if self._release(agent):
            return
        address = agent._ate_address
        self._tallies.pop(address, None)
        self._warned.pop(address, None)
        if address in self._listeners:
            # It may still have events of ours: it stays in the audience until a fence has passed.
            put = self._home.put
            if agent._ate_begun or agent._ate_mailbox.qsize():
                self._leaving[address] = self._leaving.get(address, 0) + 1
                agent._ate_fence(lambda: put(Departed(agent)))
            else:
                del self._listeners[address]

    def _on_departed(self, message: Departed, now: float) -> None:
        agent = message.agent
        address = agent._ate_address
        fences = self._leaving.pop(address) - 1
        if fences:  # it came back and went again: what came meanwhile is before the last of them
            self._leaving[address] = fences
        elif not self._routes.subjects(address):
            self._listeners.pop(address, None)
            if not agent._ate_dismissed:  # then its last act is still to be told of
                agent._ate_forget(self._home)

    def _on_gone(self, message: Gone, now: float) -> None:
        """An agent's thread has ended: out of the routes, and what still reached it is refused."""
        agent = message.agent
        address = agent._ate_address
        for subject in self._routes.subjects(address):
            self._routes.remove(address, subject)
        self._release(agent, None)
        agent._ate_forget(self._home)
        if isinstance(agent, Producer) and agent._ate_safe_error is not None:
            self._safe_errors[address.name] = agent._ate_safe_error
        if agent._ate_abandoned:
            left = [ref for ref in self._given_up if ref() is not None]
            self._given_up = [*left, weakref.ref(agent)]
        agent._ate_refuse_mailbox()
        self._tallies.pop(address, None)
        self._warned.pop(address, None)
        self._listeners.pop(address, None)

    def _on_sites(self, message: Sites, now: float) -> None:
        self._routes.set_disabled(message.disabled)

    def _on_observe(self, message: Observe, now: float) -> None:
        self._watching = message.observers
        self._failures_observed = any(
            _overridden(o, "on_outcome") or _overridden(o, "on_end") for o in message.observers
        )
        self._tap()

    def _on_allow(self, message: Allow, now: float) -> None:
        message.observer._ate_left = message.left
        self._tap()

    def _tap(self) -> None:
        """Work out what tells the observers that want to be told."""
        self._tell_request = self._telling_all("on_request")
        self._tell_outcome = self._telling_all("on_outcome")
        self._tell_end = self._telling_all("on_end")

    def _telling_all(self, hook: str) -> Optional[Tell]:
        tells = tuple(
            self._telling(observer, getattr(observer, hook))
            for observer in self._watching
            if observer._ate_left != 0 and _overridden(observer, hook)
        )
        if len(tells) < 2:
            return tells[0] if tells else None

        def tell_all(event: Any) -> None:
            for tell in tells:
                tell(event)

        return tell_all

    def _telling(self, observer: Observer, hook: Tell) -> Tell:
        """Give what tells one observer, until it has been told of as much as it is allowed."""
        post = self._callbacks.post
        if observer._ate_left is None:
            return partial(post, hook)

        def tell(event: Any) -> None:
            post(hook, event)
            observer._ate_left = left = (observer._ate_left or 1) - 1
            if not left:
                self._tap()

        return tell

    def _watch_levels(self) -> None:
        """Warn once about each agent whose mailbox has grown past the high-water mark."""
        for address in self._routes.addresses():
            agent = self._agents.get(address.name)
            depth = 0 if agent is None else agent._ate_depth()
            if depth > self._high_water and address not in self._warned:
                self._warned[address] = None
                logger.warning(
                    "%d messages wait for %r: it is too slow for what it is sent; "
                    "capacity= would bound it",
                    depth,
                    address.name,
                )
            elif depth < self._high_water // 2:
                self._warned.pop(address, None)

    def _audience(self) -> List[Agent]:
        """Give the listeners that may have unhandled events: all, but the idle never started.

        What has begun may have taken its event already, so the depth alone would not do; whoever
        begins after this look had nothing in its mailbox.
        """
        return [
            agent
            for agent in self._listeners.values()
            if agent._ate_mailbox.qsize() or agent._ate_begun
        ]


def _overridden(observer: Observer, hook: str) -> bool:
    return getattr(getattr(observer, hook), "__func__", None) is not getattr(Observer, hook)


def _instead(agent: Any, kind: type) -> str:
    """Say what to give in its place."""
    if isinstance(agent, type):
        return f": make one, {agent.__name__}(…)" if issubclass(agent, kind) else ""
    if callable(agent):
        return ": for a function there are @dispatcher.producer(…) and @dispatcher.listener(…)"
    return ""
