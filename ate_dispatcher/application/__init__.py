"""Distributed applications: functions called for messages, over every bus.

::

    pure data and rules   _message  _configuration
    speaking              _socket  _async_socket
    who is there          _provider
    what was declared     _function
    running it            _loop  _worker  _async_worker  _run
    what users hold       _application
"""

from ._application import DistributedApplication, DistributionApplication
from ._configuration import BusConfig, KafkaConfig, MqttConfig
from ._function import SupportedContextManagers
from ._message import Message, MessageBuilder
from ._provider import SocketProvider, SocketProviderFactory
from ._socket import Socket

__all__ = [
    "BusConfig",
    "DistributedApplication",
    "DistributionApplication",
    "KafkaConfig",
    "Message",
    "MessageBuilder",
    "MqttConfig",
    "Socket",
    "SocketProvider",
    "SocketProviderFactory",
    "SupportedContextManagers",
]
