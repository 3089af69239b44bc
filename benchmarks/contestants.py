"""The same job done by several libraries: one request, P producers, L listeners, a no-op hook each.

    python benchmarks/contestants.py NAME throughput PRODUCERS LISTENERS REQUESTS
    python benchmarks/contestants.py NAME roundtrip ROUNDS [busy]

Prints seconds for `throughput` (from the first send until the last hook has returned) and
microseconds, p50 and p99, for `roundtrip`. Run in a process of its own by `run.py`; the two
ate-dispatcher versions have the same import name and are told apart by PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List


class Count:
    """Releases `done` when every listener has had `each` deliveries."""

    def __init__(self, listeners: int, each: int, done: Any = None) -> None:
        self.left, self.each = listeners, each
        self.lock = threading.Lock()
        self.done = done or threading.Event()

    def finished(self, listener: Listen) -> None:
        with self.lock:
            self.left -= 1
            if not self.left:
                self.done.set()


class Back(Count):
    """Tells of every single delivery."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.arrived: Any = queue.SimpleQueue()

    def finished(self, listener: Listen) -> None:
        listener.left = 1
        self.arrived.put(None)


class Produce:
    """The producers' hook, the same for everybody."""

    def produce_dispatcher_output(self, topic: str, *args: Any, **kwargs: Any) -> None:
        return None


class Listen:
    """The listeners' hook: counts, which is how the end is known."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count, self.left = count, count.each

    def process_dispatcher_result(self, topic: str, response: Any) -> None:
        self.left -= 1
        if not self.left:
            self.count.finished(self)


def ate_dispatcher(producers: int, listeners: int, count: Count) -> Callable[[int], Any]:
    """Ours and the published 0.1.0: the API they share."""
    from ate_dispatcher import ATEDispatcher, Producer, ResultListener

    class OurProducer(Produce, Producer):
        pass

    class OurListener(Listen, ResultListener):
        pass

    dispatcher = ATEDispatcher()
    dispatcher.start()
    agents: List[Any] = [OurProducer() for _ in range(producers)]
    for agent in agents:
        agent.start()
        dispatcher.register_result_producer(agent, "t")
    for _ in range(listeners):
        agent = OurListener(count)
        agent.start()
        dispatcher.register_result_listener(agent, "t")
    return lambda number: dispatcher.send_request("t", number, ttl=60_000)


def simplequeue(producers: int, listeners: int, count: Count) -> Callable[[int], Any]:
    """The floor: the same hops over bare queues, and nothing of what makes it a dispatcher."""
    mailbox: Any = queue.SimpleQueue()
    work: List[Any] = [queue.SimpleQueue() for _ in range(producers)]
    events: List[Any] = [queue.SimpleQueue() for _ in range(listeners)]

    def dispatch() -> None:
        scatter, relay = [q.put for q in work], [q.put for q in events]
        while True:
            message = mailbox.get()
            for put in scatter if message[0] else relay:
                put(message)

    def produce(own: Any) -> None:
        hook = Produce().produce_dispatcher_output
        while True:
            message = own.get()
            mailbox.put((False, message[1], hook(message[1], *message[2])))

    def listen(own: Any) -> None:
        hook = Listen(count).process_dispatcher_result
        while True:
            message = own.get()
            hook(message[1], message[2])

    targets = [(dispatch, ())] + [(produce, (q,)) for q in work] + [(listen, (q,)) for q in events]
    for target, args in targets:
        threading.Thread(target=target, args=args, daemon=True).start()
    return lambda number: mailbox.put((True, "t", (number,)))


def pools(producers: int, listeners: int, count: Count) -> Callable[[int], Any]:
    """Thread pools wired by hand: one worker a producer, one a listener."""
    work = [ThreadPoolExecutor(1) for _ in range(producers)]
    events = [ThreadPoolExecutor(1) for _ in range(listeners)]
    hook = Produce().produce_dispatcher_output
    hooks = [Listen(count).process_dispatcher_result for _ in events]

    def relay(future: Any) -> None:
        for pool, listen in zip(events, hooks):
            pool.submit(listen, "t", future.result())

    def send(number: int) -> None:
        for pool in work:
            pool.submit(hook, "t", number).add_done_callback(relay)

    return send


def pykka(producers: int, listeners: int, count: Count) -> Callable[[int], Any]:
    """Actors."""
    import pykka as library

    class ListenActor(library.ThreadingActor):  # type: ignore[misc]
        use_daemon_thread = True

        def __init__(self) -> None:
            super().__init__()
            self.hook = Listen(count).process_dispatcher_result

        def on_receive(self, message: Any) -> None:
            self.hook("t", message)

    class DispatchActor(library.ThreadingActor):  # type: ignore[misc]
        use_daemon_thread = True

        def on_receive(self, message: Any) -> None:
            for other in work if message[0] else events:
                other.tell(message[1])

    class ProduceActor(library.ThreadingActor):  # type: ignore[misc]
        use_daemon_thread = True

        def on_receive(self, message: Any) -> None:
            dispatcher.tell((False, Produce().produce_dispatcher_output("t", message)))

    dispatcher = DispatchActor.start()
    work = [ProduceActor.start() for _ in range(producers)]
    events = [ListenActor.start() for _ in range(listeners)]
    return lambda number: dispatcher.tell((True, number))


async def asyncio_pipeline(producers: int, listeners: int, requests: int) -> float:
    """The same hops over bare asyncio queues, on one thread."""
    end = asyncio.Event()
    count = Count(listeners, producers * requests, end)
    mailbox: Any = asyncio.Queue()
    work: List[Any] = [asyncio.Queue() for _ in range(producers)]
    events: List[Any] = [asyncio.Queue() for _ in range(listeners)]

    async def dispatch() -> None:
        while True:
            message = await mailbox.get()
            for other in work if message[0] else events:
                other.put_nowait(message)

    async def produce(own: Any) -> None:
        hook = Produce().produce_dispatcher_output
        while True:
            message = await own.get()
            mailbox.put_nowait((False, message[1], hook(message[1], *message[2])))

    async def listen(own: Any) -> None:
        hook = Listen(count).process_dispatcher_result
        while True:
            message = await own.get()
            hook(message[1], message[2])

    tasks = [asyncio.ensure_future(dispatch())]
    tasks += [asyncio.ensure_future(produce(own)) for own in work]
    tasks += [asyncio.ensure_future(listen(own)) for own in events]
    begun = time.perf_counter()
    for number in range(requests):
        mailbox.put_nowait((True, "t", (number,)))
    await end.wait()
    took = time.perf_counter() - begun
    for task in tasks:
        task.cancel()
    return took


CONTESTANTS: Dict[str, Callable[[int, int, Count], Callable[[int], Any]]] = {
    "ate-dispatcher": ate_dispatcher,
    "0.1.0": ate_dispatcher,
    "SimpleQueue": simplequeue,
    "thread pools": pools,
    "pykka": pykka,
}


def throughput(name: str, producers: int, listeners: int, requests: int) -> float:
    """Give the seconds that so many requests take."""
    if name == "asyncio":
        return asyncio.run(asyncio_pipeline(producers, listeners, requests))
    count = Count(listeners, producers * requests)
    send = CONTESTANTS[name](producers, listeners, count)
    time.sleep(0.05)  # everybody is registered and waits
    begun = time.perf_counter()
    for number in range(requests):
        send(number)
    count.done.wait()
    return time.perf_counter() - begun


def roundtrip(name: str, rounds: int, busy: bool) -> List[float]:
    """Give p50 and p99, in microseconds, from a send to the return of the one listener's hook."""
    count = Back()
    send = CONTESTANTS[name](1, 1, count)
    if busy:
        threading.Thread(target=_burn, daemon=True).start()
    time.sleep(0.05)
    times = []
    for number in range(rounds):
        begun = time.perf_counter()
        send(number)
        count.arrived.get()
        times.append((time.perf_counter() - begun) * 1e6)
    times.sort()
    return [times[len(times) // 2], times[len(times) * 99 // 100]]


def _burn() -> None:
    while True:
        sum(range(1000))


def main(arguments: List[str]) -> None:
    """Run one measurement and print it."""
    import logging
    import os

    logging.disable(logging.CRITICAL)  # 0.1.0 has no high-water warning either
    name, kind, *rest = arguments
    if kind == "throughput":
        print(throughput(name, *map(int, rest)))
    else:
        print(*roundtrip(name, int(rest[0]), "busy" in rest))
    sys.stdout.flush()
    os._exit(0)  # the threads of some never end


if __name__ == "__main__":
    main(sys.argv[1:])
