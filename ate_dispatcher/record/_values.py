"""Values as JSON that gives them back: what JSON lacks is written as an object of one ``~name``.

``{"~bytes": "AAE="}``, ``{"~tuple": [1, 2]}``, ``{"~float": "nan"}``. An array of NumPy or its like
is written as the list of its numbers. What has no form is written as its type and repr, never lost,
and comes back as `Unserialised`.
"""

from __future__ import annotations

import base64
import datetime
import math
from decimal import Decimal
from traceback import format_exception
from typing import Any, Callable, Dict, Iterable, List, Set, Tuple

from .._exceptions import RecordedError

__all__ = ["Unserialised", "decode", "encode", "encode_exception"]

DEEPEST = 50
"""Containers within containers; what lies deeper is written as its repr."""

LONGEST = 4096
"""Bits of a whole number written in decimal; Python limits the digits that it reads."""


class Unserialised:
    """Stands in for a value that a recording could only describe.

    Attributes
    ----------
    type_name : str
        The full name of the value's type.
    text : str
        Its repr.
    """

    __slots__ = ("text", "type_name")

    def __init__(self, type_name: str, text: str) -> None:
        self.type_name = type_name
        self.text = text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Unserialised):
            return NotImplemented
        return (self.type_name, self.text) == (other.type_name, other.text)

    def __hash__(self) -> int:
        return hash((self.type_name, self.text))

    def __repr__(self) -> str:
        return f"<Unserialised {self.type_name}: {self.text}>"


def encode(value: Any) -> Tuple[Any, bool]:
    """Give the JSON form of a value, and whether `decode` gives an equal value back."""
    kind = type(value)
    if kind is str or value is None or (kind is float and math.isfinite(value)):
        return value, True
    encoder = _Encoder()
    return encoder.plain(value), encoder.exact


def encode_exception(error: BaseException) -> List[str]:
    """Give type name, text and traceback of an exception, as `RecordedError` takes them."""
    if isinstance(error, RecordedError):  # a recording that is recorded again
        return [error.type_name, error.text, error.traceback]
    try:
        text = str(error)
        traceback = "".join(format_exception(type(error), error, error.__traceback__))
    except Exception as worse:
        text = traceback = f"<its text cannot be had: {type(worse).__name__}>"
    return [_type_name(error), text, traceback]


def decode(plain: Any) -> Any:
    """Give the value that `encode` was given.

    Raises
    ------
    ValueError
        No value has that form.
    """
    if isinstance(plain, list):
        return [decode(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        ((name, content),) = plain.items()
        if name.startswith("~"):
            return _decode_named(name, content)
    return {name: decode(item) for name, item in plain.items()}


class _Encoder:
    """Encodes one value; `exact` tells at the end whether all of it could be."""

    def __init__(self) -> None:
        self.exact = True
        self._inside: Set[int] = set()  # the containers that we are in

    def plain(self, value: Any) -> Any:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is float:
            return value if math.isfinite(value) else {"~float": repr(value)}
        if kind is int:
            return value if value.bit_length() <= LONGEST else {"~int": hex(value)}
        if id(value) in self._inside or len(self._inside) >= DEEPEST:
            return self._described(value)
        self._inside.add(id(value))
        try:
            return self._form(value)
        except Exception:  # the producer goes on changing it, or its own methods raise
            return self._described(value)
        finally:
            self._inside.discard(id(value))

    def _form(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list):
            return self._items(value)
        for kind, name, form in _FORMS:
            if isinstance(value, kind):
                return {name: form(value)}
        for kind, name in _CONTAINERS:
            if isinstance(value, kind):
                return {name: self._items(value)}
        for kind, convert in _SUBCLASSES:  # an IntEnum, a number of another library
            if isinstance(value, kind):
                return self.plain(convert(value))
        if isinstance(value, BaseException):
            self.exact = False
            return {"~exception": encode_exception(value)}
        if hasattr(value, "dtype") and hasattr(value, "tolist"):  # numbers of NumPy and its like
            numbers = value.tolist()
            self.exact = self.exact and not isinstance(numbers, list)  # a scalar equals its own
            return self.plain(numbers)
        return self._described(value)

    def _items(self, values: Iterable[Any]) -> List[Any]:
        return [self.plain(item) for item in tuple(values)]

    def _mapping(self, value: Dict[Any, Any]) -> Any:
        items = tuple(value.items())
        if all(type(key) is str and not key.startswith("~") for key, _ in items):
            return {key: self.plain(item) for key, item in items}
        return {"~dict": [[self.plain(key), self.plain(item)] for key, item in items]}

    def _described(self, value: Any) -> Any:
        self.exact = False
        if isinstance(value, Unserialised):  # a recording that is recorded again
            return {"~repr": [value.type_name, value.text]}
        try:
            text = repr(value)
        except Exception as error:
            text = f"<its repr raised {type(error).__name__}>"
        return {"~repr": [_type_name(value), text]}


def _type_name(value: Any) -> str:
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _base64(data: Any) -> str:
    return base64.b64encode(data).decode("ascii")


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _isoformat(value: Any) -> str:
    text: str = value.isoformat()
    return text


_FORMS: Tuple[Tuple[type, str, Callable[[Any], Any]], ...] = (
    (bytes, "~bytes", _base64),
    (bytearray, "~bytearray", _base64),
    (datetime.datetime, "~datetime", _isoformat),  # before the date that it is too
    (datetime.date, "~date", _isoformat),
    (datetime.time, "~time", _isoformat),
    (datetime.timedelta, "~timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    (complex, "~complex", lambda v: [repr(v.real), repr(v.imag)]),
    (Decimal, "~decimal", str),
)
_CONTAINERS = ((tuple, "~tuple"), (set, "~set"), (frozenset, "~frozenset"))
_SUBCLASSES: Tuple[Tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)

_READERS: Dict[str, Callable[[Any], Any]] = {
    "~bytes": _unbase64,
    "~bytearray": lambda text: bytearray(_unbase64(text)),
    "~datetime": datetime.datetime.fromisoformat,
    "~date": datetime.date.fromisoformat,
    "~time": datetime.time.fromisoformat,
    "~timedelta": lambda parts: datetime.timedelta(*parts),
    "~complex": lambda parts: complex(float(parts[0]), float(parts[1])),
    "~decimal": Decimal,
    "~float": float,
    "~int": lambda text: int(text, 16),
    "~tuple": lambda items: tuple(decode(items)),
    "~set": lambda items: set(decode(items)),
    "~frozenset": lambda items: frozenset(decode(items)),
    "~dict": lambda items: {decode(key): decode(item) for key, item in items},
    "~exception": lambda parts: RecordedError(*parts),
    "~repr": lambda parts: Unserialised(*parts),
}


def _decode_named(name: str, content: Any) -> Any:
    reader = _READERS.get(name)
    if reader is None:
        raise ValueError(f"there is no value of the form {name!r}")
    try:
        return reader(content)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{name} cannot be {content!r:.60}: {error}") from None
