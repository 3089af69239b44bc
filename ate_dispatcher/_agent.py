"""The one thread loop of the library: start, serve a mailbox, stop."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from math import inf
from queue import Empty, SimpleQueue
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple, Union

from ._address import Address
from ._callbacks import local
from ._checks import check_site
from ._exceptions import InvalidArgumentError, InvalidTypeError, StateError
from ._mailbox import OVERFLOWS, STOP, BoundedMailbox, Fence
from ._states import AgentState
from ._waiting import began_anyhow

if TYPE_CHECKING:
    from ._loop_thread import LoopThread

__all__ = ["FATAL", "Agent", "default_name"]

logger = logging.getLogger("ate_dispatcher")

FATAL = (SystemExit, KeyboardInterrupt)
"""What ends the agent whose hook raises it; any other error is one piece of work's alone."""

_numbers: Dict[str, Any] = {}
_numbers_lock = threading.Lock()


def _after_fork() -> None:
    global _numbers_lock
    _numbers_lock = threading.Lock()  # a thread that is not in the child may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def default_name(stem: str) -> str:
    """Give ``stem-1``, ``stem-2``, …: a name no other agent was given by default."""
    with _numbers_lock:  # making the counter and using it must be one step
        return f"{stem}-{next(_numbers.setdefault(stem, itertools.count(1)))}"


def _shown(error: BaseException) -> str:
    """Show what was raised, on any thread; an error that cannot be shown must not end it."""
    try:
        return repr(error)
    except Exception as failure:
        return f"{type(error).__name__} (its repr() raised {type(failure).__name__})"


class Agent(threading.Thread):
    """A thread with a mailbox. Base of `Producer` and `ResultListener`; not for direct use.

    Parameters
    ----------
    name : str, optional
        Unique in a dispatcher; ``ClassName-N`` if not given.
    site : int or str, optional
        The device-under-test position this agent belongs to.
    capacity : int, optional
        How much may wait in the mailbox; unbounded (with a warning at a high-water mark) if not
        given.
    overflow : {"reject", "drop_oldest", "latest"}
        Who gives way when a bounded mailbox is full.

    Notes
    -----
    Everything private is prefixed ``_ate_``: a subclass may use any other attribute. Hooks run on
    the agent's own thread, one at a time.
    """

    _ate_address: Address

    _ate_uses_pool = False
    """Whether its work ends up in a pool of `concurrent.futures`."""

    def __init__(
        self,
        *,
        name: Optional[str] = None,
        site: Union[int, str, None] = None,
        capacity: Optional[int] = None,
        overflow: str = "reject",
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise InvalidTypeError(f"an agent's name must be a non-empty string, not {name!r}")
        if site is not None:
            check_site(site)
        if overflow not in OVERFLOWS:
            raise InvalidArgumentError(
                f"overflow must be one of {', '.join(OVERFLOWS)}, not {overflow!r}"
            )
        super().__init__(name=name or default_name(type(self).__name__), daemon=True)
        self._ate_mailbox: Any
        if capacity is None:
            self._ate_mailbox = SimpleQueue()
            deliver = self._ate_mailbox.put
        else:
            expires = type(self)._ate_waits is not Agent._ate_waits
            self._ate_mailbox = BoundedMailbox(
                capacity, overflow, self._ate_waits if expires else None, self._ate_dropped
            )
            deliver = self._ate_mailbox.deliver
        self._ate_address = Address(self.name, site, deliver, self._ate_mailbox.put)
        self._ate_lock = threading.Lock()
        # Reentrant, and apart from the other: a subclass's own start() may run under it.
        self._ate_starting = threading.RLock()
        self._ate_homes: Dict[Any, int] = {}
        # Dispatchers that hear how it goes: those it is registered with, and those it has left with
        # something of theirs still to do. Under the lock.
        self._ate_hearers: Dict[Any, None] = {}
        # Fences not passed yet. Any thread adds, who passes one takes it out: atomic, one key each.
        self._ate_fences: Dict[Fence, None] = {}
        self._ate_begun = False
        self._ate_dismissed = False
        self._ate_gone = False
        self._ate_failure: Optional[BaseException] = None
        self._ate_ready = False
        self._ate_abandoned = ""
        # When it last gave a value of a stream: one float, replaced whole, read by a supervisor.
        self._ate_progress = -inf
        # Who else is told of changes of state, on the thread that makes them; set before `start`.
        self._ate_watcher: Optional[Callable[[Agent, AgentState], None]] = None
        self._ate_loop: Optional[LoopThread] = None

    # ---- for users ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; once in an agent's life.

        Raises
        ------
        StateError
            It was started before.
        """
        if not hasattr(self, "_ate_address"):
            raise StateError(f"{type(self).__qualname__}.__init__ must call super().__init__()")
        with self._ate_starting:
            if self._ate_begun:
                raise StateError(
                    f"{self.name!r} was started before: a thread starts once, make a new one"
                )
            self._ate_begun = True  # before the thread can be seen to have ended
            try:
                super().start()
            except BaseException as error:
                # The system has no thread to give: it may be tried again.
                self._ate_begun = began_anyhow(self, error)
                raise

    def _ate_start_once(self) -> None:
        """Start unless somebody has; two threads may try at once."""
        with self._ate_starting:
            if not self._ate_begun:
                self.start()

    def stop(self) -> None:
        """Let the agent end after everything already in its mailbox. Returns at once."""
        self._ate_dismiss()

    def _ate_dismiss(self) -> None:
        """Tell the agent to stop; from here on it cannot be registered any more."""
        self._ate_dismissed = True
        self._ate_address.control(STOP)

    def on_start(self) -> Any:
        """Prepare (open the instrument, the file). On the agent's own thread, before any work."""

    def on_stop(self) -> Any:
        """Tidy up. On the agent's own thread, its last hook, if `on_start` did not raise."""

    # ---- the thread --------------------------------------------------------------------------

    def run(self) -> None:
        """Serve the mailbox until told to stop. Not to be called or overridden."""
        local.role = self
        self._ate_address.started = True
        self._ate_tell(AgentState.STARTING, self._ate_dispatchers())
        begun = False
        try:
            self._ate_prepare()
            try:
                self._ate_call(self.on_start)
                begun = self._ate_ready = True
                self._ate_tell(AgentState.READY, self._ate_dispatchers())
                self._ate_serve()
            finally:
                self._ate_make_safe()
                if begun:
                    self._ate_call(self.on_stop)
        except BaseException as error:
            self._ate_failure = error
            logger.error("agent %r failed and leaves", self.name, exc_info=error)
        self._ate_leave()

    def _ate_prepare(self) -> None:
        """Have at hand what the end of the thread will need."""

    def _ate_make_safe(self) -> None:
        """The last work is done, whatever ended it. Never raises."""

    def _ate_serve(self) -> None:
        raise NotImplementedError  # each kind of agent has its own loop

    def _ate_call(self, hook: Callable[..., Any], *args: Any) -> Any:
        """Call a hook; if it is a coroutine function, see it through on the agent's loop thread."""
        result = hook(*args)
        return self._ate_await(result) if type(result) is CoroutineType else result

    def _ate_await(self, coroutine: Any) -> Any:
        return self._ate_loop_thread().run(coroutine)

    def _ate_loop_thread(self) -> LoopThread:
        """Give the agent's event loop, made when the first hook needs it (on its own thread)."""
        if self._ate_loop is None:
            from ._loop_thread import LoopThread

            self._ate_loop = LoopThread(self.name, self)
        return self._ate_loop

    def _ate_leave(self) -> None:
        """Answer whoever still waits, and tell the dispatchers. The thread's last act."""
        if self._ate_loop is not None:
            self._ate_loop.close()
        # The flag before the look into the mailbox: who puts after that look sees the flag, or has
        # a dispatcher that gets the message that we have left, and looks once more. That message
        # before the look: who sees that its work was refused finds us out of the routes.
        self._ate_gone = True
        with self._ate_lock:  # a dispatcher is added under the lock, and then reads the flag
            homes, hearers = tuple(self._ate_homes), tuple(self._ate_hearers)
            self._ate_hearers.clear()
        for home in homes:
            home.agent_left(self)
        state = AgentState.STOPPED if self._ate_failure is None else AgentState.FAILED
        for home in hearers:  # a dispatcher that stops waits for its fence in our mailbox
            home.agent_changed(self, state)
        self._ate_refuse_mailbox()
        self._ate_tell(state, ())

    def _ate_abandon(self, reason: str) -> None:
        """Give up a thread that hangs: for everybody else it is gone, and its name is free.

        Any thread, once. If the hook ever comes back, its answer is late and the thread leaves.
        """
        self._ate_abandoned = reason
        self._ate_dismissed = self._ate_gone = True
        with self._ate_lock:
            homes = tuple(self._ate_homes)
            self._ate_hearers.clear()  # if it ever comes back, it is none of theirs
        for home in homes:
            home.agent_left(self)
        self._ate_refuse_mailbox()
        for home in homes:
            home.agent_changed(self, AgentState.STALLED)

    def _ate_forked(self) -> None:
        """In the child of a fork: the thread is not here, nor is whoever held a lock."""
        self._ate_gone = True
        self._ate_lock = threading.Lock()
        self._ate_starting = threading.RLock()
        if isinstance(self._ate_mailbox, BoundedMailbox):
            self._ate_mailbox.renew_lock()

    # ---- state (any thread) --------------------------------------------------------------------

    def _ate_tell(self, state: AgentState, homes: Tuple[Any, ...]) -> None:
        """Tell of a change of state. An abandoned agent has no homes any more."""
        for home in homes:
            home.agent_changed(self, state)
        if self._ate_watcher is not None:
            self._ate_watcher(self, state)

    def _ate_state(self) -> AgentState:
        if self._ate_abandoned:
            return AgentState.STALLED
        if self._ate_failure is not None:
            return AgentState.FAILED
        if self._ate_gone:
            return AgentState.STOPPED
        if not self._ate_begun:
            return AgentState.NEW
        if not self._ate_ready:
            return AgentState.STARTING
        return AgentState.READY if self._ate_address.running is None else AgentState.BUSY

    def _ate_refuse_mailbox(self) -> None:
        """Refuse what is left in the mailbox; only once the thread has left, or is given up."""
        while True:
            try:
                message = self._ate_mailbox.get_nowait()
            except Empty:
                break
            self._ate_answer(message)
        if self._ate_abandoned:  # its loop has not ended: this is what ends it, should it get there
            self._ate_mailbox.put(STOP)

    def _ate_answer(self, message: Any) -> None:
        """Deal with a message that comes too late to be served."""
        if isinstance(message, Fence):
            message.passed()
        elif message is not STOP:
            self._ate_refuse(message, f"{self.name!r} {self._ate_why_gone()}")

    def _ate_fence(self, passed: Callable[[], None]) -> None:
        """Have `passed` called when everything in the mailbox is done, or never will be.

        Put first, then look whether the agent's thread has ended its loop: it raises the flag
        before its last look into the mailbox, so one of the two sees the fence.
        """

        def through() -> None:
            self._ate_fences.pop(fence, None)
            passed()

        fence = Fence(through)
        self._ate_fences[fence] = None
        self._ate_address.control(fence)
        if self._ate_gone:
            self._ate_refuse_mailbox()

    def _ate_why_gone(self) -> str:
        if self._ate_abandoned:
            return self._ate_abandoned
        if self._ate_failure is not None:
            return f"failed: {_shown(self._ate_failure)}"
        return "has stopped" if self._ate_gone else "was told to stop"

    # ---- what each kind of agent does with its messages ---------------------------------------

    def _ate_depth(self) -> int:
        """How many messages wait, without fences. Any thread; two looks, so roughly."""
        depth: int = self._ate_mailbox.qsize() - len(self._ate_fences)
        return max(0, depth)

    def _ate_waits(self, message: Any) -> bool:
        """Tell whether a message in a bounded mailbox still is to be handled."""
        return True

    def _ate_dropped(self, message: Any, reason: str) -> None:
        """A bounded mailbox let a message go, by its policy."""
        self._ate_count_drop(reason)
        self._ate_refuse(message, reason)

    def _ate_count_drop(self, reason: str) -> None:
        address = self._ate_address
        with self._ate_lock:  # two dispatchers may drop at once, and `+=` is two steps
            address.dropped += 1
            first = address.dropped == 1
        if first:
            logger.info("%r lets messages go: %s", self.name, reason)

    def _ate_refuse(self, message: Any, reason: str) -> None:
        """A message will never be handled."""

    # ---- membership (any thread) ---------------------------------------------------------------

    def _ate_join(self, home: Any) -> None:
        """Note one registration with a dispatcher."""
        with self._ate_lock:
            self._ate_homes[home] = self._ate_homes.get(home, 0) + 1
            self._ate_hearers[home] = None

    def _ate_part(self, home: Any, times: Optional[int] = 1) -> int:
        """Take registrations with a dispatcher back (all for None); give how many are left."""
        with self._ate_lock:
            left = 0 if times is None else self._ate_homes.get(home, 0) - times
            if left > 0:
                self._ate_homes[home] = left
            else:
                self._ate_homes.pop(home, None)
            return max(left, 0)

    def _ate_forget(self, home: Any) -> None:
        """Let go of a dispatcher that it has left, and has nothing of any more."""
        with self._ate_lock:
            if home not in self._ate_homes:
                self._ate_hearers.pop(home, None)

    def _ate_dispatchers(self) -> Tuple[Any, ...]:
        with self._ate_lock:
            return tuple(self._ate_homes)
