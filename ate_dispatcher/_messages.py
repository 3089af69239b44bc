"""What is put into a dispatcher's mailbox beside requests and outcomes: small slotted classes."""

from __future__ import annotations

from math import inf
from typing import Any, Callable, FrozenSet, Optional, Tuple

from ._routes import Hooks, Subject

__all__ = [
    "TICK",
    "Attach",
    "Cancel",
    "Departed",
    "Deregister",
    "Detach",
    "Gone",
    "Observe",
    "Probe",
    "Register",
    "Sites",
    "Stop",
    "Tick",
]


class Attach:
    """Ask the dispatcher's thread to let a reader follow a request."""

    __slots__ = ("reader", "request")

    def __init__(self, request: Any, reader: Any) -> None:
        self.request = request
        self.reader = reader


class Detach:
    """Ask the dispatcher's thread to let a reader go that need not follow a request any more."""

    __slots__ = ("reader", "request")

    def __init__(self, request: Any, reader: Any) -> None:
        self.request = request
        self.reader = reader


class Cancel:
    """Ask the dispatcher's thread to end a request."""

    __slots__ = ("request",)

    def __init__(self, request: Any) -> None:
        self.request = request


class Probe:
    """Ask the dispatcher's thread to call `answer` once all sent before it is scattered."""

    __slots__ = ("answer",)

    def __init__(self, answer: Callable[[], None]) -> None:
        self.answer = answer


class Register:
    """Enter an agent into the routes; `hooks` for a listener, None for a producer."""

    __slots__ = ("agent", "hooks", "subject")

    def __init__(self, agent: Any, subject: Subject, hooks: Optional[Hooks]) -> None:
        self.agent = agent
        self.subject = subject
        self.hooks = hooks


class Deregister:
    """Take an agent out of the routes: from one subject, or from all for None."""

    __slots__ = ("agent", "passed", "stop", "subject")

    def __init__(
        self, agent: Any, subject: Optional[Subject], passed: Callable[[], None], stop: bool
    ) -> None:
        self.agent = agent
        self.subject = subject
        self.passed = passed
        self.stop = stop


class Gone:
    """An agent's thread has ended its loop."""

    __slots__ = ("agent",)

    def __init__(self, agent: Any) -> None:
        self.agent = agent


class Departed:
    """A deregistered listener has handled the events it still had."""

    __slots__ = ("agent",)

    def __init__(self, agent: Any) -> None:
        self.agent = agent


class Observe:
    """From here on tell these observers."""

    __slots__ = ("observers",)

    def __init__(self, observers: Tuple[Any, ...]) -> None:
        self.observers = observers


class Allow:
    """From here on tell an observer of so many more requests, outcomes and ends."""

    __slots__ = ("left", "observer")

    def __init__(self, observer: Any, left: int) -> None:
        self.observer = observer
        self.left = left


class Sites:
    """From here on requests pass over the agents of these sites."""

    __slots__ = ("disabled",)

    def __init__(self, disabled: FrozenSet[Any]) -> None:
        self.disabled = disabled


class Stop:
    """A message: end, by `limit` (a point on the real clock) at the latest.

    With `abort` all producers are made safe, those that another dispatcher has too.
    """

    __slots__ = ("abort", "drain", "limit")

    def __init__(self, drain: bool, limit: Optional[float], abort: bool = False) -> None:
        self.abort = abort
        self.drain = drain
        self.limit = inf if limit is None else limit


class Tick:
    """Only wakes the dispatcher's thread: a manual clock moved on, a fence passed."""


TICK = Tick()
