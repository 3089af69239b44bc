"""What a decorator was given: a function, and how it is to be run. Checked where it is written."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Optional, Tuple, Union

from .._exceptions import InvalidArgumentError, InvalidTypeError
from .._topics import TopicFilter, split_topic
from ..bus._grammar import words_of_topic
from ._provider import SocketProvider

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    SupportedContextManagers = Union[AbstractAsyncContextManager[Any], AbstractContextManager[Any]]
else:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    SupportedContextManagers = Union[AbstractAsyncContextManager, AbstractContextManager]

__all__ = [
    "Function",
    "Policy",
    "SupportedContextManagers",
    "check_function",
    "check_result",
    "policy_of",
    "resources_of",
]

Resources = Mapping[str, SupportedContextManagers]

TAKEN = ("message", "socket", "state", "message_builder")


class Policy(NamedTuple):
    """What happens to an error: it is logged, and more."""

    stop: bool = False
    dead_letter: str = ""


class Function(NamedTuple):
    """A function of an application; `topics` is None for a producer."""

    call: Callable[..., Any]
    name: str
    topics: Optional[Tuple[TopicFilter, ...]]
    provider: SocketProvider
    state: Any
    resources: Resources
    policy: Policy
    asynchronous: bool
    builder: bool

    @property
    def needs_loop(self) -> bool:
        """Whether any of it runs on an event loop."""
        return self.asynchronous or any(
            not isinstance(manager, AbstractContextManager) for manager in self.resources.values()
        )


def check_function(call: Any, producer: bool, resources: Resources) -> Tuple[bool, bool]:
    """Tell whether a function is asynchronous, and whether it wants the message builder.

    Raises
    ------
    InvalidTypeError
        It is not callable, yields, or cannot take what it would be called with.
    """
    if not callable(call):
        raise InvalidTypeError(f"an application's function must be callable, not {call!r}")
    inner = call if inspect.isroutine(call) else type(call).__call__
    forms = (inner, getattr(call, "func", None))
    if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in forms):
        raise InvalidTypeError(
            f"{name_of(call)} yields, and nobody would take what it gives: "
            "send each value with socket.publish"
        )
    asynchronous = any(map(inspect.iscoroutinefunction, forms))
    try:
        signature = inspect.signature(call)
    except (ValueError, TypeError):  # some built-in functions have none
        return asynchronous, False
    found = signature.parameters.get("message_builder")
    builder = found is not None and found.kind in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    given = ("socket", "state") if producer else ("message", "socket", "state")
    keywords = dict.fromkeys((*resources, "message_builder") if builder else resources)
    try:
        signature.bind(*given, **keywords)
    except TypeError as error:
        called = ", ".join((*given, *(f"{name}=" for name in keywords)))
        raise InvalidTypeError(
            f"{name_of(call)}{signature} cannot be called as ({called}): {error}"
        ) from None
    return asynchronous, builder


def check_result(name: str, result: Any) -> None:
    """See that a call is over; what a function returns otherwise is nobody's.

    Raises
    ------
    InvalidTypeError
        A coroutine or generator is left to run, as of a plain function around another; a coroutine
        is closed.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise InvalidTypeError(
            f"{name} gave a coroutine that nobody awaits: make it an async def that awaits it"
        )
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise InvalidTypeError(
            f"{name} gave a generator that nobody runs: send each value with socket.publish"
        )


def resources_of(ressources: Any, resources: Any) -> Resources:
    """Take the resources under either name, and check them.

    Raises
    ------
    InvalidArgumentError
        Both names were used, or a resource has a name that is taken.
    InvalidTypeError
        One is no context manager.
    """
    if resources is not None and ressources:
        raise InvalidArgumentError("'ressources' and 'resources' are the same: give one of them")
    found = ressources if resources is None else resources
    if not isinstance(found, Mapping):
        raise InvalidTypeError(f"resources must be context managers by name, not {found!r}")
    for name, manager in found.items():
        if not isinstance(name, str) or not name.isidentifier() or name in TAKEN:
            raise InvalidArgumentError(
                f"a resource's name becomes a keyword, {name!r} cannot: "
                f"it must be an identifier, and none of {', '.join(TAKEN)}"
            )
        if not isinstance(manager, (AbstractContextManager, AbstractAsyncContextManager)):
            raise InvalidTypeError(
                f"the resource {name!r} is no context manager: "
                f"{type(manager).__name__} has neither __enter__ nor __aenter__"
            )
    return dict(found)


def policy_of(
    on_error: Any, dead_letter: Any, topics: Optional[Tuple[TopicFilter, ...]] = None
) -> Policy:
    """Read an error policy.

    Raises
    ------
    InvalidArgumentError
        An unknown one, two at once, or dead letters to a topic that the function itself follows.
    """
    if on_error not in ("log", "stop"):
        raise InvalidArgumentError(f"on_error must be 'log' or 'stop', not {on_error!r}")
    if dead_letter is None:
        return Policy(stop=on_error == "stop")
    if on_error == "stop":
        raise InvalidArgumentError(
            "on_error='stop' and a dead-letter topic contradict each other: give one of them, and "
            "on_error='log' beside the dead_letter= of a function if its application stops"
        )
    words_of_topic(dead_letter)
    for pattern in topics or ():
        if pattern.matches_words(split_topic(dead_letter)):
            raise InvalidArgumentError(
                f"dead letters to {dead_letter!r} would come back: {pattern.pattern!r} matches it. "
                "Give this function on_error='log' and no dead_letter="
            )
    return Policy(dead_letter=dead_letter)


def name_of(call: Any) -> str:
    """Give what a function is called in errors and logs."""
    return str(getattr(call, "__name__", None) or type(call).__name__)
