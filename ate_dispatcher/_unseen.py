"""Failures that nobody looked at: said in the log when the handle is thrown away."""

from __future__ import annotations

import logging
from typing import Any, List, Tuple

__all__ = ["UnseenFailures"]

logger = logging.getLogger("ate_dispatcher")


class UnseenFailures:
    """What producers raised in one request, until somebody looks at the request.

    Written by the dispatcher's thread; `seen` is one assignment, from any thread.
    """

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures: List[Tuple[str, str, Any]] = []

    @classmethod
    def note(cls, request: Any, failure: Any) -> None:
        """Note one failure, unless somebody waits for the request already."""
        extra = request.extra()
        if extra.readers or request.awaited:
            return
        if extra.unseen is None:
            extra.unseen = cls()
        extra.unseen._failures.append((failure.topic, failure.producer, failure.exception))

    def seen(self) -> None:
        """Somebody looks: nothing is lost."""
        self._failures = []

    def __del__(self) -> None:
        for topic, producer, error in self._failures:
            logger.error(
                "producer %r raised on %r and nobody looked at the request",
                producer,
                topic,
                exc_info=error,
            )
