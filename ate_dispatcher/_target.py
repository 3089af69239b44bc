"""What is named on a command line as module:name."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["load", "load_class"]


def load(target: str, kind: str, form: str = "name") -> Any:
    """Import what a module holds.

    Parameters
    ----------
    target : str
        ``module:name``; the current folder is looked in first. What the module's own import raises
        goes through.
    kind, form : str
        What it is to be, and what the name stands for: a mistake is told with them.

    Raises
    ------
    InvalidArgumentError
        The name is none, or there is nothing of that name.
    """
    module, colon, name = target.partition(":")
    if not colon or not module or not name:
        raise InvalidArgumentError(f"{kind} is named as module:{form}, not {target!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InvalidArgumentError(f"there is no module {module!r} to import") from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise InvalidArgumentError(f"module {module!r} has no {name!r}")
        found = getattr(found, part)
    return found


def load_class(target: str, kinds: Tuple[type, ...]) -> Any:
    """Import a class, as `load` does.

    Parameters
    ----------
    target : str
        ``module:Class``.
    kinds : tuple of type
        One of which it is to be derived from; the first is what a mistake is told with.

    Raises
    ------
    InvalidArgumentError
        As `load` does.
    InvalidTypeError
        It is something else.
    """
    kind = kinds[0].__name__
    found = load(target, f"a {kind}", "Class")
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise InvalidTypeError(f"{target} is no {kind} class, but {found!r}")
    return found
