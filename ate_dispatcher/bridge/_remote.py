"""What stands in a dispatcher for an agent on another machine."""

from __future__ import annotations

import logging
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import Any, Callable, Dict, Generator, Optional, Tuple

from .._address import Address
from .._codec import check_json
from .._exceptions import BusError, RemoteError, StateError, WorkRejectedError
from .._ledger import Ledger
from .._listener import ResultListener
from .._options import Options
from .._outcomes import Failure, Outcome, OutcomeStatus, Partial, StreamEnd
from .._producer import Producer
from .._request import Request, current_request
from .._topics import check_topic
from ..bus._correlation import Correlations
from ._protocol import StrangeMessage, message

__all__ = ["RemoteListener", "RemoteProducer", "event_outcome", "event_record"]

logger = logging.getLogger("ate_dispatcher")

Send = Callable[[str, Dict[str, Any]], None]

_CALLED_OFF: Any = object()


class RemoteProducer(Producer):
    """A row of the roster whose work is done elsewhere; made by a `Bridge`.

    Its own thread sends one request at a time and waits for the answer, so what has expired in the
    meantime is never sent (C4), and what comes is judged like any local answer (C3).

    Parameters
    ----------
    name : str
        The remote agent's name.
    send : callable
        ``send(host_id, message)`` publishes to a host.
    bridge_id : str
        Where answers are to go.
    """

    def __init__(
        self,
        name: str,
        send: Send,
        bridge_id: str,
        correlations: Correlations,
    ) -> None:
        super().__init__(name=name)
        self._send = send
        self._bridge_id = bridge_id
        self._correlations = correlations
        # Written by the bridge (its own threads, one at a time), read here: one reference each.
        self._host: Optional[Tuple[str, float]] = None
        self._away = f"{name!r} has not announced itself yet"
        self._talk: Optional[_Talk] = None  # the other way round

    def arrive(self, host: str, site: Any, ahead: float) -> None:
        """From now on work goes to this host, whose clock is so many seconds ahead of ours."""
        self._ate_address.site = site
        self._host = host, ahead

    def lose(self, why: str) -> Optional[Tuple[str, str]]:
        """From now on work is rejected; what is in progress ends so at once.

        Returns
        -------
        (str, str) or None
            The host, and what it would have to be told to call off if it still hears.
        """
        self._away = why
        self._host = None
        talk = self._talk
        return None if talk is None else talk.lose(why)

    def produce_dispatcher_output(self, /, topic: str, *args: Any, **kwargs: Any) -> Any:
        """Have the remote agent do it."""
        request = current_request()
        check_json(args, "args")
        check_json(kwargs, "kwargs")
        answers: SimpleQueue[Any] = SimpleQueue()
        identifier = self._correlations.open(answers.put)
        where = self._host
        talk = _Talk(self, request, identifier, "" if where is None else where[0], answers)
        # First be reachable by `lose`, then look again where the host is: one sees the other.
        self._talk = talk
        where = self._host
        try:
            if where is None or where[0] != talk.host:
                raise WorkRejectedError(self._away)
            host, ahead = where
            # Told by the dispatcher's thread: a user's callback could wait for this very producer.
            if not request._waiter().add(talk.end):
                request.check()
            ttl = until = None
            if request.ttl != inf:
                left = request.remaining()
                ttl, until = left * 1000.0, monotonic() + left + ahead
            self._send(
                host,
                message(
                    "request",
                    id=identifier,
                    reply=self._bridge_id,
                    agent=self.name,
                    topic=topic,
                    args=args,
                    kwargs=kwargs,
                    ttl=ttl,
                    until=until,
                ),
            )
            if talk.lost:  # meanwhile: it may have been called off before it was there
                talk.call_off()
            first = talk.next()
        except BaseException:
            talk.close()
            raise
        if first["kind"] == "partial":
            return talk.stream(first)
        talk.close()
        return first.get("value")

    def _ate_error(self, request: Request, error: BaseException, started: float) -> Failure:
        failure = super()._ate_error(request, error, started)
        if isinstance(error, RemoteError):
            failure.reason = str(error)  # "ValueError: …", as if it had been raised here
        return failure


class _Talk:
    """One request at a remote agent, from its sending to its last answer. The proxy's thread."""

    def __init__(
        self,
        proxy: RemoteProducer,
        request: Request,
        identifier: str,
        host: str,
        answers: SimpleQueue[Any],
    ) -> None:
        self.host = host
        self.lost = False
        """Whether the host is away; set once, by the bridge."""
        self._proxy = proxy
        self._request = request
        self._identifier = identifier
        self._answers = answers
        self._expected = 0
        self._over = False

    def next(self) -> Dict[str, Any]:
        """Wait for the next answer: a partial or the final value; raise what else it may be."""
        while True:
            answer = self._answers.get()
            if answer is _CALLED_OFF:
                self._request.check()
                continue
            if 0 <= answer["seq"] < self._expected:
                continue  # a duplicate, from a bus that delivers at least once
            if answer["kind"] == "expired":
                continue  # our own deadline is about to say the same
            if answer["kind"] == "rejected":
                self._over = True
                raise WorkRejectedError(answer["text"])
            lost = answer["seq"] - self._expected
            self._expected = answer["seq"] + 1
            if answer["kind"] == "error":
                self._over = True
                raise RemoteError(answer["type"], answer["text"])
            if lost:
                raise RemoteError("BusError", f"{lost} values of the stream were lost on the bus")
            self._over = answer["kind"] == "value"
            return dict(answer)

    def stream(self, answer: Dict[str, Any]) -> Generator[Any, None, Any]:
        """Give the values of a stream; its return value is the final one."""
        try:
            while answer["kind"] == "partial":
                yield answer.get("value")
                answer = self.next()
            return answer.get("value")
        finally:
            self.close()

    def lose(self, why: str) -> Tuple[str, str]:
        """Have `next` raise. Any thread."""
        self.lost = True
        self._answers.put(message("rejected", text=why, seq=-1))
        return self.host, self._identifier

    def end(self) -> None:
        """Have `next` look whether the request is still open. The dispatcher's thread."""
        self._answers.put(_CALLED_OFF)

    def close(self) -> None:
        """Wait for no more answers; tell the host if it may still be working."""
        self._proxy._talk = None
        self._request._waiter().discard(self.end)
        self._proxy._correlations.close(self._identifier)
        if not self._over and self.host:
            self._over = True
            self.call_off()

    def call_off(self) -> None:
        """Tell the host that nobody wants it any more."""
        try:
            self._proxy._send(self.host, message("cancel", id=self._identifier))
        except (BusError, StateError) as error:  # it ends at its deadline all the same
            logger.debug("%r was not told of a cancel: %s", self._proxy.name, error)


class RemoteListener(ResultListener):
    """Relays what a listener on another machine registered for; made by a `Bridge`."""

    def __init__(self, name: str, send: Send) -> None:
        super().__init__(name=name)
        self._send = send
        self._host: Optional[str] = None  # written by the bridge, read here: one reference

    def arrive(self, host: str, site: Any, ahead: float) -> None:
        """From now on events go to this host."""
        self._ate_address.site = site
        self._host = host

    def lose(self, why: str) -> None:
        """From now on events are dropped, until it arrives again."""
        self._host = None

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Publish it; one that is no JSON raises, which is logged and counted like any error."""
        host = self._host
        if host is not None:
            self._send(host, message("event", agent=self.name, outcome=event_record(outcome)))


def event_record(outcome: Outcome) -> Dict[str, Any]:
    """Describe an outcome for a listener elsewhere."""
    record: Dict[str, Any] = {
        "topic": outcome.topic,
        "producer": outcome.producer,
        "site": outcome.site,
        "status": outcome.status.name,
        "value": None if isinstance(outcome, Failure) else outcome.value,
        "streamed": outcome.streamed,
        "reason": outcome.reason,
        "tags": dict(outcome.tags),
    }
    if outcome.status is OutcomeStatus.ERROR and outcome.exception is not None:
        record["type"] = type(outcome.exception).__name__
    return record


def event_outcome(record: Dict[str, Any], now: float) -> Outcome:
    """Make an outcome of its description; its times are all `now`, of the clock over here.

    Raises
    ------
    StrangeMessage
        It describes none.
    """
    try:
        status = OutcomeStatus[record["status"]]
        ledger = Ledger(check_topic(record["topic"]), inf, now, Options(tags=record["tags"]))
        address = Address(record["producer"], record["site"])
        if status in _GOOD:
            kind = StreamEnd if status is OutcomeStatus.OK and record["streamed"] else _GOOD[status]
            outcome = kind(ledger, address, record["value"], now, now)
        else:
            error = RemoteError(record["type"], record["reason"]) if "type" in record else None
            outcome = Failure(ledger, address, status, record["reason"], now, now, error)
    except (KeyError, TypeError, ValueError) as error:
        raise StrangeMessage(f"no outcome: {error!r}") from None
    outcome._request = None
    return outcome


_GOOD = {OutcomeStatus.OK: Outcome, OutcomeStatus.PARTIAL: Partial}
