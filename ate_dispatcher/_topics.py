"""Topics and the filters that match many of them (DESIGN: a topic is words).

The grammar is the one MQTT and AMQP share: if a topic contains a ``/``, only ``/`` separates its
words, otherwise ``.`` does. In a filter ``*`` or ``+`` stands for exactly one word and a last ``#``
for zero or more.
"""

from __future__ import annotations

from typing import Any, Tuple

from ._exceptions import InvalidArgumentError, InvalidTypeError

__all__ = ["TopicFilter", "check_subject", "check_topic", "looks_like_a_filter", "split_topic"]

ONE_WORD = frozenset(("*", "+"))
REST = "#"


def check_topic(topic: Any) -> str:
    """Give `topic` back if it is a non-empty string.

    Raises
    ------
    InvalidTypeError
        It is no string.
    InvalidArgumentError
        It is empty.
    """
    if not isinstance(topic, str):
        raise InvalidTypeError(f"a topic must be a string, not {type(topic).__name__}: {topic!r}")
    if not topic:
        raise InvalidArgumentError("a topic must not be empty: give it at least one character")
    return topic


def split_topic(topic: str) -> Tuple[str, ...]:
    """Split a topic into its words: at ``/`` if there is one, otherwise at ``.``."""
    return tuple(topic.split("/" if "/" in topic else "."))


class TopicFilter:
    """A pattern over topics, for registering an agent with many of them at once.

    Parameters
    ----------
    pattern : str
        Words separated as in a topic. ``*`` or ``+`` matches exactly one word, a last ``#`` zero or
        more.

    Raises
    ------
    InvalidTypeError
        The pattern is no string.
    InvalidArgumentError
        It is empty, or ``#`` stands before its end, or a wildcard is part of a word.

    Notes
    -----
    Immutable and hashable, so it may be shared by any threads. Two filters of the same words are
    equal, whichever separator they were written with.

    Examples
    --------
    >>> TopicFilter("site.*.voltage").matches("site.2.voltage")
    True
    """

    __slots__ = ("pattern", "words")

    pattern: str
    words: Tuple[str, ...]

    def __init__(self, pattern: str) -> None:
        words = split_topic(check_topic(pattern))
        for position, word in enumerate(words):
            if word == REST and position != len(words) - 1:
                raise InvalidArgumentError(f"'#' must be the last word of a filter: {pattern!r}")
            if len(word) > 1 and any(sign in word for sign in "*+#"):
                raise InvalidArgumentError(
                    f"a wildcard must be a whole word, {word!r} is not: {pattern!r}"
                )
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "words", words)

    def matches(self, topic: str) -> bool:
        """Tell whether the topic's words match the filter's."""
        return self.matches_words(split_topic(topic))

    def matches_words(self, words: Tuple[str, ...]) -> bool:
        """Tell whether these words match; for matching one topic against many filters."""
        mine = self.words
        if mine[-1] == REST:
            mine = mine[:-1]
            if len(words) < len(mine):
                return False
        elif len(words) != len(mine):
            return False
        return all(own in ONE_WORD or own == word for own, word in zip(mine, words))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a TopicFilter cannot be changed (tried to set {name!r})")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a TopicFilter cannot be changed (tried to delete {name!r})")

    def __reduce__(self) -> Tuple[Any, ...]:
        return TopicFilter, (self.pattern,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TopicFilter) and self._normal() == other._normal()

    def __hash__(self) -> int:
        return hash(self._normal())

    def _normal(self) -> Tuple[str, ...]:
        return tuple("*" if word == "+" else word for word in self.words)

    def __repr__(self) -> str:
        return f"TopicFilter({self.pattern!r})"


def looks_like_a_filter(subject: Any) -> bool:
    """Whether a plain topic has a word that would be a wildcard in a filter."""
    if isinstance(subject, TopicFilter):
        return False
    words = split_topic(subject)
    return words[-1] == REST or not ONE_WORD.isdisjoint(words)


def check_subject(subject: Any) -> None:
    """Raise unless `subject` is what an agent may be registered with: a topic or a filter."""
    if not isinstance(subject, TopicFilter):
        check_topic(subject)
