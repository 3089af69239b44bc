"""Result listeners: the agents that are told what became of requests."""

from __future__ import annotations

import logging
from types import CoroutineType
from typing import Any, Callable, Tuple

from ._agent import FATAL, Agent
from ._exceptions import InvalidTypeError
from ._mailbox import STOP
from ._outcomes import Outcome, OutcomeStatus
from ._request import Request
from ._routes import Hooks

__all__ = ["FunctionListener", "ResultListener"]

logger = logging.getLogger("ate_dispatcher")


class _DirectResult:
    """What ``send_result`` puts into a listener's mailbox."""

    __slots__ = ("response", "topic")

    def __init__(self, topic: str, response: Tuple[Any, ...]) -> None:
        self.topic = topic
        self.response = response


class ResultListener(Agent):
    """Subclass it and implement at least one of its three hooks.

    Which are overridden is read at registration, and a listener is not woken for those it lacks.
    Every listener sees events in the order in which the dispatcher accepted them. A hook that
    raises is logged, counted and given to the dispatcher's ``on_listener_error``; the listener goes
    on.

    Parameters
    ----------
    name, site, capacity, overflow
        See `Agent`; all keyword-only and optional.
    """

    def process_dispatcher_result(self, topic: str, response: Any) -> Any:
        """Take one good result (or one value of a stream). Runs on the listener's own thread.

        Parameters
        ----------
        topic : str
            The topic of the request.
        response : object
            What the producer returned.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} has not implemented process_dispatcher_result"
        )

    def process_dispatcher_outcome(self, outcome: Outcome) -> Any:
        """Take one outcome of whatever status. Runs on the listener's own thread."""
        raise NotImplementedError(
            f"{type(self).__qualname__} has not implemented process_dispatcher_outcome"
        )

    def process_dispatcher_end(self, request: Request) -> Any:
        """Take one ended request, after all its outcomes. Runs on the listener's own thread."""
        raise NotImplementedError(
            f"{type(self).__qualname__} has not implemented process_dispatcher_end"
        )

    def send_result(self, topic: str, *response: Any) -> None:
        """Hand this listener a result directly, past any dispatcher. Thread-safe, never blocks."""
        self._ate_deliver(_DirectResult(topic, response))

    def _ate_deliver(self, event: Any) -> None:
        """Put an event into the mailbox from outside of any dispatcher."""
        self._ate_address.deliver(event)
        if self._ate_gone:
            self._ate_refuse_mailbox()

    def _ate_hooks(self) -> Hooks:
        return Hooks(
            *(
                getattr(getattr(self, name), "__func__", None) is not getattr(ResultListener, name)
                for name in (
                    "process_dispatcher_result",
                    "process_dispatcher_outcome",
                    "process_dispatcher_end",
                )
            )
        )

    def _ate_check_hooks(self) -> None:
        if not any(self._ate_hooks()):
            raise InvalidTypeError(
                f"{type(self).__qualname__} must implement at least one of "
                "process_dispatcher_result(self, topic, response), "
                "process_dispatcher_outcome(self, outcome) and "
                "process_dispatcher_end(self, request)"
            )

    def _ate_serve(self) -> None:
        # The hot loop of the listening side: plain answers for a plain hook are served here.
        address = self._ate_address
        get = self._ate_mailbox.get
        hook = self.process_dispatcher_result
        results, outcomes, _ = self._ate_hooks()
        plain = results and not outcomes
        while True:
            event = get()
            address.running = event
            if plain and type(event) is Outcome:
                try:
                    done = hook(event.topic, event.value)
                    if done is not None:
                        self._ate_finish(done)
                except BaseException as error:
                    self._ate_raised(hook, event, error)
            elif event is STOP:
                address.running = None
                return
            elif isinstance(event, (Outcome, Request, _DirectResult)):
                self._ate_handle(event, results, outcomes)
            else:
                address.running = None
                event.passed()
                event = None
                continue
            address.delivered += 1
            address.running = event = None

    def _ate_handle(self, event: Any, results: bool, outcomes: bool) -> None:
        if isinstance(event, Request):
            self._ate_guarded(self.process_dispatcher_end, event)
            return
        if isinstance(event, _DirectResult):
            self._ate_guarded(self.process_dispatcher_result, event.topic, *event.response)
            return
        try:
            event = event.copied()
        except Exception as error:
            self._ate_raised(event.copied, event, error)
            return
        if results and _is_result(event):
            self._ate_guarded(self.process_dispatcher_result, event.topic, event.value)
        if outcomes:
            self._ate_guarded(self.process_dispatcher_outcome, event)

    def _ate_guarded(self, hook: Callable[..., Any], *args: Any) -> None:
        try:
            self._ate_finish(hook(*args))
        except BaseException as error:
            self._ate_raised(hook, args, error)

    def _ate_finish(self, done: Any) -> None:
        """See the coroutine of an ``async def`` hook through."""
        if type(done) is CoroutineType:  # not whatever can be awaited: a request is, too
            self._ate_await(done)

    def _ate_raised(self, hook: Callable[..., Any], event: Any, error: BaseException) -> None:
        """Log, count and report what a hook raised; what is `FATAL` ends this agent."""
        self._ate_address.errors += 1
        name = getattr(hook, "__name__", repr(hook))
        logger.error("listener %r: %s raised on %r", self.name, name, event, exc_info=error)
        with self._ate_lock:
            hearers = tuple(self._ate_hearers)
        for home in hearers:
            home.listener_raised(self, event, error)
        if isinstance(error, FATAL):
            raise error

    def _ate_dropped(self, message: Any, reason: str) -> None:
        self._ate_count_drop(reason)  # nobody waits for an answer to an event

    def _ate_refuse(self, message: Any, reason: str) -> None:
        with self._ate_lock:
            self._ate_address.refused += 1


def _is_result(event: Outcome) -> bool:
    if event.status is OutcomeStatus.PARTIAL:
        return True
    return event.status is OutcomeStatus.OK and not (event.streamed and event.value is None)


class FunctionListener(ResultListener):
    """A listener made of a plain function ``function(topic, response)``."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        if not callable(function):
            raise InvalidTypeError(f"a listener function must be callable, not {function!r}")
        super().__init__(**options)
        self._ate_function = function

    @property
    def process_dispatcher_result(self) -> Callable[..., Any]:
        """The function itself."""
        return self._ate_function
