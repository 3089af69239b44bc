"""The recorders: what they write, when it is safe, and what happens where they cannot."""

from __future__ import annotations

import csv
import errno
import itertools
import logging
import os
import re
import signal
import sqlite3
import stat as stat_module
import subprocess
import sys
from pathlib import Path

import pytest
from runs import run, stream, told

from ate_dispatcher import (
    ATEDispatcher,
    InvalidArgumentError,
    InvalidTypeError,
    NotARecordingError,
    OutcomeStatus,
    RecordingError,
)
from ate_dispatcher.record import (
    CSVRecorder,
    Gap,
    JSONLinesRecorder,
    RecordedOutcome,
    RecordedRequest,
    Recorder,
    SQLiteRecorder,
    _formats,
    read,
)
from ate_dispatcher.record import _append_file as append_file
from ate_dispatcher.record._sqlite import SQLiteFile
from ate_dispatcher.testing import ScriptedProducer

# ---- what is recorded ----------------------------------------------------------------------------


def test_what_is_read_is_what_listeners_heard(kind, path):
    """Topic, producer, site, status, value, tags and order; of ends the roster and the values."""
    recorder = kind(path)
    heard = run(recorder)
    events = list(read(path))
    assert list(map(told, events)) == list(map(told, heard.events))
    assert recorder.recorded == len(events) == len(heard.events)
    assert recorder.lost == 0


def test_an_outcome_that_is_read_is_an_outcome(kind, path):
    """With its times in seconds since the epoch, its exception and its traceback."""
    run(kind(path), requests=1)
    good, bad = sorted(
        (e for e in read(path) if isinstance(e, RecordedOutcome) and e.topic == "v"),
        key=lambda outcome: outcome.producer,
    )
    assert good.exact
    assert 0 <= good.time - good.sent < 60
    assert good.sent <= good.queued <= good.started <= good.ended <= good.time + 1e-5
    assert abs(os.stat(path).st_mtime - good.sent) < 120
    assert good.as_dict()["value"] == 5.01
    assert bad.exception.type_name == "KeyError"
    assert "KeyError: 'no'" in bad.traceback
    assert "in _perform" in bad.traceback


def test_a_request_that_is_read_can_be_asked_everything(kind, path):
    """It has ended, so nothing waits."""
    run(kind(path), requests=1)
    requests = {e.topic: e for e in read(path) if isinstance(e, RecordedRequest)}
    v = requests["v"]
    assert (v.args, dict(v.kwargs), v.ttl, v.exact) == ((0,), {"slope": 1.5}, 60_000, True)
    assert v.wait(delivered=True)
    assert v.gather() is v.future().result(1) is v
    assert [o.producer for o in v] == [o.producer for o in v.outcomes] or len(list(v)) == 2
    assert {site: len(outcomes) for site, outcomes in v.by_site().items()} == {0: 1, "left": 1}
    assert [o.producer for o in v.failed] == ["b"]
    assert (v.remaining(), v.cancelled) == (0.0, True)
    assert requests["stream"].values == {"s": [1, 2, 3]}
    assert [o.value for o in requests["stream"]] == [1, 2, 3]
    assert "no producer" in requests["nobody"].reason
    assert [o.status for o in requests["late"].missing] == [OutcomeStatus.TIMEOUT]
    assert v.laggards() == ()


def test_requests_at_the_same_instant_are_kept_apart(kind, path, timed, clock):
    """Two requests on one topic, sent when the clock showed the same."""
    timed.add(kind(path, clock=clock), "v")
    timed.add(ScriptedProducer(1, 2, 3, name="a"), "v")
    requests = [timed.send_request("v", ttl=60_000) for _ in range(3)]
    assert all(request.wait(30) for request in requests)
    assert timed.flush(30)
    ends = [e for e in read(path) if isinstance(e, RecordedRequest)]
    assert [end.values["a"] for end in ends] == [1, 2, 3]


def test_a_value_without_a_form_is_flagged(kind, path, dispatcher):
    """It is its repr, and the event says that it is not exact."""
    dispatcher.add(kind(path), "v")
    dispatcher.add(ScriptedProducer([1, object], name="a"), "v")
    assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    outcome = next(iter(read(path)))
    assert outcome.value[0] == 1
    assert outcome.value[1].text == "<class 'object'>"
    assert not outcome.exact


def test_a_database_can_be_asked_in_sql(tmp_path):
    """Numbers are numbers there."""
    run(SQLiteRecorder(tmp_path / "run.db"), requests=1)
    database = sqlite3.connect(str(tmp_path / "run.db"))
    query = "select avg(value), typeof(value), typeof(site) from events where producer = 'a'"
    assert database.execute(query).fetchone() == (5.01, "real", "integer")
    database.close()


def test_a_database_is_read_without_a_trace(tmp_path, dispatcher, monkeypatch):
    """No file of SQLite's own is left beside it, and its locks on one being written stay.

    Any file handle to a database that is closed in this process takes them away, so none is made.
    """
    path = tmp_path / "run.db"
    run(SQLiteRecorder(path), requests=1)
    count = len(list(read(path)))
    assert list(tmp_path.iterdir()) == [path]
    dispatcher.add(SQLiteRecorder(path), "v")
    assert dispatcher.send_request("v").wait(10, delivered=True)
    monkeypatch.setattr(_formats, "open", None, raising=False)
    assert len(list(read(path))) == count + 1


def test_a_csv_row_is_a_line_of_readable_cells(tmp_path):
    """As a spreadsheet shows it."""
    run(CSVRecorder(tmp_path / "run.csv"), requests=1)
    text = (tmp_path / "run.csv").read_text(encoding="utf-8").splitlines()
    assert text[0].startswith("event,time,request,topic,producer,site,status,value,reason,")
    assert any(",v,a,0,OK,5.01," in line for line in text)


def test_a_value_of_any_size_is_read_back(kind, path):
    """A waveform: as text it is longer than the cells that `csv` reads by default."""
    waveform = [0.123456789] * 20_000
    with ATEDispatcher() as dispatcher:
        dispatcher.add(kind(path), "v")
        dispatcher.add(ScriptedProducer(waveform, name="scope"), "v")
        assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    limit = csv.field_size_limit()
    outcome, end = read(path)
    assert outcome.value == end.values["scope"] == waveform
    assert csv.field_size_limit() == limit


# ---- files that are there, parts -----------------------------------------------------------------


def test_a_recording_is_continued(kind, path):
    """A second recorder appends; the requests of the two are kept apart."""
    first, second = run(kind(path), 2), run(kind(path), 1)
    assert list(map(told, read(path))) == [told(e) for e in first.events + second.events]


@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
def test_a_request_that_was_cut_off_does_not_mix_with_a_later_one(recorder, tmp_path):
    """Another recorder counts its requests from one again."""
    path = tmp_path / "run"
    for first in (True, False):
        with ATEDispatcher() as dispatcher:
            dispatcher.add(recorder(path), "v")
            dispatcher.add(ScriptedProducer(stream, name="s"), "v")
            assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
        if first:  # two values were recorded, and no end
            whole = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(whole[:-2]))
    *outcomes, end = read(path)
    assert [outcome.value for outcome in outcomes] == [1, 2, 1, 2, 3]
    assert end.values == {"s": [1, 2, 3]}
    assert list(end) == outcomes[2:]


def test_a_recording_is_rotated_and_read_as_one(kind, path):
    """Nothing is lost or moved at the seams, nor across a restart in the middle of the parts."""
    size = 16_000 if kind is SQLiteRecorder else 3000
    heard = run(kind(path, rotate_bytes=size), 40).events
    parts = [p for p in path.parent.iterdir() if p.name.startswith("run.")]
    assert len(parts) > 2
    assert path.with_name(f"run.1{path.suffix}") in parts
    heard += run(kind(path, rotate_bytes=size), 12).events
    assert list(map(told, read(path))) == list(map(told, heard))
    assert all(p.stat().st_size < 3 * size for p in parts)
    assert len(list(path.parent.iterdir())) > len(parts)


def test_a_part_that_was_made_and_not_begun_hides_nothing(kind, path):
    """A writer that is killed as it begins a part has left an empty file: all before it is read."""
    heard = run(kind(path), 3).events
    path.with_name(f"run.1{path.suffix}").touch()
    assert list(map(told, read(path))) == list(map(told, heard))
    heard += run(kind(path), 2).events  # the next one begins it
    assert list(map(told, read(path))) == list(map(told, heard))


def values(path):
    """The values of the outcomes that are read there."""
    return [event.value for event in read(path) if isinstance(event, RecordedOutcome)]


def record(recorder, *results):
    """Record these results on one topic."""
    with ATEDispatcher() as dispatcher:
        dispatcher.add(recorder, "v")
        dispatcher.add(ScriptedProducer(*results, name="a"), "v")
        for _ in results:
            assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)


@pytest.mark.parametrize("number", ["1", "2026"])
def test_a_recording_of_its_own_is_no_part(kind, path, number):
    """Whatever its name; whichever of the two is there first, each goes on in its own file."""
    other = path.with_name(f"run.{number}{path.suffix}")
    record(kind(other), 1.0)
    record(kind(path), 2.0)
    record(kind(other), 3.0)
    record(kind(path), 4.0)
    assert values(other) == [1.0, 3.0]
    assert values(path) == [2.0, 4.0]


def test_a_recording_of_its_own_is_not_rotated_into(kind, path):
    """It has the name that the first part would have: the recording goes on beside it."""
    other = path.with_name(f"run.1{path.suffix}")
    record(kind(other), -1)
    before = other.read_bytes()
    for numbers in (range(6), range(6, 9)):
        record(kind(path, rotate_bytes=1), *numbers)
    assert values(path) == list(range(9))
    assert values(other) == [-1]
    assert other.read_bytes() == before
    assert path.with_name(f"run.2{path.suffix}").exists()


def unmarked(path):
    """Take out of a file which part it is, as earlier recorders did not say."""
    if path.suffix == ".sqlite":
        with sqlite3.connect(str(path)) as database:
            database.create_function("old", 1, lambda value: re.sub(r',"part":\d+', "", value))
            database.execute("update events set value = old(value) where event = 'recording'")
        database.close()
        return
    path.write_bytes(re.sub(rb',"+part"+:\d+', b"", path.read_bytes()))


def test_parts_that_do_not_say_so_are_read_and_continued(kind, path):
    """As earlier recorders wrote them: those whose numbers follow on, and no other."""
    record(kind(path, rotate_bytes=1), *range(4))
    found = sorted(path.parent.iterdir())
    assert len(found) > 3
    record(kind(path.with_name(f"run.2026{path.suffix}")), -1)
    for part in path.parent.iterdir():
        unmarked(part)
    assert values(path) == [0, 1, 2, 3]
    record(kind(path), 4)
    assert values(path) == [0, 1, 2, 3, 4]
    assert len(list(path.parent.iterdir())) == len(found) + 1


def test_parts_are_found_where_some_were_deleted(kind, path):
    """To make room on the disk: they say which they are."""
    record(kind(path, rotate_bytes=1), *range(6))
    path.with_name(f"run.1{path.suffix}").unlink()
    record(kind(path), 6)
    left = values(path)
    assert left[-2:] == [5, 6]
    assert 0 < len(left) <= 7


def test_a_later_part_is_continued_as_the_whole_recording_alone(kind, path):
    """A recorder that is given the path of a part would write into another recording."""
    record(kind(path, rotate_bytes=1), 1, 2)
    part = path.with_name(f"run.1{path.suffix}")
    before = part.read_bytes()
    with pytest.raises(RecordingError, match="part 1 of another recording") as error:
        kind(part)
    assert error.value.errno == errno.EEXIST
    assert part.read_bytes() == before
    own = part.rename(path.with_name(f"second{path.suffix}"))  # by that name it is one
    record(kind(own), 7)
    assert values(own)[-1] == 7


def test_a_part_alone_is_no_recording(kind, path):
    """Its beginning is gone."""
    record(kind(path, rotate_bytes=1), 1, 2)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(path)


@pytest.mark.parametrize("content", [b"volts,amps\n1,2\n", b'{"a": 1}\n', b"\x00\x01", b"SQLite"])
def test_a_file_of_somebody_else_is_left_alone(kind, path, content):
    """It is told when the recorder is made, and not a byte is changed."""
    path.write_bytes(content)
    with pytest.raises(NotARecordingError, match="choose another path"):
        kind(path)
    assert path.read_bytes() == content


def test_a_database_of_somebody_else_is_left_alone(tmp_path):
    """Nor is a recording in another format taken for one's own."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(str(path)) as database:
        database.execute("create table theirs (a)")
    database.close()
    before = path.read_bytes()
    for kind in (SQLiteRecorder, JSONLinesRecorder, CSVRecorder):
        with pytest.raises(NotARecordingError, match="choose another path"):
            kind(path)
    with pytest.raises(NotARecordingError, match="no recorder made"):
        read(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 5, 60])
@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
def test_a_torn_tail_is_read_around_and_cut_off(recorder, cut, tmp_path, caplog):
    """Reading says that there is one; the next recorder removes it, says so, and goes on."""
    path = tmp_path / "run"
    first = run(recorder(path)).events
    path.write_bytes(path.read_bytes()[:-cut])
    *whole, gap = read(path)
    assert list(map(told, whole)) == list(map(told, first[:-1]))
    assert isinstance(gap, Gap)
    assert "is cut off" in gap.reason
    with caplog.at_level(logging.WARNING, "ate_dispatcher"):
        second = run(recorder(path)).events
    assert "cut off are removed" in caplog.text
    assert list(map(told, read(path))) == list(map(told, first[:-1] + second))


@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
@pytest.mark.parametrize("left", [0, 1, 15])
def test_a_file_torn_in_its_first_line_is_begun_again(recorder, left, tmp_path):
    """A process that was killed right at the start leaves nothing in the way."""
    path = tmp_path / "run"
    run(recorder(path), 1)
    path.write_bytes(path.read_bytes()[:left])
    heard = run(recorder(path), 1).events
    assert list(map(told, read(path))) == list(map(told, heard))


@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
def test_a_line_that_is_damaged_is_a_gap(recorder, tmp_path):
    """What stands before and after it is read."""
    path = tmp_path / "run"
    heard = run(recorder(path)).events
    lines = path.read_bytes().splitlines(keepends=True)
    at = len(lines) - len(heard) + 2
    for damage in (b"\xff\xfe\n", b"\n", b"1\n", b"[]\n", b'{"event":"x"}\n', b"\x00" * 30 + b"\n"):
        path.write_bytes(b"".join([*lines[:at], damage, *lines[at + 1 :]]))
        events = list(read(path))
        assert isinstance(events[2], Gap)
        assert "cannot be read" in events[2].reason
        rest = [e for e in events if not isinstance(e, Gap)]
        assert [told(e)[:2] for e in rest if isinstance(e, RecordedOutcome)] == [
            told(e)[:2] for i, e in enumerate(heard) if i != 2 and not hasattr(e, "roster")
        ]


@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
@pytest.mark.parametrize("depth", [700, 3000])  # it depends on the interpreter who stumbles
def test_a_line_that_is_nested_too_deeply(recorder, depth, tmp_path):
    """No recorder writes such; what stands behind it is read."""
    path = tmp_path / "run"
    heard = run(recorder(path)).events
    deep = "[" * depth + "]" * depth
    path.write_bytes(path.read_bytes().replace(b"5.01", deep.encode(), 1))
    events = list(read(path))
    assert len(events) == len(heard)  # a gap, a text or, where that goes well, the lists
    assert told(events[-1]) == told(heard[-1])


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
def test_a_recording_that_was_saved_again_is_read(recorder, end, mark, tmp_path):
    """By a spreadsheet or an editor: with other line ends, a byte order mark before them."""
    path = tmp_path / "run"
    heard = run(recorder(path)).events
    path.write_bytes(mark + path.read_bytes().replace(b"\n", end))
    assert list(map(told, read(path))) == list(map(told, heard))
    if mark:
        with pytest.raises(NotARecordingError, match="Nothing was changed"):
            recorder(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"event":"outcome"}\n'])
def test_what_is_no_recording_is_said_to_be_none(content, tmp_path):
    """With how it begins."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(NotARecordingError, match=r"is no recording: it (is empty|begins with)"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")


def test_a_later_version_is_said_to_be_one(tmp_path):
    """And not guessed at."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path), 1)
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    with pytest.raises(NotARecordingError, match=r"version 2.*up to 1"):
        read(path)


# ---- mistakes ------------------------------------------------------------------------------------


def test_a_path_that_cannot_be_written_is_told_when_it_is_made(kind, path):
    """As an OSError with its number, whatever the format."""
    with pytest.raises(RecordingError, match="nowhere") as no_folder:
        kind(path.parent / "nowhere" / "run")
    assert isinstance(no_folder.value, OSError)
    with pytest.raises(RecordingError):
        kind(path.parent)
    if kind is not SQLiteRecorder:
        assert no_folder.value.errno == errno.ENOENT
        with pytest.raises(RecordingError, match="no ordinary file"):
            kind("/dev/null")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"durable": "always"}, InvalidArgumentError, "event, request, never, not 'always'"),
        ({"rotate_bytes": 0}, InvalidArgumentError, "at least 1, not 0"),
        ({"rotate_bytes": 1.5}, InvalidTypeError, "whole number, not 1.5"),
        ({"on_error": 3}, InvalidTypeError, "callable, not 3"),
        ({"nme": "x"}, TypeError, "nme"),
    ],
)
def test_options_that_cannot_be_meant(kind, path, options, error, match):
    """Told at once, and no file is made."""
    with pytest.raises(error, match=match):
        kind(path, **options)
    assert not path.exists()


def test_the_base_and_no_path_are_refused(tmp_path):
    """In words."""
    with pytest.raises(InvalidTypeError, match="use one for a format"):
        Recorder(tmp_path / "run")
    for wrong in (None, 3, ""):
        with pytest.raises(InvalidTypeError, match="path must be a path"):
            JSONLinesRecorder(wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="needs file locks")
@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
def test_two_recorders_of_one_file(recorder, tmp_path, dispatcher):
    """The second is told while the first has it, and afterwards may go on with it."""
    path = tmp_path / "run"
    first = dispatcher.add(recorder(path), "v")
    dispatcher.send_request("v").wait(10, delivered=True)
    with pytest.raises(RecordingError, match="another recorder"):
        recorder(path)
    assert dispatcher.remove(first, wait=True, timeout=10) in (True, None)
    first.join(30)
    recorder(path)


# ---- a disk that fills ---------------------------------------------------------------------------

FULL = """
import resource, sys
from ate_dispatcher import ATEDispatcher
from ate_dispatcher.record import CSVRecorder, Gap, JSONLinesRecorder, SQLiteRecorder, read
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

name, path = sys.argv[1:]
errors = []
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with ATEDispatcher() as dispatcher:
    recorder = dispatcher.add(globals()[name](path, on_error=errors.append), "v")
    heard = dispatcher.add(RecordingListener(), "v")
    dispatcher.add(ScriptedProducer("x" * 500, name="a"), "v")

    def send(count):
        for _ in range(count):
            assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)

    send(5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BOUND, hard))  # no file grows beyond that
    send(200)
    lost = recorder.lost
    assert lost > 10, lost
    outages = len(errors)
    assert 1 <= outages <= 10  # a shorter row may still find room after a longer one did not
    assert recorder.recorded + lost == 2 * 205
    if AGAIN:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        send(5)
        assert recorder.lost == lost
        assert len(errors) == outages
    assert len(heard.ends) == len(heard.outcomes) == 205 + 5 * AGAIN
    print(type(errors[0]).__name__, errors[0], sep="|")
if not AGAIN:
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
events = list(read(path))
gaps = [event for event in events if isinstance(event, Gap)]
assert len(events) - len(gaps) == recorder.recorded, (len(events), len(gaps), recorder.recorded)
if AGAIN:
    assert sum(gap.lost for gap in gaps) == lost, (gaps, lost)
    assert len(gaps) == outages
    assert {part[:2] for part in gaps[-1].missing} == {("v", "a"), ("v", "")}
    assert isinstance(events[-1], type(events[1]))
else:
    assert len(gaps) == outages - 1  # the last one could not be written
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on files")
@pytest.mark.parametrize("again", [True, False])
def test_a_disk_that_fills_loses_nothing_silently(kind, path, again):
    """Told once; counted and named, in the file as soon as it can be written, or else in the log.

    The dispatcher and other listeners go on, and what was written before is whole.
    """
    code = FULL.replace("BOUND", "90_000").replace("AGAIN", str(again))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, kind.__name__, str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    error, text = done.stdout.strip().split("|")
    assert error == "RecordingError"
    assert path.name in text
    outages = done.stderr.count("events are lost from")
    assert outages == done.stderr.count("is written again, without: ") + (not again)
    assert done.stderr.count("never written: ") == (not again)
    assert "a on 'v' (" in done.stderr


@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
def test_a_write_that_stops_half_way_leaves_no_half_line(
    recorder, tmp_path, dispatcher, monkeypatch
):
    """What did not go in whole is taken out again; the event is lost, and said to be."""
    path = tmp_path / "run"
    errors = []
    own = dispatcher.add(recorder(path, on_error=errors.append), "v")
    dispatcher.add(ScriptedProducer(1, name="a"), "v")
    write, full = os.write, [False]

    def some(descriptor, data):
        if full[0] and len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2] if full[0] else data)

    monkeypatch.setattr(append_file.os, "write", some)
    for full[0] in (False, True, True, False):
        assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    events = list(read(path))
    assert [type(e).__name__ for e in events] == [
        "RecordedOutcome", "RecordedRequest", "Gap", "RecordedOutcome", "RecordedRequest",
    ]  # fmt: skip
    assert events[2].lost == own.lost == 4
    assert events[2].reason == "No space left on device"
    assert [error.errno for error in errors] == [errno.ENOSPC]


@pytest.mark.parametrize("recorder", [JSONLinesRecorder, CSVRecorder])
def test_a_sync_that_fails_is_a_loss(recorder, tmp_path, dispatcher, monkeypatch):
    """What may not be on the disk is not acknowledged as if it were."""
    own = dispatcher.add(recorder(tmp_path / "run", durable="event"), "v")

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    dispatcher.add(ScriptedProducer(1), "v")
    assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    with monkeypatch.context() as patch:
        patch.setattr(append_file.os, "fsync", fail)
        assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    assert (own.recorded, own.lost) == (2, 2)
    assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    assert [e.lost for e in read(own.path) if isinstance(e, Gap)] == [2]


def test_an_on_error_that_raises_changes_nothing(tmp_path, dispatcher, caplog, monkeypatch):
    """It is logged, and the recorder goes on."""

    def worse(error):
        raise RuntimeError("worse")

    own = dispatcher.add(JSONLinesRecorder(tmp_path / "run", on_error=worse), "v")
    with monkeypatch.context() as patch:
        patch.setattr(append_file.os, "write", lambda *_: worse(None))  # both attempts
        assert dispatcher.send_request("v").wait(10, delivered=True)
    assert dispatcher.send_request("v").wait(10, delivered=True)
    assert "on_error of the recorder" in caplog.text
    assert (own.recorded, own.lost) == (1, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
def test_a_file_deleted_while_recording_is_noticed(kind, path, dispatcher, caplog):
    """The recording goes on in a new file, and the log says why."""
    own = dispatcher.add(kind(path), "v")
    assert dispatcher.send_request("v").wait(10, delivered=True)
    own.path.unlink()
    for _ in range(2):
        assert dispatcher.send_request("v").wait(10, delivered=True)
    assert [event.topic for event in read(own.path)] == ["v", "v"]
    assert (own.recorded, own.lost) == (3, 0)
    assert "was deleted" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced there")
@pytest.mark.parametrize("replaced", [True, False])
def test_a_database_moved_while_recording_is_noticed(replaced, tmp_path, dispatcher, caplog):
    """The recording goes on in the one that is there, or a new one; the other has what it had."""
    path, other, old = (tmp_path / name for name in ("run.db", "other.db", "old.db"))
    record(SQLiteRecorder(other), 1)
    own = dispatcher.add(SQLiteRecorder(path), "v")
    dispatcher.add(ScriptedProducer(2, 3, name="a"), "v")
    assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    path.rename(old)
    if replaced:
        other.rename(path)
    assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    assert values(path) == ([1, 3] if replaced else [3])
    assert values(old) == [2]
    assert (own.recorded, own.lost) == (4, 0)
    assert "deleted or replaced" in caplog.text


def test_a_database_that_the_system_does_not_number_is_recorded_to(tmp_path, monkeypatch):
    """As on some file systems of Windows, where it cannot be deleted meanwhile."""
    stat = os.stat

    def unnumbered(path, **more):
        found = list(stat(path, **more))
        found[stat_module.ST_INO] = 0
        found[stat_module.ST_DEV] = next(devices)
        return os.stat_result(found)

    devices = itertools.count()
    monkeypatch.setattr("ate_dispatcher.record._sqlite.os.stat", unnumbered)
    recorder = SQLiteRecorder(tmp_path / "run.db")
    record(recorder, 1, 2)
    assert (recorder.recorded, recorder.lost) == (4, 0)
    assert next(devices) > 4


def test_what_a_bounded_mailbox_let_go_is_in_the_recording(tmp_path, dispatcher, gate):
    """With ``capacity=`` the recording says how many events it has not."""
    parking = []

    class Parked(JSONLinesRecorder):
        def process_dispatcher_end(self, request):
            if not parking:
                parking.append(request)
                gate.park()
            super().process_dispatcher_end(request)

    own = dispatcher.add(Parked(tmp_path / "run", capacity=1, overflow="drop_oldest"), "v")
    dispatcher.send_request("v")
    gate.wait_parked()
    for _ in range(5):
        assert dispatcher.send_request("v").wait(30)
    gate.open()
    assert dispatcher.flush(30)
    events = list(read(own.path))
    assert [e.lost for e in events if isinstance(e, Gap)] == [4]
    assert "mailbox was full" in next(e for e in events if isinstance(e, Gap)).reason


# ---- kill -9 -------------------------------------------------------------------------------------

KILLED = """
import sys
from ate_dispatcher import ATEDispatcher
from ate_dispatcher.record import CSVRecorder, JSONLinesRecorder, SQLiteRecorder
from ate_dispatcher.testing import ScriptedProducer

name, path, durable = sys.argv[1:]
dispatcher = ATEDispatcher()
dispatcher.start()
recorder = dispatcher.add(globals()[name](path, durable=durable, rotate_bytes=100_000), "v")
dispatcher.add(ScriptedProducer(lambda topic, number: number, name="a"), "v")
number = 0
while True:
    for _ in range(5):
        number += 1
        request = dispatcher.send_request("v", number, ttl=60_000)
    assert request.wait(10, delivered=True)
    print(number, flush=True)  # so many are acknowledged
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("durable", ["event", "request", "never"])
def test_kill_9_leaves_everything_that_was_acknowledged(kind, path, durable):
    """Whatever else was written is whole and in order, and another recorder goes on."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, kind.__name__, str(path), durable],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        for _ in range(25):
            assert child.stdout.readline()
        child.kill()
        acknowledged = int((["0"] + child.stdout.read().split("\n")[:-1])[-1])
    acknowledged = max(acknowledged, 25 * 5)
    assert child.returncode == -signal.SIGKILL
    events = [event for event in read(path) if not isinstance(event, Gap)]
    values = [event.value for event in events if isinstance(event, RecordedOutcome)]
    ends = [event.args[0] for event in events if isinstance(event, RecordedRequest)]
    assert values == list(range(1, len(values) + 1))
    assert ends == list(range(1, len(ends) + 1))
    assert len(ends) >= acknowledged
    heard = run(kind(path), 1).events
    assert list(map(told, read(path)))[-len(heard) :] == list(map(told, heard))


def test_durable_says_when_the_system_is_made_to_write(tmp_path, monkeypatch):
    """With every event, with every end, or never."""
    counts = {}
    for durable in ("event", "request", "never"):
        calls = []
        monkeypatch.setattr(append_file.os, "fsync", calls.append)
        recorder = JSONLinesRecorder(tmp_path / durable, durable=durable)
        calls.clear()
        with ATEDispatcher() as dispatcher:
            dispatcher.add(recorder, "v")
            dispatcher.add(ScriptedProducer(1, name="a"), "v")
            dispatcher.add(ScriptedProducer(2, name="b"), "v")
            for _ in range(3):
                assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
        counts[durable] = len(calls)
    assert counts == {"event": 9, "request": 3, "never": 0}


@pytest.mark.parametrize(("durable", "synced"), [("event", 2), ("request", 1), ("never", 0)])
def test_a_database_is_synced_with_the_same_rows(tmp_path, monkeypatch, durable, synced):
    """SQLite does it itself, when a transaction is committed under ``synchronous = FULL`` (2)."""
    levels = []

    class Watched(SQLiteFile):
        def write(self, row, durable):
            super().write(row, durable)
            if row["event"] in ("outcome", "end"):
                levels.extend(self._database.execute("PRAGMA synchronous").fetchone())

    monkeypatch.setattr(SQLiteRecorder, "_ate_format", Watched)
    recorder = SQLiteRecorder(tmp_path / "run", durable=durable)
    with ATEDispatcher() as dispatcher:
        dispatcher.add(recorder, "v")
        dispatcher.add(ScriptedProducer(1, name="a"), "v")
        assert dispatcher.send_request("v", ttl=60_000).wait(10, delivered=True)
    assert levels == {2: [2, 2], 1: [1, 2], 0: [1, 1]}[synced]


def test_the_path_is_that_of_the_folder_where_it_was_made(kind, path, tmp_path, monkeypatch):
    """A program may go elsewhere before the first event."""
    monkeypatch.chdir(tmp_path)
    recorder = kind(path.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    heard = run(recorder, 1).events
    assert recorder.path == path
    assert list(map(told, read(path))) == list(map(told, heard))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_recorder_that_is_never_started_holds_nothing(kind, path):
    """No file is left open; warnings are errors here."""
    kind(path)
    assert isinstance(Path(path).read_bytes(), bytes)
    assert list(read(path)) == []
