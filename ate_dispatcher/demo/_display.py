"""What the demo shows: a live table while it runs, a summary at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Tuple

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from .._outcomes import Outcome, OutcomeStatus, RequestStatus
from .._request import Request
from .._words import escaped
from ._bench import SHARED_BUS, Place
from ._chamber import SOAK

__all__ = ["Display", "adds_up", "print_summary", "say"]

STYLES = {OutcomeStatus.OK: "green", OutcomeStatus.ERROR: "red", OutcomeStatus.TIMEOUT: "yellow"}


def say(console: Console, line: str, style: str = "") -> None:
    """Print one line as it is: never wrapped, nothing in it read as markup."""
    console.print(escaped(line), style=style, markup=False, highlight=False, soft_wrap=True)


class Display:
    """A live table of the bench; silent where the output is no terminal.

    One thread tells it of outcomes; rich's own thread reads it, for every refresh. All names are
    there from the start, so a reader never sees a dict change its size.
    """

    def __init__(self, console: Console, bench: List[Place], requests: int) -> None:
        self._bench = bench
        self._last: Dict[str, Text] = {place.name: Text() for place in bench}
        self._counts = {(place.name, status): 0 for place in bench for status in STYLES}
        columns = (TextColumn("requests"), BarColumn(), MofNCompleteColumn())
        self._chamber = ""
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("requests", total=requests)
        self._interactive = console.is_interactive
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Display:
        if self._interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._interactive:
            self._live.stop()

    def outcome(self, outcome: Outcome) -> None:
        """Show one more outcome."""
        found = outcome.status.value if outcome.value is None else f"{outcome.value:g}"
        style = STYLES.get(outcome.status, "")
        self._last[outcome.producer] = Text(f"{outcome.topic} {found}", style=style)
        key = (outcome.producer, outcome.status)
        self._counts[key] = self._counts.get(key, 0) + 1

    def soaking(self, celsius: float) -> None:
        """Show where the chamber is sent."""
        self._chamber = f"chamber at {celsius:g} degrees"

    def ended(self) -> None:
        """Show that one more request has ended."""
        self._progress.advance(self._task)

    def _render(self) -> Group:
        # The progress comes first: a terminal that is too small cuts off the end of the table.
        return Group(self._progress, self._table())

    def _table(self) -> Table:
        table = Table(caption=self._chamber)
        table.add_column("site", justify="right")
        table.add_column("instrument")
        table.add_column("last", min_width=20, no_wrap=True)
        for heading in ("ok", "errors", "timeouts"):
            table.add_column(heading, justify="right")
        for place in self._bench:
            numbers = [str(self._counts[place.name, status]) for status in STYLES]
            table.add_row(str(place.site), place.name, self._last[place.name], *numbers)
        return table


def adds_up(requests: List[Request], rows: int) -> bool:
    """Check that every request has ended with one outcome for each of its roster, all written.

    Parameters
    ----------
    requests : list of Request
        Everything that was sent.
    rows : int
        How many outcomes the file has.
    """
    for request in requests:
        told = tuple(outcome.producer for outcome in request.outcomes)
        if request.status is RequestStatus.OPEN or told != request.roster:
            return False
    return rows == sum(len(request.roster) for request in requests)


def print_summary(console: Console, requests: List[Request]) -> None:
    """Print the values of each site, the outcomes by kind, who failed and why, the latency."""
    outcomes = [outcome for request in requests for outcome in request.outcomes]
    _print_sites(console, outcomes)
    _print_chamber(console, requests)
    _print_waits(console, outcomes)
    kinds = Counter(outcome.status.value for outcome in outcomes)
    say(console, "outcomes: " + ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())))
    for request in requests:
        for outcome in (*request.failed, *request.missing):
            what = f"round {outcome.tags['round']} {outcome.topic}: {outcome.producer}"
            style = STYLES.get(outcome.status, "")
            say(console, f"  {what} {_why(request, outcome)}", style)
    times = sorted(o.ended - o.sent for o in outcomes if o.ended is not None)
    if times:
        p50, p99 = (times[(len(times) - 1) * percent // 100] * 1000 for percent in (50, 99))
        say(console, f"latency of an answer: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def _why(request: Request, outcome: Outcome) -> str:
    if outcome.status is not OutcomeStatus.TIMEOUT:
        return f"{outcome.status.value}: {outcome.reason}"
    allowed = (request.deadline - request.sent) * 1000
    return f"missed its deadline of {allowed:.0f} ms: {outcome.reason}"


def _print_chamber(console: Console, requests: List[Request]) -> None:
    """Print how often the sites came together in the chamber."""
    together = [
        len(request.roster)
        for request in requests
        if request.topic == SOAK and len(request.succeeded) == len(request.roster)
    ]
    if together:
        said = f"the chamber was moved {len(together)} times, each time once for all its sites"
        say(console, f"{said} ({max(together)})")


def _print_waits(console: Console, outcomes: List[Outcome]) -> None:
    """Print how long instruments waited for the bus that they share."""
    waits = sorted(
        (outcome.started - outcome.waited[0]) * 1000
        for outcome in outcomes
        if outcome.waited is not None and outcome.started is not None
    )
    if waits:
        names = sorted({outcome.producer for outcome in outcomes if outcome.waited is not None})
        p50 = waits[(len(waits) - 1) // 2]
        said = f"{len(waits)} measurements of {' and '.join(names)} waited for {SHARED_BUS}"
        say(console, f"{said}, p50 {p50:.1f} ms")


def _print_sites(console: Console, outcomes: List[Outcome]) -> None:
    values: Dict[Tuple[Any, str], List[float]] = {}
    for outcome in outcomes:
        if isinstance(outcome.value, float) and outcome.topic != SOAK:
            values.setdefault((outcome.site, outcome.topic), []).append(outcome.value)
    topics = sorted({topic for _, topic in values})
    table = Table(box=box.HEAVY_HEAD if console.is_terminal else None)
    for column in ("site", *topics):
        table.add_column(column, justify="right")
    for site in sorted({site for site, _ in values}):
        cells = []
        for topic in topics:
            found = values.get((site, topic))
            cells.append("-" if not found else f"{sum(found) / len(found):#.4g} ({len(found)})")
        table.add_row(str(site), *cells)
    say(console, "mean value of each site (how many):")
    console.print(table, highlight=False)
