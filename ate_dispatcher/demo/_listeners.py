"""The file in which every outcome ends up."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, List

from .._listener import ResultListener
from .._outcomes import Outcome
from .._request import Request

__all__ = ["CSVFile"]

COLUMNS = ("round", "topic", "site", "producer", "status", "value", "reason", "milliseconds")


class CSVFile(ResultListener):
    """Writes one line an outcome, whatever its status, on its own thread.

    Parameters
    ----------
    path : Path
        The file. It is opened here, so that a path that cannot be written is told at once.

    Attributes
    ----------
    rows : int
        How many outcomes were written.
    ended : list of Request
        Every request that has ended, in that order.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(name="csv")
        self.rows = 0
        self.ended: List[Request] = []
        self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115 (see close)
        self._writer: Any = csv.writer(self._file)
        self._writer.writerow(COLUMNS)

    def close(self) -> None:
        """Close the file; twice is once."""
        self._file.close()

    def on_stop(self) -> None:
        """Close the file."""
        self.close()

    def process_dispatcher_end(self, request: Request) -> None:
        """Keep the ended request."""
        self.ended.append(request)

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Write one line."""
        ended = outcome.ended
        milliseconds = "" if ended is None else f"{(ended - outcome.sent) * 1000:.1f}"
        value = "" if outcome.value is None else outcome.value
        row = (outcome.tags["round"], outcome.topic, outcome.site, outcome.producer)
        self._writer.writerow((*row, outcome.status.value, value, outcome.reason, milliseconds))
        self._file.flush()
        self.rows += 1
