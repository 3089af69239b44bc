"""How much of what happens may be looked at, so that looking costs a busy dispatcher little."""

from __future__ import annotations

__all__ = ["Allowance"]


class Allowance:
    """Says of how much a watcher may be told. No thread, no clock.

    Parameters
    ----------
    rate : float
        Things in a second that all of them are looked at.
    sample : float
        How many are looked at in a second when there are more.
    burst : int
        Of how many it may be told at once, at most.
    """

    def __init__(self, rate: float, sample: float, burst: int) -> None:
        self._rate = rate
        self._sample = sample
        self._burst = burst
        self._renewed = 0.0

    def renew(self, now: float, left: int, happening: float) -> int:
        """Give how many there may be from now on.

        Parameters
        ----------
        left : int
            What is left of the last allowance.
        happening : float
            How many things happen in a second.
        """
        rate = self._sample if happening > self._rate else self._rate
        earned = int((now - self._renewed) * rate)
        if earned < 1:
            return left
        self._renewed = now
        return min(self._burst, max(0, left) + earned)
