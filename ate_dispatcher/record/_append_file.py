"""A file of lines to which is only ever appended, by one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from pathlib import Path
from typing import Iterator, Tuple

from .._exceptions import NotARecordingError, RecordingError

__all__ = ["AppendFile", "lines", "sync_folder"]

logger = logging.getLogger("ate_dispatcher")

CHUNK = 65536


class AppendFile:
    """Whole lines at the end of a file, or none.

    Opening it cuts off what a writer that was killed, or a full disk, left of a line.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    begin : bytes
        How every file of this format begins.
    head : bytes
        What a new file gets as its first line, if anything.

    Raises
    ------
    RecordingError
        It is no ordinary file, or another writer has it.
    NotARecordingError
        It is there, and begins otherwise.
    OSError
        From the system.
    """

    def __init__(self, path: Path, begin: bytes, head: bytes = b"") -> None:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise RecordingError(errno.EINVAL, "it is no ordinary file", str(path))
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags, 0o666)
        self.size = 0
        try:
            _lock(self._descriptor, path)
            self._recover(path, begin)
            if head and not self.size:
                self.append(head)
        except BaseException:
            self.close()
            raise

    def append(self, data: bytes, durable: bool = False) -> None:
        """Write lines whole, or leave the file as it was and raise what the system says.

        Parameters
        ----------
        data : bytes
            They end with a line end.
        durable : bool
            Return only when they are on the disk, as far as the system can tell.
        """
        try:
            if not os.fstat(self._descriptor).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was recorded")
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            if durable:
                os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # if it stays, the next to open the file removes it
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close it; other writers may have it."""
        os.close(self._descriptor)

    def _recover(self, path: Path, begin: bytes) -> None:
        """Find the end of the last whole line, and cut off what comes after."""
        size = os.fstat(self._descriptor).st_size
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        first = os.read(self._descriptor, len(begin))
        if not begin.startswith(first):
            raise NotARecordingError(
                f"{str(path)!r} is there, and no recorder of this format wrote it: it begins with "
                f"{first!r}. Nothing was changed; choose another path"
            )
        self.size = self._whole(size)
        if self.size < size:
            logger.warning(
                "%s: %d bytes of a line that was cut off are removed", path, size - self.size
            )
            os.ftruncate(self._descriptor, self.size)

    def _whole(self, size: int) -> int:
        end = size
        while end:
            start = max(0, end - CHUNK)
            os.lseek(self._descriptor, start, os.SEEK_SET)
            found = os.read(self._descriptor, end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0


def lines(path: Path) -> Iterator[Tuple[int, bytes]]:
    """Give the lines of a file with their numbers; only whole ones have their line end."""
    with open(path, "rb") as file:
        yield from enumerate(file, 1)


def sync_folder(folder: Path) -> None:
    """Have a new file's name on the disk, where the system has a way to."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    """Take the file for this writer until it is closed, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecordingError(errno.EAGAIN, "another recorder writes it", str(path)) from None
    except OSError:
        logger.debug("%s: this file system has no locks", path)
