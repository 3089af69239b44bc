"""Playing a recording back to listeners."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, NamedTuple, Optional, Tuple, Union

from .._callbacks import local
from .._exceptions import DeadlockError, InvalidArgumentError, InvalidTypeError, StateError
from .._listener import ResultListener
from .._outcomes import OutcomeStatus
from ._events import Event, Gap, RecordedRequest
from ._formats import read

if TYPE_CHECKING:
    import os

__all__ = ["ReplayReport", "replay"]

AHEAD = 1000
"""Events that are read while listeners still have to do with earlier ones."""


class ReplayReport(NamedTuple):
    """What `replay` did."""

    events: int
    """Events of the recording: outcomes and ends."""
    gaps: Tuple[Gap, ...]
    """Where the recording says that something is missing."""
    errors: int
    """What the listeners' hooks raised meanwhile."""


def replay(
    path: Union[str, os.PathLike[str]],
    listeners: Iterable[ResultListener],
    *,
    speed: Optional[float] = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Any] = time.sleep,
) -> ReplayReport:
    """Give listeners the events of a recording, in the recorded order.

    They get them as from a dispatcher: in their mailboxes, so that every hook runs on the
    listener's own thread. Listeners that were not started are started, and stopped at the end.
    Returns when all of them have done with everything, or have stopped meanwhile.

    Parameters
    ----------
    path : path-like
        A recording, of any format.
    listeners : iterable of ResultListener
    speed : float, optional
        1.0 keeps the time between events as it was recorded, 2.0 halves it; as fast as the
        listeners take them if not given.
    clock, sleep : callable
        What the time between events is kept with, in seconds; on the calling thread.

    Raises
    ------
    NotARecordingError, FileNotFoundError
        As `read` does, before any listener is started.
    DeadlockError
        One of the listeners calls it, on its own thread.
    StateError
        One of the listeners has stopped, or was told to.
    """
    if speed is not None:
        if isinstance(speed, bool) or not isinstance(speed, (int, float)):
            raise InvalidTypeError(f"speed must be a number, not {speed!r}")
        if not 0 < speed < float("inf"):
            raise InvalidArgumentError(f"speed must be positive and finite, not {speed!r}")
    audience = _audience(listeners)
    events = read(path)
    own = [listener for listener in audience if not listener._ate_begun]
    errors = sum(listener._ate_address.errors for listener in audience)
    started: List[ResultListener] = []
    try:
        for listener in own:
            listener._ate_check_hooks()
            listener.start()
            started.append(listener)
        count, gaps = _play(events, audience, speed, clock, sleep)
    finally:
        for listener in started:
            listener.stop()
        for listener in started:
            listener.join()
    errors = sum(listener._ate_address.errors for listener in audience) - errors
    return ReplayReport(count, gaps, errors)


def _audience(listeners: Iterable[ResultListener]) -> Tuple[ResultListener, ...]:
    if isinstance(listeners, ResultListener):
        raise InvalidTypeError(f"listeners must be a list of listeners: [{listeners.name}]")
    audience = tuple(dict.fromkeys(listeners))
    for listener in audience:
        if not isinstance(listener, ResultListener):
            raise InvalidTypeError(f"{listener!r} is no ResultListener")
        if getattr(local, "role", None) is listener:
            raise DeadlockError(f"{listener.name!r} would wait for events it must handle itself")
        if _stopped(listener):
            raise StateError(
                f"{listener.name!r} has stopped, it would hear nothing: replay to a new listener"
            )
    return audience


def _stopped(listener: ResultListener) -> bool:
    return listener._ate_dismissed or listener._ate_gone


def _play(
    events: Iterable[Event],
    audience: Tuple[ResultListener, ...],
    speed: Optional[float],
    clock: Callable[[], float],
    sleep: Callable[[float], Any],
) -> Tuple[int, Tuple[Gap, ...]]:
    hooks = [(listener._ate_deliver, listener._ate_hooks()) for listener in audience]
    count = 0
    gaps: List[Gap] = []
    pace = None if speed is None else _Pace(speed, clock, sleep)
    for event in events:
        if isinstance(event, Gap):
            gaps.append(event)
            continue
        if pace is not None:
            pace.keep(event.time)
        if audience and all(map(_stopped, audience)):
            break
        ends = isinstance(event, RecordedRequest)
        good = event.status in (OutcomeStatus.OK, OutcomeStatus.PARTIAL)
        for deliver, (for_results, for_outcomes, for_ends) in hooks:
            if for_ends if ends else (for_outcomes or (for_results and good)):
                deliver(event)
        count += 1
        if count % AHEAD == 0:
            _wait_for(audience)
    _wait_for(audience)
    return count, tuple(gaps)


class _Pace:
    """Keeps the recorded time between events; from one recorder to the next none passes back."""

    def __init__(
        self, speed: float, clock: Callable[[], float], sleep: Callable[[float], Any]
    ) -> None:
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._last: Optional[float] = None
        self._due = 0.0

    def keep(self, recorded: float) -> None:
        """Wait until it is the time of what was recorded then."""
        if self._last is None:
            self._due = self._clock()
        else:
            self._due += max(0.0, recorded - self._last) / self._speed
        self._last = recorded
        left = self._due - self._clock()
        if left > 0:
            self._sleep(left)


def _wait_for(listeners: Iterable[ResultListener]) -> None:
    """Return when everything so far is done: in order, so one after the other will do."""
    for listener in listeners:
        passed = threading.Event()
        listener._ate_fence(passed.set)
        passed.wait()
