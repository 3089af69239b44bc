"""What is written as an event stream is read back, and read as the HTML standard says."""

from __future__ import annotations

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError, PayloadTooLargeError
from ate_dispatcher.sse import (
    EventParser,
    ServerSentEvent,
    encode_comment,
    encode_event,
    parse_events,
)


def data_of(stream):
    return [event.data for event in parse_events(stream)]


# ---- writing -------------------------------------------------------------------------------------


def test_all_fields():
    """Each field is a line; an empty line ends the event."""
    assert encode_event("4.2", "voltage", "ab-1", 2000) == (
        b"id: ab-1\nevent: voltage\nretry: 2000\ndata: 4.2\n\n"
    )


def test_only_data():
    """What was not given is not written; no data is one empty line of it."""
    assert encode_event("x") == b"data: x\n\n"
    assert encode_event() == b"data: \n\n"


def test_comments():
    """A comment is for nobody: each of its lines begins with a colon."""
    assert encode_comment() == b":\n\n"
    assert encode_comment("still\nhere") == b": still\n: here\n\n"
    assert parse_events(encode_comment("data: x\n\ndata: y")) == []


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_data_of_many_lines(end):
    """Whatever ends its lines, nothing in the data can end the event or begin a field."""
    data = end.join(["a", "event: b", "", ": c", " d", ""])
    assert data_of(encode_event(data)) == ["a\nevent: b\n\n: c\n d\n"]


ROUND = ["", " ", "x", "  x", ":", "\n", "\n\n", "é\0\t\ufeff\u2028", "\ufeff", "id: 3", "𝄞" * 500]


@pytest.mark.parametrize("data", ROUND)
def test_round_trip(data):
    """What is written is read."""
    stream = encode_event(data, "kind", "i", 7) + encode_event(data)
    parser = EventParser()
    assert parser.feed(stream) == [
        ServerSentEvent("kind", data, "i"),
        ServerSentEvent("message", data, "i"),
    ]
    assert parser.retry == 7


@pytest.mark.parametrize("data", ROUND)
def test_a_stream_may_be_cut_anywhere(data):
    """Byte by byte it reads the same, within characters and between CR and LF too."""
    stream = b"\xef\xbb\xbf" + encode_event(data, "k", "i").replace(b"\n", b"\r\n") * 2
    parser = EventParser()
    pieces = [stream[index : index + 1] for index in range(len(stream))]
    assert [event for piece in pieces for event in parser.feed(piece)] == parse_events(stream)
    assert len(parse_events(stream)) == 2


def test_a_piece_may_end_with_a_carriage_return():
    """Only a line feed that follows at once belongs to it, and of several only the first."""
    parser = EventParser()
    pieces = [b"data: a\r", b"data: b\r", b"\ndata: c\r", b"\n", b"\n", b"data: d\r", b"\n\n"]
    events = [[event.data for event in parser.feed(piece)] for piece in pieces]
    assert events == [[], [], [], [], ["a\nb\nc"], [], ["d"]]


def test_before_anything_was_read():
    """No id to go on from, and no wait asked for; an event is a message unless it says else."""
    parser = EventParser()
    assert (parser.last_event_id, parser.retry) == ("", None)
    assert parser.feed(b"data: x\n\n") == [ServerSentEvent("message", "x", "")]
    assert (parser.last_event_id, parser.retry) == ("", None)


def test_a_wait_of_nothing():
    """Zero is a number of milliseconds like others."""
    assert encode_event("x", retry=0) == b"retry: 0\ndata: x\n\n"


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("ab", "c"), ("0123456789" * 3, "9876543210" * 3)]
)
def test_half_a_character_is_shown_with_what_is_around_it(before, after):
    """Twenty characters to each side, so that its place is found in a long text."""
    with pytest.raises(InvalidArgumentError) as caught:
        encode_comment(before + "\ud800" + after)
    around = (": " + before)[-20:] + "\ud800" + (after + "\n\n")[:20]
    assert str(caught.value) == (
        f"half a surrogate pair has no place in an event stream: '\\ud800' in {around!r}"
    )


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: encode_event("x", "a\nb"), InvalidArgumentError, "event must not contain '\\\\n'"),
        (lambda: encode_event("x", "a\rb"), InvalidArgumentError, "event must not contain"),
        (lambda: encode_event("x", id="a\nb"), InvalidArgumentError, "id must not contain"),
        (lambda: encode_event("x", id="a\0b"), InvalidArgumentError, "id must not contain"),
        (lambda: encode_event("x", id=3), InvalidTypeError, "id must be a string, not 3"),
        (lambda: encode_event(b"x"), InvalidTypeError, "data must be a string, not b'x'"),
        (lambda: encode_event("x", retry=-1), InvalidArgumentError, "retry must not be negative"),
        (lambda: encode_event("x", retry=1.5), InvalidTypeError, "retry must be a whole number"),
        (lambda: encode_event("x", retry=True), InvalidTypeError, "retry must be a whole number"),
        (lambda: encode_event("a\ud800b"), InvalidArgumentError, "half a surrogate pair"),
        (lambda: encode_comment(None), InvalidTypeError, "a comment must be a string"),
        (lambda: parse_events("data: x"), InvalidTypeError, "a stream is bytes, not str"),
    ],
)
def test_what_has_no_form_is_refused(call, error, says):
    """Above all what would smuggle in a field or an event."""
    with pytest.raises(error, match=says):
        call()


# ---- reading, rule by rule -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\rdata: b\r\r", ["a\nb"]),
        (b"data: a\r\ndata: b\r\n\r\n", ["a\nb"]),
        (b"data: a\r\n\rdata: b\n\r", ["a", "b"]),  # the three mixed
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),  # one BOM at the start
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),  # a second one is part of the name
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),  # and so is a later one
        (b"data:a\n\n", ["a"]),  # without a space
        (b"data:  a\n\n", [" a"]),  # one space is taken off
        (b"data:\ta\n\n", ["\ta"]),  # nothing but a space
        (b"data: a: b\n\n", ["a: b"]),  # the first colon counts
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),  # no colon: no value; unended: no event
        (b"data: a", []),
        (b"data: a\n", []),
        (b": comment\n\n", []),
        (b"event: a\n\n", []),  # no data, no event
        (b"DATA: a\nData: b\n data: c\n\n", []),  # names are matched to the letter
        (b"what: a\ndata: b\n\n", ["b"]),
        (b"\n\n\n", []),
        (b"data: \xff\xfe\n\n", ["\ufffd\ufffd"]),  # no UTF-8: replaced
        (b"data: a\0b\n\n", ["a\0b"]),
        (b"data: a\x85b\xe2\x80\xa8c\x0bd\n\n", ["a\ufffdb\u2028c\x0bd"]),  # these end no line
        (b"", []),
    ],
)
def test_data(stream, data):
    """The standard's rules for lines and for the field ``data``."""
    assert data_of(stream) == data


def test_the_type_holds_for_one_event():
    """The last ``event`` counts; an event without data takes it along; an empty one is none."""
    stream = b"event: a\nevent: b\ndata\n\ndata\n\nevent: c\n\ndata\n\nevent:\ndata\n\n"
    assert [e.type for e in parse_events(stream)] == ["b", "message", "message", "message"]


def test_the_id_holds_until_the_next():
    """Also from an event without data; one with a NUL is ignored; an empty one resets."""
    stream = b"id: 1\n\ndata\n\nid: 2\ndata\n\nid: a\0b\ndata\n\nid\ndata\n\n"
    assert [event.id for event in parse_events(stream)] == ["1", "2", "2", ""]


def test_the_last_id_is_that_of_a_whole_event():
    """An event that was cut off is asked for again."""
    parser = EventParser()
    parser.feed(b"id: 1\ndata\n\nid: 2\ndata\n")
    assert parser.last_event_id == "1"


@pytest.mark.parametrize(
    ("line", "retry"),
    [(b"10", 10), (b"-1", None), (b"1.5", None), (b"", None), (b"1a", None), ("٣".encode(), None)],
)
def test_retry_is_ascii_digits(line, retry):
    """Anything else is ignored."""
    parser = EventParser()
    parser.feed(b"retry: " + line + b"\n")
    assert parser.retry == retry


@pytest.mark.parametrize(("digits", "believed"), [(15, True), (16, False), (10_000, False)])
def test_an_absurd_retry_is_ignored(digits, believed):
    """A number of thousands of digits neither raises nor is believed; one of fifteen is."""
    parser = EventParser()
    parser.feed(b"retry: " + b"9" * digits + b"\n")
    assert parser.retry == (int("9" * digits) if believed else None)


# ---- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 3, 8, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"data: " + b"x" * 60,
        b"data: " + b"x" * 60 + b"\n\n",
        b"data: xxxx\n" * 6,
        b": a comment\n" * 6,
        b"id: 123456\nevent: 123456\ndata: 123456\ndata: 1234567890\n\n",
    ],
    ids=["a line without an end", "a long line", "many lines", "comments", "many fields"],
)
def test_an_event_that_is_too_long(data, pieces):
    """Told, nothing of it kept, and nothing is read after it; what was whole before is given."""
    parser = EventParser(longest=45)
    events = []

    def feed_all():
        for start in range(0, len(data) + 22, pieces):
            events.extend(parser.feed((b"data: whole\n\n" + data)[start : start + pieces]))
        parser.feed(b"")

    said = r"more than 45 characters.*: .*further; EventParser\(longest=…\) says how many may be$"
    with pytest.raises(PayloadTooLargeError, match=said):
        feed_all()
    assert events == [ServerSentEvent("message", "whole", "")]
    assert parser._pieces == parser._data == []
    with pytest.raises(PayloadTooLargeError):
        parser.feed(b"data: later\n\n")


def test_the_bound_is_of_one_event():
    """However many there are, and up to the very last character."""
    assert EventParser(longest=1).feed(b":\n\n") == []
    parser = EventParser(longest=10)
    assert len(parser.feed(b"data: 1234\n\n" * 1000)) == 1000
    assert EventParser(longest=None).feed(b"data: " + b"x" * 20_000_000 + b"\n\n")
    with pytest.raises(PayloadTooLargeError):
        EventParser().feed(b"data: " + b"x" * 20_000_000)


@pytest.mark.parametrize("longest", [0, -1, "9", 1.5, True])
def test_a_bound_that_cannot_be(longest):
    with pytest.raises((InvalidTypeError, InvalidArgumentError), match="longest must be"):
        EventParser(longest=longest)
