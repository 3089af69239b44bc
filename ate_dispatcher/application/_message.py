"""`Message`: what applications say to each other, and how it goes over the wire.

Each is a JSON object with ``ate_message`` (the version), ``payload``, and where there is one
``client``, ``reply`` (the topic for answers), ``correlation`` and, in an answer of a responder that
failed, ``error``. Any other JSON is taken as the payload of somebody who knows nothing of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from .._exceptions import (
    InvalidArgumentError,
    InvalidTypeError,
    RemoteError,
    UndecodableMessageError,
)
from .._wording import short, text_of
from ..bus._grammar import words_of_topic

__all__ = ["Message", "MessageBuilder", "pack", "pack_error", "unpack", "unpack_answer"]

VERSION = 1
MARK = "ate_message"


@dataclass(frozen=True)
class Message:
    """A payload and where it goes, or came from. Frozen; ``dataclasses.replace`` changes a copy.

    Parameters
    ----------
    payload : object
        Whatever JSON has a form for.
    topic : str
        Words separated by ``.`` or ``/``, without wildcards.
    reply_topic : str, optional
        Where answers go. Set by ``request``; set it yourself to have answers come elsewhere.
    correlation : str, optional
        Says which question an answer belongs to.
    client_name : str
        Who says it; the socket's own name is filled in if it is empty.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        A topic that cannot be published to, or a field that is no string.
    """

    payload: Any
    topic: str
    reply_topic: Optional[str] = None
    correlation: Optional[str] = None
    client_name: str = ""

    def __post_init__(self) -> None:
        words_of_topic(self.topic)
        if self.reply_topic is not None:
            words_of_topic(self.reply_topic)
        for name in ("correlation", "client_name"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "client_name"):
                raise InvalidTypeError(f"a message's {name} must be a string, not {value!r}")


class MessageBuilder:
    """Makes messages in the name of a socket; given to functions that ask for `message_builder`.

    Parameters
    ----------
    client_name : str
        What stands in each message.
    """

    def __init__(self, client_name: str) -> None:
        self.client_name = client_name

    def __call__(self, payload: Any, topic: str, reply_topic: Optional[str] = None) -> Message:
        """Make a message."""
        return Message(payload, topic, reply_topic, client_name=self.client_name)

    def __repr__(self) -> str:
        return f"MessageBuilder({self.client_name!r})"


def pack(message: Message) -> Dict[str, Any]:
    """Give what is published for a message."""
    packed: Dict[str, Any] = {MARK: VERSION, "payload": message.payload}
    if message.client_name:
        packed["client"] = message.client_name
    if message.reply_topic is not None:
        packed["reply"] = message.reply_topic
    if message.correlation is not None:
        packed["correlation"] = message.correlation
    return packed


def pack_error(message: Message, error: BaseException) -> Dict[str, Any]:
    """Give what is published to who asked a question that could not be answered."""
    packed = pack(message)
    packed["error"] = {"type": type(error).__name__, "text": text_of(error)}
    return packed


def unpack(data: Any, topic: str) -> Message:
    """Read what came on a topic.

    Raises
    ------
    UndecodableMessageError
        It says that it is one of ours, and is not.
    """
    if not isinstance(data, dict) or MARK not in data:
        data = {MARK: VERSION, "payload": data}
    if data[MARK] != VERSION or isinstance(data[MARK], bool):
        raise UndecodableMessageError(f"version {short(data[MARK])} is not ours, {VERSION}")
    if "payload" not in data:
        raise UndecodableMessageError(f"it has no 'payload', only {short(sorted(data))}")
    try:
        return Message(
            data["payload"],
            topic,
            data.get("reply"),
            data.get("correlation"),
            data.get("client", ""),
        )
    except (InvalidArgumentError, InvalidTypeError) as error:
        raise UndecodableMessageError(str(error)) from None


def unpack_answer(data: Any, topic: str) -> Tuple[str, Message, Optional[RemoteError]]:
    """Read an answer: to which question, what it is, and what went wrong over there.

    Raises
    ------
    UndecodableMessageError
        It is none.
    """
    message = unpack(data, topic)
    if message.correlation is None:
        raise UndecodableMessageError("an answer without 'correlation' belongs to no question")
    if "error" not in data:
        return message.correlation, message, None
    error = data["error"]
    if not isinstance(error, dict) or not all(
        isinstance(error.get(part), str) for part in ("type", "text")
    ):
        raise UndecodableMessageError(f"{short(error)} is no error")
    return message.correlation, message, RemoteError(error["type"], error["text"])
