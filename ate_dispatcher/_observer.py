"""Being told what happens, without taking part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from ._outcomes import Outcome
    from ._request import Request
    from ._states import AgentState

__all__ = ["Observer"]


class Observer:
    """Subclass it, override what you want to be told, and give it to ``add_observer``.

    Every hook runs on the dispatcher's callback thread, in the order in which the dispatcher's
    thread saw things happen; one that raises is logged. With no observer added, none of this costs
    anything to speak of; with one, only the hooks that it overrides do.
    """

    # Of how many more requests, outcomes and ends it is told; None for all. Set before it is added;
    # then the dispatcher's thread alone writes it: it counts down, and takes up an `Allow`.
    _ate_left: Optional[int] = None

    def on_request(self, request: Request) -> None:
        """A request was scattered, or found no producer."""

    def on_outcome(self, outcome: Outcome) -> None:
        """An outcome was accepted, of whatever status, `PARTIAL` included."""

    def on_end(self, request: Request) -> None:
        """A request ended."""

    def on_late(self, outcome: Outcome, in_time: bool) -> None:
        """An answer came after its row was closed.

        `in_time` tells that the producer had stamped it before the deadline.
        """

    def on_agent(self, name: str, state: AgentState) -> None:
        """An agent's state changed: STARTING, READY after its start, STALLED, FAILED or STOPPED.

        Told in the order of the changes of one agent; what it does request by request is not.
        """

    def on_listener_error(self, listener: str, event: Any, error: BaseException) -> None:
        """A listener's hook raised; `event` is what it was handling."""
