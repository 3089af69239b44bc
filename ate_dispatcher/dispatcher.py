"""The dispatcher as its users see it.

These methods run on the caller's thread and do no more than check, put one message into the
mailbox and, where asked to, wait. What the dispatcher's own thread does stands in `_dispatching`
(requests and outcomes) and `_membership` (agents).
"""

from __future__ import annotations

import logging
import signal
from math import inf
from time import monotonic
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from ._agent import Agent
from ._callbacks import local
from ._checks import check_seconds, check_site, check_whole
from ._deadlines import check_ttl
from ._delivery import Barrier
from ._dispatching import Dispatching
from ._exceptions import (
    DeadlockError,
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    OverloadedError,
    StateError,
)
from ._lifetime import keep_until_exit
from ._listener import FunctionListener, ResultListener
from ._messages import Observe, Probe, Sites, Stop
from ._observer import Observer
from ._options import Options, Until
from ._outcomes import RequestStatus
from ._producer import FunctionProducer, Producer
from ._request import Request, ReturnAddress
from ._routes import Subject
from ._states import AgentState
from ._statistics import (
    Backlog,
    ListenerStatistics,
    Statistics,
    StopReport,
    Tally,
    producer_statistics,
)
from ._topics import TopicFilter, check_subject, check_topic
from ._waiting import acquire, began_anyhow, limit_of

__all__ = ["ATEDispatcher", "OptionsView", "Producer", "ResultListener"]

AnyAgent = TypeVar("AnyAgent", bound=Agent)
Function = TypeVar("Function", bound=Callable[..., Any])

COMPLETE = RequestStatus.COMPLETE

logger = logging.getLogger("ate_dispatcher")


class ATEDispatcher(Dispatching):
    """Scatters requests on topics to producers and relays what they answer to listeners.

    Parameters
    ----------
    name : str, optional
        Name of the thread.
    max_open : int, optional
        How many requests may be open; ``send_request`` then waits in its caller's thread. A hook
        that sends requests itself needs room for them beside the one that it works on.
    grace : float
        Seconds that `stop` gives threads, all together, to come back from a call of your code that
        has not returned: more, if a listener's or a hook's single call may take longer than that.
    safe_within : float
        Seconds that the producers have to end their work and run their `safe_state`, all together,
        when the dispatcher ends; each has an equal share of what is left, and whoever needs more is
        not waited for: the next begins beside it. Needed only where there are such producers.
    high_water : int
        A mailbox holding more messages than this is warned about, once.
    on_listener_error : callable, optional
        Called ``(listener_name, event, exception)`` on the callback thread.
    clock : callable, optional
        Gives the time in seconds; `time.monotonic`. For tests: `ate_dispatcher.testing.FakeClock`.

    Notes
    -----
    All methods are thread-safe. The path of a message (send, scatter, outcome, relay) takes no
    lock beyond those inside `queue.SimpleQueue`. Use it as a context manager, or call `start` and
    `stop`.

    Examples
    --------
    >>> with ATEDispatcher() as dispatcher:
    ...     @dispatcher.producer("voltage")
    ...     def measure(topic, channel):
    ...         return 5.0 + channel
    ...
    ...     dispatcher.send_request("voltage", 1, ttl=1000).gather().values
    {'measure': 6.0}
    """

    def __init__(
        self,
        *,
        name: Optional[str] = None,
        max_open: Optional[int] = None,
        grace: float = 1.0,
        safe_within: float = 5.0,
        high_water: int = 10_000,
        on_listener_error: Optional[Callable[[str, Any, BaseException], Any]] = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if max_open is not None:
            check_whole(max_open, "max_open")
        if on_listener_error is not None and not callable(on_listener_error):
            raise InvalidTypeError(f"on_listener_error must be callable, not {on_listener_error!r}")
        if name is not None and (not isinstance(name, str) or not name):
            raise InvalidTypeError(f"a name must be a non-empty string, not {name!r}")
        for what, seconds in (("grace", grace), ("safe_within", safe_within)):
            if not check_seconds(seconds, what) >= 0:
                raise InvalidArgumentError(f"{what} must not be negative or NaN, it is {seconds!r}")
        check_whole(high_water, "high_water")
        if not callable(clock):
            raise InvalidTypeError(f"clock must be callable, not {clock!r}")
        if type(clock()) is not float:
            raise InvalidTypeError(f"a clock must give floats (seconds), not {clock()!r}")
        super().__init__(name, clock, high_water, on_listener_error, max_open, grace, safe_within)
        if max_open is not None:
            self._hurdle = self._admit
        self._last_barrier: Optional[Barrier] = None
        keep_until_exit(self)

    # ---- sending -------------------------------------------------------------------------------

    def send_request(self, /, topic: str, *args: Any, ttl: Any = 5000, **kwargs: Any) -> Request:
        """Scatter a request to all producers registered on a topic.

        Parameters
        ----------
        topic : str
            Matched exactly.
        *args, **kwargs
            Reach the producers untouched.
        ttl : float or datetime.timedelta
            Milliseconds that an answer may take, counted from this call; `math.inf` for no
            deadline.

        Returns
        -------
        Request
            The handle: wait for it, read it, cancel it, or ignore it.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError
            The topic is no string or empty; the TTL is no positive number.
        StateError
            The dispatcher has stopped.
        OverloadedError
            ``max_open`` requests stayed open until this one's deadline.
        """
        if type(topic) is not str or not topic:
            check_topic(topic)
        if type(ttl) is not int or not 0 < ttl < 1_000_000_000:
            ttl = check_ttl(ttl)
        home = self._home
        request = Request(topic, ttl, home.clock(), None, home, args, kwargs or None)
        if self._hurdle is not None:
            self._hurdle(request)
        home.put(request)
        if home.gone:  # it ended between the hurdle and the put: see ReturnAddress
            self._refuse_mailbox()
        return request

    def with_options(
        self,
        *,
        to: Union[str, Iterable[str], None] = None,
        sites: Optional[Iterable[Any]] = None,
        until: Optional[Until] = None,
        tags: Optional[Mapping[str, Any]] = None,
        copy: Optional[str] = None,
        priority: int = 0,
    ) -> OptionsView:
        """Give a light view of this dispatcher whose requests have options.

        Parameters
        ----------
        to : str or iterable of str, optional
            Only to the producers of these names.
        sites : iterable of int or str, optional
            Only to the producers of these sites.
        until : int or callable, optional
            End early: after so many good answers, or when ``until(outcome)`` is true. The
            predicate runs on the dispatcher's thread, so it must be quick and must not wait.
        tags : mapping, optional
            Kept with the request and its outcomes.
        copy : {"shallow", "deep"}, optional
            Each producer gets its own copy of the arguments, each listener of the results.
        priority : int
            A producer begins what has the highest first, and what has the same in order. It does
            not interrupt, and it changes nothing about who gives way in a full mailbox.
        """
        return OptionsView(self, Options(to, sites, until, tags, copy, priority))

    def _admit(self, request: Request) -> None:
        """Wait, on the caller's thread, until fewer than ``max_open`` requests are open."""
        if isinstance(getattr(local, "role", None), ReturnAddress):
            raise DeadlockError("a predicate on a dispatcher's thread must not send requests")
        left = None if request.deadline == inf else request.deadline - self._clock()
        look = getattr(local, "look", None)
        if not acquire(self._admission, limit_of(left), look):
            raise OverloadedError(
                f"the request on {request.topic!r} was not sent: max_open requests stayed open "
                f"for its whole TTL of {request.ttl:g} ms"
            )
        try:
            if look is not None:
                look()  # it may have been called off just before its turn came
            if self._closed:
                self._turn_away(request)
        except BaseException:
            assert self._admission is not None
            self._admission.release()
            raise

    def _turn_away(self, request: Request) -> None:
        how = "has stopped" if self._aborted is None else f"was {self._aborted}"
        raise StateError(f"{self.name!r} {how}: it takes no more requests")

    # ---- agents --------------------------------------------------------------------------------

    def add(self, agent: AnyAgent, *topics: Subject) -> AnyAgent:
        """Register an agent with topics or filters, start it if it was not, and give it back.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError
            It is no agent, or one that lacks its hook; no topic, or none that can be.
        NameTakenError
            Another agent of this dispatcher has its name.
        StateError
            The agent, or the dispatcher, has stopped.
        """
        self._check_agent(agent, Agent)
        if not topics:
            raise InvalidArgumentError(f"add({agent.name!r}, …) needs at least one topic")
        for topic in topics:
            check_subject(topic)
        for topic in topics:
            self._register(agent, topic)
        agent._ate_start_once()
        return agent

    def remove(self, agent: Agent, *, wait: bool = False, timeout: Optional[float] = None) -> bool:
        """Deregister an agent from everything and stop it after the work it has.

        A thread that was stopped never starts again, so the agent cannot be added once more. One
        that another dispatcher still has is not stopped.

        Returns
        -------
        bool
            With ``wait=True`` whether its work had ended within `timeout` seconds.
        """
        self._check_agent(agent, Agent)
        limit_of(timeout)  # checked before anything changes
        with self._lock:
            if set(agent._ate_dispatchers()) <= {self._home}:
                agent._ate_dismissed = True  # known at once, whenever the message is handled
        return self._deregister(agent, None, wait, timeout, stop=True)

    def register_result_producer(self, producer: Producer, topic: Subject) -> None:
        """Register a producer with a topic or a `TopicFilter`. Twice is once.

        It raises as `add` does, which also starts what is not started.
        """
        self._check_agent(producer, Producer)
        self._register(producer, topic)

    def register_result_listener(self, listener: ResultListener, topic: Subject) -> None:
        """Register a listener with a topic or a `TopicFilter`. Twice is once; see `add`."""
        self._check_agent(listener, ResultListener)
        self._register(listener, topic)

    def deregister_result_producer(
        self,
        producer: Producer,
        topic: Subject,
        *,
        wait: bool = False,
        timeout: Optional[float] = None,
    ) -> bool:
        """Take a producer's registration back; no error if there is none.

        Parameters
        ----------
        wait : bool
            Wait until the work that was queued or running before has ended.
        timeout : float, optional
            Seconds to wait at most.

        Returns
        -------
        bool
            With `wait`, whether that work has ended; False at once on a library thread.
        """
        self._check_agent(producer, Producer)
        check_subject(topic)
        return self._deregister(producer, topic, wait, timeout)

    def deregister_result_listener(
        self,
        listener: ResultListener,
        topic: Subject,
        *,
        wait: bool = False,
        timeout: Optional[float] = None,
    ) -> bool:
        """Take a listener's registration back; see `deregister_result_producer`."""
        self._check_agent(listener, ResultListener)
        check_subject(topic)
        return self._deregister(listener, topic, wait, timeout)

    def producer(
        self, *topics: Subject, name: Optional[str] = None, **options: Any
    ) -> Callable[[Function], Function]:
        """Decorate a function ``(topic, *args, **kwargs)`` to be a producer of these topics.

        `name` is the function's own if not given; further options as for `Producer`.
        """
        return self._decorator(FunctionProducer, topics, name, options)

    def listener(
        self, *topics: Subject, name: Optional[str] = None, **options: Any
    ) -> Callable[[Function], Function]:
        """Decorate a function ``(topic, response)`` to be a listener of these topics."""
        return self._decorator(FunctionListener, topics, name, options)

    def _decorator(
        self, kind: Any, topics: Tuple[Subject, ...], name: Optional[str], options: Dict[str, Any]
    ) -> Callable[[Function], Function]:
        def decorate(function: Function) -> Function:
            while True:
                chosen = name or self._free_name(getattr(function, "__name__", kind.__name__))
                try:
                    self.add(kind(function, name=chosen, **options), *topics)
                except NameTakenError:
                    if name is not None:
                        raise
                    continue  # another thread took it in between
                return function

        if len(topics) == 1 and callable(topics[0]) and not isinstance(topics[0], TopicFilter):
            role = "listener" if kind is FunctionListener else "producer"
            raise InvalidArgumentError(f'name the topics: @dispatcher.{role}("topic")')
        return decorate

    @property
    def agents(self) -> Dict[str, Agent]:
        """The registered agents by name; a copy."""
        with self._lock:
            return dict(self._agents)

    @property
    def clock(self) -> Callable[[], float]:
        """The clock that deadlines and stamps are taken from."""
        return self._clock

    # ---- sites ---------------------------------------------------------------------------------

    def disable_site(self, site: Union[int, str]) -> None:
        """Pass over a site's producers from the next request on; what they have goes on."""
        self._set_disabled(site, frozenset.union)

    def enable_site(self, site: Union[int, str]) -> None:
        """Take a site in again, from the next request on."""
        self._set_disabled(site, frozenset.difference)

    def _set_disabled(self, site: Any, change: Callable[..., Any]) -> None:
        check_site(site)
        with self._lock:  # reading, changing and posting are one step
            self._disabled = change(self._disabled, (site,))
            self._home.put(Sites(self._disabled))
        self._refuse_if_gone()

    # ---- knowing ---------------------------------------------------------------------------------

    def flush(self, timeout: Optional[float] = None) -> bool:
        """Wait until every request sent before has ended and every listener has handled its events.

        Parameters
        ----------
        timeout : float, optional
            Seconds; deadlines bound the wait for requests anyhow.

        Returns
        -------
        bool
            False if the time ran out; `laggards` then names who is behind. Nothing is changed.

        Raises
        ------
        DeadlockError
            Called on a thread of the library that would have to end its own work first.
        """
        limit = limit_of(timeout)
        role = getattr(local, "role", None)
        if isinstance(role, ReturnAddress) or (
            isinstance(role, Agent) and self._home in role._ate_dispatchers()
        ):
            raise DeadlockError(
                "flush() on a thread of the library would wait for itself: "
                "call it where you send, not in a hook or a callback"
            )
        if not self._home.begun and not self._home.gone:
            logger.warning("flush() waits for %r, which was not started: call start()", self)
        barrier = self._last_barrier = Barrier(after_requests=True)
        self._home.post(barrier)
        if acquire(barrier.done, limit):
            return True
        self._home.post(Probe(barrier.withdraw))
        return False

    def laggards(self) -> Tuple[str, ...]:
        """Name the agents that the last `flush` still waits for."""
        barrier = self._last_barrier
        return () if barrier is None else barrier.laggards()

    def statistics(self) -> Statistics:
        """Give what was counted so far, frozen. Never blocks; goes through the open requests."""
        return self._counted(self._backlogs())

    def _counted(self, backlogs: Mapping[Any, Backlog]) -> Statistics:
        """Give the statistics, with what waits to begin as it was found."""
        producers = {}
        listeners = {}
        now = self._clock()
        for name, agent in self.agents.items():
            address = agent._ate_address
            depth = agent._ate_depth()
            busy = address.running is not None
            if isinstance(agent, ResultListener):
                listeners[name] = ListenerStatistics(
                    address.delivered,
                    address.errors,
                    address.dropped + address.refused,
                    depth,
                    busy,
                )
            else:
                tally = self._tallies.get(address) or Tally()
                backlog = backlogs.get(address)
                restarts = agent._ate_restarts  # type: ignore[attr-defined]
                producers[name] = producer_statistics(tally, depth, busy, backlog, now, restarts)
        ended = {**self._ended, COMPLETE: self._completed}
        still_open = max(0, self._requests - sum(ended.values()))
        return Statistics(still_open, ended, self._lates, producers, listeners)

    def states(self) -> Dict[str, AgentState]:
        """Give the state of each registered agent, by name. Never blocks."""
        return {name: agent._ate_state() for name, agent in self.agents.items()}

    def _backlogs(self) -> Dict[Any, Backlog]:
        """Go through the open requests for the work that has not begun, by producer."""
        backlogs: Dict[Any, Backlog] = {}
        for request in self._deadlines.snapshot():
            for address in request._roster:
                if address not in request._rows and not request.cancelled:
                    backlogs.setdefault(address, Backlog()).add(request.priority, request.sent)
        return backlogs

    def add_observer(self, observer: Observer) -> None:
        """Have an observer told of everything from now on, on the callback thread."""
        if not isinstance(observer, Observer):
            raise InvalidTypeError(f"{observer!r} is not an Observer: derive its class from it")
        self._callbacks.start()
        with self._lock:
            if observer not in self._observers:
                self._observers = (*self._observers, observer)
            self._home.put(Observe(self._observers))
        self._refuse_if_gone()

    def remove_observer(self, observer: Observer) -> None:
        """Tell an observer no more; no error if it was not added."""
        with self._lock:
            self._observers = tuple(o for o in self._observers if o is not observer)
            self._home.put(Observe(self._observers))
        self._refuse_if_gone()

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the dispatcher's thread; once in its life.

        Raises
        ------
        StateError
            It was started or stopped before.
        """
        with self._lock:
            if self._begun:
                raise StateError(f"{self.name!r} was started before: make a new dispatcher")
            if self._closed:
                raise StateError(f"{self.name!r} has stopped: make a new dispatcher")
            self._begun = True
        if self._on_listener_error is not None:
            self._callbacks.start()
        self._home.begun = True
        try:
            super().start()
        except BaseException as error:  # the system has no thread to give: it may be tried again
            if began_anyhow(self, error):
                raise
            self._home.begun = False
            with self._lock:
                self._begun = False
                given_up = self._closed
            if given_up:
                self.run()  # a `stop` that came meanwhile waits for a last turn
            raise

    def stop(self, drain: bool = True, timeout: Optional[float] = None) -> StopReport:
        """Stop the dispatcher and the agents registered with it.

        New requests are refused; the open ones end (those without a deadline are cancelled);
        producers stop; listeners handle what they have; threads are joined.

        Parameters
        ----------
        drain : bool
            False ends the open requests at once, as STOPPED; listeners still handle their events.
        timeout : float, optional
            Seconds for all of it but the safe states of producers, which have ``safe_within``
            seconds of their own. Without it the open requests' deadlines bound the first part, and
            a grace (see `grace`) in which no thread makes progress bounds the rest.

        Returns
        -------
        StopReport
            What was and was not delivered, and threads still alive. Stopping twice is once. On a
            library thread it never blocks: the stop is begun and the report not `finished`.
        """
        return self._stop_by(Stop(drain, limit_of(timeout)))

    def abort(self, reason: object = "no reason given") -> StopReport:
        """End everything at once, and bring every producer into its safe state.

        Open requests end CANCELLED, with the reason; what has not begun never will, and what runs
        is told (`current_request`). It passes whatever is queued. The dispatcher is then stopped as
        by ``stop(drain=False)``, for good. Producers with a `safe_state` are made safe, and so
        stopped, even if another dispatcher has them too.

        May be called from any thread; on one of the library it begins and does not wait. A signal
        handler must not wait: that is what `stop_on_signals` is for.

        Parameters
        ----------
        reason : object
            Why, in words; ``str()`` of it is kept. Nothing given here is refused.

        Returns
        -------
        StopReport
            As of `stop`; `unsafe` names the producers not known to be safe.
        """
        try:
            words = str(reason)
        except Exception as error:  # an emergency is no time to complain about wording
            words = f"{type(reason).__name__} (its str() raised {type(error).__name__})"
        with self._lock:
            if self._aborted is None:
                self._aborted = f"aborted: {words}"
        # Ahead of the message, which stands behind a backlog: no request is scattered any more, and
        # no work of an open one begins. Only a request that is being scattered right now may slip
        # through; it is called off by the message.
        self._scattering = False
        self._close()
        for request in self._deadlines.snapshot():
            request._cancelled = True
        return self._stop_by(Stop(False, None, abort=True))

    def _stop_by(self, message: Stop) -> StopReport:
        inline = False
        try:
            with self._lock:
                self._close()
                inline = not self._begun
                self._begun = self._home.begun = True
            self._home.post(message)
            if hasattr(local, "role"):
                if inline:
                    super().start()  # for its last turn: this thread is not to wait
                return StopReport(0, {}, (), finished=False)
            if inline:
                self.run()  # never started: its last turn is taken on this thread
        except BaseException as error:
            if inline and not (hasattr(local, "role") and began_anyhow(self, error)):
                self._begun = self._over.is_set()  # the next call takes the last turn
            raise
        self._over.wait()
        if self.is_alive():
            self.join()
        return self._report or StopReport(0, {}, (), finished=False)

    def stop_on_signals(self, *signals: int) -> None:
        """Let these signals stop the dispatcher without draining and end the process.

        The process exits with 128 + the signal's number, as a shell would report it. Only the main
        thread may call it. Listeners still handle the events they have.

        Parameters
        ----------
        *signals : int
            `signal.SIGTERM` if none is given.
        """

        def stop(number: int, frame: Any) -> None:
            # The interrupted code may hold any lock, so nothing is waited for in here: the stop is
            # begun, and leaving the `with` block or the script waits for it.
            self._close()
            self._home.post(Stop(False, None))
            raise SystemExit(128 + number)

        for number in signals or (signal.SIGTERM,):
            signal.signal(number, stop)

    def __enter__(self) -> ATEDispatcher:
        if self.ident is None:
            self.start()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self.stop(drain=kind is None)


class OptionsView:
    """A dispatcher seen through options; made by ``with_options``. Immutable, thread-safe."""

    __slots__ = ("_dispatcher", "_options")

    def __init__(self, dispatcher: ATEDispatcher, options: Options) -> None:
        self._dispatcher = dispatcher
        self._options = options

    def send_request(self, /, topic: str, *args: Any, ttl: Any = 5000, **kwargs: Any) -> Request:
        """As `ATEDispatcher.send_request`, with the options."""
        dispatcher = self._dispatcher
        home = dispatcher._home
        copied = self._options.copy_call(args, kwargs)
        request = Request(
            check_topic(topic), check_ttl(ttl), home.clock(), self._options, home, *copied
        )
        if dispatcher._hurdle is not None:
            dispatcher._hurdle(request)
        home.post(request)
        return request
