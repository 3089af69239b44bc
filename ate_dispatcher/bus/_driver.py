"""The seam between the bus and a broker: what a driver has to do, and what it says it can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Callable, ClassVar, Iterable, Mapping, NamedTuple, Optional, Sequence

from .._exceptions import BusConnectionError, UnsupportedByDriverError
from .._topics import TopicFilter
from ._grammar import Words
from ._url import BusURL, OptionType, seconds

__all__ = ["Capabilities", "Driver", "Inbox"]


class Capabilities(NamedTuple):
    """What a driver promises. The README's table is made of these.

    Attributes
    ----------
    delivery : str
        ``"at most once"`` or ``"at least once"``, for subscribers without a group.
    group_delivery : str
        The same for the members of a group; empty if there are no groups.
    backlog : bool
        Whether a group keeps what is published while it has no member.
    order : str
        Within what messages keep their order: ``"publisher"`` or ``"topic"`` (one publisher's
        messages on one topic).
    persistent : bool
        Whether accepted messages outlive the broker's restart, for groups with a backlog.
    introspection : bool
        Whether subscribers can be counted and topics listed.
    retained : bool
        Whether a topic's last message can be kept for those who subscribe later.
    max_payload : int, optional
        Bytes of a message, None if there is no fixed limit.
    """

    delivery: str = "at most once"
    group_delivery: str = ""
    backlog: bool = False
    order: str = "publisher"
    persistent: bool = False
    introspection: bool = False
    retained: bool = False
    max_payload: Optional[int] = None


class Inbox(ABC):
    """Where a driver puts what comes for one subscription. Thread-safe; nothing here blocks."""

    @abstractmethod
    def put(
        self,
        words: Words,
        payload: bytes,
        via: Optional[int] = None,
        done: Optional[Callable[[], None]] = None,
    ) -> None:
        """Take one message.

        Parameters
        ----------
        words : tuple of str
            The topic it came on.
        payload : bytes
            What was published.
        via : int, optional
            The number of the filter that it came for, where overlapping filters bring a message
            more than once; a copy that came for another than the first that matches is dropped.
        done : callable, optional
            Called once the callback has returned: acknowledge it. Never called for a message that
            was not handled. It must not raise.
        """

    @abstractmethod
    def report(self, error: BaseException) -> None:
        """Tell the subscriber of something that went wrong beside a message."""

    def report_connection(self, up: bool) -> None:  # noqa: B027 - optional
        """Tell the subscriber that messages cannot come for now, and when they can come again.

        A driver calls it on one thread at a time, once it has returned from `subscribe`; saying the
        same twice is no news.
        """


class Driver(ABC):
    """Speaks one broker's protocol. Subclass it, name a `scheme`, do `publish` and `subscribe`.

    Every method may be called from any thread, from several at once, and from a callback. Errors of
    the client library are raised as `BusError` of one kind or another, and never hold a secret.

    Parameters
    ----------
    url : BusURL
        Where the broker is.

    Attributes
    ----------
    url : BusURL
    settings : dict
        The URL's options that `options` knows, read; only those given.
    timeout : float
        Seconds that connecting, publishing and subscribing may take (``?timeout=``).
    """

    scheme: ClassVar[str]
    """The URL's first word; several, separated by spaces, if it has other names."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    options: ClassVar[Mapping[str, OptionType]] = {}
    """What may stand behind ``?`` in the URL, beside ``timeout``, and how it is read."""

    def __init__(self, url: BusURL) -> None:
        self.url = url
        self.settings = url.options({"timeout": seconds, **self.options})
        self.timeout: float = self.settings.get("timeout", 10.0)

    def connect(self) -> None:  # noqa: B027 - optional
        """Reach the broker, or raise `BusConnectionError`. Called once, before anything else."""

    def close(self) -> None:  # noqa: B027 - optional
        """Leave the broker and end all threads. Called once; subscriptions were ended before."""

    @abstractmethod
    def publish(self, words: Words, payload: bytes) -> None:
        """Return when the broker has taken the message, or raise."""

    def publish_retained(self, words: Words, payload: bytes) -> None:
        """Publish, and have it kept for those who subscribe later, in place of the one before."""
        raise self.unsupported("keep a message for those who subscribe later")

    @abstractmethod
    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Return when messages will come into the inbox; give what ends that.

        Parameters
        ----------
        filters : sequence of TopicFilter
            What is wanted; they may overlap.
        group : str
            Members of one group share the messages of each filter; empty for no group.
        inbox : Inbox
            Where they go, from any thread. It drops what no filter matches, so a broker that is
            coarser needs no second look.
        """

    def count(self, words: Words) -> int:
        """Tell how many subscribers one topic has, those with wildcards not counted."""
        raise self.unsupported("count the subscribers of a topic")

    def topics(self) -> Iterable[Words]:
        """List the topics with at least one subscriber, those with wildcards not counted."""
        raise self.unsupported("list its topics")

    def unsupported(self, what: str) -> UnsupportedByDriverError:
        """Word the error for what this broker cannot do."""
        return UnsupportedByDriverError(f"{self.url.scheme}:// cannot {what}")

    def failed(self, what: str, error: Any) -> BusConnectionError:
        """Word the error for a broker that cannot be reached or refuses; without the password."""
        why = str(error) or type(error).__name__
        if self.url.password:
            why = why.replace(self.url.password, "***")
        return BusConnectionError(f"{what} at {self.url} failed: {why}")
