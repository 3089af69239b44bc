"""Where the demo's instruments run: in this process, or in one process a site, over a bus."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Dict, Iterable, Iterator, List

import pyvisa

from .._exceptions import BusConnectionError, StateError
from .._routes import Subject
from ..bridge import AgentHost, Bridge
from ..bus._correlation import unique_word
from ..dispatcher import ATEDispatcher
from ._bench import Place, places, write_bench
from ._chamber import SOAK, Chamber, Slot
from ._instruments import COMMANDS, IDENTITY, Instrument, PowerSupply
from ._script import Script

__all__ = ["chambered", "embedded", "serve", "spread", "told_off"]

SERVE = f"from {__name__} import serve; serve()"
"""What the process of one site runs."""

ARRIVAL = 30.0
"""Seconds that the processes have to start and to be found."""


@contextmanager
def chambered(dispatcher: ATEDispatcher, bench: List[Place]) -> Iterator[Chamber]:
    """Put all sites into one chamber, of this process wherever the instruments are."""
    sites = sorted({place.site for place in bench})
    with _opened(bench) as manager:
        chamber = Chamber(manager, sites)
        for site in sites:
            dispatcher.add(Slot(site, chamber), SOAK)
        with _stopped_first(dispatcher):
            yield chamber


@contextmanager
def embedded(
    dispatcher: ATEDispatcher, bench: List[Place], seed: int, switched_off: List[str]
) -> Iterator[None]:
    """Run the instruments as threads of this process.

    `switched_off` gets the names of those whose outputs are off in the end.
    """
    with _instruments(bench, bench, seed, switched_off) as instruments:
        for instrument in instruments:
            dispatcher.add(instrument, *_topics(instrument.place))
        with _stopped_first(dispatcher):
            yield


@contextmanager
def spread(dispatcher: ATEDispatcher, bench: List[Place], seed: int, bus: str) -> Iterator[None]:
    """Run each site's instruments in a process of its own, and reach them over a bus.

    Raises
    ------
    BusConnectionError
        The bus cannot be reached, or the instruments were not found on it.
    """
    namespace = f"ate_demo.{unique_word()}"  # two demos on one broker do not meet
    expect: Dict[Subject, List[str]] = {}
    for place in bench:
        for topic in _topics(place):
            expect.setdefault(topic, []).append(place.name)
    with ExitStack() as stack:
        bridge = stack.enter_context(Bridge(dispatcher, bus, namespace=namespace, expect=expect))
        for site in sorted({place.site for place in bench}):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SERVE],
                    stdin=subprocess.PIPE,
                    start_new_session=True,  # where no Ctrl-C of the terminal comes
                )
            )
            assert process.stdin is not None
            stack.callback(process.stdin.close)  # which ends it, and so does our own end
            task = {"bus": bus, "namespace": namespace, "seed": seed, "site": site}
            # By the pipe and not as arguments, which everybody on the machine can read.
            process.stdin.write(json.dumps({**task, "devices": len(bench)}).encode() + b"\n")
            process.stdin.flush()
        names = [place.name for place in bench]
        if not bridge.wait_for(*names, timeout=ARRIVAL):
            there = ", ".join(bridge.agents) or "nobody"
            raise BusConnectionError(f"after {ARRIVAL:g} s only {there} had been found on the bus")
        with _stopped_first(dispatcher):
            yield


@contextmanager
def _stopped_first(dispatcher: ATEDispatcher) -> Iterator[None]:
    """Stop the dispatcher before what its instruments use is closed, however we leave."""
    try:
        yield
    except BaseException:
        dispatcher.stop(drain=False)
        raise
    dispatcher.stop()


def serve() -> None:
    """Be the process of one site: read what to do from standard input, end when that ends."""
    task = json.loads(sys.stdin.readline())
    bench = places(task["devices"])
    mine = [place for place in bench if place.site == task["site"]]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent, whose end is ours
    switched_off: List[str] = []
    with _instruments(bench, mine, task["seed"], switched_off) as instruments:
        host = AgentHost(task["bus"], name=f"site{task['site']}", namespace=task["namespace"])
        ended = threading.Event()

        def end_with_parent() -> None:
            sys.stdin.read()
            ended.set()
            host.stop()

        threading.Thread(target=end_with_parent, daemon=True).start()
        try:
            with host:
                for instrument in instruments:
                    host.add(instrument, *_topics(instrument.place))
                host.run()
        except StateError:  # it was stopped while it began
            if not ended.is_set():
                raise
    if switched_off:
        sys.stdout.write(f"site {task['site']}: {told_off(switched_off)}\n")
        sys.stdout.flush()


def told_off(switched_off: Iterable[str]) -> str:
    """Say whose outputs are off."""
    return f"outputs switched off: {', '.join(switched_off)}"


@contextmanager
def _instruments(
    bench: List[Place], mine: Iterable[Place], seed: int, switched_off: List[str]
) -> Iterator[List[Instrument]]:
    """Make instruments on the simulated bench."""
    script = Script(seed, bench)
    with _opened(bench) as manager:
        yield [
            PowerSupply(place, manager, script, switched_off)
            if place.kind == "psu"
            else Instrument(place, manager, script)
            for place in mine
        ]


@contextmanager
def _opened(bench: List[Place]) -> Iterator[pyvisa.ResourceManager]:
    """Open a simulated bench."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        write_bench(path, bench)
        manager = pyvisa.ResourceManager(f"{path}@sim")
        try:
            yield manager
        finally:
            manager.close()


def _topics(place: Place) -> List[str]:
    return [IDENTITY, *COMMANDS[place.kind]]
