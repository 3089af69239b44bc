"""URL-addressed publish/subscribe: the same calls over every broker.

::

    pure rules          _url  _grammar
    the seam            _driver  (Capabilities, Driver, Inbox)
    finding a driver    _registry
    what drivers share  _outbox  _tls  _correlation
    what users hold     _subscription  _pubsub  _distributer
    one file a broker   drivers
"""

from ._distributer import Distributer
from ._driver import Capabilities, Driver, Inbox
from ._grammar import Spelling
from ._pubsub import PubSub
from ._registry import drivers_at_hand
from ._subscription import Subscription
from ._url import BusURL

__all__ = [
    "BusURL",
    "Capabilities",
    "Distributer",
    "Driver",
    "Inbox",
    "PubSub",
    "Spelling",
    "Subscription",
    "drivers_at_hand",
]
