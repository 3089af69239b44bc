"""Values in a recording, of any shape: through a line and through a cell they come back."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("hypothesis", reason="needs the extra dev (hypothesis)")

from hypothesis import given, settings
from hypothesis import strategies as some

from ate_dispatcher.record._cells import from_cell, to_cell, to_json
from ate_dispatcher.record._values import decode, encode

anything = some.characters(exclude_categories=())  # half surrogate pairs too


def comparable(value):
    """Leave out the hours that a clock change makes twice: equal to nothing of another zone."""
    return value.utcoffset() == value.replace(fold=not value.fold).utcoffset()


keys = some.one_of(
    some.none(), some.booleans(), some.integers(), some.floats(allow_nan=False),
    some.text(anything), some.binary(), some.dates(), some.times(), some.timedeltas(),
    some.datetimes(timezones=some.none() | some.timezones()).filter(comparable),
    some.decimals(allow_nan=False), some.complex_numbers(allow_nan=False),
)  # fmt: skip
hashable = some.recursive(
    keys, lambda inner: some.lists(inner).map(tuple) | some.frozensets(inner), max_leaves=5
)
values = some.recursive(
    hashable | some.binary().map(bytearray),
    lambda inner: (
        some.lists(inner)
        | some.dictionaries(hashable | some.sampled_from(["~bytes", "~x", ""]), inner)
        | some.sets(hashable)
    ),
    max_leaves=10,
)


@settings(deadline=None, database=None, max_examples=100, derandomize=True)
@given(values)
def test_any_value_comes_back(value):
    """Equal, and said to be exact; as a cell it is one line that is no formula."""
    plain, exact = encode(value)
    assert exact
    assert decode(json.loads(to_json(plain))) == value
    cell = to_cell(plain)
    assert decode(from_cell(cell)) == value
    assert "\n" not in cell
    assert "\r" not in cell
    assert cell[:1] not in ("=", "@")
    to_json(plain).encode("utf-8")
    cell.encode("utf-8")
