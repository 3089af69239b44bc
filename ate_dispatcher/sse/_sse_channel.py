"""The channel whose streams are ``text/event-stream``."""

from __future__ import annotations

from typing import Any, Dict, Optional

from .._codec import encode
from .._exceptions import InvalidArgumentError, InvalidTypeError
from ._channel import AbstractChannel, ListenerOrId, seconds
from ._connection import ConnectionsFactory
from ._message import Envelope, MessageContract
from ._stream import ByteStream
from ._wire import encode_event

__all__ = ["KEEP_ALIVE_SECONDS", "SSEChannel"]

KEEP_ALIVE_SECONDS = 15.0


class SSEChannel(AbstractChannel):
    """A channel for event streams that browsers understand.

    Parameters
    ----------
    stream_delay_seconds : float
        The least time between two messages of a stream.
    retry_timeout_milliseconds : int
        How long a client that was cut off should wait before it comes again.
    channel_id : str, optional
        Made up if not given.
    connections_factory : ConnectionsFactory, optional
        Makes what keeps the messages of each listener, and says how many.

    Notes
    -----
    A payload is data that JSON has a form for; the sender of any other gets the error. On the wire
    text stands as it is (any line end becomes a line feed), everything else as JSON. What goes over
    the wire is fixed, and encoded once for all clients, when a message is sent.

    Examples
    --------
    >>> channel = SSEChannel()
    >>> listener = channel.add_listener()
    >>> channel.broadcast(Message("voltage", 4.2))
    >>> for piece in channel.event_stream(listener):
    ...     socket.sendall(piece)
    """

    def __init__(
        self,
        stream_delay_seconds: float = 0,
        retry_timeout_milliseconds: int = 5,
        channel_id: Optional[str] = None,
        connections_factory: Optional[ConnectionsFactory] = None,
    ) -> None:
        super().__init__(stream_delay_seconds, channel_id, connections_factory)
        if isinstance(retry_timeout_milliseconds, bool) or not isinstance(
            retry_timeout_milliseconds, int
        ):
            raise InvalidTypeError(
                "retry_timeout_milliseconds must be a whole number, "
                f"not {retry_timeout_milliseconds!r}"
            )
        if retry_timeout_milliseconds < 0:
            raise InvalidArgumentError(
                f"retry_timeout_milliseconds must not be negative: {retry_timeout_milliseconds}"
            )
        self._ate_retry = retry_timeout_milliseconds

    @property
    def retry_timeout_milliseconds(self) -> int:
        """How long a client that was cut off should wait before it comes again."""
        return self._ate_retry

    def adapt(self, msg: MessageContract) -> Dict[str, Any]:
        """Give a message as ``{"event": type, "retry": milliseconds, "data": payload}``."""
        return {"event": msg.type, "retry": self._ate_retry, "data": msg.payload}

    def event_stream(
        self,
        listener: ListenerOrId,
        last_event_id: Optional[str] = None,
        keep_alive_seconds: Optional[float] = KEEP_ALIVE_SECONDS,
    ) -> ByteStream:
        """Open the stream of one listener as the bytes that a client gets.

        Parameters
        ----------
        listener : MessageQueueListener or str
            As for `message_stream`.
        last_event_id : str, optional
            What the client sent as ``Last-Event-ID``: what came after it is given first.
        keep_alive_seconds : float, optional
            After so long without a message a comment is given; None for never.
        """
        connection = self._ate_connection(listener)
        stream = self._ate_bytes(connection, keep_alive_seconds)
        return self._ate_open(connection, stream, last_event_id)

    def watch_events(
        self,
        last_event_id: Optional[str] = None,
        keep_alive_seconds: Optional[float] = KEEP_ALIVE_SECONDS,
    ) -> ByteStream:
        """Open a stream of everything that is sent, as the bytes that a client gets."""
        connection = self._ate_factory.create(None)
        stream = self._ate_bytes(connection, keep_alive_seconds)
        return self._ate_open(connection, stream, last_event_id)

    def _ate_bytes(self, connection: Any, keep_alive: Optional[float]) -> ByteStream:
        if keep_alive is not None and not seconds(keep_alive, "keep_alive_seconds"):
            raise InvalidArgumentError("keep_alive_seconds must be more than zero, or None")
        left = self._ate_unwatch if connection.listener is None else None
        return ByteStream(
            connection, self._ate_encoded, self._ate_id_line, self._ate_delay, left, keep_alive
        )

    def _ate_encoded(self, envelope: Envelope) -> bytes:
        assert envelope.body is not None
        return self._ate_id_line(envelope.number) + envelope.body

    def _ate_id_line(self, number: int) -> bytes:
        return b"id: %s-%d\n" % (self._ate_epoch.encode(), number)

    def _ate_body(self, msg: MessageContract) -> Optional[bytes]:
        adapted = self.adapt(msg)
        if not isinstance(adapted, dict) or "data" not in adapted:
            raise InvalidTypeError(
                f"adapt of {type(self).__name__} must give a dict with 'data', not {adapted!r}"
            )
        data = adapted["data"]
        if not isinstance(data, str):
            data = encode(data).decode("utf-8")
        return encode_event(data, adapted.get("event"), retry=adapted.get("retry"))
