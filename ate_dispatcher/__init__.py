"""Thread-based, in-process dispatcher for test-equipment scripts.

How the package is laid out, lower layers never importing higher ones::

    pure data and rules     _version  _exceptions  _checks  _address  _outcomes  _topics  _backoff
    what is small           _codec  _states  _target  _wording  _words
    decisions, given `now`  _routes  _ledger  _deadlines  _options  _safety  _statistics
    threads and mailboxes   _mailbox  _callbacks  _waiting  _messages  _delivery  _loop_thread
    what work waits for     _ranked  _resources
    agents                  _agent
    what users hold         _readers  _request  _unseen  _observer
    what users subclass     _producer  _listener  _executor
    the dispatcher          _lifetime  _membership  _dispatching  dispatcher
    what happened, drawn    timeline
    recordings              record
    restarts, sites         supervision
    event streams           sse
    from another process    control
    watched in a browser    monitor
    publish/subscribe       bus
    applications on a bus   application
    other machines          bridge
    events on channels      channels
    for asyncio             aio
    for tests               testing
    the command line        cli  demo
"""

from ._exceptions import (
    ATEDispatcherError,
    BusConnectionError,
    BusError,
    BusTimeoutError,
    BusURLError,
    CallbackError,
    ControlConnectionError,
    ControlTimeoutError,
    DeadlockError,
    InvalidArgumentError,
    InvalidTypeError,
    MissingExtraError,
    NameTakenError,
    NoCurrentRequestError,
    NoProducersError,
    NoReplyError,
    NotARecordingError,
    NotJSONError,
    OverloadedError,
    PayloadTooLargeError,
    ProcessLostError,
    RecordedError,
    RecordingError,
    RemoteError,
    RequestCancelledError,
    RequestExpiredError,
    RequestFailedError,
    ResourceError,
    SiteBarrierError,
    StateError,
    StorageError,
    UndecodableMessageError,
    UnknownIdError,
    UnknownSchemeError,
    UnsupportedByDriverError,
    UsageError,
    WaitTimeoutError,
    WorkCalledOffError,
    WorkExpiredError,
    WorkRejectedError,
)
from ._executor import ExecutorProducer
from ._observer import Observer
from ._outcomes import Outcome, OutcomeStatus, Phase, RequestStatus
from ._request import Request, current_request
from ._states import AgentState
from ._statistics import (
    ListenerStatistics,
    Percentiles,
    ProducerStatistics,
    Statistics,
    StopReport,
    Straggler,
)
from ._topics import TopicFilter
from ._version import VERSION_STR, __version__
from .dispatcher import ATEDispatcher, OptionsView, Producer, ResultListener

__all__ = [
    "VERSION_STR",
    "ATEDispatcher",
    "ATEDispatcherError",
    "AgentState",
    "BusConnectionError",
    "BusError",
    "BusTimeoutError",
    "BusURLError",
    "CallbackError",
    "ControlConnectionError",
    "ControlTimeoutError",
    "DeadlockError",
    "ExecutorProducer",
    "InvalidArgumentError",
    "InvalidTypeError",
    "ListenerStatistics",
    "MissingExtraError",
    "NameTakenError",
    "NoCurrentRequestError",
    "NoProducersError",
    "NoReplyError",
    "NotARecordingError",
    "NotJSONError",
    "Observer",
    "OptionsView",
    "Outcome",
    "OutcomeStatus",
    "OverloadedError",
    "PayloadTooLargeError",
    "Percentiles",
    "Phase",
    "ProcessLostError",
    "Producer",
    "ProducerStatistics",
    "RecordedError",
    "RecordingError",
    "RemoteError",
    "Request",
    "RequestCancelledError",
    "RequestExpiredError",
    "RequestFailedError",
    "RequestStatus",
    "ResourceError",
    "ResultListener",
    "SiteBarrierError",
    "StateError",
    "Statistics",
    "StopReport",
    "StorageError",
    "Straggler",
    "TopicFilter",
    "UndecodableMessageError",
    "UnknownIdError",
    "UnknownSchemeError",
    "UnsupportedByDriverError",
    "UsageError",
    "WaitTimeoutError",
    "WorkCalledOffError",
    "WorkExpiredError",
    "WorkRejectedError",
    "__version__",
    "current_request",
]
