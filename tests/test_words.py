"""Words of a command line: what they are taken for."""

from __future__ import annotations

import json

import pytest

from ate_dispatcher._words import escaped, site_of


@pytest.mark.parametrize(
    ("word", "site"),
    [("0", 0), ("-1", -1), ("12", 12), ("left", "left"), ("--5", "--5"), ("²", "²"), ("", "")],
)
def test_a_site_is_a_number_or_a_word(word, site):
    """Bad input: what only looks like a number is a word, and no error."""
    assert site_of(word) == site


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\u001b[2J"),
        ("\x9b2J\x7f", "\\u009b2J\\u007f"),
        ("two\nlines\t", "two\\nlines\\t"),
        ("\u202eback\u2028", "\\u202eback\\u2028"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_what_drives_a_terminal_is_spelled_out(text, shown):
    """As JSON does: text in a line of JSON means the same as before."""
    assert escaped(text) == shown
    line = json.dumps({"a": text}, ensure_ascii=False)
    assert json.loads(escaped(line)) == {"a": text}


@pytest.mark.parametrize(
    "text", ["", 'Prüfplatz ☃ µV \\ "', "日本語", "👩\u200d🔬", "שלום", "\u00a0"]
)
def test_ordinary_text_is_left_alone(text):
    assert escaped(text) == text
