"""Which driver speaks for which URL: ours, one put under `drivers/`, or another package's."""

from __future__ import annotations

import difflib
import importlib
from typing import Any, Dict, List, Optional, Tuple, Type

from .._exceptions import BusURLError, MissingExtraError, UnknownSchemeError
from ._driver import Driver
from ._url import BusURL

__all__ = ["driver_class", "drivers_at_hand"]

GROUP = "ate_dispatcher.drivers"
"""The entry-point group in which another package names its drivers, by scheme."""

OURS: Dict[str, Tuple[str, str, str]] = {
    # scheme: module and class, the extra that brings its client library
    "memory": ("memory", "MemoryDriver", ""),
    "file": ("file", "FileDriver", ""),
    "mqtt": ("mqtt", "MqttDriver", "mqtt"),
    "mqtts": ("mqtt", "MqttDriver", "mqtt"),
    "nats": ("nats", "NatsDriver", "nats"),
    "tls": ("nats", "NatsDriver", "nats"),
    "redis": ("redis", "RedisDriver", "redis"),
    "rediss": ("redis", "RedisDriver", "redis"),
    "amqp": ("amqp", "AmqpDriver", "amqp"),
    "amqps": ("amqp", "AmqpDriver", "amqp"),
    "rabbitmq": ("amqp", "AmqpDriver", "amqp"),
    "kafka": ("kafka", "KafkaDriver", "kafka"),
}


def driver_class(url: BusURL) -> Type[Driver]:
    """Find the driver for a URL.

    Raises
    ------
    UnknownSchemeError
        There is none; the message names the nearest scheme.
    MissingExtraError
        Its client library is not installed; the message gives the command that installs it.
    """
    scheme = url.scheme
    if scheme in OURS:
        module, name, extra = OURS[scheme]
        return _load(scheme, f"{__package__}.drivers.{module}", name, extra)
    found = _under_drivers(scheme) or _entry_point(scheme)
    if found is None:
        near = difflib.get_close_matches(scheme, drivers_at_hand(), 1)
        hint = (
            f"did you mean {near[0]}://?" if near else f"there are {', '.join(drivers_at_hand())}"
        )
        raise UnknownSchemeError(f"there is no driver for {scheme}:// URLs: {hint}")
    return found


def drivers_at_hand() -> Tuple[str, ...]:
    """List every scheme that there is a driver for, installed extras or not."""
    return (*OURS, *(name for name in _entry_points() if name not in OURS))


def _load(scheme: str, module: str, name: str, extra: str) -> Type[Driver]:
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] == __package__.split(".")[0]:
            raise
        raise MissingExtraError(
            f'{scheme}:// needs {error.name}: pip install "ate-dispatcher[{extra}]"'
        ) from error
    return _checked(scheme, getattr(loaded, name))


def _under_drivers(scheme: str) -> Optional[Type[Driver]]:
    """A file put under `drivers/`, named as its scheme: its class says the same."""
    if not scheme.isidentifier():
        return None
    module = f"{__package__}.drivers.{scheme}"
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
    classes = [
        found
        for found in vars(loaded).values()
        if isinstance(found, type) and scheme in getattr(found, "scheme", "").split()
    ]
    return _checked(scheme, classes[-1]) if classes else None


def _entry_point(scheme: str) -> Optional[Type[Driver]]:
    for name, point in _entry_points().items():
        if name == scheme:
            return _checked(scheme, point.load())
    return None


def _entry_points() -> Dict[str, Any]:
    from importlib.metadata import entry_points

    try:
        found: List[Any] = list(entry_points(group=GROUP))
    except TypeError:  # before 3.10
        found = list(entry_points().get(GROUP, ()))  # type: ignore[attr-defined,unused-ignore]
    return {point.name: point for point in found}


def _checked(scheme: str, found: object) -> Type[Driver]:
    if not isinstance(found, type) or not issubclass(found, Driver):
        raise BusURLError(f"the driver for {scheme}:// is no subclass of Driver: {found!r}")
    if scheme not in getattr(found, "scheme", "").split():
        raise BusURLError(
            f"{found.__qualname__} is registered for {scheme}://, "
            f"but its scheme is {getattr(found, 'scheme', '')!r}"
        )
    return found
