"""The scenarios under scheduling noise: a few seeds each, so that the suite stays quick."""

from __future__ import annotations

import logging

import pytest
from noise import noise
from scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_invariants_hold_under_noise(scenario, caplog):
    """C1 to C9 hold whatever the interleaving; the seed of a failure reproduces it."""
    caplog.set_level(logging.CRITICAL, "ate_dispatcher")
    for seed in range(3):
        with noise(seed) as chance:
            scenario(chance)  # raises Broken where a promise does not hold
