"""Topics on the bus: what may be published to, and how each broker spells the words."""

from __future__ import annotations

from functools import partial

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError, TopicFilter
from ate_dispatcher.bus._grammar import (
    Spelling,
    first_match,
    is_exact,
    speller,
    words_of_filter,
    words_of_topic,
)

# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("a/b.c", ("a", "b.c")),
        ("MAX", ("MAX",)),
        ("é.€", ("é", "€")),
        (" ", (" ",)),
    ],
)
def test_what_may_be_published_to(topic, words):
    """A topic without wildcards, of any characters; it may be subscribed to as well."""
    assert words_of_topic(topic) == words
    assert words_of_filter(topic) == TopicFilter(topic)


EMPTY_WORD = (
    "a topic on the bus has no empty words, {!r} has one: "
    "look for a doubled, leading or trailing separator"
)
NO_TEXT = "a topic has no NUL and no half characters, {!r} has"


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("a..b", EMPTY_WORD),
        (".", EMPTY_WORD),
        ("a/", EMPTY_WORD),
        ("a\0", NO_TEXT),
        ("é\0", NO_TEXT),
        ("\ud800", NO_TEXT),
    ],
)
def test_topics_that_no_broker_carries(topic, said):
    """They are refused alike for publishing and for subscribing, with the topic."""
    for read in (words_of_topic, words_of_filter):
        with pytest.raises(InvalidArgumentError) as caught:
            read(topic)
        assert str(caught.value) == said.format(topic)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("topic", "word"), [("a.*", "*"), ("+/b", "+"), ("#", "#"), ("a.b#", "b#")]
)
def test_nobody_publishes_to_a_wildcard(topic, word):
    """The word that has it is named."""
    with pytest.raises(InvalidArgumentError) as caught:
        words_of_topic(topic)
    assert str(caught.value) == (
        f"a topic to publish to has no wildcards, {topic!r} has one in {word!r}"
    )


@pytest.mark.parametrize("read", [words_of_topic, words_of_filter])
def test_a_topic_is_a_string(read):
    """It is refused in the words of the core."""
    with pytest.raises(InvalidTypeError, match=r"^a topic must be a string, not int: 3$"):
        read(3)


def test_a_filter_is_taken_as_it_is():
    """One that is made already, wildcards and all; an empty word is refused in it, too."""
    own = TopicFilter("a.*.#")
    assert words_of_filter(own) is own
    assert words_of_filter("a.*.#") == own
    with pytest.raises(InvalidArgumentError) as caught:
        words_of_filter(TopicFilter("a..#"))
    assert str(caught.value) == EMPTY_WORD.format("a..#")


@pytest.mark.parametrize(
    ("pattern", "exact"), [("a", True), ("a.b", True), ("*", False), ("a.+.b", False), ("#", False)]
)
def test_a_filter_without_a_wildcard_is_one_topic(pattern, exact):
    """Whichever of the wildcards it is, and wherever."""
    assert is_exact(TopicFilter(pattern)) is exact


def test_the_first_filter_that_matches():
    """By its number; -1 says that none does."""
    filters = [TopicFilter("a.*"), TopicFilter("a.#"), TopicFilter("b")]
    matches = [first_match(filters, words) for words in (("a", "b"), ("a",), ("b",), ("c",))]
    assert matches == [0, 1, 2, -1]
    assert first_match([], ("a",)) == -1


@pytest.mark.parametrize(
    ("pattern", "words", "topic"),
    [
        ("a/*", ("a", "b"), "a/b"),
        ("a.*", ("a", "b"), "a.b"),
        ("#", ("a", "b"), "a.b"),
        ("#", ("a", "v1.2"), "a/v1.2"),
        ("#", ("v1.2", "a"), "v1.2/a"),
        ("a/#", ("a", "v1.2"), "a/v1.2"),
    ],
)
def test_a_topic_is_shown_as_its_subscriber_spells(pattern, words, topic):
    """With a slash where a word has a dot, for it must come back as the same words."""
    assert speller(TopicFilter(pattern))(words) == topic


# ---- a broker's spelling -------------------------------------------------------------------------

PLAIN = partial(Spelling, ".")
STRICT = partial(Spelling, "/", "+", ">", forbidden="+>", escape="_", first="$")
NARROW = partial(Spelling, "-", escape="=", allowed="abc*#")


@pytest.mark.parametrize(
    ("spelling", "words", "topic"),
    [
        (PLAIN, ("a", "b c", "é", "$x"), "a.b c.é.$x"),
        (PLAIN, ("a.b", "50%", "\t"), "a%2Eb.50%25.%09"),
        (PLAIN, ("a\x7fb",), "a%7Fb"),
        (PLAIN, ("X", "MAX"), "X.MAX"),
        (STRICT, ("a.b", "a/b", "%", "a_"), "a.b/a_2Fb/%/a_5F"),
        (STRICT, ("+", "x>", "€\x00"), "_2B/x_3E/€_00"),
        (STRICT, ("$a$", "$b"), "_24a$/$b"),
        (STRICT, ("_$",), "_5F$"),
        (NARROW, ("abc", "aXb", "-"), "abc-a=58b-=2D"),
        (NARROW, ("é", "€"), "=C3=A9-=E2=82=AC"),
    ],
)
def test_what_a_broker_forbids_is_written_in_hexadecimal(spelling, words, topic):
    """Byte by byte, of those characters alone; it is read as the same words."""
    assert spelling().topic(words) == topic
    assert spelling().words(topic) == words


@pytest.mark.parametrize(
    ("spelling", "pattern", "written"),
    [
        (PLAIN, "a.*.+.b%.#", "a.*.*.b%25.#"),
        (STRICT, "a.*.+.b_.#", "a/+/+/b_5F/>"),
        (STRICT, "$a.#", "_24a/>"),
        (STRICT, "#", ">"),
        (NARROW, "a.*.x.#", "a-*-=78-#"),
    ],
)
def test_wildcards_are_the_brokers(spelling, pattern, written):
    """Everything else in a filter is spelled as in a topic."""
    assert spelling().filter(TopicFilter(pattern)) == written


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("a.%2e.%2E", ("a", ".", ".")),
        ("%zz.%2.%", ("%zz", "%2", "%")),
        ("%FFx%C3", ("\ufffdx\ufffd",)),
        ("%C3%A9%41", ("éA",)),
        ("..", ("", "", "")),
    ],
)
def test_topics_that_strangers_have_written(topic, words):
    """They give words all the same, bad encodings too."""
    assert PLAIN().words(topic) == words
