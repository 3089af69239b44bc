"""A test floor of eight sites, whose instruments fail, hang and crash as a seed has it.

The classes stand here, and not in a test, so that child processes can import them.
"""

from __future__ import annotations

import os
import random
import threading
import time

from ate_dispatcher import Producer, current_request

SITES = 8

RELEASED = threading.Event()
"""What hangs in a thread of this process hangs until this is set."""

FAULTS = {
    # What a measurement of a thread, or of a process, may meet; the rest of the chances is none.
    "dmm": [("wrong", 0.04), ("slow", 0.02), ("fail", 0.015), ("hang", 0.01), ("stream", 0.05)],
    "load": [("wrong", 0.04), ("slow", 0.02), ("crash", 0.02), ("hang", 0.01), ("stream", 0.05)],
}

QUICK = ("wrong", "stream")
"""Faults that the first devices may meet too: nobody waits for a deadline there."""

CERTAIN = {("dmm0", 0): "fail", ("dmm1", 0): "hang", ("load2", 0): "crash"}
"""Faults of the first devices, whatever the seed."""


class OutOfRange(ValueError):
    """The value is none."""


def drawn(seed, name, topic, device):
    """Give the value and the fault of one measurement; the same for the same arguments."""
    draw = random.Random(f"{seed} {name} {topic} {device}")
    value, chance = round(draw.gauss(5.0, 0.1), 6), draw.random()
    certain = CERTAIN.get((name, device))
    if certain is not None:
        return value, certain
    for fault, share in FAULTS[name.rstrip("0123456789")]:
        if chance < share:
            return value, fault if device >= SITES or fault in QUICK else None
        chance -= share
    return value, None


class Instrument(Producer):
    """Measures, or does not."""

    def __init__(self, seed, name, **options):
        super().__init__(name=name, **options)
        self.seed = seed

    def produce_dispatcher_output(self, topic, device):
        value, fault = drawn(self.seed, self.name, topic, device)
        if fault == "stream":
            return self.samples(value)
        if fault is not None:
            getattr(self, fault)()
        return value

    def wrong(self):
        raise OutOfRange("the value is none")

    def slow(self):
        current_request().sleep(60)
        current_request().check()

    def samples(self, value):
        for number in range(3):
            yield round(value + number / 1000, 6)
        return value


class Dmm(Instrument):
    """A thread."""

    def fail(self):
        raise SystemExit("the driver has given up")

    def hang(self):
        RELEASED.wait()


class Source(Instrument):
    """A load in a thread."""

    def crash(self):
        raise SystemExit("the driver has given up")

    def hang(self):
        self.slow()


class Load(Instrument):
    """A load in a child process: there it may go further."""

    def crash(self):
        os._exit(3)

    def hang(self):
        time.sleep(1000)


class Slot(Producer):
    """A site's place in the chamber that all share."""

    def __init__(self, site, soak):
        super().__init__(name=f"slot{site}", site=site)
        self.soak = soak

    def produce_dispatcher_output(self, topic, celsius):
        return self.soak(celsius)
