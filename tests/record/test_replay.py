"""Playing recordings back: the same events, in the same order, on the listeners' own threads."""

from __future__ import annotations

import threading

import pytest
from runs import Both, run, told

from ate_dispatcher import (
    ATEDispatcher,
    DeadlockError,
    InvalidArgumentError,
    InvalidTypeError,
    NotARecordingError,
    ResultListener,
    StateError,
    TopicFilter,
)
from ate_dispatcher.record import JSONLinesRecorder, replay
from ate_dispatcher.testing import FakeClock, RecordingListener, ScriptedProducer


class OnlyResults(ResultListener):
    def __init__(self):
        super().__init__()
        self.heard = []

    def process_dispatcher_result(self, topic, response):
        self.heard.append((topic, response))


class OnlyEnds(ResultListener):
    def __init__(self):
        super().__init__()
        self.heard = []

    def process_dispatcher_end(self, request):
        self.heard.append(request)


def test_listeners_hear_what_the_listeners_of_the_run_heard(kind, path):
    """Equal in topic, producer, site, status, value and order; each only what it has hooks for."""
    heard = run(kind(path))
    both, results, ends, all_hooks = Both(), OnlyResults(), OnlyEnds(), RecordingListener()
    report = replay(path, [both, results, ends, all_hooks])
    assert list(map(told, both.events)) == list(map(told, heard.events))
    assert report == (len(heard.events), (), 0)
    assert results.heard == all_hooks.results
    assert ("v", 5.01) in results.heard
    assert len(results.heard) == 3 + 3
    assert list(map(told, ends.heard)) == [told(e) for e in heard.events if hasattr(e, "roster")]
    assert not any(listener.is_alive() for listener in (both, results, ends, all_hooks))


def test_hooks_run_on_the_listeners_own_thread(kind, path):
    """With ``on_start`` before and ``on_stop`` after, as in a dispatcher."""
    run(kind(path), 1)
    said = []

    class Careful(OnlyEnds):
        def on_start(self):
            said.append(("start", threading.current_thread()))

        def process_dispatcher_end(self, request):
            said.append(("end", threading.current_thread()))

        def on_stop(self):
            said.append(("stop", threading.current_thread()))

    careful = Careful()
    replay(path, [careful])
    assert [word for word, _ in said] == ["start", "end", "end", "end", "end", "stop"]
    assert {thread for _, thread in said} == {careful}


def test_a_listener_that_was_started_is_left_running(kind, path, dispatcher):
    """And hears its dispatcher as before."""
    run(kind(path), 1)
    listener = dispatcher.add(Both(), "w")
    dispatcher.send_request("w").wait(10, delivered=True)
    replay(path, [listener])
    dispatcher.send_request("w").wait(10, delivered=True)
    assert listener.is_alive()
    assert [e.topic for e in listener.events if hasattr(e, "roster")][::5] == ["w", "w"]


def test_it_returns_when_all_is_done(tmp_path, dispatcher, gate):
    """By listeners that run on, too."""
    run(JSONLinesRecorder(tmp_path / "run"), 1)
    said = []

    class Slow(OnlyEnds):
        def process_dispatcher_end(self, request):
            if request.topic == "nobody":
                gate.park()
            said.append(request.topic)

    slow = dispatcher.add(Slow(), "w")
    playing = threading.Thread(
        target=lambda: (replay(tmp_path / "run", [slow]), said.append("replayed"))
    )
    playing.start()
    gate.wait_parked()
    playing.join(0.2)  # it would be back by now if it did not wait
    assert playing.is_alive()
    said.append("opened")
    gate.open()
    playing.join(30)
    assert said[-1] == "replayed"
    assert said.index("opened") < said.index("nobody") < said.index("replayed")


def test_a_recording_can_be_recorded(kind, path, tmp_path):
    """Played to a recorder it is the same recording, in another format if so wished."""
    heard = run(kind(path))
    replay(path, [JSONLinesRecorder(tmp_path / "copy.jsonl")])
    both = Both()
    replay(tmp_path / "copy.jsonl", [both])
    assert list(map(told, both.events)) == list(map(told, heard.events))
    errors = [e.exception.args[0] for e in both.events if getattr(e, "exception", None)]
    assert errors == ["KeyError: 'no'"] * 3


def test_a_hook_that_raises_is_counted_and_the_rest_goes_on(kind, path, caplog):
    """As in a dispatcher."""
    heard = run(kind(path), 1)

    class Raising(OnlyEnds):
        def process_dispatcher_end(self, request):
            raise RuntimeError("not today")

    both = Both()
    assert replay(path, [Raising(), both]).errors == 4
    assert "not today" in caplog.text
    assert len(both.events) == len(heard.events)


@pytest.mark.parametrize("speed", [1.0, 2.0, 0.5])
def test_the_time_between_events_is_kept(tmp_path, speed):
    """As it was recorded, by the clocks that were given; without a speed nobody sleeps."""
    clock = FakeClock()
    dispatcher = ATEDispatcher(clock=clock)
    dispatcher.start()
    dispatcher.add(JSONLinesRecorder(tmp_path / "run", clock=clock), "v")
    for seconds in (0, 1.5, 0, 10):
        clock.advance(seconds)
        assert dispatcher.send_request("v").wait(10, delivered=True)
    dispatcher.stop()
    now, slept, late = [50.0], [], 0.25

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds + late  # it comes back late, and the next event is in time again

    replay(tmp_path / "run", [OnlyEnds()], speed=speed, clock=lambda: now[0], sleep=sleep)
    assert slept == pytest.approx([1.5 / speed, 10 / speed - late], abs=1e-5)
    replay(tmp_path / "run", [OnlyEnds()], sleep=slept.append)
    assert len(slept) == 2


def test_a_gap_is_in_the_report(tmp_path):
    """Listeners have no hook for what is not there."""
    path = tmp_path / "run"
    heard = run(JSONLinesRecorder(path), 1)
    path.write_bytes(path.read_bytes()[:-3])
    both = Both()
    report = replay(path, [both])
    assert len(both.events) == report.events == len(heard.events) - 1
    assert ["is cut off" in gap.reason for gap in report.gaps] == [True]


def test_mistakes_are_told_before_anything_is_played(tmp_path):
    """Each with what was wrong; no listener is started."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path), 1)
    for speed in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidArgumentError, match="speed must be positive"):
            replay(path, [], speed=speed)
    for speed in ("1", True):
        with pytest.raises(InvalidTypeError, match="speed must be a number"):
            replay(path, [], speed=speed)
    listener = OnlyEnds()
    with pytest.raises(InvalidTypeError, match="list of listeners"):
        replay(path, listener)
    with pytest.raises(InvalidTypeError, match="is no ResultListener"):
        replay(path, [listener, ScriptedProducer()])
    with pytest.raises(InvalidTypeError, match="at least one of"):
        replay(path, [ResultListener()])
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "nothing", [listener])
    (tmp_path / "other").write_text("a,b\n")
    with pytest.raises(NotARecordingError):
        replay(tmp_path / "other", [listener])
    assert not listener._ate_begun


def test_a_listener_that_plays_to_itself_is_refused(tmp_path, dispatcher):
    """It would wait for its own hook."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path), 1)
    raised = []

    class Itself(ResultListener):
        def process_dispatcher_end(self, request):
            with pytest.raises(DeadlockError) as error:
                replay(path, [self])
            raised.append(error.value)

    dispatcher.add(Itself(), TopicFilter("#"))
    assert dispatcher.send_request("v").wait(10, delivered=True)
    assert len(raised) == 1


def test_a_listener_that_has_stopped_is_refused(tmp_path, dispatcher):
    """It would hear nothing of what is reported as played; nor is any other listener started."""
    path = tmp_path / "run"
    run(JSONLinesRecorder(path), 1)
    played, fresh = OnlyEnds(), OnlyEnds()
    replay(path, [played])
    heard = len(played.heard)
    removed = dispatcher.add(OnlyEnds(), "v")
    removed.stop()
    for stopped in (played, removed):
        with pytest.raises(StateError, match=r"has stopped, .* replay to a new listener"):
            replay(path, [fresh, stopped])
    assert len(played.heard) == heard
    assert not fresh._ate_begun


def test_it_ends_when_every_listener_has_stopped(tmp_path):
    """Whatever is still to be played, nobody hears it; one that goes on hears all."""
    path = tmp_path / "run"
    heard = run(JSONLinesRecorder(path), 1).events

    class Once(RecordingListener):
        def process_dispatcher_outcome(self, outcome):
            super().process_dispatcher_outcome(outcome)
            self.stop()

    first, second, other = Once(), Once(), Both()
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        second.join(30)  # it has been given the first event

    assert replay(path, [first, other]).events == len(other.events) == len(heard)
    report = replay(path, [second], speed=1.0, clock=lambda: 0.0, sleep=sleep)
    assert report.events < len(heard)
    assert len(slept) == len(second.outcomes) == 1
