"""Where an agent is reached, and the tallies its own thread keeps."""

from __future__ import annotations

from typing import Any, Callable, Optional

__all__ = ["Address"]


class Address:
    """One agent as the rest of the library sees it: a name, a site and two ways to post.

    It is the key of a row in a ledger (compared by identity) and is shared freely: `name`, `site`,
    `deliver` and `control` are set once, before the address is published by a registration.
    `running` (what the agent is busy with, or None) and each counter have one writer, the agent's
    own thread, except `dropped` (let go by a bounded mailbox's policy) and `refused` (left behind
    by a listener that ended), which are written under the agent's lock, and `running` of an
    `ExecutorProducer`, who says how its pool's threads write it. `waiting` (what a producer waits
    for before its work begins, or None) has the agent's thread as its only writer too. `alert`
    tells that thread to look up before it takes the next message: priorities are in use, or it is
    to end. Any thread may set it, to True only, before it puts what it is about. Everybody else
    only reads.

    Parameters
    ----------
    name : str
        The agent's name, unique in a dispatcher.
    site : int or str, optional
        The device-under-test position the agent belongs to.
    deliver : callable
        Puts work or an event into the mailbox, under its bound if it has one. Never blocks.
    control : callable
        Puts a control message, never counted against a bound. Never blocks.
    """

    __slots__ = (
        "alert",
        "control",
        "deliver",
        "delivered",
        "dropped",
        "errors",
        "name",
        "refused",
        "running",
        "site",
        "started",
        "waiting",
    )

    def __init__(
        self,
        name: str,
        site: Any = None,
        deliver: Optional[Callable[[Any], None]] = None,
        control: Optional[Callable[[Any], None]] = None,
    ) -> None:
        self.name = name
        self.site = site
        self.deliver = deliver if deliver is not None else _nowhere
        self.control = control if control is not None else _nowhere
        self.started = False
        self.alert = False
        self.running: Any = None
        self.waiting: Any = None
        self.delivered = 0
        self.errors = 0
        self.dropped = 0
        self.refused = 0

    def __repr__(self) -> str:
        site = "" if self.site is None else f" site={self.site!r}"
        return f"<Address {self.name!r}{site}>"


def _nowhere(message: Any) -> None:
    """Stand in for the mailbox of an agent that does not exist."""
