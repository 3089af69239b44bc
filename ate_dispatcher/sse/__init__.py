"""Event streams: messages on channels, kept for listeners, streamed as they come.

::

    pure rules          _wire  _message
    what waits          _connection  _listener
    reading it          _stream
    what users hold     _channel  _sse_channel  _processing  _distributed  _container
    what survives       _storage  _repository
    from a dispatcher   _feed

A sender never waits for a reader, a reader never polls, and nothing grows without a bound.
"""

from ._channel import AbstractChannel, ChannelStatistics
from ._connection import Connection, ConnectionsFactory
from ._container import ChannelContainer
from ._distributed import SimpleDistributedApplicationChannel, SimpleDistributedApplicationListener
from ._feed import ChannelFeed
from ._listener import MessageQueueListener
from ._message import MESSAGE_TYPE_CLOSED, Envelope, Message, MessageContract, SignedMessage
from ._processing import DataProcessingChannel, ResultStream
from ._repository import AbstractChannelRepository, SSEChannelRepository
from ._sse_channel import SSEChannel
from ._storage import KeyValueStorage, MemoryStorage, SQLiteStorage
from ._stream import ByteStream, MessageStream
from ._wire import EventParser, ServerSentEvent, encode_comment, encode_event, parse_events

__all__ = [
    "MESSAGE_TYPE_CLOSED",
    "AbstractChannel",
    "AbstractChannelRepository",
    "ByteStream",
    "ChannelContainer",
    "ChannelFeed",
    "ChannelStatistics",
    "Connection",
    "ConnectionsFactory",
    "DataProcessingChannel",
    "Envelope",
    "EventParser",
    "KeyValueStorage",
    "MemoryStorage",
    "Message",
    "MessageContract",
    "MessageQueueListener",
    "MessageStream",
    "ResultStream",
    "SQLiteStorage",
    "SSEChannel",
    "SSEChannelRepository",
    "ServerSentEvent",
    "SignedMessage",
    "SimpleDistributedApplicationChannel",
    "SimpleDistributedApplicationListener",
    "encode_comment",
    "encode_event",
    "parse_events",
]
