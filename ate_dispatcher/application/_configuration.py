"""Configurations: where a bus is and who we are there, as their documents name it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Dict, Iterable, Mapping, Optional, Sequence, Tuple, Type, Union
from urllib.parse import parse_qsl, quote, urlencode

from .._exceptions import InvalidArgumentError, InvalidTypeError
from .._topics import TopicFilter
from ..bus import BusURL
from ..bus._grammar import words_of_filter
from ..bus._registry import driver_class
from ..bus._url import seconds

__all__ = [
    "BusConfig",
    "Config",
    "KafkaConfig",
    "MqttConfig",
    "Topics",
    "config_of",
    "config_of_url",
    "topics_of",
]

Topics = Union[str, TopicFilter, Iterable[Union[str, TopicFilter]]]


def topics_of(topics: Any, what: str = "topics") -> Tuple[TopicFilter, ...]:
    """Read topics: one, given as a string or filter, or several; the same twice is once.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        One of them cannot be subscribed to.
    """
    if isinstance(topics, (str, TopicFilter)):
        topics = (topics,)
    if isinstance(topics, (bytes, Mapping)) or not isinstance(topics, Iterable):
        raise InvalidTypeError(f"{what} must be a topic or a list of topics, not {topics!r}")
    return tuple(dict.fromkeys(words_of_filter(topic) for topic in topics))


@dataclass(frozen=True)
class MqttConfig:
    """An MQTT broker.

    Parameters
    ----------
    host : str
        Its name or address.
    port : int
        Where it listens.
    keepalive : int
        Seconds, 1 to 65535, after which it takes a silent client for lost.
    qos : int
        1: `publish` returns with the broker's acknowledgement; 0: once it is on its way.
    default_subscription_topics : str or list of str, optional
        What every application on it is subscribed to, beside its own topics.
    client_id : str, optional
        Our name at the broker, where each may be used once at a time.
    username, password : str, optional
        Who we are. The password stands in no repr, log or error.
    retain : bool
        Whether the broker keeps the last message published on each topic for those who subscribe
        later. Questions and answers are never kept: they would be asked again.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        A value that cannot be meant; a password without a username.
    """

    host: str
    port: int = 1883
    keepalive: int = 60
    qos: int = 1
    default_subscription_topics: Optional[Topics] = None
    client_id: Optional[str] = None
    username: Optional[str] = None
    password: Optional[str] = field(default=None, repr=False)
    retain: bool = False

    needs: ClassVar[str] = "host"

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not self.host:
            raise InvalidTypeError(f"host must be a non-empty string, not {self.host!r}")
        if any(sign in self.host for sign in "/@?#, ") or "://" in self.host:
            raise InvalidArgumentError(
                f"host must be a name or an address, not {_without_password(self.host)}: "
                "a URL goes to SocketProviderFactory.from_url"
            )
        if self.host.count(":") == 1:  # an IPv6 address has more
            raise InvalidArgumentError(
                f"host must be a name or an address, not {self.host!r}: a port goes to port="
            )
        _check_number("port", self.port, 1, 65_535)
        _check_number("keepalive", self.keepalive, 1, 65_535)
        _check_number("qos", self.qos, 0, 1)
        _check_texts(self, "client_id", "username", "password")
        if self.password is not None and self.username is None:
            raise InvalidArgumentError("a password needs a username: MqttConfig has only the first")
        if not isinstance(self.retain, bool):
            raise InvalidTypeError(f"retain must be True or False, not {self.retain!r}")
        _check_topics(self)

    @property
    def url(self) -> str:
        """The bus URL that says the same, password included."""
        identity = ""
        if self.username is not None:
            password = "" if self.password is None else f":{quote(self.password, safe='')}"
            identity = f"{quote(self.username, safe='')}{password}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        options: Dict[str, Any] = {"qos": self.qos, "keepalive": self.keepalive}
        if self.client_id is not None:
            options["client_id"] = self.client_id
        return f"mqtt://{identity}{host}:{self.port}?{urlencode(options)}"

    @property
    def group(self) -> str:
        """The group that applications share messages in: MQTT's document knows none."""
        return ""


@dataclass(frozen=True)
class KafkaConfig:
    """A Kafka cluster.

    Parameters
    ----------
    bootstrap_servers : str or list of str
        ``host:port`` of at least one of its brokers; several in a list, or separated by commas.
    default_subscription_topics : str or list of str, optional
        What every application on it is subscribed to, beside its own topics.
    group_id : str, optional
        Applications of one group share the messages; without it each gets all.
    client_id : str, optional
        Our name in the cluster's logs.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        A value that cannot be meant.
    """

    bootstrap_servers: Union[str, Sequence[str]]
    default_subscription_topics: Optional[Topics] = None
    group_id: Optional[str] = None
    client_id: Optional[str] = None

    needs: ClassVar[str] = "bootstrap_servers"
    retain: ClassVar[bool] = False

    def __post_init__(self) -> None:
        servers = self._servers()
        if not servers or not all(isinstance(server, str) and server for server in servers):
            raise InvalidTypeError(
                "bootstrap_servers must be 'host:port' or a list of such, "
                f"not {_without_password(self.bootstrap_servers)}"
            )
        if any(sign in server for server in servers for sign in "/@?# "):
            raise InvalidArgumentError(
                "bootstrap_servers are hosts with ports, not "
                f"{_without_password(self.bootstrap_servers)}: "
                "a URL goes to SocketProviderFactory.from_url"
            )
        _check_texts(self, "group_id", "client_id")
        _check_topics(self)

    def _servers(self) -> Tuple[Any, ...]:
        if isinstance(self.bootstrap_servers, str):
            return tuple(part.strip() for part in self.bootstrap_servers.split(","))
        if isinstance(self.bootstrap_servers, (list, tuple)):
            return tuple(self.bootstrap_servers)
        return ()

    @property
    def url(self) -> str:
        """The bus URL that says the same."""
        options = {} if self.client_id is None else {"client_id": self.client_id}
        return f"kafka://{','.join(self._servers())}" + (
            f"?{urlencode(options)}" if options else ""
        )

    @property
    def group(self) -> str:
        """The group that applications share messages in."""
        return self.group_id or ""


@dataclass(frozen=True)
class BusConfig:
    """Any bus.

    Parameters
    ----------
    url : str
        As for `ate_dispatcher.bus.Distributer`.
    default_subscription_topics : str or list of str, optional
        What every application on it is subscribed to, beside its own topics.
    group : str
        Applications of one group share the messages; without it each gets all.

    Raises
    ------
    BusURLError
        The URL cannot be read.
    InvalidTypeError, InvalidArgumentError
        Another value that cannot be meant.
    """

    url: str = field(repr=False)
    default_subscription_topics: Optional[Topics] = None
    group: str = ""

    needs: ClassVar[str] = "url"
    retain: ClassVar[bool] = False

    def __post_init__(self) -> None:
        BusURL(self.url)
        if not isinstance(self.group, str):
            raise InvalidTypeError(f"group must be a string, not {self.group!r}")
        _check_topics(self)

    @property
    def client_id(self) -> Optional[str]:
        """Our name at the broker, if the URL has one."""
        return BusURL(self.url).query.get("client_id")

    def __repr__(self) -> str:
        return (
            f"BusConfig(url={str(BusURL(self.url))!r}, default_subscription_topics="
            f"{self.default_subscription_topics!r}, group={self.group!r})"
        )


Config = Union[MqttConfig, KafkaConfig, BusConfig]

KINDS: Tuple[Type[Any], ...] = (MqttConfig, KafkaConfig, BusConfig)


def config_of(values: Mapping[str, Any]) -> Config:
    """Make a configuration of what was read from a file.

    ``url`` makes it one for any bus, ``host`` one for MQTT, ``bootstrap_servers`` one for Kafka.

    Raises
    ------
    InvalidArgumentError
        None of the three, or more than one; or a key that its kind does not have (the message
        names the nearest).
    """
    found = [kind for kind in KINDS if kind.needs in values]
    if len(found) != 1:
        which = ", ".join(repr(kind.needs) for kind in found)
        raise InvalidArgumentError(
            "a configuration has one of 'host' (MQTT), 'bootstrap_servers' (Kafka) and 'url' (any "
            + (f"bus), this one contradicts itself: it has {which}" if found else "bus); none is")
        )
    (kind,) = found
    known = [own.name for own in fields(kind)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise InvalidArgumentError(f"{kind.__name__} has no key {name!r}: {hint}")
    made: Config = kind(**values)
    return made


def config_of_url(url: str) -> BusConfig:
    """Read a bus URL with our own options among the driver's.

    They are ``default_subscription_topics`` (separated by commas) and ``group`` or ``group_id``.

    Raises
    ------
    BusURLError, UnknownSchemeError, MissingExtraError
        It cannot be read, or by no driver that is here.
    InvalidArgumentError
        It has both names of the group, or an empty option of ours.
    """
    bus_url = BusURL(url)
    query = bus_url.query
    ours = ("default_subscription_topics", "group", "group_id")
    known = {"timeout": seconds, **driver_class(bus_url).options}
    bus_url.options({**known, **dict.fromkeys(ours, str)})  # who errs is told of all there are
    for name in ours:
        if query.get(name) == "":
            raise InvalidArgumentError(f"the option {name!r} of a bus URL must not be empty")
    if "group" in query and "group_id" in query:
        raise InvalidArgumentError("'group' and 'group_id' of a bus URL are the same: give one")
    place, _, options = url.partition("?")
    left = [pair for pair in parse_qsl(options, keep_blank_values=True) if pair[0] not in ours]
    url = place + (f"?{urlencode(left)}" if left else "")
    topics = query.get("default_subscription_topics")
    group = query.get("group", query.get("group_id", ""))
    return BusConfig(url, topics.split(",") if topics else None, group)


def _check_number(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTypeError(f"{name} must be a whole number, not {value!r}")
    if not least <= value <= most:
        raise InvalidArgumentError(f"{name} must be from {least} to {most}, not {value}")


def _check_texts(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and (not isinstance(value, str) or not value):
            shown = "" if name == "password" else f", not {value!r}"
            raise InvalidTypeError(f"{name} must be a non-empty string or None{shown}")


def _check_topics(config: Any) -> None:
    if config.default_subscription_topics is not None:
        topics_of(config.default_subscription_topics, "default_subscription_topics")


def _without_password(value: Any) -> str:
    shown = repr(value)
    return "one with an '@'" if "@" in shown else shown
