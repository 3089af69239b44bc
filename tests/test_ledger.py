"""A request's roster with its outcomes: who may start, what counts, when it has ended."""

from __future__ import annotations

from math import inf

import pytest

from ate_dispatcher import (
    NoProducersError,
    OutcomeStatus,
    Phase,
    RequestCancelledError,
    RequestExpiredError,
    RequestFailedError,
    RequestStatus,
    StateError,
)
from ate_dispatcher import _ledger as module
from ate_dispatcher._address import Address
from ate_dispatcher._ledger import Extra, Ledger
from ate_dispatcher._options import Options
from ate_dispatcher._outcomes import NO_TAGS, Failure, Outcome, Partial, StreamEnd

OK, ERROR, TIMEOUT = OutcomeStatus.OK, OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT
CANCELLED, REJECTED = OutcomeStatus.CANCELLED, OutcomeStatus.REJECTED

SENT = 10.0
DEADLINE = 11.0  # of every ledger here that is made without another TTL

A, B, C = Address("a", 0), Address("b", 1), Address("c", 0)


def reading(seconds):
    """Read a clock: a float of its own each time, as a claim needs it."""
    return seconds + 0.0


def scattered(*roster, ttl=1000.0, options=None):
    """Make a ledger of "t", sent at 10.0, due at 11.0, scattered at 10.25."""
    ledger = Ledger("t", ttl, SENT, options)
    ledger.scatter(roster, 10.25)
    return ledger


def claimed(*roster, **given):
    """Make a ledger of which every row was claimed at 10.5."""
    ledger = scattered(*roster, **given)
    for address in roster:
        assert ledger.claim(address, reading(10.5))
    return ledger


def answer(ledger, address, value=1, ended=10.75, kind=Outcome):
    return kind(ledger, address, value, 10.5, ended)


def failure(ledger, address, status=ERROR, reason="no signal", ended=10.75, exception=None):
    return Failure(ledger, address, status, reason, 10.5, ended, exception)


def closer(ledger, status=TIMEOUT, reason="late"):
    """Give what `close_rows` words the open rows with."""
    return lambda address, started: Failure(ledger, address, status, reason, started)


# ---- a new one -----------------------------------------------------------------------------------


def test_a_new_ledger_is_open_and_empty():
    """It carries what it was given, and is due its TTL after it was sent."""
    home, args, kwargs = object(), (1, 2), {"x": 3}
    ledger = Ledger("t", 1500.0, SENT, None, home, args, kwargs)
    assert (ledger.topic, ledger.ttl, ledger.sent, ledger.queued) == ("t", 1500.0, SENT, SENT)
    assert ledger.deadline == 11.5
    assert ledger.status is RequestStatus.OPEN
    assert (ledger.roster, ledger.outcomes, ledger.values) == ((), (), {})
    assert (ledger._home, ledger.args, ledger._kwargs) == (home, args, kwargs)
    assert ledger.reason == ""
    assert ledger.tags is NO_TAGS


def test_what_is_optional_may_be_left_out():
    """A plain request has no options, arguments or home."""
    ledger = Ledger("t", 1000.0, SENT)
    assert (ledger._home, ledger.args, ledger._kwargs) == (None, (), None)
    assert (ledger._options, ledger._extra, ledger._cancelled) == (None, None, False)


def test_without_a_ttl_there_is_no_deadline():
    """Infinity stays infinity."""
    assert Ledger("t", inf, SENT).deadline == inf


def test_a_ledger_is_kept_small():
    """C12: there may be very many open at a time, so no dict, but for what a subclass adds."""
    assert not hasattr(Ledger("t", 1000.0, SENT), "__dict__")
    assert not hasattr(Extra(), "__dict__")


def test_tags_and_reason_are_read_from_where_they_stand():
    """Tags are the options', a reason is there once it was given."""
    options = Options(tags={"lot": 7})
    ledger = Ledger("t", 1000.0, SENT, options)
    assert ledger.tags is options.tags
    ledger._reason = "stopped by hand"
    assert ledger.reason == "stopped by hand"


def test_the_priority_is_read_from_the_options():
    """Without any it is 0."""
    assert Ledger("t", 1000.0, SENT).priority == 0
    assert Ledger("t", 1000.0, SENT, Options(priority=-3)).priority == -3


def test_scattering_fixes_the_roster():
    """From then on every row is open."""
    ledger = Ledger("t", 1000.0, SENT)
    assert not ledger.complete
    ledger.scatter((B, A), 10.25)
    assert ledger.roster == ("b", "a")
    assert (ledger.sent, ledger.queued) == (SENT, 10.25)
    assert not ledger.complete
    assert ledger.outcomes == ()


def test_a_ledger_scattered_to_nobody_has_no_open_row():
    """But before it is scattered nobody can tell."""
    ledger = Ledger("t", 1000.0, SENT)
    assert ledger.complete is False
    ledger.scatter((), 10.25)
    assert ledger.complete is True


def test_what_only_some_have_is_made_once():
    """And with nothing in it."""
    ledger = Ledger("t", 1000.0, SENT)
    extra = ledger.extra()
    assert ledger.extra() is extra is ledger._extra
    assert (extra.until, extra.readers, extra.streams) == (None, (), None)
    assert (extra.dropped, extra.unseen) == (0, None)


# ---- claims --------------------------------------------------------------------------------------


def test_a_row_is_claimed_once():
    """C4: of all who contest it one wins, whenever the others come."""
    ledger = scattered(A, B)
    assert ledger.claim(A, reading(10.5)) is True
    assert ledger.claim(A, reading(10.5)) is False
    assert ledger.claim(A, reading(10.25)) is False
    assert ledger.claim(B, reading(10.5)) is True


def test_expired_work_never_starts():
    """C4: at the deadline it still may, after it no more."""
    ledger = scattered(A, B)
    assert ledger.claim(A, reading(DEADLINE)) is True
    assert ledger.claim(B, reading(DEADLINE + 0.001)) is False
    assert ledger._rows.keys() == {A}


def test_cancelled_work_never_starts():
    """C4: the flag counts before the row is closed."""
    ledger = scattered(A)
    ledger._cancelled = True
    assert ledger.claim(A, reading(10.5)) is False
    assert ledger._rows == {}


def test_a_closed_row_cannot_be_claimed():
    """C4: whoever closed it has won."""
    ledger = scattered(A)
    ledger.close_rows(closer(ledger))
    assert ledger.claim(A, reading(10.5)) is False


# ---- answers -------------------------------------------------------------------------------------


def test_an_answer_in_time_is_entered():
    """C2: the last one makes it complete."""
    ledger = claimed(A, B)
    first, last = answer(ledger, B), failure(ledger, A)
    assert ledger.accept(first) is True
    assert not ledger.complete
    assert ledger.outcomes == (first,)
    assert ledger.accept(last) is True
    assert ledger.complete
    assert ledger.outcomes == (last, first)


@pytest.mark.parametrize(("ended", "in_time"), [(DEADLINE, True), (DEADLINE + 0.001, False)])
def test_the_deadline_is_judged_by_the_stamp(ended, in_time):
    """C3: stamped at the deadline is in time, after it is late."""
    ledger = claimed(A)
    assert ledger.accept(answer(ledger, A, ended=ended)) is in_time
    assert len(ledger.outcomes) == in_time
    assert ledger.complete is in_time


def test_a_closed_row_never_changes():
    """C3: a second answer is late even if it was stamped in time."""
    ledger = claimed(A, B)
    first = answer(ledger, A, 1)
    assert ledger.accept(first)
    assert ledger.accept(answer(ledger, A, 2)) is False
    assert ledger.outcomes == (first,)
    assert not ledger.complete
    ledger.close_rows(closer(ledger))
    before = ledger.outcomes
    assert ledger.accept(answer(ledger, B, 2)) is False
    assert ledger.outcomes == before


def test_an_answer_to_work_that_never_began_is_not_entered():
    """Only who claimed the row may answer."""
    ledger = scattered(A)
    assert ledger.accept(answer(ledger, A)) is False
    assert (ledger.outcomes, ledger.complete) == ((), False)


# ---- values of streams ---------------------------------------------------------------------------


def test_values_of_a_stream_are_entered_in_order():
    """C14: each by itself, and the row stays open."""
    ledger = claimed(A, B)
    for address, value in ((A, 1), (B, 7), (A, 2)):
        assert ledger.accept_partial(answer(ledger, address, value, kind=Partial)) is True
    assert ledger.values == {"a": [1, 2], "b": [7]}
    assert ledger.outcomes == ()
    assert not ledger.complete


@pytest.mark.parametrize(("ended", "in_time"), [(DEADLINE, True), (DEADLINE + 0.001, False)])
def test_each_value_of_a_stream_is_judged_by_its_stamp(ended, in_time):
    """C14: on the terms of C3."""
    ledger = claimed(A)
    assert ledger.accept_partial(answer(ledger, A, 5, ended, Partial)) is in_time
    assert ledger.values == ({"a": [5]} if in_time else {})


def test_no_value_of_a_stream_comes_to_a_row_that_is_not_open():
    """Neither before its claim nor after its end."""
    ledger = scattered(A, B)
    assert ledger.accept_partial(answer(ledger, A, 5, kind=Partial)) is False
    ledger.claim(A, reading(10.5))
    ledger.accept(answer(ledger, A, kind=StreamEnd))
    assert ledger.accept_partial(answer(ledger, A, 6, kind=Partial)) is False
    ledger.close_rows(closer(ledger))
    assert ledger.accept_partial(answer(ledger, B, 7, kind=Partial)) is False
    assert ledger._extra is None


def test_of_a_long_stream_the_newest_values_are_kept(monkeypatch):
    """C12: the older ones are dropped and counted, for each stream by itself."""
    monkeypatch.setattr(module, "STREAM_VALUES_KEPT", 3)
    ledger = claimed(A, B)
    for value in range(3):
        assert ledger.accept_partial(answer(ledger, A, value, kind=Partial))
    assert ledger.dropped == 0
    for value in range(3, 5):
        assert ledger.accept_partial(answer(ledger, A, value, kind=Partial))
    assert ledger.accept_partial(answer(ledger, B, 9, kind=Partial))
    assert ledger.values == {"a": [2, 3, 4], "b": [9]}
    assert ledger.dropped == 2


def test_how_long_a_stream_is_kept():
    """Ten thousand values, as the documentation says."""
    assert module.STREAM_VALUES_KEPT == 10_000


def test_the_end_of_a_stream_may_bring_a_last_value():
    """C14: a return value that is not None stands last; without one nothing is added."""
    ledger = claimed(A, B, C)
    ledger.accept_partial(answer(ledger, A, 1, kind=Partial))
    ledger.accept_partial(answer(ledger, B, 2, kind=Partial))
    for address, value in ((A, 0), (B, None), (C, None)):
        ledger.accept(answer(ledger, address, value, kind=StreamEnd))
    assert ledger.values == {"a": [1, 0], "b": [2], "c": []}


def test_a_stream_that_never_gave_a_value_ends_as_a_list():
    """Whoever reads it need not ask whether it gave something."""
    ledger = claimed(A)
    ledger.accept(answer(ledger, A, "last", kind=StreamEnd))
    assert ledger.values == {"a": ["last"]}


def test_what_a_stream_gave_stays_if_it_failed_later():
    """C2: one failure never loses the good values."""
    ledger = claimed(A, B)
    ledger.accept_partial(answer(ledger, A, 1, kind=Partial))
    ledger.accept(failure(ledger, A))
    ledger.accept(failure(ledger, B))
    assert ledger.values == {"a": [1]}


# ---- closing -------------------------------------------------------------------------------------


def test_closing_words_every_row_without_an_answer():
    """C2: they add up to the roster; what has its answer keeps it."""
    ledger = scattered(A, B, C)
    ledger.claim(B, reading(10.5))
    ledger.claim(C, reading(10.5))
    kept = answer(ledger, C)
    ledger.accept(kept)
    asked = []

    def make(address, started):
        asked.append((address, started))
        return Failure(ledger, address, CANCELLED, "off", started)

    closed = ledger.close_rows(make)
    assert asked == [(A, None), (B, 10.5)]
    assert [outcome.producer for outcome in closed] == ["a", "b"]
    assert ledger.outcomes == (*closed, kept)
    assert ledger.complete


def test_closing_twice_is_once():
    """Nothing is left to be closed."""
    ledger = scattered(A)
    (outcome,) = ledger.close_rows(closer(ledger))
    assert ledger.close_rows(closer(ledger)) == []
    assert ledger.outcomes == (outcome,)
    assert ledger.complete


def test_a_row_is_closed_before_it_is_worded():
    """C4: nobody can claim it while somebody words why it is closed."""
    ledger = scattered(A)

    def make(address, started):
        assert ledger.claim(address, reading(10.5)) is False
        assert ledger.outcomes == ()
        return Failure(ledger, address, TIMEOUT, "late", started)

    assert len(ledger.close_rows(make)) == 1


def test_closing_ignores_who_else_stands_in_the_rows():
    """Waiters are contested in the same dict, beside the addresses."""
    ledger = scattered(A)
    ledger._rows["end"] = waiter = object()
    (outcome,) = ledger.close_rows(closer(ledger))
    assert ledger.outcomes == (outcome,)
    assert ledger._rows["end"] is waiter


def expired(address, started=None, now=11.5):
    ledger = scattered(A, B)
    outcome = ledger.expired_row(address, started, now)
    assert (outcome.status, outcome.value, outcome.ended) == (TIMEOUT, None, None)
    assert outcome.started == started
    assert (outcome.topic, outcome.producer) == ("t", address.name)
    return outcome


def test_expired_while_running():
    """C2: it says since when, whatever else the address tells."""
    for started in (False, True):
        address = Address("dmm")
        address.started = started
        outcome = expired(address, 10.5)
        assert (outcome.phase, outcome.since) == (Phase.RUNNING, 10.5)
        assert outcome.reason == "still running after 1.000 s"


def test_expired_before_the_agent_was_started():
    """C2: it says how to start it."""
    outcome = expired(Address("dmm"))
    assert (outcome.phase, outcome.since) == (Phase.NOT_STARTED, 10.25)
    assert (
        outcome.reason == "its thread was never started: call its start(), or use dispatcher.add()"
    )


def test_expired_in_the_queue():
    """C2: it says what the agent was busy with, if with anything."""
    address = Address("dmm")
    address.started = True
    outcome = expired(address)
    assert (outcome.phase, outcome.since) == (Phase.QUEUED, 10.25)
    assert outcome.reason == "still queued after 1.250 s"
    address.running = Ledger("other", 1000.0, SENT)
    outcome = expired(address)
    assert (outcome.phase, outcome.since) == (Phase.QUEUED, 10.25)
    assert outcome.reason == "still queued after 1.250 s, behind work on 'other'"


class Waiting:
    """As much of a `Wait` as a ledger looks at."""

    since = 10.5

    def __init__(self, request):
        self.request = request

    def describe(self):
        return "waiting for resource 'GPIB0', held by 'scope'"


def test_expired_while_it_waited_for_a_resource():
    """C2: for what, since when, and who has it, whatever it did before."""
    ledger = scattered(Address("dmm"))
    (address,) = ledger._roster
    address.started = True
    address.running = Ledger("other", 1000.0, SENT)
    address.waiting = Waiting(ledger)
    outcome = ledger.expired_row(address, None, 11.5)
    assert (outcome.status, outcome.started) == (TIMEOUT, None)
    assert (outcome.phase, outcome.since) == (Phase.RESOURCE, 10.5)
    assert outcome.reason == ("still waiting for resource 'GPIB0', held by 'scope', after 1.000 s")


def test_expired_behind_work_that_waits_for_a_resource():
    """C2: it is told what that work waits for, too."""
    address = Address("dmm")
    address.started = True
    address.running = address
    address.waiting = Waiting(Ledger("other", 1000.0, SENT))
    outcome = expired(address)
    assert (outcome.phase, outcome.since) == (Phase.QUEUED, 10.25)
    assert outcome.reason == (
        "still queued after 1.250 s, behind work on 'other' "
        "waiting for resource 'GPIB0', held by 'scope'"
    )


# ---- reading -------------------------------------------------------------------------------------


@pytest.fixture
def mixed():
    """One row of each final status, in this order, of producers at sites 0, 1 and none."""
    statuses = (OK, ERROR, REJECTED, TIMEOUT, CANCELLED, OutcomeStatus.NOT_NEEDED)
    roster = tuple(
        Address(s.value.lower(), site) for s, site in zip(statuses, (0, 1, 1, None, 0, None))
    )
    ledger = claimed(*roster)
    ledger.accept(answer(ledger, roster[0], 5.0))
    for address, status in zip(roster[1:], statuses[1:]):
        ledger.accept(failure(ledger, address, status, f"why {status.value}"))
    ledger.status = RequestStatus.COMPLETE
    return ledger


def names(outcomes):
    return [outcome.producer for outcome in outcomes]


def test_outcomes_are_told_apart_by_status(mixed):
    """In roster order; what was not needed is neither failed nor missing."""
    assert names(mixed.outcomes) == [
        "ok", "error", "rejected", "timeout", "cancelled", "not_needed",
    ]  # fmt: skip
    assert names(mixed.succeeded) == ["ok"]
    assert names(mixed.failed) == ["error", "rejected"]
    assert names(mixed.missing) == ["timeout", "cancelled"]
    for part in (mixed.outcomes, mixed.succeeded, mixed.failed, mixed.missing):
        assert type(part) is tuple


def test_good_values_by_name(mixed):
    """Nothing of who gave none, in roster order; None and other false values are values."""
    assert mixed.values == {"ok": 5.0}
    ledger = claimed(A, B, C)
    for address, value in ((C, 0), (A, None), (B, False)):
        ledger.accept(answer(ledger, address, value))
    assert list(ledger.values.items()) == [("a", None), ("b", False), ("c", 0)]


def test_outcomes_by_site(mixed):
    """In roster order within each; None holds those of no site."""
    sites = mixed.by_site()
    assert {site: names(outcomes) for site, outcomes in sites.items()} == {
        0: ["ok", "cancelled"],
        1: ["error", "rejected"],
        None: ["timeout", "not_needed"],
    }
    assert all(type(outcomes) is tuple for outcomes in sites.values())
    assert scattered(A).by_site() == {}


def test_everything_accepted_in_the_order_of_its_stamps():
    """Values of streams too; rows that were closed without an answer come last."""
    ledger = claimed(A, B, C, Address("d"))
    accepted = [
        answer(ledger, B, 1, 10.6, Partial),
        answer(ledger, A, 2, 10.7, Partial),
        answer(ledger, B, 3, 10.8, Partial),
        answer(ledger, A, None, 10.9, StreamEnd),
        answer(ledger, B, None, 10.9, StreamEnd),
    ]
    for outcome in accepted:
        accept = ledger.accept_partial if isinstance(outcome, Partial) else ledger.accept
        assert accept(outcome)
    accepted += ledger.close_rows(closer(ledger))
    assert ledger._accepted() == accepted


def test_the_end_of_a_stream_comes_after_its_values_even_at_one_instant():
    """C6: a clock may stand still between the last value and the end."""
    ledger = claimed(A)
    value, end = answer(ledger, A, 1, kind=Partial), answer(ledger, A, 2, kind=StreamEnd)
    ledger.accept_partial(value)
    ledger.accept(end)
    assert ledger._accepted() == [value, end]


def test_answers_of_one_instant_stand_in_roster_order():
    """And one stamped at zero is not one without a stamp."""
    ledger = Ledger("t", inf, -1.0)
    ledger.scatter((A, B, C), -1.0)
    for address in (A, B):
        ledger.claim(address, reading(-0.5))
    (b, a) = (answer(ledger, address, ended=0.0) for address in (B, A))
    ledger.accept(b)
    ledger.accept(a)
    (closed,) = ledger.close_rows(closer(ledger))
    assert ledger._accepted() == [a, b, closed]


def test_a_stamp_of_zero_is_a_stamp_like_others():
    """A clock may begin anywhere."""
    ledger = claimed(A, B, ttl=inf)
    later, earlier = answer(ledger, A, ended=0.5), answer(ledger, B, ended=0.0)
    ledger.accept(later)
    ledger.accept(earlier)
    assert ledger._accepted() == [earlier, later]


def test_without_streams_everything_accepted_is_the_answers():
    """Whether or not it has something else that only some have."""
    ledger = claimed(A)
    assert ledger._accepted() == []
    ledger.extra()
    outcome = answer(ledger, A)
    ledger.accept(outcome)
    assert ledger._accepted() == [outcome]
    assert ledger.values == {"a": 1}


class Unseen:
    """Counts how often somebody looked."""

    def __init__(self):
        self.looked = 0

    def seen(self):
        self.looked += 1


@pytest.mark.parametrize("part", ["outcomes", "succeeded", "failed", "missing"])
def test_looking_at_the_outcomes_is_noticed_after_the_end(part):
    """C5: failures that somebody looked at need not be logged as lost."""
    ledger = claimed(A)
    ledger.extra()
    getattr(ledger, part)
    unseen = ledger.extra().unseen = Unseen()
    getattr(ledger, part)
    assert unseen.looked == 0
    ledger.status = RequestStatus.COMPLETE
    getattr(ledger, part)
    assert unseen.looked == 1


def test_the_library_looks_without_being_noticed():
    """Neither a repr nor the values nor a reader that begins says that somebody saw a failure."""
    ledger = claimed(A)
    unseen = ledger.extra().unseen = Unseen()
    ledger.status = RequestStatus.COMPLETE
    assert repr(ledger)
    assert ledger._accepted() == []
    assert ledger.values == {}
    assert unseen.looked == 0


def test_a_ledger_shows_how_it_stands():
    """Topic, status, rows and TTL."""
    ledger = scattered(A, B, ttl=1500.0)
    assert repr(ledger) == "<Ledger 't' OPEN, 0 of 2 rows final, ttl=1500 ms>"
    ledger.claim(B, reading(10.5))
    ledger.accept(answer(ledger, B))
    ledger.status = RequestStatus.EXPIRED
    assert repr(ledger) == "<Ledger 't' EXPIRED, 1 of 2 rows final, ttl=1500 ms>"
    assert repr(Ledger("u", inf, SENT)) == "<Ledger 'u' OPEN, 0 of 0 rows final, no TTL>"


def test_a_subclass_shows_its_own_name():
    """What users hold is a `Request`."""

    class Request(Ledger):
        __slots__ = ()

    assert repr(Request("t", 0.5, SENT)).startswith("<Request 't' OPEN")
    assert repr(Request("t", 0.5, SENT)).endswith("ttl=0.5 ms>")


# ---- raising -------------------------------------------------------------------------------------


def test_an_open_request_has_no_verdict():
    """Whoever asks too early is told to wait."""
    with pytest.raises(StateError) as caught:
        claimed(A).raise_for_status()
    assert str(caught.value) == "the request on 't' is still open: wait() for it first"


def test_good_answers_raise_nothing():
    """All of them, or as many as were needed."""
    ledger = claimed(A)
    ledger.accept(answer(ledger, A))
    ledger.status = RequestStatus.COMPLETE
    assert ledger.raise_for_status() is None


def test_met_early_raises_nothing_even_with_failures(mixed):
    """The ``until`` rule says what was needed."""
    mixed.status = RequestStatus.SATISFIED
    assert mixed.raise_for_status() is None


def test_a_failure_tells_who_and_why(mixed):
    """Failed ones first, then missing ones; what was not needed is not told."""
    with pytest.raises(RequestFailedError) as caught:
        mixed.raise_for_status()
    assert type(caught.value) is RequestFailedError
    assert str(caught.value) == (
        "request on 't' ended COMPLETE, 1 of 6 producers answered well: error: why ERROR; "
        "rejected: why REJECTED; timeout: why TIMEOUT; cancelled: why CANCELLED"
    )
    assert caught.value.request is mixed
    assert caught.value.values == {"ok": 5.0}


def test_one_missing_answer_is_enough():
    """Without any that failed."""
    ledger = claimed(A, B)
    ledger.accept(answer(ledger, A))
    ledger.accept(failure(ledger, B, CANCELLED, "off"))
    ledger.status = RequestStatus.COMPLETE
    with pytest.raises(RequestFailedError, match=r"1 of 2 producers answered well: b: off$"):
        ledger.raise_for_status()


def test_a_failure_without_a_reason_is_told_by_its_status():
    """Every name is followed by something."""
    ledger = claimed(A)
    ledger.accept(failure(ledger, A, REJECTED, ""))
    ledger.status = RequestStatus.COMPLETE
    with pytest.raises(RequestFailedError, match=r"0 of 1 producers answered well: a: REJECTED$"):
        ledger.raise_for_status()


def test_the_first_exception_is_the_cause():
    """Rows without one are passed over; without any there is no cause."""
    errors = [ValueError("first"), ValueError("second")]
    ledger = claimed(A, B, C)
    ledger.accept(failure(ledger, C, exception=errors[1]))
    ledger.accept(failure(ledger, B, exception=errors[0]))
    ledger.accept(failure(ledger, A, REJECTED))
    ledger.status = RequestStatus.COMPLETE
    with pytest.raises(RequestFailedError) as caught:
        ledger.raise_for_status()
    assert caught.value.__cause__ is errors[0]
    ledger = claimed(A)
    ledger.accept(failure(ledger, A, REJECTED))
    ledger.status = RequestStatus.COMPLETE
    with pytest.raises(RequestFailedError) as caught:
        ledger.raise_for_status()
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (RequestStatus.EXPIRED, RequestExpiredError),
        (RequestStatus.CANCELLED, RequestCancelledError),
        (RequestStatus.STOPPED, RequestCancelledError),
    ],
)
def test_each_end_has_its_error(status, error):
    """Whether or not anybody is to blame."""
    for bad in (True, False):
        ledger = claimed(A)
        ledger.accept(failure(ledger, A) if bad else answer(ledger, A))
        ledger.status = status
        with pytest.raises(error) as caught:
            ledger.raise_for_status()
        assert type(caught.value) is error
        count, why = (0, "a: no signal") if bad else (1, "")
        assert str(caught.value) == (
            f"request on 't' ended {status.value}, {count} of 1 producers answered well: {why}"
        )


def test_nobody_there_tells_the_reason():
    """It is the only one who can say why nobody was asked."""
    ledger = scattered()
    ledger._reason = "nobody is registered for 't'"
    ledger.status = RequestStatus.NO_PRODUCERS
    with pytest.raises(NoProducersError) as caught:
        ledger.raise_for_status()
    assert str(caught.value) == (
        "request on 't' ended NO_PRODUCERS, 0 of 0 producers answered well: "
        "nobody is registered for 't'"
    )


def test_an_end_that_is_nobodys_fault_tells_its_reason():
    """Everybody answered well, or was not needed, and yet it was stopped."""
    ledger = claimed(A)
    ledger.accept(answer(ledger, A))
    ledger._reason = "stopped by hand"
    ledger.status = RequestStatus.STOPPED
    with pytest.raises(RequestCancelledError) as caught:
        ledger.raise_for_status()
    assert str(caught.value) == (
        "request on 't' ended STOPPED, 1 of 1 producers answered well: stopped by hand"
    )


def test_the_reason_of_another_end_is_not_told_twice():
    """Each row says its own there."""
    ledger = scattered(A)
    ledger._reason = "for all"
    ledger.close_rows(closer(ledger, CANCELLED, "off"))
    ledger.status = RequestStatus.CANCELLED
    with pytest.raises(RequestCancelledError, match=r"answered well: a: off$"):
        ledger.raise_for_status()
