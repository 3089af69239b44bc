"""`AgentHost`: runs producers and listeners for dispatchers on other machines."""

from __future__ import annotations

import logging
import os
import threading
from itertools import islice
from math import inf
from time import monotonic
from typing import Any, Dict, Optional, Set, Tuple, TypeVar

from .._agent import Agent, default_name
from .._callbacks import local
from .._checks import check_seconds
from .._exceptions import BusError, InvalidArgumentError, InvalidTypeError, StateError
from .._listener import ResultListener
from .._outcomes import Outcome, OutcomeStatus, RequestStatus
from .._request import Request
from .._routes import Subject
from .._topics import TopicFilter, check_subject
from .._waiting import wait_for_signals
from .._wording import text_of
from ..bus import Distributer
from ..bus._correlation import unique_word
from ..dispatcher import ATEDispatcher
from ._protocol import LONGEST, StrangeMessage, Topics, agent_record, message, read
from ._remote import event_outcome

__all__ = ["AgentHost"]

logger = logging.getLogger("ate_dispatcher")

AnyAgent = TypeVar("AnyAgent", bound=Agent)

FAREWELL = 2.0
"""Seconds that the broker is given to take our goodbye, when somebody waits for it."""

HEARD = 10_000
"""Requests remembered, so that one that a bus delivers twice is done once."""

_NOWHERE = "\0listeners"
"""A topic that no request has: listeners are kept by the dispatcher, and fed by us."""


class _Job:
    """One request from elsewhere. Made by the bus's thread; `seq` is the relay's own.

    The bus's thread writes `request` and then reads `over`, whoever ends the job does it the other
    way round: one of the two sees the other. Each is one assignment.
    """

    __slots__ = ("deadline", "identifier", "over", "reply", "request", "seq")

    def __init__(self, identifier: str, reply: str, deadline: float) -> None:
        self.identifier = identifier
        self.reply = reply
        self.deadline = deadline
        self.request: Optional[Request] = None
        self.over = False
        self.seq = 0

    def end(self) -> None:
        """It has ended, or nobody wants it any more: call it off, and let go of it."""
        self.over = True
        request, self.request = self.request, None
        if request is not None:
            request.cancel()


class AgentHost:
    """Offers agents of this process to every `Bridge` on a bus.

    Parameters
    ----------
    url : str
        The bus; see `ate_dispatcher.bus.Distributer`.
    name : str, optional
        What this host is called in messages; ``AgentHost-N`` if not given.
    namespace : str
        Bridges and hosts of one namespace meet.
    heartbeat : float
        Seconds between two signs of life. A bridge takes a host for lost after three without one.

    Raises
    ------
    BusURLError, MissingExtraError
        From the URL; the broker itself is reached by `start`.

    Notes
    -----
    All methods are thread-safe. Agents run in a dispatcher of the host's own, under the same
    contract: an expired request never starts, an exception becomes an ERROR outcome over there.

    Examples
    --------
    >>> with AgentHost("mqtt://10.0.0.5", name="rack2") as host:
    ...     host.add(Multimeter("GPIB0::22::INSTR"), "dc.voltage")
    ...     host.run()
    """

    def __init__(
        self,
        url: str,
        *,
        name: Optional[str] = None,
        namespace: str = "ate",
        heartbeat: float = 1.0,
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise InvalidTypeError(f"a host's name must be a non-empty string, not {name!r}")
        if not 0 < check_seconds(heartbeat, "heartbeat") < LONGEST:
            raise InvalidArgumentError(
                f"heartbeat must be positive and less than {LONGEST:g} seconds, not {heartbeat!r}"
            )
        self.name = name or default_name("AgentHost")
        self._topics = Topics(namespace)
        self._bus = Distributer(url)
        self._id = unique_word()
        self._every = heartbeat
        self._dispatcher = ATEDispatcher(name=f"{self.name}-dispatcher")
        # Guards what follows and the life cycle; never held while user code or the bus runs.
        self._lock = threading.Lock()
        self._offers: Dict[str, Tuple[Agent, Tuple[Subject, ...]]] = {}
        self._records: Dict[str, Dict[str, Any]] = {}
        self._begun = False
        self._process: Optional[int] = None  # which has started it
        self._stopped = threading.Event()
        # Threads in `stop`: each adds, looks for and discards its own, which are atomic.
        self._stopping: Set[int] = set()
        self._beat = threading.Event()
        self._heart = threading.Thread(
            target=self._announce_for_ever, name=f"{self.name}-heartbeat", daemon=True
        )
        # The bus's thread alone writes these two.
        self._jobs: Dict[str, _Job] = {}
        self.strangers = 0
        """Messages on our topics that were none of ours."""

    # ---- for users -------------------------------------------------------------------------------

    def add(self, agent: AnyAgent, *topics: Subject) -> AnyAgent:
        """Offer an agent on these topics, start it if it was not, and give it back.

        A listener hears the results of every dispatcher that a bridge joins to the bus.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError, NameTakenError, StateError
            As `ATEDispatcher.add`; and for a listener that wants the ends of requests, which stay
            where they are.
        """
        if not topics:
            raise InvalidArgumentError("add() needs at least one topic")
        for topic in topics:
            check_subject(topic)
        if isinstance(agent, ResultListener):
            if hasattr(agent, "_ate_address") and agent._ate_hooks().ends:
                raise InvalidTypeError(
                    f"{type(agent).__qualname__} has process_dispatcher_end, but a request cannot "
                    "leave its process: use process_dispatcher_outcome"
                )
            self._dispatcher.add(agent, _NOWHERE)
            kind = "listener"
        else:
            self._dispatcher.add(agent, *topics)
            kind = "producer"
        with self._lock:
            offered, before = self._offers.get(agent.name, (agent, ()))
            if offered is agent:
                topics = (*before, *topics)
            self._offers[agent.name] = agent, tuple(dict.fromkeys(topics))
            site = agent._ate_address.site
            self._records[agent.name] = agent_record(agent.name, kind, site, topics)
        self._beat.set()
        return agent

    def start(self) -> None:
        """Reach the bus, and say who is here.

        Raises
        ------
        BusConnectionError
            The broker is not there, or refuses.
        StateError
            It was started or stopped before.
        """
        with self._lock:
            if self._begun:
                raise StateError(f"{self.name!r} was started before: make a new host")
            self._begun = True
            self._process = os.getpid()
        try:
            self._bus.subscribe(self._heard, self._topics.host(self._id), self._topics.discover)
            self._dispatcher.add(_Relay(self, name=f"{self.name}-relay"), TopicFilter("#"))
            self._dispatcher.start()
            self._heart.start()
        except BaseException:
            self.stop()
            raise

    def run(self) -> None:
        """Serve until `stop` is called, or Ctrl-C comes; start it if it was not.

        Returns when the agents have stopped.
        """
        if not self._begun:
            self.start()
        try:
            wait_for_signals(self._stopped)
        except KeyboardInterrupt:
            pass
        self.stop()

    def stop(self) -> None:
        """Say goodbye, end what is in progress, and stop the agents. Stopping twice is once.

        Behind it no agent is at work any more, whoever was first. On a thread of the library it
        begins and does not wait, nor does it in a signal handler that interrupts another `stop`.
        In the child of a fork it does nothing.
        """
        if self._process not in (None, os.getpid()):
            return  # the child of a fork: agents and goodbye are the parent's affair
        me = threading.get_ident()
        if me in self._stopping:
            return
        self._stopping.add(me)
        try:
            with self._lock:
                self._begun = True
            self._stopped.set()
            self._beat.set()
            self._dispatcher.stop(drain=False)  # on a library thread it only begins
            if self._heart.ident is None:
                self._bus.close()
            elif not hasattr(local, "role"):
                self._heart.join(FAREWELL)
                if self._heart.is_alive():
                    self._bus.close()  # the broker is away: who waits for it gives up
                    self._heart.join()
        finally:
            self._stopping.discard(me)

    def __enter__(self) -> AgentHost:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<AgentHost {self.name!r} at {self._bus.url}: {', '.join(self._records)}>"

    # ---- what is said ----------------------------------------------------------------------------

    def _announce_for_ever(self) -> None:
        """Run on the heartbeat thread: now, at every beat, and at once when something changed.

        It says goodbye too: whoever has called `stop` may be a thread that must not wait.
        """
        while not self._stopped.is_set():
            self._beat.clear()
            here = self._dispatcher.agents  # without those that have failed or were stopped
            with self._lock:
                records = [record for name, record in self._records.items() if name in here]
            self._publish(
                self._topics.agents,
                message(
                    "agents",
                    host=self.name,
                    id=self._id,
                    every=self._every,
                    now=monotonic(),
                    agents=records,
                ),
            )
            self._beat.wait(self._every)
        self._dispatcher.stop(drain=False)  # what ends in it is answered before the goodbye
        self._publish(self._topics.agents, message("leave", id=self._id))
        self._bus.close()

    def _publish(self, topic: str, data: Dict[str, Any]) -> None:
        try:
            self._bus.publish(data, topic)
        except (BusError, StateError) as error:
            logger.info("%r could not say %r: %s", self.name, data["kind"], error)

    def _answer(self, job: _Job, kind: str, **fields: Any) -> None:
        """Send one answer; on the relay's thread alone."""
        if job.over or monotonic() > job.deadline:
            return  # nobody waits for it any more
        seq, job.seq = job.seq, job.seq + 1
        topic = self._topics.bridge(job.reply)
        try:
            try:
                self._bus.publish(message(kind, id=job.identifier, seq=seq, **fields), topic)
            except (TypeError, ValueError) as error:  # no JSON, or too large: say that instead
                name, text = type(error).__name__, f"what {self.name!r} would answer: {error}"
                self._bus.publish(
                    message("error", id=job.identifier, seq=seq, type=name, text=text), topic
                )
                job.end()  # if it is a stream, that was its last value over there
        except (BusError, StateError) as error:
            logger.info("%r could not answer: %s", self.name, error)

    # ---- what is heard (the bus's thread) --------------------------------------------------------

    def _heard(self, data: Any) -> None:
        try:
            kind, told = read(data, "discover", "refused", "request", "cancel", "event")
            if kind == "discover":
                self._beat.set()
            elif kind == "request":
                self._take_on(told)
            elif kind == "cancel":
                self._call_off(told["id"])
            elif kind == "event":
                self._hand_over(told)
            else:
                agent, reason = told["agent"], told["reason"]
                logger.warning("%r: agent %r is refused: %s", self.name, agent, reason)
        except StrangeMessage as error:
            self.strangers += 1
            logger.warning("%r heard a message that is none of ours: %s", self.name, error)

    def _take_on(self, told: Dict[str, Any]) -> None:
        identifier, kwargs = told["id"], told["kwargs"]
        if identifier in self._jobs:
            return  # a duplicate, from a bus that delivers at least once
        if not told["topic"] or "ttl" in kwargs or "topic" in kwargs:
            raise StrangeMessage("a request without a topic, or with a keyword that none can have")
        now = monotonic()
        ttl, until = (inf if told[name] is None else told[name] for name in ("ttl", "until"))
        ttl = min(ttl, (until - now) * 1000.0)
        if not ttl >= 1.0:
            return  # it has expired on the way
        job = _Job(identifier, told["reply"], now + ttl / 1000.0)
        try:
            view = self._dispatcher.with_options(to=told["agent"], tags={"job": job})
            job.request = view.send_request(told["topic"], *told["args"], ttl=ttl, **kwargs)
        except InvalidTypeError as error:
            raise StrangeMessage(f"a request to nobody: {error}") from None
        except StateError:
            return  # we are stopping: our goodbye says the rest
        self._jobs[identifier] = job
        if job.over:
            job.end()
        # The oldest are forgotten, but for those that may still be called off.
        for oldest in tuple(islice(self._jobs, 2)) if len(self._jobs) > HEARD else ():
            passed = self._jobs.pop(oldest)
            if not passed.over:
                self._jobs[oldest] = passed

    def _call_off(self, identifier: str) -> None:
        job = self._jobs.get(identifier)
        if job is not None:
            job.end()

    def _hand_over(self, told: Dict[str, Any]) -> None:
        listener = self._dispatcher.agents.get(told["agent"])
        if isinstance(listener, ResultListener):
            listener._ate_deliver(event_outcome(told["outcome"], monotonic()))


class _Relay(ResultListener):
    """Sends every outcome of the host's dispatcher back to whoever asked."""

    def __init__(self, host: AgentHost, **options: Any) -> None:
        super().__init__(**options)
        self._host = host

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Answer."""
        job, answer = outcome.tags["job"], self._host._answer
        if outcome.status is OutcomeStatus.PARTIAL:
            answer(job, "partial", value=outcome.value)
        elif outcome.status is OutcomeStatus.OK:
            answer(job, "value", value=outcome.value)
        elif outcome.status is OutcomeStatus.ERROR:
            error = outcome.exception
            answer(job, "error", type=type(error).__name__, text=text_of(error))
        elif outcome.status is OutcomeStatus.TIMEOUT:
            answer(job, "expired")
        else:
            answer(job, "rejected", text=outcome.reason)

    def process_dispatcher_end(self, request: Request) -> None:
        """Let go of it; where there was nobody to do it, say so."""
        job = request.tags["job"]
        if request.status is RequestStatus.NO_PRODUCERS:
            self._host._answer(job, "rejected", text=request.reason)
        job.end()
