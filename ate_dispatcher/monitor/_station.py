"""A look at a dispatcher: who is there, who does what, who is told."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .._agent import Agent
from .._outcomes import Outcome
from .._statistics import ListenerStatistics, ProducerStatistics
from ..dispatcher import ATEDispatcher
from ._text import shortened

__all__ = ["MOST", "NAME", "STOPPED", "Look", "Station", "look"]

MOST = 300
"""Topics, producers and listeners that are listed; of more, how many there are is told."""

NAME = 120
"""Characters of a name or a topic that are shown."""

STOPPED = "stopped"

Station = Dict[str, Any]


class Look(NamedTuple):
    """What a look at a dispatcher gives."""

    station: Station
    """All of it as JSON; times in seconds since the epoch."""
    answers: Dict[str, Tuple[int, int]]
    """By producer: outcomes so far, values of streams among them, and those that are not good."""


def look(dispatcher: ATEDispatcher, offset: float) -> Look:
    """Describe a dispatcher as it stands. Any thread; nobody waits for it.

    A number is true at some instant of the call, as in `ATEDispatcher.statistics`. What leaves
    between two of the lines below is left out.

    Parameters
    ----------
    offset : float
        What makes a reading of the dispatcher's clock seconds since the epoch.
    """
    statistics = dispatcher._counted({})  # the open requests are not gone through
    agents = dispatcher.agents
    producers, listeners = statistics.producers, statistics.listeners
    station = {
        "name": shortened(dispatcher.name, NAME),
        "state": _state(dispatcher),
        "open": statistics.open,
        "ended": {status.value: count for status, count in statistics.ended.items()},
        "lates": statistics.lates,
        "producers": [
            _producer(agents[name], producers[name], offset)
            for name in list(producers)[:MOST]
            if name in agents
        ],
        "producer_count": len(producers),
        "listeners": [
            _listener(agents[name], listeners[name])
            for name in list(listeners)[:MOST]
            if name in agents
        ],
        "listener_count": len(listeners),
        **_topics(dispatcher),
    }
    answers = {
        name: (each.requests + each.partials, each.requests - each.ok)
        for name, each in producers.items()
    }
    return Look(station, answers)


def _state(dispatcher: ATEDispatcher) -> str:
    if dispatcher.is_alive():
        return "running"
    return STOPPED if dispatcher.ident is not None else "not started"


def _producer(agent: Agent, statistics: ProducerStatistics, offset: float) -> Station:
    p50, p99 = statistics.service
    return {
        "name": shortened(agent.name, NAME),
        "site": agent._ate_address.site,
        "state": agent._ate_state().value,
        "busy": _busy(agent, offset),
        "depth": statistics.depth,
        "ok": statistics.ok,
        "partials": statistics.partials,
        "errors": statistics.errors,
        "timeouts": statistics.timeouts,
        "others": statistics.cancelled + statistics.rejected + statistics.not_needed,
        "lates": statistics.lates,
        "p50": None if p50 is None else round(p50, 6),
        "p99": None if p99 is None else round(p99, 6),
    }


def _listener(agent: Agent, statistics: ListenerStatistics) -> Station:
    return {
        "name": shortened(agent.name, NAME),
        "state": agent._ate_state().value,
        "depth": statistics.depth,
        "delivered": statistics.delivered,
        "dropped": statistics.dropped,
        "errors": statistics.errors,
    }


def _busy(agent: Agent, offset: float) -> Optional[List[Any]]:
    """Give topic, since when, and what is waited for in words, if anything; None when idle.

    The agent's thread writes both attributes; each is read once, and what it refers to is kept.
    """
    address = agent._ate_address
    wait = address.waiting
    if wait is not None:
        words = shortened(wait.describe(), NAME)
        return [shortened(wait.request.topic, NAME), round(wait.since + offset, 3), words]
    request = address.running
    if request is None:
        return None
    row = request._rows.get(address)
    since = row.started if isinstance(row, Outcome) else row
    begun = round(since + offset, 3) if isinstance(since, float) else None
    return [shortened(request.topic, NAME), begun, ""]


def _topics(dispatcher: ATEDispatcher) -> Station:
    registrations = dispatcher._routes.registrations()
    topics = [
        {
            "topic": shortened(subject if isinstance(subject, str) else subject.pattern, NAME),
            "filter": not isinstance(subject, str),
            "producers": [shortened(address.name, NAME) for address in producers[:MOST]],
            "listeners": [shortened(address.name, NAME) for address in listeners[:MOST]],
        }
        for subject, producers, listeners in registrations[:MOST]
    ]
    return {"topics": topics, "topic_count": len(registrations)}
