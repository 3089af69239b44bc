"""Words of a command line as the arguments of a request, and as sites; and what is printed."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Sequence, Tuple, Union

from ._codec import decode
from ._exceptions import InvalidArgumentError, UndecodableMessageError

__all__ = ["arguments", "escaped", "site_of"]

_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, what ends lines or turns their direction round, half surrogate pairs."""


def arguments(words: Sequence[str]) -> Tuple[List[Any], Dict[str, Any]]:
    """Read arguments and keywords: JSON, or text that is none; ``name=value`` is a keyword.

    Raises
    ------
    InvalidArgumentError
        A keyword is the name of an option.
    """
    args: List[Any] = []
    kwargs: Dict[str, Any] = {}
    for word in words:
        keyword = re.match(r"([A-Za-z_]\w*)=", word)
        if keyword is None:
            args.append(_value(word))
        elif keyword[1] in ("topic", "ttl"):
            raise InvalidArgumentError(
                f"{keyword[1]} is no keyword of the work: use TOPIC and --ttl"
            )
        else:
            kwargs[keyword[1]] = _value(word[keyword.end() :])
    return args, kwargs


def site_of(word: str) -> Union[int, str]:
    """Read a site: a number, or a word as it is."""
    return int(word) if re.fullmatch(r"-?\d+", word) else word


def escaped(text: str) -> str:
    r"""Give a line of text for a terminal, which nothing in it can drive.

    What came from instruments or other programs may have control characters: they are spelled as
    JSON does, ``\u001b``, so that a line of JSON still says the same. Everything else is untouched.
    """
    return _UNSHOWABLE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _value(word: str) -> Any:
    try:
        return decode(word.encode("utf-8", "surrogatepass"))
    except UndecodableMessageError:
        return word
