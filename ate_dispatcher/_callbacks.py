"""The one thread of a dispatcher on which the users' callbacks run.

Observers, done-callbacks, the completion of futures and ``on_cancel`` functions run here, in the
order in which the dispatcher's thread posted them, so that none of them can hold up a message.
"""

from __future__ import annotations

import logging
import threading
from queue import Empty, SimpleQueue
from typing import Any, Callable

from ._waiting import began_anyhow

__all__ = ["Callbacks", "local"]

logger = logging.getLogger("ate_dispatcher")

_LAST: Any = object()

local = threading.local()
"""``local.role`` names the library thread one is on; unset on a thread of the user's.

``local.look`` is called now and then while a request waits for its turn on this thread, and calls
it off by raising; unset where nothing does.
"""


class Callbacks:
    """A thread made when the first callback is registered, ended with its dispatcher.

    `post` is one ``SimpleQueue.put`` and may be called from any thread. A callback that raises is
    logged and changes nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self._ended = False
        self.thread: Any = None

    def start(self) -> None:
        """Make sure that the thread runs. Called where a callback is registered, on any thread."""
        if self.thread is None and not self._ended:
            with self._lock:  # two threads may register their first callback at once
                if self.thread is None and not self._ended:
                    thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:  # the interpreter is ending: `post` calls directly
                        logger.debug("no callback thread at interpreter exit")
                        return
                    except BaseException as error:
                        if began_anyhow(thread, error):
                            self.thread = thread
                        raise
                    self.thread = thread

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(*args)`` called on the callback thread; here, if there is none."""
        if self.thread is None:
            _guarded(function, args)
            return
        self._queue.put((function, args))
        # Put before reading the flag, while the thread sets it before its last look into the queue:
        # one of the two sees the message (both go through the queue's own lock).
        if self._ended:
            self._drain()

    def end(self, told: Callable[[], Any] = lambda: None) -> None:
        """Let the thread end once everything posted so far has been called; it calls `told` last.

        Where there is no thread, there is nothing to wait for, and nobody calls it.
        """
        with self._lock:
            if self.thread is None:
                self._ended = True
            self._queue.put((_LAST, told))
        if self._ended:
            self._drain()

    def abandon(self) -> None:
        """Forget the thread; for the child of a fork, where it does not exist."""
        self._queue, self._lock, self._ended = SimpleQueue(), threading.Lock(), True
        self.thread = None

    def _run(self) -> None:
        local.role = self
        while True:
            function, args = self._queue.get()
            if function is _LAST:
                break
            _guarded(function, args)
            del function, args
        self._ended = True
        self._drain()
        args()

    def _drain(self) -> None:
        while True:
            try:
                function, args = self._queue.get_nowait()
            except Empty:
                return
            if function is not _LAST:
                _guarded(function, args)


def _guarded(function: Callable[..., Any], args: Any) -> None:
    try:
        function(*args)
    except BaseException:  # whatever it is, the other callbacks still have to run
        logger.exception("a callback raised: %r", function)
