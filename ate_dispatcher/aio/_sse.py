"""Channels whose streams are async iterators."""

from __future__ import annotations

from typing import Any, Optional, Union

from ..sse import AbstractChannel, MessageQueueListener
from ..sse import DataProcessingChannel as ThreadedDataProcessingChannel
from ..sse import SimpleDistributedApplicationChannel as ThreadedApplicationChannel
from ..sse import SSEChannel as ThreadedSSEChannel
from ..sse._sse_channel import KEEP_ALIVE_SECONDS
from ..sse._stream import MessageStream
from ._streams import AsyncStream

__all__ = ["DataProcessingChannel", "SSEChannel", "SimpleDistributedApplicationChannel"]


def _awaited(stream: MessageStream[Any]) -> AsyncStream[Any]:
    return AsyncStream(stream, MessageStream.cut, MessageStream.give_back)


ListenerOrId = Union[MessageQueueListener, str]


class _AsyncStreams(AbstractChannel):
    """What all of them have. Everything else of a channel never waits, and stays as it is."""

    def message_stream(  # type: ignore[override]
        self, listener: ListenerOrId, last_event_id: Optional[str] = None
    ) -> AsyncStream[Any]:
        """Open the stream of one listener, adapted, as an async iterator."""
        stream = super().message_stream(listener, last_event_id)
        return _awaited(stream)

    def watch(  # type: ignore[override]
        self, last_event_id: Optional[str] = None
    ) -> AsyncStream[Any]:
        """Open a stream, adapted, of everything that is sent from now on."""
        stream = super().watch(last_event_id)
        return _awaited(stream)


class _AsyncEventStreams(_AsyncStreams, ThreadedSSEChannel):
    """The same for streams of bytes."""

    def event_stream(  # type: ignore[override]
        self,
        listener: ListenerOrId,
        last_event_id: Optional[str] = None,
        keep_alive_seconds: Optional[float] = KEEP_ALIVE_SECONDS,
    ) -> AsyncStream[bytes]:
        """Open the stream of one listener as the bytes that a client gets."""
        stream = super().event_stream(listener, last_event_id, keep_alive_seconds)
        return _awaited(stream)

    def watch_events(  # type: ignore[override]
        self,
        last_event_id: Optional[str] = None,
        keep_alive_seconds: Optional[float] = KEEP_ALIVE_SECONDS,
    ) -> AsyncStream[bytes]:
        """Open a stream of everything that is sent, as the bytes that a client gets."""
        stream = super().watch_events(last_event_id, keep_alive_seconds)
        return _awaited(stream)


class SSEChannel(_AsyncEventStreams):
    """`ate_dispatcher.sse.SSEChannel` whose streams are async iterators.

    Examples
    --------
    >>> async with channel.event_stream(listener) as stream:
    ...     async for piece in stream:
    ...         await response.write(piece)
    """


class SimpleDistributedApplicationChannel(_AsyncEventStreams, ThreadedApplicationChannel):
    """`ate_dispatcher.sse.SimpleDistributedApplicationChannel` with async iterators.

    Actions are done on the thread that reads a stream, not on the event loop.
    """


class DataProcessingChannel(_AsyncStreams, ThreadedDataProcessingChannel):
    """`ate_dispatcher.sse.DataProcessingChannel` with async iterators: override `adapt`.

    Examples
    --------
    >>> async for result in channel.process_queue(listener):
    ...     print(result["data"])
    """

    def process_queue(  # type: ignore[override]
        self, listener: ListenerOrId
    ) -> AsyncStream[Any]:
        """Process what comes for a listener, and give the results as they are ready.

        Closed before its end, what has not begun is not done, and what runs is waited for.
        """
        stream = super().process_queue(listener)
        return AsyncStream(stream, lambda results: results.cut())
