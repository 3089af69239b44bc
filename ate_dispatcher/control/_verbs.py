"""What each verb does. Called by the threads of all clients at once."""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from enum import Enum
from math import isfinite
from typing import Any, Callable, Dict, Mapping, Optional, Union

from .._exceptions import InvalidArgumentError, InvalidTypeError, StateError, UnknownIdError
from ..dispatcher import ATEDispatcher
from ..sse import AbstractChannel, ChannelContainer, Message, SSEChannel
from ._protocol import Command
from ._sources import ChannelSource, RequestSource, Source, request_of

__all__ = ["STREAMS", "Verbs"]

STREAMS = frozenset(("l", "w", "send"))
"""The verbs that open a stream."""


class Verbs:
    """Does what commands ask for.

    Parameters
    ----------
    container : ChannelContainer
        The channels.
    dispatcher : ATEDispatcher, optional
        Without one there is nobody to send requests to.
    max_channels, max_listeners : int
        How many there may be, of all channels together, before one more is refused.
    """

    def __init__(
        self,
        container: ChannelContainer,
        dispatcher: Optional[ATEDispatcher],
        max_channels: int,
        max_listeners: int,
    ) -> None:
        self._container = container
        self._dispatcher = dispatcher
        self._max_channels = max_channels
        self._max_listeners = max_listeners
        self._adding = threading.Lock()  # counting what there is and adding to it are one step
        self._numbers = itertools.count(1)  # `next` of it is one atomic step
        self._verbs: Dict[str, Callable[[Command], Any]] = {
            "d": self._dispatch,
            "b": self._broadcast,
            "c": self._create,
            "r": self._add_listener,
            "l": lambda command: ChannelSource(
                AbstractChannel.message_stream(self._channel(command), command.receiver)
            ),
            # Those of the class above: channels of `aio` have async iterators in their place.
            "w": lambda command: ChannelSource(AbstractChannel.watch(self._channel(command))),
            "rl": lambda command: self._channel(command).remove_listener(command.receiver),
            "rc": lambda command: self._container.rm(command.channel).close(),
            "ping": lambda command: None,
            "send": self._send,
            "statistics": lambda command: plain(self._needed("statistics").statistics()),
            "stop": self._stop,
        }

    def do(self, command: Command) -> Union[Source, Any]:
        """Do it; give a `Source` where it opens a stream, what JSON has a form for elsewhere."""
        return self._verbs[command.verb](command)

    def _channel(self, command: Command) -> Any:
        return self._container.get(command.channel)

    def _dispatch(self, command: Command) -> None:
        message = Message(command.type, command.payload)
        self._channel(command).dispatch(command.receiver, message)

    def _broadcast(self, command: Command) -> None:
        self._channel(command).broadcast(Message(command.type, command.payload))

    def _create(self, command: Command) -> str:
        channel = SSEChannel(channel_id=command.channel or None)
        with self._adding:
            self._check_room("channels", len(self._container), self._max_channels)
            self._container.register(channel)
        return channel.id

    def _add_listener(self, command: Command) -> str:
        channel = self._channel(command)
        with self._adding:
            self._check_room("listeners", self._listeners(), self._max_listeners)
            return str(channel.add_listener().id)

    def _listeners(self) -> int:
        count = 0
        for channel_id in self._container.get_all_ids():
            with suppress(UnknownIdError):  # another thread may have removed it
                count += len(self._container.get(channel_id).get_listeners_ids())
        return count

    def _check_room(self, what: str, count: int, most: int) -> None:
        if count >= most:
            raise StateError(f"there are {count} {what}, {most} may be: remove some first")

    def _send(self, command: Command) -> Source:
        dispatcher = self._needed("send")
        request = request_of(dispatcher, command)
        return RequestSource(request, next(self._numbers), dispatcher.clock)

    def _stop(self, command: Command) -> Any:
        options = dict(command.options)
        drain, timeout = options.pop("drain", True), options.pop("timeout", None)
        if options:
            raise InvalidArgumentError(f"'o' of stop has drain and timeout, not {min(options)!r}")
        if not isinstance(drain, bool):
            raise InvalidTypeError(f"'drain' must be true or false, not {drain!r:.60}")
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
                raise InvalidTypeError(
                    f"'timeout' must be a number of seconds, not {timeout!r:.60}"
                )
            if not (timeout >= 0 and isfinite(timeout)):
                raise InvalidArgumentError(f"'timeout' must be zero or more, not {timeout!r}")
        if self._dispatcher is None:
            return None
        return plain(self._dispatcher.stop(drain, timeout))

    def _needed(self, verb: str) -> ATEDispatcher:
        if self._dispatcher is None:
            raise StateError(f"this server has no dispatcher, which {verb!r} needs")
        return self._dispatcher


def plain(value: Any) -> Any:
    """Give records, mappings and enumerations as what JSON has a form for."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "_asdict"):
        return {name: plain(own) for name, own in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(own) for own in value]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return value
