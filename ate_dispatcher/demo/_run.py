"""The demo's script: build the bench, scatter measurements, show and sum up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import List

import pyvisa
from rich.console import Console

from .._request import Request
from ..dispatcher import ATEDispatcher
from ._bench import places, write_bench
from ._display import Display, summary
from ._instruments import COMMANDS, Instrument
from ._listeners import CSVFile

__all__ = ["run_demo"]

TTL = 250
"""Milliseconds that a measurement may take."""


def run_demo(
    devices: int = 8,
    rounds: int = 5,
    seed: int = 1,
    color: bool = True,
    output: Path = Path("results.csv"),
) -> int:
    """Run the demo.

    Parameters
    ----------
    devices, rounds : int
        How many instruments, and how often each topic is asked.
    seed : int
        The same seed gives the same values and the same faults.
    color : bool
        False for plain text.
    output : Path
        The CSV file to write.

    Returns
    -------
    int
        0 if every request's outcomes add up to its roster, 1 otherwise, 130 after Ctrl-C.
    """
    console = Console(no_color=not color, highlight=color)
    bench = places(devices)
    topics = sorted({topic for place in bench for topic in COMMANDS[place.kind]})
    requests: List[Request] = []
    interrupted = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        write_bench(path, bench)
        manager = pyvisa.ResourceManager(f"{path}@sim")
        try:
            with ATEDispatcher() as dispatcher:
                dispatcher.add(CSVFile(output), *topics)
                for place in bench:
                    # The last instrument is now and then too slow, the first sometimes fails.
                    slow = 0.3 if place is bench[-1] else 0.0
                    failing = 0.3 if place is bench[0] else 0.0
                    instrument = Instrument(place, manager, seed, slow, failing)
                    dispatcher.add(instrument, *COMMANDS[place.kind])
                with Display(console, bench, rounds * len(topics)) as display:
                    for number in range(1, rounds + 1):
                        tagged = dispatcher.with_options(tags={"round": number})
                        for topic in topics:
                            requests.append(tagged.send_request(topic, ttl=TTL))
                            for outcome in requests[-1]:
                                display.outcome(outcome)
                            display.ended()
                dispatcher.flush()
        except KeyboardInterrupt:
            interrupted = True
            console.print("interrupted: the summary so far")
        finally:
            manager.close()
    adds_up = summary(console, requests)
    console.print(f"all outcomes are in {output}")
    return 130 if interrupted else 0 if adds_up else 1
