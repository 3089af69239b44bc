"""Thread-based, in-process dispatcher for test-equipment scripts.

How the package is laid out, lower layers never importing higher ones::

    pure data and rules     _version  _exceptions  _address  _outcomes  _topics
    decisions, given `now`  _routes  _ledger  _deadlines  _options  _statistics
    threads and mailboxes   _mailbox  _callbacks  _waiting  _messages  _delivery  _loop_thread
    agents                  _agent
    what users hold         _readers  _request  _unseen  _observer
    what users subclass     _producer  _listener  _executor
    the dispatcher          _lifetime  _membership  _dispatching  dispatcher
    for tests               testing
    the command line        cli  demo
"""

from ._exceptions import (
    ATEDispatcherError,
    DeadlockError,
    InvalidArgumentError,
    InvalidTypeError,
    MissingExtraError,
    NameTakenError,
    NoCurrentRequestError,
    NoProducersError,
    OverloadedError,
    RequestCancelledError,
    RequestExpiredError,
    RequestFailedError,
    StateError,
    UsageError,
    WaitTimeoutError,
    WorkCalledOffError,
    WorkExpiredError,
)
from ._executor import ExecutorProducer
from ._observer import Observer
from ._outcomes import Outcome, OutcomeStatus, Phase, RequestStatus
from ._request import Request, current_request
from ._statistics import (
    ListenerStatistics,
    ProducerStatistics,
    Statistics,
    StopReport,
    Straggler,
)
from ._topics import TopicFilter
from ._version import VERSION_STR, __version__
from .dispatcher import ATEDispatcher, OptionsView, Producer, ResultListener

__all__ = [
    "ATEDispatcher",
    "ATEDispatcherError",
    "DeadlockError",
    "ExecutorProducer",
    "InvalidArgumentError",
    "InvalidTypeError",
    "ListenerStatistics",
    "MissingExtraError",
    "NameTakenError",
    "NoCurrentRequestError",
    "NoProducersError",
    "Observer",
    "OptionsView",
    "Outcome",
    "OutcomeStatus",
    "OverloadedError",
    "Phase",
    "Producer",
    "ProducerStatistics",
    "Request",
    "RequestCancelledError",
    "RequestExpiredError",
    "RequestFailedError",
    "RequestStatus",
    "ResultListener",
    "StateError",
    "Statistics",
    "StopReport",
    "Straggler",
    "TopicFilter",
    "UsageError",
    "VERSION_STR",
    "WaitTimeoutError",
    "WorkCalledOffError",
    "WorkExpiredError",
    "__version__",
    "current_request",
]
