"""Every error the library raises, as one tree by whose fault it is.

::

    ATEDispatcherError
    ├── UsageError                      the call was wrong; nothing was changed by it
    │   ├── InvalidArgumentError        (ValueError)    a value out of range: a TTL, a topic, a site
    │   ├── InvalidTypeError            (TypeError)     an object of the wrong kind
    │   ├── NameTakenError              (ValueError)    two agents of one name in one dispatcher
    │   ├── StateError                  (RuntimeError)  started twice, used after stop
    │   ├── DeadlockError               (RuntimeError)  a thread waiting for its own work
    │   └── NoCurrentRequestError       (LookupError)   current_request() outside of a producer
    ├── RequestFailedError              what raise_for_status() raises; keeps the good values
    │   ├── RequestExpiredError         (TimeoutError)
    │   ├── RequestCancelledError
    │   └── NoProducersError            (LookupError)
    ├── WaitTimeoutError                (TimeoutError)  gather() gave up; the request goes on
    ├── OverloadedError                 (TimeoutError)  max_open stayed reached until the deadline
    ├── WorkCalledOffError              raised by current_request().check() in a producer
    │   └── WorkExpiredError            (TimeoutError)
    └── MissingExtraError               (ImportError)   an optional library is not installed

Each also derives from the standard class (in brackets) that a caller would already catch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Tuple

if TYPE_CHECKING:
    from ._ledger import Ledger
    from ._outcomes import Outcome

__all__ = [
    "ATEDispatcherError",
    "DeadlockError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "MissingExtraError",
    "NameTakenError",
    "NoCurrentRequestError",
    "NoProducersError",
    "OverloadedError",
    "RequestCancelledError",
    "RequestExpiredError",
    "RequestFailedError",
    "StateError",
    "UsageError",
    "WaitTimeoutError",
    "WorkCalledOffError",
    "WorkExpiredError",
]


class ATEDispatcherError(Exception):
    """Base of everything the library raises on purpose."""


class UsageError(ATEDispatcherError):
    """The call was wrong; it changed nothing."""


class InvalidArgumentError(UsageError, ValueError):
    """A value that cannot be meant: a TTL of zero, an empty topic, an unknown overflow policy."""


class InvalidTypeError(UsageError, TypeError):
    """An object of the wrong kind: no agent, a missing hook, a topic that is no string."""


class NameTakenError(InvalidArgumentError):
    """Another agent of this dispatcher already has that name."""


class StateError(UsageError, RuntimeError):
    """Started twice, or used after it stopped."""


class DeadlockError(UsageError, RuntimeError):
    """A library thread was about to wait for something that only it can do."""


class NoCurrentRequestError(UsageError, LookupError):
    """``current_request()`` was called where no request is being worked on."""


class RequestFailedError(ATEDispatcherError):
    """Not every producer answered well.

    Parameters
    ----------
    message : str
        What went wrong, producer by producer.
    request : Request
        The ended request. The good values stay readable through the error.
    """

    def __init__(self, message: str, request: Ledger) -> None:
        super().__init__(message)
        self.request = request

    @property
    def values(self) -> Dict[str, Any]:
        """The values that did arrive, by producer name."""
        return self.request.values

    @property
    def failed(self) -> Tuple[Outcome, ...]:
        """Outcomes with status ERROR or REJECTED."""
        return self.request.failed

    @property
    def missing(self) -> Tuple[Outcome, ...]:
        """Outcomes with status TIMEOUT or CANCELLED."""
        return self.request.missing


class RequestExpiredError(RequestFailedError, TimeoutError):
    """The deadline passed before every producer had answered."""


class RequestCancelledError(RequestFailedError):
    """The request was cancelled, or its dispatcher stopped."""


class NoProducersError(RequestFailedError, LookupError):
    """Nobody was registered for the topic, or nobody that the options asked for."""


class WaitTimeoutError(ATEDispatcherError, TimeoutError):
    """A wait gave up. What was waited for goes on unchanged."""


class OverloadedError(ATEDispatcherError, TimeoutError):
    """``max_open`` requests stayed open until this one's deadline; it was not sent."""


class WorkCalledOffError(ATEDispatcherError):
    """The request being worked on was cancelled; raised by ``check()`` inside a producer."""


class WorkExpiredError(WorkCalledOffError, TimeoutError):
    """The request being worked on is past its deadline; raised by ``check()`` inside a producer."""


class MissingExtraError(ATEDispatcherError, ImportError):
    """An optional library is needed and not installed; the message names the extra."""
