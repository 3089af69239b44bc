"""Producers that are made again when they fail, and replaced when they hang."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from traceback import format_stack
from typing import Any, Callable, Dict, List, Optional, Tuple

from .._callbacks import local
from .._exceptions import InvalidArgumentError, InvalidTypeError, StateError, UsageError
from .._outcomes import Outcome
from .._producer import Producer
from .._routes import Subject
from .._states import AgentState
from .._topics import check_subject
from .._waiting import Waiter, acquire, limit_of
from .._wording import text_of
from ..dispatcher import ATEDispatcher
from ._restart import Restart
from ._stalls import StallWatch

__all__ = ["Supervised", "Supervisor"]

logger = logging.getLogger("ate_dispatcher")

Factory = Callable[[], Producer]


class Supervised:
    """One producer under supervision, through all its lives; given by `Supervisor.run`.

    Everything may be read on any thread; the supervisor's thread alone writes.

    Attributes
    ----------
    name : str
        The name that each of its lives has.
    producer : Producer or None
        The present one, or the last.
    restarts : int
    report : str
        What went wrong last; of a stall with the stack of the thread that hangs.
    given_up : bool
        Whether there will be no further restart.
    """

    def __init__(
        self,
        factory: Factory,
        topics: Tuple[Subject, ...],
        restart: Restart,
        watch: Optional[StallWatch],
        name: Optional[str],
    ) -> None:
        self.name = name or str(getattr(factory, "__name__", type(factory).__name__))
        self.producer: Optional[Producer] = None
        self.restarts = 0
        self.report = ""
        self.given_up = False
        self._factory = factory
        self._topics = topics
        self._named = name is not None
        self._failures = restart.begin()
        self._restart = restart
        self._watch = watch
        self._down: Optional[AgentState] = AgentState.NEW
        self._was_ready = False
        self._launched = 0.0
        # When the supervisor is to start it again or to look at it; None for when it hears of it.
        self._due: Optional[float] = None
        # Whether looks are on their way. Written by the supervisor (False before it asks whether
        # the producer is idle) and by the dispatcher's thread (True after it has delivered): see
        # `_ask`.
        self._watched = False
        self._asked = False
        self._over = Waiter()

    @property
    def state(self) -> AgentState:
        """How it stands; while it waits for its restart, how its last life ended."""
        down = self._down  # read once, and first: a next life has its producer before this is None
        if down is not None:
            return down
        assert self.producer is not None
        return self.producer._ate_state()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait until supervision is over: it was stopped, or given up.

        Returns
        -------
        bool
            False if `timeout` (seconds) ran out first.
        """
        limit = limit_of(timeout)
        lock = threading.Lock()  # each wait its own: one that Ctrl-C ends takes nothing from others
        lock.acquire()
        if not self._over.add(lock.release):
            return True
        try:
            return acquire(lock, limit)
        finally:
            self._over.discard(lock.release)

    def __repr__(self) -> str:
        return f"<Supervised {self.name!r} {self.state.value}, {self.restarts} restarts>"


class Supervisor:
    """Keeps producers of one dispatcher alive.

    A producer that fails (its ``on_start`` raises, a hook raises `SystemExit` or the like) is made
    again by its factory, after a wait. One that hangs is given up: what waits for it is REJECTED,
    its thread is left behind, and a new one takes its name. One that is stopped or removed is let
    go. Mere exceptions of its hook are answers, not failures.

    Parameters
    ----------
    dispatcher : ATEDispatcher

    Notes
    -----
    One thread, which sleeps until something happens or falls due. It ends with `stop` or with the
    dispatcher. A factory runs on the caller's thread the first time and on a short-lived one of its
    own later: if it hangs there, its producer stays down, and all others are seen to. What it gives
    when supervision is over is thrown away. ``stall_after`` does not watch it, so that what may
    take long belongs into ``on_start``.

    Examples
    --------
    >>> supervisor = Supervisor(dispatcher)
    >>> dmm = supervisor.run(Dmm, "voltage", restart=Restart(attempts=3), stall_after=10.0)
    >>> dmm.state
    <AgentState.READY: 'ready'>
    """

    def __init__(self, dispatcher: ATEDispatcher) -> None:
        if not isinstance(dispatcher, ATEDispatcher):
            raise InvalidTypeError(f"a Supervisor needs an ATEDispatcher, not {dispatcher!r}")
        self._dispatcher = dispatcher
        self._clock = dispatcher.clock
        self._manual = hasattr(self._clock, "attach")
        # Everything that happens to supervised producers comes in here, as calls.
        self._mailbox: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._lock = threading.Lock()  # the thread is made once, and not after the end
        self._thread: Optional[threading.Thread] = None
        self._ended = False
        self._wards: List[Supervised] = []  # appended under the lock, read by the thread
        dispatcher._closing.append(self._end)
        if self._manual:
            put = self._mailbox.put
            self._clock.attach(lambda: put(_nothing))  # type: ignore[attr-defined]

    # ---- for users -----------------------------------------------------------------------------

    def run(
        self,
        factory: Factory,
        *topics: Subject,
        name: Optional[str] = None,
        restart: Optional[Restart] = None,
        stall_after: Optional[float] = None,
    ) -> Supervised:
        """Make a producer, add it to the dispatcher, and see to it from now on.

        Parameters
        ----------
        factory : callable
            Called without arguments, gives a new `Producer` each time. If it raises, that counts as
            a failed start.
        *topics : str or TopicFilter
        name : str, optional
            For all its lives; if not given that of the first producer.
        restart : Restart, optional
            The policy; ``Restart()`` if not given.
        stall_after : float, optional
            Seconds that one hook may take (counted anew from each value of a stream) before the
            producer counts as stalled; not watched if not given.

        Raises
        ------
        InvalidTypeError
            The factory made no producer.
        NameTakenError, StateError
            As by ``dispatcher.add``.
        """
        if not callable(factory):
            raise InvalidTypeError(f"a factory must be callable, not {factory!r}")
        if not topics:
            raise InvalidArgumentError("run(factory, …) needs at least one topic")
        for topic in topics:
            check_subject(topic)
        if name is not None and (not isinstance(name, str) or not name):
            raise InvalidTypeError(f"a name must be a non-empty string, not {name!r}")
        if restart is not None and not isinstance(restart, Restart):
            raise InvalidTypeError(f"restart must be a Restart, not {restart!r}")
        watch = None if stall_after is None else StallWatch(stall_after)
        ward = Supervised(factory, topics, restart or Restart(), watch, name)
        with self._lock:
            if self._ended:
                raise StateError("this supervisor has ended, or its dispatcher has")
            self._start_once()
        try:
            self._launch(ward, ward._factory())
        except UsageError:
            raise
        except Exception as error:
            failure = error  # the name in `except` is gone when the call below is made
            self._mailbox.put(lambda: self._failed(ward, _worded(ward, failure), failure))
        with self._lock:
            ended = self._ended
            if not ended:
                self._wards.append(ward)
        if ended:  # meanwhile: the dispatcher sees to the producer
            self._release(ward)
            return ward
        self._mailbox.put(_nothing)  # there is something new to wait for
        return ward

    @property
    def supervised(self) -> Dict[str, Supervised]:
        """Everything under supervision, by name; what was given up too."""
        with self._lock:
            return {ward.name: ward for ward in self._wards}

    @property
    def states(self) -> Dict[str, AgentState]:
        """The state of each of them, by name."""
        return {name: ward.state for name, ward in self.supervised.items()}

    def stop(self, timeout: Optional[float] = None) -> bool:
        """End supervision; the producers go on.

        Returns
        -------
        bool
            Whether its thread has ended: False if `timeout` (seconds) ran out, and at once on a
            thread of the library.
        """
        limit = limit_of(timeout)
        self._end()
        thread = self._thread
        if thread is None:
            self._withdraw()
        if thread is None or getattr(local, "role", None) is not None:
            return thread is None
        thread.join(None if limit is None else min(max(0.0, limit - monotonic()), TIMEOUT_MAX))
        return not thread.is_alive()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- the thread ----------------------------------------------------------------------------

    def _start_once(self) -> None:
        """Start the thread, under the lock; before anything is made that needs it."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(
            target=self._serve, name=f"{self._dispatcher.name}-supervisor", daemon=True
        )
        try:
            self._thread.start()
        except Exception:  # the system has no thread to give: the next call tries again
            self._thread = None
            raise

    def _end(self) -> None:
        """Be told that it is over. Any thread, a signal handler too: one flag and one ``put``."""
        self._ended = True
        self._mailbox.put(_nothing)

    def _serve(self) -> None:
        local.role = self._dispatcher._callbacks  # a library thread: what it calls must not wait
        while not self._ended:
            call = self._next()
            if call is not None:
                call()
            call = None  # it may hold a producer that is gone
            now = self._clock()
            for ward in self._wards:
                if ward._due is not None and ward._due <= now and not self._ended:
                    ward._due = None
                    self._attend(ward, now)
        for ward in self._wards:
            self._release(ward)
        self._withdraw()

    def _withdraw(self) -> None:
        """Need not be told of the dispatcher's end any more."""
        with contextlib.suppress(ValueError):  # one call of the list's: two may do this at once
            self._dispatcher._closing.remove(self._end)

    def _next(self) -> Optional[Callable[[], Any]]:
        """Wait for something to happen; None when something falls due instead."""
        due = min((ward._due for ward in self._wards if ward._due is not None), default=inf)
        if due == inf or (self._manual and due > self._clock()):
            return self._mailbox.get()
        try:
            return self._mailbox.get(True, min(max(0.0, due - self._clock()), TIMEOUT_MAX))
        except Empty:
            return None

    def _attend(self, ward: Supervised, now: float) -> None:
        """Do what is due: start again, or look whether it hangs."""
        if ward._down is not None:
            self._start_again(ward)
        elif ward._watch is not None and ward.producer is not None:
            self._look(ward, ward.producer, ward._watch, now)

    # ---- lives ---------------------------------------------------------------------------------

    def _launch(self, ward: Supervised, producer: Any) -> None:
        """Add what the factory has made; whatever is wrong with it is raised."""
        if not isinstance(producer, Producer):
            raise InvalidTypeError(f"the factory must make a Producer, it made {producer!r}")
        self._dispatcher._check_agent(producer, Producer)
        if producer._ate_begun:
            raise InvalidTypeError(f"the factory must make a new producer, {producer!r} has begun")
        if ward._named:
            producer.name = ward.name
        else:
            ward.name, ward._named = producer.name, True
        producer._ate_restarts = ward.restarts
        producer._ate_watcher = self._watcher(ward)
        if ward._watch is not None:
            self._deliver(ward, producer)
        ward.producer = producer
        ward._was_ready = False
        ward._launched = self._clock()
        ward._down = None
        if ward._watch is not None:
            ward._due = ward._launched + ward._watch.after
            ward._watched, ward._asked = True, False
        try:  # from here on it is the supervisor's thread that hears of it
            self._dispatcher.add(producer, *ward._topics)
        except BaseException:
            ward._down, ward._due = AgentState.FAILED, None
            raise

    def _watcher(self, ward: Supervised) -> Callable[[Any, AgentState], None]:
        def changed(producer: Any, state: AgentState) -> None:  # on the producer's thread
            self._mailbox.put(lambda: self._changed(ward, producer, state))

        return changed

    def _changed(self, ward: Supervised, producer: Producer, state: AgentState) -> None:
        if producer is not ward.producer or ward._down is not None:
            return  # a life that is over already
        if state is AgentState.READY:
            ward._was_ready = True
        elif state is AgentState.STOPPED:
            ward._down = state
            self._release(ward)
        elif state is AgentState.FAILED:
            ward._down = state
            error = producer._ate_failure
            self._failed(ward, f"{ward.name!r} failed: {_said(error)}", error)

    def _failed(self, ward: Supervised, report: str, error: Optional[BaseException]) -> None:
        """A life has ended badly: the next one, after a wait, or none."""
        ward.report = report
        if ward._down not in (AgentState.FAILED, AgentState.STALLED):
            ward._down = AgentState.FAILED
        now = self._clock()
        due = None if isinstance(error, UsageError) and not ward._was_ready else now
        if due is not None:
            due = ward._failures.add(now, ward._was_ready)
        if due is None:
            self._give_up(ward, error)
            return
        logger.warning("%s\nit is started again in %.3g s", report, due - now)
        ward._due = due

    def _start_again(self, ward: Supervised) -> None:
        ward.restarts += 1
        try:
            threading.Thread(
                target=self._make, args=(ward,), name=f"{ward.name}-factory", daemon=True
            ).start()
        except Exception as error:  # the system has no thread to give
            self._unmade(ward, error)

    def _make(self, ward: Supervised) -> None:
        """Call the factory, on a thread of its own: it may hang. The rest is the supervisor's."""
        try:
            producer = ward._factory()
        except BaseException as error:
            self._mailbox.put(partial(self._unmade, ward, error))
        else:
            self._mailbox.put(partial(self._made, ward, producer))

    def _made(self, ward: Supervised, producer: Any) -> None:
        if self._ended:
            return
        before = ward._down
        try:
            self._launch(ward, producer)
        except BaseException as error:
            ward._down = before if ward._down is None else ward._down
            self._unmade(ward, error)

    def _unmade(self, ward: Supervised, error: BaseException) -> None:
        ward._was_ready = False
        if not self._ended:
            self._failed(ward, _worded(ward, error), error)

    def _give_up(self, ward: Supervised, error: Optional[BaseException]) -> None:
        ward.given_up = True
        ward._due = None
        why = "" if isinstance(error, UsageError) else f" ({ward._restart!r} allows no more)"
        logger.error(
            "%s\n%r is given up after %d restarts%s", ward.report, ward.name, ward.restarts, why
        )
        # All others make themselves safe, on their own threads, as they leave.
        if ward.producer is not None and ward.producer._ate_abandoned:
            logger.error("%r hangs: it could not be made safe", ward.name)
        self._release(ward)

    def _release(self, ward: Supervised) -> None:
        """Wake whoever waits for the end of its supervision. Any number of times."""
        ward._due = None
        ward._over.finish()

    # ---- stalls --------------------------------------------------------------------------------

    def _deliver(self, ward: Supervised, producer: Producer) -> None:
        """Have the producer's deliveries wake the supervisor, if it may have stopped looking."""
        address = producer._ate_address
        put, post = address.deliver, self._mailbox.put

        def deliver(work: Any) -> None:
            put(work)
            if not ward._watched:
                ward._watched = True
                post(lambda: self._watch_again(ward))

        address.deliver = deliver

    def _watch_again(self, ward: Supervised) -> None:
        if ward._down is None and ward._watch is not None and ward._due is None:
            ward._due = self._clock() + ward._watch.after

    def _ask(self, ward: Supervised, producer: Producer) -> None:
        """Have a producer that is in no hook say so when it has nothing to do: looks end then.

        It may be between its mailbox and its hook, or wait for a resource. So it is asked behind
        all it has. The dispatcher's thread puts work first and reads the flag then; here the flag
        is cleared first and the question put then: work is ahead of the question, or wakes us.
        """
        if not ward._asked:
            ward._watched, ward._asked = False, True
            post = self._mailbox.put
            producer._ate_fence(lambda: post(lambda: self._idle(ward, producer)))

    def _idle(self, ward: Supervised, producer: Producer) -> None:
        """Take the answer, on the supervisor's thread; work behind the question counts."""
        if producer is ward.producer and ward._down is None:
            ward._asked = False
            if not ward._watched:
                ward._due = None

    def _look(self, ward: Supervised, producer: Producer, watch: StallWatch, now: float) -> None:
        since, doing = _at_work(producer, ward._launched)
        ward._due = watch.look(now, since)
        if since is None:
            self._ask(ward, producer)
        if ward._due is not None:
            return
        assert since is not None
        stack = _stack(producer)
        reason = f"stalled: it has been {doing} for {now - since:.3g} s and was given up"
        ward._down = AgentState.STALLED
        producer._ate_abandon(reason)
        report = f"{ward.name!r} {reason}; its thread stands at\n{stack}"
        self._failed(ward, report, None)


def _nothing() -> None:
    """Only wakes the supervisor's thread."""


def _worded(ward: Supervised, error: BaseException) -> str:
    return f"{ward.name!r} could not be made: {_said(error)}"


def _said(error: Optional[BaseException]) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def _at_work(producer: Producer, launched: float) -> Tuple[Optional[float], str]:
    """Give since when a producer is in one hook (None if it is in none), and in which, in words."""
    if not producer._ate_ready:
        return launched, "in on_start"
    address = producer._ate_address
    request = address.running
    if request is None:
        return None, ""
    row = request._rows.get(address)
    since: Optional[float] = row.started if isinstance(row, Outcome) else row
    if since is not None:
        since = max(since, producer._ate_progress)
    return since, f"at work on {request.topic!r}"


def _stack(producer: Producer) -> str:
    frame = sys._current_frames().get(producer._ate_thread_at_work() or 0)
    return "(it has just ended)" if frame is None else "".join(format_stack(frame)).rstrip()
