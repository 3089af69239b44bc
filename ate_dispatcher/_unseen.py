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

    __slots__ = ("_callbacks", "_failures")

    def __init__(self, callbacks: Any) -> None:
        self._callbacks = callbacks
        self._failures: List[Tuple[str, str, Any]] = []

    @classmethod
    def note(cls, request: Any, failure: Any) -> None:
        """Note one failure, unless somebody waits for the request already."""
        extra = request.extra()
        if extra.readers or request.awaited:
            return
        if extra.unseen is None:
            callbacks = request._home.callbacks
            callbacks.start()  # a log handler is code of the user's, and may be slow
            extra.unseen = cls(callbacks)
        extra.unseen._failures.append((failure.topic, failure.producer, failure.exception))

    def seen(self) -> None:
        """Somebody looks: nothing is lost."""
        self._failures = []

    def __del__(self) -> None:
        if self._failures:
            self._callbacks.post(_log, self._failures)


def _log(failures: List[Tuple[str, str, Any]]) -> None:
    for topic, producer, error in failures:
        logger.error(
            "producer %r raised on %r and nobody looked at the request",
            producer,
            topic,
            exc_info=error,
        )
