"""The protocol without a socket: lines, commands, errors."""

from __future__ import annotations

import json

import pytest

import ate_dispatcher
from ate_dispatcher import (
    ControlConnectionError,
    InvalidArgumentError,
    InvalidTypeError,
    PayloadTooLargeError,
    RemoteError,
    UndecodableMessageError,
    UnknownIdError,
)
from ate_dispatcher.control._protocol import Lines, error_line, raised, read_command


def cut(data, longest=100, pieces=1):
    """Give lines and errors of what comes in pieces of that size."""
    lines, found = Lines(longest), []
    for start in range(0, len(data), pieces):
        lines.feed(data[start : start + pieces])
        while True:
            try:
                line = lines.take()
            except PayloadTooLargeError as error:
                found.append(str(error))
                continue
            if line is None:
                break
            found.append(line)
    return found, lines.rest()


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 100])
def test_lines_may_be_cut_anywhere(pieces):
    assert cut(b"one\n\ntwo\r\nthree", pieces=pieces) == ([b"one", b"", b"two\r"], b"three")


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 100])
def test_a_line_that_is_too_long_is_told_once_and_skipped(pieces):
    told = "a line must not have more than 4 bytes"
    assert cut(b"1234\n12345\nabc\n" + b"x" * 50, 4, pieces) == ([b"1234", told, b"abc", told], b"")


def test_what_is_skipped_is_not_kept_but_counted():
    lines = Lines(10)
    lines.feed(b"x" * 11)
    with pytest.raises(PayloadTooLargeError):
        lines.take()
    for _ in range(1000):
        lines.feed(b"x" * 1000)
        assert lines.take() is None
    assert lines.skipped == 1_000_011
    assert len(lines._buffer) == 0
    lines.feed(b"\nok\n")
    assert (lines.take(), lines.skipped) == (b"ok", 0)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (b"nonsense", UndecodableMessageError, "is no JSON"),
        (b"\xff\xfe\x00\x01", UndecodableMessageError, "is no JSON"),
        (b"[" * 100_000, UndecodableMessageError, "nested too deeply"),
        (b'{"v": NaN}', UndecodableMessageError, "NaN"),
        (b"[]", InvalidTypeError, r"must be a JSON object, not \[\]"),
        (b"null", InvalidTypeError, "must be a JSON object, not None"),
        (b"7", InvalidTypeError, "must be a JSON object, not 7"),
        (b"{}", InvalidArgumentError, "must have a verb"),
        (b'{"v": null}', InvalidArgumentError, "must have a verb"),
        (b'{"v": 1}', InvalidTypeError, "'v' must be a string, not 1"),
        (b'{"v": "x"}', InvalidArgumentError, "the verb 'x' is none of d, b, c, r, l, w, rl, rc"),
        (b'{"v": ""}', InvalidArgumentError, "the verb ''"),
        (b'{"v": "b", "t": "m"}', InvalidArgumentError, "'b' needs 'c', a channel's id"),
        (b'{"v": "b", "c": "1"}', InvalidArgumentError, "'b' needs 't', a type or a topic"),
        (b'{"v": "l", "c": "1"}', InvalidArgumentError, "'l' needs 'r', a listener's id"),
        (b'{"v": "r", "c": 1}', InvalidTypeError, "'c' must be a string, a channel's id, not 1"),
        (b'{"v": "r", "c": ""}', InvalidArgumentError, "'c', a channel's id, must not be empty"),
        (b'{"v": "r", "c": "1", "o": 3}', InvalidTypeError, "'o' must be an object, not 3"),
    ],
)
def test_a_command_that_is_none_is_named(text, error, says):
    with pytest.raises(error, match=says):
        read_command(text)


def test_keys_of_no_use_to_a_verb_do_no_harm():
    """A client may send all the keys of the document always, empty where it has nothing."""
    command = read_command(b'{"v": "c", "c": null, "t": "", "p": 0, "r": null, "later": 1}')
    assert command == ("c", "", "", "", 0, {})


def test_the_token_is_asked_for_before_anything_else():
    """Who has none is not even told which verbs there are; and it is in no error."""
    for text in (b'{"v": "x"}', b'{"v": "c", "token": "tok"}', b'{"v": "c", "token": 1}'):
        with pytest.raises(ControlConnectionError, match="has no token, or a wrong one") as caught:
            read_command(text, "tokën")
        assert "tokën" not in str(caught.value)
    assert read_command('{"v": "c", "token": "tokën"}'.encode(), "tokën").verb == "c"


@pytest.mark.parametrize("name", [n for n in ate_dispatcher.__all__ if n.endswith("Error")])
def test_every_error_of_the_library_comes_back(name):
    """As the same class where a text is all that it is made of, as a RemoteError elsewhere."""
    error = raised({"error": {"type": name, "message": "so it is"}})
    if isinstance(error, RemoteError):
        assert (error.type_name, error.text) == (name, "so it is")
    else:
        assert (type(error).__name__, str(error)) == (name, "so it is")


def test_errors_of_others_come_back_as_remote():
    """Whatever the other side calls an error, the name of a builtin or of nothing at all."""
    for name in ("SystemExit", "__all__", "Dict", "ValueError", ""):
        assert isinstance(raised({"error": {"type": name, "message": "m"}}), RemoteError)
    for strange in ({}, {"error": None}, {"error": "text"}, {"error": {"type": None}}):
        assert isinstance(raised(strange), RemoteError)


def test_an_error_that_cannot_be_worded_is_an_answer_too():
    class Wordless(Exception):
        def __str__(self):
            raise ValueError

    told = json.loads(error_line(Wordless()))
    assert told["error"] == {
        "type": "Wordless",
        "message": "its text cannot be had: ValueError",
    }
    told = json.loads(error_line(UnknownIdError("there is no channel 'x'")))
    assert told["error"] == {"type": "UnknownIdError", "message": "there is no channel 'x'"}
