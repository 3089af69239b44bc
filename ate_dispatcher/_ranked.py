"""An unbounded mailbox read by priority: the most urgent first, in order within one priority."""

from __future__ import annotations

import heapq
import threading
from queue import Empty, SimpleQueue
from typing import Any, Callable, List, Tuple

from ._mailbox import STOP, Fence

__all__ = ["Ranked"]


class Ranked:
    """Takes everything out of a mailbox into a heap of its own, and gives the most urgent.

    A fence is given once all that came before it has been; `STOP` once nothing else is left, and
    what came after it stays in the mailbox.

    Parameters
    ----------
    mailbox : queue.SimpleQueue
        Everybody puts into it; only this reads from it, on the agent's thread.
    rank : callable
        Gives the priority of a piece of work, the higher the sooner.

    Notes
    -----
    The agent's thread alone calls `get`. Any thread may ask for the length, which is one call of
    ``len`` on a list, and may take the rest, when it gives up an agent that hangs: the lock makes
    each look at heap and fences one step, so that every message is either given or in the rest,
    and a fence in one rest only. It is never held while a message is waited for.
    """

    def __init__(self, mailbox: SimpleQueue[Any], rank: Callable[[Any], int]) -> None:
        self._mailbox = mailbox
        self._rank = rank
        self._heap: List[Tuple[int, int, Any]] = []
        # Each with the number of the first piece of work after it, and how many before it are left.
        self._fences: List[List[Any]] = []
        self._serial = 0
        self._stopped = False
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._heap)

    def get(self) -> Any:
        """Give the next message, waiting for one. To be called when the last one is dealt with."""
        while True:
            with self._lock:
                self._take_in()
                if self._closed:
                    return STOP
                if self._fences and not self._fences[0][1]:
                    return self._fences.pop(0)[2]
                if self._heap:
                    return self._most_urgent()
                if self._stopped:
                    return STOP
            message = self._mailbox.get()
            with self._lock:
                self._sort_in(message)

    def rest(self) -> List[Any]:
        """Give what was taken out of the mailbox and not been given, in order of arrival.

        From here on nothing is given but `STOP`. What was waited for, and comes, is in the next
        rest: that of the agent's thread, which leaves.
        """
        with self._lock:
            self._stopped = self._closed = True
            work = [(serial, message) for _, serial, message in self._heap]
            work += [(serial - 0.5, fence) for serial, _, fence in self._fences]
            self._heap, self._fences = [], []
        return [message for _, message in sorted(work, key=lambda entry: entry[0])]

    def _take_in(self) -> None:
        while not self._stopped:
            try:
                message = self._mailbox.get_nowait()
            except Empty:
                return
            self._sort_in(message)

    def _sort_in(self, message: Any) -> None:
        if message is STOP:
            self._stopped = True
        elif isinstance(message, Fence):
            self._fences.append([self._serial, len(self._heap), message])
        else:
            heapq.heappush(self._heap, (-self._rank(message), self._serial, message))
            self._serial += 1

    def _most_urgent(self) -> Any:
        _, serial, message = heapq.heappop(self._heap)
        for fence in self._fences:
            if serial < fence[0]:
                fence[1] -= 1
        return message
