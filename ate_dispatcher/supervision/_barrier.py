"""Sites that come together for what is done once for all of them."""

from __future__ import annotations

import copy
import threading
from math import inf
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from typing import Any, Callable, Iterable, List, Optional, Tuple

from .._agent import FATAL
from .._checks import check_seconds, check_sites
from .._exceptions import (
    InvalidArgumentError,
    InvalidTypeError,
    SiteBarrierError,
    WorkCalledOffError,
)
from .._messages import Attach, Detach
from .._outcomes import Outcome, OutcomeStatus
from .._request import Request, current_request, working_for
from ._meeting import Arrival, Meeting, Rendezvous, missing_words

__all__ = ["SiteBarrier"]


class SiteBarrier:
    """Runs an action once when every active site has come with the same arguments.

    For what the sites share: one chamber, one prober, one handler. Call it from producers' hooks;
    each call waits for the other sites and gives what the action gave, or raises what it raised.
    The action runs on the thread of the site that came last.

    Parameters
    ----------
    action : callable
        Called with the arguments that all sites came with.
    sites : iterable of int or str, optional
        Who takes part. If not given, the sites among the producers that the request went to, so
        that sites which are disabled or failed at the dispatcher are not waited for.
    margin : float
        Seconds before the deadline at which a site gives up waiting, so that its outcome is an
        ERROR that names who is missing, and no mere TIMEOUT.

    Notes
    -----
    Thread-safe. A site leaves a meeting when none of its producers is at work on the request any
    more, and all later ones when it is disabled. When one site gives up (deadline or cancel), the
    meeting is over for all that wait. Sites that come for different requests meet, too: let one
    request end before the next that comes to the same barrier. Neither the action nor a comparison
    of arguments runs under the barrier's lock.

    Examples
    --------
    >>> soak = SiteBarrier(chamber.set_temperature)
    >>> class Slot(Producer):
    ...     def produce_dispatcher_output(self, topic, celsius):
    ...         soak(celsius)  # once for all sites
    ...         return self.dmm.read()
    """

    def __init__(
        self,
        action: Callable[..., Any],
        sites: Optional[Iterable[Any]] = None,
        *,
        margin: float = 0.05,
    ) -> None:
        if not callable(action):
            raise InvalidTypeError(f"the action must be callable, not {action!r}")
        if not check_seconds(margin, "margin") >= 0:
            raise InvalidArgumentError(f"margin must not be negative, it is {margin}")
        listed = None if sites is None else check_sites(sites)
        if listed == ():
            raise InvalidArgumentError("a SiteBarrier needs at least one site")
        self._action = action
        self._margin = margin
        self._lock = threading.Lock()
        self._rendezvous = Rendezvous(listed)

    # ---- for users -----------------------------------------------------------------------------

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Wait for the other sites and give the action's result. In a producer's hook.

        Raises
        ------
        SiteBarrierError
            Who is missing, or who came with other arguments; or this site has no business here.
        WorkCalledOffError
            The request was called off.
        """
        request = current_request()
        arrival = Arrival(_own_site(), args, kwargs, _sites_of(request), SimpleQueue())
        with self._lock:
            meeting = self._rendezvous.arrive(arrival)
            complete = self._rendezvous.take() is not None
        own: Any = _HOLD if complete else self._wait(request, meeting, arrival)
        if own is _HOLD:
            self._hold(meeting, arrival)
            own = None
        error = own or meeting.error
        if error is None:
            return meeting.value
        if error is not own and meeting.holder is not arrival:
            error = _own_copy(error)
        # Each of these leads back to the error, whose traceback has this frame: a cycle.
        del request, arrival, meeting, own
        try:
            raise error
        finally:
            del error

    def disable(self, site: Any) -> None:
        """Go on without a site, from the present meeting on; if it waits, it gets an error."""
        with self._lock:
            arrival = self._rendezvous.disable(site)
            if arrival is not None:
                arrival.inbox.put(_SENT_AWAY)
            self._have_held(self._rendezvous.take())

    def enable(self, site: Any) -> None:
        """Wait for a site again."""
        with self._lock:
            self._rendezvous.enable(site)

    @property
    def waiting(self) -> Tuple[Any, ...]:
        """The sites that wait at this moment, in the order they came."""
        with self._lock:
            return tuple(self._rendezvous.meeting.arrivals)

    # ---- meetings ------------------------------------------------------------------------------

    def _wait(self, request: Request, meeting: Meeting, arrival: Arrival) -> Any:
        """Wait until the meeting has ended, or end it, following the request meanwhile.

        Gives None, or what this site alone is to raise, or `_HOLD` if it is to run the action.
        """
        reader = _Reader(arrival.inbox)
        request._home.post(Attach(request, reader))
        try:
            return self._hear(request, meeting, arrival)
        finally:
            request._home.post(Detach(request, reader))

    def _hear(self, request: Request, meeting: Meeting, arrival: Arrival) -> Any:
        """Do what the inbox says, until it says that the wait is over; as `_wait`."""
        inbox: SimpleQueue[Any] = arrival.inbox
        remaining = request.remaining()
        patience = remaining - min(self._margin, remaining / 2)
        timer = getattr(request._home.clock, "call_after", None)
        if timer is not None:  # a manual clock
            timer(patience, lambda: inbox.put(_GIVE_UP))
            patience = inf
        limit = monotonic() + patience
        while True:
            try:
                message = inbox.get(True, min(max(0.0, limit - monotonic()), TIMEOUT_MAX))
            except Empty:
                message = _GIVE_UP
            if message is _ENDED:
                return None
            if message is _HOLD:
                return _HOLD
            if message is _SENT_AWAY:
                return SiteBarrierError(f"site {arrival.site!r} was disabled while it waited")
            if message is _GIVE_UP or message is _CALLED_OFF:
                return self._give_up(request, meeting, arrival)
            if isinstance(message, Outcome):
                self._one_less(request, meeting, message)

    def _hold(self, meeting: Meeting, arrival: Arrival) -> None:
        """Run the action, on the thread of the site whose arrival it is, and tell the others."""
        try:
            differing = meeting.differing()
            if differing:
                raise SiteBarrierError(differing)
            meeting.value = self._action(*arrival.args, **arrival.kwargs)
        except BaseException as error:
            trace = error.__traceback__
            meeting.error = error.with_traceback(trace and trace.tb_next)
        self._tell(meeting, arrival)
        # The traceback's frames lead back to this one, and the meeting to the traceback: a cycle.
        meeting = arrival = trace = None  # type: ignore[assignment]

    def _give_up(self, request: Request, meeting: Meeting, arrival: Arrival) -> Any:
        """End a meeting that cannot come about any more, unless it is being held; as `_wait`."""
        with self._lock:
            present = meeting is self._rendezvous.meeting and arrival.site in meeting.arrivals
            if present:
                meeting.missing = self._rendezvous.missing()
                self._rendezvous.close()
        error = SiteBarrierError("the action was still running when the deadline came")
        if meeting.missing is not None:  # two that give up at once find the words each by itself
            error = SiteBarrierError(_no_meeting(meeting, meeting.missing))
        if present:
            meeting.error = error
            self._tell(meeting, arrival)
        elif not meeting.ended and _chosen(arrival.inbox):
            return _HOLD
        if request.cancelled:
            return WorkCalledOffError(f"the request on {request.topic!r} is no longer wanted")
        return None if meeting.ended else error

    def _one_less(self, request: Request, meeting: Meeting, outcome: Outcome) -> None:
        """A producer has answered: if it was its site's last, the others go on without it."""
        site = outcome.site
        if site is None:
            return
        rows = request._rows
        if any(a.site == site and not isinstance(rows.get(a), Outcome) for a in request._roster):
            return
        with self._lock:
            self._rendezvous.leave(meeting, site, f"{outcome.producer}: {outcome.status.value}")
            if meeting is self._rendezvous.meeting:
                self._have_held(self._rendezvous.take())

    def _have_held(self, meeting: Optional[Meeting]) -> None:
        """Have a meeting that became complete by somebody's leaving held by who came last.

        Under the lock, so that who gives up, and finds the meeting taken, finds this as well.
        """
        if meeting is not None:
            last = tuple(meeting.arrivals.values())[-1]
            last.inbox.put(_HOLD)

    def _tell(self, meeting: Meeting, but: Arrival) -> None:
        meeting.holder = but
        meeting.ended = True
        for arrival in tuple(meeting.arrivals.values()):
            if arrival is not but:
                arrival.inbox.put(_ENDED)


class _Reader:
    """Follows a request for a site that waits; called on the dispatcher's thread."""

    def __init__(self, inbox: SimpleQueue[Any]) -> None:
        self._put = inbox.put

    def push(self, outcome: Outcome) -> None:
        if outcome.status is not OutcomeStatus.PARTIAL:  # nobody leaves by a value of a stream
            self._put(outcome)

    def finish(self) -> None:
        self._put(_CALLED_OFF)


_ENDED, _HOLD, _SENT_AWAY, _GIVE_UP, _CALLED_OFF = (object() for _ in range(5))


def _chosen(inbox: SimpleQueue[Any]) -> bool:
    """Whether a site that gives up has been chosen, a moment ago, to hold the meeting."""
    while True:
        try:
            if inbox.get_nowait() is _HOLD:
                return True
        except Empty:
            return False


def _no_meeting(meeting: Meeting, missing: Iterable[Any]) -> str:
    try:
        differing = meeting.differing()
    except Exception as error:
        differing = f"the arguments cannot be compared: {error!r}"
    words = ("the sites did not come together", missing_words(missing, meeting.left), differing)
    return "; ".join(word for word in words if word)


def _own_site() -> Any:
    worker = working_for.get()
    return (worker.address if hasattr(worker, "address") else worker).site


def _sites_of(request: Request) -> List[Any]:
    return [address.site for address in request._roster if address.site is not None]


def _own_copy(error: BaseException) -> BaseException:
    """Give an error for one more thread to raise: each thread writes its traceback into its own."""
    if isinstance(error, FATAL):  # that ends the agent that the action ran on alone
        return SiteBarrierError(f"the action ended the thread it ran on: {error!r}")
    try:
        own = copy.copy(error)
    except Exception:
        return error
    if type(own) is not type(error):
        return error
    # Not by the error's own class: that of a frozen dataclass lets nothing be set.
    BaseException.__setattr__(own, "__cause__", error.__cause__)
    return own.with_traceback(None)
