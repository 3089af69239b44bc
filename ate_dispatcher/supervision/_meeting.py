"""Which sites a barrier waits for, and whether they have come with the same arguments."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple

from .._exceptions import InvalidArgumentError, SiteBarrierError

__all__ = ["Arrival", "Meeting", "Rendezvous", "missing_words"]


class Arrival:
    """One site that waits: what it came with, which sites it knows of, and how to reach it."""

    __slots__ = ("args", "inbox", "kwargs", "site", "there")

    def __init__(
        self,
        site: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Mapping[str, Any]] = None,
        there: Iterable[Any] = (),
        inbox: Any = None,
    ) -> None:
        self.site = site
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.there = frozenset(there)
        self.inbox = inbox

    def same(self, other: Arrival) -> bool:
        """Whether both came with equal arguments; the arguments' own ``==`` decides."""
        return bool(self.args == other.args and self.kwargs == other.kwargs)

    def __str__(self) -> str:
        words = [repr(argument) for argument in self.args]
        words += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"({', '.join(words)})"


class Meeting:
    """The sites that have come so far, and, once it has ended, what came of it."""

    def __init__(self) -> None:
        self.arrivals: Dict[Any, Arrival] = {}
        self.left: Dict[Any, str] = {}
        # Who had not come when it was given up; written once, under the barrier's lock.
        self.missing: Optional[FrozenSet[Any]] = None
        # Written once, by the thread that ends the meeting, before it tells the others.
        self.value: Any = None
        self.error: Optional[BaseException] = None
        self.holder: Optional[Arrival] = None
        self.ended = False

    def differing(self) -> str:
        """Say who came with what if they differ, "" if they do not. Runs users' ``==``."""
        groups: List[List[Arrival]] = []
        for arrival in self.arrivals.values():
            for group in groups:
                if group[0].same(arrival):
                    group.append(arrival)
                    break
            else:
                groups.append([arrival])
        if len(groups) < 2:
            return ""
        parts = [f"{_sites(a.site for a in group)} with {group[0]}" for group in groups]
        return "the arguments differ: " + ", ".join(parts)


class Rendezvous:
    """The present meeting, and who takes part. No thread, no clock.

    Parameters
    ----------
    sites : iterable, optional
        Who takes part; if not given, the sites that those who have come know of.
    """

    def __init__(self, sites: Optional[Iterable[Any]] = None) -> None:
        self.sites: Optional[FrozenSet[Any]] = None if sites is None else frozenset(sites)
        self.disabled: FrozenSet[Any] = frozenset()
        self.meeting = Meeting()

    def arrive(self, arrival: Arrival) -> Meeting:
        """Let a site come to the present meeting, and give that.

        Raises
        ------
        SiteBarrierError
            It has no business here: no site, not one of this barrier's, disabled, or here already.
        """
        site = arrival.site
        if site is None:
            raise SiteBarrierError("only a producer with a site= can come to a SiteBarrier")
        if self.sites is not None and site not in self.sites:
            raise SiteBarrierError(
                f"site {site!r} is none of this barrier's, which are {_listed(self.sites)}"
            )
        if site in self.disabled:
            raise SiteBarrierError(f"site {site!r} is disabled at this barrier")
        if site in self.meeting.arrivals:
            raise SiteBarrierError(f"site {site!r} waits at this barrier already")
        self.meeting.left.pop(site, None)
        self.meeting.arrivals[site] = arrival
        return self.meeting

    def leave(self, meeting: Meeting, site: Any, why: str) -> None:
        """Let the present meeting go on without a site, which will not come to it."""
        if meeting is self.meeting and site not in meeting.arrivals:
            meeting.left[site] = why

    def disable(self, site: Any) -> Optional[Arrival]:
        """Go on without a site from now on; give its arrival if it waits."""
        self._check(site)
        self.disabled |= {site}
        return self.meeting.arrivals.pop(site, None)

    def enable(self, site: Any) -> None:
        """Expect a site again."""
        self._check(site)
        self.disabled -= {site}

    def missing(self) -> FrozenSet[Any]:
        """Who is expected and has not come."""
        meeting = self.meeting
        expected = self.sites
        if expected is None:
            expected = frozenset().union(*(a.there for a in meeting.arrivals.values()))
        return expected - self.disabled - frozenset(meeting.left) - frozenset(meeting.arrivals)

    def take(self) -> Optional[Meeting]:
        """Give the meeting if it is complete, and begin the next; one caller gets it."""
        if not self.meeting.arrivals or self.missing():
            return None
        return self.close()

    def close(self) -> Meeting:
        """Give the meeting as it is, and begin the next."""
        meeting, self.meeting = self.meeting, Meeting()
        return meeting

    def _check(self, site: Any) -> None:
        if self.sites is not None and site not in self.sites:
            raise InvalidArgumentError(
                f"site {site!r} is none of this barrier's, which are {_listed(self.sites)}"
            )


def _sites(sites: Iterable[Any]) -> str:
    listed = _listed(sites)
    return f"sites {listed}" if ", " in listed else f"site {listed}"


def _listed(sites: Iterable[Any]) -> str:
    ordered = sorted(sites, key=lambda site: (isinstance(site, str), site))
    return ", ".join(map(repr, ordered))


def missing_words(missing: Iterable[Any], left: Mapping[Any, str]) -> str:
    """Say who did not come, and who had left."""
    parts = []
    if missing:
        parts.append(f"{_sites(missing)} did not come")
    parts += [f"site {site!r} had left ({why})" for site, why in left.items()]
    return "; ".join(parts)
