"""What the demo shows: a live table while it runs, a summary at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Tuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from .._outcomes import Outcome, OutcomeStatus
from .._request import Request
from ._bench import Place

__all__ = ["Display", "summary"]

STYLES = {OutcomeStatus.OK: "green", OutcomeStatus.ERROR: "red", OutcomeStatus.TIMEOUT: "yellow"}


class Display:
    """A live table of the bench; silent where the output is no terminal.

    Only the script's own thread calls it.
    """

    def __init__(self, console: Console, bench: List[Place], requests: int) -> None:
        self._console = console
        self._bench = bench
        self._last: Dict[str, Outcome] = {}
        self._counts: Dict[str, Counter[OutcomeStatus]] = {place.name: Counter() for place in bench}
        columns = (TextColumn("requests"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("requests", total=requests)
        self._live = Live(
            console=console, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def outcome(self, outcome: Outcome) -> None:
        """Show one more outcome."""
        self._last[outcome.producer] = outcome
        self._counts[outcome.producer][outcome.status] += 1
        self._show()

    def ended(self) -> None:
        """Show that one more request has ended."""
        self._progress.advance(self._task)
        self._show()

    def _show(self) -> None:
        if self._console.is_terminal:
            self._live.update(Group(self._table(), self._progress))

    def _table(self) -> Table:
        table = Table(title="bench", title_justify="left")
        for column in ("site", "instrument", "last topic", "last", "ok", "errors", "timeouts"):
            table.add_column(column, justify="right" if column in ("site", "last") else "left")
        for place in self._bench:
            last, counts = self._last.get(place.name), self._counts[place.name]
            shown = ("", "") if last is None else (last.topic, _short(last))
            style = "" if last is None else STYLES.get(last.status, "")
            numbers = [str(counts[status]) for status in STYLES]
            cells = (str(place.site), place.name, shown[0], f"[{style}]{shown[1]}" if style else "")
            table.add_row(*cells, *numbers)
        return table


def _short(outcome: Outcome) -> str:
    return outcome.status.value if outcome.value is None else f"{outcome.value:g}"


def summary(console: Console, requests: List[Request]) -> bool:
    """Print what became of everything; True if outcomes and rosters add up."""
    outcomes = [outcome for request in requests for outcome in request.outcomes]
    _print_sites(console, outcomes)
    kinds = Counter(outcome.status.value for outcome in outcomes)
    console.print("outcomes: " + ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())))
    for request in requests:
        for outcome in (*request.failed, *request.missing):
            console.print(
                f"  round {request.tags['round']} {outcome.topic}: {outcome.producer} "
                f"{outcome.status.value}, {outcome.reason}",
                highlight=False,
                soft_wrap=True,
            )
    times = sorted(o.ended - o.sent for o in outcomes if o.ended is not None)
    if times:
        p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
        console.print(f"latency of an answer: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")
    rows = sum(len(request.roster) for request in requests)
    adds_up = all(len(r.outcomes) == len(r.roster) for r in requests) and rows == len(outcomes)
    verdict = "every one accounted for" if adds_up else "THEY DO NOT ADD UP"
    console.print(f"{len(requests)} requests, {rows} rows, {len(outcomes)} outcomes: {verdict}")
    return adds_up


def _print_sites(console: Console, outcomes: List[Outcome]) -> None:
    values: Dict[Tuple[Any, str], List[float]] = {}
    for outcome in outcomes:
        if outcome.status is OutcomeStatus.OK:
            values.setdefault((outcome.site, outcome.topic), []).append(outcome.value)
    topics = sorted({topic for _, topic in values})
    table = Table(title="mean value per site", title_justify="left")
    for column in ("site", *topics):
        table.add_column(column, justify="right")
    for site in sorted({site for site, _ in values}):
        cells = []
        for topic in topics:
            found = values.get((site, topic))
            cells.append("" if not found else f"{sum(found) / len(found):.4g} ({len(found)})")
        table.add_row(str(site), *cells)
    console.print(table)
