"""The noise finds what it is there to find: two races are planted, and most seeds show them."""

from __future__ import annotations

import logging

from noise import noise
from scenarios import Broken, registrations, stop_after_answers

from ate_dispatcher import ATEDispatcher
from ate_dispatcher import _lifetime as lifetime

SEEDS = 10
MOST = 6
"""On a machine that does nothing else it is 9 or 10 of 10; a busy one shuffles threads itself."""


class LosesRegistrations(ATEDispatcher):
    """The routes are written by the callers' threads: read, change, write back."""

    def _register(self, agent, subject):
        table = dict(self._routes._producers.get(subject, {}))
        hooks = None
        agent._ate_check_hooks()
        if agent._ate_gone or hooks is not None:
            return
        with self._lock:
            self._agents[agent.name] = agent
            agent._ate_join(self._home)
        table[agent._ate_address] = len(table)
        self._routes._producers[subject] = table
        self._routes._subjects.setdefault(agent._ate_address, {})[subject] = None


class Overtakes(lifetime.Shutdown):
    """Does not wait for the open requests: agents are dismissed beside outcomes on their way."""

    def proceed(self):
        if self.accepting:
            self.accepting = False
            self._dismiss()
            self._end(tuple(self._dispatcher._deadlines))
        return super().proceed()


def found(scenario, make):
    count = 0
    for seed in range(SEEDS):
        with noise(seed, files="") as chance:
            try:
                scenario(chance, make)
            except Broken:
                count += 1
    return count


def test_a_lost_registration_is_found(caplog):
    """C8: routes written by read-modify-write from many threads lose one in most runs."""
    caplog.set_level(logging.CRITICAL, "ate_dispatcher")
    assert found(registrations, LosesRegistrations) >= MOST


def test_a_stop_that_overtakes_an_outcome_is_found(caplog, monkeypatch):
    """C9: a stop that does not let requests end first loses results in most runs."""
    caplog.set_level(logging.CRITICAL, "ate_dispatcher")
    monkeypatch.setattr("ate_dispatcher._dispatching.Shutdown", Overtakes)
    assert found(stop_after_answers, ATEDispatcher) >= MOST
