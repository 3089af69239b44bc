"""Classes that are named on a command line."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["load_class"]


def load_class(target: str, kinds: Tuple[type, ...]) -> Any:
    """Import a class.

    Parameters
    ----------
    target : str
        ``module:Class``; the current folder is looked in first. What the module's own import raises
        goes through.
    kinds : tuple of type
        One of which it is to be derived from; the first is what a mistake is told with.

    Raises
    ------
    InvalidArgumentError
        The name is none, or there is nothing of that name.
    InvalidTypeError
        It is something else.
    """
    kind = kinds[0].__name__
    module, colon, name = target.partition(":")
    if not colon or not module or not name:
        raise InvalidArgumentError(f"a {kind} is named as module:Class, not {target!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InvalidArgumentError(f"there is no module {module!r} to import") from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise InvalidArgumentError(f"module {module!r} has no {name!r}")
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise InvalidTypeError(f"{target} is no {kind} class, but {found!r}")
    return found
