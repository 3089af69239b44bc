"""Short scenarios in which many threads use one dispatcher, each ending in a check of invariants.

They run under scheduling noise (`noise`), with a seed; `hunt.py` runs them as long as one likes.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator, List

from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    Outcome,
    OutcomeStatus,
    OverloadedError,
    Producer,
    Request,
    RequestStatus,
    StateError,
)
from ate_dispatcher._resources import RESOURCES
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

__all__ = ["SCENARIOS", "Broken"]

BOUND = 60


class Broken(AssertionError):
    """An invariant did not hold."""


def check(condition: Any, what: str) -> None:
    if not condition:
        raise Broken(what)


def check_ended(requests: List[Request]) -> None:
    """Every request ends, with one final outcome a row."""
    for request in requests:
        check(request.wait(BOUND), f"never ended: {request!r}")
        outcomes = request.outcomes
        check(len(outcomes) == len(request.roster), f"outcomes are not the roster: {request!r}")
        final = all(outcome.status is not OutcomeStatus.PARTIAL for outcome in outcomes)
        check(final, f"a row without a final outcome: {request!r}")
        if request.status is RequestStatus.COMPLETE:
            cut = (OutcomeStatus.TIMEOUT, OutcomeStatus.CANCELLED, OutcomeStatus.NOT_NEEDED)
            check(not request._with(*cut), f"complete, but not answered by all: {request.outcomes}")


def together(*functions: Callable[[], Any]) -> None:
    """Run functions on threads of their own, all let go at once; their errors come out here."""
    errors: List[BaseException] = []
    line = threading.Barrier(len(functions))

    def guarded(function: Callable[[], Any]) -> None:
        try:
            line.wait(BOUND)
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
        check(not thread.is_alive(), "a caller hangs")
    if errors:
        raise errors[0]


class Echo(Producer):
    def produce_dispatcher_output(self, topic: str, number: int = 0) -> int:
        return number


def registrations(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Many threads register at once; every one of them is routed to afterwards."""
    with make() as dispatcher:
        producers = [Echo(name=f"p{number}") for number in range(4)]
        for producer in producers:
            producer.start()
        topics = [f"t{number}" for number in range(12)]

        def register(own: Producer) -> None:
            for topic in topics:
                dispatcher.register_result_producer(own, topic)

        together(*((lambda own=own: register(own)) for own in producers))
        requests = [dispatcher.send_request(topic, ttl=60_000) for topic in topics]
        check_ended(requests)
        for request in requests:
            missing = {p.name for p in producers} - set(request.roster)
            check(not missing, f"registrations are lost: {missing} on {request!r}")


def one_order(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Senders, cancels and registrations at once: one order for all who listened all the time."""
    with make() as dispatcher:
        listeners = [dispatcher.add(RecordingListener(), "t") for _ in range(2)]
        for number in range(2):
            dispatcher.add(Echo(name=f"p{number}"), "t")
        passing = Echo(name="passing")
        requests: List[Request] = []
        cancelled = chance.sample(range(6), 2)

        def send() -> None:
            for number in range(6):
                request = dispatcher.send_request("t", number, ttl=60_000)
                requests.append(request)
                if number in cancelled:
                    request.cancel()

        def come_and_go() -> None:
            dispatcher.add(passing, "t")
            check(
                dispatcher.deregister_result_producer(passing, "t", wait=True, timeout=BOUND),
                "deregister(wait=True) gave up",
            )
            passing.stop()

        together(send, send, come_and_go)
        check_ended(requests)
        check(dispatcher.flush(BOUND), f"not delivered: {dispatcher.laggards()}")
        orders = [[(o.producer, o.value, o.sent) for o in own.outcomes] for own in listeners]
        check(orders[0] == orders[1], "two listeners saw different orders")
        check(len(listeners[0].ends) == len(requests), "an end was not told once")
        accepted = sum(len(request.outcomes) for request in requests)
        check(len(orders[0]) == accepted, f"{len(orders[0])} told of {accepted} outcomes")


def send_and_stop(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """A send racing with the stop raises or ends; what was accepted is delivered."""
    dispatcher = make()
    dispatcher.start()
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.add(Echo(), "t")
    requests: List[Request] = []

    def send() -> None:
        for number in range(8):
            try:
                requests.append(dispatcher.send_request("t", number, ttl=60_000))
            except StateError:
                return

    together(send, lambda: dispatcher.stop(drain=chance.random() < 0.7))
    dispatcher.stop()
    check_ended(requests)
    good = [request.args[0] for request in requests if request.succeeded]
    check(listener.values == good, f"answered {good}, delivered {listener.values}")


def stop_after_answers(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """A stop that drains lets every outcome of an open request reach the listeners."""
    dispatcher = make()
    dispatcher.start()
    listener = dispatcher.add(RecordingListener(), "t")
    for number in range(3):
        dispatcher.add(Echo(name=f"p{number}"), "t")
    requests = [dispatcher.send_request("t", number, ttl=60_000) for number in range(16)]
    dispatcher.stop()
    check_ended(requests)
    check(all(r.status is RequestStatus.COMPLETE for r in requests), "a drained request is cut")
    check(len(listener.values) == 48, f"{len(listener.values)} of 48 results were delivered")


def failing_agents(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """An agent fails while it is sent work and registered: nothing waits for it for ever."""
    with make() as dispatcher:
        dispatcher.add(Echo(name="steady"), "t")
        weak = ScriptedProducer(lambda topic, number: number, SystemExit(), name="weak")
        requests: List[Request] = []

        def send() -> None:
            for number in range(5):
                requests.append(dispatcher.send_request("t", number, ttl=60_000))

        def register() -> None:
            try:
                dispatcher.add(weak, "t")
                dispatcher.register_result_producer(weak, "u")
            except StateError:
                pass  # it has failed already, and says so

        together(send, register, send)
        check_ended(requests)
        weak.stop()
        weak.join(BOUND)
        last = dispatcher.send_request("u", ttl=60_000)
        check_ended([last])


def deadline_and_answer(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Answer, cancel, expiry, wait, reader and done-callback meet: one end, told to everybody."""
    with make() as dispatcher:
        for number in range(2):
            dispatcher.add(Echo(name=f"p{number}"), "t")
        told: List[Request] = []
        seen: Dict[int, List[Outcome]] = {}
        requests = [
            dispatcher.send_request("t", number, ttl=chance.choice((1, 2, 60_000)))
            for number in range(5)
        ]

        def follow() -> None:
            for number, request in enumerate(requests):
                seen[number] = list(request)

        def watch() -> None:
            for request in requests:
                request.add_done_callback(told.append)
                request.cancel()

        together(follow, watch, lambda: check_ended(requests))
        check_ended(requests)
        for number, request in enumerate(requests):
            check(
                sorted(map(id, seen[number])) == sorted(map(id, request.outcomes)),
                f"a reader saw {seen[number]} of {request.outcomes}",
            )
    check(sorted(map(id, told)) == sorted(map(id, requests)), "a done-callback is lost")


def shared_agent(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Two dispatchers share agents and stop at once: both end, the agents with the last."""
    first, second = make(), make()
    first.start()
    second.start()
    producer, listener = Echo(name="shared"), RecordingListener(name="both")
    for dispatcher in (first, second):
        dispatcher.add(producer, "t")
        dispatcher.add(listener, "t")
    requests = [d.send_request("t", n, ttl=60_000) for n in range(3) for d in (first, second)]
    together(first.stop, second.stop)
    check_ended(requests)
    check(len(listener.values) == 6, f"{len(listener.values)} of 6 results were delivered")
    producer.join(BOUND)
    listener.join(BOUND)
    check(not producer.is_alive() and not listener.is_alive(), "a shared agent was left running")


def deregister_and_leave(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """deregister(wait=True) meets the agent's own end; afterwards nothing comes any more."""
    with make() as dispatcher:
        dispatcher.add(Echo(), "t")
        producer = dispatcher.add(ScriptedProducer(1, name="goes"), "t")
        listener = dispatcher.add(RecordingListener(name="listens"), "t")
        requests = [dispatcher.send_request("t", n, ttl=60_000) for n in range(2)]
        calls = []
        if chance.random() < 0.7:
            calls.append(producer.stop)
            calls.append(listener.stop)

        def leave() -> None:
            for deregister, agent in (
                (dispatcher.deregister_result_producer, producer),
                (dispatcher.deregister_result_listener, listener),
            ):
                check(deregister(agent, "t", wait=True, timeout=BOUND), f"no end of {agent.name}")

        together(leave, *calls)
        had = len(producer.calls), len(listener.outcomes)
        requests.append(dispatcher.send_request("t", 2, ttl=60_000))
        check_ended(requests)
        check(dispatcher.flush(BOUND), "not delivered")
        check(len(requests[-1].roster) == 1, "still routed to")
        check(had == (len(producer.calls), len(listener.outcomes)), "sent after deregistering")
        producer.stop()
        listener.stop()


def flush_and_leave(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """A flush while a listener is removed and the dispatcher stops returns, and told the truth."""
    dispatcher = make()
    dispatcher.start()
    dispatcher.add(Echo(), "t")
    stays, goes = (dispatcher.add(RecordingListener(), "t") for _ in range(2))
    request = dispatcher.send_request("t", 1, ttl=60_000)
    check_ended([request])  # both listeners were there when its outcome was accepted
    stopping = chance.random() < 0.5

    def flush() -> None:
        check(dispatcher.flush(BOUND), f"not delivered: {dispatcher.laggards()}")
        check(stays.values == goes.values == [1], "flushed, but not delivered")

    def delivered() -> None:
        check(request.wait(BOUND, delivered=True), f"not delivered: {request.laggards()}")
        check(stays.values == [1], "waited for, but not delivered")

    def leave() -> None:
        dispatcher.remove(goes)

    together(flush, delivered, leave, dispatcher.stop if stopping else leave)
    dispatcher.stop()
    check_ended([request])


def late_start(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """A listener that is started late, with events waiting, counts for a flush all the same."""
    with make() as dispatcher:
        dispatcher.add(Echo(), "t")
        listener = RecordingListener()
        dispatcher.register_result_listener(listener, "t")
        check_ended([dispatcher.send_request("t", 1, ttl=60_000)])

        def flush() -> None:
            check(dispatcher.flush(BOUND), f"not delivered: {dispatcher.laggards()}")
            check(listener.values == [1], "flushed, but not delivered")

        together(flush, listener.start)


def added_twice(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Threads and dispatchers add one agent at once: it runs once, and is routed to by all."""
    first, second = make(), make()
    with first, second:
        producer = Echo()
        together(
            lambda: first.add(producer, "a"),
            lambda: first.add(producer, "b"),
            lambda: second.add(producer, "a"),
        )
        requests = [
            first.send_request("a", ttl=60_000),
            first.send_request("b", ttl=60_000),
            second.send_request("a", ttl=60_000),
        ]
        check_ended(requests)
        check(all(len(request.succeeded) == 1 for request in requests), f"lost: {requests}")
        running = [thread for thread in threading.enumerate() if thread is producer]
        check(len(running) <= 1, "an agent runs on two threads")


def work_that_never_starts(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Cancel, expiry and start contest each row: a row closed unstarted was never worked on."""
    with make() as dispatcher:
        producers = [
            dispatcher.add(ScriptedProducer(lambda topic, number: number, name=f"p{n}"), "t")
            for n in range(2)
        ]
        requests = [
            dispatcher.send_request("t", number, ttl=chance.choice((1, 2, 3, 60_000)))
            for number in range(8)
        ]
        victims = chance.sample(requests, 4)
        together(
            lambda: [request.cancel() for request in victims[:3]],
            lambda: [request.cancel() for request in victims[2:]],
        )
        check_ended(requests)
        for own in producers:
            check(dispatcher.remove(own, wait=True, timeout=BOUND), "work does not end")
    for position, own in enumerate(producers):
        called = [call.args[0] for call in own.calls]
        started = [r.args[0] for r in requests if r.outcomes[position].started is not None]
        check(called == started, f"worked on {called}, rows say {started}")
        check(called == sorted(set(called)), f"not in order, or twice: {called}")


def streams(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Readers and listeners of a stream see its values in order, whoever cancels and when."""

    class Counts(Producer):
        def produce_dispatcher_output(self, topic: str, number: int) -> Iterator[int]:
            yield from range(number)

    with make() as dispatcher:
        dispatcher.add(Counts(), "t")
        listener = dispatcher.add(RecordingListener(), "t")
        requests = [dispatcher.send_request("t", 6, ttl=60_000) for _ in range(3)]
        seen: Dict[int, List[Any]] = {}

        def follow() -> None:
            for number, request in enumerate(requests):
                seen[number] = [o.value for o in request if o.status is OutcomeStatus.PARTIAL]

        together(follow, requests[chance.randrange(3)].cancel)
        check_ended(requests)
        check(dispatcher.flush(BOUND), "not delivered")
        for number, request in enumerate(requests):
            values = next(iter(request.values.values()), [])
            check(seen[number] == values == list(range(len(values))), f"{seen[number]} of {values}")
            if request.status is RequestStatus.COMPLETE:
                check(len(values) == 6, f"complete with {values}")
        partial = [o for o in listener.outcomes if o.status is OutcomeStatus.PARTIAL]
        values = [
            value for request in requests for value in next(iter(request.values.values()), [])
        ]
        check([o.value for o in partial] == values, "a listener saw other values")


def readers_and_stop(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Whoever follows, waits for or calls back about a request that meets the stop is told."""
    dispatcher = make()
    dispatcher.start()
    dispatcher.add(Echo(), "t")
    requests: List[Request] = []
    told: List[Request] = []

    def send() -> None:
        for number in range(4):
            try:
                request = dispatcher.send_request("t", number, ttl=60_000)
            except StateError:
                return
            requests.append(request)
            request.add_done_callback(told.append)
            check(len(list(request)) == len(request.roster), "a reader missed an outcome")

    together(send, send, send, lambda: dispatcher.stop(drain=chance.random() < 0.5))
    check_ended(requests)
    dispatcher.stop()
    check(sorted(map(id, told)) == sorted(map(id, requests)), "a done-callback is lost")


def limits(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Bounds hold and give their room back: max_open, bounded mailboxes, early finish."""
    dispatcher = make(max_open=2)
    dispatcher.start()
    policy = chance.choice(("reject", "drop_oldest", "latest"))
    dispatcher.add(Echo(name="bounded", capacity=1, overflow=policy), "t")
    dispatcher.add(Echo(name="free"), "t")
    requests: List[Request] = []
    early = dispatcher.with_options(until=1)

    def send(sender: Any) -> None:
        for number in range(4):
            try:
                requests.append(sender.send_request("t", number, ttl=60_000))
            except (StateError, OverloadedError):
                return

    calls = [lambda: send(dispatcher), lambda: send(early), lambda: send(dispatcher)]
    if chance.random() < 0.3:
        calls.append(dispatcher.stop)
    together(*calls)
    check_ended(requests)
    if len(calls) == 3:
        for _ in range(3):  # more than max_open: each took a place and gave it back
            check_ended([dispatcher.send_request("t", 0, ttl=60_000)])
    dispatcher.stop()
    check(dispatcher._admission._value == 2, "a place of max_open is lost")


def pools(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """A producer with a pool: what is cancelled before a worker was free never ran."""
    worked: List[int] = []

    def work(topic: str, number: int) -> int:
        worked.append(number)
        return number

    with make() as dispatcher:
        producer = dispatcher.add(ExecutorProducer(work, ThreadPoolExecutor, 2), "t")
        requests = [dispatcher.send_request("t", number, ttl=60_000) for number in range(5)]
        together(requests[chance.randrange(5)].cancel, requests[chance.randrange(5)].cancel)
        check_ended(requests)
        check(dispatcher.remove(producer, wait=True, timeout=BOUND), "a pool does not settle")
    started = [r.args[0] for r in requests if r.outcomes[0].started is not None]
    check(sorted(worked) == started, f"worked on {sorted(worked)}, rows say {started}")


def start_and_stop(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Start, stop and stop again meet: nobody hangs, what was sent ends."""
    dispatcher = make()
    request = dispatcher.send_request("t", ttl=60_000)

    def start() -> None:
        try:
            dispatcher.start()
        except StateError:
            pass  # the stop came first

    together(start, dispatcher.stop, dispatcher.stop)
    check_ended([request])
    check(not dispatcher.is_alive(), "stopped, but alive")


class Careful(Echo):
    """Notices when two use its resource at once, and when it is made safe."""

    in_use: Dict[str, str] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made_safe = 0

    def produce_dispatcher_output(self, topic: str, number: int = 0) -> int:
        for name in self._ate_resources:
            user = self.in_use.setdefault(name, self.name)
            check(user == self.name, f"{user} and {self.name} use {name} at once")
        for name in self._ate_resources:
            del self.in_use[name]
        return number

    def safe_state(self) -> None:
        self.made_safe += 1


def station(chance: random.Random, make: Callable[..., Any] = ATEDispatcher) -> None:
    """Resources in any order, priorities, cancels and an abort at once, in two dispatchers."""
    with make() as dispatcher, make() as other:
        shared = Careful(resources=("b", "a"))
        producers = [
            shared,
            dispatcher.add(Careful(resources=("a", "b")), "t"),
            other.add(Careful(resources=("b", "c")), "t"),
            other.add(Careful(resources=("c", "a")), "t"),
            dispatcher.add(Careful(), "t"),
        ]
        for station in (dispatcher, other):
            station.add(shared, "t")
        requests: List[Request] = []
        cancelled = chance.sample(range(6), 2)
        priorities = [chance.choice((-1, 0, 0, 5)) for _ in range(6)]
        patience = chance.choice((0.3, 60_000))

        def send(to: Any) -> None:
            for number in range(6):
                try:
                    view = to.with_options(priority=priorities[number])
                    request = view.send_request("t", number, ttl=patience + 1)
                except StateError:
                    return
                requests.append(request)
                if number in cancelled:
                    request.cancel()

        aborts = [lambda: dispatcher.abort("noise")] if chance.random() < 0.5 else []
        together(lambda: send(dispatcher), lambda: send(other), *aborts)
        check_ended(requests)
    for producer in producers:
        producer.join(BOUND)
        check(producer.made_safe == 1, f"{producer.name} was made safe {producer.made_safe} times")
    check(not RESOURCES._holders and not RESOURCES._lines, "a resource was not given back")
    errors = [
        o for request in requests for o in request.outcomes if o.status is OutcomeStatus.ERROR
    ]
    check(not errors, f"{errors}")


SCENARIOS = [
    station,
    registrations,
    one_order,
    send_and_stop,
    stop_after_answers,
    failing_agents,
    deadline_and_answer,
    shared_agent,
    deregister_and_leave,
    flush_and_leave,
    late_start,
    added_twice,
    work_that_never_starts,
    streams,
    readers_and_stop,
    limits,
    pools,
    start_and_stop,
]
