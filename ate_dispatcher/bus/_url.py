"""Bus URLs: where a broker is, who we are there, and how it is to be used."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any, Callable, Dict, Mapping, Optional, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit

from .._exceptions import BusURLError

__all__ = ["BusURL", "OptionType", "choice", "flag", "seconds", "text", "whole"]

OptionType = Callable[[str], Any]


class BusURL:
    """A bus URL in its parts. Its ``repr`` and ``str`` hide the password.

    Parameters
    ----------
    url : str
        ``scheme://[user[:password]@][host[:port][,host[:port]…]][/path][?option=value&…]``; special
        characters percent-encoded.

    Raises
    ------
    BusURLError
        It cannot be read; the message never repeats a password.

    Attributes
    ----------
    scheme, user, password, path : str
        The decoded parts; empty if absent. The path keeps its leading slash.
    hosts : tuple of (str, int or None)
        Hosts with their ports, None where no port is given.
    query : dict
        The options as they were written.
    """

    __slots__ = ("hosts", "password", "path", "query", "scheme", "user")

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise BusURLError(f"a bus URL must be a string, not {type(url).__name__}")
        head, separator, rest = url.strip().partition("://")
        if not separator or not head:
            raise BusURLError(
                "a bus URL needs a scheme, as in 'mqtt://127.0.0.1' or 'memory://bench'"
                + ("" if "@" in url else f"; got {url!r}")
            )
        # Not left to urlsplit: newer ones take an IPv6 address for the only host that may be there.
        netloc = re.split("[/?#]", rest, maxsplit=1)[0]
        parts = urlsplit(f"bus://host{rest[len(netloc) :]}")
        if parts.fragment:
            raise BusURLError(
                f"a {head}:// URL has no part behind '#'; write '#' in a user or password as %23"
            )
        self.scheme = head.lower()
        identity, at, places = netloc.rpartition("@")
        user, _, password = identity.partition(":")
        self.user, self.password = unquote(user), unquote(password)
        if at and not self.user and not self.password:
            raise BusURLError(f"this {self.scheme}:// URL has an '@' without a user before it")
        self.hosts = tuple(self._place(place) for place in places.split(",")) if places else ()
        self.path = unquote(parts.path)
        self.query: Dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name in self.query:
                raise BusURLError(f"the option {name!r} is given twice in a {self.scheme}:// URL")
            self.query[name] = value

    def _place(self, place: str) -> Tuple[str, Optional[int]]:
        host, port = place, ""
        if place.startswith("["):  # an IPv6 address
            host, bracket, rest = place[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise BusURLError(f"this {self.scheme}:// URL has a host that cannot be read")
            port = rest[1:]
        elif ":" in place:
            host, _, port = place.rpartition(":")
        if not host:
            raise BusURLError(f"this {self.scheme}:// URL has a port but no host")
        if not host.isprintable():
            raise BusURLError(f"this {self.scheme}:// URL has a host that cannot be read")
        if not port:
            return unquote(host), None
        # int() would take more than digits: signs, spaces, underscores.
        if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise BusURLError(
                f"the port in a {self.scheme}:// URL must be a number from 1 to 65535; "
                "a ':' or '@' in a password is written as %3A or %40"
            )
        return unquote(host), int(port)

    def place(self, port: int, host: str = "127.0.0.1") -> Tuple[str, int]:
        """Give the one host and port of a broker that has one, with what stands in for neither."""
        if len(self.hosts) > 1:
            raise BusURLError(f"a {self.scheme}:// URL names one host, not {len(self.hosts)}")
        found, number = self.hosts[0] if self.hosts else (host, None)
        return found, number or port

    def options(self, known: Mapping[str, OptionType]) -> Dict[str, Any]:
        """Read the options that a driver knows.

        Raises
        ------
        BusURLError
            One that it does not know (with the nearest name), or a value that is not of its kind.
        """
        found = {}
        for name, value in self.query.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known)}"
                raise BusURLError(f"{self.scheme}:// has no option {name!r}: {hint}")
            try:
                found[name] = known[name](value)
            except ValueError as error:
                raise BusURLError(f"the option {name!r} of {self.scheme}:// {error}") from None
        return found

    def __str__(self) -> str:
        identity = self.user + (":***" if self.password else "")
        places = ",".join(
            (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
            for host, port in self.hosts
        )
        return f"{self.scheme}://{identity}{'@' if identity else ''}{places}{self.path}"

    def __repr__(self) -> str:
        return f"BusURL({str(self)!r})"


# ---- kinds of options ---------------------------------------------------------------------------


def text(value: str) -> str:
    """Take any text but the empty one."""
    if not value:
        raise ValueError("must not be empty")
    return value


def whole(least: int = 0) -> OptionType:
    """Take a whole number that is not below `least`."""

    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit()) or int(value) < least:
            raise ValueError(f"must be a whole number from {least} on, not {value!r}")
        return int(value)

    return read


def seconds(value: str) -> float:
    """Take a positive, finite number of seconds."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"must be a positive number of seconds, not {value!r}")
    return number


def flag(value: str) -> bool:
    """Take yes or no, true or false, on or off, 1 or 0."""
    known = dict.fromkeys(("1", "yes", "true", "on"), True)
    known.update(dict.fromkeys(("0", "no", "false", "off"), False))
    if value.lower() not in known:
        raise ValueError(f"must be yes or no, not {value!r}")
    return known[value.lower()]


def choice(*allowed: str) -> OptionType:
    """Take one of these words."""

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {value!r}")
        return value

    return read
