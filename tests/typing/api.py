"""The public names as a typed script uses them: checked by mypy in strict mode, never run."""

from __future__ import annotations

import math
import signal
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ate_dispatcher import (
    VERSION_STR,
    AgentState,
    ATEDispatcher,
    ATEDispatcherError,
    ExecutorProducer,
    ListenerStatistics,
    Observer,
    OptionsView,
    Outcome,
    OutcomeStatus,
    Percentiles,
    Phase,
    Producer,
    ProducerStatistics,
    RecordedError,
    RecordingError,
    Request,
    RequestFailedError,
    RequestStatus,
    ResultListener,
    Statistics,
    StopReport,
    Straggler,
    TopicFilter,
    __version__,
    aio,
    current_request,
    sse,
)
from ate_dispatcher.application import (
    BusConfig,
    DistributedApplication,
    DistributionApplication,
    KafkaConfig,
    Message,
    MessageBuilder,
    MqttConfig,
    Socket,
    SocketProvider,
    SocketProviderFactory,
    SupportedContextManagers,
)
from ate_dispatcher.bridge import AgentHost, Bridge
from ate_dispatcher.bus import (
    Capabilities,
    Distributer,
    Driver,
    Inbox,
    PubSub,
    Spelling,
    Subscription,
)
from ate_dispatcher.channels import Channel, Channels, StatusType
from ate_dispatcher.dispatcher import ATEDispatcher as DocumentedDispatcher
from ate_dispatcher.record import (
    CSVRecorder,
    Gap,
    JSONLinesRecorder,
    RecordedOutcome,
    RecordedRequest,
    Recorder,
    ReplayReport,
    SQLiteRecorder,
    Unserialised,
    read,
    replay,
)
from ate_dispatcher.supervision import (
    ProcessProducer,
    Restart,
    SiteBarrier,
    Supervised,
    Supervisor,
)
from ate_dispatcher.testing import (
    Call,
    Delay,
    FakeClock,
    Gate,
    RecordingListener,
    ScriptedProducer,
    no_thread_leaks,
)
from ate_dispatcher.timeline import Timeline


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
    dropped: int = request.dropped
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
    print(ended, status, request.outcomes, outcomes, values, dropped, sites, late, request.reason)


def options(dispatcher: ATEDispatcher) -> None:
    view: OptionsView = dispatcher.with_options(
        to=["dmm0", "dmm1"], sites=[0, "left"], until=2, tags={"lot": 7}, copy="deep", priority=3
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
    wait: Percentiles = producers["dmm"].wait
    slow: Optional[float] = producers["dmm"].service.p99
    restarts: int = producers["dmm"].restarts
    print(wait.p50, slow, restarts)


def drawing(dispatcher: ATEDispatcher, path: Path) -> None:
    with Timeline(dispatcher, limit=1000) as timeline:
        timeline.save("run.json")
    timeline.attach()
    timeline.save(path)
    trace: Dict[str, Any] = timeline.trace()
    kept: Tuple[int, int] = (len(timeline), timeline.dropped)
    timeline.clear()
    timeline.detach()
    print(trace, kept)


def life() -> None:
    dispatcher = DocumentedDispatcher(
        name="bench", max_open=100, grace=0.5, high_water=1000, on_listener_error=on_error
    )
    dispatcher.start()
    dispatcher.stop_on_signals(signal.SIGTERM, signal.SIGINT)
    report: StopReport = dispatcher.stop(drain=False, timeout=2)
    alive: Tuple[Straggler, ...] = report.alive
    print(report.clean, report.delivered, report.undelivered, alive, __version__, VERSION_STR[0])


def supervision(dispatcher: ATEDispatcher) -> None:
    states: Dict[str, AgentState] = dispatcher.states()
    dispatcher.disable_site(2)
    dispatcher.enable_site("left")
    with Supervisor(dispatcher) as supervisor:
        ward: Supervised = supervisor.run(
            lambda: ProcessProducer(Scope, grace=0.5, start_within=10, name="scope", site=1),
            "w",
            TopicFilter("x.*"),
            name="scope",
            restart=Restart(attempts=5, per=60.0),
            stall_after=10.0,
        )
        state: AgentState = ward.state
        over: bool = ward.given_up or ward.wait(timeout=1.0)
        states.update(supervisor.states)
        all_of_them: Dict[str, Supervised] = supervisor.supervised
        print(state, over, ward.restarts, ward.report, ward.producer, all_of_them)
        ended: bool = supervisor.stop(timeout=1)
    barrier = SiteBarrier(sites=[0, "left"], action=lambda celsius: print(celsius), margin=0.1)
    barrier.disable(0)
    barrier.enable(0)
    waiting: Tuple[Any, ...] = barrier.waiting
    print(ended, waiting, barrier(85, soak=30))


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


def bus() -> None:
    def on_error(subscription: Subscription, error: BaseException) -> None:
        print(subscription.errors, error)

    def log(data: Any, topic: str) -> None:
        print(topic, data)

    with Distributer("mqtt://127.0.0.1", on_error=on_error) as distributer:
        first: Subscription = distributer.subscribe(log, "site.*.v", with_topic=True)
        with distributer.subscribe(print, "a", TopicFilter("b.#"), subscriber_group="g") as second:
            distributer.publish({"volts": [5.01, None]}, "site.2.v")
            ended: bool = second.cancel(timeout=1.0)
        pubsub: PubSub = distributer.pubsub()
        pubsub.add_client(lambda channel, message: print(channel, message))
        pubsub.psubscribe("a*", "b?")
        counts: Dict[str, int] = pubsub.count("a", "b")
        channels: Tuple[str, ...] = pubsub.channels("a*")
        can: Capabilities = distributer.capabilities
        limit: Optional[int] = can.max_payload
        print(first.topics, first.join(1.0), ended, counts, channels, limit, distributer.url)


class Loopback(Driver):
    scheme = "loopback"

    def publish(self, words: Tuple[str, ...], payload: bytes) -> None:
        print(Spelling("/").topic(words), self.url.hosts, self.timeout)

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        inbox.put(("a",), b"1", via=0, done=lambda: None)
        return lambda: None


def elsewhere() -> None:
    with ATEDispatcher() as d, Bridge(d, "nats://127.0.0.1", expect={"v": ["dmm0"]}) as bridge:
        here: bool = bridge.wait_for("dmm0", timeout=5)
        hosts: Dict[str, str] = bridge.agents
        print(here, hosts, bridge.late, bridge.strangers)
    with AgentHost("nats://127.0.0.1", name="rack2", heartbeat=0.5) as host:
        dmm: ScriptedProducer = host.add(ScriptedProducer(1), "v", TopicFilter("w.#"))
        print(dmm.calls)
        host.run()


def applications(database: SupportedContextManagers) -> None:
    provider: SocketProvider = SocketProviderFactory.from_url("mqtt://127.0.0.1?group=g")
    SocketProviderFactory.from_config(MqttConfig("h", keepalive=5, username="u", password="p"))
    SocketProviderFactory.from_config(KafkaConfig(["a:9092"], "t", group_id="g"))
    SocketProviderFactory.from_config(BusConfig("memory://x", ["a", "b"], "g"))
    SocketProviderFactory.from_config({"url": "memory://x"})
    app = DistributionApplication(provider, name="lab", on_error="log", dead_letter="dead")
    other: DistributedApplication = DistributionApplication()

    @app.application(["a", TopicFilter("b.#")], state=1, ressources={"db": database})
    def answer(message: Message, socket: Socket, state: int, db: Any) -> None:
        question: Tuple[Any, str, Optional[str]] = (
            message.payload,
            message.topic,
            message.reply_topic,
        )
        socket.reply(message, [question, state, message.correlation, message.client_name])
        socket.subscribe("c")
        socket.unsubscribe(["c"])

    @app.producer(resources={"db": database}, on_error="stop")
    def measure(socket: Socket, state: None, db: Any, *, message_builder: MessageBuilder) -> None:
        while socket.sleep(1.0) and not socket.stopping:
            reply: Message = socket.request(message_builder(1, "a"), timeout=2.0)
            numbers: List[int] = [socket.late, socket.malformed]
            print(reply.payload, numbers)

    @other.producer(socket_provider=provider)
    async def coroutine(socket: Any, state: None) -> None:
        await socket.publish(Message(1, "a"))

    same: Callable[[Message, Socket, int, Any], None] = answer
    with other, provider.socket(print, name="me") as socket:
        socket.publish(Message({"volts": 5.01}, "a"))
    print(same, app.stop(timeout=2.0), measure, coroutine)
    app.start()


async def asynchronous_sockets(provider: SocketProvider) -> Message:
    async with provider.async_socket() as socket:
        await socket.subscribe(["a"])
        await socket.publish(Message(1, "a"))
        slept: bool = await socket.sleep(1.0)
        print(slept)
        return await socket.request(Message(1, "a"), timeout=1.0)


def channels_and_events(bus: Distributer) -> None:
    def heard(channel: Channel, event: str, data: Any) -> None:
        print(channel.name, event, data)

    def told(status: StatusType) -> None:
        print(status.name)

    with Channels(bus, "rack", status_channel="board", on_status=told) as channels:
        channel: Channel = channels.register("cells", "*", heard)
        left: Optional[Channel] = channels.unregister("cells", "*", heard)
        status: StatusType = channels.connect(next_time=2.0)
        channels.publish("cells", "voltage", {"volts": 4.2})
        print(channel.events, left, status is Channels.statusType.connected, channels.channels)


async def coroutine_forms() -> None:
    async def heard(channel: Channel, event: str, data: Any) -> None:
        print(channel.name, event, data)

    async with aio.Distributer("memory://") as bus, aio.Channels(bus) as channels:
        subscription: aio.Subscription = await bus.subscribe(print, "a", with_topic=True)
        await bus.publish(1, "a", retain=False)
        counts: Dict[str, int] = await bus.pubsub().count("a")
        channel: Channel = await channels.register("cells", "*", heard)
        await channels.publish("cells", "voltage", 4.2)
        ended: bool = await subscription.cancel()
        print(counts, channel, ended)


def event_streams() -> None:
    class Squares(sse.DataProcessingChannel):
        def adapt(self, msg: sse.MessageContract) -> Dict[str, Any]:
            return {"event": msg.type, "data": msg.payload**2}

    def answer(msg: sse.SignedMessage) -> List[sse.MessageContract]:
        return [sse.Message("pong", msg.sender_id)]

    repository = sse.SSEChannelRepository(sse.SQLiteStorage("channels.db"))
    channel: sse.SSEChannel = repository.create({"channel_id": "bench"})
    listener: sse.MessageQueueListener = channel.add_listener()
    channel.dispatch(listener.id, sse.Message("voltage", 4.2))
    with channel.event_stream(listener, last_event_id="") as stream:
        piece: bytes = next(stream)
        print(piece, sse.parse_events(piece), stream.reason)
    application = sse.SimpleDistributedApplicationChannel(connections_factory=None)
    own = sse.SimpleDistributedApplicationListener()
    application.register_listener(own)
    own.set_action("ping", answer)
    squares = Squares(2, executor_class=ProcessPoolExecutor)
    for result in squares.process_queue(squares.add_listener()):
        print(result)
    container = sse.ChannelContainer()
    container.register_iterable([channel, squares])
    with ATEDispatcher() as d:
        d.add(sse.ChannelFeed(channel, clock=d.clock, capacity=10), "v")


def recordings() -> None:
    def on_error(error: RecordingError) -> None:
        print(error.errno, error.filename)

    with ATEDispatcher() as d:
        recorder = d.add(JSONLinesRecorder("run.jsonl", durable="event", name="file"), "v")
        others: Sequence[Recorder] = (
            CSVRecorder("run.csv", rotate_bytes=10**6, on_error=on_error),
            SQLiteRecorder("run.db", capacity=10, clock=d.clock),
        )
        counts: Tuple[int, int] = (recorder.recorded, recorder.lost)
        print(counts, others)
    for event in read("run.jsonl"):
        if isinstance(event, RecordedOutcome):
            exact: bool = event.exact
            print(event.time, exact, isinstance(event.value, Unserialised))
            if isinstance(event.exception, RecordedError):
                print(event.exception.type_name, event.exception.traceback)
        elif isinstance(event, RecordedRequest):
            print(event.status, event.values, event.time)
        else:
            gap: Gap = event
            print(gap.lost, gap.reason, gap.missing)
    report: ReplayReport = replay("run.jsonl", [RecordingListener()], speed=2.0)
    print(report.events, report.gaps, report.errors)
