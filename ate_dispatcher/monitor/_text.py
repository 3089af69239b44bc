"""Values in a few words, whatever they are."""

from __future__ import annotations

from itertools import islice
from reprlib import Repr
from typing import Any, Dict, FrozenSet, Set

__all__ = ["LONGEST", "brief", "shortened"]

LONGEST = 120
"""Characters of a value that are shown."""

BITS = 400
"""Of a whole number that is shown in decimal."""


class _Brief(Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, LONGEST, LONGEST, LONGEST

    def repr_bytes(self, value: Any, level: int) -> str:
        return repr(bytes(value[:32])) + (f"… ({len(value)} bytes)" if len(value) > 32 else "")

    repr_bytearray = repr_bytes

    # What the base class is given it sorts first, all of it.

    def repr_dict(self, value: Dict[Any, Any], level: int) -> str:
        return super().repr_dict(dict(islice(value.items(), self.maxdict + 1)), level)

    def repr_set(self, value: Set[Any], level: int) -> str:
        return super().repr_set(set(islice(value, self.maxset + 1)), level)

    def repr_frozenset(self, value: FrozenSet[Any], level: int) -> str:
        return super().repr_frozenset(frozenset(islice(value, self.maxfrozenset + 1)), level)

    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write numbers of very many digits."""
        bits = value.bit_length()
        return repr(value) if bits <= BITS else f"a whole number of {bits} bits"


_BRIEF = _Brief()


def brief(value: Any) -> str:
    """Give a value's repr, cut short before it is made where its type allows that.

    Never raises: a repr that does is told by its error's type.
    """
    kind = type(value)
    if kind is float or value is None or kind is bool:
        return repr(value)
    try:
        return shortened(_BRIEF.repr(value), LONGEST)
    except Exception as error:
        return f"<{kind.__name__}, whose repr raised {type(error).__name__}>"


def shortened(text: str, longest: int) -> str:
    """Cut a text that is too long, and show that it was."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
