"""What ``with_options`` was given, checked once and shared by every request sent through it."""

from __future__ import annotations

import copy as _copy
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple, Union

from ._address import Address
from ._checks import check_list, check_sites
from ._exceptions import InvalidArgumentError, InvalidTypeError
from ._outcomes import NO_TAGS, Outcome, OutcomeStatus

__all__ = ["Options"]

Until = Union[int, Callable[[Outcome], Any]]
_COPIES: Dict[str, Callable[[Any], Any]] = {"shallow": _copy.copy, "deep": _copy.deepcopy}


class Options:
    """Immutable; see ``ATEDispatcher.with_options`` for the meaning of each."""

    __slots__ = ("copy", "priority", "sites", "tags", "to", "until")

    def __init__(
        self,
        to: Union[str, Iterable[str], None] = None,
        sites: Optional[Iterable[Any]] = None,
        until: Optional[Until] = None,
        tags: Optional[Mapping[str, Any]] = None,
        copy: Optional[str] = None,
        priority: int = 0,
    ) -> None:
        self.to = None if to is None else _names(to)
        self.sites = None if sites is None else frozenset(check_sites(sites))
        self.until = until
        if until is not None and not callable(until):
            if isinstance(until, bool) or not isinstance(until, int):
                raise InvalidTypeError(
                    f"until must be a number of good answers or a predicate, not {until!r}"
                )
            if until < 1:
                raise InvalidArgumentError(f"until must be at least 1, not {until}")
        if tags is not None and not isinstance(tags, Mapping):
            raise InvalidTypeError(f"tags must be a mapping, not {tags!r}")
        self.tags: Mapping[str, Any] = NO_TAGS if tags is None else dict(tags)
        if copy is not None and (not isinstance(copy, str) or copy not in _COPIES):
            raise InvalidArgumentError(f"copy must be 'shallow', 'deep' or None, not {copy!r}")
        self.copy = copy
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise InvalidTypeError(f"priority must be a whole number, not {priority!r}")
        self.priority = priority

    def select(self, roster: Tuple[Address, ...]) -> Tuple[Tuple[Address, ...], Tuple[str, ...]]:
        """Narrow a topic's producers to those asked for; name those asked for and not there."""
        chosen = roster
        if self.sites is not None:
            chosen = tuple(address for address in chosen if address.site in self.sites)
        if self.to is None:
            return chosen, ()
        wanted = dict.fromkeys(self.to)
        chosen = tuple(address for address in chosen if address.name in wanted)
        present = {address.name for address in chosen}
        return chosen, tuple(name for name in wanted if name not in present)

    def describe(self) -> str:
        """Say in words whom they narrow a request to."""
        words = []
        if self.to is not None:
            words.append("to=" + ", ".join(map(repr, self.to)))
        if self.sites is not None:
            words.append("sites=" + ", ".join(sorted(map(repr, self.sites))))
        return " and ".join(words)

    def copy_value(self, value: Any) -> Any:
        """Copy as asked for; whatever the value's own copying raises goes through."""
        return value if self.copy is None else _COPIES[self.copy](value)

    def copy_call(
        self, args: Tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tuple[Tuple[Any, ...], Optional[Dict[str, Any]]]:
        """Copy each argument of a call as asked for; no keywords are None, as in a request."""
        if self.copy is None:
            return args, dict(kwargs) or None
        copied = tuple(self._copy_argument(argument) for argument in args)
        named = {name: self._copy_argument(argument) for name, argument in kwargs.items()}
        return copied, named or None

    def _copy_argument(self, argument: Any) -> Any:
        try:
            return self.copy_value(argument)
        except Exception as error:
            raise InvalidTypeError(
                f"an argument cannot be copied (copy={self.copy!r}): {argument!r}"
            ) from error

    def early_finish(self) -> Optional[Callable[[Outcome], bool]]:
        """Make the rule that ends one request early, None without ``until``."""
        until = self.until
        if until is None:
            return None
        if callable(until):
            predicate = until
            return lambda outcome: bool(predicate(outcome))
        left = [until]

        def enough(outcome: Outcome) -> bool:
            if outcome.status is OutcomeStatus.OK:
                left[0] -= 1
            return left[0] == 0

        return enough


def _names(to: Union[str, Iterable[str]]) -> Tuple[str, ...]:
    names = (to,) if isinstance(to, str) else check_list(to, "to")
    for name in names:
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"to must name producers, {name!r} is no name")
    return names
