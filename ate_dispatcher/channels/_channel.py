"""One channel: which callbacks its events go to."""

from __future__ import annotations

import fnmatch
import re
from typing import Any, Callable, Dict, Tuple

from .._topics import split_topic

__all__ = ["Callback", "Channel", "prefixed"]

Callback = Callable[["Channel", str, Any], Any]


class Channel:
    """A channel and what is registered there; made by ``Channels.register``.

    Attributes
    ----------
    name : str
        With the namespace before it.
    malformed, errors : int
        Messages that were no events; callbacks that raised. Written by the channel's subscription.

    Notes
    -----
    Reading is thread-safe. ``Channels`` writes, under its lock: the table is replaced whole, so who
    reads it sees all of a registration or nothing.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.malformed = self.errors = 0
        # By pattern: what tells the events that it matches, and whom they go to.
        self._callbacks: Dict[str, Tuple[Callable[[str], Any], Tuple[Callback, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Channel {self.name!r}, events: {', '.join(self._callbacks) or 'none'}>"

    def __str__(self) -> str:
        return self.name

    @property
    def events(self) -> Tuple[str, ...]:
        """The patterns of events that somebody is registered for."""
        return tuple(self._callbacks)

    def callbacks(self, event: str) -> Tuple[Tuple[str, Callback], ...]:
        """List whom an event goes to, in the order of registration of the patterns."""
        return tuple(
            (pattern, callback)
            for pattern, (matches, callbacks) in self._callbacks.items()
            if matches(event)
            for callback in callbacks
        )

    def _add(self, event: str, callback: Callback) -> None:
        matches, known = self._callbacks.get(event, _NOBODY)
        if callback not in known:
            matches = matches or re.compile(fnmatch.translate(event)).match
            self._callbacks = {**self._callbacks, event: (matches, (*known, callback))}

    def _remove(self, event: str, callback: Callback) -> bool:
        """Take a callback away; tell whether it was there."""
        matches, known = self._callbacks.get(event, _NOBODY)
        if callback not in known:
            return False
        left = tuple(own for own in known if own != callback)
        table = {**self._callbacks, event: (matches, left)}
        self._callbacks = {pattern: own for pattern, own in table.items() if own[1]}
        return True


_NOBODY: Any = (None, ())


def prefixed(namespace: str, name: str) -> str:
    """Put a namespace before a channel's name, unless it is there already.

    Both are compared by their words, so ``rack/cells`` has the namespace ``rack``.
    """
    if not namespace:
        return name
    first, words = split_topic(namespace), split_topic(name)
    if words[: len(first)] == first and len(words) > len(first):
        return name
    return ("/" if "/" in name or "/" in namespace else ".").join((*first, *words))
