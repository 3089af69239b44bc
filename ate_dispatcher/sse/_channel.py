"""Channels: messages for one listener or for all, kept until their streams are read."""

from __future__ import annotations

import abc
import logging
import os
import re
import threading
import uuid
from collections import deque
from math import isfinite
from typing import (
    Any,
    Deque,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from .._checks import check_seconds
from .._exceptions import (
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    StateError,
    UnknownIdError,
)
from ._connection import Connection, ConnectionsFactory
from ._listener import MessageQueueListener
from ._message import Envelope, MessageContract, check_id, check_message
from ._stream import MessageStream, Reading

__all__ = ["AbstractChannel", "ChannelStatistics", "seconds"]

logger = logging.getLogger("ate_dispatcher")

ListenerOrId = Union[MessageQueueListener, str]

Stream = TypeVar("Stream", bound=Reading)

_EVENT_ID = re.compile(r"([0-9a-f]+)-([0-9]{1,18})")


class ChannelStatistics(NamedTuple):
    """How a channel stands; its counts are of its whole life.

    Attributes
    ----------
    messages : int
        Accepted, each counted once.
    listeners, watchers : int
        Registered now; watching now.
    waiting : int
        Messages to be read, of all listeners together.
    lost : int
        Messages that gave way to newer ones because nobody read them.
    slow : int
        Streams ended because their reader was too far behind.
    errors : int
        How often an ``on_message`` has raised.
    """

    messages: int
    listeners: int
    watchers: int
    waiting: int
    lost: int
    slow: int
    errors: int


class AbstractChannel(abc.ABC):
    """Base of the channels. A subclass says in `adapt` what its streams give.

    Parameters
    ----------
    stream_delay_seconds : float
        The least time between two messages of a stream.
    channel_id : str, optional
        Made up if not given.
    connections_factory : ConnectionsFactory, optional
        Makes what keeps the messages of each listener, and says how many.

    Notes
    -----
    Thread-safe; no call but reading a stream ever waits. One lock gives messages their order, the
    same for every listener; it is held while a message is put to each, and never while user code
    runs.
    """

    listener_class: Type[MessageQueueListener] = MessageQueueListener
    """What `add_listener` makes, and what a repository brings back, called with the id."""

    def __init__(
        self,
        stream_delay_seconds: float = 0,
        channel_id: Optional[str] = None,
        connections_factory: Optional[ConnectionsFactory] = None,
    ) -> None:
        self._ate_delay = seconds(stream_delay_seconds, "stream_delay_seconds")
        self._ate_id = (
            str(uuid.uuid4()) if channel_id is None else check_id(channel_id, "channel_id")
        )
        factory = ConnectionsFactory() if connections_factory is None else connections_factory
        if not isinstance(factory, ConnectionsFactory):
            raise InvalidTypeError(
                f"connections_factory must be a ConnectionsFactory, not {connections_factory!r}"
            )
        self._ate_factory = factory
        # In every id on the wire: who comes again after a restart is told all there is.
        self._ate_epoch = os.urandom(4).hex()
        self._ate_lock = threading.Lock()
        self._ate_connections: Dict[str, Connection] = {}
        self._ate_watchers: List[Connection] = []
        self._ate_history: Deque[Envelope] = deque(maxlen=factory.capacity)
        self._ate_number = self._ate_count = 0
        self._ate_gone = [0, 0, 0]  # lost, slow and errors of those who have left
        self._ate_closed = False

    # ---- what a subclass says --------------------------------------------------------------------

    @abc.abstractmethod
    def adapt(self, msg: MessageContract) -> Any:
        """Give what a stream gives for a message."""

    def _ate_body(self, msg: MessageContract) -> Optional[bytes]:
        """Give what goes over the wire, or raise if it cannot; None where there is no wire."""
        return None

    # ---- listeners -------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its name."""
        return self._ate_id

    @property
    def stream_delay_seconds(self) -> float:
        """The least time between two messages of a stream."""
        return self._ate_delay

    @property
    def closed(self) -> bool:
        """Whether it takes no messages any more."""
        return self._ate_closed

    def add_listener(self) -> MessageQueueListener:
        """Make a listener, register it, and give it."""
        listener = self.listener_class()
        self.register_listener(listener)
        return listener

    def register_listener(self, listener: MessageQueueListener) -> None:
        """Keep messages for a listener from now on. Registering it twice is once.

        Raises
        ------
        InvalidTypeError
            It is no listener of the channel's kind.
        NameTakenError
            Another listener of the channel has that id.
        StateError
            The channel was closed.
        """
        if not isinstance(listener, self.listener_class):
            raise InvalidTypeError(
                f"a listener of a {type(self).__name__} must be a "
                f"{self.listener_class.__name__}, not {listener!r}"
            )
        self._ate_check_open()  # before anything is stored of it
        known = self._ate_connections.get(listener.id)
        connection = known or self._ate_factory.create(listener)
        with self._ate_lock:
            self._ate_check_open()
            known = self._ate_connections.setdefault(listener.id, connection)
        if known.listener is not listener:
            raise NameTakenError(f"channel {self.id!r} already has a listener {listener.id!r}")
        if known is connection and connection not in listener._ate_connections:
            listener._ate_joined(connection)

    def remove_listener(self, listener_id: ListenerOrId) -> None:
        """Forget a listener and what waits for it; its stream ends.

        Raises
        ------
        UnknownIdError
            The channel has none of that id.
        """
        connection = self._ate_connection(listener_id)
        name = _id_of(listener_id)
        with self._ate_lock:
            if self._ate_connections.get(name) is not connection:  # another thread was first
                raise self._ate_unknown(name)
            del self._ate_connections[name]
            self._ate_note(connection)
        connection.end("the listener was removed", at_once=True)
        connection.removed()
        if connection.listener is not None:
            connection.listener._ate_left(connection)

    def get_listener(self, listener_id: str) -> MessageQueueListener:
        """Give the listener of an id.

        Raises
        ------
        UnknownIdError
            The channel has none of that id.
        """
        listener = self._ate_connection(listener_id).listener
        assert listener is not None
        return listener

    def get_listeners_ids(self) -> Tuple[str, ...]:
        """List the ids of the listeners, in the order of their registration."""
        with self._ate_lock:
            return tuple(self._ate_connections)

    # ---- messages --------------------------------------------------------------------------------

    def dispatch(self, listener_id: ListenerOrId, msg: MessageContract) -> None:
        """Send a message to one listener.

        Raises
        ------
        UnknownIdError
            The channel has no listener of that id.
        InvalidTypeError, InvalidArgumentError, NotJSONError
            The message is none, or the channel's streams have no form for it.
        StateError
            The channel was closed.
        """
        self._ate_send(msg, _id_of(listener_id))

    def broadcast(self, msg: MessageContract) -> None:
        """Send a message to all listeners. It raises as `dispatch` does."""
        self._ate_send(msg, None)

    def close(self) -> None:
        """Take no more messages; every stream ends after what waits. Closing twice is once."""
        with self._ate_lock:
            self._ate_closed = True
            connections = (*self._ate_connections.values(), *self._ate_watchers)
        for connection in connections:
            connection.end("the channel was closed", at_once=False)

    def __enter__(self) -> AbstractChannel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- streams ---------------------------------------------------------------------------------

    def message_stream(
        self, listener: ListenerOrId, last_event_id: Optional[str] = None
    ) -> MessageStream[Any]:
        """Open the stream of one listener, adapted, in place of any other that is open for it.

        Parameters
        ----------
        listener : MessageQueueListener or str
            A listener of this channel, or its id. It is started if it was stopped.
        last_event_id : str, optional
            The last event that was read elsewhere: what came after it is given first, as far as it
            is kept. An id of another life of the channel stands for everything that is kept.

        Raises
        ------
        UnknownIdError
            The channel has no such listener.
        """
        connection = self._ate_connection(listener)
        stream: MessageStream[Any] = MessageStream(connection, self._ate_adapted, self._ate_delay)
        return self._ate_open(connection, stream, last_event_id)

    def watch(self, last_event_id: Optional[str] = None) -> MessageStream[Any]:
        """Open a stream, adapted, of everything that is sent from now on, to whomever."""
        connection = self._ate_factory.create(None)
        stream: MessageStream[Any] = MessageStream(
            connection, self._ate_adapted, self._ate_delay, self._ate_unwatch
        )
        return self._ate_open(connection, stream, last_event_id)

    def statistics(self) -> ChannelStatistics:
        """Count what has been and what is."""
        with self._ate_lock:
            listeners, watchers = len(self._ate_connections), len(self._ate_watchers)
            connections = (*self._ate_connections.values(), *self._ate_watchers)
            lost, slow, errors = self._ate_gone
            count = self._ate_count
        return ChannelStatistics(
            messages=count,
            listeners=listeners,
            watchers=watchers,
            waiting=sum(connection.waiting() for connection in connections),
            lost=lost + sum(connection.lost for connection in connections),
            slow=slow + sum(connection.slow for connection in connections),
            errors=errors + sum(connection.errors for connection in connections),
        )

    def __repr__(self) -> str:
        state = "closed" if self._ate_closed else f"{len(self._ate_connections)} listeners"
        return f"<{type(self).__name__} {self.id!r}, {state}>"

    # ---- how -------------------------------------------------------------------------------------

    def _ate_adapted(self, envelope: Envelope) -> Any:
        return self.adapt(envelope.message)

    def _ate_send(self, msg: MessageContract, recipient: Optional[str]) -> None:
        body = self._ate_body(check_message(msg))
        gave_way = []
        dropped = []
        with self._ate_lock:
            self._ate_check_open()
            targets = self._ate_targets(recipient)
            self._ate_number += 1
            self._ate_count += 1
            envelope = Envelope(self._ate_number, recipient, msg, body)
            self._ate_history.append(envelope)
            for connection in (*targets, *self._ate_watchers):
                slow = connection.slow  # counted by `push` alone, so under the lock
                oldest = connection.push(envelope)
                if oldest is not None:
                    gave_way.append((connection, oldest))
                if connection.slow != slow:
                    dropped.append(connection)
            if dropped:
                self._ate_forget_watchers()
        for connection in dropped:
            whose = "a watcher" if connection.listener is None else repr(connection.listener.id)
            logger.warning(
                "channel %r: the stream of %s is cut short: its reader is %d messages behind",
                self.id,
                whose,
                connection.capacity,
            )
        _store(envelope, targets)
        for connection, oldest in gave_way:
            connection.forget(oldest)

    def _ate_targets(self, recipient: Optional[str]) -> Tuple[Connection, ...]:
        if recipient is None:
            return tuple(self._ate_connections.values())
        connection = self._ate_connections.get(recipient)
        if connection is None:
            raise self._ate_unknown(recipient)
        return (connection,)

    def _ate_open(
        self, connection: Connection, stream: Stream, last_event_id: Optional[str]
    ) -> Stream:
        listener = connection.listener
        if listener is not None:
            listener.start()
        with self._ate_lock:  # nothing is sent between the look into the past and the future
            replay = self._ate_since(last_event_id, None if listener is None else listener.id)
            gave_way = connection.attach(stream, replay, self._ate_number)
            if listener is None:
                if self._ate_closed:
                    connection.end("the channel was closed", at_once=False)
                else:
                    self._ate_watchers.append(connection)
        for oldest in gave_way:
            connection.forget(oldest)
        return stream

    def _ate_since(self, last_event_id: Any, reader: Optional[str]) -> List[Envelope]:
        """List what is kept of what came after an event, for one listener or for a watcher."""
        if last_event_id is None or last_event_id == "":
            return []
        if not isinstance(last_event_id, str):
            raise InvalidTypeError(f"last_event_id must be a string, not {last_event_id!r}")
        found = _EVENT_ID.fullmatch(last_event_id)
        ours = found is not None and found[1] == self._ate_epoch
        number = int(found[2]) if found is not None and ours else 0
        return [
            envelope
            for envelope in self._ate_history
            if envelope.number > number and (reader is None or envelope.recipient in (None, reader))
        ]

    def _ate_unwatch(self, connection: Connection) -> None:
        with self._ate_lock:
            self._ate_forget_watchers(connection)

    def _ate_forget_watchers(self, gone: Optional[Connection] = None) -> None:
        """Let go of who does not watch any more; with the lock held."""
        for connection in tuple(self._ate_watchers):
            if connection is gone or not connection.attached:
                self._ate_watchers.remove(connection)
                self._ate_note(connection)

    def _ate_note(self, connection: Connection) -> None:
        counts = (connection.lost, connection.slow, connection.errors)
        self._ate_gone = [have + more for have, more in zip(self._ate_gone, counts)]

    def _ate_connection(self, listener: ListenerOrId) -> Connection:
        name = _id_of(listener)
        connection = self._ate_connections.get(name)
        if connection is None or listener not in (name, connection.listener):
            raise self._ate_unknown(name)
        return connection

    def _ate_unknown(self, name: str) -> UnknownIdError:
        return UnknownIdError(f"channel {self.id!r} has no listener {name!r}")

    def _ate_check_open(self) -> None:
        if self._ate_closed:
            raise StateError(f"channel {self.id!r} was closed")


def seconds(value: Any, name: str) -> float:
    """Give a number of seconds back, or raise: it is not negative, and not endless."""
    number = check_seconds(value, name)
    if number < 0 or not isfinite(number):
        raise InvalidArgumentError(f"{name} must be a time of zero or more, not {value!r}")
    return number


def _store(envelope: Envelope, connections: Iterable[Connection]) -> None:
    """Have each keep a message that is stored elsewhere; what one raises is raised after all."""
    failed: Optional[Exception] = None
    for connection in connections:
        if connection.durable:
            try:
                connection.keep(envelope)
                connection.stored(envelope)
            except Exception as error:
                failed = failed or error
    if failed is not None:
        raise failed


def _id_of(listener: ListenerOrId) -> str:
    if isinstance(listener, MessageQueueListener):
        return listener.id
    return check_id(listener, "listener_id")
