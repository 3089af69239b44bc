"""The timeline: what is drawn of what happened, and the rules that a trace file has to keep."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from trace_rules import validated

from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    InvalidArgumentError,
    InvalidTypeError,
    Observer,
    Outcome,
    OutcomeStatus,
    Phase,
    current_request,
)
from ate_dispatcher._address import Address
from ate_dispatcher._ledger import Ledger
from ate_dispatcher._outcomes import Failure
from ate_dispatcher.testing import Delay, Gate, ScriptedProducer
from ate_dispatcher.timeline import End, Mishap, Row, Sent, Timeline, row_of, trace_of

# ---- the rules that the other tests rely on ------------------------------------------------------

LANE = {"pid": 1, "tid": 1}
NAMED = {**LANE, "ph": "M", "name": "thread_name", "args": {"name": "dmm"}}
BEGIN = {**LANE, "ph": "b", "name": "n", "cat": "c", "id": "1", "ts": 5}
ARROW = {**LANE, "ph": "s", "name": "n", "cat": "c", "id": 1, "ts": 5}


def bar(begin, end):
    return {**LANE, "ph": "X", "name": "n", "ts": begin, "dur": end - begin}


@pytest.mark.parametrize(
    "events",
    [
        [{**LANE, "ph": "Q", "name": "n", "ts": 0}],
        [{**LANE, "ph": "X", "name": "n", "ts": 0}],
        [bar(-1, 2)],
        [bar(3, 2)],
        [bar(3, 4), bar(1, 2)],
        [bar(1, 3), bar(2, 4)],
        [{**bar(1, 2), "tid": 7}],
        [{**bar(1, 2), "args": {"ttl": math.nan}}],
        [BEGIN],
        [{**BEGIN, "ph": "e"}],
        [BEGIN, BEGIN, {**BEGIN, "ph": "e"}, {**BEGIN, "ph": "e"}],
        [BEGIN, {**BEGIN, "ph": "e", "id": "2"}],
        [bar(5, 9), ARROW],
        [ARROW, {**ARROW, "ph": "f", "bp": "e"}],
    ],
)
def test_the_validator_finds(events):
    """What the other tests rely on can fail: one mistake each."""
    with pytest.raises((AssertionError, ValueError)):
        validated({"traceEvents": [NAMED, *events]})


def test_the_validator_lets_pass():
    """Bars that touch, are nested or are alike; pairs; an arrow."""
    arrow_ends = {**ARROW, "ph": "f", "bp": "e"}
    events = [bar(0, 1), bar(1, 9), bar(2, 4), bar(2, 4), bar(4, 9), BEGIN, ARROW, arrow_ends]
    events = [*events, {**BEGIN, "ph": "e"}]
    assert validated({"traceEvents": [NAMED, *events]})


# ---- from what happened to a trace: no thread, no clock ------------------------------------------


class Story:
    """Tells a timeline's records, in seconds from the start."""

    def __init__(self):
        self.records = []

    def request(self, sent=0.0, queued=None, topic="t", ttl=1000, roster=1):
        moment = float(repr(100.0 + sent))  # an object of its own, like every stamp
        queued = moment if queued is None else 100.0 + queued
        self.records.append(Sent(topic, moment, queued, ttl, roster))
        return self.records[-1]

    def row(self, request, producer="dmm", status="OK", **fields):
        known = {
            name: 100.0 + fields.pop(name)
            for name in ("since", "started", "ended", "seen")
            if fields.get(name) is not None
        }
        row = Row(
            request.topic, producer, fields.pop("site", None), status, fields.pop("reason", ""),
            fields.pop("phase", None), known.get("since"), request.sent, request.queued,
            known.get("started"), known.get("ended"),
            known.get("seen", known.get("ended", 100.0)), fields.pop("late", ""),
            fields.pop("waited", None),
        )  # fmt: skip
        assert not fields
        self.records.append(row)
        return row

    def end(self, request, status="COMPLETE", seen=0.0):
        self.records.append(End(request.topic, request.sent, status, 100.0 + seen))

    def drawn(self):
        return validated(trace_of(self.records))


@pytest.fixture
def story():
    return Story()


def named(events, **fields):
    """Give the events with these fields."""
    return [e for e in events if all(e.get(name) == value for name, value in fields.items())]


def one(events, **fields):
    (event,) = named(events, **fields)
    return event


def lane_names(events):
    return {e["tid"]: e["args"]["name"] for e in named(events, name="thread_name")}


def lane_of(events, event):
    return lane_names(events)[event["tid"]]


def times(events, **fields):
    """Give begin and end, in seconds, of each bar with these fields."""
    found = []
    for event in named(events, **fields):
        if event["ph"] == "X":
            found.append((event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6))
        elif event["ph"] == "b":
            end = one(events, ph="e", cat=event["cat"], id=event["id"])
            found.append((event["ts"] / 1e6, end["ts"] / 1e6))
    return found


def test_nothing_happened():
    """The dispatcher's lane, and nothing on it."""
    events = validated(trace_of([], "station"))
    assert lane_names(events) == {1: "station"}
    assert one(events, name="process_name")["args"] == {"name": "station"}
    assert {event["ph"] for event in events} == {"M"}


def test_an_answer_is_drawn_from_sending_to_end(story):
    """Sent, scattered, queued, worked on, ended; an arrow from the scatter to the work."""
    request = story.request(sent=0.0, queued=0.25, topic="voltage", ttl=5000, roster=1)
    story.row(request, started=0.5, ended=0.75, site=2)
    story.end(request, seen=1.0)
    events = story.drawn()
    assert times(events, cat="request") == [(0.0, 0.75)]
    assert times(events, cat="scatter") == [(0.25, 0.250001)]
    assert times(events, cat="queued") == [(0.25, 0.5)]
    assert times(events, cat="running") == [(0.5, 0.75)]
    work = one(events, cat="running")
    assert (lane_of(events, work), work["name"]) == ("dmm", "voltage")
    assert work["args"] == {"request": 1, "site": 2, "status": "OK", "reason": "", "late": ""}
    said = one(events, cat="request", ph="b")["args"]
    assert said == {"request": 1, "ttl_ms": 5000, "roster": 1, "status": "COMPLETE"}
    start, end = one(events, ph="s"), one(events, ph="f")
    assert (lane_of(events, start), start["ts"]) == ("dispatcher", 250_000)
    assert (lane_of(events, end), end["ts"], end["bp"]) == ("dmm", 500_000, "e")
    assert named(events, ph="i") == []
    assert "cname" not in work


def test_a_clock_may_begin_at_zero():
    """A stamp of 0.0 is a stamp."""
    zero, one_second = 0.0, float("1.0")
    rows = [
        Row("t", "dmm", None, "OK", "", None, None, one_second, 1.0, 1.0, 1.0, 1.0),
        Row("t", "dmm", None, "OK", "", None, None, zero, 0.0, 0.0, 1.0, 1.0),
    ]
    events = validated(trace_of(rows))
    assert times(events, cat="running") == [(0.0, 1.0), (1.0, 1.0)]
    assert set(lane_names(events).values()) == {"dispatcher", "dmm"}


def test_each_producer_has_a_lane_and_lanes_stand_in_the_order_of_names(story):
    """Whoever answered first; the dispatcher stands above them."""
    request = story.request(roster=3)
    for name in ("dmm2", "dmm0", "dmm1"):
        story.row(request, name, started=0.1, ended=0.2)
    events = story.drawn()
    places = {
        lane_of(events, e): e["args"]["sort_index"] for e in named(events, name="thread_sort_index")
    }
    assert places == {"dispatcher": 0, "dmm0": 1, "dmm1": 2, "dmm2": 3}
    assert len(named(events, ph="f")) == 3


def test_queued_rows_of_one_producer_lie_across_each_other(story):
    """Three requests wait at once: each has a bar of its own, off the lane."""
    requests = [story.request(sent=n / 10) for n in range(3)]
    for n, request in enumerate(requests):
        story.row(request, started=1.0 + n, ended=2.0 + n)
    events = story.drawn()
    assert times(events, cat="queued") == [(0.0, 1.0), (0.1, 2.0), (0.2, 3.0)]
    assert {e["name"] for e in named(events, cat="queued")} == {"dmm queued"}
    assert times(events, cat="running") == [(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]


def test_what_was_scattered_in_one_turn_is_one_bar(story):
    """The dispatcher stamps a turn once; every arrow begins in that bar."""
    for n in range(3):
        story.row(
            story.request(sent=0.0, queued=0.5, topic=f"t{n}"), started=0.6 + n, ended=0.7 + n
        )
    events = story.drawn()
    assert one(events, cat="scatter")["name"] == "3 requests"
    assert {e["ts"] for e in named(events, ph="s")} == {500_000}


def test_requests_sent_at_the_same_time_are_not_mixed_up(story):
    """Where the clock is coarse two requests have equal stamps: their objects tell them apart."""
    one_request, other = story.request(), story.request()
    story.row(other, started=2.0, ended=3.0)
    story.row(one_request, started=1.0, ended=2.0)
    story.end(other, "COMPLETE", seen=3.0)
    story.end(one_request, "EXPIRED", seen=2.0)
    events = story.drawn()
    assert [e["args"]["request"] for e in named(events, cat="running")] == [1, 2]
    said = [e["args"]["status"] for e in named(events, cat="request", ph="b")]
    assert said == ["EXPIRED", "COMPLETE"]


def test_a_timeout_is_marked_at_its_deadline(story):
    """Running then: the bar ends there, whenever the timeline heard of it."""
    request = story.request(ttl=1000)
    why = "still running after 0.500 s"
    story.row(
        request, status="TIMEOUT", phase=Phase.RUNNING, since=0.5, started=0.5, seen=1.2, reason=why
    )
    events = story.drawn()
    assert times(events, cat="running") == [(0.5, 1.0)]
    work, mark = one(events, cat="running"), one(events, ph="i")
    assert (work["args"]["status"], work["args"]["reason"]) == ("TIMEOUT", why)
    assert work["cname"] == "terrible"
    assert (mark["name"], mark["ts"], lane_of(events, mark)) == ("timed out", 1_000_000, "dmm")
    assert mark["args"] == {"request": 1, "topic": "t", "reason": why}


def test_a_row_that_never_began_is_queued_to_its_end(story):
    """No work, no arrow; the mark stands on the producer's lane."""
    request = story.request(ttl=1000)
    story.row(request, status="TIMEOUT", phase=Phase.QUEUED, since=0.0, seen=1.1)
    events = story.drawn()
    assert times(events, cat="queued") == [(0.0, 1.0)]
    assert named(events, cat="running") == named(events, cat="flow") == []
    assert lane_of(events, one(events, ph="i")) == "dmm"


def test_waiting_for_a_resource_is_told_from_being_queued(story):
    """Where the outcome tells of it: queued until its turn, then waiting."""
    request = story.request(ttl=1000)
    why = "waited for 'GPIB0', held by 'scope'"
    story.row(request, status="TIMEOUT", phase=Phase.RESOURCE, since=0.25, seen=1.0, reason=why)
    events = story.drawn()
    assert times(events, cat="queued") == [(0.0, 0.25)]
    assert times(events, cat="resource") == [(0.25, 1.0)]
    waiting = one(events, cat="resource", ph="b")
    assert waiting["name"] == "dmm waits for a resource"
    assert waiting["args"]["reason"] == why


@pytest.mark.parametrize("status", ["OK", "ERROR", "TIMEOUT"])
def test_a_wait_for_a_resource_that_was_had_in_the_end_is_drawn(story, status):
    """Queued, waiting, running; of a row that was closed meanwhile the late answer tells it."""
    request = story.request(ttl=1000)
    why = "waiting for resource 'GPIB0', held by 'scope'"
    told = {"started": 0.75, "ended": 1.5, "waited": (100.25, why)}
    if status == "TIMEOUT":
        story.row(request, status="TIMEOUT", phase=Phase.RUNNING, started=0.75, seen=1.0)
        story.row(request, late="late", **told)
    else:
        story.row(request, status=status, **told)
    events = story.drawn()
    assert times(events, cat="queued") == [(0.0, 0.25)]
    assert times(events, cat="resource") == [(0.25, 0.75)]
    assert times(events, cat="running") == [(0.75, 1.5)]
    assert one(events, cat="resource", ph="b")["args"]["reason"] == why


@pytest.mark.parametrize("order", ["closed first", "late first"])
def test_a_late_answer_lengthens_the_bar_that_was_closed_without_it(story, order):
    """The producer's thread was busy until then; deadline and lateness are both marked."""
    request = story.request(ttl=1000)
    later = story.request(sent=2.0)
    rows = [
        {"status": "TIMEOUT", "phase": Phase.RUNNING, "since": 0.5, "started": 0.5, "seen": 1.0},
        {"status": "OK", "started": 0.5, "ended": 3.0, "late": "late"},
    ]
    for fields in rows if order == "closed first" else reversed(rows):
        story.row(request, **fields)
    story.row(later, started=3.0, ended=3.5)
    events = story.drawn()
    assert times(events, cat="running") == [(0.5, 3.0), (3.0, 3.5)]
    assert set(lane_names(events).values()) == {"dispatcher", "dmm"}
    late = named(events, cat="running")[0]
    assert (late["args"]["status"], late["args"]["late"]) == ("TIMEOUT", "late")
    assert [(e["name"], e["ts"]) for e in named(events, ph="i")] == [
        ("timed out", 1_000_000),
        ("late", 3_000_000),
    ]


def test_a_late_answer_whose_row_was_dropped_is_drawn_by_itself(story):
    """The oldest records go first: what is left still keeps the rules."""
    request = story.request()
    story.row(request, started=0.5, ended=3.0, late="late, though stamped in time")
    del story.records[0]
    events = story.drawn()
    assert times(events, cat="running") == [(0.5 - 0.0, 3.0)]
    assert [e["name"] for e in named(events, ph="i")] == ["late, though stamped in time"]
    assert one(events, cat="scatter")["name"] == "t"


def test_what_came_late_and_did_not_end_well_is_marked_once(story):
    """Where its row is not there: as late, and its status is with the bar."""
    story.row(story.request(), status="ERROR", started=0.5, ended=3.0, late="late")
    events = story.drawn()
    assert [e["name"] for e in named(events, ph="i")] == ["late"]
    assert one(events, cat="running")["args"]["status"] == "ERROR"


@pytest.mark.parametrize("status", ["ERROR", "CANCELLED", "REJECTED", "NOT_NEEDED"])
def test_what_did_not_end_well_is_marked(story, status):
    """By its status, where it ended."""
    request = story.request()
    story.row(request, status=status, started=0.5, ended=0.75, reason="why")
    events = story.drawn()
    mark = one(events, ph="i")
    assert (mark["name"], mark["ts"], mark["args"]["reason"]) == (status, 750_000, "why")
    assert one(events, cat="running")["cname"] == "bad"


def test_work_that_runs_side_by_side_has_lanes_side_by_side(story):
    """A pool works on two at once: two lanes, the first used again when it is free."""
    spans = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]
    for started, ended in spans:
        story.row(story.request(), "pool", started=started, ended=ended)
    events = story.drawn()
    lanes = [lane_of(events, e) for e in named(events, cat="running")]
    assert lanes == ["pool", "pool 2", "pool"]
    assert times(events, cat="running") == spans


def test_values_of_a_stream_are_marks(story):
    """The bar is the stream's; a value that came late says so."""
    request = story.request()
    story.row(request, status="PARTIAL", started=0.0, ended=0.25)
    story.row(request, status="PARTIAL", started=0.0, ended=0.75, late="late")
    story.row(request, started=0.0, ended=0.5)
    events = story.drawn()
    assert times(events, cat="running") == [(0.0, 0.5)]
    marks = [(e["name"], e["ts"]) for e in named(events, ph="i")]
    assert marks == [("partial", 250_000), ("late", 750_000)]


@pytest.mark.parametrize(
    ("status", "end"), [("COMPLETE", 0.75), ("EXPIRED", 2.0), ("CANCELLED", 9.0)]
)
def test_a_request_ends_when_it_ended_not_when_the_timeline_heard_of_it(story, status, end):
    """With its last answer or at its deadline; of a cancel nobody stamped when."""
    request = story.request(ttl=2000, roster=3)
    story.row(request, "dmm0", started=0.25, ended=0.75)
    story.row(request, "dmm1", started=0.25, ended=0.5)
    story.row(request, "dmm2", started=0.25, ended=3.0, late="late")
    story.end(request, status, seen=9.0)
    story.request(sent=20.0)
    assert times(story.drawn(), cat="request") == [(0.0, end), (20.0, 20.0)]


def test_an_open_request_reaches_to_the_end_of_the_picture(story):
    """It has begun, so it is ended; that it is open is said."""
    request = story.request(ttl=None)
    story.row(request, started=0.5, ended=2.0)
    story.request(sent=3.0)
    events = story.drawn()
    assert times(events, cat="request") == [(0.0, 3.0), (3.0, 3.0)]
    said = [e["args"] for e in named(events, cat="request", ph="b")]
    assert [each["status"] for each in said] == ["OPEN", "OPEN"]
    assert said[0]["ttl_ms"] is None


def test_a_listener_that_raised_is_marked_on_a_lane_of_its_own(story):
    """With the kind of the error; its text may hold anything."""
    story.records.append(Mishap("log", "KeyError", 100.0))
    events = story.drawn()
    mark = one(events, ph="i")
    assert (mark["name"], lane_of(events, mark)) == ("raised KeyError", "log")


def test_bars_that_touch_do_not_overlap_after_rounding(story):
    """Stamps are seconds with sixteen digits, a trace has microseconds."""
    moment = 0.1
    for n in range(200):
        request = story.request(sent=moment)
        end = moment + 1e-7 * (n % 7) / 3
        story.row(request, started=moment, ended=end)
        moment = end
    events = story.drawn()
    assert set(lane_names(events).values()) == {"dispatcher", "dmm"}


def test_how_many_records_are_missing_is_told():
    """A picture without its beginning does not pretend."""
    assert trace_of([], dropped=7)["otherData"] == {"dropped": 7}


def test_a_row_keeps_neither_value_nor_exception():
    """What was measured may be large, or secret; a picture needs neither."""
    ledger = Ledger("t", 1000, 100.0)
    address = Address("dmm", 3)
    row = row_of(Outcome(ledger, address, object(), 100.5, 100.75), 101.0)
    assert row == Row(
        "t", "dmm", 3, "OK", "", None, None, 100.0, 100.0, 100.5, 100.75, 101.0, "", None
    )  # fmt: skip
    assert row.sent is ledger.sent
    failure = Failure(
        ledger, address, OutcomeStatus.TIMEOUT, "why", 100.5, phase=Phase.RUNNING, since=100.5
    )
    row = row_of(failure, 102.0, "late")
    assert row[3:7] == ("TIMEOUT", "why", Phase.RUNNING, 100.5)
    assert row[9:] == (100.5, None, 102.0, "late", None)


# ---- watching a dispatcher -----------------------------------------------------------------------


def test_the_file_of_a_real_run_keeps_the_rules(tmp_path):
    """Several producers and senders, a pool, a stream, errors, timeouts, lates, a cancel."""
    gate = Gate()
    with ATEDispatcher(name="station") as dispatcher:
        timeline = Timeline(dispatcher)
        for site in range(4):
            dispatcher.add(ScriptedProducer(site, name=f"dmm{site}", site=site), "t")
        dispatcher.add(ScriptedProducer(KeyError("x"), name="broken"), "t")
        dispatcher.add(ExecutorProducer(lambda t: 1, ThreadPoolExecutor, 3, name="pool"), "t")
        dispatcher.add(ScriptedProducer(gate, name="stuck"), "stuck")
        dispatcher.listener("t", name="log")(lambda topic, value: 1 / 0)

        @dispatcher.producer("t", "stream")
        def stream(topic):
            yield 1
            yield 2

        def send():
            for _ in range(50):
                dispatcher.send_request("t", ttl=60_000)

        senders = [threading.Thread(target=send) for _ in range(3)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert dispatcher.flush(30)
        late = dispatcher.send_request("stuck", ttl=300)
        queued = dispatcher.send_request("stuck", ttl=300)
        gate.wait_parked()
        assert late.wait(30)
        assert queued.wait(30)
        gate.open()
        with dispatcher.send_request("stuck", ttl=60_000):
            pass
        assert dispatcher.send_request("nobody").wait(30)
        assert dispatcher.flush(30)
    path = tmp_path / "run.json"
    timeline.save(path)
    trace = json.loads(path.read_text(encoding="utf-8"))
    events = validated(trace)
    assert trace["otherData"] == {"dropped": 0}
    names = lane_names(events)
    lanes = set(names.values())
    agents = {"dmm0", "dmm1", "dmm2", "dmm3", "broken", "pool", "stuck", "stream", "log"}
    assert {"station", *agents} <= lanes <= {"station", *agents, "pool 2", "pool 3"}
    for name in ("dmm0", "dmm3", "broken", "stream"):
        bars = [e for e in named(events, cat="running") if names[e["tid"]] == name]
        assert len(bars) == 150, name
    assert len(named(events, cat="request", ph="b")) == 154
    marks = {e["name"] for e in named(events, ph="i")}
    assert {"ERROR", "timed out", "late", "partial", "raised ZeroDivisionError"} <= marks


def test_it_may_be_saved_in_the_middle(dispatcher, tmp_path):
    """Everything that the saving thread has seen end is in the file; recording goes on."""
    timeline = Timeline(dispatcher)
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    for count, ttl in ((1, 60_000), (2, math.inf)):
        assert dispatcher.send_request("t", ttl=ttl).wait(30)
        timeline.save(tmp_path / "run.json")
        events = validated(json.loads((tmp_path / "run.json").read_text(encoding="utf-8")))
        assert len(named(events, cat="running")) == count
        statuses = [e["args"]["status"] for e in named(events, cat="request", ph="b")]
        assert statuses == ["COMPLETE"] * count


def test_of_too_much_the_oldest_is_dropped_and_counted(dispatcher):
    """A station runs for weeks: the picture is of the end, its size is fixed."""
    timeline = Timeline(dispatcher, limit=6)
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    for _ in range(5):
        assert dispatcher.send_request("t", ttl=60_000).wait(30)
    trace = timeline.trace()
    assert trace["otherData"] == {"dropped": 9}
    assert (len(timeline), timeline.dropped) == (6, 9)
    assert len(named(validated(trace), cat="running")) == 2
    timeline.clear()
    assert (len(timeline), timeline.dropped) == (0, 0)


def test_leaving_the_with_block_ends_the_watching(dispatcher):
    """What was seen stays; attached again it sees again; doing either twice is once."""
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    with Timeline(dispatcher) as timeline:
        timeline.attach()
        assert dispatcher.send_request("t", ttl=60_000).wait(30)
    timeline.detach()
    assert dispatcher.send_request("t", ttl=60_000).wait(30)
    assert len(named(timeline.trace()["traceEvents"], cat="running")) == 1
    timeline.attach()
    assert dispatcher.send_request("t", ttl=60_000).wait(30)
    assert len(named(timeline.trace()["traceEvents"], cat="running")) == 2


def test_not_attached_it_costs_nothing(dispatcher):
    """Observers: with none nobody is told, no callback is posted."""
    dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    with Timeline(dispatcher):
        assert dispatcher.send_request("t", ttl=60_000).wait(30)
        assert dispatcher._tell_outcome is not None
    assert dispatcher.send_request("t", ttl=60_000).wait(30)  # behind the detaching
    told = dispatcher._tell_request, dispatcher._tell_outcome, dispatcher._tell_end
    assert told == (None, None, None)


def test_a_running_producer_may_save_and_so_may_an_observer(dispatcher, tmp_path, monkeypatch):
    """On threads of the library nothing waits for itself."""
    monkeypatch.setattr("ate_dispatcher.timeline._PATIENCE", 60.0)
    timeline = Timeline(dispatcher)
    saved = threading.Event()

    class Saver(Observer):
        def on_end(self, request):
            timeline.save(tmp_path / "observer.json")
            saved.set()

    dispatcher.add_observer(Saver())

    @dispatcher.producer("t")
    def dmm(topic):
        timeline.save(tmp_path / "producer.json")
        return current_request().topic

    assert dispatcher.send_request("t", ttl=60_000).gather(30).values == {"dmm": "t"}
    assert saved.wait(30)
    for name in ("observer", "producer"):
        validated(json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")))


def test_a_manual_clock_is_drawn_as_it_goes(timed, clock):
    """Every stamp of the picture is of the dispatcher's clock."""
    timeline = Timeline(timed)
    timed.add(ScriptedProducer(Delay(0.5), name="dmm"), "t")
    requests = [timed.send_request("t", ttl=60_000) for _ in range(2)]
    assert timed.send_request("nobody").wait(30)
    for request in requests:
        clock.wait_sleeping()
        clock.advance(0.5)
        assert request.wait(30)
    events = validated(timeline.trace())
    assert times(events, cat="running") == [(0.0, 0.5), (0.5, 1.0)]
    assert times(events, cat="queued") == [(0.0, 0.0), (0.0, 0.5)]


@pytest.mark.parametrize(
    ("in_time", "says"), [(True, "late, though stamped in time"), (False, "late")]
)
def test_a_late_answer_says_how_late(dispatcher, in_time, says):
    """Whether the producer was late, or what carried its answer."""
    timeline = Timeline(dispatcher)
    ledger = Ledger("t", 1000, 100.0)
    timeline.on_late(Outcome(ledger, Address("dmm"), 1, 100.5, 100.75), in_time)
    assert one(validated(timeline.trace()), ph="i")["name"] == says


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(dispatcher, tmp_path):
    """As `open` says it; what was seen is still there."""
    timeline = Timeline(dispatcher)
    with pytest.raises(OSError, match="nowhere"):
        timeline.save(tmp_path / "nowhere" / "run.json")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_keeps_nothing_is_refused(dispatcher, limit):
    """When it is made, and nothing is attached then."""
    with pytest.raises(InvalidArgumentError, match=str(limit)):
        Timeline(dispatcher, limit=limit)
    assert dispatcher._observers == ()


@pytest.mark.parametrize("limit", [True, 1.5, "many", None])
def test_a_limit_is_a_whole_number(dispatcher, limit):
    """With the value in the message."""
    with pytest.raises(InvalidTypeError, match=repr(limit)):
        Timeline(dispatcher, limit=limit)


def test_a_timeline_is_of_a_dispatcher():
    """Nothing else can be watched."""
    with pytest.raises(InvalidTypeError, match="ATEDispatcher"):
        Timeline("dispatcher")
