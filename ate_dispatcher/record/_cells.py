"""JSON values as text in the cells of a table, readable, and read back as they were.

Text stands as it is wherever it cannot be taken for something else; all the rest is JSON. So a
voltage is ``5.01``, a serial number that is text ``"0501"``, and no value an empty cell. A cell
never holds a line end, so that a row is a line; nor does it begin as a formula of a spreadsheet.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["from_cell", "to_cell", "to_json"]

FORMULA = ("=", "+", "-", "@")


def to_cell(plain: Any) -> str:
    """Write one JSON value as a cell."""
    if plain is None:
        return ""
    if type(plain) is str and plain and plain.isprintable() and not plain.startswith(FORMULA):
        try:
            _DECODER.decode(plain)
        except ValueError:
            return plain
        except RecursionError:
            pass
    return to_json(plain)


def from_cell(cell: str) -> Any:
    """Read what `to_cell` wrote."""
    if not cell:
        return None
    try:
        return _DECODER.decode(cell)
    except (ValueError, RecursionError):
        return cell


def to_json(plain: Any) -> str:
    """Write JSON that UTF-8 can hold: half a surrogate pair is spelled out."""
    text = _ENCODER.encode(plain)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _ASCII_ENCODER.encode(plain)
    return text


# Made once: `json.dumps` makes a new one each time that an option is given.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder()
