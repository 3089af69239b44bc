"""A recording as CSV: one row a line, for spreadsheets; see `_cells` for what stands in a cell."""

from __future__ import annotations

import csv
import io
import threading
from pathlib import Path
from typing import Any, Iterator, List, Union

from ._append_file import AppendFile, lines
from ._cells import from_cell, to_cell
from ._events import Gap
from ._rows import FIELDS, Row

__all__ = ["CSVFile"]

HEAD = (",".join(FIELDS) + "\n").encode("ascii")

_limit_lock = threading.Lock()
"""Held while the limit of `csv`, one for the whole process, is another than it was."""


class CSVFile(AppendFile):
    """One file of the format, open for writing."""

    begin = HEAD

    def __init__(self, path: Path) -> None:
        self._line = io.StringIO()
        self._writer: Any = csv.writer(self._line, lineterminator="\n")
        super().__init__(path, HEAD, HEAD)

    def write(self, row: Row, durable: bool) -> None:
        """Append one row."""
        self._line.seek(0)
        self._line.truncate()
        self._writer.writerow([to_cell(row.get(field)) for field in FIELDS])
        self.append(self._line.getvalue().encode("utf-8"), durable)

    @staticmethod
    def rows(path: Path) -> Iterator[Union[Row, Gap]]:
        """Read what was written; a line that cannot be read is a gap."""
        for number, line in lines(path):
            if not line.endswith(b"\n"):
                yield Gap(f"line {number} is cut off after {len(line)} bytes")
                return
            if number == 1:
                continue
            try:
                cells = _cells(line.decode("utf-8"))
                if len(cells) != len(FIELDS):
                    raise ValueError(f"it has {len(cells)} cells, not {len(FIELDS)}")
            except (ValueError, csv.Error) as error:
                yield Gap(f"line {number} cannot be read: {error}")
                continue
            row = {field: from_cell(cell) for field, cell in zip(FIELDS, cells) if cell}
            yield row


def _cells(line: str) -> List[str]:
    """Read one row, however long its cells: `csv` refuses those beyond a limit."""
    if len(line) <= csv.field_size_limit():
        return next(csv.reader([line], strict=True))
    with _limit_lock:
        before = csv.field_size_limit(len(line))
        try:
            return next(csv.reader([line], strict=True))
        finally:
            csv.field_size_limit(before)
