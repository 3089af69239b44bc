"""How long to wait before the next attempt: exponential back-off with jitter and a cap."""

from __future__ import annotations

import random
from typing import Callable, Optional

from ._checks import check_number, check_seconds
from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["Backoff"]


class Backoff:
    """Waits that double from attempt to attempt up to a cap.

    Parameters
    ----------
    first : float
        Seconds before the first repetition.
    cap : float
        Seconds that no wait exceeds.
    factor : float
        What each wait is a multiple of the one before by.
    jitter : float
        Share of each wait, from 0 to 1, that is left to chance, so that many clients of one broker
        do not all come back at once.
    draw : callable, optional
        Gives a number from 0 (inclusive) to 1 (exclusive); `random.random`.

    Raises
    ------
    InvalidTypeError
        A wait, factor or jitter that is no number, or a `draw` that cannot be called.
    InvalidArgumentError
        A wait that is not positive, a cap below the first wait, a factor below 1, or a jitter
        outside 0 to 1.

    Notes
    -----
    The jitter takes away: a wait lies between ``(1 - jitter) * w`` and ``w``, as in "equal jitter"
    of M. Brooker, "Exponential Backoff And Jitter", 2015. Not thread-safe: it counts for one owner.
    Whoever takes one (`Restart`, `Channels`) counts in a copy, so it can be given to many.
    """

    def __init__(
        self,
        first: float = 0.5,
        cap: float = 30.0,
        *,
        factor: float = 2.0,
        jitter: float = 0.5,
        draw: Callable[[], float] = random.random,
    ) -> None:
        check_seconds(first, "first")
        check_seconds(cap, "cap")
        check_number(factor, "factor")
        check_number(jitter, "jitter")
        if not callable(draw):
            raise InvalidTypeError(f"draw must be callable, not {draw!r}")
        if not 0 < first <= cap:
            raise InvalidArgumentError(
                f"the first wait must be positive and not above the cap: first={first}, cap={cap}"
            )
        if not factor >= 1:
            raise InvalidArgumentError(f"factor must be at least 1, not {factor}")
        if not 0 <= jitter <= 1:
            raise InvalidArgumentError(f"jitter must be between 0 and 1, not {jitter}")
        self.first = first
        self.cap = cap
        self.factor = factor
        self.jitter = jitter
        self._draw = draw
        self._next = first

    def next(self) -> float:
        """Give the seconds to wait now; the following wait is longer."""
        wait = self._next
        self._next = min(self.cap, wait * self.factor)
        return wait - wait * self.jitter * self._draw()

    def reset(self, first: Optional[float] = None) -> None:
        """Begin again with the first wait, after an attempt that succeeded; or with this one."""
        self._next = self.first if first is None else min(first, self.cap)
