"""The client of a control socket."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from math import inf, isfinite
from typing import Any, Callable, Dict, Generic, Iterable, Mapping, Optional, TypeVar, Union

from .._codec import decode, encode
from .._exceptions import (
    ControlConnectionError,
    ControlTimeoutError,
    InvalidArgumentError,
    InvalidTypeError,
)
from ._place import AnyPath, check_path, connect
from ._protocol import Lines, line, raised

__all__ = ["ControlStream", "SocketClient"]

LONGEST = 64 * 1024 * 1024
"""Bytes of an answer that are read."""

Item = TypeVar("Item")

Row = Dict[str, Any]


class SocketClient:
    """Drives what a `SocketServer` offers, from another process.

    Parameters
    ----------
    file_descriptor_path : str or path
        Where the server listens.
    timeout : float
        Seconds for the server to take a command and to answer it.

    Notes
    -----
    Thread-safe: each command has a connection of its own, and so has each stream. What the server
    answers with an error is raised as the library's own exception, as if its methods had been
    called here. Where it cannot be reached, `ControlConnectionError` is raised, and
    `ControlTimeoutError` if it does not answer in time.

    Examples
    --------
    >>> client = SocketClient("/run/bench.sock")
    >>> channel = client.create_channel()
    >>> listener = client.register(channel)
    >>> client.dispatch(channel, listener, "voltage", 5.01)
    >>> with client.stream(channel, listener) as stream:
    ...     json.loads(next(stream))["data"]
    5.01
    """

    def __init__(self, file_descriptor_path: AnyPath, *, timeout: float = 10.0) -> None:
        self.path = check_path(file_descriptor_path)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise InvalidTypeError(f"timeout must be a number of seconds, not {timeout!r}")
        if not (timeout > 0 and isfinite(timeout)):
            raise InvalidArgumentError(f"timeout must be a time above zero, not {timeout!r}")
        self.timeout = timeout
        self._options: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"<SocketClient {self.path!r}>"

    # ---- channels --------------------------------------------------------------------------------

    def send_payload(self, payload: Mapping[str, Any]) -> Any:
        """Send a command as it stands; give the ``result`` of its answer.

        Raises
        ------
        InvalidTypeError, NotJSONError
            It is no mapping, or JSON has no form for it.
        InvalidArgumentError
            It opens a stream, for which there are `stream`, `watch` and `send_request`.
        """
        return self._asked(payload, self.timeout)

    def create_channel(self) -> str:
        """Have the server create a channel; give its id."""
        return str(self.send_payload({"v": "c"}))

    def register(self, channel_id: str) -> str:
        """Add a listener to a channel; give its id. Messages are kept for it from now on."""
        return str(self.send_payload({"v": "r", "c": channel_id}))

    def stream(self, channel_id: str, listener_id: str) -> ControlStream[str]:
        """Open the stream of a listener: each message as the channel adapts it, as JSON text."""
        return self._opened({"v": "l", "c": channel_id, "r": listener_id}, _as_text, self.timeout)

    def watch(self, channel_id: str) -> ControlStream[str]:
        """Open a stream of everything that is sent on a channel from now on, as JSON text."""
        return self._opened({"v": "w", "c": channel_id}, _as_text, self.timeout)

    def broadcast_message(self, channel_id: str, message_type: str, payload: Any) -> None:
        """Send a message to all listeners of a channel."""
        self.send_payload({"v": "b", "c": channel_id, "t": message_type, "p": payload})

    def dispatch(self, channel_id: str, receiver_id: str, message_type: str, payload: Any) -> None:
        """Send a message to one listener of a channel."""
        command = {"v": "d", "c": channel_id, "r": receiver_id, "t": message_type, "p": payload}
        self.send_payload(command)

    def remove_listener(self, channel_id: str, listener_id: str) -> None:
        """Remove a listener; its stream ends."""
        self.send_payload({"v": "rl", "c": channel_id, "r": listener_id})

    def remove_channel(self, channel_id: str) -> None:
        """Remove a channel; its streams end after what waits."""
        self.send_payload({"v": "rc", "c": channel_id})

    # ---- the dispatcher --------------------------------------------------------------------------

    def with_options(
        self,
        *,
        to: Union[str, Iterable[str], None] = None,
        sites: Optional[Iterable[Union[int, str]]] = None,
        priority: int = 0,
    ) -> SocketClient:
        """Give a client whose requests have options; see ``ATEDispatcher.with_options``."""
        view = SocketClient(self.path, timeout=self.timeout)
        view._options = {
            "to": to if to is None or isinstance(to, str) else list(to),
            "sites": None if sites is None else list(sites),
            "priority": priority,
        }
        return view

    def send_request(
        self, /, topic: str, *args: Any, ttl: Any = 5000, **kwargs: Any
    ) -> ControlStream[Row]:
        """Send a request to the server's dispatcher, and stream what becomes of it.

        Parameters
        ----------
        topic : str
            Matched exactly.
        *args, **kwargs
            For the producers: what JSON has a form for.
        ttl : float or datetime.timedelta
            Milliseconds that an answer may take; `math.inf` for no deadline.

        Returns
        -------
        ControlStream
            One dict an outcome, as it comes, and a last one of the request's end; ``event`` says
            which, and their fields are those of a recording. Who reads too slowly misses the
            oldest: then one with the event ``lost`` tells their ``count``. Closing the stream
            before the end cancels the request.
        """
        if isinstance(ttl, timedelta):
            ttl = ttl.total_seconds() * 1000
        endless = isinstance(ttl, float) and ttl == inf
        options = {**self._options, "ttl": None if endless else ttl}
        payload = {"args": list(args), "kwargs": kwargs}
        limited = not endless and isinstance(ttl, (int, float)) and 0 < ttl < 1e9
        # It may wait for its turn, where the dispatcher has a `max_open`, until its deadline.
        timeout = None if not limited else self.timeout + ttl / 1000
        command = {"v": "send", "t": topic, "p": payload, "o": options}
        return self._opened(command, _as_it_is, timeout)

    def statistics(self) -> Dict[str, Any]:
        """Give the dispatcher's statistics, as nested dicts; times are in seconds."""
        return dict(self.send_payload({"v": "statistics"}))

    def stop(self, drain: bool = True, timeout: Optional[float] = None) -> Optional[Dict[str, Any]]:
        """Stop the dispatcher as its own `stop` does, and the server then.

        Returns
        -------
        dict or None
            The report; None if the server has no dispatcher.
        """
        command = {"v": "stop", "o": {"drain": drain, "timeout": timeout}}
        report: Optional[Dict[str, Any]] = self._asked(command, None)
        return report

    # ---- how -------------------------------------------------------------------------------------

    def _asked(self, payload: Mapping[str, Any], timeout: Optional[float]) -> Any:
        conversation = _Conversation(self.path, self.timeout)
        try:
            answer = conversation.ask(payload, timeout)
        finally:
            conversation.close()
        if "result" not in answer:
            raise InvalidArgumentError(
                f"the verb {payload.get('v')!r} opens a stream: "
                "use stream(), watch() or send_request()"
            )
        return answer["result"]

    def _opened(
        self, payload: Mapping[str, Any], give: Callable[[Any], Item], timeout: Optional[float]
    ) -> ControlStream[Item]:
        conversation = _Conversation(self.path, self.timeout)
        try:
            conversation.ask(payload, timeout)
        except BaseException:
            conversation.close()
            raise
        return ControlStream(conversation, give)


class ControlStream(Generic[Item]):
    """An iterator over what a server streams. Made by a `SocketClient`; read by one thread.

    It raises `ControlConnectionError` if the server is lost, and what the server says went wrong.
    Leaving a ``with`` block closes it.

    Attributes
    ----------
    reason : str
        Why it has ended, as the server says; empty as long as it has not.
    """

    def __init__(self, conversation: _Conversation, give: Callable[[Any], Item]) -> None:
        self._conversation = conversation
        self._give = give
        self._over = False
        self.reason = ""

    def __iter__(self) -> ControlStream[Item]:
        return self

    def __next__(self) -> Item:
        while not self._over:
            try:
                answer = self._conversation.hear(None)
            except BaseException as error:
                self._conversation.close()
                if self._over and isinstance(error, Exception):  # another thread has closed it
                    break
                self._over = True
                raise
            if "message" in answer:
                return self._give(answer["message"])
            if "end" in answer:
                self.reason = str(answer["end"])
                self.close()
        raise StopIteration

    def close(self) -> None:
        """End it. Thread-safe: a reader that waits in another thread is woken."""
        self._over = True
        self._conversation.close()

    def __enter__(self) -> ControlStream[Item]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ControlStream {f'ended: {self.reason}' if self._over else 'open'}>"


class _Conversation:
    """One connection. One thread speaks and hears; any may close it."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        try:
            self._socket, self._token = connect(path, timeout)
        except ControlConnectionError:
            raise
        except OSError as error:
            raise ControlConnectionError(f"{path!r} cannot be reached: {error}") from error
        self._lines = Lines(LONGEST)
        # Who hears holds the descriptor: who closes it then only cuts it, and it is given back
        # when the hearing ends. The lock is for both flags.
        self._lock = threading.Lock()
        self._hearing = self._closed = False

    def ask(self, payload: Mapping[str, Any], timeout: Optional[float]) -> Dict[str, Any]:
        """Send a command; give the first line of the answer."""
        if not isinstance(payload, Mapping):
            raise InvalidTypeError(f"a payload must be a mapping, not {payload!r:.60}")
        whole = dict(payload) if self._token is None else {**payload, "token": self._token}
        command = line(whole)
        try:
            self._socket.sendall(command)
        except socket.timeout:
            raise self._too_late(self._timeout) from None
        except OSError:
            pass  # it had enough of us, and may have said why
        while True:
            answer = self.hear(timeout)
            if answer:  # an empty one only asks whether we are there
                return answer

    def hear(self, timeout: Optional[float]) -> Dict[str, Any]:
        """Give the next answer; raise what it tells of."""
        with self._lock:
            if self._closed:
                raise ControlConnectionError("it was closed")
            self._hearing = True
        try:
            answer = decode(self._line(timeout))
        finally:
            with self._lock:
                self._hearing = False
                if self._closed:
                    self._socket.close()
        if not isinstance(answer, dict):
            raise ControlConnectionError(f"{self._path!r} speaks another language: {answer!r:.60}")
        if "error" in answer:
            raise raised(answer)
        return answer

    def close(self) -> None:
        """End it; thread-safe."""
        with self._lock:
            if not self._closed:
                self._closed = True
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the server was faster
                if not self._hearing:
                    self._socket.close()

    def _line(self, timeout: Optional[float]) -> bytes:
        while True:
            text = self._lines.take()
            if text is not None:
                return text
            try:
                self._socket.settimeout(timeout)
                data = self._socket.recv(65536)
            except socket.timeout:
                raise self._too_late(timeout) from None
            except OSError as error:
                raise ControlConnectionError(f"{self._path!r} was lost: {error}") from error
            if not data:
                raise ControlConnectionError(f"{self._path!r} was lost: it hung up")
            self._lines.feed(data)

    def _too_late(self, timeout: Optional[float]) -> ControlTimeoutError:
        return ControlTimeoutError(f"no answer from {self._path!r} within {timeout:g} s")


def _as_text(message: Any) -> str:
    return encode(message).decode("utf-8")


def _as_it_is(message: Row) -> Row:
    return message
