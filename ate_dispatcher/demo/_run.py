"""The demo itself: build the bench, scatter measurements, show and sum up."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional

from rich.console import Console

from .._request import Request
from .._topics import TopicFilter
from .._waiting import wait_for_signals
from ..dispatcher import ATEDispatcher
from ..monitor import Monitor
from ..record import JSONLinesRecorder
from ..timeline import Timeline
from ._bench import Place, places
from ._chamber import SOAK, temperature
from ._display import Display, adds_up, print_summary, say
from ._instruments import COMMANDS, IDENTITY
from ._listeners import CSVFile
from ._places import chambered, embedded, spread, told_off

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
    record: Optional[Path] = None,
    timeline: Optional[Path] = None,
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
    record : Path, optional
        A file of JSON Lines for every event; one that is there is continued.
    timeline : Path, optional
        A file for the timeline, in Chrome's trace format.
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
    dispatcher = ATEDispatcher()
    files = _Files(record, timeline)
    file = CSVFile(output)
    switched_off: List[str] = []
    interrupted = False
    try:
        with dispatcher:
            files.attach(dispatcher)
            dispatcher.add(file, IDENTITY, SOAK, *TOPICS)
            here = (
                embedded(dispatcher, bench, seed, switched_off)
                if bus is None
                else spread(dispatcher, bench, seed, bus)
            )
            with here, chambered(dispatcher, bench), _watched(console, dispatcher, monitor):
                _measure(console, dispatcher, bench, rounds, sent)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        file.close()
    if switched_off:
        say(console, told_off(switched_off))
    for name in dispatcher.stop().unsafe:  # once more gives the same report
        say(console, f"{name} IS NOT KNOWN TO BE SAFE", "red")
    if interrupted:
        say(console, "interrupted; the summary so far:")
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
    files.finish(console)
    if not good:
        return 1
    return 130 if interrupted else 0


class _Files:
    """The recording and the timeline of a run, as far as they are wanted.

    Raises
    ------
    RecordingError, OSError
        One of them cannot be written.
    """

    def __init__(self, record: Optional[Path], timeline: Optional[Path]) -> None:
        self._recorder = None if record is None else JSONLinesRecorder(record, name="recorder")
        self._path = timeline
        self._timeline: Optional[Timeline] = None
        if timeline is not None:
            timeline.open("a").close()  # whether it can be written is told now

    def attach(self, dispatcher: ATEDispatcher) -> None:
        """Have a dispatcher's events recorded and drawn."""
        if self._recorder is not None:
            dispatcher.add(self._recorder, TopicFilter("#"))
        if self._path is not None:
            self._timeline = Timeline(dispatcher)

    def finish(self, console: Console) -> None:
        """Write what is still to be written, and say what is where."""
        recorder = self._recorder
        if recorder is not None:
            lost = f", {recorder.lost} LOST" if recorder.lost else ""
            said = f"{recorder.recorded} events{lost} in {recorder.path}"
            say(console, f"{said}: ate-dispatcher show or replay reads it")
        if self._timeline is not None and self._path is not None:
            self._timeline.save(self._path)
            say(console, f"timeline in {self._path}: https://ui.perfetto.dev opens it")


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
            wait_for_signals(threading.Event())
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
    with Display(console, bench, rounds * (len(topics) + 1)) as display:
        for number in range(1, rounds + 1):
            tagged = dispatcher.with_options(tags={"round": number})
            display.soaking(temperature(number))
            sent.append(tagged.send_request(SOAK, temperature(number), ttl=PATIENCE))
            sent[-1].wait()
            display.ended()
            for topic in topics:
                sent.append(tagged.send_request(topic, number, ttl=TTL))
                for outcome in sent[-1]:
                    display.outcome(outcome)
                display.ended()
