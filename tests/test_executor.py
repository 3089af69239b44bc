"""`ExecutorProducer`: one producer, a pool of threads or processes."""

from __future__ import annotations

import multiprocessing
import operator
import os
import queue
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from ate_dispatcher import (
    AgentState,
    ExecutorProducer,
    InvalidArgumentError,
    InvalidTypeError,
    OutcomeStatus,
    RequestStatus,
    current_request,
)
from ate_dispatcher.testing import Gate, RecordingListener

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches


def pooled(function, workers=1, **options):
    options.setdefault("name", "pool")
    return ExecutorProducer(function, ThreadPoolExecutor, workers, **options)


class Telling(ThreadPoolExecutor):
    """A pool of threads that tells how many calls it has been given."""

    def __init__(self, max_workers):
        super().__init__(max_workers)
        self._given = threading.Semaphore(0)

    def submit(self, function, /, *args):
        future = super().submit(function, *args)
        self._given.release()
        return future

    def wait_given(self, number):
        assert all(self._given.acquire(timeout=BOUND) for _ in range(number))


# ---- threads -------------------------------------------------------------------------------------


def test_calls_run_at_once_up_to_max_workers(dispatcher):
    """Adding agents: three calls meet, a fourth has to wait for a free worker."""
    meet, gate = threading.Barrier(3), Gate()
    running, most = [0], [0]
    lock = threading.Lock()

    def work(topic, number):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if number < 3:
            meet.wait(BOUND)
            gate.park()
        with lock:
            running[0] -= 1
        return number

    with gate:
        dispatcher.add(pooled(work, 3), "t")
        requests = [dispatcher.send_request("t", number, ttl=FOR_EVER) for number in range(4)]
        gate.wait_parked(3)
        assert requests[3].status is RequestStatus.OPEN
    assert [request.gather(BOUND).values["pool"] for request in requests] == [0, 1, 2, 3]
    assert most == [3]


def test_calls_begin_in_the_order_they_were_asked(dispatcher):
    """C6: order is promised for the start; with one worker for the rest, too."""
    begun = []
    dispatcher.add(pooled(lambda topic, number: begun.append(number)), "t")
    requests = [dispatcher.send_request("t", number) for number in range(20)]
    assert all(request.wait(BOUND) for request in requests)
    assert begun == list(range(20))


def test_arguments_results_and_stamps(dispatcher):
    """C2, C3: as from any producer; the worker stamps the end."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.add(pooled(lambda topic, *args, **kwargs: (topic, args, kwargs), site=4), "t")
    request = dispatcher.send_request("t", 1, channel=2)
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"pool": ("t", (1,), {"channel": 2})}
    (outcome,) = request.outcomes
    assert outcome.site == 4
    assert request.sent <= outcome.queued <= outcome.started <= outcome.ended <= time.monotonic()
    assert listener.values == [("t", (1,), {"channel": 2})]


def test_an_error_is_an_outcome_and_frees_its_worker(dispatcher):
    """C5: with its traceback; the next call is served."""

    def work(topic, fail):
        if fail:
            raise OSError("unplugged")
        return "back"

    dispatcher.add(pooled(work), "t")
    (failure,) = dispatcher.send_request("t", True).gather(BOUND).failed
    assert failure.status is OutcomeStatus.ERROR
    assert failure.reason == "OSError: unplugged"
    assert "in work" in failure.traceback
    assert dispatcher.send_request("t", False).gather(BOUND).values == {"pool": "back"}


@pytest.mark.parametrize("where", ["call", "submit"])
def test_an_error_that_cannot_be_told_frees_its_worker_and_its_resources(dispatcher, where):
    """C5: whatever goes wrong on the way to the outcome, the next call is served."""

    class Untold(ExecutorProducer):
        def _ate_error(self, request, error, started):
            raise RuntimeError("no way to tell it")

    class Once(ThreadPoolExecutor):
        def submit(self, function, /, *args):
            if where == "submit" and not failed:
                failed.append(None)
                raise OSError("no thread to be had")
            return super().submit(function, *args)

    def work(topic, fail):
        if fail:
            raise OSError("unplugged")
        return "back"

    failed = []
    producer = Untold(work, Once, 1, name="pool", resources=("bus",))
    dispatcher.add(producer, "t")
    untold = dispatcher.send_request("t", True, ttl=FOR_EVER)
    if where == "submit":  # on the producer's own thread: it fails, and leaves nothing behind
        producer.join(BOUND)
        assert not producer.is_alive()
        dispatcher.add(pooled(work, resources=("bus",), name="next"), "t")
    answers = dispatcher.send_request("t", False).gather(BOUND).values
    assert list(answers.values()) == ["back"]
    untold.cancel()


def test_what_waits_for_a_worker_can_expire_and_be_cancelled_unstarted(timed, clock, gate):
    """C4: until a worker is free a request counts as queued; stale work never starts."""
    begun = []

    def work(topic, name):
        begun.append(name)
        if name == "first":
            gate.park()
        return name

    timed.add(pooled(work), "t")
    first = timed.send_request("t", "first", ttl=FOR_EVER)
    gate.wait_parked()
    stale = timed.send_request("t", "stale", ttl=100)
    cancelled = timed.send_request("t", "cancelled", ttl=FOR_EVER)
    cancelled.cancel()
    clock.advance(1)
    assert stale.wait(BOUND)
    assert cancelled.wait(BOUND)
    assert "queued" in stale.missing[0].reason
    gate.open()
    last = timed.send_request("t", "last", ttl=FOR_EVER)
    assert last.gather(BOUND).values == {"pool": "last"}
    assert first.gather(BOUND).values == {"pool": "first"}
    assert begun == ["first", "last"]


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_stands_in_the_pools_own_line_never_starts_after_its_end(timed, clock, end):
    """C4: the pool has others to serve; it counts as queued, and its worker comes back at once."""
    begun = []
    with Telling(1) as pool, Gate() as gate:
        pool.submit(gate.park)
        gate.wait_parked()
        producer = ExecutorProducer(lambda topic, *args: begun.append(args), pool, 3, name="pool")
        timed.add(producer, "t")
        stale = [timed.send_request("t", number, ttl=100) for number in range(3)]
        pool.wait_given(4)
        if end == "cancelled":
            for request in stale:
                request.cancel()
        else:
            clock.advance(1)
        assert all(request.wait(BOUND) for request in stale)
        rows = [outcome for request in stale for outcome in request.outcomes]
        assert [outcome.started for outcome in rows] == [None, None, None]
        if end == "expired":
            assert all("still queued" in outcome.reason for outcome in rows)
        # The pool's one thread is parked still: this waits for the producer's own workers.
        assert timed.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
        timed.register_result_producer(producer, "t")
        last = timed.send_request("t", "last", ttl=FOR_EVER)
        gate.open()
        assert last.wait(BOUND)
    assert begun == [("last",)]
    assert timed.remove(producer, wait=True, timeout=BOUND)


def test_an_answer_past_the_deadline_is_late(timed, clock, gate):
    """C3: judged by the worker's stamp."""
    timed.add(pooled(lambda topic: gate.park()), "t")
    request = timed.send_request("t", ttl=100)
    gate.wait_parked()
    clock.advance(1)
    assert request.wait(BOUND)
    assert request.status is RequestStatus.EXPIRED
    assert "running" in request.missing[0].reason
    gate.open()
    assert timed.remove(timed.agents["pool"], wait=True, timeout=BOUND)
    assert timed.flush(BOUND)
    assert timed.statistics().lates == 1


def test_copies_are_made_for_workers_too(dispatcher):
    """C11: under ``copy=`` arguments and result are the worker's own."""
    seen = []

    def work(topic, data):
        seen.append(data)
        return data

    dispatcher.add(pooled(work), "t")
    data = [1]
    request = dispatcher.with_options(copy="deep").send_request("t", data).gather(BOUND)
    assert seen == [[1]]
    assert seen[0] is not data
    assert request.values["pool"] == [1]
    assert request.values["pool"] is not seen[0]


def test_a_class_of_executor_is_made_and_shut_down_by_the_producer(dispatcher):
    """Adding agents: its threads end with the agent; `stop` waits for the calls that run."""
    made = []

    class Noting(ThreadPoolExecutor):
        def __init__(self, max_workers):
            super().__init__(max_workers)
            made.append((self, max_workers))

    dispatcher.add(ExecutorProducer(lambda topic: 1, Noting, 2, name="pool"), "t")
    assert dispatcher.send_request("t").gather(BOUND).values == {"pool": 1}
    assert dispatcher.stop().clean
    ((pool, workers),) = made
    assert workers == 2
    with pytest.raises(RuntimeError):
        pool.submit(print)


def test_an_executor_given_as_an_instance_is_the_callers(dispatcher):
    """Adding agents: it is not shut down, and may serve several producers."""
    with ThreadPoolExecutor(1) as pool:
        for name in ("a", "b"):
            dispatcher.add(ExecutorProducer(lambda topic: 1, pool, name=name), "t")
        assert dispatcher.send_request("t").gather(BOUND).values == {"a": 1, "b": 1}
        assert dispatcher.stop().clean
        assert pool.submit(int, "7").result(BOUND) == 7


def test_an_executor_that_was_shut_down_is_an_error_not_a_hang(dispatcher):
    """C5: each request is answered with what `submit` raised."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    dispatcher.add(ExecutorProducer(lambda topic: 1, pool, 1, name="pool"), "t")
    for _ in range(3):
        (failure,) = dispatcher.send_request("t", ttl=FOR_EVER).gather(BOUND).failed
        assert isinstance(failure.exception, RuntimeError)
        assert "shutdown" in failure.reason


def test_the_number_of_workers_if_not_given(dispatcher):
    """Adding agents: one for each processor, or as many as the caller's pool has."""
    made = []

    class Noting(ThreadPoolExecutor):
        def __init__(self, max_workers):
            super().__init__(max_workers)
            made.append(max_workers)

    dispatcher.add(ExecutorProducer(lambda topic: 1, Noting, name="pool"), "t")
    assert dispatcher.send_request("t").gather(BOUND).values == {"pool": 1}
    assert made == [os.cpu_count()]
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(7) as seven:
        pools = one, seven, Ahead()
        numbers = [ExecutorProducer(print, pool)._ate_workers for pool in pools]
        assert numbers == [1, 7, os.cpu_count()]
        assert ExecutorProducer(print, one, 2)._ate_workers == 2


def test_deregistering_waits_for_the_calls_that_run(dispatcher, gate):
    """C8: queued and running work of the pool counts."""
    producer = dispatcher.add(pooled(lambda topic: gate.park(), 2), "t")
    requests = [dispatcher.send_request("t", ttl=FOR_EVER) for _ in range(2)]
    gate.wait_parked(2)
    assert not dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=0.01)
    gate.open()
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert all(request.wait(BOUND) for request in requests)
    producer.stop()


def test_a_fence_waits_for_the_calls_before_it_and_keeps_nobody(dispatcher):
    """C7, C8: later calls begin, and end or not: it passes with the last of those before it."""
    early, late = Gate(), Gate()
    producer = dispatcher.add(pooled(lambda topic, gate=None: gate and gate.park(), 3), "t")
    first, second = threading.Event(), threading.Event()
    with late, early:
        requests = [dispatcher.send_request("t", early, ttl=FOR_EVER)]
        early.wait_parked()
        producer._ate_fence(first.set)
        requests.append(dispatcher.send_request("t", late, ttl=FOR_EVER))
        late.wait_parked()  # begun behind the first fence
        producer._ate_fence(second.set)
        assert dispatcher.send_request("t").wait(BOUND)  # behind both
        assert (first.is_set(), second.is_set()) == (False, False)
        early.open()
        assert first.wait(BOUND)
        assert not second.is_set()
        late.open()
        assert second.wait(BOUND)
    assert all(request.wait(BOUND) for request in requests)


def test_it_shows_its_oldest_call_until_the_last_has_ended(dispatcher):
    """States: it is busy while any call runs, whichever began or ended last."""
    early, late = Gate(), Gate()
    producer = dispatcher.add(pooled(lambda topic, gate=None: gate and gate.park(), 3), "t")
    address = producer._ate_address
    with late, early:
        first = dispatcher.send_request("t", early, ttl=FOR_EVER)
        early.wait_parked()
        second = dispatcher.send_request("t", late, ttl=FOR_EVER)
        late.wait_parked()
        third = dispatcher.send_request("t", ttl=FOR_EVER)
        assert third.wait(BOUND)
        assert address.running is first
        assert dispatcher.states() == {"pool": AgentState.BUSY}
        fence = threading.Event()
        producer._ate_fence(fence.set)
        assert dispatcher.send_request("t").wait(BOUND)
        early.open()
        assert first.wait(BOUND)
        assert not fence.is_set()
        late.open()
        assert fence.wait(BOUND)
        assert second.wait(BOUND)
        assert address.running is None
        assert dispatcher.states() == {"pool": AgentState.READY}


def test_a_worker_may_send_and_wait_for_others(dispatcher):
    """C7: a thread of the pool is one of the library's while it works: only itself is refused."""
    dispatcher.producer("inner", name="inner")(lambda topic: 20)
    dispatcher.add(
        pooled(lambda topic: dispatcher.send_request("inner").gather(BOUND).values["inner"]), "t"
    )
    assert dispatcher.send_request("t").gather(BOUND).values == {"pool": 20}


def test_a_generator_function_never_passes_for_an_answer(dispatcher):
    """C14: an unstarted generator is nobody's result: refused when it is given, by its name."""

    def stream(topic):
        yield 1

    async def coroutine(topic):
        return 1

    for function in (stream, coroutine):
        with pytest.raises(InvalidTypeError, match=function.__name__):
            dispatcher.add(pooled(function), "t")


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((None, ThreadPoolExecutor), InvalidTypeError, "None"),
        ((print, "threads"), InvalidTypeError, "'threads'"),
        ((print, None), InvalidTypeError, "None"),
        ((print, ThreadPoolExecutor, "2"), InvalidTypeError, "'2'"),
        ((print, ThreadPoolExecutor, True), InvalidTypeError, "True"),
        ((print, ThreadPoolExecutor, 1.5), InvalidTypeError, "1.5"),
        ((print, ThreadPoolExecutor, 0), InvalidArgumentError, "0"),
        ((print, ThreadPoolExecutor, -1), InvalidArgumentError, "-1"),
    ],
)
def test_bad_arguments(args, error, message):
    """Bad input: the error names the value."""
    with pytest.raises(error, match=message):
        ExecutorProducer(*args)


# ---- processes -----------------------------------------------------------------------------------


class Spawning(ProcessPoolExecutor):
    """A pool whose processes are started afresh: forking beside threads is asking for trouble."""

    def __init__(self, max_workers):
        super().__init__(max_workers, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def processes():
    """A pool of one process, up and running before any test looks at the threads."""
    with Spawning(1) as pool:
        pool.submit(int).result(60)
        yield pool


def test_work_in_another_process(dispatcher, processes):
    """Adding agents: function, arguments and result travel; order and stamps as ever."""
    dispatcher.add(ExecutorProducer(operator.mul, processes, 1, name="pool"), "t")
    requests = [dispatcher.send_request("t", number) for number in range(4)]
    values = [request.gather(BOUND).values["pool"] for request in requests]
    assert values == ["", "t", "tt", "ttt"]
    (outcome,) = requests[-1].outcomes
    assert outcome.queued <= outcome.started <= outcome.ended <= time.monotonic()


def test_an_error_in_another_process(dispatcher, processes):
    """C5: the exception comes back, and what it says; the pool goes on."""
    dispatcher.add(ExecutorProducer(operator.concat, processes, 1, name="pool"), "t")
    (failure,) = dispatcher.send_request("t", 1).gather(BOUND).failed
    assert isinstance(failure.exception, TypeError)
    assert dispatcher.send_request("t", "u").gather(BOUND).values == {"pool": "tu"}


class Ahead(Executor):
    """A pool whose calls cannot be taken back, and run when the test says so."""

    def __init__(self):
        self.line = queue.SimpleQueue()

    def submit(self, function, /, *args):
        future = Future()
        future.set_running_or_notify_cancel()
        self.line.put((future, function, args))
        return future

    def run_one(self):
        future, function, args = self.line.get(timeout=BOUND)
        future.set_result(function(*args))


def test_what_a_pool_has_taken_out_of_its_line_does_not_start_past_its_deadline(dispatcher):
    """C4: the process looks at the clock before it begins."""
    begun = []
    pool = Ahead()
    producer = ExecutorProducer(lambda topic, name: begun.append(name), pool, 1, name="pool")
    dispatcher.add(producer, "t")
    assert dispatcher.send_request("t", "stale", ttl=1).wait(BOUND)
    pool.run_one()
    last = dispatcher.send_request("t", "last", ttl=FOR_EVER)
    pool.run_one()
    assert last.wait(BOUND)
    assert begun == ["last"]
    assert dispatcher.statistics().lates == 0


def a_lock(topic):
    return threading.Lock()


@pytest.mark.parametrize("what", ["argument", "result", "function"])
def test_what_cannot_travel_is_an_error_not_a_hang(dispatcher, processes, what):
    """C5: the outcome says what could not be pickled; the next call is served."""
    function = {"argument": operator.mul, "result": a_lock, "function": lambda topic: 1}[what]
    arguments = [threading.Lock()] if what == "argument" else []
    dispatcher.add(ExecutorProducer(function, processes, 1, name="pool"), "t")
    (failure,) = dispatcher.send_request("t", *arguments, ttl=FOR_EVER).gather(BOUND).failed
    assert failure.status is OutcomeStatus.ERROR
    assert ("<lambda>" if what == "function" else "pickle") in failure.reason
    dispatcher.add(ExecutorProducer(operator.mul, processes, 1, name="next"), "u")
    assert dispatcher.send_request("u", 2).gather(BOUND).values == {"next": "uu"}


def die(topic):
    os._exit(3)


def test_a_worker_process_that_dies_is_an_error_not_a_hang(dispatcher):
    """C5: and so is all that is sent to the broken pool after it; the pool was the producer's."""
    dispatcher.add(ExecutorProducer(die, Spawning, 1, name="pool"), "t")
    for _ in range(2):
        (failure,) = dispatcher.send_request("t", ttl=FOR_EVER).gather(30).failed
        assert failure.status is OutcomeStatus.ERROR
        assert "BrokenProcessPool" in failure.reason


def test_there_is_no_current_request_in_another_process(dispatcher, processes):
    """C13: it is told so there, in one sentence."""
    dispatcher.add(ExecutorProducer(asks, processes, 1, name="pool"), "t")
    (failure,) = dispatcher.send_request("t").gather(BOUND).failed
    assert "current_request" in failure.reason


def asks(topic):
    return current_request().topic
