"""Which format a file has, by how it begins; reading a recording with all its parts."""

from __future__ import annotations

import codecs
import os
import re
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Iterator, List, Optional, Tuple, Union

from .._exceptions import NotARecordingError
from ._csv import CSVFile
from ._events import Event, Events, Gap
from ._jsonlines import JSONLinesFile
from ._rows import Row
from ._sqlite import SQLiteFile

__all__ = ["next_part", "number_in", "part_path", "parts", "read"]

FORMATS = (JSONLinesFile, CSVFile, SQLiteFile)
LONGEST = len(codecs.BOM_UTF8) + max(len(kind.begin) for kind in FORMATS) + 1


def read(path: Union[str, os.PathLike[str]]) -> Iterator[Event]:
    """Read a recording, of whatever format, with all the parts that it was rotated into.

    Parameters
    ----------
    path : path-like
        What the recorder was given. It may still be recorded to.

    Yields
    ------
    RecordedOutcome, RecordedRequest or Gap
        In the order in which they were recorded. A `Gap` stands where something is known to be
        missing: what a full disk kept from being written, or a line that cannot be read, as the
        last one of a process that was killed.

    Raises
    ------
    NotARecordingError
        The file is none, or of a later version.
    FileNotFoundError
        It is not there.

    Examples
    --------
    >>> for event in read("run.jsonl"):
    ...     if isinstance(event, RecordedOutcome):
    ...         print(event.topic, event.producer, event.value)
    """
    base = Path(path)
    later = (file for _, file in parts(base) if not _unbegun(file))
    sources = [(file, _format_of(file)) for file in (base, *later)]
    events = _events(sources)
    first = list(islice(events, 1))  # so that what is wrong with the file is raised here
    return chain(first, events)


def _events(sources: List[Tuple[Path, type]]) -> Iterator[Event]:
    events = Events()
    for path, kind in sources:
        rows: Iterator[Union[Row, Gap]] = kind.rows(path)  # type: ignore[attr-defined]
        for number, row in enumerate(rows, 1):
            if isinstance(row, Gap):
                yield row
                continue
            try:
                event = events.event(row)
            except NotARecordingError:
                raise
            except ValueError as error:
                yield Gap(f"row {number} cannot be read: {error}")
                continue
            if event is not None:
                yield event


def _unbegun(path: Path) -> bool:
    """Whether a part is empty: its writer was killed just then, or is about to begin it."""
    return not path.stat().st_size and not _has_log(path)


def _has_log(path: Path) -> bool:
    """Whether this is a database that is being written: then it has a log beside it.

    It is not opened to see: closing it again would take the locks away that SQLite holds on it in
    this process.
    """
    return path.with_name(path.name + "-wal").exists()


def _format_of(path: Path) -> type:
    if _has_log(path):
        return SQLiteFile
    with open(path, "rb") as file:
        begin = file.read(LONGEST)
    if begin.startswith(codecs.BOM_UTF8):  # as a spreadsheet or an editor saves it
        begin = begin[len(codecs.BOM_UTF8) :]
    begin = begin.replace(b"\r\n", b"\n")
    for kind in FORMATS:
        if begin.startswith(kind.begin) or (begin and kind.begin.startswith(begin)):
            return kind
    raise NotARecordingError(
        f"{str(path)!r} is no recording: it is empty"
        if not begin
        else f"{str(path)!r} is no recording: it begins with {begin[:32]!r}"
    )


def part_path(base: Path, number: int) -> Path:
    """Give the path of one part: ``run.jsonl`` is number 0, ``run.1.jsonl`` number 1."""
    return base.with_name(f"{base.stem}.{number}{base.suffix}") if number else base


def parts(base: Path) -> List[Tuple[int, Path]]:
    """Find the later parts of a recording, in order; there are none where it has not begun.

    A file is one if it begins by saying so. Of those that say nothing, as earlier recorders wrote
    them, the ones are whose numbers follow on.
    """
    if not base.exists():
        return []
    pattern = re.compile(re.escape(base.stem) + r"\.([1-9]\d*)" + re.escape(base.suffix))
    matches = filter(None, map(pattern.fullmatch, os.listdir(base.parent)))
    found: List[Tuple[int, Path]] = []
    last = 0
    for number, name in sorted((int(match[1]), match[0]) for match in matches):
        path = base.with_name(name)
        said = number_in(path)
        if said == number or (said is None and number == last + 1):
            found.append((number, path))
            last = number
    return found


def next_part(base: Path, last: int) -> int:
    """Give the number of the part that comes next; recordings of their own are not touched."""
    number = last + 1
    while number_in(part_path(base, number)) not in (None, number):
        number += 1
    return number


def number_in(path: Path) -> Optional[int]:
    """Read which part a file says that it is: 0 begins a recording; None if it does not say."""
    if not path.is_file():
        return None
    try:
        with closing(_format_of(path).rows(path)) as rows:  # type: ignore[attr-defined]
            number = next(rows)["value"]["part"]
    except (NotARecordingError, OSError, StopIteration, LookupError, TypeError):
        return None  # as of a file that is just begun, or damaged
    return number if type(number) is int else None
