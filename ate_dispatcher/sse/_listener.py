"""Who a channel's messages are for."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Optional, Tuple

from ._message import MessageContract, check_id

if TYPE_CHECKING:
    from ._connection import Connection

__all__ = ["MessageQueueListener"]


class MessageQueueListener:
    """A listener of a channel or of several, each of which keeps messages until it reads them.

    Parameters
    ----------
    listener_id : str, optional
        Unique in a channel; made up if not given.

    Notes
    -----
    Thread-safe. Messages are kept for it from its registration on; who reads its stream gets them,
    whether that is one thread after another or, for one that was cut off, the same once more.
    """

    def __init__(self, listener_id: Optional[str] = None) -> None:
        self._ate_id = (
            str(uuid.uuid4()) if listener_id is None else check_id(listener_id, "listener_id")
        )
        self._ate_running = True
        self._ate_lock = threading.Lock()  # two channels may register it at once
        # Replaced whole, under that lock: who reads it sees one tuple or the other.
        self._ate_connections: Tuple[Connection, ...] = ()

    @property
    def id(self) -> str:
        """Its name in the channel."""
        return self._ate_id

    def start(self) -> None:
        """Take messages (again). A stream that is opened for a listener starts it."""
        self._ate_running = True

    def stop(self) -> None:
        """End the streams that are open for it. What comes then is kept for the next one."""
        self._ate_running = False
        for connection in self._ate_connections:
            connection.detach("the listener was stopped")

    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._ate_running

    def on_message(self, msg: MessageContract) -> None:
        """Take one message, just before its stream gives it. Override it to act on messages.

        Runs on the thread that reads the stream. What it raises is logged and counted, and the
        stream goes on.
        """

    def _ate_joined(self, connection: Connection) -> None:
        with self._ate_lock:
            self._ate_connections = (*self._ate_connections, connection)

    def _ate_left(self, connection: Connection) -> None:
        with self._ate_lock:
            self._ate_connections = tuple(c for c in self._ate_connections if c is not connection)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._ate_id!r}>"
