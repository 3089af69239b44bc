"""Producers: their hooks, their thread, their life."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ate_dispatcher import OutcomeStatus, Producer, RequestStatus, StateError
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches


class Diary(Producer):
    """Writes down which hook ran on which thread."""

    def __init__(self, **options):
        super().__init__(**options)
        self.entries = []

    def note(self, what):
        self.entries.append((what, threading.current_thread()))

    def on_start(self):
        self.note("start")

    def produce_dispatcher_output(self, topic):
        self.note(topic)

    def on_stop(self):
        self.note("stop")


# ---- one thread ----------------------------------------------------------------------------------


def test_every_hook_runs_on_the_producers_own_thread(dispatcher):
    """One producer is one thread, so an instrument opened in `on_start` never crosses threads."""
    diary = dispatcher.add(Diary(), "a", "b")
    for topic in ("a", "b", "a"):
        assert dispatcher.send_request(topic).wait(BOUND)
    dispatcher.remove(diary)
    diary.join(BOUND)
    assert [what for what, _ in diary.entries] == ["start", "a", "b", "a", "stop"]
    assert {thread for _, thread in diary.entries} == {diary}


def test_on_start_comes_before_work_that_waits_already(dispatcher):
    """C9: what was sent to an agent that was not started yet is done after its `on_start`."""
    diary = Diary()
    dispatcher.register_result_producer(diary, "a")
    request = dispatcher.send_request("a")
    assert dispatcher.send_request("nobody").wait(BOUND)
    assert diary.entries == []
    diary.start()
    assert request.wait(BOUND)
    assert [what for what, _ in diary.entries] == ["start", "a"]


def test_on_stop_runs_when_the_dispatcher_stops(dispatcher):
    """C9: after all work; the thread has ended when `stop` returns."""
    diary = dispatcher.add(Diary(), "a")
    dispatcher.send_request("a")
    assert dispatcher.stop().clean
    assert [what for what, _ in diary.entries] == ["start", "a", "stop"]
    assert not diary.is_alive()


def test_on_stop_is_not_called_where_on_start_raised(dispatcher, caplog):
    """C5: what was not opened is not closed; the agent is gone, and says why."""

    class Unplugged(Diary):
        def on_start(self):
            super().on_start()
            raise OSError("no such device")

    agent = Unplugged(name="dmm")
    dispatcher.register_result_producer(agent, "a")
    request = dispatcher.send_request("a", ttl=FOR_EVER)
    assert dispatcher.send_request("nobody").wait(BOUND)  # the request is in its mailbox now
    agent.start()
    (failure,) = request.gather(BOUND).failed
    agent.join(BOUND)
    assert [what for what, _ in agent.entries] == ["start"]
    assert failure.status is OutcomeStatus.REJECTED
    assert "no such device" in failure.reason
    assert "no such device" in caplog.text


def test_on_stop_that_raises_is_logged(dispatcher, caplog):
    """C5: the thread ends all the same, and the stop is clean."""

    class Clumsy(Diary):
        def on_stop(self):
            raise OSError("cannot be closed")

    agent = dispatcher.add(Clumsy(name="dmm"), "a")
    assert dispatcher.send_request("a").wait(BOUND)
    assert dispatcher.stop().clean
    assert not agent.is_alive()
    assert "'dmm'" in caplog.text
    assert "cannot be closed" in caplog.text


def test_async_on_start_and_on_stop(dispatcher):
    """Hooks may be ``async def`` one by one; all of them run on one loop."""
    loops = []

    class Chiller(Producer):
        async def on_start(self):
            loops.append(asyncio.get_running_loop())

        async def produce_dispatcher_output(self, topic):
            loops.append(asyncio.get_running_loop())

        async def on_stop(self):
            loops.append(asyncio.get_running_loop())

    chiller = dispatcher.add(Chiller(), "a")
    for _ in range(2):
        assert dispatcher.send_request("a").gather(BOUND).succeeded
    dispatcher.remove(chiller)
    chiller.join(BOUND)
    assert len(loops) == 4
    assert len(set(loops)) == 1
    assert loops[0].is_closed()


# ---- what a hook may be --------------------------------------------------------------------------


def test_async_hooks_run_one_at_a_time(dispatcher):
    """Adding agents: on a loop thread owned by the agent; the next begins when one has ended."""
    running, most = [0], [0]

    async def work(topic):
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0)
        running[0] -= 1
        return threading.current_thread().name

    dispatcher.producer("a", name="chiller")(work)
    requests = [dispatcher.send_request("a") for _ in range(5)]
    assert [r.gather(BOUND).values["chiller"] for r in requests] == ["chiller-loop"] * 5
    assert most == [1]


def test_the_loop_goes_on_between_hooks_and_ends_with_the_agent(dispatcher):
    """A background task that a hook started lives on, and is cancelled at the end."""
    beats, cancelled = threading.Semaphore(0), threading.Event()

    async def heartbeat():
        try:
            while True:
                beats.release()
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    class Chiller(Producer):
        async def produce_dispatcher_output(self, topic):
            self.task = asyncio.ensure_future(heartbeat())

    chiller = dispatcher.add(Chiller(), "a")
    assert dispatcher.send_request("a").gather(BOUND).succeeded
    for _ in range(10):
        assert beats.acquire(timeout=BOUND)
    dispatcher.remove(chiller)
    chiller.join(BOUND)
    assert cancelled.is_set()


def test_a_raising_coroutine_is_an_error_with_its_traceback(dispatcher):
    """C5: as for plain hooks; the loop goes on."""

    async def measure(topic, fail):
        await asyncio.sleep(0)
        if fail:
            raise OSError("frozen")
        return "fine"

    dispatcher.producer("a", name="chiller")(measure)
    (failure,) = dispatcher.send_request("a", True).gather(BOUND).failed
    assert failure.reason == "OSError: frozen"
    assert "in measure" in failure.traceback
    assert dispatcher.send_request("a", False).gather(BOUND).values == {"chiller": "fine"}


def test_the_traceback_begins_in_the_users_code(dispatcher):
    """C2: none of the library's own frames in front of what the user wrote."""

    def measure(topic):
        return compute()

    def compute():
        return 1 / 0

    dispatcher.producer("a")(measure)
    for send in (dispatcher.send_request, dispatcher.with_options(tags={}).send_request):
        (failure,) = send("a").gather(BOUND).failed
        lines = [line for line in failure.traceback.splitlines() if line.startswith("  File")]
        assert [line.rsplit(" ", 1)[1] for line in lines] == ["measure", "compute"]


@pytest.mark.parametrize("value", [ValueError("a value"), OutcomeStatus.ERROR, threading.Lock()])
def test_whatever_is_returned_is_a_value(dispatcher, value):
    """C2: an exception that is returned was not raised."""
    dispatcher.producer("a", name="dmm")(lambda topic: value)
    assert dispatcher.send_request("a").gather(BOUND).values["dmm"] is value


def test_iterators_that_are_no_generators_are_values(dispatcher):
    """C14: only generators and coroutines are seen through; a list or an iterator is an answer."""
    dispatcher.producer("a", name="dmm")(lambda topic: [1, 2])
    dispatcher.producer("a", name="iterator")(lambda topic: iter([1, 2]))
    request = dispatcher.send_request("a").gather(BOUND)
    assert request.values["dmm"] == [1, 2]
    assert list(request.values["iterator"]) == [1, 2]
    assert not any(outcome.streamed for outcome in request.outcomes)


def test_a_hook_may_be_set_on_the_instance(dispatcher):
    """The hook is looked up as any attribute is."""

    class Configured(Producer):
        def __init__(self, function):
            super().__init__(name="dmm")
            self.produce_dispatcher_output = function

    dispatcher.add(Configured(lambda topic: "configured"), "a")
    assert dispatcher.send_request("a").gather(BOUND).values == {"dmm": "configured"}


def test_hooks_are_inherited(dispatcher):
    """A subclass of a subclass need not define them again."""

    class Special(Diary):
        pass

    special = dispatcher.add(Special(name="dmm"), "a")
    assert dispatcher.send_request("a").gather(BOUND).values == {"dmm": None}
    assert [what for what, _ in special.entries] == ["start", "a"]


# ---- stop ----------------------------------------------------------------------------------------


def test_stop_takes_effect_after_everything_queued(dispatcher, gate):
    """C9, 0.1.0: it returns at once; what was sent before is done, what comes later is refused."""
    producer = dispatcher.add(ScriptedProducer(gate, name="dmm"), "a")
    before = [dispatcher.send_request("a", ttl=FOR_EVER) for _ in range(3)]
    gate.wait_parked()
    assert dispatcher.send_request("nobody").wait(BOUND)
    producer.stop()
    after = dispatcher.send_request("a", ttl=FOR_EVER)
    gate.open()
    assert all(request.gather(BOUND).values == {"dmm": None} for request in before)
    assert after.wait(BOUND)
    producer.join(BOUND)
    assert after.status is RequestStatus.COMPLETE
    assert after.outcomes[0].status is OutcomeStatus.REJECTED
    assert "stopped" in after.outcomes[0].reason
    assert dispatcher.flush(BOUND)
    assert dispatcher.send_request("a").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_stop_twice_is_once(dispatcher):
    """C9: the second finds nothing to do."""
    producer = dispatcher.add(ScriptedProducer(1), "a")
    producer.stop()
    producer.stop()
    producer.join(BOUND)
    producer.stop()
    assert not producer.is_alive()


def test_an_agent_may_stop_itself(dispatcher):
    """C9: in its own hook; it answers first."""

    class OneShot(Producer):
        def produce_dispatcher_output(self, topic):
            self.stop()
            return "once"

    agent = dispatcher.add(OneShot(name="dmm"), "a")
    assert dispatcher.send_request("a").gather(BOUND).values == {"dmm": "once"}
    agent.join(BOUND)
    assert not agent.is_alive()


def test_a_second_start_is_refused(dispatcher):
    """Bad input: with the name, and what to do instead."""
    producer = dispatcher.add(ScriptedProducer(name="dmm"), "a")
    with pytest.raises(StateError, match="'dmm' was started before"):
        producer.start()


def test_producers_need_no_listener_and_listeners_no_producer(dispatcher):
    """Each side works by itself."""
    listener = dispatcher.add(RecordingListener(), "a")
    assert dispatcher.send_request("a").wait(BOUND, delivered=True)
    assert listener.ends[0].status is RequestStatus.NO_PRODUCERS
    assert listener.outcomes == []
