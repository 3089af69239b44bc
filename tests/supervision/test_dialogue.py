"""What a producer's process and its parent say to each other comes back, or is refused in words."""

from __future__ import annotations

import gc
import os
import pickle
import sys

import pytest

from ate_dispatcher import InvalidTypeError, RemoteError
from ate_dispatcher.supervision._dialogue import (
    PIECE,
    Answer,
    Call,
    Incoming,
    Leave,
    pack,
    pieces,
    raised,
    unpack,
)


class Shy:
    """Cannot be pickled."""

    def __reduce__(self):
        raise OSError("not I")

    def __str__(self):
        return "shy"


class Gone:
    """Is pickled, and does not come back."""

    def __reduce__(self):
        return int, ("x",)


class TwoParts(Exception):
    """Is pickled, and comes back with an error: it wants both of its parts."""

    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")


class Turned(Exception):
    """Comes back as something else."""

    def __reduce__(self):
        return str, ("x",)


class Dumb(TwoParts):
    def __str__(self):
        raise OSError("no")


@pytest.mark.parametrize(
    "message", [Call("t", (1,), {"x": b"2"}, 1.5, {}), Answer(None, streamed=True), Leave()]
)
def test_a_message_comes_back(message):
    """Of the same kind."""
    back = unpack(pack(message))
    assert (type(back), back) == (type(message), message)


def test_what_cannot_be_pickled_is_refused_where_it_is_made():
    """With the reason, and the error that says more."""
    with pytest.raises(InvalidTypeError) as caught:
        pack(Answer(Shy()))
    assert str(caught.value) == "no pickled form of it: not I"
    assert type(caught.value.__cause__) is OSError


def test_what_does_not_come_back_is_refused_where_it_is_read():
    """With what went wrong."""
    with pytest.raises(InvalidTypeError) as caught:
        unpack(pack(Answer(Gone())))
    assert str(caught.value) == (
        "what another process sent cannot be read here: "
        "ValueError: invalid literal for int() with base 10: 'x'"
    )
    assert type(caught.value.__cause__) is ValueError


def test_an_error_that_survives_the_way_goes_as_it_is():
    """Whoever waits for it can tell it by its type."""
    error = ValueError("no signal")
    assert raised(error) is error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (TwoParts("dmm", "no signal"), "TwoParts", "dmm: no signal"),
        (Turned("dmm"), "Turned", "dmm"),
        (ValueError(Shy()), "ValueError", "shy"),
        (Dumb("dmm", "x"), "Dumb", "(its str() raised OSError)"),
    ],
)
def test_an_error_that_does_not_is_told_by_its_name_and_its_text(error, kind, text):
    """Be it that it has no pickled form, does not come back, or comes back as something else."""
    told = raised(error)
    assert type(told) is RemoteError
    assert (told.args, str(told)) == (RemoteError(kind, text).args, f"{kind}: {text}")
    assert str(pickle.loads(pickle.dumps(told))) == f"{kind}: {text}"


def test_what_is_packed_may_become_part_of_a_cycle(monkeypatch):
    """As with a traceback: a view of a buffer would be complained of when it is collected."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    cycle = [pack({"volts": 5.0})]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert told == []


def test_the_pieces_of_messages_come_together_again():
    """The first that is shorter ends a message, be it empty."""
    incoming = Incoming()
    for length in (1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3):
        data = os.urandom(length)
        parts = [data[start : start + size] for start, size in pieces(data)]
        *early, last = [incoming.add(part) for part in parts]
        assert set(early) <= {None}
        assert last == data
