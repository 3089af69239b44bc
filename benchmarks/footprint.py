"""What our package costs besides time on the hot path: memory, topics, filters, idleness.

    python benchmarks/footprint.py NAME [ARGUMENT]

Prints one figure; run in a process of its own by `run.py`.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import tracemalloc
from typing import Any, Callable, Dict, List

from ate_dispatcher import ATEDispatcher, Producer, ResultListener, TopicFilter
from ate_dispatcher.testing import Gate, RecordingListener, ScriptedProducer


class Nothing(Producer):
    def produce_dispatcher_output(self, topic: str, *args: Any) -> None:
        return None


class Deaf(ResultListener):
    def process_dispatcher_result(self, topic: str, response: Any) -> None:
        return None


class Slow(Producer):
    def produce_dispatcher_output(self, topic: str, *args: Any) -> None:
        time.sleep(0.002)


def bytes_per_open(argument: str) -> float:
    """Traced bytes that one open request holds, of ten thousand."""
    with ATEDispatcher(high_water=10**9) as dispatcher, Gate(600) as gate:
        dispatcher.add(ScriptedProducer(gate), "t")
        kept = [dispatcher.send_request("t", ttl=600_000)]
        gate.wait_parked()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept += [dispatcher.send_request("t", ttl=600_000) for _ in range(10_000)]
        assert dispatcher.send_request("nobody").wait(60)
        return (tracemalloc.get_traced_memory()[0] - before) / 10_000


def growth(kind: str) -> float:
    """Traced bytes more after 100,000 ended requests, in batches of a thousand."""
    topic, ttl, batches = {
        "answered": ("t", 60_000, 100),
        "nobody": ("nobody", 60_000, 100),
        "expiring": ("slow", 1, 100),
    }[kind]
    with ATEDispatcher(high_water=10**9) as dispatcher:
        dispatcher.add(Nothing(), "t")
        dispatcher.add(Deaf(), "t", "slow")
        dispatcher.add(Slow(), "slow")

        def batch() -> None:
            requests = [dispatcher.send_request(topic, ttl=ttl) for _ in range(1000)]
            assert all(request.wait(60) for request in requests)
            assert dispatcher.flush(60)

        for _ in range(3):
            batch()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(batches):
            batch()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before


def microseconds(dispatcher: ATEDispatcher, topics: List[str], deliveries: int = 20_000) -> float:
    """Time so many deliveries, round robin over the topics."""
    requests = None
    begun = time.perf_counter()
    for number in range(deliveries):
        requests = dispatcher.send_request(topics[number % len(topics)], ttl=60_000)
    assert requests is not None
    assert dispatcher.flush(60)
    return (time.perf_counter() - begun) / deliveries * 1e6


def topics(count: str) -> float:
    """Microseconds a delivery, with so many topics registered and used."""
    names = [f"topic.{number}" for number in range(int(count))]
    with ATEDispatcher(high_water=10**9) as dispatcher:
        producer, listener = Nothing(), Deaf()
        dispatcher.add(producer, *names)
        dispatcher.add(listener, *names)
        microseconds(dispatcher, names, len(names))
        return min(microseconds(dispatcher, names) for _ in range(3))


def filters(count: str) -> float:
    """Microseconds a delivery, with so many filters registered and a hundred topics used."""
    names = [f"site.{number}.volt" for number in range(100)]
    with ATEDispatcher(high_water=10**9) as dispatcher:
        dispatcher.add(Nothing(), TopicFilter("site.*.volt"))
        listener = dispatcher.add(Deaf(), TopicFilter("site.#"))
        for number in range(int(count)):
            dispatcher.register_result_listener(listener, TopicFilter(f"other.{number}.*"))
        microseconds(dispatcher, names, len(names))
        return min(microseconds(dispatcher, names) for _ in range(3))


def idle(seconds: str) -> float:
    """Milliseconds of CPU that 50 agents with one open request use in so many seconds."""
    with ATEDispatcher() as dispatcher, Gate(600) as gate:
        for number in range(25):
            dispatcher.add(ScriptedProducer(gate), f"t{number}")
            dispatcher.add(RecordingListener(), f"t{number}")
        dispatcher.send_request("t0", ttl=600_000)
        gate.wait_parked()
        before = time.process_time()
        time.sleep(float(seconds))
        return (time.process_time() - before) * 1000


MEASURES: Dict[str, Callable[[str], float]] = {
    measure.__name__: measure for measure in (bytes_per_open, growth, topics, filters, idle)
}

if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(MEASURES[sys.argv[1]](sys.argv[2] if len(sys.argv) > 2 else ""))
