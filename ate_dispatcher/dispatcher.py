"""The dispatcher: one thread that scatters requests, gathers outcomes and relays them.

Which thread runs what: methods whose name begins with ``_on_`` or is documented so run on the
dispatcher's own thread; it alone writes the routes, the deadlines, the tallies and the ledgers' end.
The public methods run on the caller's thread and do no more than check, put one message into the
mailbox and, where asked to, wait.
"""

from __future__ import annotations

import itertools
import logging
import signal
import threading
from math import inf, isnan
from numbers import Real
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from ._address import Address
from ._agent import Agent, default_name
from ._callbacks import Callbacks, local
from ._deadlines import Deadlines
from ._delivery import Barrier
from ._exceptions import (
    DeadlockError,
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    OverloadedError,
    StateError,
)
from ._ledger import OPEN, Extra
from ._lifetime import TICK, Shutdown, Stop, Tick, keep_until_exit
from ._listener import FunctionListener, ResultListener
from ._mailbox import STOP, Fence
from ._observer import Observer
from ._options import Options, Until
from ._outcomes import (
    CopiedOutcome,
    Failure,
    Outcome,
    OutcomeStatus,
    Partial,
    RequestStatus,
    StreamEnd,
)
from ._producer import FunctionProducer, Producer
from ._request import (
    END,
    ENDED,
    Attach,
    Cancel,
    Probe,
    Request,
    ReturnAddress,
    acquire,
    limit_of,
)
from ._routes import Hooks, Route, Routes, Subject, Taps
from ._statistics import (
    ListenerStatistics,
    Statistics,
    StopReport,
    Tally,
    producer_statistics,
)
from ._topics import TopicFilter, check_topic
from ._unseen import UnseenFailures

__all__ = ["ATEDispatcher", "OptionsView", "Producer", "ResultListener"]

logger = logging.getLogger("ate_dispatcher")

AnyAgent = TypeVar("AnyAgent", bound=Agent)
Function = TypeVar("Function", bound=Callable[..., Any])

COMPLETE = RequestStatus.COMPLETE
_HIGH_WATER_EVERY = 1024


class _Register:
    __slots__ = ("agent", "hooks", "subject")

    def __init__(self, agent: Agent, subject: Subject, hooks: Optional[Hooks]) -> None:
        self.agent = agent
        self.subject = subject
        self.hooks = hooks


class _Deregister:
    __slots__ = ("agent", "passed", "stop", "subject")

    def __init__(
        self, agent: Agent, subject: Optional[Subject], passed: Callable[[], None], stop: bool
    ) -> None:
        self.agent = agent
        self.subject = subject
        self.passed = passed
        self.stop = stop


class _Gone:
    __slots__ = ("agent",)

    def __init__(self, agent: Agent) -> None:
        self.agent = agent


class _Departed:
    __slots__ = ("agent",)

    def __init__(self, agent: Agent) -> None:
        self.agent = agent


class _Observe:
    __slots__ = ("observers",)

    def __init__(self, observers: Tuple[Observer, ...]) -> None:
        self.observers = observers


class ATEDispatcher(threading.Thread):
    """Scatters requests on topics to producers and relays what they answer to listeners.

    Parameters
    ----------
    name : str, optional
        Name of the thread.
    max_open : int, optional
        How many requests may be open; ``send_request`` then waits in its caller's thread.
    grace : float
        Seconds that `stop` gives threads, all together, to come back.
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
        high_water: int = 10_000,
        on_listener_error: Optional[Callable[[str, Any, BaseException], Any]] = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(name=name or default_name("ATEDispatcher"), daemon=True)
        if max_open is not None and (isinstance(max_open, bool) or not isinstance(max_open, int)):
            raise InvalidTypeError(f"max_open must be a whole number or None, not {max_open!r}")
        if max_open is not None and max_open < 1:
            raise InvalidArgumentError(f"max_open must be at least 1, not {max_open}")
        if on_listener_error is not None and not callable(on_listener_error):
            raise InvalidTypeError(f"on_listener_error must be callable, not {on_listener_error!r}")
        self._mailbox: SimpleQueue[Any] = SimpleQueue()
        self._callbacks = Callbacks(f"{self.name}-callbacks")
        self._home = home = ReturnAddress(self._mailbox.put, clock, self._callbacks)
        home.refuse = self._refuse_mailbox
        home.agent_left = self._agent_left
        home.listener_raised = self._listener_raised
        self._clock = clock
        self._manual_clock = hasattr(clock, "attach")
        if self._manual_clock:
            clock.attach(lambda: home.put(TICK))  # type: ignore[attr-defined]
        self._admission = None if max_open is None else threading.Semaphore(max_open)
        self._grace = grace
        self._high_water = high_water
        self._on_listener_error = on_listener_error
        # `_lock` guards what callers' threads share: names, the life cycle, the observers' list.
        self._lock = threading.Lock()
        self._agents: Dict[str, Agent] = {}
        self._observers: Tuple[Observer, ...] = ()
        # What a new request must pass before it is sent; None, the common case, costs one look.
        self._hurdle: Optional[Callable[[Request], None]] = (
            None if max_open is None else self._admit
        )
        self._closed = False
        self._begun = False
        self._last_barrier: Optional[Barrier] = None
        # Everything from here on is written by the dispatcher's thread alone.
        self._routes = routes = Routes()
        self._known = routes.known
        self._deadlines = Deadlines()
        self._tallies: Dict[Address, Tally] = {}
        self._listeners: Dict[Address, Agent] = {}
        self._watching: Tuple[Observer, ...] = ()
        self._ended: Dict[RequestStatus, int] = {}
        self._lates = 0
        self._requests = 0
        self._completed = 0
        self._handled = 0
        self._warned: Dict[Address, None] = {}
        self._shutdown: Optional[Shutdown] = None
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
            Barrier: self._on_barrier,
            Probe: self._on_probe,
            Stop: self._on_stop,
            _Register: self._on_register,
            _Deregister: self._on_deregister,
            _Gone: self._on_gone,
            _Observe: self._on_observe,
            Tick: self._on_tick,
            _Departed: self._on_departed,
        }

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
        if type(ttl) is not int or ttl < 1:
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
        """
        return OptionsView(self, Options(to, sites, until, tags, copy))

    def _admit(self, request: Request) -> None:
        """Wait, on the caller's thread, until fewer than ``max_open`` requests are open."""
        if isinstance(getattr(local, "role", None), ReturnAddress):
            raise DeadlockError("a predicate on a dispatcher's thread must not send requests")
        left = None if request.deadline == inf else request.deadline - self._clock()
        if not acquire(self._admission, limit_of(left)):
            raise OverloadedError(
                f"the request on {request.topic!r} was not sent: max_open requests stayed open "
                f"for its whole TTL of {request.ttl:g} ms"
            )
        if self._closed:
            assert self._admission is not None
            self._admission.release()
            self._turn_away(request)

    def _turn_away(self, request: Request) -> None:
        raise StateError(f"{self.name!r} has stopped: it takes no more requests")

    # ---- agents --------------------------------------------------------------------------------

    def add(self, agent: AnyAgent, *topics: Subject) -> AnyAgent:
        """Register an agent with topics or filters, start it if it was not, and give it back."""
        self._check_agent(agent, Agent)
        if not topics:
            raise InvalidArgumentError(f"add({agent.name!r}, …) needs at least one topic")
        for topic in topics:
            _check_subject(topic)
        for topic in topics:
            self._register(agent, topic)
        if agent.ident is None:
            agent.start()
        return agent

    def remove(self, agent: Agent, *, wait: bool = False, timeout: Optional[float] = None) -> bool:
        """Deregister an agent from everything and stop it after the work it has.

        Returns
        -------
        bool
            With ``wait=True`` whether its work had ended within `timeout` seconds.
        """
        self._check_agent(agent, Agent)
        return self._deregister(agent, None, wait, timeout, stop=True)

    def register_result_producer(self, producer: Producer, topic: Subject) -> None:
        """Register a producer with a topic or a `TopicFilter`. Twice is once."""
        self._check_agent(producer, Producer)
        self._register(producer, topic)

    def register_result_listener(self, listener: ResultListener, topic: Subject) -> None:
        """Register a listener with a topic or a `TopicFilter`. Twice is once."""
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
            chosen = name or self._free_name(getattr(function, "__name__", kind.__name__))
            self.add(kind(function, name=chosen, **options), *topics)
            return function

        if len(topics) == 1 and callable(topics[0]) and not isinstance(topics[0], TopicFilter):
            raise InvalidArgumentError('name the topics: @dispatcher.producer("topic")')
        return decorate

    def _free_name(self, stem: str) -> str:
        names = itertools.chain((stem,), (f"{stem}-{n}" for n in itertools.count(2)))
        return next(name for name in names if name not in self._agents)

    @property
    def agents(self) -> Dict[str, Agent]:
        """The registered agents by name; a copy."""
        with self._lock:
            return dict(self._agents)

    @property
    def clock(self) -> Callable[[], float]:
        """The clock that deadlines and stamps are taken from."""
        return self._clock

    def _check_agent(self, agent: Any, kind: type) -> None:
        if not isinstance(agent, kind):
            article = "an agent" if kind is Agent else f"a {kind.__name__}"
            raise InvalidTypeError(f"{agent!r} is not {article}, but {type(agent).__name__}")
        if not hasattr(agent, "_ate_address"):
            raise InvalidTypeError(
                f"{type(agent).__qualname__}.__init__ must call super().__init__() first"
            )

    def _register(self, agent: Agent, subject: Subject) -> None:
        _check_subject(subject)
        hooks = None
        agent._ate_check_hooks()  # type: ignore[attr-defined]
        if isinstance(agent, ResultListener):
            hooks = agent._ate_hooks()
        if agent._ate_gone:
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
            self._home.put(_Register(agent, subject, hooks))
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
            _check_subject(subject)
        limit = limit_of(timeout)
        ended = threading.Lock()
        ended.acquire()
        self._home.post(_Deregister(agent, subject, ended.release, stop))
        if not wait or hasattr(local, "role"):
            return False
        if self.ident is None and not self._home.gone:
            return True  # never started: nothing has been scattered yet
        return acquire(ended, limit)

    def _release(self, agent: Agent, times: Optional[int] = 1) -> int:
        """Take back what `_register` noted; the last one frees the name. Gives how many are left."""
        with self._lock:
            left = agent._ate_part(self._home, times)
            if not left and self._agents.get(agent._ate_address.name) is agent:
                del self._agents[agent._ate_address.name]
        return left

    def _agent_left(self, agent: Agent) -> None:
        """An agent's last act, on its own thread."""
        self._home.post(_Gone(agent))

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
            raise DeadlockError("flush() on a thread of the library would wait for itself")
        barrier = self._last_barrier = Barrier(after_requests=True)
        self._home.post(barrier)
        return acquire(barrier.done, limit)

    def laggards(self) -> Tuple[str, ...]:
        """Name the agents that the last `flush` still waits for."""
        barrier = self._last_barrier
        return () if barrier is None else barrier.laggards()

    def statistics(self) -> Statistics:
        """Give what was counted so far, frozen. Never blocks."""
        producers = {}
        listeners = {}
        for name, agent in self.agents.items():
            address = agent._ate_address
            depth = agent._ate_mailbox.qsize()
            busy = address.running is not None
            if isinstance(agent, ResultListener):
                listeners[name] = ListenerStatistics(
                    address.delivered, address.errors, address.dropped, depth, busy
                )
            else:
                tally = self._tallies.get(address) or Tally()
                producers[name] = producer_statistics(tally, depth, busy)
        ended = {**self._ended, COMPLETE: self._completed}
        still_open = max(0, self._requests - sum(ended.values()))
        return Statistics(still_open, ended, self._lates, producers, listeners)

    def add_observer(self, observer: Observer) -> None:
        """Have an observer told of everything from now on, on the callback thread."""
        if not isinstance(observer, Observer):
            raise InvalidTypeError(f"{observer!r} is not an Observer: derive its class from it")
        self._callbacks.start()
        with self._lock:
            if observer not in self._observers:
                self._observers = (*self._observers, observer)
            self._home.post(_Observe(self._observers))

    def remove_observer(self, observer: Observer) -> None:
        """Tell an observer no more; no error if it was not added."""
        with self._lock:
            self._observers = tuple(o for o in self._observers if o is not observer)
            self._home.post(_Observe(self._observers))

    def _listener_raised(self, listener: Agent, event: Any, error: BaseException) -> None:
        """On the listener's thread: hand an error on to whoever asked for it."""
        name = listener._ate_address.name
        if self._on_listener_error is not None:
            self._callbacks.post(self._on_listener_error, name, event, error)
        for observer in self._watching:
            self._callbacks.post(observer.on_listener_error, name, event, error)

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
        keep_until_exit(self)
        super().start()

    def stop(self, drain: bool = True, timeout: Optional[float] = None) -> StopReport:
        """Stop the dispatcher and the agents registered with it.

        New requests are refused; the open ones end (those without a deadline are cancelled);
        producers stop; listeners handle what they have; threads are joined.

        Parameters
        ----------
        drain : bool
            False ends the open requests at once, as STOPPED; listeners still handle their events.
        timeout : float, optional
            Seconds for all of it. Without it the open requests' deadlines bound the first part,
            and a grace (see `grace`) in which no thread makes progress bounds the rest.

        Returns
        -------
        StopReport
            What was and was not delivered, and threads still alive. Stopping twice is once. On a
            library thread it never blocks: the stop is begun and the report not `finished`.
        """
        limit = limit_of(timeout)
        with self._lock:
            self._close()
            inline = not self._begun
            self._begun = True
        self._home.post(Stop(drain, limit))
        if hasattr(local, "role"):
            return StopReport(0, {}, (), finished=False)
        if inline:
            self.run()  # never started: its last turn is taken on this thread
        else:
            self.join()
        return self._report or StopReport(0, {}, (), finished=False)

    def _close(self) -> None:
        """Refuse new requests and registrations from here on."""
        self._closed = True
        self._hurdle = self._turn_away

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

    # ---- the dispatcher's thread -------------------------------------------------------------------

    def run(self) -> None:
        """Serve the mailbox until stopped. Not to be called or overridden."""
        outer = getattr(local, "role", None)
        local.role = self._home
        try:
            while self._turn():
                pass
        finally:
            self._finish()
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
        now = self._clock()
        count = self._mailbox.qsize()
        if count:
            self._serve(count, now)
            self._handled += count
            if self._handled >= _HIGH_WATER_EVERY:
                self._handled = 0
                self._watch_levels()
        if not count and now <= deadlines.wake and not (self._shutdown and self._shutdown.due()):
            message = self._next_message(now)
            if message is not None:
                self._handlers[type(message)](message, self._clock())
        elif now > deadlines.wake:
            for request in deadlines.due(now):
                self._expire(request, now)
        return self._shutdown is None or self._shutdown.proceed()

    def _serve(self, count: int, now: float) -> None:
        """Handle so many messages: the hot loop of the dispatching side.

        Plain requests and plain answers, the common case, are handled right here: `_on_request`,
        `_on_answer`, `Ledger.accept` and `_end` written out without what only others need, which
        is a third faster in every shape of the benchmark. Everything else, and whatever is late,
        goes the general way; both say the same.
        """
        deadlines = self._deadlines
        get = self._mailbox.get
        handlers = self._handlers
        tallies = self._tallies
        known = self._known
        for _ in range(count):
            message = get()
            kind = type(message)
            if kind is not Outcome:
                if kind is Request and message._options is None and self._shutdown is None:
                    topic = message.topic
                    route = known.get(topic) or self._routes.route(topic)
                    if route.roster:
                        message.scatter(route.roster, now)
                        deadlines.add(message)
                        self._requests += 1
                        for tell in route.requests:
                            tell(message)
                        for deliver in route.scatter:
                            deliver(message)
                        continue
                handlers[kind](message, now)
                continue
            request = message._request
            rows = request._rows
            address = message._address
            if (
                request._extra is not None
                or message.ended > request.deadline
                or rows.get(address) is not message.started
            ):
                self._on_answer(message, now)
                continue
            rows[address] = message
            message._request = None
            if address in tallies:
                tallies[address].ok += 1
            topic = request.topic
            route = known.get(topic) or self._routes.route(topic)
            for deliver in route.values:
                deliver(message)
            request._missing = missing = request._missing - 1
            if missing:
                continue
            request.status = COMPLETE
            self._completed += 1
            deadlines.remove(request)
            for deliver in route.ends:
                deliver(request)
            if rows.setdefault(END, ENDED) is not ENDED:
                rows[END].finish()
            if self._admission is not None:
                self._admission.release()

    def _next_message(self, now: float) -> Any:
        """Wait for a message; None when something falls due instead."""
        wait = inf if self._manual_clock else self._deadlines.wake - now
        if self._shutdown is not None:
            wait = min(wait, self._shutdown.alarm - monotonic())
        if wait == inf:
            return self._mailbox.get()
        try:
            # Past the deadline by the clock's least step, so that waking means that it is due.
            return self._mailbox.get(True, min(max(wait, 0.0) + 1e-6, TIMEOUT_MAX))
        except Empty:
            return None

    # ---- requests and outcomes

    def _on_request(self, request: Request, now: float) -> None:
        if self._shutdown is not None and not self._shutdown.accepting:
            request.scatter((), now)
            self._deadlines.add(request)
            self._requests += 1
            self._end(request, RequestStatus.STOPPED)
            return
        topic = request.topic
        route = self._known.get(topic) or self._routes.route(topic)
        roster, scatter = route.roster, route.scatter
        missing: Tuple[Address, ...] = ()
        if request._options is not None:
            roster, missing = self._select(request, roster)
            scatter = tuple(address.deliver for address in roster if address not in missing)
        request.scatter(roster, now)
        self._deadlines.add(request)
        self._requests += 1
        for tell in route.requests:
            tell(request)
        if not scatter:
            if not roster:
                request._reason = getattr(request, "_reason", "") or (
                    f"no producer is registered for {request.topic!r}"
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
        """Narrow the roster to what the options ask for; named producers that lack get a row too."""
        options: Options = request._options
        rule = options.early_finish()
        if rule is not None:
            request.extra().until = rule
        chosen, names = options.select(roster)
        if not chosen and (options.to is not None or options.sites is not None):
            there = ", ".join(repr(address.name) for address in roster) or "nobody"
            request._reason = (
                f"no producer on {request.topic!r} with {options.describe()}; registered: {there}"
            )
            return (), ()
        ghosts = tuple(Address(name) for name in names)
        return chosen + ghosts, ghosts

    def _on_answer(self, outcome: Outcome, now: float) -> None:
        request = outcome._request
        if not request.accept(outcome):
            self._late(request, outcome)
            return
        outcome._request = None
        tally = self._tallies.get(outcome._address)
        if tally is not None:
            tally.ok += 1
        topic = request.topic
        route = self._known.get(topic) or self._routes.route(topic)
        for deliver in route.values:
            deliver(outcome)
        if request._extra is not None:
            self._attend(request, outcome, request._extra)
        if not request._missing and request.status is OPEN:
            self._end(request, COMPLETE, route)

    def _on_partial(self, outcome: Partial, now: float) -> None:
        request = outcome._request
        if not request.accept_partial(outcome):
            self._late(request, outcome)
            return
        outcome._request = None
        tally = self._tallies.get(outcome._address)
        if tally is not None:
            tally.partials += 1
        for deliver in self._routes.route(request.topic).values:
            deliver(outcome)
        self._attend(request, outcome, request.extra())

    def _on_failure(self, failure: Failure, now: float) -> None:
        request = failure._request
        if not request.accept(failure):
            self._late(request, failure)
            return
        self._relay_failure(request, failure)
        if not request._missing and request.status is OPEN:
            self._end(request, COMPLETE)

    def _relay_failure(self, request: Request, failure: Failure) -> None:
        failure._request = None
        tally = self._tallies.get(failure._address)
        if tally is not None:
            tally.add(failure.status)
        route = self._routes.route(request.topic)
        for deliver in route.outcomes:
            deliver(failure)
        if failure.status is OutcomeStatus.ERROR and not route.outcomes and not route.ends:
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
        except Exception:
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
            tally.lates += 1
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
        request._told()
        if request._extra is not None:
            for reader in request._extra.readers:
                reader.finish()
            request._extra.readers = ()
        if self._admission is not None:
            self._admission.release()

    def _on_cancel(self, message: Cancel, now: float) -> None:
        request = message.request
        if request.status is OPEN:
            self._call_off(
                request,
                RequestStatus.CANCELLED,
                OutcomeStatus.CANCELLED,
                "the request was cancelled",
            )

    def _on_attach(self, message: Attach, now: float) -> None:
        """Let a reader follow: first what is there already, then everything as it comes."""
        request, reader = message.request, message.reader
        for outcome in request._final():
            reader.push(outcome)
        if request.status is OPEN:
            extra = request.extra()
            extra.readers = (*extra.readers, reader)
        else:
            reader.finish()

    def _on_barrier(self, barrier: Barrier, now: float) -> None:
        if barrier.after_requests:
            barrier.requests = tuple(self._deadlines)
        self._after_end(barrier.requests, lambda: barrier.send(self._audience()))

    def _after_end(self, requests: Tuple[Request, ...], then: Callable[[], None]) -> None:
        """Call `then` when these open requests have ended; both on the dispatcher's thread."""
        left = [len(requests)]

        def ended() -> None:
            left[0] -= 1
            if not left[0]:
                then()

        for request in requests:
            request._waiter().add(ended)
        if not requests:
            then()

    def _on_probe(self, probe: Probe, now: float) -> None:
        probe.answer()

    def _on_tick(self, tick: Tick, now: float) -> None:
        """Nothing to handle: the turn that got it looks at the clock, and whether to end."""

    def _audience(self) -> List[Address]:
        """Give the listeners that may have unhandled events: all, but the idle never started."""
        return [
            address
            for address, agent in self._listeners.items()
            if not agent._ate_gone and (address.started or agent._ate_mailbox.qsize())
        ]

    # ---- registrations

    def _on_register(self, message: _Register, now: float) -> None:
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
            # it saw us and its `_Gone` is on its way: doing it twice changes nothing.
            self._on_gone(_Gone(agent), now)

    def _on_deregister(self, message: _Deregister, now: float) -> None:
        agent = message.agent
        address = agent._ate_address
        subjects = self._routes.subjects(address) if message.subject is None else (message.subject,)
        for subject in subjects:
            if self._routes.remove(address, subject):
                self._depart(agent)
        if message.stop and not agent._ate_dispatchers():
            address.control(STOP)
        if agent._ate_gone:
            message.passed()
        elif agent.ident is None:
            self._when_ended(agent, message.passed)
        else:
            address.control(Fence(message.passed))

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
            if address.started:
                address.control(Fence(lambda: put(_Departed(agent))))
            elif not agent._ate_mailbox.qsize():
                del self._listeners[address]

    def _on_departed(self, message: _Departed, now: float) -> None:
        address = message.agent._ate_address
        if not self._routes.subjects(address):
            self._listeners.pop(address, None)

    def _on_gone(self, message: _Gone, now: float) -> None:
        """An agent's thread has ended: out of the routes, and what still reached it is refused."""
        agent = message.agent
        address = agent._ate_address
        for subject in self._routes.subjects(address):
            self._routes.remove(address, subject)
        self._release(agent, None)
        agent._ate_refuse_mailbox()
        self._tallies.pop(address, None)
        self._warned.pop(address, None)
        if self._shutdown is None:
            self._listeners.pop(address, None)

    def _on_observe(self, message: _Observe, now: float) -> None:
        self._watching = message.observers
        self._routes.set_taps(
            Taps(self._tap("on_request"), self._tap("on_outcome"), self._tap("on_end"))
            if message.observers
            else None
        )

    def _tap(self, hook: str) -> Callable[[Any], None]:
        calls = tuple(getattr(observer, hook) for observer in self._watching)
        post = self._callbacks.post

        def tell(event: Any) -> None:
            for call in calls:
                post(call, event)

        return tell

    def _watch_levels(self) -> None:
        """Warn once about each agent whose mailbox has grown past the high-water mark."""
        for address in self._routes.addresses():
            agent = self._agents.get(address.name)
            depth = 0 if agent is None else agent._ate_mailbox.qsize()
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

    # ---- the end

    def _on_stop(self, message: Stop, now: float) -> None:
        if self._shutdown is None:
            self._shutdown = Shutdown(self, self._grace)
        self._shutdown.ask(message)

    def _finish(self) -> None:
        """The thread's last act: nothing that arrives from here on is lost, it is refused."""
        shutdown = self._shutdown
        self._home.gone = True
        for request in tuple(self._deadlines):  # only if the loop itself failed
            self._call_off(request, RequestStatus.STOPPED, OutcomeStatus.CANCELLED, "stopped")
        self._refuse_mailbox()
        with self._lock:
            self._agents.clear()
        if shutdown is not None:
            self._report = shutdown.report()

    def _refuse_mailbox(self) -> None:
        """Answer whoever still posts to a dispatcher that has ended. Any thread, each message once."""
        while True:
            try:
                message = self._mailbox.get_nowait()
            except Empty:
                return
            if isinstance(message, Request):
                if message.status is OPEN:
                    message.status = RequestStatus.STOPPED
                    message._told()
                    if self._admission is not None:
                        self._admission.release()
            elif isinstance(message, Barrier):
                message.send(self._audience())
            elif isinstance(message, Probe):
                message.answer()
            elif isinstance(message, _Deregister):
                message.passed()
            elif isinstance(message, _Register):
                self._release(message.agent)
            elif isinstance(message, Attach):
                self._on_attach(message, 0.0)

    def _abandon(self) -> None:
        """In the child of a fork: none of the threads exists here, so everything has stopped."""
        self._close()
        self._begun = self._home.gone = True
        self._lock = threading.Lock()
        self._callbacks.abandon()
        for agent in self._agents.values():
            agent._ate_gone = True
            agent._ate_lock = threading.Lock()
        self._report = StopReport(0, {}, (), finished=True)
        for request in tuple(self._deadlines):
            request.close_rows(
                lambda address, started, request=request: Failure(  # type: ignore[misc]
                    request, address, OutcomeStatus.CANCELLED, "the process forked", started
                )
            )
            request.status = RequestStatus.STOPPED
            request._rows[END] = ENDED  # who waited was another thread: it is not here
            self._deadlines.remove(request)
        self._refuse_mailbox()


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


def check_ttl(ttl: Any) -> float:
    """Give a TTL as a positive number of milliseconds.

    Raises
    ------
    InvalidTypeError
        It is neither a number nor a `timedelta`.
    InvalidArgumentError
        It is not positive, or no number (NaN).
    """
    from datetime import timedelta

    if isinstance(ttl, timedelta):
        milliseconds = ttl.total_seconds() * 1000.0
    elif isinstance(ttl, Real) and not isinstance(ttl, bool):
        try:
            milliseconds = float(ttl)
        except OverflowError:
            milliseconds = inf if ttl > 0 else -inf
    else:
        raise InvalidTypeError(
            f"ttl must be a number of milliseconds or a timedelta, not {type(ttl).__name__}: {ttl!r}"
        )
    if isnan(milliseconds) or milliseconds <= 0:
        raise InvalidArgumentError(f"ttl must be a positive number of milliseconds, not {ttl!r}")
    if milliseconds < 1:
        import warnings

        warnings.warn(
            f"ttl={ttl!r} is less than a millisecond; a TTL is in milliseconds, not seconds",
            stacklevel=4,
        )
    return milliseconds


def _check_subject(subject: Any) -> None:
    if not isinstance(subject, TopicFilter):
        check_topic(subject)
