"""Messages of applications: what they may say, and how they go over the wire."""

from __future__ import annotations

import pytest

from ate_dispatcher import (
    InvalidArgumentError,
    InvalidTypeError,
    RemoteError,
    UndecodableMessageError,
)
from ate_dispatcher.application._message import (
    Message,
    MessageBuilder,
    pack,
    pack_error,
    unpack,
    unpack_answer,
)

WHOLE = Message({"volts": 5}, "a.b", "a.replies", "7", "bench")
PACKED = {
    "ate_message": 1,
    "payload": {"volts": 5},
    "client": "bench",
    "reply": "a.replies",
    "correlation": "7",
}


class Dumb(Exception):
    def __str__(self):
        raise OSError("no")


def refused(read, data):
    with pytest.raises(UndecodableMessageError) as caught:
        read(data, "a.b")
    assert caught.value.__cause__ is None
    return str(caught.value)


# ---- messages ------------------------------------------------------------------------------------


def test_what_is_optional_may_be_left_out():
    """A message is a payload and a topic; an empty correlation is one."""
    plain = Message(1, "a")
    assert (plain.reply_topic, plain.correlation, plain.client_name) == (None, None, "")
    assert Message(1, "a", correlation="").correlation == ""


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"topic": "a.*"}, InvalidArgumentError, "a topic to publish to has no wildcards"),
        ({"topic": 3}, InvalidTypeError, "a topic must be a string, not int: 3"),
        ({"reply_topic": ""}, InvalidArgumentError, "a topic must not be empty"),
        ({"correlation": 7}, InvalidTypeError, "a message's correlation must be a string, not 7"),
        (
            {"client_name": None},
            InvalidTypeError,
            "a message's client_name must be a string, not None",
        ),
        ({"client_name": b"x"}, InvalidTypeError, "a message's client_name must be a string"),
    ],
)
def test_a_field_that_cannot_be_is_refused(fields, error, said):
    """When the message is made, with the value."""
    with pytest.raises(error) as caught:
        Message(**{"payload": 1, "topic": "a", **fields})
    assert str(caught.value).startswith(said)


def test_a_builder_makes_messages_in_somebodys_name():
    """Payload, topic and where answers go are the caller's."""
    build = MessageBuilder("bench")
    assert build(1, "a") == Message(1, "a", client_name="bench")
    assert build(1, "a", "b") == Message(1, "a", "b", None, "bench")
    assert repr(build) == "MessageBuilder('bench')"


# ---- on the wire ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "packed"),
    [
        (WHOLE, PACKED),
        (Message(None, "a.b"), {"ate_message": 1, "payload": None}),
        (
            Message(0, "a.b", correlation=""),
            {"ate_message": 1, "payload": 0, "correlation": ""},
        ),
    ],
)
def test_a_message_comes_back(message, packed):
    """What it does not have is not written; the topic is the one it came on."""
    assert pack(message) == packed
    assert unpack(packed, "a.b") == message
    assert unpack({**packed, "later": 1}, "a.b") == message


@pytest.mark.parametrize("data", [None, 5, "x", [1], {"payload": 1}, {"correlation": "7"}])
def test_other_json_is_somebodys_payload(data):
    """Who publishes it need not know anything of this."""
    assert unpack(data, "a.b") == Message(data, "a.b")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"ate_message": 2, "payload": 1}, "version 2 is not ours, 1"),
        ({"ate_message": True, "payload": 1}, "version True is not ours, 1"),
        ({"ate_message": "1" * 58}, f"version {'1' * 58!r} is not ours, 1"),
        ({"ate_message": "1" * 59}, f"version '{'1' * 56}... is not ours, 1"),
        ({"ate_message": 1, "a": 1}, "it has no 'payload', only ['a', 'ate_message']"),
        ({**PACKED, "reply": "#"}, "a topic to publish to has no wildcards, '#' has one in '#'"),
        ({**PACKED, "client": None}, "a message's client_name must be a string, not None"),
        ({**PACKED, "correlation": 7}, "a message's correlation must be a string, not 7"),
    ],
)
def test_what_says_that_it_is_ours_and_is_not(data, said):
    """It is refused with the reason."""
    assert refused(unpack, data) == said


# ---- answers -------------------------------------------------------------------------------------


def test_a_good_answer():
    """It says to which question, what, and no error."""
    assert unpack_answer(PACKED, "a.b") == ("7", WHOLE, None)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no signal"), "no signal"),
        (Dumb(), "(its str() raised OSError)"),
    ],
)
def test_a_question_that_could_not_be_answered(error, text):
    """What went wrong over there is told by type and text, whatever the error's str does."""
    packed = pack_error(WHOLE, error)
    name = type(error).__name__
    assert packed == {**PACKED, "error": {"type": name, "text": text}}
    correlation, message, remote = unpack_answer(packed, "a.b")
    assert (correlation, message) == ("7", WHOLE)
    assert type(remote) is RemoteError
    assert str(remote) == str(RemoteError(name, text)) == f"{name}: {text}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"ate_message": 1, "payload": 1},
            "an answer without 'correlation' belongs to no question",
        ),
        (5, "an answer without 'correlation' belongs to no question"),
        ({**PACKED, "error": None}, "None is no error"),
        ({**PACKED, "error": []}, "[] is no error"),
        ({**PACKED, "error": {"type": "E"}}, "{'type': 'E'} is no error"),
        ({**PACKED, "error": {"text": "E"}}, "{'text': 'E'} is no error"),
        ({**PACKED, "error": {"type": 1, "text": "E"}}, "{'type': 1, 'text': 'E'} is no error"),
        ({**PACKED, "ate_message": 0}, "version 0 is not ours, 1"),
    ],
)
def test_what_is_no_answer(data, said):
    """It is refused with the reason."""
    assert refused(unpack_answer, data) == said
