"""Messages: a type, a payload, and perhaps who sent it."""

from __future__ import annotations

import abc
from typing import Any, Optional

from .._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = [
    "MESSAGE_TYPE_CLOSED",
    "Envelope",
    "Message",
    "MessageContract",
    "SignedMessage",
    "check_id",
    "check_message",
]

MESSAGE_TYPE_CLOSED = "_closed"
"""The reserved type of the message that ends a stream."""


class MessageContract(abc.ABC):
    """What channels take as a message. `Message` is one; implement it to bring your own."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def type(self) -> str:
        """What kind of message it is: a non-empty string of one line."""

    @property
    @abc.abstractmethod
    def payload(self) -> Any:
        """What it says. Streams over the wire need data that JSON has a form for."""

    @property
    def id(self) -> Optional[str]:
        """The sender's own name for it, if it has any. Streams number what they send themselves."""
        return None


class Message(MessageContract):
    """A message. It does not change.

    Parameters
    ----------
    message_type : str
        What kind of message it is: a non-empty string of one line.
    payload : object, optional
        What it says.
    id : str, optional
        The sender's own name for it.
    """

    __slots__ = ("_id", "_payload", "_type")

    def __init__(self, message_type: str, payload: Any = None, id: Optional[str] = None) -> None:
        self._type = _checked_type(message_type)
        self._payload = payload
        self._id = None if id is None else check_id(id, "a message's id")

    @property
    def type(self) -> str:
        """What kind of message it is."""
        return self._type

    @property
    def payload(self) -> Any:
        """What it says."""
        return self._payload

    @property
    def id(self) -> Optional[str]:
        """The sender's own name for it."""
        return self._id

    def _key(self) -> Any:
        return (self._type, self._payload, self._id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message) or type(other) is not type(self):
            return NotImplemented
        return bool(self._key() == other._key())

    __hash__ = None  # type: ignore[assignment]  # a payload may be a dict

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._type!r}: {self._payload!r}>"


class SignedMessage(Message):
    """A message that says who sent it.

    Parameters
    ----------
    sender_id : str
        The id of the listener to answer to.
    message_type, payload, id
        See `Message`.
    """

    __slots__ = ("_sender_id",)

    def __init__(
        self, sender_id: str, message_type: str, payload: Any = None, id: Optional[str] = None
    ) -> None:
        super().__init__(message_type, payload, id)
        self._sender_id = check_id(sender_id, "sender_id")

    @property
    def sender_id(self) -> str:
        """Who sent it."""
        return self._sender_id

    def _key(self) -> Any:
        return (*super()._key(), self._sender_id)


class Envelope:
    """A message as a channel has accepted it. Written once, before anybody else sees it.

    Attributes
    ----------
    number : int
        Its place in the order of the channel.
    recipient : str or None
        The listener it is for; None for all.
    body : bytes or None
        What of it goes over the wire, all but its id.
    """

    __slots__ = ("body", "message", "number", "recipient")

    def __init__(
        self, number: int, recipient: Optional[str], message: MessageContract, body: Optional[bytes]
    ) -> None:
        self.number = number
        self.recipient = recipient
        self.message = message
        self.body = body


def check_id(value: Any, name: str) -> str:
    """Give an id back, or raise: it is a non-empty string."""
    if not isinstance(value, str):
        raise InvalidTypeError(f"{name} must be a string, not {value!r}")
    if not value:
        raise InvalidArgumentError(f"{name} must not be empty")
    return value


def check_message(message: Any) -> MessageContract:
    """Give a message back, or raise if it is none."""
    if not isinstance(message, MessageContract):
        raise InvalidTypeError(
            f"a message must be a Message, or another MessageContract, not {message!r}"
        )
    if not isinstance(message, Message):
        _checked_type(message.type)
    return message


def _checked_type(value: Any) -> str:
    kind = check_id(value, "a message's type")
    if "\n" in kind or "\r" in kind:
        raise InvalidArgumentError(f"a message's type must be one line, not {kind!r}")
    return kind
