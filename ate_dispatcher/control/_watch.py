"""What a server's own thread waits for: who comes, who has gone, and who calls it."""

from __future__ import annotations

import select
import socket
import sys
import threading
from typing import Dict, List, Optional

__all__ = ["Watch"]

SEES_THE_GONE = sys.platform.startswith("linux") and hasattr(select, "poll")
"""Whether ``poll`` tells a client that is gone from one that only has nothing more to say."""


class Watch:
    """Waits for sockets. Used by one thread, but for `wake`.

    Parameters
    ----------
    listener : socket
        Where clients come.

    Notes
    -----
    A client that has closed a Unix socket is seen at once on Linux, by ``POLLHUP``; one that has
    only said that it will send no more is not taken for it. Elsewhere, and over TCP, one that is
    gone is noticed when something is written to it.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._mine, self._theirs = socket.socketpair()
        self._mine.setblocking(False)
        self._theirs.setblocking(False)
        self._lock = threading.Lock()  # a descriptor that is closed may be another's at once
        self._closed = False
        self._muted = False
        self._watched: Dict[int, object] = {}
        self._poll: Optional[select.poll] = None
        if SEES_THE_GONE:
            self._poll = select.poll()
            self._poll.register(self._mine, select.POLLIN)
            self._poll.register(listener, select.POLLIN)

    def wake(self) -> None:
        """Have `wait` return; any thread."""
        with self._lock:
            if not self._closed:
                try:
                    self._theirs.send(b"\0")
                except BlockingIOError:
                    pass  # it is full of the same

    def add(self, descriptor: int, client: object) -> None:
        """Look out for a client that goes."""
        if self._poll is not None:
            self._watched[descriptor] = client
            self._poll.register(descriptor, 0)  # what is wrong is told even so

    def forget(self, descriptor: int) -> None:
        """Look out for it no more."""
        if self._poll is not None and self._watched.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def mute(self, muted: bool) -> None:
        """Take no notice of who comes, or take notice again."""
        if muted is not self._muted:
            self._muted = muted
            if self._poll is not None:
                self._poll.modify(self._listener, 0 if muted else select.POLLIN)

    def wait(self, timeout: Optional[float] = None) -> List[object]:
        """Wait for anything, at most `timeout` seconds; give the clients that have gone."""
        gone: List[object] = []
        if self._poll is None:
            readers = [self._mine] if self._muted else [self._mine, self._listener]
            select.select(readers, [], [], timeout)
        else:
            for descriptor, _ in self._poll.poll(None if timeout is None else timeout * 1000):
                client = self._watched.get(descriptor)
                if client is not None:
                    self.forget(descriptor)
                    gone.append(client)
        try:
            while self._mine.recv(4096):
                pass
        except BlockingIOError:
            pass
        return gone

    def close(self) -> None:
        """Let go of it all."""
        with self._lock:
            self._closed = True
            self._mine.close()
            self._theirs.close()
