"""The monitor as its users see it."""

from __future__ import annotations

import os
from typing import Any, Optional

from .._exceptions import InvalidArgumentError, InvalidTypeError, StateError
from ..dispatcher import ATEDispatcher
from ._feed import Feed
from ._requests import check_token
from ._server import Server

__all__ = ["Monitor"]


class Monitor:
    """A web page that shows a dispatcher at work. Made, it is served.

    Topics and who is behind them, each producer with what it is busy with and for how long,
    listeners with what waits for them and what they lost, outcomes as they come, latency and
    throughput, the last minute as a timeline, and its trace to download. It only looks: nothing can
    be changed from the page.

    Parameters
    ----------
    dispatcher : ATEDispatcher
        Started or not.
    host : str
        Where to listen. By default nobody but this machine can reach it.
    port : int
        0 for a free one: see `url`.
    token : str, optional
        What a browser must show once: open ``url + "?token=…"``. Programs send it as
        ``Authorization: Bearer …``. Demanded where others can reach the monitor. What it protects
        is not encrypted: put a proxy with TLS before it in a network that you do not trust.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        It is no dispatcher, the port is none, or the token is missing or too short.
    OSError
        The address cannot be listened on: taken, or not of this machine.

    Notes
    -----
    Thread-safe. It is an observer: no message waits for it or for a browser. Above some 1000
    requests a second it shows a sample of their outcomes, and says so; its counts are exact. The
    format of its messages is the page's affair and may change.

    Examples
    --------
    >>> with ATEDispatcher() as dispatcher, Monitor(dispatcher) as monitor:
    ...     print("open", monitor.url)
    """

    def __init__(
        self,
        dispatcher: ATEDispatcher,
        host: str = "127.0.0.1",
        port: int = 0,
        token: Optional[str] = None,
    ) -> None:
        if not isinstance(dispatcher, ATEDispatcher):
            raise InvalidTypeError(f"a Monitor is of an ATEDispatcher, not of {dispatcher!r}")
        if not isinstance(host, str):
            raise InvalidTypeError(f"a host must be a string, not {host!r}")
        if not host:
            raise InvalidArgumentError("a host must not be empty: '0.0.0.0' is every address")
        if isinstance(port, bool) or not isinstance(port, int):
            raise InvalidTypeError(f"a port must be a whole number, not {port!r}")
        if not 0 <= port <= 65535:
            raise InvalidArgumentError(f"a port must be from 0 to 65535, not {port}")
        checked = check_token(token, host)
        self._host = host
        self._stopped = False
        self._process = os.getpid()
        self._feed = Feed(dispatcher)
        self._server = Server(host, port, checked, self._feed)
        try:
            self._feed.start()
            self._server.start()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where the page is, without the token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.port}/"

    @property
    def clients(self) -> int:
        """Browsers that are given what happens, now."""
        return self._feed.clients

    @property
    def dropped(self) -> int:
        """How often a browser was cut off because it did not take in what it was sent."""
        return self._feed.slow + self._server.stalled

    def stop(self) -> None:
        """Close the page and every connection; wait for the threads. Stopping twice is once.

        Interrupted, as by Ctrl-C, it is called again: no step of it minds being repeated. In the
        child of a fork it lets go of the port, and leaves the connections to the parent.
        """
        if self._process != os.getpid():
            self._server.server_close()
            return
        self._feed.stop()
        self._server.close()
        self._stopped = True

    def __enter__(self) -> Monitor:
        if self._stopped:
            raise StateError("a Monitor serves once, this one was stopped: make another one")
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Monitor {self.url}{', stopped' if self._stopped else ''}>"
