"""A station that looks after itself: restarts, a process that can be ended, sites that meet.

    python supervised_station.py

Four sites share one chamber. One driver crashes and one hangs: each costs its own answer and
nothing else.
"""

import functools
import logging
import os
import time

from ate_dispatcher import AgentState, ATEDispatcher, Observer, Producer
from ate_dispatcher.supervision import ProcessProducer, Restart, SiteBarrier, Supervisor


class Dmm(Producer):
    """An instrument whose driver is not to be trusted."""

    def produce_dispatcher_output(self, topic, what):
        if what == "hang":
            time.sleep(60)  # in a driver, out of our reach
        if what == "crash":
            os._exit(3)
        return 5.01


class Slot(Producer):
    """A socket in the chamber."""

    def __init__(self, soak, site):
        super().__init__(name=f"slot{site}", site=site)
        self.soak = soak

    def produce_dispatcher_output(self, topic, celsius):
        if celsius > 125:
            raise SystemExit(f"{self.name}: contact lost")  # fails this agent
        self.soak(celsius)  # waits for the other sites; the chamber is set once
        return "soaked"


class Changes(Observer):
    def on_agent(self, name, state):
        if state in (AgentState.FAILED, AgentState.STALLED):
            logging.warning("%s %s", name, state.value)


def set_chamber(celsius):
    print(f"chamber at {celsius} degrees")


def main():
    with ATEDispatcher() as dispatcher, Supervisor(dispatcher) as supervisor:
        dispatcher.add_observer(Changes())

        # A process that is ended when it hangs, and replaced when it crashes.
        dmm = functools.partial(ProcessProducer, Dmm, name="dmm", grace=0.2)
        supervisor.run(dmm, "voltage", restart=Restart(attempts=3), stall_after=30.0)
        for what in ("measure", "crash", "hang", "measure"):
            ttl = 500 if what == "hang" else 20_000
            (outcome,) = dispatcher.send_request("voltage", what, ttl=ttl).gather().outcomes
            print(what, outcome.status.value, outcome.value)  # its reason says how it ended

        # Sites that meet once for what they share; a disabled one is not waited for.
        soak = SiteBarrier(set_chamber)
        for site in range(4):
            supervisor.run(functools.partial(Slot, soak, site), "soak", restart=Restart(attempts=0))
        dispatcher.disable_site(2)
        print(sorted(dispatcher.send_request("soak", 85).gather().values))

        # What fails for good is told by name.
        dispatcher.with_options(to="slot3").send_request("soak", 150).gather()
        supervisor.supervised["slot3"].wait()
        print(sorted(dispatcher.send_request("soak", 25).gather().values))
        print({name: state.value for name, state in supervisor.states.items()})


if __name__ == "__main__":  # the child process imports this file
    main()
