"""A socket over which other processes drive channels and a dispatcher.

::

    what is said            _protocol
    where it is said        _place  _watch
    what is done            _verbs  _sources
    what users hold         _server  _client_thread  _client
    at a terminal           _commands

Each client has a thread; nobody polls, but for a request that waits for its turn (``max_open``),
nothing waits without a bound, and whoever sends nonsense is told so and disturbs nobody else.
"""

from ._client import ControlStream, SocketClient
from ._server import SocketServer

__all__ = ["ControlStream", "SocketClient", "SocketServer"]
