"""`DataProcessingChannel`: any pool, results as they are ready, no failure loses another's."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest
from sse_work import Powers

from ate_dispatcher import (
    InvalidArgumentError,
    InvalidTypeError,
    OverloadedError,
    UnknownIdError,
)
from ate_dispatcher.sse import (
    MESSAGE_TYPE_CLOSED,
    ConnectionsFactory,
    DataProcessingChannel,
    Message,
)

BOUND = 60.0
CLOSED = Message(MESSAGE_TYPE_CLOSED)
SPAWNED = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))


class Here(Executor):
    """Does the work where it is submitted."""

    def __init__(self, max_workers):
        self.max_workers = max_workers

    def submit(self, fn, *args):
        future = Future()
        try:
            future.set_result(fn(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


class Gated(DataProcessingChannel):
    """Its messages wait for a gate of their own, if there is one."""

    def __init__(self, workers, gates=()):
        super().__init__(workers)
        self.gates = dict(gates)
        self.begun = threading.Semaphore(0)

    def adapt(self, msg):
        self.begun.release()
        if msg.payload in self.gates:
            assert self.gates[msg.payload].wait(BOUND)
        return super().adapt(msg)


def test_adapt_has_exactly_the_documented_keys():
    """As it stands, it gives the message."""
    assert DataProcessingChannel(1).adapt(Message("m", 1)) == {"event": "m", "data": 1}


def test_the_documented_parameters():
    """Workers, delay, class of the pool; the delay is for message_stream only."""
    channel = DataProcessingChannel(2, stream_delay_seconds=1000, executor_class=ThreadPoolExecutor)
    listener = channel.add_listener()
    for payload in range(5):
        channel.dispatch(listener.id, Message("m", payload))
    channel.broadcast(CLOSED)
    results = channel.process_queue(listener)
    assert sorted(result["data"] for result in results) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "pool", [ThreadPoolExecutor, SPAWNED, Here], ids=["thread", "spawn", "own"]
)
def test_any_pool(pool):
    """Threads, processes and one's own; a failure is a result among the others."""
    channel = Powers(2, 2, executor_class=pool)
    listener = channel.add_listener()
    for payload in (1, 2, "three", 4):
        channel.broadcast(Message("square", payload))
    channel.broadcast(CLOSED)
    results = list(channel.process_queue(listener))
    assert sorted(r["data"] for r in results if "error" not in r) == [1, 4, 16]
    (failed,) = [r for r in results if "error" in r]
    assert (failed["event"], failed["data"]) == ("square", None)
    assert failed["error"]["type"] == "TypeError"
    assert "unsupported operand" in failed["error"]["message"]
    assert channel.statistics().errors == 1


def test_a_worker_that_dies_breaks_one_pool_only():
    """What was in it comes back as failures, what comes after goes to a new one."""
    channel = Powers(2, 1, executor_class=SPAWNED)
    listener = channel.add_listener()
    with channel.process_queue(listener) as results:
        channel.broadcast(Message("die"))
        assert next(results)["error"]["type"] == "BrokenProcessPool"
        channel.broadcast(Message("square", 3))
        assert next(results) == {"event": "square", "data": 9}


def test_results_come_as_they_are_ready():
    """The first message is the slowest: its result comes last."""
    gate = threading.Event()
    channel = Gated(2, {0: gate})
    listener = channel.add_listener()
    for payload in range(3):
        channel.broadcast(Message("m", payload))
    results = channel.process_queue(listener)
    assert [next(results)["data"], next(results)["data"]] == [1, 2]
    gate.set()
    channel.broadcast(CLOSED)
    assert [result["data"] for result in results] == [0]


def test_it_is_woken_by_messages_and_by_results():
    """It waits for whatever comes first, on a condition without a timeout: never polling."""
    gate = threading.Event()
    channel = Gated(2, {0: gate})
    listener = channel.add_listener()
    stream = channel.process_queue(listener)
    ready = channel._ate_connections[listener.id]._ready
    wait, waited, timeouts = ready.wait, threading.Semaphore(0), []

    def counted(timeout=None):
        timeouts.append(timeout)
        waited.release()
        return wait(timeout)

    ready.wait = counted
    got = []
    reader = threading.Thread(target=lambda: got.extend(stream))
    reader.start()
    assert waited.acquire(timeout=BOUND)
    channel.broadcast(Message("m", 0))
    assert channel.begun.acquire(timeout=BOUND)
    assert waited.acquire(timeout=BOUND)
    gate.set()
    assert waited.acquire(timeout=BOUND)
    channel.remove_listener(listener.id)
    reader.join(BOUND)
    assert not reader.is_alive()
    assert [result["data"] for result in got] == [0]
    assert set(timeouts) == {None}
    assert len(timeouts) <= 4


def test_no_more_is_taken_than_is_read():
    """A reader that is slow bounds what lies in the pool."""
    channel = Gated(1)
    listener = channel.add_listener()
    for payload in range(10):
        channel.broadcast(Message("m", payload))
    with channel.process_queue(listener) as results:
        next(results)
        assert channel.statistics().waiting >= 7


def test_closing_it_early_leaves_no_thread():
    """What runs is seen to its end (the fixture looks at threads)."""
    channel = Gated(1)
    listener = channel.add_listener()
    for payload in range(10):
        channel.broadcast(Message("m", payload))
    results = channel.process_queue(listener)
    next(results)
    results.close()
    results.close()
    assert list(results) == []
    assert "closed" in results.reason


def test_closing_it_calls_off_what_has_not_begun():
    """Nothing in the pool begins after that."""
    given = []

    class Lazy(Executor):
        """Does the first piece of work, and keeps the others waiting."""

        def __init__(self, max_workers):
            pass

        def submit(self, fn, *args):
            given.append(Future())
            if len(given) == 1:
                given[0].set_result(fn(*args))
            return given[-1]

    channel = DataProcessingChannel(2, executor_class=Lazy)
    listener = channel.add_listener()
    for payload in range(3):
        channel.broadcast(Message("m", payload))
    with channel.process_queue(listener) as results:
        assert next(results)["data"] == 0
    assert [future.cancelled() for future in given] == [False, True, True]


@pytest.mark.parametrize("how", ["closed", "removed", "stopped", "channel"])
def test_what_runs_is_given_before_the_end(how):
    """Whatever ends it, the results of what was taken on are not lost."""
    gate = threading.Event()
    channel = Gated(2, {0: gate})
    listener = channel.add_listener()
    channel.broadcast(Message("m", 0))
    channel.broadcast(Message("m", 1))
    results = channel.process_queue(listener)
    assert next(results)["data"] == 1
    {
        "closed": lambda: channel.broadcast(CLOSED),
        "removed": lambda: channel.remove_listener(listener.id),
        "stopped": listener.stop,
        "channel": channel.close,
    }[how]()
    gate.set()
    assert [result["data"] for result in results] == [0]


def test_even_a_system_exit_is_a_failure(caplog):
    """It ends neither the pool nor the reader."""

    class Leaving(DataProcessingChannel):
        def adapt(self, msg):
            raise SystemExit(3)

    channel = Leaving(1)
    listener = channel.add_listener()
    channel.broadcast(Message("m"))
    channel.broadcast(CLOSED)
    assert [r["error"]["type"] for r in channel.process_queue(listener)] == ["SystemExit"]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((0,), InvalidArgumentError, "max_workers must be at least 1"),
        (("2",), InvalidTypeError, "max_workers must be a whole number"),
        ((True,), InvalidTypeError, "max_workers must be a whole number"),
        ((1, -1), InvalidArgumentError, "stream_delay_seconds"),
        ((1, 0, "threads"), InvalidTypeError, "executor_class must be a class"),
    ],
)
def test_bad_input(arguments, error, says):
    with pytest.raises(error, match=says):
        DataProcessingChannel(*arguments)


def test_a_listener_of_another_channel():
    with pytest.raises(UnknownIdError, match="has no listener"):
        DataProcessingChannel(1).process_queue(DataProcessingChannel(1).add_listener())


def test_results_of_a_reader_that_was_too_slow_end_with_an_error():
    """Defect: none at all came, and that looked like all there was. Those that waited are given."""
    channel = DataProcessingChannel(2, executor_class=Here)
    listener = channel.add_listener()
    results, data = channel.process_queue(listener), []
    for payload in range(1500):
        channel.dispatch(listener, Message("m", payload))
    channel.dispatch(listener, CLOSED)
    with pytest.raises(OverloadedError, match="1000 messages behind"):
        data.extend(result["data"] for result in results)
    assert data == list(range(1000))
    assert [result["data"] for result in channel.process_queue(listener)] == list(range(1000, 1500))


def test_how_many_messages_wait_for_processing_can_be_said():
    """With the factory that all channels know."""
    channel = DataProcessingChannel(
        2, executor_class=Here, connections_factory=ConnectionsFactory(2000)
    )
    listener = channel.add_listener()
    results = channel.process_queue(listener)
    for payload in range(1500):
        channel.dispatch(listener, Message("m", payload))
    channel.dispatch(listener, CLOSED)
    assert [result["data"] for result in results] == list(range(1500))


def test_results_are_complete_if_the_last_message_waited_already():
    """What was sent after it, when the reader was too slow, does not matter to it."""
    channel = DataProcessingChannel(
        2, executor_class=Here, connections_factory=ConnectionsFactory(2)
    )
    listener = channel.add_listener()
    results = channel.process_queue(listener)
    for message in (Message("m", 1), CLOSED, Message("m", 2)):
        channel.dispatch(listener, message)
    assert [result["data"] for result in results] == [1]
