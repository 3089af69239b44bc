"""What each measurement is to meet: its noise and its fault, decided by the seed alone."""

from __future__ import annotations

import random
from typing import List, NamedTuple, Optional

from ._bench import Place

__all__ = ["Script", "Turn"]


class Turn(NamedTuple):
    """What one measurement meets: a factor on the value, and "slow", "failing" or no fault."""

    factor: float
    fault: Optional[str]


class Script:
    """The faults of a run: the last instrument is now and then slow, the first sometimes fails.

    Each turn is drawn for itself, so that the script stays the same however the run goes.

    Parameters
    ----------
    seed : int
        The same seed gives the same script.
    bench : list of Place
        Who takes part.
    """

    def __init__(self, seed: int, bench: List[Place]) -> None:
        self._seed = seed
        self._slow = bench[-1].name
        self._failing = bench[0].name

    def turn(self, instrument: str, topic: str, number: int) -> Turn:
        """Say what an instrument meets when it is asked for a topic in one round."""
        draw = random.Random(f"{self._seed} {instrument} {topic} {number}")
        factor, chance = 1.0 + draw.gauss(0.0, 0.002), draw.random()
        if instrument == self._slow and chance < 0.12:
            return Turn(factor, "slow")
        if instrument == self._failing and chance > 0.85:
            return Turn(factor, "failing")
        return Turn(factor, None)
