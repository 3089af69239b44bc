"""The demo itself: build the bench, scatter measurements, show and sum up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import List

import pyvisa
from rich.console import Console

from .._request import Request
from ..dispatcher import ATEDispatcher
from ._bench import Place, places, write_bench
from ._display import Display, adds_up, print_summary, say
from ._instruments import COMMANDS, IDENTITY, Instrument
from ._listeners import CSVFile
from ._script import Script

__all__ = ["run_demo"]

TTL = 250
"""Milliseconds that a measurement may take."""

PATIENCE = 10_000
"""Milliseconds that the instruments have to open their sessions and say who they are."""


def run_demo(
    devices: int = 8,
    rounds: int = 10,
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
        The same seed gives the same noise and the same faults.
    color : bool
        False for no colours.
    output : Path
        The CSV file to write.

    Returns
    -------
    int
        0 if every request's outcomes add up to its roster, 1 otherwise, 130 after Ctrl-C.
    """
    console = Console(no_color=not color)
    bench = places(devices)
    say(console, f"{devices} instruments, {bench[-1].site + 1} sites, {rounds} rounds, seed {seed}")
    sent: List[Request] = []
    file = CSVFile(output)
    interrupted = False
    try:
        _measure(console, bench, rounds, Script(seed, bench), file, sent)
    except KeyboardInterrupt:
        interrupted = True
        say(console, "interrupted; the summary so far:")
    finally:
        file.close()
    # Ctrl-C may have come between the sending of a request and the noting of it.
    requests = list(dict.fromkeys([*sent, *file.ended]))
    print_summary(console, requests)
    good = adds_up(requests, file.rows)
    verdict = "every one accounted for" if good else "THEY DO NOT ADD UP"
    rows = sum(len(request.roster) for request in requests)
    said = (
        f"{len(requests)} requests, {rows} rows in their rosters, {file.rows} outcomes in {output}"
    )
    say(console, f"{said}: {verdict}", "" if good else "red")
    if not good:
        return 1
    return 130 if interrupted else 0


def _measure(
    console: Console,
    bench: List[Place],
    rounds: int,
    script: Script,
    file: CSVFile,
    sent: List[Request],
) -> None:
    """Run the bench. What was sent is in `sent` even if it is interrupted."""
    topics = sorted({topic for place in bench for topic in COMMANDS[place.kind]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        write_bench(path, bench)
        manager = pyvisa.ResourceManager(f"{path}@sim")
        try:
            with ATEDispatcher() as dispatcher:
                dispatcher.add(file, IDENTITY, *topics)
                for place in bench:
                    instrument = Instrument(place, manager, script)
                    dispatcher.add(instrument, IDENTITY, *COMMANDS[place.kind])
                first = dispatcher.with_options(tags={"round": 0})
                sent.append(first.send_request(IDENTITY, ttl=PATIENCE))
                here = len(sent[0].gather().values)
                say(console, f"{here} of {len(bench)} instruments said who they are")
                with Display(console, bench, rounds * len(topics)) as display:
                    for number in range(1, rounds + 1):
                        tagged = dispatcher.with_options(tags={"round": number})
                        for topic in topics:
                            sent.append(tagged.send_request(topic, number, ttl=TTL))
                            for outcome in sent[-1]:
                                display.outcome(outcome)
                            display.ended()
        finally:
            manager.close()
