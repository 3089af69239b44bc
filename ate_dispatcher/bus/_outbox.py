"""What publishers leave for the one thread that sends, and how they learn what became of it."""

from __future__ import annotations

import threading
from typing import Any, List

__all__ = ["Outbox", "Outgoing", "Pending"]


class Pending:
    """What one thread waits for. That thread makes it, the driver's finishes it, once.

    Attributes
    ----------
    error : object
        What went wrong; false if nothing did. Written before the waiting thread is woken.
    """

    __slots__ = ("_done", "_over", "error")

    def __init__(self) -> None:
        self.error: Any = None
        self._over = False  # the driver's thread's
        self._done = threading.Lock()  # released to wake who waits
        self._done.acquire()

    def wait(self, timeout: float) -> bool:
        """Wait until it is finished; False if that takes too long."""
        return self._done.acquire(timeout=timeout)

    def finish(self, error: Any = None) -> None:
        """Wake who waits, and say what went wrong."""
        if not self._over:
            self._over, self.error = True, error
            self._done.release()


class Outgoing(Pending):
    """What is published; its publisher waits until the broker has it."""

    __slots__ = ("payload", "topic")

    def __init__(self, topic: str, payload: bytes) -> None:
        super().__init__()
        self.topic = topic
        self.payload = payload


class Outbox:
    """Messages that nobody has sent yet, in order. Every call is made under its driver's lock."""

    __slots__ = ("_kicked", "_messages")

    def __init__(self) -> None:
        self._messages: List[Outgoing] = []
        # Whether the driver's thread knows, or will be told, that there is something in here.
        self._kicked = False

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Outgoing) -> bool:
        """Add a message; True if the driver's thread has to be told of it."""
        self._messages.append(message)
        kick, self._kicked = not self._kicked, True
        return kick

    def take(self) -> List[Outgoing]:
        """Give all, and forget them; of the next one the thread has to be told."""
        messages, self._messages = self._messages, []
        self._kicked = False
        return messages

    def withdraw(self, message: Outgoing) -> bool:
        """Take a message back; False if it was taken already."""
        if message not in self._messages:
            return False
        self._messages.remove(message)
        return True
