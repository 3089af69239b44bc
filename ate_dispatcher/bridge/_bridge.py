"""`Bridge`: lets agents on other machines take part in a dispatcher's requests."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from time import monotonic
from typing import Any, Deque, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from .._exceptions import (
    BusError,
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    StateError,
)
from .._routes import Subject
from .._topics import check_subject
from .._waiting import limit_of
from ..bus import Distributer, Subscription
from ..bus._correlation import Correlations, unique_word
from ..dispatcher import ATEDispatcher
from ._protocol import ANSWERS, StrangeMessage, Topics, message, read, subjects
from ._remote import RemoteListener, RemoteProducer

__all__ = ["Bridge"]

logger = logging.getLogger("ate_dispatcher")

MISSED = 3
"""Heartbeats that may fail to come before a host is taken for lost."""

RECENT = 10
"""Heartbeats of which the quickest tells what the clock over there says: clocks drift."""


class _Host:
    """What is known of one host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.every = 1.0
        self.seen = 0.0
        self._ahead: Deque[float] = deque(maxlen=RECENT)

    def tell(self, every: float, now: float) -> None:
        """Take a sign of life: how often there is one, and what the clock over there says."""
        self.every = every
        self.seen = monotonic()
        self._ahead.append(now - self.seen)

    @property
    def ahead(self) -> float:
        """How far its clock is ahead of ours, less the time that its quickest message took."""
        return max(self._ahead)

    @property
    def due(self) -> float:
        """When it is taken for lost."""
        return self.seen + MISSED * self.every


class _Presence:
    """One remote agent: what stands for it in the dispatcher, and which host it is at."""

    def __init__(self, proxy: Union[RemoteProducer, RemoteListener]) -> None:
        self.proxy = proxy
        self.host: Optional[str] = None
        self.expected: Tuple[Subject, ...] = ()
        self.subjects: Tuple[Subject, ...] = ()

    @property
    def kind(self) -> str:
        """What its host calls it."""
        return "listener" if isinstance(self.proxy, RemoteListener) else "producer"


class Bridge:
    """Joins a dispatcher to a bus: agents offered there by an `AgentHost` join its rosters.

    Parameters
    ----------
    dispatcher : ATEDispatcher
        Requests to it reach remote producers like any others, with the time they have left.
    url : str
        The bus; see `ate_dispatcher.bus.Distributer`.
    name : str, optional
        For messages in the log.
    expect : mapping, optional
        Names of remote producers by topic, as in ``{"dc.voltage": ["dmm0"]}``. An expected producer
        keeps its row while it is away: REJECTED, with the reason.
    namespace : str
        Bridges and hosts of one namespace meet.

    Raises
    ------
    BusURLError, MissingExtraError, BusConnectionError
        The bus cannot be reached.
    NameTakenError
        An expected producer has the name of an agent that the dispatcher has already.

    Notes
    -----
    All methods are thread-safe. Arguments and results are JSON (tuples arrive as lists): what is
    not gets an ERROR outcome that names the path to the offending value. The bridge is at work once
    made; use it as a context manager, or `close` it.

    Attributes
    ----------
    late : int
        Answers whose request had ended before they came.
    strangers : int
        Messages on our topics that were none of ours.
    """

    def __init__(
        self,
        dispatcher: ATEDispatcher,
        url: str,
        *,
        name: Optional[str] = None,
        expect: Optional[Mapping[Subject, Iterable[str]]] = None,
        namespace: str = "ate",
    ) -> None:
        if not isinstance(dispatcher, ATEDispatcher):
            raise InvalidTypeError(f"a bridge needs an ATEDispatcher, not {dispatcher!r}")
        self.name = name or f"bridge of {dispatcher.name}"
        self._dispatcher = dispatcher
        self._topics = Topics(namespace)
        self._bus = Distributer(url)
        self._id = unique_word()
        self._process = os.getpid()
        self._correlations = Correlations()
        # Guards who is present; agents are registered under it, user code never runs under it.
        self._lock = threading.Condition()
        self._hosts: Dict[str, _Host] = {}
        self._present: Dict[str, _Presence] = {}
        self._refused: Dict[Tuple[str, str], None] = {}
        self._closed = False
        self._hearing: Optional[Subscription] = None
        # The bus's thread alone writes these two.
        self.late = 0
        self.strangers = 0
        self._watch = threading.Thread(target=self._watch_hosts, name=self.name, daemon=True)
        try:
            self._expect(_by_name(expect or {}))
            self._hearing = self._bus.subscribe(
                self._heard, self._topics.agents, self._topics.bridge(self._id)
            )
            self._watch.start()
            self._bus.publish(message("discover"), self._topics.discover)
        except BaseException:
            self.close()
            raise

    # ---- for users -------------------------------------------------------------------------------

    @property
    def agents(self) -> Dict[str, str]:
        """The remote agents that are there: by name, the name of the host each is at."""
        with self._lock:
            return {
                name: self._hosts[presence.host].name
                for name, presence in self._present.items()
                if presence.host is not None
            }

    def wait_for(self, *names: str, timeout: Optional[float] = None) -> bool:
        """Wait until all these remote agents are there.

        Parameters
        ----------
        *names : str
            Of producers or listeners.
        timeout : float, optional
            Seconds; without it for as long as it takes.

        Returns
        -------
        bool
            False if the time ran out, or the bridge was closed.
        """
        limit = limit_of(timeout)
        left = None if limit is None else max(0.0, limit - monotonic())

        def there() -> bool:
            return all(name in self._present and self._present[name].host for name in names)

        with self._lock:
            self._lock.wait_for(lambda: self._closed or there(), left)
            return not self._closed and there()

    def close(self) -> None:
        """Take the remote agents out of the dispatcher and leave the bus. Twice is once.

        Interrupted, as by Ctrl-C, it is called again: no step of it minds being repeated. In the
        child of a fork it does nothing: work under way and the connection are the parent's.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            present = tuple(self._present.values())
            unwanted = [presence.proxy.lose(f"{self.name} was closed") for presence in present]
        for presence in present:
            self._dispatcher.remove(presence.proxy)
        if self._watch.ident is not None:
            self._watch.join()
        # A broker that is away would keep each of them waiting until its time-out.
        if self._hearing is not None and self._hearing.connected:
            self._call_off(unwanted)
        self._bus.close()

    def __enter__(self) -> Bridge:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Bridge {self.name!r} at {self._bus.url}: {', '.join(self.agents) or 'nobody'}>"

    # ---- who is there ----------------------------------------------------------------------------

    def _expect(self, expected: Dict[str, List[Subject]]) -> None:
        for name, topics in expected.items():
            presence = _Presence(self._proxy("producer", name))
            presence.expected = presence.subjects = tuple(topics)
            self._present[name] = presence
            self._dispatcher.add(presence.proxy, *topics)

    def _proxy(self, kind: str, name: str) -> Union[RemoteProducer, RemoteListener]:
        if kind == "listener":
            return RemoteListener(name, self._send)
        return RemoteProducer(name, self._send, self._id, self._correlations)

    def _announced(self, told: Dict[str, Any]) -> None:
        """Bring what is present up to date with what a host says. The bus's thread."""
        identifier = told["id"]
        refusals = []
        with self._lock:
            if self._closed:
                return
            host = self._hosts.setdefault(identifier, _Host(told["host"]))
            host.tell(float(told["every"]), told["now"])
            offered = {record["name"]: record for record in told["agents"]}
            for name, presence in tuple(self._present.items()):
                if presence.host == identifier and name not in offered:
                    self._lose(name, f"{name!r} has left host {host.name!r}")
            for name, record in offered.items():
                try:
                    self._welcome(identifier, name, record)
                except (NameTakenError, StateError) as error:
                    refusals.append((name, str(error)))
            self._lock.notify_all()
        for name, reason in refusals:
            self._refuse(identifier, host.name, name, reason)

    def _welcome(self, identifier: str, name: str, record: Dict[str, Any]) -> None:
        presence = self._present.get(name)
        kind, topics = record["kind"], tuple(subjects(record))
        if presence is not None and presence.host == identifier and presence.kind != kind:
            self._lose(name, f"{name!r} has made way for a {kind}")
            presence = self._present.get(name)
        if presence is None:
            presence = _Presence(self._proxy(kind, name))
            presence.proxy.arrive(identifier, record["site"], self._hosts[identifier].ahead)
            try:
                self._dispatcher.add(presence.proxy, *topics)
            except NameTakenError:
                holder = self._dispatcher.agents.get(name)
                if holder is None or (
                    isinstance(holder, (RemoteProducer, RemoteListener)) and holder._ate_dismissed
                ):
                    return  # one of ours on its way out: there is room at the next heartbeat
                raise
            except StateError:
                raise
            except RuntimeError as error:  # the system has no thread for it: not a row for nobody
                self._dispatcher.remove(presence.proxy)
                logger.warning("%s: %r waits for another heartbeat: %s", self.name, name, error)
                return
            self._present[name] = presence
        elif presence.host not in (None, identifier):
            raise NameTakenError(
                f"host {self._hosts[str(presence.host)].name!r} has an agent {name!r} already"
            )
        elif presence.kind != kind:
            raise NameTakenError(f"it is expected to be a {presence.kind}")
        else:
            topics = (*presence.expected, *topics)
            self._reregister(presence, topics)
            presence.proxy.arrive(identifier, record["site"], self._hosts[identifier].ahead)
        presence.host = identifier
        presence.subjects = topics

    def _reregister(self, presence: _Presence, topics: Tuple[Subject, ...]) -> None:
        """Follow a change of an agent's topics."""
        proxy = presence.proxy
        for topic in dict.fromkeys(topics):
            if topic not in presence.subjects:
                self._dispatcher.add(proxy, topic)
        for topic in presence.subjects:
            if topic not in topics and isinstance(proxy, RemoteProducer):
                self._dispatcher.deregister_result_producer(proxy, topic)
            elif topic not in topics and isinstance(proxy, RemoteListener):
                self._dispatcher.deregister_result_listener(proxy, topic)

    def _lose(self, name: str, why: str) -> Optional[Tuple[str, str]]:
        """An agent is away: one that is expected keeps its row, others leave. Under the lock."""
        presence = self._present[name]
        presence.host = None
        unwanted = presence.proxy.lose(why)
        if presence.expected:
            self._reregister(presence, presence.expected)
            presence.subjects = presence.expected
        else:
            del self._present[name]
            self._dispatcher.remove(presence.proxy)
        logger.info("%s: %s", self.name, why)
        return unwanted

    def _lose_host(self, identifier: str, why: str) -> List[Optional[Tuple[str, str]]]:
        """All agents of a host are away. Under the lock."""
        self._hosts.pop(identifier, None)
        for key in [key for key in self._refused if key[0] == identifier]:
            del self._refused[key]
        return [
            self._lose(name, f"{name!r} {why}")
            for name, presence in tuple(self._present.items())
            if presence.host == identifier
        ]

    def _call_off(self, unwanted: Iterable[Optional[Tuple[str, str]]]) -> None:
        """Tell hosts, if they still hear, what of ours they need not work on any more."""
        try:
            for host, identifier in filter(None, unwanted):
                if host:
                    self._send(host, message("cancel", id=identifier))
        except (BusError, StateError) as error:  # it ends at its deadline all the same
            logger.debug("%s could not call off: %s", self.name, error)

    def _refuse(self, identifier: str, host: str, name: str, reason: str) -> None:
        """Tell a host, once, that one of its agents cannot take part."""
        with self._lock:
            if (identifier, name) in self._refused:
                return
            self._refused[identifier, name] = None
        logger.warning("%s: agent %r of host %r is refused: %s", self.name, name, host, reason)
        try:
            self._send(identifier, message("refused", agent=name, reason=reason))
        except (BusError, StateError) as error:
            logger.info("%s could not tell host %r: %s", self.name, host, error)

    def _watch_hosts(self) -> None:
        """Take hosts for lost that were silent for too long. A thread of its own."""
        while True:
            unwanted: List[Optional[Tuple[str, str]]] = []
            with self._lock:
                if self._closed:
                    return
                now = monotonic()
                for identifier, host in tuple(self._hosts.items()):
                    if host.due <= now:
                        since = f"{now - host.seen:.1f} s ago"
                        unwanted += self._lose_host(
                            identifier, f"was lost: host {host.name!r} was last heard of {since}"
                        )
                if not unwanted:
                    dues = [host.due for host in self._hosts.values()]
                    self._lock.wait(min(dues) - monotonic() if dues else None)
            self._call_off(unwanted)

    # ---- the bus ---------------------------------------------------------------------------------

    def _send(self, host: str, data: Dict[str, Any]) -> None:
        self._bus.publish(data, self._topics.host(host))

    def _heard(self, data: Any) -> None:
        """Take what comes from hosts. The bus's thread."""
        try:
            kind, told = read(data, "agents", "leave", *ANSWERS)
        except StrangeMessage as error:
            self.strangers += 1
            logger.warning("%s heard a message that is none of ours: %s", self.name, error)
            return
        if kind == "agents":
            self._announced(told)
        elif kind == "leave":
            with self._lock:
                host = self._hosts.get(told["id"])
                if host is not None:
                    self._lose_host(told["id"], f"has left with host {host.name!r}")
                    self._lock.notify_all()
        elif not self._correlations.answer(told["id"], told):
            self.late += 1


def _by_name(expect: Mapping[Subject, Iterable[str]]) -> Dict[str, List[Subject]]:
    if not isinstance(expect, Mapping):
        raise InvalidTypeError(f"expect must be a mapping of topics to names, not {expect!r}")
    found: Dict[str, List[Subject]] = {}
    for topic, names in expect.items():
        check_subject(topic)
        for name in (names,) if isinstance(names, str) else names:
            if not isinstance(name, str) or not name:
                raise InvalidArgumentError(f"an expected producer must be a name, not {name!r}")
            found.setdefault(name, []).append(topic)
    return found
