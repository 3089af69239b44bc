"""Values in a recording: what comes back, and what is told of what cannot."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
from collections import OrderedDict, namedtuple
from traceback import format_exc

import pytest

from ate_dispatcher import RecordedError
from ate_dispatcher.record import Unserialised
from ate_dispatcher.record._cells import from_cell, to_cell, to_json
from ate_dispatcher.record._values import DEEPEST, decode, encode, encode_exception

Point = namedtuple("Point", "x y")
ZONE = datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))


class Level(enum.IntEnum):
    HIGH = 3


class Word(str):
    def __str__(self):
        return "another text"


EXACT = [
    None, True, False, 0, -5, 2**70, -(2**4000), 5.01, -0.0, 1e300, math.inf, -math.inf,
    "", "text", "µΩ \u2028 \x00\n", "\ud800", "5.01", "true", "null", "=1+1", "~bytes", " a ", '"',
    "NaN", "a,b;c\td", [], {}, [1, [2, "x"]], {"a": {"b": [None]}}, {"~bytes": "no"}, {"~x": 1},
    {1: "a", None: "b", (1, 2): "c"}, (), (1, (2, [3])), {1, "a"}, frozenset({(1, b"x")}),
    b"", b"\x00\xff", bytearray(b"ab"), 1 + 2j, complex(math.inf, -0.0),
    decimal.Decimal("1.230"), decimal.Decimal("Infinity"),
    datetime.datetime(2026, 11, 21, 1, 2, 3, 4), datetime.datetime(2026, 1, 1, tzinfo=ZONE),
    datetime.date(2026, 2, 3), datetime.time(1, 2, 3), datetime.timedelta(-1, 2, 3),
]  # fmt: skip


def there_and_back(value):
    """Through the JSON text of a JSON Lines file and through a cell; both must agree."""
    plain, exact = encode(value)
    by_line = decode(json.loads(to_json(plain)))
    by_cell = decode(from_cell(to_cell(plain)))
    assert repr(by_line) == repr(by_cell)
    return by_line, exact


@pytest.mark.parametrize("value", EXACT, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_values_come_back_equal_and_of_their_type(value):
    """Each in a list, a dict and a tuple too."""
    for wrapped in (value, [value], {"a": value}, (value,), {1: value}):
        back, exact = there_and_back(wrapped)
        assert back == wrapped
        assert type(back) is type(wrapped)
        assert exact
    back, _ = there_and_back([value])
    assert type(back[0]) is type(value)


def test_a_number_too_long_to_be_read_as_digits_comes_back():
    """Python limits how many digits it turns into a number, and back."""
    plain, exact = encode([1 << 20_000])
    assert decode(from_cell(to_cell(plain))) == [1 << 20_000]
    assert exact


def test_not_a_number_comes_back():
    """It is equal to nothing, so it is looked at."""
    (back,), exact = there_and_back([math.nan])
    assert math.isnan(back)
    assert exact
    assert math.copysign(1, there_and_back(-0.0)[0]) == -1


@pytest.mark.parametrize(
    ("value", "plain"),
    [(Level.HIGH, 3), (Word("w"), "w"), (OrderedDict(a=1), {"a": 1}), (Point(1, 2), (1, 2))],
)
def test_kinds_of_plain_values_come_back_as_these(value, plain):
    """An enumeration of numbers, a named tuple: equal to what they were."""
    back, exact = there_and_back(value)
    assert type(back) is type(plain)
    assert back == plain == value
    assert exact


class Instrument:
    def __repr__(self):
        return "<Instrument 7>"


class Broken:
    def __repr__(self):
        raise RuntimeError("no repr")


def test_what_has_no_form_is_its_type_and_repr_with_a_flag():
    """Beside it everything else comes back."""
    back, exact = there_and_back({"good": 1, "bad": [Instrument(), 2]})
    name = f"{__name__}.Instrument"
    assert back == {"good": 1, "bad": [Unserialised(name, "<Instrument 7>"), 2]}
    assert not exact
    assert there_and_back(back) == (back, False)  # recorded again


def test_a_description_is_a_value():
    """Equal to one of the same type and repr, and of the same hash; it shows both."""
    one = Unserialised("bench.Scope", "<Scope 1>")
    assert one == Unserialised("bench.Scope", "<Scope 1>")
    assert {one: 1}[Unserialised("bench.Scope", "<Scope 1>")] == 1
    assert len({hash(Unserialised("bench.Scope", str(number))) for number in range(100)}) > 90
    others = [Unserialised("bench.Scope", ""), Unserialised("Scope", "<Scope 1>"), "<Scope 1>"]
    assert one not in others
    assert (one.type_name, one.text) == ("bench.Scope", "<Scope 1>")
    assert repr(one) == "<Unserialised bench.Scope: <Scope 1>>"


def test_a_repr_that_raises_is_told():
    """What a user's class does wrong costs nothing but its own text."""
    back, exact = there_and_back([Broken()])
    assert back[0].text == "<its repr raised RuntimeError>"
    assert not exact


def test_what_contains_itself_or_is_too_deep_is_described():
    """No recursion without end, and none that a reader could not follow."""
    ring = [1]
    ring += [ring, ring]
    back, exact = there_and_back(ring)
    assert back == [1, Unserialised("list", "[1, [...], [...]]")] + [back[1]]
    assert not exact
    deep = deepest = []
    for _ in range(DEEPEST + 10):
        deepest.append([])
        deepest = deepest[0]
    back, exact = there_and_back(deep)
    assert not exact
    shared = [1]
    assert there_and_back([shared, shared]) == ([[1], [1]], True)


def test_a_value_that_is_changed_meanwhile_is_described():
    """The producer goes on with the dict that it returned."""

    class Changing(dict):
        def items(self):
            raise RuntimeError("dictionary changed size during iteration")

    back, exact = there_and_back(Changing(a=1))
    assert back == Unserialised(f"{__name__}.{Changing.__qualname__}", "{'a': 1}")
    assert not exact


def test_an_exception_comes_back_with_type_text_and_traceback():
    """As a RecordedError: what is read never makes an object of a class that it names."""
    try:
        raise ValueError("no signal")
    except ValueError as error:
        parts = encode_exception(error)
        back, exact = there_and_back(error)
        assert parts == ["ValueError", "no signal", format_exc()]
    assert 'raise ValueError("no signal")' in parts[2]
    assert isinstance(back, RecordedError)
    assert (back.type_name, back.text, back.traceback) == tuple(parts)
    assert encode_exception(back) == parts
    assert not exact


def test_an_exception_whose_text_raises_is_told():
    """It is still an error of its type."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert encode_exception(Mute())[1] == "<its text cannot be had: RuntimeError>"


@pytest.mark.parametrize(
    "plain",
    [{"~what": 1}, {"~bytes": "%"}, {"~bytes": 1}, {"~tuple": 1}, {"~set": [[1]]}, {"~dict": [1]},
     {"~int": "x"}, {"~complex": []}, {"~repr": 1}, {"~timedelta": [1e30]}, {"~decimal": "x"}],
)  # fmt: skip
def test_a_form_that_there_is_not_is_an_error(plain):
    """A damaged recording gives a ValueError, nothing else."""
    with pytest.raises(ValueError, match="~"):
        decode([plain])


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\r1", "a\nb", "a\x00b"])
def test_no_cell_is_a_formula_or_holds_a_line_end(text):
    """A spreadsheet runs no text of an instrument, and a row is a line."""
    cell = to_cell(text)
    assert cell.startswith('"')
    assert cell.isprintable()
    assert from_cell(cell) == text


def test_cells_are_readable():
    """Text and numbers stand as they are."""
    assert [to_cell(v) for v in ("dmm0", 5.01, 2, None, True, "5.01", "")] == [
        "dmm0", "5.01", "2", "", "true", '"5.01"', '""',
    ]  # fmt: skip


class Array:
    """What NumPy's arrays and scalars, and pandas' series, have in common."""

    dtype = "float64"

    def __init__(self, numbers):
        self.numbers = numbers

    def tolist(self):
        return self.numbers


@pytest.mark.parametrize(
    ("numbers", "exact"), [([[1.5, 2.0], [math.nan, 4.0]], False), ([], False), (7, True)]
)
def test_the_numbers_of_an_array_are_kept(numbers, exact):
    """A waveform comes back as a list, which is flagged; a scalar as the number that it is."""
    plain, said = encode({"waveform": Array(numbers)})
    assert repr(decode(json.loads(json.dumps(plain)))) == repr({"waveform": numbers})
    assert said is exact
    assert encode([Array([1]), 2])[1] is False
    assert encode([b"", Array(1)])[1] is True
