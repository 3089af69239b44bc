"""The demo itself: build the bench, scatter measurements, show and sum up."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional

from rich.console import Console

from .._request import Request
from ..dispatcher import ATEDispatcher
from ..monitor import Monitor
from ._bench import Place, places
from ._display import Display, adds_up, print_summary, say
from ._instruments import COMMANDS, IDENTITY
from ._listeners import CSVFile
from ._places import embedded, spread

__all__ = ["run_demo"]

TTL = 250
"""Milliseconds that a measurement may take."""

TOPICS = sorted({topic for commands in COMMANDS.values() for topic in commands})

PATIENCE = 10_000
"""Milliseconds that the instruments have to open their sessions and say who they are."""


def run_demo(
    devices: int = 8,
    rounds: int = 10,
    seed: int = 1,
    color: bool = True,
    output: Path = Path("results.csv"),
    bus: Optional[str] = None,
    monitor: bool = False,
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
    bus : str, optional
        The URL of a bus: each site's instruments run in a process of their own and are reached
        over it. Without it they are threads of this process.
    monitor : bool
        Show it in a browser: print where, and stay after the last round until Ctrl-C.

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
        with ATEDispatcher() as dispatcher:
            dispatcher.add(file, IDENTITY, *TOPICS)
            here = (
                embedded(dispatcher, bench, seed)
                if bus is None
                else spread(dispatcher, bench, seed, bus)
            )
            with here, _watched(console, dispatcher, monitor):
                _measure(console, dispatcher, bench, rounds, sent)
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


@contextmanager
def _watched(console: Console, dispatcher: ATEDispatcher, monitor: bool) -> Iterator[None]:
    """Show the bench in a browser, and let it be looked at when the last round is over."""
    if not monitor:
        yield
        return
    with Monitor(dispatcher) as page:
        say(console, f"watch it at {page.url}")
        yield
        say(console, f"the last round is over, its picture stays at {page.url}: Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass  # as it was told to


def _measure(
    console: Console,
    dispatcher: ATEDispatcher,
    bench: List[Place],
    rounds: int,
    sent: List[Request],
) -> None:
    """Ask for everything. What was sent is in `sent` even if it is interrupted."""
    topics = sorted({topic for place in bench for topic in COMMANDS[place.kind]})
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
