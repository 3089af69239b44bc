"""The commands ``show`` and ``replay``: a recording for a person at a terminal."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, Union

from .._exceptions import InvalidArgumentError, InvalidTypeError
from .._listener import ResultListener
from .._outcomes import Outcome, OutcomeStatus, RequestStatus
from .._request import Request
from .._target import load_class
from .._topics import TopicFilter
from .._words import escaped
from ._events import Event, Gap, RecordedOutcome, RecordedRequest
from ._formats import read
from ._replay import replay

__all__ = ["replay_to_terminal", "show"]

HEADINGS = ("TIME", "TOPIC", "PRODUCER", "SITE", "OUTCOME", "MS", "VALUE")
WIDEST = 40
Line = Union[Tuple[str, ...], str]


def show(path: Path, topics: Sequence[str], sites: Sequence[str], outcomes: Sequence[str]) -> int:
    """Print a recording as a table; each filter keeps what matches one of its words.

    Parameters
    ----------
    path : Path
        The recording.
    topics : sequence of str
        Topics, or filters with wildcards.
    sites : sequence of str
        As they are written.
    outcomes : sequence of str
        What became of producers' parts, or of requests, in any case: ``timeout``, ``EXPIRED``.

    Returns
    -------
    int
        1 if something is missing in the recording.
    """
    wanted = _matcher(topics, sites, outcomes)

    def lines() -> Iterator[Line]:
        return (_line(event) for event in read(path) if wanted(event))

    widths = [len(heading) for heading in HEADINGS]
    gaps = 0
    for line in lines():
        if isinstance(line, str):
            gaps += 1
        else:
            widths = [max(width, min(len(cell), WIDEST)) for width, cell in zip(widths, line)]
    try:
        _print(HEADINGS, widths)
        for line in lines():
            _print(line, widths)
        sys.stdout.flush()
    except BrokenPipeError:
        _nobody_reads()
    return 1 if gaps else 0


def replay_to_terminal(path: Path, speed: Optional[float], targets: Sequence[str] = ()) -> int:
    """Give the events of a recording to listeners, in the recorded order.

    Parameters
    ----------
    path : Path
        The recording.
    speed : float, optional
        As of `replay`.
    targets : sequence of str
        Classes of listeners, as ``module:Class``, which are made without arguments; one that prints
        the events if there are none.

    Returns
    -------
    int
        1 if something is missing in the recording, or a listener raised.
    """
    listeners = [_made(target) for target in targets]
    report = replay(path, listeners or [_Printer()], speed=speed)
    if report.errors:
        print(f"ate-dispatcher: listeners raised {report.errors} times", file=sys.stderr)
    for gap in report.gaps:
        print(f"ate-dispatcher: {escaped(_words(gap))}", file=sys.stderr)
    return 1 if report.gaps or report.errors else 0


def _made(target: str) -> ResultListener:
    kind = load_class(target, (ResultListener,))
    try:
        made: ResultListener = kind()
    except TypeError as error:
        raise InvalidTypeError(f"{target} cannot be made without arguments: {error}") from error
    return made


class _Printer(ResultListener):
    """Prints one line an event."""

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Print it."""
        text = outcome.reason or repr(outcome.value)
        self._print(f"{outcome.topic} {outcome.producer}: {outcome.status.value} {text}")

    def process_dispatcher_end(self, request: Request) -> None:
        """Print it."""
        text = f" {request.reason}" if request.reason else ""
        self._print(f"{request.topic} ended: {request.status.value}{text}")

    def _print(self, line: str) -> None:
        try:
            print(escaped(line), flush=True)
        except BrokenPipeError:
            _nobody_reads()
            self.stop()


def _nobody_reads() -> None:
    """Have the rest go nowhere: the reader (`head`) has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _matcher(
    topics: Sequence[str], sites: Sequence[str], outcomes: Sequence[str]
) -> Callable[[Event], bool]:
    filters = [TopicFilter(topic) for topic in topics]
    words = {outcome.upper() for outcome in outcomes}
    statuses = (*OutcomeStatus, *RequestStatus)
    known = dict.fromkeys(status.value for status in statuses if status is not RequestStatus.OPEN)
    for word in sorted(words.difference(known)):
        raise InvalidArgumentError(f"no outcome {word!r}: there are {', '.join(known)}")

    def wanted(event: Event) -> bool:
        if isinstance(event, Gap):
            return True
        if filters and not any(pattern.matches(event.topic) for pattern in filters):
            return False
        if words and event.status.value not in words:
            return False
        if sites:
            return isinstance(event, RecordedOutcome) and str(event.site) in sites
        return True

    return wanted


def _line(event: Event) -> Line:
    if isinstance(event, Gap):
        return escaped(f"--- {_words(event)} ---")
    time = datetime.fromtimestamp(event.time).isoformat(" ", "milliseconds")
    if isinstance(event, RecordedRequest):
        answered = f"{len(event.succeeded)} of {len(event.roster)} answered well"
        cells = (time, event.topic, "", "", event.status.value, "", event.reason or answered)
        return tuple(map(escaped, cells))
    site = "" if event.site is None else str(event.site)
    took = "" if event.ended is None else f"{(event.ended - event.sent) * 1000:.1f}"
    shown = event.reason or repr(event.value)
    cells = (time, event.topic, event.producer, site, event.status.value, took, shown)
    return tuple(map(escaped, cells))


def _words(gap: Gap) -> str:
    if gap.lost is None:
        return gap.reason
    of = ", ".join(
        f"{producer or 'ends'} on {topic} ({count})"
        for topic, producer, count in gap.missing
        if topic
    )
    return f"{gap.lost} events are missing: {gap.reason}" + (f": {of}" if of else "")


def _print(line: Line, widths: List[int]) -> None:
    if isinstance(line, str):
        print(line)
        return
    *cells, last = line
    begin = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths))
    print(f"{begin}  {last}".rstrip())
