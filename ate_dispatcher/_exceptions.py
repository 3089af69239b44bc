"""Every error the library raises, as one tree by whose fault it is.

::

    ATEDispatcherError
    ├── UsageError                      the call was wrong; nothing was changed by it
    │   ├── InvalidArgumentError        (ValueError)    a value out of range: a TTL, a topic, a site
    │   │   └── NameTakenError          (ValueError)    two agents, channels, … of one name
    │   ├── InvalidTypeError            (TypeError)     an object of the wrong kind
    │   ├── StateError                  (RuntimeError)  started twice, used after stop
    │   ├── DeadlockError               (RuntimeError)  a thread waiting for its own work
    │   ├── NoCurrentRequestError       (LookupError)   current_request() outside of a producer
    │   └── UnknownIdError              (LookupError)   no channel or listener of that id
    ├── RequestFailedError              what raise_for_status() raises; keeps the good values
    │   ├── RequestExpiredError         (TimeoutError)
    │   ├── RequestCancelledError
    │   └── NoProducersError            (LookupError)
    ├── WaitTimeoutError                (TimeoutError)  gather() gave up; the request goes on
    ├── OverloadedError                 (TimeoutError)  max_open stayed reached, a reader too slow
    ├── WorkCalledOffError              raised by current_request().check() in a producer
    │   └── WorkExpiredError            (TimeoutError)
    ├── WorkRejectedError               raised by a producer that cannot take this work on
    ├── CallbackError                   raised by a channel's callback that wants no more events
    ├── ProcessLostError                the process of a ProcessProducer ended, or never began
    ├── SiteBarrierError                (RuntimeError)  the sites of a SiteBarrier did not meet
    ├── ResourceError                   an application's resource could not be entered
    ├── ControlConnectionError          (ConnectionError)  a control socket not reached, or lost
    │   └── ControlTimeoutError         (TimeoutError)  no answer from a control socket in time
    ├── StorageError                    (OSError)       what should survive cannot be stored or read
    ├── RecordingError                  (OSError)       a recording that cannot be written
    ├── NotARecordingError              (ValueError)    a file that no recorder wrote
    ├── RecordedError                   what a producer raised, as a recording tells it
    ├── MissingExtraError               (ImportError)   an optional library is not installed
    └── BusError                        what goes wrong between a program and a broker
        ├── BusURLError                 (ValueError)    a URL that cannot be read, or not be meant
        │   └── UnknownSchemeError      (ValueError)    no driver of that name
        ├── NotJSONError                (TypeError)     data that JSON has no form for
        ├── PayloadTooLargeError        (ValueError)    more bytes than the other side takes
        ├── UndecodableMessageError     (ValueError)    a message from outside that is no JSON
        ├── RemoteError                 what a producer on another machine raised
        ├── NoReplyError                (TimeoutError)  nobody answered a request in time
        ├── BusConnectionError          (ConnectionError)  not reached, refused, or lost
        │   └── BusTimeoutError         (TimeoutError)  no answer from the broker in time
        └── UnsupportedByDriverError    (NotImplementedError)  this broker cannot do that

Each also derives from the standard class (in brackets) that a caller would already catch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Tuple

if TYPE_CHECKING:
    from ._ledger import Ledger
    from ._outcomes import Outcome

__all__ = [
    "ATEDispatcherError",
    "BusConnectionError",
    "BusError",
    "BusTimeoutError",
    "BusURLError",
    "CallbackError",
    "ControlConnectionError",
    "ControlTimeoutError",
    "DeadlockError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "MissingExtraError",
    "NameTakenError",
    "NoCurrentRequestError",
    "NoProducersError",
    "NoReplyError",
    "NotARecordingError",
    "NotJSONError",
    "OverloadedError",
    "PayloadTooLargeError",
    "ProcessLostError",
    "RecordedError",
    "RecordingError",
    "RemoteError",
    "RequestCancelledError",
    "RequestExpiredError",
    "RequestFailedError",
    "ResourceError",
    "SiteBarrierError",
    "StateError",
    "StorageError",
    "UndecodableMessageError",
    "UnknownIdError",
    "UnknownSchemeError",
    "UnsupportedByDriverError",
    "UsageError",
    "WaitTimeoutError",
    "WorkCalledOffError",
    "WorkExpiredError",
    "WorkRejectedError",
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
    """Another agent of the dispatcher has that name; or another listener, another channel."""


class StateError(UsageError, RuntimeError):
    """Started twice, or used after it stopped."""


class DeadlockError(UsageError, RuntimeError):
    """A library thread was about to wait for something that only it can do."""


class NoCurrentRequestError(UsageError, LookupError):
    """``current_request()`` was called where no request is being worked on."""


class UnknownIdError(UsageError, LookupError):
    """No channel, listener or action of that id is there; the message says where it was sought."""


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
    """``max_open`` requests stayed open until this one's deadline; it was not sent.

    Or the reader of an event stream was too far behind, and has had all that was kept for it.
    """


class WorkCalledOffError(ATEDispatcherError):
    """The request being worked on was cancelled; raised by ``check()`` inside a producer."""


class WorkExpiredError(WorkCalledOffError, TimeoutError):
    """The request being worked on is past its deadline; raised by ``check()`` inside a producer."""


class WorkRejectedError(ATEDispatcherError):
    """Raise it in a producer's hook to decline: the outcome is REJECTED, with this text."""


class CallbackError(ATEDispatcherError):
    """Raise it in a callback of a channel to be taken away, quietly."""


class ProcessLostError(ATEDispatcherError):
    """The process of a `ProcessProducer` ended, or never began; says its exit code or signal."""


class SiteBarrierError(ATEDispatcherError, RuntimeError):
    """The sites of a `SiteBarrier` did not come together; names who is missing and who differs."""


class ResourceError(ATEDispatcherError):
    """A resource of an application could not be entered; its own error is the cause."""


class ControlConnectionError(ATEDispatcherError, ConnectionError):
    """A control socket cannot be reached, refused us, or was lost."""


class ControlTimeoutError(ControlConnectionError, TimeoutError):
    """A control socket did not answer in time; whether the command was carried out is not known."""


class StorageError(ATEDispatcherError, OSError):
    """A storage of channels cannot be opened, read or written; the message names the file."""


class RecordingError(ATEDispatcherError, OSError):
    """A recording cannot be written: no such folder, no right to, no room, another recorder."""


class NotARecordingError(ATEDispatcherError, ValueError):
    """A file that no recorder wrote, or a later version of one."""


class RecordedError(ATEDispatcherError):
    """What a producer raised, as a recording tells it.

    Parameters
    ----------
    type_name : str
        The full name of the exception's type.
    text : str
        What it said.
    traceback : str
        Its traceback.
    """

    def __init__(self, type_name: str, text: str, traceback: str = "") -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.type_name, self.text, self.traceback)


class MissingExtraError(ATEDispatcherError, ImportError):
    """An optional library is needed and not installed; the message names the extra."""


class BusError(ATEDispatcherError):
    """Something between this program and a broker. Never holds a password."""


class BusURLError(BusError, ValueError):
    """A bus URL that cannot be read, or that asks for what its driver does not know."""


class UnknownSchemeError(BusURLError):
    """No driver for the scheme of a URL; the message names the nearest one."""


class NotJSONError(BusError, TypeError):
    """Data that JSON has no form for; the message names the path to the offending value."""


class PayloadTooLargeError(BusError, ValueError):
    """A message has more bytes than who is to have it takes; it was not sent, or not read."""


class UndecodableMessageError(BusError, ValueError):
    """A message that came from outside is no JSON; it was skipped."""


class RemoteError(BusError):
    """What a producer on another machine raised, or why its answer did not arrive whole.

    Parameters
    ----------
    type_name : str
        The name of the exception's type over there.
    text : str
        What it said.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name)
        self.type_name = type_name
        self.text = text

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.type_name, self.text)


class NoReplyError(BusError, TimeoutError):
    """Nobody answered a request in time; the message says which topic and what time."""


class BusConnectionError(BusError, ConnectionError):
    """The broker cannot be reached, refused us, or was lost."""


class BusTimeoutError(BusConnectionError, TimeoutError):
    """The broker did not answer in time; whether it has the message is not known."""


class UnsupportedByDriverError(BusError, NotImplementedError):
    """The broker of this URL cannot do what was asked; the message names the driver."""
