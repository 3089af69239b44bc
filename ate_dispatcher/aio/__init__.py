"""The coroutine forms of what is thread-based: thin, and never blocking the event loop.

::

    how they work           _threads  _loop_calls
    what users hold         _bus  _channels  _application
"""

from ._application import DistributionApplication, Socket
from ._bus import Distributer, PubSub, Subscription
from ._channels import Channels

__all__ = ["Channels", "Distributer", "DistributionApplication", "PubSub", "Socket", "Subscription"]
