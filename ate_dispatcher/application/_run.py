"""`Run`: an application between its start and its end."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Type

from .._waiting import limit_of, wait_for_signals
from ..bus import Distributer
from ._function import Function
from ._provider import SocketProvider
from ._worker import Worker

if TYPE_CHECKING:
    from .._loop_thread import LoopThread

__all__ = ["STOP_TIMEOUT", "Run"]

logger = logging.getLogger("ate_dispatcher")

STOP_TIMEOUT = 5.0
"""Seconds that messages in hand get to be finished, if nothing else is said."""

GRACE = 1.0
"""Seconds after the stop's timeout in which what was cut off may end."""


class Run:
    """The connections, workers and the loop of one start; and the thread that ends them.

    Parameters
    ----------
    name : str
        The application's.
    functions : sequence of Function
        What runs.
    """

    def __init__(self, name: str, functions: Sequence[Function]) -> None:
        self._name = name
        self._functions = functions
        self._buses: Dict[SocketProvider, Distributer] = {}
        self._workers: List[Worker] = []
        self._loop: Optional[LoopThread] = None
        # Anybody puts who it is that has ended, the error that is to stop all, and the time that is
        # left; one atomic step, in a signal handler too. The supervisor gets.
        self._asked: SimpleQueue[Tuple[Any, Any, Optional[float]]] = SimpleQueue()
        self._done = threading.Event()
        # Written by the supervisor before `_done` is set, read after.
        self.error: Optional[BaseException] = None
        self.clean = True

    # ---- beginning -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Connect, enter all resources, subscribe, and let the functions run.

        If any of that fails, what was begun is ended, and the error raised.
        """
        try:
            self._connect()
            for worker in self._workers:
                worker.enter()
            for worker in self._workers:
                if worker.function.topics is not None:
                    worker.go()
                    worker.subscribe()
            for worker in self._workers:
                if worker.function.topics is None:
                    worker.go()
        except BaseException:
            try:
                self._shut(STOP_TIMEOUT)
            finally:
                self._done.set()  # somebody may have asked meanwhile
            raise
        threading.Thread(
            target=self._supervise, name=f"{self._name}-supervisor", daemon=True
        ).start()

    def _connect(self) -> None:
        for function in self._functions:
            if function.provider not in self._buses:
                bus = self._buses[function.provider] = function.provider.bus()
                bus.connect()
        if any(function.needs_loop for function in self._functions):
            from .._loop_thread import LoopThread

            self._loop = LoopThread(self._name)
        for function in self._functions:
            name = function.provider.config.client_id or f"{self._name}.{function.name}"
            bus = self._buses[function.provider]
            kind = _worker_class(function)
            self._workers.append(kind(function, bus, name, self._loop, self._ended))

    # ---- ending ----------------------------------------------------------------------------------

    def ask(self, timeout: Optional[float] = STOP_TIMEOUT) -> None:
        """Have it end soon; from any thread, and from a signal handler."""
        self._asked.put((None, None, timeout))

    def wait(self) -> None:
        """Wait until it has ended. Signal handlers run meanwhile."""
        wait_for_signals(self._done)

    def is_ours(self, thread: threading.Thread) -> bool:
        """Tell whether it is a thread on which functions run, so that waiting would be for ever."""
        threads = [worker.thread for worker in self._workers]
        return thread in threads or (self._loop is not None and thread is self._loop.thread)

    def _ended(self, worker: Worker, error: Optional[BaseException]) -> None:
        self._asked.put((worker, error, STOP_TIMEOUT))

    def _supervise(self) -> None:
        left = set(self._workers)
        while True:
            worker, error, timeout = self._asked.get()
            left.discard(worker)
            if worker is None or error is not None or not left:
                break
        self.error = error
        try:
            self._shut(timeout)
        finally:
            self._done.set()

    def _shut(self, timeout: Optional[float]) -> None:
        limit = limit_of(timeout)

        def left() -> Optional[float]:
            return None if limit is None else max(0.0, limit - monotonic())

        begun = [worker for worker in reversed(self._workers) if worker.begun]
        for worker in begun:
            worker.finish()
        for worker in begun:
            worker.join_feeds(left)
        slow = []
        for worker in begun:  # one after the other: it leaves its resources now
            worker.end()
            if not worker.wait(left()):
                slow.append(worker)
        for worker in slow:
            worker.cut()
        if slow:  # whoever waits for a broker is told
            self._close_buses()
        limit = monotonic() + GRACE
        stuck = [worker.function.name for worker in slow if not worker.wait(left())]
        if stuck:
            self.clean = False
            logger.warning("%r left behind what did not end: %s", self._name, ", ".join(stuck))
        self._close_buses()
        for worker in self._workers:
            worker.close()
        if self._loop is not None:
            self._loop.close()

    def _close_buses(self) -> None:
        for bus in self._buses.values():
            try:
                bus.close(GRACE)
            except Exception:
                logger.exception("%r could not close %r", self._name, bus)


def _worker_class(function: Function) -> Type[Worker]:
    """Give what runs a function; asyncio is loaded for asynchronous ones alone."""
    if not function.asynchronous:
        return Worker
    from ._async_worker import AsyncWorker

    return AsyncWorker
