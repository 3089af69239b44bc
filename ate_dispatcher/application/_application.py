"""`DistributionApplication`: functions that are run for messages, declared by decorators."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Callable, Iterator, List, Mapping, Optional, TypeVar

from .._exceptions import InvalidArgumentError, InvalidTypeError, StateError
from ._configuration import Topics, topics_of
from ._function import (
    Function,
    Policy,
    SupportedContextManagers,
    check_function,
    name_of,
    policy_of,
    resources_of,
)
from ._provider import SocketProvider
from ._run import STOP_TIMEOUT, Run

__all__ = ["DistributedApplication", "DistributionApplication"]

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class DistributionApplication:
    """Functions that speak with others over a bus, and what is run when.

    Plain functions run on a thread each, ``async def`` ones on one loop thread of the application;
    each takes one message at a time. `start` runs until it is stopped; ``with app:`` runs it beside
    the block.

    Parameters
    ----------
    socket_provider : SocketProvider, optional
        The bus of every function that names none of its own.
    name : str
        What its threads are called, and who speaks where a configuration has no client id.
    on_error : str
        ``"log"``: what a function raises is logged, and it goes on with the next message (a
        producer ends). ``"stop"``: the application stops, and `start` raises it.
    dead_letter : str, optional
        A topic that each message whose function raised is published to, as ``{"topic", "payload",
        "error": {"type", "text"}}``; it is logged, too.

    Notes
    -----
    Whoever asked a question is told if the function raises, whatever the policy. A message that is
    none is logged, counted and skipped; it never stops anything. All methods are thread-safe.

    Examples
    --------
    >>> app = DistributionApplication(SocketProviderFactory.from_url("mqtt://127.0.0.1"))
    >>> @app.application("limits.check")
    ... def check(message, socket, state):
    ...     socket.reply(message, message.payload < 5.0)
    >>> app.start()  # until Ctrl-C
    """

    def __init__(
        self,
        socket_provider: Optional[SocketProvider] = None,
        *,
        name: str = "application",
        on_error: str = "log",
        dead_letter: Optional[str] = None,
    ) -> None:
        self._provider: Optional[SocketProvider] = None
        if socket_provider is not None:
            self._provider = self._provider_of(socket_provider)
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"an application's name must be a string, not {name!r}")
        policy_of(on_error, dead_letter)
        self.name = name
        self._on_error = on_error
        self._dead_letter = dead_letter
        # Guards what follows; never held while anything is run.
        self._lock = threading.Lock()
        self._functions: List[Function] = []
        self._run: Optional[Run] = None

    # ---- declaring -------------------------------------------------------------------------------

    def producer(
        self,
        *,
        socket_provider: Optional[SocketProvider] = None,
        state: Any = None,
        ressources: Mapping[str, SupportedContextManagers] = {},
        resources: Optional[Mapping[str, SupportedContextManagers]] = None,
        on_error: Optional[str] = None,
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function that is called once, ``(socket, state, **ressources)``.

        It ends when it returns. One that goes on for ever asks ``socket.sleep(seconds)``; when the
        application stops, a coroutine is cancelled, and the socket of a plain function raises
        `StateError`.

        Parameters
        ----------
        socket_provider : SocketProvider, optional
            Its bus, if it is not the application's.
        state : object
            Passed as it is.
        ressources, resources : mapping of str to context manager
            Entered in this order before anything runs, on the thread of the function; what that
            gives is passed by name. Left in reverse.
        on_error : str, optional
            If it is not the application's.

        Returns
        -------
        callable
            A decorator that gives the function back.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError, StateError
            Something cannot be meant; told here or, about the function, by the decorator.
        """
        policy = policy_of(on_error or self._on_error, None)
        return self._declare(None, socket_provider, state, ressources, resources, policy)

    def application(
        self,
        topics: Topics,
        *,
        socket_provider: Optional[SocketProvider] = None,
        state: Any = None,
        ressources: Mapping[str, SupportedContextManagers] = {},
        resources: Optional[Mapping[str, SupportedContextManagers]] = None,
        on_error: Optional[str] = None,
        dead_letter: Optional[str] = None,
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function that is called ``(message, socket, state, **ressources)``.

        Parameters
        ----------
        topics : str or list of str
            What it is called for; may be filters. A string is one topic.
        socket_provider, state, ressources, resources
            As for `producer`.
        on_error, dead_letter : str, optional
            Its own policy: giving either replaces the application's. Where that is ``"stop"``,
            ``dead_letter=`` needs ``on_error="log"`` beside it.

        Returns
        -------
        callable
            A decorator that gives the function back.

        Raises
        ------
        InvalidTypeError, InvalidArgumentError, StateError
            As `producer`.
        """
        filters = topics_of(topics)
        if not filters:
            raise InvalidArgumentError("an application needs at least one topic")
        if on_error is None:
            on_error = self._on_error
            if dead_letter is None:
                dead_letter = self._dead_letter
        provider = self._provider_of(socket_provider)
        policy = policy_of(on_error, dead_letter, (*provider._topics, *filters))
        return self._declare(filters, socket_provider, state, ressources, resources, policy)

    def _declare(
        self,
        topics: Any,
        socket_provider: Any,
        state: Any,
        ressources: Any,
        resources: Any,
        policy: Policy,
    ) -> Callable[[AnyFunction], AnyFunction]:
        found = resources_of(ressources, resources)
        provider = self._provider_of(socket_provider)

        def decorate(call: AnyFunction) -> AnyFunction:
            asynchronous, builder = check_function(call, topics is None, found)
            function = Function(
                call=call,
                name=name_of(call),
                topics=topics,
                provider=provider,
                state=state,
                resources=found,
                policy=policy,
                asynchronous=asynchronous,
                builder=builder,
            )
            with self._lock:
                if self._run is not None:
                    raise StateError(f"{self.name!r} runs already: declare functions before")
                self._functions.append(function)
            return call

        return decorate

    def _provider_of(self, given: Any) -> SocketProvider:
        provider = self._provider if given is None else given
        if provider is None:
            raise InvalidArgumentError(
                "there is no bus: give socket_provider= here or to DistributionApplication"
            )
        if not isinstance(provider, SocketProvider):
            raise InvalidTypeError(
                "socket_provider must be made by SocketProviderFactory, "
                f"it is of type {type(provider).__name__}"
            )
        return provider

    # ---- running ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Run until `stop`, a signal, or the end of all functions.

        On the main thread SIGINT (Ctrl-C) and SIGTERM stop it as `stop` does; their handlers are
        restored afterwards.

        Raises
        ------
        StateError
            It runs already, or has no functions.
        ResourceError
            A resource could not be entered; nothing was run, the others were left.
        BusConnectionError
            A broker is not there, or refuses.
        Exception
            What a function raised whose policy is ``"stop"``.
        """
        run = self._begin()
        try:
            with _signals_stop(run):
                run.wait()
        except BaseException:
            run.ask()
            run.wait()
            raise
        finally:
            self._forget(run)
        if run.error is not None:
            raise run.error

    def stop(self, timeout: Optional[float] = STOP_TIMEOUT) -> bool:
        """Take no more messages, finish those in hand, leave the resources and the bus.

        Stopping what does not run is no error.

        Parameters
        ----------
        timeout : float, optional
            Seconds that messages in hand get, after which coroutines are cancelled, and what plain
            functions wait for at their sockets fails; None for as long as they take.

        Returns
        -------
        bool
            Whether all has ended; False at once from a function of the application, which then
            ends.
        """
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
                raise InvalidTypeError(f"timeout must be seconds or None, not {timeout!r}")
            if not timeout >= 0:
                raise InvalidArgumentError(f"timeout must not be negative, not {timeout!r}")
        run = self._run
        if run is None:
            return True
        run.ask(timeout)
        if run.is_ours(threading.current_thread()):
            return False
        run.wait()
        return run.clean

    def __enter__(self) -> DistributionApplication:
        self._begin()
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        run = self._run
        if run is not None:
            self.stop()
            self._forget(run)
            if run.error is not None and kind is None:
                raise run.error

    def __repr__(self) -> str:
        state = "running" if self._run is not None else "not running"
        names = ", ".join(function.name for function in self._functions)
        return f"<DistributionApplication {self.name!r}, {state}: {names}>"

    def _begin(self) -> Run:
        with self._lock:
            if self._run is not None:
                raise StateError(f"{self.name!r} runs already: stop() it first")
            if not self._functions:
                raise StateError(f"{self.name!r} has no functions: declare one before start()")
            run = self._run = Run(self.name, tuple(self._functions))
        try:
            run.begin()
        except BaseException:
            self._forget(run)
            raise
        return run

    def _forget(self, run: Run) -> None:
        with self._lock:
            if self._run is run:
                self._run = None


DistributedApplication = DistributionApplication


@contextlib.contextmanager
def _signals_stop(run: Run) -> Iterator[None]:
    """Have SIGINT and SIGTERM stop a run meanwhile, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, lambda *_: run.ask())
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
