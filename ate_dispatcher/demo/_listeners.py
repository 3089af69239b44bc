"""The file in which every outcome ends up."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from .._listener import ResultListener
from .._outcomes import Outcome

__all__ = ["CSVFile"]

COLUMNS = ("round", "topic", "site", "producer", "status", "value", "reason", "milliseconds")


class CSVFile(ResultListener):
    """Writes one line an outcome, whatever its status, on its own thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="csv")
        self.rows = 0
        # Opened here, so that a path that cannot be written is said before anything runs.
        self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115 (on_stop closes)
        self._writer: Any = csv.writer(self._file)
        self._writer.writerow(COLUMNS)

    def on_stop(self) -> None:
        """Close the file."""
        self._file.close()

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        """Write one line."""
        ended = outcome.ended
        milliseconds = "" if ended is None else f"{(ended - outcome.sent) * 1000:.1f}"
        value = "" if outcome.value is None else outcome.value
        row = (outcome.tags["round"], outcome.topic, outcome.site, outcome.producer)
        self._writer.writerow((*row, outcome.status.value, value, outcome.reason, milliseconds))
        self._file.flush()
        self.rows += 1
