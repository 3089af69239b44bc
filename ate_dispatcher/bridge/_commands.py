"""The commands ``agent``, ``send`` and ``listen``: the bridge for a person at a terminal."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from typing import Any, Dict, Optional, Sequence

from .._agent import Agent
from .._codec import encode
from .._exceptions import BusURLError, InvalidTypeError
from .._listener import ResultListener
from .._outcomes import Outcome, OutcomeStatus
from .._producer import Producer
from .._routes import Subject
from .._states import AgentState
from .._target import load_class
from .._topics import TopicFilter
from .._waiting import ended_by_signal
from .._words import arguments, escaped, site_of
from ..bus._grammar import is_exact
from ..bus._url import BusURL
from ..dispatcher import ATEDispatcher
from ._bridge import Bridge
from ._host import AgentHost

__all__ = ["listen", "run_agent", "send"]


def run_agent(
    url: str,
    target: str,
    topics: Sequence[str],
    site: Optional[str],
    name: Optional[str],
    namespace: str,
) -> int:
    """Host one producer until Ctrl-C or SIGTERM, or until it ends by itself.

    Parameters
    ----------
    url : str
        The bus.
    target : str
        ``module:Class``; the current folder is looked in first.
    topics : sequence of str
        Topics, or filters if they have wildcards.
    site, name : str, optional
        Given to the class if given here.
    namespace : str
        See `AgentHost`.

    Returns
    -------
    int
        1 if the producer failed.
    """
    options: Dict[str, Any] = {}
    if site is not None:
        options["site"] = site_of(site)
    if name is not None:
        options["name"] = name
    kind = load_class(target, (Producer, ResultListener))
    try:
        agent = kind(**options)
    except TypeError as error:
        given = ", ".join(f"{option}=" for option in options) or "no arguments"
        raise InvalidTypeError(f"{target} cannot be made with {given}: {error}") from error
    with ended_by_signal(), _reachable_host(url, namespace) as host:
        host.add(agent, *map(_subject, topics))
        print(f"{agent.name!r} serves {', '.join(topics)} (Ctrl-C ends it)", flush=True)
        threading.Thread(target=_stop_behind, args=(agent, host), daemon=True).start()
        host.run()
    failed = agent._ate_state() is AgentState.FAILED
    if failed:
        text = f"ate-dispatcher: {agent.name!r} {agent._ate_why_gone()}"
        print(escaped(text), file=sys.stderr)
    return 1 if failed else 0


def send(
    url: str,
    topic: str,
    words: Sequence[str],
    ttl: float,
    expect: Sequence[str],
    wait: float,
    as_json: bool,
    namespace: str,
) -> int:
    """Scatter one request to the agents on a bus and print each outcome as it comes.

    Parameters
    ----------
    words : sequence of str
        Arguments: JSON, or text that is none; ``name=value`` is a keyword.
    ttl : float
        Milliseconds.
    expect : sequence of str
        Producers that must have a row, and that are waited for.
    wait : float
        Seconds to wait for them; without any, the time that agents have to say they are there.

    Returns
    -------
    int
        0 if every producer answered well.
    """
    args, kwargs = arguments(words)
    with ATEDispatcher() as dispatcher, Bridge(
        dispatcher, url, namespace=namespace, expect={topic: expect} if expect else None
    ) as bridge:
        # Nobody's name is known without `expect`: then a name that never comes is waited for.
        bridge.wait_for(*(expect or ("\0nobody",)), timeout=wait)
        with dispatcher.send_request(topic, *args, ttl=ttl, **kwargs) as request:
            for outcome in request:
                print(escaped(_as_json(outcome) if as_json else _as_text(outcome)), flush=True)
        if not request.roster:
            hint = " (memory:// ends with this process)" if url.startswith("memory:") else ""
            print(f"ate-dispatcher: {escaped(request.reason)}{hint}", file=sys.stderr)
        well = bool(request.roster) and len(request.succeeded) == len(request.roster)
        return 0 if well else 1


def listen(url: str, topics: Sequence[str], as_json: bool, namespace: str) -> int:
    """Print every outcome on some topics, of every dispatcher that a bridge joins to the bus."""
    with ended_by_signal(), _reachable_host(url, namespace) as host:
        host.add(_Printer(as_json, host), *map(_subject, topics))
        print(f"listening to {', '.join(topics)} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        host.run()
    return 0


class _Printer(ResultListener):
    """Prints one line an outcome."""

    def __init__(self, as_json: bool, host: AgentHost) -> None:
        super().__init__(name=f"listen-{host._id}")
        self._as_json = as_json
        self._host = host

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Print it."""
        text = _as_json(outcome) if self._as_json else _as_text(outcome, True)
        print(escaped(text), flush=True)


def _reachable_host(url: str, namespace: str) -> AgentHost:
    """Make a host for whoever is in another process, or on another machine."""
    name = f"{socket.gethostname()}:{os.getpid()}"  # to be told from its like on the same bus
    host = AgentHost(url, name=name, namespace=namespace)
    if BusURL(url).scheme == "memory":
        raise BusURLError("memory:// ends with this process: nobody else could reach it")
    return host


def _stop_behind(agent: Agent, host: AgentHost) -> None:
    """Stop a host whose only agent has ended, which would serve nobody. A thread of its own."""
    agent.join()
    host.stop()


def _subject(topic: str) -> Subject:
    """Read a word of the command line: with a wildcard it is a filter."""
    pattern = TopicFilter(topic)
    return topic if is_exact(pattern) else pattern


def _as_text(outcome: Outcome, with_topic: bool = False) -> str:
    good = outcome.status in (OutcomeStatus.OK, OutcomeStatus.PARTIAL)
    what = json.dumps(outcome.value, ensure_ascii=False, default=repr) if good else outcome.reason
    begin = f"{outcome.topic} " if with_topic else ""
    return f"{begin}{outcome.producer}: {'' if good else outcome.status.value + ' '}{what}"


def _as_json(outcome: Outcome) -> str:
    fields = outcome.as_dict()
    for name in ("exception", "sent", "queued", "started", "ended"):
        del fields[name]  # this process's clock and objects mean nothing elsewhere
    return encode(fields).decode("utf-8")
