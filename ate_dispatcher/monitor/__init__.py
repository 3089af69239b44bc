"""A dispatcher, watched live in a browser.

::

    pure rules       _text  _allowance  _picture  _requests
    the dispatcher   _station  _watch
    threads          _feed  _server
    what users hold  _monitor
    the command      _command

What happens is noted on the dispatcher's callback thread, drawn together on a thread of the
monitor's own, and sent to browsers as server-sent events, each on a thread of its connection.
"""

from ._monitor import Monitor

__all__ = ["Monitor"]
