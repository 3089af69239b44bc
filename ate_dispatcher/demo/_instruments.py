"""Producers that own one VISA session each."""

from __future__ import annotations

import random
from typing import Any

from .._producer import Producer
from .._request import current_request
from ._bench import Place

__all__ = ["COMMANDS", "Instrument"]

COMMANDS = {
    "dmm": {
        "voltage": "MEAS:VOLT?",
        "resistance": "MEAS:RES?",
        "temperature": "MEAS:TEMP?",
    },
    "psu": {"current": "MEAS:CURR?", "setpoint": "VOLT?"},
}
"""What each kind of instrument is asked on which topic."""

SETTLING = 0.02
"""Seconds that a measurement takes."""


class InstrumentError(RuntimeError):
    """The instrument answered with something else than a number."""


class Instrument(Producer):
    """One simulated instrument: the session is opened, used and closed on this thread alone.

    Parameters
    ----------
    place : Place
    manager : pyvisa.ResourceManager
    seed : int
        Of the noise and of the faults: the same seed gives the same bench.
    too_slow, failing : float
        How often (0 to 1) it takes longer than its caller waits, or does not understand.
    """

    def __init__(
        self, place: Place, manager: Any, seed: int, too_slow: float = 0.0, failing: float = 0.0
    ) -> None:
        super().__init__(name=place.name, site=place.site)
        self._place = place
        self._manager = manager
        self._random = random.Random(f"{seed} {place.name}")
        self._too_slow = too_slow
        self._failing = failing
        self._session: Any = None

    def on_start(self) -> None:
        """Open the session, as with a real instrument."""
        self._session = self._manager.open_resource(
            self._place.resource, read_termination="\n", write_termination="\n"
        )
        identity = self._session.query("*IDN?")
        if "Simulated" not in identity:
            raise InstrumentError(f"{self._place.resource} says it is {identity!r}")

    def on_stop(self) -> None:
        """Close the session."""
        self._session.close()

    def produce_dispatcher_output(self, topic: str, *args: Any, **kwargs: Any) -> float:
        """Measure what the topic asks for."""
        noise = self._random.gauss(0.0, 0.002)
        slow = self._random.random() < self._too_slow
        failing = self._random.random() < self._failing
        current_request().sleep(30.0 if slow else SETTLING)
        current_request().check()  # the caller may have given up meanwhile
        command = "MEAS:NONSENSE?" if failing else COMMANDS[self._place.kind][topic]
        answer = self._session.query(command)
        try:
            return round(float(answer) * (1.0 + noise), 6)
        except ValueError:
            raise InstrumentError(f"{command!r} was answered with {answer!r}") from None
