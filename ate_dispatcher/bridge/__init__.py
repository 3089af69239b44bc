"""Agents on other machines: a `Bridge` beside the dispatcher, an `AgentHost` beside the agents.

::

    pure rules          _protocol
    in the dispatcher   _remote  _bridge
    over there          _host
    at a terminal       _commands
"""

from ._bridge import Bridge
from ._host import AgentHost

__all__ = ["AgentHost", "Bridge"]
