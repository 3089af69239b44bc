"""Topics as words, and the filters that match many of them."""

from __future__ import annotations

import copy
import pickle

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError, TopicFilter
from ate_dispatcher._topics import check_subject, check_topic, looks_like_a_filter, split_topic

# ---- topics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["a", "dc.voltage", "a/b", ".", "*", "site.#", " "])
def test_any_string_with_a_character_is_a_topic(topic):
    """A plain string is never read as a pattern, so wildcards are characters like others."""
    assert check_topic(topic) is topic


@pytest.mark.parametrize("topic", [None, 1, b"dc", ["dc"], TopicFilter("a")])
def test_a_topic_must_be_a_string(topic):
    """The message names the type and shows what was given."""
    with pytest.raises(InvalidTypeError) as caught:
        check_topic(topic)
    kind = type(topic).__name__
    assert str(caught.value) == f"a topic must be a string, not {kind}: {topic!r}"


def test_a_topic_must_not_be_empty():
    """The empty string has no word to match."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_topic("")
    assert str(caught.value) == "a topic must not be empty: give it at least one character"


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("parsed", ("parsed",)),
        ("parsed.pose", ("parsed", "pose")),
        ("pvnode/3/model", ("pvnode", "3", "model")),
        ("v1.2/x", ("v1.2", "x")),
        ("a..b", ("a", "", "b")),
        ("/", ("", "")),
    ],
)
def test_a_slash_separates_words_and_without_one_a_dot(topic, words):
    """DESIGN 6: if a topic contains a ``/``, only that separates its words."""
    assert split_topic(topic) == words


@pytest.mark.parametrize("subject", ["dc.voltage", TopicFilter("dc.*")])
def test_agents_are_registered_with_topics_and_filters(subject):
    """Either is accepted without a word."""
    assert check_subject(subject) is None


@pytest.mark.parametrize(
    ("subject", "does"),
    [
        ("#", True),
        ("site.*.voltage", True),
        ("site/+", True),
        ("site.#", True),
        ("#.site", False),
        ("site.2*", False),
        ("a.b#", False),
        ("voltage", False),
        (TopicFilter("#"), False),
    ],
)
def test_a_topic_that_was_meant_as_a_filter_is_known(subject, does):
    """By a whole word that would be a wildcard in its place."""
    assert looks_like_a_filter(subject) is does


@pytest.mark.parametrize(("subject", "error"), [("", InvalidArgumentError), (3, InvalidTypeError)])
def test_what_is_neither_a_topic_nor_a_filter_is_refused(subject, error):
    """What holds for a topic holds for a subject that is no filter."""
    with pytest.raises(error, match=r"^a topic must"):
        check_subject(subject)


# ---- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("a", "a"),
        ("*", "a"),
        ("+", "a"),
        ("site.*.voltage", "site.2.voltage"),
        ("site.+.voltage", "site.2.voltage"),
        ("*.*", "a.b"),
        ("#", "a"),
        ("#", "a.b.c"),
        ("a.#", "a"),
        ("a.#", "a.b"),
        ("a.#", "a.b.c"),
        ("*.#", "a"),
        ("*.b.#", "a.b.c.d"),
        ("site/*/voltage", "site.2.voltage"),
        ("site.*", "site/2"),
        ("v1.2/*", "v1.2/x"),
        ("a.*.b", "a..b"),
        ("MAX.*", "MAX.1"),
    ],
)
def test_a_filter_matches(pattern, topic):
    """A star or a plus is one word, a last hash zero or more, whatever the separator."""
    assert TopicFilter(pattern).matches(topic) is True


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("a", "b"),
        ("a", "a.b"),
        ("a.b", "a"),
        ("*", "a.b"),
        ("*.*", "a"),
        ("a.*", "a"),
        ("a.*", "b.c"),
        ("*.b", "a.c"),
        ("a.#", "b"),
        ("a.#", "b.c"),
        ("a.b.#", "a"),
        ("*.*.#", "a"),
        ("v1.*", "v1.2/x"),
        ("A", "a"),
    ],
)
def test_a_filter_does_not_match(pattern, topic):
    """Every word counts, and there are as many as in the filter unless it ends in a hash."""
    assert TopicFilter(pattern).matches(topic) is False


def test_words_may_be_split_once_for_many_filters():
    """`matches_words` is `matches` without the splitting."""
    assert TopicFilter("a/*").matches_words(("a", "b.c"))
    assert not TopicFilter("a/*").matches_words(("a.b", "c"))


@pytest.mark.parametrize("pattern", ["#.a", "a.#.b", "#.#", "a/#/b"])
def test_a_hash_stands_last_or_not_at_all(pattern):
    """The message shows the whole filter."""
    with pytest.raises(InvalidArgumentError) as caught:
        TopicFilter(pattern)
    assert str(caught.value) == f"'#' must be the last word of a filter: {pattern!r}"


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("a*", "a*"),
        ("x.+b", "+b"),
        ("x.a#", "a#"),
        ("**", "**"),
        ("##.a", "##"),
        ("a.b*c.d", "b*c"),
    ],
)
def test_a_wildcard_is_a_whole_word(pattern, word):
    """The message names the word that is part text, part wildcard."""
    with pytest.raises(InvalidArgumentError) as caught:
        TopicFilter(pattern)
    assert str(caught.value) == f"a wildcard must be a whole word, {word!r} is not: {pattern!r}"


@pytest.mark.parametrize(("pattern", "error"), [("", InvalidArgumentError), (7, InvalidTypeError)])
def test_a_filter_is_made_of_a_topic(pattern, error):
    """What is no topic is no pattern either."""
    with pytest.raises(error, match=r"^a topic must"):
        TopicFilter(pattern)


def test_filters_of_the_same_words_are_one_key():
    """Equal and of one hash, whichever separator and whichever one-word wildcard they show."""
    one, other = TopicFilter("site.*.#"), TopicFilter("site/+/#")
    assert one == other
    assert hash(one) == hash(other)
    assert {one: 1}[other] == 1


def test_filters_of_other_words_are_told_apart_quickly():
    """Nearly each has a hash of its own, so a table of many is searched as fast as one of few."""
    assert len({hash(TopicFilter(f"site.{number}.*")) for number in range(100)}) > 90


@pytest.mark.parametrize("other", [TopicFilter("a.*"), TopicFilter("a.b.#"), "a.b", ("a", "b")])
def test_filters_of_other_words_are_other_keys(other):
    """A filter never equals a plain topic, even if it matches that one alone."""
    assert TopicFilter("a.b") != other


def test_a_filter_cannot_be_changed():
    """It may be shared by any threads."""
    fixed = TopicFilter("a.*")
    for name in ("pattern", "words", "other"):
        with pytest.raises(AttributeError) as caught:
            setattr(fixed, name, "b")
        assert str(caught.value) == f"a TopicFilter cannot be changed (tried to set {name!r})"
    assert (fixed.pattern, fixed.words) == ("a.*", ("a", "*"))
    assert not hasattr(fixed, "__dict__")


def test_a_filter_shows_its_pattern():
    """As it was written, so that the repr can be pasted."""
    assert repr(TopicFilter("a/+")) == "TopicFilter('a/+')"


def reference(pattern, words):
    """Match by definition: word by word, a hash trying every length."""
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(reference(rest, words[taken:]) for taken in range(len(words) + 1))
    return bool(words) and first in ("*", "+", words[0]) and reference(rest, words[1:])


def test_filters_agree_with_the_definition():
    """Any filter on any topic gives what the recursive definition gives."""
    pytest.importorskip("hypothesis", reason="property tests need hypothesis (extra dev)")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    words = st.lists(st.sampled_from("ab"), min_size=1, max_size=4)
    pattern = st.builds(
        list.__add__,
        st.lists(st.sampled_from("ab*+"), min_size=1, max_size=3),
        st.sampled_from(([], ["#"])),
    )
    separators = st.sampled_from("./")

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(pattern, words, separators, separators)
    def agrees(pattern, words, one, other):
        found = TopicFilter(one.join(pattern)).matches(other.join(words))
        assert found is reference(pattern, words)

    agrees()


def test_a_filter_can_be_copied_and_sent_and_not_taken_apart():
    """Immutable, and yet a value like any other."""
    own = TopicFilter("site/*/v")
    for twin in (copy.copy(own), copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert twin == own
        assert twin.pattern == own.pattern
    with pytest.raises(AttributeError, match="cannot be changed"):
        del own.words
