"""How an agent stands."""

from __future__ import annotations

import enum

__all__ = ["AgentState"]


class AgentState(enum.Enum):
    """How an agent stands: what ``dispatcher.states()`` gives and observers are told of.

    `READY` and `BUSY` are read off when somebody asks; observers hear of the others as they come,
    and of the first `READY`.
    """

    NEW = "new"
    """Its thread was never started."""
    STARTING = "starting"
    """In ``on_start``."""
    READY = "ready"
    BUSY = "busy"
    """In a hook."""
    STALLED = "stalled"
    """Given up by its supervisor: a hook did not come back."""
    FAILED = "failed"
    STOPPED = "stopped"
