"""The recorders: listeners that append every outcome and every end to a file, on their thread."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Optional, Tuple, Type, Union

from .._checks import check_whole
from .._exceptions import (
    ATEDispatcherError,
    InvalidArgumentError,
    InvalidTypeError,
    RecordingError,
)
from .._listener import ResultListener
from .._outcomes import Outcome
from .._request import Request
from ._append_file import sync_folder
from ._csv import CSVFile
from ._formats import next_part, number_in, part_path, parts
from ._jsonlines import JSONLinesFile
from ._numbers import Numbers
from ._rows import Row, end_row, gap_row, outcome_row, recording_row
from ._sqlite import SQLiteFile

__all__ = ["CSVRecorder", "JSONLinesRecorder", "Recorder", "SQLiteRecorder"]

logger = logging.getLogger("ate_dispatcher")

DURABLE = ("event", "request", "never")

NAMES_KEPT = 1000
"""Pairs of topic and producer that a gap names; what else was lost is counted without names."""


class Recorder(ResultListener):
    """Base of the recorders; use one of `JSONLinesRecorder`, `CSVRecorder`, `SQLiteRecorder`.

    Every event is handed to the system before the next is taken, so that it outlives this process
    whatever ends it. What `Request.wait(delivered=True)` or `flush` has returned True for is
    acknowledged: it is in the file, and as safe as `durable` says.

    Parameters
    ----------
    path : path-like
        The file. One that is there is continued if a recorder of this kind wrote it; no recorder
        ever removes or overwrites what was recorded.
    durable : {"request", "event", "never"}
        When the system is made to write to the disk itself, so that even a power cut loses nothing:
        with the end of every request, with every event, or in its own time.
    rotate_bytes : int, optional
        Go on in a new part when the file has reached this size: ``run.jsonl``, ``run.1.jsonl``,
        ``run.2.jsonl``, … `read` reads them all. A recording of its own that has such a name is
        left alone.
    on_error : callable, optional
        ``on_error(error)``, on the recorder's thread, with a `RecordingError` when the file cannot
        be written any more; once for every time that this begins.
    clock : callable
        What the dispatcher was given.
    **options
        As for `ResultListener`. A recorder with ``capacity=`` records that it had to let events go.

    Attributes
    ----------
    path : Path
    recorded : int
        Events in the file by this recorder.
    lost : int
        Events that could not be written. They are named in the recording as a `Gap` as soon as it
        can be written again, and in the log.

    Raises
    ------
    RecordingError
        The path cannot be written, another recorder is writing it, or it is a later part of
        another recording.
    NotARecordingError
        It is there, and no recorder of this kind wrote it.

    Notes
    -----
    One thread writes, the listener's own; the counts have it as their only writer and may be read
    by any. An event that cannot be written never stops the dispatcher: the file is closed and
    opened again, at once for this event and then for each that follows.
    """

    _ate_format: ClassVar[Type[Any]]

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        durable: str = "request",
        rotate_bytes: Optional[int] = None,
        on_error: Optional[Callable[[RecordingError], Any]] = None,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        if not hasattr(self, "_ate_format"):
            raise InvalidTypeError(f"{type(self).__name__} is the base: use one for a format")
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise InvalidTypeError(f"path must be a path, not {path!r}")
        if durable not in DURABLE:
            raise InvalidArgumentError(
                f"durable must be one of {', '.join(DURABLE)}, not {durable!r}"
            )
        if rotate_bytes is not None:
            check_whole(rotate_bytes, "rotate_bytes")
        if on_error is not None and not callable(on_error):
            raise InvalidTypeError(f"on_error must be callable, not {on_error!r}")
        super().__init__(**options)
        self.path = Path(path).absolute()  # whatever folder the program goes to meanwhile
        self.recorded = 0
        self.lost = 0
        self._ate_durable = durable
        self._ate_rotate = rotate_bytes
        self._ate_on_error = on_error
        self._ate_clock = clock
        self._ate_offset = time.time() - clock()
        self._ate_session = os.urandom(8).hex()
        self._ate_numbers = Numbers()
        self._ate_missing: Dict[Tuple[str, str], int] = {}
        self._ate_why = ""
        self._ate_drops_told = 0
        self._ate_file: Any = None
        self._ate_headed = -1  # the part that last got this recorder's first row
        try:
            self._ate_check_own()
            self._ate_part_number = max((number for number, _ in parts(self.path)), default=0)
            self._ate_open(self._ate_part_number)
        except OSError as error:
            raise _refused(error, self.path) from error
        self._ate_close()

    # ---- hooks -------------------------------------------------------------------------------

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Record one outcome, whatever its status."""
        row = outcome_row(outcome, self._ate_numbers.of(outcome), self._ate_now(), self._ate_offset)
        self._ate_record(row, self._ate_durable == "event")

    def process_dispatcher_end(self, request: Request) -> None:
        """Record the end of a request."""
        row = end_row(request, self._ate_numbers.ended(request), self._ate_now(), self._ate_offset)
        self._ate_record(row, self._ate_durable != "never")

    def on_stop(self) -> None:
        """Tell what is missing, and close the file."""
        try:
            self._ate_tell_losses()
        except Exception:
            logger.error("%s: never written: %s", self.path, _names(self._ate_missing))
        self._ate_close()

    # ---- the file (the listener's own thread) ------------------------------------------------

    def _ate_check_own(self) -> None:
        number = number_in(self.path)
        if number and self.path.stem.endswith(f".{number}"):
            why = f"it is part {number} of another recording: choose another path"
            raise RecordingError(errno.EEXIST, why, str(self.path))

    def _ate_now(self) -> float:
        return self._ate_clock() + self._ate_offset

    def _ate_record(self, row: Row, durable: bool) -> None:
        try:
            try:
                self._ate_append(row, durable)
            except Exception as error:
                if self._ate_missing:
                    raise
                # A file opened anew may have room again, or be there again.
                self._ate_shut()
                self._ate_append(row, durable)
                logger.warning("%s is written again, at the second attempt: %s", self.path, error)
        except Exception as error:
            self._ate_lose(row["topic"], row.get("producer", ""), error)
        else:
            self.recorded += 1

    def _ate_append(self, row: Row, durable: bool) -> None:
        """Write one event, and before it what is missing."""
        self._ate_tell_losses()
        self._ate_usable().write(row, durable)

    def _ate_usable(self) -> Any:
        """Give the file, open, and begin the next part if this one is full."""
        if self._ate_file is None:
            self._ate_open(self._ate_part_number)
        if self._ate_rotate is not None and self._ate_file.size >= self._ate_rotate:
            self._ate_close()
            number = next_part(self.path, self._ate_part_number)
            self._ate_open(number)
            self._ate_part_number = number
        return self._ate_file

    def _ate_open(self, part: int) -> None:
        path = part_path(self.path, part)
        new = not path.exists() or not path.stat().st_size
        self._ate_file = self._ate_format(path)
        if not new and part == self._ate_headed:
            return
        try:
            durable = self._ate_durable != "never"
            row = recording_row(self._ate_session, part, self._ate_now())
            self._ate_file.write(row, durable)
        except BaseException:
            self._ate_close()
            raise
        self._ate_headed = part
        if new and durable:
            sync_folder(path.parent)

    def _ate_close(self) -> None:
        file, self._ate_file = self._ate_file, None
        if file is not None:
            file.close()

    def _ate_shut(self) -> None:
        """Close a file that failed; whatever that raises is no news."""
        try:
            self._ate_close()
        except Exception:
            logger.debug("%s: closing it failed", self.path, exc_info=True)

    def _ate_lose(self, topic: str, producer: str, error: Exception) -> None:
        """Count an event that was not written; tell of it if it is the first one."""
        first = not self._ate_missing
        name = (topic, producer)
        if name not in self._ate_missing and len(self._ate_missing) >= NAMES_KEPT:
            name = ("", "")
        self._ate_missing[name] = self._ate_missing.get(name, 0) + 1
        self.lost += 1
        self._ate_shut()
        if not first:
            return
        refused = _refused(error, part_path(self.path, self._ate_part_number))
        self._ate_why = refused.strerror or str(refused)
        logger.error("%s; events are lost from %s on", refused, _names(self._ate_missing))
        if self._ate_on_error is not None:
            try:
                self._ate_on_error(refused)
            except Exception:
                logger.exception("on_error of the recorder %r raised", self.name)

    def _ate_tell_losses(self) -> None:
        """Write what is missing into the recording, now that it may be written again."""
        dropped = self._ate_address.dropped - self._ate_drops_told
        if dropped:  # under the agent's lock others write it; a count that is behind is told later
            row = gap_row("the recorder's mailbox was full", {("", ""): dropped}, self._ate_now())
            self._ate_usable().write(row, False)
            self._ate_drops_told += dropped
        missing = self._ate_missing
        if missing:
            self._ate_usable().write(gap_row(self._ate_why, missing, self._ate_now()), True)
            logger.warning("%s is written again, without: %s", self.path, _names(missing))
            self._ate_missing = {}


class JSONLinesRecorder(Recorder):
    """Records to a file of JSON Lines: one object an event. See `Recorder` for the parameters.

    Examples
    --------
    >>> with ATEDispatcher() as dispatcher:
    ...     dispatcher.add(JSONLinesRecorder("run.jsonl"), TopicFilter("#"))
    """

    _ate_format = JSONLinesFile


class CSVRecorder(Recorder):
    """Records to a CSV file: one line an event, for spreadsheets. See `Recorder`."""

    _ate_format = CSVFile


class SQLiteRecorder(Recorder):
    """Records to an SQLite database: one row an event in the table ``events``. See `Recorder`.

    It may be queried while it is written (its journal is a write-ahead log, in a file beside it
    until it is closed).
    """

    _ate_format = SQLiteFile


def _refused(error: Exception, path: Path) -> RecordingError:
    if isinstance(error, RecordingError):
        return error
    if isinstance(error, OSError) and error.strerror:
        return RecordingError(error.errno, error.strerror, str(path))
    why = str(error) if isinstance(error, ATEDispatcherError) else repr(error)
    return RecordingError(errno.EIO, why, str(path))


def _names(missing: Dict[Tuple[str, str], int]) -> str:
    named = [
        f"{producer or 'ends'} on {topic!r} ({count})" if topic else f"others ({count})"
        for (topic, producer), count in missing.items()
    ]
    return ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
