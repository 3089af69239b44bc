"""Where repositories keep what is to survive: text by keys, in memory or in a file."""

from __future__ import annotations

import abc
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from .._exceptions import InvalidTypeError, StateError, StorageError

__all__ = ["KeyValueStorage", "MemoryStorage", "SQLiteStorage"]


class KeyValueStorage(abc.ABC):
    """What a repository needs of a storage. All calls may come from any thread, at once.

    Keys are made by the repository and end with a slash, so that what begins with one of them is
    its own.
    """

    @abc.abstractmethod
    def get(self, key: str) -> Optional[str]:
        """Give the value of a key, None if it has none."""

    @abc.abstractmethod
    def set(self, key: str, value: str) -> None:
        """Set the value of a key; when it returns, the value is stored."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Forget a key, if it is there."""

    @abc.abstractmethod
    def items(self, prefix: str) -> List[Tuple[str, str]]:
        """List keys that begin so, with their values, in the order of the keys."""


class MemoryStorage(KeyValueStorage):
    """Keeps everything in this process: for tests, and where nothing has to survive."""

    def __init__(self) -> None:
        # Setting, getting and popping are one atomic step each; `items` looks at a copy.
        self._values: Dict[str, str] = {}

    def get(self, key: str) -> Optional[str]:
        """Give the value of a key, None if it has none."""
        return self._values.get(key)

    def set(self, key: str, value: str) -> None:
        """Set the value of a key."""
        self._values[key] = value

    def delete(self, key: str) -> None:
        """Forget a key, if it is there."""
        self._values.pop(key, None)

    def items(self, prefix: str) -> List[Tuple[str, str]]:
        """List keys that begin so, with their values, in the order of the keys."""
        return sorted(item for item in self._values.copy().items() if item[0].startswith(prefix))


class SQLiteStorage(KeyValueStorage):
    """Keeps everything in an SQLite file, for one process at a time. A context manager.

    Every change is a transaction of its own in a write-ahead log: it outlives the process, whatever
    ends it (the last ones may be lost if the power fails).

    Parameters
    ----------
    path : path-like
        The file; made if it is not there.

    Raises
    ------
    StorageError
        It cannot be opened, or is something else. Later calls raise it where the file cannot be
        read or written any more, and `StateError` after `close`.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"]) -> None:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise InvalidTypeError(f"path must be a path, not {path!r}")
        self.path = Path(path).absolute()
        self._lock = threading.Lock()  # one connection, one thread at a time
        self._database: Optional[sqlite3.Connection] = None
        try:
            self._database = sqlite3.connect(
                str(self.path), isolation_level=None, check_same_thread=False
            )
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = NORMAL")
            self._execute(
                "CREATE TABLE IF NOT EXISTS ate_key_value "
                "(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise StorageError(f"cannot open {str(self.path)!r}: {error}") from error
        except StorageError:
            self.close()
            raise

    def get(self, key: str) -> Optional[str]:
        """Give the value of a key, None if it has none."""
        found = self._execute("SELECT value FROM ate_key_value WHERE key = ?", key)
        return found[0][0] if found else None

    def set(self, key: str, value: str) -> None:
        """Set the value of a key; when it returns, the value is in the file."""
        self._execute("INSERT OR REPLACE INTO ate_key_value VALUES (?, ?)", key, value)

    def delete(self, key: str) -> None:
        """Forget a key, if it is there."""
        self._execute("DELETE FROM ate_key_value WHERE key = ?", key)

    def items(self, prefix: str) -> List[Tuple[str, str]]:
        """List keys that begin so, with their values, in the order of the keys."""
        return self._execute(
            "SELECT key, value FROM ate_key_value WHERE key >= ? AND substr(key, 1, ?) = ? "
            "ORDER BY key",
            prefix,
            len(prefix),
            prefix,
        )

    def close(self) -> None:
        """Close the file. Closing twice is once."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def __enter__(self) -> SQLiteStorage:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SQLiteStorage {str(self.path)!r}>"

    def _execute(self, statement: str, *values: Any) -> List[Any]:
        with self._lock:
            if self._database is None:
                raise StateError(f"the storage {str(self.path)!r} was closed")
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"{str(self.path)!r}: {error}") from error
