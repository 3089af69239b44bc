"""What goes over the wire is JSON, and what is none is refused in words."""

from __future__ import annotations

import enum

import pytest

from ate_dispatcher import NotJSONError, UndecodableMessageError
from ate_dispatcher._codec import check_json, decode, encode


class Volts(float):
    """A float of somebody's own, as NumPy's are."""


class Name(str):
    """A string of somebody's own."""


class Level(enum.IntEnum):
    HIGH = 3


class Odd:
    """No JSON, and its repr has this many characters."""

    def __init__(self, length):
        self.length = length

    def __repr__(self):
        return "<" + "o" * (self.length - 2) + ">"


# ---- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (None, b"null"),
        (True, b"true"),
        (-3, b"-3"),
        (1.5, b"1.5"),
        (Volts(2.5), b"2.5"),
        (Level.HIGH, b"3"),
        (Name("x"), b'"x"'),
        ("é𝄞", '"é𝄞"'.encode()),
        ([], b"[]"),
        ((1, (2,)), b"[1,[2]]"),
        ([Volts(1.5), 2.5, [3.5]], b"[1.5,2.5,[3.5]]"),
        ({"a": 1, Name("b"): [None]}, b'{"a":1,"b":[null]}'),
        ({"a": {"b": Volts(1.5)}, "c": (1,)}, b'{"a":{"b":1.5},"c":[1]}'),
    ],
)
def test_what_json_has_a_form_for_is_written_without_a_space(data, payload):
    """In UTF-8, and classes derived from JSON's own count like those."""
    assert encode(data) == payload
    assert decode(payload) == decode(encode(decode(payload)))


def test_half_a_surrogate_pair_is_spelled_out():
    """It has no UTF-8, and comes back as it went, with all that is around it."""
    payload = encode(["\ud800", "é"])
    assert payload == b'["\\ud800","\\u00e9"]'
    assert decode(payload) == ["\ud800", "é"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x", "data is of type bytes, which JSON has no form for: b'x'"),
        ({1}, "data is of type set, which JSON has no form for: {1}"),
        (float("nan"), "data is no number that JSON knows: nan"),
        (Volts("-inf"), "data is no number that JSON knows: -inf"),
        ({2: 1}, "data has a key of type int, JSON has only strings: 2"),
        ({"a": {None: 1}}, "data['a'] has a key of type NoneType, JSON has only strings: None"),
        ([1, "x", b""], "data[2] is of type bytes, which JSON has no form for: b''"),
        (([[0], [1, 1j]],), "data[0][1][1] is of type complex, which JSON has no form for: 1j"),
        ({"a": 1, "b": [b""]}, "data['b'][0] is of type bytes, which JSON has no form for: b''"),
        ({"a": 1, "b": b"", "c": 1}, "data['b'] is of type bytes, which JSON has no form for: b''"),
        ([[1], b"first", b"second"], "data[1] is of type bytes, which JSON has no form for: "),
        ({"a": [1], "b": b"first", "c": b""}, "data['b'] is of type bytes, which JSON has no f"),
    ],
)
def test_what_json_has_no_form_for_is_named_with_its_path(data, said):
    """The first of them, with its type and the value."""
    with pytest.raises(NotJSONError) as caught:
        encode(data)
    assert str(caught.value).startswith(said)
    assert said.endswith(("for: ", "no f")) or str(caught.value) == said


@pytest.mark.parametrize(
    ("length", "shown"),
    [(79, "<" + "o" * 77 + ">"), (80, "<" + "o" * 78 + ">"), (81, "<" + "o" * 76 + "...")],
)
def test_a_long_value_is_cut_in_the_message(length, shown):
    """To eighty characters, of which the last three say so."""
    with pytest.raises(NotJSONError) as caught:
        encode(Odd(length))
    assert str(caught.value) == f"data is of type Odd, which JSON has no form for: {shown}"
    assert len(shown) <= 80


def test_a_check_says_what_was_checked():
    """Whoever checks an argument gives its name; good data passes without a word."""
    assert check_json({"a": [1, 2.5, None]}, "value") is None
    with pytest.raises(NotJSONError) as caught:
        check_json([b""], "value")
    assert str(caught.value) == "value[0] is of type bytes, which JSON has no form for: b''"
    with pytest.raises(NotJSONError) as caught:
        check_json(b"")
    assert str(caught.value) == "data is of type bytes, which JSON has no form for: b''"


@pytest.mark.parametrize("kind", [list, dict])
def test_what_contains_itself_is_refused(kind):
    """It would be written for ever."""
    loop = kind()
    loop.append(loop) if kind is list else loop.update(again=loop)
    with pytest.raises(NotJSONError) as caught:
        encode(loop)
    assert str(caught.value) == "data is nested too deeply for JSON, or contains itself"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# ---- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (b' {"a" : [1, 2.5, null, true, "\\u00e9"]} ', {"a": [1, 2.5, None, True, "é"]}),
        ('"é"'.encode(), "é"),
        ('"é"'.encode("utf-16"), "é"),
        (b'\xef\xbb\xbf"x"', "x"),
        (b'"\xed\xa0\x80"', "\ud800"),  # as some writers spell half a surrogate pair
    ],
)
def test_json_of_any_writer_is_read(payload, data):
    """In every encoding that JSON has been written in, with spaces or without."""
    assert decode(payload) == data


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "0 bytes is no JSON: Expecting value: line 1 column 1 (char 0): b''"),
        (b"'a'", "3 bytes is no JSON: Expecting value: line 1 column 1 (char 0): b\"'a'\""),
        (b"NaN", "3 bytes is no JSON: NaN is no number that JSON knows: b'NaN'"),
        (b"[-Infinity]", "11 bytes is no JSON: -Infinity is no number that JSON knows: "),
        (b"[" * 100_000, "100000 bytes is no JSON: it is nested too deeply: b'[[["),
        *(
            (b"x" * size, f"{size} bytes is no JSON: Expecting value: line 1 column 1 (char 0): ")
            for size in (39, 40, 41, 42)
        ),
    ],
)
def test_what_is_no_json_is_told_with_its_size_and_its_beginning(payload, said):
    """Forty bytes of it, and a sign if there are more; nothing of where it was noticed."""
    with pytest.raises(UndecodableMessageError) as caught:
        decode(payload)
    begin = repr(payload if len(payload) <= 40 else payload[:40] + b"...")
    assert str(caught.value).startswith(f"a message of {said}")
    assert str(caught.value).endswith(f": {begin}")
    assert caught.value.__suppress_context__


def test_what_is_no_text_is_no_json():
    """Bytes that no encoding has."""
    with pytest.raises(UndecodableMessageError, match=r"^a message of 1 bytes is no JSON: 'utf-8'"):
        decode(b"\xff")
