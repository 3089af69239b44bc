"""Who gets what: the registrations, and the route of a topic worked out from them.

No thread, no clock: the dispatcher's thread is the only one that calls anything here, except that
anybody may read a `Route`, which never changes once made, and ask for the `registrations`.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterable, List, NamedTuple, Tuple, Union

from ._address import Address
from ._topics import TopicFilter, split_topic

__all__ = ["EMPTY", "Hooks", "Route", "Routes", "Subject"]

Subject = Union[str, TopicFilter]


class Hooks(NamedTuple):
    """Which kinds of events a listener asked for by overriding hooks."""

    results: bool
    outcomes: bool
    ends: bool


class Route:
    """Everything the dispatcher's thread needs to serve one topic, worked out in advance.

    Immutable, and rebuilt when a registration touches its topic. The tuples hold bound ``put``
    methods, so that relaying is one call per receiver.

    Attributes
    ----------
    roster : tuple of Address
        The producers, in the order of their registration.
    scatter : tuple of callable
        Their mailboxes, in the same order.
    values : tuple of callable
        Listeners that are told of OK and PARTIAL outcomes: those of results or of outcomes.
    outcomes : tuple of callable
        Listeners that are told of every other outcome.
    ends : tuple of callable
        Listeners that are told of the end of a request.
    """

    __slots__ = ("ends", "outcomes", "roster", "scatter", "values")

    def __init__(
        self,
        roster: Iterable[Address] = (),
        listeners: Iterable[Tuple[Address, Hooks]] = (),
    ) -> None:
        listeners = tuple(listeners)
        self.roster = tuple(roster)
        self.scatter = tuple(address.deliver for address in self.roster)
        self.values = tuple(a.deliver for a, hooks in listeners if hooks.results or hooks.outcomes)
        self.outcomes = tuple(a.deliver for a, hooks in listeners if hooks.outcomes)
        self.ends = tuple(a.deliver for a, hooks in listeners if hooks.ends)


EMPTY = Route()
_NOBODY: Dict[Any, Any] = {}


class Routes:
    """The registrations of one dispatcher.

    Parameters
    ----------
    bound : int
        How many routes of topics without a registration of their own (matched by filters alone)
        are remembered; beyond that they are worked out again.
    """

    def __init__(self, bound: int = 16_384) -> None:
        self._bound = bound
        # Each with the number of its registration, which a roster is sorted by.
        self._producers: Dict[Subject, Dict[Address, int]] = {}
        self._registrations = 0
        self._listeners: Dict[Subject, Dict[Address, Hooks]] = {}
        self._filters: Dict[TopicFilter, None] = {}
        self._subjects: Dict[Address, Dict[Subject, None]] = {}
        self._disabled: FrozenSet[Any] = frozenset()
        self.known: Dict[str, Route] = {}
        """Routes worked out so far; for a quick look before calling `route`."""
        self._matched = 0

    def add_producer(self, address: Address, subject: Subject) -> bool:
        """Register a producer; False if it was registered with that subject already."""
        self._registrations += 1
        table = self._producers.setdefault(subject, {})
        return self._add(table, address, subject, self._registrations)

    def add_listener(self, address: Address, subject: Subject, hooks: Hooks) -> bool:
        """Register a listener; False if it was registered with that subject already."""
        return self._add(self._listeners.setdefault(subject, {}), address, subject, hooks)

    def _add(
        self, table: Dict[Address, Any], address: Address, subject: Subject, what: Any
    ) -> bool:
        if address in table:
            return False
        table[address] = what
        self._subjects.setdefault(address, {})[subject] = None
        if isinstance(subject, TopicFilter):
            self._filters[subject] = None
        self._forget(subject)
        return True

    def remove(self, address: Address, subject: Subject) -> bool:
        """Take one registration back; False if there was none."""
        found = False
        tables: Tuple[Dict[Subject, Dict[Address, Any]], ...] = (self._producers, self._listeners)
        for table in tables:
            members = table.get(subject)
            if members is not None and address in members:
                found = True
                del members[address]
                if not members:
                    del table[subject]
        if not found:
            return False
        subjects = self._subjects[address]
        del subjects[subject]
        if not subjects:
            del self._subjects[address]
        if isinstance(subject, TopicFilter) and not (
            subject in self._producers or subject in self._listeners
        ):
            del self._filters[subject]
        self._forget(subject)
        return True

    def subjects(self, address: Address) -> Tuple[Subject, ...]:
        """What this agent is registered with, in the order of registration."""
        return tuple(self._subjects.get(address, ()))

    def registrations(self) -> List[Tuple[Subject, Tuple[Address, ...], Tuple[Address, ...]]]:
        """List what is registered, each subject with its producers and listeners. Any thread.

        Each table is copied before it is gone through: one call on a dict, which is atomic under
        the global interpreter lock, and without it under the dict's own.
        """
        producers, listeners = self._producers.copy(), self._listeners.copy()
        return [
            (
                subject,
                tuple(producers.get(subject, _NOBODY).copy()),
                tuple(listeners.get(subject, _NOBODY).copy()),
            )
            for subject in {**producers, **listeners}
        ]

    def addresses(self) -> Tuple[Address, ...]:
        """Every registered agent, in the order of first registration."""
        return tuple(self._subjects)

    def set_disabled(self, sites: FrozenSet[Any]) -> None:
        """Leave the producers of these sites out of every roster."""
        self._disabled = sites
        self._forget_all()

    def route(self, topic: str) -> Route:
        """Give the route of a topic as the registrations are now."""
        return self.known.get(topic) or self._work_out(topic)

    def _work_out(self, topic: str) -> Route:
        registered = topic in self._producers or topic in self._listeners
        if not registered and not self._filters:
            return EMPTY
        words = split_topic(topic)
        subjects: List[Subject] = [f for f in self._filters if f.matches_words(words)]
        if registered:
            subjects.insert(0, topic)
        producers: Dict[Address, int] = {}
        listeners: Dict[Address, Hooks] = {}
        for subject in subjects:
            for address, number in self._producers.get(subject, {}).items():
                producers[address] = min(number, producers.get(address, number))
            listeners.update(self._listeners.get(subject, {}))
        enabled = (address for address in producers if address.site not in self._disabled)
        roster = sorted(enabled, key=producers.__getitem__)
        route = Route(roster, listeners.items()) if subjects else EMPTY
        if not registered:
            if self._matched >= self._bound:
                self._forget_all()
            self._matched += 1
        self.known[topic] = route
        return route

    def _forget(self, subject: Subject) -> None:
        if isinstance(subject, TopicFilter):
            self._forget_all()
        else:
            self.known.pop(subject, None)

    def _forget_all(self) -> None:
        self.known.clear()
        self._matched = 0
