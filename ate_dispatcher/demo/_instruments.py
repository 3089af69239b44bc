"""Producers that own one VISA session each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Union

from .._producer import Producer
from .._request import current_request
from ._bench import Place
from ._script import Script

if TYPE_CHECKING:
    import pyvisa

__all__ = ["COMMANDS", "IDENTITY", "Instrument", "InstrumentError", "PowerSupply"]

IDENTITY = "identity"
"""The topic on which every instrument says who it is."""

COMMANDS = {
    "dmm": {
        "voltage": "MEAS:VOLT?",
        "resistance": "MEAS:RES?",
        "temperature": "MEAS:TEMP?",
    },
    "psu": {"current": "MEAS:CURR?", "setpoint": "VOLT?"},
}
"""What each kind of instrument is asked on which topic."""

SETTLING = 0.03
"""Seconds that a measurement takes."""

STUCK = 30.0
"""Seconds that it takes when the instrument is too slow: longer than anybody waits."""


class InstrumentError(RuntimeError):
    """The instrument answered with something else than a number."""


class Instrument(Producer):
    """One simulated instrument: the session is opened, used and closed on this thread alone.

    Parameters
    ----------
    place : Place
        Where it stands and how it is reached.
    manager : pyvisa.ResourceManager
        Opens the session.
    script : Script
        When it is too slow, and when it is sent what it does not understand.
    """

    def __init__(self, place: Place, manager: pyvisa.ResourceManager, script: Script) -> None:
        super().__init__(name=place.name, site=place.site, resources=place.shares)
        self.place = place
        self._manager = manager
        self._script = script
        self._session: Any = None

    def on_start(self) -> None:
        """Open the session, as with a real instrument."""
        self._session = self._manager.open_resource(
            self.place.resource, read_termination="\n", write_termination="\n"
        )

    def on_stop(self) -> None:
        """Close the session."""
        self._session.close()

    def produce_dispatcher_output(self, topic: str, number: int = 0) -> Union[float, str]:
        """Measure what the topic asks for, in the round of that number."""
        if topic == IDENTITY:
            return str(self._session.query("*IDN?"))
        turn = self._script.turn(self.name, topic, number)
        request = current_request()
        request.sleep(STUCK if turn.fault == "slow" else SETTLING)
        request.check()  # nobody waits for it any more: leave the instrument alone
        command = COMMANDS[self.place.kind][topic]
        return self._read("MEAS:NONSENSE?" if turn.fault == "failing" else command, turn.factor)

    def _read(self, command: str, factor: float) -> float:
        answer = self._session.query(command)
        try:
            return round(float(answer) * factor, 6)
        except ValueError:
            raise InstrumentError(f"{command!r} was answered with {answer!r}") from None


class PowerSupply(Instrument):
    """One whose output is on as long as it is in use, and off on every way out.

    Parameters
    ----------
    place, manager, script
        See `Instrument`.
    switched_off : list of str
        Gets its name once its output is off: appended on its own thread, read when all is over.
    """

    def __init__(
        self,
        place: Place,
        manager: pyvisa.ResourceManager,
        script: Script,
        switched_off: List[str],
    ) -> None:
        super().__init__(place, manager, script)
        self._switched_off = switched_off

    def on_start(self) -> None:
        """Open the session and switch the output on."""
        super().on_start()
        self._session.write("OUTP 1")

    def safe_state(self) -> None:
        """Switch the output off, and see that it is."""
        self._session.write("OUTP 0")
        if self._session.query("OUTP?") == "0":
            self._switched_off.append(self.name)
