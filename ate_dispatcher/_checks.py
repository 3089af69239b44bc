"""Arguments that many classes take, checked in the same words."""

from __future__ import annotations

from typing import Any, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = [
    "check_list",
    "check_number",
    "check_seconds",
    "check_site",
    "check_sites",
    "check_whole",
]


def check_whole(value: Any, name: str, least: int = 1) -> int:
    """Give a whole number back that is not below `least`.

    Raises
    ------
    InvalidTypeError
        It is no whole number.
    InvalidArgumentError
        It is less.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidTypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise InvalidArgumentError(f"{name} must be at least {least}, not {value}")
    return value


def check_seconds(value: Any, name: str) -> float:
    """Give a number back, whatever its sign; which times make sense is for the caller to say.

    Raises
    ------
    InvalidTypeError
        It is none.
    """
    return check_number(value, name, "a number of seconds")


def check_number(value: Any, name: str, kind: str = "a number") -> float:
    """Give a number back; raise `InvalidTypeError` if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(f"{name} must be {kind}, not {value!r}")
    return value


def check_site(site: Any) -> None:
    """Raise `InvalidTypeError` unless it is what a site is called: a number or a string."""
    if isinstance(site, bool) or not isinstance(site, (int, str)):
        raise InvalidTypeError(f"a site must be a number or a string, not {site!r}")


def check_sites(sites: Any) -> Tuple[Any, ...]:
    """Give sites back as a tuple; raise `InvalidTypeError` if they are none."""
    if isinstance(sites, str):
        raise InvalidTypeError(f"sites must be a list of sites, not the string {sites!r}")
    listed = check_list(sites, "sites")
    for site in listed:
        check_site(site)
    return listed


def check_list(items: Any, name: str) -> Tuple[Any, ...]:
    """Give an iterable as a tuple; raise `InvalidTypeError` if it is none."""
    try:
        return tuple(items)
    except TypeError:
        raise InvalidTypeError(f"{name} must be a list, not {items!r}") from None
