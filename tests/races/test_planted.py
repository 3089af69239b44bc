"""The noise finds what it is there to find: two races are planted, and most seeds show them.

Each plant is harmless while everybody takes turns, so that what is found is a race and no plain
mistake.
"""

from __future__ import annotations

import logging

import pytest
import scenarios
from noise import noise
from scenarios import Broken, registrations, stop_after_answers

from ate_dispatcher import ATEDispatcher
from ate_dispatcher._lifetime import Shutdown

SEEDS = range(10)


class LosesRegistrations(ATEDispatcher):
    """The routes are written by the callers' threads: read, change, write back."""

    def _register(self, agent, subject):
        agent._ate_join(self._home)
        self._agents[agent.name] = agent
        table = dict(self._routes._producers.get(subject, {}))
        table[agent._ate_address] = None
        self._routes._subjects[agent._ate_address] = {subject: None}
        self._routes._producers[subject] = table


class Overtakes(Shutdown):
    """Takes an empty mailbox for the end: agents are dismissed before answers on their way."""

    def proceed(self):
        if self.accepting and not self._dispatcher._mailbox.qsize():
            self.accepting = False
            self._dismiss()
        return self.accepting or super().proceed()


@pytest.fixture
def overtaking(monkeypatch):
    monkeypatch.setattr("ate_dispatcher._dispatching.Shutdown", Overtakes)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "ate_dispatcher")


def found(scenario, make=ATEDispatcher):
    """Give in how many of the seeds the scenario notices."""
    count = 0
    for seed in SEEDS:
        with noise(seed, share=0.1, files="") as chance:
            try:
                scenario(chance, make)
            except Broken:
                count += 1
    return count


def test_a_lost_registration_is_found():
    """C8: routes written by read-modify-write from many threads lose one in 9 of 10 runs."""
    assert found(registrations, LosesRegistrations) >= 9


def test_the_lost_registration_is_a_race(monkeypatch):
    """C8: callers that take turns lose nothing in the same scenario."""
    monkeypatch.setattr(scenarios, "together", lambda *calls: [call() for call in calls])
    assert found(registrations, LosesRegistrations) == 0


def test_a_stop_that_overtakes_an_outcome_is_found(overtaking):
    """C9: a stop that does not see outcomes on their way loses results in 9 of 10 runs."""
    assert found(stop_after_answers) >= 9


def test_the_overtaking_stop_is_a_race(overtaking, monkeypatch):
    """C9: it loses nothing when the answers came before the stop, in the same scenario."""

    class Waits(ATEDispatcher):
        def stop(self, drain=True, timeout=None):
            assert self.flush(scenarios.BOUND)
            return super().stop(drain, timeout)

    assert found(stop_after_answers, Waits) == 0
