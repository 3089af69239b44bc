"""The chamber that all sites share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

from .._producer import Producer
from .._request import current_request
from ..supervision import SiteBarrier
from ._bench import CHAMBER

if TYPE_CHECKING:
    import pyvisa

__all__ = ["SOAK", "Chamber", "Slot", "temperature"]

SOAK = "soak"
"""The topic on which every site waits until the chamber is at a temperature."""

TEMPERATURES = (25, -40, 85)
"""Degrees Celsius, round after round."""

SOAKING = 0.04
"""Seconds that the chamber takes."""


def temperature(number: int) -> int:
    """Give the temperature of a round, in degrees Celsius."""
    return TEMPERATURES[(number - 1) % len(TEMPERATURES)]


class Chamber:
    """One simulated chamber. It is moved once for all sites, when all of them have come.

    Parameters
    ----------
    manager : pyvisa.ResourceManager
        Opens the session.
    sites : iterable of int
        Who is in it.
    """

    def __init__(self, manager: pyvisa.ResourceManager, sites: Iterable[int]) -> None:
        self.soak = SiteBarrier(self._move, sites)
        self._session = manager.open_resource(
            CHAMBER, read_termination="\n", write_termination="\n"
        )

    def _move(self, celsius: float) -> float:
        """Go there. On the thread of the site that came last; no other is at it meanwhile."""
        self._session.write(f"TEMP {celsius:.1f}")  # type: ignore[attr-defined]
        current_request().sleep(SOAKING)
        return float(self._session.query("TEMP?"))  # type: ignore[attr-defined]


class Slot(Producer):
    """One site's place in the chamber.

    Parameters
    ----------
    site : int
    chamber : Chamber
    """

    def __init__(self, site: int, chamber: Chamber) -> None:
        super().__init__(name=f"slot{site}", site=site)
        self._chamber = chamber

    def produce_dispatcher_output(self, topic: str, celsius: float) -> float:
        """Wait with all other sites for a temperature, in degrees Celsius."""
        reached: float = self._chamber.soak(celsius)
        return reached
