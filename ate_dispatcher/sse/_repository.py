"""Channels that survive a restart, with their listeners and what these have not read."""

from __future__ import annotations

import abc
import threading
from typing import Any, Dict, Generic, List, Optional, Tuple, TypeVar
from urllib.parse import quote, unquote

from .._checks import check_whole
from .._codec import decode, encode
from .._exceptions import InvalidArgumentError, InvalidTypeError, NameTakenError, UnknownIdError
from ._channel import AbstractChannel
from ._connection import CAPACITY, Connection, ConnectionsFactory
from ._listener import MessageQueueListener
from ._message import Envelope, Message, MessageContract, SignedMessage, check_id
from ._sse_channel import SSEChannel
from ._storage import KeyValueStorage, MemoryStorage

__all__ = ["AbstractChannelRepository", "SSEChannelRepository"]

AnyChannel = TypeVar("AnyChannel", bound=AbstractChannel)


class AbstractChannelRepository(abc.ABC, Generic[AnyChannel]):
    """Base of the repositories. A subclass says in `build` how a channel is made.

    What is stored is kept up to date as it happens: a listener from its registration until it is
    removed, a message from ``dispatch`` or ``broadcast`` until its reader asks for the next one. A
    message that was being handled when the process died comes again. A listener comes back as its
    channel's ``listener_class``, which is called with its id; what else it had is not stored.

    Parameters
    ----------
    storage : KeyValueStorage, optional
        In memory if not given.
    capacity : int
        As for `ConnectionsFactory`.
    """

    def __init__(self, storage: Optional[KeyValueStorage] = None, capacity: int = CAPACITY) -> None:
        if storage is not None and not isinstance(storage, KeyValueStorage):
            raise InvalidTypeError(f"storage must be a KeyValueStorage, not {storage!r}")
        self._storage = MemoryStorage() if storage is None else storage
        self._capacity = check_whole(capacity, "capacity")
        self._live: Dict[str, AnyChannel] = {}
        # Held while a channel is made or brought back, so that there is one of an id at a time;
        # reentrant, for a subclass's own `build` runs under it.
        self._lock = threading.RLock()

    @abc.abstractmethod
    def build(
        self, channel_data: Dict[str, Any], connections_factory: ConnectionsFactory
    ) -> AnyChannel:
        """Make a channel of that data, with that factory; raise if the data is wrong."""

    def create(self, channel_data: Dict[str, Any]) -> AnyChannel:
        """Make a new channel, configured by `channel_data`, and store it.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError
            The data is no dict, or has something that is unknown or cannot be.
        NameTakenError
            There already is a channel of that id.
        """
        if not isinstance(channel_data, dict):
            raise InvalidTypeError(f"channel_data must be a dict, not {channel_data!r}")
        factory = _StoredConnections(self._storage, self._capacity)
        with self._lock:
            channel = self.build(dict(channel_data), factory)
            factory.channel_id = channel.id
            if self._storage.get(_key("channel", channel.id)) is not None:
                raise NameTakenError(f"there already is a channel {channel.id!r}")
            record = {**channel_data, "channel_id": channel.id}
            self._storage.set(_key("channel", channel.id), encode(record).decode("utf-8"))
            self._live[channel.id] = channel
        return channel

    def load(self, channel_id: str) -> AnyChannel:
        """Give the channel of an id: the open one of this process, or what was stored of it.

        Raises
        ------
        UnknownIdError
            There is none.
        UndecodableMessageError
            What is stored cannot be read.
        """
        with self._lock:
            live = self._live.get(check_id(channel_id, "channel_id"))
            if live is not None and not live.closed:
                return live
            record = self._storage.get(_key("channel", channel_id))
            if record is None:
                raise UnknownIdError(f"there is no channel {channel_id!r} in the repository")
            factory = _StoredConnections(self._storage, self._capacity)
            factory.channel_id = channel_id
            channel = self.build(_read(record), factory)
            self._bring_back(channel)
            self._live[channel_id] = channel
            return channel

    def load_all(self) -> List[AnyChannel]:
        """Give all channels, in the order of their ids."""
        return [self.load(channel_id) for channel_id in self.get_all_ids()]

    def get_all_ids(self) -> Tuple[str, ...]:
        """List the ids of all channels that are stored."""
        return tuple(sorted(_parts(key)[1] for key, _ in self._storage.items(_key("channel"))))

    def delete(self, channel_id: str) -> None:
        """Forget a channel with all that belongs to it; if it is open, it is closed.

        Raises
        ------
        UnknownIdError
            There is none.
        """
        key = _key("channel", check_id(channel_id, "channel_id"))
        with self._lock:
            live = self._live.pop(channel_id, None)
            if self._storage.get(key) is None:
                raise UnknownIdError(f"there is no channel {channel_id!r} in the repository")
            self._storage.delete(key)
        if live is not None:
            live.close()
            for listener_id in live.get_listeners_ids():
                live.remove_listener(listener_id)
        for kind in ("listener", "message"):
            _delete_all(self._storage, _key(kind, channel_id))

    def _bring_back(self, channel: AnyChannel) -> None:
        for key, _ in self._storage.items(_key("listener", channel.id)):
            name = _parts(key)[2]
            channel.register_listener(channel.listener_class(name))
            connection = channel._ate_connections[name]
            for place, text in self._storage.items(_key("message", channel.id, name)):
                number = int(_parts(place)[3])
                message = _message_of(_read(text))
                body = channel._ate_body(message)
                oldest = connection.push(Envelope(number, name, message, body))
                if oldest is not None:
                    connection.forget(oldest)
                channel._ate_number = max(channel._ate_number, number)


class SSEChannelRepository(AbstractChannelRepository[SSEChannel]):
    """Keeps each `SSEChannel` made here.

    Examples
    --------
    >>> repository = SSEChannelRepository(SQLiteStorage("channels.db"))
    >>> channel = repository.create({"channel_id": "bench", "retry_timeout_milliseconds": 2000})
    >>> channel = repository.load("bench")  # after a restart
    """

    def create(self, channel_data: Dict[str, Any]) -> SSEChannel:
        """Make a new channel, configured by `channel_data`, and store it.

        Parameters
        ----------
        channel_data : dict
            ``stream_delay_seconds``, ``retry_timeout_milliseconds`` and ``channel_id``, all of them
            optional, as for `SSEChannel`.
        """
        return super().create(channel_data)

    def build(
        self, channel_data: Dict[str, Any], connections_factory: ConnectionsFactory
    ) -> SSEChannel:
        """Make a channel of that data."""
        unknown = set(channel_data) - set(_CONFIGURABLE)
        if unknown:
            raise InvalidArgumentError(
                f"channel_data has {', '.join(sorted(map(repr, unknown)))}; "
                f"there are only {', '.join(_CONFIGURABLE)}"
            )
        return SSEChannel(connections_factory=connections_factory, **channel_data)


_CONFIGURABLE = ("stream_delay_seconds", "retry_timeout_milliseconds", "channel_id")


class _StoredConnections(ConnectionsFactory):
    """Makes the connections of one channel, which write down what they keep."""

    channel_id = ""

    def __init__(self, storage: KeyValueStorage, capacity: int) -> None:
        super().__init__(capacity)
        self._storage = storage

    def create(self, listener: Optional[MessageQueueListener]) -> Connection:
        if listener is None:
            return Connection(None, self.capacity)
        self._storage.set(_key("listener", self.channel_id, listener.id), "{}")
        return _StoredConnection(self._storage, self.channel_id, listener, self.capacity)


class _StoredConnection(Connection):
    durable = True

    def __init__(
        self,
        storage: KeyValueStorage,
        channel_id: str,
        listener: MessageQueueListener,
        capacity: int,
    ) -> None:
        super().__init__(listener, capacity)
        self._storage = storage
        self._place = (channel_id, listener.id)

    def keep(self, envelope: Envelope) -> None:
        text = encode(_record_of(envelope.message)).decode("utf-8")
        self._storage.set(self._key_of(envelope), text)

    def forget(self, envelope: Envelope) -> None:
        self._storage.delete(self._key_of(envelope))

    def removed(self) -> None:
        self._storage.delete(_key("listener", *self._place))
        _delete_all(self._storage, _key("message", *self._place))

    def _key_of(self, envelope: Envelope) -> str:
        return _key("message", *self._place, f"{envelope.number:020d}")


def _key(*parts: str) -> str:
    """Make a key: each part ends with a slash that no part contains, so 1 does not begin 10."""
    return "".join(quote(part, safe="", errors="surrogatepass") + "/" for part in parts)


def _parts(key: str) -> List[str]:
    return [unquote(part, errors="surrogatepass") for part in key.split("/")]


def _delete_all(storage: KeyValueStorage, prefix: str) -> None:
    for key, _ in storage.items(prefix):
        storage.delete(key)


def _record_of(message: MessageContract) -> Dict[str, Any]:
    record = {"type": message.type, "payload": message.payload}
    if message.id is not None:
        record["id"] = message.id
    sender_id = getattr(message, "sender_id", None)
    if sender_id is not None:
        record["sender_id"] = sender_id
    return record


def _message_of(record: Dict[str, Any]) -> Message:
    rest = (record["type"], record["payload"], record.get("id"))
    if "sender_id" in record:
        return SignedMessage(record["sender_id"], *rest)
    return Message(*rest)


def _read(text: str) -> Any:
    return decode(text.encode("utf-8", "surrogatepass"))
