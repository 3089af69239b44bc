"""The decisions of the monitor: no thread, no socket, no clock."""

from __future__ import annotations

import json

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError
from ate_dispatcher.monitor._allowance import Allowance
from ate_dispatcher.monitor._picture import GONE, ROWS, SECONDS, Picture
from ate_dispatcher.monitor._requests import Door, check_token, is_loopback
from ate_dispatcher.monitor._station import Look
from ate_dispatcher.monitor._text import LONGEST, brief
from ate_dispatcher.monitor._watch import Change, Ended, Seen
from ate_dispatcher.timeline import End, Row, Sent, trace_of

TOKEN = "0123456789abcdef"


# ---- values in a few words -----------------------------------------------------------------------


class Raises:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5.25, "5.25"),
        (None, "None"),
        ("<b>", "'<b>'"),
        (float("nan"), "nan"),
        ({"a": [1, 2]}, "{'a': [1, 2]}"),
        (Raises(), "<Raises"),
        (10**5000, "a whole number of 16610 bits"),
        (b"x" * 10_000_000, "(10000000 bytes)"),
        ("x" * 10_000_000, "xxx"),
        (list(range(10**6)), "[0, 1, 2"),
    ],
    ids=["float", "none", "markup", "nan", "dict", "raises", "int", "bytes", "text", "list"],
)
def test_any_value_is_shown_in_few_words(value, shown):
    """Whatever a producer returns, and however large: never an error, never a long text."""
    text = brief(value)
    assert shown in text
    assert len(text) <= LONGEST


@pytest.mark.parametrize("kind", [dict.fromkeys, set, frozenset])
def test_of_a_large_collection_only_what_is_shown_is_looked_at(kind):
    """All of a recorded waveform by time would be sorted first, with the callbacks waiting."""
    compared = []

    class Key(int):
        def __lt__(self, other):
            compared.append(other)
            return int(self) < int(other)

    text = brief(kind([Key(number) for number in range(1000)]))
    assert "..." in text
    assert len(compared) < 100
    assert brief(kind([2, 1])) == repr(kind([1, 2]))


# ---- how much is looked at -----------------------------------------------------------------------


def test_an_allowance_comes_back_with_time():
    """As much a second as it says, up to a burst; what is left is kept."""
    allowance = Allowance(rate=10, sample=1, burst=5)
    assert allowance.renew(1000.0, left=5, happening=0) == 5
    assert allowance.renew(1000.05, left=2, happening=0) == 2
    assert allowance.renew(1000.2, left=2, happening=9) == 4
    assert allowance.renew(1003.0, left=4, happening=9) == 5


def test_where_too_much_happens_a_sample_is_looked_at():
    """And where less happens again, everything."""
    allowance = Allowance(rate=10, sample=1, burst=5)
    allowance.renew(1000.0, left=5, happening=0)
    assert allowance.renew(1000.9, left=0, happening=11) == 0
    assert allowance.renew(1001.0, left=0, happening=11) == 1
    assert allowance.renew(1001.5, left=0, happening=10) == 5


# ---- the picture ---------------------------------------------------------------------------------


def row(number=0, **more):
    given = {
        "topic": "voltage", "producer": "dmm0", "site": 0, "status": "OK", "reason": "",
        "phase": None, "since": None, "sent": 1.0 + number, "queued": 1.0 + number,
        "started": 1.0 + number, "ended": 1.25 + number, "seen": 1.25 + number,
    }  # fmt: skip
    return Row(**{**given, **more})


def station(answers=0, bad=0, **more):
    return Look({"name": "bench", "producers": [], **more}, {"dmm0": (answers, bad)})


def test_outcomes_become_one_message():
    """Numbered, with times since the epoch and what the page needs of each."""
    picture = Picture(offset=1000.0)
    said = json.loads(picture.add([Seen(row(), "5.01"), Seen(row(1, site="b"), "5.02")]))
    assert [each[0] for each in said["rows"]] == [1, 2]
    assert said["rows"][0][1:7] == ["voltage", "dmm0", 0, "OK", "5.01", ""]
    assert said["rows"][0][7:] == [1001.0, 1001.0, 1001.0, 1001.25, 1001.25, ""]
    assert said["rows"][1][3] == "b"


def test_nothing_new_is_no_message():
    """An idle station sends nothing, whoever looks."""
    picture = Picture(0.0)
    assert picture.add([]) == ""
    assert picture.look(station(), False, 10.0) != ""
    assert picture.look(station(), False, 10.3) == ""


def test_only_what_has_changed_is_told():
    """The list of topics is not sent again because a count has changed."""
    picture = Picture(0.0)
    picture.look(station(topics=[1], open=0), False, 10.0)
    said = json.loads(picture.look(station(topics=[1], open=2), False, 10.3))
    assert said["station"] == {"open": 2}


def test_a_snapshot_has_everything():
    """What a page that is opened later needs: the station, the plots and the outcomes."""
    picture = Picture(0.0)
    picture.look(station(answers=2, bad=1), False, 2.0)
    picture.add([Seen(row(), "a"), Seen(row(), "b")])
    said = json.loads(picture.snapshot(3.0))
    assert said["now"] == 3.0
    assert said["station"]["name"] == "bench"
    assert [each[5] for each in said["rows"]] == ["a", "b"]
    assert said["seconds"] == [[1, 0, 0, 0.25, 0.25], [2, 2, 1, None, None]]


def test_counts_become_rates():
    """What came since the last look belongs to its second; a new agent begins at zero."""
    picture = Picture(0.0)
    picture.look(station(answers=10, bad=1), False, 5.0)
    picture.look(station(answers=25, bad=2), False, 6.0)
    picture.look(station(answers=4, bad=0), False, 7.0)
    seconds = json.loads(picture.snapshot(8.0))["seconds"]
    assert [each[:3] for each in seconds] == [[5, 10, 1], [6, 15, 1], [7, 4, 0]]


def test_percentiles_of_a_second():
    """Half took no longer than p50, all but one in a hundred no longer than p99."""
    picture = Picture(0.0)
    latencies = [number / 1000 for number in range(1, 101)]
    picture.add([Seen(row(sent=9.0, ended=9.0 + each, seen=9.5), "") for each in latencies])
    assert json.loads(picture.snapshot(9.9))["seconds"] == [[9, 0, 0, 0.05, 0.099]]


def test_it_does_not_grow():
    """However long it goes on: rows, seconds, departed agents and records have bounds."""
    picture = Picture(0.0)
    for number in range(3 * ROWS):
        picture.add([Seen(row(number), ""), Change(f"p{number}", "stopped", float(number))])
        picture.look(station(answers=number), False, float(number))
    said = json.loads(picture.snapshot(float(3 * ROWS)))
    assert len(said["rows"]) == ROWS
    assert len(said["seconds"]) <= SECONDS
    assert len(said["station"]["gone"]) <= GONE
    assert len(picture.records(float(3 * ROWS))) <= 61


def test_an_agent_that_failed_is_named_until_it_is_back():
    """It has left the dispatcher; that it failed must still be seen."""
    picture = Picture(100.0)
    picture.add([Change("dmm0", "failed", 1.0)])
    said = json.loads(picture.look(Look({}, {}), False, 102.0))
    assert said["station"]["gone"] == [["dmm0", "failed", 101.0]]
    said = json.loads(picture.look(station(), False, 103.0))
    assert said["station"]["gone"] == []


def test_who_was_there_is_shown_when_the_dispatcher_has_stopped():
    """Its agents leave it then; the page is not empty because of that."""
    picture = Picture(0.0)
    dmm = {"name": "dmm0", "state": "busy", "busy": ["voltage", 1.0, ""], "depth": 3}
    before = {"state": "running", "producers": [dmm], "listeners": [], "topics": [1]}
    picture.look(Look(before, {}), False, 1.0)
    picture.look(Look({"state": "stopped", "producers": [], "topics": []}, {}), False, 2.0)
    picture.look(Look({"state": "stopped", "producers": [], "topics": []}, {}), False, 3.0)
    shown = json.loads(picture.snapshot(3.0))["station"]
    assert shown["producers"] == [{"name": "dmm0", "state": "stopped", "busy": None, "depth": 0}]
    assert shown["topics"] == [1]


def test_a_request_that_nobody_took_is_shown():
    """It has no outcome; without this nobody would see why nothing happens."""
    picture = Picture(0.0)
    sent = Sent("volts", 1.0, 1.0, 100.0, 0)
    end = End("volts", 1.0, "NO_PRODUCERS", 1.5)
    said = json.loads(picture.add([Ended(sent, end, "no producer for 'volts'")]))
    assert said["rows"][0][1:7] == [
        "volts",
        "",
        None,
        "NO_PRODUCERS",
        "",
        "no producer for 'volts'",
    ]


def test_the_trace_is_of_the_last_minute():
    """Drawn by the timeline's own rules."""
    picture = Picture(0.0)
    for number in (0, 100):
        sent = Sent("voltage", 1.0 + number, 1.0 + number, 500.0, 1)
        end = End("voltage", sent.sent, "COMPLETE", 1.3 + number)
        picture.add([Seen(row(number, sent=sent.sent), "5"), Ended(sent, end, "")])
    records = picture.records(110.0)
    assert len(records) == 3
    names = [event["name"] for event in trace_of(records, "bench")["traceEvents"]]
    assert names.count("voltage") == 2  # scattered, and worked on
    assert "request voltage" in names


def test_nothing_from_the_bench_breaks_a_message():
    """Half a surrogate pair, line ends and markup go over the wire as JSON in ASCII."""
    nasty = "\ud800</script>\r\n\x00data: x"
    text = Picture(0.0).add([Seen(row(topic=nasty, reason=nasty), nasty)])
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text)["rows"][0][1] == nasty


# ---- who may come in -----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_only_this_machine_reaches_loopback(host):
    """There no token is demanded."""
    assert is_loopback(host)
    assert check_token(None, host) is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "bench.example", "127.0.0.1.evil"]
)
def test_beyond_this_machine_a_token_is_demanded(host):
    """And said so at the call."""
    with pytest.raises(InvalidArgumentError, match=r"needs token=.*secrets\.token_urlsafe"):
        check_token(None, host)
    assert check_token(TOKEN, host) == TOKEN


@pytest.mark.parametrize(
    "token", ["", "short", "a" * 15, "with a space in it", "ä" * 20, "\n" * 20]
)
def test_a_token_that_is_none(token):
    """Too short, or not to be typed into a header; the error does not tell it."""
    with pytest.raises(InvalidArgumentError, match="at least 16") as error:
        check_token(token, "127.0.0.1")
    assert not token or token not in str(error.value)
    with pytest.raises(InvalidTypeError, match="not int"):
        check_token(12345678901234567, "127.0.0.1")


def test_hosts_that_are_ours():
    """An address, or a name of ours, with our port; exactly one header."""
    door = Door("127.0.0.1", 8123, None)
    for host in ("127.0.0.1:8123", "localhost:8123", "LOCALHOST:8123", "[::1]:8123"):
        assert door.knows_host([host]), host
    for host in (
        "evil.example:8123",
        "127.0.0.1:9",
        "127.0.0.1",
        "localhost",
        "",
        ":8123",
        "[::1]",
    ):
        assert not door.knows_host([host]), host
    assert not door.knows_host([])
    assert not door.knows_host(["127.0.0.1:8123"] * 2)


def test_who_is_admitted():
    """The cookie, or the token itself as a header; nothing near it."""
    door = Door("0.0.0.0", 80, TOKEN)
    assert TOKEN not in door.cookie
    assert door.admits([f"x=1; {door.cookie_name}={door.cookie}"], "")
    assert door.admits([], f"Bearer {TOKEN}")
    assert not door.admits([], "")
    assert not door.admits([f"{door.cookie_name}={TOKEN}"], f"Bearer {TOKEN}x")
    assert not door.admits(["ä=ü; ;=;"], "Bearer ä")
    assert door.has_key(f"token={TOKEN}")
    assert not any(map(door.has_key, ("", "token=", "token=x", f"token={TOKEN}&token={TOKEN}")))
    assert Door("0.0.0.0", 80, "of+base64/with==").has_key("token=of+base64/with==")
    assert Door("0.0.0.0", 80, TOKEN).cookie == door.cookie  # it outlives a restart


def test_without_a_token_everybody_on_the_machine_is_admitted():
    """It is for looking only, and only from there."""
    assert Door("127.0.0.1", 80, None).admits([], "")
