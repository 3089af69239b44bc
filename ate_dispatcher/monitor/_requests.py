"""Which HTTP requests are for us, and what every answer says about itself."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from typing import Any, FrozenSet, Iterable, Optional, Sequence
from urllib.parse import parse_qs

from .._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["HEADERS", "Door", "check_token", "is_loopback"]

SHORTEST = 16
"""Characters of a token."""

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
"""Nothing but our own files is run, nobody else may embed or read what we say."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Of names only localhost is trusted."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and bool(address.is_loopback)


def check_token(token: Any, host: str) -> Optional[str]:
    """Give the token back, or raise: beyond this machine there must be one.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        It is no string, too short or not printable ASCII, or missing where it is needed. The
        message does not contain it.
    """
    if token is None:
        if not is_loopback(host):
            raise InvalidArgumentError(
                f"a monitor that others can reach (host={host!r}) needs token=, such as "
                "secrets.token_urlsafe()"
            )
        return None
    if not isinstance(token, str):
        raise InvalidTypeError(f"a token must be a string, not {type(token).__name__}")
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgumentError(
            f"a token must have at least {SHORTEST} printable ASCII characters and no space"
        )
    return token


class Door:
    """Lets in who may come in. Pure; any thread.

    Parameters
    ----------
    host, port : str, int
        Where we are bound.
    token : str, optional
        What must be shown. The cookie is derived from it, so it tells the token to nobody and
        outlives a restart with the same one.
    """

    def __init__(self, host: str, port: int, token: Optional[str]) -> None:
        self._port = port
        self._names: FrozenSet[str] = frozenset(
            {"localhost", host.lower()}
            | ({socket.gethostname().lower()} if not is_loopback(host) else set())
        )
        self._token = token
        self.cookie_name = f"ate_monitor_{port}"
        self.cookie = (
            ""
            if token is None
            else hmac.new(token.encode(), b"ate-dispatcher monitor", hashlib.sha256).hexdigest()
        )

    def knows_host(self, hosts: Sequence[str]) -> bool:
        """Whether the Host headers name us: as an address, or by a name that is ours.

        A page of somebody else's, whose name was made to point here, sends that name.
        """
        if len(hosts) != 1:
            return False
        name, port = _split(hosts[0].strip().lower())
        return port == str(self._port) and (name in self._names or _address(name) is not None)

    def admits(self, cookies: Iterable[str], authorization: str) -> bool:
        """Whether the cookie or the ``Authorization: Bearer`` header is right."""
        if self._token is None:
            return True
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() == "bearer" and _same(shown.strip(), self._token):
            return True
        pairs = (part.strip().partition("=") for line in cookies for part in line.split(";"))
        return any(name == self.cookie_name and _same(v, self.cookie) for name, _, v in pairs)

    def has_key(self, query: str) -> bool:
        """Whether a query has the right ``token=``."""
        whole = query.replace("+", "%2B")  # no token has the space that it would stand for
        shown = parse_qs(whole, max_num_fields=10).get("token", []) if query else []
        return self._token is not None and len(shown) == 1 and _same(shown[0], self._token)


def _same(shown: str, right: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "replace"), right.encode())


def _split(host: str) -> Sequence[str]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, "80"
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name, port


def _address(host: str) -> Any:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
