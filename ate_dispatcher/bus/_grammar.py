"""Topics on the bus: words, and how each broker spells them.

A topic is words (`ate_dispatcher._topics`); ``a/b`` and ``a.b`` are the same topic. A driver gets
the words and joins them with its broker's separator; whatever the broker's names forbid is encoded
reversibly, so that the same words come back.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, List, Match, Sequence, Tuple

from .._exceptions import InvalidArgumentError
from .._topics import ONE_WORD, REST, TopicFilter, check_topic, split_topic

__all__ = [
    "Spelling",
    "Words",
    "first_match",
    "is_exact",
    "speller",
    "words_of_filter",
    "words_of_topic",
]

Words = Tuple[str, ...]


def words_of_topic(topic: Any) -> Words:
    """Split a topic that is to be published to.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        It is no string, empty, has an empty word, or contains a wildcard.
    """
    words = split_topic(check_topic(topic))
    _check_words(topic, words)
    for word in words:
        if any(sign in word for sign in "*+#"):
            raise InvalidArgumentError(
                f"a topic to publish to has no wildcards, {topic!r} has one in {word!r}"
            )
    return words


def words_of_filter(topic: Any) -> TopicFilter:
    """Take a topic or filter that is to be subscribed to: a string or a `TopicFilter`.

    Raises
    ------
    InvalidTypeError, InvalidArgumentError
        As `TopicFilter`; or it has an empty word.
    """
    pattern = topic if isinstance(topic, TopicFilter) else TopicFilter(check_topic(topic))
    _check_words(pattern.pattern, pattern.words)
    return pattern


def _check_words(topic: str, words: Words) -> None:
    if "" in words:
        raise InvalidArgumentError(
            f"a topic on the bus has no empty words, {topic!r} has one: "
            "look for a doubled, leading or trailing separator"
        )
    if "\0" in topic or not topic.isascii():
        try:
            if "\0" not in topic and topic.encode("utf-8"):
                return
        except UnicodeEncodeError:
            pass
        raise InvalidArgumentError(f"a topic has no NUL and no half characters, {topic!r} has")


def is_exact(pattern: TopicFilter) -> bool:
    """Tell whether a filter has no wildcard, so that it is one topic."""
    return not any(word == REST or word in ONE_WORD for word in pattern.words)


def first_match(filters: Sequence[TopicFilter], words: Words) -> int:
    """Give the number of the first filter that matches, -1 for none."""
    return next((n for n, own in enumerate(filters) if own.matches_words(words)), -1)


def speller(pattern: TopicFilter) -> Callable[[Words], str]:
    """Give what spells topics as the subscriber spelled its filter: with ``/`` or with ``.``."""
    slash = "/" in pattern.pattern

    def spell(words: Words) -> str:
        # A word with a dot in it can only come from a topic that was spelled with "/".
        return ("/" if slash or any("." in word for word in words) else ".").join(words)

    return spell


class Spelling:
    """How a broker writes topics and filters.

    Parameters
    ----------
    separator : str
        What stands between words.
    one, rest : str
        The wildcards for exactly one word and for the rest.
    forbidden : str
        Characters that must not stand in a word; the separator and `escape` never may.
    escape : str
        What begins an encoded byte: it and two hexadecimal digits, of the character's UTF-8.
    allowed : str, optional
        If given, everything else is forbidden.
    first : str
        Characters that must not begin a topic.
    """

    def __init__(
        self,
        separator: str,
        one: str = "*",
        rest: str = "#",
        *,
        forbidden: str = "",
        escape: str = "%",
        allowed: str = "",
        first: str = "",
    ) -> None:
        self.separator = separator
        self.one = one
        self.rest = rest
        self._escape = escape
        self._forbidden = frozenset(forbidden + separator + escape)
        self._allowed = frozenset(allowed)
        self._first = first
        self._encoded_run = re.compile(f"(?:{re.escape(escape)}[0-9A-Fa-f]{{2}})+")

    def topic(self, words: Words) -> str:
        """Write a topic."""
        return self.separator.join(self._encoded(words))

    def filter(self, pattern: TopicFilter) -> str:
        """Write a filter, wildcards and all."""
        words = [
            self.one if own in ONE_WORD else self.rest if own == REST else encoded
            for own, encoded in zip(pattern.words, self._encoded(pattern.words))
        ]
        return self.separator.join(words)

    def words(self, topic: str) -> Words:
        """Read a topic back; one that no `topic` has written gives its words all the same."""
        return tuple(self._decode(word) for word in topic.split(self.separator))

    def _encoded(self, words: Iterable[str]) -> List[str]:
        encoded = [self._encode(word) for word in words]
        if self._first and encoded[0][:1] in self._first:
            encoded[0] = self._byte(encoded[0][0]) + encoded[0][1:]
        return encoded

    def _encode(self, word: str) -> str:
        forbidden, allowed = self._forbidden, self._allowed
        if allowed:
            if allowed.issuperset(word):
                return word
        elif forbidden.isdisjoint(word) and word.isprintable():
            return word
        return "".join(
            sign
            if (sign in allowed if allowed else sign not in forbidden and sign.isprintable())
            else self._byte(sign)
            for sign in word
        )

    def _byte(self, sign: str) -> str:
        return "".join(f"{self._escape}{byte:02X}" for byte in sign.encode("utf-8"))

    def _decode(self, word: str) -> str:
        return self._encoded_run.sub(self._decoded, word) if self._escape in word else word

    def _decoded(self, run: Match[str]) -> str:
        return bytes.fromhex(run[0].replace(self._escape, "")).decode("utf-8", "replace")
