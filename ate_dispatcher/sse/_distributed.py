"""Listeners that do what messages ask of them, and answer."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Union

from .._exceptions import InvalidArgumentError, InvalidTypeError, StateError, UnknownIdError
from ._channel import ListenerOrId
from ._listener import MessageQueueListener
from ._message import MessageContract, SignedMessage, check_id, check_message
from ._sse_channel import SSEChannel

__all__ = ["SimpleDistributedApplicationChannel", "SimpleDistributedApplicationListener"]

Action = Callable[[SignedMessage], Optional[List[MessageContract]]]

RESERVED = ("start", "stop")


class SimpleDistributedApplicationListener(MessageQueueListener):
    """A listener with an action for each type of message. Answers go back to who asked.

    It belongs to one `SimpleDistributedApplicationChannel`, and acts as its stream is read there.
    Messages of the types ``start`` and ``stop`` start and stop it.

    Parameters
    ----------
    listener_id : str, optional
        Unique in a channel; made up if not given.

    Examples
    --------
    >>> bob = channel.add_listener()
    >>> bob.set_action("ping", lambda msg: [Message("pong", msg.payload)])
    >>> alice.dispatch_to(bob, Message("ping", 1))
    """

    def __init__(self, listener_id: Optional[str] = None) -> None:
        super().__init__(listener_id)
        self._ate_channel: Optional[SimpleDistributedApplicationChannel] = None
        # A dict item is set and read in one atomic step.
        self._ate_actions: Dict[str, Action] = {}

    def set_action(self, name: str, action: Action) -> None:
        """Have `action` called for messages of a type; it takes the place of one set before.

        Parameters
        ----------
        name : str
            The type of message. ``start`` and ``stop`` are reserved.
        action : callable
            Called with the message. It gives a list of messages to answer with, or None.

        Raises
        ------
        InvalidArgumentError
            The name is reserved, or empty.
        InvalidTypeError
            The action cannot be called.
        """
        if check_id(name, "the name of an action") in RESERVED:
            raise InvalidArgumentError(
                f"{name!r} is reserved: override {name}() to do more when it comes"
            )
        if not callable(action):
            raise InvalidTypeError(f"the action for {name!r} must be callable, not {action!r}")
        self._ate_actions[name] = action

    def dispatch_to(self, receiver: ListenerOrId, msg: MessageContract) -> None:
        """Send a message to another listener of the channel, signed with this one's id.

        Raises
        ------
        StateError
            This listener is in no channel.
        UnknownIdError
            The receiver is not in the channel.
        """
        check_message(msg)
        channel = self._ate_channel
        if channel is None:
            raise StateError(f"{self!r} is in no channel: register it with one first")
        channel.dispatch(receiver, SignedMessage(self.id, msg.type, msg.payload, msg.id))

    def on_message(self, msg: MessageContract) -> None:
        """Do what a message asks for, and send the answers to its sender.

        Raises
        ------
        UnknownIdError
            There is no action for its type, or its sender has left.
        InvalidTypeError
            The action gave something else than messages, or answers to an unsigned message.
        """
        if msg.type in RESERVED:
            (self.start if msg.type == "start" else self.stop)()
            return
        action = self._ate_actions.get(msg.type)
        if action is None:
            raise UnknownIdError(f"{self!r} has no action for {msg.type!r}: use set_action")
        answers = self._ate_answers(msg, action(msg))  # type: ignore[arg-type]
        if answers and not isinstance(msg, SignedMessage):
            raise InvalidTypeError(
                f"the action for {msg.type!r} has answers, but the message does not say whom for: "
                "send it with dispatch_to"
            )
        for answer in answers:
            assert isinstance(msg, SignedMessage)
            self.dispatch_to(msg.sender_id, answer)

    def _ate_answers(self, msg: MessageContract, answers: Any) -> List[MessageContract]:
        if answers is None:
            return []
        if not isinstance(answers, (list, tuple)) or not all(
            isinstance(answer, MessageContract) for answer in answers
        ):
            raise InvalidTypeError(
                f"the action for {msg.type!r} must give a list of messages or None, not {answers!r}"
            )
        return list(answers)


class SimpleDistributedApplicationChannel(SSEChannel):
    """The channel of `SimpleDistributedApplicationListener`; see `SSEChannel` for the rest."""

    listener_class = SimpleDistributedApplicationListener

    def register_listener(self, listener: MessageQueueListener) -> None:
        """Register an existing listener, which is in no other channel.

        Raises
        ------
        StateError
            It is in another channel. See `AbstractChannel.register_listener` for the rest.
        """
        if isinstance(listener, SimpleDistributedApplicationListener):
            with listener._ate_lock:
                owner = listener._ate_channel
                if owner is not None and owner is not self:
                    raise StateError(f"{listener!r} is in channel {owner.id!r} already")
                listener._ate_channel = self
        try:
            super().register_listener(listener)
        except BaseException:
            self._ate_release(listener)
            raise

    def remove_listener(self, listener_id: Union[MessageQueueListener, str]) -> None:
        """Forget a listener; it may go to another channel then."""
        if isinstance(listener_id, MessageQueueListener):
            listener = listener_id
        else:
            listener = self.get_listener(listener_id)
        super().remove_listener(listener.id)
        self._ate_release(listener)

    def _ate_release(self, listener: MessageQueueListener) -> None:
        known = self._ate_connections.get(getattr(listener, "id", ""))
        if known is not None and known.listener is listener:
            return
        if isinstance(listener, SimpleDistributedApplicationListener):
            with listener._ate_lock:
                if listener._ate_channel is self:
                    listener._ate_channel = None
