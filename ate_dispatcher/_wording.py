"""What of a value or an error can always be told."""

from __future__ import annotations

from typing import Any

__all__ = ["short", "text_of"]


def short(value: Any) -> str:
    """Give the repr of a value, cut off where it gets long."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def text_of(error: Any) -> str:
    """Give what an error says, whatever its ``str`` does."""
    try:
        return str(error)
    except Exception as failure:
        return f"(its str() raised {type(failure).__name__})"
