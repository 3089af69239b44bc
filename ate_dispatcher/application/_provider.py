"""`SocketProvider`: gives applications their connections to one bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Union

from .._exceptions import InvalidTypeError
from ..bus import BusURL, Distributer
from ._configuration import (
    BusConfig,
    Config,
    KafkaConfig,
    MqttConfig,
    config_of,
    config_of_url,
    topics_of,
)
from ._message import Message
from ._socket import Socket

if TYPE_CHECKING:
    from ._async_socket import AsyncSocket

__all__ = ["SocketProvider", "SocketProviderFactory"]


class SocketProvider:
    """One bus and who we are there; made by `SocketProviderFactory`. May be shared by anything.

    Parameters
    ----------
    config : MqttConfig, KafkaConfig or BusConfig
        Which bus.

    Raises
    ------
    BusURLError, UnknownSchemeError, MissingExtraError
        The driver cannot do with it, or is not installed. Nothing is connected yet.

    Attributes
    ----------
    config : MqttConfig, KafkaConfig or BusConfig
    """

    def __init__(self, config: Config) -> None:
        if not isinstance(config, (MqttConfig, KafkaConfig, BusConfig)):
            raise InvalidTypeError(
                f"a configuration must be an MqttConfig, KafkaConfig or BusConfig, not {config!r}"
            )
        self.config = config
        topics = config.default_subscription_topics
        self._topics = () if topics is None else topics_of(topics)
        self.bus()  # reads the URL's options, so that a mistake is told here

    def bus(self) -> Distributer:
        """Give a new way to the bus, not yet connected; its user closes it."""
        return Distributer(self.config.url)

    def socket(
        self, callback: Optional[Callable[[Message], Any]] = None, *, name: str = "socket"
    ) -> Socket:
        """Give a socket for a script that is no application; use it as a context manager.

        Parameters
        ----------
        callback : callable, optional
            Called ``(message)`` with what is subscribed to, on threads of the bus.
        name : str
            Who speaks, where the configuration has no client id.
        """
        if callback is not None and not callable(callback):
            raise InvalidTypeError(f"a callback must be callable, not {callback!r}")
        bus = self.bus()
        config = self.config
        socket = Socket(
            bus,
            config.client_id or name,
            group=config.group,
            retain=config.retain,
            deliver=callback,
        )
        socket._own_bus(self._topics if callback is not None else ())
        return socket

    def async_socket(
        self, callback: Optional[Callable[[Message], Any]] = None, *, name: str = "socket"
    ) -> AsyncSocket:
        """Give the same for coroutines; use it with ``async with``."""
        from ._async_socket import AsyncSocket

        return AsyncSocket(self.socket(callback, name=name))

    def __repr__(self) -> str:
        return f"<SocketProvider {BusURL(self.config.url)}>"


class SocketProviderFactory:
    """Makes socket providers."""

    @staticmethod
    def from_config(config: Union[Config, Mapping[str, Any]]) -> SocketProvider:
        """Make one of a configuration, or of the mapping that a configuration file holds.

        Raises
        ------
        InvalidArgumentError
            An unknown key, or keys that contradict each other.
        BusURLError, UnknownSchemeError, MissingExtraError
            As `SocketProvider`.
        """
        return SocketProvider(config_of(config) if isinstance(config, Mapping) else config)

    @staticmethod
    def from_url(url: str) -> SocketProvider:
        """Make one of a bus URL.

        Beside the driver's options it may have ``default_subscription_topics`` (separated by
        commas) and ``group``.

        Raises
        ------
        BusURLError, UnknownSchemeError, MissingExtraError, InvalidArgumentError
            It cannot be read, has an option that nobody knows, or contradicts itself.

        Examples
        --------
        >>> SocketProviderFactory.from_url("memory://bench?group=workers")
        <SocketProvider memory://bench>
        """
        return SocketProvider(config_of_url(url))
