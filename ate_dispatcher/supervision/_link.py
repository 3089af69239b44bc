"""The parent's end of a `ProcessProducer`: one child process and the pipe to it."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import selectors
import signal
import sys
import threading
import weakref
from multiprocessing import process as _processes
from multiprocessing.connection import wait
from threading import TIMEOUT_MAX
from time import monotonic
from typing import Any, Optional

from .._exceptions import ProcessLostError
from ._child import serve
from ._dialogue import Incoming, Leave, pack, pieces

__all__ = ["Link"]

logger = logging.getLogger("ate_dispatcher")

SMALL = 4096
"""Bytes that a pipe takes whether or not anybody reads it."""

LONGEST = 1_000_000.0
"""Seconds that are waited at a time: ``poll`` cannot wait for more than 2**31 milliseconds."""

REAPING = 1.0
"""Seconds that the system may take to end a killed process."""


class Link:
    """One child process, from its start to its end. Used by one thread, but `kill` by any.

    Parameters
    ----------
    name : str
        What the child is called in messages.
    factory : bytes
        The pickled factory of the producer.
    grace : float
        Seconds that the child, left alone, gives its producer to stop.
    """

    def __init__(self, name: str, factory: bytes, grace: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._pipe, theirs = context.Pipe()
        self._incoming = Incoming()
        self._process = context.Process(target=serve, args=(theirs, factory, grace), name=name)
        try:
            self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()  # or the end of the child would not be seen here
        # At the end of the script multiprocessing would end the child before the dispatcher has
        # had its results, or wait for it for ever. It ends with its pipe, so that it need not.
        getattr(_processes, "_children", set()).discard(self._process)
        self.begun = monotonic()
        self.ready = False
        _links.add(self)

    @property
    def pid(self) -> Optional[int]:
        """The child's process id."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the child has ended, without waiting."""
        return bool(wait([self._process.sentinel], 0))

    def say(self, message: Any, within: float, call: int = 0) -> None:
        """Send a message; a child that does not read it within so many seconds is killed."""
        data = pack(message, call)
        limit = None
        timer = None
        if len(data) > SMALL:
            timer = threading.Timer(min(within, TIMEOUT_MAX), self.kill)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # at the end of the script no thread can be started
                timer, limit = None, monotonic() + within
        try:
            for start, length in pieces(data):
                if limit is not None:
                    self._await_room(limit)
                self._pipe.send_bytes(data, start, length)
        except OSError:
            raise self.lost("it was sent a message") from None
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()

    def _await_room(self, limit: float) -> None:
        """Wait until the pipe takes a piece; after the limit kill the child, as the timer would."""
        if sys.platform == "win32":
            return  # where a pipe does not say so
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_WRITE)
            while not selector.select(min(max(0.0, limit - monotonic()), LONGEST)):
                if limit <= monotonic():
                    self.kill()
                    return

    def hear(self, within: float, wake: Any, doing: str) -> Optional[bytes]:
        """Wait for a message, still packed.

        None if `wake` could be read, or the time passed, before, or if only a piece of it has come:
        the caller looks at its limits, and comes for the next.
        """
        timeout = min(max(0.0, within), LONGEST)
        found = wait([self._pipe, self._process.sentinel, wake], timeout)
        if self._pipe in found:
            try:
                piece = self._pipe.recv_bytes()
            except (EOFError, OSError):
                raise self.lost(doing) from None
            return self._incoming.add(piece)
        if self._process.sentinel in found:
            raise self.lost(doing)
        return None

    def lost(self, doing: str) -> ProcessLostError:
        """Word how the child ended."""
        pid = self.pid
        self._process.join(REAPING)
        how = _worded(self._process.exitcode)
        return ProcessLostError(f"the process of {self._name} (pid {pid}) {how} while {doing}")

    def kill(self) -> None:
        """End the child now. Any thread, any number of times."""
        with contextlib.suppress(ValueError, AttributeError):  # closed already
            self._process.kill()

    def leave(self, grace: float) -> None:
        """Let the child stop its producer, or end it after so many seconds; then forget it."""
        if self.ready:
            with contextlib.suppress(ProcessLostError):
                self.say(Leave(), grace)
            self._process.join(grace)
        self.close()

    def close(self) -> None:
        """End the child if it has not ended, and let go of all that the system holds for it."""
        self.kill()
        self._pipe.close()
        self._process.join(REAPING)
        try:
            self._process.close()
        except ValueError:
            logger.error("the process of %s (pid %s) cannot be killed", self._name, self.pid)


def _worded(code: Optional[int]) -> str:
    if code is None:
        return "closed its pipe"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name} (signal {-code})"
    except ValueError:
        return f"was killed by signal {-code}"


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork() -> None:
    """A fork must not hold the pipe open: the child would not see the end of its parent."""
    for link in tuple(_links):
        with contextlib.suppress(OSError):
            link._pipe.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
