"""Short scenarios in which many threads use one dispatcher, each ending in a check of invariants.

They run under scheduling noise (`noise`), with a seed; `hunt.py` runs them for as long as one likes.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Callable, Dict, List

from ate_dispatcher import (
    ATEDispatcher,
    Outcome,
    OutcomeStatus,
    Producer,
    Request,
    RequestStatus,
    StateError,
)
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

__all__ = ["SCENARIOS", "Broken"]

BOUND = 20


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


def together(*functions: Callable[[], Any]) -> None:
    """Run functions on threads of their own and wait for all; their errors come out here."""
    errors: List[BaseException] = []

    def guarded(function: Callable[[], Any]) -> None:
        try:
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
        together(
            *(
                (lambda own=own: dispatcher.register_result_producer(own, "t"))
                for own in producers
            )
        )
        request = dispatcher.send_request("t", ttl=60_000)
        check_ended([request])
        check(set(request.roster) == {p.name for p in producers}, f"a registration is lost: {request!r}")


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
    requests = [dispatcher.send_request("t", number, ttl=60_000) for number in range(3)]
    dispatcher.stop()
    check_ended(requests)
    check(all(r.status is RequestStatus.COMPLETE for r in requests), "a drained request is cut")
    check(len(listener.values) == 9, f"{len(listener.values)} of 9 results were delivered")


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
            check(sorted(map(id, seen[number])) == sorted(map(id, request.outcomes)),
                  f"a reader saw {seen[number]} of {request.outcomes}")
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


SCENARIOS = [
    registrations,
    one_order,
    send_and_stop,
    stop_after_answers,
    failing_agents,
    deadline_and_answer,
    shared_agent,
]
