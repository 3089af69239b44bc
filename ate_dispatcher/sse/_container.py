"""Many channels, found by their ids."""

from __future__ import annotations

import threading
from typing import Dict, Iterable, Tuple

from .._exceptions import InvalidTypeError, NameTakenError, UnknownIdError
from ._channel import AbstractChannel

__all__ = ["ChannelContainer"]


class ChannelContainer:
    """Channels by their ids. Thread-safe: looking for a name and taking it is one step."""

    def __init__(self) -> None:
        self._channels: Dict[str, AbstractChannel] = {}
        self._lock = threading.Lock()

    def register(self, channel: AbstractChannel) -> None:
        """Add a channel. Registering it twice is once.

        Raises
        ------
        InvalidTypeError
            It is no channel.
        NameTakenError
            Another channel has its id.
        """
        self.register_iterable((channel,))

    def register_iterable(self, channels: Iterable[AbstractChannel]) -> None:
        """Add several channels, all or, where one cannot be added, none."""
        if not isinstance(channels, Iterable):
            raise InvalidTypeError(f"channels must be an iterable of channels, not {channels!r}")
        found: Dict[str, AbstractChannel] = {}
        for channel in channels:
            if not isinstance(channel, AbstractChannel):
                raise InvalidTypeError(f"a channel must be an AbstractChannel, not {channel!r}")
            if found.setdefault(channel.id, channel) is not channel:
                raise NameTakenError(f"two channels of the id {channel.id!r}")
        with self._lock:
            for name, channel in found.items():
                if self._channels.get(name, channel) is not channel:
                    raise NameTakenError(f"there already is a channel {name!r}")
            self._channels.update(found)

    def get(self, channel_id: str) -> AbstractChannel:
        """Give the channel of an id; raises `UnknownIdError` if there is none."""
        with self._lock:
            channel = self._channels.get(channel_id)
        if channel is None:
            raise UnknownIdError(f"there is no channel {channel_id!r}")
        return channel

    def rm(self, channel_id: str) -> AbstractChannel:
        """Take the channel of an id away and give it, as open as it is.

        Raises
        ------
        UnknownIdError
            There is none.
        """
        with self._lock:
            channel = self._channels.pop(channel_id, None)
        if channel is None:
            raise UnknownIdError(f"there is no channel {channel_id!r}")
        return channel

    def get_all_ids(self) -> Tuple[str, ...]:
        """List the ids, in the order of registration, as they are now."""
        with self._lock:
            return tuple(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def __contains__(self, channel_id: object) -> bool:
        return channel_id in self._channels

    def __repr__(self) -> str:
        return f"<ChannelContainer of {len(self._channels)} channels>"
