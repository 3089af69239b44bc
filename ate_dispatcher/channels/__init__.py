"""Events on channels: fewer subscriptions, registrations that outlive the broker's absence.

::

    pure rules      _status  _channel
    what users hold _channels
"""

from .._backoff import Backoff
from ._channel import Channel
from ._channels import Channels
from ._status import StatusType

__all__ = ["Backoff", "Channel", "Channels", "StatusType"]
