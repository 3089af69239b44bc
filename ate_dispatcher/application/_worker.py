"""`Worker`: runs one function, from the entering of its resources to the leaving of them."""

from __future__ import annotations

import logging
import threading
from contextlib import AbstractContextManager, AsyncExitStack
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Dict, Optional

from .._exceptions import BusError, ResourceError, StateError
from .._wording import text_of
from ..bus import Distributer
from ._function import Function, check_result
from ._message import Message, MessageBuilder
from ._provider import SocketProvider
from ._socket import Socket

if TYPE_CHECKING:
    from .._loop_thread import LoopThread

__all__ = ["Worker"]

logger = logging.getLogger("ate_dispatcher")

_GO: Any = object()
_END: Any = object()

Ended = Callable[["Worker", Optional[BaseException]], None]


class Worker:
    """One function at work, on a thread of its own.

    Its whole life is one coroutine, so that a plain function and an ``async def`` one have the
    same. Here nothing in it ever suspends: it blocks, and one step runs it to its end. All that the
    function touches, its resources too, it touches on this thread.

    Parameters
    ----------
    function : Function
        What is run.
    bus : Distributer
        The connection that its socket uses.
    name : str
        Who it is in messages.
    loop : LoopThread or None
        Where asynchronous resources live.
    ended : callable
        Called ``(worker, error)`` when it is over; the error is set if it is to stop all.
    """

    def __init__(
        self, function: Function, bus: Distributer, name: str, loop: Any, ended: Ended
    ) -> None:
        self.function = function
        self._loop: Optional[LoopThread] = loop
        self._ended = ended
        self.begun = False
        provider: SocketProvider = function.provider
        self.socket = Socket(
            bus,
            name,
            group=provider.config.group,
            retain=provider.config.retain,
            deliver=None if function.topics is None else self._hand_over,
            strange=self._bury,
        )
        # Threads of the bus put, the worker gets; each is one atomic step. An item is a message and
        # a lock, which is released when the function has done with it: until then the bus's thread
        # waits, so that it acknowledges no message before it was handled.
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._over = False
        self._finishing = False
        self.thread: Optional[threading.Thread] = None
        self._entered: SimpleQueue[Optional[BaseException]] = SimpleQueue()
        self._done = threading.Event()

    # ---- for the run -----------------------------------------------------------------------------

    def enter(self) -> None:
        """Begin: return once the resources are entered.

        Raises
        ------
        ResourceError
            One of them could not be; those before it were left again.
        """
        self.begun = True
        self._begin()
        error = self._entered.get()
        if error is not None:
            self._done.wait()
            raise error

    def subscribe(self) -> None:
        """Have messages come."""
        topics = self.function.topics
        if topics is not None:
            self.socket.subscribe((*self.function.provider._topics, *topics))

    def go(self) -> None:
        """Let the function run."""
        self._put(_GO)

    def finish(self) -> None:
        """Take on nothing more: a producer is called off, a message in hand is finished."""
        if self.function.topics is None:
            # Set before the function can notice: it returns, and its worker reads this.
            self._finishing = True
            self.socket._end()
            self._call_off()
        for feed in self.socket._feeds:
            if feed.subscription is not None:
                feed.subscription.cancel(timeout=0)

    def end(self) -> None:
        """End, once what is in hand is done."""
        self._put(_END)

    def cut(self) -> None:
        """End now: the socket does nothing more, and nobody waits for the function."""
        self.socket.close()
        self._call_off()
        self._drain()

    def wait(self, timeout: Optional[float]) -> bool:
        """Wait until it is over."""
        return self._done.wait(timeout)

    def join_feeds(self, timeout: Callable[[], Optional[float]]) -> None:
        """Wait until what has come is handled."""
        for feed in self.socket._feeds:
            if feed.subscription is not None:
                feed.subscription.join(timeout())

    # ---- messages (threads of the bus) -----------------------------------------------------------

    def _hand_over(self, message: Message) -> None:
        """Give the function a message, and wait until it has done with it."""
        done = threading.Lock()
        done.acquire()
        self._put((message, done))
        # Put before the flag is read, while who sets it drains afterwards: one sees the other.
        if self._over:
            self._drain()
        done.acquire()

    def _put(self, item: Any) -> None:
        self._items.put(item)

    def _drain(self) -> None:
        self._over = True
        while True:
            try:
                item = self._items.get_nowait()
            except Empty:
                break
            if isinstance(item, tuple):
                item[1].release()
        self._put(_END)  # what was taken out may have been the worker's own

    # ---- the life --------------------------------------------------------------------------------

    async def _live(self) -> None:
        failure: Optional[BaseException] = None
        resources: Dict[str, Any] = {}
        begun = False
        try:
            async with AsyncExitStack() as stack:
                try:
                    for name, manager in self.function.resources.items():
                        resources[name] = await self._enter(stack, name, manager)
                except ResourceError as error:
                    failure = error
                else:
                    begun = True
                    self._entered.put(None)
                    await self._serve(resources)
        except Exception as error:
            failure = failure or error
            self._failed(error)
        except BaseException as error:  # SystemExit, a cancellation: this function alone ends
            if not self.socket.stopping:
                self._failed(error)
        finally:
            self.finish()
            self._drain()
            self.socket._end()
            if not begun:
                self._entered.put(failure or StateError(f"{self.function.name!r} was called off"))
            self._done.set()
            self._ended(self, failure if begun and self.function.policy.stop else None)

    async def _enter(self, stack: AsyncExitStack, name: str, manager: Any) -> Any:
        if _was_entered(manager):
            raise ResourceError(
                f"the resource {name!r} of {self.function.name!r} was entered before, and what "
                "@contextmanager makes is entered once: give an object of a class with __enter__ "
                "and __exit__, or make a new application for every start"
            )
        try:
            return await self._enter_one(stack, manager)
        except Exception as error:
            raise ResourceError(
                f"the resource {name!r} of {self.function.name!r} could not be entered: "
                f"{type(error).__name__}: {text_of(error)}"
            ) from error

    async def _serve(self, resources: Dict[str, Any]) -> None:
        function, socket = self.function, self._handle()
        if function.builder:
            resources["message_builder"] = MessageBuilder(self.socket.name)
        if await self._next() is not _GO:
            return
        if function.topics is None:
            try:
                await self._call(socket, function.state, **resources)
            finally:
                while self._finishing and await self._next() is not _END:
                    pass  # its resources are left in their turn
            return
        while True:
            item = await self._next()
            if item is _END:
                return
            message, done = item
            try:
                await self._call(message, socket, function.state, **resources)
            except Exception as error:
                await self._say(self._answer_for, message, error)
                if function.policy.stop:
                    raise
                self._failed(error, message)
                await self._say(self._send_dead, message.topic, message.payload, error)
            except BaseException as error:
                await self._say(self._answer_for, message, error)
                raise
            finally:
                done.release()
            del item, message, done  # nothing is kept while waiting for the next

    # ---- what goes wrong -------------------------------------------------------------------------

    def _failed(self, error: BaseException, message: Optional[Message] = None) -> None:
        name, on = self.function.name, "" if message is None else f" on {message.topic!r}"
        if self.socket.stopping and isinstance(error, StateError):
            logger.debug("%r ended with its application: %s", name, error)
            return
        logger.error("%r raised%s", name, on, exc_info=error)

    def _bury(self, data: Any, error: BaseException) -> None:
        """Take a message that is none of ours, logged already; on a thread of the bus."""
        self._send_dead(None, data, error)

    def _send_dead(self, topic: Optional[str], payload: Any, error: BaseException) -> None:
        dead_letter = self.function.policy.dead_letter
        if not dead_letter:
            return
        said = {"type": type(error).__name__, "text": text_of(error)}
        letter = Message({"topic": topic, "payload": payload, "error": said}, dead_letter)
        try:
            self.socket.publish(letter)
        except (BusError, StateError) as lost:
            logger.error("%r could not send a dead letter: %s", self.function.name, lost)

    def _answer_for(self, message: Message, error: BaseException) -> None:
        """Tell who asked that there will be no answer, if anybody did."""
        if message.reply_topic is not None:
            try:
                self.socket._reply_error(message, error)
            except (BusError, StateError) as lost:
                logger.info("%r could not tell of an error: %s", self.function.name, lost)

    # ---- what differs for a function on a loop ---------------------------------------------------

    def _begin(self) -> None:
        self.thread = threading.Thread(target=self._run, name=self.socket.name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        life: Coroutine[Any, Any, None] = self._live()
        try:
            life.send(None)
        except StopIteration:
            pass

    async def _next(self) -> Any:
        return self._items.get()

    async def _call(self, *args: Any, **kwargs: Any) -> None:
        result = self.function.call(*args, **kwargs)
        if result is not None:
            check_result(self.function.name, result)

    async def _enter_one(self, stack: AsyncExitStack, manager: Any) -> Any:
        if isinstance(manager, AbstractContextManager):
            return stack.enter_context(manager)
        from ._loop import Held

        assert self._loop is not None
        return stack.enter_context(Held(self._loop, manager))

    async def _say(self, call: Callable[..., None], *args: Any) -> None:
        call(*args)

    def _handle(self) -> Any:
        return self.socket

    def _call_off(self) -> None:
        """Do nothing: a plain function cannot be interrupted, but its socket raises."""

    def close(self) -> None:
        """Leave nothing behind."""
        self.socket.close()


def _was_entered(manager: Any) -> bool:
    """Tell whether it is a used one of `contextlib`: its generator is over, its arguments gone."""
    if type(manager).__module__ != "contextlib" or not hasattr(manager, "gen"):
        return False
    frame = getattr(manager.gen, "gi_frame", None) or getattr(manager.gen, "ag_frame", None)
    return frame is None or not hasattr(manager, "args")
