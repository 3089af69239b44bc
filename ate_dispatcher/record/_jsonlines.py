"""A recording as JSON Lines: one object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator, Union

from ._append_file import AppendFile, lines
from ._cells import to_json
from ._events import Gap
from ._rows import Row

__all__ = ["JSONLinesFile"]


class JSONLinesFile(AppendFile):
    """One file of the format, open for writing."""

    begin = b'{"event":"recording",'

    def __init__(self, path: Path) -> None:
        super().__init__(path, self.begin)

    def write(self, row: Row, durable: bool) -> None:
        """Append one row."""
        self.append((to_json(row) + "\n").encode("utf-8"), durable)

    @staticmethod
    def rows(path: Path) -> Iterator[Union[Row, Gap]]:
        """Read what was written; a line that cannot be read is a gap."""
        for number, line in lines(path):
            if not line.endswith(b"\n"):
                yield Gap(f"line {number} is cut off after {len(line)} bytes")
                return
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("it is no object")
            except (ValueError, RecursionError) as error:
                yield Gap(f"line {number} cannot be read: {error}")
                continue
            yield row
