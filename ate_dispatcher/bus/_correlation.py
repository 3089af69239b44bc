"""Which answer belongs to which question: correlation identifiers and who waits for them."""

from __future__ import annotations

import itertools
import os
from typing import Any, Callable, Dict

__all__ = ["Correlations", "unique_word"]


def unique_word() -> str:
    """Give a word that no other process and no earlier run has used; it may stand in a topic."""
    return os.urandom(8).hex()


class Correlations:
    """The questions that are still open. Thread-safe without a lock.

    Each operation on the table is one dict operation, which is atomic: under the global interpreter
    lock because it is one C call on strings, without it because a dict locks itself. Whoever takes
    an entry out (`close`) has it; an answer that finds none is late. The next number is one C call
    under the global lock, and one atomic exchange where CPython (from 3.13 on) has none.
    """

    def __init__(self) -> None:
        self._prefix = unique_word()
        self._numbers = itertools.count(1)
        self._open: Dict[str, Callable[[Any], Any]] = {}

    def open(self, answered: Callable[[Any], Any]) -> str:
        """Begin a question; `answered` is called, on the thread that hears it, for each answer."""
        identifier = f"{self._prefix}-{next(self._numbers)}"
        self._open[identifier] = answered
        return identifier

    def answer(self, identifier: str, message: Any) -> bool:
        """Hand an answer to whoever asked; False if nobody waits (any more)."""
        answered = self._open.get(identifier)
        if answered is None:
            return False
        answered(message)
        return True

    def answer_all(self, message: Any) -> None:
        """Hand the same to everybody who waits now, as when there will be no answers any more."""
        for answered in self._open.copy().values():  # the copy is one step, too
            answered(message)

    def close(self, identifier: str) -> bool:
        """End a question; False if it had ended."""
        return self._open.pop(identifier, None) is not None

    def __len__(self) -> int:
        return len(self._open)
