"""A recording as an SQLite database: one table ``events``, a column a field.

Numbers are numbers and text is text, so that ``select avg(value) from events where topic = 'v'``
does what it says; everything else stands as in a CSV file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path
from typing import Any, Iterator, Tuple, Union

from .._exceptions import NotARecordingError, RecordingError
from ._cells import from_cell, to_cell
from ._events import Gap
from ._rows import FIELDS, Row

__all__ = ["SQLiteFile"]

APPLICATION = 0x41544544
COLUMNS = ", ".join(f'"{field}"' for field in FIELDS)
INSERT = f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' for _ in FIELDS)})"


class SQLiteFile:
    """One file of the format, open for writing. Every row is a transaction of its own."""

    begin = b"SQLite format 3\0"

    def __init__(self, path: Path) -> None:
        try:
            self._database = sqlite3.connect(str(path), isolation_level=None)
            try:
                self._prepare(path)
                self._identity = _identity(path)
            except BaseException:
                self._database.close()
                raise
        except sqlite3.Error as error:
            raise _translated(error, path) from error
        self._path = path

    def _prepare(self, path: Path) -> None:
        execute = self._database.execute
        (application,) = execute("PRAGMA application_id").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION:
            if tables or application:
                raise _not_ours(path)
            execute(f"PRAGMA application_id = {APPLICATION}")
        execute("PRAGMA journal_mode = WAL")
        self._durable = False
        execute("PRAGMA synchronous = NORMAL")
        execute(f"CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, {COLUMNS})")

    @property
    def size(self) -> int:
        """How many bytes it has."""
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (each,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages * each)

    def write(self, row: Row, durable: bool) -> None:
        """Append one row."""
        self._check_place()
        try:
            if durable is not self._durable:  # a durable commit takes all before it along
                self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._database.execute(INSERT, [_to_column(row.get(field)) for field in FIELDS])
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error

    def _check_place(self) -> None:
        """Refuse to write to a database that is not at its path any more.

        What its log still holds is moved into it before: the log stayed at the path, and would be
        taken for that of whatever database is there.
        """
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._identity:
                return
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raise FileNotFoundError(
            errno.ENOENT, "the file was deleted or replaced while it was recorded"
        )

    def close(self) -> None:
        """Close it."""
        self._database.close()

    @staticmethod
    def rows(path: Path) -> Iterator[Union[Row, Gap]]:
        """Read what was written; a row that cannot be read is a gap."""
        try:
            with contextlib.closing(_open_to_read(path)) as database:
                for columns in database.execute(f"SELECT {COLUMNS} FROM events ORDER BY id"):
                    yield {
                        field: from_cell(column) if isinstance(column, str) else column
                        for field, column in zip(FIELDS, columns)
                        if column is not None
                    }
        except sqlite3.Error as error:
            yield Gap(f"the rest of the database cannot be read: {error}")


def _identity(path: Path) -> Tuple[int, int]:
    """Tell files apart; all are one where the system does not number them, as on some of Windows.

    An open database cannot be deleted there.
    """
    found = os.stat(path)
    return (found.st_dev, found.st_ino) if found.st_ino else (0, 0)


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a database, with what a recorder that was killed left beside it, and check it.

    Opened for writing, because only then SQLite removes the files that it needs meanwhile; where
    nothing may be written and no such file is, as one that does not change.
    """
    uri = path.absolute().as_uri()
    try:
        return _checked(f"{uri}?mode=rw", path)
    except sqlite3.OperationalError:
        if path.with_name(path.name + "-wal").exists():
            raise
    return _checked(f"{uri}?immutable=1", path)


def _checked(uri: str, path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION or not tables:
            raise _not_ours(path)
    except BaseException:
        database.close()
        raise
    return database


def _to_column(plain: Any) -> Any:
    if type(plain) is float or (type(plain) is int and -(2**63) <= plain < 2**63):
        return plain
    return None if plain is None else to_cell(plain)


def _not_ours(path: Path) -> NotARecordingError:
    return NotARecordingError(
        f"{str(path)!r} is a database that no recorder made. Nothing was changed; choose another "
        "path"
    )


def _translated(error: sqlite3.Error, path: Path) -> Exception:
    if isinstance(error, sqlite3.OperationalError) or type(error) is not sqlite3.DatabaseError:
        return RecordingError(errno.EIO, str(error), str(path))
    return NotARecordingError(
        f"{str(path)!r} is there, and no recorder of this format wrote it ({error}). Nothing was "
        "changed; choose another path"
    )
