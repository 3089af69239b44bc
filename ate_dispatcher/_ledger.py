"""A request's roster with its outcomes: who may start, what counts, when it has ended.

The rules of C1 to C4 in one plain object. It holds no thread and no clock; every time comes in as
an argument. Which thread may call what is said with each method.
"""

from __future__ import annotations

from math import inf
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ._address import Address
from ._exceptions import (
    NoProducersError,
    RequestCancelledError,
    RequestExpiredError,
    RequestFailedError,
    StateError,
)
from ._outcomes import NO_TAGS, Failure, Outcome, OutcomeStatus, Partial, Phase, RequestStatus

__all__ = ["Extra", "Ledger"]

OPEN = RequestStatus.OPEN
COMPLETE = RequestStatus.COMPLETE
OK = OutcomeStatus.OK

STREAM_VALUES_KEPT = 10_000
"""Values of one stream that a request keeps for ``.values``; older ones are dropped and counted."""


class Extra:
    """What only some requests have. The dispatcher's thread owns it."""

    __slots__ = ("dropped", "readers", "streams", "unseen", "until")

    def __init__(self) -> None:
        self.until: Optional[Callable[[Outcome], bool]] = None
        self.readers: Tuple[Any, ...] = ()
        self.streams: Optional[Dict[Address, List[Outcome]]] = None
        self.dropped = 0
        self.unseen: Any = None


class Ledger:
    """The rows of one request.

    `_rows` maps an address to what stands in its row: nothing (not begun), a float (claimed: the
    time the work began) or an `Outcome` (final). It is the one structure that several threads
    write, and every contested write is a single ``dict.setdefault`` on it, which is atomic: under
    the global interpreter lock because it is one C call on keys hashed by identity, without it
    because a dict takes its own lock for each call. Whoever inserts has won; the others see what
    the winner inserted and do nothing. Everything else here is written by the dispatcher's thread
    alone, and `status` last of all, so whoever reads an ended status reads complete rows.

    Parameters
    ----------
    topic : str
    ttl : float
        Milliseconds; `math.inf` for no deadline.
    sent : float
        When ``send_request`` was called, in seconds of the clock.
    options : object, optional
        What ``with_options`` was given; None for the plain case.
    home, args, kwargs : optional
        Carried for `Request`: where answers go, and what producers are called with.
    """

    __slots__ = (
        "_cancelled",
        "_extra",
        "_home",
        "_kwargs",
        "_line",
        "_missing",
        "_options",
        "_reason",
        "_roster",
        "_rows",
        "args",
        "deadline",
        "queued",
        "sent",
        "status",
        "topic",
        "ttl",
    )

    _reason: str

    def __init__(
        self,
        topic: str,
        ttl: float,
        sent: float,
        options: Any = None,
        home: Any = None,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.topic = topic
        self.ttl = ttl
        self.sent = self.queued = sent
        self.deadline: float = sent + ttl * 0.001
        self.status = OPEN
        self._options = options
        self._cancelled = False
        self._rows: Dict[Any, Any] = {}
        self._roster: Tuple[Address, ...] = ()
        self._extra: Optional[Extra] = None
        self._home = home
        self.args = args
        self._kwargs = kwargs

    # ---- decisions ---------------------------------------------------------------------------

    def scatter(self, roster: Tuple[Address, ...], now: float) -> None:
        """Fix the roster. The dispatcher's thread, once, before any producer hears of it."""
        self._roster = roster
        self._missing = len(roster)
        self.queued = now

    @property
    def priority(self) -> int:
        """What ``with_options(priority=…)`` was given, 0 without; the higher the sooner."""
        return 0 if self._options is None else self._options.priority

    def claim(self, address: Address, now: float) -> bool:
        """Contest the right to do the work of one row; True for exactly one caller.

        The thread that will do the work calls it, immediately before it begins. `now` must be a
        float of the caller's own (its identity marks the claim): what a clock just returned.
        """
        return (
            now <= self.deadline
            and not self._cancelled
            and self._rows.setdefault(address, now) is now
        )

    def accept(self, outcome: Outcome) -> bool:
        """Enter a final answer. False if it is late: stamped past the deadline, or its row closed.

        The dispatcher's thread only. After True, ``complete`` tells whether it was the last one.
        """
        rows = self._rows
        address = outcome._address
        if outcome.ended <= self.deadline and type(rows.get(address)) is float:  # type: ignore[operator]
            rows[address] = outcome
            self._missing -= 1
            return True
        return False

    def accept_partial(self, outcome: Partial) -> bool:
        """Enter one value of a stream, on the same terms. The dispatcher's thread only."""
        address = outcome._address
        if outcome.ended > self.deadline or type(self._rows.get(address)) is not float:  # type: ignore[operator]
            return False
        extra = self.extra()
        if extra.streams is None:
            extra.streams = {}
        values = extra.streams.setdefault(address, [])
        values.append(outcome)
        if len(values) > STREAM_VALUES_KEPT:
            del values[0]
            extra.dropped += 1
        return True

    @property
    def complete(self) -> bool:
        """Whether no row is open any more."""
        return getattr(self, "_missing", -1) == 0  # there is no count before it is scattered

    def close_rows(self, make: Callable[[Address, Optional[float]], Failure]) -> List[Failure]:
        """Close every row that has no final outcome and give the new ones, in roster order.

        The dispatcher's thread only. `make` gets the address and when its work began, None if it
        never did; from here on it never will.
        """
        closed = []
        for address in self._roster:
            before = self._rows.setdefault(address, None)  # now nobody can claim it
            if not isinstance(before, Outcome):
                outcome = self._rows[address] = make(address, before)
                closed.append(outcome)
        self._missing = 0
        return closed

    def expired_row(self, address: Address, started: Optional[float], now: float) -> Failure:
        """Word the TIMEOUT of one row: how far it had come, and since when."""
        if started is not None:
            phase, since = Phase.RUNNING, started
            reason = f"still running after {now - started:.3f} s"
        elif not address.started:
            phase, since = Phase.NOT_STARTED, self.queued
            reason = "its thread was never started: call its start(), or use dispatcher.add()"
        else:
            phase, since = Phase.QUEUED, self.queued
            reason = f"still queued after {now - self.queued:.3f} s"
            busy, waiting = address.running, address.waiting
            if waiting is not None and waiting.request is self:
                phase, since = Phase.RESOURCE, waiting.since
                reason = f"still {waiting.describe()}, after {now - since:.3f} s"
            elif waiting is not None:
                reason += f", behind work on {waiting.request.topic!r} {waiting.describe()}"
            elif busy is not None:
                reason += f", behind work on {busy.topic!r}"
        status = OutcomeStatus.TIMEOUT
        return Failure(self, address, status, reason, started, phase=phase, since=since)

    def extra(self) -> Extra:
        """Give the part that only some requests have, made when first needed."""
        extra = self._extra
        if extra is None:
            extra = self._extra = Extra()
        return extra

    # ---- reading (any thread) ----------------------------------------------------------------

    @property
    def tags(self) -> Mapping[str, Any]:
        """What ``with_options(tags=…)`` was given."""
        return NO_TAGS if self._options is None else self._options.tags

    @property
    def reason(self) -> str:
        """Why it ended as it did, where the status alone does not say it."""
        return getattr(self, "_reason", "")

    @property
    def roster(self) -> Tuple[str, ...]:
        """Names of the producers it was scattered to, in the order of their registration."""
        return tuple(address.name for address in self._roster)

    @property
    def outcomes(self) -> Tuple[Outcome, ...]:
        """The final outcomes so far, in roster order."""
        self._seen()
        return self._final()

    def _final(self) -> Tuple[Outcome, ...]:
        rows = (self._rows.get(address) for address in self._roster)
        return tuple(row for row in rows if isinstance(row, Outcome))

    def _accepted(self) -> List[Outcome]:
        """Everything accepted so far, values of streams too, in the order of its stamps."""
        accepted = list(self._final())
        if self._extra is not None and self._extra.streams is not None:
            for partials in self._extra.streams.values():
                accepted += partials
        # What ends a stream comes after its values; rows closed without an answer come last.
        partial = OutcomeStatus.PARTIAL
        return sorted(
            accepted, key=lambda o: (o.ended is None, o.ended or 0.0, o.status is not partial)
        )

    def _with(self, *statuses: OutcomeStatus) -> Tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status in statuses)

    @property
    def succeeded(self) -> Tuple[Outcome, ...]:
        """Outcomes with status OK."""
        return self._with(OK)

    @property
    def failed(self) -> Tuple[Outcome, ...]:
        """Outcomes with status ERROR or REJECTED."""
        return self._with(OutcomeStatus.ERROR, OutcomeStatus.REJECTED)

    @property
    def missing(self) -> Tuple[Outcome, ...]:
        """Outcomes with status TIMEOUT or CANCELLED."""
        return self._with(OutcomeStatus.TIMEOUT, OutcomeStatus.CANCELLED)

    @property
    def values(self) -> Dict[str, Any]:
        """Good values by producer name; of a stream the list of what it gave.

        A stream's list is there as soon as it has given something, and stays if it failed later.
        Of a stream it has the last 10,000 values: see `dropped`.
        """
        streams: Dict[Address, List[Outcome]] = {}
        if self._extra is not None and self._extra.streams is not None:
            streams = self._extra.streams
        values: Dict[str, Any] = {}
        for address in self._roster:
            row = self._rows.get(address)
            good = row if isinstance(row, Outcome) and row.status is OK else None
            if address in streams or (good is not None and good.streamed):
                values[address.name] = [partial.value for partial in streams.get(address, ())]
                if good is not None and good.value is not None:
                    values[address.name].append(good.value)
            elif good is not None:
                values[address.name] = good.value
        return values

    @property
    def dropped(self) -> int:
        """How many values of streams `values` has no more: of each, the last 10,000 are kept.

        Listeners, recorders and whoever iterates over the request get all of them.
        """
        return 0 if self._extra is None else self._extra.dropped

    def by_site(self) -> Dict[Any, Tuple[Outcome, ...]]:
        """Group the final outcomes so far by site; None holds those of no site."""
        sites: Dict[Any, Tuple[Outcome, ...]] = {}
        for outcome in self.outcomes:
            sites[outcome.site] = (*sites.get(outcome.site, ()), outcome)
        return sites

    def raise_for_status(self) -> None:
        """Raise unless everybody answered well (or the ``until`` rule was met).

        Raises
        ------
        RequestExpiredError, RequestCancelledError, NoProducersError, RequestFailedError
            The message tells who did not and why; the error's `values` keeps the good values, its
            cause is the first producer's exception.
        StateError
            The request is still open: wait for it first.
        """
        status = self.status
        if status is OPEN:
            raise StateError(f"the request on {self.topic!r} is still open: wait() for it first")
        bad = [] if status is RequestStatus.SATISFIED else [*self.failed, *self.missing]
        if status in (COMPLETE, RequestStatus.SATISFIED) and not bad:
            return
        kind = _ERRORS.get(status, RequestFailedError)
        parts = [f"{o.producer}: {o.reason or o.status.value}" for o in bad]
        if status is RequestStatus.NO_PRODUCERS or (self.reason and not bad):
            parts.append(self.reason)
        answered = f"{len(self.succeeded)} of {len(self._roster)} producers answered well"
        raise kind(
            f"request on {self.topic!r} ended {status.value}, {answered}: " + "; ".join(parts), self
        ) from next((o.exception for o in bad if o.exception is not None), None)

    def _seen(self) -> None:
        """Note that somebody looks, so failures need not be logged as lost."""
        extra = self._extra
        if extra is not None and extra.unseen is not None and self.status is not OPEN:
            extra.unseen.seen()

    def __repr__(self) -> str:
        ttl = "no TTL" if self.ttl == inf else f"ttl={self.ttl:g} ms"
        answered = f"{len(self._final())} of {len(self._roster)} rows final"
        return f"<{type(self).__name__} {self.topic!r} {self.status.value}, {answered}, {ttl}>"


_ERRORS = {
    RequestStatus.EXPIRED: RequestExpiredError,
    RequestStatus.CANCELLED: RequestCancelledError,
    RequestStatus.STOPPED: RequestCancelledError,
    RequestStatus.NO_PRODUCERS: NoProducersError,
}
