"""The coroutine forms of what is thread-based: thin, and never blocking the event loop.

::

    how they work           _threads  _loop_calls  _streams
    what users hold         _bus  _channels  _application  _sse  _control
"""

from ._application import DistributionApplication, Socket
from ._bus import Distributer, PubSub, Subscription
from ._channels import Channels
from ._control import SocketClient, SocketServer
from ._sse import DataProcessingChannel, SimpleDistributedApplicationChannel, SSEChannel
from ._streams import AsyncStream

__all__ = [
    "AsyncStream",
    "Channels",
    "DataProcessingChannel",
    "Distributer",
    "DistributionApplication",
    "PubSub",
    "SSEChannel",
    "SimpleDistributedApplicationChannel",
    "Socket",
    "SocketClient",
    "SocketServer",
    "Subscription",
]
