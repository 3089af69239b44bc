"""Counts: tallies, the frozen records made of them, and the report of a stop."""

from __future__ import annotations

import math
import random

import pytest

from ate_dispatcher import (
    ListenerStatistics,
    Outcome,
    OutcomeStatus,
    Percentiles,
    ProducerStatistics,
    RequestStatus,
    Statistics,
    StopReport,
    Straggler,
)
from ate_dispatcher._address import Address
from ate_dispatcher._ledger import Ledger
from ate_dispatcher._outcomes import Failure
from ate_dispatcher._statistics import ROUND, STRIDES, Histogram, Tally, producer_statistics
from ate_dispatcher.testing import Delay, ScriptedProducer

NEAR = 0.032
"""The relative error that the documentation promises."""


def answer(wait, service, sent=1000.0):
    """Give a plain answer that waited and took so long."""
    ledger = Ledger("t", math.inf, sent)
    return Outcome(ledger, Address("dmm"), None, sent + wait, sent + wait + service)


def failure(status, wait=None, service=None, sent=1000.0):
    """Give an outcome without a value, by default of work that never ran."""
    ledger = Ledger("t", math.inf, sent)
    started = None if wait is None else sent + wait
    ended = None if service is None else started + service
    return Failure(ledger, Address("dmm"), status, "why", started, ended)


def middle(seconds):
    """Give what is read of this duration: within the promised error of it."""
    histogram = Histogram()
    histogram.add(seconds)
    return histogram.percentile(50)


def test_a_tally_begins_at_zero():
    """A producer that did nothing has counted nothing."""
    tally = Tally()
    assert (tally.partials, tally.lates, tally.closed) == (0, 0, {})
    unmeasured = Percentiles(None, None)
    frozen = producer_statistics(tally, 0, False)
    assert frozen == (
        0, 0, 0, 0, 0, 0, 0, 0, 0, False, unmeasured, unmeasured, 0, {}, 0.0,
    )  # fmt: skip


def test_a_tally_counts_each_status_by_itself():
    """How rows were closed without a value, by status."""
    tally = Tally()
    for status in (OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT, OutcomeStatus.ERROR):
        tally.add(failure(status))
    assert tally.closed == {OutcomeStatus.ERROR: 2, OutcomeStatus.TIMEOUT: 1}


def test_tallies_share_nothing():
    """Each producer has its own."""
    one, other = Tally(), Tally()
    one.add(failure(OutcomeStatus.ERROR))
    one.answered(answer(1.0, 2.0))
    assert other.closed == {}
    assert producer_statistics(other, 0, False).ok == 0
    assert not hasattr(one, "__dict__")


def test_a_frozen_tally_has_every_count_in_its_place():
    """No two numbers are alike here, so none can stand for another."""
    tally = Tally()
    for _ in range(100):
        tally.answered(answer(1.0, 2.0))
    tally.partials, tally.lates = 200, 300
    for count, status in enumerate(
        (
            OutcomeStatus.ERROR,
            OutcomeStatus.TIMEOUT,
            OutcomeStatus.CANCELLED,
            OutcomeStatus.REJECTED,
            OutcomeStatus.NOT_NEEDED,
        ),
        start=1,
    ):
        for _ in range(count):
            tally.add(failure(status))
    frozen = producer_statistics(tally, 7, True)
    assert frozen._asdict() == {
        "ok": 100,
        "partials": 200,
        "errors": 1,
        "timeouts": 2,
        "cancelled": 3,
        "rejected": 4,
        "not_needed": 5,
        "lates": 300,
        "depth": 7,
        "busy": True,
        "wait": Percentiles(middle(1.0), middle(1.0)),
        "service": Percentiles(middle(2.0), middle(2.0)),
        "restarts": 0,
        "waiting": {},
        "oldest": 0.0,
    }
    tally.answered(answer(1.0, 2.0))
    assert frozen.ok == 100
    assert producer_statistics(tally, 0, False).ok == 101


def test_a_producers_requests_are_its_final_outcomes():
    """Every final status counts; values of streams, lates and what waits do not."""
    frozen = ProducerStatistics(
        ok=1,
        partials=10_000,
        errors=2,
        timeouts=4,
        cancelled=8,
        rejected=16,
        not_needed=32,
        lates=20_000,
        depth=40_000,
        busy=True,
    )
    assert frozen.requests == 63


def test_a_listeners_counts_are_a_record():
    """Its fields, in this order."""
    assert ListenerStatistics._fields == ("delivered", "errors", "dropped", "depth", "busy")


def test_a_dispatchers_requests_are_the_open_and_the_ended():
    """Whatever the status they ended with."""
    ended = {RequestStatus.COMPLETE: 4, RequestStatus.NO_PRODUCERS: 2}
    assert Statistics(1, ended, 50, {}, {}).requests == 7
    assert Statistics(3, {}, 0, {}, {}).requests == 3
    assert Statistics._fields == ("open", "ended", "lates", "producers", "listeners")


# ---- how long things took ------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1e-9, 2.5e-6, 0.001, 0.75, 1.0, 1.9999, 60.0, 86_400.0])
def test_a_duration_is_read_within_the_promised_error(seconds):
    """From the clock's step to a day, wherever in its bucket it lies."""
    assert middle(seconds) == pytest.approx(seconds, rel=NEAR)


def test_the_promised_error_holds_everywhere_in_an_octave():
    """Not only where a test happened to look; and it is promised no wider than need be."""
    errors = [abs(middle(1 + n / 1000) / (1 + n / 1000) - 1) for n in range(1000)]
    assert 0.8 * NEAR < max(errors) <= NEAR


@pytest.mark.parametrize("seconds", [0.0, -0.0, -1e-6, -5.0])
def test_less_than_nothing_is_nothing(seconds):
    """Clocks of two processes may disagree by a little: that is no duration of its own."""
    histogram = Histogram()
    for each in (seconds, seconds, 1.0):
        histogram.add(each)
    assert histogram.percentile(50) == 0.0
    assert histogram.percentile(99) == middle(1.0)


def test_nothing_measured_reads_as_none():
    """Not as 0, which would be very fast."""
    assert Histogram().percentile(50) is None


def test_percentiles_of_a_known_distribution():
    """As the sorted list would give them, within the promised error."""
    numbers = random.Random(1)
    durations = [numbers.lognormvariate(-6, 2) for _ in range(10_000)]
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    durations.sort()
    for percent in (1, 50, 90, 99, 100):
        exact = durations[math.ceil(len(durations) * percent / 100) - 1]
        assert histogram.percentile(percent) == pytest.approx(exact, rel=NEAR)


def test_one_in_a_hundred_moves_p99_and_not_before():
    """The 99th of a hundred is the last but one."""
    histogram = Histogram()
    for _ in range(99):
        histogram.add(0.001)
    histogram.add(1.0)
    assert histogram.percentile(99) == middle(0.001)
    histogram.add(1.0)
    assert histogram.percentile(99) == middle(1.0)


def test_a_weight_counts_for_so_many():
    """One measured answer stands for thirteen; the next one for twelve."""
    histogram = Histogram()
    histogram.add(1.0, 13)
    histogram.add(2.0, 12)
    assert histogram.percentile(50) == middle(1.0)
    assert histogram.percentile(53) == middle(2.0)


def test_a_histogram_is_bounded_whatever_it_is_given():
    """However many durations there are between a nanosecond and a day: some 750 buckets."""
    histogram = Histogram()
    numbers = random.Random(2)
    for _ in range(100_000):
        histogram.add(10 ** numbers.uniform(-9, math.log10(86_400)))
    assert 700 < len(histogram) <= 16 * math.ceil(math.log2(86_400e9))


def test_wait_and_service_are_told_apart():
    """Queued until started, and started until ended."""
    tally = Tally()
    for number in range(101):
        wait, service = (0.5, 0.001) if number < 99 else (8.0, 0.001 if number == 99 else 0.25)
        tally.answered(answer(wait, service, sent=1000.0 + number))
    frozen = producer_statistics(tally, 0, False)
    assert frozen.wait == (middle(0.5), middle(8.0))
    assert frozen.service == (middle(0.001), middle(0.001))


def test_errors_and_late_answers_count_what_never_ran_does_not():
    """The slow ones are what p99 is for: that they came too late must not hide them."""
    tally = Tally()
    tally.late(answer(1.0, 30.0))
    tally.add(failure(OutcomeStatus.ERROR, 1.0, 30.0))
    tally.add(failure(OutcomeStatus.TIMEOUT))
    tally.add(failure(OutcomeStatus.TIMEOUT, 4.0))
    tally.late(failure(OutcomeStatus.REJECTED))
    frozen = producer_statistics(tally, 0, False)
    assert frozen.wait.p99 == middle(1.0)
    assert frozen.service == (middle(30.0), middle(30.0))
    assert (frozen.ok, frozen.lates, frozen.errors, frozen.timeouts) == (0, 2, 1, 2)


def measured(tally):
    """Give how many answers the histograms speak for."""
    return sum(tally.services._counts.values())


def test_at_the_pace_of_instruments_every_answer_counts():
    """Up to some 250 a second: the one that took long among a thousand is there."""
    tally = Tally()
    for number in range(1000):
        tally.answered(answer(0.001, 5.0 if number == 777 else 0.001, sent=number / 240))
        assert measured(tally) == tally.ok
    assert tally.services.percentile(100) == middle(5.0)


@pytest.mark.parametrize(("rate", "stride"), [(240, 1), (1000, 13), (30_000, 61), (0, 61)])
def test_the_faster_they_come_the_fewer_are_measured(rate, stride):
    """What is measured costs some hundred times what is counted; their number stays exact."""
    tally = Tally()
    for number in range(10_000):
        tally.answered(answer(0.0001, 0.0001, sent=number / rate if rate else 0.0))
    begin = tally.ok
    due = tally.due
    while tally.due == due:
        tally.answered(answer(0.0001, 0.0001, sent=tally.ok / rate if rate else 0.0))
    assert tally.due - due == stride
    assert begin == 10_000
    assert measured(tally) == pytest.approx(tally.ok, abs=STRIDES[-1])


def test_a_burst_is_known_for_one_after_a_round():
    """Only so many are measured one by one; the first tells when the round began."""
    tally = Tally()
    for _ in range(1 + ROUND):
        tally.answered(answer(0.0001, 0.0001))
        assert measured(tally) == tally.ok
    assert tally.due == tally.ok + STRIDES[1]


def test_a_burst_is_over():
    """When answers come slowly again each one counts again."""
    tally = Tally()
    for _ in range(5000):
        tally.answered(answer(0.0001, 0.0001))
    for number in range(8000):
        tally.answered(answer(0.0001, 0.0001, sent=1001.0 + number / 12))
    before = measured(tally)
    for number in range(100):
        tally.answered(answer(0.0001, 0.0001, sent=2000.0 + number / 12))
    assert measured(tally) == before + 100


@pytest.mark.parametrize("rate", [300, 3000, 3500, 9000])
def test_the_pace_does_not_swing(rate):
    """At one rate there is one stride, whichever it is, after the first rounds."""
    tally = Tally()
    seen = set()
    for number in range(20_000):
        tally.answered(answer(0.0001, 0.0001, sent=number / rate))
        if number > 3 * ROUND * STRIDES[-1]:
            seen.add(tally._stride)
    assert len(seen) == 1


@pytest.mark.parametrize("period", [2, 3, 4, 8, 16])
def test_a_rhythm_of_the_answers_is_not_mistaken_for_all_of_them(period):
    """Every eighth site is slow: so is an eighth of what is measured."""
    tally = Tally()
    for number in range(50_000):
        tally.answered(answer(0.001, 0.001 if number % period else 4.0))
    slow = tally.services._counts[slow_bucket()]
    assert slow / measured(tally) == pytest.approx(1 / period, rel=0.05)


def slow_bucket():
    histogram = Histogram()
    histogram.add(4.0)
    return next(iter(histogram._counts))


def test_late_answers_and_errors_always_count():
    """They are what somebody looks for, and rare; in a burst too."""
    tally = Tally()
    for _ in range(5000):
        tally.answered(answer(0.001, 0.001))
    before = measured(tally)
    tally.late(answer(1.0, 30.0))
    tally.add(failure(OutcomeStatus.ERROR, 1.0, 30.0))
    assert measured(tally) == before + 2


# ---- in a dispatcher -----------------------------------------------------------------------------


def test_a_dispatcher_tells_wait_and_service_of_its_producers(timed, clock):
    """From its own clock's stamps: the second request waits while the first is worked on."""
    timed.add(ScriptedProducer(Delay(0.5), Delay(2.0), name="dmm"), "t")
    first = timed.send_request("t", ttl=60_000)
    clock.wait_sleeping()
    second = timed.send_request("t", ttl=60_000)
    assert timed.send_request("nobody").wait(30)  # scattered after it
    clock.advance(0.5)
    assert first.wait(30)
    clock.wait_sleeping()
    clock.advance(2.0)
    assert second.wait(30)
    dmm = timed.statistics().producers["dmm"]
    assert dmm.ok == 2
    assert dmm.wait == (0.0, middle(0.5))
    assert dmm.service == (middle(0.5), middle(2.0))


def test_a_late_answer_is_timed_too(timed, clock, gate):
    """The request has long expired when the producer comes back after ten seconds."""
    timed.add(ScriptedProducer(gate, None, name="dmm"), "t")
    request = timed.send_request("t", ttl=1000)
    gate.wait_parked()
    clock.advance(10.0)
    assert request.wait(30)
    assert timed.statistics().producers["dmm"].service == (None, None)
    gate.open()
    assert timed.send_request("t", ttl=60_000).wait(30)  # comes behind the late answer
    dmm = timed.statistics().producers["dmm"]
    assert (dmm.lates, dmm.timeouts, dmm.service.p99) == (1, 1, middle(10.0))


def test_streams_errors_and_options_are_timed(dispatcher):
    """Whatever way an answer takes through the dispatcher."""
    dispatcher.producer("t", name="error")(lambda topic: 1 / 0)
    dispatcher.producer("t", name="plain")(lambda topic: 1)

    @dispatcher.producer("t")
    def stream(topic):
        yield 1

    assert dispatcher.with_options(copy="deep").send_request("t", ttl=60_000).wait(30)
    for name, producer in dispatcher.statistics().producers.items():
        assert producer.requests == 1, name
        assert producer.wait.p50 is not None, name
        assert producer.service.p99 is not None, name


def test_the_hot_path_measures_as_the_general_one_does(dispatcher):
    """Thousands of plain answers in a burst: all counted, and spoken for by those measured."""
    producer = dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    requests = [dispatcher.send_request("t", ttl=60_000) for _ in range(3000)]
    assert all(request.wait(30) for request in requests)
    assert dispatcher.statistics().producers["dmm"].ok == 3000
    tally = dispatcher._tallies[producer._ate_address]
    assert measured(tally) == pytest.approx(3000, abs=STRIDES[-1])


# ---- the report of a stop ------------------------------------------------------------------------


def test_a_clean_stop():
    """Everything was delivered and every thread has ended."""
    report = StopReport(delivered=5, undelivered={}, alive=(), finished=True)
    assert report.clean is True


@pytest.mark.parametrize(
    "trouble",
    [
        {"undelivered": {"log": 2}},
        {"alive": (Straggler("dmm", "read"),)},
        {"finished": False},
        {"unsafe": ("supply",)},
    ],
)
def test_a_stop_that_was_not_clean(trouble):
    """Each trouble is enough."""
    fine = StopReport(delivered=5, undelivered={}, alive=(), finished=True)
    assert fine._replace(**trouble).clean is False


def test_a_straggler_says_who_and_where():
    """A name and a place, in this order."""
    assert Straggler._fields == ("name", "where")
    assert StopReport._fields == (
        *("delivered", "undelivered", "alive", "finished"),
        *("unsafe", "safe_errors"),
    )
