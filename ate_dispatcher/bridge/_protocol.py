"""What bridges and agent hosts say to each other: JSON objects, pure functions over them.

Five topics below a namespace (``ate`` if nothing else is said)::

    ate.agents          hosts     -> bridges   agents (who is here, repeated as heartbeat), leave
    ate.discover        bridges   -> hosts     discover (say at once who is there)
    ate.host.<id>       bridges   -> one host  request, cancel, event, refused
    ate.bridge.<id>     hosts     -> a bridge  partial, value, error, rejected, expired

Every object has ``v`` (the version of this protocol) and ``kind``. Unknown fields are ignored, so
that later versions may add some. A host tells what its clock says ``now``, so that a bridge can say
``until`` when, by that clock, work is wanted: the time that a request spends on its way, or waiting
for a bus that is away, counts like any other.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple, Union

from .._exceptions import InvalidArgumentError
from .._routes import Subject
from .._topics import TopicFilter
from .._wording import short
from ..bus._grammar import words_of_topic

__all__ = [
    "ANSWERS",
    "LONGEST",
    "StrangeMessage",
    "Topics",
    "agent_record",
    "message",
    "read",
    "subjects",
]

VERSION = 1

LONGEST = 1e6
"""Seconds that lie between two heartbeats at most."""

LARGEST = 1e300
"""A number beyond it is none of ours: infinite, or a whole one that no float can hold."""

Number = (int, float)
OptionalNumber = (int, float, type(None))
Site = (int, str, type(None))

FIELDS: Dict[str, Dict[str, Tuple[type, ...]]] = {
    "agents": {"host": (str,), "id": (str,), "every": Number, "now": Number, "agents": (list,)},
    "leave": {"id": (str,)},
    "discover": {},
    "refused": {"agent": (str,), "reason": (str,)},
    "request": {
        "id": (str,),
        "reply": (str,),
        "agent": (str,),
        "topic": (str,),
        "args": (list,),
        "kwargs": (dict,),
        "ttl": OptionalNumber,
        "until": OptionalNumber,
    },
    "cancel": {"id": (str,)},
    "event": {"agent": (str,), "outcome": (dict,)},
    "partial": {"id": (str,), "seq": (int,)},
    "value": {"id": (str,), "seq": (int,)},
    "error": {"id": (str,), "seq": (int,), "type": (str,), "text": (str,)},
    "rejected": {"id": (str,), "seq": (int,), "text": (str,)},
    "expired": {"id": (str,), "seq": (int,)},
}

ANSWERS = frozenset(("partial", "value", "error", "rejected", "expired"))

AGENT: Dict[str, Tuple[type, ...]] = {
    "name": (str,),
    "kind": (str,),
    "topics": (list,),
    "filters": (list,),
    "site": Site,
}


class StrangeMessage(ValueError):
    """A message on our topics that is none of ours: its text says why."""


class Topics:
    """The topics of one namespace.

    Parameters
    ----------
    namespace : str
        What they begin with; stations of different namespaces on one broker do not meet.
    """

    def __init__(self, namespace: str) -> None:
        words_of_topic(namespace)
        if not namespace.replace("/", "").replace(".", "").strip():
            raise InvalidArgumentError(f"a namespace must be a topic, not {namespace!r}")
        separator = "/" if "/" in namespace else "."
        self._begin = namespace + separator
        self._separator = separator
        self.agents = f"{self._begin}agents"
        self.discover = f"{self._begin}discover"

    def host(self, identifier: str) -> str:
        """Give where one host listens."""
        return f"{self._begin}host{self._separator}{identifier}"

    def bridge(self, identifier: str) -> str:
        """Give where one bridge listens."""
        return f"{self._begin}bridge{self._separator}{identifier}"


def message(kind: str, **fields: Any) -> Dict[str, Any]:
    """Make a message of one kind."""
    return {"v": VERSION, "kind": kind, **fields}


def read(data: Any, *kinds: str) -> Tuple[str, Dict[str, Any]]:
    """Check what came in; give its kind and the message.

    Raises
    ------
    StrangeMessage
        It is no object, of another version, not of one of these kinds, or a field is missing or of
        the wrong type.
    """
    if not isinstance(data, dict):
        raise StrangeMessage(f"a message must be an object, not {type(data).__name__}")
    if data.get("v") != VERSION:
        raise StrangeMessage(f"version {short(data.get('v'))} is not ours, which is {VERSION}")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise StrangeMessage(f"kind {short(kind)} is none of {', '.join(kinds)}")
    _check_fields(kind, data, FIELDS[kind])
    if kind == "agents":
        if not 0 < data["every"] < LONGEST:
            raise StrangeMessage(f"every {short(data['every'])} is no interval")
        for agent in data["agents"]:
            if not isinstance(agent, dict):
                raise StrangeMessage("an agent must be an object")
            _check_fields("agent", agent, AGENT)
            subjects(agent)
    if kind == "request":
        _check_identifier(data["reply"])
    elif kind in ("agents", "leave"):
        _check_identifier(data["id"])
    return kind, data


def _check_fields(
    what: str, data: Mapping[str, Any], fields: Mapping[str, Tuple[type, ...]]
) -> None:
    for name, kinds in fields.items():
        if name not in data:
            raise StrangeMessage(f"{what} has no {name!r}")
        value = data[name]
        known = isinstance(value, kinds) and not isinstance(value, bool)
        if not known or (isinstance(value, Number) and abs(value) > LARGEST):
            raise StrangeMessage(f"{what}: {name!r} must not be {short(value)}")


def _check_identifier(identifier: str) -> None:
    """What we are told to answer to becomes part of a topic: let it be only what we make."""
    if not identifier or len(identifier) > 64 or set(identifier) - set("0123456789abcdef"):
        raise StrangeMessage(f"{short(identifier)} is no identifier of ours")


def agent_record(
    name: str, kind: str, site: Union[int, str, None], topics: Tuple[Subject, ...]
) -> Dict[str, Any]:
    """Describe one agent for an announcement."""
    return {
        "name": name,
        "kind": kind,
        "site": site,
        "topics": [topic for topic in topics if isinstance(topic, str)],
        "filters": [topic.pattern for topic in topics if isinstance(topic, TopicFilter)],
    }


def subjects(record: Mapping[str, Any]) -> List[Subject]:
    """Read the topics and filters of an agent's description."""
    try:
        found: List[Subject] = [TopicFilter(pattern) for pattern in record["filters"]]
    except (ValueError, TypeError) as error:
        raise StrangeMessage(f"agent: a filter cannot be read: {error}") from None
    for topic in record["topics"]:
        if not isinstance(topic, str) or not topic:
            raise StrangeMessage(f"agent: {short(topic)} is no topic")
        found.append(topic)
    if record["kind"] not in ("producer", "listener") or not record["name"] or not found:
        raise StrangeMessage(f"agent: {short(dict(record))} is none")
    return found
