"""``memory://name``: a bus inside this process. The reference for every other driver."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import Callable, ClassVar, Deque, Dict, Iterable, List, Optional, Sequence, Tuple

from ..._topics import TopicFilter
from .._driver import Capabilities, Driver, Inbox
from .._grammar import Words, is_exact
from .._url import BusURL

__all__ = ["MemoryDriver"]

Message = Tuple[Words, bytes]


class _Group:
    """The members that share the messages of one filter, and what waits for them."""

    def __init__(self) -> None:
        self.waiting: Deque[Message] = deque()
        self.idle: Dict[_Member, None] = {}
        """Members without a message in hand, the longest waiting first."""


class _Member:
    """One subscription's part in one group."""

    def __init__(self, inbox: Inbox, via: int) -> None:
        self.inbox = inbox
        self.via = via
        self.in_hand: Optional[Message] = None


class _Hub:
    """What all drivers of one name share. One lock; held for a few steps, never for a callback."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.subscribers: Dict[object, Tuple[Sequence[TopicFilter], Inbox]] = {}
        self.groups: Dict[Tuple[str, TopicFilter], _Group] = {}
        self.exact: Dict[Words, int] = {}

    def publish(self, message: Message) -> None:
        """Hand a message to everybody; under the lock, so that all see one order."""
        words, payload = message
        with self.lock:
            for filters, inbox in self.subscribers.values():
                if any(pattern.matches_words(words) for pattern in filters):
                    inbox.put(words, payload)
            for (_, pattern), group in self.groups.items():
                if pattern.matches_words(words):
                    group.waiting.append(message)
                    self.serve(group)

    def serve(self, group: _Group) -> None:
        """Give each idle member a message, one in hand at a time, so that the quick do more."""
        while group.waiting and group.idle:
            member = next(iter(group.idle))
            del group.idle[member]
            message = group.waiting.popleft()
            member.in_hand = message
            done = partial(self.handled, group, member, message)
            member.inbox.put(*message, via=member.via, done=done)

    def handled(self, group: _Group, member: _Member, message: Message) -> None:
        """A member has done with its message, and takes the next."""
        with self.lock:
            if member.in_hand is message:  # otherwise it left meanwhile
                member.in_hand = None
                group.idle[member] = None
                self.serve(group)

    def leave(self, group: _Group, member: _Member) -> None:
        """A member goes; what it had in hand and did not handle is another's."""
        group.idle.pop(member, None)
        if member.in_hand is not None:
            group.waiting.appendleft(member.in_hand)
            member.in_hand = None
        self.serve(group)


_hubs: Dict[str, _Hub] = {}
_hubs_lock = threading.Lock()


class MemoryDriver(Driver):
    """Publishers and subscribers of one name in one process; a name lasts as long as its users."""

    scheme = "memory"
    capabilities: ClassVar[Capabilities] = Capabilities(
        delivery="at most once",
        group_delivery="at least once",
        backlog=True,
        order="publisher",
        introspection=True,
    )

    def __init__(self, url: BusURL) -> None:
        super().__init__(url)
        self._name = url.hosts[0][0] if url.hosts else ""

    def connect(self) -> None:
        """Join the hub of that name, or make it."""
        with _hubs_lock:
            self._hub = _hubs.setdefault(self._name, _Hub())
            self._hub.users += 1

    def close(self) -> None:
        """Leave the hub; the last one takes it along, backlogs and all."""
        with _hubs_lock:
            self._hub.users -= 1
            if not self._hub.users:
                _hubs.pop(self._name, None)

    def publish(self, words: Words, payload: bytes) -> None:
        """Hand it to every inbox."""
        self._hub.publish((words, payload))

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Enter the inbox among the subscribers, or as a member of the group of each filter."""
        hub, key = self._hub, object()
        exact = [pattern.words for pattern in filters if is_exact(pattern)]
        members: List[Tuple[_Group, _Member]] = []
        with hub.lock:
            for words in exact:
                hub.exact[words] = hub.exact.get(words, 0) + 1
            if not group:
                hub.subscribers[key] = (filters, inbox)
            for via, pattern in enumerate(filters if group else ()):
                shared = hub.groups.setdefault((group, pattern), _Group())
                member = _Member(inbox, via)
                members.append((shared, member))
                shared.idle[member] = None
                hub.serve(shared)

        def leave() -> None:
            with hub.lock:
                for words in exact:
                    hub.exact[words] -= 1
                    if not hub.exact[words]:
                        del hub.exact[words]
                hub.subscribers.pop(key, None)
                for shared, member in members:
                    hub.leave(shared, member)

        return leave

    def count(self, words: Words) -> int:
        """Tell how many subscribers a topic has."""
        with self._hub.lock:
            return self._hub.exact.get(words, 0)

    def topics(self) -> Iterable[Words]:
        """List the topics with subscribers."""
        with self._hub.lock:
            return tuple(self._hub.exact)
