"""Words of a command line: what they are taken for."""

from __future__ import annotations

import pytest

from ate_dispatcher._words import site_of


@pytest.mark.parametrize(
    ("word", "site"),
    [("0", 0), ("-1", -1), ("12", 12), ("left", "left"), ("--5", "--5"), ("²", "²"), ("", "")],
)
def test_a_site_is_a_number_or_a_word(word, site):
    """Bad input: what only looks like a number is a word, and no error."""
    assert site_of(word) == site
