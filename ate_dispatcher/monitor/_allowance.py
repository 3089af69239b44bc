"""How much of what happens may be looked at, so that looking costs a busy dispatcher little."""

from __future__ import annotations

__all__ = ["Allowance"]


class Allowance:
    """A bucket of tokens, one for each thing noted. No thread, no clock.

    Parameters
    ----------
    rate : float
        Tokens that come back in a second.
    burst : int
        How many there are at most.

    Notes
    -----
    `note` runs on the one thread that notes, `renew` on another, and neither locks: `noted` is
    written by the first alone and `_limit` by the second alone, and both only grow. A reader may
    see an old value of the other's number, and is a little too strict or too generous, once.
    What was noted beyond the limit is a debt: it is paid off before anything is allowed again.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = float(burst)
        self._renewed = 0.0
        self.noted = 0

    def note(self) -> bool:
        """Count one thing; whether another may follow."""
        self.noted += 1
        return self._limit - self.noted >= 1.0

    def renew(self, now: float) -> bool:
        """Give back what time has earned; whether there is any allowance."""
        earned = max(0.0, now - self._renewed) * self._rate
        self._renewed = now
        self._limit = min(self._limit + earned, self.noted + self._burst)
        return self._limit - self.noted >= 1.0
