"""The public names as a typed script uses them: checked by mypy in strict mode, never run."""

from __future__ import annotations

import math
import signal
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ate_dispatcher import (
    VERSION_STR,
    ATEDispatcher,
    ATEDispatcherError,
    ExecutorProducer,
    ListenerStatistics,
    Observer,
    OptionsView,
    Outcome,
    OutcomeStatus,
    Phase,
    Producer,
    ProducerStatistics,
    Request,
    RequestFailedError,
    RequestStatus,
    ResultListener,
    Statistics,
    StopReport,
    Straggler,
    TopicFilter,
    __version__,
    current_request,
)
from ate_dispatcher.dispatcher import ATEDispatcher as DocumentedDispatcher
from ate_dispatcher.testing import (
    Call,
    Delay,
    FakeClock,
    Gate,
    RecordingListener,
    ScriptedProducer,
    no_thread_leaks,
)


class Dmm(Producer):
    def __init__(self, offset: float, *, name: Optional[str] = None) -> None:
        super().__init__(name=name, site=2, capacity=10, overflow="drop_oldest")
        self.offset = offset
        self.site = "my own"

    def on_start(self) -> None:
        self.offset += 1.0

    def produce_dispatcher_output(self, topic: str, *args: Any, **kwargs: Any) -> float:
        request: Request = current_request()
        left: float = request.remaining()
        wanted: bool = not request.cancelled
        slept: bool = request.sleep(0.1)
        request.on_cancel(self.stop)
        request.check()
        return self.offset + left + wanted + slept


class Scope(Producer):
    def produce_dispatcher_output(self, topic: str, *args: Any, **kwargs: Any) -> Iterator[int]:
        yield 1
        yield 2


class Chiller(Producer):
    async def on_start(self) -> None:
        pass

    async def produce_dispatcher_output(self, topic: str, *args: Any, **kwargs: Any) -> int:
        return -40


class Log(ResultListener):
    def process_dispatcher_result(self, topic: str, response: Any) -> None:
        print(topic, response)

    def process_dispatcher_outcome(self, outcome: Outcome) -> None:
        status: OutcomeStatus = outcome.status
        phase: Optional[Phase] = outcome.phase
        error: Optional[BaseException] = outcome.exception
        when: Tuple[float, float, Optional[float], Optional[float], Optional[float]] = (
            outcome.sent,
            outcome.queued,
            outcome.started,
            outcome.ended,
            outcome.since,
        )
        words: List[str] = [outcome.topic, outcome.producer, outcome.reason, outcome.traceback]
        tags: Mapping[str, Any] = outcome.tags
        record: Dict[str, Any] = outcome.as_dict()
        print(status, phase, error, when, words, tags, record, outcome.site, outcome.streamed)

    def process_dispatcher_end(self, request: Request) -> None:
        print(request.status is RequestStatus.COMPLETE)


class AsyncLog(ResultListener):
    async def process_dispatcher_result(self, topic: str, response: Any) -> None:
        pass


class Notes(Observer):
    def on_late(self, outcome: Outcome, in_time: bool) -> None:
        print(outcome, in_time)

    def on_listener_error(self, listener: str, event: Any, error: BaseException) -> None:
        print(listener, event, error)


def work(topic: str, samples: List[float]) -> float:
    return max(samples)


def on_error(listener: str, event: Any, error: BaseException) -> None:
    print(listener, event, error)


def enough(outcome: Outcome) -> bool:
    return outcome.status is OutcomeStatus.OK


def agents(dispatcher: ATEDispatcher) -> None:
    dmm: Dmm = dispatcher.add(Dmm(1.0, name="dmm"), "a", TopicFilter("site.*.voltage"))
    log: Log = dispatcher.add(Log(name="log"), "a")
    dispatcher.add(ExecutorProducer(work, ThreadPoolExecutor, 4, name="pool"), "b")
    dispatcher.add(ExecutorProducer(work, ProcessPoolExecutor(2), max_workers=2), "b")
    dispatcher.register_result_producer(Scope(), "w")
    dispatcher.register_result_producer(Chiller(), TopicFilter("c.#"))
    dispatcher.register_result_listener(AsyncLog(), "a")
    gone: bool = dispatcher.deregister_result_producer(dmm, "a", wait=True, timeout=1.5)
    gone = dispatcher.deregister_result_listener(log, TopicFilter("a"), wait=True)
    gone = dispatcher.remove(dmm, wait=True, timeout=2)
    names: List[str] = list(dispatcher.agents)
    log.send_result("a", 1)
    dmm.stop()
    print(gone, names, TopicFilter("a.*").matches("a.b"))

    @dispatcher.producer("a", "b", name="measure", site=0)
    def measure(topic: str, channel: int) -> float:
        return channel / 2

    @dispatcher.listener(TopicFilter("#"))
    def store(topic: str, response: Any) -> None:
        print(topic, response)

    half: float = measure("a", 1)
    store("a", half)


def requests(dispatcher: ATEDispatcher) -> None:
    request: Request = dispatcher.send_request("a", 1, "two", ttl=2500, channel=3, uuid="mine")
    dispatcher.send_request("a", ttl=timedelta(seconds=1))
    dispatcher.send_request("a", ttl=math.inf).cancel()
    ended: bool = request.wait(1.5) and request.wait(timeout=None, delivered=True)
    same: Request = request.gather(timeout=2)
    status: RequestStatus = same.status
    outcomes: Tuple[Outcome, ...] = (*request.succeeded, *request.failed, *request.missing)
    values: Dict[str, Any] = request.values
    sites: Dict[Any, Tuple[Outcome, ...]] = request.by_site()
    late: Tuple[str, ...] = request.laggards()
    future: Future[Request] = request.future()
    again: Request = future.result(1.0)
    request.add_done_callback(lambda done: print(done.status))
    for outcome in request:
        print(outcome.value)
    with dispatcher.send_request("a") as open_request:
        print(open_request.roster, open_request.kwargs, open_request.tags)
    try:
        again.raise_for_status()
    except RequestFailedError as error:
        print(error.values, error.failed, error.missing, error.request)
    except ATEDispatcherError:
        pass
    print(ended, status, request.outcomes, outcomes, values, sites, late, request.reason)


def options(dispatcher: ATEDispatcher) -> None:
    view: OptionsView = dispatcher.with_options(
        to=["dmm0", "dmm1"], sites=[0, "left"], until=2, tags={"lot": 7}, copy="deep"
    )
    request: Request = view.send_request("a", 1, ttl=100, channel=2)
    dispatcher.with_options(to="dmm0", sites=range(4), until=enough).send_request("a")
    print(request)


async def coroutines(dispatcher: ATEDispatcher) -> Dict[str, Any]:
    request = await dispatcher.send_request("a")
    async for outcome in dispatcher.send_request("a"):
        print(outcome.value)
    return request.values


def knowing(dispatcher: ATEDispatcher) -> None:
    dispatcher.add_observer(Notes())
    dispatcher.remove_observer(Notes())
    done: bool = dispatcher.flush(timeout=1)
    behind: Tuple[str, ...] = dispatcher.laggards()
    counted: Statistics = dispatcher.statistics()
    producers: Mapping[str, ProducerStatistics] = counted.producers
    listeners: Mapping[str, ListenerStatistics] = counted.listeners
    numbers: List[int] = [counted.open, counted.lates, counted.requests, producers["dmm"].requests]
    ended: Mapping[RequestStatus, int] = counted.ended
    print(done, behind, listeners["log"].dropped, numbers, ended)


def life() -> None:
    dispatcher = DocumentedDispatcher(
        name="bench", max_open=100, grace=0.5, high_water=1000, on_listener_error=on_error
    )
    dispatcher.start()
    dispatcher.stop_on_signals(signal.SIGTERM, signal.SIGINT)
    report: StopReport = dispatcher.stop(drain=False, timeout=2)
    alive: Tuple[Straggler, ...] = report.alive
    print(report.clean, report.delivered, report.undelivered, alive, __version__, VERSION_STR[0])


def fakes() -> None:
    clock = FakeClock(start=5.0)
    with no_thread_leaks(within=1.0), Gate(timeout=5.0) as gate, ATEDispatcher(clock=clock) as d:
        script: ScriptedProducer = d.add(ScriptedProducer(1, OSError, Delay(2, 3), gate), "a")
        record: RecordingListener = d.add(RecordingListener(name="log"), "a")
        clock.advance(1.5)
        gate.wait_parked(1)
        calls: List[Call] = script.calls
        results: List[Tuple[str, Any]] = record.results
        print(calls[0].kwargs, results, record.values, record.outcomes, record.ends)
