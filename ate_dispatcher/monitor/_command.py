"""``ate-dispatcher monitor``: show a dispatcher that somebody's module makes."""

from __future__ import annotations

import os
import secrets
import threading
from typing import Optional

from .._exceptions import InvalidTypeError
from .._target import load
from .._waiting import ended_by_signal, wait_for_signals
from ..dispatcher import ATEDispatcher
from ._monitor import Monitor
from ._requests import is_loopback

__all__ = ["TOKEN", "run_monitor"]

TOKEN = "ATE_MONITOR_TOKEN"
"""The environment variable that a token is read from: arguments can be read by everybody."""


def run_monitor(target: str, host: str, port: int) -> int:
    """Show a dispatcher until Ctrl-C or SIGTERM, then stop both.

    Parameters
    ----------
    target : str
        ``module:name`` of a dispatcher, or of a function that gives one; the current folder is
        looked in first. It is started if it was not.
    host, port : str, int
        As for `Monitor`. Beyond this machine a token is made up and printed, unless there is one in
        the environment.
    """
    token = os.environ.get(TOKEN)
    made_up = None
    if token is None and not is_loopback(host):
        token = made_up = secrets.token_urlsafe(24)
    dispatcher = _dispatcher(target)
    with ended_by_signal():
        if dispatcher.ident is None:
            dispatcher.start()
        try:
            with Monitor(dispatcher, host, port, token) as monitor:
                print(_said(dispatcher, monitor, made_up), flush=True)
                wait_for_signals(threading.Event())
        finally:
            dispatcher.stop(drain=False)
    return 0


def _said(dispatcher: ATEDispatcher, monitor: Monitor, token: Optional[str]) -> str:
    where = monitor.url if token is None else f"{monitor.url}?token={token}"
    return f"{dispatcher.name!r} is shown at {where} (Ctrl-C ends it)"


def _dispatcher(target: str) -> ATEDispatcher:
    found = load(target, "a dispatcher")
    if not isinstance(found, ATEDispatcher) and callable(found):
        found = found()
    if not isinstance(found, ATEDispatcher):
        raise InvalidTypeError(f"{target} is and gives no ATEDispatcher, but {found!r}")
    return found
