"""What goes over the wire: JSON in UTF-8, never pickle."""

from __future__ import annotations

import json
import math
from typing import Any, Tuple

from ._exceptions import NotJSONError, UndecodableMessageError

__all__ = ["check_json", "decode", "encode"]


def encode(data: Any) -> bytes:
    """Write data as JSON. A tuple becomes a list; everything else comes back as it went.

    Raises
    ------
    NotJSONError
        JSON has no form for it: the message names the path to the offending value, its type and
        the value.
    """
    check_json(data)
    try:
        return _ENCODER.encode(data).encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8, but JSON can spell it
        return _ASCII_ENCODER.encode(data).encode("ascii")


def decode(payload: bytes) -> Any:
    """Read JSON.

    Raises
    ------
    UndecodableMessageError
        It is none. The message shows how it begins.
    """
    try:
        return _DECODER.decode(payload.decode(json.detect_encoding(payload), "surrogatepass"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        begin = payload[:40] + (b"..." if len(payload) > 40 else b"")
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UndecodableMessageError(
            f"a message of {len(payload)} bytes is no JSON: {why}: {begin!r}"
        ) from None


def check_json(data: Any, name: str = "data") -> None:
    """Raise unless JSON has a form for `data`, tuples taken as lists.

    Raises
    ------
    NotJSONError
        It is not; the path in the message begins with `name`.
    """
    try:
        wrong = _find_wrong(data, name)
    except RecursionError:
        raise NotJSONError(f"{name} is nested too deeply for JSON, or contains itself") from None
    if wrong is not None:
        path, value, why = wrong
        raise NotJSONError(f"{path} {why}: {_shown(value)}")


_LEAVES = frozenset((str, int, bool, type(None)))


def _find_wrong(data: Any, path: str) -> Any:
    """Give path, value and fault of the first value that is no JSON; None if all is well."""
    kind = type(data)
    if kind in _LEAVES:
        return None
    if kind is float or isinstance(data, float):
        return None if math.isfinite(data) else (path, data, "is no number that JSON knows")
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                return path, key, f"has a key of type {type(key).__name__}, JSON has only strings"
            if type(value) not in _LEAVES:
                wrong = _find_wrong(value, f"{path}[{key!r}]")
                if wrong is not None:
                    return wrong
        return None
    if isinstance(data, (list, tuple)):
        for index, value in enumerate(data):
            if type(value) not in _LEAVES:
                wrong = _find_wrong(value, f"{path}[{index}]")
                if wrong is not None:
                    return wrong
        return None
    if isinstance(data, (str, int)):
        return None
    return path, data, f"is of type {kind.__name__}, which JSON has no form for"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _refuse_constant(name: str) -> Tuple[()]:
    raise ValueError(f"{name} is no number that JSON knows")


# Made once: `json.dumps` and `json.loads` make a new one each time that an option is given.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
