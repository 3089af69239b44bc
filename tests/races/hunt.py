"""Hunt for races: run the scenarios under noise with ever new seeds.

    python tests/races/hunt.py [--minutes 10] [--seed 1]

Prints what it found, with the seed that shows it again, and how much it ran; fails if it found any.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import sys
import time

from noise import noise
from scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    end = time.monotonic() + arguments.minutes * 60
    seed, runs, found = arguments.seed, 0, 0
    while time.monotonic() < end:
        for scenario in SCENARIOS:
            faulthandler.dump_traceback_later(120, exit=True)  # a hang is a finding, too
            try:
                with noise(seed, share=(0.01, 0.03, 0.1)[seed % 3]) as chance:
                    scenario(chance)
            except Exception as error:
                found += 1
                print(f"FOUND {scenario.__name__} seed {seed}: {error!r}", flush=True)
            runs += 1
        seed += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{runs} runs, seeds {arguments.seed} to {seed - 1}, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
